//! A web server in memory: vhost files on its "disk", and the configuration it runs with, which changes by a reload only.
//! Its language is JSON. Never waits: what a real server would take time for is there or it fails at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Faults;
use crate::names::SiteName;
use crate::ports::{
    Answer, ConfigTest, Get, PortError, PortResult, RenderedVhost, SavedFile, Tls, Vhost, VhostMode,
    VhostOrigin, WebServer,
};

/// Where every vhost of ours answers its revision.
pub(super) const REVISION_PATH: &str = "/.well-known/kedge-revision";
/// What visitors with HTTPS come in by.
const TLS_PORT: u16 = 443;
const MARK: &str = "# Managed by Kedge\n# kedge-revision: ";

/// What the test world answers for a site that is served: by its vhost, the request, and whether it came past a maintenance page.
pub type Page = Arc<dyn Fn(&Vhost, &Get, bool) -> Answer + Send + Sync>;

/// The fake. Clones share one server.
#[derive(Clone)]
pub struct FakeWebServer {
    dir: String,
    state: Arc<Mutex<State>>,
    faults: Faults,
    page: Page,
}

#[derive(Clone, Default)]
struct State {
    files: BTreeMap<String, SavedFile>,
    running: BTreeMap<String, Loaded>,
    reloads: usize,
    stopped: bool,
    /// Rises with every change of a file; what the last reload took.
    version: u64,
    loaded: u64,
    /// Stands for the time in file stamps.
    ticks: i64,
    /// Certificates and keys that are there.
    certificates: BTreeSet<String>,
    htaccess: bool,
}

/// What a vhost file means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Loaded {
    Ours { vhost: Box<Vhost>, revision: String },
    Foreign { names: Vec<String>, body: String },
}

impl Loaded {
    /// `None` for a file with a mistake in it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let json: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        serde_json::from_str(&json).ok()
    }

    fn serves(&self, name: &str) -> bool {
        match self {
            Self::Ours { vhost, .. } => {
                vhost.site.as_str() == name || vhost.aliases.iter().any(|alias| alias.as_str() == name)
            }
            Self::Foreign { names, .. } => names.iter().any(|served| served == name),
        }
    }

    /// The same for visitors with HTTPS.
    fn serves_tls(&self, name: &str) -> bool {
        match self {
            Self::Ours { vhost, .. } => vhost.reach.tls.is_some() && self.serves(name),
            Self::Foreign { names, .. } => names.contains(&with_tls_port(name)),
        }
    }
}

fn with_tls_port(name: &str) -> String {
    format!("{name}:{TLS_PORT}")
}

impl FakeWebServer {
    /// A running server without vhosts, whose vhost files are in `dir`.
    pub fn new(dir: impl Into<String>, faults: Faults, page: Page) -> Self {
        Self { dir: dir.into(), state: Arc::default(), faults, page }
    }

    /// Another server with the same files, running with the same configuration.
    #[must_use]
    pub fn fork(&self, faults: Faults, page: Page) -> Self {
        Self { dir: self.dir.clone(), state: Arc::new(Mutex::new(self.state().clone())), faults, page }
    }

