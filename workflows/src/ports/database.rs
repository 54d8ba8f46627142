//! The database port (MySQL, MariaDB): schemas, users, dumps, imports and fingerprints. Names are checked types; quoting is the driver's.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ByteStream, Fingerprint, PortResult, SecretRef};
use crate::names::DatabaseName;

/// A database server. Every schema and user we create carries a mark with the task's id, so that nothing else is ever dropped.
#[async_trait]
pub trait Database: Send + Sync {
    /// What the server is.
    async fn facts(&self) -> PortResult<DatabaseFacts>;

    /// Whether a schema of that name exists, and whose it is.
    async fn schema(&self, name: &DatabaseName) -> PortResult<Existing>;
    /// Creates a schema with the server's best utf8mb4 collation (or `like`'s character set and collation) and our mark.
    /// There with our mark: fine. There without: `NotOurs`.
    async fn create_schema(&self, name: &DatabaseName, mark: &Mark, like: Option<&Charset>)
    -> PortResult<()>;
    /// Drops a schema that carries this mark. Absent: fine.
    async fn drop_schema(&self, name: &DatabaseName, mark: &Mark) -> PortResult<()>;
    /// Drops every table, view, routine, trigger and event in a schema that carries this mark, so that an import can start anew.
    async fn empty_schema(&self, name: &DatabaseName, mark: &Mark) -> PortResult<()>;
    /// Character set, collation, bytes and tables of a schema.
    async fn schema_facts(&self, name: &DatabaseName) -> PortResult<SchemaFacts>;

    /// Whether a user of that name exists on any host.
    async fn user_exists(&self, name: &DatabaseName) -> PortResult<bool>;
    /// Creates the user for every web host of this server's configuration (and the host our own client connects from), with the password behind `password` and our mark,
    /// and grants it everything on `schema`, nothing else. Repeating it is fine when the user is ours (mark, or it has this
    /// password); otherwise `NotOurs`.
    async fn create_user(
        &self,
        user: &DatabaseName,
        schema: &DatabaseName,
        password: &SecretRef,
        mark: &Mark,
    ) -> PortResult<()>;
    /// Drops the user on every host where it is ours. Absent: fine. Where somebody has given it rights on another schema, it stays with
    /// those, and loses what it had of us.
    async fn drop_user(&self, user: &DatabaseName, password: &SecretRef, mark: &Mark) -> PortResult<()>;

    /// The schemas that a user's accounts have rights on, as the grants name them, sorted; `*` for rights on all of them or on the server.
    async fn reach(&self, user: &DatabaseName) -> PortResult<Vec<String>>;

    /// Where a site's code finds this server, for its settings file.
    fn address_for_sites(&self) -> String;

    /// Whether the user's accounts are locked (true when all are).
    async fn account_locked(&self, user: &DatabaseName) -> PortResult<bool>;
    /// Where from the user's accounts that are locked may connect, sorted.
    async fn locked_at(&self, user: &DatabaseName) -> PortResult<Vec<String>>;
    /// Unlocks the accounts of a user but those that connect from these hosts, which stay as they are.
    async fn unlock_but(&self, user: &DatabaseName, stay: &[String]) -> PortResult<()>;
    /// Whether the sessions of other users are shown to us: without that, nobody knows when a locked account writes no more.
    async fn sees_sessions(&self) -> PortResult<bool>;
    /// Locks or unlocks all accounts of a user. Locking also ends its open sessions and returns when none is left.
    async fn set_account_locked(&self, user: &DatabaseName, locked: bool) -> PortResult<()>;

