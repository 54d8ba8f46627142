//! Takes a finished migrate, restore or clone over a site back within its hold: the same switch in the other direction, onto the side that waits in the trash. What
//! visitors have written since stays in a backup.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::workflow::{FinishedTask, PlanCx, PlanRefusal};
use serde::Deserialize as _;

use super::Move;
use crate::backup;
use crate::names::SiteName;
use crate::place::{Place, Store};
use crate::ports::{Compression, Reach, SavedFile};
use crate::reach::lock_names;
use crate::records::{self, PREPARED, SiteRecord, TrashRecord};
use crate::steps::database::{Fence, Unfence};
use crate::steps::files::{Publish, SetAside};
use crate::steps::fingerprint::FingerprintSite;
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::registered::AskRegistry;
use crate::steps::registry::CommitMove;
use crate::steps::verify::Reached;
use crate::steps::vhost::{Close, SaveVhost};

/// The plan that takes a finished migrate back: the same switch in the other direction, onto the side in the trash.
pub(crate) fn plan(
    finished: &FinishedTask<'_>,
    cx: &PlanCx<'_>,
    name: &SiteName,
    hold_ms: u64,
    redirected: bool,
) -> Result<Plan, PlanRefusal> {
    let task = finished.task.as_str();
    let gone = || {
        PlanRefusal::Refused("the old side is not in the trash any more: nothing to go back to".to_owned())
    };
    let trash: TrashRecord = records::find(cx.facts, records::TRASH, task)?.ok_or_else(gone)?;
    let record = records::site_put_there_by(task, cx.facts, name)?;
    reached_as_committed(finished, &record)?;
    let platform = records::platform(cx.facts, &record.platform, "")?;
    let from = Place::of(&record, &platform, records::host_of(cx.facts, &platform.web_server)?);
    let old = records::platform(cx.facts, &trash.site.platform, "")?;
    let host = records::host_of(cx.facts, &old.web_server)?;
    let to = Place {
        aliases: trash.site.aliases.clone(),
        reach: trash.site.reach.clone(),
        quiet: trash.site.quiet,
        ..Place::on(&trash.site.name, &trash.site.platform, &old, host)
    };
    records::names_came_free(cx.facts, &to.all_names(), Some(&record.name))?;
    let mut plan = PlanBuilder::new(Some(record.name.as_str()));
    plan.lock(format!("site {}", from.site), false);
    plan.lock(format!("site {}", to.site), false);
    lock_names(&mut plan, to.aliases.iter().filter(|alias| !from.aliases.contains(alias)));
    plan.lock(format!("platform {}", from.platform), cx.facts.record(PREPARED, &from.platform)?.is_some());
    plan.lock(format!("platform {}", to.platform), cx.facts.record(PREPARED, &to.platform)?.is_some());
    plan.note("what visitors have changed since then stays in the backup of this undo only");
    let moving = Move { cx, record: &record, from, to, hold_ms, redirect: false, lineage: None };
    // Accounts that somebody had locked before the task stay so.
    let stay = match finished.outputs.get("preflight") {
        Some(found) => Found::deserialize(&**found).map(|found| found.locked_at),
        None => Ok(Vec::new()),
    };
    let stay = stay
        .map_err(|error| PlanRefusal::Refused(format!("the output of preflight does not read: {error}")))?;
    moving.take_back(&mut plan, &trash, stay, Finished { task, redirected });
    Ok(plan.build()?)
}

