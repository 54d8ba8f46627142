//! Test helpers of the engine for its own and other crates tests: contract suites, memory store, fault injection, a deterministic
//! runtime. Never used in production.

pub mod fakes;
pub mod meddle;
pub mod memory_store;
pub mod mutants;
pub mod runtime;
pub mod store_contract;
