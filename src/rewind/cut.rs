//! Finds the last entry to keep.
//!
//! In: the history and what the inputs know of the cluster version. Out: the index of that entry.

use std::str::FromStr;

use crate::etcd::ids::{ClusterVersion, Index, Release};
use crate::rewind::RewindError;
use crate::rewind::history::{History, Missing};
use crate::rewind::input::ReadInput;

/// What to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewindTarget {
    /// The entry before the one that raised the cluster version to this release or a later one; the
    /// end of the history if no entry did.
    LastBefore(Release),
    Index(Index),
    End,
}

/// A text that is not a valid moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a moment is `last-before:RELEASE`, such as `last-before:2.2`, or `index:N`, or `end`")]
pub struct NoMoment;

impl FromStr for RewindTarget {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        match text.split_once(':') {
            None if text == "end" => Ok(Self::End),
            Some(("last-before", release)) => {
                let release = release.parse().map_err(|_| NoMoment)?;
                Ok(Self::LastBefore(release))
            }
            Some(("index", index)) => {
                let index = index.parse().ok().filter(|&index| index > 0);
                index.map(|index| Self::Index(Index(index))).ok_or(NoMoment)
            }
            _ => Err(NoMoment),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutPoint {
    pub index: Index,
    /// The entry that raised the cluster version, if the last kept entry is the one before it.
    pub moved: Option<Move>,
    pub cluster_version: Option<ClusterVersion>,
}

/// An entry that raised the cluster version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub version: ClusterVersion,
    pub at: Index,
    pub committed: bool,
}

/// The cluster version at an index, as one input has it.
#[derive(Clone, Debug)]
struct Evidence {
    index: Index,
    version: Option<ClusterVersion>,
    /// Whether the entry at this index set it; if not, an earlier one did.
    set: bool,
}

impl CutPoint {
    /// Finds the moment `to`.
    pub(crate) fn find(
        to: &RewindTarget,
        history: &History<'_>,
        read_inputs: &[ReadInput],
    ) -> Result<Self, RewindError> {
        let evidence = evidence(history, read_inputs);
        let end = history.agreement.end.index;
        let (index, moved) = match to {
            RewindTarget::End => (end, None),
            RewindTarget::Index(index) if *index > end => {
                return Err(RewindError::Beyond {
                    wanted: *index,
                    last: end,
                });
            }
            RewindTarget::Index(index) => (*index, None),
            RewindTarget::LastBefore(release) => match last_before(*release, &evidence, history)? {
                Some(moved) => (moved.at.previous(), Some(moved)),
                None => (end, None),
            },
        };
        // The cluster version never falls.
        let known = evidence.iter().filter(|known| known.index <= index);
        let cluster_version = known.filter_map(|known| known.version.clone()).max();
        Ok(Self {
            index,
            moved,
            cluster_version,
        })
    }
}

/// All that is known of the cluster version, in log order.
fn evidence(history: &History<'_>, read_inputs: &[ReadInput]) -> Vec<Evidence> {
    let mut found = vec![Evidence {
        index: Index(0),
        version: None,
        set: false,
    }];
    for (read_input, sure) in read_inputs.iter().zip(&history.agreement.sure) {
        let from = found.len();
        let snapshots = read_input.trace.snapshots.iter();
        found.extend(snapshots.map(|snapshot| Evidence {
            index: snapshot.id.index,
            version: snapshot.cluster_version.clone(),
            set: false,
        }));
        let changes = read_input.facts.versions.iter();
        found.extend(changes.filter_map(|change| {
            let index = change.set_at.filter(|index| index <= sure)?;
            Some(Evidence {
                index,
                version: Some(change.version.clone()),
                set: true,
            })
        }));
        // Its log has every entry up to its end, so no other entry raised the version.
        let own = found.iter().skip(from).filter(|known| known.index <= *sure);
        let version = own.filter_map(|known| known.version.clone()).max();
        found.push(Evidence {
            index: *sure,
            version,
            set: false,
        });
    }
    // If an entry sets it where a raft snapshot ends, the entry says more.
    found.sort_by_key(|known| (known.index, !known.set));
    found
}

fn last_before(
    wanted: Release,
    evidence: &[Evidence],
    history: &History<'_>,
) -> Result<Option<Move>, RewindError> {
    let reached = |known: &&Evidence| {
        let version = known.version.as_ref();
        version.is_some_and(|version| version.release() >= wanted)
    };
    let Some(moved) = evidence.iter().find(reached) else {
        return Ok(None);
    };
    let Some(version) = moved.version.clone() else {
        return Ok(None);
    };
    let before = evidence.iter().rfind(|known| known.index < moved.index);
    let from = before.map_or(Index(0), |before| before.index);
    // If that entry is available, all entries between must be too, or one of them may have raised the version
    // earlier; if it is not, it is one of the missing ones.
    let last = if moved.set {
        moved.index.previous()
    } else {
        moved.index
    };
    let missing = history.missing(from.next(), last);
    if !missing.is_empty() || !moved.set {
        return Err(RewindError::MoveNotAtHand {
            wanted,
            after: from,
            by: moved.index,
            missing,
        });
    }
    let mut below = evidence.iter().filter(|known| known.index < moved.index);
    if below.all(|known| known.version.is_none()) {
        return Err(RewindError::NeverBelow {
            wanted,
            version,
            at: moved.index,
        });
    }
    Ok(Some(Move {
        version,
        at: moved.index,
        committed: moved.index <= history.agreement.committed,
    }))
}

/// Ranges of indexes as text: `47 to 5661, 5700 to 5701`.
pub fn stretches(missing: &[Missing]) -> String {
    let texts: Vec<_> = missing
        .iter()
        .map(|missing| match missing {
            Missing { from, to } if from == to => from.to_string(),
            Missing { from, to } => format!("{from} to {to}"),
        })
        .collect();
    texts.join(", ")
}
