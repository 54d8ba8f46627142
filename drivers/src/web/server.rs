//! The web server port on a host, for every dialect. Reloading is in `reload`, requests are in `curl`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{
    Access, Answer, ConfigTest, Files, Get, PortError, PortResult, RenderedVhost, SavedFile, Scope, Tls,
    Vhost, VhostMode, VhostOrigin, WebServer,
};
use tokio::sync::{OnceCell, RwLock};

use super::coalesce::Coalesce;
use super::config::WebServerConfig;
use super::curl::Curl;
use super::dialect::{self, Dialect, Survey, Suspect};
use super::scan::{read_all, vhost_files};
use super::served::{Claim, by_any, by_name};
use super::tools::{Tools, look};
use super::vhost::{Origin, file_of, origin, rendered, validate};
use crate::host::{Command, Finished, Host};

/// A configuration test may look up names of upstream servers.
const TEST_LIMIT: Duration = Duration::from_secs(60);
/// To another name, and to HTTPS.
const MOST_REDIRECTS: usize = 2;
/// Most bytes of a configuration dump: some ten thousand vhosts.
const MAX_DUMP: usize = 64 * 1024 * 1024;

/// A configured web server: what its handles share.
pub struct WebServerShared {
    pub(super) config: WebServerConfig,
    pub(super) dialect: &'static dyn Dialect,
    tools: OnceCell<Tools>,
    /// Reloads of the whole server, one at a time, each for all who wait.
    pub(super) reloads: Coalesce<PortResult<ConfigTest>>,
    /// Who puts files back holds it shared; who writes and tests a new one, or tests and reloads, holds it alone: what is reloaded is what
    /// was tested, and a vhost that the server does not take is met by nobody else's test.
    pub(super) writing: RwLock<()>,
}

impl WebServerShared {
    /// A web server by its configuration.
    ///
    /// # Errors
    /// `Refused` when the configuration cannot be used, naming the setting.
    pub fn new(config: WebServerConfig) -> PortResult<Arc<Self>> {
        config.validate()?;
        let dialect = dialect::of(config.kind);
        let (tools, reloads, writing) = (OnceCell::new(), Coalesce::new(), RwLock::new(()));
        Ok(Arc::new(Self { config, dialect, tools, reloads, writing }))
    }

    /// A handle for one attempt, on the host of this server and with that host's files.
    #[must_use]
    pub fn handle(
        self: &Arc<Self>,
        host: Arc<dyn Host>,
        files: Arc<dyn Files>,
        scope: &Scope,
    ) -> VhostServer {
        VhostServer { shared: self.clone(), host, files, scope: scope.clone() }
    }
}

/// A web server on behalf of one attempt.
pub struct VhostServer {
    pub(super) shared: Arc<WebServerShared>,
    pub(super) host: Arc<dyn Host>,
    files: Arc<dyn Files>,
    pub(super) scope: Scope,
}

#[async_trait]
impl WebServer for VhostServer {
    async fn test(&self) -> PortResult<ConfigTest> {
        // Not between another task's vhost and the verdict on it.
        let _nobody_alone = self.shared.writing.read().await;
        self.tested().await
    }

    async fn vhost(&self, site: &SiteName) -> PortResult<Option<SavedFile>> {
        let own = self.file_of(site);
        if let Some(saved) = self.files.read(&own).await? {
            return Ok(Some(saved));
        }
        let survey = self.survey().await?;
        let Some(file) =
            by_name(&survey.served, site, self.shared.config.listen_port).filter(|file| *file != own)
        else {
            return Ok(None);
        };
        // A name among the aliases of another site of ours is that site's vhost.
        let saved = self.files.read(file).await?;
        Ok(saved.filter(|saved| origin(&saved.bytes) == Origin::Foreign))
    }

    async fn server_of(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        let survey = self.survey().await?;
        Ok(by_any(&survey.served, host_name, self.shared.config.listen_port).map(str::to_owned))
    }

    async fn tls_server_of(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        let survey = self.survey().await?;
        Ok(by_any(&survey.served, host_name, self.tls_port()).map(str::to_owned))
    }

    async fn tls_named_in(&self, host_name: &SiteName) -> PortResult<Option<String>> {
        let survey = self.survey().await?;
        Ok(by_name(&survey.served, host_name, self.tls_port()).map(str::to_owned))
    }

    fn counts_htaccess(&self) -> bool {
        self.shared.dialect.counts_htaccess()
    }

    fn tls_port(&self) -> u16 {
        self.shared.config.tls_port
    }

    fn render(&self, vhost: &Vhost) -> RenderedVhost {
        let WebServerShared { config, dialect, .. } = &*self.shared;
        rendered(&vhost.site, |revision| dialect.render(config, vhost, revision))
    }

    fn origin(&self, file: &[u8]) -> VhostOrigin {
        match origin(file) {
            Origin::Ours(_) => VhostOrigin::Ours,
            Origin::Edited => VhostOrigin::Edited,
            Origin::Foreign => VhostOrigin::Foreign,
        }
    }

