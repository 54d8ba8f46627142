//! The promises of the files port, tested on the fake and on real hosts with the same lines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking, also where it is not compiled as a test"
)]

use bytes::Bytes;
use futures::stream;
use sha2::{Digest, Sha256};

use super::tar::{TarMember, tar_archive};
use super::trees_contract::{
    a_copy_is_the_tree, a_stream_is_the_tree, access_is_fixed_where_it_is_wrong, evil_streams_are_refused,
    fingerprints_tell_what_changed,
};
use crate::ports::{Access, ByteStream, FileKind, Files, LinkOut, PortError, SavedFile};

/// Everything that files promise. `root` is an existing, empty directory of ours; it is empty again afterwards. The host has the
/// users `root` (0) and `www-data` (33), and we may act for both.
pub async fn files_contract(files: &dyn Files, root: &str) {
    paths_are_absolute(files).await;
    directories_are_made_and_listed(files, &format!("{root}/dirs")).await;
    a_put_expects_what_is_there(files, &format!("{root}/put")).await;
    what_was_there_comes_back_exactly(files, &format!("{root}/restore")).await;
    renames_replace_nothing(files, &format!("{root}/rename")).await;
    trees_are_removed_and_nothing_else(files, root).await;
    a_stream_is_the_tree(files, &format!("{root}/pack")).await;
    evil_streams_are_refused(files, &format!("{root}/evil")).await;
    a_copy_is_the_tree(files, &format!("{root}/copy")).await;
    access_is_fixed_where_it_is_wrong(files, &format!("{root}/access")).await;
    fingerprints_tell_what_changed(files, &format!("{root}/print")).await;
    for name in files.list(root).await.expect("the root is there") {
        files.remove_tree(&format!("{root}/{name}"), root).await.expect("what we made can be removed");
    }
}

pub(super) fn root_owned(mode: u32) -> Access {
    Access { mode, user: None, group: None }
}

pub(super) async fn make(files: &dyn Files, dir: &str) {
    files.make_dir(dir, &root_owned(0o755), true).await.expect("a directory can be made");
}

pub(super) async fn write(files: &dyn Files, path: &str, text: &str) {
    let there = files.read(path).await.expect("a file can be read");
    let hash = there.map(|file| file.sha256);
    files.put(path, text.as_bytes(), &root_owned(0o644), hash.as_deref()).await.expect("a file can be put");
}

pub(super) async fn text(files: &dyn Files, path: &str) -> Option<String> {
    let file = files.read(path).await.expect("a file can be read")?;
    Some(String::from_utf8(file.bytes).expect("text"))
}

pub(super) fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

pub(super) fn stream_of(archive: &[u8]) -> ByteStream {
    let pieces: Vec<_> = archive.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

pub(super) async fn unpack(files: &dyn Files, dir: &str, members: &[TarMember]) {
    make(files, dir).await;
    files.unpack(dir, stream_of(&tar_archive(members))).await.expect("a tar stream can be unpacked");
}

pub(super) async fn full(files: &dyn Files, dir: &str) -> Vec<(String, String)> {
    files.fingerprint(dir, true, &[]).await.expect("a tree has a fingerprint").entries
}

pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, PortError>, what: &str) {
    assert!(matches!(&result, Err(PortError::Refused(_))), "{what}: {result:?}");
}

pub(super) fn not_ours<T: std::fmt::Debug>(result: Result<T, PortError>, what: &str) {
    assert!(matches!(&result, Err(PortError::NotOurs(_))), "{what}: {result:?}");
}

async fn paths_are_absolute(files: &dyn Files) {
    for path in ["", "relative", "/a/../b", "/a/./b", "/a//b", "/a\0b", "/"] {
        refused(files.stat(path).await, path);
        refused(files.remove_tree(path, "/a").await, path);
        refused(files.make_dir(path, &root_owned(0o755), true).await, path);
        refused(files.rename("/kedge-nothing", path).await, path);
    }
}

