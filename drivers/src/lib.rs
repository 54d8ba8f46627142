//! Drivers: the code that touches machines. Each implements a port of the workflows; none knows a workflow.
pub mod app;
pub mod backups;
pub mod commands;
pub mod files;
pub mod host;
pub mod mysql;
pub mod secrets;
mod tar;
pub mod web;
