//! Streams of GNU tar in both formats, cut, damaged, thinned out; and headers of ours read by tar.

use std::process::Command;

use super::*;

fn read(archive: &[u8], piece: usize) -> Result<(Vec<Member>, Vec<u8>, u64), TarError> {
    let (mut reader, mut out, mut members) = (Reader::default(), Vec::new(), Vec::new());
    for piece in archive.chunks(piece) {
        reader.push(piece, &mut out, |member| {
            members.push(member.clone());
            Ok::<_, TarError>(true)
        })?;
    }
    let count = reader.finish()?;
    Ok((members, out, count))
}

/// A directory with everything that makes formats differ, packed by GNU tar.
fn packed(format: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
            set -e; cd "$1"; mkdir d; long=$(printf 'x%.0s' $(seq 200)); mkdir -p "d/$long/$long"; echo deep >"d/$long/$long/f"
            echo one >a; ln a b; ln -s a s; ln -s "$long$long" longlink; mkfifo p; printf 'odd' >'new
line'; truncate -s 1M sparse; printf x | dd of=sparse bs=1 seek=500000 conv=notrunc 2>/dev/null
            i=0; while [ $i -lt 40 ]; do printf x | dd of=holes bs=1 seek=$((i * 65536)) conv=notrunc 2>/dev/null; i=$((i+1)); done
            exec tar --create --sort=name --sparse --format="$2" ."#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(dir.path()).arg(format).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn members_of_all_formats_are_read_in_pieces_of_any_size() {
    for format in ["posix", "gnu"] {
        let archive = packed(format);
        let (members, out, count) = read(&archive, archive.len()).unwrap();
        for piece in [1, 7, 511, 512, 513, 8191] {
            let (again, same, _) = read(&archive, piece).unwrap();
            assert!(again == members && same == out, "{format}, pieces of {piece}");
        }
        assert!(archive.starts_with(&out) && archive[out.len()..].iter().all(|byte| *byte == 0));
        let names: Vec<String> =
            members.iter().map(|m| String::from_utf8_lossy(&m.path).into_owned()).collect();
        let long = "x".repeat(200);
        let deep = format!("./d/{long}/{long}/f");
        for name in ["./", "./a", "./b", "./new\nline", "./sparse", "./holes", "./d/", deep.as_str()] {
            assert!(names.iter().any(|n| n == name), "{format}: {name:?} in {names:?}");
        }
        assert_eq!((count, members.len()), (13, 13), "{format}: {names:?}");
        let find = |name: &str| members.iter().find(|m| m.path == name.as_bytes()).unwrap();
        assert_eq!((find("./b").kind, find("./b").link.as_slice()), (Kind::HardLink, b"./a".as_slice()));
        assert_eq!((find("./longlink").kind, find("./longlink").link.len()), (Kind::Symlink, 400));
        assert_eq!((find("./p").kind, find("./sparse").kind), (Kind::Fifo, Kind::File));
        assert!(find("./sparse").size < 100_000);
    }
}

#[test]
fn what_is_not_wanted_is_left_out_whole() {
    for format in ["posix", "gnu"] {
        let archive = packed(format);
        let (all, ..) = read(&archive, archive.len()).unwrap();
        for unwanted in &all {
            let (mut reader, mut out) = (Reader::default(), Vec::new());
            for piece in archive.chunks(700) {
                let wanted = |member: &Member| Ok::<_, TarError>(member.path != unwanted.path);
                reader.push(piece, &mut out, wanted).unwrap();
            }
            out.extend(END);
            let (rest, ..) = read(&out, 1000).unwrap();
            let expected: Vec<Member> = all.iter().filter(|member| *member != unwanted).cloned().collect();
            assert_eq!((rest, reader.finish()), (expected, Ok(all.len() as u64 - 1)), "{format}");
        }
    }
}

#[test]
fn a_cut_or_damaged_stream_is_refused() {
    let archive = packed("posix");
    let (_, out, _) = read(&archive, archive.len()).unwrap();
    for length in [0, 100, 512, 1024, out.len() - 1, out.len()] {
        assert_eq!(read(&archive[..length], 4096), Err(TarError::CutOff), "{length} bytes");
    }
    for at in [0, 130, 148, 156, 300] {
        let mut damaged = archive.clone();
        damaged[at] ^= 0x15;
        assert!(matches!(read(&damaged, 4096), Err(TarError::Broken(_))), "byte {at}");
    }
    assert!(matches!(read(&[b'x'; 2048], 100), Err(TarError::Broken(_))));
}

#[test]
fn headers_of_ours_are_read_by_us_and_by_tar() {
    let content = b"-- SQL\n";
    let mut archive = file_header("./database.sql", content.len() as u64, 1_700_000_000).to_vec();
    archive.extend(content);
    archive.extend(padding_of(content.len() as u64));
    archive.extend(END);
    let (members, ..) = read(&archive, 100).unwrap();
    assert_eq!((members[0].path.as_slice(), members[0].size), (b"./database.sql".as_slice(), 7));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar");
    std::fs::write(&file, &archive).unwrap();
    let output = Command::new("tar").env("TZ", "UTC").args(["-tvf"]).arg(&file).output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(
        listing.starts_with("-rw------- root/root") && listing.ends_with("2023-11-14 22:13 ./database.sql\n"),
        "{listing}"
    );

    let large = 20 << 30;
    assert_eq!(number(&file_header("./x", large, 0)[124..136]), Ok(large));
}
