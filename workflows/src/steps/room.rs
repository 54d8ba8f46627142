//! Room on file systems, as it has to be before a task begins.

use kedge_engine::step::StepError;

use crate::ports::Files;

/// Room demanded beyond what is counted, in percent: sites grow while we copy.
const MARGIN_PERCENT: u64 = 20;

/// Demands that so many bytes, and a margin, are free.
pub(super) fn demand_room(what: &str, free: u64, needed: u64) -> Result<(), StepError> {
    let needed = with_margin(needed);
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
    Err(StepError::fatal(format!("{what} has {} MiB free, {} MiB are needed", mib(free), mib(needed))))
}

/// The same, and for so many entries, on the file system of a host's directory.
pub(super) async fn demand_room_in(
    files: &dyn Files,
    dir: &str,
    bytes: u64,
    entries: u64,
) -> Result<(), StepError> {
    let free = files.free(dir).await?;
    demand_room(&format!("the file system of {dir}"), free.bytes, bytes)?;
    let needed = with_margin(entries);
    match free.inodes.filter(|inodes| *inodes < needed) {
        None => Ok(()),
        Some(inodes) => Err(StepError::fatal(format!(
            "the file system of {dir} has {inodes} inodes free, {needed} are needed"
        ))),
    }
}

/// What is counted, with the margin.
fn with_margin(needed: u64) -> u64 {
    needed + needed * MARGIN_PERCENT / 100
}
