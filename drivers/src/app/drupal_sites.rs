//! `sites/sites.php` of a Drupal platform: lines of ours behind whatever the owner has there, by which a site is found in the
//! directory that the web server (or a command of ours) names, under each of its names and also before it is published. Written once
//! a platform, so that sites never take turns on it. Pure.

use kedge_workflows::ports::{PortError, PortResult};

use super::block::Markers;

/// What is written.
const LINES: &str = include_str!("php/drupal_sites.php");
/// What begins a file that is ours alone.
const OPEN: &str = "<?php\n";
/// The marker lines. A mark of its own tells of a file that did not end in a line break.
const MARKERS: Markers = Markers { begin: "// BEGIN kedge", end: "// END kedge" };
const JOINED: &str = "// BEGIN kedge (behind a last line without its break)";

/// Our lines, as they are written behind this file.
fn block(file: &[u8]) -> String {
    let lines = LINES.strip_prefix(OPEN).unwrap_or(LINES);
    if file.is_empty() || file.ends_with(b"\n") {
        return lines.to_owned();
    }
    format!("\n{}", lines.replacen(MARKERS.begin, JOINED, 1))
}

/// Whether the file has our lines as they are now.
pub(super) fn has_lines(file: &[u8]) -> bool {
    let without = LINES.strip_prefix(OPEN).unwrap_or(LINES);
    let joined = without.replacen(MARKERS.begin, JOINED, 1);
    [without, &joined].iter().any(|lines| memchr::memmem::find(file, lines.as_bytes()).is_some())
}

/// The file with our lines; an older form of them is replaced in its place.
///
/// # Errors
/// `Refused` when the file is no PHP that lines can be put behind, or the markers in it are damaged.
pub(super) fn with_lines(there: Option<&[u8]>) -> PortResult<Vec<u8>> {
    let Some(file) = there else { return Ok(LINES.as_bytes().to_vec()) };
    let joined = memchr::memmem::find(file, JOINED.as_bytes()).is_some();
    let lines = LINES.strip_prefix(OPEN).unwrap_or(LINES);
    let lines = if joined { lines.replacen(MARKERS.begin, JOINED, 1) } else { lines.to_owned() };
    if let Some(new) = MARKERS.replace(file, &lines)? {
        return Ok(new);
    }
    if !file.starts_with(b"<?php") || file.trim_ascii_end().ends_with(b"?>") {
        return Err(PortError::Refused(
            "it has to begin with <?php and to have no ?> at its end, so that lines can be put behind it"
                .to_owned(),
        ));
    }
    Ok([file, block(file).as_bytes()].concat())
}

/// What is left of the file without our lines: `None` for one that was ours alone.
///
/// # Errors
/// `Refused` when the markers in it are damaged.
pub(super) fn without_lines(file: &[u8]) -> PortResult<Option<Vec<u8>>> {
    let Some(mut left) = MARKERS.replace(file, "")? else { return Ok(Some(file.to_vec())) };
    if memchr::memmem::find(file, JOINED.as_bytes()).is_some() && left.ends_with(b"\n") {
        left.pop();
    }
    Ok((left != OPEN.as_bytes()).then_some(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_behind_and_taken_away_exactly() {
        for own in ["<?php\n$sites = array('a' => 'b');\n", "<?php\n$sites['a'] = 'b';", "<?php"] {
            let with = with_lines(Some(own.as_bytes())).unwrap();
            assert!(with.starts_with(own.as_bytes()) && has_lines(&with) && !has_lines(own.as_bytes()));
            assert_eq!(with_lines(Some(&with)).unwrap(), with, "twice is once");
            assert_eq!(without_lines(&with).unwrap().as_deref(), Some(own.as_bytes()));
            assert_eq!(without_lines(own.as_bytes()).unwrap().as_deref(), Some(own.as_bytes()));
        }
        let alone = with_lines(None).unwrap();
        assert!(has_lines(&alone));
        assert_eq!(without_lines(&alone).unwrap(), None);
    }

    #[test]
    fn an_older_form_is_replaced_and_lines_of_others_stay() {
        let old = b"<?php\n$a = 1;\n// BEGIN kedge 0\n$old = 1;\n// END kedge\n$b = 2;\n";
        assert!(!has_lines(old));
        let new = with_lines(Some(old)).unwrap();
        assert!(has_lines(&new) && new.ends_with(b"$b = 2;\n"));
        assert_eq!(without_lines(&new).unwrap().unwrap(), b"<?php\n$a = 1;\n$b = 2;\n");
    }

    #[test]
    fn a_file_that_takes_no_lines_is_refused() {
        for bad in ["", "text", "<?php $a = 1; ?>\n", "<?php\n// BEGIN kedge\n"] {
            assert!(with_lines(Some(bad.as_bytes())).is_err(), "{bad:?}");
        }
    }
}
