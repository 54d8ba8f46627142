//! The operator's own commands of a configuration, around tasks. Pure.

use std::collections::BTreeSet;

use kedge_engine::task::{Millis, UNDO};
use kedge_workflows::commands::CommandRule;
use kedge_workflows::ports::OwnCommand;
use toml::Spanned;

use super::check::Check;
use super::raw;
use super::schedules::duration;

/// How long one may take when nobody says otherwise.
const LIMIT: Millis = 5 * 60_000;
/// Longest: a task waits for it, and so does everybody who waits for the task's site.
const LONGEST: Millis = 60 * 60_000;
/// Most commands: each is looked at for every task.
const MAX_COMMANDS: usize = 50;
/// Longest name: it is part of a step's.
const MAX_NAME: usize = 40;
/// Most arguments, and most bytes of them together: they stand in plans.
const MAX_ARGUMENTS: (usize, usize) = (50, 2000);

impl Check<'_> {
    pub(super) fn commands(
        &mut self,
        parts: Vec<Spanned<toml::Value>>,
        hosts: &[String],
    ) -> Vec<CommandRule> {
        if parts.len() > MAX_COMMANDS {
            self.problem(0, "commands", format!("{MAX_COMMANDS} commands are the most there may be"));
        }
        let (mut names, mut rules) = (BTreeSet::new(), Vec::new());
        for (index, part) in parts.into_iter().enumerate() {
            let (line, what) = (self.line(&part), format!("commands[{index}]"));
            let Some(raw) = self.part::<raw::Command>(&what, part) else { continue };
            let what = format!("commands.{}", raw.name);
            if !names.insert(raw.name.clone()) {
                self.problem(line, &what, "another command has this name");
            }
            rules.push(self.command(line, &what, raw, hosts));
        }
        rules
    }

    fn command(&mut self, line: usize, what: &str, raw: raw::Command, hosts: &[String]) -> CommandRule {
        let raw::Command { name, host, run, workflows, sites, at, user, time_limit } = raw;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            let detail = format!("name has to be 1 to {MAX_NAME} small letters, digits, _ and -");
            self.problem(line, what, detail);
        }
        if !hosts.contains(&host) {
            self.problem(line, what, format!("there is no host {host:?}; add [hosts.{host}]"));
        }
        let bytes: usize = run.iter().map(String::len).sum();
        let (most, longest) = MAX_ARGUMENTS;
        if !run.first().is_some_and(|program| program.starts_with('/')) {
            let detail = "run has to be a list of a program's absolute path and its arguments; there is no shell in between";
            self.problem(line, what, detail);
        } else if run.len() > most || bytes > longest || run.iter().any(|part| part.contains('\0')) {
            let detail = format!("run may have {most} parts and {longest} bytes, without NUL");
            self.problem(line, what, detail);
        }
        let known = kedge_workflows::workflows();
        let is_known =
            |name: &String| name == "*" || name == UNDO || known.iter().any(|one| one.name() == name);
        if let Some(other) = workflows.iter().find(|name| !is_known(name)) {
            let detail =
                format!("there is no workflow {other:?}; write names of workflows, {UNDO:?} or \"*\"");
            self.problem(line, what, detail);
        }
        if workflows.is_empty() {
            self.problem(line, what, "workflows names none: the command would never run");
        }
        for site in &sites {
            let end = site.strip_prefix("*.").unwrap_or(site);
            if kedge_workflows::names::SiteName::parse(end).is_err() {
                self.problem(
                    line,
                    what,
                    format!("sites: {site:?} is no name of a site and no *. with the end of one"),
                );
            }
        }
        if user
            .as_ref()
            .is_some_and(|user| user.is_empty() || user.starts_with('-') || user.contains(['\0', ' ', ':']))
        {
            self.problem(line, what, "user is no name of a user");
        }
        let limit_ms = match time_limit.as_deref().map(duration) {
            None => LIMIT,
            Some(Ok(ms)) if (1..=LONGEST).contains(&ms) => ms,
            Some(Ok(_)) => {
                self.problem(line, what, "time_limit has to be 1m to 1h");
                LIMIT
            }
            Some(Err(why)) => {
                self.problem(line, what, format!("time_limit: {why}"));
                LIMIT
            }
        };
        CommandRule { command: OwnCommand { name, host, run, user, limit_ms }, workflows, sites, at }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn checked(command: &str) -> Result<Vec<CommandRule>, Vec<String>> {
        let read = |_: &std::path::Path| Err("no secrets here".to_owned());
        let text = format!("[hosts.web1]\ntransport = \"local\"\n[[commands]]\n{command}\n");
        let checked = check::config(&text, &read, &|_| None);
        checked
            .map(|config| config.commands)
            .map_err(|problems| problems.into_iter().map(|problem| problem.detail).collect())
    }

    #[test]
    fn a_command_is_read_and_a_wrong_one_says_what_to_do() {
        let good = "name = \"warm-up\"\nhost = \"web1\"\nrun = [\"/bin/true\"]\nworkflows = [\"migrate\", \"undo\"]\nat = \"after\"\nsites = [\"*.a.test\"]";
        let rules = checked(good).unwrap();
        assert_eq!((rules.len(), rules[0].command.limit_ms), (1, 300_000));
        for (from, to, words) in [
            ("warm-up", "Warm up", "small letters"),
            ("web1", "web9", "no host \"web9\""),
            ("/bin/true", "true", "absolute path"),
            ("migrate", "fly", "no workflow \"fly\""),
            ("[\"migrate\", \"undo\"]", "[]", "never run"),
            ("*.a.test", "*a.test", "no name of a site"),
            ("\"after\"", "\"later\"", "later"),
            ("at =", "time_limit = \"2h\"\nat =", "1m to 1h"),
            ("at =", "user = \"-x\"\nat =", "no name of a user"),
        ] {
            let told = checked(&good.replacen(from, to, 1)).unwrap_err().join("\n");
            assert!(told.contains(words), "{words}: {told}");
        }
        let twice = checked(&format!("{good}\n[[commands]]\n{good}")).unwrap_err().join("\n");
        assert!(twice.contains("another command has this name"), "{twice}");
    }
}
