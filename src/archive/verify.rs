//! Verifies an archive: every byte's digest, every record, the whole chain, and that the manifest
//! agrees with the files.
//!
//! In: an [`Archive`]. Out: a result for each file. Continues after a corrupt file.

use std::collections::BTreeSet;

use crate::archive::manifest::{Damage, DirectoryEntry};
use crate::archive::sink::Digested;
use crate::archive::{Archive, ArchiveError, ArchiveFault, Digests, FileEntry, Role, Sink};
use crate::etcd::digest::Digest;
use crate::etcd::ids::SegmentName;
use crate::etcd::member::{MemberFacts, StartFault};
use crate::etcd::raft_snapshot::SnapshotFault;
use crate::etcd::rescue::Lost;
use crate::etcd::scan::{
    FileEnd, FileFault, FileReport, MemberScan, Pass, ReplayResult, ScanResult,
};
use crate::etcd::start::{Layout, StartFile, StartScan, Verdicts};
use crate::etcd::trace::Trace;
use crate::etcd::wal::segment::{Break, SegmentEnd, SegmentFault};
use crate::interrupt::Interrupt;
use crate::progress::Event;

#[derive(Debug, Default)]
pub struct ArchiveReport {
    /// Every file, in archive order; those after a broken frame are missing.
    pub files: Vec<FileReport>,
    /// Faults other than those of single files.
    pub faults: Vec<VerifyFault>,
    /// The store, if a replay was requested and nothing is wrong, or the intact part was rescued.
    pub replay: Option<ReplayResult>,
    /// Every entry, in the same cases.
    pub trace: Option<Trace>,
    /// For an archive of a damaged data dir, or a replay that cannot load the newest raft snapshot: the
    /// member according to the intact part, and what is lost, if requested and the archive holds what it was given.
    pub rescued: Option<Result<(MemberFacts, Option<Lost>), StartFault>>,
    /// Whether servers of each release line start from its restored data, if requested and
    /// all of it can be read.
    pub starts: Option<Verdicts>,
    /// The digest of the archive itself, if requested and all of it can be read.
    pub sha256: Option<Digest>,
}

/// Faults of an archive with a valid seal and manifest.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyFault {
    #[error(transparent)]
    Archive(#[from] ArchiveFault),
    #[error("{fault}; it holds a part of {}", files.join(", "))]
    Frame {
        fault: ArchiveFault,
        files: Vec<String>,
    },
    #[error("etcd could not start from it: {0}")]
    Start(#[from] StartFault),
    #[error("the manifest does not match the archived files")]
    Facts,
    #[error("it contains a damaged data dir, saved as it was: {0}")]
    Damaged(String),
    #[error("`{path}`: {fault}")]
    File { path: String, fault: FileFault },
}

impl ArchiveReport {
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty() && self.files.iter().all(|file| file.fault.is_none())
    }

    pub fn first_fault(&self) -> Option<VerifyFault> {
        let in_file = self.files.iter().find_map(|file| {
            file.fault.as_ref().map(|fault| VerifyFault::File {
                path: file.path.clone(),
                fault: fault.clone(),
            })
        });
        in_file.or_else(|| self.faults.first().cloned())
    }
}

