//! Removes what runs have made: at the end of a run, in `Drop`, and after a crash. Never anything without our label.

use std::collections::HashMap;
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
/// What a `Drop` waits for at most before it leaves the rest to the next sweep.
const DROP_LIMIT: Duration = Duration::from_secs(30);

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
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let result = self.api.remove_container(name, Some(options)).await;
            results.push(gone(result).map_err(Error::docker(format!("removing the container {name}"))));
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
}

/// Absent is what was wanted; and a removal that somebody else has begun will end without us.
fn gone(result: Result<(), Api>) -> Result<(), Api> {
    match result {
        Err(Api::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(Api::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(())
        }
        other => other,
    }
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
