//! The base image: a bookworm that is at hand, else one that is pulled, else one made from packages.

use std::time::Duration;

use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder};
use futures::StreamExt;
use tokio::process::Command;

use crate::apt::Machine;
use crate::docker::{Docker, apt_install, is_root};
use crate::error::{Error, Result};
use crate::program;
use crate::progress::Progress;

/// The release that test hosts run.
pub(crate) const SUITE: &str = "bookworm";
/// What registries call its small image.
const PUBLIC: (&str, &str) = ("debian", "bookworm-slim");
/// What we call the one that we make.
const OWN: (&str, &str) = ("kedge-testenv-base", SUITE);
/// A pull of 30 MB that takes longer than this is slower than making the image.
const PULL_LIMIT: Duration = Duration::from_secs(90);
/// Fetching and unpacking some 150 packages from a slow mirror.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(600);

/// Gives the name of a base image, making one where none can be had. A refused pull is final and costs no retries.
pub(crate) async fn base_image(docker: &Docker, machine: &Machine, progress: &Progress) -> Result<String> {
    for (name, tag) in [PUBLIC, OWN] {
        let image = format!("{name}:{tag}");
        if docker.has_image(&image).await? {
            return Ok(image);
        }
    }
    match pull(docker).await {
        Ok(image) => Ok(image),
        Err(reason) => {
            tracing::debug!(target: "kedge_testenv", %reason, "no base image can be pulled");
            progress
                .say(format!("making the base image ({SUITE}) from packages, half a minute to two minutes"));
            bootstrap(docker, machine).await
        }
    }
}

async fn pull(docker: &Docker) -> Result<String, String> {
    let (name, tag) = PUBLIC;
    let options = CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
    let mut stream = docker.api.create_image(Some(options), None, None);
    let all = async {
        while let Some(step) = stream.next().await {
            step.map_err(|error| error.to_string())?;
        }
        Ok(format!("{name}:{tag}"))
    };
    tokio::time::timeout(PULL_LIMIT, all).await.map_err(|_| "too slow".to_owned())?
}

async fn bootstrap(docker: &Docker, machine: &Machine) -> Result<String> {
    if !program::exists("mmdebstrap") {
        if !is_root() {
            return Err(Error::NoDocker(format!(
                "{}:{} can neither be pulled nor be made without mmdebstrap: install mmdebstrap, or run this as root",
                PUBLIC.0, PUBLIC.1
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
    command.arg(format!("--aptopt={}", settings.display())).arg(SUITE).arg(&tarball);
    // With `-` it reads its sources from standard input; without, it takes Debian's own.
    let sources = machine.sources.as_ref().map(|sources| sources.render(SUITE));
    if sources.is_some() {
        command.arg("-");
    }
    let stdin = sources.unwrap_or_default();
    program::run("making the base image with mmdebstrap", &mut command, stdin.as_bytes(), BOOTSTRAP_LIMIT)
        .await?;

    let file = tokio::fs::File::open(&tarball).await.map_err(Error::io(&tarball))?;
    let body = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
    // Imported under a name of its own and tagged when whole: a broken import leaves no image that looks right.
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(OWN.0).tag("importing").build();
    let mut stream = docker.api.create_image(Some(options), Some(bollard::body_try_stream(body)), None);
    while let Some(step) = stream.next().await {
        step.map_err(Error::docker("importing the base image"))?;
    }
    let importing = format!("{}:importing", OWN.0);
    let tag = TagImageOptionsBuilder::default().repo(OWN.0).tag(OWN.1).build();
    docker.api.tag_image(&importing, Some(tag)).await.map_err(Error::docker("tagging the base image"))?;
    let removal = docker.api.remove_image(&importing, None::<RemoveImageOptions>, None).await;
    removal.map_err(Error::docker("removing the tag of the import"))?;
    Ok(format!("{}:{}", OWN.0, OWN.1))
}
