//! Small files: read with everything that makes them what they are, replaced only if they are what was expected, put back exactly.

use std::collections::BTreeMap;

use kedge_workflows::ports::{Access, PortError, PortResult, SavedFile};
use sha2::{Digest, Sha256};

use super::tree::owner;
use super::walk::{Entry, FIELDS, FORMAT};
use super::{CUT_SHORT, HostFiles, NOT_EXPECTED, paths};

/// Most bytes of a file that is read.
const MAX_BYTES: usize = 256 * 1024;
/// How often a file is read that changes meanwhile.
const READS: usize = 5;

/// What takes the place of a file.
struct New<'a> {
    make: &'static str,
    bytes: &'a [u8],
    mode: String,
    user: String,
    group: String,
    time: String,
}

impl HostFiles {
    pub(super) async fn content_of(&self, path: &str) -> PortResult<Option<SavedFile>> {
        let what = self.what("reading", paths::absolute(path)?);
        for _ in 0..READS {
            let finished =
                self.finish(&what, self.script(include_str!("scripts/read.sh"), &[path, FORMAT])).await?;
            let vanished =
                finished.status != 0 && finished.last_error().ends_with("No such file or directory");
            if vanished {
                continue;
            }
            let output = finished.success(&what)?;
            if output.is_empty() {
                return Ok(None);
            }
            if let Some(saved) =
                saved(path, &output).map_err(|why| PortError::Refused(format!("{what}: {why}")))?
            {
                return Ok(Some(saved));
            }
        }
        Err(PortError::Unavailable(format!("{what}: it changes all the time")))
    }

    pub(super) async fn put_content(
        &self,
        path: &str,
        bytes: &[u8],
        access: &Access,
        expected: Option<&str>,
    ) -> PortResult<()> {
        let (user, group) = owner(access)?;
        let new = New {
            make: "file",
            bytes,
            mode: format!("0{:o}", access.mode),
            user: user.to_owned(),
            group: group.to_owned(),
            time: String::new(),
        };
        self.replace(path, &new, &[expected.unwrap_or("absent").to_owned()]).await
    }

    pub(super) async fn put_back(
        &self,
        path: &str,
        saved: Option<&SavedFile>,
        ours: &[String],
    ) -> PortResult<()> {
        let mut known = ours.to_vec();
        known.push("absent".to_owned());
        let new = match saved {
            Some(saved) => New {
                make: if saved.symlink.is_some() { "link" } else { "file" },
                bytes: &saved.bytes,
                mode: format!("0{:o}", saved.mode),
                user: saved.uid.to_string(),
                group: saved.gid.to_string(),
                time: seconds(saved.mtime_ns),
            },
            None => New {
                make: "nothing",
                bytes: b"",
                mode: String::new(),
                user: String::new(),
                group: String::new(),
                time: String::new(),
            },
        };
        self.replace(path, &new, &known).await
    }

    async fn replace(&self, path: &str, new: &New<'_>, known: &[String]) -> PortResult<()> {
        let (above, name) = paths::split(path)?;
        let what = self.what("writing", path);
        let hash = hex::encode(Sha256::digest(new.bytes));
        // A name of its own for every path: a leftover of a crash is found and removed by the next call, and it is never too long.
        let temporary = temporary(name);
        let New { make, mode, user, group, time, .. } = new;
        let mut arguments = vec![above, name, &temporary, make, mode, user, group, time, &hash];
        arguments.extend(known.iter().map(String::as_str));
        if *make != "nothing" {
            arguments.push(&hash);
        }
        let command = self.script(include_str!("scripts/replace.sh"), &arguments).input(new.bytes);
        let finished = self.finish(&what, command).await?;
        if finished.status == NOT_EXPECTED {
            return Err(PortError::NotOurs(format!("{what}: it is not what it was; nothing was changed")));
        }
        if finished.status == CUT_SHORT {
            return Err(PortError::Unavailable(format!(
                "{what}: what was to be written came cut short; nothing was changed"
            )));
        }
        finished.success(&what).map(drop)
    }
}

/// What a file of this name is called, beside its place, until it is whole.
pub(crate) fn temporary(name: &str) -> String {
    format!(".kedge-{}.new", &hex::encode(Sha256::digest(name))[..16])
}

/// Takes the answer of `read.sh` apart. `None` when the file changed while it was read.
fn saved(path: &str, output: &[u8]) -> Result<Option<SavedFile>, String> {
    let length = memchr::memchr_iter(0, output).nth(FIELDS - 1).ok_or("a cut answer")? + 1;
    let (record, rest) = output.split_at(length);
    let entry = Entry::parse(record)?;
    if !matches!(entry.kind, b'f' | b'l') {
        return Err("it is not a file".to_owned());
    }
    if entry.kind == b'f' && entry.size > MAX_BYTES as u64 {
        return Err(format!("it is larger than {} KiB", MAX_BYTES / 1024));
    }
    let bytes = match rest.strip_suffix(record) {
        Some(bytes) if entry.kind == b'l' || bytes.len() as u64 == entry.size => bytes,
        _ => return Ok(None),
    };
    let symlink = match entry.kind {
        b'l' => Some(
            String::from_utf8(entry.target.clone()).map_err(|_| "it is a link whose target is no UTF-8")?,
        ),
        _ => None,
    };
    // A link's bytes are where it points to, so that a changed link has another hash.
    let bytes = if symlink.is_some() { entry.target.clone() } else { bytes.to_vec() };
    Ok(Some(SavedFile {
        path: path.to_owned(),
        sha256: hex::encode(Sha256::digest(&bytes)),
        bytes,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime_ns: entry.mtime_ns,
        symlink,
        elsewhere: BTreeMap::new(),
    }))
}

/// A time as `touch` and `stat` have it: seconds with nine digits behind the point.
fn seconds(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}
