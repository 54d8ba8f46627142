//! Stores of the journal: [`SledStore`] on disk, the memory store for tests (feature `testing`), and the step logs beside the journal.
//! Bytes only: tasks and events are the engine's business. It never uses an async runtime; threads of its own do the waiting.

mod logs;
mod sled_store;

#[cfg(feature = "testing")]
pub use kedge_engine::testing::memory_store::MemoryStore;
pub use logs::{FileLogs, MAX_LOG};
pub use sled_store::{Durability, OpenError, Options, RealDurability, SledStore, Stats};
