//! Writes an archive: a tar stream cut into frames, compressed on all cores, sealed.
//!
//! In: files as `(facts, reader)`, in order, then the manifest. Out: the bytes drawn
//! in [`crate::archive::format`], and the digest of all of them. Memory: a few frames for each thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use tar::{EntryType, Header};

use crate::archive::format::{FRAME, Frame, MAX_FRAME, write_tail};
use crate::archive::manifest::{DirectoryEntry, FileEntry, MANIFEST, Manifest, Role, SUMS, sums};
use crate::etcd::digest::{Digest, Hasher};
use crate::fs::staged::{WRITEBACK, start_writeback};
use crate::thread_pool::{Buffers, Lent, Ordered, WorkerDied};

#[derive(Clone, Debug)]
pub struct NewFile {
    pub path: String,
    /// Bytes that its reader gives.
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub bytes: u64,
    pub sha256: Digest,
}

/// What an archive passes through on its way into a repository, such as encryption.
pub trait Cipher: std::fmt::Debug + Sync {
    /// Lets `content` write, and writes the result to `out`.
    fn pass(
        &self,
        out: &mut dyn Write,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()>;
}

pub struct Writer<'f> {
    tar: tar::Builder<FrameCutter<'f>>,
    files: Vec<FileEntry>,
}

impl<'f> Writer<'f> {
    /// An archive in `file`, which is truncated, compressed at zstd `level` on `threads` threads.
    pub fn new(file: &'f File, level: i32, threads: usize) -> io::Result<Self> {
        file.set_len(0)?;
        Ok(Self::to(Some(file), level, threads))
    }

    /// An archive that is not stored, to learn its content and size.
    pub fn nowhere(level: i32, threads: usize) -> Self {
        Self::to(None, level, threads)
    }

    fn to(file: Option<&'f File>, level: i32, threads: usize) -> Self {
        let buffers = Buffers::default();
        let pool = Ordered::new(threads, || {
            let buffers = buffers.clone();
            let mut compressor = None;
            move |plain: Lent| pack(&mut compressor, level, &plain, &buffers)
        });
        Self {
            tar: tar::Builder::new(FrameCutter {
                file,
                pool,
                plain: buffers.get(),
                frame_size: FRAME,
                buffers,
                frames: Vec::new(),
                written: 0,
                written_back: 0,
                whole: Hasher::default(),
            }),
            files: Vec::new(),
        }
    }

    pub fn directory(&mut self, entry: &DirectoryEntry, mtime: Timestamp) -> io::Result<()> {
        let mut header = header(&entry.path, 0, EntryType::Directory, mtime)?;
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_cksum();
        self.tar.append(&header, io::empty())
    }

    /// Writes a file of exactly `new.size` bytes from `reader`. Its role is set
    /// with [`Writer::role`], once its bytes have been read.
    pub fn append(&mut self, new: &NewFile, reader: impl Read) -> io::Result<()> {
        let mut header = header(&new.path, new.size, EntryType::Regular, new.mtime)?;
        header.set_mode(new.mode);
        header.set_uid(new.uid.into());
        header.set_gid(new.gid.into());
        header.set_cksum();
        let mut hashing = Hashing {
            reader: reader.take(new.size),
            hasher: Hasher::default(),
            bytes: 0,
        };
        self.tar.append(&header, &mut hashing)?;
        if hashing.bytes != new.size {
            let (path, size, bytes) = (&new.path, new.size, hashing.bytes);
            let short = format!("`{path}` gave {bytes} of {size} bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
        }
        self.files.push(FileEntry {
            path: new.path.clone(),
            size: new.size,
            mode: new.mode,
            uid: new.uid,
            gid: new.gid,
            mtime: new.mtime,
            sha256: hashing.hasher.finish(),
            role: Role::Leftover,
        });
        Ok(())
    }

    pub fn role(&mut self, role: Role) {
        if let Some(file) = self.files.last_mut() {
            file.role = role;
        }
    }

    pub fn change_roles(&mut self, change: impl Fn(Role) -> Role) {
        for file in &mut self.files {
            file.role = change(file.role);
        }
    }

    /// Ends the archive with `SHA256SUMS`, the manifest that `complete` makes from the files, and
    /// the seal. Returns the manifest and the result.
    pub fn finish(
        mut self,
        mtime: Timestamp,
        complete: impl FnOnce(Vec<FileEntry>) -> Manifest,
    ) -> io::Result<(Manifest, Finished)> {
        let sums = sums(&self.files);
        self.text(SUMS, sums.as_bytes(), mtime)?;
        let manifest = complete(self.files.split_off(0));
        let json = manifest.write()?;
        self.tar.get_mut().begin_last_frame();
        self.text(MANIFEST, &json, mtime)?;
        self.tar.finish()?;
        let finished = self.tar.into_inner()?.finish()?;
        Ok((manifest, finished))
    }

    fn text(&mut self, path: &str, text: &[u8], mtime: Timestamp) -> io::Result<()> {
        let mut header = header(path, text.len() as u64, EntryType::Regular, mtime)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.tar.append(&header, text)
    }
}

fn header(path: &str, size: u64, kind: EntryType, mtime: Timestamp) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_mtime(u64::try_from(mtime.as_second()).unwrap_or(0));
    Ok(header)
}

