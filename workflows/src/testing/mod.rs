//! Fakes of the ports and the contract suites that fakes and drivers both pass. Never used in production.

mod database;
mod database_contract;
mod database_sql;
mod disk;
mod faults;
mod files;
mod files_contract;
mod secrets;
mod tar;
mod web_server;
mod web_server_contract;

pub use database::FakeDatabase;
pub use database_contract::{DatabaseBench, database_contract};
pub use database_sql::{FakeCell, FakeTable, FakeTables};
pub use disk::{Body, FakeDisk, Node};
pub use faults::{Faults, Moment, Point};
pub use files::FakeFiles;
pub use files_contract::{collected, files_contract};
pub use secrets::FakeSecrets;
pub use tar::{TarMember, tar_archive, tar_members};
pub use web_server::{FakeWebServer, Page};
pub use web_server_contract::{WebServerBench, web_server_contract};
