//! The heading of a dump on its way in: it switches off the checks of unique keys, which makes MariaDB (10.7 and newer) gather a whole
//! table's rows in files before it builds the table, half as fast as row by row when they come in one transaction. Here they stay on.
//! Never touches anything behind the heading.

use bytes::Bytes;

/// Most bytes of a heading: tools write one of about 800.
const MAX_HEADING: usize = 4 * 1024;
/// What mysqldump and mariadb-dump write there.
const OFF: &[u8] = b"/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;";
/// What is sent instead: as long.
const ON: &[u8] = b"/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=1 */;";

/// Holds a dump back until its heading is known.
#[derive(Debug, Default)]
pub(super) struct Heading {
    held: Vec<u8>,
    over: bool,
}

impl Heading {
    /// Takes a chunk; returns what can be passed on.
    pub(super) fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.over {
            return chunk;
        }
        self.held.extend_from_slice(&chunk);
        if self.held.len() < MAX_HEADING { Bytes::new() } else { self.finish() }
    }

    /// Ends the heading, at the latest where the dump ends; returns what was held back.
    pub(super) fn finish(&mut self) -> Bytes {
        self.over = true;
        let mut line = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.held[line..]) {
            let text = &mut self.held[line..line + length];
            if text == OFF {
                text.copy_from_slice(ON);
            }
            // The first statement that is for every server ends it: names and rows come behind it.
            if !(text.is_empty() || text.starts_with(b"/*") || text.starts_with(b"--")) {
                break;
            }
            line += length + 1;
        }
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(sql: &str, size: usize) -> String {
        let mut heading = Heading::default();
        let mut out = Vec::new();
        for chunk in sql.as_bytes().chunks(size) {
            out.extend_from_slice(&heading.push(Bytes::copy_from_slice(chunk)));
        }
        out.extend_from_slice(&heading.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn checks_stay_on_and_nothing_else_changes() {
        let off = str::from_utf8(OFF).unwrap();
        let rest = format!("DROP TABLE IF EXISTS `t`;\n{off}\nINSERT INTO `t` VALUES ('{off}');\n");
        let dump = format!("-- MariaDB dump\n\n/*!40103 SET TIME_ZONE='+00:00' */;\n{off}\n\n{rest}");
        let long = format!("{dump}{}", "x\n".repeat(MAX_HEADING));
        for sql in [&dump, &long] {
            for size in [1, 7, 100, 10_000] {
                let out = through(sql, size);
                assert_eq!(out.replacen("UNIQUE_CHECKS=1 */", "UNIQUE_CHECKS=0 */", 1), *sql);
                assert!(out.find("UNIQUE_CHECKS=1 */").unwrap() < out.find("DROP TABLE").unwrap());
                assert!(out.contains(&rest), "behind the heading all is as it was");
            }
        }
        for plain in ["", "\n", "SELECT 1;", "CREATE TABLE t (a int);\n"] {
            assert_eq!(through(plain, 3), plain);
        }
    }
}
