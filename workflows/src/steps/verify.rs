//! The steps of a verify of a site: look what is not as it should be, tell it, ask for its pages, and note the end. What puts it right is in
//! `repair.rs`.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Pivot, Query, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::hidden::{at_host, judge};
use super::preflight::{demand_on_all_hosts, directory_missing};
use super::registered::{demand_free, demand_unchanged};
use crate::names::SiteName;
use crate::place::{Place, Store, app_site, scope};
use crate::ports::{AccessWas, Get, Reach, SavedFile, VhostMode, VhostOrigin, World};
use crate::records::{SITE, SiteRecord, SiteState};

/// Half an hour: looking at every inode of a large site.
pub(super) const WALK_LIMIT_MS: u64 = 1_800_000;
/// Most entries whose wrong modes and owners are noted, to be put back by an undo: some hundred bytes each, in the journal.
pub(super) const MAX_ACCESS: usize = 2000;
/// Most lines of drift in a task's result, and most characters of each: a person reads them.
const MAX_TOLD: usize = 60;
const MAX_LINE: usize = 300;
/// Entries with wrong modes or owners that are named.
const MAX_NAMED: usize = 10;

/// The mode that a site's vhost should have.
pub(super) fn mode(state: SiteState) -> VhostMode {
    match state {
        SiteState::Enabled => VhostMode::Live,
        SiteState::Disabled => VhostMode::Disabled,
    }
}

/// Looks at everything of a site that Kedge writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LookAtSite {
    /// Its files and vhost.
    pub(crate) place: Place,
    /// Its database.
    pub(crate) store: Store,
    /// Whether visitors should be served.
    pub(crate) state: SiteState,
    /// How the registry knows it, where that is not how it shall be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) was: Option<Place>,
}

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SiteDrift {
    /// Of the settings, in lines without secrets.
    pub(crate) settings: Vec<String>,
    /// Settings files that are missing, by their place in the application's list.
    pub(crate) settings_missing: Vec<bool>,
    /// Of the vhost, in lines.
    pub(crate) vhost: Vec<String>,
    /// Who wrote the vhost; `None`: there is none.
    pub(crate) vhost_by: Option<VhostOrigin>,
    /// Entries looked at.
    pub(crate) checked: u64,
    /// Entries with a wrong mode or owner.
    pub(crate) wrong: u64,
    /// The first of them, as they are.
    pub(crate) access: Vec<AccessWas>,
    /// Of the certificate, in lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificate: Vec<String>,
    /// Hosts of its cluster that have none of its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacking: Vec<String>,
}

impl SiteDrift {
    /// Whether the vhost would be written: never over what somebody else wrote, unless that is asked for.
    pub(super) fn writes_vhost(&self, overwrite: bool) -> bool {
        let theirs = matches!(self.vhost_by, Some(VhostOrigin::Edited | VhostOrigin::Foreign));
        !self.vhost.is_empty() && (!theirs || overwrite)
    }

    /// In lines, for people.
    fn told(&self, overwrite: bool) -> Vec<String> {
        let mut lines: Vec<String> =
            self.lacking.iter().map(|host| format!("files: - {host} has none of them")).collect();
        lines.extend(self.settings.iter().map(|line| format!("settings: {line}")));
        lines.extend(self.vhost.iter().map(|line| format!("vhost: {line}")));
        match &self.vhost_by {
            Some(VhostOrigin::Edited | VhostOrigin::Foreign) if !overwrite => {
                let hint = "was changed by hand, and is left as it is; verify with overwrite replaces it";
                lines.push(format!("vhost: ! {hint}"));
            }
            _ => {}
        }
        lines.extend(self.certificate.iter().map(|line| format!("certificate: {line}")));
        for entry in self.access.iter().take(MAX_NAMED) {
            let AccessWas { path, mode, uid, gid, wanted } = entry;
            lines.push(format!("access: {path} is {mode:04o} {uid}:{gid}, should be {wanted}"));
        }
        let more = self.wrong.saturating_sub(self.access.len().min(MAX_NAMED) as u64);
        if more > 0 {
            lines.push(format!("access: and {more} more of {} entries", self.checked));
        }
        let all = lines.len();
        lines.truncate(MAX_TOLD);
        if all > MAX_TOLD {
            lines.push(format!("and {} lines more", all - MAX_TOLD));
        }
        lines.into_iter().map(|line| line.chars().take(MAX_LINE).collect()).collect()
    }
}

