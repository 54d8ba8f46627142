//! Small tar archives in memory, for fakes and contract suites: plain ustar with names of at most 100 bytes. The driver has its
//! own, complete reader.

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarMember {
    /// Path in the archive.
    pub path: String,
    /// Type flag: `0` file, `1` hard link, `2` symbolic link, `5` directory.
    pub flag: u8,
    /// Target of a link.
    pub link: String,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in seconds.
    pub mtime: u64,
    /// Nanoseconds of it: where ustar has the numbers of a device, so only our own reader sees them.
    pub mtime_ns: u32,
    /// Contents of a file.
    pub bytes: Vec<u8>,
}

impl TarMember {
    /// A file, 0644, root.
    #[must_use]
    pub fn file(path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), ..Self::new(path, b'0', 0o644, "") }
    }

    /// A directory, 0755, root.
    #[must_use]
    pub fn dir(path: &str) -> Self {
        Self::new(path, b'5', 0o755, "")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::new(path, b'2', 0o777, target)
    }

    /// A hard link to an earlier member.
    #[must_use]
    pub fn hard_link(path: &str, target: &str) -> Self {
        Self::new(path, b'1', 0o644, target)
    }

    /// The same with mode and owner.
    #[must_use]
    pub fn owned(mut self, mode: u32, uid: u32, gid: u32) -> Self {
        (self.mode, self.uid, self.gid) = (mode, uid, gid);
        self
    }

    fn new(path: &str, flag: u8, mode: u32, link: &str) -> Self {
        let (path, link) = (path.to_owned(), link.to_owned());
        Self { path, flag, link, mode, uid: 0, gid: 0, mtime: 1_600_000_000, mtime_ns: 0, bytes: Vec::new() }
    }
}

/// An archive of these members, with its end marker.
#[must_use]
pub fn tar_archive(members: &[TarMember]) -> Vec<u8> {
    let mut archive = Vec::new();
    for member in members {
        archive.extend_from_slice(&header(member));
        archive.extend_from_slice(&member.bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// The members of an archive that [`tar_archive`] made; `None` for anything else or a cut one.
#[must_use]
pub fn tar_members(mut archive: &[u8]) -> Option<Vec<TarMember>> {
    let mut members = Vec::new();
    loop {
        let header = archive.get(..512)?;
        archive = &archive[512..];
        if header.iter().all(|byte| *byte == 0) {
            return Some(members);
        }
        let text = |range: std::ops::Range<usize>| {
            let field = header[range].split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8(field.to_vec()).ok()
        };
        let number = |range| u64::from_str_radix(text(range)?.trim(), 8).ok();
        let size = usize::try_from(number(124..136)?).ok()?;
        members.push(TarMember {
            path: text(0..100)?,
            flag: header[156],
            link: text(157..257)?,
            mode: u32::try_from(number(100..108)?).ok()?,
            uid: u32::try_from(number(108..116)?).ok()?,
            gid: u32::try_from(number(116..124)?).ok()?,
            mtime: number(136..148)?,
            mtime_ns: number(329..341).and_then(|ns| u32::try_from(ns).ok()).unwrap_or(0),
            bytes: archive.get(..size)?.to_vec(),
        });
        archive = archive.get(size.next_multiple_of(512)..)?;
    }
}

fn header(member: &TarMember) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    assert!(
        member.path.len() <= 100 && member.link.len() <= 100,
        "a name of more than 100 bytes: {}",
        member.path
    );
    put(0, member.path.as_bytes());
    put(100, format!("{:07o}\0", member.mode).as_bytes());
    put(108, format!("{:07o}\0", member.uid).as_bytes());
    put(116, format!("{:07o}\0", member.gid).as_bytes());
    put(124, format!("{:011o}\0", member.bytes.len()).as_bytes());
    put(136, format!("{:011o}\0", member.mtime).as_bytes());
    put(148, b"        ");
    put(156, &[member.flag]);
    put(157, member.link.as_bytes());
    put(257, b"ustar\x0000");
    if member.mtime_ns > 0 {
        put(329, format!("{:011o}\0", member.mtime_ns).as_bytes());
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back() {
        let members = [
            TarMember::dir("./").owned(0o2775, 33, 33),
            TarMember::file("./a", "x".repeat(513)),
            TarMember::symlink("./s", "../a"),
            TarMember::hard_link("./h", "./a"),
        ];
        let archive = tar_archive(&members);
        assert_eq!(tar_members(&archive).as_deref(), Some(members.as_slice()));
        assert_eq!(tar_members(&archive[..archive.len() - 1024]), None);
    }
}
