//! A small disk of this machine, to be filled, made read-only and repaired at will.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// A small file system in the place of an empty directory of this machine. Needs root.
pub struct LocalDisk {
    dir: PathBuf,
}

impl LocalDisk {
    /// With so many MiB.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn under(dir: &Path, mib: u32) -> Result<Self> {
        let options = format!("size={mib}m,mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "kedge-small"]).arg(dir).output()?;
        ensure!(mounted.status.success(), "mount: {}", String::from_utf8_lossy(&mounted.stderr));
        Ok(Self { dir: dir.to_owned() })
    }

    /// Mounts it anew with other options.
    ///
    /// # Errors
    /// When that is refused.
    pub fn remount(&self, options: &str) -> Result<()> {
        let mounted =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.dir).output()?;
        ensure!(mounted.status.success(), "mount: {}", String::from_utf8_lossy(&mounted.stderr));
        Ok(())
    }

    /// Takes all room that is left.
    ///
    /// # Errors
    /// When its filler cannot be made.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.dir.join("filler"))?;
        let mut block = vec![0xaa_u8; 1024 * 1024];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When its filler cannot be removed.
    pub fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.dir.join("filler"))?)
    }

    /// What is in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let names = self.dir.read_dir()?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

impl Drop for LocalDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.dir).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be unmounted", self.dir.display());
        }
    }
}
