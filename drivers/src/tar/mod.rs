//! Tar streams as they pass by: reads the headers, checks them strictly, and passes on the members that are wanted. Knows ustar, pax and GNU (long
//! names, sparse files). Never touches a file, never buffers contents. Sources: POSIX pax(1), GNU tar's manual, appendix "Tar Internals".

use thiserror::Error;

/// Size of a block.
pub(crate) const BLOCK: usize = 512;
/// Most bytes of an extension header: paths have 4 KiB at most, extended attributes 64 KiB each.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// Most bytes kept of what comes behind the end of an archive.
const MAX_REMARKS: usize = 32 * 1024;
/// How a line there begins that is for us.
const REMARK: &str = "# kedge: ";

/// A name that another reader of the same stream may read differently.
const AMBIGUOUS: TarError = TarError::Broken("a header names its member in a way that readers disagree on");

/// What is wrong with a tar stream.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum TarError {
    /// A header is damaged, or of a format that we do not read.
    #[error("not a tar stream that can be read: {0}")]
    Broken(&'static str),
    /// The stream ends before its end marker.
    #[error("the tar stream is cut off")]
    CutOff,
}

/// A member, as its headers tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Path as it is in the archive.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where a link points to.
    pub(crate) link: Vec<u8>,
    /// Bytes of content in the stream (a sparse file has fewer than on disk).
    pub(crate) size: u64,
}

/// Kinds of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file, sparse or not.
    File,
    /// Another name of an earlier member.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Dir,
    /// A FIFO.
    Fifo,
    /// A character or block device.
    Device,
}

/// Follows a tar stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    /// A block that is not whole yet.
    block: Vec<u8>,
    /// Headers of a member that is not decided on yet.
    held: Vec<u8>,
    /// Whether the content that comes now is left out.
    dropping: bool,
    extension: Extension,
    members: u64,
    behind: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// A header comes next.
    #[default]
    Header,
    /// This many bytes of an extension come next, then padding.
    Extension { left: u64, padding: u64, kind: u8 },
    /// More of an old GNU sparse map comes next, then the member's content.
    SparseMap { content: u64 },
    /// This many bytes of content with padding come next.
    Content { left: u64 },
    /// The end marker was there.
    Ended,
}

/// What extension headers say about the next member.
#[derive(Debug, Default)]
struct Extension {
    kinds: Vec<u8>,
    data: Vec<u8>,
    path: Option<Vec<u8>>,
    sparse_path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Reader {
    /// Takes the next bytes. Hands every member to `wanted` and appends those to `out` for which it says yes, whole, with all
    /// their headers. The end marker and what comes behind it are left out.
    pub(crate) fn push<E: From<TarError>>(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        mut wanted: impl FnMut(&Member) -> Result<bool, E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Ended => {
                    let room = MAX_REMARKS.saturating_sub(self.behind.len());
                    self.behind.extend(bytes.iter().filter(|byte| **byte != 0).take(room));
                    return Ok(());
                }
                State::Content { left } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    if !self.dropping {
                        out.extend_from_slice(&bytes[..taken]);
                    }
                    bytes = &bytes[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Header;
                    }
                }
                State::Extension { left, padding, kind } => {
                    let taken = usize::try_from(*left + *padding).unwrap_or(usize::MAX).min(bytes.len());
                    let data = usize::try_from(*left).unwrap_or(usize::MAX).min(taken);
                    self.extension.data.extend_from_slice(&bytes[..data]);
                    self.held.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    *left -= data as u64;
                    *padding -= (taken - data) as u64;
                    if *left + *padding == 0 {
                        let kind = *kind;
                        self.extension.read(kind)?;
                        self.state = State::Header;
                    }
                }
                State::Header | State::SparseMap { .. } => {
                    let taken = (BLOCK - self.block.len()).min(bytes.len());
                    self.block.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    if self.block.len() == BLOCK {
                        let block = std::mem::take(&mut self.block);
                        self.header(&block, out, &mut wanted)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the packer has to say, behind the end of the archive: which files changed or vanished while it read them.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.behind);
        text.lines().filter_map(|line| line.strip_prefix(REMARK)).map(str::to_owned).collect()
    }

    /// The number of wanted members, at the end of the stream.
    pub(crate) fn finish(&self) -> Result<u64, TarError> {
        if self.state == State::Ended { Ok(self.members) } else { Err(TarError::CutOff) }
    }

    fn header<E: From<TarError>>(
        &mut self,
        block: &[u8],
        out: &mut Vec<u8>,
        wanted: &mut impl FnMut(&Member) -> Result<bool, E>,
    ) -> Result<(), E> {
        if let State::SparseMap { content } = self.state {
            // The 505th byte of such a block says whether another one follows.
            if block[504] == 0 {
                self.state = content_of(content);
            }
            if !self.dropping {
                out.extend_from_slice(block);
            }
            return Ok(());
        }
        if block.iter().all(|byte| *byte == 0) {
            if !self.extension.kinds.is_empty() {
                return Err(TarError::Broken("it ends after an extension header").into());
            }
            self.state = State::Ended;
            return Ok(());
        }
        check_sum(block)?;
        self.held.extend_from_slice(block);
        let (kind, size) = (block[156], number(&block[124..136])?);
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            if size > MAX_EXTENSION || self.extension.kinds.contains(&kind) {
                return Err(TarError::Broken("an extension header is too long or repeated").into());
            }
            self.extension.kinds.push(kind);
            self.state = State::Extension { left: size, padding: padding(size), kind };
            if size == 0 {
                self.state = State::Header;
            }
            return Ok(());
        }
        let extension = std::mem::take(&mut self.extension);
        let member = member(block, kind, size, extension)?;
        self.dropping = !wanted(&member)?;
        if !self.dropping {
            out.append(&mut self.held);
            self.members += 1;
        }
        self.held.clear();
        let map_goes_on = kind == b'S' && block[482] != 0;
        self.state =
            if map_goes_on { State::SparseMap { content: member.size } } else { content_of(member.size) };
        Ok(())
    }
}

