//! The promises of [`Host`], tested on every transport with the same lines. Needs a POSIX userland on the host, and root.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use kedge_workflows::ports::{PortError, Scope};
use sha2::{Digest, Sha256};

use super::{Command, Finished, Host, MAX_STDERR, MAX_STDOUT};

/// Everything a host promises. `twin` is the same machine through another value, as a later life of Kedge would have it.
pub(super) async fn host_contract(host: &dyn Host, twin: &dyn Host) {
    arguments_arrive_as_they_are(host).await;
    input_arrives_whole(host).await;
    streams_carry_many_megabytes_both_ways(host).await;
    a_broken_input_ends_the_command(host).await;
    exit_statuses_are_told(host).await;
    environment_and_user_are_as_asked(host).await;
    output_is_bounded(host).await;
    a_limit_ends_the_whole_tree(host).await;
    dropping_ends_the_whole_tree(host).await;
    clear_ends_an_earlier_life(host, twin).await;
    many_at_once(host).await;
}

fn scope(step: &str) -> Scope {
    Scope { task: format!("contract-{}", std::process::id()), step: step.to_owned() }
}

fn command<const N: usize>(argv: [&str; N]) -> Command {
    Command::new(&scope("step"), argv).within(Duration::from_secs(120))
}

async fn run(host: &dyn Host, command: Command) -> Finished {
    host.run(command).await.expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn arguments_arrive_as_they_are(host: &dyn Host) {
    let odd = [
        "",
        " ",
        "a b",
        "'",
        "\"",
        "''\\''",
        "\\",
        "\n",
        "a\nb\n",
        "$HOME",
        "$(id)",
        "`id`",
        "-n",
        "--",
        "!x",
        "*",
        "~",
        "#",
        ";&|<>",
        "äö€😀",
        "\t",
        "%s",
        "\u{1}\u{7f}",
    ];
    let mut argv = vec!["printf", "%s\\0"];
    argv.extend(odd);
    let finished = run(host, Command::new(&scope("step"), argv)).await;
    let said: Vec<String> = text(&finished.stdout).split_terminator('\0').map(str::to_owned).collect();
    assert_eq!(said, odd);
}

async fn input_arrives_whole(host: &dyn Host) {
    let bytes: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    let finished = run(host, command(["cat"]).input(bytes.clone())).await;
    assert_eq!((finished.status, finished.stdout == bytes), (0, true));
    let finished = run(host, command(["cat"])).await;
    assert_eq!((finished.status, finished.stdout.len()), (0, 0), "no input is an empty one");
    let finished = run(host, command(["head", "-c", "3"]).input(bytes)).await;
    assert_eq!((finished.status, finished.stdout), (0, vec![0, 1, 2]), "a command may stop reading");
}

async fn streams_carry_many_megabytes_both_ways(host: &dyn Host) {
    const PIECES: u32 = 800;
    let piece = |i: u32| Bytes::from(i.to_be_bytes().repeat(16 * 1024));
    let pieces = || Box::pin(stream::iter(0..PIECES).map(move |i| Ok(piece(i))));
    let mut expected = Sha256::new();
    (0..PIECES).for_each(|i| expected.update(piece(i)));
    let expected = hex::encode(expected.finalize());

    let finished = run(host, command(["sha256sum"]).input_stream(pieces())).await;
    assert_eq!(text(&finished.stdout).split(' ').next(), Some(expected.as_str()));

    let mut output = host.stream(command(["cat"]).input_stream(pieces())).await.expect("cat starts");
    let (mut seen, mut bytes) = (Sha256::new(), 0);
    while let Some(piece) = output.next().await {
        let piece = piece.expect("cat goes on");
        bytes += piece.len();
        seen.update(&piece);
    }
    assert_eq!((bytes, hex::encode(seen.finalize())), (PIECES as usize * 64 * 1024, expected));
}

async fn a_broken_input_ends_the_command(host: &dyn Host) {
    let pieces = vec![Ok(Bytes::from_static(b"half")), Err(PortError::NoSpace("the source broke".into()))];
    let script = "cat >/dev/null; echo complete";
    let command = command(["sh", "-c", script]).input_stream(Box::pin(stream::iter(pieces)));
    let error = host.run(command).await.expect_err("the input broke");
    assert_eq!(error, PortError::NoSpace("the source broke".into()));
}

async fn exit_statuses_are_told(host: &dyn Host) {
    for (script, status) in
        [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("kill -s TERM $$", 143), ("kill -s KILL $$", 137)]
    {
        let finished = run(host, command(["sh", "-c", script])).await;
        assert_eq!(finished.status, status, "{script}");
    }
    let missing = run(host, command(["kedge-no-such-program"])).await;
    assert_eq!(missing.status, 127);
    let error = missing.success("x").expect_err("status 127");
    assert_eq!(error, PortError::Refused("x: install kedge-no-such-program there".into()));
    let full =
        run(host, command(["sh", "-c", "echo 'x: No space left on device' >&2; exit 1"])).await.success("x");
    assert!(matches!(full, Err(PortError::NoSpace(_))), "{full:?}");
    let error =
        run(host, command(["sh", "-c", "echo why >&2; exit 3"])).await.success("it").expect_err("status 3");
    assert_eq!(error, PortError::Refused("it: exit status 3: why".into()));

    let mut output =
        host.stream(command(["sh", "-c", "echo out; echo why >&2; exit 3"])).await.expect("sh starts");
    assert_eq!(output.next().await, Some(Ok(Bytes::from_static(b"out\n"))));
    let error = output.next().await.expect("an end").expect_err("status 3").to_string();
    assert!(error.contains("sh on ") && error.contains("exit status 3: why"), "{error}");
    assert!(output.next().await.is_none());
}

async fn environment_and_user_are_as_asked(host: &dyn Host) {
    let show = || command(["env"]).env("KEDGE_TEST", "a b'$x");
    let environment = |finished: Finished| -> Vec<String> {
        let mut lines: Vec<String> = text(&finished.stdout).lines().map(str::to_owned).collect();
        lines.retain(|line| {
            !line.starts_with("PWD=") && !line.starts_with("_=") && !line.starts_with("SHLVL=")
        });
        lines.sort();
        lines
    };
    let lines = environment(run(host, show()).await);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains(&format!("/{}/step/", scope("").task)), "{lines:?}");
    assert!(lines[1..3] == ["KEDGE_TEST=a b'$x", "LC_ALL=C"] && lines[3].starts_with("PATH="), "{lines:?}");
    assert_eq!(environment(run(host, show().as_user("nobody")).await).len(), 4);

    assert_eq!(text(&run(host, command(["id", "-un"])).await.stdout).trim(), "root");
    let who = ["sh", "-c", "id -un; id -gn; grep -zc '^KEDGE_ATTEMPT=' /proc/self/environ"];
    let who = run(host, command(who).as_user("nobody")).await;
    assert_eq!(text(&who.stdout), "nobody\nnogroup\n1\n");
    let nobody = run(host, command(["true"]).as_user("kedge-no-such-user")).await;
    assert_eq!(nobody.status, 126);
    let terminal = run(host, command(["sh", "-c", ": </dev/tty"])).await;
    assert_ne!(terminal.status, 0, "there is no terminal to ask on");
}

