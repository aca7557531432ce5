//! Whom archives are encrypted for, and the keys that open them.
//!
//! In: recipients and identities as the `age` program takes them, X25519 only. Out:
//! [`Recipients`] that encrypt, [`Identities`] that open. What is secret is in no message.

use std::fmt;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::{ExposeSecret as _, SecretString};
use age::{Encryptor, IdentityFile, x25519};

use super::{ARMOR, KeyError, MAGIC, MAX_RECIPIENTS};
use crate::ground::publish::with_path;

/// No file of keys is longer, in bytes.
const LONGEST: u64 = 1 << 20;
/// How every secret key of age begins, in lower case.
const SECRET: &str = "age-secret-key-";
/// Bits of a file's mode that let everybody read it.
const READABLE_BY_ALL: u32 = 0o004;

/// Whom archives are encrypted for: at least one.
#[derive(Clone, Debug)]
pub struct Recipients(Vec<x25519::Recipient>);

/// Keys that open archives: at least one.
#[derive(Clone)]
pub struct Identities {
    keys: Arc<Vec<Box<dyn age::Identity + Send + Sync>>>,
    open_to_all: Vec<PathBuf>,
}

impl Recipients {
    /// Reads recipients, and files of them with one a line, `#` beginning a comment.
    pub fn read(texts: &[String], files: &[PathBuf]) -> Result<Self, KeyError> {
        let mut found = Vec::new();
        for text in texts {
            let origin = || format!("`{}`", shown(text));
            found.push(recipient(text.trim(), origin)?);
        }
        for path in files {
            let before = found.len();
            let text = read_file(path)?;
            for (number, line) in text.expose_secret().lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let origin = || format!("line {} of `{}`", number + 1, path.display());
                found.push(recipient(line, origin)?);
            }
            if found.len() == before {
                let (what, path) = ("recipient", path.clone());
                return Err(KeyError::Nothing { what, path });
            }
        }
        if found.len() > MAX_RECIPIENTS {
            return Err(KeyError::TooManyRecipients(found.len()));
        }
        Ok(Self(found))
    }

    /// Encrypts what `write` writes, to `out`.
    pub fn encrypt(
        &self,
        out: &mut dyn Write,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let recipients = self.0.iter().map(|one| one as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let mut inside = encryptor.wrap_output(out)?;
        write(&mut inside)?;
        inside.finish()?;
        Ok(())
    }
}

impl Identities {
    /// Reads identity files, as `age-keygen` writes them.
    pub fn read(files: &[PathBuf]) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        let mut open_to_all = Vec::new();
        for path in files {
            let before = keys.len();
            let text = read_file(path)?;
            let not_one = |why: String| KeyError::Identity {
                path: path.clone(),
                why,
            };
            if let Some(why) = other_key(text.expose_secret()) {
                return Err(not_one(why.to_owned()));
            }
            let file = IdentityFile::from_buffer(text.expose_secret().as_bytes());
            let file = file.map_err(|error| not_one(error.to_string()))?;
            let found = file.into_identities();
            keys.extend(found.map_err(|error| not_one(error.to_string()))?);
            if keys.len() == before {
                let (what, path) = ("identity", path.clone());
                return Err(KeyError::Nothing { what, path });
            }
            let metadata = std::fs::metadata(path);
            if metadata.is_ok_and(|m| m.is_file() && m.mode() & READABLE_BY_ALL != 0) {
                open_to_all.push(path.clone());
            }
        }
        Ok(Self {
            keys: Arc::new(keys),
            open_to_all,
        })
    }

    /// The files that every user of the machine can read.
    pub fn open_to_all(&self) -> &[PathBuf] {
        &self.open_to_all
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| &**key as &dyn age::Identity)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.keys.len()).finish()
    }
}

fn recipient(
    text: &str,
    origin: impl Fn() -> String,
) -> Result<x25519::Recipient, KeyError> {
    let wrong = |why| KeyError::Recipient {
        origin: origin(),
        why,
    };
    let lower = text.to_ascii_lowercase();
    if lower.starts_with(SECRET) {
        return Err(wrong(
            "it is a secret key; `age-keygen -y` gives the recipient that belongs to it",
        ));
    }
    if lower.starts_with("ssh-") {
        return Err(wrong("SSH keys are not supported, only age's own `age1…`"));
    }
    text.parse()
        .map_err(|_| wrong("a recipient is an X25519 public key of age's, `age1…`"))
}

/// Text from the command line as it may be shown.
fn shown(text: &str) -> String {
    if text.trim().to_ascii_lowercase().starts_with(SECRET) {
        return "AGE-SECRET-KEY-…".to_owned();
    }
    text.chars().take(80).collect()
}

/// What a file is that holds keys, but none of age's that can be read.
fn other_key(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    let begins = |with: &[u8]| text.as_bytes().starts_with(with);
    if begins(MAGIC) || begins(ARMOR) {
        Some("it is protected with a passphrase; `age -d` decrypts it, and `-i <(age -d FILE)` passes it on without writing it to a disk")
    } else if begins(b"-----BEGIN ") || begins(b"ssh-") {
        Some("it is an SSH key or a certificate's; only age's own keys are supported, as `age-keygen` makes them")
    } else if begins(b"age1") {
        Some("it holds a recipient, the public part of a key; the identity is the part that begins with AGE-SECRET-KEY-1")
    } else {
        None
    }
}

/// The text of a file, which may be a pipe.
fn read_file(path: &Path) -> Result<SecretString, KeyError> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| with_path(error, "open", path))?;
    file.take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| with_path(error, "read", path))?;
    let not_one = |why: &str| KeyError::Identity {
        path: path.to_path_buf(),
        why: why.to_owned(),
    };
    if text.len() as u64 > LONGEST {
        return Err(not_one("it is longer than any file of keys"));
    }
    let text = String::from_utf8(text).map_err(|_| not_one("it is not text"))?;
    Ok(SecretString::from(text))
}
