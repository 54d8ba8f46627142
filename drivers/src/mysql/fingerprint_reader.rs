//! Reads the answers of a fingerprint's script as they stream by. Pure. Never keeps more than one line that is no row.

use std::collections::BTreeSet;

use kedge_workflows::ports::{PortError, PortResult};
use sha2::{Digest, Sha256};

use super::client::unescape;
use super::sql_filter::SqlFilter;

/// Longest line that is kept: the definition of a table or routine.
const MAX_LINE: usize = 16 << 20;
/// What every line of a row begins with.
const ROW: &[u8] = b"r\t";

/// The reader.
pub(super) struct Reader {
    schema: String,
    without_counter: BTreeSet<String>,
    entries: Vec<(String, String)>,
    line: Vec<u8>,
    /// The row that is going by.
    row: Option<Sha256>,
    /// The table whose rows are going by.
    rows: Option<(String, RowSet)>,
    /// The next line is the definition of this kind of object of that name.
    shown: Option<(String, String)>,
    ended: bool,
}

/// A digest of rows in any order: the sum of their hashes, as four numbers without carry. Two sets of rows that differ have
/// equal sums by accident only (1 in 2^256).
#[derive(Default)]
struct RowSet([u64; 4]);

impl RowSet {
    fn add(&mut self, row: Sha256) {
        for (lane, bytes) in self.0.iter_mut().zip(row.finalize().as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_be_bytes(*bytes));
        }
    }

    fn digest(&self) -> String {
        self.0.iter().map(|lane| format!("{lane:016x}")).collect()
    }
}

impl Reader {
    /// A reader for this schema; the auto increments of some tables do not count.
    pub(super) fn new(schema: &str, without_counter: BTreeSet<String>) -> Self {
        let schema = schema.to_owned();
        Self {
            schema,
            without_counter,
            entries: Vec::new(),
            line: Vec::new(),
            row: None,
            rows: None,
            shown: None,
            ended: false,
        }
    }

    /// Takes a chunk of output.
    pub(super) fn push(&mut self, mut chunk: &[u8]) -> PortResult<()> {
        while !chunk.is_empty() {
            let end = memchr::memchr(b'\n', chunk);
            let part = &chunk[..end.unwrap_or(chunk.len())];
            chunk = &chunk[end.map_or(chunk.len(), |end| end + 1)..];
            self.part(part)?;
            if end.is_some() {
                self.end_of_line()?;
            }
        }
        Ok(())
    }

    /// The entries.
    ///
    /// # Errors
    /// `Unavailable` when the answers are not whole.
    pub(super) fn finish(mut self) -> PortResult<Vec<(String, String)>> {
        self.end_of_rows();
        if !self.ended {
            return Err(PortError::Unavailable(
                "the database's answers to a fingerprint broke off".to_owned(),
            ));
        }
        Ok(self.entries)
    }

    fn part(&mut self, part: &[u8]) -> PortResult<()> {
        if let Some(row) = &mut self.row {
            row.update(part);
            return Ok(());
        }
        self.line.extend_from_slice(part);
        if self.rows.is_some() && self.shown.is_none() && self.line.starts_with(ROW) {
            let mut row = Sha256::new();
            row.update(&self.line[ROW.len()..]);
            self.line.clear();
            self.row = Some(row);
        } else if self.line.len() > MAX_LINE {
            return Err(PortError::Refused("a definition in the database is longer than 16 MiB".to_owned()));
        }
        Ok(())
    }

    fn end_of_line(&mut self) -> PortResult<()> {
        if let Some(row) = self.row.take() {
            if let Some((_, rows)) = &mut self.rows {
                rows.add(row);
            }
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        if let Some((kind, name)) = self.shown.take() {
            self.entries
                .push((format!("{}:{name}", kind.to_lowercase()), definition(&self.schema, &kind, &fields)?));
            return Ok(());
        }
        self.end_of_rows();
        match fields.as_slice() {
            [b"show", kind, name] => {
                self.shown = Some((String::from_utf8_lossy(kind).into_owned(), text(name)?))
            }
            [b"count", name, count] => {
                self.entries
                    .push((format!("rows:{}", text(name)?), String::from_utf8_lossy(count).into_owned()));
            }
            [b"rows", name] => self.rows = Some((text(name)?, RowSet::default())),
            [b"next", name, next] => {
                let name = text(name)?;
                if !self.without_counter.contains(&name) {
                    let next = String::from_utf8_lossy(next).into_owned();
                    self.entries.push((format!("auto_increment:{name}"), next));
                }
            }
            [b"end"] => self.ended = true,
            _ => return Err(unreadable()),
        }
        Ok(())
    }

    fn end_of_rows(&mut self) {
        if let Some((name, rows)) = self.rows.take() {
            self.entries.push((format!("content:{name}"), rows.digest()));
        }
    }
}

fn unreadable() -> PortError {
    PortError::Refused("the database's answers to a fingerprint cannot be read".to_owned())
}

fn text(hex: &[u8]) -> PortResult<String> {
    hex::decode(hex).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)
}

