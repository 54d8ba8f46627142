//! The fingerprint of a schema: definitions, exact counts, auto increments and, in full, every row. Read in one session from one
//! snapshot. Never keeps a row: contents are hashed as they stream by.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{DatabaseFingerprint, Fingerprint, PortError, PortResult, VolatileRows};

use super::accounts;
use super::client::{Client, Select};
use super::errors::Effect;
use super::fingerprint_reader::Reader;
use super::marks::MARK_TABLE;
use super::quote;
use super::schema::{Object, field, objects, open_tables};
use crate::host::Stdin;

/// A table's columns: name and whether it can be NULL.
type Columns = BTreeMap<String, Vec<(String, bool)>>;

/// Fingerprints a schema and, if asked for, its user.
pub(super) async fn fingerprint(client: &Client, request: &DatabaseFingerprint) -> PortResult<Fingerprint> {
    let mut entries = schema_entries(client, request).await?;
    if let Some(user) = &request.user {
        entries.extend(accounts::fingerprint(client, user).await?);
    }
    Ok(Fingerprint::of(entries))
}

async fn schema_entries(client: &Client, request: &DatabaseFingerprint) -> PortResult<Vec<(String, String)>> {
    let name = &request.schema;
    let what = format!("fingerprinting schema {name}");
    let Some(defaults) = defaults(client, name, &what).await? else {
        return Ok(vec![("schema".to_owned(), "absent".to_owned())]);
    };
    open_tables(client, name).await?;
    let before = objects(client, name).await?;
    let columns = columns(client, name, &what).await?;
    let sql = script(name, &before, &columns, request)?;
    let mut reader = Reader::new(name.as_str(), without_counter(&before, request));
    let command = client.command(Stdin::Bytes(sql.into_bytes())).await?;
    let mut output = client.host().stream(command).await?;
    while let Some(chunk) = output.next().await {
        reader.push(&chunk.map_err(|error| super::stream_error(&what, error, Effect::None))?)?;
    }
    let mut entries = reader.finish()?;
    if objects(client, name).await? != before {
        return Err(PortError::Unavailable(format!("{what}: its tables changed meanwhile")));
    }
    entries.push(("schema".to_owned(), defaults));
    for object in before {
        if let Some(definer) = object.definer {
            entries.push((format!("definer:{}:{}", object.kind.to_lowercase(), object.name), definer));
        }
    }
    Ok(entries)
}

async fn defaults(client: &Client, name: &DatabaseName, what: &str) -> PortResult<Option<String>> {
    let from =
        format!("FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", quote::text(name.as_str())?);
    let query = Select::new(["DEFAULT_CHARACTER_SET_NAME", "DEFAULT_COLLATION_NAME"], from);
    let rows = client.select_one(what, query).await?;
    Ok(rows.first().map(|row| format!("{} {}", field(row, 0), field(row, 1))))
}

async fn columns(client: &Client, name: &DatabaseName, what: &str) -> PortResult<Columns> {
    let from = format!(
        "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} ORDER BY TABLE_NAME, ORDINAL_POSITION",
        quote::text(name.as_str())?
    );
    let query = Select::new(["TABLE_NAME", "COLUMN_NAME", "IS_NULLABLE"], from);
    let mut columns = Columns::new();
    for row in client.select_one(what, query).await? {
        let nullable = field(&row, 2) == "YES";
        columns.entry(field(&row, 0).to_owned()).or_default().push((field(&row, 1).to_owned(), nullable));
    }
    Ok(columns)
}

/// What of a table counts.
enum Rows {
    /// All.
    All,
    /// Those that meet this condition; the auto increment does not count.
    Where(String),
    /// None, and no auto increment.
    None,
}

fn rows_that_count(table: &str, columns: &Columns, volatile: &[VolatileRows]) -> PortResult<Rows> {
    let mut conditions = Vec::new();
    for rule in volatile.iter().filter(|rule| rule.is_of(table)) {
        if rule.like.is_empty() {
            return Ok(Rows::None);
        }
        if !columns.get(table).is_some_and(|columns| columns.iter().any(|(name, _)| *name == rule.column)) {
            continue;
        }
        let column = quote::identifier(&rule.column)?;
        for pattern in &rule.like {
            conditions.push(format!("NOT COALESCE({column} LIKE {}, FALSE)", quote::text(pattern)?));
        }
    }
    Ok(if conditions.is_empty() { Rows::All } else { Rows::Where(conditions.join(" AND ")) })
}

/// Tables whose auto increment does not count: those with a volatile rule.
fn without_counter(objects: &[Object], request: &DatabaseFingerprint) -> BTreeSet<String> {
    let volatile = |name: &str| request.volatile.iter().any(|rule| rule.is_of(name));
    objects.iter().filter(|object| volatile(&object.name)).map(|object| object.name.clone()).collect()
}

