//! Compression by an archive's name, and what is on disk: hashed and counted as it is written or read.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use kedge_workflows::ports::Compression;
use sha2::{Digest, Sha256};

use super::Packing;

/// Bytes handed to the disk at once.
const BUFFER: usize = 256 * 1024;
/// Level of zstd: about the speed of a disk.
const ZSTD_LEVEL: i32 = 3;

/// A file with the hash and number of the bytes that went through.
pub(super) struct Counted<F> {
    file: F,
    hash: Sha256,
    bytes: u64,
}

/// What an archive is written into.
pub(super) type Output = Counted<BufWriter<File>>;

impl<F> Counted<F> {
    fn of(file: F) -> Self {
        Self { file, hash: Sha256::new(), bytes: 0 }
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes, and their SHA-256 in hex.
    fn seen(self) -> (F, u64, String) {
        (self.file, self.bytes, hex::encode(self.hash.finalize()))
    }
}

impl Output {
    /// Writes to a file.
    pub(super) fn new(file: File) -> Self {
        Self::of(BufWriter::with_capacity(BUFFER, file))
    }

    /// The file with everything in it, not yet durable.
    pub(super) fn into_file(self) -> io::Result<File> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// Makes the file durable: its bytes and their hash.
    pub(super) fn finish(self) -> io::Result<(u64, String)> {
        let (file, bytes, hash) = self.seen();
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok((bytes, hash))
    }
}

impl<F: Write> Write for Counted<F> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<F: Read> Read for Counted<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Writes a part of an archive compressed. Parts one after the other are read as one stream, by every tool: a dump can be compressed beside
/// the files, and put behind them as it is.
pub(super) enum Packer {
    /// Zstandard with a checksum of its own.
    Zstd(zstd::Encoder<'static, Output>),
    /// Gzip.
    Gzip(GzEncoder<Output>),
    /// As it is.
    None(Output),
}

impl Packer {
    /// A part that goes on where the output is.
    pub(super) fn new(output: Output, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Compression::Gzip => Self::Gzip(GzEncoder::new(output, flate2::Compression::default())),
            Compression::None => Self::None(output),
        })
    }

    /// Ends the part.
    pub(super) fn end(self) -> io::Result<Output> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::None(output) => Ok(output),
        }
    }
}

impl Write for Packer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(writer) => writer.write(buffer),
            Self::Gzip(writer) => writer.write(buffer),
            Self::None(writer) => writer.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(writer) => writer.flush(),
            Self::Gzip(writer) => writer.flush(),
            Self::None(writer) => writer.flush(),
        }
    }
}

/// Where the part with the dump begins, for readers that want nothing else: a frame at the end that every reader of zstd skips (RFC 8878,
/// section 3.1.2).
pub(super) struct Signpost {
    /// Bytes before that part.
    pub(super) dump_at: u64,
}

impl Signpost {
    /// Magic number of a skippable frame, bytes of its content, and by what we know ours.
    const HEAD: [u8; 16] = *b"\x50\x2a\x4d\x18\x10\0\0\0kedge-db";
    /// All of it.
    const SIZE: usize = Self::HEAD.len() + 8;

    /// Its bytes.
    pub(super) fn frame(&self) -> Vec<u8> {
        [Self::HEAD.as_slice(), &self.dump_at.to_le_bytes()].concat()
    }

    /// That of a file, whose place is anywhere afterwards.
    pub(super) fn of(file: &mut File) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let Some(from) = length.checked_sub(Self::SIZE as u64) else { return Ok(None) };
        let mut frame = [0; Self::SIZE];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut frame)?;
        let (head, place) = frame.split_at(Self::HEAD.len());
        let place = place.try_into().map_or(length, u64::from_le_bytes);
        Ok((head == Self::HEAD && place < from).then_some(Self { dump_at: place }))
    }
}

/// Reads what [`Packer`] or somebody else wrote.
pub(super) enum Unpacker {
    /// Zstandard.
    Zstd(zstd::Decoder<'static, BufReader<Counted<File>>>),
    /// Gzip, in one part or in several.
    Gzip(MultiGzDecoder<BufReader<Counted<File>>>),
    /// Bzip2, also in several streams one after the other, as its parallel tools write it.
    Bzip2(MultiBzDecoder<BufReader<Counted<File>>>),
    /// As it is.
    None(BufReader<Counted<File>>),
}

impl Unpacker {
    /// Reads from a file.
    pub(super) fn new(file: File, packing: Packing) -> io::Result<Self> {
        let file = BufReader::with_capacity(BUFFER, Counted::of(file));
        Ok(match packing {
            Packing::Ours(Compression::Zstd) => Self::Zstd(zstd::Decoder::with_buffer(file)?),
            Packing::Ours(Compression::Gzip) => Self::Gzip(MultiGzDecoder::new(file)),
            Packing::Ours(Compression::None) => Self::None(file),
            Packing::Bzip2 => Self::Bzip2(MultiBzDecoder::new(file)),
        })
    }

    /// Reads the file to its end: its bytes and their hash.
    pub(super) fn finish(mut self) -> io::Result<(u64, String)> {
        io::copy(&mut self, &mut io::sink())?;
        let mut file = match self {
            Self::Zstd(decoder) => decoder.finish(),
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Bzip2(decoder) => decoder.into_inner(),
            Self::None(file) => file,
        };
        io::copy(&mut file, &mut io::sink())?;
        let (_, bytes, hash) = file.into_inner().seen();
        Ok((bytes, hash))
    }
}

impl Read for Unpacker {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Bzip2(reader) => reader.read(buffer),
            Self::None(reader) => reader.read(buffer),
        }
    }
}
