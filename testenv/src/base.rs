//! The base image of a release: one that is at hand, else one that is pulled, else one made from packages.

use std::time::Duration;

use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder};
use futures::StreamExt;
use tokio::process::Command;

use crate::apt::Machine;
use crate::docker::{Docker, apt_install, is_root};
use crate::error::{Error, Result};
use crate::program;
use crate::progress::Progress;

/// What registries call small images of Debian; the tag is the release and this.
const PUBLIC: (&str, &str) = ("debian", "-slim");
/// What we call those that we make; the tag is the release.
const OWN: &str = "kedge-testenv-base";
/// A pull of 30 MB that takes longer than this is slower than making the image.
const PULL_LIMIT: Duration = Duration::from_secs(90);
/// Fetching and unpacking some 150 packages from a slow mirror.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(600);

/// Gives the name of a base image, making one where none can be had. A refused pull is final and costs no retries.
pub(crate) async fn base_image(
    docker: &Docker,
    machine: &Machine,
    suite: &str,
    progress: &Progress,
) -> Result<String> {
    for image in [public(suite), format!("{OWN}:{suite}")] {
        if docker.has_image(&image).await? {
            return Ok(image);
        }
    }
    match pull(docker, suite).await {
        Ok(image) => Ok(image),
        Err(reason) => {
            tracing::debug!(target: "kedge_testenv", %reason, "no base image can be pulled");
            progress
                .say(format!("making the base image ({suite}) from packages, half a minute to two minutes"));
            bootstrap(docker, machine, suite).await
        }
    }
}

fn public(suite: &str) -> String {
    format!("{}:{suite}{}", PUBLIC.0, PUBLIC.1)
}

async fn pull(docker: &Docker, suite: &str) -> Result<String, String> {
    let tag = format!("{suite}{}", PUBLIC.1);
    let options = CreateImageOptionsBuilder::default().from_image(PUBLIC.0).tag(&tag).build();
    let mut stream = docker.api.create_image(Some(options), None, None);
    let all = async {
        while let Some(step) = stream.next().await {
            step.map_err(|error| error.to_string())?;
        }
        Ok(public(suite))
    };
    tokio::time::timeout(PULL_LIMIT, all).await.map_err(|_| "too slow".to_owned())?
}

async fn bootstrap(docker: &Docker, machine: &Machine, suite: &str) -> Result<String> {
    if !program::exists("mmdebstrap") {
        if !is_root() {
            return Err(Error::NoDocker(format!(
                "{} can neither be pulled nor be made without mmdebstrap: install mmdebstrap, or run this as root",
                public(suite)
            )));
        }
        apt_install(&["mmdebstrap", "debian-archive-keyring"]).await?;
    }
    let work = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let tarball = work.path().join("base.tar");
    let settings = work.path().join("apt.conf");
    std::fs::write(&settings, &machine.acquire).map_err(Error::io(&settings))?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--include=ca-certificates"]);
    command.arg(format!("--aptopt={}", settings.display())).arg(suite).arg(&tarball);
    // With `-` it reads its sources from standard input; without, it takes Debian's own.
    let sources = machine.sources.as_ref().map(|sources| sources.render(suite));
    if sources.is_some() {
        command.arg("-");
    }
    let stdin = sources.unwrap_or_default();
    program::run("making the base image with mmdebstrap", &mut command, stdin.as_bytes(), BOOTSTRAP_LIMIT)
        .await?;

    let file = tokio::fs::File::open(&tarball).await.map_err(Error::io(&tarball))?;
    let body = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
    // Imported under a name of its own and tagged when whole: a broken import leaves no image that looks right.
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(OWN).tag("importing").build();
    let mut stream = docker.api.create_image(Some(options), Some(bollard::body_try_stream(body)), None);
    while let Some(step) = stream.next().await {
        step.map_err(Error::docker("importing the base image"))?;
    }
    let importing = format!("{OWN}:importing");
    let tag = TagImageOptionsBuilder::default().repo(OWN).tag(suite).build();
    docker.api.tag_image(&importing, Some(tag)).await.map_err(Error::docker("tagging the base image"))?;
    let removal = docker.api.remove_image(&importing, None::<RemoveImageOptions>, None).await;
    removal.map_err(Error::docker("removing the tag of the import"))?;
    Ok(format!("{OWN}:{suite}"))
}
