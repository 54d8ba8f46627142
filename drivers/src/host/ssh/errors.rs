//! What `ssh` and `sudo` say when they fail, in classes, with what a person can do about it. Texts of OpenSSH and sudo in LC_ALL=C.

use kedge_workflows::ports::PortError;

/// Words of `ssh` that come only while it connects: the command was not begun for certain.
const BEFORE_ANYTHING: &[&str] = &[
    "Could not resolve hostname",
    "Connection refused",
    "Connection timed out",
    "Operation timed out",
    "No route to host",
    "Network is unreachable",
    "kex_exchange_identification",
    "Session open refused",
    "Too many authentication failures",
];

/// Beginnings and parts of the lines in which `sudo -n` says that it would have to ask somebody, or was told not to obey.
const SUDO_REFUSES: &[(&str, &str)] = &[
    ("sudo: ", "a password is required"),
    ("sudo: ", "a terminal is required"),
    ("sudo: ", "authentication is required"),
    ("sudo: ", "must have a tty"),
    ("", "is not in the sudoers file"),
    ("Sorry, user ", "is not allowed to execute"),
    ("Sorry, user ", "may not run sudo"),
];

/// Why a connection could not be made. `status` is that of `ssh`: 255 for its own failures.
pub(super) fn not_connected(name: &str, address: &str, status: i32, said: &str) -> PortError {
    if let Some(refused) = needs_a_person(name, address, said) {
        return refused;
    }
    let said = last_line(said);
    if status == 255 {
        return PortError::Unavailable(format!("{name}: cannot connect to {address}: {said}"));
    }
    PortError::Refused(format!(
        "{name}: the login shell of {address} runs no commands (exit status {status}): {said}"
    ))
}

/// Why a command gave no sign of having begun, on a connection that was there.
pub(super) fn not_begun(name: &str, address: &str, status: i32, said: &str) -> PortError {
    if let Some(refused) = needs_a_person(name, address, said) {
        return refused;
    }
    if status != 255 || BEFORE_ANYTHING.iter().any(|words| said.contains(words)) {
        return not_connected(name, address, status, said);
    }
    let said = last_line(said);
    PortError::Lost(format!("{name}: the connection to {address} was lost at the start of a command: {said}"))
}

/// Whether a command failed because sudo would not run it.
pub(super) fn sudo_refused(name: &str, address: &str, stderr: &[u8]) -> Option<PortError> {
    let said = String::from_utf8_lossy(&stderr[..stderr.len().min(4096)]);
    let refuses =
        |line: &&str| SUDO_REFUSES.iter().any(|(start, part)| line.starts_with(start) && line.contains(part));
    let line: String = said.lines().map(str::trim).find(refuses)?.chars().take(300).collect();
    Some(PortError::Refused(format!(
        "{name}: sudo refuses to work for {address} without a password ({line}); add a line such as \
         `deploy ALL=(ALL) NOPASSWD: ALL` for that user to /etc/sudoers.d on the host, or connect as root and leave `sudo` out"
    )))
}

fn needs_a_person(name: &str, address: &str, said: &str) -> Option<PortError> {
    let what = if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        format!(
            "the host key of {address} has changed: either somebody is in between, or the host was set up anew. If the new key \
             is right, remove the old one (ssh-keygen -R) and accept the new one"
        )
    } else if said.contains("Host key verification failed") {
        format!(
            "the host key of {address} is not known: compare its fingerprint and accept it once by hand (ssh {address}), or \
             name a known_hosts file"
        )
    } else if said.contains("Permission denied (") {
        format!(
            "{address} does not accept our key: {}; check identity_file, its permissions (0600) and authorized_keys on the host",
            last_line(said)
        )
    } else if said.contains("Bad configuration option") || said.contains("Bad owner or permissions on") {
        format!("ssh does not accept its configuration: {}", last_line(said))
    } else {
        return None;
    };
    Some(PortError::Refused(format!("{name}: {what}")))
}

fn last_line(said: &str) -> String {
    said.trim().lines().last().unwrap_or("no reason given").trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_asked_where_only_a_person_can_help() {
        for (said, hint) in [
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "ssh-keygen -R",
            ),
            ("No ED25519 host key is known for h\nHost key verification failed.", "fingerprint"),
            ("deploy@h: Permission denied (publickey).", "identity_file"),
        ] {
            for error in
                [not_connected("web1", "deploy@h", 255, said), not_begun("web1", "deploy@h", 255, said)]
            {
                assert!(matches!(&error, PortError::Refused(what) if what.contains(hint)), "{error:?}");
            }
        }
    }

    #[test]
    fn only_what_was_surely_not_begun_may_be_repeated() {
        let refused = "ssh: connect to host h port 22: Connection refused";
        assert!(matches!(not_begun("w", "h", 255, refused), PortError::Unavailable(_)));
        let broken = "mux_client_request_session: read from master failed: Broken pipe";
        assert!(matches!(not_begun("w", "h", 255, broken), PortError::Lost(_)));
        assert!(matches!(not_connected("w", "h", 255, broken), PortError::Unavailable(_)));
        assert!(matches!(
            not_begun("w", "h", 1, "This account is currently not available."),
            PortError::Refused(_)
        ));
    }

    #[test]
    fn sudo_is_recognised_by_its_own_words_only() {
        for said in [
            "sudo: a password is required\n",
            "\ndeploy is not in the sudoers file.\nThis incident has been reported",
        ] {
            let error = sudo_refused("w", "h", said.as_bytes());
            assert!(
                matches!(&error, Some(PortError::Refused(what)) if what.contains("NOPASSWD")),
                "{error:?}"
            );
        }
        assert_eq!(sudo_refused("w", "h", b"mysql: a password is required"), None);
    }
}
