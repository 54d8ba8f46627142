//! The promises of the database port, tested on the fake and on real servers with the same lines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking, also where it is not compiled as a test"
)]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;

use crate::names::DatabaseName;
use crate::ports::{
    ByteStream, Database, DatabaseFingerprint, Existing, Login, Mark, PortError, Secret, SecretRef, Secrets,
    TableTimes, VolatileRows,
};

/// What the suite needs to prepare on the server, and what only a bystander sees.
#[async_trait]
pub trait DatabaseBench: Send + Sync {
    /// The server, on behalf of a new attempt.
    fn database(&self) -> Arc<dyn Database>;
    /// The secrets that it resolves.
    fn secrets(&self) -> Arc<dyn Secrets>;
    /// Makes a schema and a user of that name that are not Kedge's, with a table.
    async fn add_foreign(&self, name: &DatabaseName);
    /// Removes them.
    async fn remove_foreign(&self, name: &DatabaseName);
    /// Makes the table `kc_options` (a numbered key, `name`, `value`) in a schema, logged in as its user.
    async fn make_table(&self, schema: &DatabaseName, user: &DatabaseName, password: &Secret);
    /// Adds a row to it, logged in as a user; `false` when the server denies access.
    async fn add_option(
        &self,
        schema: &DatabaseName,
        login: (&DatabaseName, &Secret),
        name: &str,
        value: &str,
    ) -> bool;
    /// All rows of it, in the order of their keys, as an administrator sees them.
    async fn options(&self, schema: &DatabaseName) -> Vec<(String, String)>;
    /// Opens a session of a user; the future ends when the server has ended it.
    async fn open_session(&self, user: &DatabaseName, password: &Secret) -> BoxFuture<'static, ()>;
}

/// Everything a database server promises. Uses names that begin with `kc` and cleans up behind itself.
pub async fn database_contract(bench: &dyn DatabaseBench) {
    facts_are_told(bench).await;
    a_schema_comes_and_goes(bench).await;
    what_is_not_ours_stays(bench).await;
    a_user_reaches_its_schema_only(bench).await;
    a_locked_account_is_a_write_fence(bench).await;
    a_dump_comes_back_as_it_was(bench).await;
    rows_are_copied_without_a_dump(bench).await;
    what_was_written_since_is_copied_again(bench).await;
    a_broken_import_is_an_error(bench).await;
    a_fingerprint_sees_what_changed(bench).await;
}

/// Values that quoting, charset conversion or a filter of dumps could break.
const ODD: [&str; 6] = [
    "it's \"quoted\" \\ back\\\\slash; -- not a comment /* nor this */",
    "line\nbreak\r\nand\ttab",
    "/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */ CREATE DEFINER=`a`@`b` VIEW",
    "\n-- Dump completed on 2026-01-01\n",
    "𝔘nicode 🚢 ü \u{0}",
    "a:1:{s:3:\"url\";s:18:\"http://a.test/x\\'y\";}",
];

fn name(text: &str) -> DatabaseName {
    DatabaseName::parse(text).expect("a database name")
}

fn mark(task: &str) -> Mark {
    Mark { task: task.to_owned(), site: "contract.test".to_owned() }
}

/// A schema with its user, ours.
struct Place {
    schema: DatabaseName,
    mark: Mark,
    login: Login,
    password: Secret,
}

impl Place {
    async fn make(bench: &dyn DatabaseBench, label: &str) -> Self {
        let (schema, mark) = (name(label), mark(label));
        let login = Login { user: schema.clone(), password: SecretRef(format!("contract/{label}")) };
        let password = bench.secrets().ensure(&login.password).await.expect("a secret");
        let database = bench.database();
        database.create_schema(&schema, &mark, None).await.expect("schema created");
        database.create_user(&login.user, &schema, &login.password, &mark).await.expect("user created");
        Self { schema, mark, login, password }
    }

    async fn filled(bench: &dyn DatabaseBench, label: &str) -> Self {
        let place = Self::make(bench, label).await;
        bench.make_table(&place.schema, &place.login.user, &place.password).await;
        for (i, value) in ODD.iter().enumerate() {
            assert!(place.add(bench, &format!("odd {i}"), value).await, "the site writes");
        }
        place
    }

