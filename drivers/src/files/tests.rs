//! The files of real hosts: the contract, and what no fake has: odd names, hard links, holes, attributes, full disks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command as Process;

use kedge_workflows::ports::{Access, AccessRule, CopyOptions, FileKind, Files, PortError};
use kedge_workflows::testing::files_contract;
use tempfile::TempDir;

use super::*;
use crate::host::{Custody, LocalHost};

const EXACT: CopyOptions = CopyOptions { exact: true, exclude: Vec::new() };

/// The files of this machine, for tests that need root and its tools.
fn here(test: &str, tools: &[&str]) -> Option<HostFiles> {
    let found = |tool: &&str| Process::new("sh").args(["-c", "command -v \"$0\" >/dev/null", tool]).status();
    let missing: Vec<&&str> =
        tools.iter().filter(|tool| !found(tool).is_ok_and(|status| status.success())).collect();
    if !rustix::process::geteuid().is_root() || !missing.is_empty() {
        println!("skipped: {test} needs root and {missing:?}");
        return None;
    }
    let host = Arc::new(LocalHost::new("here", Custody::new("files-tests")));
    Some(HostFiles::new(host, Scope { task: "t".into(), step: "s".into() }))
}

fn shell(script: &str, dir: &Path) -> String {
    let output = Process::new("sh").args(["-ec", script]).current_dir(dir).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn temporary() -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_str().expect("text").to_owned();
    (dir, path)
}