async fn output_is_bounded(host: &dyn Host) {
    let flood = format!("head -c {} /dev/zero >&2; echo end >&2; echo done", 40 * MAX_STDERR);
    let finished = run(host, command(["sh", "-c", &flood])).await;
    assert_eq!((finished.status, finished.stdout.as_slice()), (0, b"done\n".as_slice()));
    assert!(finished.stderr.len() <= MAX_STDERR && finished.stderr.ends_with(b"end\n"));
    let error = host.run(command(["cat", "/dev/zero"])).await.expect_err("too much output");
    assert!(
        matches!(&error, PortError::Refused(what) if what.contains("cat on") && what.contains("16 MiB")),
        "{error:?}"
    );
    let most = run(host, command(["head", "-c", &MAX_STDOUT.to_string(), "/dev/zero"])).await;
    assert_eq!(most.stdout.len(), MAX_STDOUT);
}

/// Sleeps for a time that no other command of this run has, in sessions and groups of its own, deaf to TERM.
pub(super) fn tree(marker: &str) -> String {
    format!(
        "setsid sh -c 'trap \"\" TERM; sleep {marker} & sleep {marker}; sleep {marker}' >/dev/null 2>&1 & setsid sleep {marker} & \
         sleep {marker}"
    )
}

pub(super) async fn survivors(host: &dyn Host, marker: &str) -> usize {
    let script = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null; echo; done | grep -c \"^sleep $1 $\"";
    let finished = run(host, Command::new(&scope("count"), ["sh", "-c", script, "sh", marker])).await;
    text(&finished.stdout).trim().parse().expect("a number")
}

