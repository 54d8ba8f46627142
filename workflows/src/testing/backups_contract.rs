//! The promises of the backups port, tested on the fake and on a real directory with the same lines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking, also where it is not compiled as a test"
)]

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::json;

use super::tar::{TarMember, tar_archive, tar_members};
use crate::ports::{BackupRequest, Backups, ByteStream, Compression, PortError, PortResult};

const SQL: &str =
    "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\n-- Dump completed on 2026-11-22 10:00:00\n";

/// Everything that backups promise. The directory is empty, and empty again afterwards.
pub async fn backups_contract(backups: &dyn Backups) {
    for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
        an_archive_reads_back_as_written(backups, compression).await;
    }
    files_may_wait_for_the_dump(backups).await;
    names_are_checked(backups).await;
    what_fails_leaves_nothing(backups).await;
    only_what_is_of_the_same_task_is_replaced_or_removed(backups).await;
    what_a_site_must_not_bring_is_left_out(backups).await;
    a_cut_dump_is_found(backups).await;
    for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
        what_is_in_it_comes_out_again(backups, compression).await;
    }
    assert!(backups.free_bytes().await.expect("room") > 0);
}

fn bytes_of(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(700).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

fn breaking(bytes: &[u8], error: &PortError) -> ByteStream {
    let pieces = vec![Ok(Bytes::copy_from_slice(bytes)), Err(error.clone())];
    Box::pin(stream::iter(pieces))
}

fn site() -> Vec<TarMember> {
    vec![
        TarMember::dir("./"),
        TarMember::file("./settings.php", "<?php").owned(0o440, 0, 33),
        TarMember::file("./large", "0123456789".repeat(30_000)),
        TarMember::symlink("./link", "large"),
        TarMember::file("./sub.database.sql", "not the dump"),
    ]
}

fn request(name: &str, compression: Compression) -> BackupRequest {
    BackupRequest {
        name: name.to_owned(),
        compression,
        database: Some(bytes_of(SQL.as_bytes())),
        files: Some(bytes_of(&tar_archive(&site()))),
        manifest: json!({"task": "t1", "site": "a.test", "database": {"server": "db1"}}),
    }
}

async fn an_archive_reads_back_as_written(backups: &dyn Backups, compression: Compression) {
    let name = format!("a.test-20261122.100000{}", compression.suffix());
    assert_eq!(backups.stat(&name).await, Ok(None));
    let written = backups.write(request(&name, compression)).await.expect("an archive");
    assert_eq!((written.name.as_str(), written.members), (name.as_str(), site().len() as u64 + 2));
    assert!(written.database_bytes == SQL.len() as u64 && written.bytes > 0 && written.sha256.len() == 64);
    assert_eq!(backups.stat(&name).await, Ok(Some(written.clone())));
    assert_eq!(backups.verify(&name).await, Ok(written));
    for _ in 0..2 {
        backups.remove(&name, "t1").await.expect("it is removed, or gone");
        assert_eq!(backups.stat(&name).await, Ok(None));
    }
    assert!(matches!(backups.verify(&name).await, Err(PortError::Refused(_))));

    let database_only = BackupRequest { files: None, ..request(&name, compression) };
    let written = backups.write(database_only).await.expect("an archive");
    assert_eq!(backups.verify(&name).await, Ok(written.clone()));
    assert_eq!((written.members, written.database_bytes), (2, SQL.len() as u64));
    let files_only = BackupRequest { database: None, ..request(&name, compression) };
    let written = backups.write(files_only).await.expect("an archive in place of that of the same task");
    assert_eq!(backups.verify(&name).await, Ok(written.clone()));
    assert_eq!((written.members, written.database_bytes), (site().len() as u64 + 1, 0));
    backups.remove(&name, "t1").await.expect("it is removed");
}

async fn all_of(stream: PortResult<ByteStream>) -> Vec<u8> {
    let mut stream = stream.expect("a stream");
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.expect("whole"));
    }
    all
}

async fn what_is_in_it_comes_out_again(backups: &dyn Backups, compression: Compression) {
    let name = format!("b.test-20261122.100000{}", compression.suffix());
    let manifest = json!({"task": "t1", "site": "b.test", "dir": "/srv/p/sites/b.test", "root": "/srv/p", "app": "plain"});
    let written =
        backups.write(BackupRequest { manifest, ..request(&name, compression) }).await.expect("an archive");
    let contents = backups.contents(&name).await.expect("what is in it");
    assert_eq!((contents.info, contents.database, contents.files), (written, true, true));
    let origin = contents.origin.expect("where it was");
    assert_eq!((origin.site.as_str(), origin.root.as_str()), ("b.test", "/srv/p"));
    assert_eq!(all_of(backups.database(&name).await).await, SQL.as_bytes());
    let members = tar_members(&all_of(backups.files(&name).await).await).expect("a whole tar stream");
    assert_eq!(members, site(), "without the dump and the manifest");
    backups.remove(&name, "t1").await.expect("it is removed");
    for gone in [
        backups.database(&name).await.err(),
        backups.files(&name).await.err(),
        backups.contents(&name).await.err(),
    ] {
        assert!(matches!(gone, Some(PortError::Refused(_))), "{gone:?}");
    }
}

/// Files that come only when the dump has begun are waited for, as long as it takes.
async fn files_may_wait_for_the_dump(backups: &dyn Backups) {
    let (begun, wait) = futures::channel::oneshot::channel();
    let dump = stream::once(async move {
        begun.send(()).expect("somebody waits");
        Ok(Bytes::from_static(SQL.as_bytes()))
    });
    let files = stream::once(async move {
        wait.await.expect("it begins");
        Ok(Bytes::from(tar_archive(&site())))
    });
    let request = BackupRequest {
        database: Some(Box::pin(dump)),
        files: Some(Box::pin(files)),
        ..request("w.tar.zst", Compression::Zstd)
    };
    let written = backups.write(request).await.expect("an archive");
    assert_eq!(backups.verify("w.tar.zst").await, Ok(written));
    backups.remove("w.tar.zst", "t1").await.expect("it is removed");
}

