//! What a rewind's failure is called, which exit code it has and what to do about it.

use crate::rewind::RewindError;
use crate::target::StoreError;

use crate::cli::error::{
    Judged, Kind, of_archive, of_capture, of_data_dir, of_io, of_space, of_store,
};

pub(crate) fn of_rewind(error: &RewindError) -> Judged {
    match error {
        RewindError::Store(StoreError::Unsound { .. } | StoreError::Start { .. }) => (
            Kind::Corrupt,
            Some(
                "`etcd-ark verify` shows all that is corrupt; use another archive or member, or `--to index:N` for an entry of what is whole",
            ),
        ),
        RewindError::Store(error) => of_store(error),
        RewindError::Archive(error) => of_archive(error),
        RewindError::DataDir(error) => of_data_dir(error),
        RewindError::Capture(error) => of_capture(error),
        RewindError::Io(error) => of_io(error),
        RewindError::Interrupted(_) => (Kind::Interrupted, Some("nothing was kept")),
        RewindError::Running { .. } => (
            Kind::Busy,
            Some(
                "stop every member of the cluster first and keep it stopped; `--dry-run` shows the plan meanwhile",
            ),
        ),
        RewindError::OutNowhere(_) => (Kind::NotFound, Some("make that directory first")),
        RewindError::Space(error) => of_space(
            error,
            "make room, or pass an `--out` on another disk; nothing was kept",
        ),
        RewindError::Changed(_) => (
            Kind::Failed,
            Some(
                "something writes to it; stop that, or go by an archive of it, and run this again",
            ),
        ),
        RewindError::Unproven { .. } => (
            Kind::Failed,
            Some("please report this, with the output of `rewind --dry-run --json`"),
        ),
        RewindError::Db(_)
        | RewindError::Entry { .. }
        | RewindError::Leftover(_)
        | RewindError::NoTermLeft => (
            Kind::Corrupt,
            Some("its bytes check, but no etcd wrote this; leave that input out"),
        ),
        _ => of_refusal(error),
    }
}

fn of_refusal(error: &RewindError) -> Judged {
    let (kind, hint) = match error {
        RewindError::NoInput | RewindError::NoSuchInput(_) => (
            Kind::Usage,
            "name the member (by its name or id), or the path, of one of the inputs",
        ),
        RewindError::Member { .. } => (
            Kind::Usage,
            "name one of these; a member's id is without doubt where two have one name",
        ),
        RewindError::PeerUrl(_) => (
            Kind::Usage,
            "such as `--peer-url infra0=http://10.0.1.10:2380`",
        ),
        RewindError::UrlOfRemoved(_) => (
            Kind::Usage,
            "with `--single` only the one that stays can have a new peer URL",
        ),
        RewindError::Clusters(..) => (
            Kind::Refused,
            "go by archives and data dirs of one cluster; `etcd-ark inspect` shows the cluster of each",
        ),
        RewindError::Fork { .. } => (
            Kind::Refused,
            "leave out the input that is not of this history: one that was restored from another backup, or one with last entries that a later leader replaced (not known to be committed)",
        ),
        RewindError::Beyond { .. } => (
            Kind::Refused,
            "`--to end` keeps all there is; a later archive, or another member's data dir, may go further",
        ),
        RewindError::NeverBelow { .. } => (
            Kind::Refused,
            "there is nothing to take back to; `--to end` keeps everything, `--to index:N` up to an entry of your choice",
        ),
        RewindError::MoveNotAtHand { .. } | RewindError::Uncovered { .. } => (
            Kind::Refused,
            "add an archive from before, or the data dir or an archive made with `--all` of a member with a log that reaches back",
        ),
        RewindError::Unjoined { .. } => (
            Kind::Refused,
            "add an archive or data dir with a log that spans that entry",
        ),
        RewindError::CutOf3x { .. } => (
            Kind::Refused,
            "`--to end` rewinds without leaving anything out; to go back in time restore a file that `etcdctl snapshot save` made",
        ),
        RewindError::NoDb { .. } => (
            Kind::Refused,
            "add the data dir of the member with the newest raft snapshot, copied while it was stopped",
        ),
        RewindError::InOrder { .. } => (
            Kind::Refused,
            "`--base MEMBER` names the member that gives the names for all; choose the one with the names that your clients know",
        ),
        RewindError::Base { .. } => (
            Kind::Refused,
            "choose one of these as the base, or add an archive of that member from before the moment",
        ),
        RewindError::StoresDiffer { .. } => (
            Kind::Refused,
            "one of them was damaged, or restored by itself; `etcd-ark diff` shows what differs: go by the data of the members that you trust, and leave out the others",
        ),
        RewindError::WouldNotStart { .. } => (
            Kind::Refused,
            "go back to a moment before that, with `--to index:N`; `etcd-ark verify` says the same of each input",
        ),
        RewindError::NoMembers(_) => (Kind::Refused, "choose a later moment"),
        RewindError::PeerUrlInUse(_) => (
            Kind::Refused,
            "give each member a peer URL that no other has had; two cannot change places",
        ),
        RewindError::OutTaken(_) => (
            Kind::Refused,
            "pass an `--out` that does not exist yet; nothing is ever written over",
        ),
        RewindError::OutInside(_) => (Kind::Refused, "pass an `--out` elsewhere"),
        _ => return (Kind::Failed, None),
    };
    (kind, Some(hint))
}