    async fn add(&self, bench: &dyn DatabaseBench, name: &str, value: &str) -> bool {
        bench.add_option(&self.schema, (&self.login.user, &self.password), name, value).await
    }

    async fn remove(self, bench: &dyn DatabaseBench) {
        let database = bench.database();
        database.drop_schema(&self.schema, &self.mark).await.expect("schema dropped");
        database.drop_user(&self.login.user, &self.login.password, &self.mark).await.expect("user dropped");
        bench.secrets().remove(&self.login.password).await.expect("secret removed");
    }
}

fn assert_not_ours<T: std::fmt::Debug>(result: Result<T, PortError>, what: &str) {
    assert!(matches!(result, Err(PortError::NotOurs(_))), "{what}: {result:?}");
}

async fn facts_are_told(bench: &dyn DatabaseBench) {
    let facts = bench.database().facts().await.expect("facts");
    assert!(["mysql", "mariadb"].contains(&facts.flavour.as_str()), "{facts:?}");
    assert!(facts.max_allowed_packet >= 1 << 20, "{facts:?}");
    assert!(!facts.read_only && !facts.version.is_empty(), "{facts:?}");
    assert!(facts.collations.iter().any(|collation| collation == "utf8mb4_unicode_520_ci"), "{facts:?}");
}

async fn a_schema_comes_and_goes(bench: &dyn DatabaseBench) {
    let (schema, mine, other) = (name("kc_schema-1"), mark("t1"), mark("t2"));
    let database = bench.database();
    assert_eq!(database.schema(&schema).await.expect("asked"), Existing::Absent);
    for _ in 0..2 {
        database.create_schema(&schema, &mine, None).await.expect("created, also twice");
        assert_eq!(
            database.schema(&schema).await.expect("asked"),
            Existing::Marked { task: "t1".to_owned() }
        );
    }
    assert_not_ours(database.create_schema(&schema, &other, None).await, "another task creates it");
    assert_not_ours(database.drop_schema(&schema, &other).await, "another task drops it");
    assert_not_ours(database.empty_schema(&schema, &other).await, "another task empties it");
    let facts = database.schema_facts(&schema).await.expect("facts");
    assert_eq!((facts.tables, facts.charset.charset.as_str()), (0, "utf8mb4"), "{facts:?}");
    for _ in 0..2 {
        database.drop_schema(&schema, &mine).await.expect("dropped, also twice");
        assert_eq!(database.schema(&schema).await.expect("asked"), Existing::Absent);
    }
    assert!(database.schema_facts(&schema).await.is_err(), "an absent schema has no facts");
    database.create_schema(&schema, &mine, Some(&facts.charset)).await.expect("created like another");
    assert_eq!(database.schema_facts(&schema).await.expect("facts").charset, facts.charset);
    database.drop_schema(&schema, &mine).await.expect("dropped");
}

async fn what_is_not_ours_stays(bench: &dyn DatabaseBench) {
    let (foreign, mine, secret) = (name("kc_foreign"), mark("t1"), SecretRef("contract/foreign".to_owned()));
    bench.secrets().ensure(&secret).await.expect("a secret");
    bench.add_foreign(&foreign).await;
    let database = bench.database();
    let request = DatabaseFingerprint {
        schema: foreign.clone(),
        user: Some(foreign.clone()),
        volatile: Vec::new(),
        full: true,
    };
    let before = database.fingerprint(&request).await.expect("fingerprint");
    assert_eq!(database.schema(&foreign).await.expect("asked"), Existing::Unmarked);
    assert_not_ours(database.create_schema(&foreign, &mine, None).await, "create over it");
    assert_not_ours(database.drop_schema(&foreign, &mine).await, "drop it");
    assert_not_ours(database.empty_schema(&foreign, &mine).await, "empty it");
    assert_not_ours(database.create_user(&foreign, &foreign, &secret, &mine).await, "create its user");
    assert_not_ours(database.drop_user(&foreign, &secret, &mine).await, "drop its user");
    assert_eq!(database.fingerprint(&request).await.expect("fingerprint"), before);
    bench.remove_foreign(&foreign).await;
    assert!(!database.user_exists(&foreign).await.expect("asked"));
    bench.secrets().remove(&secret).await.expect("secret removed");
}

