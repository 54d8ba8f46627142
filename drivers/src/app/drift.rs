//! What differs between a settings file as it is and as it would be written, in lines that hold no secret. Pure.

use kedge_workflows::ports::{PortError, PortResult, SavedFile, Secret};

/// Most lines told: what differs in more is told in short.
const MAX_LINES: usize = 40;
/// Longest line told, in characters.
const MAX_LINE: usize = 200;
/// A line with one of these words, in whatever case, may hold a secret: it ends there.
const SECRETS: [&str; 6] = ["password", "passwd", "secret", "salt", "_key", "token"];

/// See `App::settings_drift`, given the file that is there and the one that would be.
pub(super) fn drift(
    there: Option<&SavedFile>,
    new: PortResult<Vec<u8>>,
    password: &Secret,
) -> PortResult<Vec<String>> {
    let new = match new {
        Ok(new) => new,
        Err(PortError::Refused(why)) => return Ok(vec![format!("! {why}")]),
        Err(error) => return Err(error),
    };
    let Some(file) = there else { return Ok(vec!["- (there is no settings file)".to_owned()]) };
    if file.bytes == new {
        return Ok(Vec::new());
    }
    let (old, new) = (String::from_utf8_lossy(&file.bytes), String::from_utf8_lossy(&new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let only = |of: &[&str], other: &[&str], sign: char| -> Vec<String> {
        let differs = of.iter().filter(|line| !other.contains(line));
        differs.map(|line| format!("{sign} {}", masked(line, password))).collect()
    };
    let mut lines = only(&old, &new, '-');
    lines.extend(only(&new, &old, '+'));
    if lines.is_empty() {
        lines.push("! the lines are in another order".to_owned());
    }
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("! and {more} more"));
    }
    Ok(lines)
}

/// A line without what may be a secret in it.
fn masked(line: &str, password: &Secret) -> String {
    let lower = line.to_ascii_lowercase();
    let word = SECRETS.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min();
    let text = match word {
        Some(end) => format!("{} ***", &line[..end]),
        None if password.expose().is_empty() => line.to_owned(),
        None => line.replace(password.expose(), "***"),
    };
    text.chars().take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(there: &str, new: &str) -> Vec<String> {
        let file = SavedFile {
            path: "/x".to_owned(),
            bytes: there.as_bytes().to_vec(),
            sha256: String::new(),
            mode: 0o440,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            symlink: None,
            elsewhere: std::collections::BTreeMap::new(),
        };
        drift(Some(&file), Ok(new.as_bytes().to_vec()), &Secret::new("geheim")).unwrap()
    }

    #[test]
    fn what_differs_is_told_without_secrets() {
        assert_eq!(told("a\nb\n", "a\nb\n"), Vec::<String>::new());
        assert_eq!(told("a\nb\nc\n", "a\nB\nc\n"), ["- b", "+ B"]);
        let told =
            told("define( 'DB_PASSWORD', 'old' );\n", "define( 'DB_PASSWORD', 'geheim' );\nx geheim\n");
        assert_eq!(told, ["- define( 'DB_PASSWORD ***", "+ define( 'DB_PASSWORD ***", "+ x ***"]);
        assert!(!format!("{:?}", self::told("$db = 'geheim';", "")).contains("geheim"));
    }

    #[test]
    fn what_cannot_be_written_is_told_too() {
        let refused = drift(None, Err(PortError::Refused("no PHP".to_owned())), &Secret::new("x"));
        assert_eq!(refused, Ok(vec!["! no PHP".to_owned()]));
        assert_eq!(drift(None, Ok(vec![]), &Secret::new("x")).unwrap().len(), 1);
        let many: String = (0..100).map(|i| format!("{i}\n")).collect();
        assert_eq!(told(&many, "").len(), MAX_LINES + 1);
    }
}
