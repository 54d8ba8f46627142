//! Argument vectors as one line for a remote login shell, which takes it apart again into the same arguments. The only place
//! that quotes for a shell.

/// Each argument in single quotes, in which only the single quote itself needs care. Right for sh and its descendants.
pub(super) fn shell_line<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> String {
    let quoted = argv.into_iter().map(|argument| format!("'{}'", argument.as_ref().replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn quotes_are_the_only_special_thing() {
        assert_eq!(
            shell_line(["a", "", "b c", "it's", "$x `y` \\ \"z\""]),
            r#"'a' '' 'b c' 'it'\''s' '$x `y` \ "z"'"#
        );
    }

    #[test]
    fn shells_read_the_same_arguments() {
        // Every byte that can be in an argument and every pair of those that shells care for.
        let special = "'\"\\$`!*?[]{}()<>|&;#~=% \t\n-^/.:,@+\u{e9}";
        let mut argv: Vec<String> = (1..=127u8).map(|byte| char::from(byte).to_string()).collect();
        argv.extend(special.chars().flat_map(|a| special.chars().map(move |b| format!("{a}{b}"))));
        argv.extend(["".into(), "-n".into(), "''\\'''".into(), "x".repeat(10_000)]);
        for shell in ["sh", "bash", "dash", "ksh", "zsh"] {
            let line = format!("printf '%s\\0' {}", shell_line(&argv));
            let Ok(output) = Command::new(shell).args(["-c", &line]).output() else {
                println!("skipped: {shell} is not installed");
                assert_ne!(shell, "sh");
                continue;
            };
            let expected: Vec<u8> =
                argv.iter().flat_map(|argument| [argument.as_bytes(), b"\0"].concat()).collect();
            assert_eq!(output.stdout, expected, "{shell}");
        }
    }
}
