//! The journal as a stream of lines, out and in: a JSON object a line, pairs and blobs in base64, a line at the end that tells that
//! it is whole. Knows no event, so that whatever is in a journal comes through; it never writes into a journal that has something.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Journal, keys};
use crate::store::{Batch, CommitError, MAX_BLOB, MAX_KEY, MAX_VALUE, ReadError};

/// Version of the form.
const FORMAT: u32 = 1;
/// Pairs and bytes committed at a time.
const GROUP: (usize, usize) = (500, 512 * 1024);
/// Longest line: a blob in base64, with some words around it.
const MAX_LINE: u64 = (MAX_BLOB as u64 / 3 + 1) * 4 + 1024;

/// What went over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    /// Pairs.
    pub pairs: u64,
    /// Blobs.
    pub blobs: u64,
}

/// Why a journal did not go over.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The stream broke.
    #[error("the stream: {0}")]
    Stream(#[from] io::Error),
    /// The journal to import into is not empty.
    #[error("the journal has something in it already; import into an empty data_dir")]
    NotEmpty,
    /// A blob that the journal names is not there.
    #[error("the journal names the blob {0}, which is missing; `kedge journal fsck` tells more")]
    MissingBlob(String),
    /// A line is not what an export writes.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// The first.
    Journal { format: u32 },
    /// A pair.
    Pair { key: String, value: String },
    /// A blob.
    Blob { bytes: String },
    /// The last: what there was, and the SHA-256 of all lines before.
    End { pairs: u64, blobs: u64, sha256: String },
}

impl Journal {
    /// Writes everything: blobs first, since pairs name them. The service must not run meanwhile.
    ///
    /// # Errors
    /// [`TransferError`]; what was written until then lacks its last line, and no import takes it.
    pub fn export(&self, out: &mut impl Write) -> Result<Transferred, TransferError> {
        let mut out = Lines { out, hash: Sha256::new() };
        let mut done = Transferred::default();
        out.put(&Line::Journal { format: FORMAT })?;
        for blob in self.named_blobs()? {
            let bytes = self.store.get_blob(&blob)?;
            let bytes = bytes.ok_or_else(|| TransferError::MissingBlob(blob.as_str().to_owned()))?;
            out.put(&Line::Blob { bytes: BASE64.encode(bytes) })?;
            done.blobs += 1;
        }
        let mut broken = None;
        self.each(keys::ALL, |key, value| {
            let pair = Line::Pair { key: BASE64.encode(key), value: BASE64.encode(value) };
            if broken.is_none() {
                broken = out.put(&pair).err();
                done.pairs += 1;
            }
        })?;
        if let Some(error) = broken {
            return Err(error.into());
        }
        let sha256 = hex::encode(out.hash.clone().finalize());
        out.put(&Line::End { pairs: done.pairs, blobs: done.blobs, sha256 })?;
        out.out.flush()?;
        Ok(done)
    }

    /// Reads everything into an empty journal. Heads come last, so that a broken import leaves no task that looks whole: the data
    /// directory is then to be emptied, and the import done again.
    ///
    /// # Errors
    /// [`TransferError`] with the line.
    pub async fn import(&self, input: &mut (impl BufRead + Send)) -> Result<Transferred, TransferError> {
        if !self.store.scan(keys::ALL, None, 1)?.is_empty() {
            return Err(TransferError::NotEmpty);
        }
        let mut reading = Arriving { line: 0, hash: Sha256::new() };
        let (mut done, mut pairs, mut last) = (Transferred::default(), Pairs::default(), BTreeMap::new());
        match reading.next(input)? {
            Line::Journal { format: FORMAT } => {}
            Line::Journal { format } => {
                return Err(reading.bad(format!("format {format} is newer than this kedge")));
            }
            _ => return Err(reading.bad("this is no exported journal")),
        }
        loop {
            let so_far = hex::encode(reading.hash.clone().finalize());
            match reading.next(input)? {
                Line::Journal { .. } => return Err(reading.bad("a second beginning")),
                Line::Blob { bytes } => {
                    self.store.put_blob(reading.decode(&bytes, MAX_BLOB)?).await?;
                    done.blobs += 1;
                }
                Line::Pair { key, value } => {
                    let key = reading.decode(&key, MAX_KEY)?;
                    let value = reading.decode(&value, MAX_VALUE)?;
                    done.pairs += 1;
                    if key.starts_with(keys::HEADS) || key.starts_with(keys::OPEN) {
                        last.insert(key, value);
                    } else if let Some(full) = pairs.add(key, value) {
                        self.store.commit(full).await?;
                    }
                }
                Line::End { pairs, blobs, sha256 } => {
                    if (pairs, blobs) != (done.pairs, done.blobs) || sha256 != so_far {
                        return Err(reading.bad("what came is not what was exported"));
                    }
                    break;
                }
            }
        }
        for (key, value) in last {
            if let Some(full) = pairs.add(key, value) {
                self.store.commit(full).await?;
            }
        }
        self.store.commit(pairs.batch).await?;
        Ok(done)
    }
}

struct Lines<'a, W> {
    out: &'a mut W,
    hash: Sha256,
}

impl<W: Write> Lines<'_, W> {
    fn put(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.out.write_all(&text)
    }
}

struct Arriving {
    line: u64,
    hash: Sha256,
}

impl Arriving {
    fn next(&mut self, input: &mut impl BufRead) -> Result<Line, TransferError> {
        self.line += 1;
        let mut text = Vec::new();
        input.take(MAX_LINE).read_until(b'\n', &mut text)?;
        if text.last() != Some(&b'\n') {
            return Err(self.bad("the export is cut off here"));
        }
        self.hash.update(&text);
        serde_json::from_slice(&text).map_err(|error| self.bad(error.to_string()))
    }

    fn decode(&self, text: &str, most: usize) -> Result<Vec<u8>, TransferError> {
        let bytes = BASE64.decode(text).map_err(|error| self.bad(error.to_string()))?;
        if bytes.len() > most {
            return Err(self.bad(format!("{} bytes, {most} are allowed", bytes.len())));
        }
        Ok(bytes)
    }

    fn bad(&self, why: impl Into<String>) -> TransferError {
        TransferError::Line { line: self.line, why: why.into() }
    }
}

/// Pairs on their way into the store.
#[derive(Default)]
struct Pairs {
    batch: Batch,
    bytes: usize,
}

impl Pairs {
    /// Adds one; the batch that is full now, if it is.
    fn add(&mut self, key: Vec<u8>, value: Vec<u8>) -> Option<Batch> {
        self.bytes += key.len() + value.len();
        self.batch.put(key, value);
        let full = self.batch.writes.len() >= GROUP.0 || self.bytes >= GROUP.1;
        full.then(|| {
            self.bytes = 0;
            std::mem::take(&mut self.batch)
        })
    }
}
