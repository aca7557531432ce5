//! Reads parts of an input again: its entries, one of its files.
//!
//! In: a verified target. Out: bytes. Each entry is compared with the digest of the first read; a source
//! that has changed since is refused.

use std::io::Read;
use std::path::Path;

use fs_err as fs;

use crate::archive::Archive;
use crate::archive::manifest::kind_of;
use crate::etcd::ids::{Index, SnapshotId};
use crate::etcd::raft_snapshot::{SnapshotFacts, SnapshotFault, SnapshotScan};
use crate::etcd::scan::FileKind;
use crate::etcd::store::Store;
use crate::etcd::store::from_json::LoadOptions;
use crate::etcd::trace::EntryDigest;
use crate::etcd::wal::log::EntryView;
use crate::etcd::wal::record::Kind;
use crate::etcd::wal::segment::SegmentScan;
use crate::fs::PIECE;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::rewind::history::Part;
use crate::rewind::input::ReadInput;
use crate::rewind::{Input, RewindError};
use crate::target::Target;

/// How a source is read.
pub(crate) struct Reading<'r> {
    pub(crate) threads: usize,
    pub(crate) interrupt: &'r Interrupt,
    pub(crate) observe: &'r mut dyn FnMut(Event),
}

/// Receives the data of an entry's record and its position.
pub(crate) type GiveEntry<'g> =
    &'g mut dyn FnMut(Index, &EntryView<'_>, &[u8]) -> Result<(), RewindError>;

/// Receives the bytes of files as they are read.
trait Taker {
    /// A file begins; returns whether its bytes are wanted.
    fn begin(&mut self, path: &str) -> bool;
    fn take(&mut self, bytes: &[u8]) -> Result<(), RewindError>;
}

impl Reading<'_> {
    /// Passes on the entries of `part` in order, each with the data of its record.
    pub(crate) fn entries(
        &mut self,
        target: &Target,
        read_input: &ReadInput,
        part: Part,
        give: GiveEntry<'_>,
    ) -> Result<(), RewindError> {
        let mut entries = Entries {
            read_input,
            next: part.from,
            last: part.to,
            scan: None,
            give,
        };
        self.through(target, &mut entries)?;
        if entries.next <= part.to {
            return Err(RewindError::Changed(read_input.path.clone()));
        }
        Ok(())
    }

    /// Passes on the bytes of the file that has `path` in an archive.
    pub(crate) fn file(
        &mut self,
        target: &Target,
        path: &str,
        give: &mut dyn FnMut(&[u8]) -> Result<(), RewindError>,
    ) -> Result<(), RewindError> {
        let mut file = OneFile {
            path,
            met: false,
            give,
        };
        self.through(target, &mut file)?;
        if !file.met {
            return Err(RewindError::Changed(target.path().to_path_buf()));
        }
        Ok(())
    }

    /// What the raft snapshot at `id` holds.
    pub(crate) fn snapshot(
        &mut self,
        input: &Input,
        id: SnapshotId,
        wanted: LoadOptions,
    ) -> Result<(SnapshotFacts, Option<Store>), RewindError> {
        let path = snapshot_path(id);
        let mut scan = SnapshotScan::new(id, input.file(&path)?.bytes, wanted);
        self.file(&input.target, &path, &mut |piece| {
            scan.update(piece);
            Ok(())
        })?;
        let path = input.target.path().to_path_buf();
        scan.finish().map_err(|fault| match fault {
            // The first read takes the cluster's keys alone, so that only the CRC was checked for the rest.
            SnapshotFault::Store(_) => RewindError::Unloadable { path, id, fault },
            _ => RewindError::Changed(path),
        })
    }

    fn through(&mut self, target: &Target, taker: &mut dyn Taker) -> Result<(), RewindError> {
        match target {
            Target::Archive(archive) => self.through_archive(archive, taker),
            Target::DataDir(data_dir) => {
                let listing = data_dir.list()?;
                let snapshots = listing.snapshots.iter().map(|(_, file)| file);
                let segments = listing.segments.iter().map(|(_, file)| file);
                for source in snapshots.chain(segments).chain(&listing.db) {
                    if taker.begin(&source.archive_path) {
                        self.through_file(&source.path, taker)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn through_file(&mut self, path: &Path, taker: &mut dyn Taker) -> Result<(), RewindError> {
        let mut file = fs::File::open(path)?;
        (self.observe)(Event::Begin {
            part: "reading",
            bytes: file.metadata()?.len(),
        });
        let mut piece = vec![0; PIECE];
        loop {
            self.interrupt.check()?;
            let read = file.read(&mut piece)?;
            let bytes = piece.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            taker.take(bytes)?;
            (self.observe)(Event::Advance(read as u64));
        }
    }

    fn through_archive(
        &mut self,
        archive: &Archive,
        taker: &mut dyn Taker,
    ) -> Result<(), RewindError> {
        // Verified before; its frames are verified again, and the entries by their digests.
        for file in &archive.manifest().files {
            // A leftover is not part of the log, whatever its name.
            if file.kind_in_rescue() != kind_of(&file.path) || !taker.begin(&file.path) {
                continue;
            }
            let observe = &mut *self.observe;
            observe(Event::Begin {
                part: "reading",
                bytes: file.size,
            });
            archive.read_file(file, self.threads, self.interrupt, &mut |bytes| {
                observe(Event::Advance(bytes.len() as u64));
                taker.take(bytes)
            })?;
        }
        Ok(())
    }
}

/// The path in an archive of a raft snapshot.
pub(crate) fn snapshot_path(id: SnapshotId) -> String {
    format!("member/snap/{}", id.file_name())
}

struct Entries<'e> {
    read_input: &'e ReadInput,
    next: Index,
    last: Index,
    scan: Option<SegmentScan>,
    give: GiveEntry<'e>,
}

impl Taker for Entries<'_> {
    fn begin(&mut self, path: &str) -> bool {
        let wanted = matches!(kind_of(path), FileKind::Segment(_)) && self.next <= self.last;
        self.scan = wanted.then(|| SegmentScan::new(None));
        wanted
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), RewindError> {
        let Self {
            read_input,
            next,
            last,
            scan,
            give,
        } = self;
        let mut outcome = Ok(());
        let Some(scan) = scan else { return Ok(()) };
        scan.update(bytes, &mut |at| {
            let data = at.record.data.unwrap_or_default();
            let is_entry = at.record.kind == Kind::Entry && outcome.is_ok() && *next <= *last;
            if let Some(entry) = EntryView::read(data).filter(|_| is_entry)
                && entry.index == *next
                // Skips one that a later entry replaced.
                && let Some(known) = read_input.trace.entry(*next)
                && (known.term, known.digest) == (entry.term, EntryDigest::of(&entry))
            {
                outcome = give(*next, &entry, data);
                *next = next.next();
            }
            Ok(())
        });
        outcome
    }
}

struct OneFile<'f> {
    path: &'f str,
    met: bool,
    give: &'f mut dyn FnMut(&[u8]) -> Result<(), RewindError>,
}

impl Taker for OneFile<'_> {
    fn begin(&mut self, path: &str) -> bool {
        let is_it = path == self.path;
        self.met |= is_it;
        is_it
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), RewindError> {
        (self.give)(bytes)
    }
}
