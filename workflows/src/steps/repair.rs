//! Puts right what is wrong of a site and nothing else, and puts the old bytes back when the site does not answer with the new ones.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Ref, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};

use super::verify::{MAX_ACCESS, SiteDrift, WALK_LIMIT_MS, mode};
use crate::place::{Place, Store, app_site, scope};
use crate::ports::{Access, SavedFile, VhostOrigin, World};
use crate::records::SiteState;

/// Attempts of an undo that want the caches emptied, some minutes: a site whose old settings are what was wrong never can.
const CACHE_ATTEMPTS: u32 = 10;

/// Copies the site's files to the hosts of its cluster that have none of them: they are new in it, and nobody is sent there yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GiveFiles {
    /// The site.
    pub(crate) place: Place,
    /// What was found.
    pub(crate) drift: Ref<SiteDrift>,
}

impl Step for GiveFiles {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "give_files";

    fn title(&self) -> String {
        "copy the files to hosts of the cluster that have none of them".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (place, lacking) = (&self.place, cx.output(&self.drift)?.lacking);
        if lacking.is_empty() {
            return Ok(());
        }
        let files = cx.ports.files(&place.web_server, &scope(cx))?;
        files.give(&place.dir, &place.sites_dir(), &lacking).await?;
        cx.log(format!("{} is on {} now", place.dir, lacking.join(", ")));
        Ok(())
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(WALK_LIMIT_MS)
    }
}

impl Compensate for GiveFiles {
    fn undo_title(&self) -> String {
        "take the files away from the hosts that had none".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some(drift) = cx.maybe(&self.drift)? else { return Ok(()) };
        if drift.lacking.is_empty() {
            return Ok(());
        }
        let files = cx.ports.files(&self.place.web_server, &scope(cx))?;
        Ok(files.take_away(&self.place.dir, &self.place.sites_dir(), &drift.lacking).await?)
    }
}

/// Writes the settings anew where they differ. The file as it was is kept beside, until the site answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RepairSettings {
    /// The site.
    pub(crate) place: Place,
    /// Its database.
    pub(crate) store: Store,
    /// What was found.
    pub(crate) drift: Ref<SiteDrift>,
}

/// A file at another path.
fn at(path: String, saved: &SavedFile) -> SavedFile {
    SavedFile { path, ..saved.clone() }
}

impl Step for RepairSettings {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "repair_settings";

    fn title(&self) -> String {
        "write the settings anew, if they are wrong; salts and own lines stay".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (scope, place) = (scope(cx), &self.place);
        if cx.output(&self.drift)?.settings.is_empty() {
            return Ok(());
        }
        let files = cx.ports.files(&place.web_server, &scope)?;
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let stage = place.stage(cx.task.as_str());
        // Only root looks into it: settings have passwords.
        let access = Access { mode: 0o700, user: Some("root".to_owned()), group: Some("root".to_owned()) };
        files.make_dir(&stage, &access, false).await?;
        for (number, name) in app.settings_files().iter().enumerate() {
            let kept = format!("{stage}/{number}");
            // Kept by an attempt before: what is there now may be ours already.
            if files.read(&kept).await?.is_none()
                && let Some(saved) = files.read(&format!("{}/{name}", place.dir)).await?
            {
                files.restore(&kept, Some(&at(kept.clone(), &saved)), &[]).await?;
            }
        }
        let server = cx.ports.database(&self.store.server, &scope)?;
        let site = app_site(cx, place, &place.dir, &self.store, &*server)?;
        Ok(app.write_settings(&site).await?)
    }
}

impl Compensate for RepairSettings {
    fn undo_title(&self) -> String {
        "put the settings back as they were, and empty the caches that they may name".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (scope, place) = (scope(cx), &self.place);
        let Some(drift) = cx.maybe(&self.drift)? else { return Ok(()) };
        if drift.settings.is_empty() {
            return Ok(());
        }
        let files = cx.ports.files(&place.web_server, &scope)?;
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let stage = place.stage(cx.task.as_str());
        let mut replaced = false;
        for (number, name) in app.settings_files().iter().enumerate() {
            let live = format!("{}/{name}", place.dir);
            // The site is locked: what is there is what this task wrote, or the old file still.
            let there = files.read(&live).await?;
            let ours = there.as_ref().map(SavedFile::hashes).unwrap_or_default();
            if let Some(kept) = files.read(&format!("{stage}/{number}")).await? {
                replaced |= there.is_none_or(|there| there.sha256 != kept.sha256);
                files.restore(&live, Some(&at(live.clone(), &kept)), &ours).await?;
            } else if drift.settings_missing.get(number) == Some(&true) {
                files.restore(&live, None, &ours).await?;
            }
        }
        // Where they are back since an attempt that was cut off here, nothing tells whether the caches are empty.
        let clears = (replaced || cx.attempt > 1) && app.abilities().clears_in_place;
        if clears && let Err(error) = self.clear_old_caches(cx).await {
            if cx.attempt < CACHE_ATTEMPTS {
                return Err(StepError::retryable(error.message));
            }
            cx.log(format!(
                "the caches of {} are as they were, empty them by hand: {}",
                place.site, error.message
            ));
        }
        Ok(files.remove_tree(&stage, &place.sites_dir()).await?)
    }
}

