//! Steps on site directories: stage, copy, delta, permissions, publish, trash. The live directory is never written to.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Covered, CoveredBy, Probe, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::place::{Place, scope, stage_access};
use crate::ports::{CopyOptions, CopyReport, World};

/// Two hours: the longest that a copy of a site's files may take.
const COPY_LIMIT_MS: u64 = 7_200_000;
/// Half an hour: looking at every inode of a large site.
const WALK_LIMIT_MS: u64 = 1_800_000;

async fn remove_stage(cx: &Cx<'_, dyn World>, place: &Place) -> Result<(), StepError> {
    let files = cx.ports.files(&place.web_server, &scope(cx))?;
    Ok(files.remove_tree(&place.stage(cx.task.as_str()), &place.sites_dir()).await?)
}

/// Makes an empty stage directory beside where the site will be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeStage {
    /// The new side.
    pub(crate) to: Place,
}

impl Step for MakeStage {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "make_stage";

    fn title(&self) -> String {
        format!("make a stage directory on {}", self.to.platform)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let files = cx.ports.files(&self.to.web_server, &scope(cx))?;
        Ok(files.make_dir(&self.to.stage(cx.task.as_str()), &stage_access(), true).await?)
    }
}

impl Compensate for MakeStage {
    fn undo_title(&self) -> String {
        "remove the stage directory".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        remove_stage(cx, &self.to).await
    }
}

/// Copies the live files into the stage while the site is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyFiles {
    /// The side that is there.
    pub(crate) from: Place,
    /// The new side.
    pub(crate) to: Place,
}

impl Step for CopyFiles {
    type Ports = dyn World;
    type Output = CopyReport;
    type Mode = Covered;
    const KIND: &'static str = "copy_files";

    fn title(&self) -> String {
        format!("copy the files to {} while the site is up", self.to.platform)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<CopyReport, StepError> {
        let report = copy(cx, &self.from, &self.to).await?;
        // While the site is up: what is left for the moment of the switch is what changes until then.
        let target = cx.ports.files(&self.to.web_server, &scope(cx))?;
        target.spread(&self.to.stage(cx.task.as_str()), &self.to.sites_dir()).await?;
        Ok(report)
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(COPY_LIMIT_MS)
    }
}

impl CoveredBy for CopyFiles {
    fn covered_by(&self) -> String {
        "goes with the stage directory".to_owned()
    }
}

/// Copies what has changed since, now that nothing writes any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SyncFiles {
    /// The side that is there.
    pub(crate) from: Place,
    /// The new side.
    pub(crate) to: Place,
}

impl Step for SyncFiles {
    type Ports = dyn World;
    type Output = CopyReport;
    type Mode = Covered;
    const KIND: &'static str = "sync_files";

    fn title(&self) -> String {
        "copy what has changed in the files since".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<CopyReport, StepError> {
        copy(cx, &self.from, &self.to).await
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(COPY_LIMIT_MS)
    }
}

impl CoveredBy for SyncFiles {
    fn covered_by(&self) -> String {
        "goes with the stage directory".to_owned()
    }
}

/// Makes the stage equal to the live directory: on one host by copying what differs, between hosts as a stream.
async fn copy(cx: &Cx<'_, dyn World>, from: &Place, to: &Place) -> Result<CopyReport, StepError> {
    let scope = scope(cx);
    let stage = to.stage(cx.task.as_str());
    let source = cx.ports.files(&from.web_server, &scope)?;
    if from.host == to.host {
        let options = CopyOptions { exact: true, exclude: Vec::new() };
        return Ok(source.copy_tree(&from.dir, &stage, &options).await?);
    }
    let target = cx.ports.files(&to.web_server, &scope)?;
    // A stream has no delta: what was there before goes, so that nothing deleted meanwhile survives.
    target.remove_tree(&stage, &to.sites_dir()).await?;
    target.make_dir(&stage, &stage_access(), true).await?;
    target.unpack(&stage, source.pack(&from.dir, &[]).await?).await?;
    let usage = target.usage(&stage).await?;
    Ok(CopyReport { bytes: usage.bytes, entries: usage.entries, vanished: 0 })
}

/// Sets modes and owners in the stage where they differ from the application's policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FixAccess {
    /// The new side.
    pub(crate) to: Place,
}

