//! The looks at a site that Kedge did not make: what it is by its own settings, where its database is, and whether everything that an
//! import needs is there. Touches nothing.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Query, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::leaving::{demand_sessions, reach_beyond};
use super::left_names;
use super::links_out;
use super::names::Reserved;
use super::packages::judge;
use super::preflight::{Found, demand_on_all_hosts, demand_valid, look_at_server};
use super::registered::demand_free;
use super::room::demand_room_in;
use crate::names::SiteName;
use crate::place::{Place, Store, scope};
use crate::ports::{Existing, FileKind, Files, FoundSite, Usage, VhostOrigin, World};

/// Half an hour: looking at every inode and counting every row of a large site.
pub(super) const LOOK_LIMIT_MS: u64 = 1_800_000;

/// Looks at what is in a directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindSite {
    /// The directory.
    pub(crate) path: String,
    /// Where the site will be.
    pub(crate) to: Place,
    /// Whether nobody has said yet that plain HTTP will do. Absent in old journals.
    #[serde(default)]
    pub(crate) demands_tls: bool,
    /// Whether nobody has said yet whether visitors are sent to HTTPS. Absent in old journals.
    #[serde(default)]
    pub(crate) demands_scheme: bool,
    /// Whether nothing will come of it but what is told. Absent in old journals.
    #[serde(default)]
    pub(crate) check_only: bool,
}

impl FindSite {
    /// What has to be said before a site can come with the address that it has.
    fn unsaid(&self, found: &FoundSite) -> Option<String> {
        let path = &self.path;
        match &self.to.reach.tls {
            None if found.https && self.demands_tls => Some(format!(
                "the site in {path} is served by HTTPS, and nothing says where its certificate comes from: give certificate and key, \
                 or tls (none: it will be on plain HTTP, and its visitors' HTTPS addresses lead nowhere)"
            )),
            // Its address is of HTTPS when all visitors are sent there, and of plain HTTP otherwise.
            Some(tls) if found.https && self.demands_scheme && !tls.only => Some(format!(
                "the address of the site in {path} is an HTTPS one, and nothing says whether it stays so: give https_only (true: it stays, \
                 and visitors by plain HTTP are sent there; false: it becomes one of plain HTTP)"
            )),
            _ => None,
        }
    }
}

pub(super) async fn find(cx: &Cx<'_, dyn World>, path: &str, to: &Place) -> Result<FoundSite, StepError> {
    let app = cx.ports.app(&to.web_server, &to.platform, to.app, &scope(cx))?;
    Ok(app.find_site(path, &to.site).await?)
}

impl Step for FindSite {
    type Ports = dyn World;
    type Output = FoundSite;
    type Mode = Query;
    const KIND: &'static str = "find_site";

