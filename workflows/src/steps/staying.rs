//! What keeps a purge from the last backup of a site: the records of those that stay say nothing of whether their archives are there still.
//! Removes nothing.

use std::collections::BTreeMap;

use kedge_engine::context::Cx;
use kedge_engine::step::StepError;
use serde::{Deserialize, Serialize};

use crate::names::SiteName;
use crate::place::scope;
use crate::ports::{Backups, World};
use crate::records::BackupRecord;

/// A backup that stays where others of its site go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Staying {
    /// File name.
    pub(crate) name: String,
    /// Its site.
    pub(crate) site: SiteName,
    /// Bytes on disk when it was made.
    pub(crate) bytes: u64,
    /// Whether it holds the whole site.
    pub(crate) whole: bool,
}

impl Staying {
    pub(crate) fn of(backup: &BackupRecord) -> Self {
        let whole = backup.exclude.is_empty();
        Self { name: backup.name.clone(), site: backup.site.clone(), bytes: backup.bytes, whole }
    }
}

/// How many archives that should stay are missing of a site.
#[derive(Default)]
struct Missing {
    whole: usize,
    partial: usize,
}

/// Those that may go: for each archive that should stay and is not there, the newest one that is there stays instead.
///
/// # Errors
/// When the backup directory cannot be looked at.
pub(crate) async fn may_go(
    cx: &Cx<'_, dyn World>,
    staying: &[Staying],
    mut going: Vec<BackupRecord>,
) -> Result<Vec<BackupRecord>, StepError> {
    let backups = cx.ports.backups(&scope(cx));
    let mut missing: BTreeMap<&SiteName, Missing> = BTreeMap::new();
    for one in staying {
        if !is_there(&*backups, &one.name, one.bytes).await? {
            cx.log(format!(
                "{} should stay, and is not there as it was made: another one stays for it",
                one.name
            ));
            let of_site = missing.entry(&one.site).or_default();
            *(if one.whole { &mut of_site.whole } else { &mut of_site.partial }) += 1;
        }
    }
    going.sort_by_key(|backup| std::cmp::Reverse(backup.created_at));
    let mut gone = Vec::new();
    for backup in going {
        let whole = backup.exclude.is_empty();
        if let Some(lack) = missing.get_mut(&backup.site)
            && (lack.partial > 0 || (whole && lack.whole > 0))
            && is_there(&*backups, &backup.name, backup.bytes).await?
        {
            let lacks = if whole && lack.whole > 0 { &mut lack.whole } else { &mut lack.partial };
            *lacks -= 1;
            cx.log(format!("{} stays", backup.name));
            continue;
        }
        gone.push(backup);
    }
    Ok(gone)
}

async fn is_there(backups: &dyn Backups, name: &str, bytes: u64) -> Result<bool, StepError> {
    Ok(backups.size(name).await? == Some(bytes))
}
