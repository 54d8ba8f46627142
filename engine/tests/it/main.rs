//! The engine's tests: on a deterministic runtime, over a store in memory, in front of a world that can misbehave in every way.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "one test binary: everything in it is its own, and a failure is to be loud"
)]

mod rig;
mod steps;
mod watch;
mod world;

mod callbacks;
mod cancel;
mod claims;
mod doubt;
mod golden;
mod guarantees;
mod locking;
mod proof;
mod recovery;
mod scale;
mod sim;
mod stuck;
mod submit;
mod subtask;
mod timing;
mod undo;
mod views;
