//! Reads secret files, and refuses those that everybody can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Largest secret file: a key is short, and a wrong path may name anything.
const MAX_SECRET: u64 = 16 * 1024;

/// The secret in a file, without white space around it.
///
/// # Errors
/// In words, without the secret.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let data = std::fs::metadata(path)
        .map_err(|error| format!("the secret file {shown} cannot be read: {error}"))?;
    if data.permissions().mode() & 0o007 != 0 {
        return Err(format!("the secret file {shown} is open to everybody; chmod 600 {shown}"));
    }
    if data.len() > MAX_SECRET {
        return Err(format!("the secret file {shown} is larger than {MAX_SECRET} bytes"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the secret file {shown} cannot be read: {error}"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the secret file {shown} is empty"));
    }
    Ok(text.to_owned())
}

/// Largest file of certificates: a bundle of a company's authorities.
const MAX_PUBLIC: u64 = 1024 * 1024;

/// The text of a file that anybody may read: a certificate.
///
/// # Errors
/// In words.
pub(crate) fn read_public(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("the file {shown} cannot be read: {error}");
    if std::fs::metadata(path).map_err(cannot)?.len() > MAX_PUBLIC {
        return Err(format!("the file {shown} is larger than {MAX_PUBLIC} bytes"));
    }
    std::fs::read_to_string(path).map_err(cannot)
}
