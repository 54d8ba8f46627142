//! What drush says, as recorded in real runs (`drush/*.txt`; each begins with the command that recorded it): versions, updates, failures.

use kedge_workflows::ports::{PortError, Secret};

use super::*;

/// A recorded run.
struct Recorded {
    command: &'static str,
    status: i32,
    stdout: &'static str,
    stderr: &'static str,
}

macro_rules! recorded {
    ($name:literal) => {
        take_apart(include_str!(concat!("drush/", $name, ".txt")))
    };
}

fn take_apart(text: &'static str) -> Recorded {
    let (head, rest) = text.split_once("\n# stdout\n").expect("standard output");
    let (stdout, stderr) = rest.split_once("\n# stderr\n").expect("standard error");
    let (command, status) = head.split_once("\n# status ").expect("a status");
    Recorded { command, status: status.parse().expect("a number"), stdout, stderr }
}

impl Recorded {
    /// As it comes from the host, behind the output of our script.
    fn heard(&self) -> Said {
        let stdout = format!("{}\nkedge-drush {} /opt/drush\n", self.stdout, self.status);
        said(stdout.as_bytes(), self.stderr.as_bytes().to_vec()).expect("the line of ours")
    }
}

#[test]
fn versions_are_read_and_judged() {
    for (recorded, expected) in
        [(recorded!("drupal-7-version"), "8.4.12"), (recorded!("drupal-10-version"), "12.5.3.0")]
    {
        assert!(recorded.command.starts_with("# KEDGE_SITE="), "{}", recorded.command);
        assert_eq!(version(&recorded.heard().stdout).as_deref(), Some(expected));
    }
    for other in ["", "command not found: 1.2", "drush", "Composer version 2.5.5 2023-03-21"] {
        assert_eq!(version(other.as_bytes()), None, "{other}");
    }
    for (drush, seven, good) in [
        ("8.4.12", true, true),
        ("12.5.3.0", true, false),
        ("8.4.12", false, false),
        ("12.5.3.0", false, true),
        ("13.6.0", false, true),
        ("?", true, false),
    ] {
        assert_eq!(fits("/opt/drush", drush, "x", seven).is_ok(), good, "{drush} {seven}");
    }
    let told = fits("/opt/drush", "12.5", "7.105", true).unwrap_err().to_string();
    assert_eq!(told, "Drupal 7.105 needs drush 8, and /opt/drush is drush 12.5");
}

#[test]
fn a_failure_is_told_in_its_own_words() {
    for (recorded, words) in [
        (recorded!("drupal-7-update-fails"), "'d7shop.no_such_table' doesn't exist"),
        (recorded!("drupal-10-update-fails"), "Update failed: noisy_update_10101"),
    ] {
        assert_eq!(recorded.status, 1);
        let said = recorded.heard();
        let told = reason(&said);
        assert!(told.contains("SQLSTATE[42S02]") && told.chars().count() <= REASON, "{told}");
        assert!(recorded.stderr.contains(words), "{}", recorded.command);
        assert!(!told.contains("Undefined variable"), "what is no error is left out: {told}");
    }
    for recorded in [
        recorded!("drupal-7-update"),
        recorded!("drupal-10-update"),
        recorded!("drupal-7-nothing-to-update"),
        recorded!("drupal-10-nothing-to-update"),
    ] {
        assert_eq!(recorded.heard().status, 0, "{}", recorded.command);
    }
    let colours = Said {
        status: 1,
        path: String::new(),
        stdout: b"\x1b[31;1mred [error]\x1b[0m".to_vec(),
        stderr: Vec::new(),
    };
    assert_eq!(reason(&colours), "red [error]");
    let masked = mask("access denied for geheim".to_owned(), Some(&Secret::new("geheim")));
    assert_eq!(masked, "access denied for ***");
}

#[test]
fn a_run_that_was_cut_off_has_no_end() {
    for stdout in ["", "half", "x\nkedge-drush", "x\nkedge-drush zero /opt/drush\n"] {
        assert_eq!(said(stdout.as_bytes(), Vec::new()), None, "{stdout:?}");
    }
    let fake = "\nkedge-drush 0 /fake\n[error] no\nkedge-drush 1 /opt/drush\n";
    let said = said(fake.as_bytes(), Vec::new()).unwrap();
    assert_eq!((said.status, said.path.as_str()), (1, "/opt/drush"), "the last line counts");
    let refused: Result<(), PortError> = fits("/opt/drush", "1.0", "10.6", false);
    assert!(matches!(refused, Err(PortError::Refused(_))));
}
