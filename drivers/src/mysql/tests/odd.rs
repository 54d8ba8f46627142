//! Odd schemas survive a dump and an import: everything that real sites were seen to have.

use futures::StreamExt;
use kedge_workflows::ports::{Database, DatabaseFingerprint, Fingerprint, Login, PortError};

use super::real::{Bench, mark};
use crate::mysql::within;

/// Tables and more that both flavours have. `DELIMITER` lines are the client's.
const SCHEMA: &str = r#"
SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO';
CREATE TABLE `bytes` (id int PRIMARY KEY, b longblob, v varbinary(300), t longtext CHARACTER SET utf8mb4, bits bit(9));
CREATE TABLE `order` (`select` int AUTO_INCREMENT PRIMARY KEY, `group by` varchar(20), `a``b` int) AUTO_INCREMENT=4711;
INSERT INTO `order` (`group by`) VALUES ('x'), (NULL), ('NULL'), ('');
INSERT INTO `order` (`select`, `group by`) VALUES (0, 'zero');
CREATE TABLE `Name with space. And dot` (a int) ENGINE=MyISAM;
INSERT INTO `Name with space. And dot` VALUES (1),(1),(2);
CREATE TABLE two_statements (t longtext) ENGINE=MyISAM;
INSERT INTO two_statements VALUES (REPEAT('x', 900000)), (REPEAT('y', 900000)), (REPEAT('z', 900000));
CREATE TABLE dates (d date DEFAULT '0000-00-00', t datetime DEFAULT '0000-00-00 00:00:00', s timestamp NULL, y year, f float, g double, n decimal(30,10));
INSERT INTO dates VALUES (DEFAULT, DEFAULT, '2026-01-01 12:00:00', 2026, 0.1, 1e-300, 12345678901234567890.0123456789), ('2026-00-00', NULL, NULL, NULL, -3.4e38, 3.14159265358979, NULL);
CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int GENERATED ALWAYS AS (a + 1) VIRTUAL, KEY (b));
INSERT INTO computed (a) VALUES (1), (2), (NULL);
CREATE TABLE latin (t varchar(50) CHARACTER SET latin1, twice varchar(50) CHARACTER SET latin1) DEFAULT CHARSET=latin1;
INSERT INTO latin VALUES (_latin1 X'E4F6FC80', _latin1 X'C3A4');
CREATE TABLE parent (id int PRIMARY KEY, child int, KEY (child)) ENGINE=InnoDB;
CREATE TABLE child (id int PRIMARY KEY, parent int, KEY (parent), CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent (id)) ENGINE=InnoDB;
ALTER TABLE parent ADD CONSTRAINT to_child FOREIGN KEY (child) REFERENCES child (id);
SET SESSION foreign_key_checks=0;
INSERT INTO parent VALUES (1, 1); INSERT INTO child VALUES (1, 1);
CREATE TABLE keyed (id int AUTO_INCREMENT, a varchar(300) NOT NULL DEFAULT '', at datetime NOT NULL DEFAULT '0000-00-00 00:00:00', `odd``, key` int,
  PRIMARY KEY (id), KEY z (a(20), at), UNIQUE KEY u (`odd``, key`), KEY b (at) COMMENT 'x, KEY `a` (', FULLTEXT KEY words (a), KEY a (`odd``, key`, id)) ENGINE=InnoDB;
