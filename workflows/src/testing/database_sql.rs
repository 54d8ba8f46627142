//! Tables of the fake database, and the SQL text that they are dumped to and read from: a small part of what mysqldump writes.

use std::collections::BTreeMap;

/// A value: `None` is NULL.
pub type FakeCell = Option<String>;

/// Tables by name.
pub type FakeTables = BTreeMap<String, FakeTable>;

/// Events by name.
pub type FakeEvents = BTreeMap<String, FakeEvent>;

/// Whether an event runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeEvent {
    /// It does.
    On,
    /// It does not.
    Off,
    /// It was left off by an import.
    Waiting,
}

/// A table. The first column is its key, numbered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakeTable {
    /// Columns behind the key.
    pub columns: Vec<String>,
    /// Rows by key.
    pub rows: BTreeMap<u64, Vec<FakeCell>>,
    /// The key that the next row gets.
    pub next: u64,
}

impl FakeTable {
    /// An empty table with these columns behind its key.
    #[must_use]
    pub fn new(columns: &[&str]) -> Self {
        Self {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows: BTreeMap::new(),
            next: 1,
        }
    }

    /// Adds a row and returns its key.
    pub fn insert(&mut self, cells: &[&str]) -> u64 {
        let key = self.next;
        self.rows.insert(key, cells.iter().map(|cell| Some((*cell).to_owned())).collect());
        self.next += 1;
        key
    }

