//! What in a schema only its own flavour of server can hold: a move to the other one is refused before the site is closed, instead of by
//! an import behind closed doors. Names what surely fails or loses its meaning; never judges the rest.

use super::client::Select;
use super::tools::Flavour;

/// Most objects named for each reason: a person reads them.
const MAX_NAMED: u32 = 20;

/// The queries whose rows are such objects, in words. `schema` is its name as a literal.
pub(super) fn queries(flavour: Flavour, schema: &str) -> Vec<Select> {
    let query = |words: &str, from: String| {
        let words = format!("CONCAT({words})");
        Select::new([words.as_str()], format!("FROM information_schema.{from} ORDER BY 2 LIMIT {MAX_NAMED}"))
    };
    match flavour {
        Flavour::Mariadb => vec![
            // Engines that MySQL has, and kinds of table that it has not.
            query(
                "'table ', TABLE_NAME, ' (', LOWER(IF(TABLE_TYPE = 'BASE TABLE', CONCAT('engine ', ENGINE), TABLE_TYPE)), ')'",
                format!(
                    "TABLES WHERE TABLE_SCHEMA = {schema} AND (TABLE_TYPE IN ('SEQUENCE', 'SYSTEM VERSIONED') \
                     OR TABLE_TYPE = 'BASE TABLE' AND ENGINE NOT IN \
                     ('InnoDB', 'MyISAM', 'MEMORY', 'CSV', 'ARCHIVE', 'BLACKHOLE', 'MRG_MyISAM'))"
                ),
            ),
            query(
                "'table ', TABLE_NAME, ' (page compression)'",
                format!("TABLES WHERE TABLE_SCHEMA = {schema} AND CREATE_OPTIONS LIKE '%page_compressed%'"),
            ),
            // MySQL wants brackets around a default that is computed, and takes no values of generated columns (3105), which the dump holds.
            query(
                "'column ', TABLE_NAME, '.', COLUMN_NAME, ' (', CASE WHEN IS_GENERATED = 'ALWAYS' THEN 'generated' \
                 WHEN DATA_TYPE IN ('uuid','inet4','inet6') THEN DATA_TYPE ELSE 'computed default' END, ')'",
                format!(
                    "COLUMNS WHERE TABLE_SCHEMA = {schema} AND (IS_GENERATED = 'ALWAYS' OR DATA_TYPE IN ('uuid', 'inet4', 'inet6') \
                     OR COLUMN_DEFAULT LIKE '%(%' AND COLUMN_DEFAULT NOT LIKE '''%' AND COLUMN_DEFAULT NOT LIKE '(%' \
                     AND COLUMN_DEFAULT NOT LIKE 'current_timestamp%')"
                ),
            ),
            // A mode that MySQL does not know since 8.0 (1231), and that MariaDB gives to all that is made in its usual one.
            query(
                "'trigger ', TRIGGER_NAME, ' (sql_mode NO_AUTO_CREATE_USER)'",
                format!("TRIGGERS WHERE TRIGGER_SCHEMA = {schema} AND SQL_MODE LIKE '%NO_AUTO_CREATE_USER%'"),
            ),
            query(
                "'routine ', ROUTINE_NAME, ' (sql_mode NO_AUTO_CREATE_USER)'",
                format!("ROUTINES WHERE ROUTINE_SCHEMA = {schema} AND SQL_MODE LIKE '%NO_AUTO_CREATE_USER%'"),
            ),
            query(
                "'event ', EVENT_NAME, ' (sql_mode NO_AUTO_CREATE_USER)'",
                format!("EVENTS WHERE EVENT_SCHEMA = {schema} AND SQL_MODE LIKE '%NO_AUTO_CREATE_USER%'"),
            ),
            query(
                "'package ', ROUTINE_NAME",
                format!("ROUTINES WHERE ROUTINE_SCHEMA = {schema} AND ROUTINE_TYPE = 'PACKAGE'"),
            ),
        ],
        Flavour::Mysql => vec![
            query(
                "'index ', TABLE_NAME, '.', INDEX_NAME, ' (of an expression)'",
                format!("STATISTICS WHERE TABLE_SCHEMA = {schema} AND EXPRESSION IS NOT NULL"),
            ),
            // MariaDB would enforce it.
            query(
                "'constraint ', TABLE_NAME, '.', CONSTRAINT_NAME, ' (not enforced)'",
                format!("TABLE_CONSTRAINTS WHERE TABLE_SCHEMA = {schema} AND ENFORCED = 'NO'"),
            ),
        ],
    }
}
