//! MySQL and MariaDB through their client tools, which run on one of our hosts. Never speaks the protocol itself, never drops or
//! changes what does not carry our mark.

mod accounts;
mod client;
mod errors;
mod fingerprint;
mod fingerprint_reader;
mod late_keys;
mod marks;
mod only_here;
mod own_name;
mod quote;
mod schema;
mod sql_event;
mod sql_filter;
mod sql_head;
mod sql_heading;
mod sql_unqualify;
#[cfg(test)]
mod tests;
mod tools;
mod transfer;
mod within;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::{
    ByteStream, Charset, Database, DatabaseFacts, DatabaseFingerprint, EventsReport, Existing, Fingerprint,
    ImportReport, Login, Mark, PlainTable, PortError, PortResult, SchemaFacts, Scope, Secret, SecretRef,
    Secrets, TableTimes,
};

use self::client::Client;
use self::errors::{Effect, Failure, classify};
use crate::host::Host;

/// A database server of the configuration.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// Its name.
    pub name: String,
    /// Option file with the administrator's access (`/etc/mysql/debian.cnf`); `None`: root by socket.
    pub admin_defaults_file: Option<String>,
    /// Hosts that site users connect from, as this server sees them.
    pub grant_hosts: Vec<String>,
    /// Where site code finds this server: host, `host:port` or `localhost:/path/to/socket`.
    pub address_for_sites: String,
}

impl DatabaseConfig {
    /// A server on the host of its sites, administered by root through its socket.
    pub fn local(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            admin_defaults_file: None,
            grant_hosts: vec!["localhost".to_owned()],
            address_for_sites: "localhost".to_owned(),
        }
    }
}

/// A MySQL or MariaDB server, on behalf of one attempt.
#[derive(Clone)]
pub struct Mysql {
    config: Arc<DatabaseConfig>,
    client: Client,
    secrets: Arc<dyn Secrets>,
}

impl Mysql {
    /// The server that the client tools on `host` reach.
    pub fn new(config: DatabaseConfig, host: Arc<dyn Host>, scope: Scope, secrets: Arc<dyn Secrets>) -> Self {
        let client = Client::new(host, scope, config.admin_defaults_file.clone());
        Self { config: Arc::new(config), client, secrets }
    }

    /// The same server on behalf of another attempt. What was found out about its tools is kept.
    #[must_use]
    pub fn scoped(&self, scope: &Scope) -> Self {
        Self { client: self.client.scoped(scope), ..self.clone() }
    }

    /// Waits at most so many seconds for tables that somebody else uses, instead of a minute.
    #[must_use]
    pub fn with_lock_wait(mut self, seconds: u16) -> Self {
        self.client.lock_wait = seconds;
        self
    }

    async fn secret(&self, name: &SecretRef) -> PortResult<Secret> {
        let secret = self.secrets.get(name).await?;
        secret.ok_or_else(|| PortError::Refused(format!("the secret {:?} does not exist", name.0)))
    }
}

#[async_trait]
impl Database for Mysql {
    async fn facts(&self) -> PortResult<DatabaseFacts> {
        schema::facts(&self.client).await
    }

    async fn schema(&self, name: &DatabaseName) -> PortResult<Existing> {
        marks::schema(&self.client, name).await
    }

    async fn create_schema(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        like: Option<&Charset>,
    ) -> PortResult<()> {
        schema::create(&self.client, name, mark, like).await
    }

    async fn drop_schema(&self, name: &DatabaseName, mark: &Mark) -> PortResult<()> {
        schema::drop(&self.client, name, mark).await
    }

    async fn empty_schema(&self, name: &DatabaseName, mark: &Mark) -> PortResult<()> {
        schema::empty(&self.client, name, mark).await
    }

    async fn schema_facts(&self, name: &DatabaseName) -> PortResult<SchemaFacts> {
        schema::schema_facts(&self.client, name).await
    }

    async fn user_exists(&self, name: &DatabaseName) -> PortResult<bool> {
        Ok(!accounts::of_user(&self.client, name).await?.is_empty())
    }

    async fn create_user(
        &self,
        user: &DatabaseName,
        schema: &DatabaseName,
        password: &SecretRef,
        mark: &Mark,
    ) -> PortResult<()> {
        let secret = self.secrets.ensure(password).await?;
        let hosts: BTreeSet<String> = self.config.grant_hosts.iter().cloned().collect();
        accounts::create(&self.client, &hosts, user, schema, &secret, mark).await
    }

