//! Applications: what differs between WordPress, Drupal and plain sites. Each acts on a site's own directory and database only.

mod block;
mod drift;
mod drupal;
mod drupal_policy;
mod drupal_settings;
mod drupal_sites;
mod drush;
mod php;
mod plain;
#[cfg(test)]
mod tests;
mod wordpress;
mod wordpress_login;
mod wordpress_settings;

pub use drupal::Drupal;
pub use plain::{Plain, PlainConfig, SettingsFormat};
pub use wordpress::WordPress;