#[tokio::test]
async fn local_files_keep_the_contract() {
    if let Some(files) = here("local_files_keep_the_contract", &["rsync"]) {
        files.check_tools().await.expect("all tools are here");
        let (_dir, root) = temporary();
        files_contract(&files, &root).await;
        assert_eq!(files.list(&root).await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn half_of_a_file_is_never_put() {
    let Some(files) = here("half_of_a_file_is_never_put", &["perl"]) else { return };
    let (dir, root) = temporary();
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest("all of it"));
    for make in ["file", "link"] {
        let put = |input: &'static str| {
            let arguments = [root.as_str(), "a", ".a.new", make, "0644", "0", "0", "", &hash, "absent"];
            files.script(include_str!("scripts/replace.sh"), &arguments).input(input)
        };
        for cut in ["", "all of"] {
            let finished = files.finish("a put that is cut short", put(cut)).await.expect("it ran");
            // There is no link to nowhere: `ln` refuses that one itself.
            let expected = if make == "link" && cut.is_empty() { 1 } else { CUT_SHORT };
            assert_eq!(finished.status, expected, "{make} {cut:?}: {}", finished.last_error());
            assert_eq!(files.list(&root).await, Ok(Vec::new()), "{make} {cut:?} left something");
        }
        let finished = files.finish("a whole put", put("all of it")).await.expect("it ran");
        assert_eq!(finished.status, 0, "{make}: {}", finished.last_error());
        std::fs::remove_file(dir.path().join("a")).expect("it was put");
    }
    std::fs::write(dir.path().join("a"), "").expect("a file");
    let before = std::fs::metadata(dir.path().join("a")).expect("a file").mode();
    for cut in ["a\0", "a\x000\0", "a\x0000\x000\0", "a\x0000\x000\x000"] {
        let set = ["perl", "-e", include_str!("scripts/access.pl"), "--", &root];
        let finished = files.finish("half a list", files.command(set).input(cut)).await.expect("it ran");
        assert_ne!(finished.status, 0, "{cut:?}");
        assert_eq!(std::fs::metadata(dir.path().join("a")).expect("a file").mode(), before, "{cut:?}");
    }
}

/// A tree with everything that copies lose: names, hard links, holes, ACLs, attributes, times, modes.
fn odd_tree(dir: &Path) {
    std::fs::create_dir(dir).expect("a directory");
    for name in [b"-n".as_slice(), b"new\nline", b"caf\xe9", b"tab\t'\"$(x)`", b"\\back", b"*", &[b'x'; 255]]
    {
        std::fs::write(dir.join(OsStr::from_bytes(name)), name).expect("a file");
    }
    let script = "
        mkdir -p sub/deep locked; echo locked >locked/f; ln sub/../-n sub/hard; ln -s ../nothing dangling; ln -s loop loop
        printf x | dd of=holes bs=1 seek=50000000 conv=notrunc 2>/dev/null
        setfacl -m u:www-data:rwX sub; setfattr -n user.kedge -v value sub/hard; mkfifo fifo
        chown www-data:root sub/deep; chmod 2750 sub/deep; touch -d '2001-02-03 04:05:06.123456789' sub/deep/../hard
        chmod 000 locked/f locked; chmod 4755 '*'; touch -d '2001-01-01 01:01:01.000000001' sub .";
    shell(script, dir);
}

/// What a copy must not lose, besides what a full fingerprint says.
fn beyond(dir: &Path) -> (String, u64, u64) {
    let acls = shell("getfacl -R -n -p . | sort; getfattr -R -h -d . | sort", dir);
    let hard = std::fs::metadata(dir.join("sub/hard")).expect("a file").nlink();
    (acls, hard, std::fs::metadata(dir.join("holes")).expect("a file").blocks())
}

#[tokio::test]
async fn nothing_is_lost_in_copies_and_streams() {
    let tools = ["rsync", "setfacl", "getfacl", "setfattr", "getfattr"];
    let Some(files) = here("nothing_is_lost_in_copies_and_streams", &tools) else { return };
    let (dir, root) = temporary();
    let (from, to, unpacked) = (format!("{root}/from"), format!("{root}/to"), format!("{root}/unpacked"));
    odd_tree(&dir.path().join("from"));
    let (print, more) =
        (files.fingerprint(&from, true, &[]).await.unwrap(), beyond(&dir.path().join("from")));
    assert!(more.0.contains("user.kedge") && more.1 == 2 && more.2 < 1000, "{more:?}");
    assert!(
        print.entries.iter().any(|(path, seen)| path == "caf\\xE9" && seen.contains("sha256")),
        "{print:?}"
    );

    let report = files.copy_tree(&from, &to, &EXACT).await.unwrap();
    assert_eq!((report.entries, report.vanished), (print.entries.len() as u64 - 1, 0));
    assert_eq!(
        (files.fingerprint(&to, true, &[]).await.unwrap(), beyond(&dir.path().join("to"))),
        (print.clone(), more.clone())
    );

    files.make_dir(&unpacked, &Access { mode: 0o700, user: None, group: None }, false).await.unwrap();
    files.unpack(&unpacked, files.pack(&from, &[]).await.unwrap()).await.unwrap();
    let same = (files.fingerprint(&unpacked, true, &[]).await.unwrap(), beyond(&dir.path().join("unpacked")));
    assert_eq!(same, (print, more));
    let names = files.list(&from).await.unwrap();
    assert!(names.contains(&"new\nline".to_owned()) && names.contains(&"caf\\xE9".to_owned()), "{names:?}");

    let usage = files.usage(&from).await.unwrap();
    assert!(usage.bytes < 1_000_000, "holes and second names take no room: {usage:?}");
    files.remove_tree(&to, &root).await.unwrap();
    assert_eq!(files.stat(&to).await, Ok(None));
}

#[tokio::test]
async fn a_delta_sees_a_change_within_a_second() {
    let Some(files) = here("a_delta_sees_a_change_within_a_second", &["rsync"]) else { return };
    let (dir, root) = temporary();
    shell("mkdir from; echo one >from/f; touch -d '2026-01-01 00:00:00.100' from/f", dir.path());
    let (from, to) = (format!("{root}/from"), format!("{root}/to"));
    files.copy_tree(&from, &to, &EXACT).await.unwrap();
    shell("echo two >from/f; touch -d '2026-01-01 00:00:00.200' from/f", dir.path());
    files.copy_tree(&from, &to, &EXACT).await.unwrap();
    assert_eq!(shell("cat to/f", dir.path()), "two\n");
    shell("rm -r from/f; mkdir from/f; echo x >from/f/g; mkdir -p to/extra/deep", dir.path());
    files.copy_tree(&from, &to, &EXACT).await.unwrap();
    assert_eq!(shell("find to | sort | tr '\\n' ' '", dir.path()), "to to/f to/f/g ");
}

#[tokio::test]
async fn a_killed_copy_leaves_nothing_beside_the_tree() {
    let Some(files) = here("a_killed_copy_leaves_nothing_beside_the_tree", &["rsync"]) else { return };
    let (dir, root) = temporary();
    let (from, to) = (format!("{root}/from"), format!("{root}/to"));
    // Killed in the first copy: what tried whether reflinks can be had is beside a tree that is half there.
    shell("mkdir from to; echo x >from/f; echo y >from/g; echo x >to/f", dir.path());
    shell("touch .kedge-reflink-t .kedge-reflink-t.2", dir.path());
    files.copy_tree(&from, &to, &EXACT).await.unwrap();
    assert_eq!(
        shell("find . -mindepth 1 | sort | tr '\n' ' '", dir.path()),
        "./from ./from/f ./from/g ./to ./to/f ./to/g "
    );
}

#[tokio::test]
async fn links_lead_nowhere() {
    let Some(files) = here("links_lead_nowhere", &["rsync"]) else { return };
    let (dir, root) = temporary();
    shell("mkdir real tree; echo x >real/f; ln -s ../real tree/link; ln -s real linked", dir.path());
    let linked = format!("{root}/linked");
    let before = files.fingerprint(&format!("{root}/real"), true, &[]).await.unwrap();
    let is_refused =
        |result: PortResult<()>| assert!(matches!(result, Err(PortError::Refused(_))), "{result:?}");
    is_refused(files.copy_tree(&linked, &format!("{root}/copy"), &EXACT).await.map(drop));
    is_refused(files.copy_tree(&format!("{root}/tree"), &linked, &EXACT).await.map(drop));
    is_refused(files.pack(&linked, &[]).await.map(drop));
    is_refused(files.unpack(&linked, files.pack(&format!("{root}/tree"), &[]).await.unwrap()).await);
    is_refused(files.make_dir(&linked, &Access { mode: 0o777, user: None, group: None }, false).await);
    is_refused(files.list(&linked).await.map(drop));
    let rule = AccessRule {
        path: String::new(),
        dir_mode: 0o700,
        file_mode: 0o600,
        user: Some("www-data".into()),
        group: None,
    };
    is_refused(files.fix_access(&linked, std::slice::from_ref(&rule)).await.map(drop));
    let report = files.fix_access(&format!("{root}/tree"), &[rule]).await.unwrap();
    assert_eq!((report.checked, report.changed), (2, 2), "the link itself gets an owner");
    assert_eq!(std::fs::symlink_metadata(dir.path().join("tree/link")).unwrap().uid(), 33);
    files.copy_tree(&format!("{root}/tree"), &format!("{root}/copy"), &EXACT).await.unwrap();
    assert_eq!(files.stat(&format!("{root}/copy/link")).await.unwrap().unwrap().kind, FileKind::Link);
    assert_eq!(files.fingerprint(&format!("{root}/real"), true, &[]).await.unwrap(), before);
}

#[tokio::test]
async fn fixing_access_touches_only_what_is_wrong() {
    let Some(files) = here("fixing_access_touches_only_what_is_wrong", &["perl", "setfacl", "setfattr"])
    else {
        return;
    };
    let (dir, root) = temporary();
    odd_tree(&dir.path().join("tree"));
    let tree = format!("{root}/tree");
    let rule = AccessRule {
        path: String::new(),
        dir_mode: 0o2750,
        file_mode: 0o640,
        user: Some("www-data".into()),
        group: None,
    };
    let wrong = files.fix_access(&tree, std::slice::from_ref(&rule)).await.unwrap();
    assert_eq!(wrong.changed + 2, wrong.checked, "all but sub/deep and the FIFO were wrong: {wrong:?}");
    let changed =
        |path: &Path| std::fs::symlink_metadata(path).map(|meta| (meta.ctime(), meta.ctime_nsec())).unwrap();
    let odd = dir.path().join("tree").join(OsStr::from_bytes(b"new\nline"));
    let before = changed(&odd);
    std::fs::set_permissions(dir.path().join("tree/sub"), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(files.fix_access(&tree, std::slice::from_ref(&rule)).await.unwrap().changed, 1);
    assert_eq!(changed(&odd), before);
    let nobody = AccessRule { user: Some("kedge-nobody".into()), ..rule };
    let error = files.fix_access(&tree, &[nobody]).await.unwrap_err();
    assert!(matches!(&error, PortError::Refused(what) if what.contains("kedge-nobody")), "{error:?}");
}

/// A file system in a file, mounted for a test.
pub(crate) struct Mounted(TempDir, String);

impl Mounted {
    pub(crate) fn new(kind: &str, size: &str) -> Option<Self> {
        let (dir, root) = temporary();
        let script = match kind {
            "tmpfs" => format!("mkdir m; mount -t tmpfs -o size={size} tmpfs m"),
            _ => format!("mkdir m; truncate -s {size} image; mkfs.{kind} -q image; mount -o loop image m"),
        };
        let mounted = Process::new("sh").args(["-ec", &script]).current_dir(dir.path()).output().expect("sh");
        if !mounted.status.success() {
            println!("skipped: cannot mount {kind}: {}", String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        Some(Self(dir, format!("{root}/m")))
    }

    pub(crate) fn path(&self) -> &str {
        &self.1
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        shell("umount m", self.0.path());
    }
}

fn is_full<T: std::fmt::Debug>(result: PortResult<T>) {
    assert!(matches!(&result, Err(PortError::NoSpace(_))), "{result:?}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_left_as_it_was() {
    let Some(files) = here("a_full_disk_is_told_and_left_as_it_was", &["rsync"]) else { return };
    let Some(mounted) = Mounted::new("tmpfs", "1m") else { return };
    let (dir, root) = temporary();
    let (full, from) = (mounted.1.clone(), format!("{root}/from"));
    shell("mkdir from; head -c 3000000 /dev/urandom >from/large; echo x >from/a", dir.path());
    let free = files.free(&full).await.unwrap();
    assert!(free.bytes <= 1 << 20 && free.device != files.free(&root).await.unwrap().device, "{free:?}");

    is_full(files.copy_tree(&from, &format!("{full}/to"), &EXACT).await);
    assert_eq!(files.list(&format!("{full}/to")).await, Ok(Vec::new()), "half a copy is removed");
    is_full(files.unpack(&format!("{full}/to"), files.pack(&from, &[]).await.unwrap()).await);
    assert_eq!(files.list(&format!("{full}/to")).await, Ok(Vec::new()), "half a tree is removed");

    let access = Access { mode: 0o644, user: None, group: None };
    files.put(&format!("{full}/f"), b"old", &access, None).await.unwrap();
    let old = files.read(&format!("{full}/f")).await.unwrap().unwrap();
    shell("dd if=/dev/zero of=filler bs=4k 2>/dev/null || true", Path::new(&full));
    is_full(files.put(&format!("{full}/f"), &[b'x'; 100_000], &access, Some(&old.sha256)).await);
    assert_eq!(files.read(&format!("{full}/f")).await.unwrap().unwrap(), old);
    let mut names = files.list(&full).await.unwrap();
    names.sort();
    assert_eq!(names, ["f", "filler", "to"], "no temporary file is left");

    shell("mount -o remount,ro m", mounted.0.path());
    let refused = files.put(&format!("{full}/f"), b"x", &access, Some(&old.sha256)).await;
    assert!(
        matches!(&refused, Err(PortError::Refused(what)) if what.contains("Read-only file system")),
        "{refused:?}"
    );
    shell("mount -o remount,rw m", mounted.0.path());
}

#[tokio::test]
async fn copies_share_blocks_where_the_file_system_can() {
    let Some(files) = here("copies_share_blocks_where_the_file_system_can", &["rsync"]) else { return };
    for (kind, shares) in [("xfs", true), ("btrfs", true), ("ext4", false)] {
        let Some(mounted) = Mounted::new(kind, "400m") else { continue };
        let at = Path::new(&mounted.1);
        shell("mkdir from; head -c 60000000 /dev/urandom >from/large; echo x >from/a; sync", at);
        let (from, to) = (format!("{}/from", mounted.1), format!("{}/to", mounted.1));
        let before = files.free(&from).await.unwrap().bytes;
        files.copy_tree(&from, &to, &EXACT).await.unwrap();
        let taken = before.saturating_sub(files.free(&from).await.unwrap().bytes);
        assert_eq!(taken < 30_000_000, shares, "{kind}: a copy of 60 MB took {taken} bytes");
        assert_eq!(files.fingerprint(&to, true, &[]).await, files.fingerprint(&from, true, &[]).await);
        shell("cmp from/large to/large; echo changed >from/a", at);
        files.copy_tree(&from, &to, &EXACT).await.unwrap();
        assert_eq!(shell("cat to/a", at), "changed\n");
        assert_eq!(
            files.list(&mounted.1).await.unwrap().iter().filter(|name| name.starts_with(".kedge")).count(),
            0
        );
        // A rename between file systems is none.
        let moved = files.rename(&to, &format!("{}/to", mounted.0.path().display())).await;
        assert!(matches!(moved, Err(PortError::Refused(_))), "{moved:?}");
    }
}

#[tokio::test]
async fn many_entries_are_one_look() {
    let Some(files) = here("many_entries_are_one_look", &[]) else { return };
    let (dir, root) = temporary();
    shell("for d in $(seq 30); do mkdir $d; (cd $d; seq 1000 | xargs touch); done", dir.path());
    let print = files.fingerprint(&root, false, &[]).await.unwrap();
    assert_eq!(print.entries.len(), 30_031);
    assert_eq!(files.usage(&root).await.unwrap().entries, 30_030);
    let rule = AccessRule { path: "7".into(), dir_mode: 0o755, file_mode: 0o600, user: None, group: None };
    let report = files.fix_access(&root, &[rule]).await.unwrap();
    assert_eq!((report.checked, report.changed), (30_031, 1000));
    let after: BTreeMap<String, String> =
        files.fingerprint(&root, false, &[]).await.unwrap().entries.into_iter().collect();
    let changed = print.entries.iter().filter(|(path, seen)| after.get(path) != Some(seen)).count();
    assert_eq!(changed, 1000);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_packed_is_named() {
    use futures::StreamExt as _;
    let Some(files) = here("a_file_that_changes_while_it_is_packed_is_named", &[]) else { return };
    let (dir, root) = temporary();
    shell("mkdir site; head -c 20000000 /dev/urandom > site/large; echo still > site/still", dir.path());
    // Nobody reads further than the pipes hold until the file has changed: so it is being read when it does.
    let mut tar = files.pack(&format!("{root}/site"), &[]).await.unwrap();
    let first = tar.next().await.expect("a stream").unwrap();
    shell("echo more >> site/large", dir.path());
    let (mut reader, mut out) = (crate::tar::Reader::default(), Vec::new());
    let all = |_: &crate::tar::Member| Ok::<_, crate::tar::TarError>(true);
    reader.push(&first, &mut out, all).unwrap();
    while let Some(bytes) = tar.next().await {
        reader.push(&bytes.unwrap(), &mut out, all).unwrap();
    }
    assert_eq!(reader.finish().unwrap(), 3);
    let remarks = reader.remarks();
    assert!(remarks.len() == 1 && remarks[0].contains("./large: file changed as we read it"), "{remarks:?}");
    let mut quiet = files.pack(&format!("{root}/site"), &["large".to_owned()]).await.unwrap();
    let mut reader = crate::tar::Reader::default();
    while let Some(bytes) = quiet.next().await {
        reader.push(&bytes.unwrap(), &mut out, all).unwrap();
    }
    assert_eq!((reader.finish().unwrap(), reader.remarks().len()), (2, 0));
}

#[tokio::test]
async fn a_copy_of_a_busy_tree_is_no_failure() {
    let Some(files) = here("a_copy_of_a_busy_tree_is_no_failure", &["rsync"]) else { return };
    let (dir, root) = temporary();
    shell("mkdir from; cd from; seq 2000 | xargs touch", dir.path());
    let mut busy = Process::new("sh")
        .args([
            "-c",
            "while :; do for i in $(seq 2000); do rm -f $i; echo $i >$i; rm -rf d$i; mkdir d$i; done; done",
        ])
        .current_dir(dir.path().join("from"))
        .spawn()
        .expect("sh");
    let (from, to) = (format!("{root}/from"), format!("{root}/to"));
    let mut results = Vec::new();
    for _ in 0..5 {
        results.push(files.copy_tree(&from, &to, &EXACT).await);
        results.push(files.usage(&from).await.map(|_| CopyReport::default()));
        results.push(match files.pack(&from, &[]).await {
            Ok(mut tar) => loop {
                match futures::StreamExt::next(&mut tar).await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(error),
                    None => break Ok(CopyReport::default()),
                }
            },
            Err(error) => Err(error),
        });
    }
    busy.kill().expect("it runs");
    busy.wait().expect("it ends");
    for result in results {
        result.expect("what vanishes meanwhile is no failure");
    }
    files.copy_tree(&from, &to, &EXACT).await.unwrap();
    assert_eq!(files.fingerprint(&to, true, &[]).await, files.fingerprint(&from, true, &[]).await);
}

#[tokio::test]
async fn a_crash_leaves_nothing_that_stays() {
    let Some(files) = here("a_crash_leaves_nothing_that_stays", &[]) else { return };
    let (dir, root) = temporary();
    let access = Access { mode: 0o644, user: None, group: None };
    let path = format!("{root}/f");
    files.put(&path, b"old", &access, None).await.unwrap();
    // As a killed call leaves it: its file for the time being, and worse, a link in its place.
    let temporary = content::temporary("f");
    symlink(dir.path().join("victim"), dir.path().join(&temporary)).unwrap();
    let old = files.read(&path).await.unwrap().unwrap();
    files.put(&path, b"new", &access, Some(&old.sha256)).await.unwrap();
    assert_eq!(files.list(&root).await.unwrap(), ["f"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    // Also where it is put back and nothing else is left to do.
    let left = || std::fs::write(dir.path().join(&temporary), "").unwrap();
    let new = files.read(&path).await.unwrap().unwrap();
    left();
    files.restore(&path, Some(&new), std::slice::from_ref(&new.sha256)).await.unwrap();
    assert_eq!(files.list(&root).await.unwrap(), ["f"]);
    assert_eq!(files.read(&path).await.unwrap().unwrap(), new);
    files.restore(&format!("{root}/gone/f"), None, &[]).await.expect("nothing is there already");
    for known in [std::slice::from_ref(&new.sha256), &[]] {
        left();
        files.restore(&path, None, known).await.unwrap();
        assert_eq!(files.list(&root).await, Ok(Vec::new()));
    }
}
