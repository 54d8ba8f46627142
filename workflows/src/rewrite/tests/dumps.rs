//! Whole dumps: only values of rows change, everything else passes byte for byte.

use super::super::{MAX_LISTED, Reason, Rewrite, RewriteError};
use super::{dump, dump_in_pieces, host, moved_site, rewrite};

fn short() -> Rewrite {
    rewrite([host("old.test", "brand-new.test")])
}

/// A dump that must pass byte for byte.
#[track_caller]
fn assert_passes(text: &str) {
    let (out, report) = dump(short, text);
    assert_eq!(out, text);
    assert_eq!((report.values_changed, report.left_alone), (0, 0));
}

#[test]
fn values_of_rows_are_rewritten_with_their_escapes() {
    let old = concat!(
        "INSERT INTO `wp_posts` VALUES (1,'http://old.example.test/?a=1','It\\'s \\\"old.example.test\\\"\\n',NULL),",
        "(2,'a:1:{i:0;s:25:\\\"http://old.example.test/\\'\\n\\\";}','',-1.5);\n",
        "REPLACE INTO `wp_options` (`a`,`b`) VALUES ('siteurl','{\\\"u\\\":\\\"http:\\\\/\\\\/old.example.test\\\"}');\n",
    );
    let new = concat!(
        "INSERT INTO `wp_posts` VALUES (1,'http://new.test/?a=1','It\\'s \\\"new.test\\\"\\n',NULL),",
        "(2,'a:1:{i:0;s:17:\\\"http://new.test/\\'\\n\\\";}','',-1.5);\n",
        "REPLACE INTO `wp_options` (`a`,`b`) VALUES ('siteurl','{\\\"u\\\":\\\"http:\\\\/\\\\/new.test\\\"}');\n",
    );
    let old = old.replace("s:25:", "s:26:");
    let new = new.replace("s:17:", "s:18:");
    let (out, report) = dump(moved_site, &old);
    assert_eq!(out, new);
    assert_eq!((report.values_seen, report.values_changed, report.serialised_changed), (6, 4, 1));
    assert_eq!((report.replacements, report.left_alone), (4, 0));
    assert_eq!((report.bytes_in, report.bytes_out), (old.len() as u64, new.len() as u64));
}

#[test]
fn statements_in_their_many_forms_are_read() {
    for head in [
        "INSERT INTO `t` VALUES (",
        "insert into t values(",
        "INSERT INTO `db`.`t` (`a``b`, `VALUES`) VALUES\n(",
        "INSERT  IGNORE INTO \"t\" VALUES (",
        "INSERT LOW_PRIORITY INTO `t` VALUE (",
        "REPLACE `t` PARTITION (`p0`) VALUES (",
        "/* note */ INSERT INTO `t` /* it's */ VALUES (1),\n(",
        "-- it's\n# it's\nINSERT INTO `t` VALUES -- it's\n(",
        "/*!40000 ALTER TABLE `t` DISABLE KEYS */;\nINSERT INTO `t` VALUES (",
        "/*M!999999\\- enable the sandbox mode */ \nINSERT INTO `t` VALUES (",
        "INSERT INTO `t` VALUES (_binary ",
        "INSERT INTO `t` VALUES ('it''s',\"don't\",'\\\\',",
        "INSERT INTO `t` VALUES (0,0x00,'0x','",
    ] {
        let (quote, head) = if head.ends_with('\'') { ("", head) } else { ("'", head) };
        let (out, report) = dump(short, &format!("{head}{quote}old.test');\n"));
        assert_eq!(out, format!("{head}{quote}brand-new.test');\n"));
        assert_eq!(report.values_changed, 1, "{head}");
    }
}

#[test]
fn doubled_quotes_and_raw_line_breaks_are_read() {
    let (out, _) = dump(short, "INSERT INTO t VALUES ('it''s\nold.test;\n',''';old.test');\n");
    assert_eq!(out, "INSERT INTO t VALUES ('it\\'s\\nbrand-new.test;\\n','\\';brand-new.test');\n");
}

#[test]
fn a_backslash_that_is_kept_for_like_patterns_stays() {
    let (out, _) = dump(
        short,
        "INSERT INTO t VALUES ('50\\% \\_ \\Z\\0\\b\\t \\x','5\\% //old.test \\_ \\Z \\b\\t \\x');\n",
    );
    assert_eq!(
        out,
        "INSERT INTO t VALUES ('50\\% \\_ \\Z\\0\\b\\t \\x','5\\\\% //brand-new.test \\\\_ \\Z \u{8}\t x');\n"
    );
}

