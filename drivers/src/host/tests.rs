//! The contract on every transport, and what only a connection can do: be refused, be lost, be cut by a killed process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kedge_testenv::{HostSpec, Progress, Service, Testenv};
use kedge_workflows::ports::{CopyOptions, Files};
use kedge_workflows::testing::files_contract;

use super::contract::{host_contract, marker, survivors, tree, until_survivors};
use super::*;
use crate::files::HostFiles;

#[tokio::test(flavor = "multi_thread")]
async fn the_local_host_keeps_the_contract() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the_local_host_keeps_the_contract needs root");
        return;
    }
    let new = || LocalHost::new("here", Custody::new("contract-local"));
    host_contract(&new(), &new()).await;
}

/// A machine with SSH in a container, and a directory for keys and sockets.
struct Bench {
    env: Testenv,
    machine: kedge_testenv::Host,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn open(test: &str) -> Option<Self> {
        if std::env::var_os("KEDGE_DOCKER_TESTS").is_none() {
            println!("skipped: KEDGE_DOCKER_TESTS=1 runs {test} in a container");
            return None;
        }
        let env = Testenv::open(&Progress::stderr()).await.expect("a test environment");
        let machine = kedge_testenv::Host::start(&env, &HostSpec::new("host1", [Service::Ssh])).await;
        let dir = tempfile::Builder::new().prefix("kh").tempdir_in("/tmp").expect("a directory");
        Some(Self { env, machine: machine.expect("a test host"), dir })
    }

    async fn close(self) {
        self.machine.shutdown().await.expect("removed");
        self.env.shutdown().await.expect("removed");
    }

    fn options(&self, user: &str) -> SshOptions {
        SshOptions {
            address: format!("{user}@127.0.0.1:{}", self.machine.ssh_port()),
            identity_file: Some(self.machine.ssh_key_path()),
            known_hosts: Some(self.machine.known_hosts_path().to_owned()),
            sudo: user != "root",
            runtime_dir: self.dir.path().join("run"),
        }
    }

    fn ssh(&self, options: &SshOptions) -> SshHost {
        SshHost::new("host1", options, Custody::new("contract-ssh")).expect("good options")
    }

    fn docker(&self) -> DockerHost {
        DockerHost::new("host1", self.machine.container_name(), Custody::new("contract-docker"))
    }

    async fn sh(&self, script: &str) -> String {
        self.machine.exec_ok(["sh", "-ec", script]).await.expect("the script runs")
    }
}

fn scope(step: &str) -> Scope {
    Scope { task: "host-tests".into(), step: step.into() }
}

