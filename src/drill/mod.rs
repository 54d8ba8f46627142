//! `kedge drill`: a workflow's crash and failure matrix, with this very binary against the configured hosts. Child processes are killed with
//! SIGKILL at chosen points, started again, and what is left is compared from outside. Works on a copy of the journal.

mod about;
mod back;
mod faults;
mod life;
mod lives;
mod look;
mod point;
mod report;
mod round;
mod show;
mod state;
mod taking_back;
mod verdict;
mod way;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kedge_engine::plan::Class;
use kedge_engine::proof::Listing;
use kedge_engine::sabotage::Phase;
use kedge_engine::task::{StepView, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::DrillArgs;
use crate::config::{self, Config};
use about::scene;
use back::Records;
use life::Action;
pub(crate) use life::life;
use lives::{Lived, Lives};
pub(crate) use point::Take;
use point::{Course, Failure, Point, Side, dice, matrix, sample};
use report::Report;
use round::{Drill, Round};
use show::Show;
use state::State;
use verdict::site_records;
use way::way;

/// What an interrupted drill has to know to end what it has begun.
#[derive(Serialize, Deserialize)]
struct Begun {
    workflow: String,
    params: Value,
    #[serde(default)]
    undo: bool,
    since: Option<TaskId>,
    start: Records,
    before: Listing,
}

/// `kedge drill`.
///
/// # Errors
/// When the workflow cannot be drilled, a service runs on the data, or a host is gone.
pub(crate) async fn drill(args: &DrillArgs, params: Value, json: bool) -> Result<ExitCode> {
    way(&args.workflow, &params, args.undo)?;
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let config = Arc::new(config::load(&args.config.config)?);
    let (mut state, interrupted) = State::open(&config.data_dir)?;
    bring(&mut state, &config, &params);
    let show = Show::new(json);
    if interrupted {
        show.line("an earlier drill was interrupted: what it has begun is brought to its end first");
        let mut drill = taken_up(args, &config, state).await?;
        drill.finish_interrupted().await.with_context(|| by_hand(&drill.state))?;
        let drift = drill.as_before("after the interrupted drill", false).await?;
        ensure!(drift.is_empty(), "the world is not as the interrupted drill found it: {drift:#?}");
        drill.state.remove()?;
        let (mut state, _) = State::open(&config.data_dir)?;
        bring(&mut state, &config, &params);
        return run(args, params, &config, state, seed, &show).await;
    }
    run(args, params, &config, state, seed, &show).await
}

/// A restore reads an archive of the real backups.
fn bring(state: &mut State, config: &Config, params: &Value) {
    if let Some(name) = params["backup"].as_str() {
        state.bring(config.backup_dir.join(name));
    }
}

fn by_hand(state: &State) -> String {
    format!(
        "settle it by hand: start `kedge serve` with data_dir = {:?} and backup_dir = {:?}, resolve the task, then drill again",
        state.data(),
        state.backups()
    )
}

fn lives(args: &DrillArgs, since: Option<TaskId>) -> Result<Lives> {
    let config = std::path::absolute(&args.config.config)?;
    Ok(Lives { config, limit: Duration::from_secs(args.limit), since })
}

async fn taken_up(args: &DrillArgs, config: &Config, state: State) -> Result<Drill> {
    let text =
        std::fs::read(state.begun()).context("what the interrupted drill has begun is not written down")?;
    let begun: Begun = serde_json::from_slice(&text)?;
    let scene = scene(args, config, &state, (&begun.workflow, &begun.params), &begun.start)?;
    Ok(Drill {
        way: way(&begun.workflow, &begun.params, begun.undo)?,
        workflow: begun.workflow,
        params: begun.params,
        state,
        lives: lives(args, begun.since)?,
        scene,
        start: begun.start,
        before: begun.before,
        done: None,
    })
}

async fn begun(args: &DrillArgs, params: Value, config: &Config, state: State) -> Result<Drill> {
    state.begin()?;
    let mut lives = lives(args, None)?;
    let end = match lives.live(&state, Action::Look, &Point::default()).await? {
        Lived::Ended { end, .. } => end,
        Lived::Refused(why) | Lived::Broken { why, .. } => bail!("the journal's copy cannot be used: {why}"),
    };
    lives.since = end.newest;
    let scene = scene(args, config, &state, (&args.workflow, &params), &end.records)?;
    let before = scene.look(&site_records(&end.records, &scene)?).await?;
    let begun = Begun {
        workflow: args.workflow.clone(),
        params,
        undo: args.undo,
        since: lives.since.clone(),
        start: end.records,
        before,
    };
    std::fs::write(state.begun(), serde_json::to_vec(&begun)?)?;
    Ok(Drill {
        way: way(&begun.workflow, &begun.params, begun.undo)?,
        workflow: begun.workflow,
        params: begun.params,
        state,
        lives,
        scene,
        start: begun.start,
        before: begun.before,
        done: None,
    })
}

async fn run(
    args: &DrillArgs,
    params: Value,
    config: &Config,
    state: State,
    seed: u64,
    show: &Show,
) -> Result<ExitCode> {
    let mut drill = begun(args, params, config, state).await?;
    let mut report = Report::new(&drill, seed, args);
    let what = if args.undo { "the undo of a " } else { "" };
    show.line(&format!(
        "drill of {what}{} {}, seed {seed}: the site will be closed again and again",
        drill.workflow, drill.params
    ));
    let finished = rounds(args, &mut drill, &mut report, seed, show).await;
    report.write(&args.report)?;
    show.table(&report, &args.report)?;
    match finished {
        Ok(()) => drill.state.remove()?,
        Err(error) => return Err(error.context(by_hand(&drill.state))),
    }
    Ok(ExitCode::from(u8::from(report.counterexamples() > 0)))
}

/// All rounds. An error, when the world cannot be brought back to the start.
async fn rounds(
    args: &DrillArgs,
    drill: &mut Drill,
    report: &mut Report,
    seed: u64,
    show: &Show,
) -> Result<()> {
    show.line("undisturbed, to see the way and what it ends with");
    let forward = one(drill, &Point::default(), report, show).await?;
    let task = forward.task.as_ref().context("the undisturbed task was not accepted")?;
    ensure!(forward.wrong.is_empty(), "already undisturbed it does not hold: {:#?}", forward.wrong);
    report.shows(task);
    let points = if args.point.is_empty() {
        let failure = longest_way_back(&task.steps);
        let mut back = Vec::new();
        if let Some(failure) = &failure {
            let point = Point { failures: vec![failure.clone()], kills: Vec::new() };
            back = one(drill, &point, report, show).await?.passed;
        }
        let course =
            Course { steps: &task.steps, forward: &forward.passed, failure: failure.as_ref(), back: &back };
        let mut dice = dice(seed);
        let all = matrix(&course, &mut dice);
        report.all = all.len();
        match args.points {
            Take::All => all.into_iter().filter(|point| point.part() != "second crash").collect(),
            Take::Failures => all.into_iter().filter(|point| point.part() == "failing step").collect(),
            Take::Sample(count) => sample(all, count, &mut dice),
        }
    } else {
        report.all = args.point.len();
        args.point.iter().map(|text| text.parse()).collect::<Result<Vec<Point>>>()?
    };
    let count = points.len();
    let stop = stopped_by_hand();
    for (n, point) in points.iter().enumerate() {
        show.progress(n, count, point, report.counterexamples());
        let round = one(drill, point, report, show).await?;
        if !round.wrong.is_empty() && !args.keep_going {
            break;
        }
        if stop.load(Ordering::SeqCst) {
            show.line("stopped by hand");
            break;
        }
    }
    show.progress_ends();
    Ok(())
}

/// Becomes true at Ctrl-C: the point in hand is brought to its end, so that the site is as at the start.
fn stopped_by_hand() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    tokio::spawn(async move {
        // Without the signal a drill simply goes on to its end.
        if tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::SeqCst);
        }
    });
    stop
}

/// One point; an error when the world is not as at the start afterwards.
async fn one(drill: &mut Drill, point: &Point, report: &mut Report, show: &Show) -> Result<Round> {
    let round = drill.round(point).await?;
    show.round(&round);
    report.add(&round);
    let stranded = round.stranded;
    ensure!(!stranded, "after {point} the world is not as at the start: {:#?}", round.wrong);
    drill.state.clear()?;
    Ok(round)
}

/// The last step before the point of no return fails after its effect: everything has to be taken back.
fn longest_way_back(steps: &[StepView]) -> Option<Failure> {
    let before = steps.iter().rposition(|step| step.class != Class::Retriable)?;
    Some(Failure { phase: Phase::Run, step: steps[before].name.clone(), side: Side::After, lasting: true })
}