impl Step for LookAtSite {
    type Ports = dyn World;
    type Output = SiteDrift;
    type Mode = Query;
    const KIND: &'static str = "look_at_site";

    fn title(&self) -> String {
        format!("look what is not as it should be at {}", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<SiteDrift, StepError> {
        let (scope, place) = (scope(cx), &self.place);
        demand_unchanged(cx, self.was.as_ref().unwrap_or(place), &self.store, Some(self.state))?;
        if let Some(was) = &self.was {
            demand_new_names_free(cx, &place.site, &place.aliases, &was.aliases)?;
        }
        let files = cx.ports.files(&place.web_server, &scope)?;
        if files.stat(&place.dir).await?.is_none() {
            return Err(directory_missing(&place.dir));
        }
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        let lacking = files.hosts_without(&place.dir).await?;
        if !lacking.is_empty() {
            demand_on_all_hosts(cx, &place.platform, &app.platform_facts(&place.root).await?)?;
        }
        let server = cx.ports.database(&self.store.server, &scope)?;
        let site = app_site(cx, place, &place.dir, &self.store, &*server)?;
        let settings = app.settings_drift(&site).await?;
        let mut settings_missing = Vec::new();
        for name in app.settings_files() {
            settings_missing.push(files.stat(&format!("{}/{name}", place.dir)).await?.is_none());
        }
        let web = cx.ports.web_server(&place.web_server, &scope)?;
        let (there, wanted) = (web.vhost(&place.site).await?, web.render(&place.vhost(mode(self.state))));
        let mut vhost = vhost_drift(there.as_ref(), &wanted.text);
        let vhost_by = there.as_ref().map(|file| web.origin(&file.bytes));
        let elsewhere = there.iter().flat_map(|file| &file.elsewhere).filter(|(_, theirs)| theirs.is_none());
        vhost.extend(elsewhere.map(|(host, _)| format!("- (there is none on {host})")));
        if let Some(was) = &self.was {
            let changes = web.render(&was.vhost(mode(self.state))).text != wanted.text;
            demand_writable(&place.site, changes && !vhost.is_empty(), vhost_by)?;
        }
        let access = files.wrong_access(&place.dir, &app.access_rules(), MAX_ACCESS).await?;
        let (checked, wrong, access) = (access.checked, access.wrong, access.entries);
        let certificate = match &place.reach.tls {
            Some(tls) => web.certificate_faults(&place.all_names(), tls).await?,
            None => Vec::new(),
        };
        Ok(SiteDrift {
            settings,
            settings_missing,
            vhost,
            vhost_by,
            checked,
            wrong,
            access,
            certificate,
            lacking,
        })
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(WALK_LIMIT_MS)
    }
}

/// Whether the names that a site gets are nobody's: another site may have got one while this task waited for it.
fn demand_new_names_free(
    cx: &Cx<'_, dyn World>,
    site: &SiteName,
    names: &[SiteName],
    had: &[SiteName],
) -> Result<(), StepError> {
    let new: Vec<SiteName> = names.iter().filter(|name| !had.contains(name)).cloned().collect();
    demand_free(cx, &new, &[site])
}

/// What is asked of a vhost has to be written into it: left as somebody else wrote it, the site would not be reached as the registry says.
fn demand_writable(site: &SiteName, changes: bool, by: Option<VhostOrigin>) -> Result<(), StepError> {
    let (why, what) = match by {
        Some(VhostOrigin::Edited) if changes => (
            "was changed by hand",
            "let Kedge write it anew (verify with overwrite=true), or put it back as Kedge wrote it",
        ),
        Some(VhostOrigin::Foreign) if changes => ("was not written by Kedge", "move that file away"),
        _ => return Ok(()),
    };
    Err(StepError::fatal(format!(
        "the vhost of {site} {why}, so what is asked for would not be in it: look what differs (verify with check_only=true), {what}, and ask again"
    )))
}

fn vhost_drift(there: Option<&SavedFile>, wanted: &str) -> Vec<String> {
    let Some(file) = there else { return vec!["- (there is none)".to_owned()] };
    if file.bytes == wanted.as_bytes() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&file.bytes);
    let only = |of: &str, other: &str, sign: char| {
        let other: Vec<&str> = other.lines().collect();
        let differs = of.lines().filter(|line| !other.contains(line));
        differs.take(MAX_TOLD).map(|line| format!("{sign} {}", line.trim())).collect::<Vec<_>>()
    };
    let mut lines = [only(&text, wanted, '-'), only(wanted, &text, '+')].concat();
    if lines.is_empty() {
        lines.push("! the lines are in another order".to_owned());
    }
    lines
}

/// Tells what was found: the diff that a person reads, in the task's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TellDrift {
    /// The site.
    pub(crate) place: Place,
    /// What was found.
    pub(crate) drift: Ref<SiteDrift>,
    /// Whether a vhost that was changed by hand will be replaced.
    pub(crate) overwrite: bool,
}