/// Dumps of other tools (older mydumper) quote texts with `"`.
#[test]
fn texts_in_double_quotes_are_read() {
    let (out, report) =
        dump(short, "INSERT INTO t VALUES (\"it's \"\"old.test\"\" \\\"\",'\"',\"old.test\");\n");
    assert_eq!(
        out,
        "INSERT INTO t VALUES (\"it\\'s \\\"brand-new.test\\\" \\\"\",'\"',\"brand-new.test\");\n"
    );
    assert_eq!(report.values_seen, 3);
}

#[test]
fn hexadecimal_blobs_are_read_like_texts() {
    let hexed =
        |text: &str| format!("INSERT INTO `variable` VALUES (1,0x{},0x0102,'x');\n", hex::encode_upper(text));
    let (out, report) = dump(short, &hexed("s:8:\"old.test\";"));
    assert_eq!(out, hexed("s:14:\"brand-new.test\";"));
    assert_eq!((report.values_seen, report.serialised_changed), (3, 1));
    assert_passes("INSERT INTO t VALUES (0xABC,0x,0xFg,10x6F6C642E74657374,a0x6F6C642E74657374);\n");
    let (out, report) = dump(short, &hexed("\0old.test"));
    assert_eq!((out, report.left_alone_list[0].reason), (hexed("\0old.test"), Reason::Binary));
}

#[test]
fn everything_but_values_of_rows_stays() {
    for statement in [
        "-- http://old.test 'x\n",
        "# http://old.test\n",
        "/* INSERT INTO t VALUES ('old.test'); */\n",
        "/*!40101 INSERT INTO t VALUES ('old.test') */;\n",
        "/*!50003 CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN /* don't */ INSERT INTO y VALUES ('old.test'); END */;\n",
        "CREATE TABLE `old.test` (`a` varchar(10) DEFAULT 'old.test' COMMENT 'old.test');\n",
        "CREATE DEFINER=`me`@`old.test` VIEW `v` AS select 'old.test' AS `old.test`;\n",
        "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`me`@`old.test` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 'old.test' */;\n",
        "INSERT INTO `old.test` (`old.test`) VALUES (1,`old.test` /* 'old.test' */ -- 'old.test'\n);\n",
        "INSERT INTO `t` VALUES (1 /*!50000 ,'old.test' */,2 /*!50000 ,(0x6F6C642E74657374) */);\n",
        "INSERT INTO `t` /*!50000 VALUES ('old.test') */;\n",
        "INSERT INTO t SELECT 'old.test';\n",
        "/*!40101 SET a = 'old.test';\n",
        "/*!50000 SET /*!50000 a */ = 1, /*!50000 b */ INSERT INTO t VALUES ('old.test') */;\n",
        "INSERT INTO t SET a = 'old.test';\n",
        "UPDATE t SET a = 'old.test';\n",
        "DELIMITER ;;\nCREATE PROCEDURE p() BEGIN\nSELECT 1;\nINSERT INTO t VALUES ('old.test');\nEND ;;\nDELIMITER ;\n",
        "DELIMITER $$\nCREATE PROCEDURE p() BEGIN SELECT 1; INSERT INTO t VALUES ('old.test'); END$$\nDELIMITER ;\n",
        "DELIMITER //\nCREATE PROCEDURE p() BEGIN SELECT 1; INSERT INTO t VALUES ('old.test'); END //\nDELIMITER ;\n",
        "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`old.test`*/ /*!50003 TRIGGER `x` AFTER INSERT ON `y` FOR EACH ROW BEGIN\n-- don't\nINSERT INTO z VALUES ('old.test'); END */;;\nDELIMITER ;\n",
    ] {
        assert_passes(statement);
        let followed = format!("{statement}INSERT INTO t VALUES ('old.test');\n");
        let (out, report) = dump(short, &followed);
        assert_eq!(
            out,
            format!("{statement}INSERT INTO t VALUES ('brand-new.test');\n"),
            "the reader lost its place"
        );
        assert_eq!(report.values_changed, 1);
    }
}

/// Case 20: a value that looks like a dump.
#[test]
fn a_value_that_holds_dump_syntax_is_a_value() {
    let inside = "');\\nDELIMITER ;;\\n/*!50013 DEFINER=`a`@`old.test`*/ -- Dump completed\\nINSERT INTO t VALUES (\\'old.test\\'";
    let inside = inside.strip_prefix('\'').unwrap();
    let (out, report) = dump(short, &format!("INSERT INTO t VALUES ('{inside}',1);\n"));
    assert_eq!(
        out,
        format!("INSERT INTO t VALUES ('{}',1);\n", inside.replace("old.test", "brand-new.test"))
    );
    assert_eq!(report.values_seen, 1);
}

