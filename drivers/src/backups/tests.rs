//! Backups on a real disk: the contract, and what no fake has: modes, full disks, damage, other people's tools.

use std::os::unix::fs::PermissionsExt;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use kedge_workflows::ports::{Files, OWN_MEMBERS, Scope};
use kedge_workflows::testing::{TarMember, backups_contract, tar_archive};
use serde_json::json;

use super::*;
use crate::files::HostFiles;
use crate::files::tests::Mounted;
use crate::host::{Custody, LocalHost};

const SQL: &str = "CREATE TABLE `t` (\n  `a` int\n);\n-- Dump completed on 2026-11-22\n";

fn bytes_of(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(60_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

fn request(name: &str, files: Option<ByteStream>) -> BackupRequest {
    BackupRequest {
        name: name.to_owned(),
        compression: match Packing::of(name) {
            Some(Packing::Ours(compression)) => compression,
            Some(Packing::Bzip2) | None => panic!("{name} is nothing that we write"),
        },
        database: Some(bytes_of(SQL.as_bytes())),
        files,
        manifest: json!({"task": "t1", "site": "a.test"}),
    }
}

fn site() -> ByteStream {
    bytes_of(&tar_archive(&[TarMember::dir("./"), TarMember::file("./f", "x".repeat(100_000))]))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn shell(script: &str, dir: &Path) -> String {
    let output = Process::new("sh").args(["-ec", script]).current_dir(dir).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for work on disk that nobody waits for any more.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let backups = LocalBackups::new(dir.path().join("deep/backups"));
    backups_contract(&backups).await;
    assert_eq!(
        names(&dir.path().join("deep/backups")),
        Vec::<String>::new(),
        "nothing is left, not even a partial file"
    );
}

#[tokio::test]
async fn archives_are_private_and_open_to_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let (root, backups) = (dir.path().join("b"), LocalBackups::new(dir.path().join("b")));
    for (name, list) in [
        ("a.tar.gz", "gunzip -c a.tar.gz | tar xpf - -C x"),
        ("a.tar", "tar -xpf a.tar -C x"),
        ("a.tar.zst", "zstd -qdc a.tar.zst | tar xpf - -C x"),
    ] {
        let info = backups.write(request(name, Some(site()))).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&root), mode(&root.join(name))), (0o700, 0o600));
        assert_eq!(shell(&format!("sha256sum {name}"), &root).split(' ').next(), Some(info.sha256.as_str()));
        shell(&format!("rm -rf x; mkdir x; {list}"), &root);
        assert_eq!(fs::read_to_string(root.join("x/database.sql")).unwrap(), SQL);
        assert_eq!(
            (mode(&root.join("x/database.sql")), fs::read(root.join("x/f")).unwrap().len()),
            (0o600, 100_000)
        );
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(root.join("x/.kedge-manifest.json")).unwrap()).unwrap();
        assert_eq!((&manifest["task"], &manifest["format_version"]), (&json!("t1"), &json!(1)));
        assert_eq!(backups.contents(name).await.unwrap().tables, Some(1));
        let contents = &manifest["contents"];
        assert_eq!((&contents["members"], &contents["database_bytes"]), (&json!(4), &json!(SQL.len())));
        assert_eq!(contents["database_sha256"], json!(shell("sha256sum x/database.sql", &root)[..64]));
    }
}

#[tokio::test]
async fn the_dump_is_found_without_reading_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let (backups, path) = (LocalBackups::new(dir.path()), dir.path().join("a.tar.zst"));
    let sql = async || -> PortResult<Vec<u8>> {
        let mut stream = backups.database("a.tar.zst").await?;
        let mut sql = Vec::new();
        while let Some(piece) = stream.next().await {
            sql.extend_from_slice(&piece?);
        }
        Ok(sql)
    };
    backups.write(request("a.tar.zst", Some(site()))).await.unwrap();
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[10] ^= 0xff;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(sql().await.unwrap(), SQL.as_bytes(), "damage before it is not read");
    assert!(backups.contents("a.tar.zst").await.is_err());
    // Packed anew by another tool: without the signpost it is read from the beginning.
    fs::write(&path, &whole).unwrap();
    shell("zstd -qdc a.tar.zst >x.tar; zstd -qf x.tar -o a.tar.zst", dir.path());
    assert_eq!(sql().await.unwrap(), SQL.as_bytes());
    assert!(backups.verify("a.tar.zst").await.is_ok());
    // One that points anywhere ends with an error.
    for to in [1, whole.len() as u64 - 25, u64::MAX] {
        let at = whole.len() - 8;
        fs::write(&path, [&whole[..at], &to.to_le_bytes()].concat()).unwrap();
        let told = sql().await;
        assert!(told.as_ref().is_ok_and(|sql| sql == SQL.as_bytes()) || told.is_err(), "{to}: {told:?}");
        assert_eq!(told.is_ok(), to == u64::MAX, "{to}: outside of the file it is none: {told:?}");
    }
}

