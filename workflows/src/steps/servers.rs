//! Looks at platforms and servers, and the one thing that can be put right there: the file by which sites share a platform.

use kedge_engine::context::Cx;
use kedge_engine::step::{Compensable, Compensate, Query, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::preflight::demand_valid;
use crate::place::scope;
use crate::ports::{AppKind, World};
use crate::records::PREPARED;

/// Most sites named that the registry does not know.
const MAX_UNKNOWN: usize = 100;

/// A platform, as its steps need it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlatformAt {
    /// Its name.
    pub(crate) name: String,
    /// Its web server.
    pub(crate) web_server: String,
    /// Its root.
    pub(crate) root: String,
    /// Its application.
    pub(crate) app: AppKind,
}

/// Looks at a platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LookAtPlatform {
    /// Which.
    pub(crate) platform: PlatformAt,
    /// Directories of sites that the registry knows.
    pub(crate) known: Vec<String>,
}

/// What is told of a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlatformSeen {
    /// Version of its code.
    pub(crate) version: String,
    /// Version of the database schema that the code wants.
    pub(crate) schema_version: Option<u64>,
    /// Whether it was ready to be shared by sites.
    pub(crate) prepared: bool,
    /// Sites below it that the registry does not know: `import` takes them over.
    pub(crate) unknown_sites: Vec<String>,
}

impl Step for LookAtPlatform {
    type Ports = dyn World;
    type Output = PlatformSeen;
    type Mode = Query;
    const KIND: &'static str = "look_at_platform";

    fn title(&self) -> String {
        format!("look at the platform {}", self.platform.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<PlatformSeen, StepError> {
        let (scope, platform) = (scope(cx), &self.platform);
        demand_valid(cx, &platform.web_server).await?;
        let app = cx.ports.app(&platform.web_server, &platform.name, platform.app, &scope)?;
        let facts = app.platform_facts(&platform.root).await?;
        let files = cx.ports.files(&platform.web_server, &scope)?;
        let (sites, mut unknown_sites) = (format!("{}/sites", platform.root), Vec::new());
        for name in files.list(&sites).await? {
            let dir = format!("{sites}/{name}");
            if name.starts_with('.') || self.known.contains(&dir) || unknown_sites.len() == MAX_UNKNOWN {
                continue;
            }
            for settings in app.settings_files() {
                if files.stat(&format!("{dir}/{settings}")).await?.is_some() {
                    unknown_sites.push(name.clone());
                    break;
                }
            }
        }
        let (version, schema_version, prepared) = (facts.version, facts.schema_version, facts.prepared);
        Ok(PlatformSeen { version, schema_version, prepared, unknown_sites })
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Makes a platform ready to be shared, or brings what makes it so up to date.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RefreshPlatform {
    /// Which.
    pub(crate) platform: PlatformAt,
    /// How it was; its lock keeps that true.
    pub(crate) seen: Ref<PlatformSeen>,
}

impl Step for RefreshPlatform {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "refresh_platform";

    fn title(&self) -> String {
        format!("bring {} up to date with this Kedge", self.platform.root)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let platform = &self.platform;
        if !cx.output(&self.seen)?.prepared {
            let app = cx.ports.app(&platform.web_server, &platform.name, platform.app, &scope(cx))?;
            app.prepare_platform(&platform.root).await?;
        }
        cx.put_record(PREPARED, &platform.name, &serde_json::json!({ "task": cx.task }))
    }
}

impl Compensate for RefreshPlatform {
    fn undo_title(&self) -> String {
        "take that back, if no site lives on it".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let platform = &self.platform;
        if cx.maybe(&self.seen)?.is_some_and(|seen| !seen.prepared) {
            let app = cx.ports.app(&platform.web_server, &platform.name, platform.app, &scope(cx))?;
            app.unprepare_platform(&platform.root).await?;
        }
        Ok(())
    }
}

/// Looks at a web server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LookAtWebServer {
    /// Which.
    pub(crate) name: String,
}

/// What is told of a web server that is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebServerSeen {
    /// Its configuration passes its own test.
    pub(crate) configuration: String,
}

impl Step for LookAtWebServer {
    type Ports = dyn World;
    type Output = WebServerSeen;
    type Mode = Query;
    const KIND: &'static str = "look_at_web_server";

    fn title(&self) -> String {
        format!("test the configuration of {}", self.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<WebServerSeen, StepError> {
        demand_valid(cx, &self.name).await?;
        Ok(WebServerSeen { configuration: "valid".to_owned() })
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Looks at a database server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LookAtDatabaseServer {
    /// Which.
    pub(crate) name: String,
}

/// What is told of a database server that is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabaseServerSeen {
    /// `mysql` or `mariadb`.
    pub(crate) flavour: String,
    /// Its version.
    pub(crate) database_version: String,
    /// Free bytes where its data is, if that can be seen.
    pub(crate) free_bytes: Option<u64>,
}

impl Step for LookAtDatabaseServer {
    type Ports = dyn World;
    type Output = DatabaseServerSeen;
    type Mode = Query;
    const KIND: &'static str = "look_at_database_server";

    fn title(&self) -> String {
        format!("look at the database server {}", self.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<DatabaseServerSeen, StepError> {
        let facts = cx.ports.database(&self.name, &scope(cx))?.facts().await?;
        if facts.read_only {
            return Err(StepError::fatal(format!(
                "the database server {} refuses writes (read_only)",
                self.name
            )));
        }
        let (flavour, database_version) = (facts.flavour, facts.version);
        Ok(DatabaseServerSeen { flavour, database_version, free_bytes: facts.free_bytes })
    }

    fn reports(&self) -> bool {
        true
    }
}
