//! Takes things out of an archive, of ours or of Aegir: what is in it, its dump, the site's members. Never writes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use kedge_workflows::ports::{Compression, Contents, Origin, PortResult};

use super::pack::{Signpost, Unpacker};
use super::write::is_ours;
use super::{DATABASE, Packing, Sent, failed, read, refused};
use crate::tar::{END, Member, Reader, TarError};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// What is in an archive, which is read through.
pub(super) fn contents(dir: &Path, name: &str) -> PortResult<Contents> {
    let seen = read::read(dir, name)?.ok_or_else(|| refused(name, "there is no such archive"))?;
    if seen.manifest.is_some() {
        seen.check(name)?;
    } else if seen.has_whole_dump() {
        // Nothing tells how many members there should be: the end marker of the archive has to be there at least.
        members(open(dir, name)?, name, |_| Ok(true))?;
    } else {
        let why = "it is cut off, or no backup of a site: it has no manifest and no whole database.sql";
        return Err(refused(name, why));
    }
    let (database, files) = seen.parts();
    let origin = seen.manifest.as_ref().and_then(Origin::of);
    let tables = seen.manifest.as_ref().and_then(|manifest| manifest["contents"]["tables"].as_u64());
    Ok(Contents { info: seen.info, database, files, tables, origin })
}

/// Sends the dump, found by the archive's signpost where it has one.
pub(super) fn database(dir: &Path, name: &str, sender: &Sent) -> PortResult<()> {
    let broken = |error: io::Error| refused(name, &format!("it is damaged: {error}"));
    let mut file = file(dir, name)?;
    let packing = packing(name);
    let signpost = match packing {
        Packing::Ours(Compression::Zstd) => Signpost::of(&mut file).map_err(broken)?,
        Packing::Ours(_) | Packing::Bzip2 => None,
    };
    file.seek(SeekFrom::Start(signpost.map_or(0, |signpost| signpost.dump_at))).map_err(broken)?;
    let mut archive = tar::Archive::new(Unpacker::new(file, packing).map_err(broken)?);
    for member in archive.entries().map_err(broken)? {
        let mut member = member.map_err(broken)?;
        if *member.path_bytes() != *DATABASE.as_bytes() {
            continue;
        }
        let (size, mut sent) = (member.size(), 0);
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = member.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                break;
            }
            sent += read as u64;
            if sender.blocking_send(Ok(Bytes::copy_from_slice(&buffer[..read]))).is_err() {
                return Ok(());
            }
        }
        return if sent == size { Ok(()) } else { Err(refused(name, "its dump is cut off")) };
    }
    Err(refused(name, "it has no database.sql"))
}

/// Sends the site's members as a tar stream.
pub(super) fn files(dir: &Path, name: &str, sender: &Sent) -> PortResult<()> {
    let send = |bytes: Vec<u8>| Ok(sender.blocking_send(Ok(bytes.into())).is_ok());
    if members(open(dir, name)?, name, send)? {
        // A reader that is gone has had enough.
        sender.blocking_send(Ok(Bytes::from_static(&END))).ok();
    }
    Ok(())
}

/// Hands on the site's members, to the end marker; `false` when nobody wanted them any more.
fn members(
    mut archive: Unpacker,
    name: &str,
    mut hand: impl FnMut(Vec<u8>) -> PortResult<bool>,
) -> PortResult<bool> {
    let broken = |error: &dyn std::fmt::Display| refused(name, &format!("it is damaged: {error}"));
    let (mut reader, mut buffer) = (Reader::default(), vec![0; CHUNK]);
    loop {
        let read = archive.read(&mut buffer).map_err(|error| broken(&error))?;
        if read == 0 {
            break;
        }
        let mut out = Vec::new();
        let wanted = |member: &Member| Ok::<_, TarError>(!is_ours(member));
        reader.push(&buffer[..read], &mut out, wanted).map_err(|error| broken(&error))?;
        if !out.is_empty() && !hand(out)? {
            return Ok(false);
        }
    }
    reader.finish().map_err(|error| broken(&error))?;
    Ok(true)
}

fn open(dir: &Path, name: &str) -> PortResult<Unpacker> {
    let file = file(dir, name)?;
    Unpacker::new(file, packing(name)).map_err(|error| failed(&dir.join(name), &error))
}

fn file(dir: &Path, name: &str) -> PortResult<File> {
    let path = dir.join(name);
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(refused(name, "there is no such archive"))
        }
        file => file.map_err(|error| failed(&path, &error)),
    }
}

fn packing(name: &str) -> Packing {
    Packing::of(name).unwrap_or(Packing::Ours(Compression::None))
}