#[tokio::test]
async fn every_damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let backups = LocalBackups::new(dir.path());
    for name in ["a.tar.zst", "a.tar.gz"] {
        backups.write(request(name, Some(site()))).await.unwrap();
        let whole = fs::read(dir.path().join(name)).unwrap();
        let spread = (0..whole.len()).step_by(whole.len().div_ceil(97));
        for at in spread.chain(whole.len() - 30..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(dir.path().join(name), &damaged).unwrap();
            let verified = backups.verify(name).await;
            // A bit of a header that says nothing about the contents (a time, say) still changes the hash of the file.
            let same = verified
                .is_ok_and(|info| info.sha256 == hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&whole)));
            assert!(!same, "{name}: byte {at}");
            fs::write(dir.path().join(name), &whole[..at]).unwrap();
            // Of the signpost alone: nothing is lost, and the hash of the file is another one.
            let whole_but_signpost = name == "a.tar.zst" && at == whole.len() - 24;
            let refused = matches!(backups.verify(name).await, Err(PortError::Refused(_)));
            assert_eq!(refused, !whole_but_signpost, "{name}: cut at {at} of {}", whole.len());
        }
    }
}

#[tokio::test]
async fn a_site_with_everything_reads_back() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a_site_with_everything_reads_back needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "
        mkdir site b; cd site; long=$(printf 'x%.0s' $(seq 200)); mkdir -p $long/$long; echo deep >$long/$long/f
        echo one >a; ln a b; ln -s a s; ln -s $long$long longlink; mkfifo p; echo odd >'new
line'; echo odd >$(printf 'caf\\351'); truncate -s 100M sparse; printf x | dd of=sparse bs=1 seek=50000000 conv=notrunc 2>/dev/null
        echo left over >database.sql; find . | wc -l";
    let members: u64 = shell(script, dir.path()).trim().parse().unwrap();
    let host = Arc::new(LocalHost::new("here", Custody::new("backups-tests")));
    let files = HostFiles::new(host, Scope { task: "t".into(), step: "s".into() });
    let site = format!("{}/site", dir.path().display());
    let backups = LocalBackups::new(dir.path().join("b"));
    let info =
        backups.write(request("a.tar.zst", Some(files.pack(&site, &[]).await.unwrap()))).await.unwrap();
    assert_eq!(
        info.members,
        members - 1 - 1 + 2,
        "one name has two lines, one file is left out, two are ours: {info:?}"
    );
    assert_eq!(backups.verify("a.tar.zst").await, Ok(info));
    shell(
        "mkdir x; zstd -qdc b/a.tar.zst | tar xpf - -C x; rm x/.kedge-manifest.json site/database.sql",
        dir.path(),
    );
    assert_eq!(fs::read_to_string(dir.path().join("x/database.sql")).unwrap(), SQL);
    fs::remove_file(dir.path().join("x/database.sql")).unwrap();
    shell("touch -r site x", dir.path());
    let print = async |name: &str| {
        let path = format!("{}/{name}", dir.path().display());
        files.fingerprint(&path, true, &["database.sql".to_owned()]).await.unwrap()
    };
    assert_eq!(print("x").await, print("site").await);
}

