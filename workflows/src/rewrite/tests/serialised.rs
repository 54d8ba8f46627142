//! Serialised data: lengths follow, what is packed in each other too, and what is broken stays as it is.

use super::super::{Reason, Rewrite};
use super::{host, moved_site, rewrite, value};

/// `s:5:"hello";`
fn s(text: &str) -> String {
    format!("s:{}:\"{text}\";", text.len())
}

fn short() -> Rewrite {
    rewrite([host("old.test", "brand-new.test")])
}

#[track_caller]
fn assert_left(rewrite: &Rewrite, text: &str, reason: Reason) {
    let outcome = rewrite.value(text.as_bytes());
    assert_eq!((outcome.changed, outcome.left_alone), (None, Some(reason)), "value {text:?}");
}

#[test]
fn lengths_follow_the_strings() {
    let old = format!(
        "a:2:{{{}{}i:7;{}}}",
        s("url"),
        s("http://old.example.test/ä"),
        s("/srv/platforms/a/sites/old/x")
    );
    let new = format!(
        "a:2:{{{}{}i:7;{}}}",
        s("url"),
        s("http://new.test/ä"),
        s("/srv/platforms/b/sites/brand-new/x")
    );
    let outcome = moved_site().value(old.as_bytes());
    assert_eq!(outcome.changed.as_deref(), Some(new.as_bytes()));
    assert_eq!((outcome.replacements, outcome.serialised, outcome.left_alone), (2, true, None));
}

#[test]
fn every_type_around_a_string_passes() {
    for rest in [
        "N;",
        "b:0;",
        "b:1;",
        "i:-5;",
        "d:0.5;",
        "d:1.0E+25;",
        "d:-INF;",
        "d:NAN;",
        "d:.5;",
        "r:1;",
        "R:2;",
        "a:0:{}",
        "O:8:\"stdClass\":0:{}",
        "E:11:\"Suit:Hearts\";",
        "O:3:\"A\\B\":1:{i:0;N;}",
        "C:3:\"Foo\":3:{x{}}",
        "S:3:\"a\\62c\";",
    ] {
        let old = format!("a:2:{{i:0;{}i:1;{rest}}}", s("old.test"));
        assert_eq!(value(&short(), &old), format!("a:2:{{i:0;{}i:1;{rest}}}", s("brand-new.test")), "{rest}");
    }
}

#[test]
fn keys_classes_and_properties_keep_their_names() {
    let class = "O:8:\"old.test\"";
    assert_left(&short(), &format!("{class}:1:{{{}{}}}", s("a"), s("old.test")), Reason::InvalidSerialised); // no class has a dot
    let old = format!("a:1:{{{}O:4:\"Site\":1:{{{}{}}}}}", s("old.test"), s("old.test"), s("old.test"));
    let new = format!("a:1:{{{}O:4:\"Site\":1:{{{}{}}}}}", s("old.test"), s("old.test"), s("brand-new.test"));
    let outcome = short().value(old.as_bytes());
    assert_eq!(outcome.changed.as_deref(), Some(new.as_bytes()));
    assert_eq!(outcome.keys_left, 1);
}

#[test]
fn private_properties_with_their_nul_pass() {
    let old = format!("O:1:\"A\":1:{{{}{}}}", s("\0*\0url"), s("//old.test/"));
    assert_eq!(value(&short(), &old), old.replace(&s("//old.test/"), &s("//brand-new.test/")));
}

#[test]
fn references_keep_their_numbers() {
    let old = format!("a:3:{{i:0;{}i:1;R:2;i:2;r:2;}}", s("old.test"));
    assert_eq!(value(&short(), &old), format!("a:3:{{i:0;{}i:1;R:2;i:2;r:2;}}", s("brand-new.test")));
}

