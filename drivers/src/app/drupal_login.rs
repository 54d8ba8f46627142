//! Login links of Drupal: a row in the site's database that lines in its `settings.php` take out again. The row has Drupal's own one-time
//! way in, which the link alone makes readable: so it can be taken back and ends when it shall, which Drupal's own links cannot.

use kedge_engine::task::Millis;
use kedge_workflows::ports::{AppSite, LoginUser, PortError, PortResult, Secret, SecretRef};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::drupal::{Drupal, FACTS_LIMIT, OnSite, SETTINGS};
use super::login::{Link, id};

#[derive(Deserialize)]
struct Found {
    uid: u64,
    user: String,
    /// How Drupal 7 lets in; newer ones are asked through drush.
    path: Option<String>,
    /// The site's time, and how long its one-time links are good, in seconds.
    now: u64,
    limit: u64,
}

/// See `App::login_link`.
pub(super) async fn make(
    app: &Drupal,
    site: &AppSite,
    user: Option<&str>,
    link: &SecretRef,
    until: Millis,
) -> PortResult<LoginUser> {
    let path = format!("{}/{SETTINGS}", site.dir);
    let settings = app.files.read(&path).await?;
    let takes = |bytes: &[u8]| memchr::memmem::find(bytes, b"$_GET['kedge_login']").is_some();
    if !settings.is_some_and(|file| takes(&file.bytes)) {
        return Err(PortError::Refused(format!(
            "{path} is from an older Kedge and takes no login links; verify the site first"
        )));
    }
    let given = json!({ "what": "find", "user": user.unwrap_or_default() });
    let found: Found = run(app, site, given, false).await?;
    let way_in = match found.path {
        Some(path) => path,
        None => by_drush(app, site, &found.user, found.uid).await?,
    };
    // Drupal's own way in ends when Drupal says.
    let until = until.min((found.now + found.limit) * 1000);
    let new = Link::new(site, link)?;
    let row = row(&new, &way_in, &found.user, until);
    let given = json!({ "what": "keep", "id": id(link), "row": row, "until": until / 1000 });
    run::<Value>(app, site, given, true).await?;
    app.secrets.put(link, &Secret::new(new.url(&site.url())), until).await?;
    Ok(LoginUser { user: found.user, until })
}

/// See `App::revoke_login`.
pub(super) async fn revoke(app: &Drupal, site: &AppSite, link: &SecretRef) -> PortResult<()> {
    run::<Value>(app, site, json!({ "what": "revoke", "id": id(link) }), true).await?;
    app.secrets.remove(link).await
}

/// The row: until when, the link's hash, the way in as the link alone makes it readable, the user's name. `drupal_login_lines.php` reads
/// it.
fn row(link: &Link<'_>, way_in: &str, user: &str, until: Millis) -> String {
    let (dir, text, hash) = (link.dir, &link.text, link.hash());
    // Used once, for one link: a stream of hashes is as good as any cipher.
    let hidden: Vec<u8> = way_in
        .as_bytes()
        .chunks(32)
        .enumerate()
        .flat_map(|(number, part)| {
            let key = Sha256::digest(format!("kedge login path\n{dir}\n{text}\n{number}"));
            part.iter().zip(key).map(|(byte, key)| byte ^ key).collect::<Vec<u8>>()
        })
        .collect();
    format!("{}:{hash}:{}:{}", until / 1000, hex::encode(hidden), hex::encode(user))
}

/// Drupal's own way in, from `drush user:login`; not the whole of its link: drush does not know whether a site has TLS.
async fn by_drush(app: &Drupal, site: &AppSite, user: &str, uid: u64) -> PortResult<String> {
    let name = format!("--name={user}");
    let said = app
        .drush(site, "asking for a way in to", &["user:login", "--no-browser", &name], FACTS_LIMIT)
        .await
        .map_err(without_way_in)?;
    let text = String::from_utf8_lossy(&said.stdout);
    way_in(&text, uid).ok_or_else(|| {
        PortError::Refused(format!(
            "drush user:login of {} gave no link for the user {user:?} on {}",
            said.path, site.name
        ))
    })
}

/// The path of the last link in an output that lets in as this user.
fn way_in(output: &str, uid: u64) -> Option<String> {
    let user = format!("/user/reset/{uid}/");
    let path = |word: &str| {
        let rest = word.strip_prefix("http://").or_else(|| word.strip_prefix("https://"))?;
        let path = &rest[rest.find('/')?..];
        let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.%~".contains(&b));
        // "//…" would lead to another host.
        (plain && !path.starts_with("//") && path.contains(&user)).then(|| path.to_owned())
    };
    output.split_whitespace().rev().find_map(path)
}

/// An error of drush without what it may have printed of a link.
fn without_way_in(error: PortError) -> PortError {
    match error {
        PortError::Refused(text) => match text.split_once("/user/reset/") {
            Some((before, _)) => PortError::Refused(format!("{before}/user/reset/***")),
            None => PortError::Refused(text),
        },
        other => other,
    }
}

async fn run<T: DeserializeOwned>(
    app: &Drupal,
    site: &AppSite,
    given: Value,
    changes: bool,
) -> PortResult<T> {
    let run = OnSite::new("making a login link for", include_str!("php/drupal_login.php"));
    let mut parameters = Map::from_iter([("user".to_owned(), Value::from(""))]);
    if let Value::Object(given) = given {
        parameters.extend(given);
    }
    app.on_site(site, OnSite { parameters, changes, ..run }).await
}

#[cfg(test)]
mod tests {
    use super::super::wordpress_settings::tests::site;
    use super::*;

    #[test]
    fn the_last_link_of_the_user_is_the_way_in() {
        let noise = "Deprecated: x\nhttp://a.test/user/reset/2/170/abc_-d/login\n";
        let link = "https://a.test/de/user/reset/1/1700000000/Zm9v-_/login";
        assert_eq!(way_in(&format!("{noise}{link}\n"), 1).as_deref(), Some(&link["https://a.test".len()..]));
        assert_eq!(way_in(noise, 2).as_deref(), Some("/user/reset/2/170/abc_-d/login"));
        for bad in
            ["", "http://a.test", "http://a.test//b.test/user/reset/1/2/3/login", noise, "/user/reset/1/2/x"]
        {
            assert_eq!(way_in(bad, 1), None, "{bad}");
        }
        let quoted = "http://a.test/user/reset/1/2/x\"><b>/login";
        assert_eq!(way_in(quoted, 1), None);
    }

    #[test]
    fn an_error_of_drush_tells_no_link() {
        let told = without_way_in(PortError::Refused("x: http://a.test/user/reset/1/2/secret/login".into()));
        assert_eq!(told, PortError::Refused("x: http://a.test/user/reset/***".into()));
    }

    #[test]
    fn a_row_has_the_way_in_and_the_link_in_no_readable_form() {
        let (site, path) = (site("shop"), "/user/reset/1/1700000000/a-hash-of-forty-three-characters/login");
        let row_of =
            |text: &str| row(&Link::with(&site, text.to_owned()), path, "chief: <b>", 1_700_000_000_999);
        let row = row_of("0123.token");
        let parts: Vec<&str> = row.split(':').collect();
        let [until, _, hidden, user] = parts[..] else { panic!("{row}") };
        assert_eq!((until, hidden.len(), user), ("1700000000", path.len() * 2, "63686965663a203c623e"));
        assert!(!row.contains("token") && !row.contains(&hex::encode(&path[1..8])), "{row}");
        assert_ne!(row, row_of("0123.tokem"));
    }
}
