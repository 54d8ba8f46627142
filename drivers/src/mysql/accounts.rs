//! Users: a site's user is one name with an account for each web host. On MySQL an account carries our mark as its attribute;
//! MariaDB has no such place: there an account is ours when it has the password that only our secret store knows. Never drops
//! an account that is not proven ours, and never grants beyond one schema.

use std::collections::BTreeSet;
use std::time::Duration;

use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{Existing, Mark, PortError, PortResult, Secret};
use sha1::{Digest, Sha1};

use super::client::{Client, Select};
use super::marks;
use super::quote;
use super::schema::field;
use super::tools::Flavour;

/// Longest user name on MySQL.
const MAX_MYSQL_USER: usize = 32;
/// How often the list of sessions is looked at while they end, and how long apart.
const SESSION_POLLS: u32 = 150;
const SESSION_POLL: Duration = Duration::from_millis(100);

/// An account as the server keeps it.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) host: String,
    pub(super) locked: bool,
    /// Plugin and authentication string: what the password's hash is kept in. For comparison only.
    pub(super) authentication: String,
    /// The mark in its attribute (MySQL).
    attribute: Option<String>,
}

/// All accounts of a user name, by host.
pub(super) async fn of_user(client: &Client, user: &DatabaseName) -> PortResult<Vec<Account>> {
    let name = quote::text(user.as_str())?;
    let query = match client.tools().await?.server.flavour {
        // Priv holds everything of an account as JSON; several ways to log in are an array beside the last one.
        Flavour::Mariadb => Select::new(
            [
                "Host",
                "JSON_VALUE(Priv, '$.account_locked')",
                "CONCAT(COALESCE(JSON_VALUE(Priv, '$.plugin'), ''), ' ', \
                 COALESCE(JSON_VALUE(Priv, '$.authentication_string'), ''), COALESCE(JSON_EXTRACT(Priv, '$.auth_or'), ''))",
                "NULL",
            ],
            format!("FROM mysql.global_priv WHERE User = {name} ORDER BY Host"),
        ),
        Flavour::Mysql => Select::new(
            [
                "u.Host",
                "u.account_locked = 'Y'",
                "CONCAT(u.plugin, ' ', HEX(u.authentication_string))",
                "JSON_UNQUOTE(JSON_EXTRACT(a.ATTRIBUTE, '$.kedge'))",
            ],
            format!(
                "FROM mysql.user u LEFT JOIN information_schema.USER_ATTRIBUTES a ON a.USER = u.User AND a.HOST = u.Host \
                 WHERE u.User = {name} ORDER BY u.Host"
            ),
        ),
    };
    let rows = client.select_one(&format!("looking for user {user}"), query).await?;
    Ok(rows
        .iter()
        .map(|row| Account {
            host: field(row, 0).to_owned(),
            locked: matches!(field(row, 1), "1" | "true"),
            authentication: field(row, 2).to_owned(),
            attribute: row.get(3).cloned().flatten(),
        })
        .collect())
}

/// Whether an account is ours: by its mark, or by the password.
fn ours(account: &Account, flavour: Flavour, secret: Option<&Secret>, mark: &Mark) -> bool {
    match flavour {
        Flavour::Mysql => {
            account.attribute.as_deref().and_then(marks::task_of).as_deref() == Some(&mark.task)
        }
        Flavour::Mariadb => secret.is_some_and(|secret| {
            account.authentication.trim_end() == format!("mysql_native_password {}", native_hash(secret))
        }),
    }
}

/// What `mysql_native_password` keeps: `*` and SHA1(SHA1(password)) in hex. Source: MariaDB's `PASSWORD()`.
fn native_hash(secret: &Secret) -> String {
    format!("*{}", hex::encode_upper(Sha1::digest(Sha1::digest(secret.expose()))))
}

