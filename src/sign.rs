//! `kedge sign` and `kedge verify`: webhook signatures by hand. Secrets come from files, never from arguments.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use kedge_engine::ports::{Clock as _, Random as _};
use kedge_webhooks::signature::{Key, sign_github, sign_standard, verify_github, verify_standard};
use kedge_webhooks::{MAX_BODY, Secret};

use crate::cli::{SignArgs, VerifyArgs};
use crate::runtime::{SystemClock, SystemRandom};

/// `kedge sign`.
pub(crate) fn sign(args: &SignArgs) -> Result<ExitCode> {
    let body = body(&args.body)?;
    let mut out = std::io::stdout().lock();
    if args.github {
        let key = Key::raw(&secret(&args.secret_file)?)?;
        writeln!(out, "X-Hub-Signature-256: {}", sign_github(&key, &body))?;
        return Ok(ExitCode::SUCCESS);
    }
    let key = Key::standard(&secret(&args.secret_file)?)?;
    let id = args.id.clone().unwrap_or_else(|| format!("msg_{}", hex::encode(SystemRandom.id())));
    let timestamp = args.timestamp.unwrap_or_else(now_s);
    writeln!(out, "webhook-id: {id}")?;
    writeln!(out, "webhook-timestamp: {timestamp}")?;
    writeln!(out, "webhook-signature: {}", sign_standard(&[key], &id, timestamp, &body))?;
    Ok(ExitCode::SUCCESS)
}

/// `kedge verify`: exit code 0 when the signature is right, 1 when it is not.
pub(crate) fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let body = body(&args.body)?;
    let secret = secret(&args.secret_file)?;
    let verdict = if args.github {
        verify_github(&[Key::raw(&secret)?], &args.signature, &body)
    } else {
        let now = if args.any_time { args.timestamp } else { now_s() };
        verify_standard(
            &[Key::standard(&secret)?],
            &args.id,
            &args.timestamp.to_string(),
            &args.signature,
            &body,
            now,
        )
    };
    match verdict {
        Ok(()) => {
            writeln!(std::io::stdout(), "the signature is right")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => bail!("the signature is wrong: {refused}"),
    }
}

fn now_s() -> u64 {
    SystemClock.now() / 1000
}

fn secret(file: &Path) -> Result<Secret> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the secret file {} cannot be read", file.display()))?;
    Ok(Secret::new(text.trim()))
}

fn body(name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_BODY as u64 + 1;
    if name == "-" {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .context("standard input cannot be read")?;
    } else {
        let file =
            std::fs::File::open(name).with_context(|| format!("the body file {name} cannot be read"))?;
        file.take(limit).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 >= limit {
        bail!("the body is larger than {MAX_BODY} bytes, the most that a webhook may be");
    }
    Ok(bytes)
}
