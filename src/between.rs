//! What may stand between the engine and its journal, steps and hosts: nothing, or a drill's faults. Decides nothing itself.

use std::sync::Arc;

use kedge_drivers::host::Host;
use kedge_engine::step::StepKinds;
use kedge_engine::store::Store;
use kedge_workflows::ports::World;

/// Wraps the parts of a service while it is put together.
pub(crate) trait Between {
    /// The journal's store.
    fn store(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;
    /// A host.
    fn host(&self, host: Arc<dyn Host>) -> Arc<dyn Host>;
    /// The kinds of step.
    fn kinds(&self, kinds: StepKinds<dyn World>) -> StepKinds<dyn World>;
}

/// Nothing: what a real service has.
pub(crate) struct Nothing;

impl Between for Nothing {
    fn store(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }

    fn host(&self, host: Arc<dyn Host>) -> Arc<dyn Host> {
        host
    }

    fn kinds(&self, kinds: StepKinds<dyn World>) -> StepKinds<dyn World> {
        kinds
    }
}