/// Creates the user's accounts and their rights on `schema`.
pub(super) async fn create(
    client: &Client,
    hosts: &BTreeSet<String>,
    user: &DatabaseName,
    schema: &DatabaseName,
    secret: &Secret,
    mark: &Mark,
) -> PortResult<()> {
    let server = &client.tools().await?.server;
    if server.flavour == Flavour::Mysql && user.as_str().len() > MAX_MYSQL_USER {
        return Err(PortError::Refused(format!(
            "user {user} is longer than MySQL's {MAX_MYSQL_USER} characters"
        )));
    }
    let existing = of_user(client, user).await?;
    if let Some(other) = existing.iter().find(|account| !ours(account, server.flavour, Some(secret), mark)) {
        return Err(not_ours(user, other));
    }
    let on = quote::grant_schema(schema.as_str(), server.grant_wildcards)?;
    let hosts: BTreeSet<&String> = hosts.iter().chain([&server.our_host]).collect();
    for host in hosts {
        let account = quote::account(user.as_str(), host)?;
        let what = format!("creating user {user}@{host}");
        if !existing.iter().any(|account| account.host == **host) {
            match server.flavour {
                Flavour::Mariadb => {
                    let hash = native_hash(secret);
                    let sql =
                        format!("CREATE USER {account} IDENTIFIED VIA mysql_native_password USING '{hash}';");
                    client.execute_secret(&what, &sql).await?;
                }
                Flavour::Mysql => {
                    let (password, attribute) = (quote::text(secret.expose())?, marks::user_attribute(mark)?);
                    let sql =
                        format!("CREATE USER {account} IDENTIFIED BY {password} ATTRIBUTE {attribute};");
                    client.execute_secret(&what, &sql).await?;
                }
            }
        }
        client.execute(&what, &format!("GRANT ALL PRIVILEGES ON {on}.* TO {account};")).await?;
    }
    Ok(())
}

/// Drops the accounts of a user that are ours.
pub(super) async fn drop(
    client: &Client,
    user: &DatabaseName,
    secret: Option<&Secret>,
    mark: &Mark,
) -> PortResult<()> {
    let flavour = client.tools().await?.server.flavour;
    let existing = of_user(client, user).await?;
    let (mine, others): (Vec<_>, Vec<_>) =
        existing.into_iter().partition(|account| ours(account, flavour, secret, mark));
    if mine.is_empty() {
        return others.first().map_or(Ok(()), |other| Err(not_ours(user, other)));
    }
    for account in &mine {
        let (host, quoted) = (&account.host, quote::account(user.as_str(), &account.host)?);
        let rights = rights(client, user, account, mark).await?;
        let sql = if rights.others {
            // Whoever gave it rights on a schema of theirs relies on it: it keeps those.
            rights.ours.iter().map(|on| format!("REVOKE ALL PRIVILEGES ON {on}.* FROM {quoted};\n")).collect()
        } else {
            format!("DROP USER IF EXISTS {quoted};")
        };
        if !sql.is_empty() {
            client.execute(&format!("dropping user {user}@{host}"), &sql).await?;
        }
    }
    Ok(())
}

/// What an account may use.
struct Rights {
    /// Whether somebody has given it rights on a schema that is not this task's.
    others: bool,
    /// The schemas of its other grants, quoted as they are named there.
    ours: Vec<String>,
}

/// Somebody may have given our user rights on another schema since: dropping it would break whoever relies on that.
async fn rights(client: &Client, user: &DatabaseName, account: &Account, mark: &Mark) -> PortResult<Rights> {
    let matches = if client.tools().await?.server.grant_wildcards { "LIKE" } else { "=" };
    let (name, host) = (quote::text(user.as_str())?, quote::text(&account.host)?);
    let query = Select::new(
        ["d.Db", "s.SCHEMA_NAME"],
        format!(
            "FROM mysql.db d LEFT JOIN information_schema.SCHEMATA s ON CONVERT(s.SCHEMA_NAME USING utf8mb4) COLLATE utf8mb4_bin \
             {matches} CONVERT(d.Db USING utf8mb4) COLLATE utf8mb4_bin WHERE d.User = {name} AND d.Host = {host}"
        ),
    );
    let (mut theirs, mut all) = (BTreeSet::new(), BTreeSet::new());
    for row in client.select_one(&format!("reading the rights of user {user}"), query).await? {
        let grant = field(&row, 0).to_owned();
        let owner = match row.get(1).cloned().flatten().map(|schema| DatabaseName::parse(&schema)) {
            None => Existing::Absent,
            Some(Ok(name)) => marks::schema(client, &name).await?,
            Some(Err(_)) => Existing::Unmarked,
        };
        if owner != Existing::Absent && owner != (Existing::Marked { task: mark.task.clone() }) {
            theirs.insert(grant.clone());
        }
        all.insert(grant);
    }
    let ours = all.difference(&theirs).map(|grant| quote::identifier(grant)).collect::<PortResult<_>>()?;
    Ok(Rights { others: !theirs.is_empty(), ours })
}