/// What a task reports of a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What is not as it should be, in lines: `-` what is there, `+` what should be.
    pub(crate) drift: Vec<String>,
}

impl Step for TellDrift {
    type Ports = dyn World;
    type Output = Told;
    type Mode = Query;
    const KIND: &'static str = "tell_drift";

    fn title(&self) -> String {
        format!("tell what differs at {}", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Told, StepError> {
        let drift = cx.output(&self.drift)?.told(self.overwrite);
        drift.iter().for_each(|line| cx.log(line.clone()));
        Ok(Told { drift })
    }

    fn reports(&self) -> bool {
        true
    }
}

/// Asks the site for its pages, as visitors do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckPages {
    /// The site.
    pub(crate) place: Place,
    /// Whether visitors should be served.
    pub(crate) state: SiteState,
}

impl Step for CheckPages {
    type Ports = dyn World;
    type Output = ();
    type Mode = Query;
    const KIND: &'static str = "check_pages";

    fn title(&self) -> String {
        format!("ask {} for its pages", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (scope, place) = (scope(cx), &self.place);
        let web = cx.ports.web_server(&place.web_server, &scope)?;
        if self.state == SiteState::Disabled {
            let front = Get { host: place.site.clone(), path: "/".to_owned(), bypass: None };
            for (host, answer) in web.get_everywhere(&front).await? {
                if answer.status != 503 {
                    let (site, status) = (&place.site, answer.status);
                    let why = format!("visitors of {site} get {status} where the site is disabled");
                    return Err(StepError::retryable(at_host(&host, why)));
                }
            }
            return Ok(());
        }
        let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
        for check in place.smoke_checks(&*app) {
            for (host, answer) in web.get_everywhere(&check.get).await? {
                let judged = judge(&check, answer.status, &answer.body);
                judged.map_err(|why| StepError::retryable(at_host(&host, why)))?;
                cx.log(at_host(&host, format!("{} answers {}", check.get.path, answer.status)));
            }
        }
        Ok(())
    }
}

/// Notes that the site is as it should be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CommitVerify {
    /// The site.
    pub(crate) record: SiteRecord,
    /// How it was reached before, where the task changes that: what an undo goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reached: Option<Reached>,
}

/// By which names and how a site is reached, and whether it reaches anybody itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    pub(crate) aliases: Vec<SiteName>,
    pub(crate) reach: Reach,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) quiet: bool,
}

impl Reached {
    pub(crate) fn of(record: &SiteRecord) -> Self {
        Self { aliases: record.aliases.clone(), reach: record.reach.clone(), quiet: record.quiet }
    }
}

impl Step for CommitVerify {
    type Ports = dyn World;
    type Output = Option<Change>;
    type Mode = Pivot;
    const KIND: &'static str = "commit_verify";

    fn title(&self) -> String {
        format!("note that {} is as it should be", self.record.name)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Option<Change>, StepError> {
        if let Some(reached) = &self.reached {
            demand_new_names_free(cx, &self.record.name, &self.record.aliases, &reached.aliases)?;
        }
        let record = SiteRecord { verified_at: Some(cx.now), ..self.record.clone() };
        cx.put_record(SITE, self.record.name.as_str(), &record)?;
        let change = |from: &Reached| Change { from: from.clone(), to: Reached::of(&record) };
        Ok(self.reached.as_ref().map(change))
    }
}

/// How the names of a site, or what they lead to, were changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) from: Reached,
    pub(crate) to: Reached,
}
