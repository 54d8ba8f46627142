//! The pipes and the exit status of a child process of ours, as the hosts need them.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use futures::StreamExt;
use futures::stream;
use tokio::process::Child;
use tokio_util::io::ReaderStream;

use super::running::{Chunk, Chunks};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Both outputs of a child, merged.
pub(super) fn outputs(child: &mut Child) -> Chunks {
    let out = child.stdout.take().map(|pipe| ReaderStream::with_capacity(pipe, CHUNK));
    let err = child.stderr.take().map(|pipe| ReaderStream::with_capacity(pipe, CHUNK));
    let out = stream::iter(out).flatten().map(|bytes| bytes.map(Chunk::Out));
    let err = stream::iter(err).flatten().map(|bytes| bytes.map(Chunk::Err));
    Box::pin(stream::select(out, err))
}

/// The exit status as a shell gives it: 128 + n for signal n.
pub(super) fn exit_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