/// Takes the digest of the bytes read through it.
struct Hashing<R> {
    reader: R,
    hasher: Hasher,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        Ok(read)
    }
}

struct FrameCutter<'f> {
    file: Option<&'f File>,
    pool: Ordered<Lent, io::Result<Packed>>,
    plain: Lent,
    frame_size: usize,
    buffers: Buffers,
    frames: Vec<Frame>,
    /// Bytes in the file.
    written: u64,
    /// Bytes for which the kernel was asked to start writing to the disk.
    written_back: u64,
    whole: Hasher,
}

struct Packed {
    bytes: Lent,
    plain: usize,
    digest: Digest,
}

impl FrameCutter<'_> {
    /// Ends the current frame, unless it is empty.
    fn cut(&mut self) {
        if self.plain.is_empty() {
            return;
        }
        let mut next = self.buffers.get();
        next.reserve(FRAME);
        self.pool.submit(std::mem::replace(&mut self.plain, next));
    }

    /// The manifest and the end of the tar stream go into one frame.
    fn begin_last_frame(&mut self) {
        self.cut();
        self.frame_size = MAX_FRAME as usize;
    }

    fn cut_and_drain(&mut self) -> io::Result<()> {
        self.cut();
        while self.pool.is_full() {
            self.write_oldest()?;
        }
        Ok(())
    }

    /// Writes the oldest frame in flight; `false` if there is none.
    fn write_oldest(&mut self) -> io::Result<bool> {
        let died = |error: WorkerDied| io::Error::other(error);
        let Some(packed) = self.pool.take().map_err(died)? else {
            return Ok(false);
        };
        let packed = packed?;
        self.frames.push(Frame {
            offset: self.written,
            compressed: packed.bytes.len() as u32,
            plain: packed.plain as u32,
            digest: packed.digest,
        });
        self.put(&packed.bytes)?;
        Ok(true)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.written;
        self.whole.update(bytes);
        self.written += bytes.len() as u64;
        let Some(file) = self.file else {
            return Ok(());
        };
        file.write_all_at(bytes, at)?;
        let unasked = self.written - self.written_back;
        if unasked >= WRITEBACK {
            // The disk works while the next frames are compressed, so the final sync is short.
            start_writeback(file, self.written_back, unasked);
            self.written_back = self.written;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Finished> {
        self.cut();
        while self.write_oldest()? {}
        let tail = write_tail(&self.frames);
        self.put(&tail)?;
        Ok(Finished {
            bytes: self.written,
            sha256: self.whole.finish(),
        })
    }
}

impl Write for FrameCutter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.frame_size.saturating_sub(self.plain.len());
        let now = bytes.get(..room).unwrap_or(bytes);
        self.plain.extend_from_slice(now);
        if self.plain.len() >= self.frame_size {
            if self.frame_size > FRAME {
                return Err(io::Error::other("the manifest is too large for a frame"));
            }
            self.cut_and_drain()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(
    compressor: &mut Option<zstd::bulk::Compressor<'static>>,
    level: i32,
    plain: &[u8],
    buffers: &Buffers,
) -> io::Result<Packed> {
    if compressor.is_none() {
        let mut made = zstd::bulk::Compressor::new(level)?;
        made.include_checksum(true)?;
        made.include_contentsize(true)?;
        *compressor = Some(made);
    }
    let mut bytes = buffers.get();
    bytes.reserve(zstd::zstd_safe::compress_bound(plain.len()));
    if let Some(compressor) = compressor {
        compressor.compress_to_buffer(plain, &mut *bytes)?;
    }
    Ok(Packed {
        plain: plain.len(),
        digest: Digest::of(&bytes),
        bytes,
    })
}