INSERT INTO keyed (a, `odd``, key`) VALUES ('one two', 2), ('three', 1), ('one', NULL);
CREATE TABLE parts (id int NOT NULL, KEY (id)) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO parts VALUES (1), (2), (3), (4);
CREATE TABLE nothing (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, e enum('a','b''c'), s set('x','y'), j json) COMMENT='has '' AUTO_INCREMENT=5';
CREATE TABLE shape (p point NOT NULL, SPATIAL KEY (p));
INSERT INTO shape VALUES (POINT(1, 2));
CREATE TABLE log (what varchar(100));
INSERT INTO log VALUES ('/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */'), ('CREATE DEFINER=`a`@`b` TRIGGER'), ('\n-- Dump completed on 2026-01-01\n'), ('a\\'';DROP TABLE log;--');
CREATE USER IF NOT EXISTS 'gone'@'nowhere.test'; GRANT ALL ON *.* TO 'gone'@'nowhere.test';
CREATE DEFINER='gone'@'nowhere.test' VIEW seen AS SELECT `select`, `group by` FROM `order` WHERE `group by` <> 'it''s */ ; DEFINER=`x`@`y`';
CREATE DEFINER=root@localhost SQL SECURITY INVOKER VIEW over_seen AS SELECT COUNT(*) AS n FROM seen;
DELIMITER ;;
CREATE DEFINER='gone'@'nowhere.test' TRIGGER logged AFTER INSERT ON `order` FOR EACH ROW BEGIN
  -- a comment; with a delimiter
  INSERT INTO log VALUES (CONCAT('new ', NEW.`select`, ';'));
  /* CREATE DEFINER=`a`@`b` VIEW */
END;;
CREATE DEFINER=root@localhost FUNCTION answer(a int) RETURNS int DETERMINISTIC
BEGIN
  DECLARE s varchar(10) DEFAULT 'x;;y';
  RETURN a + 42;
END;;
CREATE DEFINER='gone'@'nowhere.test' PROCEDURE does_more() SQL SECURITY DEFINER MODIFIES SQL DATA
BEGIN
  CREATE TEMPORARY TABLE IF NOT EXISTS tmp (a int);
  SELECT "double ""quoted"" ;", 'single', `select` FROM `order`;
END;;
CREATE DEFINER=root@localhost EVENT yearly ON SCHEDULE EVERY 1 YEAR STARTS '2027-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE DO INSERT INTO log VALUES ('tick');;
DELIMITER ;
DROP USER 'gone'@'nowhere.test';
"#;

/// What only MariaDB has.
const MARIADB: &str = r#"
CREATE TABLE aria (a int PRIMARY KEY, b text) ENGINE=Aria;
INSERT INTO aria VALUES (1, 'x');
CREATE SEQUENCE numbers START WITH 100 INCREMENT BY 10 CACHE 5;
SELECT NEXTVAL(numbers), NEXTVAL(numbers);
CREATE TABLE hidden (a int, secret int INVISIBLE DEFAULT 7);
INSERT INTO hidden (a, secret) VALUES (1, 2), (3, DEFAULT);
CREATE TABLE kept (id int PRIMARY KEY, v varchar(10)) WITH SYSTEM VERSIONING;
INSERT INTO kept VALUES (1, 'old');
UPDATE kept SET v = 'new';
CREATE TABLE packed (t text) ENGINE=InnoDB ROW_FORMAT=COMPRESSED;
INSERT INTO packed VALUES (REPEAT('x', 10000));
CREATE TABLE computing (u varchar(36) DEFAULT uuid(), v varchar(36) DEFAULT '(', w int DEFAULT (1 + 1), x datetime(3) DEFAULT current_timestamp(3));
"#;

/// What of that MySQL cannot take.
const ONLY_MARIADB: [&str; 6] = [
    "table aria (engine aria)",
    "table kept (system versioned)",
    "table numbers (sequence)",
    "column computed.b (generated)",
    "column computed.c (generated)",
    "column computing.u (computed default)",
];

/// What only MySQL has.
const MYSQL: &str = r#"
CREATE TABLE modern (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name varchar(100) COLLATE utf8mb4_0900_ai_ci, other varchar(100) COLLATE utf8mb4_0900_as_cs,
  secret int INVISIBLE DEFAULT 7, doc json DEFAULT (JSON_OBJECT('a', 1)), uuid binary(16) DEFAULT (UUID_TO_BIN(UUID())),
  price decimal(10,2) CHECK (price >= 0), half decimal(10,2) GENERATED ALWAYS AS (price / 2) VIRTUAL NOT NULL,
  KEY unseen (name) INVISIBLE, KEY by_lower ((LOWER(name))), KEY tags ((CAST(doc->'$.tags' AS UNSIGNED ARRAY))), KEY latest (id DESC),
  CONSTRAINT named CHECK (name <> 'x') NOT ENFORCED
) COLLATE utf8mb4_0900_ai_ci;
INSERT INTO modern (id, name, other, secret, doc, price) VALUES (0, 'Zürich 🚢', 'a', 2, '{"tags": [3, 1], "t": "\\u0000 \\" \\\\ ü"}', 1.01),
  (9, NULL, NULL, DEFAULT, NULL, 0), (10, 'x', 'NULL', NULL, 'null', 99999999.99);
