//! A database server in memory. Keeps the promises of the port; its SQL is the small part that its own dumps need.

mod print;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use super::Faults;
use super::database_sql::{FakeEvent, FakeEvents, FakeTable, FakeTables, Statement, dump, parse};
use crate::names::DatabaseName;
use crate::ports::{
    ByteStream, Charset, Database, DatabaseFacts, DatabaseFingerprint, EventsReport, Existing, Fingerprint,
    ImportReport, Login, Mark, PlainTable, PortError, PortResult, SchemaFacts, Secret, SecretRef, Secrets,
    TableTime, TableTimes,
};

/// Bytes of a chunk of a dump: small, so that tests see chunk borders everywhere.
const CHUNK: usize = 61;
const COLLATION: &str = "utf8mb4_unicode_520_ci";

/// A database server in memory. Clones share it.
#[derive(Clone)]
pub struct FakeDatabase {
    faults: Faults,
    secrets: Arc<dyn Secrets>,
    server: Arc<Mutex<Server>>,
}

#[derive(Clone)]
struct Server {
    facts: DatabaseFacts,
    schemas: BTreeMap<String, Schema>,
    users: BTreeMap<String, User>,
}

#[derive(Clone, Debug)]
struct Schema {
    mark: Option<Mark>,
    charset: Charset,
    tables: FakeTables,
    events: FakeEvents,
    triggers: u64,
}

#[derive(Clone)]
struct User {
    password: Secret,
    mark: Option<Mark>,
    schemas: Vec<String>,
    locked: bool,
    /// Accounts that connect from elsewhere, and whether they are locked.
    elsewhere: BTreeMap<String, bool>,
}

/// Where the account connects from that every user has.
const HOME: &str = "localhost";

impl FakeDatabase {
    /// An empty server.
    #[must_use]
    pub fn new(faults: Faults, secrets: Arc<dyn Secrets>) -> Self {
        let facts = DatabaseFacts {
            flavour: "mariadb".to_owned(),
            version: "10.11.0-fake".to_owned(),
            max_allowed_packet: 16 << 20,
            read_only: false,
            free_bytes: Some(1 << 40),
            collations: vec!["utf8mb4_general_ci".to_owned(), COLLATION.to_owned()],
            refuses_triggers: false,
            logs_statements: false,
        };
        let server = Server { facts, schemas: BTreeMap::new(), users: BTreeMap::new() };
        Self { faults, secrets, server: Arc::new(Mutex::new(server)) }
    }

