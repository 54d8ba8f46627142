//! A block of ours in a file that is otherwise the owner's: replaced as a whole, everything around it kept byte for byte. Pure.

use kedge_workflows::ports::{PortError, PortResult};

/// How a block is marked: whole lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Markers {
    /// How the first line begins; more may follow on it.
    pub(super) begin: &'static str,
    /// The last line.
    pub(super) end: &'static str,
}

impl Markers {
    /// The file with this block in place of the one that is there. `None`: there is none.
    ///
    /// # Errors
    /// `Refused` when the markers are not one pair in order: somebody edited them, and what is ours cannot be told.
    pub(super) fn replace(&self, file: &[u8], block: &str) -> PortResult<Option<Vec<u8>>> {
        let at = self.find(file)?;
        Ok(at.map(|(start, end)| [&file[..start], block.as_bytes(), &file[end..]].concat()))
    }

    /// The file with a text right behind its block. `None`: there is no block.
    ///
    /// # Errors
    /// As [`Markers::replace`].
    pub(super) fn append(&self, file: &[u8], text: &str) -> PortResult<Option<Vec<u8>>> {
        let at = self.find(file)?;
        Ok(at.map(|(_, end)| [&file[..end], text.as_bytes(), &file[end..]].concat()))
    }

    /// The file with these lines as its last ones; an older form of them is replaced in its place. The markers tell of a last line that
    /// had no break, so that [`Markers::without_end`] leaves it as it was.
    ///
    /// # Errors
    /// As [`Markers::replace`]; and when nothing can be put behind the file, because it is no PHP or ends with `?>`.
    pub(super) fn at_end(&self, file: &[u8], lines: &str) -> PortResult<Vec<u8>> {
        let joined = lines.replacen(self.begin, &self.joined(), 1);
        if let Some((start, _)) = self.find(file)? {
            let lines = if file[start..].starts_with(self.joined().as_bytes()) { &joined } else { lines };
            return Ok(self.replace(file, lines)?.unwrap_or_default());
        }
        if !file.starts_with(b"<?php") || file.trim_ascii_end().ends_with(b"?>") {
            return Err(PortError::Refused(
                "it has to begin with <?php and to have no ?> at its end, so that lines can be put behind it"
                    .to_owned(),
            ));
        }
        if file.ends_with(b"\n") {
            return Ok([file, lines.as_bytes()].concat());
        }
        Ok([file, b"\n", joined.as_bytes()].concat())
    }

    /// The file without such lines, as it was before them.
    ///
    /// # Errors
    /// As [`Markers::replace`].
    pub(super) fn without_end(&self, file: &[u8]) -> PortResult<Vec<u8>> {
        let Some((start, end)) = self.find(file)? else { return Ok(file.to_vec()) };
        let joined = file[start..].starts_with(self.joined().as_bytes());
        Ok([&file[..start - usize::from(joined && start > 0)], &file[end..]].concat())
    }

    /// The beginning of lines that are put behind a last line without its break.
    fn joined(&self) -> String {
        format!("{} (behind a last line without its break)", self.begin)
    }

    /// Where the block begins and ends.
    fn find(&self, file: &[u8]) -> PortResult<Option<(usize, usize)>> {
        let lines = lines(file);
        let at = |marker: &str, whole: bool| -> Vec<usize> {
            let is = |line: &[u8]| {
                if whole {
                    line.trim_ascii_end() == marker.as_bytes()
                } else {
                    line.starts_with(marker.as_bytes())
                }
            };
            lines
                .iter()
                .enumerate()
                .filter(|(_, (start, end))| is(&file[*start..*end]))
                .map(|(i, _)| i)
                .collect()
        };
        match (at(self.begin, false).as_slice(), at(self.end, true).as_slice()) {
            ([], []) => Ok(None),
            ([begin], [end]) if begin < end => Ok(Some((lines[*begin].0, lines[*end].1))),
            _ => Err(PortError::Refused(format!(
                "the lines {:?} and {:?} have to be there once each, in this order",
                self.begin, self.end
            ))),
        }
    }
}

/// Start and end of every line, with its line break.
fn lines(file: &[u8]) -> Vec<(usize, usize)> {
    let mut lines = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', file).map(|i| i + 1).chain([file.len()]) {
        if end > start {
            lines.push((start, end));
        }
        start = end;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKERS: Markers = Markers { begin: "# BEGIN kedge", end: "# END kedge" };

    #[test]
    fn a_block_is_replaced_and_its_surroundings_stay() {
        let file = b"\xff own\r\n# BEGIN kedge: text\nold\n# END kedge\r\nmore # END kedge\nlast";
        let new = MARKERS.replace(file, "# BEGIN kedge\nnew\n# END kedge\n").unwrap().unwrap();
        assert_eq!(new, b"\xff own\r\n# BEGIN kedge\nnew\n# END kedge\nmore # END kedge\nlast");
        assert_eq!(MARKERS.replace(&new, "# BEGIN kedge\nnew\n# END kedge\n").unwrap().unwrap(), new);
        assert_eq!(MARKERS.replace(b"nothing of ours", "x").unwrap(), None);
        let more = MARKERS.append(b"a\n# BEGIN kedge\n# END kedge\nb\n", "more\n").unwrap().unwrap();
        assert_eq!(more, b"a\n# BEGIN kedge\n# END kedge\nmore\nb\n");
    }

    #[test]
    fn damaged_markers_are_refused() {
        for file in [
            "# BEGIN kedge\nx\n",
            "# END kedge\n",
            "# END kedge\n# BEGIN kedge\n",
            "# BEGIN kedge\n# BEGIN kedge\n# END kedge\n",
        ] {
            assert!(MARKERS.replace(file.as_bytes(), "x").is_err(), "{file:?}");
        }
    }
}