CREATE TABLE plain_json (id int PRIMARY KEY, j json, KEY ((CAST(j->>'$.n' AS CHAR(20)))), CONSTRAINT odd CHECK (id > -5));
INSERT INTO plain_json VALUES (1, '{"n": "a\\nb", "big": 1e300, "deep": [[], {}]}'), (2, NULL), (3, '"it''s"');
SET SESSION sql_generate_invisible_primary_key=ON;
CREATE TABLE keyless (a int, b varchar(10)) COLLATE utf8mb4_0900_bin;
SET SESSION sql_generate_invisible_primary_key=OFF;
INSERT INTO keyless VALUES (1, 'a'), (1, 'a'), (NULL, NULL);
CREATE TABLE places (p point NOT NULL SRID 4326, SPATIAL KEY (p));
INSERT INTO places VALUES (ST_GeomFromText('POINT(47.4 8.5)', 4326));
CREATE TABLE packed (t text) ENGINE=InnoDB ROW_FORMAT=COMPRESSED;
INSERT INTO packed VALUES (REPEAT('x', 10000));
CREATE VIEW newer AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3)
  SELECT i, RANK() OVER (ORDER BY i DESC) AS r, JSON_ARRAYAGG(m.name) AS names FROM n LEFT JOIN modern m ON m.id = n.i GROUP BY i;
"#;

/// What of that MariaDB cannot take, beside collations, which are told apart.
const ONLY_MYSQL: [&str; 4] = [
    "index modern.by_lower (of an expression)",
    "index modern.tags (of an expression)",
    "index plain_json.functional_index (of an expression)",
    "constraint modern.named (not enforced)",
];

fn sql_in(schema: &str, sql: &str) -> String {
    format!("USE `{schema}`;\n{sql}")
}

/// Rows with every byte, text of four bytes, and one near the largest packet of the server.
fn bytes(schema: &str) -> Vec<u8> {
    let all: Vec<u8> = (0..=255).collect();
    let mut reversed = all.clone();
    reversed.reverse();
    let mut sql = format!("USE `{schema}`;\n");
    for (id, blob, text) in
        [(1, &all, "𝔘 🚢"), (2, &reversed, "\\ ' \" \u{0} \r\n \t \u{1a} %_"), (3, &vec![0; 300], "NULL")]
    {
        let (blob, text) = (hex::encode(blob), hex::encode(text));
        let short = &blob[..blob.len().min(512)];
        sql += &format!(
            "INSERT INTO bytes VALUES ({id}, X'{blob}', X'{short}', _utf8mb4 X'{text}', b'101010101');\n"
        );
    }
    sql += "INSERT INTO bytes VALUES (4, NULL, '', NULL, NULL);\n";
    // 12 MB of all bytes: in hex it would not pass a packet of 16 MB.
    sql += "INSERT INTO bytes SELECT 5, REPEAT(b, 46000), NULL, NULL, NULL FROM bytes WHERE id = 1;\n";
    sql.into_bytes()
}

async fn fingerprint(bench: &Bench, login: &Login) -> Fingerprint {
    let request =
        DatabaseFingerprint { schema: login.user.clone(), user: None, volatile: vec![], full: true };
    bench.mysql().fingerprint(&request).await.unwrap()
}

