//! The promises of the files port about whole trees: streams, copies, access, fingerprints. Part of the suite in `files_contract`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking, also where it is not compiled as a test"
)]

use bytes::Bytes;
use futures::stream;

use super::files_contract::{full, make, refused, sha256, stream_of, text, unpack, write};
use super::tar::{TarMember, tar_archive};
use crate::ports::{AccessRule, CopyOptions, Files, PortError};

fn site() -> Vec<TarMember> {
    vec![
        TarMember::dir("./").owned(0o2775, 0, 33),
        TarMember::dir("./files").owned(0o2770, 33, 33),
        TarMember::file("./files/large", "0123456789".repeat(20_000)).owned(0o660, 33, 33),
        TarMember::file("./files/name with $ and 'quotes'", "x").owned(0o640, 33, 0),
        TarMember::symlink("./files/out", "/nowhere"),
        TarMember::dir("./cache").owned(0o770, 33, 33),
        TarMember::file("./cache/c", "cached"),
        TarMember::file("./settings.php", "<?php").owned(0o440, 0, 33),
    ]
}

pub(super) async fn a_stream_is_the_tree(files: &dyn Files, dir: &str) {
    let (from, to) = (format!("{dir}/from"), format!("{dir}/to"));
    unpack(files, &from, &site()).await;
    let entries = full(files, &from).await;
    assert_eq!(entries.len(), site().len());
    make(files, &to).await;
    files.unpack(&to, files.pack(&from, &[]).await.expect("a stream")).await.expect("our own stream");
    assert_eq!(full(files, &to).await, entries);

    let less = format!("{dir}/less");
    make(files, &less).await;
    let exclude = ["cache".to_owned(), "files/name with $ and 'quotes'".to_owned(), "files/lar".to_owned()];
    files.unpack(&less, files.pack(&from, &exclude).await.expect("a stream")).await.expect("our own stream");
    let names: Vec<String> = full(files, &less).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [".", "files", "files/large", "files/out", "settings.php"]);
    for bad in ["../x", "/x", "", "a/../../b"] {
        refused(files.pack(&from, &[bad.to_owned()]).await.map(drop), bad);
    }
    let gone = files.pack(&format!("{dir}/nothing"), &[]).await;
    refused(gone.map(drop), "there is nothing to pack");
}

pub(super) async fn evil_streams_are_refused(files: &dyn Files, dir: &str) {
    let safe = format!("{dir}/safe");
    unpack(files, &safe, &[TarMember::file("./kept", "kept")]).await;
    let target = format!("{dir}/target");
    let evil: [(&str, Vec<TarMember>); 8] = [
        ("upwards", vec![TarMember::file("../safe/kept", "evil")]),
        ("upwards later", vec![TarMember::dir("./a"), TarMember::file("./a/../../safe/kept", "evil")]),
        ("absolute", vec![TarMember::file(&format!("{safe}/kept"), "evil")]),
        ("through a link", vec![TarMember::symlink("./l", "../safe"), TarMember::file("./l/kept", "evil")]),
        (
            "through a link inside",
            vec![TarMember::dir("a"), TarMember::symlink("l", "a"), TarMember::file("l/x", "evil")],
        ),
        (
            "through two",
            vec![
                TarMember::symlink("./l", ".."),
                TarMember::dir("./l/safe"),
                TarMember::file("./l/safe/kept", "evil"),
            ],
        ),
        ("hard link out", vec![TarMember::hard_link("./h", "../safe/kept"), TarMember::file("./h", "evil")]),
        ("absolute hard link", vec![TarMember::hard_link("./h", &format!("{safe}/kept"))]),
    ];
    for (what, members) in evil {
        make(files, &target).await;
        refused(files.unpack(&target, stream_of(&tar_archive(&members))).await, what);
        assert_eq!(files.list(&safe).await.expect("a list"), ["kept"], "{what}");
        assert_eq!(text(files, &format!("{safe}/kept")).await.as_deref(), Some("kept"), "{what}");
        files.remove_tree(&target, dir).await.expect("the target is ours");
    }
    unpack(files, &target, &[TarMember::symlink("./l", "../safe")]).await;
    let through = tar_archive(&[TarMember::file("./l/kept", "evil")]);
    refused(files.unpack(&target, stream_of(&through)).await, "through a link that was there");
    unpack(files, &target, &[TarMember::dir("./l"), TarMember::file("./l/kept", "fine")]).await;
    assert_eq!(
        text(files, &format!("{target}/l/kept")).await.as_deref(),
        Some("fine"),
        "a directory took the link's place"
    );
    assert_eq!(text(files, &format!("{safe}/kept")).await.as_deref(), Some("kept"));

    let whole = tar_archive(&site());
    for cut in [0, 700, whole.len() / 2, whole.len() - 1024] {
        refused(files.unpack(&target, stream_of(&whole[..cut])).await, "a stream that is cut off");
    }
    refused(files.unpack(&format!("{dir}/nothing"), stream_of(&whole)).await, "there is no such directory");
    let broken = PortError::Unavailable("the source broke".into());
    let pieces = vec![Ok(Bytes::copy_from_slice(&whole[..1024])), Err(broken.clone())];
    assert_eq!(files.unpack(&target, Box::pin(stream::iter(pieces))).await, Err(broken));
}

