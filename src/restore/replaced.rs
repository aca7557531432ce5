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
    /// Whether its log goes on from the archive's, by the running CRC at the archive's last entry; `None` if it does not
    /// hold that entry, or cannot be read.
    pub continues: Option<bool>,
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
    /// With the id of the old cluster.
    #[error(
        "`{data_dir}` is of cluster {cluster_id}, an id that the rewound cluster has too, and its log does not tell which of the two: it does not hold entry {archived}, with which the archive ends"
    )]
    Unclear {
        data_dir: String,
        cluster_id: ClusterId,
        archived: Index,
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
    /// Reads which member is in `data_dir`, and whether its log goes on from that of the archive of `manifest`. A member with a WAL dir may have a log in `member/wal` too, where an
    /// earlier restore may have brought it: both are replaced, and the one that goes further counts.
    pub fn find(
        data_dir: &Path,
        wal_dir: Option<&Path>,
        manifest: &Manifest,
        interrupt: &Interrupt,
    ) -> Result<Self, SurveyError> {
        let home = Self::find_in(data_dir, None, manifest, interrupt)?;
        if wal_dir.is_none() {
            return Ok(home);
        }
        let away = Self::find_in(data_dir, wal_dir, manifest, interrupt)?;
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
        manifest: &Manifest,
        interrupt: &Interrupt,
    ) -> Result<Self, SurveyError> {
        let Ok(data_dir) = DataDir::open_damaged(data_dir, wal_dir) else {
            return Ok(Self::Nothing);
        };
        let archived = &manifest.member;
        let pass = if has_old_id(manifest) {
            Pass::TRACE
        } else {
            Pass::CHECK
        };
        let found = match survey(&data_dir, pass, interrupt, &mut |_| {}) {
            Err(SurveyError::DataDir(_)) => None,
            found => Some(found?),
        };
        let found = found.and_then(|found| Some((found.facts.ok()?, found.trace)));
        let Some((facts, trace)) = found else {
            return Replaced::of_damaged(&data_dir, interrupt);
        };
        let end = trace.and_then(|trace| trace.entry(archived.position.index).copied());
        let continues = end.zip(archived.log_crc);
        let continues = continues.map(|(end, crc)| end.log_crc == crc);
        // What was restored is committed, and stays.
        let ends_before = facts.position.index < archived.position.index;
        let continues = continues.or(ends_before.then_some(false));
        Ok(Self::Member(Replaced {
            member_id: facts.identity.member_id,
            cluster_id: facts.identity.cluster_id,
            end: (facts.position.term, facts.position.index),
            hard_state_term: facts.position.hard_state_term,
            is_damaged: false,
            continues,
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
                continues: None,
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
        let (cluster_id, found) = (self.cluster_id, self.end.1);
        if manifest.rewind.is_none() || !is_same_cluster {
            return Ok(());
        }
        if has_old_id(manifest) {
            // The old cluster may have gone on to any term. A restored log, though, goes on from the archive's, and its
            // term never falls.
            let can_be_new = self.hard_state_term > archived.position.hard_state_term;
            match self.continues {
                Some(true) => {}
                None if can_be_new => {
                    return Err(ReplacedError::Unclear {
                        data_dir,
                        cluster_id,
                        archived: end.1,
                    });
                }
                None if self.is_damaged => {}
                Some(false) | None => return Ok(()),
            }
        }
        if self.end > end {
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

/// Whether the archive is of a rewound cluster that has the id of the old one (`--keep-cluster-id`).
fn has_old_id(manifest: &Manifest) -> bool {
    let rewound = manifest.rewind.as_ref();
    rewound.is_some_and(|made| made.old_cluster_id == manifest.member.identity.cluster_id)
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
        // The archive, the cluster id, last entry and term of the data dir, whether its log goes on from the archive's,
        // and whether it may be replaced, also if it is damaged. The one that campaigned alone after the others had
        // stopped was taken for a member of the new cluster.
        for row in "
            backup  1 7.99  7  -   yes yes  the same member
            rewound 1 7.99  7  -   yes yes  of the old cluster
            rewound 2 5.9   6  -   yes no   as it was restored
            rewound 2 5.9   7  -   no  no   after a vote
            rewound 2 7.10  7  -   no  no   after it ran
            rewound 2 6.10  6  -   no  no   by its first entry
            kept-id 1 5.99  5  -   yes no   old
            kept-id 1 5.99  20 no  yes no   old, campaigned alone
            kept-id 1 20.99 20 no  yes no   old, went on
            kept-id 1 5.9   6  yes yes no   as it was restored
            kept-id 1 5.9   7  yes no  no   after a vote
            kept-id 1 7.10  7  yes no  no   new
            kept-id 1 7.10  7  -   no  no   either
            backup  2 1.1   1  -   no  no   another cluster"
            .trim()
            .lines()
        {
            let words: Vec<_> = row.split_whitespace().collect();
            let number = |at: usize| words[at].parse().unwrap();
            let manifest = match words[0] {
                "backup" => &backup,
                "rewound" => &rewound,
                _ => &kept_id,
            };
            let (term, index) = words[2].split_once('.').unwrap();
            let end = (Term(term.parse().unwrap()), Index(index.parse().unwrap()));
            let continues = (words[4] != "-").then_some(words[4] == "yes");
            for (is_damaged, may) in [(false, words[5]), (true, words[6])] {
                let there = Replaced {
                    member_id: MemberId(0xa),
                    cluster_id: ClusterId(number(1)),
                    end,
                    hard_state_term: Term(number(3)),
                    is_damaged,
                    continues: continues.filter(|_| !is_damaged),
                    members: Vec::new(),
                };
                let found = there.may_be_replaced(Path::new("/data"), manifest);
                assert_eq!(
                    found.is_ok(),
                    may == "yes",
                    "{row}, {is_damaged}: {found:?}"
                );
            }
        }
    }
}