#[test]
fn packed_in_each_other_all_lengths_follow() {
    let pack = |url: &str| s(&s(&format!("a:1:{{i:0;{}}}", s(url))));
    assert_eq!(value(&short(), &pack("http://old.test/")), pack("http://brand-new.test/"));
    let json_inside = |url: &str| format!("a:1:{{i:0;{}}}", s(&format!(r#"{{"u":"http:\/\/{url}\/x"}}"#)));
    assert_eq!(value(&short(), &json_inside("old.test")), json_inside("brand-new.test"));
}

#[test]
fn serialised_data_in_json_follows_in_the_style_it_was_written_in() {
    for (old, new) in [
        (r#"{"a":"s:16:\"http:\/\/old.test\/\";"}"#, r#"{"a":"s:22:\"http:\/\/brand-new.test\/\";"}"#),
        (r#"["s:16:\"http://old.test/\";"]"#, r#"["s:22:\"http://brand-new.test/\";"]"#),
        (
            r#"{"a":"a:1:{i:0;s:11:\"\u00e9 old.test\";}"}"#,
            r#"{"a":"a:1:{i:0;s:17:\"\u00e9 brand-new.test\";}"}"#,
        ),
        (
            r#"{"a":"a:1:{i:0;s:13:\"\ud83d\ude00 old.test\";}"}"#,
            r#"{"a":"a:1:{i:0;s:19:\"\ud83d\ude00 brand-new.test\";}"}"#,
        ),
        (
            r#"{"a":"old.test","b":"s:10:\"é\nold.test\n\";"}"#,
            r#"{"a":"brand-new.test","b":"s:10:\"é\nold.test\n\";"}"#,
        ),
    ] {
        assert_eq!(value(&short(), old), new, "{old}");
    }
}

#[test]
fn objects_that_serialise_themselves_follow_when_they_read_as_serialised_data() {
    let array_object = |inside: String| format!("C:11:\"ArrayObject\":{}:{{{inside}}}", inside.len());
    let spl = |url: &str| array_object(format!("x:i:0;a:1:{{i:0;{}}};m:a:0:{{}}", s(url)));
    assert_eq!(value(&short(), &spl("old.test")), spl("brand-new.test"));
    let plain = |url: &str| array_object(format!("a:1:{{i:0;{}}}", s(url)));
    assert_eq!(value(&short(), &plain("old.test")), plain("brand-new.test"));
    assert_left(&short(), &array_object("v1,old.test".into()), Reason::Opaque);
    let mixed = |url: &str| format!("a:2:{{i:0;{}i:1;{}}}", array_object("old.test".into()), s(url));
    let outcome = short().value(mixed("old.test").as_bytes());
    assert_eq!(outcome.changed.as_deref(), Some(mixed("brand-new.test").as_bytes()));
    assert_eq!(outcome.left_alone, Some(Reason::Opaque));
}

#[test]
fn escaped_strings_are_understood() {
    assert_eq!(value(&short(), "S:10:\"\\2fold.test\\2F\";"), s("/brand-new.test/"));
    assert_eq!(short().value(b"a:2:{i:0;S:3:\"a\\2fb\";i:1;s:9:\"older.tes\";}").changed, None);
}

#[test]
fn white_space_around_serialised_data_stays() {
    assert_eq!(
        value(&short(), &format!("\n {}\r\n", s("old.test"))),
        format!("\n {}\r\n", s("brand-new.test"))
    );
}

#[test]
fn broken_serialised_data_is_left_alone_and_told() {
    let whole = format!("a:2:{{i:0;{}i:1;{}}}", s("http://old.test/"), s("x"));
    for cut in whole.find("old.test").unwrap() + "old.test".len()..whole.len() {
        assert_left(&short(), &whole[..cut], Reason::InvalidSerialised);
    }
    for broken in [
        "s:9:\"old.test\";",
        "s:7:\"old.test\";",
        "s:8:\"old.test\"",
        "s:8:\"old.test\";x",
        "s:+8:\"old.test\";",
        "a:1:{i:0;s:8:\"old.test\";",
        "a:1:{i:0;s:8:\"old.test\";}}",
        "a:2:{i:0;s:8:\"old.test\";}",
        "a:0:{i:0;s:8:\"old.test\";}",
        "a:1:{d:0;s:8:\"old.test\";}",
        "a:1:{N;s:8:\"old.test\";}",
        "a:1:{i:0;s:8:\"old.test\";i:1;}",
        "a:99999999999999999999:{i:0;s:8:\"old.test\";}",
        "a:18446744073709551615:{i:0;s:8:\"old.test\";}",
        "s:18446744073709551615:\"old.test\";",
        "O:1:\"A\":1:{s:1:\"a\";s:8:\"old.test\"}",
        "a:2:{i:0;b:2;i:1;s:8:\"old.test\";}",
        "a:2:{i:0;i:1.5;i:1;s:8:\"old.test\";}",
        "a:2:{i:0;d:1.;5;i:1;s:8:\"old.test\";}",
        "a:2:{i:0;n;i:1;s:8:\"old.test\";}",
        "O:0:\"\":1:{i:0;s:8:\"old.test\";}",
        "E:8:\"old.test\";",
        "a:1:{i:0;s:8:\"old.test\";]",
        "C:1:\"A\":99:{s:8:\"old.test\";}",
    ] {
        assert_left(&short(), broken, Reason::InvalidSerialised);
    }
    assert_eq!(
        short().value(b"a:1:{i:0;s:3:\"x.test\";").left_alone,
        None,
        "without an old name there is nothing to tell"
    );
}

#[test]
fn text_that_only_resembles_serialised_data_is_text() {
    for text in [
        "s::\"old.test\"",
        "a:b old.test",
        "s:8 old.test",
        "a:1:[\"old.test\"]",
        "b:1;old.test",
        "x:1:{old.test",
    ] {
        assert_eq!(value(&short(), text), text.replace("old.test", "brand-new.test"));
    }
}

/// A column in latin1 comes out of a dump as UTF-8; PHP counted bytes of latin1, which are characters now.
#[test]
fn lengths_that_count_characters_follow_too() {
    let old = "a:2:{i:0;s:5:\"é old\";i:1;s:17:\"http://old.test/é\";}";
    assert_eq!(value(&short(), old), "a:2:{i:0;s:5:\"é old\";i:1;s:23:\"http://brand-new.test/é\";}");
}

#[test]
fn php_sessions_follow() {
    let session = |url: &str| {
        format!("user|O:4:\"User\":1:{{{}{}}}n|i:5;last_url|{}", s("\0User\0name"), s("x"), s(url))
    };
    assert_eq!(value(&short(), &session("http://old.test/")), session("http://brand-new.test/"));
    let counted_first = |url: &str| format!("n|i:5;u|{}", s(url));
    assert_eq!(value(&short(), &counted_first("old.test")), counted_first("brand-new.test"));
    assert_left(&short(), "user|a:1:{s:1:\"u\";s:30:\"http://old.test", Reason::InvalidSerialised);
    assert_eq!(value(&short(), "Home|http://old.test/"), "Home|http://brand-new.test/");
}

#[test]
fn serialised_strings_in_the_middle_of_text_follow() {
    let post = |url: &str| {
        format!("<p>How https:{} looks: {{{}}} and http://{url}/</p>", "", s(&format!("http://{url}/")))
    };
    assert_eq!(value(&short(), &post("old.test")), post("brand-new.test"));
    let nested = |url: &str| format!("cache: {} end {url}", s(&format!("a:1:{{i:0;{}}}", s(url))));
    assert_eq!(value(&short(), &nested("old.test")), nested("brand-new.test"));
    let several = |url: &str| {
        format!("{url} {} {url} {} {url}", s(&format!("{url} {url}")), s(&format!("{url},{url}")))
    };
    assert_eq!(value(&short(), &several("old.test")), several("brand-new.test"));
    let list =
        |url: &str, length: usize| format!("[{} {url}", s(&format!("a,\"s:{length}:\\\"{url}\\\";\" {url}")));
    assert_eq!(value(&short(), &list("old.test", 8)), list("brand-new.test", 14));
    let crossing = |length: usize, url: &str| format!("[s:{length}:\"{url}\",\"s:8:\\\"; {url}\"");
    assert_eq!(value(&short(), &crossing(16, "old.test")), crossing(22, "brand-new.test"));
    assert_eq!(value(&short(), "class:8:\"old.test\";"), "class:8:\"brand-new.test\";");
}

#[test]
fn serialised_strings_in_the_middle_of_json_follow() {
    for (old, new) in [
        (
            r#"x {"a":"b|s:16:\"http:\/\/old.test\/\";"}"#,
            r#"x {"a":"b|s:22:\"http:\/\/brand-new.test\/\";"}"#,
        ),
        (r#"{"a":"b|s:13:\"\u00e9\";\"old.test\";"}"#, r#"{"a":"b|s:19:\"\u00e9\";\"brand-new.test\";"}"#),
        (r#"s:1:\"old.test\"; is none"#, r#"s:1:\"brand-new.test\"; is none"#),
        (r#"old.test s:1:\"x\"; old.test"#, r#"brand-new.test s:1:\"x\"; brand-new.test"#),
    ] {
        assert_eq!(value(&short(), old), new);
    }
}

#[test]
fn serialised_strings_behind_other_escapes_are_left_alone() {
    for text in [
        r#"{"a":"{\"b\":\"x|s:16:\\\"http:\\\/\\\/old.test\\\/\\\";\"}"}"#,
        r"<!-- wp:x {s:8:\u0022old.test\u0022;} -->",
        r#"addslashes twice: s:8:\\"old.test\\";"#,
    ] {
        assert_left(&short(), text, Reason::EscapedSerialised);
        assert_left(&short(), &format!("old.test {text}"), Reason::EscapedSerialised);
        assert_eq!(short().value(format!("old.test {text}").as_bytes()).replacements, 0);
    }
}

/// `\u003c` for `<` is there for a reason that we do not know; we would write `<`.
#[test]
fn serialised_data_in_json_that_we_would_write_otherwise_is_left_alone() {
    let written = r#"{"a":"s:17:\"<b>old.test\u003c/b> /\";"}"#;
    assert_left(&short(), written, Reason::EscapedSerialised);
    for before in ["[1,\"old.test\",", "old.test "] {
        let outcome = short().value(format!("{before}{written}").as_bytes());
        let expected = format!("{}{written}", before.replace("old.test", "brand-new.test"));
        assert_eq!(outcome.changed.as_deref(), Some(expected.as_bytes()));
        assert_eq!(outcome.left_alone, Some(Reason::EscapedSerialised));
    }
}

#[test]
fn binary_values_are_left_alone() {
    assert_left(&short(), "\u{1}JFIF\0http://old.test/", Reason::Binary);
    assert_eq!(short().value(b"\x01\0http://older.test/").left_alone, None);
    assert_eq!(
        short().value(b"caf\xe9 old.test").changed.as_deref(),
        Some(&b"caf\xe9 brand-new.test"[..]),
        "latin1 text is text"
    );
}

#[test]
fn nesting_as_deep_as_php_reads_it_follows_and_deeper_is_left() {
    let nested =
        |depth: usize, url: &str| format!("{}{}{}", "a:1:{i:0;".repeat(depth), s(url), "}".repeat(depth));
    assert_eq!(value(&short(), &nested(4096, "old.test")), nested(4096, "brand-new.test"));
    assert_left(&short(), &nested(4097, "old.test"), Reason::TooDeep);
    assert_left(&short(), &nested(1_000_000, "old.test"), Reason::TooDeep);
}

#[test]
fn packing_has_a_bound_too() {
    let pack = |times: usize, url: &str| (0..times).fold(url.to_owned(), |inside, _| s(&inside));
    for times in 1..=8 {
        assert_eq!(value(&short(), &pack(times, "old.test")), pack(times, "brand-new.test"), "{times} times");
    }
    for times in [9, 10, 1000] {
        assert_left(&short(), &pack(times, "old.test"), Reason::TooDeep);
    }
}

#[test]
fn a_value_that_would_grow_beyond_its_bound_is_left_alone() {
    let names = "old.test ".repeat(100);
    let small = short().value_limit(600);
    assert_eq!(small.value(names.as_bytes()).left_alone, Some(Reason::TooLarge));
    assert_eq!(small.value(names.as_bytes()).changed, None);
    assert!(short().value_limit(1000).value(names.as_bytes()).changed.is_some());
}

/// Hostile values must cost no more than their length: with anything quadratic this test takes minutes.
#[test]
fn hostile_values_cost_linear_time() {
    const SIZE: usize = 300_000;
    let repeated = |unit: &str| unit.repeat(SIZE / unit.len());
    for (what, text) in [
        ("open strings", repeated("s:8:\"old.tes ")),
        ("open escaped strings", repeated("s:8:\\\"")),
        ("long open escaped strings", repeated("s:99999999:\\\"")),
        ("long escaped strings that end nowhere", repeated("s:300000:\\\"\\\";")),
        ("long open strings", repeated("s:99999999:\"")),
        ("strings in JSON", format!("{{{}", repeated(r#""s:8:\"x\";","#))),
        ("quotes", format!("[{}", repeated("\""))),
        ("backslashes", repeated("\\")),
        ("backslashes before hosts", repeated("\\\\\\old.test.au")),
        ("percent signs", repeated("%25")),
        ("slashes", repeated("/srv/platforms/a/sites")),
        ("near misses", repeated("xold.test")),
        ("sessions", repeated("a|N;")),
        ("open arrays", repeated("a:1:{i:0;")),
        ("custom objects", repeated("C:1:\"A\":9:{")),
        ("separators", format!("C:1:\"A\":{SIZE}:{{{}}}", ";".repeat(SIZE))),
        ("entities", repeated("&#")),
    ] {
        for rewrite in [short(), moved_site()] {
            assert_eq!(rewrite.value(format!("{text} old.test.au").as_bytes()).replacements, 0, "{what}");
            let outcome = rewrite.value(format!("{text} old.test old.example.test").as_bytes());
            assert!(outcome.replacements == 1 || outcome.left_alone.is_some(), "{what}: {outcome:?}");
        }
    }
}