/// The statements, whose answers [`Reader`] understands. `character_set_results=NULL`: bytes as they are stored.
fn script(
    name: &DatabaseName,
    objects: &[Object],
    columns: &Columns,
    request: &DatabaseFingerprint,
) -> PortResult<String> {
    let mut sql = format!(
        "SET SESSION character_set_results=NULL;\nSET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;\nUSE {};\n\
         START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY;\n",
        quote::identifier(name.as_str())?
    );
    for object in objects {
        let (hex, quoted) = (hex::encode(&object.name), quote::identifier(&object.name)?);
        let kind = &object.kind;
        let show = if matches!(kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED" | "SEQUENCE") {
            "TABLE"
        } else {
            kind
        };
        sql += &format!("SELECT 'show', '{kind}', '{hex}';\nSHOW CREATE {show} {quoted};\n");
        let history = if kind == "SYSTEM VERSIONED" { " FOR SYSTEM_TIME ALL" } else { "" };
        let counted = match kind.as_str() {
            "BASE TABLE" | "SYSTEM VERSIONED" => rows_that_count(&object.name, columns, &request.volatile)?,
            "SEQUENCE" => Rows::All,
            _ => Rows::None,
        };
        let condition = match counted {
            Rows::None => continue,
            Rows::All => String::new(),
            Rows::Where(condition) => format!(" WHERE {condition}"),
        };
        if kind != "SEQUENCE" {
            sql += &format!("SELECT 'count', '{hex}', COUNT(*) FROM {quoted}{history}{condition};\n");
        }
        if request.full || kind == "SEQUENCE" {
            let of_table = columns.get(&object.name).map_or(&[][..], Vec::as_slice);
            let list = row_columns(of_table)?;
            sql +=
                &format!("SELECT 'rows', '{hex}';\nSELECT 'r', {list} FROM {quoted}{history}{condition};\n");
        }
    }
    sql += &format!(
        "SELECT 'next', HEX(CONVERT(TABLE_NAME USING utf8mb4)), AUTO_INCREMENT FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND AUTO_INCREMENT IS NOT NULL AND TABLE_NAME <> '{MARK_TABLE}';\n\
         COMMIT;\nSELECT 'end';\n",
        quote::text(name.as_str())?
    );
    Ok(sql)
}

/// The columns of a row, behind a field that tells which are NULL: the client prints NULL like the text `NULL`.
fn row_columns(columns: &[(String, bool)]) -> PortResult<String> {
    let mut list = Vec::new();
    let nullable = columns.iter().filter(|(_, nullable)| *nullable);
    let nulls = nullable
        .map(|(name, _)| Ok(format!("{} IS NULL", quote::identifier(name)?)))
        .collect::<PortResult<Vec<_>>>()?;
    if !nulls.is_empty() {
        list.push(format!("CONCAT({})", nulls.join(", ")));
    }
    for (name, _) in columns {
        list.push(quote::identifier(name)?);
    }
    Ok(list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(suffix: &str, column: &str, like: &[&str]) -> VolatileRows {
        VolatileRows {
            table_suffix: suffix.into(),
            column: column.into(),
            like: like.iter().map(|pattern| (*pattern).to_owned()).collect(),
        }
    }

    fn columns() -> Columns {
        [("wp_options".to_owned(), vec![("option_id".to_owned(), false), ("option_name".to_owned(), true)])]
            .into()
    }

    #[test]
    fn volatile_rules_hold_for_tables_that_have_their_column() {
        let rules = [rule("options", "option_name", &["\\_transient%", "cron"])];
        let Rows::Where(condition) = rows_that_count("wp_options", &columns(), &rules).unwrap() else {
            panic!("no condition")
        };
        assert_eq!(
            condition,
            r"NOT COALESCE(`option_name` LIKE '\\_transient%', FALSE) AND NOT COALESCE(`option_name` LIKE 'cron', FALSE)"
        );
        assert!(matches!(rows_that_count("wp_posts", &columns(), &rules).unwrap(), Rows::All));
        assert!(matches!(rows_that_count("my_options", &columns(), &rules).unwrap(), Rows::All));
        let whole = [rule("options", "", &[])];
        assert!(matches!(rows_that_count("wp_options", &columns(), &whole).unwrap(), Rows::None));
    }

    #[test]
    fn a_null_is_told_from_the_text_null() {
        let list = row_columns(&columns()["wp_options"]).unwrap();
        assert_eq!(list, "CONCAT(`option_name` IS NULL), `option_id`, `option_name`");
    }
}
