//! Reads a member's store from a data dir or an archive.
//!
//! In: a [`Target`] and what is wanted. Out: the store at an index, the member's facts, and
//! the in-order rules that were used and why.

pub mod deep_verify;
pub mod diff;
pub mod keys_json;
mod sides;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::archive::verify::{VerifyFault, verify};
use crate::archive::{Archive, ArchiveError, Digests};
use crate::data_dir::scan::{SurveyError, survey};
use crate::data_dir::{DataDir, DataDirError, Running};
use crate::etcd::ids::{ClusterVersion, Index};
use crate::etcd::member::{MemberFacts, StartFault};
use crate::etcd::replay::{Along, InOrderRules, Plan, ReplayFault, Replayed, Start, Until};
use crate::etcd::rescue::Lost;
use crate::etcd::scan::{Extent, FileFault, FileKind, FileReport, Pass, ReplayResult};
use crate::etcd::start::{Verdicts, none_starts, own_release};
use crate::etcd::trace::Trace;
use crate::interrupt::Interrupt;
use crate::progress::Event;

#[derive(Debug)]
pub enum Target {
    Archive(Box<Archive>),
    DataDir(DataDir),
}

#[derive(Clone, Copy, Debug, Default)]
pub struct StoreQuery {
    pub until: Until,
    pub start: Start,
    /// Rules to use; `None` means those of the servers that wrote the data.
    pub rules: Option<InOrderRules>,
    /// Which files to read: the whole log has more than the store needs.
    pub extent: Extent,
    /// Whether to check which servers start from it.
    pub starts: bool,
    pub along: Along,
    /// Whether to use the intact part of a damaged log.
    pub rescue: bool,
    pub threads: usize,
}

/// A target that was read from end to end: only the reported files are corrupt.
#[derive(Debug)]
pub struct Scanned {
    pub member: MemberFacts,
    /// The store, if a replay was requested.
    pub replay: Option<ReplayResult>,
    /// Every entry, if a trace was requested.
    pub trace: Option<Trace>,
    /// Whether servers of each release line start from it, if requested.
    pub starts: Option<Verdicts>,
    /// Corrupt raft snapshots that were skipped; in a rescue, segments too.
    pub passed_over: Vec<FileReport>,
    pub lost: Option<Lost>,
    /// Whether it is of 3.x.
    pub has_db: bool,
    pub running: Option<Running>,
}

#[derive(Debug)]
pub struct StoreRead {
    pub member: MemberFacts,
    pub replayed: Replayed,
    pub rules_from: RulesFrom,
    /// Corrupt raft snapshots that were skipped; in a rescue, segments too.
    pub passed_over: Vec<FileReport>,
    pub lost: Option<Lost>,
    /// Whether servers of each release line start from it, if requested.
    pub starts: Option<Verdicts>,
    /// Whether it is of 3.x.
    pub has_db: bool,
}

impl StoreRead {
    /// Why no server starts from it, if that was requested and is the case.
    pub fn none_starts(&self) -> Option<String> {
        let own = own_release(self.member.cluster_version.as_ref(), self.has_db);
        none_starts(self.starts.as_ref()?, own)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulesFrom {
    Asked,
    ClusterVersion(ClusterVersion),
    /// There is no cluster version: a 2.0 server, or one that has just started.
    NoVersion,
}

impl fmt::Display for RulesFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as asked for"),
            Self::ClusterVersion(version) => write!(f, "the cluster version is {version}"),
            Self::NoVersion => f.write_str("there is no cluster version"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("`{target}` is corrupt: {fault}")]
    Unsound {
        target: PathBuf,
        fault: Box<VerifyFault>,
    },
    #[error("etcd could not start from `{target}`: {fault}")]
    Start { target: PathBuf, fault: StartFault },
    #[error("`{target}`: {fault}")]
    Replay { target: PathBuf, fault: ReplayFault },
    #[error("`{0}` changed while it was being read")]
    Changed(PathBuf),
}

impl Target {
    /// Opens an archive, or a data dir with its WAL in `wal_dir` if given.
    pub fn open(path: &Path, wal_dir: Option<&Path>) -> Result<Self, StoreError> {
        if path.is_dir() {
            let data_dir = DataDir::open(path, wal_dir).map_err(SurveyError::from)?;
            Ok(Self::DataDir(data_dir))
        } else {
            Ok(Self::Archive(Box::new(Archive::open(path)?)))
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Archive(archive) => archive.path(),
            Self::DataDir(data_dir) => data_dir.root(),
        }
    }