/// The schemas that a user's accounts have rights on; `*` for rights beyond single schemas.
pub(super) async fn reach(client: &Client, user: &DatabaseName) -> PortResult<Vec<String>> {
    let mut reach = BTreeSet::new();
    for account in of_user(client, user).await? {
        let at = quote::account(user.as_str(), &account.host)?;
        let what = format!("reading the rights of user {user}");
        for grant in client.show(&what, &format!("SHOW GRANTS FOR {at};")).await? {
            reach.extend(reach_of(&grant));
        }
    }
    Ok(reach.into_iter().collect())
}

/// What one line of SHOW GRANTS reaches; `None` where it gives nothing (`USAGE`).
fn reach_of(grant: &str) -> Option<String> {
    let rest = grant.strip_prefix("GRANT ")?;
    if rest.starts_with("USAGE ON *.* ") {
        return None;
    }
    // A role, a proxy and rights on all schemas may reach anything.
    let quoted = rest.split_once(" ON `").map(|(_, on)| on);
    let Some((schema, _)) = quoted.and_then(|on| on.split_once("`.")) else { return Some("*".to_owned()) };
    Some(schema.replace("``", "`").replace("\\_", "_").replace("\\%", "%"))
}

/// Locks or unlocks every account of a user but those of these hosts; locked, it has no session left when this returns.
pub(super) async fn set_locked(
    client: &Client,
    user: &DatabaseName,
    locked: bool,
    but: &[String],
) -> PortResult<()> {
    let accounts = of_user(client, user).await?;
    if accounts.is_empty() {
        return Err(PortError::Refused(format!("user {user} does not exist")));
    }
    let word = if locked { "LOCK" } else { "UNLOCK" };
    let mut sql = String::new();
    for account in accounts.iter().filter(|account| account.locked != locked && !but.contains(&account.host))
    {
        sql += &format!("ALTER USER {} ACCOUNT {word};\n", quote::account(user.as_str(), &account.host)?);
    }
    if !sql.is_empty() {
        client.execute(&format!("setting the accounts of user {user} to {word}"), &sql).await?;
    }
    if locked { end_sessions(client, user).await } else { Ok(()) }
}

/// Without PROCESS a list of sessions has our own only, and nothing says so: a table that wants the same right does.
pub(super) async fn sees_sessions(client: &Client) -> PortResult<bool> {
    let query = Select::new(["COUNT(*)"], "FROM information_schema.INNODB_TRX");
    match client.select_one("looking whether sessions of others are seen", query).await {
        Ok(_) => Ok(true),
        Err(PortError::Refused(why)) if why.contains("PROCESS") => Ok(false),
        Err(error) => Err(error),
    }
}

async fn end_sessions(client: &Client, user: &DatabaseName) -> PortResult<()> {
    let name = quote::text(user.as_str())?;
    let mut said = String::new();
    for _ in 0..SESSION_POLLS {
        let query = Select::new(["ID"], format!("FROM information_schema.PROCESSLIST WHERE USER = {name}"));
        let sessions = client.select_one(&format!("listing the sessions of user {user}"), query).await?;
        if sessions.is_empty() {
            return Ok(());
        }
        let ids =
            sessions.iter().map(|row| field(row, 0)).filter(|id| id.bytes().all(|b| b.is_ascii_digit()));
        let sql: String = ids.map(|id| format!("KILL {id};\n")).collect();
        // One that ended by itself meanwhile is an error of its KILL, and no reason to spare the others.
        said = client.execute_all(&sql).await?;
        tokio::time::sleep(SESSION_POLL).await;
    }
    Err(PortError::Unavailable(format!("sessions of user {user} do not end: {said}")))
}

fn not_ours(user: &DatabaseName, account: &Account) -> PortError {
    PortError::NotOurs(format!("user {user}@{} exists and was not made by this task", account.host))
}

