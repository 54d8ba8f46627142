//! Schemas: create, drop, empty, look at. Never touches one that does not carry the given mark.

use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{Charset, DatabaseFacts, Existing, Mark, PortError, PortResult, SchemaFacts};

use super::client::{Client, Row, Select};
use super::marks::{self, MARK_TABLE};
use super::only_here;
use super::own_name;
use super::quote;
use super::within;

/// Most objects dropped by one statement: keeps statements short.
const DROP_BATCH: usize = 100;

/// The collation of new schemas: in every MariaDB and MySQL that we can mark, so that a dump moves between any of them.
const BEST: (&str, &str) = ("utf8mb4", "utf8mb4_unicode_520_ci");

/// What the server is.
pub(super) async fn facts(client: &Client) -> PortResult<DatabaseFacts> {
    let server = &client.tools().await?.server;
    // MariaDB lists collations that fit several character sets without the character set's name in front.
    let collations = "FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY ORDER BY 1";
    let full_name = Select::new(
        ["COUNT(*)"],
        "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' \
         AND TABLE_NAME = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND COLUMN_NAME = 'FULL_COLLATION_NAME'",
    );
    let what = "asking the database server what it is";
    let variables = Select::new(
        [
            "@@max_allowed_packet",
            "@@read_only",
            "@@hostname",
            "@@datadir",
            "@@log_bin AND NOT @@log_bin_trust_function_creators",
            "@@log_bin AND @@binlog_format = 'STATEMENT'",
        ],
        "",
    );
    let answers = client.select(what, &[variables, full_name]).await?;
    let row = answers.first().and_then(|rows| rows.first()).cloned().unwrap_or_default();
    let column = match answers.get(1).and_then(|rows| rows.first()).and_then(|row| row.first()) {
        Some(Some(count)) if count != "0" => "FULL_COLLATION_NAME",
        _ => "COLLATION_NAME",
    };
    let names = client.select_one(what, Select::new([column], collations)).await?;
    Ok(DatabaseFacts {
        flavour: server.flavour.name().to_owned(),
        version: server.version.clone(),
        max_allowed_packet: number(&row, 0)?,
        read_only: !matches!(field(&row, 1), "0" | "OFF" | "NO_LOCK" | ""),
        free_bytes: free_bytes(client, field(&row, 2), field(&row, 3)).await?,
        collations: names
            .iter()
            .map(|row| field(row, 0).to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
        refuses_triggers: field(&row, 4) == "1",
        logs_statements: field(&row, 5) == "1",
    })
}

/// Room for data, when the server runs on the host of the client tools.
async fn free_bytes(client: &Client, server_host: &str, datadir: &str) -> PortResult<Option<u64>> {
    const SCRIPT: &str = r#"[ "$(uname -n)" = "$1" ] && exec df -B1 --output=avail -- "$2""#;
    let finished = client.run_other(["sh", "-c", SCRIPT, "kedge-df", server_host, datadir]).await?;
    if finished.status != 0 {
        return Ok(None);
    }
    Ok(String::from_utf8_lossy(&finished.stdout).lines().nth(1).and_then(|line| line.trim().parse().ok()))
}

/// Creates a schema with our mark.
pub(super) async fn create(
    client: &Client,
    name: &DatabaseName,
    mark: &Mark,
    like: Option<&Charset>,
) -> PortResult<()> {
    let what = format!("creating schema {name}");
    let flavour = client.tools().await?.server.flavour;
    let wanted = marks::text(mark)?;
    match marks::schema(client, name).await? {
        Existing::Absent => {
            let options = options(like)?;
            match client.execute(&what, &marks::create(flavour, name, mark, &options)?).await {
                // Somebody, perhaps an earlier try of ours that was still running, came first: whose is it?
                Err(PortError::Refused(_)) if owned(client, name, mark).await.is_ok_and(|there| there) => {
                    Ok(())
                }
                result => result,
            }
        }
        Existing::Marked { task } if marks::task_of(&wanted).as_deref() == Some(&task) => {
            let rest = marks::complete(flavour, name, mark)?;
            if rest.is_empty() { Ok(()) } else { client.execute(&what, &rest).await }
        }
        existing => Err(not_ours(name, &existing)),
    }
}

fn options(like: Option<&Charset>) -> PortResult<String> {
    let (charset, collation) = like.map_or(BEST, |like| (&like.charset, &like.collation));
    for word in [charset, collation] {
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(PortError::Refused(format!(
                "{word:?} is not the name of a character set or collation"
            )));
        }
    }
    Ok(format!("CHARACTER SET {charset} COLLATE {collation}"))
}

