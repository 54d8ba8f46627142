//! Quoting of names and values for SQL and option files: the only place that does it. Never looks at a server.
//!
//! The forms are right under the session settings of `client`: backslash escapes on, `ANSI_QUOTES` off, utf8mb4.

use kedge_workflows::ports::{PortError, PortResult};

/// A name in backticks.
///
/// # Errors
/// `Refused` for names that no server can have: empty, with NUL, longer than 64 characters.
pub(super) fn identifier(name: &str) -> PortResult<String> {
    if name.is_empty() || name.contains('\0') || name.chars().count() > 64 {
        return Err(PortError::Refused(format!(
            "{:?} is not a database name",
            name.chars().take(80).collect::<String>()
        )));
    }
    Ok(format!("`{}`", name.replace('`', "``")))
}

/// A string literal.
///
/// # Errors
/// `Refused` when it holds NUL. The text is not repeated: it may be a secret.
pub(super) fn text(value: &str) -> PortResult<String> {
    if value.contains('\0') {
        return Err(PortError::Refused("a value for the database has a NUL character".to_owned()));
    }
    Ok(format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''")))
}

/// A schema's name in `GRANT ... ON <this>.*`, where `_` and `%` are wildcards unless escaped. `wildcards` is false on servers
/// that take the name literally (MySQL with `partial_revokes`).
pub(super) fn grant_schema(name: &str, wildcards: bool) -> PortResult<String> {
    let quoted = identifier(name)?;
    if !wildcards {
        return Ok(quoted);
    }
    Ok(quoted.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%"))
}

/// An account: `'user'@'host'`.
pub(super) fn account(user: &str, host: &str) -> PortResult<String> {
    Ok(format!("{}@{}", text(user)?, text(host)?))
}

/// A value in an option file, in double quotes.
///
/// # Errors
/// `Refused` when it holds a line break or NUL, which the format cannot carry.
pub(super) fn option(value: &str) -> PortResult<String> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(PortError::Refused(
            "a user or password for the database has a line break or NUL".to_owned(),
        ));
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_end_their_quotes() {
        assert_eq!(identifier("a`b").unwrap(), "`a``b`");
        assert_eq!(text(r"o'\x").unwrap(), r"'o''\\x'");
        assert_eq!(text("'; DROP DATABASE x; -- ").unwrap(), "'''; DROP DATABASE x; -- '");
        assert_eq!(account("u", "10.%").unwrap(), "'u'@'10.%'");
        assert_eq!(option("a\"b\\").unwrap(), r#""a\"b\\""#);
    }

    #[test]
    fn nul_is_refused_without_repeating_the_value() {
        for result in [identifier("se\0cret"), text("se\0cret"), option("se\0cret"), option("a\nuser=root")] {
            assert!(result.is_err(), "{result:?}");
        }
        let PortError::Refused(message) = text("geheim\0").unwrap_err() else { panic!("another class") };
        assert!(!message.contains("geheim"), "{message}");
    }

    #[test]
    fn a_grant_on_one_schema_matches_no_other() {
        let quoted = grant_schema("my_shop%1", true).unwrap();
        assert_eq!(quoted, r"`my\_shop\%1`");
        assert_eq!(grant_schema("my_shop", false).unwrap(), "`my_shop`");
    }
}