/// What a fingerprint tells of a user: accounts, whether locked, a digest of how they log in, and rights.
pub(super) async fn fingerprint(client: &Client, user: &DatabaseName) -> PortResult<Vec<(String, String)>> {
    let accounts = of_user(client, user).await?;
    if accounts.is_empty() {
        return Ok(vec![(format!("user:{user}"), "absent".to_owned())]);
    }
    let mut entries = Vec::new();
    for account in accounts {
        let at = format!("{user}@{}", account.host);
        let digest = login_digest(&at, &account.authentication);
        let locked = if account.locked { "locked" } else { "open" };
        entries.push((format!("account:{at}"), format!("{locked}, login {digest}")));
        let sql = format!("SHOW GRANTS FOR {};", quote::account(user.as_str(), &account.host)?);
        let mut grants: Vec<String> = client.show(&format!("reading the rights of user {at}"), &sql).await?;
        grants.sort();
        for (i, grant) in grants.iter().enumerate() {
            entries.push((format!("grant:{at}:{i}"), without_login(grant)));
        }
    }
    Ok(entries)
}

/// Changes when the password does, and tells nothing of it.
fn login_digest(account: &str, authentication: &str) -> String {
    use sha2::Sha256;
    let digest = Sha256::digest(format!("kedge account fingerprint\0{account}\0{authentication}"));
    hex::encode(&digest[..8])
}

/// A grant without the hash that MariaDB prints in the first one.
fn without_login(grant: &str) -> String {
    let Some(start) = grant.find(" IDENTIFIED ") else { return grant.to_owned() };
    let end = [" REQUIRE ", " WITH "].iter().filter_map(|word| grant[start..].find(word)).min();
    format!("{}{}", &grant[..start], end.map_or("", |end| &grant[start + end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_mariadb() {
        // SELECT PASSWORD('secret')
        assert_eq!(native_hash(&Secret::new("secret")), "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7");
    }

    #[test]
    fn an_account_is_ours_by_password_on_mariadb_and_by_mark_on_mysql() {
        let mark = Mark { task: "t1".into(), site: "a.test".into() };
        let secret = Secret::new("secret");
        let mut account = Account {
            host: "localhost".into(),
            locked: false,
            authentication: format!("mysql_native_password {}", native_hash(&secret)),
            attribute: None,
        };
        assert!(ours(&account, Flavour::Mariadb, Some(&secret), &mark));
        assert!(!ours(&account, Flavour::Mariadb, Some(&Secret::new("other")), &mark));
        assert!(!ours(&account, Flavour::Mariadb, None, &mark));
        assert!(!ours(&account, Flavour::Mysql, Some(&secret), &mark));
        account.attribute = Some("kedge task=t1 site=a.test".into());
        assert!(ours(&account, Flavour::Mysql, None, &mark));
        account.attribute = Some("kedge task=t2 site=a.test".into());
        assert!(!ours(&account, Flavour::Mysql, Some(&secret), &mark));
    }

    #[test]
    fn a_grant_reaches_a_schema_or_everything() {
        for (grant, reach) in [
            ("GRANT USAGE ON *.* TO `u`@`h` IDENTIFIED BY PASSWORD '*AB'", None),
            ("GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`h`", Some("shop")),
            (r"GRANT SELECT, INSERT ON `my\_shop`.* TO `u`@`h` WITH GRANT OPTION", Some("my_shop")),
            ("GRANT SELECT ON `other`.`orders` TO `u`@`h`", Some("other")),
            ("GRANT ALL PRIVILEGES ON *.* TO `u`@`h`", Some("*")),
            ("GRANT `role` TO `u`@`h`", Some("*")),
            ("GRANT PROXY ON ''@'%' TO 'root'@'localhost'", Some("*")),
        ] {
            assert_eq!(reach_of(grant).as_deref(), reach, "{grant}");
        }
    }

    #[test]
    fn a_fingerprint_holds_no_hash() {
        assert_eq!(
            without_login(
                "GRANT USAGE ON *.* TO `u`@`h` IDENTIFIED BY PASSWORD '*AB' REQUIRE SSL WITH MAX_USER_CONNECTIONS 3"
            ),
            "GRANT USAGE ON *.* TO `u`@`h` REQUIRE SSL WITH MAX_USER_CONNECTIONS 3"
        );
        assert_eq!(
            without_login("GRANT USAGE ON *.* TO `u`@`h` IDENTIFIED VIA x USING 'y'"),
            "GRANT USAGE ON *.* TO `u`@`h`"
        );
        assert_eq!(
            without_login("GRANT ALL PRIVILEGES ON `a`.* TO `u`@`h`"),
            "GRANT ALL PRIVILEGES ON `a`.* TO `u`@`h`"
        );
        assert!(!login_digest("u@h", "mysql_native_password *AB").contains("AB*"));
    }
}
