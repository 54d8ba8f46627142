//! How long a task is going to take, judged by what the same took before. Reads finished tasks; decides nothing.

use super::Inner;
use crate::journal::keys;
use crate::service::Estimate;
use crate::store::{Pairs, ReadError};
use crate::task::{TaskId, TaskState, TaskView};

/// Finished tasks looked at, newest first: one that is further back tells little of today.
const LOOK_BACK: usize = 200;

impl<P: ?Sized + Send + Sync + 'static> Inner<P> {
    /// The last task of this workflow that succeeded: of the same site, else of any. `None` when there is none among the newest.
    pub(super) fn estimate(&self, workflow: &str, site: Option<&str>) -> Result<Option<Estimate>, ReadError> {
        if let Some(site) = site {
            let prefix = keys::site(site);
            let rows = self.journal.store().scan_back(&prefix, None, LOOK_BACK)?;
            if let Some(last) = self.last(workflow, &prefix, rows)? {
                return Ok(of(last, true));
            }
        }
        let rows = self.journal.store().scan_back(keys::HEADS, None, LOOK_BACK)?;
        Ok(self.last(workflow, keys::HEADS, rows)?.and_then(|last| of(last, false)))
    }

    fn last(&self, workflow: &str, prefix: &[u8], rows: Pairs) -> Result<Option<TaskView>, ReadError> {
        for (key, _) in rows {
            let text = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            let Ok(task) = TaskId::try_from(text) else { continue };
            // One that cannot be read is quarantined, and no measure.
            let Ok(Some((head, _))) = self.journal.head(&task) else { continue };
            if head.workflow == workflow && head.state == TaskState::Succeeded {
                return self.view(&task);
            }
        }
        Ok(None)
    }
}

fn of(task: TaskView, same_site: bool) -> Option<Estimate> {
    let took = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
    let steps = task
        .steps
        .iter()
        .filter_map(|step| Some((step.name.clone(), took(step.started_at, step.finished_at)?)));
    Some(Estimate {
        duration_ms: took(task.started_at, task.finished_at)?,
        downtime_ms: task.downtime_ms,
        steps: steps.collect(),
        based_on: task.id,
        same_site,
    })
}
