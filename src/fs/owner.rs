//! The owner of a file, by numbers and by this machine's names.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::{fmt, io};

use fs_err as fs;
use rustix::fs::{Gid, Uid};

/// The owner of a file; shown as `uid:gid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub fn of(metadata: &Metadata) -> Self {
        let (uid, gid) = (metadata.uid(), metadata.gid());
        Self { uid, gid }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// Sets the owner of an open file or directory, unless it is the same already.
pub fn give(file: &fs::File, owner: Owner) -> io::Result<()> {
    if Owner::of(&file.metadata()?) == owner {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(file.file(), Some(uid), Some(gid))
        .map_err(|error| crate::fs::error::with_path(error.into(), "set the owner of", file.path()))
}

/// Sets the owner of a file that root made in a directory of another account to that account, which could not use it
/// otherwise. If that fails, as on NFS, root stays the owner.
pub fn give_to_owner_of(dir: &fs::File, file: &fs::File) {
    // Only root can; the packaged service, which owns its files, must not try.
    if rustix::process::geteuid().is_root()
        && let (Ok(dir), Ok(found)) = (dir.metadata(), file.metadata())
        && dir.uid() != found.uid()
    {
        let _ = give(file, Owner::of(&dir));
    }
}

/// A user and its group, by number or name.
pub fn user(name: &str) -> Option<Owner> {
    let line = entry_of("passwd", name);
    let mut fields = line.iter().flat_map(|line| line.split(':')).skip(2);
    match (fields.next(), fields.next()) {
        (Some(uid), Some(gid)) => Some(Owner {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        }),
        // A number without a name is valid too.
        _ => name.parse().ok().map(|id| Owner { uid: id, gid: id }),
    }
}

/// A group's number, by number or name.
pub fn group(name: &str) -> Option<u32> {
    let line = entry_of("group", name);
    let gid = line.as_deref().and_then(|line| line.split(':').nth(2));
    gid.unwrap_or(name).parse().ok()
}

pub fn name_of(uid: u32) -> Option<String> {
    let line = entry_of("passwd", &uid.to_string())?;
    line.split(':').next().map(str::to_owned)
}

/// The line of a name or number in `/etc/passwd` or `/etc/group`, or from `getent`, which also asks a directory service.
fn entry_of(table: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/etc/{table}")).unwrap_or_default();
    let has_key = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() == Some(key) || fields.nth(1) == Some(key)
    };
    if let Some(line) = text.lines().find(has_key) {
        return Some(line.to_owned());
    }
    let asked = Command::new("getent")
        .args([table, "--", key])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let answer = String::from_utf8(asked.ok()?.stdout).ok()?;
    answer.lines().next().map(str::to_owned)
}