fn content_of(size: u64) -> State {
    if size == 0 { State::Header } else { State::Content { left: size + padding(size) } }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn member(block: &[u8], kind: u8, size: u64, extension: Extension) -> Result<Member, TarError> {
    let mut path = text(&block[..100]).to_vec();
    let ustar = &block[257..263] == b"ustar\0";
    if ustar && block[345] != 0 {
        path = [text(&block[345..500]), b"/", &path].concat();
    }
    let path = extension.sparse_path.or(extension.path).unwrap_or(path);
    let size = extension.size.unwrap_or(size);
    let kind = match kind {
        b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Dir,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        _ => return Err(TarError::Broken("it has a member of an unknown kind")),
    };
    if kind != Kind::File && size != 0 {
        // Readers disagree on whether content follows; none of ours writes it.
        return Err(TarError::Broken("a member that is no file has content"));
    }
    if size > u64::MAX / 2 {
        return Err(TarError::Broken("a size is out of bounds"));
    }
    Ok(Member { path, kind, link: extension.link.unwrap_or_else(|| text(&block[157..257]).to_vec()), size })
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..memchr::memchr(0, field).unwrap_or(field.len())]
}

/// A number: octal digits, or, with the first bit set, big-endian binary.
fn number(field: &[u8]) -> Result<u64, TarError> {
    let broken = TarError::Broken("a number in a header is not one");
    if field[0] & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = value.checked_mul(256).ok_or(broken.clone())? | u64::from(*byte);
        }
        return Ok(value);
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| broken.clone())?;
    if digits.starts_with('+') {
        return Err(broken);
    }
    u64::from_str_radix(digits, 8).map_err(|_| broken)
}

fn check_sum(block: &[u8]) -> Result<(), TarError> {
    let others: u64 = block[..148].iter().chain(&block[156..]).map(|byte| u64::from(*byte)).sum();
    let sum = others + 8 * u64::from(b' ');
    if number(&block[148..156])? == sum {
        Ok(())
    } else {
        Err(TarError::Broken("a header's checksum is wrong"))
    }
}

impl Extension {
    fn read(&mut self, kind: u8) -> Result<(), TarError> {
        let data = std::mem::take(&mut self.data);
        match kind {
            b'L' if self.path.is_none() => self.path = Some(text(&data).to_vec()),
            b'K' if self.link.is_none() => self.link = Some(text(&data).to_vec()),
            b'L' | b'K' => return Err(AMBIGUOUS),
            _ => self.records(&data, kind == b'g')?,
        }
        Ok(())
    }

    /// Records `<length> <keyword>=<value>\n`, the length counting itself.
    fn records(&mut self, mut data: &[u8], global: bool) -> Result<(), TarError> {
        let broken = TarError::Broken("a pax header is damaged");
        while !data.is_empty() {
            let space = memchr::memchr(b' ', data).ok_or(broken.clone())?;
            let length: usize = std::str::from_utf8(&data[..space])
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(broken.clone())?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(broken);
            }
            let record = &data[space + 1..length - 1];
            data = &data[length..];
            let equals = memchr::memchr(b'=', record).ok_or(broken.clone())?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let names = matches!(key, b"path" | b"GNU.sparse.name" | b"linkpath" | b"size");
            let named_already = self.kinds.contains(&b'L') || self.kinds.contains(&b'K');
            if names && (global || named_already || value.is_empty() || value.contains(&0)) {
                return Err(AMBIGUOUS);
            }
            match key {
                // The name of a sparse file proper; `path` is a made-up one then.
                b"GNU.sparse.name" => self.sparse_path = Some(value.to_vec()),
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or(broken.clone())?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A header of a regular file of ours: ustar, root, mode 0600, a name of at most 100 bytes. Larger contents than 8 GiB are
/// written in GNU's binary form.
pub(crate) fn file_header(name: &str, size: u64, mtime: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    match size {
        0..0o1_0000_0000_0000 => put(124, format!("{size:011o}\0").as_bytes()),
        _ => {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, format!("{:011o}\0", mtime.min(0o777_7777_7777)).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(265, b"root");
    put(297, b"root");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The padding behind content of this size, and the end marker.
pub(crate) fn padding_of(size: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    &ZEROS[..usize::try_from(padding(size)).unwrap_or(0)]
}

/// The end marker.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

#[cfg(test)]
mod tests;
