//! Steps on a site that Kedge did not make (`found` looks at it): copied, and its name taken over. Its files are only read, its database is
//! only locked, and its vhost is put back exactly where the task fails.

use std::collections::BTreeMap;

use kedge_engine::context::Cx;
use kedge_engine::plan::Doors;
use kedge_engine::proof::Listing;
use kedge_engine::retry::Policy;
use kedge_engine::step::{
    Compensable, Compensate, Covered, CoveredBy, Pivot, Query, Ref, Retriable, Step, StepError,
};
use serde::{Deserialize, Serialize};

use super::found::{LOOK_LIMIT_MS, find};
use super::registered::still;
use super::vhost::{CLOSED, rendered, switch};
use crate::place::{Place, scope};
use crate::ports::{CopyOptions, CopyReport, DatabaseFingerprint, FoundSite, SavedFile, World};
use crate::records::{SITE, SiteRecord, TRASH, TrashRecord, TrashedBy};

/// Two hours: the longest that a copy of a site's files may take.
const COPY_LIMIT_MS: u64 = 7_200_000;

/// Fingerprints everything that an import may touch: the found site, and where it will be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FingerprintFound {
    /// The directory.
    pub(crate) path: String,
    /// Where it will be.
    pub(crate) to: Place,
    /// The database server.
    pub(crate) server: String,
}

impl FingerprintFound {
    /// The resources in words.
    pub(crate) fn resources(&self) -> Vec<String> {
        let Place { host, web_server, site, dir, root, .. } = &self.to;
        vec![
            format!("files {host}:{}", self.path),
            format!("files {host}:{dir}"),
            format!("vhost {web_server}:{site}"),
            format!("database of {site} on {}", self.server),
            format!("platform {host}:{root}"),
        ]
    }
}

impl Step for FingerprintFound {
    type Ports = dyn World;
    type Output = Listing;
    type Mode = Query;
    const KIND: &'static str = "fingerprint_found";

    fn title(&self) -> String {
        "fingerprint everything that will be touched".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Listing, StepError> {
        let (scope, to) = (scope(cx), &self.to);
        let site = find(cx, &self.path, to).await?;
        let files = cx.ports.files(&to.web_server, &scope)?;
        let app = cx.ports.app(&to.web_server, &to.platform, to.app, &scope)?;
        let tree = files.fingerprint(&self.path, false, &app.settings_files()).await?.entries;
        let there = |there: bool| vec![(".".to_owned(), if there { "there" } else { "absent" }.to_owned())];
        let vhost = cx.ports.web_server(&to.web_server, &scope)?.vhost(&to.site).await?;
        let vhost =
            vhost.map(|file| (file.path, format!("{:o} {} {:?}", file.mode, file.sha256, file.symlink)));
        let request = DatabaseFingerprint {
            schema: site.database,
            user: Some(site.user),
            volatile: app.volatile_rows(),
            full: false,
        };
        let database = cx.ports.database(&self.server, &scope)?.fingerprint(&request).await?.entries;
        let prepared = there(app.platform_facts(&to.root).await?.prepared);
        let seen =
            [tree, there(files.stat(&to.dir).await?.is_some()), Vec::from_iter(vhost), database, prepared];
        let listing = self.resources().into_iter().zip(seen.map(BTreeMap::from_iter));
        Ok(Listing(listing.collect()))
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LOOK_LIMIT_MS)
    }
}

/// Copies what is the site's own into the stage: while it is up, and what has changed since behind closed doors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyFound {
    /// The directory.
    pub(crate) path: String,
    /// What was found.
    pub(crate) site: Ref<FoundSite>,
    /// Where it will be.
    pub(crate) to: Place,
}

impl Step for CopyFound {
    type Ports = dyn World;
    type Output = CopyReport;
    type Mode = Covered;
    const KIND: &'static str = "copy_found";

    fn title(&self) -> String {
        format!("copy what has changed in {} to {}", self.path, self.to.platform)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<CopyReport, StepError> {
        let files = cx.ports.files(&self.to.web_server, &scope(cx))?;
        let members = cx.output(&self.site)?.members;
        let mut exclude = files.list(&self.path).await?;
        exclude.retain(|name| !members.contains(name));
        let options = CopyOptions { exact: true, exclude };
        Ok(files.copy_tree(&self.path, &self.to.stage(cx.task.as_str()), &options).await?)
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(COPY_LIMIT_MS)
    }
}

impl CoveredBy for CopyFound {
    fn covered_by(&self) -> String {
        "goes with the stage directory".to_owned()
    }
}

/// Takes the name over from the vhost that serves it: everybody gets a 503.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TakeName {
    /// Where the site will be.
    pub(crate) to: Place,
    /// The vhost that serves its name, if one does.
    pub(crate) saved: Ref<Option<SavedFile>>,
}

impl Step for TakeName {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "take_name";

    fn title(&self) -> String {
        format!("take {} over from its vhost: visitors get a 503", self.to.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let web = cx.ports.web_server(&self.to.web_server, &scope(cx))?;
        let mut before = cx.output(&self.saved)?;
        if let Some(saved) = &before
            && web.set_aside(&self.to.site, saved).await?
        {
            before = None;
        }
        let before = before.map(|saved| saved.sha256);
        Ok(switch(&*web, &self.to, CLOSED, before.as_deref()).await?)
    }

    fn doors(&self) -> Option<Doors> {
        Some(Doors::Close)
    }
}

impl Compensate for TakeName {
    fn undo_title(&self) -> String {
        "put the vhost back as it was".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some(saved) = cx.maybe(&self.saved)? else { return Ok(()) };
        give_back(cx, &self.to, saved.as_ref()).await
    }
}

/// Puts somebody's vhost back in the place of our closed one.
async fn give_back(
    cx: &Cx<'_, dyn World>,
    place: &Place,
    saved: Option<&SavedFile>,
) -> Result<(), StepError> {
    let web = cx.ports.web_server(&place.web_server, &scope(cx))?;
    let ours = [rendered(&*web, place, CLOSED).sha256];
    web.restore_vhost(&place.site, saved, &ours).await?;
    Ok(web.reload(&place.site, None).await?)
}

/// Gives up an imported site: what it came from serves its visitors again from here on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitGiveBack {
    /// The site.
    pub(crate) record: SiteRecord,
    /// Where its directory is kept.
    pub(crate) trash: String,
    /// How long, in milliseconds.
    pub(crate) hold_ms: u64,
}

impl Step for CommitGiveBack {
    type Ports = dyn World;
    type Output = ();
    type Mode = Pivot;
    const KIND: &'static str = "commit_give_back";

    fn title(&self) -> String {
        format!("decide: {} is not Kedge's from here on", self.record.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let now = still(cx, &self.record)?;
        cx.delete_record(SITE, self.record.name.as_str());
        let until = cx.now.saturating_add(self.hold_ms);
        let site = SiteRecord { dir: self.trash.clone(), ..now };
        let trash = TrashRecord { site, until, why: TrashedBy::Import, locked_at: Vec::new() };
        cx.put_record(TRASH, cx.task.as_str(), &trash)
    }
}

/// Hands the name back to the vhost that served it before the import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HandBack {
    /// The imported side, which is closed.
    pub(crate) place: Place,
    /// The vhost as it was, if there was one.
    pub(crate) saved: Option<SavedFile>,
}

impl Step for HandBack {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "hand_back";

    fn title(&self) -> String {
        format!("let the vhost serve {} that did before", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        give_back(cx, &self.place, self.saved.as_ref()).await
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }

    fn doors(&self) -> Option<Doors> {
        Some(Doors::Open)
    }
}