    /// The bytes of a vhost that somebody else wrote: it answers everything with `body`. `a.test:443` is that name for visitors with HTTPS.
    #[must_use]
    pub fn foreign_vhost(names: &[&str], body: &str) -> Vec<u8> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        serde_json::to_vec(&Loaded::Foreign { names, body: body.to_owned() }).unwrap_or_default()
    }

    /// The bytes of a vhost with a mistake in it.
    #[must_use]
    pub fn broken_vhost() -> Vec<u8> {
        b"a mistake".to_vec()
    }

    /// Writes a file in the vhost directory as an operator would, a symbolic link if it has a target; `None` removes it.
    pub fn write(&self, path: &str, bytes: Option<&[u8]>, symlink: Option<&str>) {
        let mut state = self.state();
        state.version += 1;
        match bytes {
            Some(bytes) => {
                let file = SavedFile {
                    symlink: symlink.map(str::to_owned),
                    mode: 0o640,
                    gid: 33,
                    ..state.file(path, bytes)
                };
                state.files.insert(path.to_owned(), file);
            }
            None => {
                state.files.remove(path);
            }
        }
    }

    /// All vhost files, to be compared with what they were.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, SavedFile> {
        self.state().files.clone()
    }

    /// What the server runs with, by file, in words to be compared.
    #[must_use]
    pub fn loaded(&self) -> BTreeMap<String, String> {
        let told = |(path, loaded): (&String, &Loaded)| (path.clone(), format!("{loaded:?}"));
        self.state().running.iter().map(told).collect()
    }

    /// The site's vhost that the server runs with, if it is one of ours.
    #[must_use]
    pub fn running(&self, site: &SiteName) -> Option<Vhost> {
        match self.state().running.get(&self.file_of(site)) {
            Some(Loaded::Ours { vhost, .. }) => Some((**vhost).clone()),
            Some(Loaded::Foreign { .. }) | None => None,
        }
    }

    /// How often the server took its files.
    #[must_use]
    pub fn reloads(&self) -> usize {
        self.state().reloads
    }

    /// Says whether denials in `.htaccess` files count, as they do on Apache.
    pub fn set_counts_htaccess(&self, counts: bool) {
        self.state().htaccess = counts;
    }

    /// Stops or starts the server; a start takes the files.
    pub fn set_stopped(&self, stopped: bool) {
        let mut state = self.state();
        state.stopped = stopped;
        if !stopped {
            state.load();
        }
    }

    fn file_of(&self, site: &SiteName) -> String {
        format!("{}/{site}.conf", self.dir)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a query or an effect between its two points.
    fn act<T>(&self, op: &str, detail: &str, act: impl FnOnce(&mut State) -> PortResult<T>) -> PortResult<T> {
        let op = format!("web_server.{op}");
        self.faults.before(&op, detail)?;
        let result = act(&mut self.state())?;
        self.faults.after(&op, detail)?;
        Ok(result)
    }
}

impl State {
    fn file(&mut self, path: &str, bytes: &[u8]) -> SavedFile {
        self.ticks += 1;
        SavedFile {
            path: path.to_owned(),
            bytes: bytes.to_vec(),
            sha256: hash(bytes),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: self.ticks,
            symlink: None,
            elsewhere: BTreeMap::new(),
        }
    }

    fn test(&self) -> ConfigTest {
        match self.files.values().find(|file| Loaded::parse(&file.bytes).is_none()) {
            Some(file) => {
                ConfigTest::Invalid { culprit: Some(file.path.clone()), message: "a mistake".to_owned() }
            }
            None => ConfigTest::Valid,
        }
    }

    fn load(&mut self) {
        let loaded = |(path, file): (&String, &SavedFile)| Some((path.clone(), Loaded::parse(&file.bytes)?));
        self.running = self.files.iter().filter_map(loaded).collect();
        self.loaded = self.version;
    }

    fn serving(&self, host: &SiteName) -> Option<Loaded> {
        self.running.values().find(|loaded| loaded.serves(host.as_str())).cloned()
    }

    fn server_of(&self, name: &str) -> Option<&SavedFile> {
        self.file_that(|loaded| loaded.serves(name))
    }

    fn tls_server_of(&self, name: &str) -> Option<&SavedFile> {
        self.file_that(|loaded| loaded.serves_tls(name))
    }

    fn file_that(&self, does: impl Fn(&Loaded) -> bool) -> Option<&SavedFile> {
        self.files.values().find(|file| Loaded::parse(&file.bytes).is_some_and(|loaded| does(&loaded)))
    }

    fn put(
        &mut self,
        path: &str,
        vhost: &Vhost,
        rendered: &RenderedVhost,
        expected: Option<&str>,
        names_too: bool,
    ) -> PortResult<()> {
        let current = self.files.get(path);
        if current.is_some_and(|current| current.sha256 == rendered.sha256) {
            return Ok(());
        }
        if current.map(|current| current.sha256.as_str()) != expected {
            return Err(PortError::NotOurs(format!("{path} was changed by somebody else")));
        }
        if let Some(current) = current {
            may_replace(path, current, vhost)?;
        }
        for name in std::iter::once(&vhost.site).chain(&vhost.aliases).filter(|_| names_too) {
            let others = |file: &&SavedFile| file.path != path;
            let tls = || self.tls_server_of(name.as_str()).filter(|_| vhost.reach.tls.is_some());
            let other = self.server_of(name.as_str()).filter(others).or_else(|| tls().filter(others));
            if let Some(other) = other {
                return Err(PortError::Refused(format!("{name} is served by {} already", other.path)));
            }
        }
        let tls = vhost.reach.tls.as_ref();
        let missing = tls.and_then(|tls| {
            [&tls.certificate, &tls.key].into_iter().find(|path| !self.certificates.contains(*path))
        });
        if let Some(missing) = missing {
            return Err(PortError::Refused(format!(
                "the server does not take {path}: cannot load {missing}"
            )));
        }
        let mode =
            if matches!(vhost.mode, VhostMode::Maintenance { bypass: Some(_) }) { 0o600 } else { 0o644 };
        let file = SavedFile { mode, ..self.file(path, rendered.text.as_bytes()) };
        self.files.insert(path.to_owned(), file);
        self.version += 1;
        Ok(())
    }

