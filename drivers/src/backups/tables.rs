//! Counts the tables of a dump as it passes, by the lines that begin one: dump tools write each alike, and no literal has a line break.

/// How a line begins that begins a table, and how it ends.
const TABLE: (&[u8], &[u8]) = (b"CREATE TABLE `", b"` (");
/// How a line begins after which statements end otherwise: the bodies of routines, triggers and events are between two of them.
const DELIMITER: &[u8] = b"DELIMITER ";
/// Bytes kept of a line: a name has at most 64 characters, each of 4 bytes or written twice.
const KEPT: usize = 512;

/// The counter.
#[derive(Debug, Default)]
pub(super) struct Tables {
    line: Vec<u8>,
    in_body: bool,
    count: u64,
}

impl Tables {
    /// Takes the next bytes, wherever they are cut.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let room = KEPT.saturating_sub(self.line.len()).min(piece.len());
            self.line.extend_from_slice(&piece[..room]);
            let Some(end) = end else { return };
            self.line_ends();
            bytes = &bytes[end + 1..];
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn line_ends(&mut self) {
        if let Some(delimiter) = self.line.strip_prefix(DELIMITER) {
            self.in_body = delimiter.trim_ascii() != b";";
        } else if !self.in_body && self.line.starts_with(TABLE.0) && self.line.ends_with(TABLE.1) {
            self.count += 1;
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_counted_and_nothing_else_however_the_dump_is_cut() {
        let dump = b"-- CREATE TABLE `no` (\nCREATE TABLE `a` (\n  `x` int\n);\n\
            INSERT INTO `a` VALUES ('\\nCREATE TABLE `no` (\\n');\n\
            /*!50001 CREATE VIEW `v` AS SELECT 1 AS `x`*/;\nDELIMITER ;;\n\
            CREATE PROCEDURE `p`() BEGIN\nCREATE TABLE `no` (\nx int); END ;;\nDELIMITER ;\n\
            CREATE TABLE `b ``c``` (\n  `x` int\n);\n-- Dump completed\n";
        for size in [1, 7, dump.len()] {
            let mut tables = Tables::default();
            dump.chunks(size).for_each(|piece| tables.push(piece));
            assert_eq!(tables.count(), 2, "{size}");
        }
    }
}
