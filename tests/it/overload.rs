//! More than anybody means to send: a thousand open tasks at a start, a thousand webhooks at once on one site, slow and broken clients by
//! the hundred. Nothing is lost, whoever behaves is served, and the memory stays bounded. The only host is one that nobody reaches, so that
//! tasks stay open; needs the binary, and no Docker.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use support::face::{Face, id_of};
use support::kedge::Kedge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the process may hold at most.
const MEMORY_KIB: u64 = 256 * 1024;
/// Open tasks, and webhooks at once.
const MANY: usize = 1000;
/// Tasks on sites of their own, open beside those.
const SITES: usize = 200;
/// Requests under way at once where they are not all sent at once.
const AT_ONCE: usize = 64;
/// Tasks of one site that may be seen at work, one after the other, while all are looked at.
const MOST_AT_WORK: usize = 5;
/// Longest wait for a condition here.
const LIMIT: Duration = Duration::from_secs(240);
/// Nobody listens there.
const UNREACHABLE: &str = "transport = \"ssh\"\naddress = \"deploy@127.0.0.1:1\"";

#[tokio::test(flavor = "multi_thread")]
async fn more_than_anybody_means_to_send() -> Result<()> {
    if std::env::var_os("KEDGE_BIN").is_none() {
        println!("skipped: needs the binary by KEDGE_BIN; scripts/test runs it");
        return Ok(());
    }
    let receiver = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let mut kedge = Kedge::reaching(UNREACHABLE, receiver.local_addr()?.port())?;
    kedge.start().await?;
    let face = kedge.face()?;
    let clients = Badly::behaved(kedge.port()).await?;
    let one_site = webhooks_on_one_site(&face).await?;
    let mut open = many_sites(&face).await?;
    open.extend(one_site);
    clients.hold().await?;
    within_memory(&kedge, "of all that at once")?;

    kedge.kill()?;
    kedge.start().await?;
    let known = all_tasks(&face).await?;
    let lost: Vec<&String> = open.iter().filter(|id| !known.contains(*id)).collect();
    ensure!(lost.is_empty(), "{} of {} accepted tasks are lost: {lost:?}", lost.len(), open.len());
    let (status, answer) = face.post("/v1/tasks", &install("one-more.example.test")).await?;
    ensure!(status == 202, "one more task: {status} {answer}");
    within_memory(&kedge, &format!("of a start with {} open tasks", open.len()))?;
    kedge.stop().await?;
    let (sound, fsck) = kedge.command(&["journal", "fsck"])?;
    ensure!(sound, "journal fsck: {fsck}");
    Ok(())
}

fn install(site: &str) -> Value {
    json!({ "workflow": "install", "params": { "site": site, "platform": "wordpress-61", "database_server": "db1" } })
}

fn within_memory(kedge: &Kedge, when: &str) -> Result<()> {
    let peak = kedge.peak_kib()?;
    println!("at most {} MiB in the middle {when}", peak / 1024);
    ensure!(peak < MEMORY_KIB, "it held {} MiB in the middle {when}", peak / 1024);
    Ok(())
}

/// A thousand deliveries at the same moment for one site: one task of it is at work, the others wait for it by name; sent again, they are
/// the same tasks.
async fn webhooks_on_one_site(face: &Face) -> Result<BTreeSet<String>> {
    let body = install("busy.example.test");
    let send = |n: usize| {
        let body = body.clone();
        async move { face.hook("any", &format!("msg_{n}"), &body).await }
    };
    let answers: Vec<Result<(u16, Value)>> =
        stream::iter(0..MANY).map(send).buffer_unordered(MANY).collect().await;
    let (mut ids, mut refused) = (BTreeSet::new(), 0);
    for answer in answers {
        match answer? {
            (202, task) => drop(ids.insert(id_of(&task)?)),
            (429 | 503, _) => refused += 1,
            (status, answer) => anyhow::bail!("a webhook was answered {status} {answer}"),
        }
    }
    println!("{} of {MANY} webhooks on one site were accepted, {refused} refused", ids.len());
    ensure!(ids.len() + refused == MANY && ids.len() > MANY / 2, "some have no task of their own");
    // The one at work waits for nobody, though perhaps for its next attempt; while a thousand are looked at, it may become another.
    let mut waiting = 0;
    for id in &ids {
        let task = face.task(id).await?;
        if let Some(holder) = task["blocked_on"]["holder"].as_str() {
            ensure!(ids.contains(holder), "waits for whom? {task}");
            waiting += 1;
        }
    }
    let at_work = ids.len() - waiting;
    ensure!((1..=MOST_AT_WORK).contains(&at_work), "{waiting} of {} tasks wait", ids.len());
    for n in [0, MANY / 2, MANY - 1] {
        let (status, answer) = send(n).await?;
        let id = if status == 202 { id_of(&answer)? } else { id_of(&answer["task"])? };
        ensure!(ids.contains(&id), "the same delivery made another task: {status} {answer}");
    }
    Ok(ids)
}

