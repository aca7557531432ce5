//! The inside of an encrypted archive, read at any place.
//!
//! ```text
//! header     age's: a stanza a recipient, then a MAC over all of it
//! 16 bytes   the nonce
//! chunks     64 KiB of the archive and a tag of 16 bytes each; the last may be shorter, and
//!            is encrypted as the last
//! ```
//!
//! In: a [`Source`] of encrypted bytes and identities. Out: a [`Source`] of the archive's. No byte
//! leaves before the chunk it is in has been proven. That the last chunk is the last is proven
//! when it is opened: a file that was cut, at whatever place, does not open.
//! Source: the age format, version 1, "Payload".

use std::fmt;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamReader;
use age::{DecryptError, Decryptor};

use super::{EncryptionFault, Identities};
use crate::place::archive::{ArchiveFault, Source};

/// The longest header that is read, in bytes: age's parser begins anew with each line.
const MAX_HEADER: u64 = 32 << 10;
/// Bytes of the archive in a chunk.
const CHUNK: u64 = 64 << 10;
/// Bytes of a tag.
const TAG: u64 = 16;

/// The archive inside an encrypted file.
pub struct EncryptedSource {
    inner: Arc<dyn Source>,
    identities: Identities,
    /// The beginning of the file.
    head: Arc<[u8]>,
    /// Where the chunks begin, in bytes from the start of the file.
    chunks: u64,
    length: u64,
    /// One that has failed is no longer there.
    reader: Mutex<Option<Reader>>,
}

struct Reader {
    stream: StreamReader<Cursor>,
    /// Where it stands, in bytes from the start of the archive.
    at: u64,
}

impl fmt::Debug for EncryptedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EncryptedSource").field(&self.inner).finish()
    }
}

impl EncryptedSource {
    /// Opens the archive inside `inner` with one of `identities`. What is wrong is an
    /// [`ArchiveFault`] within the error.
    pub fn open(inner: Arc<dyn Source>, identities: &Identities) -> io::Result<Self> {
        let mut head = vec![0; MAX_HEADER.min(inner.length()) as usize];
        inner.read_exact_at(&mut head, 0)?;
        let mut rest = head.as_slice();
        let parsed = Decryptor::new_buffered(&mut rest);
        if parsed.map_err(|error| of_header(error, head.len() as u64))?.is_scrypt() {
            return Err(fault(EncryptionFault::Passphrase));
        }
        let chunks = (head.len() - rest.len()) as u64;
        let mut source = Self {
            identities: identities.clone(),
            head: head.into(),
            chunks,
            length: 0,
            reader: Mutex::new(None),
            inner,
        };
        let mut reader = source.new_reader()?;
        let encrypted = source.inner.length().saturating_sub(chunks);
        let last = encrypted.saturating_sub(1) / (CHUNK + TAG);
        let end = EncryptionFault::End(chunks + last * (CHUNK + TAG));
        let at_end = reader.stream.seek(SeekFrom::End(0));
        source.length = at_end.map_err(|error| instead(error, end))?;
        // age's own reader finds this only when it gets there.
        if last > 0 && encrypted - last * (CHUNK + TAG) <= TAG {
            return Err(fault(end));
        }
        reader.at = source.length;
        source.reader = Mutex::new(Some(reader));
        Ok(source)
    }

    fn new_reader(&self) -> io::Result<Reader> {
        let cursor = Cursor {
            inner: Arc::clone(&self.inner),
            head: Arc::clone(&self.head),
            at: 0,
        };
        let opened = Decryptor::new_buffered(cursor)
            .and_then(|decryptor| decryptor.decrypt(self.identities.all()));
        let stream = opened.map_err(|error| of_header(error, self.chunks))?;
        Ok(Reader { stream, at: 0 })
    }

    /// Where the chunk begins that holds `offset`, in bytes from the start of the file.
    fn chunk_at(&self, offset: u64) -> u64 {
        self.chunks + offset / CHUNK * (CHUNK + TAG)
    }
}

impl Source for EncryptedSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut kept = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reader = match kept.take() {
            Some(reader) => reader,
            None => self.new_reader()?,
        };
        if let Err(error) = reader.read_exact_at(buffer, offset) {
            return Err(instead(error, EncryptionFault::Chunk(self.chunk_at(reader.at))));
        }
        *kept = Some(reader);
        Ok(())
    }

    fn read_ahead(&self, offset: u64, length: u64) {
        let from = self.chunk_at(offset);
        let to = self.chunk_at(offset.saturating_add(length)) + CHUNK + TAG;
        self.inner.read_ahead(from, to.min(self.inner.length()).saturating_sub(from));
    }
}

impl Reader {
    /// If it fails, `at` is in the chunk that does not check.
    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.at != offset {
            self.at = offset;
            self.stream.seek(SeekFrom::Start(offset))?;
        }
        let mut rest = buffer;
        while !rest.is_empty() {
            let read = self.stream.read(rest)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += read as u64;
            rest = rest.get_mut(read..).unwrap_or_default();
        }
        Ok(())
    }
}

fn fault(found: EncryptionFault) -> io::Error {
    ArchiveFault::from(found).into()
}

/// What age says of bytes that do not check, as what that means here; errors of the source below
/// stay as they are.
fn instead(error: io::Error, found: EncryptionFault) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => fault(found),
        _ => error,
    }
}

/// `end` is how far the header was looked for, in bytes.
fn of_header(error: DecryptError, end: u64) -> io::Error {
    match error {
        DecryptError::NoMatchingKeys => fault(EncryptionFault::NotARecipient),
        DecryptError::Io(error) => instead(error, EncryptionFault::Header(end)),
        _ => fault(EncryptionFault::Header(end)),
    }
}

/// A place in a source. What is read before the chunks, which is the header, comes from memory.
struct Cursor {
    inner: Arc<dyn Source>,
    head: Arc<[u8]>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.inner.length().saturating_sub(self.at);
        let length = left.min(buffer.len() as u64) as usize;
        let now = buffer.get_mut(..length).unwrap_or_default();
        self.inner.read_exact_at(now, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl BufRead for Cursor {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.head.get(self.at as usize..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount as u64;
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.inner.length().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
