//! A running command, on any transport: feeds its input, drains its output, keeps its time limit, and ends it with all its
//! descendants when it is dropped or fails. Never knows how the command was started.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use kedge_workflows::ports::{PortError, PortResult};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Sleep;

use super::custody::Mark;
use super::machine::{Transport, sweep};
use super::{Finished, MAX_STDERR, MAX_STDOUT, Output, Stdin};

/// Where a command's input goes.
pub(super) type Writer = Pin<Box<dyn AsyncWrite + Send>>;
/// What a command says, on either of its outputs.
pub(super) type Chunks = Pin<Box<dyn Stream<Item = io::Result<Chunk>> + Send>>;
/// The end of a command: its exit status, as the transport knows it.
pub(super) type Status = Pin<Box<dyn Future<Output = PortResult<i32>> + Send>>;

/// A piece of output.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Of standard output.
    Out(Bytes),
    /// Of standard error.
    Err(Bytes),
}

/// What a transport hands over once a command is started.
pub(super) struct Started {
    /// Standard input, if it was asked for.
    pub(super) stdin: Option<Writer>,
    /// Both outputs, merged. Ends when both are closed.
    pub(super) output: Chunks,
    /// The exit status; asked for when the output has ended.
    pub(super) status: Status,
    /// What the transport does, without waiting, before the processes are looked for.
    pub(super) strike: Option<Strike>,
}

/// A transport's own first act when a command is to be ended.
pub(super) type Strike = Box<dyn FnOnce(End) + Send>;

/// How a command is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// TERM first, KILL after two seconds.
    Politely,
    /// KILL.
    AtOnce,
}

type Feed = Pin<Box<dyn Future<Output = Result<(), (PortError, Option<Writer>)>> + Send>>;

/// A command from its start to its end. Dropped before the end, it ends the command.
pub(super) struct Running {
    transport: Arc<dyn Transport>,
    mark: Mark,
    program: String,
    limit: Duration,
    since: Instant,
    deadline: Pin<Box<Sleep>>,
    feed: Option<Feed>,
    output: Option<Chunks>,
    status: Option<Status>,
    strike: Option<Strike>,
    stderr: Tail,
    ended: bool,
}

/// What happened next.
enum Next {
    Out(Bytes),
    Ended(i32),
}

impl Running {
    pub(super) fn new(
        transport: Arc<dyn Transport>,
        mark: Mark,
        program: String,
        limit: Duration,
        stdin: Stdin,
        started: Started,
    ) -> Self {
        Self {
            transport,
            mark,
            program,
            limit,
            since: Instant::now(),
            deadline: Box::pin(tokio::time::sleep(limit)),
            feed: started.stdin.map(|writer| Box::pin(feed(stdin, writer)) as Feed),
            output: Some(started.output),
            status: Some(started.status),
            strike: started.strike,
            stderr: Tail::default(),
            ended: false,
        }
    }

    /// Runs to the end and collects the output.
    pub(super) async fn collect(mut self) -> PortResult<Finished> {
        let mut stdout = Vec::new();
        loop {
            match self.next().await? {
                Next::Out(bytes) => {
                    if stdout.len() + bytes.len() > MAX_STDOUT {
                        self.end().await?;
                        let most = MAX_STDOUT >> 20;
                        return Err(PortError::Refused(format!(
                            "{} printed more than {most} MiB",
                            self.what()
                        )));
                    }
                    stdout.extend_from_slice(&bytes);
                }
                Next::Ended(status) => return Ok(Finished { status, stdout, stderr: self.stderr.take() }),
            }
        }
    }

    /// Its standard output; an exit status other than 0 is an error at the end.
    pub(super) fn into_output(self) -> Output {
        Box::pin(futures::stream::unfold(Some(self), |running| async {
            let mut running = running?;
            match running.next().await {
                Ok(Next::Out(bytes)) => Some((Ok(bytes), Some(running))),
                Err(error) => Some((Err(error), None)),
                Ok(Next::Ended(status)) => {
                    let what = running.what();
                    let finished = Finished { status, stdout: Vec::new(), stderr: running.stderr.take() };
                    finished.success(&what).err().map(|error| (Err(error), None))
                }
            }
        }))
    }

    async fn next(&mut self) -> PortResult<Next> {
        loop {
            tokio::select! {
                biased;
                fed = polled(&mut self.feed) => {
                    self.feed = None;
                    if let Err((error, writer)) = fed {
                        // The writer lives on until the command is ended: closing it would look like a complete input.
                        self.end().await?;
                        drop(writer);
                        return Err(error);
                    }
                }
                () = &mut self.deadline => {
                    self.end().await?;
                    let what = format!("{} took longer than {:?} and was ended", self.what(), self.limit);
                    return Err(PortError::Unavailable(what));
                }
                chunk = said(&mut self.output) => match chunk {
                    Some(Ok(Chunk::Out(bytes))) if bytes.is_empty() => {} // a piece of which a filter left nothing
                    Some(Ok(Chunk::Out(bytes))) => return Ok(Next::Out(bytes)),
                    Some(Ok(Chunk::Err(bytes))) => self.stderr.push(&bytes),
                    Some(Err(error)) => {
                        let what = format!("{}: its output was cut off: {error}", self.what());
                        self.end().await?;
                        return Err(PortError::Lost(what));
                    }
                    None => self.output = None,
                },
                status = polled(&mut self.status), if self.output.is_none() => {
                    self.status = None;
                    return self.conclude(status);
                }
            }
        }
    }

