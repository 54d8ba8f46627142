//! Configurations with mistakes, at random, made of the README's: each is taken, or every mistake is told with a line and in words, and
//! never with a secret.

use std::path::Path;

use proptest::prelude::*;

use super::check::config;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn readme() -> &'static str {
    let text = include_str!("../../README.md");
    let block = text.split("```toml").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the README has a configuration")
}

fn check(text: &str) -> Result<(), Vec<(usize, String)>> {
    let read = |_: &Path| Ok(SECRET.to_owned());
    let told =
        |list: Vec<super::Problem>| list.into_iter().map(|problem| (problem.line, problem.detail)).collect();
    config(text, &read, &|_| None).map(drop).map_err(told)
}

#[test]
fn the_configuration_of_the_readme_is_one() {
    assert_eq!(check(readme()), Ok(()));
}

proptest! {
    #[test]
    fn configurations(changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
        "", "\"\"", "[]", "{}", "-1", "1e999", "true", "\"../x\"", "\"*\"", "[[", "]", "=", "\"\\u0000\"", "kind = \"nginx\"", "root = \"/\"", "url = \"file:///etc\"",
        "\"{/a~2}\"", "secret = \"whsec_inline\"", "[hosts.\"a b\"]", "2026-01-01", "'''",
    ])), 1..4), drops in any::<bool>()) {
        let mut lines: Vec<String> = readme().lines().map(str::to_owned).collect();
        for (place, word) in &changes {
            let at = place.index(lines.len());
            let line = lines[at].clone();
            lines[at] = match line.split_once(" = ") {
                Some((name, _)) if drops => format!("{name} = {word}"),
                _ => (*word).to_owned(),
            };
        }
        let count = lines.len();
        if let Err(problems) = check(&lines.join("\n")) {
            prop_assert!(!problems.is_empty());
            for (line, detail) in problems {
                prop_assert!(!detail.trim().is_empty() && line <= count + 1, "line {}: {:?}", line, detail);
                prop_assert!(!detail.contains(SECRET), "a secret is told: {}", detail);
            }
        }
    }

    #[test]
    fn noise(text in "[\\[\\]={}\"'#.a-z0-9\\n\\\\ \u{0}é]{0,200}") {
        if let Err(problems) = check(&text) {
            prop_assert!(problems.iter().all(|(_, detail)| !detail.is_empty()));
        }
    }
}