/// What `configure` has changed on the new side would be lost: refuses that, as far as the finished task's plan tells how it was.
fn reached_as_committed(finished: &FinishedTask<'_>, now: &SiteRecord) -> Result<(), PlanRefusal> {
    let commit = finished.plan.find("commit").map(|commit| &finished.plan.step(commit).params["to"]);
    let Some(Ok(to)) = commit.map(Place::deserialize) else { return Ok(()) };
    // How a page answers is of the side that answers so: the one in the trash has its own.
    let reached = |aliases: &[SiteName], reach: &Reach, quiet| Reached {
        aliases: aliases.to_vec(),
        reach: Reach { pages: Vec::new(), ..reach.clone() },
        quiet,
    };
    if reached(&to.aliases, &to.reach, to.quiet) == reached(&now.aliases, &now.reach, now.quiet) {
        return Ok(());
    }
    Err(PlanRefusal::Refused(format!(
        "names, certificate or quiet of {} were changed since, and would be lost; undo the configure first, or set them with another as they \
         were",
        now.name
    )))
}

/// What is taken back.
struct Finished<'a> {
    task: &'a str,
    /// Whether it left a redirect in the place of the old side's vhost.
    redirected: bool,
}

impl Move<'_> {
    fn take_back(
        &self,
        plan: &mut PlanBuilder,
        trash: &TrashRecord,
        stay: Vec<String>,
        finished: Finished<'_>,
    ) {
        let (now, old) = (Store::of(self.record), Store::of(&trash.site));
        let waits = trash.site.dir.clone();
        let ask = AskRegistry {
            place: self.from.clone(),
            store: now.clone(),
            state: Some(self.record.state),
            to: Some(self.to.clone()),
        };
        let asked = plan.step("ask_registry", ask, &[]);
        let preflight = Preflight {
            from: Some((self.from.clone(), now.clone())),
            to: None,
            to_server: None,
            backup: true,
            expects: Some((self.to.web_server.clone(), waits.clone())),
            warnings_stop: false,
            may_be_broken: false,
            replaces: None,
            state: Some(self.record.state),
            becomes: Becomes::Replaced,
        };
        let found = plan.step("preflight", preflight, &[&asked]);
        let saved = plan.step("save_vhost", SaveVhost { place: self.from.clone() }, &[&found]);
        let stores = vec![(now.clone(), self.from.clone()), (old.clone(), self.to.clone())];
        let mut places = vec![self.from.clone()];
        if !self.same_dir() || !self.same_vhost() {
            places.push(self.to.clone());
        }
        let passing = vec![
            (self.to.web_server.clone(), waits.clone()),
            (self.from.web_server.clone(), self.from.trash(self.task())),
        ];
        let proof = FingerprintSite { places, passing, stores, platforms: Vec::new() };
        plan.fingerprint(&proof, proof.resources());
        let backed_up = plan.scope("backup", |plan| {
            let description = format!("Generated before {} was taken back", finished.task);
            let request =
                backup::Request { description, compression: Compression::Zstd, exclude: Vec::new() };
            backup::steps(plan, self.cx, &self.from, &now, request, &found)
        });
        let closed = plan.step(
            "close",
            Close { place: self.from.clone(), saved, disabled: self.disabled() },
            &[&backed_up],
        );
        let fenced = plan.step("fence", Fence { store: now, found: found.clone() }, &[&closed]);
        let mut before: Vec<&dyn Named> = vec![&fenced];
        let aside;
        if self.same_dir() {
            aside = plan.step("set_aside", SetAside { place: self.from.clone() }, &[&fenced]);
            before.push(&aside);
        }
        let publish = Publish { to: self.to.clone(), from_dir: waits };
        let published = plan.step("publish", publish, &before);
        let unlocked = plan.step("unfence", Unfence { store: old.clone(), stay }, &[&published]);
        let redirect: Option<Ref<Option<SavedFile>>> = finished
            .redirected
            .then(|| plan.step("save_redirect", SaveVhost { place: self.to.clone() }, &[&found]));
        let checked = self.hidden_over(plan, redirect, &unlocked);
        let commit = CommitMove {
            old: self.record.clone(),
            old_trash: self.from.trash(self.task()),
            hold_ms: self.hold_ms,
            to: self.to.clone(),
            store: old,
            takes_back: Some(finished.task.to_owned()),
            cloned_from: None,
        };
        let committed = plan.step("commit", commit, &[&checked]);
        self.after(plan, &committed);
    }
}