    async fn drop_user(&self, user: &DatabaseName, password: &SecretRef, mark: &Mark) -> PortResult<()> {
        let secret = self.secrets.get(password).await?;
        accounts::drop(&self.client, user, secret.as_ref(), mark).await
    }

    async fn reach(&self, user: &DatabaseName) -> PortResult<Vec<String>> {
        accounts::reach(&self.client, user).await
    }

    fn address_for_sites(&self) -> String {
        self.config.address_for_sites.clone()
    }

    async fn account_locked(&self, user: &DatabaseName) -> PortResult<bool> {
        let accounts = accounts::of_user(&self.client, user).await?;
        Ok(!accounts.is_empty() && accounts.iter().all(|account| account.locked))
    }

    async fn locked_at(&self, user: &DatabaseName) -> PortResult<Vec<String>> {
        let accounts = accounts::of_user(&self.client, user).await?;
        Ok(accounts.into_iter().filter(|account| account.locked).map(|account| account.host).collect())
    }

    async fn unlock_but(&self, user: &DatabaseName, stay: &[String]) -> PortResult<()> {
        accounts::set_locked(&self.client, user, false, stay).await
    }

    async fn sees_sessions(&self) -> PortResult<bool> {
        accounts::sees_sessions(&self.client).await
    }

    async fn set_account_locked(&self, user: &DatabaseName, locked: bool) -> PortResult<()> {
        accounts::set_locked(&self.client, user, locked, &[]).await
    }

    async fn plain_tables(
        &self,
        name: &DatabaseName,
        among: Option<&[String]>,
        telltales: &[String],
    ) -> PortResult<Vec<PlainTable>> {
        within::plain_tables(&self.client, name, among, telltales).await
    }

    async fn table_times(&self, name: &DatabaseName) -> PortResult<TableTimes> {
        within::table_times(&self.client, name).await
    }

    async fn tables_with(&self, name: &DatabaseName, columns: &[&str]) -> PortResult<Vec<String>> {
        within::tables_with(&self.client, name, columns).await
    }

    async fn copy_rows(
        &self,
        from: &DatabaseName,
        to: &DatabaseName,
        mark: &Mark,
        tables: &[String],
    ) -> PortResult<u64> {
        within::copy_rows(&self.client, from, to, mark, tables, late_keys::LATE_KEYS).await
    }

    async fn dump_without_rows(&self, name: &DatabaseName, tables: &[String]) -> PortResult<ByteStream> {
        transfer::dump(&self.client, name, tables).await
    }

    async fn dump_tables(
        &self,
        name: &DatabaseName,
        tables: &[String],
        without_rows: &[String],
    ) -> PortResult<ByteStream> {
        transfer::dump_tables(&self.client, name, tables, without_rows).await
    }

    async fn import(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
        sql: ByteStream,
    ) -> PortResult<ImportReport> {
        let secret = self.secret(&login.password).await?;
        transfer::import(&self.client, name, mark, (&login.user, &secret), sql).await
    }

    async fn import_tables(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
        tables: &[String],
        sql: ByteStream,
    ) -> PortResult<ImportReport> {
        let secret = self.secret(&login.password).await?;
        schema::drop_tables(&self.client, name, mark, tables).await?;
        transfer::feed(&self.client, name, (&login.user, &secret), sql).await
    }

    async fn start_events(
        &self,
        name: &DatabaseName,
        mark: &Mark,
        login: &Login,
    ) -> PortResult<EventsReport> {
        let secret = self.secret(&login.password).await?;
        transfer::start_events(&self.client, name, mark, (&login.user, &secret)).await
    }

    async fn fingerprint(&self, request: &DatabaseFingerprint) -> PortResult<Fingerprint> {
        fingerprint::fingerprint(&self.client, request).await
    }
}

/// Sorts the error at the end of a tool's stream, where the host knows only the exit status and the last words.
fn stream_error(what: &str, error: PortError, effect: Effect) -> PortError {
    match error {
        PortError::Refused(text) => {
            let (status, stderr) = text
                .split_once("exit status ")
                .and_then(|(_, rest)| rest.split_once(": "))
                .and_then(|(status, words)| Some((status.parse().ok()?, words)))
                .unwrap_or((1, text.as_str()));
            classify(what, Failure { status, stderr }, effect)
        }
        PortError::Lost(text) if effect == Effect::None => PortError::Unavailable(text),
        other => other,
    }
}
