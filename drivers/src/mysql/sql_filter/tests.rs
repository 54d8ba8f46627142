//! The filter on texts that dumps hold, cut into chunks of every size.

use super::*;

fn filter(sql: &[u8], chunk: usize) -> (Vec<u8>, SqlFilter) {
    let mut filter = SqlFilter::new();
    let mut out = Vec::new();
    for part in sql.chunks(chunk) {
        out.extend_from_slice(&filter.push(part).unwrap());
    }
    out.extend_from_slice(&filter.finish().unwrap());
    (out, filter)
}

fn text(sql: &str) -> String {
    let (whole, _) = filter(sql.as_bytes(), sql.len().max(1));
    for chunk in 1..sql.len().min(80) {
        let (cut, _) = filter(sql.as_bytes(), chunk);
        assert_eq!(String::from_utf8_lossy(&cut), String::from_utf8_lossy(&whole), "in chunks of {chunk}");
    }
    String::from_utf8(whole).unwrap()
}

#[test]
fn definers_go_and_everything_else_stays() {
    for (sql, expected) in [
        (
            "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */;",
            "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013  SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */;",
        ),
        (
            "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a``b`@`%`*/ /*!50003 TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN SET @a=1; END */;;\nDELIMITER ;\n",
            "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN SET @a=1; END */;;\nDELIMITER ;\n",
        ),
        (
            "CREATE DEFINER=root@localhost FUNCTION f() RETURNS INT RETURN 1;",
            "CREATE  FUNCTION f() RETURNS INT RETURN 1;",
        ),
        ("create definer = 'x y' @ 'h' procedure p() begin end;", "create  procedure p() begin end;"),
        (
            "CREATE OR REPLACE DEFINER=CURRENT_USER() SQL SECURITY INVOKER VIEW v AS SELECT 1;",
            "CREATE OR REPLACE  SQL SECURITY INVOKER VIEW v AS SELECT 1;",
        ),
        (
            "CREATE DEFINER=CURRENT_USER EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1;",
            "CREATE  EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1;",
        ),
        (
            "ALTER DATABASE `old_site` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;",
            "ALTER DATABASE  CHARACTER SET latin1 COLLATE latin1_swedish_ci ;",
        ),
        ("/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump of x\nSELECT 1;", "\n\nSELECT 1;"),
        ("SELECT 1; # x\n-- Table `a`\n-- Dump completed\n", "SELECT 1; \n\n-- Dump completed\n"),
    ] {
        assert_eq!(text(sql), expected);
    }
}

#[test]
fn events_come_in_switched_off_and_are_told_from_those_that_were() {
    let off = |sql: &str, chunk: usize| {
        let mut filter = SqlFilter::new().events_off();
        let mut out = Vec::new();
        for part in sql.as_bytes().chunks(chunk) {
            out.extend_from_slice(&filter.push(part).unwrap());
        }
        out.extend_from_slice(&filter.finish().unwrap());
        String::from_utf8(out).unwrap()
    };
    for (sql, expected) in [
        (
            "/*!50106 CREATE*/ /*!50117 DEFINER=`a`@`b`*/ /*!50106 EVENT `enable` ON SCHEDULE EVERY 1 DAY STARTS '2027-01-01 00:00:00' ON COMPLETION NOT PRESERVE ENABLE COMMENT 'ENABLE DO' DO BEGIN SELECT 'ENABLE'; DISABLE; END */;;",
            "/*!50106 CREATE*/ /*!50117 */ /*!50106 EVENT `enable` ON SCHEDULE EVERY 1 DAY STARTS '2027-01-01 00:00:00' ON COMPLETION NOT PRESERVE DISABLE ON SLAVE COMMENT 'ENABLE DO' DO BEGIN SELECT 'ENABLE'; DISABLE; END */;;",
        ),
        (
            "CREATE EVENT `e` ON SCHEDULE EVERY 1 DAY ON COMPLETION PRESERVE DISABLE DO SET @enable = 1;",
            "CREATE EVENT `e` ON SCHEDULE EVERY 1 DAY ON COMPLETION PRESERVE DISABLE DO SET @enable = 1;",
        ),
        (
            "CREATE EVENT `e` ON SCHEDULE EVERY 1 DAY DISABLE ON SLAVE DO SELECT 1;",
            "CREATE EVENT `e` ON SCHEDULE EVERY 1 DAY DISABLE   DO SELECT 1;",
        ),
        (
            "create event if not exists enable on schedule at '2030-01-01' do select 1;",
            "create event if not exists enable on schedule at '2030-01-01' DISABLE ON SLAVE do select 1;",
        ),
        ("CREATE TABLE event (enable int);", "CREATE TABLE event (enable int);"),
        ("ALTER EVENT e ENABLE;", "ALTER EVENT e ENABLE;"),
    ] {
        for chunk in 1..90 {
            assert_eq!(off(sql, chunk), expected, "in chunks of {chunk}");
        }
        assert_eq!(text(sql).contains("ON SLAVE"), sql.contains("ON SLAVE"), "a dump tells them as they are");
    }
}