/// Reads all of `archive` for `pass`, decompressing on `threads` threads. [`Digests::All`] verifies all of it;
/// otherwise only what has a checksum of its own is.
pub fn verify(
    archive: &Archive,
    pass: Pass,
    digests: Digests,
    threads: usize,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<ArchiveReport, ArchiveError> {
    observe(Event::Begin {
        part: "verifying",
        bytes: archive.plain_bytes(),
    });
    let mut checking = Checking {
        check: MemberCheck::new(archive, pass),
        files: Vec::new(),
        observe,
    };
    let outcome = archive.unpack(threads, digests, interrupt, &mut checking);
    let Checking {
        mut check, files, ..
    } = checking;
    let starts = check.take_starts().filter(|_| outcome.is_ok());
    let (mut replay, mut trace, mut rescued) = (None, None, None);
    let (outcome, Digested { mismatches, whole }) = match outcome {
        Ok(digested) => (Ok(()), digested),
        Err(error) => (Err(error), Digested::default()),
    };
    let mut faults: Vec<_> = mismatches.into_iter().map(VerifyFault::Archive).collect();
    match outcome {
        Ok(()) if archive.manifest().damage.is_some() => {
            if pass.rescue && faults.is_empty() {
                let found = check.finish_rescue();
                rescued = Some(found.map(|found| {
                    (replay, trace) = (found.replay, found.trace);
                    (found.facts, found.lost)
                }));
            }
            let damage = archive.manifest().damage.iter();
            let lines = damage.flat_map(Damage::lines);
            faults.extend(lines.map(VerifyFault::Damaged));
        }
        Ok(()) => {
            let mut broken = files.iter().filter_map(|file| file.fault.as_ref());
            // A fault in a file changes the facts too; one report is enough.
            if broken.clone().next().is_none() && faults.is_empty() {
                match check.finish(archive) {
                    Ok(found) => (replay, trace) = (found.replay, found.trace),
                    Err(fault) => faults.push(fault),
                }
            } else if pass.replay.is_some() && faults.is_empty() && broken.all(is_unloadable) {
                // The archive is what it was made as: a replay begins from an older one, as on a data dir.
                rescued = Some(check.scan.finish_all().map(|found| {
                    (replay, trace) = (found.replay, found.trace);
                    (found.facts, found.lost)
                }));
            }
        }
        Err(ArchiveError::Fault { fault, .. }) => {
            let damaged = archive.damaged_frames()?;
            if damaged.is_empty() {
                faults.push(fault.into());
            }
            let frames = damaged.into_iter();
            faults.extend(frames.map(|(fault, files)| VerifyFault::Frame { fault, files }));
        }
        Err(error) => return Err(error),
    }
    Ok(ArchiveReport {
        files,
        faults,
        replay,
        trace,
        rescued,
        starts,
        sha256: whole,
    })
}

/// Whether a file is a raft snapshot with the right CRC over a store that etcd cannot load.
fn is_unloadable(fault: &FileFault) -> bool {
    matches!(fault, FileFault::Snapshot(SnapshotFault::Store(_)))
}

/// Checks the member's files by etcd's rules as they are unpacked.
#[derive(Default)]
pub(crate) struct MemberCheck {
    scan: MemberScan,
    /// For a damaged data dir: the files that are known to be damaged.
    damaged: BTreeSet<String>,
    /// Whether the current file is one of them.
    is_damaged: bool,
}

impl MemberCheck {
    pub(crate) fn new(archive: &Archive, pass: Pass) -> Self {
        let damage = archive.manifest().damage.iter();
        let damaged = damage.flat_map(|damage| {
            let files = damage.files.iter().map(|file| &file.path);
            files.chain(damage.unreadable.iter().map(|lost| &lost.path))
        });
        Self {
            scan: MemberScan::new(pass).with_start(pass.starts.then(|| start_of(archive))),
            damaged: damaged.cloned().collect(),
            is_damaged: false,
        }
    }

    pub(crate) fn begin(&mut self, entry: &FileEntry) {
        let next = self.scan.start().and_then(|start| start.next_file());
        let is_next = next.is_some_and(|next| is_named(&next, &entry.path));
        let kind = if self.scan.is_rescue() {
            entry.kind_in_rescue()
        } else {
            entry.kind()
        };
        self.scan.begin_beside(kind, entry.size, is_next);
        self.is_damaged = self.damaged.remove(&entry.path);
    }

    pub(crate) fn data(&mut self, bytes: &[u8]) {
        self.scan.update(bytes);
    }

    /// Ends a file. Only an archive of a damaged data dir may hold a torn tail; a capture cuts it off.
    pub(crate) fn end(&mut self) -> Option<FileFault> {
        match self.scan.end() {
            Err(fault) => Some(fault),
            Ok(FileEnd::Segment(SegmentEnd::TornTail { offset })) => {
                if self.scan.is_rescue() && !self.is_damaged {
                    return None;
                }
                self.scan.break_chain();
                Some(FileFault::Segment(Break {
                    offset,
                    fault: SegmentFault::CutShort,
                }))
            }
            // Bytes that could not be read are zeros, which can look like the end of a segment of 3.x.
            Ok(FileEnd::Segment(_)) if self.is_damaged && self.scan.is_rescue() => {
                self.scan.break_chain();
                None
            }
            Ok(_) => None,
        }
    }

    /// Whether servers of each release line start from it, if requested and every file that they read
    /// has been checked.
    pub(crate) fn take_starts(&mut self) -> Option<Verdicts> {
        let start = self.scan.take_start();
        let whole = start.filter(|start| start.next_file().is_none());
        whole.map(StartScan::finish)
    }

    /// The findings about the intact part of a damaged data dir.
    fn finish_rescue(mut self) -> Result<ScanResult, StartFault> {
        // A segment that could not be opened is not in the archive.
        for path in &self.damaged {
            let name = path.rsplit('/').next().unwrap_or_default();
            if let Some(name) = SegmentName::parse(name) {
                self.scan.miss_segment(name);
            }
        }
        self.scan.finish_all()
    }

    /// Whether etcd could start from all of it, and whether the manifest agrees.
    pub(crate) fn finish(self, archive: &Archive) -> Result<ScanResult, VerifyFault> {
        let manifest = archive.manifest();
        let snapshot = manifest
            .files
            .iter()
            .find(|file| file.role == Role::RaftSnapshot);
        let found = self.scan.finish_all()?;
        let data = snapshot.map_or(0, |file| file.size) + found.facts.log_bytes_above_snapshot;
        let mut member = manifest.member.clone();
        // Older releases did not record the CRC.
        member.log_crc = member.log_crc.or(found.facts.log_crc);
        let told = found.facts == member && data == manifest.sizes.data;
        if told {
            Ok(found)
        } else {
            Err(VerifyFault::Facts)
        }
    }
}

/// A start from the restored data of `archive`. Raft snapshots that no server loads are left out.
fn start_of(archive: &Archive) -> StartScan {
    let manifest = archive.manifest();
    let names = |folder, role: Option<Role>| {
        let files = manifest.files.iter();
        let files = files.filter(move |file| role.is_none_or(|role| file.role == role));
        let paths = files.map(|file| manifest.restored_path(file));
        paths.filter_map(move |path| path.strip_prefix(folder).map(ToOwned::to_owned))
    };
    let is_db = |name: &String| name == "db";
    let layout = Layout {
        has_snap_dir: true,
        snap: names("member/snap/", Some(Role::RaftSnapshot))
            .chain(names("member/snap/", Some(Role::Damaged)).filter(|name| name != "db"))
            .chain(names("member/snap/", None).filter(is_db))
            .collect(),
        wal: names("member/wal/", None).collect(),
        has_dedicated_wal: false,
        has_proxy: false,
    };
    StartScan::new(layout, false)
}

fn is_named(file: &StartFile, path: &str) -> bool {
    match file {
        StartFile::Snap(name) => path.strip_prefix("member/snap/") == Some(name),
        StartFile::Wal(name) => path.strip_prefix("member/wal/") == Some(name),
    }
}

struct Checking<'o> {
    check: MemberCheck,
    files: Vec<FileReport>,
    observe: &'o mut dyn FnMut(Event),
}

