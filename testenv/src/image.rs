//! The images of hosts: their recipes, their names made from the recipes' hashes, and their build. It never deletes an image.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder};
use futures::StreamExt;
use sha2::{Digest, Sha256};

use crate::apt::{ImageFile, Machine, UNSTABLE};
use crate::base::base_image;
use crate::docker::{Docker, lock_machine};
use crate::error::{Error, Result, tail};
use crate::progress::Progress;

/// Label of host images: the hash of the recipe.
const RECIPE_LABEL: &str = "kedge.testenv.recipe";
/// A build from bare takes about two minutes; a slow mirror may take ten times that.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// How much of a build's output is kept for an error.
const LOG_BOUND: usize = 64 * 1024;

macro_rules! recipe {
    ($($path:literal $mode:literal),* $(,)?) => {
        &[$(RecipeFile { path: $path, mode: $mode, content: include_bytes!(concat!("../image/", $path)) }),*]
    };
}

struct RecipeFile {
    path: &'static str,
    mode: u32,
    content: &'static [u8],
}

/// How an image is made.
pub(crate) struct Recipe {
    /// What it is called; the tag comes from the hash.
    repository: &'static str,
    /// The release of Debian that it is made from.
    suite: &'static str,
    /// The Dockerfile within the context.
    dockerfile: &'static str,
    /// What is told before it is built.
    says: &'static str,
    files: &'static [RecipeFile],
}

/// The image of ordinary hosts.
pub(crate) const HOST: Recipe = Recipe {
    repository: "kedge-testenv-host",
    suite: "bookworm",
    dockerfile: "Dockerfile",
    says: "building the host image (web server, PHP, MariaDB, two WordPress platforms), 1 to 4 minutes",
    files: recipe![
        "Dockerfile" 0o644,
        "packages.sh" 0o755,
        "platforms.sh" 0o755,
        "configure.sh" 0o755,
        "rootfs/usr/local/sbin/kedge-init" 0o755,
        "rootfs/usr/local/sbin/kedge-service" 0o755,
        "rootfs/usr/share/kedge-testenv/php.ini" 0o644,
        "rootfs/usr/share/kedge-testenv/prepend.php" 0o644,
        "rootfs/etc/nginx/sites-available/default" 0o644,
        "rootfs/etc/apache2/sites-available/000-default.conf" 0o644,
        "rootfs/etc/mysql/mariadb.conf.d/99-kedge-testenv.cnf" 0o644,
        "rootfs/etc/ssh/sshd_config.d/kedge-testenv.conf" 0o644,
    ],
};

/// The image of database hosts with Oracle's MySQL, which only the unstable release has.
pub(crate) const MYSQL: Recipe = Recipe {
    repository: "kedge-testenv-mysql",
    suite: UNSTABLE,
    dockerfile: "mysql/Dockerfile",
    says: "building the image of hosts with MySQL 9, 1 to 2 minutes",
    files: recipe![
        "mysql/Dockerfile" 0o644,
        "mysql/packages.sh" 0o755,
        "mysql/configure.sh" 0o755,
        "mysql/rootfs/etc/mysql/mysql.conf.d/zz-kedge-testenv.cnf" 0o644,
        "rootfs/usr/local/sbin/kedge-init" 0o755,
        "rootfs/usr/local/sbin/kedge-service" 0o755,
        "rootfs/etc/ssh/sshd_config.d/kedge-testenv.conf" 0o644,
    ],
};

impl Docker {
    /// Gives the name of an image, and builds it first where this recipe (with this machine's package sources) has
    /// not been built yet: about two minutes from bare.
    pub(crate) async fn image(&self, recipe: &Recipe, progress: &Progress) -> Result<String> {
        let machine = Machine::read().await?;
        let files = machine.image_files(recipe.suite);
        let hash = recipe_hash(recipe.files, &files);
        let image = format!("{}:{}", recipe.repository, &hash[..12]);
        if self.has_image(&image).await? {
            return Ok(image);
        }
        let _lock = lock_machine().await?;
        if self.has_image(&image).await? {
            return Ok(image); // another process has built it meanwhile
        }
        let base = base_image(self, &machine, recipe.suite, progress).await?;
        progress.say(recipe.says);
        let arguments = build_arguments(&base);
        let options = BuildImageOptionsBuilder::default()
            .dockerfile(recipe.dockerfile)
            .t(&image)
            .buildargs(&arguments)
            .labels(&[(RECIPE_LABEL.to_owned(), hash.clone())].into())
            // The machine's own network: its proxies and mirrors may listen on loopback only.
            .networkmode("host")
            .rm(true)
            .forcerm(true)
            .build();
        self.build(&image, options, context(recipe.files, &files)?, progress).await?;
        Ok(image)
    }

