//! Prepares this member for the downgrade, once the gate has allowed it.
//!
//! In: a stopped member's data dir. Out: a safety snapshot of it, the result of reading all of it, and
//! its segments where the release to go back to looks for them. The data themselves do not change:
//! while the cluster is of that release they are valid for it, and they must be kept.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::archive::manifest::Scope;
use crate::data_dir::scan::survey;
use crate::data_dir::{DataDir, DataDirError, Running, is_running};
use crate::etcd::ids::Release;
use crate::etcd::member::MemberFacts;
use crate::etcd::scan::Pass;
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use crate::repository::lock::LockRequest;
use crate::snapshot as capture;
use crate::snapshot::error::CaptureError;
use crate::snapshot::{Captured, capture};
use crate::target::{StoreError, Target};
use crate::upgrade::downgrade::evidence::Step;
use crate::upgrade::downgrade::move_wal::{Found, MoveError, Moved, move_home};

pub const LABEL: &str = "pre-downgrade";
const FIRST_WITH_WAL_DIR: Release = Release { major: 2, minor: 2 };

/// A flag of etcd that an earlier release does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterFlag {
    /// Its name on the command line.
    pub flag: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    pub since: Release,
}

const LATER_FLAGS: [LaterFlag; 6] = [
    LaterFlag {
        flag: "--wal-dir",
        variable: "ETCD_WAL_DIR",
        since: FIRST_WITH_WAL_DIR,
    },
    LaterFlag {
        flag: "--experimental-v3demo",
        variable: "ETCD_EXPERIMENTAL_V3DEMO",
        since: FIRST_WITH_WAL_DIR,
    },
    LaterFlag {
        flag: "--strict-reconfig-check",
        variable: "ETCD_STRICT_RECONFIG_CHECK",
        since: Release { major: 2, minor: 3 },
    },
    LaterFlag {
        flag: "--enable-pprof",
        variable: "ETCD_ENABLE_PPROF",
        since: Release { major: 2, minor: 3 },
    },
    LaterFlag {
        flag: "--experimental-gRPC-addr",
        variable: "ETCD_EXPERIMENTAL_GRPC_ADDR",
        since: Release { major: 2, minor: 3 },
    },
    LaterFlag {
        flag: "--experimental-auto-compaction-retention",
        variable: "ETCD_EXPERIMENTAL_AUTO_COMPACTION_RETENTION",
        since: Release { major: 2, minor: 3 },
    },
];

#[derive(Debug)]
pub struct PrepareRequest<'r> {
    pub found: &'r Found,
    pub move_wal: Option<&'r Path>,
    pub to: capture::destination::Destination<'r>,
    pub dry_run: bool,
    pub threads: usize,
    /// Warn above this data size, in bytes.
    pub size_limit: u64,
    pub now: Timestamp,
    pub lock: LockRequest,
}

#[derive(Debug)]
pub struct Prepared {
    /// The safety snapshot; `None` in a dry run.
    pub snapshot: Option<Captured>,
    pub member: MemberFacts,
    pub moved: Option<Moved>,
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Move(#[from] MoveError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Step {
    /// Whether the release to go back to looks for segments in `member/wal` only.
    pub fn needs_wal_at_home(self) -> bool {
        self.to < FIRST_WITH_WAL_DIR
    }

    /// The lowest cluster version that a rewind must leave out. It is not `from`, if there is a release between.
    pub fn first_above(self) -> Release {
        if self.from.major == self.to.major {
            self.to.next()
        } else {
            self.from
        }
    }

    /// The flags known to be in the higher release, or on the way to it, and not in the lower one.
    pub fn later_flags(self) -> impl Iterator<Item = &'static LaterFlag> {
        let later = move |flag: &&LaterFlag| flag.since > self.to && flag.since <= self.from;
        LATER_FLAGS.iter().filter(later)
    }
}

/// Whether etcd runs on `data_dir`; takes no lock.
pub fn running(data_dir: &DataDir) -> Result<Option<Running>, DataDirError> {
    let listing = data_dir.list()?;
    let segments = listing.segments.iter().map(|(_, file)| file.path.as_path());
    let db = listing.db.iter().map(|db| db.path.as_path());
    Ok(is_running(segments.chain(db))?)
}

/// Takes the safety snapshot, verifies the data dir, moves the segments.
pub fn prepare(
    request: &PrepareRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Prepared, PrepareError> {
    let data_dir = request.found.data_dir();
    let snapshot = if request.dry_run {
        None
    } else {
        let request = capture::SnapshotRequest {
            data_dir,
            to: request.to,
            scope: Scope::Live,
            labels: vec![LABEL.to_owned()],
            level: 3,
            threads: request.threads,
            size_limit: request.size_limit,
            created: capture::CreatedAt::At(request.now),
            lock: Some(request.lock.clone()),
        };
        Some(capture(&request, interrupt, observe)?)
    };
    let mut member = prove(data_dir, interrupt, observe)?;
    let mut moved = None;
    if let Some(wal_dir) = request.move_wal
        && !request.dry_run
    {
        moved = move_home(
            request.found,
            wal_dir,
            &member,
            request.now,
            interrupt,
            observe,
        )?;
        if moved.is_some() {
            let home = DataDir::open(data_dir.root(), None).map_err(MoveError::from)?;
            member = prove(&home, interrupt, observe)?;
        }
    }
    Ok(Prepared {
        snapshot,
        member,
        moved,
    })
}

/// Reads the whole data dir; etcd must not run on it.
fn prove(
    data_dir: &DataDir,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<MemberFacts, PrepareError> {
    let found = survey(data_dir, Pass::CHECK, interrupt, observe).map_err(StoreError::from)?;
    if let Some(running) = found.running {
        return Err(MoveError::Running(running).into());
    }
    let target = Target::DataDir(data_dir.clone());
    let (member, _) = target.sound_member(found.facts, found.files, false)?;
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_that_come_between_the_two_releases_are_named() {
        let step = |from: &str, to: &str| Step {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        let flags = |step: Step| step.later_flags().map(|flag| flag.flag).collect::<Vec<_>>();
        let of_2_2 = ["--wal-dir", "--experimental-v3demo"];
        let of_2_3 = [
            "--strict-reconfig-check",
            "--enable-pprof",
            "--experimental-gRPC-addr",
            "--experimental-auto-compaction-retention",
        ];
        assert_eq!(flags(step("2.2", "2.1")), of_2_2);
        assert_eq!(flags(step("2.3", "2.2")), of_2_3);
        assert_eq!(flags(step("3.4", "3.3")).len(), 0);
        assert!(step("2.2", "2.1").needs_wal_at_home());
        assert!(!step("2.3", "2.2").needs_wal_at_home());
    }
}
