//! What the client tools say when they fail, sorted into the classes of the ports. Pure: reads text, runs nothing.

use kedge_workflows::ports::PortError;

/// Most characters of a tool's message that an error keeps.
const MAX_MESSAGE: usize = 400;

/// What a broken connection in the middle means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: the statements only read.
    None,
    /// The end is unknown: the statements change something.
    Change,
}

/// How a tool ended that did not end well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    /// Exit status; 128 + n for a signal.
    pub(super) status: i32,
    /// What it printed on standard error.
    pub(super) stderr: &'a str,
}

/// The error for a tool that failed. `what` names the action and the schema or user concerned.
pub(super) fn classify(what: &str, failure: Failure<'_>, effect: Effect) -> PortError {
    let stderr = failure.stderr;
    let code = code(stderr);
    let message = message(stderr);
    let hint = code.and_then(hint).map_or(String::new(), |hint| format!(" ({hint})"));
    of_code(code, failure, effect)(format!("{what}: {message}{hint}"))
}

/// The same without the tool's words, which quote the statement: for statements that hold a secret.
pub(super) fn classify_secret(what: &str, failure: Failure<'_>, effect: Effect) -> PortError {
    let code = code(failure.stderr);
    let shown = code.map_or_else(|| "no number".to_owned(), |code| code.to_string());
    let hint = code.and_then(hint).map_or(String::new(), |hint| format!(" ({hint})"));
    of_code(code, failure, effect)(format!("{what}: the server answered with error {shown}{hint}"))
}

fn of_code(code: Option<u32>, failure: Failure<'_>, effect: Effect) -> fn(String) -> PortError {
    if matches!(code, Some(1021 | 1114)) || no_space(failure.stderr) {
        return PortError::NoSpace;
    }
    // Read-only, as a replica or a server that is being moved is: that ends. 1290 has other reasons too.
    if code == Some(1836) || (code == Some(1290) && failure.stderr.contains("read")) {
        return PortError::Unavailable;
    }
    match (code, effect) {
        // Too many connections, cannot connect, unknown host, read error while connecting; lock wait, deadlock: rolled back.
        (Some(1040 | 1203 | 1129 | 2002 | 2003 | 2005 | 2012 | 2026 | 1205 | 1213 | 1412), _) => {
            PortError::Unavailable
        }
        // Shutdown in progress, connection killed or interrupted, gone away, lost during a statement.
        (Some(1053 | 1152 | 1158 | 1159 | 1160 | 1161 | 1317 | 1927 | 2006 | 2013), Effect::None) => {
            PortError::Unavailable
        }
        (Some(1053 | 1152 | 1158 | 1159 | 1160 | 1161 | 1317 | 1927 | 2006 | 2013), Effect::Change) => {
            PortError::Lost
        }
        // Ended by a signal, such as the kernel's when memory is short.
        (None, Effect::Change) if failure.status >= 128 => PortError::Lost,
        (None, Effect::None) if failure.status >= 128 => PortError::Unavailable,
        _ => PortError::Refused,
    }
}

fn no_space(stderr: &str) -> bool {
    ["Errcode: 28", "errno: 28", "error 28 from storage", "No space left on device"]
        .iter()
        .any(|sign| stderr.contains(sign))
}

fn hint(code: u32) -> Option<&'static str> {
    Some(match code {
        1044 | 1045 | 1142 | 1227 | 1410 => "check the rights of the account that Kedge uses",
        1153 => "a row is larger than the server's max_allowed_packet: raise it",
        1273 | 1115 => "this server lacks that collation or character set",
        1419 => {
            "set log_bin_trust_function_creators=1 on this server, or site users can make no trigger or function"
        }
        1290 | 1836 => "the server refuses writes",
        1698 => "the account logs in by socket only: run as its system user or name an admin_defaults_file",
        _ => return None,
    })
}

/// The server's or client's error number in the words of `mariadb` (`ERROR 1045 (28000): ..`, `ERROR 2013 (HY000) at line 7: ..`)
/// or `mariadb-dump` (`Got error: 1045: ..`, `Error 2013: ..`, `Couldn't execute '..': .. (1227)`). The first one counts.
pub(super) fn code(stderr: &str) -> Option<u32> {
    for line in stderr.lines() {
        for start in ["ERROR ", "Got error: ", "Error ", "Error: "] {
            let Some(at) = line.find(start) else { continue };
            let digits: String = line[at + start.len()..].chars().take_while(char::is_ascii_digit).collect();
            if (4..=5).contains(&digits.len()) {
                return digits.parse().ok();
            }
        }
        if let Some((_, end)) = line.trim_end().trim_end_matches(')').rsplit_once('(')
            && (4..=5).contains(&end.len())
            && end.bytes().all(|b| b.is_ascii_digit())
        {
            return end.parse().ok();
        }
    }
    None
}

