//! Preflight: looks at everything the task will need, so that it does not begin what it could not finish or take back.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Query, Step, StepError};
use serde::{Deserialize, Serialize};

use super::edited;
use super::guards;
use super::leaving::{demand_fence, demand_movable, demand_writable};
use super::left_names;
use super::links_out;
use super::packages::judge;
use super::registered::{demand_free, demand_unchanged};
use super::room::{demand_room, demand_room_in};
use super::taken::demand_taken;
use crate::place::{Place, Store, app_site, scope};
use crate::ports::{
    AppKind, Charset, ConfigTest, FileKind, Files, Package, PlatformFacts, SchemaFacts, World,
};
use crate::records::{PREPARED, SiteState};

/// Most files that are named of those that would stay behind on another host of a cluster.
const MAX_STRAYS: usize = 10;
/// Half an hour: reading every file of a large site, on each host of a cluster.
const LOOK_LIMIT_MS: u64 = 1_800_000;

/// What becomes of the side that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Becomes {
    /// It stays where it is.
    #[default]
    Kept,
    /// Another takes its place: it is fenced, and goes to the trash.
    Replaced,
    /// It goes to the trash.
    Deleted,
}

impl Becomes {
    fn is_kept(&self) -> bool {
        *self == Self::Kept
    }
}

/// Looks at the old side, the new side, or both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Preflight {
    /// The side that is there.
    pub(crate) from: Option<(Place, Store)>,
    /// The side that will be built.
    pub(crate) to: Option<Place>,
    /// The database server of the new side.
    pub(crate) to_server: Option<String>,
    /// Whether a backup will be written.
    pub(crate) backup: bool,
    /// A directory that has to be there, by the web server of its host: an old side in the trash.
    pub(crate) expects: Option<(String, String)>,
    /// Whether to stop at what only may be a mistake.
    #[serde(default)]
    pub(crate) warnings_stop: bool,
    /// The site that is there may be broken: a restore is to mend it.
    #[serde(default)]
    pub(crate) may_be_broken: bool,
    /// The side whose place the new one takes, when that is not `from`: its directory, vhost and names are no hindrance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<Place>,
    /// Whether the side that is there serves visitors, where that makes a difference: who closes it meanwhile does not have it opened again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<SiteState>,
    /// What becomes of the side that is there.
    #[serde(default, skip_serializing_if = "Becomes::is_kept")]
    pub(crate) becomes: Becomes,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Whether the old side's database account is locked already.
    pub(crate) account_locked: bool,
    /// Where the old side's database accounts connect from that are locked already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) locked_at: Vec<String>,
    /// Character set and collation of the old schema, if the new server has them.
    pub(crate) charset: Option<Charset>,
    /// Bytes of the old side's files.
    pub(crate) file_bytes: u64,
    /// Files, directories and links of the old side.
    #[serde(default)]
    pub(crate) file_entries: u64,
    /// Bytes of the old side's database.
    pub(crate) database_bytes: u64,
    /// Version of the code that the site ran on.
    pub(crate) from_version: Option<String>,
    /// Version of the code it will run on.
    pub(crate) to_version: Option<String>,
    /// Whether the new side's platform was ready to be shared before anything was done to it.
    #[serde(default)]
    pub(crate) to_prepared: Option<bool>,
    /// What the new side's platform lacks or has older, of what the site uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

impl Step for Preflight {
    type Ports = dyn World;
    type Output = Found;
    type Mode = Query;
    const KIND: &'static str = "preflight";