    /// Tables of a schema whose rows [`Database::copy_rows`] can copy as they are: nothing in them holds any of `telltales` (in any
    /// case), and nothing has to be computed or set off on the way. Only those of `among`, if given; may leave out any. True as long as
    /// nobody writes to them ([`Database::table_times`]).
    async fn plain_tables(
        &self,
        name: &DatabaseName,
        among: Option<&[String]>,
        telltales: &[String],
    ) -> PortResult<Vec<PlainTable>>;
    /// When the tables of a schema were written last. Two of these tell which were not written between them.
    async fn table_times(&self, name: &DatabaseName) -> PortResult<TableTimes>;
    /// Tables of a schema that have all of these columns.
    async fn tables_with(&self, name: &DatabaseName, columns: &[&str]) -> PortResult<Vec<String>>;
    /// Copies the rows of tables into empty ones of the same definition in another schema of this server, which carries this mark: how
    /// many. Each as it is at one moment, and nobody who writes to them waits (but see [`DatabaseFacts::logs_statements`]). An attempt
    /// that was cut short may still be at it: [`Database::empty_schema`] and [`Database::drop_schema`] end it.
    async fn copy_rows(
        &self,
        from: &DatabaseName,
        to: &DatabaseName,
        mark: &Mark,
        tables: &[String],
    ) -> PortResult<u64>;

    /// [`Database::dump_without_rows`] with all rows.
    async fn dump(&self, name: &DatabaseName) -> PortResult<ByteStream> {
        self.dump_without_rows(name, &[]).await
    }
    /// A consistent dump of a schema as SQL, without the rows of `tables`: tables, views, triggers, routines, events; no database name, no DEFINER of others,
    /// no GTID. The stream ends with an error if the client failed or the trailer is missing.
    async fn dump_without_rows(&self, name: &DatabaseName, tables: &[String]) -> PortResult<ByteStream>;
    /// A dump of these tables, with their triggers and nothing else, without the rows of `without_rows`, which is a part of them. What
    /// has rows is of one moment; the definitions of the others may be of an earlier one.
    async fn dump_tables(
        &self,
        name: &DatabaseName,
        tables: &[String],
        without_rows: &[String],
    ) -> PortResult<ByteStream>;
    /// Feeds SQL into an empty schema that carries this mark, logged in as the site's own user (made by `create_user`): so views,
    /// triggers, routines and events are defined by that user, and SQL out of a backup reaches nothing but this schema. Definers
    /// named in the SQL are left out. Events come in switched off, marked for [`Database::start_events`]: they would run here and
    /// where they come from. Stops at the first error, which names the statement's line.
    async fn import(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
        sql: ByteStream,
    ) -> PortResult<ImportReport>;

    /// Drops these tables of a schema that carries this mark, and feeds SQL that makes them anew, as [`Database::import`] does.
    async fn import_tables(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
        tables: &[String],
        sql: ByteStream,
    ) -> PortResult<ImportReport>;

    /// Switches on the events that an import into a schema with this mark left off: those that were on where they come from, and no
    /// others. As the site's own user, which stays their definer. Repeating it is fine.
    async fn start_events(&self, name: &DatabaseName, mark: &Mark, login: &Login)
    -> PortResult<EventsReport>;

    /// Fingerprint of a schema and of its user's accounts and grants.
    async fn fingerprint(&self, request: &DatabaseFingerprint) -> PortResult<Fingerprint>;
}

/// Marks what a task created: the text is stored with the schema or user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The task that creates it.
    pub task: String,
    /// The site it is for.
    pub site: String,
}

/// Who logs in for an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The site's user.
    pub user: DatabaseName,
    /// Where its password is.
    pub password: SecretRef,
}

/// Whether something exists and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Existing {
    /// Not there.
    Absent,
    /// There, with the mark of a task.
    Marked {
        /// That task's id.
        task: String,
    },
    /// There, without a mark.
    Unmarked,
}

/// A character set and collation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charset {
    /// Character set.
    pub charset: String,
    /// Collation.
    pub collation: String,
}

/// What a database server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// `mysql` or `mariadb`.
    pub flavour: String,
    /// Version as the server prints it.
    pub version: String,
    /// Largest packet in bytes.
    pub max_allowed_packet: u64,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Free bytes on the file system of its data, where that can be seen.
    pub free_bytes: Option<u64>,
    /// Collations it has.
    pub collations: Vec<String>,
    /// Whether it lets nobody but administrators make triggers and functions (error 1419: its binary log is on, and
    /// `log_bin_trust_function_creators` is off).
    pub refuses_triggers: bool,
    /// Whether its binary log holds statements: then a copy of rows inside the server holds up who writes to them.
    #[serde(default)]
    pub logs_statements: bool,
}

