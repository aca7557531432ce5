//! Reads an archive from its end: the seal, the manifest, then the content.
//!
//! In: a file. Out: an [`Archive`] with a verified manifest, and its files passed to a [`Sink`]
//! in order while every digest is checked. Nothing is trusted: the tar stream must have exactly the
//! entries of the manifest, in its order.

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::digester::Digester;
use crate::archive::end_of_file::End;
use crate::archive::error::{ArchiveError, ArchiveFault};
use crate::archive::format::{Frame, TABLE_FOOTER, TailFault, claimed_tail, read_tail};
use crate::archive::frames::{Broke, FrameStream, Unpacker, unpack_frame};
use crate::archive::manifest::{FileEntry, MANIFEST, Manifest, SUMS, sums};
use crate::archive::read_at::{FileSource, Source};
use crate::archive::sink::{Digested, Digests, Sink};
use crate::archive::tar::{
    BLOCK, check_entry, check_header, check_time, leave_entry, read_header, read_manifest_frame,
    tar_entry_length, tar_length,
};
use crate::etcd::digest::Digest;
use crate::etcd::scan::FileKind;
use crate::interrupt::Interrupt;

/// Bytes of the first read at the end: enough for the manifest of a usual archive.
const FIRST_READ: u64 = 32 << 10;
/// Bytes passed to a sink at once.
const PIECE: u64 = 256 << 10;

thread_local! {
    /// Decompresses manifests; shared, because creating one for each of a thousand archives costs a sixth of the time.
    static OPENING: RefCell<Unpacker> = RefCell::default();
}

/// An archive with a verified seal and manifest.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    source: Arc<dyn Source>,
    bytes: u64,
    frames: Vec<Frame>,
    manifest: Manifest,
}

