//! The member directory that a restore with `--replace` would replace.
//!
//! In: an archive's manifest, and the data dir to restore into. Out: its present member and the end
//! of its log, or why it must not be replaced with the archive.

use std::io::Read as _;
use std::path::Path;

use crate::archive::manifest::Manifest;
use crate::data_dir::DataDir;
use crate::data_dir::scan::{SurveyError, survey};
use crate::etcd::ids::{ClusterId, Identity, Index, MemberId, Term};
use crate::etcd::membership::Member;
use crate::etcd::scan::{FileKind, Pass};
use crate::etcd::wal::log::LogScan;
use crate::etcd::wal::segment::SegmentScan;
use crate::fs::PIECE;
use crate::interrupt::Interrupt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    Nothing,
    Member(Replaced),
    /// A member of which no file says which one it is.
    Unreadable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    /// Term and index of the last entry of its log that can be read.
    pub end: (Term, Index),
    /// The highest term that it has seen: it may have voted in it.
    pub hard_state_term: Term,
    /// Whether its files are damaged, so that its log may have gone further.
    pub is_damaged: bool,
    /// The members that it knows, at their newest URLs; none if it is damaged.
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplacedError {
    #[error("`{data_dir}` holds member {} of cluster {}, and the archive is of {archived}", .found.0, .found.1)]
    OtherMember {
        data_dir: String,
        found: (MemberId, ClusterId),
        archived: Identity,
    },
    #[error(
        "`{data_dir}` holds the same member, {member}, of another cluster, {found}; the archive is of cluster {archived}"
    )]
    OtherCluster {
        data_dir: String,
        member: MemberId,
        found: ClusterId,
        archived: ClusterId,
    },
    #[error(
        "`{data_dir}` has run in the rewound cluster {cluster_id} already: its log ends at {found}, the archive's at {archived}; restoring it again would lose the writes in between"
    )]
    HasRun {
        data_dir: String,
        cluster_id: ClusterId,
        found: Index,
        archived: Index,
    },
    #[error(
        "`{data_dir}` has taken part in elections of the rewound cluster {cluster_id} already: its term is {found}, the archive's {archived}; restored again it would forget its votes, and two leaders of one term lose writes"
    )]
    HasVoted {
        data_dir: String,
        cluster_id: ClusterId,
        found: Term,
        archived: Term,
    },
    #[error(
        "`{data_dir}` is of the rewound cluster {cluster_id} and damaged behind entry {found}: it may have run already, and restoring it again would lose its writes since"
    )]
    MayHaveRun {
        data_dir: String,
        cluster_id: ClusterId,
        found: Index,
    },
}

impl Present {
    /// Reads which member is in `data_dir`. A member with a WAL dir may have a log in `member/wal` too, where an
    /// earlier restore may have brought it: both are replaced, and the one that goes further counts.
    pub fn find(
        data_dir: &Path,
        wal_dir: Option<&Path>,
        interrupt: &Interrupt,
    ) -> Result<Self, SurveyError> {
        let home = Self::find_in(data_dir, None, interrupt)?;
        if wal_dir.is_none() {
            return Ok(home);
        }
        let away = Self::find_in(data_dir, wal_dir, interrupt)?;
        Ok(match (home, away) {
            // With segments in both, the two together count as damaged.
            (Self::Member(home), Self::Member(away)) if home.end >= away.end => Self::Member(home),
            (_, Self::Member(away)) => Self::Member(away),
            (home, _) => home,
        })
    }

    fn find_in(
        data_dir: &Path,
        wal_dir: Option<&Path>,
        interrupt: &Interrupt,
    ) -> Result<Self, SurveyError> {
        let Ok(data_dir) = DataDir::open_damaged(data_dir, wal_dir) else {
            return Ok(Self::Nothing);
        };
        let facts = match survey(&data_dir, Pass::CHECK, interrupt, &mut |_| {}) {
            Err(SurveyError::DataDir(_)) => None,
            found => found?.facts.ok(),
        };
        let Some(facts) = facts else {
            return Replaced::of_damaged(&data_dir, interrupt);
        };
        Ok(Self::Member(Replaced {
            member_id: facts.identity.member_id,
            cluster_id: facts.identity.cluster_id,
            end: (facts.position.term, facts.position.index),
            hard_state_term: facts.position.hard_state_term,
            is_damaged: false,
            members: facts.members,
        }))
    }
}

