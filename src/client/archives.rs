//! `kedge backups get`: brings an archive here, whole or not at all, and checks what came.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Api, Out, records};
use crate::cli::{BackupsArgs, BackupsCommand};

/// `kedge backups`.
pub(crate) async fn backups(api: &Api, out: Out, args: &BackupsArgs) -> Result<ExitCode> {
    match &args.command {
        None => records(api, out, "backups", &["name", "site", "bytes", "description"]).await,
        Some(BackupsCommand::Get { name, to }) => {
            let to = to.clone().unwrap_or_else(|| PathBuf::from(name));
            ensure!(
                !to.exists(),
                "{} is there already; take it away, or name another file with --to",
                to.display()
            );
            let bytes = get(api, name, &to).await?;
            out.value(&json!({ "name": name, "file": to, "bytes": bytes }), |_, _| {
                vec![format!("{}: {bytes} bytes, as they were made", to.display())]
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn get(api: &Api, name: &str, to: &Path) -> Result<u64> {
    let mut response = api.download(&format!("/v1/backups/{name}/archive")).await?;
    let announced = response.content_length();
    let digest =
        response.headers().get("repr-digest").and_then(|digest| digest.to_str().ok()).map(str::to_owned);
    // Beside the file, and gone with this handle unless it is whole: what has the name is an archive. Nobody else may read it.
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(dir).with_context(|| format!("a file in {}", dir.display()))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while let Some(piece) = response.chunk().await.context("the archive broke off; nothing was kept")? {
        hash.update(&piece);
        bytes += piece.len() as u64;
        file.write_all(&piece).with_context(|| format!("writing to {}", dir.display()))?;
    }
    if let Some(announced) = announced.filter(|announced| *announced != bytes) {
        bail!("the archive broke off after {bytes} of {announced} bytes; nothing was kept");
    }
    let is = format!("sha-256=:{}:", STANDARD.encode(hash.finalize()));
    if let Some(digest) = digest.filter(|digest| *digest != is) {
        bail!("what came is not what was made: {is} instead of {digest}; nothing was kept");
    }
    file.as_file().sync_all().context("writing it down")?;
    file.persist_noclobber(to).with_context(|| format!("giving it the name {}", to.display()))?;
    Ok(bytes)
}
