//! Encrypted archives: age, X25519.
//!
//! In: bytes and recipients, or an encrypted file and identities. Out: the ciphertext or the plaintext. An
//! encrypted archive is one age file; age cuts it into chunks of 64 KiB, each authenticated with its position
//! and with whether it is the last, so any part can be read by itself and none can be exchanged,
//! moved or cut off. Source: the age v1 specification, as the crate `age` follows it.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use age::stream::StreamReader;
use age::{DecryptError, Decryptor, Encryptor, IdentityFile, x25519};

use crate::archive::{Cipher, Source};

/// Bytes of the header in one read: one with a few recipients is smaller.
const HEADER: usize = 8 << 10;
/// The longest accepted header, in bytes: the crate reads one of any length, each line twice.
const LONGEST_HEADER: usize = 64 << 10;
/// The most recipients that fit into such a header.
const MOST_RECIPIENTS: usize = 500;
/// The start of a header's last line, with the end of the line before.
const LAST_LINE: &[u8] = b"\n---";
/// The start of an age file in ASCII armor.
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

pub struct Recipients(Vec<x25519::Recipient>);

/// The private keys for encrypted archives.
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("`{0}` is not a valid age recipient")]
    Recipient(String),
    /// A private key in the place of a recipient. It is not shown.
    #[error("a private key was given as a recipient")]
    PrivateKey,
    #[error("line {line} of `{file}` is not a valid age recipient")]
    RecipientsFile {
        file: String,
        /// The line, from 1.
        line: usize,
    },
    #[error("`{0}` holds no key")]
    Empty(String),
    #[error("`{0}` names no recipient")]
    NoRecipient(String),
    #[error("{0} recipients are more than {MOST_RECIPIENTS}")]
    TooMany(usize),
    #[error("`{0}` is protected by a passphrase, which is not supported")]
    Passphrase(String),
    /// Not an identity file. Its content is not shown: it may be a key.
    #[error("`{0}` is not a valid age identity file")]
    IdentityFile(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionFault {
    #[error("it is encrypted, and no identity was given")]
    NoIdentity,
    #[error("it is encrypted for none of the identities given")]
    WrongIdentity,
    #[error("it is not an age file, or its header is damaged: {0}")]
    Header(String),
    #[error("it is an armored age file; `age -d` reads it")]
    Armored,
    #[error("its last chunk is corrupt: it is cut short, or damaged")]
    Truncated,
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipients({})", self.0.len())
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

impl Recipients {
    /// Recipients given directly, `age1…`, and those in `files`, each a name and its text, with one
    /// recipient in a line and comments after `#`.
    pub fn read(named: &[String], files: &[(String, String)]) -> Result<Self, KeyError> {
        let mut all = Vec::new();
        for text in named {
            let recipient = text.parse();
            all.push(recipient.map_err(|_| wrong(text))?);
        }
        for (file, text) in files {
            let before = all.len();
            for (number, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                all.push(line.parse().map_err(|_| KeyError::RecipientsFile {
                    file: file.clone(),
                    line: number + 1,
                })?);
            }
            if all.len() == before {
                return Err(KeyError::NoRecipient(file.clone()));
            }
        }
        if all.len() > MOST_RECIPIENTS {
            return Err(KeyError::TooMany(all.len()));
        }
        Ok(Self(all))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Cipher for Recipients {
    fn pass(
        &self,
        out: &mut dyn Write,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let recipients = self.0.iter();
        let recipients = recipients.map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let mut encrypting = encryptor.wrap_output(out)?;
        content(&mut encrypting)?;
        // Writes the last chunk, without which the file counts as truncated.
        encrypting.finish().map(|_| ())
    }
}

impl Identities {
    /// The identities in `files`: each a name and its bytes, as `age-keygen` writes them.
    pub fn read(files: &[(String, Vec<u8>)]) -> Result<Self, KeyError> {
        let mut all = Vec::new();
        for (file, bytes) in files {
            if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(ARMOR) {
                return Err(KeyError::Passphrase(file.clone()));
            }
            let wrong = || KeyError::IdentityFile(file.clone());
            let read = IdentityFile::from_buffer(bytes.as_slice()).map_err(|_| wrong())?;
            let found = read.into_identities().map_err(|_| wrong())?;
            if found.is_empty() {
                return Err(KeyError::Empty(file.clone()));
            }
            all.extend(found);
        }
        Ok(Self(all))
    }

    pub fn decrypt(
        &self,
        outside: Arc<dyn Source>,
    ) -> io::Result<Result<EncryptedSource, EncryptionFault>> {
        let mut head = vec![0; (ARMOR.len() as u64).min(outside.length()) as usize];
        outside.read_exact_at(&mut head, 0)?;
        if head == ARMOR {
            return Ok(Err(EncryptionFault::Armored));
        }
        if self.0.is_empty() {
            return Ok(Err(EncryptionFault::NoIdentity));
        }
        if !ends_in_time(&*outside)? {
            let why = format!("it does not end within {LONGEST_HEADER} bytes");
            return Ok(Err(EncryptionFault::Header(why)));
        }
        let decryptor = match Decryptor::new_buffered(BufReader::with_capacity(
            HEADER,
            Cursor { outside, at: 0 },
        )) {
            Ok(decryptor) => decryptor,
            Err(error) => return header_fault(error).map(Err),
        };
        let identities = self
            .0
            .iter()
            .map(|identity| &**identity as &dyn age::Identity);
        let mut inside = match decryptor.decrypt(identities) {
            Ok(inside) => inside,
            Err(DecryptError::NoMatchingKeys) => return Ok(Err(EncryptionFault::WrongIdentity)),
            Err(error) => return header_fault(error).map(Err),
        };
        // Authenticates the last chunk as the last one, so that truncation is noticed.
        let length = match inside.seek(SeekFrom::End(0)) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Ok(Err(EncryptionFault::Truncated));
            }
            Err(error) => return Err(error),
        };
        let reading = Reading { inside, at: length };
        Ok(Ok(EncryptedSource {
            length,
            reading: Mutex::new(reading),
        }))
    }
}

/// Whether the header ends within the accepted length.
fn ends_in_time(outside: &dyn Source) -> io::Result<bool> {
    let mut read = Vec::new();
    let most = outside.length().min(LONGEST_HEADER as u64) as usize;
    while read.len() < most {
        // Most headers end within the first read.
        let from = read.len();
        read.resize((from + HEADER).min(most), 0);
        outside.read_exact_at(read.get_mut(from..).unwrap_or_default(), from as u64)?;
        let seen = read.get(from.saturating_sub(LAST_LINE.len())..);
        let mut windows = seen.unwrap_or_default().windows(LAST_LINE.len());
        if windows.any(|window| window == LAST_LINE) {
            return Ok(true);
        }
    }
    // A shorter file is truncated, and the crate reports how.
    Ok(most < LONGEST_HEADER)
}

/// The error for a wrong recipient.
fn wrong(text: &str) -> KeyError {
    if text.to_ascii_uppercase().contains("SECRET") {
        return KeyError::PrivateKey;
    }
    KeyError::Recipient(text.to_owned())
}

/// The fault of an unreadable header; an I/O error of the source is passed on.
fn header_fault(error: DecryptError) -> io::Result<EncryptionFault> {
    match error {
        DecryptError::Io(error)
            if error.kind() != io::ErrorKind::UnexpectedEof
                && error.kind() != io::ErrorKind::InvalidData =>
        {
            Err(error)
        }
        error => Ok(EncryptionFault::Header(error.to_string())),
    }
}

/// The plaintext of an encrypted file.
pub struct EncryptedSource {
    length: u64,
    reading: Mutex<Reading>,
}

struct Reading {
    inside: StreamReader<BufReader<Cursor>>,
    /// The position of the reader: a seek to the same position would decrypt a chunk twice.
    at: u64,
}

impl fmt::Debug for EncryptedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedSource({})", self.length)
    }
}

impl Source for EncryptedSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let reading = self.reading.lock();
        let mut reading = reading.unwrap_or_else(PoisonError::into_inner);
        if reading.at != offset {
            reading.inside.seek(SeekFrom::Start(offset))?;
        }
        // Until all is read the position is not valid.
        reading.at = u64::MAX;
        reading.inside.read_exact(buffer)?;
        reading.at = offset + buffer.len() as u64;
        Ok(())
    }
}

/// Reads a source as a stream.
struct Cursor {
    outside: Arc<dyn Source>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.outside.length().saturating_sub(self.at);
        let length = (buffer.len() as u64).min(left) as usize;
        let Some(wanted) = buffer.get_mut(..length) else {
            return Ok(0);
        };
        // Small reads, of the header, do not mean that more will be read.
        if length > HEADER {
            self.outside.read_ahead(self.at);
        }
        self.outside.read_exact_at(wanted, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.outside.length().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
