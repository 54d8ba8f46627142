//! The senders' pages: what they tell people to paste is run here, and its message is accepted.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::*;

/// Everything between the first line of the script and its last, without the page's indentation.
fn script(page: &str) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let first = lines.iter().position(|line| line.trim_start().starts_with("body='{")).expect("a script");
    let indent = lines[first].len() - lines[first].trim_start().len();
    let length = lines[first..].iter().position(|line| line.contains("/v1/hooks/deploy\"")).expect("its end");
    let text: Vec<&str> =
        lines[first..=first + length].iter().map(|line| &line[indent.min(line.len())..]).collect();
    text.join("\n")
}

/// Runs a script whose `curl` only notes what it was given.
fn run(folder: &Path, script: &str) -> (String, Vec<String>) {
    let curl = folder.join("curl");
    std::fs::write(&curl, "#!/bin/sh\ncat > \"$NOTES/config\"\nfor a in \"$@\"; do printf '%s\\n' \"$a\"; done > \"$NOTES/args\"\n").unwrap();
    let mut mode = std::fs::metadata(&curl).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&curl, mode).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let done = Command::new("sh")
        .args(["-euc", script])
        .env("PATH", path)
        .env("NOTES", folder)
        .env("KEDGE_HOOK_SECRET", SECRET)
        .env("KEDGE_URL", "http://kedge.test")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    (read("config"), read("args").lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn what_the_pages_say_to_paste_is_accepted() {
    let python = Command::new("python3").arg("--version").output().is_ok_and(|done| done.status.success());
    assert!(python, "the pages' scripts need python3, and so does this test");
    let h = start().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    h.clock.set(u64::try_from(now.as_millis()).unwrap());
    let pages = [
        ("curl", include_str!("../../../docs/curl.md").to_owned()),
        ("github-actions", include_str!("../../../docs/github-actions.md").to_owned()),
        ("gitlab-ci", include_str!("../../../docs/gitlab-ci.md").to_owned()),
        ("woodpecker", include_str!("../../../docs/woodpecker.md").to_owned()),
        // Groovy takes one of two backslashes away.
        ("jenkins", include_str!("../../../docs/jenkins.md").replace("\\\\", "\\")),
    ];
    for (name, page) in pages {
        let folder = std::env::temp_dir().join(format!("kedge-docs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (config, args) = run(&folder, &script(&page));
        std::fs::remove_dir_all(&folder).unwrap();
        let after =
            |option: &str| args.iter().position(|arg| arg == option).map(|at| args[at + 1].clone()).unwrap();
        assert_eq!(args.last().map(String::as_str), Some("http://kedge.test/v1/hooks/deploy"), "{name}");
        assert!(!args.join(" ").contains("whsec"), "{name}: the secret is no argument");
        let mut request = h.client.post(h.url("/v1/hooks/deploy")).header("content-type", "application/json");
        for line in config.lines() {
            let header = line.strip_prefix("header = \"").and_then(|rest| rest.strip_suffix('"')).unwrap();
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let body = after("--data-raw").replace("shop.example.org", "shop.a.test");
        let sent = after("--data-raw");
        // Signed is what is sent, byte by byte.
        let (status, answer) = ask(request.try_clone().unwrap().body(sent)).await;
        assert_eq!(
            (status, &answer["params"]["site"]),
            (202, &json!("shop.example.org")),
            "{name}: {answer}"
        );
        assert_eq!(ask(request.body(body)).await.0, 401, "{name}: and nothing else");
    }
    h.end().await;
}