async fn a_user_reaches_its_schema_only(bench: &dyn DatabaseBench) {
    let place = Place::filled(bench, "kc_one_a").await;
    // Without escapes, a grant on kc_one_a would hold for this one, too.
    let neighbour = Place::filled(bench, "kcxone_a").await;
    let database = bench.database();
    let Place { schema, mark, login, .. } = &place;
    database.create_user(&login.user, schema, &login.password, mark).await.expect("created twice");
    assert!(database.user_exists(&login.user).await.expect("asked"));
    assert_eq!(
        database.reach(&login.user).await,
        Ok(vec![login.user.to_string()]),
        "one schema, nothing else"
    );
    assert_eq!(database.reach(&name("kedge_contract_nobody")).await, Ok(Vec::new()));
    assert_eq!(database.sees_sessions().await, Ok(true), "an administrator sees whoever is there");
    assert!(place.add(bench, "x", "y").await);
    let intruder = (&login.user, &place.password);
    assert!(!bench.add_option(&neighbour.schema, intruder, "x", "y").await, "it reached another schema");
    let wrong = Secret::new("wrong");
    assert!(!bench.add_option(schema, (&login.user, &wrong), "x", "y").await, "any password does");
    let other = SecretRef("contract/other".to_owned());
    bench.secrets().ensure(&other).await.expect("a secret");
    let stranger = Mark { task: "t9".to_owned(), ..mark.clone() };
    assert_not_ours(database.drop_user(&login.user, &other, &stranger).await, "a stranger drops it");
    assert_not_ours(
        database.create_user(&login.user, schema, &other, &stranger).await,
        "a stranger takes it over",
    );
    assert!(place.add(bench, "x", "z").await, "it works as before");
    let login = place.login.clone();
    place.remove(bench).await;
    assert!(!database.user_exists(&login.user).await.expect("asked"));
    database.drop_user(&login.user, &login.password, &neighbour.mark).await.expect("absent is fine");
    neighbour.remove(bench).await;
    bench.secrets().remove(&other).await.expect("secret removed");
}

async fn a_locked_account_is_a_write_fence(bench: &dyn DatabaseBench) {
    let place = Place::filled(bench, "kc_fence").await;
    let (database, user) = (bench.database(), &place.login.user);
    assert!(!database.account_locked(user).await.expect("asked"));
    assert_eq!(database.locked_at(user).await, Ok(Vec::new()));
    let session = bench.open_session(user, &place.password).await;
    for _ in 0..2 {
        database.set_account_locked(user, true).await.expect("locked, also twice");
        assert!(database.account_locked(user).await.expect("asked"));
        assert!(!place.add(bench, "late", "write").await, "a write went through the fence");
    }
    session.await;
    // What was locked before stays so: here everything, as it is locked now.
    let hosts = database.locked_at(user).await.expect("asked");
    assert!(hosts.is_sorted() && !hosts.is_empty(), "{hosts:?}");
    database.unlock_but(user, &hosts).await.expect("nothing to do");
    assert_eq!(database.locked_at(user).await.as_ref(), Ok(&hosts));
    for (n, host) in hosts.iter().enumerate() {
        let rest = &hosts[n + 1..];
        database.unlock_but(user, rest).await.expect("all but the rest unlocked");
        assert_eq!(database.locked_at(user).await.as_deref(), Ok(rest), "{host}");
        assert_eq!(database.account_locked(user).await, Ok(false));
    }
    for _ in 0..2 {
        database.set_account_locked(user, false).await.expect("unlocked, also twice");
        assert!(!database.account_locked(user).await.expect("asked"));
    }
    assert!(place.add(bench, "early", "write").await);
    let absent = name("kc_nobody");
    assert!(!database.account_locked(&absent).await.expect("asked"));
    assert!(database.set_account_locked(&absent, true).await.is_err(), "nobody was locked");
    place.remove(bench).await;
}