/// What differs, but for definers, which an import changes on purpose.
fn different(before: &Fingerprint, after: &Fingerprint) -> Vec<String> {
    let only = |these: &Fingerprint, those: &Fingerprint| -> Vec<String> {
        let missing = these
            .entries
            .iter()
            .filter(|entry| !entry.0.starts_with("definer:") && !those.entries.contains(entry));
        missing.map(|(key, value)| format!("{key} {value}")).collect()
    };
    [only(before, after), only(after, before)].concat()
}

pub(super) async fn odd_schemas_survive_a_dump_and_an_import(bench: &Bench) {
    let (from, to) = (bench.make("kt_odd_from").await, bench.make("kt_odd_to").await);
    bench.root(&sql_in("kt_odd_from", SCHEMA)).await;
    let is_mysql = bench.is_mysql().await;
    bench.root(&sql_in("kt_odd_from", if is_mysql { MYSQL } else { MARIADB })).await;
    let finished = bench.sql(None, &bytes("kt_odd_from")).await;
    assert_eq!(finished.status, 0, "{}", finished.last_error());
    let only = bench.mysql().schema_facts(&from.user).await.unwrap().only_here;
    let expected = if is_mysql { &ONLY_MYSQL[..] } else { &ONLY_MARIADB[..] };
    assert_eq!(only, expected, "what the other flavour cannot take");
    let before = fingerprint(bench, &from).await;
    assert_eq!(fingerprint(bench, &from).await, before, "twice the same");
    let dump = bench.mysql().dump(&from.user).await.unwrap();
    let report = bench.mysql().import(&to.user, &mark(), &to, dump).await.unwrap();
    assert!(report.bytes > 12_000_000, "{report:?}");
    let after = fingerprint(bench, &to).await;
    assert_eq!(different(&before, &after), Vec::<String>::new());
    let definers: Vec<_> = after.entries.iter().filter(|(key, _)| key.starts_with("definer:")).collect();
    assert_eq!(definers.len(), if is_mysql { 7 } else { 6 }, "{definers:?}");
    assert!(definers.iter().all(|(_, definer)| definer == "kt_odd_to@localhost"), "{definers:?}");
    // What was imported works for its user: the view, the function, the trigger.
    let secret = kedge_workflows::ports::Secrets::get(&bench.secrets, &to.password).await.unwrap().unwrap();
    let use_it = "USE kt_odd_to; INSERT INTO `order` (`group by`) VALUES ('n'); SELECT answer(n) FROM over_seen; SELECT COUNT(*) FROM log;";
    let used = bench.sql(Some((&to.user, &secret)), use_it.as_bytes()).await;
    assert_eq!(
        (String::from_utf8_lossy(&used.stdout).trim(), used.status),
        ("47\n5", 0),
        "{}",
        used.last_error()
    );
    assert_ne!(fingerprint(bench, &to).await, after, "one row more is seen");
    bench.mysql().empty_schema(&to.user, &mark()).await.unwrap();
    rows_of_odd_tables_are_copied_as_they_are(bench, &from, &to, is_mysql).await;
    bench.mysql().empty_schema(&to.user, &mark()).await.unwrap();
    let left = fingerprint(bench, &to).await;
    assert_eq!(left.entries.len(), 1, "{left:?}");
    assert_eq!(fingerprint(bench, &from).await, before, "the source is as it was");
    bench.remove(&from).await;
    bench.remove(&to).await;
}

