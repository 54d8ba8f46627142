//! The steps of a restore: read the archive through, unpack its files into the stage, import its dump into the new database.

use std::sync::Arc;

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Covered, CoveredBy, Query, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::copy_database::{Copied, import_rewritten, rewrite};
use crate::names::SiteName;
use crate::place::{Place, Store, scope, stage_access};
use crate::ports::{Contents, World};
use crate::rewrite::Rewrite;

/// Two hours: reading, unpacking or importing a large site.
const LIMIT_MS: u64 = 7_200_000;

/// Reads an archive through, before anything is touched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadBackup {
    /// The archive.
    pub(crate) name: String,
    /// Whether its files are needed.
    pub(crate) files: bool,
    /// Whether its dump is needed.
    pub(crate) database: bool,
    /// The side that it becomes.
    pub(crate) to: Place,
}

impl Step for ReadBackup {
    type Ports = dyn World;
    type Output = Contents;
    type Mode = Query;
    const KIND: &'static str = "read_backup";

    fn title(&self) -> String {
        format!("read {} through", self.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Contents, StepError> {
        let contents = cx.ports.backups(&scope(cx)).contents(&self.name).await?;
        for (wanted, there, what) in
            [(self.files, contents.files, "files"), (self.database, contents.database, "database")]
        {
            if wanted && !there {
                return Err(StepError::fatal(format!("the backup {} has no {what}", self.name)));
            }
        }
        let app = serde_json::json!(self.to.app);
        if let Some(origin) = contents.origin.as_ref().filter(|origin| app != origin.app.as_str()) {
            return Err(StepError::fatal(format!(
                "the backup {} is of an application of another kind: {}",
                self.name, origin.app
            )));
        }
        Ok(contents)
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LIMIT_MS)
    }
}

/// Unpacks the files of an archive into the stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UnpackFiles {
    /// The archive.
    pub(crate) name: String,
    /// The new side.
    pub(crate) to: Place,
}

impl Step for UnpackFiles {
    type Ports = dyn World;
    type Output = ();
    type Mode = Covered;
    const KIND: &'static str = "unpack_files";

    fn title(&self) -> String {
        format!("unpack the files of {}", self.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let scope = scope(cx);
        let stage = self.to.stage(cx.task.as_str());
        let files = cx.ports.files(&self.to.web_server, &scope)?;
        // From the start, whatever an earlier attempt left.
        files.remove_tree(&stage, &self.to.sites_dir()).await?;
        files.make_dir(&stage, &stage_access(), true).await?;
        Ok(files.unpack(&stage, cx.ports.backups(&scope).files(&self.name).await?).await?)
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LIMIT_MS)
    }
}

impl CoveredBy for UnpackFiles {
    fn covered_by(&self) -> String {
        "goes with the stage directory".to_owned()
    }
}

/// Imports the dump of an archive, with names and paths as they are now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImportBackup {
    /// The archive.
    pub(crate) name: String,
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
    /// What the archive tells of itself.
    pub(crate) contents: Ref<Contents>,
}

impl ImportBackup {
    fn rewrite(&self, contents: &Contents) -> Result<Arc<Rewrite>, StepError> {
        let Some(origin) = &contents.origin else { return rewrite([], &[]) };
        let old = SiteName::parse(&origin.site)
            .map_err(|error| StepError::fatal(format!("the backup {} is of {error}", self.name)))?;
        let renamed = (old != self.to.site).then(|| (old, self.to.site.clone()));
        let moves = [(&origin.dir, &self.to.dir), (&origin.root, &self.to.root)];
        let moves = moves.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone()));
        rewrite(&renamed, &moves.collect::<Vec<_>>())
    }
}

impl Step for ImportBackup {
    type Ports = dyn World;
    type Output = Copied;
    type Mode = Covered;
    const KIND: &'static str = "import_backup";

    fn title(&self) -> String {
        format!("import the database of {}", self.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Copied, StepError> {
        let contents = cx.output(&self.contents)?;
        let backups = cx.ports.backups(&scope(cx));
        let dump = async { Ok(backups.database(&self.name).await?) };
        let (rewrite, total) = (self.rewrite(&contents)?, contents.info.database_bytes);
        import_rewritten(cx, (&self.to.site, &self.store), dump, rewrite, total).await
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LIMIT_MS)
    }

    fn slot(&self) -> Option<String> {
        Some(format!("{} import", self.store.server))
    }

    fn reports(&self) -> bool {
        true
    }
}

impl CoveredBy for ImportBackup {
    fn covered_by(&self) -> String {
        "goes with the new database".to_owned()
    }
}