async fn names_are_checked(backups: &dyn Backups) {
    for name in
        ["../a.tar", "/a.tar", "a/b.tar", "", ".tar", ".hidden.tar", "a.zip", "a\0.tar", "a.tar.zst.partial"]
    {
        let refused = |error: PortError| matches!(error, PortError::Refused(_));
        assert!(backups.write(request(name, Compression::None)).await.is_err_and(refused), "{name:?}");
        assert!(backups.stat(name).await.is_err_and(refused), "{name:?}");
        assert!(backups.verify(name).await.is_err_and(refused), "{name:?}");
        assert!(backups.remove(name, "t1").await.is_err_and(refused), "{name:?}");
    }
    let other = backups.write(request("a.tar.gz", Compression::Zstd)).await;
    assert!(matches!(other, Err(PortError::Refused(_))), "{other:?}");
    let manifest = json!(["not an object"]);
    let other = backups.write(BackupRequest { manifest, ..request("a.tar", Compression::None) }).await;
    assert!(matches!(other, Err(PortError::Refused(_))), "{other:?}");
}

async fn what_fails_leaves_nothing(backups: &dyn Backups) {
    let (name, broken) = ("a.tar.zst", PortError::Unavailable("the source broke".into()));
    let archive = tar_archive(&site());
    let database = Some(breaking(b"CREATE", &broken));
    let failed = backups.write(BackupRequest { database, ..request(name, Compression::Zstd) }).await;
    assert_eq!((failed, backups.stat(name).await), (Err(broken.clone()), Ok(None)));
    let files = Some(breaking(&archive[..2000], &broken));
    let failed = backups.write(BackupRequest { files, ..request(name, Compression::Zstd) }).await;
    assert_eq!((failed, backups.stat(name).await), (Err(broken.clone()), Ok(None)));
    let files = Some(breaking(&archive, &broken));
    let failed = backups.write(BackupRequest { files, ..request(name, Compression::Zstd) }).await;
    assert_eq!(
        (failed, backups.stat(name).await),
        (Err(broken), Ok(None)),
        "a producer may fail at its very end"
    );
    for cut in [0, 512, 1000, archive.len() - 1024] {
        let files = Some(bytes_of(&archive[..cut]));
        let failed = backups.write(BackupRequest { files, ..request(name, Compression::Zstd) }).await;
        assert!(matches!(failed, Err(PortError::Refused(_))), "cut at {cut}: {failed:?}");
    }
    backups.write(request(name, Compression::Zstd)).await.expect("the name is free");
    backups.remove(name, "t1").await.expect("it is removed");
}

async fn only_what_is_of_the_same_task_is_replaced_or_removed(backups: &dyn Backups) {
    let name = "a.tar.zst";
    let written = backups.write(request(name, Compression::Zstd)).await.expect("an archive");
    for manifest in [json!({"task": "t2"}), json!({})] {
        let failed = backups.write(BackupRequest { manifest, ..request(name, Compression::Zstd) }).await;
        assert!(matches!(failed, Err(PortError::NotOurs(_))), "{failed:?}");
    }
    let removed = backups.remove(name, "t2").await;
    assert!(matches!(removed, Err(PortError::NotOurs(_))), "{removed:?}");
    assert_eq!(backups.verify(name).await, Ok(written));
    let database = Some(bytes_of(b"-- Dump completed\n"));
    let again = backups
        .write(BackupRequest { database, ..request(name, Compression::Zstd) })
        .await
        .expect("it is ours");
    assert_eq!((again.database_bytes, backups.verify(name).await), (18, Ok(again)));

    let broken = PortError::Lost("the source broke".into());
    let database = Some(breaking(b"CREATE", &broken));
    let failed = backups.write(BackupRequest { database, ..request(name, Compression::Zstd) }).await;
    assert_eq!(failed, Err(broken));
    backups.remove(name, "t1").await.expect("it is removed");
    backups.remove(name, "t1").await.expect("absent is fine");
}

async fn what_a_site_must_not_bring_is_left_out(backups: &dyn Backups) {
    let mut members = site();
    members.push(TarMember::file("./database.sql", "left over from an old crash"));
    members.push(TarMember::file("./.kedge-manifest.json", "{}"));
    let files = Some(bytes_of(&tar_archive(&members)));
    let written = backups
        .write(BackupRequest { files, ..request("a.tar.gz", Compression::Gzip) })
        .await
        .expect("an archive");
    assert_eq!(written.members, site().len() as u64 + 2);
    assert_eq!(backups.verify("a.tar.gz").await, Ok(written));
    backups.remove("a.tar.gz", "t1").await.expect("it is removed");
}

async fn a_cut_dump_is_found(backups: &dyn Backups) {
    for sql in ["", "CREATE TABLE t (a int);\n", "-- Dump completed\nCREATE TABLE t (a int);\n"] {
        let database = Some(bytes_of(sql.as_bytes()));
        let written = backups.write(BackupRequest { database, ..request("a.tar", Compression::None) }).await;
        written.expect("the dump's producer checks its end; a backup is written as it comes");
        let verified = backups.verify("a.tar").await;
        assert!(matches!(&verified, Err(PortError::Refused(_))), "{sql:?}: {verified:?}");
    }
    backups.remove("a.tar", "t1").await.expect("it is removed");
}