    fn title(&self) -> String {
        format!("look at the site in {}", self.path)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<FoundSite, StepError> {
        let mut found = find(cx, &self.path, &self.to).await?;
        let asked = |name: &SiteName| self.to.site == *name || self.to.aliases.contains(name);
        match &found.name {
            Some(name) if !asked(name) => Err(StepError::fatal(format!(
                "the site in {} calls itself {name}; import it under that name (site), and rename it afterwards with migrate",
                self.path
            ))),
            _ => match self.unsaid(&found) {
                Some(why) if !self.check_only => Err(StepError::fatal(why)),
                unsaid => {
                    found.notes.extend(unsaid);
                    Ok(found)
                }
            },
        }
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Looks whether the found site's database is on the server that was named, and its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindDatabase {
    /// What its settings say.
    pub(crate) site: Ref<FoundSite>,
    /// The server.
    pub(crate) server: String,
}

impl Step for FindDatabase {
    type Ports = dyn World;
    type Output = Reserved;
    type Mode = Query;
    const KIND: &'static str = "find_database";

    fn title(&self) -> String {
        format!("look for its database on {}", self.server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Reserved, StepError> {
        let FoundSite { database, user, database_host, tables, .. } = cx.output(&self.site)?;
        let server = cx.ports.database(&self.server, &scope(cx))?;
        let other = |why: String| {
            Err(StepError::fatal(format!(
                "the database {database} that the site uses (at {database_host}) is not the one on {}: {why}; name its \
                 database_server",
                self.server
            )))
        };
        if server.schema(&database).await? == Existing::Absent {
            return other("there is none of that name".to_owned());
        }
        let there = server.schema_facts(&database).await?.tables;
        if let Some(tables) = tables.filter(|tables| *tables != there) {
            return other(format!("it has {there} tables, and the site sees {tables}"));
        }
        if !server.user_exists(&user).await? {
            return other(format!("it has no user {user}"));
        }
        // The account is locked while the database is copied, and stays so: nobody else may depend on it.
        let reach = reach_beyond(&*server, &database, &user).await?;
        if !reach.is_empty() {
            return Err(StepError::fatal(format!(
                "the database user {user} of the site has rights on more than {database} ({}), and Kedge would lock it; give the \
                 site a user of its own first",
                reach.join(", ")
            )));
        }
        demand_sessions(&*server, &self.server).await?;
        Ok(Reserved { schema: database, user })
    }
}

/// Looks at everything that the import will need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LookAtFound {
    /// The directory.
    pub(crate) path: String,
    /// What was found.
    pub(crate) site: Ref<FoundSite>,
    /// Its database.
    pub(crate) old: Store,
    /// Where it will be.
    pub(crate) to: Place,
    /// On which database server.
    pub(crate) server: String,
    /// Whether it may still be said where its certificate comes from: nothing but a look comes of it. Absent in old journals.
    #[serde(default)]
    pub(crate) undecided: bool,
    /// Whether nobody has said what becomes of HTTPS. Absent in old journals.
    #[serde(default)]
    pub(crate) unsaid: bool,
}

impl Step for LookAtFound {
    type Ports = dyn World;
    type Output = Found;
    type Mode = Query;
    const KIND: &'static str = "look_at_found";

    fn title(&self) -> String {
        "look at everything that will be needed".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Found, StepError> {
        let (scope, to) = (scope(cx), &self.to);
        demand_free(cx, &to.all_names(), &[])?;
        demand_valid(cx, &to.web_server).await?;
        let site = cx.output(&self.site)?;
        let unsaid = self.look_at_names(cx, &site).await?;
        let files = cx.ports.files(&to.web_server, &scope)?;
        if files.stat(&to.dir).await?.is_some() {
            return Err(StepError::fatal(format!("{} is there already", to.dir)));
        }
        let usage = self.usage(&*files, &site.members).await?;
        let (file_bytes, file_entries) = (usage.bytes, usage.entries);
        demand_room_in(&*files, &to.sites_dir(), file_bytes, file_entries).await?;
        let server = cx.ports.database(&self.server, &scope)?;
        let (schema, user) = self.old.known(cx)?;
        let holds = server.schema_facts(&schema).await?;
        let app = cx.ports.app(&to.web_server, &to.platform, to.app, &scope)?;
        let platform = app.platform_facts(&to.root).await?;
        demand_on_all_hosts(cx, &to.platform, &platform)?;
        if let (Some(has), Some(wants)) = (site.schema_version, platform.schema_version)
            && has > wants
        {
            return Err(StepError::fatal(format!(
                "the database of the site has version {has}, newer than version {wants} of {} ({}): choose a newer platform",
                to.platform, platform.version
            )));
        }
        let mut warnings = judge(&*app, to, &find(cx, &self.path, to).await?.packages).await?;
        warnings.extend(site.notes);
        warnings.extend(unsaid);
        warnings.extend(links_out::told(&usage, &self.path, false, true));
        let old = [self.path.clone()];
        warnings.extend(left_names::look(&*files, &*app, to.app, &self.path, &old).await?);
        let mut found = Found {
            account_locked: server.account_locked(&user).await?,
            locked_at: server.locked_at(&user).await?,
            charset: Some(holds.charset.clone()),
            file_bytes,
            file_entries,
            database_bytes: holds.bytes,
            from_version: Some(site.version),
            to_version: Some(platform.version),
            to_prepared: Some(platform.prepared),
            warnings,
        };
        look_at_server(cx, &self.server, Some(&holds), &mut found).await?;
        Ok(found)
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LOOK_LIMIT_MS)
    }

    fn reports(&self) -> bool {
        true
    }
}

impl LookAtFound {
    /// What will be copied.
    async fn usage(&self, files: &dyn Files, members: &[String]) -> Result<Usage, StepError> {
        let mut all = Usage::default();
        for member in members {
            let path = format!("{}/{member}", self.path);
            match files.stat(&path).await?.map(|stat| stat.kind) {
                Some(FileKind::Dir) => all.add_member(member, &files.usage(&path).await?),
                Some(FileKind::Link) => {
                    if let Some(target) = files.read(&path).await?.and_then(|link| link.symlink) {
                        all.note_link(member.as_bytes(), target.as_bytes());
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// Whether the names are served by nobody, or by a file that serves nothing but this site: that file makes way, and no other. Gives
    /// what would be refused if nothing more is said.
    async fn look_at_names(
        &self,
        cx: &Cx<'_, dyn World>,
        site: &FoundSite,
    ) -> Result<Vec<String>, StepError> {
        let mut unsaid = Vec::new();
        let mut refuse = |why: String| match self.undecided {
            true => {
                unsaid.push(why);
                Ok(())
            }
            false => Err(StepError::fatal(why)),
        };
        let to = &self.to;
        let web = cx.ports.web_server(&to.web_server, &scope(cx))?;
        let vhost = web.vhost(&to.site).await?;
        let tls = to.reach.tls.is_some() || (self.undecided && site.https);
        if let Some(file) = &vhost {
            if web.origin(&file.bytes) != VhostOrigin::Foreign {
                return Err(StepError::fatal(format!(
                    "{} is a vhost of Kedge's own for {}, which is not in the registry; remove it first",
                    file.path, to.site
                )));
            }
            let (secure, others) = told_apart(web.names_in(&file.path).await?, to, web.tls_port());
            if !secure.is_empty() && !tls {
                let say = match self.unsaid {
                    true => "say where its certificate comes from (certificate and key, or tls), or take",
                    false => "tls is none, so take",
                };
                refuse(format!(
                    "{} serves {} by HTTPS as well: {say} that block out of it",
                    file.path, to.site
                ))?;
            }
            if !others.is_empty() {
                return Err(StepError::fatal(format!(
                    "{} serves more than {}: {}; name those that are the site's own in aliases, and move the rest to another file",
                    file.path,
                    to.site,
                    others.join(", ")
                )));
            }
        }
        for name in std::iter::once(&to.site).chain(&to.aliases) {
            let other = |file: &String| vhost.as_ref().is_none_or(|vhost| vhost.path != *file);
            if let Some(file) = web.server_of(name).await?.filter(other) {
                return Err(StepError::fatal(format!(
                    "{name} is served on {} already, by {file}",
                    to.web_server
                )));
            }
            // Left where it is, it would go on showing the old site to visitors with HTTPS, and that has no database any more. Nothing but
            // a word for that leaves it.
            if (tls || site.https || self.unsaid)
                && let Some(file) = web.tls_server_of(name).await?.filter(other)
            {
                let into = vhost.as_ref().filter(|_| tls);
                let into =
                    into.map(|vhost| format!(", or move it into {}, which goes as a whole", vhost.path));
                let none = if tls || site.https { "" } else { ", or say tls=none if it may go on" };
                refuse(format!(
                    "{name} is served by HTTPS on {} already, by {file}, which an import would leave in front of the site: disable that \
                     block first{}{none}",
                    to.web_server,
                    into.unwrap_or_default()
                ))?;
            }
        }
        Ok(unsaid)
    }
}

/// What of a file's names is the site's own by HTTPS, and what is not its own.
fn told_apart(names: Vec<String>, to: &Place, tls_port: u16) -> (Vec<String>, Vec<String>) {
    let all = to.all_names();
    let own = |name: &str| all.iter().any(|own| own.as_str() == name);
    let port = format!(":{tls_port}");
    let (secure, mut others): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| name.strip_suffix(&port).is_some_and(own));
    others.retain(|name| !own(name));
    (secure, others)
}
