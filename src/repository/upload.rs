//! Writes an archive into a repository, reads it back from there, and only then publishes it.
//!
//! In: a writer of its bytes, and a name. Out: its size and digest, after every byte has been
//! read back from where it is stored. If the connection to the repository fails, it is written again
//! from the start; a failed try leaves nothing behind.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::archive::Source;
use crate::archive::digester::{Digester, Part};
use crate::etcd::digest::Digest;
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use crate::repository::{CompanionFile, PendingArchive, Repository};
use crate::thread_pool::{Buffers, default_threads};

/// How often a whole upload is tried.
const TRIES: u32 = 3;
/// Bytes of one read.
const PIECE: u64 = 1 << 20;

pub struct UploadRequest<'d> {
    pub name: &'d str,
    /// Its expected size in bytes, for the progress display.
    pub bytes: u64,
    /// Writes all of it; called once for each try.
    pub write: &'d mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    /// The files beside it, made from its digest and its size in bytes.
    pub sides: &'d dyn Fn(Digest, u64) -> io::Result<Vec<CompanionFile>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub bytes: u64,
    pub sha256: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("`{0}` does not read back as it was written")]
    ReadBack(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

pub fn upload(
    repository: &dyn Repository,
    upload: &mut UploadRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Uploaded, UploadError> {
    let mut attempt = 1;
    let mut begun = false;
    loop {
        let error = match try_once(repository, upload, interrupt, observe, &mut begun) {
            Ok(deposited) => return Ok(deposited),
            Err(error) => error,
        };
        interrupt.check()?;
        let may_pass =
            matches!(&error, UploadError::Io(error) if error.kind() == io::ErrorKind::Other);
        // Starting an upload has its own retries.
        if !may_pass || !begun || attempt == TRIES {
            return Err(error);
        }
        let reason = error.to_string();
        observe(Event::Again { attempt, reason });
        attempt += 1;
    }
}

fn try_once(
    repository: &dyn Repository,
    upload: &mut UploadRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
    begun: &mut bool,
) -> Result<Uploaded, UploadError> {
    let bytes = upload.bytes;
    let part = "writing";
    observe(Event::Begin { part, bytes });
    *begun = false;
    let mut receiving = repository.receive(upload.name)?;
    *begun = true;
    let mut passing = Passing {
        receiving: receiving.as_mut(),
        digesting: Digesting::new(),
        bytes: 0,
        interrupt,
        observe,
    };
    (upload.write)(&mut passing)?;
    let deposited = Uploaded {
        bytes: passing.bytes,
        sha256: passing.digesting.finish()?,
    };
    let source = receiving.finish()?;
    let part = "reading back";
    let bytes = deposited.bytes;
    observe(Event::Begin { part, bytes });
    let mut digesting = Digesting::new();
    read_all(&*source, interrupt, &mut |bytes| {
        observe(Event::Advance(bytes.len() as u64));
        digesting.take(bytes);
        Ok(())
    })?;
    if source.length() != deposited.bytes || digesting.finish()? != deposited.sha256 {
        return Err(UploadError::ReadBack(repository.path_of(upload.name)));
    }
    let sides = (upload.sides)(deposited.sha256, deposited.bytes)?;
    interrupt.check()?;
    receiving.publish(&sides)?;
    Ok(deposited)
}

pub(crate) fn read_all(
    source: &dyn Source,
    interrupt: &Interrupt,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = Vec::new();
    let mut at = 0;
    while at < source.length() {
        interrupt.check().map_err(io::Error::other)?;
        source.read_ahead(at);
        piece.resize(PIECE.min(source.length() - at) as usize, 0);
        source.read_exact_at(&mut piece, at)?;
        take(&piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

pub(crate) fn digest_of(source: &dyn Source, interrupt: &Interrupt) -> io::Result<Digest> {
    let mut digesting = Digesting::new();
    read_all(source, interrupt, &mut |bytes| {
        digesting.take(bytes);
        Ok(())
    })?;
    digesting.finish()
}

/// Takes the digest of the bytes that it passes on.
struct Digesting {
    digester: Digester,
    buffers: Buffers,
}

impl Digesting {
    fn new() -> Self {
        Self {
            digester: Digester::new(default_threads()),
            buffers: Buffers::default(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut buffer = self.buffers.get();
        buffer.extend_from_slice(bytes);
        self.digester.take(Some(Part::whole(buffer)));
    }

    fn finish(self) -> io::Result<Digest> {
        self.digester.finish_one()
    }
}

/// Takes the digest of the bytes that go into a repository.
struct Passing<'p> {
    receiving: &'p mut dyn PendingArchive,
    digesting: Digesting,
    bytes: u64,
    interrupt: &'p Interrupt,
    observe: &'p mut dyn FnMut(Event),
}

impl Write for Passing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.interrupt.check().map_err(io::Error::other)?;
        self.receiving.write(bytes)?;
        self.digesting.take(bytes);
        self.bytes += bytes.len() as u64;
        (self.observe)(Event::Advance(bytes.len() as u64));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
