//! The way back to the start after a drilled task has succeeded: by Kedge's own undo where there is one, then everything that the task has
//! put into the world and the registry names, away. Touches nothing that the registry did not get from this task.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use kedge_workflows::ports::{Mark, Scope, World as _};
use kedge_workflows::records::{SiteRecord, TrashRecord};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::look::Scene;

/// The registry, by family and name.
pub(crate) type Records = BTreeMap<String, BTreeMap<String, Value>>;

/// Records of a family that are new or changed since the start.
pub(crate) fn new_records<T: DeserializeOwned>(
    family: &str,
    start: &Records,
    now: &Records,
) -> Result<Vec<(String, T)>> {
    let old = start.get(family);
    now.get(family)
        .into_iter()
        .flatten()
        .filter(|(name, value)| old.and_then(|old| old.get(*name)) != Some(value))
        .map(|(name, value)| {
            let record = serde_json::from_value(value.clone());
            Ok((name.clone(), record.with_context(|| format!("the {family} record of {name}"))?))
        })
        .collect()
}

fn scope() -> Scope {
    Scope { task: "drill".to_owned(), step: "back".to_owned() }
}

impl Scene {
    /// Removes the sides in the trash that the task has put there, and the preparation of platforms.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub(crate) async fn purge(&self, start: &Records, now: &Records) -> Result<()> {
        for (_, trash) in new_records::<TrashRecord>("trash", start, now)? {
            self.remove_side(&trash.site, start).await?;
        }
        self.unprepare(start, now).await
    }

    /// Removes the sites that the task has made.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub(crate) async fn remove(&self, start: &Records, now: &Records) -> Result<()> {
        let there = |name: &String| start.get("site").is_some_and(|sites| sites.contains_key(name));
        let new = new_records::<SiteRecord>("site", start, now)?;
        for (_, site) in new.into_iter().filter(|(name, _)| !there(name)) {
            let platform =
                self.config.platforms.get(&site.platform).context("the platform is not configured")?;
            let server = self.world.web_server(&platform.web_server, &scope())?;
            if let Some(file) = server.vhost(&site.name).await? {
                server.restore_vhost(&site.name, None, &[file.sha256]).await?;
                server.reload(&site.name, None).await?;
            }
            self.remove_side(&site, start).await?;
        }
        self.unprepare(start, now).await
    }

    async fn remove_side(&self, site: &SiteRecord, start: &Records) -> Result<()> {
        for (_, kept) in new_records::<SiteRecord>("site", &Records::new(), start)? {
            let database = (&kept.database_server, &kept.schema) == (&site.database_server, &site.schema);
            let files = kept.platform == site.platform && kept.dir == site.dir;
            ensure!(!database && !files, "what {} was at the start would be removed", kept.name);
        }
        let platform = self.config.platforms.get(&site.platform).context("the platform is not configured")?;
        let within = format!("{}/sites", platform.root.trim_end_matches('/'));
        self.world.files(&platform.web_server, &scope())?.remove_tree(&site.dir, &within).await?;
        let mark = Mark { task: site.task.clone(), site: site.name.to_string() };
        let database = self.world.database(&site.database_server, &scope())?;
        database.drop_schema(&site.schema, &mark).await?;
        database.drop_user(&site.user, &site.password, &mark).await?;
        Ok(())
    }

    async fn unprepare(&self, start: &Records, now: &Records) -> Result<()> {
        for (name, _) in new_records::<Value>("prepared", start, now)? {
            let platform = self.config.platforms.get(&name).context("the platform is not configured")?;
            let app = self.world.app(&platform.web_server, &name, platform.app, &scope())?;
            app.unprepare_platform(&platform.root).await?;
        }
        Ok(())
    }
}
