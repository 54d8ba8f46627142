//! Steps that the application knows how to do: platform, skeleton, settings, install, database update, caches.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Covered, CoveredBy, Probe, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::preflight::Found;
use crate::place::{Place, Store, app_site, scope};
use crate::ports::{AppSite, InstallRequest, Sanitized, UpdateReport, World};
use crate::records::PREPARED;

/// An hour: the longest that an install or a database update may take.
const APP_LIMIT_MS: u64 = 3_600_000;

/// Makes a platform ready to be shared by sites.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PreparePlatform {
    /// A side on the platform.
    pub(crate) to: Place,
    /// How the platform was before; its lock keeps that true. Absent in old journals.
    #[serde(default)]
    pub(crate) found: Option<Ref<Found>>,
}

impl Step for PreparePlatform {
    type Ports = dyn World;
    type Output = bool;
    type Mode = Compensable;
    const KIND: &'static str = "prepare_platform";

    fn title(&self) -> String {
        format!("make the platform {} ready to be shared by sites", self.to.platform)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<bool, StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        let made = app.prepare_platform(&self.to.root).await?;
        cx.put_record(PREPARED, &self.to.platform, &serde_json::json!({ "task": cx.task }))?;
        Ok(made)
    }
}

impl Compensate for PreparePlatform {
    fn undo_title(&self) -> String {
        "take that back, if no site lives on it".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        // Not by our own answer: an attempt whose answer was lost has prepared it, and the next one finds it prepared.
        let ours = match &self.found {
            Some(found) => cx.maybe(found)?.and_then(|found| found.to_prepared) != Some(true),
            None => cx.own::<bool>()? != Some(false),
        };
        if ours {
            let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
            app.unprepare_platform(&self.to.root).await?;
        }
        cx.delete_record(PREPARED, &self.to.platform);
        Ok(())
    }
}

/// Fills the stage with what a new site needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FillSkeleton {
    /// The new side.
    pub(crate) to: Place,
}

impl Step for FillSkeleton {
    type Ports = dyn World;
    type Output = ();
    type Mode = Covered;
    const KIND: &'static str = "fill_skeleton";

    fn title(&self) -> String {
        "fill the site's directory".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        Ok(app.fill_skeleton(&self.to.root, &self.to.stage(cx.task.as_str())).await?)
    }
}

impl CoveredBy for FillSkeleton {
    fn covered_by(&self) -> String {
        "goes with the stage directory".to_owned()
    }
}

/// The staged new side, as its application sees it.
pub(super) fn staged(cx: &Cx<'_, dyn World>, to: &Place, store: &Store) -> Result<AppSite, StepError> {
    let server = cx.ports.database(&store.server, &scope(cx))?;
    app_site(cx, to, &to.stage(cx.task.as_str()), store, &*server)
}

/// Writes the new side's settings file in the stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WriteSettings {
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
    /// Whether it gets keys and salts of its own: a copy does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) renews: bool,
}

impl Step for WriteSettings {
    type Ports = dyn World;
    type Output = ();
    type Mode = Covered;
    const KIND: &'static str = "write_settings";

    fn title(&self) -> String {
        let keys = if self.renews { ", with keys and salts of its own" } else { "" };
        format!("write the settings of the new side{keys}")
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        let site = staged(cx, &self.to, &self.store)?;
        app.write_settings(&site).await?;
        if self.renews {
            app.renew_keys(&site).await?;
        }
        Ok(())
    }
}

impl CoveredBy for WriteSettings {
    fn covered_by(&self) -> String {
        "goes with the stage directory".to_owned()
    }
}

/// Installs the application into the new database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InstallApp {
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
    /// What was asked for.
    pub(crate) request: InstallRequest,
}

impl Step for InstallApp {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "install_app";

    fn title(&self) -> String {
        format!("install the application as {:?}", self.request.title)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        cx.ports.secrets().ensure(&self.request.admin_password).await?;
        Ok(app.install(&staged(cx, &self.to, &self.store)?, &self.request).await?)
    }

    async fn probe(&self, cx: &Cx<'_, dyn World>) -> Result<Probe<()>, StepError> {
        // A half installed application is not to be told from a whole one by its tables: from the start, in an empty schema.
        let _ = cx;
        Ok(Probe::Partial("the install was begun".to_owned()))
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(APP_LIMIT_MS)
    }
}

impl Compensate for InstallApp {
    fn undo_title(&self) -> String {
        "empty the new database and forget the password".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if let Some((schema, _)) = self.store.names(cx)? {
            let server = cx.ports.database(&self.store.server, &scope(cx))?;
            server.empty_schema(&schema, &crate::place::mark(cx, &self.to.site)).await?;
        }
        Ok(cx.ports.secrets().remove(&self.request.admin_password).await?)
    }
}

/// Runs the application's database update on the new side only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UpdateDatabase {
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
}

impl Step for UpdateDatabase {
    type Ports = dyn World;
    type Output = UpdateReport;
    type Mode = Covered;
    const KIND: &'static str = "update_database";

    fn title(&self) -> String {
        "update the new database to the new code".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<UpdateReport, StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        Ok(app.update_database(&staged(cx, &self.to, &self.store)?).await?)
    }

    fn policy(&self) -> Policy {
        // Not tried again: an update that failed half way is best seen as it is, and the copy goes anyway.
        Policy { attempts: 1, ..Policy::RUN.limit(APP_LIMIT_MS) }
    }
}

impl CoveredBy for UpdateDatabase {
    fn covered_by(&self) -> String {
        "goes with the new database; the old one was not touched".to_owned()
    }
}

/// Takes persons out of the new side's database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SanitizeCopy {
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
}

impl Step for SanitizeCopy {
    type Ports = dyn World;
    type Output = Sanitized;
    type Mode = Covered;
    const KIND: &'static str = "sanitize_copy";

    fn title(&self) -> String {
        "take persons out of the copy: mail addresses, passwords, sessions".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Sanitized, StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        Ok(app.sanitize(&staged(cx, &self.to, &self.store)?).await?)
    }

    fn reports(&self) -> bool {
        true
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(APP_LIMIT_MS)
    }
}

impl CoveredBy for SanitizeCopy {
    fn covered_by(&self) -> String {
        "goes with the new database; the original was not touched".to_owned()
    }
}

/// Empties the new side's caches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClearCaches {
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
}

impl Step for ClearCaches {
    type Ports = dyn World;
    type Output = ();
    type Mode = Covered;
    const KIND: &'static str = "clear_caches";

    fn title(&self) -> String {
        "empty the caches of the new side".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        Ok(app.clear_caches(&staged(cx, &self.to, &self.store)?).await?)
    }
}

impl CoveredBy for ClearCaches {
    fn covered_by(&self) -> String {
        "goes with the new side".to_owned()
    }
}
