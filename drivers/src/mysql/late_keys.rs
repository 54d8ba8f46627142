//! Keys that are added when a table's rows are there: the server sorts them once instead of finding the place of each row. Only such
//! as nothing depends on while they are away. Reads definitions and writes SQL; changes nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{PortError, PortResult};

use super::client::{Client, Select};
use super::quote;
use super::schema::field;

/// Bytes of a table, with its keys, whose keys come when its rows are there. Below, the two statements cost more than they save; above,
/// what the server sorts could fill its folder for temporary files.
pub(super) const LATE_KEYS: RangeInclusive<u64> = 4 * 1024 * 1024..=256 * 1024 * 1024;

/// Where a table's definition names a key that is neither primary nor unique, and no full text or place.
const KEY: &str = "  KEY `";

/// A table's keys that may come late.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LateKeys {
    /// Takes them away from an empty table, as clauses of an ALTER TABLE.
    pub(super) drop: String,
    /// Adds them in their order, as they were defined.
    pub(super) add: String,
}

/// Keys that come when the rows are there, by table: where the rows are many, but not so many that sorting them could fill the server's
/// folder for temporary files.
pub(super) async fn keys_that_come_late(
    client: &Client,
    what: &str,
    (from, to): (&DatabaseName, &DatabaseName),
    tables: &[String],
    sizes: RangeInclusive<u64>,
) -> PortResult<BTreeMap<String, LateKeys>> {
    let (source, target) = (quote::text(from.as_str())?, quote::text(to.as_str())?);
    let large = format!(
        "FROM information_schema.TABLES WHERE TABLE_SCHEMA = {source} \
         AND DATA_LENGTH + INDEX_LENGTH BETWEEN {} AND {}",
        sizes.start(),
        sizes.end()
    );
    let referenced = format!(
        "FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = {target} AND REFERENCED_TABLE_NAME IS NOT NULL"
    );
    let queries = [Select::new(["TABLE_NAME"], large), Select::new(["REFERENCED_TABLE_NAME"], referenced)];
    let answers = client.select(what, &queries).await?;
    let names = |i: usize| -> BTreeSet<&str> {
        answers.get(i).into_iter().flatten().map(|row| field(row, 0)).collect()
    };
    let (large, referenced) = (names(0), names(1));
    let able = |table: &&String| large.contains(table.as_str()) && !referenced.contains(table.as_str());
    let able: Vec<&String> = tables.iter().filter(able).collect();
    if able.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut sql = format!("USE {};\n", quote::identifier(to.as_str())?);
    for table in &able {
        sql += &format!("SHOW CREATE TABLE {};\n", quote::identifier(table)?);
    }
    let definitions = client.show(what, &sql).await?;
    if definitions.len() != able.len() {
        return Err(PortError::Refused(format!("{what}: the server's answer is not whole")));
    }
    let late = able.into_iter().zip(&definitions).filter_map(|(table, definition)| {
        let (_, definition) = definition.split_once('\t')?;
        Some((table.clone(), late_keys(definition)?))
    });
    Ok(late.collect())
}

/// The keys of a table that may come late, by its definition as SHOW CREATE TABLE tells it. `None`: none, or somebody depends on them:
/// a foreign key, or a counter that no other key begins with.
fn late_keys(definition: &str) -> Option<LateKeys> {
    let lines: Vec<&str> = definition.lines().map(|line| line.trim_end_matches(',')).collect();
    if lines.iter().any(|line| line.starts_with("  CONSTRAINT ") && line.contains(" FOREIGN KEY ")) {
        return None;
    }
    let counter = lines.iter().find(|line| line.starts_with("  `") && line.contains(" AUTO_INCREMENT"));
    if let Some(counter) = counter {
        let column = identifier(counter.trim_start())?;
        let keeps = |line: &&&str| {
            (line.starts_with("  PRIMARY KEY (") || line.starts_with("  UNIQUE KEY "))
                && line.split_once(" (").is_some_and(|(_, parts)| identifier(parts) == Some(column))
        };
        lines.iter().find(keeps)?;
    }
    let keys: Vec<&str> =
        lines.iter().filter(|line| line.starts_with(KEY)).map(|line| line.trim_start()).collect();
    let names =
        keys.iter().map(|key| identifier(key.trim_start_matches("KEY "))).collect::<Option<Vec<_>>>()?;
    if names.is_empty() {
        return None;
    }
    let clauses = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(", ");
    Some(LateKeys {
        drop: clauses(&mut names.iter().map(|name| format!("DROP KEY {name}"))),
        add: clauses(&mut keys.iter().map(|key| format!("ADD {key}"))),
    })
}

/// The quoted identifier that a text begins with, with its quotes.
fn identifier(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('`')?;
    let mut at = 0;
    loop {
        at += inner[at..].find('`')? + 1;
        match inner[at..].strip_prefix('`') {
            Some(_) => at += 1,
            None => return Some(&text[..=at]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTS: &str = "CREATE TABLE `wp_posts` (
  `ID` bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  `post_name` varchar(200) NOT NULL DEFAULT '' COMMENT '  KEY `x` (`y`)',
  `od``d` int(11) DEFAULT NULL,
  PRIMARY KEY (`ID`),
  UNIQUE KEY `once` (`od``d`),
  KEY `post_name` (`post_name`(191)),
  KEY `a``b` (`od``d`,`ID`) COMMENT 'with, commas',
  FULLTEXT KEY `words` (`post_name`)
) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4";

    #[test]
    fn plain_keys_come_late_in_their_order() {
        let keys = late_keys(POSTS).unwrap();
        assert_eq!(keys.drop, "DROP KEY `post_name`, DROP KEY `a``b`");
        assert_eq!(
            keys.add,
            "ADD KEY `post_name` (`post_name`(191)), ADD KEY `a``b` (`od``d`,`ID`) COMMENT 'with, commas'"
        );
    }

    #[test]
    fn what_something_depends_on_stays() {
        assert_eq!(late_keys(&POSTS.replace("  PRIMARY KEY (`ID`),\n", "")), None, "the counter needs a key");
        let unique = POSTS.replace("PRIMARY KEY (`ID`)", "UNIQUE KEY `u` (`ID`,`post_name`)");
        assert!(late_keys(&unique).is_some());
        let second = POSTS.replace("PRIMARY KEY (`ID`)", "PRIMARY KEY (`post_name`,`ID`)");
        assert_eq!(late_keys(&second), None);
        let foreign = POSTS.replace(
            "  FULLTEXT KEY `words` (`post_name`)",
            "  CONSTRAINT `of` FOREIGN KEY (`od``d`) REFERENCES `other` (`id`)",
        );
        assert_eq!(late_keys(&foreign), None);
        assert_eq!(late_keys("CREATE TABLE `t` (\n  `a` int(11) DEFAULT NULL\n) ENGINE=InnoDB"), None);
    }
}
