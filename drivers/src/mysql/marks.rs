//! How a schema carries the mark of the task that made it. MariaDB keeps a comment with the schema, written by the very statement
//! that creates it. MySQL has none: there a table of ours in the schema carries the mark, and as creating the two is not one
//! act, a locked account announces it beforehand and goes when the table is there. Never drops anything itself.

use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{Existing, Mark, PortError, PortResult};
use sha2::{Digest, Sha256};

use super::client::{Client, Select};
use super::quote;
use super::tools::Flavour;

/// The table that carries the mark on MySQL. Left out of dumps, facts and fingerprints.
pub(super) const MARK_TABLE: &str = "_kedge_mark";
/// Longest task id and site name in a mark.
const MAX_PART: usize = 255;
const START: &str = "kedge task=";
const MIDDLE: &str = " site=";

/// The mark as text.
///
/// # Errors
/// `Refused` for an id that could not be read back.
pub(super) fn text(mark: &Mark) -> PortResult<String> {
    let plain =
        |part: &str| !part.is_empty() && part.len() <= MAX_PART && part.chars().all(|c| c.is_ascii_graphic());
    if !plain(&mark.task) || !plain(&mark.site) {
        return Err(PortError::Refused(format!(
            "a mark needs a task id and a site name of printable ASCII without spaces, not {:?} and {:?}",
            mark.task, mark.site
        )));
    }
    Ok(format!("{START}{}{MIDDLE}{}", mark.task, mark.site))
}

/// The task in a mark's text, if it is one.
pub(super) fn task_of(text: &str) -> Option<String> {
    let (task, site) = text.strip_prefix(START)?.split_once(MIDDLE)?;
    (!task.is_empty() && !site.is_empty()).then(|| task.to_owned())
}

/// The account that announces a schema on MySQL: short enough for a user name, and nobody's else.
pub(super) fn announcer(schema: &DatabaseName) -> String {
    let digest = hex::encode(Sha256::digest(schema.as_str()));
    format!("kedge-{}", &digest[..24])
}

/// Whose a schema is.
pub(super) async fn schema(client: &Client, name: &DatabaseName) -> PortResult<Existing> {
    let text = quote::text(name.as_str())?;
    let what = format!("looking for schema {name}");
    match client.tools().await?.server.flavour {
        Flavour::Mariadb => {
            let from = format!("FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {text}");
            let rows = client.select_one(&what, Select::new(["SCHEMA_COMMENT"], from)).await?;
            Ok(match rows.into_iter().next() {
                None => Existing::Absent,
                Some(row) => of_text(row.into_iter().flatten().next().as_deref()),
            })
        }
        Flavour::Mysql => mysql_schema(client, name, &text, &what).await,
    }
}

fn of_text(text: Option<&str>) -> Existing {
    text.and_then(task_of).map_or(Existing::Unmarked, |task| Existing::Marked { task })
}

async fn mysql_schema(client: &Client, name: &DatabaseName, text: &str, what: &str) -> PortResult<Existing> {
    let rest = format!("FROM information_schema.SCHEMATA s WHERE s.SCHEMA_NAME = {text}");
    let objects = format!(
        "(SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {text}) \
         + (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {text}) \
         + (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {text})"
    );
    let marked = format!(
        "(SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {text} AND TABLE_NAME = '{MARK_TABLE}')"
    );
    let announced = announcement(&announcer(name))?;
    let rows = client.select_one(what, Select::new([marked.as_str(), &objects, &announced], rest)).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(Existing::Absent) };
    let [marked, objects, announced] = row.as_slice() else { return Ok(Existing::Unmarked) };
    if marked.as_deref() == Some("1") {
        let from = format!("FROM {}.{MARK_TABLE} LIMIT 1", quote::identifier(name.as_str())?);
        let rows = client.select_one(what, Select::new(["mark"], from)).await?;
        return Ok(of_text(rows.into_iter().flatten().flatten().next().as_deref()));
    }
    // Created by a task that did not come to its mark: nothing can be in it.
    Ok(if objects.as_deref() == Some("0") { of_text(announced.as_deref()) } else { Existing::Unmarked })
}