    pub fn read_store(
        &self,
        wanted: StoreQuery,
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<StoreRead, StoreError> {
        let mut rules = wanted.rules.unwrap_or_else(|| self.likely_rules());
        let mut unreadable: Option<Index> = None;
        loop {
            let plan = Plan {
                start: wanted.start,
                until: unreadable.map_or(wanted.until, |at| Until::PendingIndex(at.previous())),
                rules,
                along: wanted.along,
            };
            let read = self.read_by(plan, wanted, interrupt, observe);
            let mut read = match (read, wanted.until) {
                (Ok(read), _) => read,
                (
                    Err(StoreError::Replay {
                        fault: ReplayFault::Unreadable(at),
                        ..
                    }),
                    Until::Commit | Until::End,
                ) if wanted.rescue && unreadable.is_none() => {
                    unreadable = Some(at);
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            if let Some(at) = unreadable {
                read.lost = Some(Lost {
                    whole_to: at.previous(),
                    known_to: read.member.position.index,
                    committed_to: read.member.position.commit,
                    unreadable: true,
                });
            }
            let right = InOrderRules::of(read.member.cluster_version.as_ref());
            // The right rules are known only now; they matter only if the replay named a key by them.
            if wanted.rules.is_some() || !read.replayed.depends_on(right) {
                if wanted.rules.is_none() {
                    read.replayed.rules = right;
                }
                return Ok(read);
            }
            rules = right;
        }
    }

    /// Reads the `wanted` store from as far back as the files reach.
    pub fn read_from_oldest(
        &self,
        wanted: StoreQuery,
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<StoreRead, StoreError> {
        for start in self.starts()? {
            let wanted = StoreQuery { start, ..wanted };
            match self.read_store(wanted, interrupt, observe) {
                Err(
                    StoreError::Start { .. }
                    | StoreError::Replay {
                        fault: ReplayFault::Hole { .. } | ReplayFault::NoStart { .. },
                        ..
                    }
                    | StoreError::Survey(SurveyError::DataDir(DataDirError::BeginsLate { .. })),
                ) => {}
                read => return read,
            }
        }
        self.read_store(wanted, interrupt, observe)
    }

    /// Where a replay could begin, the oldest first.
    pub(crate) fn starts(&self) -> Result<Vec<Start>, StoreError> {
        let (mut snapshots, first): (Vec<_>, _) = match self {
            Self::Archive(archive) => {
                let files = &archive.manifest().files;
                let (mut snapshots, mut first) = (Vec::new(), None);
                for file in files {
                    match file.kind_in_rescue() {
                        FileKind::Snapshot(id) => snapshots.push(id),
                        FileKind::Segment(name) => {
                            first = first.into_iter().chain([name.sequence]).min();
                        }
                        FileKind::Other => {}
                    }
                }
                (snapshots, first)
            }
            Self::DataDir(data_dir) => {
                let listing = data_dir.list()?;
                let snapshots = listing.snapshots.iter().map(|(id, _)| *id).collect();
                (snapshots, listing.segments.first().map(|(s, _)| s.sequence))
            }
        };
        snapshots.sort();
        let empty = (first == Some(0)).then_some(Start::Empty);
        let snapshots = snapshots.into_iter().map(Start::From);
        Ok(empty.into_iter().chain(snapshots).collect())
    }

    /// Whether a replay can begin in one place only and needs every file, whatever it is for.
    fn has_one_start(&self) -> bool {
        let starts = self.starts().unwrap_or_default();
        let [start] = starts[..] else {
            return false;
        };
        match self {
            Self::Archive(_) => true,
            Self::DataDir(data_dir) => data_dir.list().is_ok_and(|listing| {
                let from = start.id().map_or(Index(0), |id| id.index);
                let needed = data_dir.covering(&listing, from);
                needed.is_ok_and(|needed| needed.len() == listing.segments.len())
            }),
        }
    }

    pub(crate) fn likely_rules(&self) -> InOrderRules {
        match self {
            Self::Archive(archive) => {
                InOrderRules::of(archive.manifest().member.cluster_version.as_ref())
            }
            Self::DataDir(_) => InOrderRules::Before22,
        }
    }

    fn read_by(
        &self,
        plan: Plan,
        wanted: StoreQuery,
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<StoreRead, StoreError> {
        let pass = Pass {
            replay: Some(plan),
            extent: wanted.extent,
            starts: wanted.starts,
            trace: false,
            rescue: wanted.rescue,
        };
        let read = self.scan(pass, wanted.threads, interrupt, observe)?;
        let Scanned {
            member,
            passed_over,
            lost,
            starts,
            has_db,
            ..
        } = read;
        let replayed = settled(read.replay).map_err(|fault| StoreError::Replay {
            target: self.path().to_path_buf(),
            fault,
        })?;
        let rules_from = match (&wanted.rules, &member.cluster_version) {
            (Some(_), _) => RulesFrom::Asked,
            (None, Some(version)) => RulesFrom::ClusterVersion(version.clone()),
            (None, None) => RulesFrom::NoVersion,
        };
        Ok(StoreRead {
            member,
            replayed,
            rules_from,
            passed_over,
            lost,
            starts,
            has_db,
        })
    }

    /// Reads it for `pass`, and refuses corrupt data.
    pub fn scan(
        &self,
        pass: Pass,
        threads: usize,
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Scanned, StoreError> {
        match self {
            Self::Archive(archive) => {
                // A replay alone reads only what has a checksum of its own.
                let digests = if pass.replay.is_some() && !pass.trace {
                    Digests::Unchecked
                } else {
                    Digests::All
                };
                let report = verify(archive, pass, digests, threads, interrupt, observe)?;
                let manifest = archive.manifest();
                let (member, passed_over, lost) = match report.rescued {
                    Some(rescued) => {
                        let (facts, lost) = rescued.map_or_else(
                            |fault| (Err(fault), None),
                            |(facts, lost)| (Ok(facts), lost),
                        );
                        let (member, passed_over) = self.sound_member(facts, report.files, true)?;
                        (member, passed_over, lost)
                    }
                    None => match report.first_fault() {
                        Some(fault) => return Err(self.unsound(fault)),
                        None => (manifest.member.clone(), Vec::new(), None),
                    },
                };
                Ok(Scanned {
                    member,
                    replay: report.replay,
                    trace: report.trace,
                    starts: report.starts,
                    passed_over,
                    lost,
                    has_db: manifest.has_backend(),
                    running: None,
                })
            }
            Self::DataDir(data_dir) => {
                let mut found = survey(data_dir, pass, interrupt, observe)?;
                if found.facts.is_err() && pass.extent == Extent::Needed {
                    // Without the newest raft snapshot, which an earlier index does not need, the
                    // log may have a gap.
                    let whole = Pass {
                        extent: Extent::All,
                        ..pass
                    };
                    found = survey(data_dir, whole, interrupt, observe)?;
                }
                let (member, passed_over) =
                    self.sound_member(found.facts, found.files, pass.rescue)?;
                Ok(Scanned {
                    member,
                    replay: found.replay,
                    trace: found.trace,
                    starts: found.starts,
                    passed_over,
                    lost: found.lost,
                    has_db: found.has_db,
                    running: found.running,
                })
            }
        }
    }

    fn unsound(&self, fault: VerifyFault) -> StoreError {
        StoreError::Unsound {
            target: self.path().to_path_buf(),
            fault: Box::new(fault),
        }
    }

    /// The member's facts, and the corrupt raft snapshots, which etcd skips too. In a
    /// rescue, segments as well.
    pub(crate) fn sound_member(
        &self,
        facts: Result<MemberFacts, StartFault>,
        files: Vec<FileReport>,
        rescue: bool,
    ) -> Result<(MemberFacts, Vec<FileReport>), StoreError> {
        let broken: Vec<_> = files
            .into_iter()
            .filter(|file| file.fault.is_some())
            .collect();
        let is_needed = |file: &&FileReport| {
            let fault = file.fault.as_ref();
            fault.is_some_and(|fault| fault.is_damage() && !matches!(fault, FileFault::Snapshot(_)))
        };
        let cause = broken
            .iter()
            .find(|file| facts.is_err() || !rescue && is_needed(file));
        if let Some(FileReport {
            path,
            fault: Some(fault),
            ..
        }) = cause
        {
            let fault = VerifyFault::File {
                path: path.clone(),
                fault: fault.clone(),
            };
            return Err(self.unsound(fault));
        }
        match facts {
            Ok(member) => Ok((member, broken)),
            Err(fault) => Err(StoreError::Start {
                target: self.path().to_path_buf(),
                fault,
            }),
        }
    }
}

/// The outcome of a replay that was requested on valid files.
fn settled(outcome: Option<ReplayResult>) -> ReplayResult {
    outcome.unwrap_or(Err(ReplayFault::NoStart {
        wanted: crate::etcd::ids::Index(0),
    }))
}

impl From<DataDirError> for StoreError {
    fn from(error: DataDirError) -> Self {
        Self::Survey(error.into())
    }
}