async fn read(mut dump: ByteStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = dump.next().await {
        all.extend_from_slice(&chunk.expect("a whole dump"));
    }
    all
}

fn stream(sql: &[u8], end: Option<PortError>) -> ByteStream {
    let mut chunks: Vec<_> = sql.chunks(997).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    chunks.extend(end.map(Err));
    Box::pin(futures::stream::iter(chunks))
}

fn full(place: &Place) -> DatabaseFingerprint {
    DatabaseFingerprint { schema: place.schema.clone(), user: None, volatile: Vec::new(), full: true }
}

async fn a_dump_comes_back_as_it_was(bench: &dyn DatabaseBench) {
    let (from, to) = (Place::filled(bench, "kc_from").await, Place::make(bench, "kc_to").await);
    let database = bench.database();
    let before = database.fingerprint(&full(&from)).await.expect("fingerprint");
    let sql = read(database.dump(&from.schema).await.expect("dumping")).await;
    assert!(!String::from_utf8_lossy(&sql).contains("kc_from"), "a dump names no schema");
    let report =
        database.import(&to.schema, &to.mark, &to.login, stream(&sql, None)).await.expect("imported");
    assert_eq!((report.bytes, report.tables), (sql.len() as u64, 1));
    assert_eq!(bench.options(&to.schema).await, bench.options(&from.schema).await);
    assert_eq!(database.fingerprint(&full(&to)).await.expect("fingerprint"), before);
    assert_eq!(
        database.fingerprint(&full(&from)).await.expect("fingerprint"),
        before,
        "a dump changes nothing"
    );
    assert!(to.add(bench, "new", "row").await, "the user writes to what was imported");
    // Straight through, without a stop in between, after emptying; twice, as a repeated step does.
    for _ in 0..2 {
        database.empty_schema(&to.schema, &to.mark).await.expect("emptied");
        assert_eq!(database.schema_facts(&to.schema).await.expect("facts").tables, 0);
    }
    let dump = database.dump(&from.schema).await.expect("dumping");
    database.import(&to.schema, &to.mark, &to.login, dump).await.expect("imported");
    assert_eq!(database.fingerprint(&full(&to)).await.expect("fingerprint"), before);
    assert!(
        database.dump(&name("kc_absent")).await.is_err() || {
            let mut dump = database.dump(&name("kc_absent")).await.expect("dumping");
            let mut failed = false;
            while let Some(chunk) = dump.next().await {
                failed |= chunk.is_err();
            }
            failed
        }
    );
    from.remove(bench).await;
    to.remove(bench).await;
}

/// The rows of a table that holds nothing to rewrite; a server whose tools cannot leave them out of a dump names no such table.
async fn rows_are_copied_without_a_dump(bench: &dyn DatabaseBench) {
    let (from, to) = (Place::filled(bench, "kc_rows").await, Place::make(bench, "kc_rows_2").await);
    let database = bench.database();
    let before = database.fingerprint(&full(&from)).await.expect("fingerprint");
    let plain = async |telltales: &[&str]| -> Vec<String> {
        let telltales: Vec<String> = telltales.iter().map(|text| (*text).to_owned()).collect();
        let tables = database.plain_tables(&from.schema, None, &telltales).await.expect("looked for");
        tables.into_iter().map(|table| table.name).collect()
    };
    let tables = plain(&[]).await;
    if database.facts().await.expect("facts").flavour == "mariadb" {
        assert_eq!(tables, ["kc_options"]);
    }
    assert_eq!(plain(&["nowhere.in.it", "50%", "_"]).await, tables);
    for telltale in ["a.test", "A.TEST", "dump COMPLETED", "nicode"] {
        assert_eq!(plain(&["nowhere.in.it", telltale]).await, [] as [&str; 0], "{telltale}");
    }
    let among = ["kc_absent".to_owned()];
    assert_eq!(database.plain_tables(&from.schema, Some(&among), &[]).await, Ok(Vec::new()));
    for (columns, found) in [(["name", "value"], 1), (["name", "absent"], 0)] {
        let tables = database.tables_with(&from.schema, &columns).await.expect("looked for");
        assert_eq!(tables, ["kc_options"; 1][..found], "{columns:?}");
    }
    // Many columns are no harder than two.
    let many = ["name", "value", "a", "b", "c", "d"];
    assert_eq!(database.tables_with(&from.schema, &many).await, Ok(Vec::new()));
    let dump = database.dump_without_rows(&from.schema, &tables).await.expect("dumping");
    database.import(&to.schema, &to.mark, &to.login, dump).await.expect("imported");
    let stranger = Mark { task: "t9".to_owned(), ..to.mark.clone() };
    assert_not_ours(
        database.copy_rows(&from.schema, &to.schema, &stranger, &tables).await,
        "copying into what is not ours",
    );
    if !tables.is_empty() {
        assert_eq!(bench.options(&to.schema).await, [], "the dump is without rows");
        let rows = database.copy_rows(&from.schema, &to.schema, &to.mark, &tables).await;
        assert_eq!(rows, Ok(ODD.len() as u64));
        let absent = ["kc_absent".to_owned()];
        assert!(database.copy_rows(&from.schema, &to.schema, &to.mark, &absent).await.is_err());
    }
    assert_eq!(database.fingerprint(&full(&to)).await.expect("fingerprint"), before);
    assert_eq!(database.fingerprint(&full(&from)).await.expect("fingerprint"), before, "it only reads");
    assert!(to.add(bench, "new", "row").await, "the user writes to what was copied");
    from.remove(bench).await;
    to.remove(bench).await;
}