impl Archive {
    /// Opens an archive on disk, reading its end only.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        Self::from_source(Arc::new(FileSource::open(path)?), path)
    }

    /// Opens the archive in `source`, reading its end only; `path` is its name in messages.
    pub fn from_source(source: Arc<dyn Source>, path: &Path) -> Result<Self, ArchiveError> {
        let fault = |fault: ArchiveFault| ArchiveError::Fault {
            path: path.to_path_buf(),
            fault,
        };
        let bytes = source.length();
        let unread = |error| ArchiveError::unread(error, path);
        let mut end = End::read(&*source, bytes, FIRST_READ).map_err(unread)?;
        let footer = end
            .last_chunk::<TABLE_FOOTER>()
            .ok_or_else(|| fault(TailFault::NoTable.into()))?;
        let claim = claimed_tail(*footer, bytes).map_err(|found| fault(found.into()))?;
        // A damaged count must not make a reader read the whole file as the table.
        let table_head = end
            .first_of_last(&*source, claim.table_length)
            .map_err(unread)?;
        if table_head != claim.table_head {
            return Err(fault(TailFault::Table.into()));
        }
        let tail = claim.length;
        end.reach(&*source, tail).map_err(unread)?;
        let frames = read_tail(end.last(tail), bytes).map_err(|found| fault(found.into()))?;
        let last = *frames
            .last()
            .ok_or_else(|| fault(ArchiveFault::NoManifest))?;
        end.reach(&*source, tail + u64::from(last.compressed))
            .map_err(unread)?;
        let packed = end.last(tail + u64::from(last.compressed));
        let packed = packed.get(..last.compressed as usize).unwrap_or_default();
        let number = frames.len() - 1;
        let plain =
            OPENING.with_borrow_mut(|unpacker| unpack_frame(unpacker, number, last, packed));
        let plain = plain.map_err(fault)?;
        let manifest = read_manifest_frame(&plain).map_err(fault)?;
        let held = frames.iter().map(|frame| u64::from(frame.plain)).sum();
        let listed = tar_length(&manifest).saturating_add(plain.len() as u64);
        if listed != held {
            return Err(fault(ArchiveFault::Size { listed, held }));
        }
        Ok(Self {
            path: path.to_path_buf(),
            source,
            bytes,
            frames,
            manifest,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn plain_bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
    }

    /// Passes all of its content to `sink`, decompressing on `threads` threads and taking `digests`
    /// meanwhile; returns these after the last byte.
    pub fn unpack<S: Sink>(
        &self,
        threads: usize,
        digests: Digests,
        interrupt: &Interrupt,
        sink: &mut S,
    ) -> Result<Digested, S::Error> {
        let all = digests != Digests::Unchecked;
        let whole = (digests == Digests::AllAndWhole).then(|| Digester::new(threads));
        let mut stream = FrameStream::new(&self.source, self.numbered(), threads, all, whole);
        let mut digester = Digester::new(threads);
        let is_taken = |file: &FileEntry| all || file.kind() == FileKind::Other;
        let taken = self.manifest.files.iter().filter(|file| is_taken(file));
        let outcome = self.unpack_entries(&mut stream, is_taken, &mut digester, interrupt, sink);
        // A corrupt frame is the cause of any error after it.
        self.broken_off(&mut stream)?;
        outcome?;
        let trailing = stream.rest_is_zero();
        self.broken_off(&mut stream)?;
        if !trailing.map_err(ArchiveError::Io)? {
            return Err(self.fault(ArchiveFault::Trailing).into());
        }
        let digests = digester.finish().map_err(ArchiveError::Io)?;
        let differs = taken
            .zip(digests)
            .filter(|(file, digest)| file.sha256 != *digest);
        let mismatches = differs.map(|(file, _)| ArchiveFault::FileDigest {
            path: file.path.clone(),
        });
        Ok(Digested {
            mismatches: mismatches.collect(),
            whole: stream
                .digest()
                .map_err(|error| ArchiveError::unread(error, &self.path))?,
        })
    }

    fn unpack_entries<S: Sink>(
        &self,
        stream: &mut FrameStream,
        is_taken: impl Fn(&FileEntry) -> bool,
        digester: &mut Digester,
        interrupt: &Interrupt,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let broken = |error: io::Error| self.fault(ArchiveFault::Tar(error.to_string()));
        let next = |stream: &mut FrameStream, listed: &str| -> Result<_, ArchiveError> {
            let header = read_header(stream).map_err(broken)?;
            let header = header.ok_or_else(|| {
                self.fault(ArchiveFault::Entry {
                    listed: listed.to_owned(),
                    found: "the end".to_owned(),
                })
            })?;
            check_entry(&header, listed).map_err(|fault| self.fault(fault))?;
            Ok(header)
        };
        for directory in &self.manifest.directories {
            let header = next(stream, &directory.path)?;
            let owned = (directory.mode, directory.uid, directory.gid);
            check_header(&header, &directory.path, 0, owned).map_err(|f| self.fault(f))?;
            sink.directory(directory)?;
        }
        for file in &self.manifest.files {
            let header = next(stream, &file.path)?;
            let owned = (file.mode, file.uid, file.gid);
            check_header(&header, &file.path, file.size, owned)
                .and_then(|()| check_time(&header, file))
                .map_err(|fault| self.fault(fault))?;
            sink.begin(file)?;
            let mut left = file.size;
            while left > 0 {
                interrupt.check().map_err(ArchiveError::Interrupted)?;
                let part = stream.part(left.min(PIECE)).map_err(broken)?;
                if part.is_empty() {
                    return Err(broken(io::ErrorKind::UnexpectedEof.into()).into());
                }
                left -= part.len() as u64;
                if is_taken(file) {
                    digester.take(Some(part.clone()));
                }
                sink.data(&part)?;
            }
            if is_taken(file) {
                digester.take(None);
            }
            sink.end(file)?;
            leave_entry(stream, file.size, 0).map_err(broken)?;
        }
        let expected = sums(&self.manifest.files);
        let length = expected.len() as u64;
        let header = next(stream, SUMS)?;
        let mut found = String::new();
        let read = stream.take(length).read_to_string(&mut found);
        if header.size().ok() != Some(length) || read.is_err() || found != expected {
            return Err(self.fault(ArchiveFault::Sums).into());
        }
        leave_entry(stream, length, 0).map_err(broken)?;
        let size = next(stream, MANIFEST)?.size().map_err(broken)?;
        leave_entry(stream, size, size).map_err(broken)?;
        match read_header(stream).map_err(broken)? {
            None => Ok(()),
            Some(_) => Err(self.fault(ArchiveFault::Trailing).into()),
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, Frame)> {
        self.frames.iter().copied().enumerate()
    }

    /// Reads the bytes of one file in the manifest, unpacking only the frames that hold a part of it. They are
    /// verified; the offset of the file in the tar stream is taken from the manifest.
    pub fn read_file<E: From<ArchiveError>>(
        &self,
        file: &FileEntry,
        threads: usize,
        interrupt: &Interrupt,
        give: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let directories = self.manifest.directories.len() as u64 * BLOCK;
        let files = self.manifest.files.iter();
        let before = files.take_while(|other| other.path != file.path);
        let before: u64 = before.map(|file| tar_entry_length(file.size)).sum();
        let begin = directories + before + BLOCK;
        let (mut passed_over, mut to) = (0, 0);
        let frames: Vec<_> = self
            .numbered()
            .filter(|(_, frame)| {
                let from = to;
                to += u64::from(frame.plain);
                if to <= begin {
                    passed_over = to;
                }
                to > begin && from < begin + file.size
            })
            .collect();
        let mut stream = FrameStream::new(&self.source, frames.into_iter(), threads, false, None);
        let mut pass = || -> Result<(), E> {
            let broken = |error: io::Error| self.fault(ArchiveFault::Tar(error.to_string()));
            let mut before = begin - passed_over;
            let mut left = file.size;
            while left > 0 {
                interrupt.check().map_err(ArchiveError::Interrupted)?;
                let is_before = before > 0;
                let most = if is_before { before } else { left.min(PIECE) };
                let part = stream.part(most).map_err(broken)?;
                if part.is_empty() {
                    return Err(broken(io::ErrorKind::UnexpectedEof.into()).into());
                }
                if is_before {
                    before -= part.len() as u64;
                } else {
                    left -= part.len() as u64;
                    give(&part)?;
                }
            }
            Ok(())
        };
        let outcome = pass();
        self.broken_off(&mut stream)?;
        outcome
    }

    /// Compares every frame with its digest, without decompressing it; the first mismatch is the
    /// error. With the seal and the manifest, which were verified when the archive was opened, that
    /// covers every byte.
    pub fn check_frames(&self, interrupt: &Interrupt) -> Result<(), ArchiveError> {
        let mut packed = Vec::new();
        for (number, frame) in self.frames.iter().enumerate() {
            interrupt.check()?;
            self.read_frame(*frame, &mut packed)
                .map_err(|error| ArchiveError::unread(error, &self.path))?;
            if Digest::of(&packed) != frame.digest {
                return Err(self.fault(ArchiveFault::FrameDigest {
                    frame: number,
                    offset: frame.offset,
                }));
            }
        }
        Ok(())
    }

    fn read_frame(&self, frame: Frame, packed: &mut Vec<u8>) -> io::Result<()> {
        packed.resize(frame.compressed as usize, 0);
        self.source.read_exact_at(packed, frame.offset)
    }

    /// Every frame that does not match its digest, with the files that it holds a part of.
    pub fn damaged_frames(&self) -> io::Result<Vec<(ArchiveFault, Vec<String>)>> {
        let mut damaged = Vec::new();
        let mut packed = Vec::new();
        let mut from = 0;
        for (number, frame) in self.frames.iter().enumerate() {
            let to = from + u64::from(frame.plain);
            self.read_frame(*frame, &mut packed)?;
            if Digest::of(&packed) != frame.digest {
                let fault = ArchiveFault::FrameDigest {
                    frame: number,
                    offset: frame.offset,
                };
                damaged.push((fault, self.files_between(from, to)));
            }
            from = to;
        }
        Ok(damaged)
    }

    /// The files with a part between two offsets of the tar stream.
    fn files_between(&self, from: u64, to: u64) -> Vec<String> {
        let mut at = self.manifest.directories.len() as u64 * BLOCK;
        let mut found = Vec::new();
        for file in &self.manifest.files {
            let end = at + tar_entry_length(file.size);
            if at < to && end > from {
                found.push(file.path.clone());
            }
            at = end;
        }
        found
    }

    fn broken_off(&self, stream: &mut FrameStream) -> Result<(), ArchiveError> {
        match stream.broke.take() {
            None => Ok(()),
            Some(Broke::Fault(fault)) => Err(self.fault(fault)),
            Some(Broke::Io(error)) => Err(ArchiveError::unread(error, &self.path)),
        }
    }

    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub(super) fn fault(&self, fault: ArchiveFault) -> ArchiveError {
        ArchiveError::Fault {
            path: self.path.clone(),
            fault,
        }
    }
}

#[cfg(test)]
mod tests;
