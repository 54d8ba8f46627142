//! Fingerprints of trees: what a look at every inode tells, and contents where they are asked for.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};
use kedge_workflows::ports::{Fingerprint, PortError, PortResult};

use super::walk::Entry;
use super::{HostFiles, paths};

/// Hashes of files, by path.
type Hashes = HashMap<Vec<u8>, String>;

impl HostFiles {
    pub(super) async fn fingerprint_of(
        &self,
        dir: &str,
        full: bool,
        hashed: &[String],
    ) -> PortResult<Fingerprint> {
        paths::absolute(dir)?;
        for path in hashed {
            paths::relative(path)?;
        }
        let always: HashSet<&[u8]> = hashed.iter().map(String::as_bytes).collect();
        let holders: HashSet<&[u8]> = hashed
            .iter()
            .map(|path| path.rsplit_once('/').map_or("", |(above, _)| above).as_bytes())
            .collect();
        let mut entries = Vec::new();
        self.walk(dir, &[], |entry| {
            entries.push(entry);
            Ok(())
        })
        .await?;
        let by_content = |entry: &Entry| full || always.contains(entry.path.as_slice());
        let files = entries.iter().filter(|entry| entry.kind == b'f' && by_content(entry));
        let files: Vec<Vec<u8>> = files.map(|entry| entry.path.clone()).collect();
        let hashes = if files.is_empty() { Hashes::new() } else { self.hashes(dir, files).await? };
        let mut shown_entries = Vec::with_capacity(entries.len());
        for entry in entries {
            let hash = hashes.get(&entry.path);
            if entry.kind == b'f' && by_content(&entry) && hash.is_none() {
                let path = shown(&entry.path);
                return Err(PortError::Unavailable(format!("{dir}/{path} changed while it was looked at")));
            }
            let holds_hashed = holders.contains(entry.path.as_slice());
            let key = if entry.path.is_empty() { ".".to_owned() } else { shown(&entry.path) };
            shown_entries.push((key, seen(&entry, hash, by_content(&entry), holds_hashed)));
        }
        Ok(Fingerprint::of(shown_entries))
    }

    /// Hashes files below a directory; one that vanishes meanwhile has none.
    async fn hashes(&self, dir: &str, files: Vec<Vec<u8>>) -> PortResult<Hashes> {
        let script =
            "cd -P -- \"$1\" || exit 4; xargs -0 -r sha256sum -z --; s=$?; [ $s -ne 123 ] || s=0; exit $s";
        let names = files.into_iter().map(|path| Ok([b"./", path.as_slice(), b"\0"].concat().into()));
        let command = self.script(script, &[dir]).input_stream(Box::pin(stream::iter(names)));
        let mut output = self.host.stream(command).await?;
        let (mut hashes, mut held) = (Hashes::new(), Vec::new());
        while let Some(bytes) = output.next().await {
            held.extend_from_slice(&bytes?);
            let mut start = 0;
            for end in memchr::memchr_iter(0, &held) {
                // 64 digits, two characters between, the name as it was given.
                let line = &held[start..end];
                if let (Some(hash), Some(path)) = (line.get(..64), line.get(68..)) {
                    hashes.insert(path.to_vec(), String::from_utf8_lossy(hash).into_owned());
                }
                start = end + 1;
            }
            held.drain(..start);
        }
        Ok(hashes)
    }
}

/// What a fingerprint says of an entry. Sizes of directories depend on their history, and the time of a directory moves on when a
/// file in it is replaced and put back: both say nothing.
fn seen(entry: &Entry, hash: Option<&String>, by_content: bool, holds_hashed: bool) -> String {
    let Entry { mode, uid, gid, size, inode, .. } = entry;
    let time = if entry.kind == b'd' && holds_hashed {
        String::new()
    } else {
        let (seconds, ns) =
            (entry.mtime_ns.div_euclid(1_000_000_000), entry.mtime_ns.rem_euclid(1_000_000_000));
        format!(" mtime {seconds}.{ns:09}")
    };
    let inode = if by_content { String::new() } else { format!(" inode {inode}") };
    match (entry.kind, hash) {
        (b'f', Some(hash)) => format!("file {mode:04o} {uid}:{gid} {size} bytes{time} sha256 {hash}"),
        (b'f', None) => format!("file {mode:04o} {uid}:{gid} {size} bytes{time}{inode}"),
        (b'd', _) => format!("dir {mode:04o} {uid}:{gid}{time}{inode}"),
        (b'l', _) => format!("link {uid}:{gid}{time}{inode} -> {}", shown(&entry.target)),
        (kind, _) => format!("other {} {mode:04o} {uid}:{gid}{time}{inode}", char::from(kind)),
    }
}

/// A name as text: what is no UTF-8 as `\xNN`, and the backslash too, so that no two names look the same.
pub(super) fn shown(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' { text.push_str("\\x5C") } else { text.push(c) }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_look_the_same() {
        assert_eq!(shown("ä b\n".as_bytes()), "ä b\n");
        assert_eq!(shown(b"a\xffb"), "a\\xFFb");
        assert_eq!(shown(b"a\\xFFb"), "a\\x5CxFFb");
    }
}
