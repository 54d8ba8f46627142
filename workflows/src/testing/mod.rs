//! Fakes of the ports and the contract suites that fakes and drivers both pass. Never used in production.

mod faults;
mod web_server;
mod web_server_contract;

pub use faults::{Faults, Moment, Point};
pub use web_server::{FakeWebServer, Page};
pub use web_server_contract::{WebServerBench, web_server_contract};
