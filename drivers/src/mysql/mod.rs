//! MySQL and MariaDB.
mod errors;
mod quote;
mod sql_filter;
mod sql_head;