fn message(stderr: &str) -> String {
    // MariaDB's client shows the statement before the error: it is long, and holds somebody's data.
    let error = |line: &&str| line.trim_start().starts_with("ERROR ");
    let skipped = stderr.lines().rev().skip_while(|line| !error(line)).count().saturating_sub(1);
    let text = stderr
        .lines()
        .skip(skipped)
        .map(str::trim)
        // What MySQL's tools say of every password in a file, and MariaDB's of their old names.
        .filter(|line| {
            !line.is_empty() && !line.contains("[Warning]") && !line.contains("Deprecated program name")
        })
        .collect::<Vec<_>>()
        .join("; ");
    if text.is_empty() {
        return "the client ended without a message".to_owned();
    }
    text.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_before_an_error_is_not_told() {
        let shown = "--------------\nCREATE TABLE `t` (\n  `a` int\n) COLLATE=utf8mb4_0900_ai_ci\n--------------\n\nERROR 1273 (HY000) at line 7: Unknown collation: 'utf8mb4_0900_ai_ci'\nmore";
        assert_eq!(
            message(shown),
            "ERROR 1273 (HY000) at line 7: Unknown collation: 'utf8mb4_0900_ai_ci'; more"
        );
        assert_eq!(message("a\nb"), "a; b");
    }

    #[test]
    fn numbers_are_found_in_the_words_of_every_tool() {
        for (text, expected) in [
            ("ERROR 1045 (28000): Access denied for user 'x'@'localhost' (using password: YES)", Some(1045)),
            ("ERROR 1064 (42000) at line 7: You have an error", Some(1064)),
            ("ERROR 2002 (HY000): Can't connect to local server through socket '/run/x' (2)", Some(2002)),
            (
                "mariadb-dump: Got error: 1049: \"Unknown database 'x'\" when selecting the database",
                Some(1049),
            ),
            (
                "mysqldump: Error 2013: Lost connection to MySQL server during query when dumping table `x` at row: 5",
                Some(2013),
            ),
            ("mysqldump: Error: 'Access denied; you need' when trying to dump tablespaces", None),
            ("mariadb-dump: Couldn't execute 'SHOW CREATE FUNCTION `f`': denied (1227)", Some(1227)),
            ("a warning\nERROR 1213 (40001) at line 2: Deadlock found", Some(1213)),
            ("Killed", None),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn classes_follow_the_number_and_what_was_at_stake() {
        type Make = fn(String) -> PortError;
        let cases: [(&str, Effect, Make); 12] = [
            ("ERROR 2002 (HY000): x", Effect::Change, PortError::Unavailable),
            ("ERROR 1040 (08004): Too many connections", Effect::Change, PortError::Unavailable),
            ("ERROR 1205 (HY000) at line 1: Lock wait timeout", Effect::Change, PortError::Unavailable),
            ("ERROR 2013 (HY000) at line 1: Lost connection", Effect::Change, PortError::Lost),
            ("ERROR 2013 (HY000) at line 1: Lost connection", Effect::None, PortError::Unavailable),
            ("ERROR 1053 (08S01): Server shutdown in progress", Effect::None, PortError::Unavailable),
            ("ERROR 1045 (28000): Access denied", Effect::Change, PortError::Refused),
            ("ERROR 1114 (HY000) at line 9: The table 't' is full", Effect::Change, PortError::NoSpace),
            ("ERROR 1030 (HY000): Got error 28 from storage engine", Effect::Change, PortError::NoSpace),
            (
                "ERROR 3 (HY000): Error writing file '/tmp/x' (Errcode: 28 \"No space left on device\")",
                Effect::None,
                PortError::NoSpace,
            ),
            ("", Effect::Change, PortError::Lost),
            ("Killed", Effect::None, PortError::Unavailable),
        ];
        for (text, effect, make) in cases {
            let status = if text.starts_with("ERROR") { 1 } else { 137 };
            let error = classify("act", Failure { status, stderr: text }, effect);
            assert_eq!(
                std::mem::discriminant(&error),
                std::mem::discriminant(&make(String::new())),
                "{text}: {error:?}"
            );
        }
    }

    #[test]
    fn a_tool_that_refuses_its_options_is_not_tried_again() {
        let failure = Failure { status: 7, stderr: "mariadb: unknown option '--frobnicate'" };
        assert!(matches!(classify("act", failure, Effect::None), PortError::Refused(_)));
    }

    #[test]
    fn an_error_of_a_statement_with_a_secret_does_not_quote_it() {
        let failure = Failure { status: 1, stderr: "ERROR 1064 (42000) at line 1: near 'BY 'hunter2''" };
        let error = classify_secret("creating user x", failure, Effect::Change);
        assert_eq!(
            error,
            PortError::Refused("creating user x: the server answered with error 1064".to_owned())
        );
    }
}
