//! Places: where a side of a site is, was or will be. Names and paths only; nothing is touched.

use kedge_engine::context::Cx;
use kedge_engine::step::{Ref, StepError};
use serde::{Deserialize, Serialize};

use crate::names::{DatabaseName, SiteName};
use crate::ports::{
    Access, App, AppDatabase, AppKind, AppSite, Database, Get, Login, Mark, Reach, Scope, SecretRef,
    SmokeCheck, Vhost, VhostMode, VhostTarget, World,
};
use crate::records::{PlatformRecord, SiteRecord};
use crate::steps::names::Reserved;

/// What the path of a stage has behind the directory of all sites, before the task's id.
pub(crate) const STAGE: &str = "/.kedge-stage-";

/// Mode and owner of a stage until what is built in it has its own.
pub(crate) fn stage_access() -> Access {
    Access { mode: 0o755, user: None, group: None }
}

/// The files and vhost of one side of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The site's name on this side.
    pub(crate) site: SiteName,
    /// Other names it answers to.
    #[serde(default)]
    pub(crate) aliases: Vec<SiteName>,
    /// The platform's name.
    pub(crate) platform: String,
    /// The platform's root.
    pub(crate) root: String,
    /// The web server.
    pub(crate) web_server: String,
    /// The host that the web server runs on.
    pub(crate) host: String,
    /// The application.
    pub(crate) app: AppKind,
    /// The directory when live.
    pub(crate) dir: String,
    /// How visitors reach it.
    #[serde(default, skip_serializing_if = "Reach::is_plain")]
    pub(crate) reach: Reach,
    /// Whether it reaches nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) quiet: bool,
}

/// A side's database: the names are known, or reserved by a step of this plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Store {
    /// The server's name.
    pub(crate) server: String,
    /// Where the password is.
    pub(crate) password: SecretRef,
    /// Schema and user.
    pub(crate) names: Names,
}

/// Schema and user of a side.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Names {
    /// Known from the registry.
    Known {
        /// Schema.
        schema: DatabaseName,
        /// User.
        user: DatabaseName,
    },
    /// Chosen by a step.
    Reserved(Ref<Reserved>),
}

impl Place {
    /// Where a site is on a platform.
    pub(crate) fn on(site: &SiteName, name: &str, platform: &PlatformRecord, host: String) -> Self {
        Self {
            site: site.clone(),
            aliases: Vec::new(),
            platform: name.to_owned(),
            root: platform.root.trim_end_matches('/').to_owned(),
            web_server: platform.web_server.clone(),
            host,
            app: platform.app,
            dir: format!("{}/sites/{site}", platform.root.trim_end_matches('/')),
            reach: Reach::default(),
            quiet: false,
        }
    }

    /// Where a registered site is.
    pub(crate) fn of(record: &SiteRecord, platform: &PlatformRecord, host: String) -> Self {
        let place = Self::on(&record.name, &record.platform, platform, host);
        Self {
            aliases: record.aliases.clone(),
            dir: record.dir.clone(),
            reach: record.reach.clone(),
            quiet: record.quiet,
            ..place
        }
    }

    /// The directory that holds the platform's sites.
    pub(crate) fn sites_dir(&self) -> String {
        format!("{}/sites", self.root)
    }

    /// Where this side is built: beside its place, on the same file system, hidden from visitors and from the application.
    pub(crate) fn stage(&self, task: &str) -> String {
        format!("{}{STAGE}{task}", self.sites_dir())
    }

    /// Where this side goes when another takes its place.
    pub(crate) fn trash(&self, task: &str) -> String {
        format!("{}/.kedge-trash-{task}", self.sites_dir())
    }

    /// The name that visitors end up with.
    pub(crate) fn front(&self) -> &SiteName {
        self.reach.canonical.as_ref().unwrap_or(&self.site)
    }

    /// All its names.
    pub(crate) fn all_names(&self) -> Vec<SiteName> {
        std::iter::once(&self.site).chain(&self.aliases).cloned().collect()
    }