pub(super) async fn until_survivors(host: &dyn Host, marker: &str, expected: usize) {
    let since = Instant::now();
    loop {
        let seen = survivors(host, marker).await;
        if seen == expected {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{seen} processes of {marker}, not {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sleeping time in seconds that only the caller uses: containers' processes are seen from outside, too.
pub(super) fn marker() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 100_000 + std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

async fn a_limit_ends_the_whole_tree(host: &dyn Host) {
    let marker = marker();
    let limit = Duration::from_secs(2);
    let slow = command(["sh", "-c", &tree(&marker)]).within(limit);
    let (result, ()) = tokio::join!(host.run(slow), until_survivors(host, &marker, 4));
    let error = result.expect_err("it is too slow");
    assert!(
        matches!(&error, PortError::Unavailable(what) if what.contains("sh on") && what.contains("2s")),
        "{error:?}"
    );
    assert_eq!(survivors(host, &marker).await, 0, "all are gone before the error is told");
}

async fn dropping_ends_the_whole_tree(host: &dyn Host) {
    let marker = marker();
    let script = tree(&marker);
    tokio::select! {
        result = host.run(command(["sh", "-c", &script])) => panic!("it ended: {result:?}"),
        () = until_survivors(host, &marker, 4) => {}
    }
    until_survivors(host, &marker, 0).await;

    let output = host.stream(command(["sh", "-c", &script]).input_stream(Box::pin(stream::pending()))).await;
    let output = output.expect("sh starts");
    until_survivors(host, &marker, 4).await;
    drop(output);
    until_survivors(host, &marker, 0).await;
}

async fn clear_ends_an_earlier_life(host: &dyn Host, twin: &dyn Host) {
    let markers = [marker(), marker(), marker()];
    for (marker, step) in markers.iter().zip(["one", "one/two", "on"]) {
        let script =
            format!("setsid sh -c '{}' >/dev/null 2>&1 </dev/null &", tree(marker).replace('\'', "'\\''"));
        let finished = run(host, Command::new(&scope(step), ["sh", "-c", &script])).await;
        assert_eq!(finished.status, 0);
        until_survivors(host, marker, 4).await;
    }
    let other = Scope { task: format!("{}0", scope("").task), step: String::new() };
    twin.clear(&other).await.expect("nothing to clear");
    twin.clear(&scope("one")).await.expect("cleared");
    assert_eq!(survivors(host, &markers[0]).await, 0);
    assert_eq!(survivors(host, &markers[1]).await, 4, "another step is left alone");
    assert_eq!(survivors(host, &markers[2]).await, 4, "another step is left alone");
    twin.clear(&scope("")).await.expect("cleared");
    assert_eq!((survivors(host, &markers[1]).await, survivors(host, &markers[2]).await), (0, 0));
    twin.clear(&scope("")).await.expect("clearing nothing is fine");
}

async fn many_at_once(host: &dyn Host) {
    let commands = (0..24).map(|i| async move {
        let finished =
            run(host, command(["sh", "-c", "cat; exit $0", &i.to_string()]).input(format!("in {i}"))).await;
        assert_eq!((finished.status, text(&finished.stdout)), (i, format!("in {i}")));
    });
    futures::future::join_all(commands).await;
}
