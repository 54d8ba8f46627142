//! Hostile archives, at random: what passes the guard is unpacked by the host's tar, and nothing outside of the directory changes.

use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::links::{Guard, Unsafe};
use crate::tar::{END, Reader};

/// A member as a header says it, with what may come before it.
#[derive(Clone, Debug)]
struct Made {
    path: String,
    flag: u8,
    link: String,
    size: usize,
    /// A header of GNU (`L`, `K`) or pax (`x`, `g`) with another name or target.
    before: Option<(u8, String)>,
}

fn path() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "a",
        "b",
        "link",
        "..",
        ".",
        "",
        "./a",
        "canary",
        "very-long-name-of-a-directory",
    ]);
    (any::<bool>(), prop::collection::vec(parts, 1..5)).prop_map(|(root, parts)| {
        let path = parts.join("/");
        if root && path.len() % 3 == 0 { format!("/{path}") } else { format!("./{path}") }
    })
}

fn member() -> impl Strategy<Value = Made> {
    let flags = prop::sample::select(b"0000\x00155222222367SVM".to_vec());
    let target =
        prop_oneof![path(), Just("../../canary".to_owned()), Just("/".to_owned()), Just("..".to_owned())];
    let before = prop::option::weighted(0.3, (prop::sample::select(b"LKxg".to_vec()), path()));
    (path(), flags, target, 0..700_usize, before).prop_map(|(path, flag, link, size, before)| Made {
        path,
        flag,
        link,
        size,
        before,
    })
}

fn header(name: &str, flag: u8, link: &str, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000755\x000000000\x000000000\0");
    put(124, format!("{size:011o}\x0014000000000\0").as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &link.as_bytes()[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn archive(members: &[Made]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let content = |bytes: &mut Vec<u8>, content: &[u8]| {
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    };
    for made in members {
        if let Some((flag, text)) = &made.before {
            let data = match flag {
                b'L' | b'K' => format!("{text}\0"),
                _ => {
                    let record = format!(" path={text}\n");
                    let length = record.len() + 2;
                    let length = if length < 100 { length } else { length + 1 };
                    format!("{length}{record}")
                }
            };
            bytes.extend(header("././@LongLink", *flag, "", data.len()));
            content(&mut bytes, data.as_bytes());
        }
        let size = if matches!(made.flag, b'0' | 0 | b'7') { made.size } else { 0 };
        bytes.extend(header(&made.path, made.flag, &made.link, size));
        content(&mut bytes, &vec![b'x'; size]);
    }
    bytes.extend(END);
    bytes
}

/// What the guard lets through, as the host's tar gets it.
fn passed(archive: &[u8], piece: usize) -> Option<Vec<u8>> {
    let (mut reader, mut guard, mut out) = (Reader::default(), Guard::default(), Vec::new());
    for piece in archive.chunks(piece) {
        let pushed: Result<(), Unsafe> =
            reader.push(piece, &mut out, |member| guard.check(member).map(|()| true));
        pushed.ok()?;
    }
    reader.finish().ok()?;
    out.extend(END);
    Some(out)
}

fn seen(dir: &Path) -> String {
    let script = "find . -path ./in -prune -o -printf '%p %y %m %s %l\\n' | sort; cat canary/file";
    let output = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn unpacked_stays_inside(archive: &[u8]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("in/deep/er");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::create_dir(dir.path().join("canary")).unwrap();
    std::fs::write(dir.path().join("canary/file"), "canary").unwrap();
    let before = seen(dir.path());
    let mut command = Command::new("sh");
    command.args(["-c", include_str!("scripts/unpack.sh"), "kedge-files"]).arg(&inner);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // tar may refuse it and stop reading: what counts is what is on disk then.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), archive);
    child.wait().unwrap();
    prop_assert_eq!(before, seen(dir.path()));
    let above = std::fs::read_dir(dir.path().join("in")).unwrap().count();
    let beside = std::fs::read_dir(dir.path().join("in/deep")).unwrap().count();
    prop_assert_eq!((above, beside), (1, 1), "something came beside the directory");
    Ok(())
}

proptest! {
    #[test]
    fn hostile_archives(members in prop::collection::vec(member(), 1..6), damage in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()))) {
        let mut archive = archive(&members);
        if let Some((at, byte)) = damage {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let whole = passed(&archive, archive.len());
        for piece in [1, 500, 513] {
            prop_assert_eq!(&passed(&archive, piece), &whole, "in pieces of {}", piece);
        }
        if let Some(tar) = whole {
            unpacked_stays_inside(&tar)?;
        }
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(passed(&bytes, 700).is_none() || bytes.iter().all(|byte| *byte == 0));
    }
}
