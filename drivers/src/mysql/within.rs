//! Copies rows inside one server, table by table, without SQL text on the way: several times quicker than a dump and its import. Only for
//! tables in which nothing has to be rewritten, computed or set off. And when tables were written last; what that means for a copy is
//! never decided here.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{Mark, PlainTable, PortError, PortResult, TableTime, TableTimes};

use super::client::{Client, Select};
use super::late_keys::keys_that_come_late;
use super::marks::MARK_TABLE;
use super::quote;
use super::schema::{self, field, number};

/// The option of MariaDB's dump tool that leaves out a table's rows.
pub(super) const WITHOUT_ROWS: &str = "--ignore-table-data";

/// Types whose values can hold a name or a path.
const TEXTS: &str = "('char','varchar','tinytext','text','mediumtext','longtext','enum','set','json',\
                     'binary','varbinary','tinyblob','blob','mediumblob','longblob')";

/// Whoever is copied from does not wait: a statement reads what was there when it began. With statements in its binary log the server
/// takes no such copy, so there it locks the rows. MySQL and MariaDB have two names for the variable.
const READ_COMMITTED: &str = "/*!80000 SET SESSION transaction_isolation=IF(@@log_bin AND @@binlog_format='STATEMENT', \
     @@transaction_isolation, 'READ-COMMITTED') */\
     /*M!100200 SET SESSION tx_isolation=IF(@@log_bin AND @@binlog_format='STATEMENT', @@tx_isolation, 'READ-COMMITTED') */;\n";

/// Tables whose rows can be copied as they are: InnoDB, without triggers or computed columns, and without any of `telltales` in any
/// value, in any case.
pub(super) async fn plain_tables(
    client: &Client,
    name: &DatabaseName,
    among: Option<&[String]>,
    telltales: &[String],
) -> PortResult<Vec<PlainTable>> {
    let what = format!("looking for plain tables in schema {name}");
    let schema = quote::text(name.as_str())?;
    let tables = format!(
        "FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = {schema} AND t.TABLE_TYPE = 'BASE TABLE' \
         AND t.ENGINE = 'InnoDB' AND t.TABLE_NAME <> '{MARK_TABLE}' \
         AND NOT EXISTS (SELECT 1 FROM information_schema.TRIGGERS g \
         WHERE g.EVENT_OBJECT_SCHEMA = {schema} AND g.EVENT_OBJECT_TABLE = t.TABLE_NAME) \
         AND NOT EXISTS (SELECT 1 FROM information_schema.COLUMNS c WHERE c.TABLE_SCHEMA = {schema} \
         AND c.TABLE_NAME = t.TABLE_NAME AND COALESCE(c.GENERATION_EXPRESSION, '') <> '') ORDER BY t.TABLE_NAME"
    );
    let texts = format!(
        "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {schema} AND DATA_TYPE IN {TEXTS} ORDER BY 1, 2"
    );
    let queries = [
        Select::new(["t.TABLE_NAME", "COALESCE(t.DATA_LENGTH + t.INDEX_LENGTH, 0)"], tables),
        Select::new(["TABLE_NAME", "COLUMN_NAME"], texts),
    ];
    let answers = client.select(&what, &queries).await?;
    let [tables, texts] = answers.as_slice() else {
        return Err(PortError::Refused(format!("{what}: the server's answer is not whole")));
    };
    let mut columns: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in texts {
        columns.entry(field(row, 0)).or_default().push(field(row, 1));
    }
    let mut plain = Vec::new();
    for row in tables {
        let table = PlainTable { name: field(row, 0).to_owned(), bytes: number(row, 1)? };
        if among.is_none_or(|among| among.contains(&table.name)) {
            plain.push(table);
        }
    }
    if telltales.is_empty() {
        return Ok(plain);
    }
    let mut searched = Vec::new();
    for table in &plain {
        let columns = columns.get(table.name.as_str()).map_or(&[][..], Vec::as_slice);
        searched.push(Select::new(["1"], search(name, &table.name, columns, telltales)?));
    }
    let found = client.patient().select(&what, &searched).await?;
    let kept = plain.into_iter().zip(found).filter(|(_, found)| found.is_empty());
    Ok(kept.map(|(table, _)| table).collect())
}

