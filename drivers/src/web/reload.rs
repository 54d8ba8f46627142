//! Makes a web server take its files, and waits until it has: a reload is done when the server answers with the new revision on every
//! fresh connection, not when a command returned 0. Never starts a server that is not running, never reloads an invalid configuration.

use std::time::Duration;

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{ConfigTest, PortError, PortResult, WebServer};
use tokio::time::{Instant, sleep, timeout};

use super::curl::Said;
use super::server::VhostServer;
use super::vhost::is_revision_of;

/// A reload command only sends a signal; a service manager waits for a hook.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);
/// Answers in a row, each on a fresh connection, that must be new: the kernel spreads connections over all workers that listen.
const IN_A_ROW: usize = 8;
/// Between the first new answer and that row: nginx lets its old workers take connections for 100 ms beside the new ones.
const SETTLE: Duration = Duration::from_millis(150);
/// Pauses between questions: short at first, since a reload usually takes some ten milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What must be answered for a site.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// This revision.
    Revision(String),
    /// Anything but a revision of this site, also nothing.
    None,
}

impl Wanted {
    fn is_met(&self, site: &SiteName, said: &Said) -> bool {
        match self {
            Self::Revision(revision) => said.status == 200 && said.body == *revision,
            Self::None if said.status == 0 => said.refused,
            Self::None => said.status != 200 || !is_revision_of(site, &said.body),
        }
    }
}

impl VhostServer {
    /// Brings about that the server answers what a site's file says.
    pub(super) async fn reload_for(&self, site: &SiteName, revision: Option<&str>) -> PortResult<()> {
        let wanted = self.wanted(site, revision).await?;
        let error = match self.test_and_reload().await {
            Ok(ConfigTest::Valid) => return self.await_answer(site, &wanted).await,
            Ok(ConfigTest::Invalid { culprit, message }) => {
                let own = culprit.as_deref() == Some(self.file_of(site).as_str());
                let place = culprit.map(|file| format!(" (in {file})")).unwrap_or_default();
                let what = self.what();
                let told = format!("{what} was not reloaded, its configuration is invalid{place}: {message}");
                if own {
                    return Err(PortError::Refused(told));
                }
                // Somebody else's mistake, which somebody mends: who has to go on waits for that.
                PortError::Unavailable(told)
            }
            Err(error) => error,
        };
        // Undone before it was ever taken: what the server runs with is what is on disk, as far as this site goes.
        let settled = self.is_on_disk(site, &wanted).await? && self.is_answered(site, &wanted).await?;
        if settled { Ok(()) } else { Err(error) }
    }

    /// Tests, and reloads what is valid: once for all who ask meanwhile.
    async fn test_and_reload(&self) -> PortResult<ConfigTest> {
        self.shared
            .reloads
            .run(async || {
                let _alone = self.shared.writing.write().await;
                let test = self.tested().await?;
                if test == ConfigTest::Valid {
                    self.reload_now().await?;
                }
                Ok(test)
            })
            .await
    }

    async fn reload_now(&self) -> PortResult<()> {
        let argv = self.reload_command().await?;
        let finished = self.run(argv, RELOAD_LIMIT).await?;
        if finished.status != 0 {
            let (what, status) = (self.what(), finished.status);
            return Err(PortError::Unavailable(format!(
                "reload of {what}: exit status {status}: {}",
                finished.last_error()
            )));
        }
        Ok(())
    }

    /// The configured command, else through systemd where it runs the server, else the server's own.
    async fn reload_command(&self) -> PortResult<Vec<String>> {
        if let Some(argv) = &self.shared.config.reload_command {
            return Ok(argv.clone());
        }
        if self.tools().await?.systemd {
            for unit in self.shared.dialect.units() {
                let ask = ["systemctl", "is-active", "--quiet", unit].map(str::to_owned).to_vec();
                if self.run(ask, RELOAD_LIMIT).await?.status == 0 {
                    return Ok(["systemctl", "reload", unit].map(str::to_owned).to_vec());
                }
            }
        }
        self.is_running().await?;
        self.control(self.shared.dialect.reload()).await
    }