/// Looks until the last write lies behind: in its very second nobody can tell.
async fn calm(database: &dyn Database, schema: &DatabaseName) -> TableTimes {
    for _ in 0..1000 {
        let times = database.table_times(schema).await.expect("asked");
        let now = database.table_times(schema).await.expect("asked");
        if now.touched_since(&times) == Some(Vec::new()) {
            return times;
        }
    }
    panic!("schema {schema} does not come to rest");
}

async fn what_was_written_since_is_copied_again(bench: &dyn DatabaseBench) {
    let (from, to) = (Place::filled(bench, "kc_ahead").await, Place::make(bench, "kc_ahead_2").await);
    let database = bench.database();
    let times = calm(&*database, &from.schema).await;
    assert_eq!(times.tables.keys().collect::<Vec<_>>(), ["kc_options"], "our mark is no table of the site's");
    let dump = database.dump(&from.schema).await.expect("dumping");
    database.import(&to.schema, &to.mark, &to.login, dump).await.expect("imported");
    let touched = async || {
        database.table_times(&from.schema).await.expect("asked").touched_since(&times).expect("one life")
    };
    assert_eq!(touched().await, [] as [&str; 0], "a dump only reads");
    assert!(from.add(bench, "late", "write").await, "the site writes");
    let again = touched().await;
    assert_eq!(again, ["kc_options"]);
    let stranger = Mark { task: "t9".to_owned(), ..to.mark.clone() };
    let nothing = stream(b"", None);
    assert_not_ours(
        database.import_tables(&to.schema, &stranger, &to.login, &again, nothing).await,
        "into a schema of another task",
    );
    assert_eq!(bench.options(&to.schema).await.len(), ODD.len(), "nothing was touched");
    for without_rows in [&again[..], &[]] {
        let dump = database.dump_tables(&from.schema, &again, without_rows).await.expect("dumping");
        let report = database.import_tables(&to.schema, &to.mark, &to.login, &again, dump).await;
        assert_eq!(report.expect("imported").tables, 1);
        let rows = if without_rows.is_empty() { ODD.len() + 1 } else { 0 };
        assert_eq!(bench.options(&to.schema).await.len(), rows);
    }
    let (here, there) = (database.fingerprint(&full(&to)).await, database.fingerprint(&full(&from)).await);
    assert_eq!(here.expect("fingerprint"), there.expect("fingerprint"));
    assert!(to.add(bench, "new", "row").await, "the user writes to what was copied");
    from.remove(bench).await;
    to.remove(bench).await;
}

