//! Drivers: the code that touches machines. Each implements a port of the workflows; none knows a workflow.
pub mod app;
pub mod files;
mod hash;
pub mod host;
pub mod mysql;
mod tar;
pub mod web;