    fn title(&self) -> String {
        "look at everything that will be needed".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Found, StepError> {
        let mut found = Found {
            account_locked: false,
            locked_at: Vec::new(),
            charset: None,
            file_bytes: 0,
            file_entries: 0,
            database_bytes: 0,
            from_version: None,
            to_version: None,
            to_prepared: None,
            warnings: Vec::new(),
        };
        let (mut schema_version, mut schema, mut packages) = (None, None, Vec::new());
        if let Some((place, store)) = &self.from {
            let (version, facts, made_of) = self.look_at_old(cx, place, store, &mut found).await?;
            (schema_version, schema, packages) = (version, Some(facts), made_of);
        }
        if let Some(place) = &self.to {
            self.look_at_new(cx, place, schema_version, &mut found).await?;
            self.compare(cx, place, &packages, &mut found).await?;
            if let Some((from, _)) = &self.from {
                found.warnings.extend(left_names::told(cx, from, place).await?);
                let open = guards::left_open(cx, from, place).await?;
                if let (true, Some(open)) = (self.warnings_stop, &open) {
                    return Err(StepError::fatal(format!(
                        "{open}; if that is meant, ask again with acknowledge_warnings"
                    )));
                }
                found.warnings.extend(open);
            }
        }
        if let Some(server) = &self.to_server {
            look_at_server(cx, server, schema.as_ref(), &mut found).await?;
        }
        if self.backup {
            let free = cx.ports.backups(&scope(cx)).free_bytes().await?;
            demand_room("the backup directory", free, found.file_bytes + 2 * found.database_bytes)?;
        }
        if let Some((web_server, dir)) = &self.expects {
            demand_valid(cx, web_server).await?;
            if cx.ports.files(web_server, &scope(cx))?.stat(dir).await?.is_none() {
                return Err(StepError::fatal(format!(
                    "the old side is not in the trash any more: {dir} is missing"
                )));
            }
        }
        Ok(found)
    }

    fn reports(&self) -> bool {
        true
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LOOK_LIMIT_MS)
    }
}

impl Preflight {
    /// The side that is there; returns its schema version, what its database holds, and what its code is made of.
    async fn look_at_old(
        &self,
        cx: &Cx<'_, dyn World>,
        place: &Place,
        store: &Store,
        found: &mut Found,
    ) -> Result<(Option<u64>, SchemaFacts, Vec<Package>), StepError> {
        let scope = scope(cx);
        demand_unchanged(cx, place, store, self.state)?;
        demand_valid(cx, &place.web_server).await?;
        let files = cx.ports.files(&place.web_server, &scope)?;
        match files.stat(&place.dir).await? {
            Some(stat) if stat.kind == FileKind::Dir => {
                if self.becomes != Becomes::Kept {
                    demand_movable(&*files, place, &stat).await?;
                }
            }
            Some(_) => return Err(StepError::fatal(format!("{} is not a directory", place.dir))),
            None => return Err(directory_missing(&place.dir)),
        }
        if cx.ports.web_server(&place.web_server, &scope)?.vhost(&place.site).await?.is_none() {
            let (site, web) = (&place.site, &place.web_server);
            return Err(StepError::fatal(format!(
                "{site} has no vhost on {web}; a verify of the site writes it anew"
            )));
        }
        let usage = files.usage(&place.dir).await?;
        (found.file_bytes, found.file_entries) = (usage.bytes, usage.entries);
        let copied = self.to.is_some() && !self.may_be_broken;
        let moves = self.to.as_ref().is_some_and(|to| copied && to.dir != place.dir);
        found.warnings.extend(links_out::told(&usage, &place.dir, self.backup, copied));
        found.warnings.extend(links_out::to_itself(&usage, &place.dir).filter(|_| moves));
        self.look_for_strays(cx, &*files, place, found).await?;
        let server = cx.ports.database(&store.server, &scope)?;
        let (schema, user) = store.known(cx)?;
        if self.becomes == Becomes::Replaced {
            demand_fence(&*server, store, &schema, &user).await?;
        }
        // Its account will be locked.
        if self.becomes != Becomes::Kept && self.to_server.as_ref() != Some(&store.server) {
            demand_writable(&server.facts().await?, &store.server)?;
        }
        let holds = server.schema_facts(&schema).await?;
        found.database_bytes = holds.bytes;
        found.charset = Some(holds.charset.clone());
        found.account_locked = server.account_locked(&user).await?;
        found.locked_at = server.locked_at(&user).await?;
        if place.app == AppKind::Plain || self.may_be_broken {
            return Ok((None, holds, Vec::new()));
        }
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let site = app_site(cx, place, &place.dir, store, &*server)?;
        let facts = app.site_facts(&site).await?;
        if !facts.installed {
            return Err(StepError::fatal(format!("{} is not installed in its database", place.site)));
        }
        found.from_version = Some(facts.version);
        if self.to.is_some() {
            found.warnings.extend(edited::told(&*app, &site).await?);
        }
        let packages = match (&self.to, app.abilities().packages) {
            (None, _) => Vec::new(),
            (Some(_), true) => app.packages(&site).await?,
            (Some(_), false) => {
                cx.log("this application's packages cannot be listed, and are not compared");
                Vec::new()
            }
        };
        Ok((facts.schema_version, holds, packages))
    }

