//! What the login links of every application are made of: the link's text, the name of its row, the hash by which the site knows it. Checked
//! on the site by `dispatcher.php` and `drupal_login_lines.php`.

use kedge_workflows::ports::{AppSite, PortError, PortResult, SecretRef};
use sha2::{Digest, Sha256};

/// A new link to a site.
pub(super) struct Link<'a> {
    /// What stands in the URL.
    pub(super) text: String,
    /// How the site is known to itself: a copy of the row in another site's database is good for nothing.
    pub(super) dir: &'a str,
}

impl<'a> Link<'a> {
    /// The next one to be kept as `secret`; no other has its text.
    pub(super) fn new(site: &'a AppSite, secret: &SecretRef) -> PortResult<Self> {
        let mut token = [0; 32];
        getrandom::fill(&mut token)
            .map_err(|error| PortError::Unavailable(format!("the system has no random bytes: {error}")))?;
        Ok(Self::with(site, format!("{}.{}", id(secret), hex::encode(token))))
    }

    /// One of this text.
    pub(super) fn with(site: &'a AppSite, text: String) -> Self {
        Self { text, dir: site.live_dir.rsplit('/').next().unwrap_or_default() }
    }

    /// What the site has of it.
    pub(super) fn hash(&self) -> String {
        hex::encode(Sha256::digest(format!("kedge login\n{}\n{}", self.dir, self.text)))
    }

    /// Where it leads.
    pub(super) fn url(&self, base: &str) -> String {
        format!("{}/index.php?kedge_login={}", base.trim_end_matches('/'), self.text)
    }
}

/// The name of a link's row: the same for the same secret, so that there is one at most.
pub(super) fn id(secret: &SecretRef) -> String {
    hex::encode(&Sha256::digest(&secret.0)[..16])
}