    fn restore(&mut self, path: &str, saved: Option<&SavedFile>, ours: &[String]) -> PortResult<()> {
        let current = self.files.get(path);
        let right = current.map(|current| &current.sha256) == saved.map(|saved| &saved.sha256);
        if !right && !current.is_none_or(|current| ours.contains(&current.sha256)) {
            return Err(PortError::NotOurs(format!("{path} was changed by somebody else")));
        }
        match saved {
            Some(saved) => self.files.insert(path.to_owned(), saved.clone()),
            None => self.files.remove(path),
        };
        self.version += 1;
        Ok(())
    }

    fn revision_on_disk(&self, path: &str) -> Option<String> {
        match self.files.get(path).and_then(|file| Loaded::parse(&file.bytes)) {
            Some(Loaded::Ours { revision, .. }) => Some(revision),
            Some(Loaded::Foreign { .. }) | None => None,
        }
    }

    fn is_on_disk(&self, path: &str, revision: Option<&str>) -> bool {
        revision.is_none() || self.revision_on_disk(path).as_deref() == revision
    }

    /// Whether the running server answers what a reload is to bring about.
    fn answers(&self, site: &SiteName, path: &str, revision: Option<&str>) -> bool {
        let revision = revision.map(str::to_owned).or_else(|| self.revision_on_disk(path));
        let answered = self.running.values().find_map(|loaded| match loaded {
            Loaded::Ours { revision, .. } if loaded.serves(site.as_str()) => Some(revision.clone()),
            Loaded::Ours { .. } | Loaded::Foreign { .. } => None,
        });
        answered == revision
    }
}

fn may_replace(path: &str, current: &SavedFile, vhost: &Vhost) -> PortResult<()> {
    match Loaded::parse(&current.bytes) {
        Some(Loaded::Ours { vhost, .. }) if render(&vhost).sha256 == current.sha256 => Ok(()),
        Some(Loaded::Ours { .. }) => Err(PortError::NotOurs(format!("{path} was changed by hand"))),
        Some(Loaded::Foreign { names, .. }) if names.iter().all(|name| holds(vhost, name)) => Ok(()),
        Some(Loaded::Foreign { .. }) | None => {
            Err(PortError::NotOurs(format!("{path} holds more than {}", vhost.site)))
        }
    }
}

/// Whether a name in somebody's file is just the site's, on a port that the vhost has as well.
fn holds(vhost: &Vhost, name: &str) -> bool {
    let site = vhost.site.as_str();
    name == site || (vhost.reach.tls.is_some() && name == with_tls_port(site))
}