    /// What the site is asked for to see whether it is well: what its application usually answers, but for the pages that this one answers in
    /// its own way.
    pub(crate) fn smoke_checks(&self, app: &dyn App) -> Vec<SmokeCheck> {
        let mut checks = app.smoke_checks(self.front());
        for page in &self.reach.pages {
            // The usual answer is as good: a side from before the page was so is well, too.
            if let Some(usual) = checks.iter_mut().find(|check| check.get.path == page.path) {
                usual.also.push(page.status);
                continue;
            }
            let get = Get { host: self.front().clone(), path: page.path.clone(), bypass: None };
            let (statuses, also) = (vec![page.status], Vec::new());
            checks.push(SmokeCheck { get, statuses, also, contains: Vec::new(), lacks: Vec::new() });
        }
        checks
    }

    /// Its vhost in a mode.
    pub(crate) fn vhost(&self, mode: VhostMode) -> Vhost {
        let target = match mode {
            VhostMode::Redirect { .. } => None,
            VhostMode::Live | VhostMode::Maintenance { .. } | VhostMode::Disabled => Some(VhostTarget {
                platform_root: self.root.clone(),
                site_dir: self.dir.clone(),
                app: self.app,
            }),
        };
        let reach = Reach { pages: Vec::new(), ..self.reach.clone() };
        let (site, aliases) = (self.site.clone(), self.aliases.clone());
        Vhost { site, aliases, mode, target, reach }
    }
}

impl Store {
    /// The database of a registered site.
    pub(crate) fn of(record: &SiteRecord) -> Self {
        Self {
            server: record.database_server.clone(),
            password: record.password.clone(),
            names: Names::Known { schema: record.schema.clone(), user: record.user.clone() },
        }
    }

    /// Schema and user; `None` when the step that chooses them has not: then nothing of theirs was made.
    pub(crate) fn names<P: ?Sized>(
        &self,
        cx: &Cx<'_, P>,
    ) -> Result<Option<(DatabaseName, DatabaseName)>, StepError> {
        Ok(match &self.names {
            Names::Known { schema, user } => Some((schema.clone(), user.clone())),
            Names::Reserved(reserved) => cx.maybe(reserved)?.map(|reserved| (reserved.schema, reserved.user)),
        })
    }

    /// Schema and user, which have to be known by now.
    pub(crate) fn known<P: ?Sized>(&self, cx: &Cx<'_, P>) -> Result<(DatabaseName, DatabaseName), StepError> {
        self.names(cx)?.ok_or_else(|| StepError::fatal("the names of the database are not reserved"))
    }

    /// The login for imports.
    pub(crate) fn login(&self, user: DatabaseName) -> Login {
        Login { user, password: self.password.clone() }
    }
}

/// The attempt as the ports know it.
pub(crate) fn scope<P: ?Sized>(cx: &Cx<'_, P>) -> Scope {
    Scope { task: cx.task.to_string(), step: cx.step.to_owned() }
}

/// The mark on what this task creates for a site.
pub(crate) fn mark<P: ?Sized>(cx: &Cx<'_, P>, site: &SiteName) -> Mark {
    Mark { task: cx.task.to_string(), site: site.to_string() }
}

/// A side as its application sees it. `dir` is where its files are at this moment.
pub(crate) fn app_site(
    cx: &Cx<'_, dyn World>,
    place: &Place,
    dir: &str,
    store: &Store,
    server: &dyn Database,
) -> Result<AppSite, StepError> {
    let site = live_site(place, store, store.known(cx)?, server);
    Ok(AppSite { dir: dir.to_owned(), ..site })
}

/// A live side as its application sees it, given the names of its schema and user.
pub(crate) fn live_site(
    place: &Place,
    store: &Store,
    (name, user): (DatabaseName, DatabaseName),
    server: &dyn Database,
) -> AppSite {
    AppSite {
        name: place.site.clone(),
        aliases: place.aliases.clone(),
        platform_root: place.root.clone(),
        live_dir: place.dir.clone(),
        dir: place.dir.clone(),
        database: AppDatabase {
            server: store.server.clone(),
            address: server.address_for_sites(),
            name,
            user,
            password: store.password.clone(),
        },
        reach: place.reach.clone(),
        quiet: place.quiet,
    }
}
