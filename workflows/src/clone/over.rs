//! `clone` over a site that is there: the copy is built beside it from the original, which is only read, and takes its place as a migrated
//! side does. What is replaced goes to the trash, and into a backup.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::plan::Plan;
use kedge_engine::step::Ref;
use kedge_engine::workflow::{PlanCx, PlanRefusal};

use super::{Copy, Params};
use crate::backup;
use crate::install::platform_lock;
use crate::migrate::Move;
use crate::place::{Place, Store};
use crate::ports::{Compression, Reach};
use crate::reach::can_be_quiet;
use crate::records::{self, SiteRecord, SiteState};
use crate::steps::certificate;
use crate::steps::database::Fence;
use crate::steps::preflight::{Becomes, Found, Preflight};
use crate::steps::vhost::{Close, SaveVhost};

/// The step that only such a clone has: what an undo knows it by.
pub(super) const LOOK: &str = "look_at_original";

/// The plan that replaces `there` by a copy of `original`.
pub(super) fn plan(
    params: &Params,
    original: &SiteRecord,
    there: &SiteRecord,
    cx: &PlanCx<'_>,
) -> Result<Plan, PlanRefusal> {
    let (of, from, to, server) = sides(params, original, there, cx)?;
    let mut plan = PlanBuilder::new(Some(there.name.as_str()));
    plan.lock(format!("site {}", of.site), true);
    plan.lock(format!("site {}", there.name), false);
    platform_lock(&mut plan, cx.facts, &of.platform)?;
    platform_lock(&mut plan, cx.facts, &from.platform)?;
    let prepared = platform_lock(&mut plan, cx.facts, &to.platform)?;
    plan.hold(params.hold.0);
    plan.note(
        "the original is copied while it is up: what visitors change meanwhile may be missing in the copy",
    );
    plan.note(format!("what {} is now goes to the trash, and into a backup", there.name));
    plan.note("visitors get a 503 from `close` to `go_live`; the result tells for how long");
    let lineage = Some(original.name.clone());
    let copy = Copy { cx, record: original, from: of, to: to.clone(), sanitize: params.sanitize };
    let moving = Move { cx, record: there, from, to, hold_ms: params.hold.0, redirect: false, lineage };
    Over { moving, copy }.plan(&mut plan, server, prepared)?;
    Ok(plan.build()?)
}

/// The original, the side that is replaced, the new one, and its database server.
fn sides(
    params: &Params,
    original: &SiteRecord,
    there: &SiteRecord,
    cx: &PlanCx<'_>,
) -> Result<(Place, Place, Place, String), PlanRefusal> {
    if there.name == original.name {
        return Err(PlanRefusal::param("/new_site", "a site cannot be cloned over itself"));
    }
    if there.state == SiteState::Disabled {
        return Err(PlanRefusal::Refused(format!("{} is disabled; enable it first", there.name)));
    }
    if !params.aliases.is_empty() {
        let why = "the site that is replaced keeps its own names; `configure` changes them";
        return Err(PlanRefusal::param("/aliases", why));
    }
    let of = records::platform(cx.facts, &original.platform, "/site")?;
    let old = records::platform(cx.facts, &there.platform, "/new_site")?;
    let platform = params.target_platform.as_ref().unwrap_or(&there.platform);
    let new = records::platform(cx.facts, platform, "/target_platform")?;
    if old.app != of.app || new.app != of.app {
        return Err(PlanRefusal::param("/target_platform", "it is a platform of another application"));
    }
    let server = params.target_database_server.as_ref().unwrap_or(&there.database_server);
    records::database_server(cx.facts, server, "/target_database_server")?;
    // Left out, it stays as it is: a staging site that is refreshed does not begin to mail.
    let quiet = params.quiet.unwrap_or(there.quiet);
    if quiet {
        can_be_quiet(new.app)?;
    }
    let of = Place::of(original, &of, records::host_of(cx.facts, &of.web_server)?);
    let from = Place::of(there, &old, records::host_of(cx.facts, &old.web_server)?);
    let host = records::host_of(cx.facts, &new.web_server)?;
    // By its own names, and with the pages of what it becomes.
    let reach = Reach { pages: original.reach.pages.clone(), ..there.reach.clone() };
    let aliases = there.aliases.clone();
    let to = Place { aliases, reach, quiet, ..Place::on(&there.name, platform, &new, host) };
    Ok((of, from, to, server.clone()))
}

/// The site that is replaced moves to a side that is built from the original.
struct Over<'a> {
    moving: Move<'a>,
    copy: Copy<'a>,
}

impl Over<'_> {
    fn plan(&self, plan: &mut PlanBuilder, server: String, prepared: bool) -> Result<(), PlanRefusal> {
        let (moving, old) = (&self.moving, Store::of(self.moving.record));
        let (found, looked) = self.look(plan, &old, &server);
        let saved = plan.step("save_vhost", SaveVhost { place: moving.from.clone() }, &[&looked]);
        moving.proof(plan, &old, prepared);
        let backed_up = plan.scope("backup", |plan| {
            let description = format!("Generated before {} was cloned over it", self.copy.from.site);
            let request =
                backup::Request { description, compression: Compression::Zstd, exclude: Vec::new() };
            backup::steps(plan, moving.cx, &moving.from, &old, request, &looked)
        });
        let (new, user) = self.copy.database(plan, server, &looked)?;
        let built = self.copy.build(plan, &new, prepared, (&looked, &user));
        let certificate = certificate::ensured(plan, &moving.to, &looked);
        let mut before: Vec<&dyn Named> = vec![&backed_up, &built];
        before.extend(certificate.iter().map(|step| step as &dyn Named));
        let closed = plan.step(
            "close",
            Close { place: moving.from.clone(), saved, disabled: moving.disabled() },
            &before,
        );
        let fenced = plan.step("fence", Fence { store: old, found: found.clone() }, &[&closed]);
        moving.switch(plan, &new, &fenced, &found);
        Ok(())
    }

    /// Looks at the site that is replaced, then at the original and the place of its copy.
    fn look(&self, plan: &mut PlanBuilder, old: &Store, server: &str) -> (Ref<Found>, Ref<Found>) {
        let (moving, copy) = (&self.moving, &self.copy);
        let replaced = Preflight {
            from: Some((moving.from.clone(), old.clone())),
            to: None,
            to_server: None,
            backup: true,
            expects: None,
            warnings_stop: false,
            // It may be replaced because it is.
            may_be_broken: true,
            replaces: None,
            state: Some(moving.record.state),
            becomes: Becomes::Replaced,
        };
        let found = plan.step("preflight", replaced, &[]);
        let copied = Preflight {
            from: Some((copy.from.clone(), Store::of(copy.record))),
            to: Some(copy.to.clone()),
            to_server: Some(server.to_owned()),
            backup: false,
            expects: None,
            warnings_stop: false,
            may_be_broken: false,
            replaces: Some(moving.from.clone()),
            state: None,
            becomes: Becomes::Kept,
        };
        let looked = plan.step(LOOK, copied, &[&found]);
        (found, looked)
    }
}
