//! What the end-to-end tests and the demonstration share: a running `kedge`, signed requests, a receiver of callbacks, a client
//! that polls a site all along, and a comparison of a site from outside. Uses Kedge only by its public face.

pub mod argv;
pub mod disk;
pub mod face;
pub mod kedge;
pub mod outside;
pub mod poller;
pub mod receiver;
pub mod signing;
pub mod tar;

/// Waits until something holds, asking every 50 ms.
///
/// # Errors
/// When it does not hold in time: with what was waited for.
pub async fn wait_until<F>(
    what: &str,
    limit: std::time::Duration,
    mut holds: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = bool>,
{
    let end = tokio::time::Instant::now() + limit;
    while !holds().await {
        anyhow::ensure!(
            tokio::time::Instant::now() < end,
            "{what} did not come within {} s",
            limit.as_secs()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}