impl Sink for Checking<'_> {
    type Error = ArchiveError;

    fn directory(&mut self, _: &DirectoryEntry) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn begin(&mut self, entry: &FileEntry) -> Result<(), ArchiveError> {
        self.check.begin(entry);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.check.data(bytes);
        (self.observe)(Event::Advance(bytes.len() as u64));
        Ok(())
    }

    fn end(&mut self, entry: &FileEntry) -> Result<(), ArchiveError> {
        self.files.push(FileReport {
            path: entry.path.clone(),
            bytes: entry.size,
            fault: self.check.end(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use jiff::Timestamp;
    use prost::Message;

    use super::*;
    use crate::etcd::ids::{ClusterId, Index, MemberId, SnapshotId, Term};
    use crate::etcd::proto;
    use crate::etcd::wal::record::Framing;
    use crate::etcd::wal::writer::{Beginning, LogWriter, SegmentSink};

    #[derive(Default)]
    struct Segment(Vec<u8>);

    impl SegmentSink for Segment {
        fn begin(&mut self, _: SegmentName) -> io::Result<()> {
            Ok(())
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }

    const NAME: &str = "member/wal/0000000000000000-0000000000000000.wal";

    /// A log of two entries.
    fn segment() -> Vec<u8> {
        let mut segment = Segment::default();
        let beginning = Beginning {
            member_id: MemberId(7),
            cluster_id: ClusterId(7),
            snapshot: SnapshotId {
                term: Term(0),
                index: Index(0),
            },
            term: Term(5),
            framing: Framing::Plain,
        };
        let mut log = LogWriter::begin(&mut segment, beginning).unwrap();
        for index in [1, 2] {
            let entry = proto::Entry {
                kind: Some(0),
                term: Some(3),
                index: Some(index),
                data: None,
            };
            log.entry(Index(index), &entry.encode_to_vec()).unwrap();
        }
        log.finish().unwrap();
        segment.0
    }

    fn lost(damaged: &[&str]) -> Option<Lost> {
        let pass = Pass {
            rescue: true,
            ..Pass::CHECK
        };
        let mut check = MemberCheck {
            scan: MemberScan::new(pass),
            damaged: damaged.iter().map(|&path| path.to_owned()).collect(),
            is_damaged: false,
        };
        let bytes = segment();
        check.begin(&FileEntry {
            path: NAME.to_owned(),
            size: bytes.len() as u64,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Timestamp::UNIX_EPOCH,
            sha256: Digest::of(&bytes),
            role: Role::Damaged,
        });
        check.data(&bytes);
        assert_eq!(check.end(), None);
        check.finish_rescue().unwrap().lost
    }

    #[test]
    fn a_segment_known_to_be_damaged_or_gone_is_never_the_end_of_the_log() {
        assert_eq!(lost(&[]), None);
        assert_eq!(lost(&[NAME]).unwrap().whole_to, Index(2));
        // A file that could not be opened has its path on disk.
        let gone = "/srv/etcd/member/wal/0000000000000001-0000000000000009.wal";
        let segment_gone = lost(&[gone]).unwrap();
        assert_eq!(
            (segment_gone.whole_to, segment_gone.known_to),
            (Index(2), Index(8))
        );
        assert_eq!(lost(&["/srv/etcd/member/snap/gone.snap"]), None);
    }
}