/// Drops a schema of ours.
pub(super) async fn drop(client: &Client, name: &DatabaseName, mark: &Mark) -> PortResult<()> {
    let what = format!("dropping schema {name}");
    let there = owned(client, name, mark).await?;
    let flavour = client.tools().await?.server.flavour;
    let mut sql = String::new();
    if there {
        within::stop_copies(client, name).await?;
        sql = format!("DROP DATABASE IF EXISTS {};\n", quote::identifier(name.as_str())?);
    }
    sql += &marks::forget(flavour, name)?;
    if sql.is_empty() { Ok(()) } else { client.execute(&what, &sql).await }
}

/// Drops everything in a schema of ours.
pub(super) async fn empty(client: &Client, name: &DatabaseName, mark: &Mark) -> PortResult<()> {
    if !owned(client, name, mark).await? {
        return Err(PortError::Refused(format!("schema {name} does not exist")));
    }
    within::stop_copies(client, name).await?;
    let objects = objects(client, name).await?;
    let schema = quote::identifier(name.as_str())?;
    let mut sql = format!("SET SESSION foreign_key_checks=0;\nUSE {schema};\n");
    for (word, kinds) in DROPS {
        let of_kind: Vec<&Object> =
            objects.iter().filter(|object| kinds.contains(&object.kind.as_str())).collect();
        let batch = if matches!(*word, "VIEW" | "SEQUENCE" | "TABLE") { DROP_BATCH } else { 1 };
        for batch in of_kind.chunks(batch) {
            let names =
                batch.iter().map(|object| quote::identifier(&object.name)).collect::<PortResult<Vec<_>>>()?;
            sql += &format!("DROP {word} IF EXISTS {};\n", names.join(", "));
        }
    }
    client.execute(&format!("emptying schema {name}"), &sql).await
}

/// Drops tables of a schema of ours.
pub(super) async fn drop_tables(
    client: &Client,
    name: &DatabaseName,
    mark: &Mark,
    tables: &[String],
) -> PortResult<()> {
    if !owned(client, name, mark).await? {
        return Err(PortError::Refused(format!("schema {name} does not exist")));
    }
    within::stop_copies(client, name).await?;
    let mut sql = format!("SET SESSION foreign_key_checks=0;\nUSE {};\n", quote::identifier(name.as_str())?);
    for batch in tables.chunks(DROP_BATCH) {
        let names = batch.iter().map(|table| quote::identifier(table)).collect::<PortResult<Vec<_>>>()?;
        sql += &format!("DROP TABLE IF EXISTS {};\n", names.join(", "));
    }
    client.execute(&format!("dropping tables of schema {name}"), &sql).await
}

/// What drops which kinds, in this order: a package's body goes with it, triggers go with their tables.
const DROPS: &[(&str, &[&str])] = &[
    ("EVENT", &["EVENT"]),
    ("VIEW", &["VIEW"]),
    ("TABLE", &["BASE TABLE", "SYSTEM VERSIONED"]),
    ("SEQUENCE", &["SEQUENCE"]),
    ("PROCEDURE", &["PROCEDURE"]),
    ("FUNCTION", &["FUNCTION"]),
    ("PACKAGE", &["PACKAGE"]),
];

/// An object in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// `BASE TABLE`, `SYSTEM VERSIONED`, `SEQUENCE`, `VIEW`, `TRIGGER`, `FUNCTION`, `PROCEDURE`, `PACKAGE`, `PACKAGE BODY`, `EVENT`.
    pub(super) kind: String,
    pub(super) name: String,
    /// Who it runs as, where it has such a thing.
    pub(super) definer: Option<String>,
}

