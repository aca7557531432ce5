//! Reading an archive, from its end: the seal, the manifest, then the content.
//!
//! In: a file. Out: an [`Archive`] whose manifest is proven, and its files passed to a [`Sink`]
//! in order while every digest is checked. Nothing is taken on trust: what the tar stream holds
//! must be what the manifest lists, entry for entry, and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::EntryType;

use super::format::{Frame, TABLE_FOOTER, TailFault, read_tail, tail_length};
use super::manifest::{
    DirectoryEntry, FileEntry, MANIFEST, Manifest, ManifestFault, SUMS, check_path,
};
use crate::ground::digest::{Digest, Hasher};
use crate::ground::interrupt::{Interrupt, Interrupted};
use crate::ground::parallel::{Buffers, Ordered};
use crate::ground::publish::with_path;

/// How much of the end is read at once, in bytes: enough for the manifest of a usual archive.
const FIRST_READ: u64 = 32 << 10;
/// Bytes of a tar block.
const BLOCK: u64 = 512;
/// How much is passed to a sink at once, in bytes.
const PIECE: usize = 256 << 10;

/// Why an archive cannot be read, and which one.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no such file.
    #[error("there is no archive at `{0}`")]
    NotFound(PathBuf),
    /// Its bytes do not check.
    #[error("`{path}` is not a sound archive")]
    Fault {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        #[source]
        fault: ArchiveFault,
    },
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// Its end.
    #[error(transparent)]
    Tail(#[from] TailFault),
    /// Its manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestFault),
    /// A frame's bytes are not those that were written.
    #[error("frame {frame} at offset {offset} does not match its SHA-256")]
    FrameDigest {
        /// Which frame, from 0.
        frame: usize,
        /// Where it begins, in bytes from the start of the archive.
        offset: u64,
    },
    /// A frame whose digest is right cannot be decompressed to what it should hold.
    #[error("frame {frame} at offset {offset} does not decompress to {plain} bytes")]
    FrameContent {
        /// Which frame, from 0.
        frame: usize,
        /// Where it begins, in bytes from the start of the archive.
        offset: u64,
        /// What it should hold.
        plain: u32,
    },
    /// The last frame does not hold a manifest.
    #[error("its last frame does not hold {MANIFEST} and the end of the tar stream")]
    NoManifest,
    /// The sizes in the manifest and those of the frames differ.
    #[error("its manifest lists {listed} bytes of tar stream, its frames hold {held}")]
    Size {
        /// By the manifest.
        listed: u64,
        /// By the frames.
        held: u64,
    },
    /// An entry of a kind that no archive has.
    #[error("it holds `{path}`, which is {kind}; only regular files belong into an archive")]
    Kind {
        /// The entry's path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// An entry with a path that no archive has.
    #[error("it holds `{path}`: {why}")]
    Path {
        /// The entry's path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another entry than the manifest lists.
    #[error("it holds `{found}` where its manifest lists `{listed}`")]
    Entry {
        /// By the manifest.
        listed: String,
        /// In the tar stream.
        found: String,
    },
    /// An entry whose header says something else than the manifest.
    #[error("the {what} of `{path}` differs from the manifest's")]
    Header {
        /// The entry.
        path: String,
        /// Size, mode, owner or time.
        what: &'static str,
    },
    /// Entries that cannot be read as tar.
    #[error("its tar stream breaks off: {0}")]
    Tar(String),
    /// Something behind the end of the tar stream.
    #[error("it holds something behind the end of its tar stream")]
    Trailing,
    /// A file's bytes are not those that the manifest lists.
    #[error("`{path}` does not match its SHA-256")]
    FileDigest {
        /// The file.
        path: String,
    },
    /// `SHA256SUMS` says something else than the manifest.
    #[error("{SUMS} differs from the manifest")]
    Sums,
}

/// Where an archive's content goes.
pub trait Sink {
    /// What can go wrong with it.
    type Error: From<ArchiveError>;

    /// A directory.
    fn directory(&mut self, entry: &DirectoryEntry) -> Result<(), Self::Error>;
    /// A file begins.
    fn begin(&mut self, entry: &FileEntry) -> Result<(), Self::Error>;
    /// The file's next bytes.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
    /// The file ends; `digest` tells whether its bytes are those that the manifest lists.
    fn end(
        &mut self,
        entry: &FileEntry,
        digest: Result<(), ArchiveFault>,
    ) -> Result<(), Self::Error>;
}

/// An archive whose seal and manifest have been proven.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    frames: Vec<Frame>,
    manifest: Manifest,
}

impl Archive {
    /// Opens an archive, reading its end only.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        // Without waiting: a pipe with an archive's name must not hold up a whole `list`.
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ArchiveError::NotFound(path.to_path_buf()),
            _ => with_path(error, "open", path).into(),
        })?;
        Self::from_file(Arc::new(file), path)
    }

    fn from_file(file: Arc<File>, path: &Path) -> Result<Self, ArchiveError> {
        let fault = |fault: ArchiveFault| ArchiveError::Fault {
            path: path.to_path_buf(),
            fault,
        };
        let metadata = file
            .metadata()
            .map_err(|error| with_path(error, "look at", path))?;
        if !metadata.is_file() {
            return Err(fault(TailFault::NoTable.into()));
        }
        let bytes = metadata.len();
        let mut end =
            End::read(&file, bytes, FIRST_READ).map_err(|e| with_path(e, "read", path))?;
        let footer = end
            .last_chunk::<TABLE_FOOTER>()
            .ok_or_else(|| fault(TailFault::NoTable.into()))?;
        let tail = tail_length(*footer).map_err(|found| fault(found.into()))?;
        if tail > bytes {
            return Err(fault(TailFault::Table.into()));
        }
        end.reach(&file, tail)
            .map_err(|error| with_path(error, "read", path))?;
        let frames = read_tail(end.last(tail), bytes).map_err(|found| fault(found.into()))?;
        let last = *frames
            .last()
            .ok_or_else(|| fault(ArchiveFault::NoManifest))?;
        end.reach(&file, tail + u64::from(last.compressed))
            .map_err(|error| with_path(error, "read", path))?;
        let packed = end.last(tail + u64::from(last.compressed));
        let packed = packed.get(..last.compressed as usize).unwrap_or_default();
        let number = frames.len() - 1;
        let plain = unpack_frame(&mut Unpacker::default(), number, last, packed).map_err(fault)?;
        let manifest = read_manifest_frame(&plain).map_err(fault)?;
        let held = frames.iter().map(|frame| u64::from(frame.plain)).sum();
        let listed = tar_length(&manifest).saturating_add(plain.len() as u64);
        if listed != held {
            return Err(fault(ArchiveFault::Size { listed, held }));
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            bytes,
            frames,
            manifest,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of all files in it.
    pub fn plain_bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
    }

    /// Passes everything in it to `sink`, decompressing on `threads` threads and checking every
    /// digest on the way.
    pub fn unpack<S: Sink>(
        &self,
        threads: usize,
        interrupt: &Interrupt,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let mut tar = tar::Archive::new(self.stream(threads));
        let outcome = self.unpack_entries(&mut tar, interrupt, sink);
        let mut stream = tar.into_inner();
        // A frame that does not check is the cause of whatever went wrong behind it.
        if let Some(fault) = stream.fault.take() {
            return Err(self.fault(fault).into());
        }
        outcome?;
        let trailing = stream.rest_is_zero();
        if let Some(fault) = stream.fault.take() {
            return Err(self.fault(fault).into());
        }
        if trailing.map_err(ArchiveError::Io)? {
            Ok(())
        } else {
            Err(self.fault(ArchiveFault::Trailing).into())
        }
    }

    fn unpack_entries<S: Sink>(
        &self,
        tar: &mut tar::Archive<FrameStream>,
        interrupt: &Interrupt,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let broken = |error: io::Error| self.fault(ArchiveFault::Tar(error.to_string()));
        let mut entries = tar.entries().map_err(broken)?.raw(true);
        let mut next = |listed: &str| -> Result<_, ArchiveError> {
            let entry = entries.next().transpose().map_err(broken)?;
            let entry = entry.ok_or_else(|| {
                self.fault(ArchiveFault::Entry {
                    listed: listed.to_owned(),
                    found: "the end".to_owned(),
                })
            })?;
            check_entry(&entry, listed).map_err(|fault| self.fault(fault))?;
            Ok(entry)
        };
        for directory in &self.manifest.directories {
            let entry = next(&directory.path)?;
            let owned = (directory.mode, directory.uid, directory.gid);
            check_header(entry.header(), &directory.path, 0, owned).map_err(|f| self.fault(f))?;
            sink.directory(directory)?;
        }
        let mut piece = vec![0; PIECE];
        for file in &self.manifest.files {
            let mut entry = next(&file.path)?;
            let owned = (file.mode, file.uid, file.gid);
            check_header(entry.header(), &file.path, file.size, owned)
                .and_then(|()| check_time(entry.header(), file))
                .map_err(|fault| self.fault(fault))?;
            sink.begin(file)?;
            let mut hasher = Hasher::default();
            loop {
                interrupt.check().map_err(ArchiveError::Interrupted)?;
                let read = entry.read(&mut piece).map_err(broken)?;
                let bytes = piece.get(..read).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                hasher.update(bytes);
                sink.data(bytes)?;
            }
            let same = hasher.finish() == file.sha256;
            let mismatch = || ArchiveFault::FileDigest {
                path: file.path.clone(),
            };
            sink.end(file, if same { Ok(()) } else { Err(mismatch()) })?;
        }
        let expected = self.manifest.sums();
        let mut sums = String::new();
        let length = expected.len() as u64 + 1;
        let read = next(SUMS)?.take(length).read_to_string(&mut sums);
        if read.is_err() || sums != expected {
            return Err(self.fault(ArchiveFault::Sums).into());
        }
        next(MANIFEST)?;
        match entries.next() {
            None => Ok(()),
            Some(_) => Err(self.fault(ArchiveFault::Trailing).into()),
        }
    }

    /// Every frame that does not match its digest, with the files that it holds a part of.
    pub fn damaged_frames(&self) -> io::Result<Vec<(ArchiveFault, Vec<String>)>> {
        let mut damaged = Vec::new();
        let mut packed = Vec::new();
        let mut from = 0;
        for (number, frame) in self.frames.iter().enumerate() {
            let to = from + u64::from(frame.plain);
            packed.resize(frame.compressed as usize, 0);
            self.file.read_exact_at(&mut packed, frame.offset)?;
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

    /// The files that have a part between two offsets of the tar stream.
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

    fn stream(&self, threads: usize) -> FrameStream {
        let buffers = Buffers::default();
        let pool = Ordered::new(threads, || {
            let file = Arc::clone(&self.file);
            let buffers = buffers.clone();
            let mut unpacker = Unpacker {
                buffers: buffers.clone(),
                ..Unpacker::default()
            };
            move |(number, frame): (usize, Frame)| {
                let mut packed = buffers.get();
                packed.resize(frame.compressed as usize, 0);
                file.read_exact_at(&mut packed, frame.offset)?;
                let plain = unpack_frame(&mut unpacker, number, frame, &packed);
                buffers.put(packed);
                Ok(plain)
            }
        });
        FrameStream {
            pool,
            waiting: self.frames.clone().into_iter().enumerate().collect(),
            now: Vec::new(),
            at: 0,
            buffers,
            fault: None,
        }
    }

    fn fault(&self, fault: ArchiveFault) -> ArchiveError {
        ArchiveError::Fault {
            path: self.path.clone(),
            fault,
        }
    }
}

/// The end of a file, as far back as it has been read.
struct End {
    bytes: Vec<u8>,
    file_length: u64,
}

impl End {
    fn read(file: &File, file_length: u64, wanted: u64) -> io::Result<Self> {
        let mut bytes = vec![0; wanted.min(file_length) as usize];
        let from = file_length - bytes.len() as u64;
        file.read_exact_at(&mut bytes, from)?;
        Ok(Self { bytes, file_length })
    }

    /// Makes sure that at least the last `wanted` bytes are at hand.
    fn reach(&mut self, file: &File, wanted: u64) -> io::Result<()> {
        if wanted > self.bytes.len() as u64 {
            *self = Self::read(file, self.file_length, wanted)?;
        }
        Ok(())
    }

    fn last(&self, wanted: u64) -> &[u8] {
        let from = self.bytes.len().saturating_sub(wanted as usize);
        self.bytes.get(from..).unwrap_or_default()
    }

    fn last_chunk<const N: usize>(&self) -> Option<&[u8; N]> {
        self.bytes.last_chunk()
    }
}

#[derive(Default)]
struct Unpacker {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    buffers: Buffers,
}

/// Proves a frame's bytes and decompresses them.
fn unpack_frame(
    unpacker: &mut Unpacker,
    number: usize,
    frame: Frame,
    packed: &[u8],
) -> Result<Vec<u8>, ArchiveFault> {
    if Digest::of(packed) != frame.digest {
        return Err(ArchiveFault::FrameDigest {
            frame: number,
            offset: frame.offset,
        });
    }
    let broken = ArchiveFault::FrameContent {
        frame: number,
        offset: frame.offset,
        plain: frame.plain,
    };
    if unpacker.decompressor.is_none() {
        let made = zstd::bulk::Decompressor::new().map_err(|_| broken.clone())?;
        unpacker.decompressor = Some(made);
    }
    let mut plain = unpacker.buffers.get();
    plain.reserve_exact(frame.plain as usize);
    let outcome = unpacker
        .decompressor
        .as_mut()
        .map(|decompressor| decompressor.decompress_to_buffer(packed, &mut plain));
    match outcome {
        Some(Ok(length)) if length == frame.plain as usize => Ok(plain),
        _ => Err(broken),
    }
}

/// The decompressed frames as one stream.
struct FrameStream {
    pool: Ordered<(usize, Frame), io::Result<Result<Vec<u8>, ArchiveFault>>>,
    waiting: std::collections::VecDeque<(usize, Frame)>,
    now: Vec<u8>,
    at: usize,
    buffers: Buffers,
    fault: Option<ArchiveFault>,
}

impl FrameStream {
    /// Puts the next frame in place; whether there was one.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.pool.is_full() {
            let Some(job) = self.waiting.pop_front() else {
                break;
            };
            self.pool.submit(job);
        }
        let Some(unpacked) = self.pool.take().map_err(io::Error::other)? else {
            return Ok(false);
        };
        match unpacked? {
            Ok(plain) => {
                self.buffers.put(std::mem::replace(&mut self.now, plain));
                self.at = 0;
                Ok(true)
            }
            Err(fault) => {
                self.waiting.clear();
                let text = fault.to_string();
                self.fault = Some(fault);
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }

    fn rest_is_zero(&mut self) -> io::Result<bool> {
        loop {
            let rest = self.now.get(self.at..).unwrap_or_default();
            if rest.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            if !self.next_frame()? {
                return Ok(true);
            }
        }
    }
}

impl Read for FrameStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.now.len() {
            if !self.next_frame()? {
                return Ok(0);
            }
        }
        let rest = self.now.get(self.at..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(length)
    }
}

/// Holds an entry's path and kind against what is expected next.
fn check_entry<R: Read>(entry: &tar::Entry<'_, R>, listed: &str) -> Result<(), ArchiveFault> {
    let found = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Directory => None,
        EntryType::Symlink => Some("a symbolic link"),
        EntryType::Link => Some("a hard link"),
        EntryType::Char | EntryType::Block => Some("a device"),
        EntryType::Fifo => Some("a pipe"),
        _ => Some("of a kind that etcd-ark does not write"),
    };
    if let Some(kind) = kind {
        return Err(ArchiveFault::Kind { path: found, kind });
    }
    let is_directory = entry.header().entry_type() == EntryType::Directory;
    if found == listed && is_directory == listed.ends_with('/') {
        return Ok(());
    }
    if !is_directory && found != SUMS && found != MANIFEST {
        check_path(&found).map_err(|why| ArchiveFault::Path {
            path: found.clone(),
            why,
        })?;
    }
    Err(ArchiveFault::Entry {
        listed: listed.to_owned(),
        found,
    })
}

