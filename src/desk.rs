//! What the HTTP face shows and changes beside tasks and records: login links, from the secrets, comparisons of platforms, looked up on
//! their hosts, and platforms made by API. Touches no site.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use kedge_engine::service::{TaskFilter, Tasks};
use kedge_engine::store::ReadError;
use kedge_engine::task::{TaskId, TaskState, TaskView};
use kedge_engine::workflow::Facts as _;
use kedge_webhooks::{Archive, Desk, DeskError, NewPlatform};
use kedge_workflows::compare::{CompareError, compare_platforms};
use kedge_workflows::login_secret;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{AppKind, PortError, World as _};
use kedge_workflows::records::{SITE, TRASH};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::config::own::{self, OwnPlatform};
use crate::config::{Config, platform_mistakes};
use crate::facts::KnownFacts;
use crate::world::LiveWorld;

/// Longest look at two platforms: somebody waits for the answer.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// How much of an archive is read at a time.
const ARCHIVE_PIECE: usize = 256 * 1024;

/// The desk of a running service.
pub(crate) struct LiveDesk {
    world: Arc<LiveWorld>,
    facts: Arc<KnownFacts>,
    tasks: Arc<dyn Tasks>,
}

impl LiveDesk {
    /// Over this world.
    pub(crate) fn new(world: Arc<LiveWorld>, facts: Arc<KnownFacts>, tasks: Arc<dyn Tasks>) -> Self {
        Self { world, facts, tasks }
    }

    fn add(&self, platform: NewPlatform) -> Result<Value, DeskError> {
        let _alone = self.world.changing();
        let now = self.world.now();
        let NewPlatform { name, web_server, root, app, drush } = platform;
        if now.config.platforms.contains_key(&name) {
            let detail = format!("there is a platform {name}; take another name, or remove that one first");
            return Err(DeskError::Refused(detail));
        }
        let mut faults = Vec::new();
        if !now.config.web_servers.contains_key(&web_server) {
            let known: Vec<&str> = now.config.web_servers.keys().map(String::as_str).collect();
            faults.push(("web_server", format!("is not configured; there are: {}", known.join(", "))));
        }
        let app: Option<AppKind> = serde_json::from_value(json!(app)).ok();
        match app {
            Some(app) => faults.extend(platform_mistakes(&root, app, drush.as_deref())),
            None => faults.push(("app", "is wordpress, drupal or plain".to_owned())),
        }
        let (Some(app), true) = (app, faults.is_empty()) else { return Err(DeskError::Unfit(faults)) };
        let root = root.trim_end_matches('/').to_owned();
        let same = now
            .config
            .platforms
            .iter()
            .find(|(_, other)| other.web_server == web_server && other.root == root);
        if let Some((other, _)) = same {
            return Err(DeskError::Refused(format!(
                "{root} on {web_server} is the platform {other} already"
            )));
        }
        let mut own = own::read(&now.config.data_dir).map_err(failed)?;
        if own.len() >= own::MAX_PLATFORMS {
            return Err(DeskError::Refused(
                "there are too many platforms: remove those without sites".to_owned(),
            ));
        }
        let record =
            json!({ "name": name, "web_server": web_server, "root": root, "app": app, "source": "api" });
        own.insert(name, OwnPlatform { web_server, root, app, drush });
        self.keep(&now.config, &own)?;
        Ok(record)
    }

    fn remove(&self, name: &str) -> Result<(), DeskError> {
        let _alone = self.world.changing();
        let now = self.world.now();
        let mut own = own::read(&now.config.data_dir).map_err(failed)?;
        match now.config.platforms.get(name) {
            Some(platform) if !platform.own => {
                let detail =
                    "the platform is in the configuration: take it out there, and send the process a SIGHUP";
                return Err(DeskError::Refused(detail.to_owned()));
            }
            None if !own.contains_key(name) => {
                return Err(DeskError::Unknown(
                    "there is no platform of this name; GET /v1/platforms lists them".to_owned(),
                ));
            }
            _ => {}
        }
        if let Some(why) = self.in_use(name).map_err(|error| DeskError::Failed(error.to_string()))? {
            return Err(DeskError::Refused(why));
        }
        own.remove(name);
        self.keep(&now.config, &own)
    }

    /// Durable first, then in use.
    fn keep(&self, config: &Config, platforms: &own::OwnPlatforms) -> Result<(), DeskError> {
        let mut next = config.clone();
        next.platforms.retain(|_, platform| !platform.own);
        own::add(&mut next, platforms.clone());
        let reached = self.world.with(Arc::new(next)).map_err(failed)?;
        own::write(&config.data_dir, platforms).map_err(failed)?;
        self.world.replace(reached);
        Ok(())
    }