    /// The new side, and a backup, are made of what the first host of a cluster has: what only another one has would stay behind.
    /// Where nothing is moved it is a warning, for which no file is read, and which keeps nobody waiting.
    async fn look_for_strays(
        &self,
        cx: &Cx<'_, dyn World>,
        files: &dyn Files,
        place: &Place,
        found: &mut Found,
    ) -> Result<(), StepError> {
        let moves = self.to.is_some();
        if !moves && !self.backup {
            return Ok(());
        }
        let (names, count) = match files.strays(&place.dir, MAX_STRAYS, moves).await {
            Ok(strays) => strays,
            Err(error) if moves => return Err(error.into()),
            Err(error) => {
                cx.log(format!("what only other hosts have of {} is not known: {error}", place.dir));
                return Ok(());
            }
        };
        if count == 0 {
            return Ok(());
        }
        let more =
            if count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
        let told = format!(
            "{} {}, as {} has them not, or not the same: {}{more}",
            if count == 1 { "a file".to_owned() } else { format!("{count} files") },
            if moves { "would stay behind" } else { "would be in no backup" },
            place.host,
            names.join(", ")
        );
        if self.warnings_stop {
            return Err(StepError::fatal(format!(
                "{told}; copy what is needed to {}, or ask again with acknowledge_warnings",
                place.host
            )));
        }
        found.warnings.push(told);
        Ok(())
    }

    /// What the site uses against what the new platform gives, as both are now: an older schema stops the task, the rest is a warning.
    /// The core is judged by `look_at_new`.
    async fn compare(
        &self,
        cx: &Cx<'_, dyn World>,
        place: &Place,
        packages: &[Package],
        found: &mut Found,
    ) -> Result<(), StepError> {
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope(cx))?;
        let warnings = judge(&*app, place, packages).await?;
        if self.warnings_stop && !warnings.is_empty() {
            return Err(StepError::fatal(format!(
                "{}; if that is meant, ask again with acknowledge_warnings",
                warnings.join("; ")
            )));
        }
        found.warnings.extend(warnings);
        Ok(())
    }

    async fn look_at_new(
        &self,
        cx: &Cx<'_, dyn World>,
        place: &Place,
        schema_version: Option<u64>,
        found: &mut Found,
    ) -> Result<(), StepError> {
        let scope = scope(cx);
        demand_valid(cx, &place.web_server).await?;
        let files = cx.ports.files(&place.web_server, &scope)?;
        let leaves: Vec<&Place> = self.from.iter().map(|(from, _)| from).chain(&self.replaces).collect();
        demand_free(cx, &place.all_names(), &leaves.iter().map(|from| &from.site).collect::<Vec<_>>())?;
        let same_dir = leaves.iter().any(|from| from.host == place.host && from.dir == place.dir);
        if !same_dir && files.stat(&place.dir).await?.is_some() {
            return Err(StepError::fatal(format!("{} is there already", place.dir)));
        }
        let same_vhost =
            leaves.iter().any(|from| from.web_server == place.web_server && from.site == place.site);
        if !same_vhost {
            let web = cx.ports.web_server(&place.web_server, &scope)?;
            // Names that the site has already are in its own vhost: fine.
            let own = |name| {
                leaves.iter().any(|from| {
                    from.web_server == place.web_server && (from.aliases.contains(name) || from.site == *name)
                })
            };
            for name in std::iter::once(&place.site).chain(&place.aliases).filter(|name| !own(name)) {
                let mut there = web.server_of(name).await?;
                if there.is_none() && place.reach.tls.is_some() {
                    there = web.tls_named_in(name).await?;
                }
                if let Some(file) = there {
                    let web = &place.web_server;
                    return Err(StepError::fatal(format!("{name} is served on {web} already, by {file}")));
                }
            }
        }
        // Where the stage will be: sites are often on a file system of their own below the platform.
        demand_room_in(&*files, &place.sites_dir(), found.file_bytes, found.file_entries).await?;
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let platform = app.platform_facts(&place.root).await?;
        demand_on_all_hosts(cx, &place.platform, &platform)?;
        if let (Some(has), Some(wants)) = (schema_version, platform.schema_version)
            && has > wants
        {
            return Err(StepError::fatal(format!(
                "the database of the site has version {has}, newer than version {wants} of {} ({}): no way back down",
                place.platform, platform.version
            )));
        }
        if self.warnings_stop
            && let Some(from) = &found.from_version
            && is_older(&platform.version, from)
        {
            return Err(StepError::fatal(format!(
                "{} runs version {}, older than the site's {from}; if that is meant, ask again with acknowledge_warnings",
                place.platform, platform.version
            )));
        }
        found.to_version = Some(platform.version);
        found.to_prepared = Some(platform.prepared);
        Ok(())
    }
}

