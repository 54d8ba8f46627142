//! `kedge sign` and `kedge verify`: webhook signatures by hand. Secrets come from files, never from arguments.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use kedge_engine::ports::{Clock as _, Random as _};
use kedge_webhooks::{CustomSpec, MAX_BODY, Provider, Scheme, Secret};
use serde_json::json;

use crate::cli::{SchemeArgs, SignArgs, VerifyArgs};
use crate::runtime::{SystemClock, SystemRandom};

/// `kedge sign`.
pub(crate) fn sign(args: &SignArgs, json: bool) -> Result<ExitCode> {
    let body = read_body(&args.body)?;
    let (provider, scheme) = scheme(&args.scheme)?;
    let key = provider.signing_key(&secret(&args.secret_file)?)?;
    let id = args.id.clone().unwrap_or_else(|| format!("msg_{}", hex::encode(SystemRandom.id())));
    let timestamp = args.timestamp.unwrap_or_else(now_s);
    let mut out = std::io::stdout().lock();
    let headers = scheme.sign(&[key], &id, timestamp, &body);
    if json {
        let headers: serde_json::Map<_, _> =
            headers.into_iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
        writeln!(out, "{:#}", json!({ "headers": headers }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in headers {
        writeln!(out, "{name}: {value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `kedge verify`: exit code 0 when the signature is right, 1 when it is not.
pub(crate) fn verify(args: &VerifyArgs, json: bool) -> Result<ExitCode> {
    let body = read_body(&args.body)?;
    let (provider, scheme) = scheme(&args.scheme)?;
    let key = provider.key(&secret(&args.secret_file)?)?;
    let headers = headers(args, provider)?;
    let now = if args.any_time { timestamp(&headers).unwrap_or_else(now_s) } else { now_s() };
    let verified = scheme.verify(&headers, &body, &[key], now);
    if json {
        let reason = verified.as_ref().err().map(ToString::to_string);
        writeln!(std::io::stdout(), "{:#}", json!({ "valid": verified.is_ok(), "reason": reason }))?;
        return Ok(ExitCode::from(u8::from(verified.is_err())));
    }
    match verified {
        Ok(_) => {
            writeln!(std::io::stdout(), "the signature is right")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => bail!("the signature is wrong: {refused}"),
    }
}

fn scheme(args: &SchemeArgs) -> Result<(Provider, Scheme)> {
    let word = if args.github { "github" } else { args.provider.as_str() };
    let provider = Provider::find(word).ok_or_else(|| {
        let words: Vec<&str> = Provider::ALL.iter().map(|provider| provider.as_str()).collect();
        anyhow!("{word:?} is no provider; there are {}", words.join(", "))
    })?;
    let (header, encoding, prefix) = (&args.signature_header, &args.encoding, &args.prefix);
    let custom = (header.is_some() || encoding.is_some() || prefix.is_some()).then(|| CustomSpec {
        header: header.clone(),
        encoding: encoding.clone(),
        prefix: prefix.clone(),
        ..CustomSpec::default()
    });
    let scheme = Scheme::new(provider, custom).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })?;
    Ok((provider, scheme))
}

/// The headers as given one by one, or what `--id`, `--timestamp` and `--signature` stand for.
fn headers(args: &VerifyArgs, provider: Provider) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in &args.header {
        let (name, value) =
            line.split_once(':').with_context(|| format!("{line:?} is no header: Name: value"))?;
        let name =
            HeaderName::try_from(name.trim()).with_context(|| format!("{name:?} is no header's name"))?;
        let value = HeaderValue::try_from(value.trim()).with_context(|| format!("the value of {name}"))?;
        headers.append(name, value);
    }
    let Some(signature) = &args.signature else { return Ok(headers) };
    let mut put = |name: &'static str, value: &str| -> Result<()> {
        headers.append(name, HeaderValue::try_from(value).with_context(|| format!("the value of {name}"))?);
        Ok(())
    };
    match provider {
        Provider::Standard => {
            put("webhook-id", &args.id)?;
            put("webhook-timestamp", &args.timestamp.to_string())?;
            put("webhook-signature", signature)?;
        }
        Provider::Github => put("x-hub-signature-256", signature)?,
        _ => bail!("give the headers of {} with --header 'Name: value'", provider.as_str()),
    }
    Ok(headers)
}

/// The time that a message names, in any of the headers that hold one.
fn timestamp(headers: &HeaderMap) -> Option<u64> {
    let names = ["webhook-timestamp", "x-slack-request-timestamp", "x-signature-timestamp"];
    names.iter().find_map(|name| headers.get(*name)?.to_str().ok()?.parse().ok())
}

fn now_s() -> u64 {
    SystemClock.now() / 1000
}

fn secret(file: &Path) -> Result<Secret> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the secret file {} cannot be read", file.display()))?;
    Ok(Secret::new(text.trim()))
}

/// A body from a file, or from standard input with `-`.
pub(crate) fn read_body(name: &str) -> Result<Vec<u8>> {
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
