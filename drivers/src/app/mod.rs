//! Applications: what differs between WordPress and plain sites. Each acts on a site's own directory and database only.

mod block;
mod php;
mod plain;
#[cfg(test)]
mod tests;
mod wordpress;
mod wordpress_settings;

pub use plain::{Plain, PlainConfig, SettingsFormat};
pub use wordpress::WordPress;
