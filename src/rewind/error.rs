//! Why a cluster cannot be taken back. Messages name the inputs.

use std::io;
use std::path::PathBuf;

use crate::archive::ArchiveError;
use crate::data_dir::{DataDirError, DbFault, Running};
use crate::etcd::ids::{ClusterId, ClusterVersion, Index, Release, SnapshotId};
use crate::etcd::raft_snapshot::SnapshotFault;
use crate::etcd::replay::ReplayFault;
use crate::fs::space::SpaceError;
use crate::interrupt::Interrupted;
use crate::rewind::cut::stretches;
use crate::rewind::fork::{Fork, LogState, Side, Why};
use crate::rewind::history::Missing;
use crate::rewind::served::Renamed;
use crate::snapshot::error::CaptureError;
use crate::target::StoreError;
use crate::text::count;

/// An error of a rewind.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("no archive or data dir given")]
    NoInput,
    #[error("etcd runs on `{path}` (`{}` is locked): what it writes from now on would be lost", .running.file.display())]
    Running { path: PathBuf, running: Running },
    #[error(
        "two different clusters: `{}` of {}, `{}` of {}",
        .0.0.display(), .0.1, .1.0.display(), .1.1
    )]
    Clusters((PathBuf, ClusterId), (PathBuf, ClusterId)),
    #[error("{}", fork_text(.fork, .names))]
    Fork {
        fork: Box<Fork>,
        /// The inputs' names, in the order given.
        names: Vec<String>,
    },
    #[error("entry {wanted} is not there: the most up-to-date log ends at {last}")]
    Beyond { wanted: Index, last: Index },
    #[error("{}", move_text(*.wanted, *.after, *.by, .missing))]
    MoveNotAtHand {
        /// The release to go back to before.
        wanted: Release,
        /// The last index at which the cluster version was still lower.
        after: Index,
        /// The first index at which it was this release or later.
        by: Index,
        /// The entries between that no input has.
        missing: Vec<Missing>,
    },
    #[error(
        "no cluster version below {wanted} was ever set: the first one, {version}, was set by entry {at}"
    )]
    NeverBelow {
        wanted: Release,
        version: ClusterVersion,
        at: Index,
    },
    #[error("no raft snapshot with the log above it reaches entry {to}: {}", missing_text(.missing, *.from))]
    Uncovered {
        to: Index,
        /// The newest raft snapshot below it; 0 if there is none.
        from: Index,
        /// The entries above it that no input has.
        missing: Vec<Missing>,
    },
    #[error(
        "nothing shows that {} continues {}, which ends at entry {at}: they have no entry in common",
        .names[1], .names[0]
    )]
    Unjoined {
        /// The last entry of the first of the two.
        at: Index,
        names: [String; 2],
    },
    #[error(
        "`{path}` is of etcd 3.x: its `snap/db` holds what entries up to the end have done and cannot be cut back: entry {to} is below the end, {end}"
    )]
    CutOf3x {
        /// An input with a `snap/db`.
        path: PathBuf,
        to: Index,
        end: Index,
    },
    #[error(
        "no `snap/db` is between the raft snapshot at {from} and the last entry, {to}: etcd 3.x would not start"
    )]
    NoDb { from: Index, to: Index },
    #[error(transparent)]
    Db(#[from] DbFault),
    #[error(
        "members disagree on the names of {} in-order key{} (2.1 style and 2.2 style)",
        .keys.len(), if .keys.len() == 1 { "" } else { "s" }
    )]
    InOrder {
        /// The keys, by the name that they would have after the rewind.
        keys: Renamed,
        /// The inputs' names, in the order given.
        names: Vec<String>,
    },
    #[error("{}", stores_text(.sides, .indexes, .keys))]
    StoresDiffer {
        sides: [String; 2],
        indexes: [u64; 2],
        keys: Vec<Vec<u8>>,
    },
    #[error("{} named `{name}` as of entry {at}; members: {known}", none_or_more(*.count))]
    Member {
        name: String,
        count: usize,
        at: Index,
        known: String,
    },
    #[error("none of the inputs is of `{0}`")]
    NoSuchInput(String),
    #[error(
        "no raft snapshot of `{name}` with the log above it reaches entry {to}: those of {known} do"
    )]
    Base {
        name: String,
        to: Index,
        known: String,
    },
    #[error("as of entry {0} the cluster has no members")]
    NoMembers(Index),
    #[error("`{0}` is not a peer URL: `http://` or `https://`, a host, and a port")]
    PeerUrl(String),
    #[error("{0} is to be removed and to have a new peer URL")]
    UrlOfRemoved(String),
    #[error("the peer URLs of {0} cannot be changed so: another member has one of them")]
    PeerUrlInUse(String),
    #[error("an input has seen the highest term there can be; nothing can come after it")]
    NoTermLeft,
    #[error("`{0}` exists and is not an empty directory")]
    OutTaken(PathBuf),
    #[error("the directory `{0}`, which is to hold the result, does not exist")]
    OutNowhere(PathBuf),
    #[error("`{0}` is inside a data dir that is only read")]
    OutInside(PathBuf),
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("`{0}` changed while it was being read")]
    Changed(PathBuf),
    #[error("`{path}`: etcd cannot load the raft snapshot at {id}: {fault}")]
    Unloadable {
        path: PathBuf,
        id: SnapshotId,
        fault: SnapshotFault,
    },
    #[error("`{path}`: {fault}")]
    Entry { path: PathBuf, fault: ReplayFault },
    #[error(
        "cannot take what a removed member left out of the raft snapshot at {0}: it is not written as etcd writes it"
    )]
    Leftover(SnapshotId),
    #[error("etcd {line} would not start from what was made for {member}: {why}; nothing was kept")]
    WouldNotStart {
        member: String,
        line: Release,
        why: String,
    },
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(
        "the archive made for {member} does not say what was planned ({what}); nothing was kept"
    )]
    Unproven { member: String, what: &'static str },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn none_or_more(count: usize) -> String {
    match count {
        0 => "no member".to_owned(),
        count => format!("{count} members"),
    }
}

