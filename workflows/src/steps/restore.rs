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
use crate::records::{BACKUP, BackupRecord, SITE, SiteRecord, has_alias};
use crate::renaming::copied;
use crate::rewrite::Rewrite;

/// Two hours: reading, unpacking or importing a large site.
const LIMIT_MS: u64 = 7_200_000;

/// Tables in which Drupal keeps pages and pieces of them, the host name being part of the key (`page_cache`, `dynamic_page_cache`, `render`;
/// Drupal 7: `block`).
const KEYED_BY_NAME: [&str; 4] = ["cache_page", "cache_dynamic_page_cache", "cache_render", "cache_block"];

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
        self.must_be_as_made(cx, &contents)?;
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

impl ReadBackup {
    /// An archive without compression has no checksum over its files, and another archive may be whole as well: the registry knows which
    /// file it was.
    fn must_be_as_made(&self, cx: &Cx<'_, dyn World>, contents: &Contents) -> Result<(), StepError> {
        let Some(known) = cx.record::<BackupRecord>(BACKUP, &self.name)? else { return Ok(()) };
        let (is, was) = (&contents.info.sha256, &known.sha256);
        if is == was {
            return Ok(());
        }
        Err(StepError::fatal(format!(
            "the backup {} is not the file that was made: its SHA-256 is {is}, that in the registry {was}; bring the right file back from a \
             copy, or take another backup (a copy of this one under another name is used as it is)",
            self.name
        )))
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
    fn rewrite(&self, cx: &Cx<'_, dyn World>, contents: &Contents) -> Result<Arc<Rewrite>, StepError> {
        let Some(origin) = &contents.origin else { return rewrite([], &[]) };
        let old = self.name_of(&origin.site)?;
        let had: Vec<SiteName> = match &origin.aliases {
            Some(aliases) => aliases.iter().map(|alias| self.name_of(alias)).collect::<Result<_, _>>()?,
            // The site may be there still, and have them now.
            None => cx.record::<SiteRecord>(SITE, old.as_str())?.map(|site| site.aliases).unwrap_or_default(),
        };
        let sites = cx.records(SITE)?;
        // A name that is somebody else's is not ours to rewrite, unless it was this site's own.
        let taken = |name: &SiteName| {
            let mut others = sites
                .iter()
                .filter(|(owner, _)| ![old.as_str(), self.to.site.as_str()].contains(&owner.as_str()));
            others.any(|(owner, site)| owner == name.as_str() || has_alias(site, name))
        };
        let names = copied(&old, &had, &self.to, taken);
        let moves = [(&origin.dir, &self.to.dir), (&origin.root, &self.to.root)];
        let moves = moves.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone()));
        of_dump(&names, &moves.collect::<Vec<_>>())
    }

    fn name_of(&self, text: &str) -> Result<SiteName, StepError> {
        SiteName::parse(text)
            .map_err(|error| StepError::fatal(format!("the backup {} is of {error}", self.name)))
    }
}

/// The rewrite of a dump. Pages that were kept under several names which become one would get one and the same key: they stay as they
/// are, and are cleared before anybody asks for them.
#[expect(clippy::expect_used, reason = "the rewrite was made in the line before")]
fn of_dump(names: &[(SiteName, SiteName)], moves: &[(String, String)]) -> Result<Arc<Rewrite>, StepError> {
    let rewrite = rewrite(names, moves)?;
    let meet =
        names.iter().enumerate().any(|(index, (_, to))| names[..index].iter().any(|(_, other)| other == to));
    if !meet {
        return Ok(rewrite);
    }
    let rewrite = Arc::into_inner(rewrite).expect("a rewrite that was just made is nobody else's");
    Ok(Arc::new(rewrite.skip_tables(KEYED_BY_NAME.map(str::to_owned))))
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
        let (rewrite, total) = (self.rewrite(cx, &contents)?, contents.info.database_bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite::SqlRewriter;

    #[test]
    fn keys_that_would_be_the_same_stay_apart() {
        let pair = |from: &str, to: &str| (SiteName::parse(from).unwrap(), SiteName::parse(to).unwrap());
        let rewritten = |names: &[(SiteName, SiteName)]| {
            let mut sql = SqlRewriter::new(of_dump(names, &[]).unwrap());
            let (mut out, dump) = (
                Vec::new(),
                "INSERT INTO `x_cache_page` VALUES ('http://a.test/:'),('http://www.a.test/:');\nINSERT INTO `node` VALUES ('http://www.a.test/');\n",
            );
            sql.push(dump.as_bytes(), &mut out);
            sql.finish(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let one = rewritten(&[pair("a.test", "b.test"), pair("www.a.test", "b.test")]);
        assert!(
            one.contains("('http://a.test/:'),('http://www.a.test/:')") && one.contains("('http://b.test/')"),
            "{one}"
        );
        let two = rewritten(&[pair("a.test", "b.test"), pair("www.a.test", "www.b.test")]);
        assert!(two.contains("('http://b.test/:'),('http://www.b.test/:')"), "{two}");
    }
}
