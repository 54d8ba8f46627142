//! `sites/sites.php` of a Drupal platform: lines of ours behind whatever the owner has there, by which a site is found in the
//! directory that the web server (or a command of ours) names, under each of its names and also before it is published. Written once
//! a platform, so that sites never take turns on it. Pure.

use kedge_workflows::ports::PortResult;

use super::block::Markers;

/// What is written.
const LINES: &str = include_str!("php/drupal_sites.php");
/// What begins a file that is ours alone.
const OPEN: &str = "<?php\n";
/// The marker lines.
const MARKERS: Markers = Markers { begin: "// BEGIN kedge", end: "// END kedge" };

/// Our lines, behind whatever is there.
fn lines() -> &'static str {
    LINES.strip_prefix(OPEN).unwrap_or(LINES)
}

/// Whether the file has our lines as they are now.
pub(super) fn has_lines(file: &[u8]) -> bool {
    memchr::memmem::find(file, MARKERS.begin.as_bytes()).is_some()
        && MARKERS.at_end(file, lines()).is_ok_and(|with| with == file)
}

/// The file with our lines; an older form of them is replaced in its place.
///
/// # Errors
/// `Refused` when the file is no PHP that lines can be put behind, or the markers in it are damaged.
pub(super) fn with_lines(there: Option<&[u8]>) -> PortResult<Vec<u8>> {
    match there {
        None => Ok(LINES.as_bytes().to_vec()),
        Some(file) => MARKERS.at_end(file, lines()),
    }
}

/// What is left of the file without our lines: `None` for one that was ours alone.
///
/// # Errors
/// `Refused` when the markers in it are damaged.
pub(super) fn without_lines(file: &[u8]) -> PortResult<Option<Vec<u8>>> {
    let left = MARKERS.without_end(file)?;
    Ok((left == file || left != OPEN.as_bytes()).then_some(left))
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
