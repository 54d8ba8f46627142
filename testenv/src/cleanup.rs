//! Removes what runs have made: at the end of a run, in `Drop`, and after a crash. Never anything without our label.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error as Api;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};

use crate::docker::Docker;
use crate::error::{Error, Result};
use crate::owner::Owner;

/// On every container, network and volume of ours: the id of the run.
pub const LABEL: &str = "kedge.testenv";
/// Beside it: the process that owns the run.
pub(crate) const OWNER_LABEL: &str = "kedge.testenv.owner";
/// How the directories of runs are called, in the system's directory for temporary files.
pub(crate) const DIRECTORY_PREFIX: &str = "kedge-testenv.";
/// In such a directory: the process that owns the run.
pub(crate) const OWNER_FILE: &str = "owner";
/// What a `Drop` waits for at most before it leaves the rest to the next sweep.
const DROP_LIMIT: Duration = Duration::from_secs(30);
/// How long another sweep is given to remove a container that both have found.
const OTHER_SWEEP: Duration = Duration::from_secs(60);
/// Pause between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// Things in Docker, by name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Things {
    /// Containers, removed first: the others are in use by them.
    pub containers: Vec<String>,
    /// Networks.
    pub networks: Vec<String>,
    /// Volumes.
    pub volumes: Vec<String>,
}

impl Docker {
    /// Removes the containers, networks and volumes of every run whose owner has ended without doing so, as after a
    /// crash. Says what it removed. Leaves alone what lives, and what is not ours.
    pub async fn sweep(&self) -> Result<Things> {
        let here = Owner::this()?;
        let gone = |labels: &HashMap<String, String>| {
            labels
                .get(OWNER_LABEL)
                .and_then(|text| Owner::parse(text))
                .is_some_and(|owner| owner.is_gone(&here))
        };
        let things = self.find(LABEL, gone).await?;
        self.remove(&things).await?;
        Ok(things)
    }

    /// What a run has in Docker now.
    pub async fn things_of(&self, run_id: &str) -> Result<Things> {
        self.find(&format!("{LABEL}={run_id}"), |_| true).await
    }

    /// Finds what carries `label` (`name` or `name=value`) and labels that `wanted` accepts.
    async fn find(&self, label: &str, wanted: impl Fn(&HashMap<String, String>) -> bool) -> Result<Things> {
        let filters = HashMap::from([("label", vec![label])]);
        let mut things = Things::default();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers =
            self.api.list_containers(Some(options)).await.map_err(Error::docker("listing containers"))?;
        for container in containers {
            if container.labels.as_ref().is_some_and(&wanted) {
                things.containers.extend(container.id);
            }
        }
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let networks =
            self.api.list_networks(Some(options)).await.map_err(Error::docker("listing networks"))?;
        for network in networks {
            if network.labels.as_ref().is_some_and(&wanted) {
                things.networks.extend(network.id);
            }
        }
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let volumes = self.api.list_volumes(Some(options)).await.map_err(Error::docker("listing volumes"))?;
        for volume in volumes.volumes.unwrap_or_default() {
            if wanted(&volume.labels) {
                things.volumes.push(volume.name);
            }
        }
        Ok(things)
    }

    /// Removes all of them, whatever state they are in. What is already gone counts as removed. Tries everything before
    /// it reports the first failure.
    pub(crate) async fn remove(&self, things: &Things) -> Result<()> {
        let mut results = Vec::new();
        for name in &things.containers {
            let removed = self.remove_container(name).await;
            results.push(removed.map_err(Error::docker(format!("removing the container {name}"))));
        }
        for name in &things.networks {
            let result = self.api.remove_network(name).await;
            results.push(gone(result).map_err(Error::docker(format!("removing the network {name}"))));
        }
        for name in &things.volumes {
            let result = self.api.remove_volume(name, None::<RemoveVolumeOptions>).await;
            results.push(gone(result).map_err(Error::docker(format!("removing the volume {name}"))));
        }
        results.into_iter().collect()
    }

    /// Removes a container. One that another sweep is removing is waited for: its network and volumes are in use until then.
    async fn remove_container(&self, name: &str) -> Result<(), Api> {
        let end = tokio::time::Instant::now() + OTHER_SWEEP;
        loop {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let removed = self.api.remove_container(name, Some(options)).await;
            let waits = matches!(
                &removed,
                Err(Api::DockerResponseServerError { status_code: 409, message }) if message.contains("already in progress")
            );
            if !waits || tokio::time::Instant::now() > end {
                return gone(removed);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Absent is what was wanted.
fn gone(result: Result<(), Api>) -> Result<(), Api> {
    match result {
        Err(Api::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        other => other,
    }
}

/// Removes the directories of runs whose owner has ended: a killed process leaves its own. `parent` is where runs make
/// them; only real directories of this user are looked at.
pub(crate) fn sweep_directories(parent: &Path) -> Result<()> {
    let here = Owner::this()?;
    let ours = std::fs::metadata("/proc/self").map_err(Error::io("/proc/self"))?.uid();
    for entry in std::fs::read_dir(parent).map_err(Error::io(parent))? {
        let entry = entry.map_err(Error::io(parent))?;
        let path = entry.path();
        let named = entry.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX);
        let real = std::fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir() && data.uid() == ours);
        if !named || !real {
            continue;
        }
        // A directory without its mark is being made this very moment, or being removed by another sweep.
        let Ok(mark) = std::fs::read_to_string(path.join(OWNER_FILE)) else { continue };
        if Owner::parse(&mark).is_some_and(|owner| owner.is_gone(&here)) {
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(&path)(error));
                }
                _ => (),
            }
        }
    }
    Ok(())
}

/// Removes things from a `Drop`: on a thread with a runtime of its own, since the caller's may be gone or be this very
/// thread. What fails here is logged, and left to the next sweep.
pub(crate) fn remove_blocking(things: Things) {
    let (done, wait) = std::sync::mpsc::channel();
    let names = format!("{things:?}");
    std::thread::spawn(move || {
        let removed =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string());
        let result = removed.and_then(|runtime| {
            runtime.block_on(async {
                let docker = Docker::connect().await?;
                docker.remove(&things).await.map_err(|error| error.to_string())
            })
        });
        // The receiver is gone only when it has given up waiting and has said so.
        let _ = done.send(result);
    });
    let result = wait.recv_timeout(DROP_LIMIT).unwrap_or_else(|error| Err(error.to_string()));
    if let Err(reason) = result {
        tracing::warn!(target: "kedge_testenv", %reason, %names, "left to the next sweep");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_ended_owners_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Owner::this().unwrap().to_string();
        let (pid, rest) = alive.split_once(' ').unwrap();
        let (start, rest) = rest.split_once(' ').unwrap();
        let ended = format!("{pid} {} {rest}", start.parse::<u64>().unwrap() + 1);
        for (name, mark) in [("kedge-testenv.a", &ended), ("kedge-testenv.b", &alive), ("other.c", &ended)] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
            std::fs::write(parent.path().join(name).join(OWNER_FILE), mark).unwrap();
        }
        std::fs::create_dir(parent.path().join("kedge-testenv.unmarked")).unwrap();
        std::os::unix::fs::symlink("other.c", parent.path().join("kedge-testenv.link")).unwrap();
        sweep_directories(parent.path()).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["kedge-testenv.b", "kedge-testenv.link", "kedge-testenv.unmarked", "other.c"]);
        assert!(parent.path().join("other.c").join(OWNER_FILE).exists());
    }
}