/// The second name of what an archive has no room for is a file in it, and no link to the dump.
#[tokio::test]
async fn an_archive_without_a_file_has_what_other_names_of_it_hold() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: an_archive_without_a_file_has_what_other_names_of_it_hold needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    shell(
        "mkdir -p site/files to; echo theirs >site/database.sql; ln site/database.sql site/files/dump.sql",
        dir.path(),
    );
    let host = Arc::new(LocalHost::new("here", Custody::new("backups-tests")));
    let files = HostFiles::new(host, Scope { task: "t".into(), step: "s".into() });
    let path = |name: &str| format!("{}/{name}", dir.path().display());
    let backups = LocalBackups::new(dir.path().join("b"));
    let packed = files.pack(&path("site"), &OWN_MEMBERS.map(str::to_owned)).await.unwrap();
    backups.write(request("a.tar", Some(packed))).await.unwrap();
    backups.verify("a.tar").await.unwrap();
    files.unpack(&path("to"), backups.files("a.tar").await.unwrap()).await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("to/files/dump.sql")).unwrap(), "theirs\n");
    assert!(!dir.path().join("to/database.sql").exists());
}

#[tokio::test]
async fn giving_up_removes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let backups = LocalBackups::new(dir.path());
    let endless = || -> ByteStream {
        let pieces = stream::iter((0..100).map(|_| Ok(Bytes::from(vec![b'x'; 10_000]))));
        Box::pin(futures::StreamExt::chain(pieces, stream::pending()))
    };
    for in_database in [true, false] {
        let request = if in_database {
            BackupRequest { database: Some(endless()), ..request("a.tar.zst", None) }
        } else {
            let start =
                stream::iter([Ok(Bytes::from(tar_archive(&[TarMember::file("./f", "x")])[..700].to_vec()))]);
            request("a.tar.zst", Some(Box::pin(futures::StreamExt::chain(start, stream::pending()))))
        };
        let mut writing = Box::pin(backups.write(request));
        let seen = async {
            until("a partial file", || names(dir.path()).contains(&"a.tar.zst.partial".to_owned())).await;
        };
        tokio::select! {
            written = &mut writing => panic!("it ended: {written:?}"),
            () = seen => {}
        }
        drop(writing);
        until("everything is removed", || names(dir.path()).is_empty()).await;
    }
}

#[tokio::test]
async fn leftovers_of_a_crash_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let backups = LocalBackups::new(dir.path());
    for name in ["a.tar.zst.partial", "a.tar.zst.sql.partial"] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    assert_eq!(backups.stat("a.tar.zst").await, Ok(None));
    backups.write(request("a.tar.zst", Some(site()))).await.unwrap();
    assert_eq!(names(dir.path()), ["a.tar.zst"]);
    fs::write(dir.path().join("a.tar.zst.partial"), "half").unwrap();
    backups.remove("a.tar.zst", "t1").await.unwrap();
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn an_attempt_that_was_given_up_leaves_the_next_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, half) = (dir.path().join("a.tar"), dir.path().join("a.tar.partial"));
    let begin = || {
        let serde_json::Value::Object(manifest) = json!({"task": "t1"}) else { unreachable!() };
        let (dir, name) = (dir.path().to_owned(), "a.tar".to_owned());
        let archive = Archive { dir, name, compression: Compression::None, manifest };
        let begun = archive.begin(None).unwrap();
        (archive, begun)
    };
    let ((first, given_up), (second, begun)) = (begin(), begin());
    assert!(matches!(first.finish(given_up, None), Err(PortError::Lost(_))));
    assert!(half.exists() && !path.exists());
    second.finish(begun, None).unwrap();
    assert!(path.exists() && !half.exists());
    // One that is removed meanwhile does not come back.
    let (third, begun) = begin();
    spool::remove(&[half, path.clone()]).unwrap();
    assert!(third.finish(begun, None).is_err() && !path.exists());
}

