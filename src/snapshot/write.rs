//! Writes a member's files into an archive; each is checked while its bytes are read.
//!
//! In: an [`Opening`]. Out: the files in the archive, with their roles, and the member's facts.

use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;

use fs_err as fs;

use crate::archive::manifest::{FILE_MODE, Role};
use crate::archive::warning::{Warning, WarningCode};
use crate::archive::{NewFile, Writer};
use crate::data_dir::file_name;
use crate::data_dir::scan::torn_tail_fault;
use crate::etcd::member::MemberFacts;
use crate::etcd::scan::{FileEnd, FileFault, FileKind, MemberScan};
use crate::etcd::start::{Layout, StartFile, StartScan, Verdicts};
use crate::etcd::wal::segment::SegmentEnd;
use crate::fs::PIECE;
use crate::fs::owner::Owner;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::snapshot::error::CaptureError;
use crate::snapshot::open_files::{Opened, Opening, mtime_of};

pub(crate) struct Content<'c, 'f> {
    pub(crate) writer: &'c mut Writer<'f>,
    /// Owner to record instead of the real one.
    pub(crate) owner: Option<Owner>,
    pub(crate) interrupt: &'c Interrupt,
    pub(crate) observe: &'c mut dyn FnMut(Event),
}

fn start_from(opening: &Opening) -> StartScan {
    let name = |opened: &Opened| file_name(&opened.source.archive_path).to_owned();
    let layout = Layout {
        has_snap_dir: true,
        snap: opening.snapshot.iter().map(name).collect(),
        wal: opening.segments.iter().map(name).collect(),
        has_dedicated_wal: false,
        has_proxy: false,
    };
    StartScan::new(layout, false)
}

impl Content<'_, '_> {
    /// Writes all files, checking them in the same pass; returns the member's facts and whether servers
    /// start from the restored archive.
    pub(crate) fn write_member(
        &mut self,
        opening: &Opening,
        warnings: &mut Vec<Warning>,
    ) -> Result<(MemberFacts, Option<Verdicts>), CaptureError> {
        let mut scan = MemberScan::default().with_start(Some(start_from(opening)));
        if let Some(snapshot) = &opening.snapshot {
            self.write_sound(snapshot, Role::RaftSnapshot, &mut scan)?;
        }
        // Before the segments: a replay that begins from one of them needs it first.
        for snapshot in &opening.older_snapshots {
            // A separate scan: the member's facts come from the newest one.
            let sound = self.write(snapshot, &mut MemberScan::default())?;
            self.writer
                .role(if sound.is_ok() && !opening.has_passed_over(snapshot) {
                    Role::OlderRaftSnapshot
                } else {
                    Role::Leftover
                });
        }
        for segment in &opening.older_segments {
            if let Err(fault) = self.write(segment, &mut scan)? {
                // etcd reads none of these: they are kept unchanged and reported.
                let path = segment.source.path.display();
                warnings.push(WarningCode::OldSegment.text(format!(
                    "`{path}`, which etcd no longer needs, is corrupt: {fault}"
                )));
                self.writer.role(Role::Leftover);
                self.writer.change_roles(|role| match role {
                    Role::OlderWal => Role::Leftover,
                    other => other,
                });
            } else {
                self.writer.role(Role::OlderWal);
            }
        }
        for segment in &opening.segments {
            self.write_sound(segment, Role::Wal, &mut scan)?;
        }
        for leftover in &opening.leftovers {
            let kind = FileKind::Other;
            self.write_as(leftover, kind, &mut MemberScan::default())?
                .ok();
            self.writer.role(Role::Leftover);
        }
        if let Some(db) = &opening.db {
            self.write_as(db, FileKind::Other, &mut MemberScan::default())?
                .ok();
            self.writer.role(Role::V3Backend);
        }
        let starts = scan.take_start().map(StartScan::finish);
        Ok((scan.finish()?, starts))
    }

    fn write_sound(
        &mut self,
        opened: &Opened,
        role: Role,
        scan: &mut MemberScan,
    ) -> Result<(), CaptureError> {
        self.write(opened, scan)?
            .map_err(|fault| CaptureError::Source {
                path: opened.source.path.clone(),
                also: None,
                fault,
            })?;
        self.writer.role(role);
        Ok(())
    }

    fn write(
        &mut self,
        opened: &Opened,
        scan: &mut MemberScan,
    ) -> Result<Result<(), FileFault>, CaptureError> {
        self.write_as(opened, opened.source.kind, scan)
    }

    /// Writes one file; the inner result tells whether it is valid as a file of `kind`.
    fn write_as(
        &mut self,
        opened: &Opened,
        kind: FileKind,
        scan: &mut MemberScan,
    ) -> Result<Result<(), FileFault>, CaptureError> {
        let metadata = opened.file.metadata()?;
        let Owner { uid, gid } = self.owner.unwrap_or_else(|| Owner::of(&metadata));
        let new = NewFile {
            path: opened.source.archive_path.clone(),
            size: opened.length,
            mode: metadata.mode() & FILE_MODE,
            uid,
            gid,
            mtime: mtime_of(&metadata),
        };
        let name = file_name(&opened.source.archive_path);
        let next = scan.start().and_then(|start| start.next_file());
        let is_next = next.is_some_and(|file| match (file, kind) {
            (StartFile::Snap(next), FileKind::Snapshot(_))
            | (StartFile::Wal(next), FileKind::Segment(_)) => next == name,
            _ => false,
        });
        scan.begin_beside(kind, opened.length, is_next);
        (&opened.file).rewind()?;
        let reader = Examined {
            file: (&opened.file).take(opened.length),
            scan,
            piece: vec![0; PIECE],
            filled: 0,
            given: 0,
            interrupt: self.interrupt,
            observe: self.observe,
        };
        match self.writer.append(&new, reader) {
            // A file that became shorter was truncated by a starting etcd, or replaced.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(CaptureError::Vanished(opened.source.path.clone()));
            }
            outcome => outcome?,
        }
        Ok(match scan.end() {
            Ok(FileEnd::Segment(SegmentEnd::TornTail { offset })) => {
                scan.forget_chain();
                let fault = torn_tail_fault(&opened.file, offset, opened.length, false)?;
                fault.map_or(Ok(()), Err)
            }
            Ok(_) => Ok(()),
            Err(fault) => Err(fault),
        })
    }
}

struct Examined<'e> {
    file: io::Take<&'e fs::File>,
    scan: &'e mut MemberScan,
    piece: Vec<u8>,
    filled: usize,
    given: usize,
    interrupt: &'e Interrupt,
    observe: &'e mut dyn FnMut(Event),
}

impl Read for Examined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.filled {
            self.interrupt.check().map_err(io::Error::other)?;
            self.filled = self.file.read(&mut self.piece)?;
            self.given = 0;
            let bytes = self.piece.get(..self.filled).unwrap_or_default();
            self.scan.update(bytes);
            (self.observe)(Event::Advance(bytes.len() as u64));
        }
        let left = self.piece.get(self.given..self.filled).unwrap_or_default();
        let length = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), left.get(..length)) {
            to.copy_from_slice(from);
        }
        self.given += length;
        Ok(length)
    }
}