impl Replaced {
    /// Of damaged files, which are what an archive is restored for, as much as can be read.
    fn of_damaged(data_dir: &DataDir, interrupt: &Interrupt) -> Result<Present, SurveyError> {
        let Ok((files, faults)) = data_dir.files() else {
            return Ok(Present::Unreadable);
        };
        let (mut ids, mut end, mut hard_state_term) = (None, (Term(0), Index(0)), Term(0));
        let is_there = !files.is_empty() || !faults.is_empty();
        for source in files {
            let (FileKind::Segment(name), Ok(mut file)) = (source.kind, source.open()) else {
                continue;
            };
            let mut log = LogScan::new(Index(0));
            log.begin_segment(name, source.bytes);
            let mut segment = SegmentScan::new(None);
            let mut piece = vec![0; PIECE];
            while let Ok(length @ 1..) = file.read(&mut piece) {
                interrupt.check()?;
                let bytes = piece.get(..length).unwrap_or_default();
                segment.update(bytes, &mut |record| log.record(record));
            }
            let log = log.finish();
            ids = ids.or(log.metadata);
            end = end.max(log.last);
            hard_state_term = hard_state_term.max(log.hard_state_term);
        }
        Ok(match ids {
            Some((member_id, cluster_id)) => Present::Member(Self {
                member_id,
                cluster_id,
                end,
                hard_state_term,
                is_damaged: true,
                members: Vec::new(),
            }),
            None if is_there => Present::Unreadable,
            None => Present::Nothing,
        })
    }

    /// Whether this member's data dir may be replaced with the archive.
    pub fn may_be_replaced(
        &self,
        data_dir: &Path,
        manifest: &Manifest,
    ) -> Result<(), ReplacedError> {
        let archived = &manifest.member;
        let data_dir = data_dir.display().to_string();
        // A rewound archive may replace a member of the cluster that it was made from.
        let rewound = manifest.rewind.as_ref().map(|made| made.old_cluster_id);
        let clusters = [Some(archived.identity.cluster_id), rewound];
        if self.member_id != archived.identity.member_id {
            return Err(ReplacedError::OtherMember {
                data_dir,
                found: (self.member_id, self.cluster_id),
                archived: archived.identity.clone(),
            });
        }
        if !clusters.contains(&Some(self.cluster_id)) {
            return Err(ReplacedError::OtherCluster {
                data_dir,
                member: self.member_id,
                found: self.cluster_id,
                archived: archived.identity.cluster_id,
            });
        }
        let is_same_cluster = self.cluster_id == archived.identity.cluster_id;
        let end = (archived.position.term, archived.position.index);
        // The hard state of a rewound log is above every term of the old cluster: only the new one writes entries of
        // such terms. With `--keep-cluster-id` the term is the only difference.
        let is_of_new_cluster = self.end.0 >= archived.position.hard_state_term;
        let (cluster_id, found) = (self.cluster_id, self.end.1);
        if manifest.rewind.is_none() || !is_same_cluster {
            return Ok(());
        }
        if is_of_new_cluster && self.end > end {
            return Err(ReplacedError::HasRun {
                data_dir,
                cluster_id,
                found,
                archived: end.1,
            });
        }
        if self.hard_state_term > archived.position.hard_state_term {
            return Err(ReplacedError::HasVoted {
                data_dir,
                cluster_id,
                found: self.hard_state_term,
                archived: archived.position.hard_state_term,
            });
        }
        if self.is_damaged {
            return Err(ReplacedError::MayHaveRun {
                data_dir,
                cluster_id,
                found,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::manifest::Rewind;

    /// An archive that ends at term 5, index 9 with a hard state of term 6.
    fn manifest(cluster: u64, old: Option<u64>) -> Manifest {
        let mut manifest = Manifest::sample(ClusterId(cluster));
        let position = &mut manifest.member.position;
        (position.term, position.hard_state_term) = (Term(5), Term(6));
        (position.index, position.commit) = (Index(9), Index(9));
        manifest.rewind = old.map(|old| Rewind {
            old_cluster_id: ClusterId(old),
            old_members: Vec::new(),
            rewound_to: Index(9),
            derived_from: Vec::new(),
        });
        manifest
    }

    #[test]
    fn only_a_rewound_member_that_has_run_since_is_not_rolled_back() {
        let (old, new) = (1, 2);
        let backup = manifest(old, None);
        let rewound = manifest(new, Some(old));
        let kept_id = manifest(old, Some(old));
        for (what, manifest, cluster, end, refused, refused_if_damaged) in [
            ("the same member", &backup, old, (7, 99), false, false),
            ("of the old cluster", &rewound, old, (7, 99), false, false),
            ("as it was restored", &rewound, new, (5, 9), false, true),
            ("after a vote", &rewound, new, (5, 9), true, true),
            ("after it ran", &rewound, new, (7, 10), true, true),
            ("by its first entry", &rewound, new, (6, 10), true, true),
            (
                "of one id: the old one",
                &kept_id,
                old,
                (5, 99),
                false,
                true,
            ),
            ("of one id: the new one", &kept_id, old, (7, 10), true, true),
            ("another cluster", &backup, new, (1, 1), true, true),
        ] {
            for (is_damaged, refused) in [(false, refused), (true, refused_if_damaged)] {
                let there = Replaced {
                    member_id: MemberId(0xa),
                    cluster_id: ClusterId(cluster),
                    end: (Term(end.0), Index(end.1)),
                    hard_state_term: Term(if what == "after a vote" { 7 } else { 6 }),
                    is_damaged,
                    members: Vec::new(),
                };
                let found = there.may_be_replaced(Path::new("/data"), manifest);
                assert_eq!(found.is_err(), refused, "{what}, {is_damaged}: {found:?}");
            }
        }
    }
}