async fn a_broken_import_is_an_error(bench: &dyn DatabaseBench) {
    let place = Place::filled(bench, "kc_import").await;
    let other = Place::make(bench, "kc_import_2").await;
    let database = bench.database();
    let sql = read(database.dump(&place.schema).await.expect("dumping")).await;
    let again = database.import(&place.schema, &place.mark, &place.login, stream(&sql, None)).await;
    assert!(matches!(again, Err(PortError::Refused(_))), "into a schema that is not empty: {again:?}");
    assert_eq!(bench.options(&place.schema).await.len(), ODD.len(), "nothing was touched");
    let stranger = Mark { task: "t9".to_owned(), ..other.mark.clone() };
    assert_not_ours(
        database.import(&other.schema, &stranger, &other.login, stream(&sql, None)).await,
        "into a schema of another task",
    );
    let cut = PortError::Lost("the source went away".to_owned());
    let half = &sql[..sql.len() / 2];
    let error =
        database.import(&other.schema, &other.mark, &other.login, stream(half, Some(cut.clone()))).await;
    assert_eq!(error, Err(cut), "the error of the source is the error");
    database.empty_schema(&other.schema, &other.mark).await.expect("emptied");
    let mut wrong = sql.clone();
    wrong.extend_from_slice(b"NO SUCH STATEMENT;\n");
    let error = database.import(&other.schema, &other.mark, &other.login, stream(&wrong, None)).await;
    let Err(PortError::Refused(what)) = &error else { panic!("{error:?}") };
    let line = wrong.split(|byte| *byte == b'\n').count() - 1;
    assert!(what.contains(&format!("line {line}")), "{what} does not name line {line}");
    assert!(!what.contains(other.password.expose()), "a secret is in an error");
    database.empty_schema(&other.schema, &other.mark).await.expect("emptied");
    database.import(&other.schema, &other.mark, &other.login, stream(&sql, None)).await.expect("imported");
    place.remove(bench).await;
    other.remove(bench).await;
}

async fn a_fingerprint_sees_what_changed(bench: &dyn DatabaseBench) {
    let place = Place::filled(bench, "kc_print").await;
    let database = bench.database();
    let user = place.login.user.clone();
    let volatile = vec![VolatileRows {
        table_suffix: "options".to_owned(),
        column: "name".to_owned(),
        like: vec!["\\_transient%".to_owned(), "cron".to_owned()],
    }];
    let quick = DatabaseFingerprint {
        schema: place.schema.clone(),
        user: Some(user.clone()),
        volatile: Vec::new(),
        full: false,
    };
    let deep = DatabaseFingerprint { full: true, ..quick.clone() };
    let patient = DatabaseFingerprint { volatile, ..deep.clone() };
    let mut seen = Vec::new();
    for request in [&quick, &deep, &patient] {
        let first = database.fingerprint(request).await.expect("fingerprint");
        assert_eq!(database.fingerprint(request).await.expect("fingerprint"), first, "twice the same");
        let listing = format!("{:?}", first.entries);
        assert!(!listing.contains(place.password.expose()), "a secret is in a fingerprint");
        seen.push(first);
    }
    assert!(seen[0].entries.len() < seen[1].entries.len());
    assert!(place.add(bench, "_transient_x", "1").await && place.add(bench, "cron", "2").await);
    assert_eq!(
        database.fingerprint(&patient).await.expect("fingerprint"),
        seen[2],
        "volatile rows do not count"
    );
    assert_ne!(database.fingerprint(&quick).await.expect("fingerprint"), seen[0]);
    assert!(place.add(bench, "xtransient_y", "3").await);
    assert_ne!(database.fingerprint(&patient).await.expect("fingerprint"), seen[2]);
    let open = database.fingerprint(&quick).await.expect("fingerprint");
    database.set_account_locked(&user, true).await.expect("locked");
    let locked = database.fingerprint(&quick).await.expect("fingerprint");
    assert_ne!(locked, open, "a lock is seen");
    database.set_account_locked(&user, false).await.expect("unlocked");
    assert_eq!(database.fingerprint(&quick).await.expect("fingerprint"), open, "and undone");
    place.remove(bench).await;
    let gone = database.fingerprint(&quick).await.expect("what is absent has a fingerprint");
    assert_eq!(gone.entries.len(), 2, "{gone:?}");
}
