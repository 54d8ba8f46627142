//! The world of the benchmarks: steps that do nothing, in a chain as long as is asked for; the first may wait until it is let go, as
//! steps on real hosts take their time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use kedge_engine::builder::PlanBuilder;
use kedge_engine::context::Cx;
use kedge_engine::plan::Plan;
use kedge_engine::step::{Compensable, Compensate, Ref, Step, StepError};
use kedge_engine::workflow::{PlanCx, PlanRefusal, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

/// When each step ran, and whether those that wait may go on.
pub(crate) struct World {
    began: Instant,
    pub(crate) steps: Mutex<Vec<Duration>>,
    pub(crate) gate: watch::Sender<bool>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), steps: Mutex::default(), gate: watch::Sender::new(false) }
    }
}

/// Does nothing, and could undo it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Null {
    path: String,
    waits: bool,
    before: Option<Ref<()>>,
}

impl Step for Null {
    type Ports = World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "null";

    fn title(&self) -> String {
        format!("do nothing to {}", self.path)
    }

    async fn run(&self, cx: &Cx<'_, World>) -> Result<(), StepError> {
        if self.waits {
            let open = cx.ports.gate.subscribe().wait_for(|open| *open).await.map(|_| ());
            return open.map_err(|_| StepError::retryable("the bench has ended"));
        }
        let at = cx.ports.began.elapsed();
        cx.ports.steps.lock().expect("no step panics").push(at);
        Ok(())
    }
}

impl Compensate for Null {
    fn undo_title(&self) -> String {
        format!("undo nothing to {}", self.path)
    }

    async fn undo(&self, _: &Cx<'_, World>) -> Result<(), StepError> {
        Ok(())
    }
}

pub(crate) struct Chain;

impl Workflow for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }
    fn title(&self) -> &'static str {
        "null steps, one after another"
    }
    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["site", "steps"],
            "additionalProperties": false,
            "properties": {
                "site": { "type": "string", "minLength": 1, "maxLength": 253 },
                "steps": { "type": "integer", "minimum": 1, "maximum": 1000 },
                "waits": { "type": "boolean" },
            },
        })
    }
    fn example(&self) -> Value {
        json!({ "site": "shop.example.test", "steps": 10 })
    }
    fn plan(&self, params: &Value, _: &PlanCx<'_>) -> Result<Plan, PlanRefusal> {
        let site = params["site"].as_str().unwrap_or_default();
        let mut plan = PlanBuilder::new(Some(site));
        plan.lock(format!("site {site}"), false);
        let mut before = None;
        for n in 0..params["steps"].as_u64().unwrap_or_default() {
            let waits = n == 0 && params["waits"] == json!(true);
            let step = Null { path: format!("/srv/sites/{site}/{n}"), waits, before: before.take() };
            before = Some(plan.step(&format!("step_{n}"), step, &[]));
        }
        Ok(plan.build()?)
    }
}
