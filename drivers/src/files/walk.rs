//! One pass of `find` over a tree, as entries. Names are bytes: nothing that a file system allows confuses it.

use bytes::Bytes;
use futures::StreamExt;
use kedge_workflows::ports::{PortError, PortResult};

use super::HostFiles;

/// What `find` prints of each entry: fields ended by NUL.
pub(super) const FORMAT: &str = "%y\\0%m\\0%U\\0%G\\0%s\\0%T@\\0%i\\0%D\\0%n\\0%b\\0%l\\0%P\\0";
/// Fields in the format.
pub(super) const FIELDS: usize = 12;
/// A start that is not there is an answer. What vanishes while find reads is not worth a complaint: before 4.11 find complains of
/// directories all the same, and goes on. Of what it says, the end is kept.
const FIND: &str = r#"[ -e "$1" ] || [ -L "$1" ] || exit 0
exec 3>&1
said=$( { LC_ALL=C find "$@" 2>&1 >&3 3>&-; echo "status $?"; } | tail -c 8192)
status=${said##*status }
[ "$status" = 0 ] && exit 0
said=${said%status *}
[ "$status" = 1 ] && ! printf %s "$said" | grep -qv ': No such file or directory$' && exit 0
printf %s "$said" >&2
exit "$status"
"#;
/// Most bytes of an entry: a path and a link's target of 4 KiB each, and numbers.
const MAX_ENTRY: usize = 16 * 1024;

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path below the start; empty for the start itself.
    pub(super) path: Vec<u8>,
    /// `f` file, `d` directory, `l` link; `p`, `s`, `b`, `c` for the others.
    pub(super) kind: u8,
    /// Permission bits.
    pub(super) mode: u32,
    /// Numeric owner.
    pub(super) uid: u32,
    /// Numeric group.
    pub(super) gid: u32,
    /// Bytes.
    pub(super) size: u64,
    /// Modification time: nanoseconds since 1970.
    pub(super) mtime_ns: i64,
    /// Inode number.
    pub(super) inode: u64,
    /// Device number.
    pub(super) device: u64,
    /// Names of this inode.
    pub(super) names: u64,
    /// Allocated blocks of 512 bytes.
    pub(super) blocks: u64,
    /// Target of a link.
    pub(super) target: Vec<u8>,
}

impl HostFiles {
    /// Hands every entry of a tree to `each`, the start itself included. No entry at all: there is nothing at this path. `tests`
    /// are arguments of `find`.
    pub(super) async fn walk(
        &self,
        path: &str,
        tests: &[&str],
        mut each: impl FnMut(Entry) -> PortResult<()> + Send,
    ) -> PortResult<()> {
        let what = self.what("looking at", path);
        let mut arguments = vec![path, "-ignore_readdir_race"];
        arguments.extend(tests);
        arguments.extend(["-printf", FORMAT]);
        let mut output = self.host.stream(self.script(FIND, &arguments)).await?;
        let mut reader = Entries::default();
        while let Some(bytes) = output.next().await {
            reader.push(&bytes?, |entry| {
                each(entry.map_err(|why| PortError::Refused(format!("{what}: {why}")))?)
            })?;
        }
        if reader.held.is_empty() {
            Ok(())
        } else {
            Err(PortError::Lost(format!("{what}: the output was cut off")))
        }
    }
}

/// Puts entries together from pieces of output.
#[derive(Default)]
struct Entries {
    held: Vec<u8>,
    /// How far `held` was searched, and how many fields were found there.
    searched: usize,
    found: usize,
}

impl Entries {
    fn push(
        &mut self,
        bytes: &Bytes,
        mut each: impl FnMut(Result<Entry, &'static str>) -> PortResult<()>,
    ) -> PortResult<()> {
        self.held.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(at) = memchr::memchr(0, &self.held[self.searched..]) {
            self.searched += at + 1;
            self.found += 1;
            if self.found == FIELDS {
                each(Entry::parse(&self.held[start..self.searched]))?;
                (start, self.found) = (self.searched, 0);
            }
        }
        self.held.drain(..start);
        self.searched = self.held.len();
        if self.held.len() > MAX_ENTRY { each(Err("an entry is too long")) } else { Ok(()) }
    }
}

impl Entry {
    /// Reads the fields of one entry, each ended by NUL.
    pub(super) fn parse(record: &[u8]) -> Result<Self, &'static str> {
        let fields: Vec<&[u8]> =
            record.strip_suffix(b"\0").ok_or("a cut entry")?.split(|byte| *byte == 0).collect();
        let fields: [&[u8]; FIELDS] = fields.try_into().map_err(|_| "a strange entry")?;
        let [kind, mode, uid, gid, size, mtime, inode, device, names, blocks, target, path] = fields;
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
        let small = |field: &[u8]| number(field).and_then(|number| u32::try_from(number).ok());
        let octal = |field: &[u8]| u32::from_str_radix(std::str::from_utf8(field).ok()?, 8).ok();
        let entry = || {
            Some(Self {
                path: path.to_vec(),
                kind: *kind.first()?,
                mode: octal(mode)?,
                uid: small(uid)?,
                gid: small(gid)?,
                size: number(size)?,
                mtime_ns: nanoseconds(std::str::from_utf8(mtime).ok()?)?,
                inode: number(inode)?,
                device: number(device)?,
                names: number(names)?,
                blocks: number(blocks)?,
                target: target.to_vec(),
            })
        };
        entry().ok_or("a strange entry")
    }
}

/// Reads seconds with a fraction. `find` prints ten digits of it, the last one always 0; times before 1970 as a negative number
/// of seconds with the fraction added away from zero.
fn nanoseconds(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, seconds) = seconds.strip_prefix('-').map_or((false, seconds), |seconds| (true, seconds));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let all = seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)?;
    Some(if negative { -all } else { all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_pieces_of_any_size() {
        let record =
            b"f\x00644\x0033\x000\x0012\x001700000000.1234567890\x0042\x007\x001\x008\x00\x00a\nb\xff\x00";
        let link = b"l\x00777\x000\x000\x003\x001.0000000000\x0043\x007\x001\x000\x00../x\x00l\x00";
        let text = [record.as_slice(), link].concat();
        for size in 1..=text.len() {
            let (mut entries, mut reader) = (Vec::new(), Entries::default());
            for piece in text.chunks(size) {
                let each = |entry: Result<Entry, _>| {
                    entries.push(entry.unwrap());
                    Ok(())
                };
                reader.push(&Bytes::copy_from_slice(piece), each).unwrap();
            }
            assert!(reader.held.is_empty() && entries.len() == 2);
            assert_eq!(
                (entries[0].path.as_slice(), entries[0].mode, entries[0].uid),
                (b"a\nb\xff".as_slice(), 0o644, 33)
            );
            assert_eq!(entries[0].mtime_ns, 1_700_000_000_123_456_789);
            assert_eq!((entries[1].kind, entries[1].target.as_slice()), (b'l', b"../x".as_slice()));
        }
    }

    #[test]
    fn what_find_never_prints_is_an_error() {
        assert!(Entry::parse(b"f\x00644\x00").is_err());
        let mut reader = Entries::default();
        let mut errors = 0;
        let each = |entry: Result<Entry, _>| {
            errors += u32::from(entry.is_err());
            Ok(())
        };
        reader.push(&Bytes::from(vec![b'x'; MAX_ENTRY + 1]), each).unwrap();
        assert_eq!(errors, 1);
    }
}
