//! Tests of the stores on real files: contract, crashes, syncs, a full disk.

#![expect(clippy::expect_used, clippy::panic, reason = "test code: what must hold and does not is a panic")]

mod contract;
mod crash;
mod disk_full;
mod kit;
mod opening;
mod power;
mod readers;
mod syncs;
