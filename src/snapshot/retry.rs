//! When to retry on a source that etcd is writing to, and which files to skip.
//!
//! In: why a try failed. Out: whether to try again, and which raft snapshots are skipped
//! from now on.

use fs_err as fs;

use crate::archive::warning::{Warning, WarningCode};
use crate::etcd::ids::{Index, SnapshotId};
use crate::etcd::member::StartFault;
use crate::snapshot::error::CaptureError;

/// How often a capture is tried.
const TRIES: u32 = 5;
/// The same while a running member may be receiving a raft snapshot: marker, file and hard state
/// are then written one after the other, and syncing 100 MB takes a while.
const TRIES_WHILE_RECEIVING: u32 = 300;
/// How often a raft snapshot that does not fit is read before it is skipped.
const LOOKS: u32 = 3;
/// How often its length may change between reads.
const MAX_LOOKS: u32 = 20;

#[derive(Clone, Debug)]
pub(crate) struct PassedOver {
    pub(crate) id: SnapshotId,
    why: String,
    /// Whether it is valid, and the log has no marker for it.
    is_unmarked: bool,
}

impl PassedOver {
    /// The warning; `used` is the raft snapshot that is used instead.
    pub(crate) fn warning(&self, used: Option<SnapshotId>) -> Warning {
        let (id, why) = (self.id, &self.why);
        let used = match used {
            Some(used) => format!("the one at {used} is used"),
            None => "none is valid, so the log from its beginning is used".to_owned(),
        };
        let text = format!("the raft snapshot at {id} was passed over: {why}; {used}");
        WarningCode::PassedOver.text(text)
    }
}

/// The warning that no 2.x starts from the data dir itself, where it loads a raft snapshot that the
/// capture passed over; and whether entries in that are not in the log, which ends at `end`.
pub(crate) fn source_warning(passed_over: &[PassedOver], end: Index) -> Option<(Warning, bool)> {
    let unmarked = passed_over.iter().filter(|one| one.is_unmarked);
    let newest = unmarked.max_by_key(|one| one.id)?;
    let (known, why) = (newest.id.index, &newest.why);
    let is_lost = known > end;
    let has = if is_lost {
        let first = end.next();
        format!("this archive ends at entry {end}, and entries {first} to {known} are lost")
    } else {
        format!("this archive has every entry up to {end}")
    };
    let text = format!("no etcd 2.x starts from the data dir itself: {why}; {has}");
    Some((WarningCode::SourceDoesNotStart.text(text), is_lost))
}

/// The failed tries so far.
#[derive(Debug, Default)]
pub(crate) struct RetryLimits {
    attempts: u32,
    looks: Vec<Looks>,
    pub(crate) passed_over: Vec<PassedOver>,
}

#[derive(Debug)]
struct Looks {
    id: SnapshotId,
    all: u32,
    /// Reads since the file last changed its length.
    unchanged: u32,
    length: u64,
}

impl RetryLimits {
    /// Whether to try again after `error`; `running` tells whether etcd runs on the source.
    pub(crate) fn tries_again(&mut self, error: &CaptureError, running: bool) -> bool {
        if let Some((length, misfit)) = misfit(error) {
            self.look_again(length, misfit);
            return true;
        }
        self.attempts += 1;
        // Starts again with a new listing: a file that was being written may be complete by now, and
        // the segments that an older raft snapshot needs may have been purged.
        self.looks.clear();
        self.passed_over.clear();
        let receiving = running && matches!(error, CaptureError::Start(_));
        let tries = if receiving {
            TRIES_WHILE_RECEIVING
        } else {
            TRIES
        };
        error.may_pass() && self.attempts < tries
    }

    /// The number of tries that failed for another reason than a single raft snapshot.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A raft snapshot may be incomplete while it is written: it is read again while it grows, and
    /// skipped once its length stays the same.
    fn look_again(&mut self, length: u64, misfit: PassedOver) {
        let id = misfit.id;
        let known = self.looks.iter().position(|looks| looks.id == id);
        let at = known.unwrap_or_else(|| {
            self.looks.push(Looks {
                id,
                all: 0,
                unchanged: 0,
                length,
            });
            self.looks.len() - 1
        });
        let Some(looks) = self.looks.get_mut(at) else {
            return;
        };
        looks.all += 1;
        looks.unchanged = if looks.length == length {
            looks.unchanged + 1
        } else {
            1
        };
        looks.length = length;
        if looks.unchanged >= LOOKS || looks.all >= MAX_LOOKS {
            self.passed_over.push(misfit);
        }
    }
}

/// The raft snapshot that caused the error, and its length now: it is corrupt,
/// or the log has no marker for it. etcd 3.x writes the file before the marker, and
/// starts from an older one after a crash in between.
fn misfit(error: &CaptureError) -> Option<(u64, PassedOver)> {
    let of = |id, why, is_unmarked| PassedOver {
        id,
        why,
        is_unmarked,
    };
    match error {
        CaptureError::Source { path, fault, .. } => {
            let name = path.file_name()?.to_string_lossy();
            let id = SnapshotId::from_file_name(&name)?;
            let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
            Some((length, of(id, fault.to_string(), false)))
        }
        CaptureError::Start(fault @ StartFault::NoMarker(id)) => {
            Some((0, of(*id, fault.to_string(), true)))
        }
        _ => None,
    }
}
