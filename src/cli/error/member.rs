//! Exit codes and hints for errors while reading, backing up or drilling a member's data.

use std::path::{Path, PathBuf};

use crate::cluster::ProbeError;
use crate::data_dir::DataDirError;
use crate::data_dir::scan::SurveyError;
use crate::drill::DrillError;
use crate::etcd::replay::ReplayFault;
use crate::put_keys::PutError;
use crate::snapshot::error::CaptureError;
use crate::target::StoreError;

use crate::cli::error::{
    CliError, Judge, Kind, busy, corrupt, failed, interrupted, no_space, not_found, refused,
};

impl Judge for DataDirError {
    fn judge(&self) -> CliError {
        match self {
            Self::Io(error) => error.judge(),
            Self::NoWalDir(_) => not_found(
                "pass the directory that etcd was started with as `--wal-dir`; if it runs without that flag, leave it out here, too",
            ),
            Self::NotFound(_) => not_found(
                "pass the directory that etcd was started with, `--data-dir`; without that flag it is `NAME.etcd` in etcd's working directory",
            ),
            Self::Foreign { path, .. } if meant(path).is_some() => Kind::NotFound.advice(format!(
                "did you mean `{}`? it has a `member` directory in it",
                meant(path).unwrap_or_default().display()
            )),
            Self::NotADirectory(_) | Self::Foreign { .. } => not_found(
                "pass the directory that etcd was started with; it has a `member` directory in it",
            ),
            Self::Empty(_) => not_found(
                "this member has not started yet, or its data are on a disk that is not mounted",
            ),
            Self::Proxy(_) => {
                not_found("there is nothing to back up on a proxy; run this on the members")
            }
            Self::Version04(_) => {
                not_found("start it once with etcd 2.0, which moves the data to its own format")
            }
            Self::NoWal(_) | Self::NoSegments(_) => {
                not_found("if etcd runs with `--wal-dir`, pass the same here")
            }
            Self::TwoWals { .. } => refused(
                "find out which one etcd was started with last. The one in the data dir: leave `--wal-dir` out. The dedicated one: `member/wal` is an older copy, such as one of a `--move-wal` that was killed; with etcd stopped move it out of the data dir, and run this again",
            ),
            Self::EmptyWalDir { .. } => refused(
                "leave `--wal-dir` out, here and at etcd: with it, etcd would take the member for a new one",
            ),
            Self::NotAFile { path, .. } if path.extension().is_some_and(|it| it == "snap") => {
                corrupt(
                    "etcd passes over it, to an older raft snapshot; is another disk not mounted? Or move it out of the data dir",
                )
            }
            Self::NotAFile { .. } => corrupt(
                "etcd cannot start from this; is another disk not mounted, or were files moved by hand?",
            ),
            Self::ForeignLink(_) => refused(
                "give what it leads to to the owner of the data dir, or name a dedicated WAL dir with `--wal-dir`",
            ),
            Self::SegmentGap { .. } | Self::BeginsLate { .. } => {
                corrupt("etcd cannot start from this; were files removed by hand?")
            }
        }
    }
}

/// The data dir that was probably meant: above `path`, or the only one in it.
fn meant(path: &Path) -> Option<PathBuf> {
    let is_data_dir = |path: &Path| path.join("member").is_dir();
    let above = path.ancestors().skip(1).take(2);
    let mut above = above.filter(|path| !path.as_os_str().is_empty());
    if let Some(found) = above.find(|path| is_data_dir(path)) {
        return Some(found.to_owned());
    }
    let entries = std::fs::read_dir(path).ok()?;
    let mut within = entries.flatten().map(|entry| entry.path());
    let found = within.find(|path| is_data_dir(path))?;
    within.all(|path| !is_data_dir(&path)).then_some(found)
}

impl Judge for SurveyError {
    fn judge(&self) -> CliError {
        match self {
            Self::DataDir(error) => error.judge(),
            Self::Io(error) => error.judge(),
            Self::Interrupted(error) => error.judge(),
        }
    }
}

impl Judge for StoreError {
    fn judge(&self) -> CliError {
        match self {
            Self::Survey(error) => error.judge(),
            Self::Archive(error) => error.judge(),
            Self::Unsound { target, .. } => corrupt(
                "`etcd-ark verify` shows all that is corrupt; use another archive or member",
            )
            .about(target),
            Self::Start { .. } => {
                corrupt("etcd could not start from it either; use another archive or member")
            }
            Self::Replay { fault, target } => of_replay(fault).about(target),
            Self::Changed(_) => failed(
                "something writes to it; stop that, or use an archive of it, and run this again",
            ),
        }
    }
}

fn of_replay(fault: &ReplayFault) -> CliError {
    match fault {
        ReplayFault::NoStart { .. } | ReplayFault::Hole { .. } => not_found(
            "`etcd-ark inspect` shows from which index on there is a raft snapshot with its log; an archive made with --all, or an older one, reaches further back",
        ),
        ReplayFault::Beyond { .. } => not_found(
            "`etcd-ark inspect` shows how far the log goes; a later archive, or another member, may go further",
        ),
        ReplayFault::Uncommitted { .. } => {
            refused("`--pending` applies it anyway; it may still be replaced")
        }
        ReplayFault::TooManyMembers(_) => corrupt(
            "no cluster has that many; the checksums are right, so another program wrote it",
        ),
        ReplayFault::Unreadable(_) => corrupt(
            "etcd panics on such an entry; its checksums are right, so a later release or another program wrote it",
        ),
    }
}