    /// Where the server's own reload would start it: asks first.
    async fn is_running(&self) -> PortResult<()> {
        /// Prints the name of the process whose id is in a file.
        const NAME: &str = r#"read -r pid <"$1" && cat "/proc/$pid/comm""#;
        let dialect = self.shared.dialect;
        let dump = self.dump().await?.unwrap_or_default();
        let Some(pid_file) = dialect.pid_file(&dump) else { return Ok(()) };
        let argv = ["sh", "-c", NAME, "kedge-running", &pid_file].map(str::to_owned).to_vec();
        let finished = self.run(argv, RELOAD_LIMIT).await?;
        let name = String::from_utf8_lossy(&finished.stdout);
        if finished.status != 0 || !dialect.processes().contains(&name.trim()) {
            return Err(PortError::Unavailable(format!(
                "{} is not running (no process by {pid_file}); start it",
                self.what()
            )));
        }
        Ok(())
    }

    /// What is to be answered. Without a revision: that of the file on disk if it has one, else none of this site's.
    async fn wanted(&self, site: &SiteName, revision: Option<&str>) -> PortResult<Wanted> {
        let revision = match revision {
            Some(revision) => Some(revision.to_owned()),
            None => self.revision_on_disk(site).await?,
        };
        Ok(revision.map_or(Wanted::None, Wanted::Revision))
    }

    async fn revision_on_disk(&self, site: &SiteName) -> PortResult<Option<String>> {
        let file = self.read(&self.file_of(site)).await?;
        Ok(file.and_then(|file| self.revision_in(&file.bytes)))
    }

    async fn is_on_disk(&self, site: &SiteName, wanted: &Wanted) -> PortResult<bool> {
        let on_disk = self.revision_on_disk(site).await?;
        Ok(match wanted {
            Wanted::Revision(revision) => on_disk.as_ref() == Some(revision),
            Wanted::None => on_disk.is_none(),
        })
    }

    async fn is_answered(&self, site: &SiteName, wanted: &Wanted) -> PortResult<bool> {
        let said = self.curl().revisions(site, IN_A_ROW).await?;
        Ok(said.len() == IN_A_ROW && said.iter().all(|said| wanted.is_met(site, said)))
    }

    /// Waits until it is answered on every fresh connection. A question that was asked in time counts, however long a busy host
    /// takes for it: curl and the command have limits of their own.
    async fn await_answer(&self, site: &SiteName, wanted: &Wanted) -> PortResult<()> {
        let deadline = Instant::now() + self.shared.config.revision_limit;
        let (curl, mut pause, mut times) = (self.curl(), FIRST_PAUSE, 1);
        loop {
            let said = curl.revisions(site, times).await?;
            let unmet = said.iter().find(|said| !wanted.is_met(site, said));
            let met = said.len() == times && unmet.is_none();
            if met && times == IN_A_ROW {
                return Ok(());
            }
            if met {
                times = IN_A_ROW; // the first one is there: now all of them
                sleep(SETTLE).await;
                continue;
            }
            if Instant::now() >= deadline {
                return Err(PortError::Unavailable(self.diagnosis(site, wanted, unmet).await));
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Why the revision is not answered, as far as can be seen.
    async fn diagnosis(&self, site: &SiteName, wanted: &Wanted, last: Option<&Said>) -> String {
        let (what, own) = (self.what(), self.file_of(site));
        let limit = self.shared.config.revision_limit;
        let answer = match last {
            Some(Said { status: 0, .. }) | None => "no answer".to_owned(),
            Some(said) if is_revision_of(site, &said.body) => format!("the old revision {}", said.body),
            Some(said) => format!("status {}", said.status),
        };
        let begun = format!(
            "{what} did not take the new configuration of {site} within {limit:?} (at the end: {answer})"
        );
        let reason = match timeout(RELOAD_LIMIT, self.survey()).await {
            Ok(Ok(survey)) if *wanted != Wanted::None => {
                let server = super::served::by_any(&survey.served, site, self.shared.config.listen_port);
                match server {
                    Some(file) if file != own => format!(": {site} is served by {file}"),
                    None if !survey.files.contains(&own) => {
                        format!(": {own} is not part of its configuration; check vhost_dir")
                    }
                    _ => "; its error log may tell why".to_owned(),
                }
            }
            _ => "; its error log may tell why".to_owned(),
        };
        begun + &reason
    }
}