    /// What still needs a platform: a site, one in the trash, or a task that has not ended.
    fn in_use(&self, platform: &str) -> Result<Option<String>, ReadError> {
        for (name, site) in self.facts.records(SITE)? {
            if site["platform"] == platform {
                return Ok(Some(format!("the site {name} lives on it: move or delete it first")));
            }
        }
        for (task, trash) in self.facts.records(TRASH)? {
            if trash["site"]["platform"] == platform {
                let site = trash["site"]["name"].as_str().unwrap_or_default();
                return Ok(Some(format!(
                    "{site} is in its trash, by {task}, until its hold is over and it is purged"
                )));
            }
        }
        let open = [
            TaskState::Queued,
            TaskState::Running,
            TaskState::Waiting,
            TaskState::Compensating,
            TaskState::Stuck,
        ];
        for state in open {
            let mut filter = TaskFilter { state: Some(state), limit: 200, ..TaskFilter::default() };
            loop {
                let page = self.tasks.tasks(&filter)?;
                let named = |task: &TaskView| {
                    task.params
                        .as_object()
                        .is_some_and(|params| params.values().any(|value| value == platform))
                };
                if let Some(task) = page.tasks.iter().find(|task| named(task)) {
                    return Ok(Some(format!("{} has not ended and names it", task.id)));
                }
                match page.next {
                    Some(next) => filter.before = Some(next),
                    None => break,
                }
            }
        }
        Ok(None)
    }
}

/// An archive as it is in the backup directory; a purge may take it away meanwhile, and whoever reads it still gets all of it.
async fn archive(dir: &Path, name: &str) -> Result<Archive, DeskError> {
    let away = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            DeskError::Unknown(format!("the archive {name} is not in the backup directory any more"))
        }
        _ => DeskError::Failed(format!("{}: {error}", dir.join(name).display())),
    };
    // A name of the registry is a file name; one that is not leads nowhere.
    if Path::new(name).file_name() != Some(name.as_ref()) {
        return Err(DeskError::Unknown(format!("{name:?} is no name of an archive")));
    }
    let file = File::open(dir.join(name)).await.map_err(away)?;
    let about = file.metadata().await.map_err(away)?;
    if !about.is_file() {
        return Err(DeskError::Unknown(format!("{name} is no file")));
    }
    let stream = ReaderStream::with_capacity(file.take(about.len()), ARCHIVE_PIECE).boxed();
    Ok(Archive { bytes: about.len(), stream })
}

fn failed(error: anyhow::Error) -> DeskError {
    DeskError::Failed(format!("{error:#}"))
}

impl Desk for LiveDesk {
    fn login_link(&self, task: &TaskId) -> BoxFuture<'_, Result<Option<String>, String>> {
        let (secrets, name) = (self.world.secrets(), login_secret(task));
        async move {
            let link = secrets.get(&name).await.map_err(|error| error.to_string())?;
            Ok(link.map(|link| link.expose().to_owned()))
        }
        .boxed()
    }

    fn compare(&self, from: &str, to: &str, site: Option<&str>) -> BoxFuture<'_, Result<Value, DeskError>> {
        let (from, to, site) = (from.to_owned(), to.to_owned(), site.map(SiteName::parse));
        async move {
            let site = site.transpose().map_err(|error| DeskError::Unknown(error.to_string()))?;
            let look = compare_platforms(&*self.world, &*self.facts, (&from, &to), site.as_ref());
            let table = tokio::time::timeout(LOOK_LIMIT, look).await.map_err(|_| {
                DeskError::Failed(format!("the look took longer than {} seconds", LOOK_LIMIT.as_secs()))
            })?;
            let table = table.map_err(|error| match error {
                CompareError::Unknown(what) => DeskError::Unknown(what),
                CompareError::Refused(what) | CompareError::Port(PortError::Refused(what)) => {
                    DeskError::Refused(what)
                }
                CompareError::Read(error) => DeskError::Failed(error.to_string()),
                CompareError::Port(error) => DeskError::Failed(error.to_string()),
            })?;
            let (errors, warnings) = (table.errors().count(), table.warnings().count());
            Ok(json!({ "from": from, "to": to, "site": site, "errors": errors, "warnings": warnings, "rows": table.rows }))
        }
        .boxed()
    }

    fn add_platform(&self, platform: NewPlatform) -> BoxFuture<'_, Result<Value, DeskError>> {
        async move { self.add(platform) }.boxed()
    }

    fn remove_platform(&self, name: &str) -> BoxFuture<'_, Result<(), DeskError>> {
        let name = name.to_owned();
        async move { self.remove(&name) }.boxed()
    }

    fn archive(&self, backup: &str) -> BoxFuture<'_, Result<Archive, DeskError>> {
        let (dir, backup) = (self.world.now().config.backup_dir.clone(), backup.to_owned());
        async move { archive(&dir, &backup).await }.boxed()
    }
}