/// Tasks on sites of their own, all open at the same time.
async fn many_sites(face: &Face) -> Result<BTreeSet<String>> {
    let submit =
        |n: usize| async move { face.post("/v1/tasks", &install(&format!("s{n}.example.test"))).await };
    let answers: Vec<_> = stream::iter(0..SITES).map(submit).buffer_unordered(AT_ONCE).collect().await;
    let mut ids = BTreeSet::new();
    for answer in answers {
        let (status, task) = answer?;
        ensure!(status == 202, "{status} {task}");
        ids.insert(id_of(&task)?);
    }
    ensure!(ids.len() == SITES, "{} tasks of {SITES}", ids.len());
    Ok(ids)
}

async fn all_tasks(face: &Face) -> Result<BTreeSet<String>> {
    let (mut known, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let (status, page) = face.get(&format!("/v1/tasks?limit=200{cursor}")).await?;
        ensure!(status == 200, "{status} {page}");
        for task in page["tasks"].as_array().context("no tasks")? {
            known.insert(id_of(task)?);
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(known),
        }
    }
}

/// Clients that never end what they began.
struct Badly {
    port: u16,
    connections: Vec<TcpStream>,
    endless: Vec<tokio::task::JoinHandle<u64>>,
}

impl Badly {
    async fn behaved(port: u16) -> Result<Self> {
        let mut connections = Vec::new();
        // Half open: nothing, half a head, a head without its body, a body that stands still.
        let post = "POST /v1/hooks/any HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let starts = [
            String::new(),
            "POST /v1/ho".to_owned(),
            post.to_owned(),
            format!("{post}content-length: 1000000\r\n\r\n{{\"a\":\""),
        ];
        for n in 0..400 {
            let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
            connection.write_all(starts[n % starts.len()].as_bytes()).await?;
            connections.push(connection);
        }
        let endless = (0..20).map(|_| tokio::spawn(endless(port))).collect();
        Ok(Self { port, connections, endless })
    }

    /// Whoever behaves is served beside them, and their bodies come to an end by the server.
    async fn hold(self) -> Result<()> {
        let mut sent = 0;
        for body in self.endless {
            sent += tokio::time::timeout(LIMIT, body).await.context("an endless body is read for ever")??;
        }
        println!(
            "20 endless bodies ended after {} KiB in all; {} half-open connections",
            sent / 1024,
            self.connections.len()
        );
        let mut ask = TcpStream::connect(("127.0.0.1", self.port)).await?;
        ask.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        tokio::time::timeout(LIMIT, ask.read_to_string(&mut answer))
            .await
            .context("no answer beside them")??;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // Half open, they are given up by the server, not kept for ever.
        for mut connection in self.connections {
            let mut rest = Vec::new();
            let end = tokio::time::timeout(LIMIT, connection.read_to_end(&mut rest)).await;
            ensure!(end.is_ok(), "a half-open connection is kept");
        }
        Ok(())
    }
}

/// A chunked body without an end, as fast as it is taken; how much was.
async fn endless(port: u16) -> u64 {
    let Ok(mut connection) = TcpStream::connect(("127.0.0.1", port)).await else { return 0 };
    let head = "POST /v1/hooks/any HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    if connection.write_all(head.as_bytes()).await.is_ok() {
        while connection.write_all(chunk.as_bytes()).await.is_ok() {
            sent += 0x10000;
        }
    }
    sent
}
