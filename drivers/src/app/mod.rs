//! Applications: what differs between WordPress, Drupal and plain sites. Each acts on a site's own directory and database only.

mod block;
mod drift;
mod drupal;
mod drupal_find;
mod drupal_login;
mod drupal_policy;
mod drupal_settings;
mod drupal_sites;
mod drush;
mod keys;
mod login;
mod packages;
mod php;
mod plain;
#[cfg(test)]
mod tests;
mod wordpress;
mod wordpress_login;
mod wordpress_script;
mod wordpress_settings;

use kedge_workflows::ports::{AppSite, PortError, PortResult};

pub use drupal::Drupal;
pub use plain::{Plain, PlainConfig, SettingsFormat};
pub use wordpress::WordPress;

/// Refuses a quiet site of an application that cannot be held back.
fn demand_loud(site: &AppSite, what: &str) -> PortResult<()> {
    if site.quiet {
        let name = &site.name;
        return Err(PortError::Refused(format!("{name} cannot be kept quiet: it is {what}")));
    }
    Ok(())
}