fn check_header(
    header: &tar::Header,
    path: &str,
    size: u64,
    (mode, uid, gid): (u32, u32, u32),
) -> Result<(), ArchiveFault> {
    let differs = |what| ArchiveFault::Header {
        path: path.to_owned(),
        what,
    };
    if header.size().ok() != Some(size) {
        return Err(differs("size"));
    }
    if header.mode().ok() != Some(mode) {
        return Err(differs("mode"));
    }
    if header.uid().ok() != Some(uid.into()) || header.gid().ok() != Some(gid.into()) {
        return Err(differs("owner"));
    }
    Ok(())
}

/// A tar header holds whole seconds, and none before 1970.
fn check_time(header: &tar::Header, file: &FileEntry) -> Result<(), ArchiveFault> {
    let listed = u64::try_from(file.mtime.as_second()).unwrap_or(0);
    if header.mtime().ok() == Some(listed) {
        return Ok(());
    }
    Err(ArchiveFault::Header {
        path: file.path.clone(),
        what: "time",
    })
}

/// The manifest in the last frame: one tar entry and the end of the stream, nothing else.
fn read_manifest_frame(plain: &[u8]) -> Result<Manifest, ArchiveFault> {
    let mut tar = tar::Archive::new(plain);
    let mut entries = tar
        .entries()
        .map_err(|_| ArchiveFault::NoManifest)?
        .raw(true);
    let Some(Ok(mut entry)) = entries.next() else {
        return Err(ArchiveFault::NoManifest);
    };
    if entry.path_bytes() != MANIFEST.as_bytes() {
        return Err(ArchiveFault::NoManifest);
    }
    let mut json = Vec::new();
    entry
        .read_to_end(&mut json)
        .map_err(|_| ArchiveFault::NoManifest)?;
    if entries.next().is_some() {
        return Err(ArchiveFault::Trailing);
    }
    Ok(Manifest::read(&json)?)
}

/// Bytes of the tar stream before the manifest's entry.
fn tar_length(manifest: &Manifest) -> u64 {
    let files = manifest.files.iter().map(|file| file.size);
    let sums = manifest.sums().len() as u64;
    let directories = manifest.directories.len() as u64 * BLOCK;
    files.chain([sums]).fold(directories, |sum, size| {
        sum.saturating_add(tar_entry_length(size))
    })
}

fn tar_entry_length(size: u64) -> u64 {
    BLOCK.saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX))
}
