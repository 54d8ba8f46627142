//! A tree of the first host, made the same on another one. Directories that are the same already are left alone, so that a second
//! call moves only what has changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Member;
use crate::place::stage_access;
use crate::ports::{Files, PortError, PortResult};

/// How deep it is looked for directories that can stay: a site's uploads by year and month, its plugins one by one.
const DEPTH: usize = 4;
/// Most directories that are left out of one stream: their names are arguments of a command.
const MAX_KEPT: usize = 1000;
/// Characters of names that are left out by name: none means anything else to tar.
const PLAIN: &str = "._-";

/// What a fingerprint tells, by path.
pub(super) type Told = BTreeMap<String, String>;

pub(super) async fn spread(
    first: &dyn Files,
    to: &Member<Arc<dyn Files>>,
    dir: &str,
    within: &str,
) -> PortResult<()> {
    let ours = told(first, dir, true).await?;
    let theirs = told(&*to.port, dir, true).await?;
    if ours == theirs {
        return Ok(());
    }
    let kept = same(&ours, &theirs);
    if theirs.is_empty() {
        to.port.make_dir(dir, &stage_access(), true).await?;
    } else {
        clear(&*to.port, dir, within, &kept).await?;
    }
    let exclude: Vec<String> = kept.into_iter().collect();
    to.port.unpack(dir, first.pack(dir, &exclude).await?).await?;
    if told(&*to.port, dir, true).await? == ours {
        return Ok(());
    }
    let host = &to.host;
    Err(PortError::Unavailable(format!(
        "{dir} on {host} is not what it is on the first host; it is copied again"
    )))
}

/// Files and links of theirs that we have not, or with other contents.
pub(super) fn strays<'a>(ours: &Told, theirs: &'a Told) -> Vec<&'a str> {
    let stray = |(path, told): &(&String, &String)| {
        !told.starts_with("dir ") && ours.get(*path).map(|ours| holds(ours)) != Some(holds(told))
    };
    theirs.iter().filter(stray).map(|(path, _)| path.as_str()).collect()
}

/// What two hosts have to have the same of an entry: a link's target, a file's hash, or its size where it was not read.
fn holds(told: &str) -> Option<&str> {
    if told.starts_with("link ") {
        return told.split_once(" -> ").map(|(_, target)| target);
    }
    let hash = told.split_once(" sha256 ").map(|(_, hash)| hash);
    hash.or_else(|| told.split_once(" bytes")?.0.rsplit(' ').next())
}

/// With `contents` every file is read.
pub(super) async fn told(files: &dyn Files, dir: &str, contents: bool) -> PortResult<Told> {
    Ok(files.fingerprint(dir, contents, &[]).await?.entries.into_iter().collect())
}

/// The highest directories that are the same on both, with everything below.
fn same(ours: &Told, theirs: &Told) -> BTreeSet<String> {
    let below = |tree: &Told, dir: &str| -> Vec<(String, String)> {
        let start = format!("{dir}/");
        let inside = tree.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start));
        inside.map(|(path, told)| (path.clone(), told.clone())).collect()
    };
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for (path, told) in ours {
        let candidate = told.starts_with("dir ")
            && path != "."
            && path.split('/').count() <= DEPTH
            && path.chars().all(|c| c.is_ascii_alphanumeric() || c == '/' || PLAIN.contains(c))
            && theirs.get(path) == Some(told)
            && !path.match_indices('/').any(|(end, _)| kept.contains(&path[..end]));
        if candidate && kept.len() < MAX_KEPT && below(ours, path) == below(theirs, path) {
            kept.insert(path.clone());
        }
    }
    kept
}