#[test]
fn the_schemas_own_name_leaves_views_and_triggers() {
    let of_shop = |sql: &str, chunk: usize| {
        let mut filter = SqlFilter::of_schema("shop");
        let mut out = Vec::new();
        for part in sql.as_bytes().chunks(chunk) {
            out.extend_from_slice(&filter.push(part).unwrap());
        }
        out.extend_from_slice(&filter.finish().unwrap());
        String::from_utf8(out).unwrap()
    };
    for (sql, expected) in [
        (
            "/*!50001 CREATE */ /*!50001 VIEW `v` AS select `shop`.`t`.`a` AS `a`,`shop`.`f`(`t`.`b`) AS `b` from `t` where `shop`.`t`.`a` <> '`shop`.`t`.`a`' */;",
            "/*!50001 CREATE */ /*!50001 VIEW `v` AS select `t`.`a` AS `a`,`f`(`t`.`b`) AS `b` from `t` where `t`.`a` <> '`shop`.`t`.`a`' */;",
        ),
        // An alias of that name, another schema, and a name that begins alike.
        ("CREATE VIEW v AS select `shop`.`a` AS `a`, `shops`.`t`.`a` from `t` `shop`;", ""),
        (
            "CREATE VIEW v AS select `shop`.`shop`.`a` from `shop`;",
            "CREATE VIEW v AS select `shop`.`a` from `shop`;",
        ),
        (
            "CREATE TRIGGER shop.t BEFORE INSERT ON `shop`.`x` FOR EACH ROW SET NEW.a = (SELECT shop.f(1));",
            "CREATE TRIGGER t BEFORE INSERT ON `x` FOR EACH ROW SET NEW.a = (SELECT shop.f(1));",
        ),
        ("CREATE TABLE t (a int); INSERT INTO t VALUES ('`shop`.`t`.`a`'), (`shop`.`t`.`a`);", ""),
    ] {
        let expected = if expected.is_empty() { sql } else { expected };
        for chunk in 1..sql.len() {
            assert_eq!(of_shop(sql, chunk), expected, "in chunks of {chunk}");
        }
    }
}

#[test]
fn what_only_looks_like_a_definer_passes_unchanged() {
    for sql in [
        "INSERT INTO `t` VALUES (1,'/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */'),(2,'it\\'s; CREATE DEFINER=`a`@`b` VIEW'),(3,'x''; CREATE DEFINER=a@b VIEW v AS');",
        "INSERT INTO t VALUES ('\\\\'),('CREATE DEFINER=`a`@`b` TRIGGER');\n\n/* CREATE DEFINER=a@b VIEW */ SELECT 1 -- CREATE DEFINER=`a`@`b` VIEW\n# CREATE DEFINER=a@b VIEW\n;",
        "CREATE TABLE `definer` (`a` int COMMENT 'DEFINER=`x`@`y`') ENGINE=InnoDB;",
        "CREATE TABLE t (definer int, `CREATE DEFINER=a@b VIEW` int);",
        "DELIMITER //\nCREATE PROCEDURE p() BEGIN SET @q = 'x'; CREATE DEFINER=`a`@`b` VIEW v AS SELECT 1; END //\nDELIMITER ;\n",
        "ALTER DATABASE CHARACTER SET utf8mb4;ALTER TABLE `x` DISABLE KEYS;",
        "CREATE VIEW v AS SELECT 1; SELECT 5--1, 3 - -2, a/b, 'a' \"b\" `c`;",
        "CREATE SQL SECURITY DEFINER VIEW v AS SELECT 1;",
        "",
        "CREATE",
        "CREATE DEFINER=`a`",
    ] {
        assert_eq!(text(sql), sql);
    }
}

#[test]
fn bytes_that_are_no_text_pass_unchanged() {
    let mut sql = b"INSERT INTO t VALUES ('".to_vec();
    for byte in 0..=255u8 {
        match byte {
            0 => sql.extend(b"\\0"),
            b'\'' | b'"' | b'\\' => sql.extend([b'\\', byte]),
            b'\n' => sql.extend(b"\\n"),
            byte => sql.push(byte),
        }
    }
    sql.extend(b"');\n");
    for chunk in 1..60 {
        assert_eq!(filter(&sql, chunk).0, sql);
    }
}

#[test]
fn only_a_trailer_at_the_very_end_counts() {
    for (sql, complete) in [
        ("SELECT 1;\n-- Dump completed on 2026-01-01\n", true),
        ("SELECT 1;\n-- Dump completed", true),
        ("-- Dump completed\n\n/* */ -- and a remark\n", true),
        ("-- Dump completed\nSELECT 1;\n", false),
        ("INSERT INTO t VALUES ('\n-- Dump completed on 2026-01-01\n", false),
        ("INSERT INTO t VALUES (1)\n-- Dump completed\n", false),
        ("/* \n-- Dump completed\n", false),
        ("SELECT 1;\n-- Dump compl", false),
        ("", false),
    ] {
        for chunk in 1..40 {
            assert_eq!(filter(sql.as_bytes(), chunk).1.complete(), complete, "{sql:?} in chunks of {chunk}");
        }
    }
}

#[test]
fn heads_and_delimiters_are_bounded() {
    let comment = format!("/*{}*/ ", "x".repeat(1000));
    let mut filter = SqlFilter::new();
    filter.push(b"CREATE ").unwrap();
    assert!((0..200).any(|_| filter.push(comment.as_bytes()).is_err()));
    assert!(SqlFilter::new().push(format!("DELIMITER {}\n", "x".repeat(40)).as_bytes()).is_err());
}

#[test]
fn the_largest_statement_is_known() {
    let (_, filter) = filter(b"SELECT 1; SELECT 'a;b', 2, 3, 4, 5; SELECT 1;", 7);
    assert_eq!(filter.largest_statement.load(Ordering::Relaxed), " SELECT 'a;b', 2, 3, 4, 5;".len() as u64);
}