/// The mark that an announcing account carries, as a subquery.
fn announcement(account: &str) -> PortResult<String> {
    let user = quote::text(account)?;
    Ok(format!(
        "(SELECT JSON_UNQUOTE(JSON_EXTRACT(ATTRIBUTE, '$.kedge')) FROM information_schema.USER_ATTRIBUTES \
         WHERE USER = {user} AND HOST = 'localhost')"
    ))
}

/// The statements that create a schema with its mark. `options` is its character set and collation.
pub(super) fn create(
    flavour: Flavour,
    name: &DatabaseName,
    mark: &Mark,
    options: &str,
) -> PortResult<String> {
    let schema = quote::identifier(name.as_str())?;
    Ok(match flavour {
        Flavour::Mariadb => {
            format!("CREATE DATABASE {schema} {options} COMMENT {};", quote::text(&text(mark)?)?)
        }
        Flavour::Mysql => {
            let account = quote::account(&announcer(name), "localhost")?;
            let attribute = user_attribute(mark)?;
            let rest = complete(flavour, name, mark)?;
            format!(
                "CREATE USER IF NOT EXISTS {account} ACCOUNT LOCK;\nALTER USER {account} ATTRIBUTE {attribute};\n\
                 CREATE DATABASE {schema} {options};\n{rest}"
            )
        }
    })
}

/// The statements that complete a schema whose creation was interrupted, if any are needed.
pub(super) fn complete(flavour: Flavour, name: &DatabaseName, mark: &Mark) -> PortResult<String> {
    let schema = quote::identifier(name.as_str())?;
    let mark = quote::text(&text(mark)?)?;
    Ok(match flavour {
        Flavour::Mariadb => String::new(),
        Flavour::Mysql => format!(
            "CREATE TABLE IF NOT EXISTS {schema}.{MARK_TABLE} (mark varchar(600) CHARACTER SET ascii NOT NULL PRIMARY KEY) \
             ENGINE=InnoDB SELECT {mark} AS mark;\n{}",
            forget(flavour, name)?
        ),
    })
}

/// The statement that removes what announced a schema, if anything can have.
pub(super) fn forget(flavour: Flavour, name: &DatabaseName) -> PortResult<String> {
    Ok(match flavour {
        Flavour::Mariadb => String::new(),
        Flavour::Mysql => format!("DROP USER IF EXISTS {};", quote::account(&announcer(name), "localhost")?),
    })
}

/// The attribute of a MySQL user that carries a mark, as a literal.
pub(super) fn user_attribute(mark: &Mark) -> PortResult<String> {
    quote::text(&serde_json::json!({ "kedge": text(mark)? }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark { task: "0197-a".into(), site: "a.example.test".into() }
    }

    #[test]
    fn a_mark_can_be_read_back() {
        assert_eq!(task_of(&text(&mark()).unwrap()).as_deref(), Some("0197-a"));
        for other in ["", "kedge task= site=x", "kedge task=x", "somebody's comment", "kedge task=x site="] {
            assert_eq!(task_of(other), None, "{other:?}");
        }
        for bad in ["", "a b", "a\nb", "ä"] {
            assert!(text(&Mark { task: bad.into(), ..mark() }).is_err());
        }
    }

    #[test]
    fn mariadb_marks_in_the_creating_statement() {
        let name = DatabaseName::parse("shop").unwrap();
        let sql = create(Flavour::Mariadb, &name, &mark(), "CHARACTER SET utf8mb4").unwrap();
        assert_eq!(
            sql,
            "CREATE DATABASE `shop` CHARACTER SET utf8mb4 COMMENT 'kedge task=0197-a site=a.example.test';"
        );
        assert_eq!(complete(Flavour::Mariadb, &name, &mark()).unwrap(), "");
    }

    #[test]
    fn mysql_announces_before_it_creates() {
        let name = DatabaseName::parse("shop").unwrap();
        let sql = create(Flavour::Mysql, &name, &mark(), "CHARACTER SET utf8mb4").unwrap();
        let place = |part: &str| sql.find(part).unwrap_or_else(|| panic!("{part} is missing in {sql}"));
        let order = [
            "CREATE USER",
            "ALTER USER",
            "CREATE DATABASE `shop`",
            "CREATE TABLE IF NOT EXISTS `shop`._kedge_mark",
            "DROP USER",
        ];
        assert!(order.windows(2).all(|pair| place(pair[0]) < place(pair[1])));
        assert!(announcer(&name).len() <= 32);
    }
}