impl Judge for CaptureError {
    fn judge(&self) -> CliError {
        match self {
            Self::DataDir(
                DataDirError::SegmentGap { .. }
                | DataDirError::BeginsLate { .. }
                | DataDirError::NotAFile { .. },
            )
            | Self::Start(_) => corrupt(
                "etcd cannot start from this directory as it is; save it with `snapshot --damaged` before you repair it, and back up the other members",
            ),
            Self::DataDir(error) => error.judge(),
            Self::Archive(error) => error.judge(),
            Self::Upload(error) => error.judge(),
            Self::Io(error) => error.judge(),
            Self::Interrupted(error) => error.judge(),
            Self::Running(_) | Self::DbChanged => busy(
                "stop this member first, or use `ETCDCTL_API=3 etcdctl snapshot save FILE` while it runs",
            ),
            Self::Source { .. } | Self::Db(_) => corrupt(
                "`etcd-ark verify` on the data dir shows all that is corrupt, and `snapshot --damaged` saves it as it is; check this member's disk; the other members' data are the better copy",
            ),
            Self::RunningOnDamaged(_) => {
                busy("stop etcd on this member first, or leave out --damaged")
            }
            Self::NotDamaged => {
                refused("leave out --damaged; whether etcd starts from it, `etcd-ark verify` says")
            }
            Self::NothingToSave(_) => {
                not_found("pass the data dir that etcd was started with; is its disk mounted?")
            }
            Self::Unsettled(_) => failed(
                "the member may be receiving a snapshot from its leader; run this again in a minute",
            ),
            Self::Lock(error) => error.judge(),
            Self::BackupInside(_) => refused("pass a --backup-dir elsewhere, best on another disk"),
            Self::ReadBack(_) => corrupt(
                "the disk of the backup dir returned different bytes than were written to it; nothing was kept, use another disk",
            ),
            Self::Vanished(_) => failed(
                "files disappeared while they were opened; is another process deleting files in the data dir?",
            ),
        }
    }
}

impl Judge for DrillError {
    fn judge(&self) -> CliError {
        let judged = match self {
            Self::NoBinary(_) => not_found(
                "pass the path of an etcd of the release that the backup is for to --etcd",
            ),
            Self::NotEtcd(_) => failed("pass the path of an etcd to --etcd"),
            Self::Older { .. } => {
                refused("pass the path of an etcd of the release that the backup is for to --etcd")
            }
            Self::DoesNotStart {
                cure: Some(cure), ..
            } => Kind::Corrupt.advice(cure.clone()),
            Self::DoesNotStart { version, .. } if version.starts_with("3.") => corrupt(
                "etcd 3 wants its own database beside a raft snapshot, and a backup of 2.x has none: pass the path of an etcd of the release that the backup is for to --etcd",
            ),
            Self::DoesNotStart { .. } => corrupt(
                "is it an etcd of the release that the backup is for? `etcd-ark verify` says which releases start from it",
            ),
            Self::NoScratch(_) => {
                not_found("make that directory, or pass another one to `--scratch-dir`")
            }
            Self::ScratchInside(_) => {
                refused("nothing was written; pass a `--scratch-dir` elsewhere")
            }
            Self::Source(_) => corrupt(
                "drill an archive: an older one, or what `etcd-ark snapshot` still makes of the data dir",
            ),
            Self::Capture(error) => error.judge(),
            Self::Archive(error) => error.judge(),
            Self::Restore(error) => error.judge(),
            Self::Store(error) => error.judge(),
            Self::Io(error) => error.judge(),
            Self::Interrupted(error) => error.judge(),
        };
        if judged.kind == Kind::NoSpace {
            return no_space("free some space, or pass a `--scratch-dir` on another disk");
        }
        judged
    }
}

const AGAIN: &str = "run the same command again: what has been written is not written again";

impl Judge for PutError {
    fn judge(&self) -> CliError {
        match self {
            Self::Read(ProbeError::NotAllowed { .. }) => failed(
                "pass `--username` with `--password-file`; the user must be allowed to read and write these keys",
            ),
            Self::MayNotWrite { .. } => failed(
                "give the user a role that may write these keys, or pass another `--username` with `--password-file`",
            ),
            Self::Read(why) if why.wants_certificate() => failed(
                "the servers want a client certificate: pass --cert and --key, of an authority that they trust",
            ),
            Self::Read(_) => failed(
                "is one of the members in --endpoints up, has the cluster a leader, and does it serve the v2 API (etcd 3: `--enable-v2`)?",
            ),
            Self::Write { .. } => failed(AGAIN),
            Self::Stopped { .. } => interrupted(AGAIN),
            Self::Interrupted(error) => error.judge(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::space::SpaceError;

    #[test]
    fn a_drill_without_room_is_told_of_the_flag_that_drill_has() {
        let no_room = SpaceError::NoRoom {
            dir: "/scratch".into(),
            needed: 2,
            available: 1,
        };
        let judged = DrillError::Restore(no_room.into()).judge();
        assert_eq!(judged.kind, Kind::NoSpace);
        assert!(judged.hint.unwrap().contains("--scratch-dir"));
    }
}
