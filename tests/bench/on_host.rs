//! Kedge on the test host itself, as whoever does it by hand is: no network and no container's exec between it and its commands. Ends with
//! its host.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::{Exec, Host};
use support::face::Face;
use support::kedge::{Kedge, binary};

/// Where it lives there.
const HOME: &str = "/var/lib/kedge";
/// Its port there.
const PORT: u16 = 7480;
/// Longest that copying the binary may take, and the start.
const LIMIT: Duration = Duration::from_secs(60);

/// Installs the binary with the configuration that test installations have, starts it, and waits until it is ready.
pub(crate) async fn start(host: &Host) -> Result<Face> {
    let here = Kedge::reaching("transport = \"local\"", 0)?;
    let [_, hook, token] = here.secrets();
    let config = std::fs::read_to_string(here.config())?;
    // Without the receiver of callbacks, which listens on the machine around the host.
    let (config, _) = config.split_once("[[endpoints]]").context("a configuration without an endpoint")?;
    let config = config
        .replace(&here.dir().display().to_string(), HOME)
        .replace(&format!("127.0.0.1:{}", here.port()), &format!("0.0.0.0:{PORT}"));
    let put = format!("mkdir -p {HOME}; umask 077; cat >{HOME}/");
    for (name, bytes) in [
        ("kedge.toml", config.into_bytes()),
        ("hook", hook.as_bytes().to_vec()),
        ("token", token.as_bytes().to_vec()),
        ("kedge", std::fs::read(binary()?)?),
    ] {
        host.run_ok(Exec::new(["sh", "-c", &format!("{put}{name}")]).stdin(bytes).limit(LIMIT)).await?;
    }
    let serve = format!(
        "cd {HOME}; chmod 700 kedge; setsid ./kedge serve --log json --config kedge.toml </dev/null >log 2>&1 &"
    );
    host.exec_ok(["sh", "-c", &serve]).await?;
    let ready = format!("http://127.0.0.1:{PORT}/readyz");
    let waited = support::wait_until("a ready kedge", LIMIT, || async {
        let asked = Exec::new(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", &ready]);
        host.run(asked).await.is_ok_and(|answer| answer.text() == "200")
    });
    let log = || async { host.exec_ok(["tail", "-n", "30", &format!("{HOME}/log")]).await };
    if let Err(error) = waited.await {
        return Err(error.context(log().await?));
    }
    let address = host.exec_ok(["hostname", "-I"]).await?;
    let address = address.split_whitespace().next().unwrap_or_default().to_owned();
    ensure!(!address.is_empty(), "the test host has no address");
    Face::new(&format!("http://{address}:{PORT}"), token, hook)
}