impl RepairSettings {
    /// The old settings may name a place in the object cache that nobody has kept true since the new ones were written.
    async fn clear_old_caches(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (scope, place) = (scope(cx), &self.place);
        let server = cx.ports.database(&self.store.server, &scope)?;
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        Ok(app.clear_caches(&app_site(cx, place, &place.dir, &self.store, &*server)?).await?)
    }
}

/// Sets modes and owners of a live site where they are wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RepairAccess {
    /// The site.
    pub(crate) place: Place,
    /// What was found.
    pub(crate) drift: Ref<SiteDrift>,
}

impl Step for RepairAccess {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "repair_access";

    fn title(&self) -> String {
        "set modes and owners where they are wrong, and nowhere else".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (scope, place) = (scope(cx), &self.place);
        if cx.output(&self.drift)?.wrong == 0 {
            return Ok(());
        }
        let rules = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?.access_rules();
        let report = cx.ports.files(&place.web_server, &scope)?.fix_access(&place.dir, &rules).await?;
        cx.log(format!("{} of {} entries changed", report.changed, report.checked));
        Ok(())
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(WALK_LIMIT_MS)
    }
}

impl Compensate for RepairAccess {
    fn undo_title(&self) -> String {
        format!("give the first {MAX_ACCESS} of them their old modes and owners back")
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some(drift) = cx.maybe(&self.drift)? else { return Ok(()) };
        if drift.access.is_empty() {
            return Ok(());
        }
        let files = cx.ports.files(&self.place.web_server, &scope(cx))?;
        Ok(files.set_access(&self.place.dir, &drift.access).await?)
    }
}

/// Writes the vhost anew where it differs, unless somebody else wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RepairVhost {
    /// The site.
    pub(crate) place: Place,
    /// Whether visitors should be served.
    pub(crate) state: SiteState,
    /// What was found.
    pub(crate) drift: Ref<SiteDrift>,
    /// The vhost as it was.
    pub(crate) saved: Ref<Option<SavedFile>>,
    /// Whether one that was changed by hand is replaced.
    pub(crate) overwrite: bool,
}

impl Step for RepairVhost {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "repair_vhost";

    fn title(&self) -> String {
        format!("write the vhost of {} anew, if it is wrong", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (place, saved) = (&self.place, cx.output(&self.saved)?);
        let web = cx.ports.web_server(&place.web_server, &scope(cx))?;
        let vhost = place.vhost(mode(self.state));
        let drift = cx.output(&self.drift)?;
        let revision = if drift.writes_vhost(self.overwrite) {
            let mut before = saved.as_ref().map(|saved| saved.sha256.as_str());
            if drift.vhost_by == Some(VhostOrigin::Edited) {
                // Nothing of ours replaces what a person wrote; this person asked for it. The server takes both changes at once.
                let theirs = before.take().map(str::to_owned).into_iter().chain([web.render(&vhost).sha256]);
                let theirs: Vec<String> = theirs.collect();
                web.restore_vhost(&place.site, None, &theirs).await?;
            }
            Some(web.put_vhost(&place.site, &vhost, before).await?.revision)
        } else {
            saved.and_then(|saved| web.revision_in(&saved.bytes))
        };
        // In any case: what the server runs with may be older than what is on disk.
        Ok(web.reload(&place.site, revision.as_deref()).await?)
    }
}

impl Compensate for RepairVhost {
    fn undo_title(&self) -> String {
        "put the vhost back as it was".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (Some(drift), Some(saved)) = (cx.maybe(&self.drift)?, cx.maybe(&self.saved)?) else {
            return Ok(());
        };
        if !drift.writes_vhost(self.overwrite) {
            return Ok(());
        }
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        let ours = [web.render(&self.place.vhost(mode(self.state))).sha256];
        web.restore_vhost(&self.place.site, saved.as_ref(), &ours).await?;
        let revision = saved.and_then(|saved| web.revision_in(&saved.bytes));
        Ok(web.reload(&self.place.site, revision.as_deref()).await?)
    }
}

/// Removes what was kept in case the site would not answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DropKept {
    /// The site.
    pub(crate) place: Place,
}

impl Step for DropKept {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "drop_kept";

    fn title(&self) -> String {
        "remove the old settings that were kept beside".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let files = cx.ports.files(&self.place.web_server, &scope(cx))?;
        Ok(files.remove_tree(&self.place.stage(cx.task.as_str()), &self.place.sites_dir()).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}
