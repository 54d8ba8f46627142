//! What plans are built from: the configuration's platforms and servers, and the registry in the store. Read only.

use std::sync::Arc;

use kedge_engine::journal::keys;
use kedge_engine::store::{ReadError, Store};
use kedge_engine::workflow::Facts;
use kedge_workflows::commands::COMMANDS;
use kedge_workflows::records::{
    DATABASE_SERVER, PLATFORM, POLICY, PlatformRecord, WEB_SERVER, WebServerRecord,
};
use serde_json::{Value, json};

use crate::world::LiveWorld;

/// Records read at a time.
const PAGE: usize = 512;

/// Facts of the configuration of this moment and of a store.
pub(crate) struct KnownFacts {
    world: Arc<LiveWorld>,
    store: Arc<dyn Store>,
}

impl KnownFacts {
    /// Over these.
    pub(crate) fn new(world: Arc<LiveWorld>, store: Arc<dyn Store>) -> Self {
        Self { world, store }
    }

    /// The configuration's records of a family; `None` for families of the registry.
    fn configured(&self, family: &str) -> Option<Vec<(String, Value)>> {
        let now = self.world.now();
        let config = &now.config;
        Some(match family {
            PLATFORM => {
                let record = |platform: &crate::config::Platform| {
                    let (web_server, root) = (platform.web_server.clone(), platform.root.clone());
                    let mut record = json!(PlatformRecord { web_server, root, app: platform.app });
                    record["source"] = json!(if platform.own { "api" } else { "configuration" });
                    record
                };
                config.platforms.iter().map(|(name, platform)| (name.clone(), record(platform))).collect()
            }
            WEB_SERVER => {
                let record = |host: &str| WebServerRecord { host: host.to_owned() };
                config
                    .web_servers
                    .iter()
                    .map(|(name, server)| (name.clone(), json!(record(&server.host))))
                    .collect()
            }
            POLICY => vec![
                ("delete".to_owned(), json!(config.deletes)),
                (COMMANDS.to_owned(), json!(config.commands)),
            ],
            DATABASE_SERVER => config
                .database_servers
                .iter()
                .map(|(name, server)| (name.clone(), json!({ "host": server.host })))
                .collect(),
            _ => return None,
        })
    }
}

impl Facts for KnownFacts {
    fn record(&self, family: &str, name: &str) -> Result<Option<Value>, ReadError> {
        if let Some(records) = self.configured(family) {
            return Ok(records.into_iter().find(|(known, _)| known == name).map(|(_, value)| value));
        }
        self.store.get(&keys::record(family, name))?.map(|bytes| decode(family, name, &bytes)).transpose()
    }

    fn records(&self, family: &str) -> Result<Vec<(String, Value)>, ReadError> {
        if let Some(records) = self.configured(family) {
            return Ok(records);
        }
        let prefix = keys::records(family);
        let mut records = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.scan(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(records) };
            after = Some(last.clone());
            for (key, bytes) in &page {
                let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                let value = decode(family, &name, bytes)?;
                records.push((name, value));
            }
        }
    }
}

fn decode(family: &str, name: &str, bytes: &[u8]) -> Result<Value, ReadError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ReadError::Damaged(format!("the {family} record {name}: {error}")))
}