    pub(crate) async fn has_image(&self, image: &str) -> Result<bool> {
        match self.api.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(Error::docker(format!("looking for the image {image}"))(error)),
        }
    }

    async fn build(
        &self,
        image: &str,
        options: BuildImageOptions,
        context: Vec<u8>,
        progress: &Progress,
    ) -> Result<()> {
        let mut stream = self.api.build_image(options, None, Some(bollard::body_full(context.into())));
        let mut log = Vec::new();
        let work = async {
            while let Some(step) = stream.next().await {
                match step {
                    Ok(BuildInfo { stream: Some(text), .. }) => report_step(&mut log, &text, progress),
                    Ok(_) => (),
                    Err(bollard::errors::Error::DockerStreamError { error }) => {
                        let detail = format!("{error}\n{}", tail(&log));
                        return Err(Error::Build { image: image.to_owned(), detail });
                    }
                    Err(error) => return Err(Error::docker(format!("building {image}"))(error)),
                }
            }
            Ok(())
        };
        let result = tokio::time::timeout(BUILD_LIMIT, work).await;
        result.unwrap_or_else(|_| {
            let detail = format!("it did not end within {} s\n{}", BUILD_LIMIT.as_secs(), tail(&log));
            Err(Error::Build { image: image.to_owned(), detail })
        })?;
        if self.has_image(image).await? {
            return Ok(());
        }
        Err(Error::Build {
            image: image.to_owned(),
            detail: format!("Docker named no image\n{}", tail(&log)),
        })
    }
}

/// What a build is told: its base, and the proxies of this machine, which Docker knows by name and leaves out of the image.
fn build_arguments(base: &str) -> HashMap<String, String> {
    let mut arguments = HashMap::from([("BASE".to_owned(), base.to_owned())]);
    for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        arguments.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    arguments
}

/// Keeps the end of the log, and tells of the stages that take long.
fn report_step(log: &mut Vec<u8>, text: &str, progress: &Progress) {
    log.extend_from_slice(text.as_bytes());
    if log.len() > LOG_BOUND {
        log.drain(..log.len() - LOG_BOUND);
    }
    match text.trim() {
        step if !step.starts_with("Step ") => (),
        step if step.ends_with("packages.sh") && step.contains("RUN") => {
            progress.say("  installing its packages")
        }
        step if step.ends_with("platforms.sh") && step.contains("RUN") => {
            progress.say("  unpacking WordPress 6.1 and 6.8")
        }
        step if step.contains("configure.sh") && step.contains("RUN") => {
            progress.say("  configuring its services")
        }
        _ => (),
    }
}

/// Over everything that decides what is in the image, each part framed by its length.
fn recipe_hash(recipe: &[RecipeFile], machine: &[ImageFile]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for file in recipe {
        part(file.path.as_bytes());
        part(&file.mode.to_be_bytes());
        part(file.content);
    }
    for (path, content) in machine {
        part(path.as_bytes());
        part(content);
    }
    hex::encode(hash.finalize())
}

/// The build context as a tar: the recipe, and the machine's settings under `machine/`.
fn context(recipe: &[RecipeFile], machine: &[ImageFile]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, path, content).map_err(Error::io(path))
    };
    for file in recipe {
        add(file.path, file.mode, file.content)?;
    }
    // COPY needs the directory even where this machine has nothing to add.
    add("machine/etc/kedge-testenv", 0o644, b"This container is a test host.\n")?;
    for (path, content) in machine {
        add(&format!("machine{path}"), 0o644, content)?;
    }
    tar.into_inner().map_err(Error::io("the build context"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_name_every_file_of_their_directory() {
        fn walk(dir: &std::path::Path, found: &mut Vec<String>, root: &std::path::Path) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found, root);
                } else {
                    found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("image");
        let mut found = Vec::new();
        walk(&root, &mut found, &root);
        found.sort();
        let all = HOST.files.iter().chain(MYSQL.files);
        let mut named: Vec<String> = all.map(|file| file.path.to_owned()).collect();
        named.sort();
        named.dedup();
        assert_eq!(found, named);
    }

    #[test]
    fn the_hash_sees_every_part_and_its_borders() {
        let file = |path: &str, content: &str| (path.to_owned(), content.as_bytes().to_vec());
        let hashes = [
            recipe_hash(HOST.files, &[]),
            recipe_hash(HOST.files, &[file("/a", "bc")]),
            recipe_hash(HOST.files, &[file("/ab", "c")]),
            recipe_hash(HOST.files, &[file("/a", "b"), file("c", "")]),
        ];
        let distinct: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_eq!(recipe_hash(HOST.files, &[file("/a", "bc")]), hashes[1]);
    }
}