    /// Another server with the same schemas and users.
    #[must_use]
    pub fn fork(&self, faults: Faults, secrets: Arc<dyn Secrets>) -> Self {
        Self { faults, secrets, server: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Changes what the server is.
    pub fn change_facts(&self, change: impl FnOnce(&mut DatabaseFacts)) {
        change(&mut self.lock().facts);
    }

    /// Does something with a schema's events; `None` when it does not exist.
    pub fn with_events<R>(&self, schema: &DatabaseName, act: impl FnOnce(&mut FakeEvents) -> R) -> Option<R> {
        self.lock().schemas.get_mut(schema.as_str()).map(|schema| act(&mut schema.events))
    }

    /// Sets how many triggers and functions a schema has: a number only.
    pub fn set_triggers(&self, schema: &DatabaseName, triggers: u64) {
        if let Some(schema) = self.lock().schemas.get_mut(schema.as_str()) {
            schema.triggers = triggers;
        }
    }

    /// Gives a user another account, for who connects from this host.
    pub fn add_account(&self, user: &DatabaseName, host: &str, locked: bool) {
        if let Some(user) = self.lock().users.get_mut(user.as_str()) {
            user.elsewhere.insert(host.to_owned(), locked);
        }
    }

    /// Gives a user rights on another schema.
    pub fn give_rights(&self, user: &DatabaseName, schema: &str) {
        if let Some(user) = self.lock().users.get_mut(user.as_str()) {
            user.schemas.push(schema.to_owned());
        }
    }

    /// Does something with a schema's tables, as an administrator; `None` when it does not exist.
    pub fn with_tables<R>(&self, schema: &DatabaseName, act: impl FnOnce(&mut FakeTables) -> R) -> Option<R> {
        self.lock().schemas.get_mut(schema.as_str()).map(|schema| act(&mut schema.tables))
    }

    /// Does something with a schema's tables, as a site's code does.
    ///
    /// # Errors
    /// `Refused` for a wrong password, a locked account, or no right on the schema.
    pub fn as_site<R>(
        &self,
        user: &str,
        password: &str,
        schema: &str,
        act: impl FnOnce(&mut FakeTables) -> R,
    ) -> PortResult<R> {
        let mut server = self.lock();
        server.check_login(user, password, schema)?;
        let schema = server
            .schemas
            .get_mut(schema)
            .ok_or_else(|| refused(format!("schema {schema} does not exist")))?;
        Ok(act(&mut schema.tables))
    }

    /// Adds a schema and a user of that name that are not Kedge's.
    pub fn add_foreign(&self, name: &DatabaseName, tables: FakeTables) {
        let mut server = self.lock();
        let name = name.to_string();
        server.schemas.insert(
            name.clone(),
            Schema { mark: None, charset: charset(), tables, events: FakeEvents::new(), triggers: 0 },
        );
        let user = User {
            password: Secret::new("foreign"),
            mark: None,
            schemas: vec![name.clone()],
            locked: false,
            elsewhere: BTreeMap::new(),
        };
        server.users.insert(name, user);
    }

    /// Everything on the server, to be compared: what differs between two of these differs on the server.
    #[must_use]
    pub fn state(&self) -> Fingerprint {
        let server = self.lock();
        let mut entries = Vec::new();
        for (name, schema) in &server.schemas {
            entries.push((format!("schema:{name}"), format!("{:?} {:?}", schema.mark, schema.charset)));
            for (table, content) in &schema.tables {
                entries.push((format!("table:{name}.{table}"), format!("{content:?}")));
            }
            for (event, status) in &schema.events {
                entries.push((format!("event:{name}.{event}"), format!("{status:?}")));
            }
        }
        for (name, user) in &server.users {
            let password = hex::encode(&Sha256::digest(user.password.expose())[..8]);
            entries.push((
                format!("user:{name}"),
                format!("{:?} {:?} {} {password}", user.mark, user.schemas, user.locked),
            ));
            let more = user.elsewhere.iter();
            entries.extend(more.map(|(host, locked)| (format!("account:{name}@{host}"), locked.to_string())));
        }
        Fingerprint::of(entries)
    }

    fn lock(&self) -> MutexGuard<'_, Server> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One effect between two points.
    fn effect<R>(
        &self,
        op: &str,
        detail: &str,
        act: impl FnOnce(&mut Server) -> PortResult<R>,
    ) -> PortResult<R> {
        self.faults.before(op, detail)?;
        let result = act(&mut self.lock())?;
        self.faults.after(op, detail)?;
        Ok(result)
    }

    fn query<R>(&self, op: &str, detail: &str, act: impl FnOnce(&Server) -> PortResult<R>) -> PortResult<R> {
        self.faults.before(op, detail)?;
        act(&self.lock())
    }

    async fn may_import(&self, name: &DatabaseName, login: &Login) -> PortResult<()> {
        let secret = self.secrets.get(&login.password).await?;
        let password = secret.as_ref().map_or("", |secret| secret.expose()).to_owned();
        self.query("database.import", name.as_str(), |server| {
            server.check_login(login.user.as_str(), &password, name.as_str())
        })
    }

    /// Reads SQL into a schema with this mark.
    async fn feed(&self, name: &DatabaseName, mark: &Mark, mut sql: ByteStream) -> PortResult<ImportReport> {
        let mut read = Vec::new();
        let mut broken = None;
        while let Some(chunk) = sql.next().await {
            match chunk {
                Ok(chunk) => read.extend_from_slice(&chunk),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        let bytes = read.len() as u64;
        let text = String::from_utf8_lossy(&read);
        let (statements, error) = match (parse(&text), broken) {
            (Ok(statements), broken) => (statements, broken),
            (Err(line), broken) => {
                let at_fault = || refused(format!("importing into schema {name}: error in line {line}"));
                (Vec::new(), Some(broken.unwrap_or_else(at_fault)))
            }
        };
        // A part of it is there for a moment, as on a real server.
        let part = statements.len() - statements.len() / 3;
        for (i, statement) in statements.into_iter().enumerate() {
            if i == part {
                self.faults.before("database.import_rest", name.as_str())?;
            }
            apply(self.lock().existing(name, mark)?, statement)?;
        }
        if let Some(error) = error {
            return Err(error);
        }
        self.faults.after("database.import", name.as_str())?;
        let tables = self.lock().existing(name, mark)?.tables.len() as u64;
        Ok(ImportReport { bytes, tables })
    }

    /// A dump on its way out, in small pieces.
    fn read_out(&self, name: &DatabaseName, sql: &str) -> ByteStream {
        let mut chunks: Vec<PortResult<Bytes>> =
            sql.as_bytes().chunks(CHUNK).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        // A fault behind a dump is one that its reader meets at the end of the stream.
        if let Err(error) = self.faults.after("database.dump", name.as_str()) {
            chunks.push(Err(error));
        }
        Box::pin(futures::stream::iter(chunks))
    }
}

impl User {
    fn is_locked(&self) -> bool {
        self.locked && self.elsewhere.values().all(|locked| *locked)
    }
}

impl Server {
    /// A schema with this mark; `None` when absent.
    fn owned(&mut self, name: &DatabaseName, mark: &Mark) -> PortResult<Option<&mut Schema>> {
        match self.schemas.get_mut(name.as_str()) {
            Some(schema) if schema.mark.as_ref().is_none_or(|there| there.task != mark.task) => {
                Err(PortError::NotOurs(format!("schema {name} is not of task {}", mark.task)))
            }
            found => Ok(found),
        }
    }

    fn set_locked(&mut self, user: &DatabaseName, locked: bool, but: &[String]) -> PortResult<()> {
        let missing = || refused(format!("user {user} does not exist"));
        let user = self.users.get_mut(user.as_str()).ok_or_else(missing)?;
        let set = |host: &String, state: &mut bool| {
            if !but.contains(host) {
                *state = locked;
            }
        };
        user.elsewhere.iter_mut().for_each(|(host, state)| set(host, state));
        set(&HOME.to_owned(), &mut user.locked);
        Ok(())
    }

    fn existing(&mut self, name: &DatabaseName, mark: &Mark) -> PortResult<&mut Schema> {
        self.owned(name, mark)?.ok_or_else(|| refused(format!("schema {name} does not exist")))
    }

    fn check_login(&self, user: &str, password: &str, schema: &str) -> PortResult<()> {
        match self.users.get(user) {
            Some(found)
                if found.password.expose() == password
                    && !found.locked
                    && found.schemas.iter().any(|s| s == schema) =>
            {
                Ok(())
            }
            _ => Err(refused(format!("access denied for user {user} to schema {schema}"))),
        }
    }
}

fn refused(what: String) -> PortError {
    PortError::Refused(what)
}

fn charset() -> Charset {
    Charset { charset: "utf8mb4".to_owned(), collation: COLLATION.to_owned() }
}

fn user_is_ours(user: &User, secret: Option<&Secret>, mark: &Mark) -> bool {
    user.mark.as_ref().is_some_and(|there| there.task == mark.task) || secret == Some(&user.password)
}

#[async_trait]
impl Database for FakeDatabase {
    async fn facts(&self) -> PortResult<DatabaseFacts> {
        self.query("database.facts", "", |server| Ok(server.facts.clone()))
    }

    async fn schema(&self, name: &DatabaseName) -> PortResult<Existing> {
        self.query("database.schema", name.as_str(), |server| {
            Ok(match server.schemas.get(name.as_str()) {
                None => Existing::Absent,
                Some(Schema { mark: Some(mark), .. }) => Existing::Marked { task: mark.task.clone() },
                Some(_) => Existing::Unmarked,
            })
        })
    }

    async fn create_schema(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        like: Option<&Charset>,
    ) -> PortResult<()> {
        self.effect("database.create_schema", name.as_str(), |server| {
            if server.owned(name, mark)?.is_none() {
                let (mark, charset) = (Some(mark.clone()), like.cloned().unwrap_or_else(charset));
                let (tables, events) = (FakeTables::new(), FakeEvents::new());
                server
                    .schemas
                    .insert(name.to_string(), Schema { mark, charset, tables, events, triggers: 0 });
            }
            Ok(())
        })
    }

    async fn drop_schema(&self, name: &DatabaseName, mark: &Mark) -> PortResult<()> {
        self.effect("database.drop_schema", name.as_str(), |server| {
            if server.owned(name, mark)?.is_some() {
                server.schemas.remove(name.as_str());
            }
            Ok(())
        })
    }

    async fn empty_schema(&self, name: &DatabaseName, mark: &Mark) -> PortResult<()> {
        self.effect("database.empty_schema", name.as_str(), |server| {
            let schema = server.existing(name, mark)?;
            schema.tables.clear();
            schema.events.clear();
            Ok(())
        })
    }

    async fn schema_facts(&self, name: &DatabaseName) -> PortResult<SchemaFacts> {
        self.query("database.schema_facts", name.as_str(), |server| {
            let schema = server
                .schemas
                .get(name.as_str())
                .ok_or_else(|| refused(format!("schema {name} does not exist")))?;
            let tables = schema.tables.len() as u64;
            Ok(SchemaFacts {
                charset: schema.charset.clone(),
                bytes: dump(&schema.tables, &schema.events).len() as u64,
                tables,
                collations: if tables == 0 { Vec::new() } else { vec![COLLATION.to_owned()] },
                triggers: schema.triggers,
                events_on: schema.events.values().filter(|event| **event == FakeEvent::On).count() as u64,
                flavour: server.facts.flavour.clone(),
                only_here: Vec::new(),
                names_itself: Vec::new(),
                not_in_the_snapshot: Vec::new(),
            })
        })
    }

    async fn user_exists(&self, name: &DatabaseName) -> PortResult<bool> {
        self.query("database.user_exists", name.as_str(), |server| {
            Ok(server.users.contains_key(name.as_str()))
        })
    }

    async fn create_user(
        &self,
        user: &DatabaseName,
        schema: &DatabaseName,
        password: &SecretRef,
        mark: &Mark,
    ) -> PortResult<()> {
        let secret = self.secrets.ensure(password).await?;
        self.effect("database.create_user", user.as_str(), |server| {
            let new = User {
                password: secret.clone(),
                mark: Some(mark.clone()),
                schemas: Vec::new(),
                locked: false,
                elsewhere: BTreeMap::new(),
            };
            let there = server.users.entry(user.to_string()).or_insert(new);
            if !user_is_ours(there, Some(&secret), mark) {
                return Err(PortError::NotOurs(format!("user {user} exists and was not made by this task")));
            }
            if !there.schemas.iter().any(|name| name == schema.as_str()) {
                there.schemas.push(schema.to_string());
            }
            Ok(())
        })
    }

    async fn drop_user(&self, user: &DatabaseName, password: &SecretRef, mark: &Mark) -> PortResult<()> {
        let secret = self.secrets.get(password).await?;
        self.effect("database.drop_user", user.as_str(), |server| {
            match server.users.get(user.as_str()) {
                None => {}
                Some(there) if user_is_ours(there, secret.as_ref(), mark) => {
                    server.users.remove(user.as_str());
                }
                Some(_) => {
                    return Err(PortError::NotOurs(format!(
                        "user {user} exists and was not made by this task"
                    )));
                }
            }
            Ok(())
        })
    }

    async fn sees_sessions(&self) -> PortResult<bool> {
        self.query("database.sees_sessions", "", |_| Ok(true))
    }

    async fn reach(&self, user: &DatabaseName) -> PortResult<Vec<String>> {
        self.query("database.reach", user.as_str(), |server| {
            let mut schemas =
                server.users.get(user.as_str()).map(|user| user.schemas.clone()).unwrap_or_default();
            schemas.sort();
            Ok(schemas)
        })
    }

    fn address_for_sites(&self) -> String {
        "localhost".to_owned()
    }

    async fn account_locked(&self, user: &DatabaseName) -> PortResult<bool> {
        self.query("database.account_locked", user.as_str(), |server| {
            Ok(server.users.get(user.as_str()).is_some_and(User::is_locked))
        })
    }

    async fn locked_at(&self, user: &DatabaseName) -> PortResult<Vec<String>> {
        self.query("database.locked_at", user.as_str(), |server| {
            let Some(user) = server.users.get(user.as_str()) else { return Ok(Vec::new()) };
            let home = HOME.to_owned();
            let all = user.elsewhere.iter().chain([(&home, &user.locked)]);
            let mut locked: Vec<String> =
                all.filter(|(_, locked)| **locked).map(|(host, _)| host.clone()).collect();
            locked.sort();
            Ok(locked)
        })
    }

    async fn unlock_but(&self, user: &DatabaseName, stay: &[String]) -> PortResult<()> {
        self.effect("database.unlock_but", user.as_str(), |server| server.set_locked(user, false, stay))
    }

    async fn set_account_locked(&self, user: &DatabaseName, locked: bool) -> PortResult<()> {
        self.effect("database.set_account_locked", user.as_str(), |server| {
            server.set_locked(user, locked, &[])
        })
    }

    async fn plain_tables(
        &self,
        name: &DatabaseName,
        among: Option<&[String]>,
        telltales: &[String],
    ) -> PortResult<Vec<PlainTable>> {
        self.query("database.plain_tables", name.as_str(), |server| {
            let schema = server.schemas.get(name.as_str());
            let schema = schema.ok_or_else(|| refused(format!("schema {name} does not exist")))?;
            let told = |cell: &str| {
                let cell = cell.to_ascii_lowercase();
                telltales.iter().any(|telltale| cell.contains(&telltale.to_ascii_lowercase()))
            };
            let is_plain =
                |table: &FakeTable| !table.rows.values().flatten().flatten().any(|cell| told(cell));
            let plain = schema.tables.iter().filter(|(_, table)| schema.triggers == 0 && is_plain(table));
            Ok(plain
                .filter(|(name, _)| among.is_none_or(|among| among.contains(name)))
                .map(|(name, table)| PlainTable { name: name.clone(), bytes: 1000 * table.rows.len() as u64 })
                .collect())
        })
    }

    async fn table_times(&self, name: &DatabaseName) -> PortResult<TableTimes> {
        self.query("database.table_times", name.as_str(), |server| {
            let schema = server.schemas.get(name.as_str());
            let schema = schema.ok_or_else(|| refused(format!("schema {name} does not exist")))?;
            // A server that has forgotten all times: it knows the rows.
            let tables = schema.tables.iter().map(|(name, table)| {
                let checksum = Some(hex::encode(Sha256::digest(format!("{:?}", table.rows))));
                (name.clone(), TableTime { written_at: None, checksum, next: Some(table.next), bytes: 1000 })
            });
            Ok(TableTimes { running_since: 0, asked_at: 1, tables: tables.collect() })
        })
    }

    async fn tables_with(&self, name: &DatabaseName, columns: &[&str]) -> PortResult<Vec<String>> {
        self.query("database.tables_with", name.as_str(), |server| {
            let schema = server.schemas.get(name.as_str());
            let schema = schema.ok_or_else(|| refused(format!("schema {name} does not exist")))?;
            let has_all =
                |table: &FakeTable| columns.iter().all(|column| table.columns.iter().any(|c| c == column));
            Ok(schema
                .tables
                .iter()
                .filter(|(_, table)| has_all(table))
                .map(|(name, _)| name.clone())
                .collect())
        })
    }

    async fn copy_rows(
        &self,
        from: &DatabaseName,
        to: &DatabaseName,
        mark: &Mark,
        tables: &[String],
    ) -> PortResult<u64> {
        self.effect("database.copy_rows", to.as_str(), |server| {
            let missing = || refused(format!("schema {from} lacks one of {tables:?}"));
            let source = server.schemas.get(from.as_str()).ok_or_else(missing)?.tables.clone();
            let target = server.existing(to, mark)?;
            let mut rows = 0;
            for name in tables {
                let (source, target) =
                    (source.get(name).ok_or_else(missing)?, target.tables.get_mut(name).ok_or_else(missing)?);
                if !target.rows.is_empty() || source.columns != target.columns {
                    return Err(refused(format!("table {name} of schema {to} is no empty copy")));
                }
                target.rows.clone_from(&source.rows);
                rows += source.rows.len() as u64;
            }
            Ok(rows)
        })
    }

    async fn dump_without_rows(&self, name: &DatabaseName, tables: &[String]) -> PortResult<ByteStream> {
        let sql = self.query("database.dump", name.as_str(), |server| {
            let schema = server
                .schemas
                .get(name.as_str())
                .ok_or_else(|| refused(format!("schema {name} does not exist")))?;
            let mut dumped = schema.tables.clone();
            for table in tables {
                dumped.get_mut(table).ok_or_else(|| refused(format!("no table {table}")))?.rows.clear();
            }
            Ok(dump(&dumped, &schema.events))
        })?;
        Ok(self.read_out(name, &sql))
    }

    async fn dump_tables(
        &self,
        name: &DatabaseName,
        tables: &[String],
        without_rows: &[String],
    ) -> PortResult<ByteStream> {
        let sql = self.query("database.dump", name.as_str(), |server| {
            let schema = server.schemas.get(name.as_str());
            let schema = schema.ok_or_else(|| refused(format!("schema {name} does not exist")))?;
            let mut dumped = FakeTables::new();
            for table in tables {
                let mut found =
                    schema.tables.get(table).ok_or_else(|| refused(format!("no table {table}")))?.clone();
                if without_rows.contains(table) {
                    found.rows.clear();
                }
                dumped.insert(table.clone(), found);
            }
            Ok(dump(&dumped, &FakeEvents::new()))
        })?;
        Ok(self.read_out(name, &sql))
    }

    async fn import_tables(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
        tables: &[String],
        sql: ByteStream,
    ) -> PortResult<ImportReport> {
        self.effect("database.drop_tables", name.as_str(), |server| {
            let schema = server.existing(name, mark)?;
            schema.tables.retain(|table, _| !tables.contains(table));
            Ok(())
        })?;
        self.may_import(name, login).await?;
        self.feed(name, mark, sql).await
    }

    async fn import(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
        sql: ByteStream,
    ) -> PortResult<ImportReport> {
        self.may_import(name, login).await?;
        if !self.lock().existing(name, mark)?.tables.is_empty() {
            return Err(refused(format!("schema {name} is not empty")));
        }
        self.feed(name, mark, sql).await
    }

    async fn start_events(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
    ) -> PortResult<EventsReport> {
        let secret = self.secrets.get(&login.password).await?;
        let password = secret.as_ref().map_or("", |secret| secret.expose()).to_owned();
        self.effect("database.start_events", name.as_str(), |server| {
            server.existing(name, mark)?;
            server.check_login(login.user.as_str(), &password, name.as_str())?;
            let mut report = EventsReport::default();
            let waiting = server.existing(name, mark)?.events.values_mut();
            for event in waiting.filter(|event| **event == FakeEvent::Waiting) {
                *event = FakeEvent::On;
                report.started += 1;
            }
            Ok(report)
        })
    }

    async fn fingerprint(&self, request: &DatabaseFingerprint) -> PortResult<Fingerprint> {
        self.query("database.fingerprint", request.schema.as_str(), |server| {
            Ok(print::fingerprint(server, request))
        })
    }
}

fn apply(schema: &mut Schema, statement: Statement) -> PortResult<()> {
    let tables = &mut schema.tables;
    match statement {
        Statement::Nothing => {}
        Statement::Event(name, status) => {
            schema.events.insert(name, status);
        }
        Statement::Drop(name) => {
            tables.remove(&name);
        }
        Statement::Create(name, table) => {
            if tables.insert(name.clone(), table).is_some() {
                return Err(refused(format!("table {name} exists")));
            }
        }
        Statement::Insert(name, rows) => {
            let table =
                tables.get_mut(&name).ok_or_else(|| refused(format!("table {name} does not exist")))?;
            for (key, cells) in rows {
                if cells.len() != table.columns.len() || table.rows.insert(key, cells).is_some() {
                    return Err(refused(format!("row {key} of table {name} does not fit")));
                }
                table.next = table.next.max(key + 1);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