/// Base tables that have all of these columns. Looked for in two plain questions: MySQL plans a joined one over its catalogue for hours.
pub(super) async fn tables_with(
    client: &Client,
    name: &DatabaseName,
    columns: &[&str],
) -> PortResult<Vec<String>> {
    let schema = quote::text(name.as_str())?;
    let wanted = columns.iter().map(|column| quote::text(column)).collect::<PortResult<Vec<_>>>()?.join(", ");
    let queries = [
        Select::new(
            ["TABLE_NAME"],
            format!(
                "FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1"
            ),
        ),
        Select::new(
            ["TABLE_NAME"],
            format!(
                "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {schema} AND COLUMN_NAME IN ({wanted})"
            ),
        ),
    ];
    let answers = client.select(&format!("looking for tables in schema {name}"), &queries).await?;
    let rows = |i: usize| answers.get(i).into_iter().flatten().map(|row| field(row, 0));
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for table in rows(1) {
        *found.entry(table).or_default() += 1;
    }
    let whole = |table: &&str| found.get(table) == Some(&columns.len());
    Ok(rows(0).filter(whole).map(str::to_owned).collect())
}

/// Finds a row with a telltale in any of these columns. Latin-1 has a character for every byte, so that blobs and broken text convert
/// too, and what it lacks becomes a question mark, which no telltale holds.
fn search(schema: &DatabaseName, table: &str, columns: &[&str], telltales: &[String]) -> PortResult<String> {
    let mut hits = Vec::new();
    for column in columns {
        let text = format!("CONVERT({} USING latin1) COLLATE latin1_swedish_ci", quote::identifier(column)?);
        for telltale in telltales {
            hits.push(format!("{text} LIKE {} ESCAPE '|'", quote::text(&contains(telltale))?));
        }
    }
    let hit = if hits.is_empty() { "FALSE".to_owned() } else { hits.join(" OR ") };
    let (schema, table) = (quote::identifier(schema.as_str())?, quote::identifier(table)?);
    Ok(format!("FROM {schema}.{table} WHERE {hit} LIMIT 1"))
}

/// A LIKE pattern for texts that contain this.
fn contains(text: &str) -> String {
    let escaped = text.replace('|', "||").replace('%', "|%").replace('_', "|_");
    format!("%{escaped}%")
}

/// Copies the rows of tables into empty tables of the same definition in a schema of ours: how many. Keys of tables of these sizes come
/// last.
pub(super) async fn copy_rows(
    client: &Client,
    from: &DatabaseName,
    to: &DatabaseName,
    mark: &Mark,
    tables: &[String],
    late_keys_of: RangeInclusive<u64>,
) -> PortResult<u64> {
    let what = format!("copying rows into schema {to}");
    if !schema::owned(client, to, mark).await? {
        return Err(PortError::Refused(format!("{what}: the schema does not exist")));
    }
    let listed = Select::new(
        ["TABLE_NAME", "COLUMN_NAME"],
        format!(
            "FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} ORDER BY TABLE_NAME, ORDINAL_POSITION",
            quote::text(from.as_str())?
        ),
    );
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in client.select_one(&what, listed).await? {
        columns.entry(field(&row, 0).to_owned()).or_default().push(quote::identifier(field(&row, 1))?);
    }
    let mut late = keys_that_come_late(client, &what, (from, to), tables, late_keys_of).await?;
    let (source, target) = (quote::identifier(from.as_str())?, quote::identifier(to.as_str())?);
    // Unique keys stay checked: without, MariaDB gathers the rows in files first, which is slower (see `sql_heading`).
    let mut sql = format!("SET SESSION foreign_key_checks=0;\n{READ_COMMITTED}");
    for table in tables {
        let Some(columns) = columns.get(table) else {
            return Err(PortError::Refused(format!("{what}: schema {from} has no table {table}")));
        };
        let (columns, late, table) = (columns.join(", "), late.remove(table), quote::identifier(table)?);
        if let Some(late) = &late {
            sql += &format!("ALTER TABLE {target}.{table} {};\n", late.drop);
        }
        sql += &format!(
            "INSERT INTO {target}.{table} ({columns}) SELECT {columns} FROM {source}.{table};\nSELECT ROW_COUNT();\n"
        );
        if let Some(late) = late {
            sql += &format!("ALTER TABLE {target}.{table} {};\n", late.add);
        }
    }
    let counts = client.patient().change(&what, &sql).await?;
    if counts.len() != tables.len() {
        return Err(PortError::Refused(format!("{what}: the server's answer is not whole")));
    }
    counts.iter().map(|count| whole(&what, count)).sum()
}

/// A number that the server has printed.
fn whole(what: &str, text: &str) -> PortResult<u64> {
    text.trim()
        .parse()
        .map_err(|_| PortError::Refused(format!("{what}: the server's answer is not a number")))
}

