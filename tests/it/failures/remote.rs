//! Cases about the way to the host.

use std::time::Duration;

use anyhow::Result;
use support::kedge::Transport;

use super::{done_or_as_before, to_the_other_platform, when};
use crate::scene::Scene;

/// The host stands still for seconds, as on a paused virtual machine. Over SSH only: Docker locks itself up when a container is paused
/// while a `docker exec` begins in it.
pub(super) async fn paused(scene: &mut Scene) -> Result<()> {
    if scene.transport != Transport::Ssh {
        return Ok(());
    }
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.host.pause().await?;
    // The time itself is the case: a pause longer than a command takes.
    tokio::time::sleep(Duration::from_secs(8)).await;
    scene.host.unpause().await?;
    done_or_as_before(scene, &before, &id).await
}

/// The host is switched off in the middle of a command and boots again.
pub(super) async fn rebooted(scene: &mut Scene) -> Result<()> {
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_database").await?;
    scene.host.kill().await?;
    scene.host.boot().await?;
    done_or_as_before(scene, &before, &id).await
}

/// The key is not accepted for a while (SSH only).
pub(super) async fn key_refused(scene: &mut Scene) -> Result<()> {
    if scene.transport != Transport::Ssh {
        return Ok(());
    }
    let before = scene.look().await?;
    let id = scene.face.submit("migrate", &to_the_other_platform(scene)).await?;
    when(scene, &id, "copy_files").await?;
    let keys = "~deploy/.ssh/authorized_keys";
    scene.shell(&format!("mv {keys} {keys}.away; pkill -u deploy sshd; true")).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    scene.shell(&format!("mv {keys}.away {keys}")).await?;
    done_or_as_before(scene, &before, &id).await
}
