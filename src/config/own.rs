//! Platforms made by API: kept beside the journal, in a file that only Kedge writes. The configuration's own come first; one whose web
//! server is not configured any more is left out until it is again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kedge_workflows::ports::AppKind;
use serde::{Deserialize, Serialize};

use super::{Config, Platform};

/// Most of them: they are made by people.
pub(crate) const MAX_PLATFORMS: usize = 1000;

/// A platform as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnPlatform {
    pub(crate) web_server: String,
    pub(crate) root: String,
    pub(crate) app: AppKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drush: Option<String>,
}

/// All of them, by name.
pub(crate) type OwnPlatforms = BTreeMap<String, OwnPlatform>;

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("platforms.json")
}

/// Those that were made.
///
/// # Errors
/// When the file is there and does not read.
pub(crate) fn read(data_dir: &Path) -> Result<OwnPlatforms> {
    let file = file(data_dir);
    match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(OwnPlatforms::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// Keeps them; durable when it returns.
///
/// # Errors
/// When the file cannot be written: then what was kept before is.
pub(crate) fn write(data_dir: &Path, platforms: &OwnPlatforms) -> Result<()> {
    let (file, new) = (file(data_dir), data_dir.join("platforms.json.new"));
    let write = || {
        let mut out =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        out.write_all(&serde_json::to_vec_pretty(platforms)?)?;
        out.sync_all()?;
        fs::rename(&new, &file)?;
        fs::File::open(data_dir)?.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", file.display()))
}

/// Adds them to what the configuration has.
pub(crate) fn add(config: &mut Config, own: OwnPlatforms) {
    for (name, platform) in own {
        if !config.web_servers.contains_key(&platform.web_server) {
            let web_server = &platform.web_server;
            tracing::warn!("the platform {name} is left out: its web server {web_server} is not configured");
            continue;
        }
        let OwnPlatform { web_server, root, app, drush } = platform;
        let own = Platform { web_server, root, app, drush, plain: None, own: true };
        config.platforms.entry(name).or_insert(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), OwnPlatforms::new());
        let platform = OwnPlatform {
            web_server: "web1".into(),
            root: "/srv/p".into(),
            app: AppKind::Drupal,
            drush: Some("/opt/drush".into()),
        };
        let all = OwnPlatforms::from([("p".to_owned(), platform)]);
        write(dir.path(), &all).unwrap();
        write(dir.path(), &all).unwrap();
        assert_eq!(read(dir.path()).unwrap(), all);
        fs::write(file(dir.path()), "{").unwrap();
        assert!(format!("{:#}", read(dir.path()).unwrap_err()).contains("platforms.json is damaged"));
    }
}