async fn directories_are_made_and_listed(files: &dyn Files, dir: &str) {
    assert_eq!(files.stat(dir).await, Ok(None));
    assert_eq!(files.stat(&format!("{dir}/below/nothing")).await, Ok(None));
    assert_eq!(files.list(dir).await, Ok(Vec::new()), "an absent directory is empty");
    let deep = format!("{dir}/a/b");
    refused(files.make_dir(&deep, &root_owned(0o755), false).await, "the directory above is missing");
    let access = Access { mode: 0o2750, user: Some("www-data".into()), group: Some("www-data".into()) };
    for _ in 0..2 {
        files.make_dir(&deep, &access, true).await.expect("with the directories above, and again");
    }
    let stat = files.stat(&deep).await.expect("a stat").expect("it is there");
    assert_eq!((stat.kind, stat.mode, stat.uid, stat.gid), (FileKind::Dir, 0o2750, 33, 33));
    files.make_dir(&deep, &root_owned(0o700), false).await.expect("it is there already");
    let stat = files.stat(&deep).await.expect("a stat").expect("it is there");
    assert_eq!((stat.mode, stat.uid, stat.gid), (0o700, 33, 33), "owners that are not named stay");

    for name in ["z", "-n", "ä b", "it's $x"] {
        write(files, &format!("{deep}/{name}"), "x").await;
    }
    assert_eq!(files.list(&deep).await.expect("a list"), ["-n", "it's $x", "z", "ä b"]);
    let below = deep.strip_prefix(&format!("{dir}/")).expect("it is below");
    assert_eq!(files.find(dir, "z", 5).await, Ok(vec![format!("{below}/z")]));
    assert_eq!(files.find(dir, "z", 0).await, Ok(vec![]));
    assert_eq!(files.find(&format!("{dir}/none"), "z", 5).await, Ok(vec![]));
    refused(files.list(&format!("{deep}/z")).await, "a file is no directory");
    refused(files.make_dir(&format!("{deep}/z"), &root_owned(0o755), true).await, "a file is there");
    let usage = files.usage(dir).await.expect("a usage");
    assert_eq!((usage.entries, usage.links_out_count), (6, 0));
    let (free, below) =
        (files.free(dir).await.expect("room"), files.free(&format!("{dir}/x/y/z")).await.expect("room"));
    assert!(free.writable && below.writable, "nothing is mounted read-only");
    assert!(
        free.bytes > 0 && free.device == stat.device && below.device == free.device,
        "{free:?} {below:?}"
    );
}

async fn a_put_expects_what_is_there(files: &dyn Files, dir: &str) {
    make(files, dir).await;
    let path = format!("{dir}/-f 'x'");
    let access = Access { mode: 0o640, user: None, group: Some("www-data".into()) };
    not_ours(
        files.put(&path, b"one", &access, Some(&sha256("old"))).await,
        "there should have been something",
    );
    assert_eq!(files.stat(&path).await, Ok(None));
    for _ in 0..2 {
        files.put(&path, b"one", &access, None).await.expect("nothing is there, or the very same");
    }
    let file = files.read(&path).await.expect("a read").expect("it is there");
    assert_eq!((file.bytes.as_slice(), file.mode, file.uid, file.gid), (b"one".as_slice(), 0o640, 0, 33));
    assert_eq!(
        (file.sha256.as_str(), file.path.as_str(), file.symlink),
        (sha256("one").as_str(), path.as_str(), None)
    );

    not_ours(files.put(&path, b"two", &access, None).await, "something is there");
    not_ours(files.put(&path, b"two", &access, Some(&sha256("old"))).await, "something else is there");
    assert_eq!(text(files, &path).await.as_deref(), Some("one"));
    let owner = Access { mode: 0o600, user: Some("www-data".into()), group: Some("root".into()) };
    files.put(&path, b"two\0\xff\n", &owner, Some(&sha256("one"))).await.expect("what was expected is there");
    files
        .put(&path, b"", &root_owned(0o600), Some(&hex::encode(Sha256::digest(b"two\0\xff\n"))))
        .await
        .expect("an empty file");
    let file = files.read(&path).await.expect("a read").expect("it is there");
    assert_eq!(
        (file.bytes.len(), file.mode, file.uid, file.gid),
        (0, 0o600, 33, 0),
        "owners that are not named stay"
    );
    assert_eq!(files.list(dir).await.expect("a list").len(), 1, "no temporary file is left");

    refused(files.put(&format!("{dir}/no/f"), b"x", &access, None).await, "the directory is missing");
    refused(files.put(dir, b"x", &access, None).await, "a directory is there");
    refused(files.read(dir).await, "a directory is no file");
    assert_eq!(files.read(&format!("{dir}/no/f")).await, Ok(None));
    let large = "x".repeat(256 * 1024);
    write(files, &format!("{dir}/large"), &large).await;
    assert_eq!(text(files, &format!("{dir}/large")).await, Some(large));
}