/// A restore needs the side that is there, since that is what an undo goes back to; but it need not have anything in it.
pub(super) fn directory_missing(dir: &str) -> StepError {
    StepError::fatal(format!(
        "the site's directory {dir} is missing; make an empty one in its place (mkdir) and restore a backup, or put the site's own back"
    ))
}

/// A platform that was made ready before a host joined its cluster: no plan makes it ready again.
pub(super) fn demand_on_all_hosts(
    cx: &Cx<'_, dyn World>,
    name: &str,
    platform: &PlatformFacts,
) -> Result<(), StepError> {
    if platform.behind.is_empty() || cx.record::<serde_json::Value>(PREPARED, name)?.is_none() {
        return Ok(());
    }
    Err(StepError::fatal(format!(
        "{name} is not ready on {}: ask for a verify of the platform (kedge task verify -p platform={name})",
        platform.behind.join(", ")
    )))
}

pub(super) async fn look_at_server(
    cx: &Cx<'_, dyn World>,
    name: &str,
    schema: Option<&SchemaFacts>,
    found: &mut Found,
) -> Result<(), StepError> {
    let facts = cx.ports.database(name, &scope(cx))?.facts().await?;
    demand_writable(&facts, name)?;
    if let Some(free) = facts.free_bytes {
        demand_room(&format!("the data directory of {name}"), free, found.database_bytes)?;
    }
    if let Some(schema) = schema {
        demand_taken(name, &facts, schema)?;
    }
    // A default that the new server does not have: its own default is the only choice.
    found.charset = found.charset.take().filter(|charset| facts.collations.contains(&charset.collation));
    Ok(())
}

pub(super) async fn demand_valid(cx: &Cx<'_, dyn World>, web_server: &str) -> Result<(), StepError> {
    match cx.ports.web_server(web_server, &scope(cx))?.test().await? {
        ConfigTest::Valid => Ok(()),
        ConfigTest::Invalid { culprit, message } => {
            let culprit = culprit.map(|file| format!(" in {file}")).unwrap_or_default();
            Err(StepError::fatal(format!(
                "the configuration of {web_server} is broken already{culprit}, so no reload could be trusted: {message}"
            )))
        }
    }
}

/// Whether one version comes before another, by its numbers: `6.8.1` before `6.8.10`; `6.8-beta` counts as 6.8.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let plain = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut numbers: Vec<u64> = plain.split('.').map(|part| part.parse().unwrap_or(0)).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    };
    numbers(version) < numbers(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (one, other, older) in [
            ("6.8.1", "6.8.10", true),
            ("6.10", "6.9", false),
            ("6.8", "6.8.0", false),
            ("6.8.0", "6.8", false),
            ("6.8-beta1", "6.8", false),
            ("6.8-RC2", "6.8.1", true),
            ("", "6.8", true),
        ] {
            assert_eq!(is_older(one, other), older, "{one} and {other}");
        }
    }
}