fn render(vhost: &Vhost) -> RenderedVhost {
    let text = |revision: &str| {
        let loaded = Loaded::Ours { vhost: Box::new(vhost.clone()), revision: revision.to_owned() };
        // Every field of a vhost has a JSON form; an empty text would not load.
        format!("{MARK}{revision}\n{}\n", serde_json::to_string_pretty(&loaded).unwrap_or_default())
    };
    let revision = format!("{}@{}", &hash(text("").as_bytes())[..32], vhost.site);
    let text = text(&revision);
    RenderedVhost { sha256: hash(text.as_bytes()), revision, text }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl FakeWebServer {
    fn put(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
        names_too: bool,
    ) -> PortResult<RenderedVhost> {
        let (path, rendered) = (self.file_of(site), render(vhost));
        let served = matches!(vhost.mode, VhostMode::Live | VhostMode::Maintenance { bypass: Some(_) });
        let bad_path = |target: &crate::ports::VhostTarget| {
            [&target.platform_root, &target.site_dir]
                .iter()
                .any(|path| !path.starts_with('/') || path.contains(['"', ';', '$', '{', '\n']))
        };
        if vhost.site != *site
            || (served && vhost.target.is_none())
            || vhost.target.as_ref().is_some_and(bad_path)
        {
            return Err(PortError::Refused(format!("vhost of {site}: it cannot be rendered")));
        }
        self.act("put_vhost", site.as_str(), |state| {
            state.put(&path, vhost, &rendered, expected, names_too)
        })?;
        Ok(rendered)
    }
}

#[async_trait]
impl WebServer for FakeWebServer {
    async fn test(&self) -> PortResult<ConfigTest> {
        self.act("test", &self.dir, |state| Ok(state.test()))
    }

    async fn vhost(&self, site: &SiteName) -> PortResult<Option<SavedFile>> {
        let path = self.file_of(site);
        self.act("vhost", site.as_str(), |state| {
            let foreign =
                |file: &&SavedFile| matches!(Loaded::parse(&file.bytes), Some(Loaded::Foreign { .. }));
            let elsewhere = || state.server_of(site.as_str()).filter(foreign).cloned();
            Ok(state.files.get(&path).cloned().or_else(elsewhere))
        })
    }

    async fn server_of(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        self.act("server_of", host_name.as_str(), |state| {
            Ok(state.server_of(host_name.as_str()).map(|file| file.path.clone()))
        })
    }

    /// It knows no patterns.
    async fn tls_named_in(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        self.act("tls_named_in", host_name.as_str(), |state| {
            Ok(state.tls_server_of(host_name.as_str()).map(|file| file.path.clone()))
        })
    }

    async fn tls_server_of(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        self.act("tls_server_of", host_name.as_str(), |state| {
            Ok(state.tls_server_of(host_name.as_str()).map(|file| file.path.clone()))
        })
    }

    fn counts_htaccess(&self) -> bool {
        self.state().htaccess
    }

    fn tls_port(&self) -> u16 {
        TLS_PORT
    }

    fn render(&self, vhost: &Vhost) -> RenderedVhost {
        render(vhost)
    }

    fn origin(&self, file: &[u8]) -> VhostOrigin {
        match Loaded::parse(file) {
            Some(Loaded::Ours { vhost, .. }) if render(&vhost).sha256 == hash(file) => VhostOrigin::Ours,
            Some(Loaded::Ours { .. }) => VhostOrigin::Edited,
            Some(Loaded::Foreign { .. }) | None => VhostOrigin::Foreign,
        }
    }

    async fn ensure_certificate(&self, names: &[SiteName], tls: &Tls) -> PortResult<()> {
        let detail = names.first().map(ToString::to_string).unwrap_or_default();
        self.act("ensure_certificate", &detail, |state| {
            for path in [&tls.certificate, &tls.key] {
                if tls.self_signed {
                    state.certificates.insert(path.clone());
                } else if !state.certificates.contains(path) {
                    return Err(PortError::Refused(format!("{path} is not there")));
                }
            }
            Ok(())
        })
    }

    async fn certificate_faults(&self, names: &[SiteName], tls: &Tls) -> PortResult<Vec<String>> {
        let detail = names.first().map(ToString::to_string).unwrap_or_default();
        self.act("certificate_faults", &detail, |state| {
            let missing =
                [&tls.certificate, &tls.key].into_iter().filter(|path| !state.certificates.contains(*path));
            Ok(missing.map(|path| format!("{path} is not there")).collect())
        })
    }

    async fn put_vhost(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
    ) -> PortResult<RenderedVhost> {
        self.put(site, vhost, expected, true)
    }

    async fn put_back_vhost(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
    ) -> PortResult<RenderedVhost> {
        self.put(site, vhost, expected, false)
    }

    async fn restore_vhost(
        &self,
        site: &SiteName,
        saved: Option<&SavedFile>,
        ours: &[String],
    ) -> PortResult<()> {
        let own = self.file_of(site);
        self.act("restore_vhost", site.as_str(), |state| match saved {
            Some(saved) if saved.path != own => {
                state.restore(&own, None, ours)?;
                state.restore(&saved.path, Some(saved), ours)
            }
            _ => state.restore(&own, saved, ours),
        })
    }

    async fn names_in(&self, path: &str) -> PortResult<Vec<String>> {
        self.act("names_in", path, |state| {
            let loaded = state.files.get(path).and_then(|file| Loaded::parse(&file.bytes));
            let mut names = match loaded {
                Some(Loaded::Foreign { names, .. }) => names,
                Some(Loaded::Ours { vhost, .. }) => {
                    let plain = std::iter::once(&vhost.site).chain(&vhost.aliases).map(ToString::to_string);
                    let ports = |name: String| {
                        let tls = vhost.reach.tls.is_some().then(|| with_tls_port(&name));
                        std::iter::once(name).chain(tls)
                    };
                    plain.flat_map(ports).collect()
                }
                None => Vec::new(),
            };
            names.sort();
            Ok(names)
        })
    }

    async fn set_aside(&self, site: &SiteName, saved: &SavedFile) -> PortResult<bool> {
        if saved.path == self.file_of(site) {
            return Ok(false);
        }
        let ours = [saved.sha256.clone()];
        self.act("set_aside", site.as_str(), |state| state.restore(&saved.path, None, &ours))?;
        Ok(true)
    }

    async fn reload(&self, site: &SiteName, revision: Option<&str>) -> PortResult<()> {
        let path = self.file_of(site);
        self.act("reload", site.as_str(), |state| {
            if let ConfigTest::Invalid { culprit, message } = state.test() {
                // Undone before it was ever taken: nothing is to be done for this site.
                let undone = culprit.as_ref() != Some(&path) && state.is_on_disk(&path, revision);
                if undone && !state.stopped && state.answers(site, &path, revision) {
                    return Ok(());
                }
                let own = culprit.as_ref() == Some(&path);
                let culprit = culprit.unwrap_or_default();
                let told = format!("not reloaded, the configuration is invalid (in {culprit}): {message}");
                return Err(if own { PortError::Refused(told) } else { PortError::Unavailable(told) });
            }
            if state.stopped {
                return Err(PortError::Unavailable("the web server is not running".to_owned()));
            }
            // A reload that began after the last change counts for all who ask behind it.
            if state.loaded != state.version {
                state.load();
                state.reloads += 1;
            }
            if state.answers(site, &path, revision) {
                return Ok(());
            }
            Err(PortError::Unavailable(format!("the web server does not answer the revision of {site}")))
        })
    }

    async fn get(&self, request: &Get) -> PortResult<Answer> {
        let detail = format!("{}{}", request.host, request.path);
        let served = self.act("get", &detail, |state| {
            if state.stopped {
                return Err(PortError::Unavailable("the web server is not running".to_owned()));
            }
            Ok(state.serving(&request.host))
        })?;
        Ok(self.answer(served, request))
    }
}

impl FakeWebServer {
    /// What a visitor gets, whatever faults there are; nothing from a stopped server.
    #[must_use]
    pub fn browse(&self, request: &Get) -> Option<Answer> {
        let served = {
            let state = self.state();
            if state.stopped {
                return None;
            }
            state.serving(&request.host)
        };
        let sent_on = match &served {
            Some(Loaded::Ours { vhost, .. }) if request.path != REVISION_PATH => sent_on(vhost, request),
            Some(Loaded::Ours { .. } | Loaded::Foreign { .. }) | None => None,
        };
        Some(sent_on.unwrap_or_else(|| self.answer(served, request)))
    }

    fn answer(&self, served: Option<Loaded>, request: &Get) -> Answer {
        match served {
            None => answer(404, "no such host"),
            Some(Loaded::Foreign { body, .. }) => answer(200, &body),
            Some(Loaded::Ours { revision, .. }) if request.path == REVISION_PATH => answer(200, &revision),
            Some(Loaded::Ours { vhost, .. }) => self.visit(&vhost, request),
        }
    }

    fn visit(&self, vhost: &Vhost, request: &Get) -> Answer {
        match &vhost.mode {
            VhostMode::Live => (self.page)(vhost, request, false),
            VhostMode::Maintenance { bypass: Some(token) } if request.bypass.as_ref() == Some(token) => {
                (self.page)(vhost, request, true)
            }
            VhostMode::Maintenance { .. } => answer(503, "Back in a few minutes"),
            VhostMode::Disabled => answer(503, "This site is disabled"),
            VhostMode::Redirect { to } => {
                Answer { location: Some(format!("http://{to}{}", request.path)), ..answer(301, "moved") }
            }
        }
    }
}

/// Where a visitor by plain HTTP is sent by a live site.
fn sent_on(vhost: &Vhost, request: &Get) -> Option<Answer> {
    let (only, canonical) = (vhost.reach.https_only(), vhost.reach.canonical.as_ref());
    let name = canonical.unwrap_or(&request.host);
    if vhost.mode != VhostMode::Live || (!only && *name == request.host) {
        return None;
    }
    let scheme = if only { "https" } else { "http" };
    Some(Answer { location: Some(format!("{scheme}://{name}{}", request.path)), ..answer(301, "moved") })
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        location: None,
        content_type: Some("text/html".to_owned()),
        body: body.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::super::{Moment, WebServerBench, web_server_contract};
    use super::*;
    use crate::ports::{AppKind, Reach, VhostTarget};

    struct Bench {
        server: FakeWebServer,
        pages: Arc<Mutex<BTreeMap<String, String>>>,
    }

    impl Bench {
        fn new() -> Self {
            let pages: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
            let shown = pages.clone();
            let page: Page = Arc::new(move |vhost, _, _| {
                let dir = vhost.target.as_ref().map(|target| target.site_dir.clone()).unwrap_or_default();
                answer(200, shown.lock().unwrap().get(&dir).map_or("", String::as_str))
            });
            Self { server: FakeWebServer::new("/etc/fake", Faults::new(), page), pages }
        }
    }

    #[async_trait]
    impl WebServerBench for Bench {
        fn server(&self) -> Arc<dyn WebServer> {
            Arc::new(self.server.clone())
        }

        fn vhost_dir(&self) -> String {
            "/etc/fake".to_owned()
        }

        async fn make_site(&self, site: &SiteName, page: &str) -> VhostTarget {
            let site_dir = format!("/srv/sites/{site}");
            self.pages.lock().unwrap().insert(site_dir.clone(), page.to_owned());
            VhostTarget { platform_root: "/srv".into(), site_dir, app: AppKind::Plain }
        }

        fn foreign_vhost(&self, names: &[&str], body: &str) -> Vec<u8> {
            FakeWebServer::foreign_vhost(names, body)
        }

        fn broken_vhost(&self) -> Vec<u8> {
            FakeWebServer::broken_vhost()
        }

        async fn write(&self, path: &str, bytes: Option<&[u8]>, symlink: Option<&str>) {
            self.server.write(path, bytes, symlink);
        }

        async fn visit(&self, host: &SiteName, path: &str) -> Answer {
            let request = Get { host: host.clone(), path: path.to_owned(), bypass: None };
            self.server.browse(&request).expect("it runs")
        }

        fn reloads(&self) -> usize {
            self.server.reloads()
        }
    }

    /// Runs a future that never waits for anything outside itself.
    fn run<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return result;
            }
        }
    }

    #[test]
    fn the_fake_keeps_the_contract() {
        let bench = Bench::new();
        run(web_server_contract(&bench));
        assert!(bench.server.files().is_empty(), "the suite cleans up");
    }

    #[test]
    fn faults_strike_before_and_after_the_effect() {
        let bench = Bench::new();
        let (server, site) = (bench.server(), SiteName::parse("a.test").unwrap());
        let vhost = Vhost {
            site: site.clone(),
            aliases: vec![],
            mode: VhostMode::Disabled,
            target: None,
            reach: Reach::default(),
        };
        let lost = || PortError::Lost("cut".into());
        bench.server.faults.fail_next(Moment::Before, "web_server.put_vhost", lost());
        assert_eq!(run(server.put_vhost(&site, &vhost, None)), Err(lost()));
        assert!(bench.server.files().is_empty());
        bench.server.faults.fail_next(Moment::After, "web_server.put_vhost", lost());
        assert_eq!(run(server.put_vhost(&site, &vhost, None)), Err(lost()));
        assert_eq!(bench.server.files().len(), 1);
        bench.server.faults.fail_next(Moment::After, "web_server.reload", lost());
        assert_eq!(run(server.reload(&site, None)), Err(lost()));
        assert_eq!(bench.server.running(&site), Some(vhost));
    }

    #[test]
    fn a_stopped_server_answers_nothing() {
        let bench = Bench::new();
        let (server, site) = (bench.server(), SiteName::parse("a.test").unwrap());
        bench.server.set_stopped(true);
        let get = Get { host: site.clone(), path: "/".into(), bypass: None };
        assert!(matches!(run(server.get(&get)), Err(PortError::Unavailable(_))));
        assert!(matches!(run(server.reload(&site, None)), Err(PortError::Unavailable(_))));
        bench.server.set_stopped(false);
        assert_eq!(run(server.get(&get)).unwrap().status, 404);
    }
}
