//! Site tasks by Kedge beside the same by hand, the way that Aegir takes: `just bench-tasks`. On one test host, one site of a realistic
//! size, in turns, both on the host itself; it prints the ratios of the medians with their targets, and fails when one is missed. Never compares runs of different hosts.

mod on_host;
mod site;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kedge_testenv::{Exec, Host, HostSpec, Progress, Testenv};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::{Kedge, Transport};
use support::poller::Poller;
use support::receiver::Receiver;

use site::{SITE, prepare};

/// Longest time that one task may take here, by whomever.
const LIMIT: Duration = Duration::from_secs(900);
/// Turns of each, unless `KEDGE_TURNS` says otherwise: a median needs three.
const TURNS: usize = 3;
/// Steps that take less, in seconds, are not worth a line.
const WORTH_A_LINE: f64 = 0.2;
/// What the visitor asks for all along: a small file, so that asking costs the measured ones nothing.
const VISITED: &str = "/wp-content/uploads/odd/read-only.txt";
const BY_HAND: &str = include_str!("by_hand.sh");
/// What is compared, and how many times faster Kedge has to be.
const TARGETS: [(&str, f64); 5] = [
    ("backup", 4.0),
    ("migrate to another platform", 4.0),
    ("its downtime", 8.0),
    ("restore, with a backup first", 1.5),
    ("clone to a new domain", 4.0),
];

#[tokio::main]
async fn main() -> ExitCode {
    match compare().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench-tasks: a target is missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench-tasks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn compare() -> Result<bool> {
    let turns = std::env::var("KEDGE_TURNS").ok().map_or(Ok(TURNS), |turns| turns.parse())?;
    let env = Testenv::open(&Progress::stderr()).await?;
    let host = Host::start(&env, &HostSpec::web_and_database("web1")).await?;
    let mut installation = Installation::start(&host).await?;
    let face = installation.face()?;
    let mut bench =
        Bench { visitor: Poller::start(host.http_port(), SITE, VISITED), host, face, times: BTreeMap::new() };
    prepare(&bench.host, &bench.face).await?;
    for turn in 0..turns {
        eprintln!("bench-tasks: turn {} of {turns}", turn + 1);
        bench.turn(turn).await?;
    }
    let held = bench.verdict();
    installation.stop().await?;
    bench.host.shutdown().await?;
    env.shutdown().await?;
    Ok(held)
}

/// The Kedge that is measured.
enum Installation {
    /// On the test host itself, where it is done by hand too.
    OnHost(Face),
    /// On the machine around it (`KEDGE_TRANSPORT=ssh` or `docker`); and who hears its callbacks.
    Around { kedge: Box<Kedge>, _receiver: Receiver },
}

impl Installation {
    async fn start(host: &Host) -> Result<Self> {
        let transport = match std::env::var("KEDGE_TRANSPORT").as_deref() {
            Ok("docker") => Transport::Docker,
            Ok("ssh") => Transport::Ssh,
            Ok(other) if other != "local" => bail!("KEDGE_TRANSPORT={other}: it is local, ssh or docker"),
            _ => return Ok(Self::OnHost(on_host::start(host).await?)),
        };
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kedge = Kedge::prepare(host, transport, port)?;
        let receiver = Receiver::start_on(port, &kedge.callback_secret).await?;
        kedge.start().await?;
        Ok(Self::Around { kedge: Box::new(kedge), _receiver: receiver })
    }

    fn face(&self) -> Result<Face> {
        match self {
            Self::OnHost(face) => Ok(face.clone()),
            Self::Around { kedge, .. } => kedge.face(),
        }
    }

    async fn stop(&mut self) -> Result<()> {
        match self {
            // It ends with its host.
            Self::OnHost(_) => Ok(()),
            Self::Around { kedge, .. } => kedge.stop().await,
        }
    }
}

/// Who does a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Hand,
    Kedge,
}

struct Bench {
    host: Host,
    face: Face,
    visitor: Poller,
    /// Seconds, by what and who.
    times: BTreeMap<(&'static str, Who), Vec<f64>>,
}

impl Bench {
    /// Every task once by hand and once by Kedge; who comes first changes from turn to turn.
    async fn turn(&mut self, turn: usize) -> Result<()> {
        let both = if turn.is_multiple_of(2) { [Who::Hand, Who::Kedge] } else { [Who::Kedge, Who::Hand] };
        let mut backup = String::new();
        for who in both {
            self.settle().await?;
            match who {
                Who::Hand => self.hand("backup", &["backup", SITE, "whole"]).await?,
                Who::Kedge => {
                    let task = self.kedge("backup", "backup", &json!({ "site": SITE })).await?;
                    backup = task["result"]["backup"].as_str().unwrap_or_default().to_owned();
                }
            }
        }
        ensure!(!backup.is_empty(), "the result of a backup does not name it");
        for who in both {
            self.settle().await?;
            self.migrate(who, turn).await?;
        }
        for who in both {
            self.settle().await?;
            match who {
                Who::Hand => {
                    let database = format!("byhand_restore{turn}");
                    self.hand("restore, with a backup first", &["restore", SITE, "whole", &database]).await?;
                    self.aside(&["unrestore", SITE, &database]).await?;
                }
                Who::Kedge => {
                    let params = json!({ "site": SITE, "backup": backup });
                    let task = self.kedge("restore, with a backup first", "restore", &params).await?;
                    self.take_back(&task).await?;
                }
            }
        }
        for who in both {
            self.settle().await?;
            let copy = format!("copy{turn}.example.test");
            match who {
                Who::Hand => {
                    let (copy, database) = (format!("hand-{copy}"), format!("byhand_clone{turn}"));
                    self.hand("clone to a new domain", &["clone", SITE, "clone", &database, &copy]).await?;
                    self.aside(&["unclone", &database, &copy]).await?;
                }
                Who::Kedge => {
                    let params = json!({ "site": SITE, "new_site": copy });
                    self.kedge("clone to a new domain", "clone", &params).await?;
                }
            }
        }
        Ok(())
    }