fn fork_text(fork: &Fork, names: &[String]) -> String {
    let name = |input: usize| names.get(input).map_or("", String::as_str);
    let side = |side: &Side| {
        let said = match &side.said {
            LogState::Entry(entry) => {
                let (term, bytes, digest) = (entry.term, entry.bytes, entry.digest);
                format!("an entry of term {term} ({bytes} bytes, SHA-256 {digest}…)")
            }
            LogState::Snapshot(term) => format!("a raft snapshot of term {term}"),
            LogState::Nothing(last) => format!("nothing: its log ends at {last}"),
        };
        let known = if side.committed {
            "known to be committed"
        } else {
            "not known to be committed"
        };
        format!("{} has {said}, {known}", name(side.input))
    };
    let [one, other] = &fork.sides;
    let why = match fork.why {
        Why::SameTerm => "one leader proposes one thing at one index".to_owned(),
        Why::Committed { commit, knower } => format!(
            "{} knows everything up to {commit} to be committed",
            name(knower)
        ),
        Why::MeetAgain { at } => {
            format!("both have the same term again at {at}, which logs that part never have")
        }
        Why::Lacks { commit } => {
            format!("a later leader's log lacks entries up to {commit} that were committed")
        }
    };
    format!(
        "these logs are not one history, from entry {} on: {}; {}; and {why}",
        fork.index,
        side(one),
        side(other)
    )
}

fn move_text(wanted: Release, after: Index, by: Index, missing: &[Missing]) -> String {
    let before = match after {
        Index(0) => "at the beginning".to_owned(),
        after => format!("as of entry {after}"),
    };
    let lost = match missing {
        [] => "no entry that sets it is among those available".to_owned(),
        missing => format!("between them {} missing", entries_are(missing)),
    };
    let instead = match after {
        Index(0) => String::new(),
        after => format!("; `--to index:{after}` goes back to before the move"),
    };
    format!(
        "which entry moved the cluster version to {wanted} or more cannot be told: {before} it was below, as of entry {by} it was not, and {lost}{instead}"
    )
}

/// `entry 4 is`, `entries 4 to 7 are`.
fn entries_are(missing: &[Missing]) -> String {
    let is_one = matches!(missing, [Missing { from, to }] if from == to);
    let (noun, verb) = if is_one {
        ("entry", "is")
    } else {
        ("entries", "are")
    };
    format!("{noun} {} {verb}", stretches(missing))
}

fn missing_text(missing: &[Missing], from: Index) -> String {
    let entries = entries_are(missing);
    match from {
        Index(0) => {
            format!("there is none below it, and of the log from its beginning {entries} missing")
        }
        from => format!("above the newest, at {from}, {entries} missing"),
    }
}

fn stores_text(sides: &[String; 2], indexes: &[u64; 2], keys: &[Vec<u8>]) -> String {
    let ([one, other], [index, other_index]) = (sides, indexes);
    let first = keys.first().map_or(String::new(), |key| {
        let (key, differ) = (String::from_utf8_lossy(key), keys.len() as u64);
        let differ = count(differ, "key differs", "keys differ");
        format!(": {differ}, the first `{}`", key.escape_debug())
    });
    let counts = if index == other_index {
        String::new()
    } else {
        format!(", and they count {index} and {other_index} changes")
    };
    format!(
        "the logs of {one} and {other} agree and their stores do not, and not because of in-order names{first}{counts}"
    )
}