/// Takes everything away that is not kept.
async fn clear(files: &dyn Files, dir: &str, within: &str, kept: &BTreeSet<String>) -> PortResult<()> {
    let mut open = vec![String::new()];
    while let Some(at) = open.pop() {
        for name in files.list(&format!("{dir}{at}")).await? {
            let path = format!("{at}/{name}");
            let relative = &path[1..];
            if kept.contains(relative) {
                continue;
            }
            if kept.range(format!("{relative}/")..).next().is_some_and(|next| next.starts_with(relative)) {
                open.push(path);
            } else {
                files.remove_tree(&format!("{dir}{path}"), within).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, &str)]) -> Told {
        entries.iter().map(|(path, told)| ((*path).to_owned(), (*told).to_owned())).collect()
    }

    #[test]
    fn what_only_another_host_has_is_told() {
        let ours = tree(&[("a", "dir 1"), ("a/x", "file mtime 1 sha256 1"), ("a/l", "link mtime 1 -> x")]);
        let mut theirs = ours.clone();
        theirs.insert("a/x".into(), "file mtime 2 sha256 1".into());
        theirs.insert("b".into(), "dir 1".into());
        assert_eq!(strays(&ours, &theirs), [] as [&str; 0]);
        theirs.insert("a/x".into(), "file mtime 1 sha256 2".into());
        theirs.insert("a/l".into(), "link mtime 1 -> y".into());
        theirs.insert("b/y".into(), "file mtime 1 sha256 3".into());
        assert_eq!(strays(&ours, &theirs), ["a/l", "a/x", "b/y"]);
        assert_eq!(
            strays(&theirs, &Told::new()),
            [] as [&str; 0],
            "what a host lacks comes with the next move"
        );
    }

    #[test]
    fn without_contents_sizes_and_targets_are_compared() {
        let ours = tree(&[
            ("l", "link 0:0 mtime 1 inode 1 -> a x"),
            ("s", "other s 0755 0:0 mtime 1 inode 2"),
            ("x", "file 0644 0:0 5 bytes mtime 1 inode 3"),
            ("y", "file 0644 0:0 mtime 1 inode 4 5 bytes"),
        ]);
        let mut theirs = tree(&[
            ("l", "link 0:0 mtime 2 inode 5 -> a x"),
            ("s", "other s 0755 0:0 mtime 2 inode 6"),
            ("x", "file 0644 0:0 5 bytes mtime 2 inode 7"),
            ("y", "file 0644 0:0 mtime 2 inode 8 5 bytes"),
        ]);
        assert_eq!(strays(&ours, &theirs), [] as [&str; 0]);
        theirs.insert("l".into(), "link 0:0 mtime 1 inode 1 -> b x".into());
        theirs.insert("x".into(), "file 0644 0:0 6 bytes mtime 1 inode 3".into());
        theirs.insert("z".into(), "other s 0755 0:0 mtime 2 inode 6".into());
        assert_eq!(strays(&ours, &theirs), ["l", "x", "z"]);
    }

    #[test]
    fn the_highest_equal_directories_stay() {
        let ours = tree(&[
            (".", "dir 1"),
            ("a", "dir 1"),
            ("a/x", "file 1"),
            ("a.b", "dir 1"),
            ("b", "dir 2"),
            ("b/c", "dir 1"),
            ("b/c/d", "dir 1"),
            ("b/c/d/y", "file 1"),
            ("b/e", "dir 1"),
            ("b/e/z", "file 2"),
            ("b/f g", "dir 1"),
        ]);
        let mut theirs = ours.clone();
        theirs.insert("b".into(), "dir 1".into());
        theirs.insert("b/e/z".into(), "file 1".into());
        let kept: Vec<String> = same(&ours, &theirs).into_iter().collect();
        assert_eq!(
            kept,
            ["a", "a.b", "b/c"],
            "what is in b/e differs, and tar would read b/f g well but not b/f*"
        );
        theirs.remove("b/c/d/y");
        assert_eq!(same(&ours, &theirs).into_iter().collect::<Vec<_>>(), ["a", "a.b"]);
        assert!(same(&ours, &Told::new()).is_empty());
    }
}
