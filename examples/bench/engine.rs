//! Durable steps per second: many tasks at once, and one task alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use futures::future::join_all;
use kedge_engine::service::{Submission, Submitted, Tasks as _};
use kedge_engine::store::Batch;
use kedge_engine::task::{Actor, TaskId};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::raw::{Raw, head};
use crate::service::Service;
use crate::{Line, TURNS, Target, median, part};

/// Tasks at once, and steps of each, one after another.
const TASKS: usize = 256;
const STEPS: usize = 10;
/// Steps of the task that is alone.
const ALONE: usize = 100;

/// What is asked for on two cores.
const STEPS_PER_SECOND: f64 = 8000.0;
const MS_PER_STEP: f64 = 1.5;

/// Prints its lines; whether all targets are met.
pub(crate) fn run(runtime: &Runtime, folder: &Path) -> bool {
    let bench = Bench(Service::new(runtime, &folder.join("engine")));
    let raw = Raw::open(&folder.join("engine-raw"));

    let (mut here, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (seconds, batches) = bench.together(runtime);
        here.push((TASKS * STEPS) as f64 / seconds);
        limit.push((TASKS * STEPS) as f64 / in_rounds(&raw, &batches));
    }
    let together = Line {
        what: &format!("{TASKS} tasks at once, {STEPS} null steps each in a row"),
        here: median(&mut here),
        raw: Some(median(&mut limit)),
        unit: "steps/s",
        target: Target::AtLeast(STEPS_PER_SECOND),
    };
    let mut met = together.print();

    let (mut here, mut late, mut limit) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (mut gaps, batches) = bench.alone(runtime);
        here.push(median(&mut gaps));
        late.push(part(&mut gaps, 99));
        limit.push(in_rounds(&raw, &batches) * 1000.0 / ALONE as f64);
    }
    let median_step = Line {
        what: &format!("one task alone, {ALONE} null steps: median of a step"),
        here: median(&mut here),
        raw: Some(median(&mut limit)),
        unit: "ms",
        target: Target::AtMost(MS_PER_STEP),
    };
    met &= median_step.print();
    let what = "                                   99 of 100 within";
    let late = Line { what, here: median(&mut late), raw: None, unit: "ms", target: Target::None };
    met & late.print()
}

/// Seconds to write the first batch of every task together, then the second of every task, and so on.
fn in_rounds(raw: &Raw, batches: &[Batch]) -> f64 {
    let mut by_task: BTreeMap<&[u8], Vec<&Batch>> = BTreeMap::new();
    for batch in batches {
        by_task.entry(head(batch)).or_default().push(batch);
    }
    let rounds = by_task.values().map(Vec::len).max().unwrap_or_default();
    raw.seconds(
        (0..rounds).map(|round| by_task.values().filter_map(|batches| batches.get(round).copied()).collect()),
    )
}

struct Bench(Service);

impl Bench {
    /// Submits, then lets all of them run; seconds from the first submission to the last durable end.
    fn together(&self, runtime: &Runtime) -> (f64, Vec<Batch>) {
        self.0.store.take();
        let began = Instant::now();
        runtime.block_on(async {
            let tasks = join_all((0..TASKS).map(|n| self.submit(n, STEPS))).await;
            self.0.ends(&tasks).await;
        });
        (began.elapsed().as_secs_f64(), self.0.store.take())
    }

    /// The milliseconds from each step to the next.
    fn alone(&self, runtime: &Runtime) -> (Vec<f64>, Vec<Batch>) {
        self.0.store.take();
        let steps = || std::mem::take(&mut *self.0.world.steps.lock().expect("no step panics"));
        steps();
        runtime.block_on(async {
            let task = self.submit(0, ALONE).await;
            self.0.ends(&[task]).await;
        });
        let gaps = steps().windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1000.0).collect();
        (gaps, self.0.store.take())
    }

    async fn submit(&self, number: usize, steps: usize) -> TaskId {
        let submission = Submission {
            workflow: "chain".to_owned(),
            params: json!({ "site": format!("shop-{number}.example.test"), "steps": steps }),
            actor: Actor { name: "token:bench".to_owned(), via: "http".to_owned() },
            correlation_id: None,
            callback: None,
            not_before: None,
            priority: 0,
            trace: None,
            dedupe: Vec::new(),
            if_plan: None,
        };
        match self.0.engine.submit(submission).await {
            Ok(Submitted::Created(view)) => view.id,
            other => unreachable!("no key, so no duplicate: {other:?}"),
        }
    }
}