#[tokio::test]
async fn what_is_unfinished_is_removed_before_what_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let backups = LocalBackups::new(dir.path());
    backups.write(request("a.tar", None)).await.unwrap();
    // What cannot be removed.
    fs::create_dir(dir.path().join("a.tar.partial")).unwrap();
    assert!(backups.remove("a.tar", "t1").await.is_err());
    assert!(dir.path().join("a.tar").exists());
    fs::remove_dir(dir.path().join("a.tar.partial")).unwrap();
    backups.remove("a.tar", "t1").await.unwrap();
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_disk_is_told_and_cleaned_up() {
    let Some(mounted) = Mounted::new("tmpfs", "1m") else { return };
    let root = PathBuf::from(mounted.path());
    let backups = LocalBackups::new(&root);
    assert!(backups.free_bytes().await.unwrap() <= 1 << 20);
    let mut noise = vec![0; 3_000_000];
    getrandom::fill(&mut noise).unwrap();
    for in_database in [true, false] {
        let request = if in_database {
            BackupRequest { database: Some(bytes_of(&noise)), ..request("a.tar.zst", None) }
        } else {
            request("a.tar", Some(bytes_of(&tar_archive(&[TarMember::file("./f", noise.clone())]))))
        };
        let failed = backups.write(request).await;
        assert!(matches!(failed, Err(PortError::NoSpace(_))), "{failed:?}");
        assert_eq!(names(&root), Vec::<String>::new());
    }
}

/// An archive as Aegir makes it: no manifest, the dump somewhere among the members.
fn aegir(dump: &[u8]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    members_of_aegir(dump, gzip).finish().unwrap()
}

fn members_of_aegir<W: std::io::Write>(dump: &[u8], into: W) -> W {
    let mut archive = tar::Builder::new(into);
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // The builder would leave out the ./ that tar itself writes.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
    };
    add("./settings.php", b"<?php");
    add("./database.sql", dump);
    add("./files/picture", &[7; 90_000]);
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn archives_of_aegir_are_read_however_they_are_packed() {
    let dir = tempfile::tempdir().unwrap();
    let backups = LocalBackups::new(dir.path());
    let dump = b"CREATE TABLE t (a int);\n-- Dump completed on 2020-01-01  0:00:00\n";
    let plain = members_of_aegir(dump, Vec::new());
    let bzip2 = |bytes: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    // As pbzip2 writes it: a stream after the other.
    let (first, second) = plain.split_at(plain.len() / 2);
    let parallel = [bzip2(first), bzip2(second)].concat();
    for (name, bytes) in [
        ("old.test-20200101.000000.tar", plain.clone()),
        ("old.test-20200101.000000.tar.bz2", bzip2(&plain)),
        ("old.test-20200102.000000.tar.bz2", parallel),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let contents = backups.contents(name).await.unwrap();
        assert_eq!((contents.database, contents.files, contents.origin), (true, true, None), "{name}");
        assert_eq!(contents.info.bytes, bytes.len() as u64);
        let stream = backups.database(name).await.unwrap();
        let sql: Vec<u8> = stream.map(|piece| piece.unwrap().to_vec()).concat().await;
        assert_eq!(sql, dump, "{name}");
        // What is cut away may be nothing but the padding behind the end of a plain archive.
        for cut in (0..bytes.len().saturating_sub(10_240)).step_by(bytes.len() / 40 + 1) {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(backups.contents(name).await.is_err(), "{name} cut at {cut} of {}", bytes.len());
        }
    }
}

#[tokio::test]
async fn an_archive_of_aegir_is_read_and_a_damaged_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let backups = LocalBackups::new(dir.path());
    let name = "old.test-20200101.000000.tar.gz";
    let dump = b"CREATE TABLE t (a int);\n-- Dump completed on 2020-01-01  0:00:00\n";
    let whole = aegir(dump);
    fs::write(dir.path().join(name), &whole).unwrap();
    let contents = backups.contents(name).await.unwrap();
    assert_eq!((contents.database, contents.files, contents.origin), (true, true, None));
    let stream = backups.database(name).await.unwrap();
    let sql: Vec<u8> = stream.map(|piece| piece.unwrap().to_vec()).concat().await;
    assert_eq!(sql, dump);
    assert!(
        matches!(backups.verify(name).await, Err(PortError::Refused(why)) if why.contains("no manifest"))
    );
    for cut in (0..whole.len()).step_by(7) {
        fs::write(dir.path().join(name), &whole[..cut]).unwrap();
        assert!(backups.contents(name).await.is_err(), "cut at {cut} of {}", whole.len());
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for foreign in [flipped, aegir(b"INSERT INTO t VALUES (1"), b"PK\x03\x04 a zip file".to_vec()] {
        fs::write(dir.path().join(name), foreign).unwrap();
        assert!(matches!(backups.contents(name).await, Err(PortError::Refused(_))));
    }
}