pub(super) async fn a_copy_is_the_tree(files: &dyn Files, dir: &str) {
    let (from, to) = (format!("{dir}/from"), format!("{dir}/to"));
    unpack(files, &from, &site()).await;
    let exact = CopyOptions { exact: true, exclude: Vec::new() };
    let report = files.copy_tree(&from, &to, &exact).await.expect("a copy");
    assert_eq!((report.entries, report.vanished), (site().len() as u64 - 1, 0));
    assert!(report.bytes >= 200_000, "{report:?}");
    assert_eq!(full(files, &to).await, full(files, &from).await);

    write(files, &format!("{from}/settings.php"), "<?txt").await;
    files.remove_tree(&format!("{from}/files/out"), &from).await.expect("it is ours");
    unpack(files, &from, &[TarMember::file("./files/out", "now a file")]).await;
    make(files, &format!("{to}/extra/deep")).await;
    write(files, &format!("{to}/files/large"), "changed in the target").await;
    files.copy_tree(&from, &to, &CopyOptions::default()).await.expect("a copy that removes nothing");
    assert!(files.stat(&format!("{to}/extra/deep")).await.expect("a stat").is_some());
    assert_eq!(text(files, &format!("{to}/settings.php")).await.as_deref(), Some("<?txt"));
    files.copy_tree(&from, &to, &exact).await.expect("an exact copy");
    assert_eq!(full(files, &to).await, full(files, &from).await);

    write(files, &format!("{to}/cache/c"), "of the target").await;
    write(files, &format!("{from}/cache/c"), "of the source").await;
    write(files, &format!("{from}/cache [1]"), "of the source").await;
    let exclude = vec!["cache".to_owned(), "cache [1]".to_owned(), "files/lar".to_owned()];
    files
        .copy_tree(&from, &to, &CopyOptions { exact: true, exclude: exclude.clone() })
        .await
        .expect("a partial copy");
    assert_eq!(text(files, &format!("{to}/cache/c")).await.as_deref(), Some("of the target"));
    assert_eq!(files.stat(&format!("{to}/cache [1]")).await, Ok(None));
    let fresh = format!("{dir}/fresh");
    files.copy_tree(&from, &fresh, &CopyOptions { exact: true, exclude }).await.expect("a partial copy");
    let names: Vec<String> = full(files, &fresh).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [".", "files", "files/large", "files/name with $ and 'quotes'", "files/out", "settings.php"]
    );

    refused(files.copy_tree(&format!("{dir}/nothing"), &to, &exact).await, "there is nothing to copy");
    refused(files.copy_tree(&from, &format!("{from}/below"), &exact).await, "into itself");
    refused(files.copy_tree(&format!("{from}/files"), &from, &exact).await, "over itself");
    refused(files.copy_tree(&from, &format!("{to}/settings.php"), &exact).await, "a file is in the way");
    refused(files.copy_tree(&from, &format!("{dir}/no/to"), &exact).await, "the directory above is missing");
}

