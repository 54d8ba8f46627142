//! Login links of WordPress: a row in the site's database that the platform's dispatcher takes out again. The link is in the secret store,
//! and nowhere else: the site has its hash.

use kedge_engine::task::Millis;
use kedge_workflows::ports::{AppSite, LoginUser, PortError, PortResult, Secret, SecretRef};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::wordpress::WordPress;
use super::wordpress_script::OnSite;

#[derive(Deserialize)]
struct Made {
    user: String,
    url: String,
}

/// See `App::login_link`.
pub(super) async fn make(
    app: &WordPress,
    site: &AppSite,
    user: Option<&str>,
    link: &SecretRef,
    until: Millis,
) -> PortResult<LoginUser> {
    let root = &site.platform_root;
    if !app.is_prepared(root).await? {
        return Err(PortError::Refused(format!(
            "the wp-config.php of {root} is from an older Kedge and takes no login links; verify the platform first"
        )));
    }
    let mut token = [0; 32];
    getrandom::fill(&mut token)
        .map_err(|error| PortError::Unavailable(format!("the system has no random bytes: {error}")))?;
    let text = format!("{}.{}", id(link), hex::encode(token));
    // The dispatcher knows a site by its directory: a copy of the row in another site's database is good for nothing.
    let dir = site.live_dir.rsplit('/').next().unwrap_or_default();
    let hash = hex::encode(Sha256::digest(format!("kedge login\n{dir}\n{text}")));
    let Made { user, url } = run(app, site, link, user.unwrap_or_default(), &hash, until).await?;
    let url = format!("{}/index.php?kedge_login={text}", url.trim_end_matches('/'));
    app.secrets.put(link, &Secret::new(url), until).await?;
    Ok(LoginUser { user, until })
}

/// See `App::revoke_login`.
pub(super) async fn revoke(app: &WordPress, site: &AppSite, link: &SecretRef) -> PortResult<()> {
    run(app, site, link, "", "", 0).await?;
    app.secrets.remove(link).await
}

/// The name of a link's row: the same for the same link, so that there is one at most.
fn id(link: &SecretRef) -> String {
    hex::encode(&Sha256::digest(&link.0)[..16])
}

async fn run(
    app: &WordPress,
    site: &AppSite,
    link: &SecretRef,
    user: &str,
    hash: &str,
    until: Millis,
) -> PortResult<Made> {
    let mut run = OnSite::new("making a login link for", include_str!("php/wordpress_login.php"));
    for (name, value) in [
        ("id", Value::from(id(link))),
        ("user", user.into()),
        ("hash", hash.into()),
        ("until", (until / 1000).into()),
    ] {
        run.parameters.insert(name.to_owned(), value);
    }
    app.on_site(site, run).await
}
