//! The configurations that the pages in docs/ show: each is checked as a whole. Only for tests.

use std::path::Path;

use super::check;

const PAGES: [(&str, &str); 13] = [
    ("approvals", include_str!("../../docs/approvals.md")),
    ("clusters", include_str!("../../docs/clusters.md")),
    ("commands", include_str!("../../docs/commands.md")),
    ("commit-statuses", include_str!("../../docs/commit-statuses.md")),
    ("mail", include_str!("../../docs/mail.md")),
    ("curl", include_str!("../../docs/curl.md")),
    ("github-actions", include_str!("../../docs/github-actions.md")),
    ("gitlab-ci", include_str!("../../docs/gitlab-ci.md")),
    ("jenkins", include_str!("../../docs/jenkins.md")),
    ("woodpecker", include_str!("../../docs/woodpecker.md")),
    ("slack", include_str!("../../docs/slack.md")),
    ("mattermost", include_str!("../../docs/mattermost.md")),
    ("discord", include_str!("../../docs/discord.md")),
];

#[test]
fn what_the_pages_show_is_a_configuration() {
    let read = |path: &Path| {
        let name = path.display().to_string();
        Ok(if name.contains("discord.key") {
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".to_owned()
        } else if name.ends_with(".webhook") {
            "https://hooks.example.org/services/x".to_owned()
        } else {
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()
        })
    };
    for (name, page) in PAGES {
        let mut blocks = page.split("```toml\n").skip(1).peekable();
        assert!(blocks.peek().is_some(), "{name} shows no configuration");
        for block in blocks {
            let text = block.split("```").next().unwrap_or_default();
            let checked = check::config(text, &read, &|_| None);
            assert!(checked.is_ok(), "{name}: {:?}", checked.err());
        }
    }
}