    /// The place of a column among the cells.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// The last line of a whole dump.
const TRAILER: &str = "-- Dump completed\n";

/// Tables as SQL.
pub(super) fn dump(tables: &FakeTables, events: &FakeEvents) -> String {
    let mut sql = String::from("-- Dump of a fake database\n\n/*!40101 SET NAMES utf8mb4 */;\n");
    for (name, table) in tables {
        sql += &format!(
            "DROP TABLE IF EXISTS `{name}`;\nCREATE TABLE `{name}` (\n  `id` bigint NOT NULL AUTO_INCREMENT,\n"
        );
        for column in &table.columns {
            sql += &format!("  `{column}` longtext DEFAULT NULL,\n");
        }
        sql += &format!(
            "  PRIMARY KEY (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT={} DEFAULT CHARSET=utf8mb4;\n",
            table.next
        );
        if !table.rows.is_empty() {
            let rows: Vec<String> =
                table.rows.iter().map(|(key, cells)| format!("({key}{})", values(cells))).collect();
            sql += &format!("INSERT INTO `{name}` VALUES {};\n", rows.join(",\n"));
        }
    }
    for (name, event) in events {
        let status = match event {
            FakeEvent::On => "ENABLE",
            FakeEvent::Off => "DISABLE",
            FakeEvent::Waiting => "DISABLE ON SLAVE",
        };
        sql += &format!("CREATE EVENT `{name}` ON SCHEDULE EVERY 1 DAY {status} DO SELECT 1;\n");
    }
    sql + TRAILER
}

fn values(cells: &[FakeCell]) -> String {
    cells
        .iter()
        .map(|cell| cell.as_ref().map_or_else(|| ",NULL".to_owned(), |text| format!(",{}", quote(text))))
        .collect()
}

/// As `mysql_real_escape_string` does it.
fn quote(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\0' => quoted += "\\0",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\u{1a}' => quoted += "\\Z",
            '\\' | '\'' | '"' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// One statement of a dump.
#[derive(Debug)]
pub(super) enum Statement {
    Drop(String),
    Create(String, FakeTable),
    Insert(String, Vec<(u64, Vec<FakeCell>)>),
    Event(String, FakeEvent),
    /// A comment or setting.
    Nothing,
}

/// Parses what [`dump`] writes, also after its literals were rewritten. The error is the line at fault.
pub(super) fn parse(sql: &str) -> Result<Vec<Statement>, usize> {
    let mut scanner = Scanner { rest: sql, whole: sql };
    let mut statements = Vec::new();
    loop {
        scanner.space();
        if scanner.rest.is_empty() {
            return Ok(statements);
        }
        statements.push(scanner.statement().ok_or_else(|| scanner.line())?);
    }
}

struct Scanner<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl Scanner<'_> {
    fn line(&self) -> usize {
        let read = self.whole.len() - self.rest.len();
        self.whole[..read].matches('\n').count() + 1
    }

    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with("--") {
                return;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn take(&mut self, text: &str) -> Option<()> {
        self.space();
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn statement(&mut self) -> Option<Statement> {
        if self.take("/*!").is_some() {
            let (_, rest) = self.rest.split_once("*/;")?;
            self.rest = rest;
            return Some(Statement::Nothing);
        }
        let statement = if self.take("DROP TABLE IF EXISTS").is_some() {
            Statement::Drop(self.name()?)
        } else if self.take("CREATE TABLE").is_some() {
            self.create()?
        } else if self.take("CREATE EVENT").is_some() {
            let name = self.name()?;
            self.take("ON SCHEDULE EVERY 1 DAY")?;
            // As the port promises: left off, and told from those that were off.
            let on = self.take("ENABLE").is_some();
            if !on {
                self.take("DISABLE")?;
            }
            let _ = self.take("ON SLAVE"); // there or not
            self.take("DO SELECT 1")?;
            Statement::Event(name, if on { FakeEvent::Waiting } else { FakeEvent::Off })
        } else {
            self.take("INSERT INTO")?;
            let name = self.name()?;
            self.take("VALUES")?;
            let mut rows = vec![self.row()?];
            while self.take(",").is_some() {
                rows.push(self.row()?);
            }
            Statement::Insert(name, rows)
        };
        self.take(";")?;
        Some(statement)
    }

    fn create(&mut self) -> Option<Statement> {
        let name = self.name()?;
        self.take("(")?;
        self.take("`id` bigint NOT NULL AUTO_INCREMENT,")?;
        let mut table = FakeTable::default();
        while self.take("PRIMARY KEY (`id`)").is_none() {
            table.columns.push(self.name()?);
            self.take("longtext DEFAULT NULL,")?;
        }
        self.take(") ENGINE=InnoDB AUTO_INCREMENT=")?;
        table.next = self.number()?;
        self.take("DEFAULT CHARSET=utf8mb4")?;
        Some(Statement::Create(name, table))
    }

    fn name(&mut self) -> Option<String> {
        self.take("`")?;
        let (name, rest) = self.rest.split_once('`')?;
        self.rest = rest;
        Some(name.to_owned())
    }

    fn number(&mut self) -> Option<u64> {
        self.space();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().ok()?;
        self.rest = &self.rest[end..];
        Some(number)
    }

    fn row(&mut self) -> Option<(u64, Vec<FakeCell>)> {
        self.take("(")?;
        let key = self.number()?;
        let mut cells = Vec::new();
        while self.take(",").is_some() {
            cells.push(self.cell()?);
        }
        self.take(")")?;
        Some((key, cells))
    }

    fn cell(&mut self) -> Option<FakeCell> {
        if self.take("NULL").is_some() {
            return Some(None);
        }
        self.take("'")?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(Some(text));
                }
                '\\' => text.push(match chars.next()?.1 {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    'Z' => '\u{1a}',
                    other => other,
                }),
                c => text.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dumped_is_read_back() {
        let mut table = FakeTable::new(&["name", "value"]);
        table.insert(&["it's; -- \"odd\"", "a\\b\nc\0`x`,(1)"]);
        table.rows.insert(7, vec![None, Some(String::new())]);
        table.next = 9;
        let tables =
            FakeTables::from([("t".to_owned(), table.clone()), ("empty".to_owned(), FakeTable::new(&[]))]);
        let mut read = FakeTables::new();
        for statement in parse(&dump(&tables, &FakeEvents::new())).unwrap() {
            match statement {
                Statement::Create(name, table) => {
                    read.insert(name, table);
                }
                Statement::Insert(name, rows) => read.get_mut(&name).unwrap().rows.extend(rows),
                Statement::Drop(_) | Statement::Event(..) | Statement::Nothing => {}
            }
        }
        assert_eq!(read, tables);
    }

    #[test]
    fn an_error_tells_its_line() {
        assert_eq!(parse("-- x\nDROP TABLE IF EXISTS `t`;\nNONSENSE;\n").unwrap_err(), 3);
        assert!(parse("INSERT INTO `t` VALUES (1,'cut").is_err());
    }
}
