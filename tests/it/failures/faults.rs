//! Faults: a program of a test host in whose place something else runs, and file systems that are too small. What is put in is taken
//! out again by whoever put it in.

use anyhow::{Result, ensure};
use kedge_testenv::Exec;

use crate::scene::Scene;

/// Puts a script in the place of a program. Calls whose arguments match `pattern` (of a shell's `case`) run `body`, in which `$n` is the
/// number of such a call and `$real` the program; what does not exit there goes on to the program, like all other calls.
pub(super) async fn stand_in(scene: &Scene, program: &str, pattern: &str, body: &str) -> Result<()> {
    stand_back(scene, program).await?;
    let script = format!(
        "#!/bin/sh\nreal=$0.real\ncase \"$*\" in\n{pattern})\nn=$(($(cat /root/faults/{program}) + 1))\necho $n >/root/faults/{program}\n{body}\n;;\n\
         esac\nexec \"$real\" \"$@\"\n"
    );
    // Kedge remembers where the tools of a host are: it has to be the very place.
    let place = format!(
        "set -e; mkdir -p /root/faults; echo 0 >/root/faults/{program}; at=$(command -v {program}); cat >$at.new; chmod 755 $at.new; mv $at $at.real; mv $at.new $at"
    );
    scene.host.run_ok(Exec::new(["sh", "-c", &place]).stdin(script)).await?;
    Ok(())
}

/// How often it was called with matching arguments.
pub(super) async fn calls(scene: &Scene, program: &str) -> Result<u32> {
    Ok(scene.shell(&format!("cat /root/faults/{program}")).await?.trim().parse()?)
}

/// Takes the script away.
pub(super) async fn stand_back(scene: &Scene, program: &str) -> Result<()> {
    let back = format!(
        "at=$(command -v {program} || command -v {program}.real | sed 's/.real$//'); [ ! -e $at.real ] || mv $at.real $at; rm -f /root/faults/{program}"
    );
    scene.shell(&back).await.map(drop)
}

/// Waits until a script has said that it got somewhere, by a file in `/root/faults`.
pub(super) async fn reached(scene: &Scene, mark: &str) -> Result<()> {
    let file = format!("/root/faults/{mark}");
    support::wait_until(mark, super::STEP, || async {
        scene.host.exec(["test", "-e", &file], b"").await.is_ok_and(|output| output.success())
    })
    .await
}

/// A small file system in the place of a directory of the host, whose contents go along.
pub(super) struct SmallDisk {
    dir: String,
}

impl SmallDisk {
    /// With so many KiB of room beyond what is there, or as tmpfs's `options` say, in which `$inodes` is how many are in use. Services that use the directory have to stand still.
    pub(super) async fn under(scene: &Scene, dir: &str, free_kib: u64, options: &str) -> Result<Self> {
        let script = format!(
            "set -e; mkdir -p {dir}; used=$(du -sk {dir} | cut -f1); inodes=$(find {dir} | wc -l); \
             mkdir -p /mnt/small; mount -t tmpfs -o mode=755,size=$((used + used / 8 + {free_kib}))k{options} kedge-small /mnt/small; \
             cp -a {dir}/. /mnt/small/; chown --reference={dir} /mnt/small; chmod --reference={dir} /mnt/small; \
             mount --move /mnt/small {dir}"
        );
        mounting(scene, &script).await?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Takes all room but for so many KiB.
    pub(super) async fn fill(&self, scene: &Scene, but_kib: u64) -> Result<()> {
        let dir = &self.dir;
        let script = format!(
            "free=$(stat -f -c '%a * %S / 1024' {dir}); free=$(($free - {but_kib})); [ $free -le 0 ] || head -c ${{free}}k /dev/zero >{dir}/.filler; true"
        );
        scene.shell(&script).await.map(drop)
    }

    /// Gives the room back.
    pub(super) async fn empty(&self, scene: &Scene) -> Result<()> {
        scene.shell(&format!("rm -f {}/.filler", self.dir)).await.map(drop)
    }

    /// Mounts it anew with other options, such as `ro`.
    pub(super) async fn remount(&self, scene: &Scene, options: &str) -> Result<()> {
        mounting(scene, &format!("mount -o remount,{options} {}", self.dir)).await
    }

    /// Takes it away; what is in it goes back to the directory when it has to stay.
    pub(super) async fn away(self, scene: &Scene, keep: bool) -> Result<()> {
        let dir = &self.dir;
        let kept = if keep {
            format!(
                "mkdir -p /mnt/kept; mount --move {dir} /mnt/kept; rm -f /mnt/kept/.filler; rsync -aHAX --delete /mnt/kept/ {dir}/; umount -l /mnt/kept"
            )
        } else {
            format!("umount -l {dir}")
        };
        mounting(scene, &format!("set -e; {kept}")).await
    }
}

async fn mounting(scene: &Scene, script: &str) -> Result<()> {
    let output = scene.host.run(Exec::new(["sh", "-c", script])).await?;
    ensure!(output.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