/// A digest of the columns of SHOW CREATE that tell what the object is: not when it was made, by whom, or in which schema.
fn definition(schema: &str, kind: &str, fields: &[&[u8]]) -> PortResult<String> {
    let count = match kind {
        "VIEW" => 4,
        "EVENT" => 7,
        "TRIGGER" | "PROCEDURE" | "FUNCTION" | "PACKAGE" | "PACKAGE BODY" => 6,
        _ => 2,
    };
    let fields = fields.get(1..count).ok_or_else(unreadable)?;
    let mut hash = Sha256::new();
    for field in fields {
        let field = unescape(field);
        let plain = if count == 2 { plain_table(&field) } else { without_place(schema, &field)? };
        hash.update((plain.len() as u64).to_be_bytes());
        hash.update(&plain);
    }
    Ok(hex::encode(&hash.finalize()[..16]))
}

fn without_place(schema: &str, definition: &[u8]) -> PortResult<Vec<u8>> {
    let mut filter = SqlFilter::of_schema(schema);
    let mut plain = filter.push(definition)?.to_vec();
    plain.extend_from_slice(&filter.finish()?);
    Ok(plain)
}

/// A table's definition without what says nothing of it: its counter, which is told apart, and the character set in front of a
/// collation, which MySQL prints or not depending on how the table was made.
fn plain_table(definition: &[u8]) -> Vec<u8> {
    const CHARSET: &[u8] = b" CHARACTER SET ";
    let mut plain = without_auto_increment(definition);
    let mut from = 0;
    while let Some(start) = memchr::memmem::find(&plain[from..], CHARSET).map(|i| from + i) {
        from = start + CHARSET.len();
        let name = plain[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if plain[from + name..].starts_with(b" COLLATE ") {
            plain.drain(start..from + name);
            from = start;
        }
    }
    plain
}

/// A table's definition without its counter, which is among the options behind the last column. A line break inside a comment or
/// default is printed escaped, so the last `\n)` is where the options begin.
fn without_auto_increment(definition: &[u8]) -> Vec<u8> {
    const COUNTER: &[u8] = b" AUTO_INCREMENT=";
    let options = memchr::memmem::rfind(definition, b"\n) ENGINE=").unwrap_or(definition.len());
    let Some(start) = memchr::memmem::find(&definition[options..], COUNTER).map(|i| options + i) else {
        return definition.to_vec();
    };
    let digits = definition[start + COUNTER.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    [&definition[..start], &definition[start + COUNTER.len() + digits..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[u8], chunk: usize) -> PortResult<Vec<(String, String)>> {
        let mut reader = Reader::new("shop", ["tv".to_owned()].into());
        for part in lines.chunks(chunk) {
            reader.push(part)?;
        }
        reader.finish()
    }

    const LINES: &[u8] =
        b"show\tBASE TABLE\t74\nt\tCREATE TABLE `t` (\\n  `a` int\\n) ENGINE=InnoDB AUTO_INCREMENT=7\n\
        count\t74\t2\nrows\t74\nr\t1\tx\nr\t2\ty\nnext\t74\t7\nnext\t7476\t9\nend\n";

    #[test]
    fn rows_count_in_any_order_and_in_any_chunks() {
        let entries = read(LINES, LINES.len()).unwrap();
        for chunk in 1..20 {
            assert_eq!(read(LINES, chunk).unwrap(), entries);
        }
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["base table:t", "rows:t", "content:t", "auto_increment:t"]);
        let text = String::from_utf8(LINES.to_vec()).unwrap();
        let swapped = text.replace("r\t1\tx\nr\t2\ty", "r\t2\ty\nr\t1\tx");
        assert_eq!(read(swapped.as_bytes(), 9).unwrap(), entries);
        let other_counter = text.replace("AUTO_INCREMENT=7", "AUTO_INCREMENT=12");
        assert_eq!(read(other_counter.as_bytes(), 9).unwrap(), entries);
        for (from, to) in [("1\tx", "1\tz"), ("r\t2\ty\n", ""), ("`a` int", "`a` bigint"), ("2\ty", "1\tx")] {
            assert_ne!(read(text.replace(from, to).as_bytes(), 9).unwrap(), entries, "{from}");
        }
    }

    #[test]
    fn what_breaks_off_is_no_fingerprint() {
        assert!(matches!(read(&LINES[..LINES.len() - 4], 5), Err(PortError::Unavailable(_))));
        assert!(matches!(read(b"nonsense\n", 5), Err(PortError::Refused(_))));
    }

    #[test]
    fn a_comment_is_not_taken_for_the_counter() {
        let sql = b"CREATE TABLE `t` (\n  `a` int COMMENT ' AUTO_INCREMENT=5'\n) ENGINE=InnoDB COMMENT='x'";
        assert_eq!(without_auto_increment(sql), sql);
    }

    #[test]
    fn a_character_set_is_implied_by_its_collation() {
        let sql = b"`a` text CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, `b` text CHARACTER SET latin1,";
        assert_eq!(plain_table(sql), b"`a` text COLLATE utf8mb4_bin, `b` text CHARACTER SET latin1,");
    }
}