#[test]
fn values_left_alone_are_listed_with_their_place() {
    let text = "INSERT INTO `a` VALUES (1,'x'),(2,'y');\nINSERT INTO `b` VALUES (1,'s:9:\\\"old.test\\\";');\nINSERT INTO `b` VALUES (2,f(1,2),'','\\0old.test');\n";
    let (out, report) = dump(short, text);
    assert_eq!(out, text);
    let places: Vec<(&str, u64, u64, Reason)> = report
        .left_alone_list
        .iter()
        .map(|left| (left.table.as_str(), left.row, left.column, left.reason))
        .collect();
    assert_eq!(places, [("b", 1, 2, Reason::InvalidSerialised), ("b", 2, 4, Reason::Binary)]);
    for left in &report.left_alone_list {
        assert_eq!(text.as_bytes()[usize::try_from(left.offset).unwrap()], b'\'');
    }
    let many = "INSERT INTO t VALUES ('s:1:\\\"old.test\\\";');\n".repeat(MAX_LISTED + 5);
    let (_, report) = dump(short, &many);
    assert_eq!((report.left_alone, report.left_alone_list.len()), (MAX_LISTED as u64 + 5, MAX_LISTED));
}

#[test]
fn skipped_tables_pass() {
    let skipping = || short().skip_tables(["watchdog".to_owned()]);
    let (out, report) = dump(
        skipping,
        "INSERT INTO `d7_watchdog` VALUES ('old.test;');\nINSERT INTO `watchdogs` VALUES ('old.test');\nINSERT INTO watchdog VALUES ('old.test');\n",
    );
    assert_eq!(
        out,
        "INSERT INTO `d7_watchdog` VALUES ('old.test;');\nINSERT INTO `watchdogs` VALUES ('brand-new.test');\nINSERT INTO watchdog VALUES ('old.test');\n"
    );
    assert_eq!(report.values_seen, 1);
}

#[test]
fn values_beyond_the_bound_pass_and_are_told() {
    let limited = || short().value_limit(50);
    let long = "x".repeat(45);
    for text in [
        format!("INSERT INTO t VALUES (7,'{long}old.test{long}','old.tests');\n"),
        format!("INSERT INTO t VALUES (7,'old.test{long}\\'{long}','{long}{long}');\n"),
        format!("INSERT INTO t VALUES (7,'{long}{long}old.test');\n"),
        format!("INSERT INTO t VALUES (7,0x{});\n", hex::encode(format!("{long}{long}old.test"))),
    ] {
        let (out, report) = dump(limited, &text);
        assert_eq!(out, text);
        assert_eq!((report.left_alone, report.left_alone_list[0].reason), (1, Reason::TooLarge), "{text}");
        assert_eq!((report.left_alone_list[0].column, report.left_alone_list[0].offset), (2, 24));
        for piece in 2..40 {
            let (pieces, piecewise) = dump_in_pieces(limited(), text.as_bytes(), piece);
            assert_eq!((pieces, piecewise), (text.clone().into_bytes(), Ok(report.clone())));
        }
    }
    let fits = format!("INSERT INTO t VALUES ('{}old.test');\n", "/".repeat(42));
    assert_eq!(dump(limited, &fits).1.values_changed, 1);
    assert_eq!(dump(limited, &fits.replace("('", "('/")).1.left_alone, 1);
    for piece in 1..20 {
        let without_pairs = rewrite([]).value_limit(5);
        let (out, end) =
            dump_in_pieces(without_pairs, b"INSERT INTO t VALUES ('0123456789\\\\012\\'');\n", piece);
        assert_eq!(out, b"INSERT INTO t VALUES ('0123456789\\\\012\\'');\n");
        assert_eq!(end.unwrap().values_seen, 1);
    }
    assert_passes(&format!("INSERT INTO t VALUES ('{}');\n", long.repeat(3)));
}

#[test]
fn a_dump_that_is_cut_off_is_an_error_and_passes_nevertheless() {
    for (cut, inside) in [
        ("INSERT INTO `t` VALUES (1,'old", "a value"),
        ("INSERT INTO `t` VALUES (1,'old\\", "a value"),
        ("INSERT INTO `t` VALUES (1,0xAB", "an INSERT statement"),
        ("INSERT INTO `t` VALUES (1,'old'),", "an INSERT statement"),
        ("INSERT INTO `t` (`a", "an INSERT statement"),
        ("CREATE TABLE `t", "a quoted text"),
        ("/* note", "a comment"),
    ] {
        for piece in [1, 7, 100] {
            let (out, end) = dump_in_pieces(short(), cut.as_bytes(), piece);
            assert_eq!(out, cut.as_bytes());
            let Err(RewriteError::CutOff { inside: found, .. }) = end else {
                panic!("{cut:?} was taken as whole")
            };
            if cut != "INSERT INTO `t` (`a" {
                assert_eq!(found, inside, "{cut:?}");
            }
        }
    }
    assert!(dump_in_pieces(short(), b"INSERT INTO t VALUES (1);\n-- Dump completed", 3).1.is_ok());
    assert!(dump_in_pieces(short(), b"", 1).1.is_ok());
}
