//! Test hosts in Docker and real sites on them, for tests, the demo and drills. Depends on nothing else of Kedge.
//!
//! [`Testenv::open`] makes the machine ready (engine, image) and opens a run; [`Host::start`] starts a host of it.
//! Everything carries the label `kedge.testenv` and is removed when its handle is dropped, or by the next run's sweep
//! after a crash. Ports are published on 127.0.0.1 only.

mod apt;
mod base;
mod cleanup;
mod create;
mod docker;
mod env;
mod error;
mod exec;
mod host;
mod http;
mod image;
mod owner;
mod program;
mod progress;
mod ready;
mod spec;
pub mod wordpress;

pub use cleanup::{LABEL, Things};
pub use docker::Docker;
pub use env::Testenv;
pub use error::{Error, Result};
pub use exec::{Exec, Output};
pub use host::Host;
pub use http::Page;
pub use progress::Progress;
pub use spec::{DataDir, HostSpec, Service};
