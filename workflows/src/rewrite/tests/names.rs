//! Where a host or a path is itself, and where it is a part of something else; and every form it is written in.

use super::super::{BadPair, MAX_PAIRS, Pair, Rewrite};
use super::{host, moved_site, path, rewrite, value};

fn assert_values(rewrite: &Rewrite, cases: &[(&str, &str)]) {
    for (old, new) in cases {
        assert_eq!(value(rewrite, old), *new, "value {old:?}");
    }
}

fn assert_unchanged(rewrite: &Rewrite, values: &[&str]) {
    for text in values {
        assert_eq!(rewrite.value(text.as_bytes()).changed, None, "value {text:?}");
    }
}

#[test]
fn a_host_is_rewritten_in_every_written_form() {
    assert_values(
        &moved_site(),
        &[
            ("old.example.test", "new.test"),
            ("http://old.example.test", "http://new.test"),
            (
                "https://old.example.test/wp-content/a.png?x=old.example.test",
                "https://new.test/wp-content/a.png?x=new.test",
            ),
            ("//old.example.test:8080/", "//new.test:8080/"),
            (
                "See old.example.test. Or <a href=\"http://old.example.test\">",
                "See new.test. Or <a href=\"http://new.test\">",
            ),
            ("old.example.test, old.example.test;old.example.test", "new.test, new.test;new.test"),
            (r#"{"u":"http:\/\/old.example.test\/x"}"#, r#"{"u":"http:\/\/new.test\/x"}"#),
            (
                r#"{"u":"{\"u\":\"http:\\\/\\\/old.example.test\\\/x\"}"}"#,
                r#"{"u":"{\"u\":\"http:\\\/\\\/new.test\\\/x\"}"}"#,
            ),
            ("u=http%3A%2F%2Fold.example.test%2Fx", "u=http%3A%2F%2Fnew.test%2Fx"),
            ("u=http%253a%252f%252fold.example.test%252fx", "u=http%253a%252f%252fnew.test%252fx"),
            ("q=%20old.example.test%0a", "q=%20new.test%0a"),
            ("q=%3Dold.example.test&r=%22old.example.test%22", "q=%3Dnew.test&r=%22new.test%22"),
            (r#""line\nold.example.test\r\nold.example.test\tend""#, r#""line\nnew.test\r\nnew.test\tend""#),
            (r#"{"a":"\u003Eold.example.test\u003c"}"#, r#"{"a":"\u003Enew.test\u003c"}"#),
            ("sites/old.example.test/files/a.png", "sites/new.test/files/a.png"),
            ("见old.example.test。", "见new.test。"),
            ("(old.example.test)|old.example.test|[old.example.test]", "(new.test)|new.test|[new.test]"),
            (r"\\old.example.test\share", r"\\new.test\share"),
        ],
    );
}

#[test]
fn a_host_in_any_case_takes_the_new_name() {
    assert_values(
        &moved_site(),
        &[("HTTP://Old.EXAMPLE.Test/A", "HTTP://new.test/A"), ("OLD.EXAMPLE.TEST", "new.test")],
    );
}

#[test]
fn a_part_of_a_longer_host_stays() {
    assert_unchanged(
        &moved_site(),
        &[
            "www.old.example.test",
            "http://very-old.example.test/",
            "http://xold.example.test/",
            "http://_old.example.test/",
            "http://old.example.test.au/",
            "http://old.example.test-backup/",
            "wp-content/uploads/2024/05/old.example.test_screenshot.png",
            "http://www.example.test/old.example.test%5Fscreenshot.png",
            "http://old.example.tests/",
            "http://old.example.test2/",
            "http://www%2Eold.example.test",
            "http://old.example.test%2Eau",
            "http://old.example.test%252Eau",
            r#""http:\/\/old.example.test\u002dx""#,
            r"\bold.example.tests",
            "oldXexample.test",
            r"old\.example\.test",
        ],
    );
}

/// Below `uploads` nothing is renamed; elsewhere in a path a host may be meant.
#[test]
fn a_directory_below_uploads_that_is_named_like_a_host_stays() {
    assert_values(
        &moved_site(),
        &[
            (
                "http://old.example.test/wp-content/uploads/old.example.test/a.png",
                "http://new.test/wp-content/uploads/old.example.test/a.png",
            ),
            ("uploads/2024/05/old.example.test/a.png", "uploads/2024/05/old.example.test/a.png"),
            (r"\/uploads\/old.example.test\/a", r"\/uploads\/old.example.test\/a"),
            ("%2Fuploads%2Fold.example.test%2Fa", "%2Fuploads%2Fold.example.test%2Fa"),
            ("uploads/r/http://old.example.test/a", "uploads/r/http://new.test/a"),
            ("/uploads/ old.example.test/a", "/uploads/ new.test/a"),
            ("my-uploads/old.example.test/a", "my-uploads/new.test/a"),
            ("https://i0.wp.com/old.example.test/a.png", "https://i0.wp.com/new.test/a.png"),
        ],
    );
}

/// WordPress writes `--` as escapes in a block's attributes, so that the comment of HTML that they are in does not end.
#[test]
fn a_host_in_punycode_is_found_within_a_block() {
    let moved = rewrite([host("xn--mller-kva.test", "xn--mler-0qa.xn--p1ai")]);
    assert_values(
        &moved,
        &[
            ("http://XN--Mller-kva.test/", "http://xn--mler-0qa.xn--p1ai/"),
            (
                r#"<!-- wp:image {"url":"https://xn\u002d\u002dmller-kva.test/a"} -->"#,
                r#"<!-- wp:image {"url":"https://xn\u002d\u002dmler-0qa.xn\u002d\u002dp1ai/a"} -->"#,
            ),
            (
                r#"{"c":"{\"u\":\"//xn\\u002d\\u002dmller-kva.test\"}"}"#,
                r#"{"c":"{\"u\":\"//xn\\u002d\\u002dmler-0qa.xn\\u002d\\u002dp1ai\"}"}"#,
            ),
        ],
    );
    let plain = rewrite([host("xn--mller-kva.test", "new.test"), host("a.xn--p1ai", "b.test")]);
    assert_eq!(value(&plain, r"//xn\u002d\u002dmller-kva.test a.xn\u002D\u002Dp1ai"), "//new.test b.test");
    assert_unchanged(
        &moved,
        &[
            "mller-kva.test",
            r"xn\u002d-mller-kva.test",
            r"xn\u002d\\u002dmller-kva.test",
            r"axn\u002d\u002dmller-kva.test",
            r"xn\u002d\u002dmller-kva.test.au",
            r"xnu002du002dmller-kva.test",
            r"xn\u002d\u002dmller-kva.test\u002dx",
        ],
    );
}

#[test]
fn mail_addresses_stay() {
    assert_unchanged(
        &moved_site(),
        &[
            "me@old.example.test",
            "mailto:a.b%40old.example.test",
            r#"{"m":"me\u0040old.example.test"}"#,
            "me&#64;old.example.test",
            "me&#064;old.example.test",
            "me&#x40;old.example.test",
            "me&commat;old.example.test",
        ],
    );
    assert_eq!(
        value(&moved_site(), "a &amp;old.example.test &#640;old.example.test"),
        "a &amp;new.test &#640;new.test"
    );
}

/// In JSON, `\news.test` is a line break and `ews.test`.
#[test]
fn the_letter_of_an_escape_belongs_to_the_escape() {
    let news = rewrite([host("news.test", "old.test"), host("ews.test", "other.test")]);
    assert_eq!(value(&news, r#"{"a":"x\news.test"}"#), r#"{"a":"x\nother.test"}"#);
    assert_eq!(value(&news, r#"{"a":"x\\news.test"}"#), r#"{"a":"x\\old.test"}"#);
}

/// Case 54: `sites/foo.com` and `sites/foo.com.au` are two sites.
#[test]
fn a_site_whose_name_begins_like_another_is_another() {
    let foo = rewrite([host("foo.com", "bar.org")]);
    assert_eq!(
        value(&foo, "sites/foo.com/files sites/foo.com.au/files sites/foo.com"),
        "sites/bar.org/files sites/foo.com.au/files sites/bar.org"
    );
}

/// Case 54: the old name is part of the new one, and the rewrite runs twice.
#[test]
fn a_second_run_changes_nothing_more() {
    for (from, to) in [
        ("a.com", "aa.com"),
        ("a.com", "b.a.com"),
        ("a.com", "a.com.au"),
        ("a.com", "x-a.com"),
        ("aa.com", "a.com"),
    ] {
        let rewrite = rewrite([host(from, to)]);
        let text = format!("http://{from}/ https:\\/\\/{from}\\/ %2F%2F{from}%2F s {from}");
        let once = value(&rewrite, &text);
        assert_eq!(once, text.replace(from, to), "{from} -> {to}");
        assert_eq!(value(&rewrite, &once), once, "{from} -> {to}, second run");
    }
}

#[test]
fn pairs_apply_at_once_so_that_swaps_and_chains_are_right() {
    let swap = rewrite([
        host("a.test", "b.test"),
        host("b.test", "a.test"),
        path("/srv/a", "/srv/b"),
        path("/srv/b", "/srv/a"),
    ]);
    assert_eq!(value(&swap, "a.test b.test /srv/a /srv/b/x a.test"), "b.test a.test /srv/b /srv/a/x b.test");
    let chain = rewrite([host("a.test", "b.test"), host("b.test", "c.test")]);
    assert_eq!(value(&chain, "a.test,b.test,c.test"), "b.test,c.test,c.test");
}

#[test]
fn the_longest_path_wins_and_an_equal_pair_protects() {
    let rewrite = rewrite([
        path("/srv/a", "/srv/z"),
        path("/srv/a/sites/x", "/mnt/x"),
        path("/srv/a/keep", "/srv/a/keep"),
        host("x.test", "y.test"),
        path("/srv/a/sites/x.test", "/srv/q/y"),
    ]);
    assert_values(
        &rewrite,
        &[
            ("/srv/a/sites/x/f", "/mnt/x/f"),
            ("/srv/a/sites/xx/f", "/srv/z/sites/xx/f"),
            ("/srv/a/keep/f /srv/a/keeper", "/srv/a/keep/f /srv/z/keeper"),
            ("/srv/a/sites/x.test/f /srv/a/sites/x.test.au/f", "/srv/q/y/f /srv/z/sites/x.test.au/f"),
            ("/data/x.test/f", "/data/y.test/f"),
        ],
    );
    let kept = super::rewrite([host("x.test", "x.test"), host("a.test", "b.test")]).value(b"X.Test a.test");
    assert_eq!((kept.changed.as_deref(), kept.replacements), (Some(&b"X.Test b.test"[..]), 1));
}

#[test]
fn a_path_is_rewritten_in_every_written_form() {
    assert_values(
        &moved_site(),
        &[
            ("/srv/platforms/a/sites/old", "/srv/platforms/b/sites/brand-new"),
            ("/srv/platforms/a/sites/old/", "/srv/platforms/b/sites/brand-new/"),
            ("x:/srv/platforms/a/sites/old:.", "x:/srv/platforms/b/sites/brand-new:."),
            ("'/srv/platforms/a/sites/old','b'", "'/srv/platforms/b/sites/brand-new','b'"),
            ("file:///srv/platforms/a/sites/old/x", "file:///srv/platforms/b/sites/brand-new/x"),
            (r#"["\/srv\/platforms\/a\/sites\/old\/x"]"#, r#"["\/srv\/platforms\/b\/sites\/brand-new\/x"]"#),
            (
                r#""{\"p\":\"\\\/srv\\\/platforms\\\/a\\\/sites\\\/old\"}""#,
                r#""{\"p\":\"\\\/srv\\\/platforms\\\/b\\\/sites\\\/brand-new\"}""#,
            ),
            (
                r#"{"p":"\n\/srv\/platforms\/a\/sites\/old\n"}"#,
                r#"{"p":"\n\/srv\/platforms\/b\/sites\/brand-new\n"}"#,
            ),
            (
                "p=%2Fsrv%2Fplatforms%2Fa%2Fsites%2Fold%2Fx",
                "p=%2Fsrv%2Fplatforms%2Fb%2Fsites%2Fbrand-new%2Fx",
            ),
            (
                "p=%252fsrv%252fplatforms%252fa%252fsites%252fold",
                "p=%252fsrv%252fplatforms%252fb%252fsites%252fbrand-new",
            ),
            (
                "u=file%3A%2F%2F%2Fsrv%2Fplatforms%2Fa%2Fsites%2Fold",
                "u=file%3A%2F%2F%2Fsrv%2Fplatforms%2Fb%2Fsites%2Fbrand-new",
            ),
        ],
    );
}

#[test]
fn every_escape_of_a_control_character_in_json_ends_the_name_before_it() {
    for letter in ["n", "r", "t", "b", "f", "u0009"] {
        let text = format!(r#""a\{letter}old.example.test\{letter}/srv/platforms/a/sites/old""#);
        let new = format!(r#""a\{letter}new.test\{letter}/srv/platforms/b/sites/brand-new""#);
        assert_eq!(value(&moved_site(), &text), new);
    }
}

#[test]
fn a_host_that_holds_a_component_of_a_path_is_found_in_any_case() {
    let both = rewrite([host("my.sites.test", "new.test"), path("/a/sites", "/b/c")]);
    assert_eq!(value(&both, "MY.SITES.TEST /A/SITES"), "new.test /A/SITES");
    assert_eq!(value(&both, "/a/sites"), "/b/c");
}

#[test]
fn a_part_of_a_longer_path_stays() {
    assert_unchanged(
        &moved_site(),
        &[
            "/srv/platforms/a/sites/older",
            "/srv/platforms/a/sites/old.bak",
            "/srv/platforms/a/sites/old-2/x",
            "/srv/platforms/a/sites/old_2/x",
            "/srv/platforms/a/sites/old~",
            "/srv/platforms/a/sites/oldé",
            "/srv/platforms/a/sites/OLD",
            "/x/srv/platforms/a/sites/old",
            "./srv/platforms/a/sites/old",
            "//srv/platforms/a/sites/old",
            "é/srv/platforms/a/sites/old",
            r#"{"a":"\u00e9/srv/platforms/a/sites/old"}"#,
            "http://srv/platforms/a/sites/old",
            "%2Fx%2Fsrv%2Fplatforms%2Fa%2Fsites%2Fold",
            "srv/platforms/a/sites/old",
            "/srv/platforms\\/a/sites/old",
            r#""\/srv\/platforms\/a\/sites\/old\u002d2""#,
            "%2Fsrv%2Fplatforms%2Fa%2Fsites%2Fold%2Ebak",
        ],
    );
}

#[test]
fn paths_that_cannot_be_found_safely_are_refused() {
    for bad in [
        "",
        "/",
        "srv/a",
        "/srv",
        "/srv/",
        "/srv//a",
        "/srv/./a",
        "/srv/../a",
        "/srv/a b",
        "/srv/a%20",
        "/srv/é",
        "/srv/a\\b",
    ] {
        assert!(matches!(Pair::path(bad, "/srv/new"), Err(BadPair::Path { .. })), "{bad:?} as the old path");
        assert!(matches!(Pair::path("/srv/old", bad), Err(BadPair::Path { .. })), "{bad:?} as the new path");
    }
    assert_eq!(Pair::path("/srv/a///", "/srv/b/").unwrap(), path("/srv/a", "/srv/b"));
}

#[test]
fn contradicting_pairs_are_refused() {
    let twice = Rewrite::new(vec![host("a.test", "b.test"), host("a.test", "c.test")]).unwrap_err();
    assert_eq!(twice, BadPair::Twice { from: "a.test".into() });
    assert!(Rewrite::new(vec![host("a.test", "b.test"), host("a.test", "b.test")]).is_ok());
    let many = (0..=MAX_PAIRS).map(|i| host(&format!("a{i}.test"), "b.test")).collect();
    assert_eq!(Rewrite::new(many).unwrap_err(), BadPair::TooMany { pairs: MAX_PAIRS + 1 });
    assert_eq!(rewrite([]).value(b"http://a.test").changed, None);
}