/// The same, where the server copies what it can by itself.
async fn rows_of_odd_tables_are_copied_as_they_are(bench: &Bench, from: &Login, to: &Login, is_mysql: bool) {
    let mysql = bench.mysql();
    let dotted = "CREATE TABLE `with. dot` (a int) ENGINE=InnoDB; INSERT INTO `with. dot` VALUES (0), (1);";
    bench.root(&sql_in(from.user.as_str(), dotted)).await;
    let before = fingerprint(bench, from).await;
    let names = async |telltales: &[&str]| -> Vec<String> {
        let telltales: Vec<String> = telltales.iter().map(|text| (*text).to_owned()).collect();
        let tables = mysql.plain_tables(&from.user, None, &telltales).await.unwrap();
        tables.into_iter().map(|table| table.name).collect()
    };
    let tables = names(&[]).await;
    for (table, plain) in [
        ("bytes", true),
        ("dates", true),
        ("latin", true),
        ("parent", true),
        ("child", true),
        ("parts", true),
        ("keyed", true),
        ("shape", true),
        ("hidden", !is_mysql),
        ("packed", true),
        ("plain_json", is_mysql),
        ("keyless", is_mysql),
        ("places", is_mysql),
        ("modern", false),
        ("log", true),
        ("with. dot", true),
        ("order", false),
        ("computed", false),
        ("kept", false),
        ("numbers", false),
        ("aria", false),
        ("Name with space. And dot", false),
        ("seen", false),
        ("_kedge_mark", false),
    ] {
        assert_eq!(tables.iter().any(|name| name == table), plain, "{table} in {tables:?}");
    }
    let without = |gone: &str| tables.iter().filter(|name| *name != gone).cloned().collect::<Vec<_>>();
    assert_eq!(names(&["Dump Completed on"]).await, without("log"));
    // In a blob, in any case: byte 0x58 to 0x5a.
    assert_eq!(names(&["wxyz["]).await, without("bytes"));
    let dump = mysql.dump_without_rows(&from.user, &tables).await.unwrap();
    mysql.import(&to.user, &mark(), to, dump).await.unwrap();
    // The keys of all of them come last, as if each were large.
    let all = 0..=u64::MAX;
    within::copy_rows(&mysql.client, &from.user, &to.user, &mark(), &tables, all).await.unwrap();
    let after = fingerprint(bench, to).await;
    assert_eq!(different(&before, &after), Vec::<String>::new());
    what_is_written_to_odd_tables_is_copied_again(bench, from, to, is_mysql).await;
    bench.root(&sql_in(from.user.as_str(), "DROP TABLE `with. dot`;")).await;
}

/// A write to some of them, after all were copied.
async fn what_is_written_to_odd_tables_is_copied_again(
    bench: &Bench,
    from: &Login,
    to: &Login,
    is_mysql: bool,
) {
    let mysql = bench.mysql();
    let times = mysql.table_times(&from.user).await.unwrap();
    let writes = "INSERT INTO `with. dot` VALUES (2); INSERT INTO parent VALUES (9, NULL); UPDATE `order` SET `group by` = 'late' WHERE `select` = 4711;";
    bench.root(&sql_in(from.user.as_str(), writes)).await;
    let touched = mysql.table_times(&from.user).await.unwrap().touched_since(&times).unwrap();
    for (table, again) in
        [("with. dot", true), ("parent", true), ("order", true), ("aria", !is_mysql), ("parts", true)]
    {
        assert_eq!(touched.iter().any(|name| name == table), again, "{table} in {touched:?}");
    }
    assert!(touched.len() < times.tables.len() / 2, "{touched:?}");
    let plain = mysql.plain_tables(&from.user, Some(&touched), &[]).await.unwrap();
    let plain: Vec<String> = plain.into_iter().map(|table| table.name).collect();
    assert!(plain.contains(&"with. dot".to_owned()) && plain.len() < touched.len(), "{plain:?} {touched:?}");
    let dump = mysql.dump_tables(&from.user, &touched, &plain).await.unwrap();
    mysql.import_tables(&to.user, &mark(), to, &touched, dump).await.unwrap();
    mysql.copy_rows(&from.user, &to.user, &mark(), &plain).await.unwrap();
    let after = fingerprint(bench, to).await;
    assert_eq!(different(&fingerprint(bench, from).await, &after), Vec::<String>::new());
    let back = "DELETE FROM parent WHERE id = 9; UPDATE `order` SET `group by` = 'x' WHERE `select` = 4711;";
    bench.root(&sql_in(from.user.as_str(), back)).await;
}