/// Opens every table that keeps its rows outside transactions. After a crash the server repairs such a table when it is first opened,
/// but not inside a transaction that has read others, where dumps and fingerprints read: there it would stay "marked as crashed".
/// Returns whether there are such tables.
///
/// # Errors
/// Names the table that the server cannot repair by itself.
pub(super) async fn open_tables(client: &Client, name: &DatabaseName) -> PortResult<bool> {
    let what = format!("opening the tables of schema {name}");
    // A crashed table's engine is not told before it is repaired.
    let from = format!(
        "FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_TYPE = 'BASE TABLE' AND COALESCE(ENGINE, '') <> 'InnoDB'",
        quote::text(name.as_str())?
    );
    let tables = client.select_one(&what, Select::new(["TABLE_NAME"], from)).await?;
    if tables.is_empty() {
        return Ok(false);
    }
    let mut sql = format!("USE {};\n", quote::identifier(name.as_str())?);
    for table in &tables {
        sql += &format!("SELECT 1 FROM {} LIMIT 0;\n", quote::identifier(field(table, 0))?);
    }
    client.show(&what, &sql).await.map(|_| true)
}

/// Everything in a schema but our mark.
pub(super) async fn objects(client: &Client, name: &DatabaseName) -> PortResult<Vec<Object>> {
    let schema = quote::text(name.as_str())?;
    let queries = [
        Select::new(
            ["t.TABLE_TYPE", "t.TABLE_NAME", "v.DEFINER"],
            format!(
                "FROM information_schema.TABLES t LEFT JOIN information_schema.VIEWS v \
                 ON v.TABLE_SCHEMA = {schema} AND v.TABLE_NAME = t.TABLE_NAME \
                 WHERE t.TABLE_SCHEMA = {schema} AND t.TABLE_NAME <> '{MARK_TABLE}'"
            ),
        ),
        Select::new(
            ["'TRIGGER'", "TRIGGER_NAME", "DEFINER"],
            format!("FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {schema}"),
        ),
        Select::new(
            ["ROUTINE_TYPE", "ROUTINE_NAME", "DEFINER"],
            format!("FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {schema}"),
        ),
        Select::new(
            ["'EVENT'", "EVENT_NAME", "DEFINER"],
            format!("FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {schema}"),
        ),
    ];
    let answers = client.select(&format!("listing schema {name}"), &queries).await?;
    let mut objects: Vec<Object> = answers
        .into_iter()
        .flatten()
        .map(|row| Object {
            kind: field(&row, 0).to_owned(),
            name: field(&row, 1).to_owned(),
            definer: row.get(2).cloned().flatten(),
        })
        .collect();
    objects.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    Ok(objects)
}

/// What a schema holds.
pub(super) async fn schema_facts(client: &Client, name: &DatabaseName) -> PortResult<SchemaFacts> {
    let schema = quote::text(name.as_str())?;
    let flavour = client.tools().await?.server.flavour;
    let mut queries = measures(&schema);
    queries.extend(only_here::queries(flavour, &schema));
    let answers = client.select(&format!("measuring schema {name}"), &queries).await?;
    let [defaults, sizes, collations, triggers, other_engines, events, only_here @ ..] = answers.as_slice()
    else {
        return Err(PortError::Refused(format!("measuring schema {name}: the server's answer is not whole")));
    };
    let Some(defaults) = defaults.first() else {
        return Err(PortError::Refused(format!("schema {name} does not exist")));
    };
    let none = Row::new();
    let sizes = sizes.first().unwrap_or(&none);
    Ok(SchemaFacts {
        charset: Charset { charset: field(defaults, 0).to_owned(), collation: field(defaults, 1).to_owned() },
        bytes: number(sizes, 0)?,
        tables: number(sizes, 1)?,
        collations: collations.iter().map(|row| field(row, 0).to_owned()).collect(),
        triggers: number(triggers.first().unwrap_or(&none), 0)?,
        events_on: number(events.first().unwrap_or(&none), 0)?,
        flavour: flavour.name().to_owned(),
        names_itself: own_name::who_names(client, name).await?,
        only_here: only_here.iter().flatten().map(|row| field(row, 0).to_owned()).collect(),
        not_in_the_snapshot: other_engines.iter().map(|row| field(row, 0).to_owned()).collect(),
    })
}