    fn conclude(&mut self, status: PortResult<i32>) -> PortResult<Next> {
        // With an error the transport does not know whether the command still runs: dropping self ends it.
        let status = status?;
        self.ended = true;
        let millis = self.since.elapsed().as_millis();
        let (host, program) = (self.transport.name(), &self.program);
        tracing::debug!(host, program, status, millis, "command ended");
        self.transport.check(status, &self.stderr.peek())?;
        Ok(Next::Ended(status))
    }

    /// Ends the command and all its descendants, and returns when none is left. An error means that this is not certain.
    async fn end(&mut self) -> PortResult<()> {
        if let Some(strike) = self.strike.take() {
            strike(End::Politely);
        }
        let swept = sweep(&*self.transport, &self.mark, End::Politely);
        swept_while_drained(swept, &mut self.output).await.map_err(|error| {
            PortError::Lost(format!("{} may still run: it could not be ended: {error}", self.what()))
        })?;
        self.ended = true;
        tracing::debug!(host = self.transport.name(), program = self.program, "command was ended");
        Ok(())
    }

    fn what(&self) -> String {
        format!("{} on {}", self.program, self.transport.name())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Some(strike) = self.strike.take() {
            strike(End::AtOnce);
        }
        tracing::debug!(host = self.transport.name(), program = self.program, "command was abandoned");
        // Input and connection stay open until the command is gone: a closed input would look like a complete one.
        let remains = (self.feed.take(), self.status.take());
        abandon(self.transport.clone(), self.mark.clone(), self.what(), self.output.take(), remains);
    }
}

/// Ends a command in the background, with what belongs to it.
pub(super) fn abandon(
    transport: Arc<dyn Transport>,
    mark: Mark,
    what: String,
    mut output: Option<Chunks>,
    remains: impl Send + 'static,
) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return; // The process is going down; the next life clears.
    };
    runtime.spawn(async move {
        if let Err(error) = swept_while_drained(sweep(&*transport, &mark, End::AtOnce), &mut output).await {
            tracing::warn!(%error, what, "an abandoned command may still run; it is cleared with its task");
        }
        drop(remains);
    });
}

/// The future's result; waits for ever when there is none (any more).
async fn polled<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn said(output: &mut Option<Chunks>) -> Option<io::Result<Chunk>> {
    match output {
        Some(output) => output.next().await,
        None => std::future::pending().await,
    }
}

/// Sweeps while the output is read and thrown away: Docker reports no end of any process of a container as long as it cannot get
/// rid of the output of one that has ended.
async fn swept_while_drained(
    swept: impl Future<Output = PortResult<()>>,
    output: &mut Option<Chunks>,
) -> PortResult<()> {
    let drained = async {
        while let Some(Ok(_)) = said(output).await {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = swept => result,
        () = drained => Ok(()),
    }
}

/// Writes the input and closes it. A command that stops reading is no error: its exit status tells.
async fn feed(stdin: Stdin, mut writer: Writer) -> Result<(), (PortError, Option<Writer>)> {
    match stdin {
        Stdin::Empty => {}
        Stdin::Bytes(bytes) => {
            if writer.write_all(&bytes).await.is_err() {
                return Ok(());
            }
        }
        Stdin::Stream(mut input) => {
            while let Some(bytes) = input.next().await {
                match bytes {
                    Err(error) => return Err((error, Some(writer))),
                    Ok(bytes) if writer.write_all(&bytes).await.is_err() => return Ok(()),
                    Ok(_) => {}
                }
            }
        }
    }
    // Fails only when the command has gone already.
    writer.shutdown().await.ok();
    Ok(())
}

/// The end of standard error.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(MAX_STDERR)..];
        let excess = (self.0.len() + bytes.len()).saturating_sub(MAX_STDERR);
        self.0.drain(..excess);
        self.0.extend(bytes);
    }

    fn peek(&self) -> Vec<u8> {
        self.0.iter().copied().collect()
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_end() {
        let mut tail = Tail::default();
        tail.push(b"beginning");
        tail.push(&vec![b'x'; MAX_STDERR + 10]);
        tail.push(b"end");
        let kept = tail.take();
        assert_eq!(kept.len(), MAX_STDERR);
        assert!(kept.ends_with(b"xend") && kept.starts_with(b"x"));
    }
}