/// When the tables of a schema were written last. The server knows it of InnoDB tables that are not partitioned, since they were opened;
/// of those that it has forgotten, a checksum is as good.
pub(super) async fn table_times(client: &Client, name: &DatabaseName) -> PortResult<TableTimes> {
    let what = format!("asking when the tables of schema {name} were written");
    let answer = client.show(&what, "SELECT UNIX_TIMESTAMP();\nSHOW GLOBAL STATUS LIKE 'Uptime';\n").await?;
    let [asked_at, uptime] = answer.as_slice() else {
        return Err(PortError::Refused(format!("{what}: the server's answer is not whole")));
    };
    let asked_at = whole(&what, asked_at)?;
    let uptime = whole(&what, uptime.rsplit('\t').next().unwrap_or_default())?;
    let known = "t.ENGINE = 'InnoDB' AND COALESCE(t.CREATE_OPTIONS, '') NOT LIKE '%partitioned%'";
    let tables = Select::new(
        [
            "t.TABLE_NAME",
            "UNIX_TIMESTAMP(t.UPDATE_TIME)",
            "t.AUTO_INCREMENT",
            "COALESCE(t.DATA_LENGTH + t.INDEX_LENGTH, 0)",
            known,
        ],
        format!(
            "FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = {} AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') \
             AND t.TABLE_NAME <> '{MARK_TABLE}' ORDER BY t.TABLE_NAME",
            quote::text(name.as_str())?
        ),
    );
    let mut times = BTreeMap::new();
    let mut forgotten = Vec::new();
    for row in client.select_one(&what, tables).await? {
        let optional = |i: usize| row.get(i).cloned().flatten().map(|text| whole(&what, &text)).transpose();
        let is_known = field(&row, 4) == "1";
        let written_at = optional(1)?.filter(|_| is_known);
        if is_known && written_at.is_none() {
            forgotten.push(field(&row, 0).to_owned());
        }
        let time = TableTime { written_at, checksum: None, next: optional(2)?, bytes: number(&row, 3)? };
        times.insert(field(&row, 0).to_owned(), time);
    }
    for (table, checksum) in checksums(client, &what, name, &forgotten).await? {
        if let Some(time) = times.get_mut(&table) {
            time.checksum = checksum;
        }
    }
    Ok(TableTimes { running_since: asked_at.saturating_sub(uptime), asked_at, tables: times })
}

/// Checksums of tables; `None` where the server cannot make one.
async fn checksums(
    client: &Client,
    what: &str,
    schema: &DatabaseName,
    tables: &[String],
) -> PortResult<Vec<(String, Option<String>)>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = format!("USE {};\n", quote::identifier(schema.as_str())?);
    for table in tables {
        sql += &format!("CHECKSUM TABLE {} EXTENDED;\n", quote::identifier(table)?);
    }
    let lines = client.patient().show(what, &sql).await?;
    if lines.len() != tables.len() {
        return Err(PortError::Unavailable(format!("{what}: a table has gone meanwhile")));
    }
    let sums = lines.iter().map(|line| line.rsplit('\t').next().filter(|sum| *sum != "NULL"));
    Ok(tables.iter().cloned().zip(sums.map(|sum| sum.map(str::to_owned))).collect())
}

/// Ends what still copies into a schema of ours: a server goes on with a statement whose client is gone.
pub(super) async fn stop_copies(client: &Client, name: &DatabaseName) -> PortResult<()> {
    let mut begins = Vec::new();
    for words in ["INSERT INTO", "ALTER TABLE"] {
        let begin = format!("{words} {}.", quote::identifier(name.as_str())?);
        begins.push(format!("LEFT(INFO, {}) = {}", begin.chars().count(), quote::text(&begin)?));
    }
    let running = Select::new(
        ["ID"],
        format!(
            "FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND ({})",
            begins.join(" OR ")
        ),
    );
    let what = format!("looking for copies into schema {name}");
    let mut sql = String::new();
    for row in client.select_one(&what, running).await? {
        sql += &format!("KILL {};\n", number(&row, 0)?);
    }
    if !sql.is_empty() {
        // One that has ended meanwhile cannot be killed: that is what was wanted.
        client.execute_all(&sql).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_looks_into_every_column_for_every_telltale() {
        let name = DatabaseName::parse("shop").unwrap();
        let sql = search(&name, "wp_o`x", &["a", "b"], &["50%_|".to_owned(), "it's".to_owned()]).unwrap();
        assert!(sql.starts_with("FROM `shop`.`wp_o``x` WHERE CONVERT(`a` USING latin1)"), "{sql}");
        assert_eq!(sql.matches(" OR ").count(), 3, "{sql}");
        assert!(sql.contains(r"LIKE '%50|%|_||%' ESCAPE '|'") && sql.contains("LIKE '%it''s%'"), "{sql}");
        assert!(search(&name, "t", &[], &["x".to_owned()]).unwrap().ends_with("WHERE FALSE LIMIT 1"));
    }
}
