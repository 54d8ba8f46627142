//! What a put may replace and claim: files of ours that nobody changed, files that hold nothing but the site, names that no other
//! file serves. Only looks.

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{PortError, PortResult, SavedFile, Vhost};

use super::scan::read_all;
use super::served::{Claim, Served, by_name};
use super::server::VhostServer;
use super::vhost::{Origin, names, origin};

impl VhostServer {
    /// Whether the file at the site's path may be replaced as far as its content goes; `put` looks at its hash.
    pub(super) async fn may_replace(
        &self,
        path: &str,
        current: Option<&SavedFile>,
        vhost: &Vhost,
    ) -> PortResult<()> {
        let Some(current) = current else { return Ok(()) };
        match origin(&current.bytes) {
            Origin::Ours(_) => Ok(()),
            Origin::Edited => Err(PortError::NotOurs(format!(
                "{path} was changed by hand since Kedge wrote it; keep your changes in a file of their own or drop them, \
                 and remove its first two lines to have it replaced"
            ))),
            Origin::Foreign => {
                // Through a link, too: then the bytes are the link's own.
                let text =
                    read_all(&*self.host, &self.scope, &[path.to_owned()]).await?.pop().unwrap_or_default().1;
                if self.holds_just(path, &text, vhost) {
                    return Ok(());
                }
                Err(PortError::NotOurs(format!(
                    "{path} was not written by Kedge and does not hold just {} on port {}; move what else it holds to another file",
                    vhost.site, self.shared.config.listen_port
                )))
            }
        }
    }

    /// Whether a file serves names of this vhost, and nothing else, on our port only.
    fn holds_just(&self, path: &str, text: &str, vhost: &Vhost) -> bool {
        let own = |claim: &Claim| matches!(claim, Claim::Name(name) if names(vhost).iter().any(|own| own.as_str() == name));
        let config = &self.shared.config;
        let ours = |port: &u16| {
            *port == config.listen_port || (vhost.reach.tls.is_some() && *port == config.tls_port)
        };
        let served = self.shared.dialect.served(path, text);
        let just = |s: &Served| own(&s.claim) && s.ports.as_ref().is_none_or(|ports| ports.iter().all(ours));
        !served.is_empty() && served.iter().all(just)
    }

    /// Refuses names that another file serves: by plain HTTP, and by HTTPS where the vhost has a certificate. Those that the file at the
    /// path has already are its own: mostly all of them.
    pub(super) async fn names_are_free(
        &self,
        path: &str,
        current: Option<&SavedFile>,
        vhost: &Vhost,
    ) -> PortResult<()> {
        let dialect = self.shared.dialect;
        let own = current
            .map(|file| dialect.served(path, &String::from_utf8_lossy(&file.bytes)))
            .unwrap_or_default();
        let config = &self.shared.config;
        let tls_port = vhost.reach.tls.as_ref().map(|_| config.tls_port);
        let new: Vec<(u16, &SiteName)> = std::iter::once(config.listen_port)
            .chain(tls_port)
            .flat_map(|port| names(vhost).into_iter().map(move |name| (port, name)))
            .filter(|(port, name)| by_name(&own, name, *port).is_none())
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut others = self.survey().await?.served;
        others.retain(|served| served.file != path);
        for (port, name) in new {
            if let Some(file) = by_name(&others, name, port) {
                return Err(PortError::Refused(format!(
                    "{name} is served by {file} already, on port {port}; remove it there first"
                )));
            }
        }
        Ok(())
    }
}