/// What a schema holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaFacts {
    /// Its defaults.
    pub charset: Charset,
    /// Bytes of data and indexes, as the server estimates.
    pub bytes: u64,
    /// Tables and views.
    pub tables: u64,
    /// Collations in use by its tables, and those that its views, triggers, routines and events were made under: a server that
    /// lacks one cannot take the schema.
    pub collations: Vec<String>,
    /// Triggers and functions.
    pub triggers: u64,
    /// Events that the server runs in it now: they write also when every account is locked.
    #[serde(default)]
    pub events_on: u64,
    /// `mysql` or `mariadb`: what holds it.
    #[serde(default)]
    pub flavour: String,
    /// What in it no server of the other flavour can hold, each in words (`table shop (sequence)`).
    #[serde(default)]
    pub only_here: Vec<String>,
    /// Triggers, routines and events whose text names the schema, each in words (`trigger log_order`): in a copy under another name they
    /// would go on using this one.
    #[serde(default)]
    pub names_itself: Vec<String>,
    /// Tables of engines without transactions: a dump of a live site has them as they are when it comes to them, not as of its snapshot.
    pub not_in_the_snapshot: Vec<String>,
}

/// A table whose rows can be copied as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainTable {
    /// Its name.
    pub name: String,
    /// Bytes of data and indexes, as the server estimates.
    pub bytes: u64,
}

/// When the tables of a schema were written last, as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTimes {
    /// Since when the server runs, in seconds of its clock.
    pub running_since: u64,
    /// When it was asked: before it looked.
    pub asked_at: u64,
    /// Its tables.
    pub tables: BTreeMap<String, TableTime>,
}

/// When a table was written last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTime {
    /// Seconds of the server's clock; `None` when it does not know, which it also does not after a while or a restart.
    pub written_at: Option<u64>,
    /// A checksum of the rows, where the time is not known.
    pub checksum: Option<String>,
    /// The key that the next row gets.
    pub next: Option<u64>,
    /// Bytes of data and indexes, as the server estimates.
    pub bytes: u64,
}

/// Seconds by which the start of a server may seem to move while it runs: it is computed from two clocks that tick apart.
pub(crate) const SAME_LIFE: u64 = 2;

/// Seconds behind a write in which the next one is likely.
const BUSY: u64 = 60;

impl TableTimes {
    /// Tables that are likely to be written while something is done, or of which it could not be told.
    #[must_use]
    pub fn busy(&self) -> Vec<String> {
        let busy = |table: &TableTime| match table.written_at {
            Some(at) => at + BUSY > self.asked_at,
            None => table.checksum.is_none(),
        };
        self.tables.iter().filter(|(_, table)| busy(table)).map(|(name, _)| name.clone()).collect()
    }

    /// Tables whose rows may be others than at an earlier look; `None` when nothing can be told of any: the server has been started anew,
    /// which may have lost what it wrote last, or its clock went back. Knows nothing of definitions.
    #[must_use]
    pub fn touched_since(&self, earlier: &Self) -> Option<Vec<String>> {
        let same_life = self.running_since.abs_diff(earlier.running_since) <= SAME_LIFE;
        if !same_life || self.asked_at < earlier.asked_at {
            return None;
        }
        let stayed = |name: &String, now: &TableTime| {
            let Some(then) = earlier.tables.get(name).filter(|then| then.next == now.next) else {
                return false;
            };
            match (then.written_at, now.written_at) {
                // A write in the very second of the look may have come behind it.
                (Some(then), Some(now)) => then == now && then < earlier.asked_at,
                (None, None) => then.checksum.is_some() && then.checksum == now.checksum,
                _ => false,
            }
        };
        let touched = self.tables.iter().filter(|(name, now)| !stayed(name, now));
        Some(touched.map(|(name, _)| name.clone()).collect())
    }
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Bytes of SQL fed in.
    pub bytes: u64,
    /// Tables there afterwards.
    pub tables: u64,
}