/// What is asked of every schema, in the order in which [`schema_facts`] reads the answers. `schema`: its name as text.
fn measures(schema: &str) -> Vec<Select> {
    vec![
        Select::new(
            ["DEFAULT_CHARACTER_SET_NAME", "DEFAULT_COLLATION_NAME"],
            format!("FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {schema}"),
        ),
        Select::new(
            ["COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0)", "COUNT(*)"],
            format!(
                "FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME <> '{MARK_TABLE}'"
            ),
        ),
        Select::new(
            ["c"],
            format!(
                "FROM (SELECT TABLE_COLLATION AS c FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME <> '{MARK_TABLE}' \
                 UNION SELECT COLLATION_NAME FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME <> '{MARK_TABLE}' \
                 UNION SELECT COLLATION_CONNECTION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {schema} \
                 UNION SELECT COLLATION_CONNECTION FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {schema} \
                 UNION SELECT COLLATION_CONNECTION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {schema} \
                 UNION SELECT COLLATION_CONNECTION FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {schema}) AS used \
                 WHERE c IS NOT NULL ORDER BY c"
            ),
        ),
        Select::new(
            ["COUNT(*)"],
            format!(
                "FROM (SELECT TRIGGER_NAME AS n FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {schema} \
                 UNION ALL SELECT ROUTINE_NAME FROM information_schema.ROUTINES \
                 WHERE ROUTINE_SCHEMA = {schema} AND ROUTINE_TYPE = 'FUNCTION') AS made"
            ),
        ),
        Select::new(
            ["t.TABLE_NAME"],
            format!(
                "FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
                 WHERE t.TABLE_SCHEMA = {schema} AND t.TABLE_NAME <> '{MARK_TABLE}' AND t.TABLE_TYPE NOT LIKE '%VIEW' \
                 AND COALESCE(e.TRANSACTIONS, 'NO') <> 'YES' ORDER BY t.TABLE_NAME"
            ),
        ),
        Select::new(
            ["COUNT(*)"],
            format!(
                "FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {schema} AND STATUS = 'ENABLED' \
                 AND @@GLOBAL.event_scheduler NOT IN ('OFF', 'DISABLED')"
            ),
        ),
    ]
}

/// `false`: absent. Not ours is an error.
pub(super) async fn owned(client: &Client, name: &DatabaseName, mark: &Mark) -> PortResult<bool> {
    match marks::schema(client, name).await? {
        Existing::Absent => Ok(false),
        Existing::Marked { task } if task == mark.task => Ok(true),
        existing => Err(not_ours(name, &existing)),
    }
}

fn not_ours(name: &DatabaseName, existing: &Existing) -> PortError {
    PortError::NotOurs(match existing {
        Existing::Marked { task } => format!("schema {name} belongs to task {task}"),
        Existing::Absent | Existing::Unmarked => format!("schema {name} exists and was not made by Kedge"),
    })
}

pub(super) fn field(row: &Row, i: usize) -> &str {
    row.get(i).and_then(Option::as_deref).unwrap_or("")
}

pub(super) fn number(row: &Row, i: usize) -> PortResult<u64> {
    let text = field(row, i);
    text.parse().map_err(|_| {
        PortError::Refused(format!("the database server answered {text:?} where a number was expected"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn character_sets_are_words() {
        assert_eq!(options(None).unwrap(), "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci");
        let bad = Charset { charset: "utf8mb4".into(), collation: "x; DROP DATABASE y".into() };
        assert!(options(Some(&bad)).is_err());
    }
}