    async fn ensure_certificate(&self, names: &[SiteName], tls: &Tls) -> PortResult<()> {
        self.certificate_for(names, tls).await
    }

    async fn certificate_faults(&self, names: &[SiteName], tls: &Tls) -> PortResult<Vec<String>> {
        self.faults_of(names, tls).await
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
        let own = self.file_of(site);
        let _writing = self.shared.writing.read().await;
        match saved {
            // The site's vhost was in a file of another name: nothing of ours may stay beside it.
            Some(saved) if saved.path != own => {
                self.files.restore(&own, None, ours).await?;
                self.files.restore(&saved.path, Some(saved), ours).await
            }
            _ => self.files.restore(&own, saved, ours).await,
        }
    }

    async fn names_in(&self, path: &str) -> PortResult<Vec<String>> {
        let files = read_all(&*self.host, &self.scope, &[path.to_owned()]).await?;
        let port = self.shared.config.listen_port;
        let mut names = BTreeSet::new();
        for served in files.iter().flat_map(|(file, text)| self.shared.dialect.served(file, text)) {
            let (Claim::Name(name) | Claim::Pattern(name)) = served.claim;
            for other in served.ports.iter().flatten().filter(|other| **other != port) {
                names.insert(format!("{name}:{other}"));
            }
            if served.ports.is_none_or(|ports| ports.contains(&port)) {
                names.insert(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    async fn set_aside(&self, site: &SiteName, saved: &SavedFile) -> PortResult<bool> {
        if saved.path == self.file_of(site) {
            return Ok(false);
        }
        let _writing = self.shared.writing.read().await;
        self.files.restore(&saved.path, None, std::slice::from_ref(&saved.sha256)).await?;
        Ok(true)
    }

    async fn reload(&self, site: &SiteName, revision: Option<&str>) -> PortResult<()> {
        self.reload_for(site, revision).await
    }

    async fn get(&self, request: &Get) -> PortResult<Answer> {
        let config = &self.shared.config;
        let mut answer = self.curl().get(request, false).await?;
        // Between a site's own names and ports visitors are sent on; a site is asked as they ask.
        for _ in 0..MOST_REDIRECTS {
            let Some((secure, next)) = answer.sent_on() else { break };
            let port = if secure { config.tls_port } else { config.listen_port };
            let curl = Curl { address: config.own_address_on(port), ..self.curl() };
            answer = curl.get(&Get { bypass: request.bypass.clone(), ..next }, secure).await?;
        }
        Ok(answer.answer)
    }
}

impl VhostServer {
    /// Writes a vhost file and tests it; where it claims names, no other file may serve them.
    async fn put(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
        claims: bool,
    ) -> PortResult<RenderedVhost> {
        validate(site, vhost)?;
        let rendered = self.render(vhost);
        let path = self.file_of(site);
        let current = self.files.read(&path).await?;
        if current.as_ref().is_none_or(|current| current.sha256 != rendered.sha256) {
            self.may_replace(&path, current.as_ref(), vhost).await?;
            if claims {
                self.names_are_free(&path, current.as_ref(), vhost).await?;
            }
        }
        // Who reads the token may look at, and write to, a side that nobody has decided for.
        let mode =
            if matches!(vhost.mode, VhostMode::Maintenance { bypass: Some(_) }) { 0o600 } else { 0o644 };
        let access = Access { mode, user: Some("root".into()), group: Some("root".into()) };
        // Written and tested in one, alone: nobody else's test may meet a vhost that the server does not take.
        let _alone = self.shared.writing.write().await;
        self.files.put(&path, rendered.text.as_bytes(), &access, expected).await?;
        let ConfigTest::Invalid { culprit, message } = self.tested().await? else { return Ok(rendered) };
        let named = culprit.as_deref() == Some(path.as_str());
        if !named && current.as_ref().is_some_and(|current| current.sha256 == rendered.sha256) {
            return Ok(rendered); // an earlier attempt wrote it: there is nothing to compare with, and the reload refuses it
        }
        self.files.restore(&path, current.as_ref(), std::slice::from_ref(&rendered.sha256)).await?;
        let refused = |message: String| {
            let what = self.what();
            let told = format!("{what} does not take the vhost of {site}, {path} is as it was: {message}");
            Err(PortError::Refused(told))
        };
        if named {
            return refused(message);
        }
        let valid_without = self.tested().await? == ConfigTest::Valid;
        self.files.put(&path, rendered.text.as_bytes(), &access, expected).await?;
        if !valid_without {
            return Ok(rendered); // a mistake of somebody else: the reload is who refuses it
        }
        // The server names nobody, or the one that ours does not go with: it is ours, unless somebody mended a file of theirs meanwhile.
        let ConfigTest::Invalid { message, .. } = self.tested().await? else { return Ok(rendered) };
        self.files.restore(&path, current.as_ref(), std::slice::from_ref(&rendered.sha256)).await?;
        refused(message)
    }

    pub(super) fn file_of(&self, site: &SiteName) -> String {
        file_of(&self.shared.config.vhost_dir, site)
    }

    /// The server in words: `nginx on web1`.
    pub(super) fn what(&self) -> String {
        format!("{} on {}", self.shared.config.kind, self.host.name())
    }

    pub(super) fn curl(&self) -> Curl<'_> {
        Curl { host: &*self.host, scope: &self.scope, address: self.shared.config.own_address() }
    }

    pub(super) async fn read(&self, path: &str) -> PortResult<Option<SavedFile>> {
        self.files.read(path).await
    }

    pub(super) async fn tools(&self) -> PortResult<Tools> {
        if let Some(tools) = self.shared.tools.get() {
            return Ok(tools.clone());
        }
        let (tools, complete) = look(&*self.host, &self.scope, self.shared.dialect.programs()).await?;
        if complete {
            // Another handle may have been quicker, with the same answer.
            self.shared.tools.set(tools.clone()).ok();
        }
        Ok(tools)
    }

    /// The server's control program with arguments.
    pub(super) async fn control(&self, arguments: &[&str]) -> PortResult<Vec<String>> {
        let program = self.tools().await?.program;
        Ok(std::iter::once(program).chain(arguments.iter().map(|&argument| argument.to_owned())).collect())
    }

    /// Runs a command of the server's. A missing program is refused in words.
    pub(super) async fn run(&self, argv: Vec<String>, limit: Duration) -> PortResult<Finished> {
        let program = argv.first().cloned().unwrap_or_default();
        let finished = self.host.run(Command::new(&self.scope, argv).within(limit)).await?;
        if finished.status == 127 {
            let setting = "or set test_command and reload_command";
            return Err(PortError::Refused(format!(
                "{program} is not there: install {}, {setting}",
                self.what()
            )));
        }
        Ok(finished)
    }

    /// What the server says of its files, for who holds `writing`.
    pub(super) async fn tested(&self) -> PortResult<ConfigTest> {
        let argv = match &self.shared.config.test_command {
            Some(argv) => argv.clone(),
            None => self.control(self.shared.dialect.test()).await?,
        };
        let finished = self.run(argv, TEST_LIMIT).await?;
        match finished.status {
            0 => Ok(ConfigTest::Valid),
            1..126 => self.invalid(&finished).await,
            status => Err(PortError::Refused(format!(
                "the configuration test of {}: exit status {status}: {}",
                self.what(),
                finished.last_error()
            ))),
        }
    }

    async fn invalid(&self, finished: &Finished) -> PortResult<ConfigTest> {
        let output = [finished.stderr.as_slice(), b"\n", finished.stdout.as_slice()].concat();
        let verdict =
            self.shared.dialect.verdict(&self.shared.config.vhost_dir, &String::from_utf8_lossy(&output));
        let culprit = match verdict.suspect {
            Suspect::File(file) => Some(file),
            Suspect::Mentions(path) => {
                let files = self.vhost_texts().await?;
                files.into_iter().find(|(_, text)| text.contains(&path)).map(|(file, _)| file)
            }
            Suspect::Unknown => None,
        };
        Ok(ConfigTest::Invalid { culprit, message: verdict.message })
    }

    async fn vhost_texts(&self) -> PortResult<Vec<(String, String)>> {
        let paths = vhost_files(&*self.host, &self.scope, &self.shared.config.vhost_dir).await?;
        read_all(&*self.host, &self.scope, &paths).await
    }

    /// The valid configuration's dump; `None` while it is invalid.
    pub(super) async fn dump(&self) -> PortResult<Option<String>> {
        let argv = self.control(self.shared.dialect.dump()).await?;
        let mut output = self.host.stream(Command::new(&self.scope, argv).within(TEST_LIMIT)).await?;
        let mut dump = Vec::new();
        while let Some(piece) = output.next().await {
            match piece {
                Ok(bytes) if dump.len() + bytes.len() <= MAX_DUMP => dump.extend_from_slice(&bytes),
                Ok(_) | Err(PortError::Refused(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(String::from_utf8_lossy(&dump).into_owned()))
    }

    /// Which file serves what: by the server itself, or by reading the vhost files while its configuration is invalid.
    pub(super) async fn survey(&self) -> PortResult<Survey> {
        let dialect = self.shared.dialect;
        let (mut survey, files) = match self.dump().await? {
            Some(dump) => {
                let survey = dialect.survey(&dump);
                let files = read_all(&*self.host, &self.scope, &survey.unread).await?;
                (survey, files)
            }
            None => (Survey::default(), self.vhost_texts().await?),
        };
        survey.served.extend(files.iter().flat_map(|(file, text)| dialect.served(file, text)));
        Ok(survey)
    }
}
