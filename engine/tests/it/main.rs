//! The engine's tests: on a deterministic runtime, over a store in memory, in front of a world that can misbehave in every way.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "one test binary: everything in it is its own, and a failure is to be loud"
)]

/// Half as much time for the simulation's many small things as with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod rig;
mod steps;
mod story;
mod watch;
mod world;

mod approvals;
mod archive;
mod callbacks;
mod cancel;
mod children;
mod claims;
mod doubt;
mod fuzz;
mod golden;
mod guarantees;
mod inbox;
mod locking;
mod proof;
mod recovery;
mod retention;
mod scale;
mod sim;
mod stuck;
mod submit;
mod subtask;
mod timing;
mod transfer;
mod undo;
mod views;
