//! Test helpers of the engine for its own and other crates tests: contract suites, memory store, fault injection. Never used in production.

pub mod memory_store;
pub mod store_contract;