/// What became of a schema's events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReport {
    /// Switched on by this call.
    pub started: u64,
    /// Names of those that stay off, since their only time has passed.
    pub passed: Vec<String>,
}

/// What to fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFingerprint {
    /// The schema.
    pub schema: DatabaseName,
    /// Its user: accounts, lock state, grants.
    pub user: Option<DatabaseName>,
    /// Rows that the application changes by being visited.
    pub volatile: Vec<VolatileRows>,
    /// Contents too (every row), not only definition, count and auto increment.
    pub full: bool,
}

/// Rows left out of a fingerprint, because a mere visit changes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolatileRows {
    /// End of the table's name (applications prefix their tables): `options` matches `wp_options`. With a `*` at its own end it is the
    /// beginning: `cache*` matches `cache_menu`.
    pub table_suffix: String,
    /// A column of that table.
    pub column: String,
    /// SQL LIKE patterns (backslash escapes) of values to leave out. Empty: the whole table is left out.
    pub like: Vec<String>,
}

impl VolatileRows {
    /// Whether the rule is about this table.
    #[must_use]
    pub fn is_of(&self, table: &str) -> bool {
        match self.table_suffix.strip_suffix('*') {
            Some(start) => table.starts_with(start),
            None => table.ends_with(&self.table_suffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(asked_at: u64, tables: &[(&str, Option<u64>, &str)]) -> TableTimes {
        let tables = tables.iter().map(|(name, written_at, checksum)| {
            let checksum = (!checksum.is_empty()).then(|| (*checksum).to_owned());
            ((*name).to_owned(), TableTime { written_at: *written_at, checksum, next: Some(7), bytes: 1 })
        });
        TableTimes { running_since: 10, asked_at, tables: tables.collect() }
    }

    #[test]
    fn what_may_have_been_written_is_touched() {
        let before = times(100, &[("old", Some(99), ""), ("now", Some(100), ""), ("unknown", None, "x")]);
        let after = |tables: &[_]| times(105, tables).touched_since(&before).expect("the same life");
        let same = [("old", Some(99), ""), ("now", Some(100), ""), ("unknown", None, "x")];
        assert_eq!(after(&same), ["now"], "a write in the second of the look may have come behind it");
        assert_eq!(after(&[("old", Some(101), ""), ("unknown", None, "y")]), ["old", "unknown"]);
        assert_eq!(after(&[("old", None, "x"), ("unknown", Some(98), "")]), ["old", "unknown"]);
        assert_eq!(after(&[("new", Some(1), ""), ("unknown", None, "")]), ["new", "unknown"]);
        let mut counted = times(105, &[("old", Some(99), "")]);
        assert_eq!(counted.touched_since(&before), Some(Vec::new()));
        counted.tables.get_mut("old").expect("a table").next = Some(8);
        assert_eq!(counted.touched_since(&before), Some(vec!["old".to_owned()]));
    }

    #[test]
    fn what_was_just_written_is_busy() {
        let tables = [("calm", Some(40), ""), ("busy", Some(41), ""), ("old", None, "x"), ("odd", None, "")];
        assert_eq!(times(100, &tables).busy(), ["busy", "odd"]);
    }

    #[test]
    fn nothing_is_told_across_a_restart_or_a_clock_that_went_back() {
        let before = times(100, &[("t", Some(9), "")]);
        let started = |running_since| TableTimes { running_since, ..times(200, &[("t", Some(9), "")]) };
        assert_eq!(started(11).touched_since(&before), Some(Vec::new()), "two clocks tick apart");
        assert_eq!(started(60).touched_since(&before), None);
        assert_eq!(times(99, &[("t", Some(9), "")]).touched_since(&before), None);
    }
}
