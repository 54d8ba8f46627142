//! The files of a host, through the tools that every host has: coreutils, findutils, tar, perl, and rsync for copies. The scripts
//! beside this file are fixed texts; what differs comes as arguments or on standard input. Never follows a link out of a tree.

mod access;
mod archive;
mod content;
mod copy;
mod fingerprint;
mod links;
mod look;
mod paths;
mod tree;
mod walk;

#[cfg(test)]
pub(crate) use content::temporary;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_workflows::ports::{
    Access, AccessRule, AccessWas, ByteStream, CopyOptions, CopyReport, Files, Fingerprint, FixReport, Free,
    PortResult, SavedFile, Scope, Stat, Usage, WrongAccess,
};

use crate::host::{Command, Finished, Host};

/// A day: the limit of the step that works with the files ends a command long before.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Exit status with which our scripts say no, with the reason on standard error.
const NO: i32 = 4;
/// Exit status with which our scripts say that something else is there than was expected.
const NOT_EXPECTED: i32 = 5;
/// What a script exits with when its input ended too early: whoever sent it was killed.
const CUT_SHORT: i32 = 6;

/// The files of a host, on behalf of one attempt.
pub struct HostFiles {
    host: Arc<dyn Host>,
    scope: Scope,
}

impl HostFiles {
    /// The files of this host. Commands carry the scope's mark.
    #[must_use]
    pub fn new(host: Arc<dyn Host>, scope: Scope) -> Self {
        Self { host, scope }
    }

    fn command<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Command {
        Command::new(&self.scope, argv).within(LIMIT)
    }

    /// A command that runs one of our scripts with these arguments.
    fn script(&self, script: &str, arguments: &[&str]) -> Command {
        let start = ["sh", "-c", script, "kedge-files"];
        self.command(start.iter().chain(arguments).copied())
    }

    /// Runs a command and tells how it ended; `NO` is an error already.
    async fn finish(&self, what: &str, command: Command) -> PortResult<Finished> {
        let finished = self.host.run(command).await?;
        if finished.status == NO {
            let words = format!("{what}: {}", finished.last_error());
            return Err(finished.failure(words));
        }
        Ok(finished)
    }

    /// Runs a command that has to succeed.
    async fn run(&self, what: &str, command: Command) -> PortResult<Vec<u8>> {
        self.finish(what, command).await?.success(what)
    }

    /// What is being done, where: for messages.
    fn what(&self, doing: &str, path: &str) -> String {
        format!("{doing} {path} on {}", self.host.name())
    }
}

#[async_trait]
impl Files for HostFiles {
    async fn stat(&self, path: &str) -> PortResult<Option<Stat>> {
        self.look_at(path).await
    }

    async fn list(&self, dir: &str) -> PortResult<Vec<String>> {
        self.names_in(dir).await
    }

    async fn find(&self, dir: &str, name: &str, limit: usize) -> PortResult<Vec<String>> {
        self.named(dir, name, limit).await
    }

    async fn usage(&self, dir: &str) -> PortResult<Usage> {
        self.usage_of(dir).await
    }

    async fn free(&self, path: &str) -> PortResult<Free> {
        self.room_at(path).await
    }

    async fn make_dir(&self, path: &str, access: &Access, parents: bool) -> PortResult<()> {
        self.make_directory(path, access, parents).await
    }

    async fn remove_tree(&self, path: &str, within: &str) -> PortResult<()> {
        self.remove_below(path, within).await
    }

    async fn rename(&self, from: &str, to: &str) -> PortResult<()> {
        self.rename_to_free(from, to).await
    }

    async fn copy_tree(&self, from: &str, to: &str, options: &CopyOptions) -> PortResult<CopyReport> {
        self.copy(from, to, options).await
    }

    async fn pack(&self, dir: &str, exclude: &[String]) -> PortResult<ByteStream> {
        self.packed(dir, exclude).await
    }

    async fn unpack(&self, dir: &str, tar: ByteStream) -> PortResult<()> {
        self.unpacked(dir, tar).await
    }

    async fn read(&self, path: &str) -> PortResult<Option<SavedFile>> {
        self.content_of(path).await
    }

    async fn put(&self, path: &str, bytes: &[u8], access: &Access, expected: Option<&str>) -> PortResult<()> {
        self.put_content(path, bytes, access, expected).await
    }

    async fn restore(&self, path: &str, saved: Option<&SavedFile>, ours: &[String]) -> PortResult<()> {
        self.put_back(path, saved, ours).await
    }

    async fn fix_access(&self, dir: &str, rules: &[AccessRule]) -> PortResult<FixReport> {
        self.fix(dir, rules).await
    }

    async fn wrong_access(&self, dir: &str, rules: &[AccessRule], limit: usize) -> PortResult<WrongAccess> {
        self.look_for_wrong(dir, rules, limit).await
    }

    async fn set_access(&self, dir: &str, entries: &[AccessWas]) -> PortResult<()> {
        self.set(dir, entries).await
    }

    async fn fingerprint(&self, dir: &str, full: bool, hashed: &[String]) -> PortResult<Fingerprint> {
        self.fingerprint_of(dir, full, hashed).await
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(crate) mod tests;
