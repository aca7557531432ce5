//! An archive's content frames as one stream: each verified, then decompressed, on all cores.
//!
//! In: an open file and its sealed frame list. Out: the tar stream, and the digest of the whole file, if
//! requested. Memory: a few frames for each thread.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use zstd::zstd_safe::DParameter;

use crate::archive::digester::{Digester, Part};
use crate::archive::error::ArchiveFault;
use crate::archive::format::Frame;
use crate::archive::read_at::Source;
use crate::etcd::digest::Digest;
use crate::thread_pool::{Buffers, Lent, Ordered};

/// A decompressor with its buffers; one for each thread.
#[derive(Default)]
pub(super) struct Unpacker {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    pub(super) buffers: Buffers,
    /// Whether zstd's own checksum is skipped because a SHA-256 of the content is checked.
    pub(super) skip_checksum: bool,
}

/// Verifies a frame's bytes and decompresses them.
pub(super) fn unpack_frame(
    unpacker: &mut Unpacker,
    number: usize,
    frame: Frame,
    packed: &[u8],
) -> Result<Lent, ArchiveFault> {
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
        let mut made = zstd::bulk::Decompressor::new().map_err(|_| broken.clone())?;
        made.set_parameter(DParameter::ForceIgnoreChecksum(unpacker.skip_checksum))
            .map_err(|_| broken.clone())?;
        unpacker.decompressor = Some(made);
    }
    let mut plain = unpacker.buffers.get();
    plain.reserve_exact(frame.plain as usize);
    let outcome = unpacker
        .decompressor
        .as_mut()
        .map(|decompressor| decompressor.decompress_to_buffer(packed, &mut *plain));
    match outcome {
        Some(Ok(length)) if length == frame.plain as usize => Ok(plain),
        _ => Err(broken),
    }
}

/// A frame's bytes in the file and its plain bytes, or what is wrong with it.
type Unpacked = io::Result<(Lent, Result<Lent, ArchiveFault>)>;

/// Why a stream ended early: the archive's bytes, or an I/O error.
pub(super) enum Broke {
    Fault(ArchiveFault),
    Io(io::Error),
}

/// The decompressed frames as one stream.
pub(super) struct FrameStream {
    source: Arc<dyn Source>,
    pool: Ordered<(usize, Frame), Unpacked>,
    waiting: VecDeque<(usize, Frame)>,
    now: Arc<Lent>,
    at: usize,
    packed: Option<Digester>,
    /// The end of the frames, in bytes from the start of the file.
    end: u64,
    pub(super) broke: Option<Broke>,
}

impl FrameStream {
    /// The stream of `frames` with their numbers, verified and decompressed on `threads` threads; without zstd's own
    /// checksum if the content's digests are taken anyway. `packed` takes the digest of the whole file.
    pub(super) fn new(
        source: &Arc<dyn Source>,
        frames: impl Iterator<Item = (usize, Frame)>,
        threads: usize,
        skip_checksum: bool,
        packed: Option<Digester>,
    ) -> Self {
        let waiting: VecDeque<_> = frames.collect();
        let last = waiting.back();
        let end = last.map_or(0, |(_, last)| last.offset + u64::from(last.compressed));
        let buffers = Buffers::default();
        let pool = Ordered::new(threads, || {
            let source = Arc::clone(source);
            let buffers = buffers.clone();
            let mut unpacker = Unpacker {
                buffers: buffers.clone(),
                skip_checksum,
                ..Unpacker::default()
            };
            move |(number, frame): (usize, Frame)| {
                let mut packed = buffers.get_filled(frame.compressed as usize);
                source.read_exact_at(&mut packed, frame.offset)?;
                let plain = unpack_frame(&mut unpacker, number, frame, &packed);
                Ok((packed, plain))
            }
        });
        Self {
            pool,
            source: Arc::clone(source),
            waiting,
            now: Arc::new(buffers.get()),
            at: 0,
            packed,
            end,
            broke: None,
        }
    }

    /// Moves on to the next frame; `false` at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.pool.is_full() {
            let Some(job) = self.waiting.pop_front() else {
                break;
            };
            // Otherwise each worker would wait for its own frame.
            self.source.read_ahead(job.1.offset);
            self.pool.submit(job);
        }
        let Some(unpacked) = self.pool.take().map_err(io::Error::other)? else {
            return Ok(false);
        };
        let broke = match unpacked {
            Ok((packed, Ok(plain))) => {
                if let Some(digester) = &mut self.packed {
                    digester.take(Some(Part::whole(packed)));
                }
                self.now = Arc::new(plain);
                self.at = 0;
                return Ok(true);
            }
            Ok((_, Err(fault))) => Broke::Fault(fault),
            Err(error) => Broke::Io(error),
        };
        self.waiting.clear();
        self.broke = Some(broke);
        Err(io::ErrorKind::InvalidData.into())
    }

    /// The next bytes, at most `most` and at most one frame; empty at the end.
    pub(super) fn part(&mut self, most: u64) -> io::Result<Part> {
        while self.at >= self.now.len() && self.next_frame()? {}
        let from = self.at;
        let left = (self.now.len() - from) as u64;
        self.at += left.min(most) as usize;
        Ok(Part::of(&self.now, from..self.at))
    }

    /// The digest of the whole file, if it was taken; call it after the last frame.
    pub(super) fn digest(&mut self) -> io::Result<Option<Digest>> {
        let Some(mut digester) = self.packed.take() else {
            return Ok(None);
        };
        let mut tail = Buffers::default().get();
        let length = (self.source.length() - self.end) as usize;
        tail.resize(length, 0);
        self.source.read_exact_at(&mut tail, self.end)?;
        digester.take(Some(Part::whole(tail)));
        digester.finish_one().map(Some)
    }

    /// Whether only zeros follow.
    pub(super) fn rest_is_zero(&mut self) -> io::Result<bool> {
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
        let part = self.part(buffer.len() as u64)?;
        if let Some(to) = buffer.get_mut(..part.len()) {
            to.copy_from_slice(&part);
        }
        Ok(part.len())
    }
}
