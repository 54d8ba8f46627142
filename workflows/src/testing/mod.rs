//! Fakes of the ports and the contract suites that fakes and drivers both pass. Never used in production.

mod database;
mod database_contract;
mod database_sql;
mod faults;
mod secrets;
mod web_server;
mod web_server_contract;

pub use database::FakeDatabase;
pub use database_contract::{DatabaseBench, database_contract};
pub use database_sql::{FakeCell, FakeTable, FakeTables};
pub use faults::{Faults, Moment, Point};
pub use secrets::FakeSecrets;
pub use web_server::{FakeWebServer, Page};
pub use web_server_contract::{WebServerBench, web_server_contract};
