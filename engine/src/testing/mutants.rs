//! Which deliberate bug is switched on: the one that `KEDGE_MUTANT` names. Read once; used by [`crate::mutants`] alone.

use std::sync::OnceLock;

/// The bugs: where, and what is wrong.
pub const ALL: [(&str, &str); 18] = [
    ("undo-too-early", "machine: a step is undone before what came after it"),
    ("failed-step-is-clean", "machine: a step that failed is not undone"),
    ("back-after-pivot", "machine: a task goes back though its pivot has succeeded"),
    ("no-doubt", "machine: what was in flight when the process died is run again without a probe"),
    ("deaths-do-not-count", "machine: a step that kills the process is tried for ever"),
    ("early-end", "machine: the end comes before the last undo"),
    ("undo-cut-short", "machine: an undo that failed counts as done when it was tried once"),
    ("gate-stands-open", "machine: what needs an approval begins when somebody is asked"),
    ("launch-before-commit", "executor: an attempt acts before its start is durable"),
    ("head-not-demanded", "executor: a batch does not demand the head that it extends"),
    ("locks-are-left", "executor: the end leaves its locks in the journal"),
    ("locks-are-forgotten", "executor: the locks of a task are not taken again after a restart"),
    ("end-without-callback", "executor: the end is written without its callbacks"),
    ("claims-unguarded", "executor: a claim is not demanded to be free in its own batch"),
    ("plan-is-old", "executor: a task that waited goes by the plan that it had"),
    ("survivors-run-on", "executor: processes of an earlier life are not ended first"),
    ("ack-before-sync", "store: a batch is acknowledged before it is synced"),
    ("conditions-ignored", "store: preconditions are not checked"),
];

/// Whether this bug is switched on.
///
/// # Panics
/// When it is not in [`ALL`].
#[must_use]
pub fn bug(name: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    assert!(ALL.iter().any(|(known, _)| *known == name), "{name} is not listed");
    let chosen = CHOSEN.get_or_init(|| std::env::var("KEDGE_MUTANT").ok());
    chosen.as_deref() == Some(name)
}
