//! Runs programs of this machine (apt-get, mmdebstrap, ssh-keygen), bounded in time. Never through a shell.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Error, Result, tail};

/// Runs a program to its end and gives its standard output.
///
/// `doing` names it in errors. Fails when it cannot be started, exits with another code than 0, or exceeds `limit`
/// (then it is killed).
pub(crate) async fn run(
    doing: &str,
    command: &mut Command,
    stdin: &[u8],
    limit: Duration,
) -> Result<Vec<u8>> {
    let fail = |detail: String| Error::Program { doing: doing.to_owned(), detail };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| fail(error.to_string()))?;
    let pipe = child.stdin.take();
    let work = async {
        let feed = async {
            if let Some(mut pipe) = pipe {
                // A program that ends without reading its input is judged by its exit code.
                let _ = pipe.write_all(stdin).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output
    };
    let output = tokio::time::timeout(limit, work)
        .await
        .map_err(|_| fail(format!("it did not end within {} s", limit.as_secs())))?
        .map_err(|error| fail(error.to_string()))?;
    if !output.status.success() {
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        return Err(fail(format!("{}\n{}", output.status, tail(said))));
    }
    Ok(output.stdout)
}

/// Tells whether a program can be found in `PATH` or where the system keeps its administrator's tools.
pub(crate) fn exists(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/bin".into()])
        .any(|dir| dir.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_errors_and_limits() {
        let limit = Duration::from_secs(10);
        assert_eq!(run("cat", &mut Command::new("cat"), b"hello", limit).await.unwrap(), b"hello");
        let error =
            run("ls", Command::new("ls").arg("/nowhere/at/all"), b"", limit).await.unwrap_err().to_string();
        assert!(error.starts_with("ls failed: exit status") && error.contains("/nowhere/at/all"), "{error}");
        let short = Duration::from_millis(50);
        let error = run("a nap", Command::new("sleep").arg("60"), b"", short).await.unwrap_err().to_string();
        assert!(error.contains("did not end within"), "{error}");
        assert!(exists("sh") && !exists("no-such-program-at-all"));
    }
}