fn command<const N: usize>(argv: [&str; N]) -> Command {
    Command::new(&scope("step"), argv).within(Duration::from_secs(60))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_in_containers_keep_the_contract() {
    let Some(bench) = Bench::open("hosts_in_containers_keep_the_contract").await else { return };
    host_contract(&bench.docker(), &bench.docker()).await;
    for user in ["root", "deploy"] {
        let options = bench.options(user);
        host_contract(&bench.ssh(&options), &bench.ssh(&options)).await;
    }
    bench.sh("mkdir -p /srv/contract").await;
    let hosts: [Arc<dyn Host>; 2] = [Arc::new(bench.docker()), Arc::new(bench.ssh(&bench.options("deploy")))];
    for host in hosts {
        files_contract(&HostFiles::new(host, scope("files")), "/srv/contract").await;
    }
    what_is_missing_is_named(&bench).await;
    bench.close().await;
}

async fn what_is_missing_is_named(bench: &Bench) {
    let files = HostFiles::new(Arc::new(bench.docker()), scope("files"));
    files.check_tools().await.expect("nothing is missing");
    bench.sh("mv /usr/bin/rsync /usr/bin/rsync.away; mkdir -p /srv/from").await;
    let errors = [
        files.check_tools().await.expect_err("rsync is missing"),
        files.copy_tree("/srv/from", "/srv/to", &CopyOptions::default()).await.expect_err("rsync is missing"),
    ];
    for error in errors {
        assert!(matches!(&error, PortError::Refused(what) if what.contains("install rsync")), "{error:?}");
    }
    bench.sh("mv /usr/bin/rsync.away /usr/bin/rsync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_connections_are_told_apart() {
    let Some(bench) = Bench::open("failures_of_connections_are_told_apart").await else { return };
    what_only_a_person_can_help(&bench).await;
    logins_may_talk(&bench).await;
    a_lost_connection_is_no_exit_status(&bench).await;
    what_cannot_be_reached_may_come_back(&bench).await;
    bench.close().await;
}

async fn refused(host: &dyn Host, hint: &str) {
    let error = host.run(command(["true"])).await.expect_err(hint);
    assert!(
        matches!(&error, PortError::Refused(what) if what.contains(hint) && what.contains("host1")),
        "{hint}: {error:?}"
    );
}

async fn what_only_a_person_can_help(bench: &Bench) {
    let (good, dir) = (bench.options("deploy"), bench.dir.path());
    let status = Process::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(dir.join("other"))
        .status();
    assert!(status.expect("ssh-keygen").success());
    let other = fs::read_to_string(dir.join("other.pub")).expect("a key");
    let port = bench.machine.ssh_port();
    fs::write(dir.join("changed"), format!("[127.0.0.1]:{port} {other}")).expect("a file");
    fs::write(dir.join("empty"), "").expect("a file");

    refused(
        &bench.ssh(&SshOptions { identity_file: Some(dir.join("other")), ..good.clone() }),
        "identity_file",
    )
    .await;
    refused(
        &bench.ssh(&SshOptions { known_hosts: Some(dir.join("changed")), ..good.clone() }),
        "ssh-keygen -R",
    )
    .await;
    refused(&bench.ssh(&SshOptions { known_hosts: Some(dir.join("empty")), ..good.clone() }), "fingerprint")
        .await;

    let host = bench.ssh(&good);
    assert_eq!(host.run(command(["true"])).await.expect("it works").status, 0);
    bench
        .sh("mv /etc/sudoers.d/deploy /root/sudoers; echo 'deploy ALL=(ALL) ALL' >/etc/sudoers.d/deploy")
        .await;
    refused(&host, "NOPASSWD").await;
    bench.sh("echo '# nothing' >/etc/sudoers.d/deploy").await;
    refused(&host, "NOPASSWD").await;
    bench.sh("mv /root/sudoers /etc/sudoers.d/deploy; usermod -s /usr/sbin/nologin deploy").await;
    refused(&bench.ssh(&good), "login shell").await;
    bench.sh("usermod -s /bin/bash deploy").await;
    assert_eq!(host.run(command(["true"])).await.expect("it works again").status, 0);

    let long = "x".repeat(200_000);
    let error = host.run(command(["echo", &long])).await.expect_err("too long");
    assert!(matches!(&error, PortError::Refused(what) if what.contains("too long")), "{error:?}");
}

async fn logins_may_talk(bench: &Bench) {
    bench.sh("cp /home/deploy/.bashrc /root/bashrc; sed -i '1i echo hello; echo careful >&2' /home/deploy/.bashrc").await;
    let host = bench.ssh(&bench.options("deploy"));
    let finished = host.run(command(["sh", "-c", "echo out; echo err >&2"])).await.expect("it runs");
    assert_eq!(
        (finished.stdout.as_slice(), finished.stderr.as_slice()),
        (b"out\n".as_slice(), b"err\n".as_slice())
    );
    bench.sh("cp /root/bashrc /home/deploy/.bashrc").await;
}

async fn a_lost_connection_is_no_exit_status(bench: &Bench) {
    let host = bench.ssh(&bench.options("deploy"));
    let marker = marker();
    let script = format!("sleep {marker}; sleep {marker}");
    let (lost, ()) = tokio::join!(host.run(command(["sh", "-c", &script])), async {
        until_survivors(&bench.docker(), &marker, 1).await;
        // The connection's processes on the machine, not the one that listens.
        bench.sh("pkill -KILL -f '[s]shd: deploy'").await;
    });
    let error = lost.expect_err("the connection is gone");
    assert!(matches!(&error, PortError::Lost(what) if what.contains("host1")), "{error:?}");
    // A new connection is made by itself, and what was lost is ended: at once in the background, for certain by clear.
    host.clear(&scope("")).await.expect("cleared");
    assert_eq!(survivors(&bench.docker(), &marker).await, 0);

    let mut output =
        host.stream(command(["sh", "-c", "while :; do echo x; sleep 0.01; done"])).await.expect("it starts");
    assert!(output.next().await.expect("output").is_ok());
    bench.sh("pkill -KILL -f '[s]shd: deploy'").await;
    let error = loop {
        match output.next().await.expect("an error comes before the end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PortError::Lost(_)), "{error:?}");
    host.clear(&scope("")).await.expect("cleared");
}

async fn what_cannot_be_reached_may_come_back(bench: &Bench) {
    let host = bench.ssh(&bench.options("root"));
    bench.machine.stop_service(Service::Ssh).await.expect("stopped");
    let error = host.run(command(["true"])).await.expect_err("nobody listens");
    assert!(matches!(&error, PortError::Unavailable(what) if what.contains("host1")), "{error:?}");
    bench.machine.start_service(Service::Ssh).await.expect("started");
    assert_eq!(host.run(command(["true"])).await.expect("it is back").status, 0);

    let docker = bench.docker();
    let (lost, ()) = tokio::join!(docker.run(command(["sleep", "1000"])), async {
        until("the command runs", async || {
            !bench.sh("pgrep -x sleep -a | grep 1000 || true").await.is_empty()
        })
        .await;
        bench.machine.kill().await.expect("killed");
    });
    assert!(matches!(lost, Err(PortError::Lost(_))), "{lost:?}");
    for host in [&docker as &dyn Host, &host] {
        let error = host.run(command(["true"])).await.expect_err("the machine is off");
        assert!(matches!(error, PortError::Unavailable(_) | PortError::Lost(_)), "{error:?}");
    }
    bench.machine.boot().await.expect("booted");
    for host in [&docker as &dyn Host, &host] {
        assert_eq!(host.run(command(["true"])).await.expect("it is back").status, 0);
    }
    let unknown = DockerHost::new("host1", "kedge-no-such-container", Custody::new("x"));
    assert!(matches!(unknown.run(command(["true"])).await, Err(PortError::Unavailable(_))));
}

/// Processes of this machine whose command line holds a text.
fn processes_with(text: &str) -> usize {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| memmem::find(line, text.as_bytes()).is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_a_killed_kedge_that_its_successor_does_not_end() {
    let Some(bench) = Bench::open("nothing_outlives_a_killed_kedge").await else { return };
    let (options, marker) = (bench.options("deploy"), marker());
    let run = options.runtime_dir.display().to_string();
    let known: PathBuf = bench.machine.known_hosts_path().to_owned();
    let mut life = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "host::tests::an_earlier_life", "--ignored", "--nocapture"])
        .env("KEDGE_TEST_LIFE", [&options.address, &run, &marker, known.to_str().expect("text")].join("\n"))
        .env("KEDGE_TEST_KEY", bench.machine.ssh_key_path())
        .stdout(Stdio::null())
        .spawn()
        .expect("this test again");
    until_survivors(&bench.docker(), &marker, 4).await;
    assert!(processes_with(&run) >= 2, "a connection and a command");
    life.kill().expect("it runs");
    life.wait().expect("it ends");
    assert_eq!(survivors(&bench.docker(), &marker).await, 4, "they do not notice");
    bench.ssh(&options).clear(&scope("life")).await.expect("cleared");
    assert_eq!(survivors(&bench.docker(), &marker).await, 0);
    until("no ssh of the killed process is left", async || processes_with(&run) == 0).await;

    let host = bench.ssh(&options);
    host.run(command(["true"])).await.expect("it works");
    assert_eq!(processes_with(&run), 1, "the connection");
    drop(host);
    until("the connection goes with its host", async || processes_with(&run) == 0).await;
    let left: Vec<_> = fs::read_dir(&options.runtime_dir).expect("the directory").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    bench.close().await;
}

/// Not a test: the process that the test above kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn an_earlier_life() {
    let Ok(life) = std::env::var("KEDGE_TEST_LIFE") else { return };
    let [address, run, marker, known]: [&str; 4] =
        life.lines().collect::<Vec<_>>().try_into().expect("four lines");
    let options = SshOptions {
        address: address.to_owned(),
        identity_file: std::env::var_os("KEDGE_TEST_KEY").map(PathBuf::from),
        known_hosts: Some(Path::new(known).to_owned()),
        sudo: true,
        runtime_dir: Path::new(run).to_owned(),
    };
    let host = SshHost::new("host1", &options, Custody::new("contract-ssh")).expect("good options");
    let ended = host.run(Command::new(&scope("life"), ["sh", "-c", &tree(marker)])).await;
    panic!("it ended: {ended:?}");
}
