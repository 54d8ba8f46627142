//! Preflight: looks at everything the task will need, so that it does not begin what it could not finish or take back.

use kedge_engine::context::Cx;
use kedge_engine::step::{Query, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::place::{Place, Store, app_site, scope};
use crate::ports::{AppKind, Charset, ConfigTest, FileKind, World};

/// Room demanded beyond what is counted, in percent: sites grow while we copy.
const MARGIN_PERCENT: u64 = 20;

/// Looks at the old side, the new side, or both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Preflight {
    /// The side that is there.
    pub(crate) from: Option<(Place, Store)>,
    /// The side that will be built.
    pub(crate) to: Option<Place>,
    /// The database server of the new side.
    pub(crate) to_server: Option<String>,
    /// Whether a backup will be written.
    pub(crate) backup: bool,
    /// A directory that has to be there, by the web server of its host: an old side in the trash.
    pub(crate) expects: Option<(String, String)>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Whether the old side's database account is locked already.
    pub(crate) account_locked: bool,
    /// Character set and collation of the old schema, if the new server has them.
    pub(crate) charset: Option<Charset>,
    /// Bytes of the old side's files.
    pub(crate) file_bytes: u64,
    /// Bytes of the old side's database.
    pub(crate) database_bytes: u64,
    /// Version of the code that the site ran on.
    pub(crate) from_version: Option<String>,
    /// Version of the code it will run on.
    pub(crate) to_version: Option<String>,
    /// Whether the new side's platform was ready to be shared before anything was done to it.
    #[serde(default)]
    pub(crate) to_prepared: Option<bool>,
}

impl Step for Preflight {
    type Ports = dyn World;
    type Output = Found;
    type Mode = Query;
    const KIND: &'static str = "preflight";

    fn title(&self) -> String {
        "look at everything that will be needed".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Found, StepError> {
        let mut found = Found {
            account_locked: false,
            charset: None,
            file_bytes: 0,
            database_bytes: 0,
            from_version: None,
            to_version: None,
            to_prepared: None,
        };
        let mut schema_version = None;
        if let Some((place, store)) = &self.from {
            schema_version = self.look_at_old(cx, place, store, &mut found).await?;
        }
        if let Some(place) = &self.to {
            self.look_at_new(cx, place, schema_version, &mut found).await?;
        }
        if let Some(server) = &self.to_server {
            look_at_server(cx, server, &mut found).await?;
        }
        if self.backup {
            let free = cx.ports.backups(&scope(cx)).free_bytes().await?;
            demand_room("the backup directory", free, found.file_bytes + 2 * found.database_bytes)?;
        }
        if let Some((web_server, dir)) = &self.expects {
            demand_valid(cx, web_server).await?;
            if cx.ports.files(web_server, &scope(cx))?.stat(dir).await?.is_none() {
                return Err(StepError::fatal(format!(
                    "the old side is not in the trash any more: {dir} is missing"
                )));
            }
        }
        Ok(found)
    }

    fn reports(&self) -> bool {
        true
    }
}

impl Preflight {
    /// The side that is there; returns its schema version.
    async fn look_at_old(
        &self,
        cx: &Cx<'_, dyn World>,
        place: &Place,
        store: &Store,
        found: &mut Found,
    ) -> Result<Option<u64>, StepError> {
        let scope = scope(cx);
        demand_valid(cx, &place.web_server).await?;
        let files = cx.ports.files(&place.web_server, &scope)?;
        match files.stat(&place.dir).await? {
            Some(stat) if stat.kind == FileKind::Dir => {}
            Some(_) => return Err(StepError::fatal(format!("{} is not a directory", place.dir))),
            None => return Err(StepError::fatal(format!("the site's directory {} is missing", place.dir))),
        }
        if cx.ports.web_server(&place.web_server, &scope)?.vhost(&place.site).await?.is_none() {
            return Err(StepError::fatal(format!("{} has no vhost on {}", place.site, place.web_server)));
        }
        found.file_bytes = files.usage(&place.dir).await?.bytes;
        let server = cx.ports.database(&store.server, &scope)?;
        let (schema, user) = store.known(cx)?;
        let facts = server.schema_facts(&schema).await?;
        found.database_bytes = facts.bytes;
        found.charset = Some(facts.charset);
        found.account_locked = server.account_locked(&user).await?;
        if place.app == AppKind::Plain {
            return Ok(None);
        }
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let site = app_site(cx, place, &place.dir, store, &*server)?;
        let facts = app.site_facts(&site).await?;
        if !facts.installed {
            return Err(StepError::fatal(format!("{} is not installed in its database", place.site)));
        }
        found.from_version = Some(facts.version);
        Ok(facts.schema_version)
    }

