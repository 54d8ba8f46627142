//! Compression by an archive's name, and what is on disk: hashed and counted as it is written or read.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
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

impl<F> Counted<F> {
    fn new(file: F) -> Self {
        Self { file, hash: Sha256::new(), bytes: 0 }
    }

    /// Bytes, and their SHA-256 in hex.
    pub(super) fn seen(self) -> (F, u64, String) {
        (self.file, self.bytes, hex::encode(self.hash.finalize()))
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

/// Writes compressed.
pub(super) enum Packer {
    /// Zstandard with a checksum of its own.
    Zstd(zstd::Encoder<'static, Counted<BufWriter<File>>>),
    /// Gzip.
    Gzip(GzEncoder<Counted<BufWriter<File>>>),
    /// As it is.
    None(Counted<BufWriter<File>>),
}

impl Packer {
    /// Writes to a file.
    pub(super) fn new(file: File, compression: Compression) -> io::Result<Self> {
        let file = Counted::new(BufWriter::with_capacity(BUFFER, file));
        Ok(match compression {
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Compression::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::None => Self::None(file),
        })
    }

    /// Ends the stream and makes the file durable: its bytes and their hash.
    pub(super) fn finish(self) -> io::Result<(u64, String)> {
        let counted = match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::None(counted) => counted,
        };
        let (file, bytes, hash) = counted.seen();
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok((bytes, hash))
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

/// Reads what [`Packer`] or somebody else wrote.
pub(super) enum Unpacker {
    /// Zstandard.
    Zstd(zstd::Decoder<'static, BufReader<Counted<File>>>),
    /// Gzip.
    Gzip(GzDecoder<BufReader<Counted<File>>>),
    /// Bzip2, also in several streams one after the other, as its parallel tools write it.
    Bzip2(MultiBzDecoder<BufReader<Counted<File>>>),
    /// As it is.
    None(BufReader<Counted<File>>),
}

impl Unpacker {
    /// Reads from a file.
    pub(super) fn new(file: File, packing: Packing) -> io::Result<Self> {
        let file = BufReader::with_capacity(BUFFER, Counted::new(file));
        Ok(match packing {
            Packing::Ours(Compression::Zstd) => Self::Zstd(zstd::Decoder::with_buffer(file)?),
            Packing::Ours(Compression::Gzip) => Self::Gzip(GzDecoder::new(file)),
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