async fn what_was_there_comes_back_exactly(files: &dyn Files, dir: &str) {
    let mut link = TarMember::symlink("./link", "../some where/else");
    link.mtime = 1_500_000_000;
    unpack(files, dir, &[TarMember::file("./f", "old").owned(0o440, 33, 0), link]).await;
    for name in ["f", "link"] {
        let path = format!("{dir}/{name}");
        let saved = files.read(&path).await.expect("a read").expect("it is there");
        let stat = files.stat(&path).await.expect("a stat");
        files.restore(&path, Some(&saved), &[]).await.expect("it is right already");
        assert_eq!(files.stat(&path).await.expect("a stat"), stat, "what is right is not touched");
        files
            .put(&path, b"new", &root_owned(0o644), Some(&saved.sha256))
            .await
            .expect("it is as it was read");
        not_ours(files.restore(&path, Some(&saved), &[sha256("other")]).await, "somebody changed it");
        not_ours(files.restore(&path, None, &[]).await, "somebody changed it");
        assert_eq!(text(files, &path).await.as_deref(), Some("new"));
        for _ in 0..2 {
            files.restore(&path, Some(&saved), &[sha256("new")]).await.expect("what is there is ours");
        }
        let restored = files.read(&path).await.expect("a read").expect("it is there");
        assert_eq!(SavedFile { mode: saved.mode, ..restored.clone() }, saved);
        assert!(restored.mode == saved.mode || saved.symlink.is_some());
        for _ in 0..2 {
            files.restore(&path, None, &[sha256("x"), saved.sha256.clone()]).await.expect("it is ours");
        }
        assert_eq!(files.stat(&path).await, Ok(None));
        files.restore(&path, Some(&saved), &[]).await.expect("nothing is there, nothing is lost");
    }
    let link = files.read(&format!("{dir}/link")).await.expect("a read").expect("it is there");
    assert_eq!(link.symlink.as_deref(), Some("../some where/else"));
    assert_eq!(files.list(dir).await.expect("a list"), ["f", "link"], "no temporary file is left");
    let out = LinkOut { path: "link".into(), target: "../some where/else".into() };
    let usage = files.usage(dir).await.expect("a usage");
    assert_eq!((usage.links_out, usage.links_out_count), (vec![out], 1), "it leads out");
}

async fn renames_replace_nothing(files: &dyn Files, dir: &str) {
    make(files, dir).await;
    let (a, b, c) = (format!("{dir}/a"), format!("{dir}/-b"), format!("{dir}/c"));
    unpack(files, &a, &[TarMember::dir("./sub"), TarMember::file("./sub/f", "x")]).await;
    make(files, &c).await;
    let before = files.fingerprint(&a, false, &[]).await.expect("a fingerprint");
    not_ours(files.rename(&a, &c).await, "an empty directory is in the way");
    refused(files.rename(&format!("{dir}/nothing"), &b).await, "there is nothing to rename");
    not_ours(files.rename(&format!("{dir}/nothing"), &c).await, "something is in the way");
    refused(files.rename(&a, &format!("{dir}/no/b")).await, "the directory is missing");
    files.rename(&a, &b).await.expect("nothing is in the way");
    assert_eq!(files.list(dir).await.expect("a list"), ["-b", "c"]);
    files.rename(&b, &a).await.expect("and back");
    assert_eq!(
        files.fingerprint(&a, false, &[]).await.expect("a fingerprint"),
        before,
        "renames leave no trace"
    );
    write(files, &format!("{dir}/f"), "x").await;
    not_ours(files.rename(&format!("{a}/sub/f"), &format!("{dir}/f")).await, "a file is in the way");
}

async fn trees_are_removed_and_nothing_else(files: &dyn Files, root: &str) {
    let dir = format!("{root}/remove");
    let members = [
        TarMember::dir("./locked").owned(0o000, 33, 33),
        TarMember::file("./locked/f", "x").owned(0o000, 33, 33),
        TarMember::symlink("./out", "../kept"),
        TarMember::symlink("./loop", "loop"),
        TarMember::file("./-rf", "x"),
    ];
    unpack(files, &format!("{dir}/tree"), &members).await;
    unpack(files, &format!("{dir}/kept"), &[TarMember::file("./f", "x")]).await;
    unpack(files, &dir, &[TarMember::symlink("./link", "kept")]).await;
    let tree = format!("{dir}/tree");
    refused(files.remove_tree(&tree, &format!("{dir}/kept")).await, "it is elsewhere");
    refused(files.remove_tree(&tree, &tree).await, "it is the root of ours itself");
    refused(files.remove_tree(&dir, &tree).await, "it is above");
    refused(files.remove_tree(&tree, &format!("{root}/rem")).await, "names are compared whole");
    refused(files.remove_tree(&format!("{dir}/link/f"), &dir).await, "it is behind a link");
    for _ in 0..2 {
        files.remove_tree(&tree, &dir).await.expect("it is removed, or gone");
        files.remove_tree(&format!("{dir}/link"), root).await.expect("a link is removed, not followed");
        files.remove_tree(&format!("{dir}/no/such/thing"), &dir).await.expect("absent is fine");
    }
    assert_eq!(files.list(&dir).await.expect("a list"), ["kept"]);
    assert_eq!(text(files, &format!("{dir}/kept/f")).await.as_deref(), Some("x"));
}
