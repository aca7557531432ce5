//! Exit codes and hints for errors of a rewind.

use crate::etcd::replay::ReplayFault;
use crate::rewind::RewindError;
use crate::target::StoreError;

use crate::cli::error::{
    CliError, Judge, Kind, busy, corrupt, failed, interrupted, not_found, of_space, refused, usage,
};

impl Judge for RewindError {
    fn judge(&self) -> CliError {
        match self {
            Self::Store(StoreError::Unsound { target, .. } | StoreError::Start { target, .. }) => corrupt(
                "leave that input out, the others may suffice; `etcd-ark verify` shows all that is corrupt. `--to index:N` takes an entry of what is whole",
            )
            .about(target),
            Self::Store(error) => error.judge(),
            Self::Archive(error) => error.judge(),
            Self::DataDir(error) => error.judge(),
            Self::Capture(error) => error.judge(),
            Self::Io(error) => error.judge(),
            Self::Interrupted(_) => interrupted("nothing was kept"),
            Self::Running { .. } => busy(
                "stop every member of the cluster first and keep it stopped; `--dry-run` shows the plan meanwhile",
            ),
            Self::OutNowhere(_) => not_found("make that directory first"),
            Self::Space(error) => of_space(
                error,
                "free some space, or pass an `--out` on another disk; nothing was kept",
            ),
            Self::Changed(_) => failed(
                "something writes to it; stop that, or use an archive of it, and run this again",
            ),
            Self::Unproven { .. } => {
                failed("please report this, with the output of `rewind --dry-run --json`")
            }
            Self::Entry {
                path,
                fault: ReplayFault::Unreadable(at),
            } => Kind::Corrupt.advice(format!(
                    "`etcd-ark rewind --to index:{}` makes archives of all that is before that entry; or leave that input out",
                    at.previous()
                ),
            )
            .about(path),
            Self::Db(_)
            | Self::Entry { .. }
            | Self::Leftover(_)
            | Self::NoTermLeft
            | Self::Unloadable { .. } => {
                corrupt("its checksums are right, but no etcd wrote this; leave that input out")
            }
            _ => of_refusal(self),
        }
    }
}

fn of_refusal(error: &RewindError) -> CliError {
    match error {
        RewindError::NoInput | RewindError::NoSuchInput(_) => {
            usage("name the member (by its name or id), or the path, of one of the inputs")
        }
        RewindError::Member { .. } => usage("name one of these; if two share a name, use the id"),
        RewindError::PeerUrl(_) => usage("such as `--peer-url infra0=http://10.0.1.10:2380`"),
        RewindError::UrlOfRemoved(_) => {
            usage("with `--single` only the one that stays can have a new peer URL")
        }
        RewindError::Clusters(..) => refused(
            "give archives and data dirs of one cluster; `etcd-ark list` shows the archives of each cluster together",
        ),
        RewindError::Fork { .. } => refused(
            "leave out the input that is not of this history: one that was restored from another backup, or one with last entries that a later leader replaced (not known to be committed)",
        ),
        RewindError::Beyond { .. } => refused(
            "`--to end` keeps all there is; a later archive, or another member's data dir, may go further",
        ),
        RewindError::NeverBelow { at, .. } => Kind::Refused.advice(format!(
            "if the cluster ran etcd 2.0 before, which sets no cluster version, `--to index:{}` takes it back to there; otherwise there is nothing to take back to, and `--to end` keeps everything",
            at.previous()
        )),
        RewindError::MoveNotAtHand { .. } | RewindError::Uncovered { .. } => refused(
            "add an archive from before, or the data dir or an archive made with `--all` of a member with a log that reaches back",
        ),
        RewindError::Unjoined { .. } => {
            refused("add an archive or data dir with a log that spans that entry")
        }
        RewindError::CutOf3x { .. } => refused(
            "`--to end` rewinds without leaving anything out; to go back in time restore a file that `etcdctl snapshot save` made",
        ),
        RewindError::NoDb { .. } => refused(
            "add the data dir of the member with the newest raft snapshot, copied while it was stopped",
        ),
        RewindError::InOrder { .. } => refused(
            "`--base MEMBER` names the member that gives the names for all; choose the one with the names that your clients know",
        ),
        RewindError::Base { .. } => refused(
            "choose one of these as the base, or add an archive of that member from before the moment",
        ),
        RewindError::StoresDiffer { .. } => refused(
            "one of them was damaged, or restored by itself, or a client refreshed keys (`refresh=true`) while members ran etcd 2.2 and 2.3; `etcd-ark diff` shows what differs: use the data of the members that you trust, and leave out the others",
        ),
        RewindError::WouldNotStart { .. } => refused(
            "go back to a moment before that, with `--to index:N`; `etcd-ark verify` says the same of each input",
        ),
        RewindError::NoMembers(_) => refused("choose a later moment"),
        RewindError::PeerUrlInUse(_) => {
            refused("give each member a peer URL that no other has had; two cannot change places")
        }
        RewindError::OutTaken(_) => {
            refused("pass an `--out` that does not exist yet; nothing is ever written over")
        }
        RewindError::OutInside(_) => refused("pass an `--out` elsewhere"),
        _ => Kind::Failed.error(""),
    }
}
