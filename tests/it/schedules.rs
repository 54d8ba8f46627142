//! Schedules of the running binary: one that a reload brings is taken up and becomes a task, a broken file changes nothing. Needs the
//! binary, and no Docker; its only host is one that nobody reaches.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::face::Face;
use support::kedge::Kedge;
use support::wait_until;

/// Longest wait for a slot: the shortest schedule has one a minute.
const LIMIT: Duration = Duration::from_secs(150);
const UNREACHABLE: &str = "transport = \"ssh\"\naddress = \"deploy@127.0.0.1:1\"";

async fn begun(face: &Face, schedule: &str) -> Result<bool> {
    let (status, page) = face.get("/v1/tasks?workflow=install&limit=10").await?;
    ensure!(status == 200, "{status} {page}");
    let tasks = page["tasks"].as_array().context("no tasks")?;
    Ok(tasks.iter().any(|task| task["actor"]["name"] == format!("schedule:{schedule}").as_str()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_schedules_and_a_broken_file_none() -> Result<()> {
    if std::env::var_os("KEDGE_BIN").is_none() {
        println!("skipped: needs the binary by KEDGE_BIN; scripts/test runs it");
        return Ok(());
    }
    let receiver = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let mut kedge = Kedge::reaching(UNREACHABLE, receiver.local_addr()?.port())?;
    let plain = std::fs::read_to_string(kedge.config())?;
    kedge.start().await?;
    let face = kedge.face()?;
    kedge.configure(
        "[[schedules]]\nname = \"first\"\nworkflow = \"install\"\nevery = \"1m\"\n\
         params = { site = \"new.example.test\", platform = \"wordpress-61\", database_server = \"db1\" }",
    )?;
    kedge.reload()?;
    wait_until("a task of the schedule", LIMIT, || async { begun(&face, "first").await.unwrap_or(false) })
        .await
        .with_context(|| kedge.log_end(20))?;
    std::fs::write(kedge.config(), format!("{plain}\n[[schedules]]\nname = \"broken\"\n"))?;
    kedge.reload()?;
    wait_until("the refusal", LIMIT, || async { kedge.log_end(50).contains("not reloaded") }).await?;
    kedge.stop().await
}
