//! The web servers of several hosts as one: the same vhost on each, and nothing counts before it counts on all.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{try_join, try_join_all};

use super::{Member, on, there};
use crate::names::SiteName;
use crate::ports::{
    Answer, ConfigTest, Get, PortError, PortResult, RenderedVhost, SavedFile, Tls, Vhost, VhostOrigin,
    WebServer,
};

/// The web servers of a cluster, all of one kind and with the same directories.
pub struct ClusterWebServer {
    first: Member<Arc<dyn WebServer>>,
    others: Vec<Member<Arc<dyn WebServer>>>,
}

impl ClusterWebServer {
    /// These web servers.
    #[must_use]
    pub fn new(first: Member<Arc<dyn WebServer>>, others: Vec<Member<Arc<dyn WebServer>>>) -> Self {
        Self { first, others }
    }

    /// The others, and the first one last: what it has, all have.
    fn all(&self) -> impl Iterator<Item = &Member<Arc<dyn WebServer>>> {
        self.others.iter().chain(std::iter::once(&self.first))
    }

    /// What the first host that knows something says: free is only what is free on all.
    async fn on_any<'a, T, F: Future<Output = PortResult<Option<T>>>>(
        &'a self,
        ask: impl Fn(&'a dyn WebServer) -> F,
    ) -> PortResult<Option<T>> {
        for member in std::iter::once(&self.first).chain(&self.others) {
            if let Some(known) = ask(&*member.port).await? {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// A host that lacks the file gets it, whatever is expected of the others: it is new in the cluster.
    async fn put(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
        claims: bool,
    ) -> PortResult<RenderedVhost> {
        for other in &self.others {
            let mut written = put_on(&*other.port, site, vhost, expected, claims).await;
            if matches!(written, Err(PortError::NotOurs(_))) && other.port.vhost(site).await?.is_none() {
                written = put_on(&*other.port, site, vhost, None, claims).await;
            }
            written.map_err(|error| on(&other.host, error))?;
        }
        put_on(&*self.first.port, site, vhost, expected, claims).await
    }
}

async fn put_on(
    port: &dyn WebServer,
    site: &SiteName,
    vhost: &Vhost,
    expected: Option<&str>,
    claims: bool,
) -> PortResult<RenderedVhost> {
    if claims {
        port.put_vhost(site, vhost, expected).await
    } else {
        port.put_back_vhost(site, vhost, expected).await
    }
}

#[async_trait]
impl WebServer for ClusterWebServer {
    async fn test(&self) -> PortResult<ConfigTest> {
        for member in self.all() {
            if let ConfigTest::Invalid { culprit, message } = member.port.test().await? {
                let message = format!("on {}: {message}", member.host);
                return Ok(ConfigTest::Invalid { culprit, message });
            }
        }
        Ok(ConfigTest::Valid)
    }

    /// The first host's file, with what the others have in its place.
    async fn vhost(&self, site: &SiteName) -> PortResult<Option<SavedFile>> {
        let mut file = self.first.port.vhost(site).await?;
        for other in &self.others {
            match (&mut file, other.port.vhost(site).await?) {
                (Some(file), theirs) => {
                    file.elsewhere.insert(other.host.clone(), theirs);
                }
                (None, Some(theirs)) => {
                    let (here, there) = (&self.first.host, &other.host);
                    let why = format!(
                        "{} is on {there} and not on {here}: copy it there, or remove it",
                        theirs.path
                    );
                    return Err(PortError::NotOurs(why));
                }
                (None, None) => {}
            }
        }
        Ok(file)
    }

    async fn server_of(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        self.on_any(|port| port.server_of(host_name)).await
    }

    async fn tls_server_of(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        self.on_any(|port| port.tls_server_of(host_name)).await
    }

    async fn tls_named_in(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        self.on_any(|port| port.tls_named_in(host_name)).await
    }

    fn counts_htaccess(&self) -> bool {
        self.first.port.counts_htaccess()
    }

    fn tls_port(&self) -> u16 {
        self.first.port.tls_port()
    }

    fn render(&self, vhost: &Vhost) -> RenderedVhost {
        self.first.port.render(vhost)
    }

    async fn ensure_certificate(&self, names: &[SiteName], tls: &Tls) -> PortResult<()> {
        for member in self.all() {
            member.port.ensure_certificate(names, tls).await.map_err(|error| on(&member.host, error))?;
        }
        Ok(())
    }

    async fn certificate_faults(&self, names: &[SiteName], tls: &Tls) -> PortResult<Vec<String>> {
        let mut faults = self.first.port.certificate_faults(names, tls).await?;
        for other in &self.others {
            let theirs = other.port.certificate_faults(names, tls).await?;
            faults.extend(theirs.into_iter().map(|fault| format!("on {}: {fault}", other.host)));
        }
        Ok(faults)
    }

    async fn put_vhost(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
    ) -> PortResult<RenderedVhost> {
        self.put(site, vhost, expected, true).await
    }

    async fn put_back_vhost(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
    ) -> PortResult<RenderedVhost> {
        self.put(site, vhost, expected, false).await
    }

    async fn restore_vhost(
        &self,
        site: &SiteName,
        saved: Option<&SavedFile>,
        ours: &[String],
    ) -> PortResult<()> {
        for other in &self.others {
            let restored = other.port.restore_vhost(site, there(saved, &other.host), ours).await;
            restored.map_err(|error| on(&other.host, error))?;
        }
        self.first.port.restore_vhost(site, saved, ours).await
    }

    fn revision_in(&self, file: &[u8]) -> Option<String> {
        self.first.port.revision_in(file)
    }

    fn origin(&self, file: &[u8]) -> VhostOrigin {
        self.first.port.origin(file)
    }

    async fn names_in(&self, path: &str) -> PortResult<Vec<String>> {
        self.first.port.names_in(path).await
    }

    async fn set_aside(&self, site: &SiteName, saved: &SavedFile) -> PortResult<bool> {
        for other in &self.others {
            if let Some(theirs) = there(Some(saved), &other.host) {
                other.port.set_aside(site, theirs).await.map_err(|error| on(&other.host, error))?;
            }
        }
        self.first.port.set_aside(site, saved).await
    }

    /// All at once, after each has tested its configuration: visitors of one host do not wait for another one. One of the others that has
    /// no vhost of the site, as it is new in the cluster, answers with none.
    async fn reload(&self, site: &SiteName, revision: Option<&str>) -> PortResult<()> {
        let other = |member: &Member<Arc<dyn WebServer>>| {
            let Member { host, port } = member.clone();
            async move {
                let there = async { Ok(revision.is_some() && port.vhost(site).await?.is_some()) };
                let reloaded = match there.await {
                    Ok(there) => port.reload(site, revision.filter(|_| there)).await,
                    Err(error) => Err(error),
                };
                reloaded.map_err(|error| on(&host, error))
            }
        };
        let first = async {
            self.first.port.reload(site, revision).await.map_err(|error| on(&self.first.host, error))
        };
        try_join(first, try_join_all(self.others.iter().map(other))).await.map(drop)
    }

    async fn get(&self, request: &Get) -> PortResult<Answer> {
        self.first.port.get(request).await
    }

    async fn get_everywhere(&self, request: &Get) -> PortResult<Vec<(String, Answer)>> {
        let get = |member: &Member<Arc<dyn WebServer>>| {
            let member = member.clone();
            async move {
                let answer = member.port.get(request).await;
                answer.map(|answer| (member.host.clone(), answer)).map_err(|error| on(&member.host, error))
            }
        };
        try_join_all(self.all().map(get)).await
    }
}