pub(super) async fn access_is_fixed_where_it_is_wrong(files: &dyn Files, dir: &str) {
    let rule = |path: &str, dir_mode, file_mode, group: Option<&str>| AccessRule {
        path: path.into(),
        dir_mode,
        file_mode,
        user: Some("root".into()),
        group: group.map(Into::into),
    };
    let members = [
        TarMember::dir("./").owned(0o755, 0, 33),
        TarMember::dir("./files").owned(0o2770, 0, 33),
        TarMember::file("./files/right", "x").owned(0o660, 0, 33),
        TarMember::file("./files/wrong mode", "x").owned(0o4777, 0, 33),
        TarMember::file("./files/wrong\nowner", "x").owned(0o660, 33, 0),
        TarMember::symlink("./files/out", "../../outside").owned(0o777, 0, 33),
        TarMember::dir("./files2").owned(0o755, 0, 33),
        TarMember::file("./settings.php", "x").owned(0o644, 0, 0),
    ];
    unpack(files, &format!("{dir}/tree"), &members).await;
    write(files, &format!("{dir}/outside"), "x").await;
    let outside = files.stat(&format!("{dir}/outside")).await.expect("a stat");
    let rules = [
        rule("", 0o755, 0o644, Some("www-data")),
        rule("files", 0o2770, 0o660, Some("www-data")),
        rule("settings.php", 0o755, 0o440, Some("www-data")),
        rule("files/none", 0o700, 0o600, None),
    ];
    let tree = format!("{dir}/tree");
    let right = files.stat(&format!("{tree}/files/right")).await.expect("a stat");
    let before = files.fingerprint(&tree, false, &[]).await.expect("a fingerprint");
    let wrong = files.wrong_access(&tree, &rules, 10).await.expect("a look");
    assert_eq!((wrong.checked, wrong.wrong, wrong.entries.len()), (8, 3, 3));
    let told = wrong.entries.iter().find(|entry| entry.path == "files/wrong mode").expect("it is named");
    assert_eq!((told.mode, told.uid, told.gid, told.wanted.as_str()), (0o4777, 0, 33, "0660 root:www-data"));
    assert_eq!(files.wrong_access(&tree, &rules, 1).await.expect("a look").entries.len(), 1);
    for _ in 0..2 {
        files.fix_access(&tree, &rules).await.expect("a fix");
        files.set_access(&tree, &wrong.entries).await.expect("put back, also twice");
        assert_eq!(files.fingerprint(&tree, false, &[]).await.expect("a fingerprint"), before);
    }
    let report = files.fix_access(&tree, &rules).await.expect("a fix");
    assert_eq!((report.checked, report.changed), (8, 3));
    let report = files.fix_access(&tree, &rules).await.expect("a fix");
    assert_eq!((report.checked, report.changed), (8, 0), "nothing is left to do");
    assert_eq!(files.stat(&format!("{tree}/files/right")).await.expect("a stat"), right);
    assert_eq!(
        files.stat(&format!("{dir}/outside")).await.expect("a stat"),
        outside,
        "links are not followed"
    );
    let none = format!("{dir}/none");
    let refused = [
        files.wrong_access(&none, &rules, 10).await.map(drop),
        files.fix_access(&none, &rules).await.map(drop),
        files.set_access(&none, &wrong.entries).await,
    ];
    assert!(refused.iter().all(Result::is_err), "what is not there has no modes to set right: {refused:?}");
    for (name, mode) in [
        ("files/wrong mode", 0o660),
        ("files/wrong\nowner", 0o660),
        ("settings.php", 0o440),
        ("files", 0o2770),
    ] {
        let stat = files.stat(&format!("{tree}/{name}")).await.expect("a stat").expect("it is there");
        assert_eq!((stat.mode, stat.uid, stat.gid), (mode, 0, 33), "{name}");
    }
}

pub(super) async fn fingerprints_tell_what_changed(files: &dyn Files, dir: &str) {
    let print = async |full, hashed: &[&str]| {
        let hashed: Vec<String> = hashed.iter().map(|path| (*path).to_owned()).collect();
        files.fingerprint(dir, full, &hashed).await.expect("a fingerprint")
    };
    assert_eq!(print(false, &[]).await.entries, Vec::new(), "an absent tree has no entries");
    unpack(files, dir, &site()).await;
    let (quick, all) = (print(false, &[]).await, print(true, &[]).await);
    assert_eq!(quick.entries.len(), site().len());
    assert!(quick.entries.is_sorted() && quick.entries.iter().any(|(path, _)| path == "files/large"));
    assert_eq!(
        (print(false, &[]).await, print(true, &[]).await),
        (quick.clone(), all.clone()),
        "looking changes nothing"
    );

    // A file of ours is rewritten and put back: only its inode has changed, and the time of its directory.
    let hashed = ["settings.php"];
    let (before, path) = (print(false, &hashed).await, format!("{dir}/settings.php"));
    let saved = files.read(&path).await.expect("a read").expect("it is there");
    write(files, &path, "<?txt").await;
    let changed: Vec<(String, String)> = print(false, &hashed)
        .await
        .entries
        .into_iter()
        .filter(|entry| !before.entries.contains(entry))
        .collect();
    assert!(changed.len() == 1 && changed[0].0 == "settings.php", "{changed:?}");
    files.restore(&path, Some(&saved), &[sha256("<?txt")]).await.expect("it is ours");
    assert_eq!(print(false, &hashed).await, before);
    assert_ne!(print(false, &[]).await, quick, "without hashing, a new inode shows");

    let wrong =
        AccessRule { path: "files/large".into(), dir_mode: 0, file_mode: 0o600, user: None, group: None };
    files.fix_access(dir, &[wrong]).await.expect("a fix");
    // The time of the tree's own directory moved on when the file was put back; a hashed file in it leaves that out.
    for (now, before) in [(print(false, &hashed).await, before), (print(true, &[]).await, all)] {
        let changed: Vec<(String, String)> =
            now.entries.into_iter().filter(|entry| !before.entries.contains(entry)).collect();
        let names: Vec<&str> =
            changed.iter().map(|(name, _)| name.as_str()).filter(|name| *name != ".").collect();
        assert_eq!(names, ["files/large"], "{changed:?}");
    }
}
