//! Small tar archives by hand, also such as no honest tool would make.

/// A member: path, type flag (`0` file, `1` hard link, `2` symbolic link, `3` device, `5` directory, `6` FIFO), target of a link, contents.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Path in the archive.
    pub path: &'a str,
    /// Type flag.
    pub flag: u8,
    /// Where a link leads.
    pub link: &'a str,
    /// Contents.
    pub bytes: &'a [u8],
}

impl<'a> Member<'a> {
    /// A file.
    #[must_use]
    pub fn file(path: &'a str, bytes: &'a [u8]) -> Self {
        Self { path, flag: b'0', link: "", bytes }
    }

    /// Anything that has no contents.
    #[must_use]
    pub fn other(path: &'a str, flag: u8, link: &'a str) -> Self {
        Self { path, flag, link, bytes: b"" }
    }
}

/// An archive of these members, owned by root.
///
/// # Panics
/// When a path is longer than 100 bytes.
#[must_use]
pub fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for member in members {
        let mut block = [0; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        assert!(member.path.len() <= 100 && member.link.len() <= 100, "too long: {}", member.path);
        put(0, member.path.as_bytes());
        put(100, if member.flag == b'5' { b"0000755\0" } else { b"0000644\0" });
        put(108, b"0000000\x000000000\0");
        put(124, format!("{:011o}\0{:011o}\0", member.bytes.len(), 1_700_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[member.flag]);
        put(157, member.link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(block);
        archive.extend(member.bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
