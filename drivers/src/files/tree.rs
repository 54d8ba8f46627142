//! Directories made, removed and renamed.

use kedge_workflows::ports::{Access, PortError, PortResult};

use super::{HostFiles, NOT_EXPECTED, paths};

impl HostFiles {
    pub(super) async fn make_directory(&self, path: &str, access: &Access, parents: bool) -> PortResult<()> {
        let (above, name) = paths::split(path)?;
        let what = self.what("making the directory", path);
        let (user, group) = owner(access)?;
        // Five digits: with fewer, chmod leaves the set-group-id bit of a directory as it is.
        let mode = format!("{:05o}", access.mode);
        let arguments = [above, name, if parents { "yes" } else { "no" }, &mode, user, group];
        self.run(&what, self.script(include_str!("scripts/make_dir.sh"), &arguments)).await.map(drop)
    }

    pub(super) async fn remove_below(&self, path: &str, within: &str) -> PortResult<()> {
        let (above, name) = paths::split(path)?;
        paths::absolute(within)?;
        let what = self.what("removing", path);
        let outside = || PortError::Refused(format!("{what}: it is not below {within}"));
        paths::below(path, within).ok_or_else(outside)?;
        let between = paths::below(above, within).unwrap_or_default();
        let arguments = [within, between, above, name];
        self.run(&what, self.script(include_str!("scripts/remove_tree.sh"), &arguments)).await.map(drop)
    }

    pub(super) async fn rename_to_free(&self, from: &str, to: &str) -> PortResult<()> {
        let ((from_above, _), (to_above, _)) = (paths::split(from)?, paths::split(to)?);
        let what = format!("renaming {from} to {to} on {}", self.host.name());
        let arguments = [from, from_above, to, to_above, include_str!("scripts/rename.pl")];
        let finished = self.finish(&what, self.script(include_str!("scripts/rename.sh"), &arguments)).await?;
        if finished.status == NOT_EXPECTED {
            return Err(PortError::NotOurs(format!("{what}: {to} exists")));
        }
        finished.success(&what).map(drop)
    }
}

/// User and group for a script: empty where none is named.
pub(super) fn owner(access: &Access) -> PortResult<(&str, &str)> {
    let name = |name: &'static str, value: &Option<String>| match value {
        Some(value) if value.is_empty() || value.contains([':', '\0']) => {
            Err(PortError::Refused(format!("{value:?} is not the name of a {name}")))
        }
        _ => Ok(()),
    };
    name("user", &access.user)?;
    name("group", &access.group)?;
    Ok((access.user.as_deref().unwrap_or_default(), access.group.as_deref().unwrap_or_default()))
}
