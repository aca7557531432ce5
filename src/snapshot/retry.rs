//! How long to wait for a source that etcd is writing to, and what to do without.
//!
//! In: why an attempt failed. Out: whether to try again, and which raft snapshots are passed
//! over from now on.

use fs_err as fs;

use crate::archive::warning::{Warning, WarningCode};
use crate::etcd::ids::SnapshotId;
use crate::etcd::member::StartFault;
use crate::snapshot::error::CaptureError;

/// How often a capture is begun again before it is given up.
const TRIES: u32 = 5;
/// The same while a running member may be receiving a raft snapshot: marker, file and hard state
/// are then written one after the other, and syncing 100 MB takes its time.
const TRIES_WHILE_RECEIVING: u32 = 300;
/// How often a raft snapshot that does not fit is looked at before it is passed over.
const LOOKS: u32 = 3;
/// How many times it may be of another length each time it is looked at.
const MAX_LOOKS: u32 = 20;

/// A raft snapshot that is there and was not taken.
#[derive(Clone, Debug)]
pub(crate) struct PassedOver {
    pub(crate) id: SnapshotId,
    why: String,
}

impl PassedOver {
    /// What is worth a warning; `used` is the raft snapshot that is taken in its place.
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

/// What has been tried so far.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    attempts: u32,
    looks: Vec<Looks>,
    pub(crate) passed_over: Vec<PassedOver>,
}

#[derive(Debug)]
struct Looks {
    id: SnapshotId,
    all: u32,
    /// Looks since the file was last seen to change its length.
    unchanged: u32,
    length: u64,
}

impl Patience {
    /// Whether to try again after `error`, while etcd is `running` on the source or not.
    pub(crate) fn tries_again(&mut self, error: &CaptureError, running: bool) -> bool {
        if let Some((id, length, why)) = misfit(error) {
            self.look_again(id, length, why);
            return true;
        }
        self.attempts += 1;
        // Over from the listing: one that was still being written may be whole by now, and the
        // segments that an older one needs may have been purged.
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

    /// How many attempts have failed for another reason than a single raft snapshot.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A raft snapshot may still be being written: it is looked at again while it grows, and
    /// passed over once it stays as it is.
    fn look_again(&mut self, id: SnapshotId, length: u64, why: String) {
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
            self.passed_over.push(PassedOver { id, why });
        }
    }
}

/// The raft snapshot that an attempt failed for, how long it is now, and why: it is corrupt,
/// or the log does not bear it out. etcd 3.x writes the file before the log knows of it, and
/// starts from an older one after a crash in between.
fn misfit(error: &CaptureError) -> Option<(SnapshotId, u64, String)> {
    match error {
        CaptureError::Source { path, fault, .. } => {
            let name = path.file_name()?.to_string_lossy();
            let id = SnapshotId::from_file_name(&name)?;
            let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
            Some((id, length, fault.to_string()))
        }
        CaptureError::Start(fault @ StartFault::NoMarker(id)) => Some((*id, 0, fault.to_string())),
        _ => None,
    }
}
