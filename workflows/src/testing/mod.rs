//! Fakes of the ports and the contract suites that fakes and drivers both pass. Never used in production.

mod app;
mod app_contract;
mod backups;
mod backups_contract;
mod database;
mod database_contract;
mod database_sql;
mod disk;
mod faults;
mod file_nodes;
mod files;
mod files_contract;
mod secrets;
mod secrets_contract;
mod tar;
mod trees_contract;
mod web_server;
mod web_server_contract;
mod world;

pub use app::{FakeApp, HIDES_LOGIN};
pub use app_contract::{AppBench, app_contract};
pub use backups::{FakeArchive, FakeBackups};
pub use backups_contract::backups_contract;
pub use database::FakeDatabase;
pub use database_contract::{DatabaseBench, database_contract};
pub use database_sql::{FakeCell, FakeEvent, FakeEvents, FakeTable, FakeTables};
pub use disk::{Body, FakeDisk, Node};
pub use faults::{Faults, Moment, Point};
pub use files::FakeFiles;
pub use files_contract::files_contract;
pub use secrets::FakeSecrets;
pub use secrets_contract::{SECRET_ALPHABET, secrets_contract};
pub use tar::{TarMember, tar_archive, tar_members};
pub use web_server::{FakeWebServer, Page};
pub use web_server_contract::{WebServerBench, web_server_contract};
pub use world::{FakeWorld, WorldState};