    async fn migrate(&mut self, who: Who, turn: usize) -> Result<()> {
        let began = Instant::now();
        match who {
            Who::Hand => {
                let database = format!("byhand_migrate{turn}");
                self.hand("migrate to another platform", &["migrate", SITE, "migrate", &database]).await?;
                self.note("its downtime", who, self.downtime(began).await?);
                self.aside(&["unmigrate", SITE, &database]).await?;
            }
            Who::Kedge => {
                let params = json!({ "site": SITE, "target_platform": "wordpress-68" });
                let task = self.kedge("migrate to another platform", "migrate", &params).await?;
                self.note("its downtime", who, self.downtime(began).await?);
                self.take_back(&task).await?;
            }
        }
        Ok(())
    }

    /// How long a visitor who asked all along saw a 503.
    async fn downtime(&self, began: Instant) -> Result<Duration> {
        let ended = Instant::now();
        support::wait_until("an answer to the visitor", LIMIT, || async {
            self.visitor.since(ended).iter().any(|seen| seen.status == 200)
        })
        .await?;
        let down = self.visitor.downtime(began);
        ensure!(!down.is_zero(), "the visitor saw no downtime");
        Ok(down)
    }

    /// What was written before is on the disk: nobody pays for another one's work.
    async fn settle(&self) -> Result<()> {
        Ok(self.host.run_ok(Exec::new(["sync"]).limit(LIMIT)).await.map(drop)?)
    }

    async fn hand(&mut self, what: &'static str, args: &[&str]) -> Result<()> {
        let began = Instant::now();
        self.aside(args).await?;
        self.note(what, Who::Hand, began.elapsed());
        Ok(())
    }

    async fn aside(&self, args: &[&str]) -> Result<()> {
        let argv = ["bash", "-o", "pipefail", "-c", BY_HAND, "by-hand"].iter().chain(args).copied();
        Ok(self.host.run_ok(Exec::new(argv).limit(LIMIT)).await.map(drop)?)
    }

    async fn kedge(&mut self, what: &'static str, workflow: &str, params: &Value) -> Result<Value> {
        let began = Instant::now();
        let id = self.face.submit(workflow, params).await?;
        let task = self.face.settled(&id, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "{workflow}: {task}");
        self.note(what, Who::Kedge, began.elapsed());
        steps(&task);
        Ok(task)
    }

    async fn take_back(&self, task: &Value) -> Result<()> {
        let (status, undo) = self.face.post(&format!("/v1/tasks/{}/undo", id_of(task)?), &json!({})).await?;
        ensure!(status == 202, "undo: {status} {undo}");
        let task = self.face.settled(&id_of(&undo)?, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "undo: {task}");
        Ok(())
    }

    fn note(&mut self, what: &'static str, who: Who, took: Duration) {
        eprintln!("bench-tasks: {what}, {who:?}: {:.1} s", took.as_secs_f64());
        self.times.entry((what, who)).or_default().push(took.as_secs_f64());
    }

    /// Prints the ratios; whether all targets are met.
    fn verdict(&self) -> bool {
        println!("{:<30} {:>10} {:>10} {:>8} {:>8}", "", "by hand s", "Kedge s", "ratio", "target");
        let mut all = true;
        for (what, target) in TARGETS {
            let of = |who| median(self.times.get(&(what, who)).map_or(&[], Vec::as_slice));
            let (hand, kedge) = (of(Who::Hand), of(Who::Kedge));
            let ratio = hand / kedge;
            let met = ratio >= target;
            all &= met;
            let mark = if met { "" } else { "  MISSED" };
            println!("{what:<30} {hand:>10.1} {kedge:>10.1} {ratio:>7.1}x {target:>7.1}x{mark}");
        }
        all
    }
}

/// The steps that took longest, each with how long.
fn steps(task: &Value) {
    for step in task["steps"].as_array().into_iter().flatten() {
        let at = |field: &str| step[field].as_str().and_then(second_of_day);
        let Some(took) = at("finished_at").zip(at("started_at")).map(|(end, start)| end - start) else {
            continue;
        };
        if took >= WORTH_A_LINE {
            eprintln!("    {took:6.1} s {}", step["name"].as_str().unwrap_or_default());
        }
    }
}

/// Of an RFC 3339 time. At midnight a step's line is wrong, which nothing depends on.
fn second_of_day(time: &str) -> Option<f64> {
    let clock = time.split_once('T')?.1.trim_end_matches('Z');
    clock.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
