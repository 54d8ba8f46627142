//! The fingerprint of everything a task may touch: what is there and what must not be there. Only looks.

use std::collections::BTreeMap;

use kedge_engine::context::Cx;
use kedge_engine::proof::Listing;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Query, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::place::{Place, Store, scope};
use crate::ports::{DatabaseFingerprint, SavedFile, World};

/// Half an hour: looking at every inode and counting every row of a large site.
const LIMIT_MS: u64 = 1_800_000;

/// Fingerprints the places and databases of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FingerprintSite {
    /// Directories and vhosts, there or not.
    pub(crate) places: Vec<Place>,
    /// Directories that must come and go with the task, by the web server of their host.
    pub(crate) passing: Vec<(String, String)>,
    /// Databases, with the place whose application knows which rows a visit changes.
    pub(crate) stores: Vec<(Store, Place)>,
    /// Sides whose platforms may be made ready to be shared.
    #[serde(default)]
    pub(crate) platforms: Vec<Place>,
}

impl FingerprintSite {
    /// The resources in words.
    pub(crate) fn resources(&self) -> Vec<String> {
        let places = self.places.iter().flat_map(|place| [files_of(place), vhost_of(place)]);
        let databases = self.stores.iter().map(|(store, place)| database_of(store, place));
        places.chain(databases).chain(self.platforms.iter().map(platform_of)).collect()
    }
}

fn files_of(place: &Place) -> String {
    format!("files {}:{}", place.host, place.dir)
}

fn vhost_of(place: &Place) -> String {
    format!("vhost {}:{}", place.web_server, place.site)
}

fn database_of(store: &Store, place: &Place) -> String {
    format!("database of {} on {}", place.site, store.server)
}

fn platform_of(place: &Place) -> String {
    format!("platform {}:{}", place.host, place.root)
}

impl Step for FingerprintSite {
    type Ports = dyn World;
    type Output = Listing;
    type Mode = Query;
    const KIND: &'static str = "fingerprint_site";

    fn title(&self) -> String {
        "fingerprint everything that will be touched".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Listing, StepError> {
        let mut listing = BTreeMap::new();
        for place in &self.places {
            let scope = scope(cx);
            let files = cx.ports.files(&place.web_server, &scope)?;
            let items = if files.stat(&place.dir).await?.is_some() {
                let settings =
                    cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?.settings_files();
                files.fingerprint(&place.dir, false, &settings).await?.entries
            } else {
                vec![(".".to_owned(), "absent".to_owned())]
            };
            listing.insert(files_of(place), items.into_iter().collect());
            let vhost = cx.ports.web_server(&place.web_server, &scope)?.vhost(&place.site).await?;
            listing.insert(vhost_of(place), BTreeMap::from([("file".to_owned(), told(vhost.as_ref()))]));
        }
        for (web_server, dir) in &self.passing {
            let there = cx.ports.files(web_server, &scope(cx))?.stat(dir).await?.is_some();
            let seen = if there { "there" } else { "absent" };
            listing.insert(
                format!("files {web_server}:{dir}"),
                BTreeMap::from([(".".to_owned(), seen.to_owned())]),
            );
        }
        for (store, place) in &self.stores {
            let scope = scope(cx);
            let (schema, user) = store.known(cx)?;
            let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
            let request =
                DatabaseFingerprint { schema, user: Some(user), volatile: app.volatile_rows(), full: false };
            let seen = cx.ports.database(&store.server, &scope)?.fingerprint(&request).await?;
            listing.insert(database_of(store, place), seen.entries.into_iter().collect());
        }
        for place in &self.platforms {
            let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope(cx))?;
            let prepared = if app.platform_facts(&place.root).await?.prepared { "yes" } else { "no" };
            let items = BTreeMap::from([("ready to be shared".to_owned(), prepared.to_owned())]);
            listing.insert(platform_of(place), items);
        }
        Ok(Listing(listing))
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LIMIT_MS)
    }
}

fn told(file: Option<&SavedFile>) -> String {
    let elsewhere = file.iter().flat_map(|file| &file.elsewhere);
    let elsewhere = elsewhere.map(|(host, theirs)| format!("; on {host}: {}", told_here(theirs.as_ref())));
    [told_here(file)].into_iter().chain(elsewhere).collect()
}

fn told_here(file: Option<&SavedFile>) -> String {
    match file {
        Some(file) => format!(
            "{} mode {:o} owner {}:{} sha256 {}{}",
            file.path,
            file.mode,
            file.uid,
            file.gid,
            file.sha256,
            file.symlink.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default()
        ),
        None => "absent".to_owned(),
    }
}
