//! Modes and owners by rules: one look at the tree, then changes only where something is wrong.

use std::collections::HashMap;

use kedge_workflows::ports::{AccessRule, AccessWas, FixReport, PortError, PortResult, WrongAccess};

use super::walk::Entry;
use super::{HostFiles, paths};

/// A rule with numbers instead of names; -1 keeps what is there.
struct Rule<'a> {
    path: &'a [u8],
    dir_mode: u32,
    file_mode: u32,
    uid: i64,
    gid: i64,
}

impl HostFiles {
    pub(super) async fn fix(&self, dir: &str, rules: &[AccessRule]) -> PortResult<FixReport> {
        paths::absolute(dir)?;
        let what = self.what("setting modes and owners in", dir);
        let rules = self.numbered(rules).await?;
        self.must_be_directory(dir).await?;
        let (mut checked, mut wrong) = (0, Vec::new());
        self.walk(dir, &[], |entry| {
            checked += 1;
            let rule = rules.iter().rev().find(|rule| rule.covers(&entry.path));
            if let Some((mode, uid, gid)) = rule.and_then(|rule| rule.wants(&entry)) {
                note(&entry.path, mode, uid, gid, &mut wrong);
            }
            Ok(())
        })
        .await?;
        let changed = if wrong.is_empty() { 0 } else { self.apply(&what, dir, wrong).await? };
        Ok(FixReport { checked, changed })
    }

    pub(super) async fn look_for_wrong(
        &self,
        dir: &str,
        rules: &[AccessRule],
        limit: usize,
    ) -> PortResult<WrongAccess> {
        paths::absolute(dir)?;
        let numbered = self.numbered(rules).await?;
        self.must_be_directory(dir).await?;
        let mut report = WrongAccess::default();
        self.walk(dir, &[], |entry| {
            report.checked += 1;
            let found = numbered.iter().zip(rules).rev().find(|(rule, _)| rule.covers(&entry.path));
            let Some((_, rule)) = found.filter(|(rule, _)| rule.wants(&entry).is_some()) else {
                return Ok(());
            };
            report.wrong += 1;
            if let (Ok(path), true) = (String::from_utf8(entry.path), report.entries.len() < limit) {
                let path = if path.is_empty() { ".".to_owned() } else { path };
                let (mode, uid, gid, wanted) =
                    (entry.mode, entry.uid, entry.gid, rule.told(entry.kind == b'd'));
                report.entries.push(AccessWas { path, mode, uid, gid, wanted });
            }
            Ok(())
        })
        .await?;
        Ok(report)
    }

    pub(super) async fn set(&self, dir: &str, entries: &[AccessWas]) -> PortResult<()> {
        paths::absolute(dir)?;
        let what = self.what("setting modes and owners in", dir);
        self.must_be_directory(dir).await?;
        let mut input = Vec::new();
        for entry in entries {
            let path = if entry.path == "." { "" } else { paths::relative(&entry.path)? };
            note(path.as_bytes(), entry.mode, i64::from(entry.uid), i64::from(entry.gid), &mut input);
        }
        self.apply(&what, dir, input).await.map(drop)
    }

    /// Runs `access.pl`; how many entries it changed.
    async fn apply(&self, what: &str, dir: &str, input: Vec<u8>) -> PortResult<u64> {
        let command = self.command(["perl", "-e", include_str!("scripts/access.pl"), "--", dir]).input(input);
        let output = self.run(what, command).await?;
        let text = String::from_utf8_lossy(&output);
        text.trim().parse().map_err(|_| PortError::Refused(format!("{what}: perl says {text:?}")))
    }

    async fn numbered<'a>(&self, rules: &'a [AccessRule]) -> PortResult<Vec<Rule<'a>>> {
        let users = self.numbers("user", rules.iter().filter_map(|rule| rule.user.as_deref())).await?;
        let groups = self.numbers("group", rules.iter().filter_map(|rule| rule.group.as_deref())).await?;
        let number = |names: &HashMap<&str, i64>, name: &Option<String>| {
            name.as_deref().and_then(|name| names.get(name)).copied().unwrap_or(-1)
        };
        let numbered = rules.iter().map(|rule| {
            let path = if rule.path.is_empty() { "" } else { paths::relative(&rule.path)? };
            let (uid, gid) = (number(&users, &rule.user), number(&groups, &rule.group));
            Ok(Rule { path: path.as_bytes(), dir_mode: rule.dir_mode, file_mode: rule.file_mode, uid, gid })
        });
        numbered.collect()
    }

    /// The numbers of users or groups.
    async fn numbers<'a>(
        &self,
        kind: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> PortResult<HashMap<&'a str, i64>> {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let users = if kind == "user" { names.len().to_string() } else { "0".to_owned() };
        let mut arguments = vec![users.as_str()];
        arguments.extend(&names);
        let what = format!("looking up the {kind}s {} on {}", names.join(", "), self.host.name());
        let output = self.run(&what, self.script(include_str!("scripts/ids.sh"), &arguments)).await?;
        let text = String::from_utf8_lossy(&output);
        let numbers: Option<Vec<i64>> = text.lines().map(|line| line.trim().parse().ok()).collect();
        match numbers {
            Some(numbers) if numbers.len() == names.len() => Ok(names.into_iter().zip(numbers).collect()),
            _ => Err(PortError::Refused(format!("{what}: the answer is {text:?}"))),
        }
    }
}

impl Rule<'_> {
    fn covers(&self, path: &[u8]) -> bool {
        self.path.is_empty()
            || path.strip_prefix(self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// What an entry should have, if something about it is wrong. Links have no mode; others than files, directories and links are
    /// left alone.
    fn wants(&self, entry: &Entry) -> Option<(u32, i64, i64)> {
        let mode = match entry.kind {
            b'f' => self.file_mode,
            b'd' => self.dir_mode,
            b'l' => entry.mode,
            _ => return None,
        };
        let same = |wanted: i64, is: u32| wanted == -1 || wanted == i64::from(is);
        if mode == entry.mode && same(self.uid, entry.uid) && same(self.gid, entry.gid) {
            return None;
        }
        Some((mode, self.uid, self.gid))
    }
}

/// Adds an entry to the input of `access.pl`.
fn note(path: &[u8], mode: u32, uid: i64, gid: i64, input: &mut Vec<u8>) {
    input.extend_from_slice(path);
    input.extend_from_slice(format!("\0{mode:o}\0{uid}\0{gid}\0").as_bytes());
}