pub(super) async fn events_come_in_switched_off_and_are_started(bench: &Bench) {
    let (from, to) = (bench.make("kt_events_from").await, bench.make("kt_events_to").await);
    let events = "SET NAMES latin1; SET time_zone = '+03:00'; SET sql_mode = 'ANSI_QUOTES';
        CREATE TABLE ticks (a int);
        CREATE EVENT running ON SCHEDULE EVERY 1 HOUR STARTS '2027-01-01 00:00:00' COMMENT 'ENABLE' DO INSERT INTO ticks VALUES (1);
        CREATE EVENT stopped ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM ticks;
        CREATE EVENT once ON SCHEDULE AT '2037-01-01 00:00:00' ON COMPLETION PRESERVE DO DELETE FROM ticks;
        CREATE EVENT elsewhere ON SCHEDULE EVERY 1 DAY DISABLE ON SLAVE DO DELETE FROM ticks;";
    bench.root(&sql_in("kt_events_from", events)).await;
    let dump = bench.mysql().dump(&from.user).await.unwrap();
    bench.mysql().import(&to.user, &mark(), &to, dump).await.unwrap();
    let told = |schema: &str, what: &str| {
        format!(
            "SELECT {what} FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{schema}' ORDER BY EVENT_NAME"
        )
    };
    let on = told("kt_events_to", "GROUP_CONCAT(EVENT_NAME) AS n")
        .replace(" ORDER", " AND STATUS = 'ENABLED' ORDER");
    assert_eq!(bench.root(&on).await.trim(), "NULL", "nothing runs in the copy");
    let report = bench.mysql().start_events(&to.user, &mark(), &to).await.unwrap();
    assert_eq!((report.started, report.passed.len()), (2, 0));
    assert_eq!(bench.mysql().start_events(&to.user, &mark(), &to).await.unwrap().started, 0, "repeated");
    let all = "EVENT_NAME, REPLACE(REPLACE(STATUS, 'SLAVESIDE_', ''), 'REPLICA_SIDE_', ''), SQL_MODE, TIME_ZONE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, STARTS, \
               EXECUTE_AT, ON_COMPLETION, EVENT_COMMENT, EVENT_DEFINITION";
    let (old, new) =
        (bench.root(&told("kt_events_from", all)).await, bench.root(&told("kt_events_to", all)).await);
    assert_eq!(new, old);
    let definers =
        bench.root(&told("kt_events_to", "DISTINCT DEFINER").replace(" ORDER BY EVENT_NAME", "")).await;
    assert_eq!(definers.trim(), "kt_events_to@localhost");
    bench.remove(&from).await;
    bench.remove(&to).await;
}

pub(super) async fn every_kind_of_change_is_seen(bench: &Bench) {
    let login = bench.make("kt_changes").await;
    bench.root(&sql_in("kt_changes", SCHEMA)).await;
    let mut before = fingerprint(bench, &login).await;
    for change in [
        "UPDATE log SET what = CONCAT(what, 'x') LIMIT 1",
        "INSERT INTO parts VALUES (1)",
        "DELETE FROM parts LIMIT 1",
        "ALTER TABLE `order` AUTO_INCREMENT=5000",
        "ALTER TABLE log ADD KEY (what)",
        "UPDATE `order` SET `group by` = NULL WHERE `group by` = 'NULL'",
        "DROP TRIGGER logged",
        "DROP VIEW over_seen",
        "ALTER EVENT yearly ENABLE",
        "ALTER FUNCTION answer COMMENT 'x'",
        "DROP PROCEDURE does_more",
        "CREATE OR REPLACE DEFINER=root@localhost VIEW seen AS SELECT `select`, `group by` FROM `order` WHERE `group by` <> 'it''s */ ; DEFINER=`x`@`y`'",
        "ALTER DATABASE kt_changes CHARACTER SET latin1",
        "RENAME TABLE dates TO dates2",
    ] {
        bench.root(&sql_in("kt_changes", change)).await;
        let after = fingerprint(bench, &login).await;
        assert_ne!(after, before, "{change}");
        before = after;
    }
    bench.remove(&login).await;
}

