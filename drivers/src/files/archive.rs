//! Trees as tar streams. What comes in is checked member by member before the host's tar sees it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use kedge_workflows::ports::{ByteStream, PortError, PortResult};
use memchr::memmem;

use super::links::{Guard, Unsafe};
use super::{HostFiles, paths};
use crate::tar::{END, Reader};

impl HostFiles {
    pub(super) async fn packed(&self, dir: &str, exclude: &[String]) -> PortResult<ByteStream> {
        let mut arguments = vec![paths::absolute(dir)?.to_owned()];
        for path in exclude {
            arguments.push(format!("--exclude=./{}", paths::relative(path)?));
        }
        self.must_be_directory(dir).await?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.host.stream(self.script(include_str!("scripts/pack.sh"), &arguments)).await
    }

    pub(super) async fn unpacked(&self, dir: &str, tar: ByteStream) -> PortResult<()> {
        paths::absolute(dir)?;
        let what = self.what("unpacking into", dir);
        self.must_be_directory(dir).await?;
        let (mut guard, mut was_empty) = (Guard::default(), true);
        self.walk(dir, &["-mindepth", "1"], |entry| {
            was_empty = false;
            if entry.kind == b'l' {
                guard.there(entry.path);
            }
            Ok(())
        })
        .await?;
        let input = Checked { tar, reader: Reader::default(), guard, what: what.clone(), ended: false };
        let failed = Arc::new(Mutex::new(None));
        let input = noting(input.into_stream(), failed.clone());
        let command = self.script(include_str!("scripts/unpack.sh"), &[dir]).input_stream(input);
        let result = match self.finish(&what, command).await {
            // How tar tells that a disk is full, when a part of a block still had room.
            Ok(finished) if memmem::find(&finished.stderr, b"Wrote only ").is_some() => {
                Err(PortError::NoSpace(format!("{what}: {}", finished.last_error())))
            }
            Ok(finished) => finished.success(&what),
            Err(error) => Err(error),
        };
        // tar may give up on a broken stream by itself, before we end it: the reason is still ours.
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (result, failed) {
            (_, Some(error)) => Err(error),
            (Err(error @ PortError::NoSpace(_)), None) if was_empty => Err(self.emptied(dir, error).await),
            (result, None) => result.map(drop),
        }
    }
}

/// Remembers the error with which a stream ends.
fn noting(stream: ByteStream, failed: Arc<Mutex<Option<PortError>>>) -> ByteStream {
    Box::pin(stream.inspect(move |bytes| {
        if let Err(error) = bytes {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
    }))
}

/// A tar stream on its way to a host.
struct Checked {
    tar: ByteStream,
    reader: Reader,
    guard: Guard,
    what: String,
    ended: bool,
}

impl Checked {
    fn into_stream(self) -> ByteStream {
        Box::pin(stream::unfold(self, |mut checked| async {
            if checked.ended {
                return None;
            }
            let bytes = checked.next().await;
            checked.ended |= bytes.is_err();
            Some((bytes, checked))
        }))
    }

    async fn next(&mut self) -> PortResult<Bytes> {
        while let Some(bytes) = self.tar.next().await {
            let mut out = Vec::new();
            let guard = &mut self.guard;
            let pushed = self.reader.push(&bytes?, &mut out, |member| guard.check(member).map(|()| true));
            pushed.map_err(|why: Unsafe| self.refused(&why))?;
            if !out.is_empty() {
                return Ok(out.into());
            }
        }
        self.ended = true;
        self.reader.finish().map_err(|why| self.refused(&why.into()))?;
        Ok(Bytes::from_static(&END))
    }

    fn refused(&self, why: &Unsafe) -> PortError {
        PortError::Refused(format!("{}: {why}", self.what))
    }
}
