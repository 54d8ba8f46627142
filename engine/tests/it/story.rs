//! The story of a run for people: what is journaled, what acts on the world, who dies. Told only where somebody listens.

use std::cell::RefCell;

use kedge_engine::event::Event;
use kedge_engine::journal::Record;
use kedge_engine::plan::UndoSpec;
use kedge_engine::task::{Millis, TaskId};
use kedge_engine::testing::runtime::EPOCH;
use serde_json::Value;

thread_local! {
    // A run stays on its thread.
    static STORY: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Adds a line, if somebody listens.
pub fn tell(line: impl FnOnce() -> String) {
    STORY.with_borrow_mut(|story| {
        if let Some(story) = story {
            story.push(line());
        }
    });
}

/// What is told while this runs, also when it panics.
pub fn told<T>(run: impl FnOnce() -> T) -> (std::thread::Result<T>, Vec<String>) {
    STORY.set(Some(Vec::new()));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    (result, STORY.take().unwrap_or_default())
}

/// A task's name in a story: the last digits of its id.
pub fn short(task: &TaskId) -> String {
    let id = task.as_str();
    format!("task..{}", &id[id.len() - 3..])
}

/// When, in milliseconds of virtual time.
pub fn time(at: Millis) -> String {
    format!("{:>6}", i128::from(at) - i128::from(EPOCH))
}

/// A record that is durable now, as a line; the first one with its plan.
pub fn journaled(task: &TaskId, record: &Record) -> String {
    let head = format!("{} {} {:>3}", time(record.at), short(task), record.sequence);
    if let Event::Accepted(accepted) = &record.event {
        let plan = &accepted.plan;
        let name = |index| plan.step(index).name.clone();
        let steps = plan.steps().map(|(index, spec)| {
            let after: Vec<String> = plan.before(index).map(name).collect();
            let undo = if matches!(spec.undo, UndoSpec::Own { .. }) { ", undo" } else { "" };
            let scope = spec.scope.as_deref().map(|scope| format!(" in {scope}")).unwrap_or_default();
            format!("\n             {:?} {}{scope}{undo}, after {after:?}", spec.class, spec.name)
        });
        let locks: Vec<_> = plan.rest().locks.iter().map(|lock| (&lock.resource, lock.shared)).collect();
        return format!("{head} accepted, locks {locks:?}{}", steps.collect::<String>());
    }
    let mut fields = match serde_json::to_value(&record.event) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("an event is an object: {other:?}"),
    };
    fields.remove("type");
    let fields = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "listing" | "digest" | "actor"));
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name} {value}")).collect();
    format!("{head} {} {}", record.event.kind(), fields.join(", "))
}
