//! One run of the test environment: the engine, the image, a key pair and a network that its hosts share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use tempfile::TempDir;
use tokio::process::Command;

use crate::cleanup::{
    DIRECTORY_PREFIX, LABEL, OWNER_FILE, OWNER_LABEL, Things, remove_blocking, sweep_directories,
};
use crate::docker::{Docker, apt_install, is_root};
use crate::error::{Error, Result};
use crate::image::{HOST, MYSQL};
use crate::owner::Owner;
use crate::program;
use crate::progress::Progress;

/// A run: everything that is started through it carries its id and is removed when the last handle is dropped.
///
/// Rust never drops statics: a run kept in one is removed by the next run's sweep, once this process has ended.
#[derive(Debug, Clone)]
pub struct Testenv {
    pub(crate) run: Arc<Run>,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) docker: Docker,
    pub(crate) image: String,
    progress: Progress,
    pub(crate) id: String,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) network: String,
    dir: TempDir,
    removed: AtomicBool,
}

impl Testenv {
    /// Makes this machine ready (engine, image), removes what crashed runs have left, and opens a run.
    ///
    /// The first time on a bare machine this takes two to six minutes; later some 100 ms.
    pub async fn open(progress: &Progress) -> Result<Self> {
        let docker = Docker::ready(progress).await?;
        match docker.sweep().await {
            Ok(swept) if swept == Things::default() => {}
            Ok(swept) => {
                progress
                    .say(format!("removed {} containers of runs that had crashed", swept.containers.len()));
            }
            // Names and ports of this run are its own: leftovers that resist (a container that Docker itself has lost hold of) only
            // take room, and must not stop everybody's work.
            Err(error) => progress.say(format!("left to the next sweep: {error}")),
        }
        sweep_directories(&std::env::temp_dir())?;
        let image = docker.image(&HOST, progress).await?;
        let owner = Owner::this()?;
        let id = format!("{:08x}", rand::random::<u32>());
        let dir = tempfile::Builder::new().prefix(DIRECTORY_PREFIX).tempdir();
        let dir = dir.map_err(Error::io(std::env::temp_dir()))?;
        let mark = dir.path().join(OWNER_FILE);
        std::fs::write(&mark, owner.to_string()).map_err(Error::io(&mark))?;
        make_key(dir.path()).await?;
        let labels =
            HashMap::from([(LABEL.to_owned(), id.clone()), (OWNER_LABEL.to_owned(), owner.to_string())]);
        let network = format!("kedge-{id}");
        // The handle comes first: if the network fails, its drop finds nothing to remove.
        let removed = AtomicBool::new(false);
        let progress = progress.clone();
        let run = Run { docker, image, progress, id, labels, network, dir, removed };
        let request = NetworkCreateRequest {
            name: run.network.clone(),
            labels: Some(run.labels.clone()),
            ..NetworkCreateRequest::default()
        };
        run.docker
            .api
            .create_network(request)
            .await
            .map_err(Error::docker("creating the network of the run"))?;
        Ok(Self { run: Arc::new(run) })
    }

    /// The id of the run: the value of the label on everything that it started.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run.id
    }

    /// The engine.
    #[must_use]
    pub fn docker(&self) -> &Docker {
        &self.run.docker
    }

    /// Name of the image that hosts are started from.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.run.image
    }

    /// Removes the network of the run; shut its hosts down first. Dropping does the same, but cannot say what failed.
    pub async fn shutdown(self) -> Result<()> {
        self.run.removed.store(true, Ordering::SeqCst);
        self.run.docker.remove(&self.run.things()).await
    }
}

impl Run {
    /// Name of the image with MySQL, which is made first where it is missing.
    pub(crate) async fn mysql_image(&self) -> Result<String> {
        self.docker.image(&MYSQL, &self.progress).await
    }

    /// A directory (mode 0700) for the files of the run.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The private key that every host of the run accepts.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir().join("id_ed25519")
    }

    fn things(&self) -> Things {
        Things { networks: vec![self.network.clone()], ..Things::default() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.removed.load(Ordering::SeqCst) {
            remove_blocking(self.things());
        }
    }
}

async fn make_key(dir: &Path) -> Result<()> {
    if !program::exists("ssh-keygen") {
        if !is_root() {
            return Err(Error::NoDocker("test hosts need ssh-keygen: install openssh-client".into()));
        }
        apt_install(&["openssh-client"]).await?;
    }
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "kedge-testenv", "-f"]).arg(dir.join("id_ed25519"));
    program::run("making a key pair with ssh-keygen", &mut command, b"", Duration::from_secs(20))
        .await
        .map(drop)
}
