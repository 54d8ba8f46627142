//! Finds a usable Docker engine; where none answers and this process is root, installs and starts one.
//! Never stops an engine, and never touches one that runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Result, tail};
use crate::program;
use crate::progress::Progress;

/// How long an engine may take to answer a ping: it is on this machine.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// How long a started engine may take to answer; a first start makes its networks and its store.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a package installation may take, with a slow mirror and another apt holding the lock for a while.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
/// Pause between two looks at a condition that nothing announces.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// A connection to a Docker engine that answers, with the API version negotiated.
#[derive(Debug, Clone)]
pub struct Docker {
    pub(crate) api: bollard::Docker,
}

impl Docker {
    /// Connects to the engine that `DOCKER_HOST` names, or to the local one.
    ///
    /// Where none answers and this process is root, installs `docker.io` by apt-get if there is no `dockerd`, and starts
    /// it detached, so that it outlives this process. Fails with one sentence that says what it cannot do by itself.
    pub async fn ready(progress: &Progress) -> Result<Self> {
        let reason = match Self::connect().await {
            Ok(docker) => return Ok(docker),
            Err(reason) => reason,
        };
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            return Err(Error::NoDocker(format!(
                "the Docker engine that DOCKER_HOST names ({host}) does not answer ({reason}): start it, or unset DOCKER_HOST"
            )));
        }
        if !is_root() {
            return Err(Error::NoDocker(format!(
                "no Docker engine can be used ({reason}) and only root can install or start one: run this as root, or \
                 start Docker and let this user reach its socket"
            )));
        }
        let _lock = lock_machine().await?;
        if let Ok(docker) = Self::connect().await {
            return Ok(docker); // another process has started it meanwhile
        }
        if !program::exists("dockerd") {
            progress.say("installing Docker (docker.io) by apt-get, about 1 minute");
            apt_install(&["docker.io"]).await?;
        }
        start_engine(progress).await
    }

    pub(crate) async fn connect() -> Result<Self, String> {
        let api = bollard::Docker::connect_with_defaults().map_err(|error| error.to_string())?;
        let negotiated = timeout(PING_LIMIT, async { api.negotiate_version().await }).await;
        match negotiated {
            Ok(Ok(api)) => Ok(Self { api }),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("no answer within {} s", PING_LIMIT.as_secs())),
        }
    }
}

/// An error with its sources on one line: bollard's own text often hides the reason.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let reason = source.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        next = source.source();
    }
    text
}

/// Installs packages without asking anything. Only for root.
pub(crate) async fn apt_install(packages: &[&str]) -> Result<()> {
    if !program::exists("apt-get") {
        return Err(Error::NoDocker(format!(
            "this machine has no apt-get to install {} with: install it by hand",
            packages.join(" and ")
        )));
    }
    let apt = |doing: &str, arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        let doing = doing.to_owned();
        async move { program::run(&doing, &mut command, b"", INSTALL_LIMIT).await.map(drop) }
    };
    apt("apt-get update", &["update"]).await?;
    let install = [&["install", "--no-install-recommends"], packages].concat();
    apt(&format!("installing {} by apt-get", packages.join(" and ")), &install).await
}

async fn start_engine(progress: &Progress) -> Result<Docker> {
    progress.say("starting the Docker engine, a few seconds");
    let log = std::env::temp_dir().join("kedge-testenv-dockerd.log");
    let mut child = if Path::new("/run/systemd/system").is_dir() {
        let mut command = Command::new("systemctl");
        program::run("starting docker.service", command.args(["start", "docker"]), b"", START_LIMIT).await?;
        None
    } else {
        Some(spawn_engine(&log)?)
    };
    let begin = Instant::now();
    loop {
        let reason = match Docker::connect().await {
            Ok(docker) => return Ok(docker),
            Err(reason) => reason,
        };
        let ended = match &mut child {
            Some(child) => child.try_wait().map_err(Error::io("dockerd"))?,
            None => None,
        };
        if ended.is_some() || begin.elapsed() > START_LIMIT {
            let said = std::fs::read(&log).map(|text| tail(&text)).unwrap_or_default();
            let how = ended.map_or_else(|| reason, |status| format!("dockerd ended with {status}"));
            return Err(Error::NoDocker(format!(
                "the Docker engine cannot run on this machine ({how}); its log {} ends with: {said}",
                log.display()
            )));
        }
        sleep(POLL).await;
    }
}

/// Starts `dockerd` in a session of its own: it ends neither with this process nor with its terminal. It chooses the
/// storage driver itself (overlay2 where the machine has it, else vfs) and brings its own containerd.
fn spawn_engine(log: &PathBuf) -> Result<Child> {
    let file = File::options().create(true).append(true).open(log).map_err(Error::io(log))?;
    let copy = file.try_clone().map_err(Error::io(log))?;
    Command::new("setsid")
        .arg("dockerd")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .map_err(|error| Error::Program { doing: "starting dockerd".into(), detail: error.to_string() })
}

/// The effective user of this process, by `/proc/self/status` (proc(5)).
fn effective_user() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// Tells whether this process may install packages and start an engine.
pub(crate) fn is_root() -> bool {
    effective_user() == Some(0)
}

/// One preparation at a time on this machine: two test programs that start together must not both install, start or
/// build. Released when the file is dropped, also by a crash.
pub(crate) async fn lock_machine() -> Result<File> {
    // One file for each user: another's cannot be opened for writing.
    let user = effective_user().map_or_else(|| "unknown".to_owned(), |user| user.to_string());
    let path = std::env::temp_dir().join(format!("kedge-testenv-{user}.lock"));
    let wait = move || {
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path))?;
        file.lock().map_err(Error::io(&path))?;
        Ok(file)
    };
    tokio::task::spawn_blocking(wait)
        .await
        .map_err(|error| Error::Program { doing: "waiting for the lock".into(), detail: error.to_string() })?
}
