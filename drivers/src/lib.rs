//! Drivers: the code that touches machines. Each implements a port of the workflows; none knows a workflow.
pub mod files;
pub mod host;
pub mod mysql;
mod tar;
pub mod web;