pub(super) async fn a_dump_is_plain_sql_for_any_server(bench: &Bench) {
    let login = bench.make("kt_plain").await;
    bench.root(&sql_in("kt_plain", SCHEMA)).await;
    // The routine was made under another default of the schema: dumps switch to it, by the schema's name.
    bench.root("ALTER DATABASE kt_plain CHARACTER SET latin1 COLLATE latin1_swedish_ci;").await;
    let mut dump = bench.mysql().dump(&login.user).await.unwrap();
    let mut sql = Vec::new();
    while let Some(chunk) = dump.next().await {
        sql.extend_from_slice(&chunk.unwrap());
    }
    let text = String::from_utf8_lossy(&sql);
    for word in ["kt_plain", "sandbox", "GTID", "CREATE DATABASE", "`nowhere.test`", "\nUSE ", "_kedge_mark"]
    {
        assert!(!text.contains(word), "a dump has {word}");
    }
    assert!(text.trim_end().ends_with("-- Dump completed"), "{}", &text[text.len() - 200..]);
    let to = bench.make("kt_plain_to").await;
    let stream = Box::pin(futures::stream::iter([Ok(sql.into())]));
    bench.mysql().import(&to.user, &mark(), &to, stream).await.unwrap();
    let schema = bench.mysql().schema(&to.user).await.unwrap();
    assert_eq!(
        schema,
        kedge_workflows::ports::Existing::Marked { task: mark().task },
        "the mark outlives an import"
    );
    bench.remove(&login).await;
    bench.remove(&to).await;
}

/// A site that moves between servers: from each to each, with what both know.
pub(super) async fn a_dump_moves_between_servers(from: &Bench, to: &Bench) {
    let (source, target) = (from.make("kt_here").await, to.make("kt_there").await);
    let sql = "CREATE TABLE posts (id int AUTO_INCREMENT PRIMARY KEY, t longtext, b longblob) COLLATE utf8mb4_unicode_520_ci;\n\
               INSERT INTO posts (t, b) VALUES ('it''s 🚢 \\n', X'00FF0A0D1A27225C'), (NULL, '');\n\
               SET NAMES utf8mb4 COLLATE utf8mb4_unicode_520_ci;\nCREATE VIEW v AS SELECT id FROM posts;\n";
    from.root(&sql_in("kt_here", sql)).await;
    let facts = from.mysql().schema_facts(&source.user).await.unwrap();
    assert_eq!(
        facts.collations,
        ["utf8mb4_unicode_520_ci"],
        "whether the target can take it is known beforehand"
    );
    let dump = from.mysql().dump(&source.user).await.unwrap();
    to.mysql().import(&target.user, &mark(), &target, dump).await.unwrap();
    let (before, after) = (fingerprint(from, &source).await, fingerprint(to, &target).await);
    // Definitions are printed differently by different servers; rows and counters are not.
    let rows = |print: &Fingerprint| -> Vec<(String, String)> {
        let data =
            |key: &str| ["content:", "rows:", "auto_increment:"].iter().any(|start| key.starts_with(start));
        print.entries.iter().filter(|(key, _)| data(key)).cloned().collect()
    };
    assert_eq!(rows(&after), rows(&before));
    assert_eq!(rows(&after).len(), 3);
    from.remove(&source).await;
    to.remove(&target).await;
}

/// A row that the server does not take is an error that says what to do, not a lost connection that is tried again.
pub(super) async fn a_row_beyond_the_packet_is_refused(bench: &Bench) {
    let login = bench.make("kt_packet").await;
    let limit = bench.mysql().facts().await.unwrap().max_allowed_packet;
    let row = "x".repeat(usize::try_from(limit).unwrap() + 1000);
    let sql = format!("CREATE TABLE t (a longtext);\nINSERT INTO t VALUES ('{row}');\n");
    let chunks: Vec<_> = sql.into_bytes().chunks(65_536).map(|chunk| Ok(chunk.to_vec().into())).collect();
    let stream = Box::pin(futures::stream::iter(chunks));
    let error = bench.mysql().import(&login.user, &mark(), &login, stream).await.unwrap_err();
    assert!(matches!(&error, PortError::Refused(what) if what.contains("max_allowed_packet")), "{error:?}");
    bench.remove(&login).await;
}