impl Step for FixAccess {
    type Ports = dyn World;
    type Output = ();
    type Mode = Covered;
    const KIND: &'static str = "fix_access";

    fn title(&self) -> String {
        "set modes and owners where they are wrong".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let scope = scope(cx);
        let rules = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope)?.access_rules();
        let files = cx.ports.files(&self.to.web_server, &scope)?;
        let report = files.fix_access(&self.to.stage(cx.task.as_str()), &rules).await?;
        cx.log(format!("{} of {} entries changed", report.changed, report.checked));
        Ok(())
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(WALK_LIMIT_MS)
    }
}

impl CoveredBy for FixAccess {
    fn covered_by(&self) -> String {
        "goes with the stage directory".to_owned()
    }
}

/// A rename of a directory that has to happen exactly once: where it went can always be told from which of the two is there.
async fn renamed(cx: &Cx<'_, dyn World>, place: &Place, from: &str, to: &str) -> Result<(), StepError> {
    let files = cx.ports.files(&place.web_server, &scope(cx))?;
    if files.stat(from).await?.is_none() && files.stat(to).await?.is_some() {
        return Ok(());
    }
    Ok(files.rename(from, to).await?)
}

/// Moves the live directory aside, so that the new one can take its place: behind the closed doors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetAside {
    /// The side that is there.
    pub(crate) place: Place,
}

impl Step for SetAside {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "set_aside";

    fn title(&self) -> String {
        format!("move {} to the trash beside it", self.place.dir)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        renamed(cx, &self.place, &self.place.dir, &self.place.trash(cx.task.as_str())).await
    }
}

impl Compensate for SetAside {
    fn undo_title(&self) -> String {
        "move it back".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let trash = self.place.trash(cx.task.as_str());
        let files = cx.ports.files(&self.place.web_server, &scope(cx))?;
        if files.stat(&trash).await?.is_none() {
            return Ok(());
        }
        Ok(files.rename(&trash, &self.place.dir).await?)
    }
}

/// Puts a finished directory into its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Publish {
    /// The side it belongs to.
    pub(crate) to: Place,
    /// Where it is until then: the stage, or a side in the trash that comes back.
    pub(crate) from_dir: String,
}

impl Step for Publish {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "publish";

    fn title(&self) -> String {
        format!("move the directory to {}", self.to.dir)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        renamed(cx, &self.to, &self.from_dir, &self.to.dir).await
    }

    /// On a cluster, what has changed since is copied to the other hosts first.
    fn policy(&self) -> Policy {
        Policy::RUN.limit(WALK_LIMIT_MS)
    }

    async fn probe(&self, cx: &Cx<'_, dyn World>) -> Result<Probe<()>, StepError> {
        let files = cx.ports.files(&self.to.web_server, &scope(cx))?;
        Ok(match files.moved(&self.from_dir, &self.to.dir).await? {
            (true, false) => Probe::NotApplied,
            (false, true) => Probe::Applied(()),
            (true, true) => Probe::Unknown(format!("both {} and {} are there", self.from_dir, self.to.dir)),
            (false, false) => {
                Probe::Unknown(format!("neither {} nor {} is there", self.from_dir, self.to.dir))
            }
        })
    }
}

impl Compensate for Publish {
    fn undo_title(&self) -> String {
        "move it back".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let files = cx.ports.files(&self.to.web_server, &scope(cx))?;
        Ok(files.move_back(&self.from_dir, &self.to.dir).await?)
    }
}

/// Moves the old side's directory to the trash, where it stays for its hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrashDir {
    /// The side that is left.
    pub(crate) place: Place,
    /// Whether it may be missing: then there is nothing to move.
    #[serde(default)]
    pub(crate) may_be_missing: bool,
}

impl Step for TrashDir {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "trash_dir";

    fn title(&self) -> String {
        format!("move the old directory {} to the trash", self.place.dir)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if self.may_be_missing {
            let files = cx.ports.files(&self.place.web_server, &scope(cx))?;
            if files.stat(&self.place.dir).await?.is_none() {
                return Ok(());
            }
        }
        renamed(cx, &self.place, &self.place.dir, &self.place.trash(cx.task.as_str())).await
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }

    fn by_hand(&self) -> Vec<String> {
        vec![format!("mv -- {} {}/.kedge-trash-<task id>", self.place.dir, self.place.sites_dir())]
    }
}
