//! Login links of WordPress: a row in the site's database that the platform's dispatcher takes out again. The link is in the secret store,
//! and nowhere else: the site has its hash.

use kedge_engine::task::Millis;
use kedge_workflows::ports::{AppSite, LoginUser, PortError, PortResult, Secret, SecretRef};
use serde::Deserialize;
use serde_json::Value;

use super::login::{Link, id};
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
    let new = Link::new(site, link)?;
    let Made { user, url } = run(app, site, link, user.unwrap_or_default(), &new.hash(), until).await?;
    app.secrets.put(link, &Secret::new(new.url(&url)), until).await?;
    Ok(LoginUser { user, until })
}

/// See `App::revoke_login`.
pub(super) async fn revoke(app: &WordPress, site: &AppSite, link: &SecretRef) -> PortResult<()> {
    run(app, site, link, "", "", 0).await?;
    app.secrets.remove(link).await
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