    async fn look_at_new(
        &self,
        cx: &Cx<'_, dyn World>,
        place: &Place,
        schema_version: Option<u64>,
        found: &mut Found,
    ) -> Result<(), StepError> {
        let scope = scope(cx);
        demand_valid(cx, &place.web_server).await?;
        let files = cx.ports.files(&place.web_server, &scope)?;
        let same_dir =
            self.from.as_ref().is_some_and(|(from, _)| from.host == place.host && from.dir == place.dir);
        if !same_dir && files.stat(&place.dir).await?.is_some() {
            return Err(StepError::fatal(format!("{} is there already", place.dir)));
        }
        let same_vhost = self
            .from
            .as_ref()
            .is_some_and(|(from, _)| from.web_server == place.web_server && from.site == place.site);
        if !same_vhost {
            let web = cx.ports.web_server(&place.web_server, &scope)?;
            // Names that the site has already are in its own vhost: fine.
            let own = |name| {
                self.from.as_ref().is_some_and(|(from, _)| {
                    from.web_server == place.web_server && (from.aliases.contains(name) || from.site == *name)
                })
            };
            for name in std::iter::once(&place.site).chain(&place.aliases).filter(|name| !own(name)) {
                if let Some(file) = web.server_of(name).await? {
                    let web = &place.web_server;
                    return Err(StepError::fatal(format!("{name} is served on {web} already, by {file}")));
                }
            }
        }
        let free = files.free(&place.root).await?;
        demand_room(&format!("the file system of {}", place.root), free.bytes, found.file_bytes)?;
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let platform = app.platform_facts(&place.root).await?;
        if let (Some(has), Some(wants)) = (schema_version, platform.schema_version)
            && has > wants
        {
            return Err(StepError::fatal(format!(
                "the database of the site has version {has}, newer than version {wants} of {} ({}): no way back down",
                place.platform, platform.version
            )));
        }
        found.to_version = Some(platform.version);
        found.to_prepared = Some(platform.prepared);
        Ok(())
    }
}

async fn look_at_server(cx: &Cx<'_, dyn World>, name: &str, found: &mut Found) -> Result<(), StepError> {
    let facts = cx.ports.database(name, &scope(cx))?.facts().await?;
    if facts.read_only {
        return Err(StepError::fatal(format!("the database server {name} refuses writes (read_only)")));
    }
    if let Some(free) = facts.free_bytes {
        demand_room(&format!("the data directory of {name}"), free, found.database_bytes)?;
    }
    // A collation that the new server does not have: its own default is the only choice.
    found.charset = found.charset.take().filter(|charset| facts.collations.contains(&charset.collation));
    Ok(())
}

async fn demand_valid(cx: &Cx<'_, dyn World>, web_server: &str) -> Result<(), StepError> {
    match cx.ports.web_server(web_server, &scope(cx))?.test().await? {
        ConfigTest::Valid => Ok(()),
        ConfigTest::Invalid { culprit, message } => {
            let culprit = culprit.map(|file| format!(" in {file}")).unwrap_or_default();
            Err(StepError::fatal(format!(
                "the configuration of {web_server} is broken already{culprit}, so no reload could be trusted: {message}"
            )))
        }
    }
}

fn demand_room(what: &str, free: u64, needed: u64) -> Result<(), StepError> {
    let needed = needed + needed * MARGIN_PERCENT / 100;
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
    Err(StepError::fatal(format!("{what} has {} MiB free, {} MiB are needed", mib(free), mib(needed))))
}
