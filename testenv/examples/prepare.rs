//! Makes this machine ready for tests with containers: engine, image tools, the image of test hosts. Starts no host.

use std::process::ExitCode;

use kedge_testenv::{Progress, Testenv};

#[tokio::main]
async fn main() -> ExitCode {
    match prepare().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testenv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn prepare() -> anyhow::Result<()> {
    let env = Testenv::open(&Progress::stderr()).await?;
    eprintln!("testenv: ready, with image {}", env.image());
    env.shutdown().await?;
    Ok(())
}
