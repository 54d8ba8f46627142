//! Content for a site: posts, pictures, serialised values, odd tables and odd files, all from one number.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::host::Host;
use crate::wordpress::php;

/// What a site shall be filled with. The site must have been installed, and must not have been seeded before.
#[derive(Debug, Clone, Serialize)]
pub struct SeedSpec {
    /// The code base, such as `/srv/platforms/wordpress-6.1`.
    pub platform_root: String,
    /// The site's own directory, `<platform_root>/sites/<uri>`.
    pub site_dir: String,
    /// The site's host name.
    pub uri: String,
    /// Number of posts and pages; each has a picture in six sizes.
    pub posts: u32,
    /// Decides every value.
    pub seed: u32,
    /// Also a view and a trigger: their definer is the site's account.
    pub view_and_trigger: bool,
    /// Also files with odd names, modes, links and holes, under `wp-content/uploads/odd`.
    pub odd_files: bool,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedReport {
    /// Posts and pages.
    pub posts: u32,
    /// Attachments, each with metadata of its sizes.
    pub attachments: u32,
    /// Picture files.
    pub files: u32,
    /// Revisions of posts.
    pub revisions: u32,
    /// Comments, some unapproved.
    pub comments: u32,
    /// Users.
    pub users: u32,
    /// Categories.
    pub terms: u32,
    /// Items of the menu.
    pub menu_items: u32,
    /// Odd files, directories and links.
    pub odd_files: u32,
    /// Rows in the odd tables.
    pub odd_rows: u32,
}

impl SeedSpec {
    /// A site in the usual layout, with everything odd.
    pub fn new(platform_root: &str, uri: &str, posts: u32, seed: u32) -> Self {
        Self {
            platform_root: platform_root.to_owned(),
            site_dir: format!("{platform_root}/sites/{uri}"),
            uri: uri.to_owned(),
            posts,
            seed,
            view_and_trigger: true,
            odd_files: true,
        }
    }
}

/// Fills a site through WordPress's own functions, in one PHP process. 300 posts take about ten seconds.
pub async fn seed(host: &Host, spec: &SeedSpec) -> Result<SeedReport> {
    let limit = Duration::from_secs(120) + Duration::from_millis(500) * spec.posts;
    php(host, spec, include_str!("seed.php"), limit).await
}
