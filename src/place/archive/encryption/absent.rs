//! What a build without encryption has in its place: types of which there is no value.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::KeyError;
use crate::place::archive::Source;

/// Whom archives are encrypted for.
#[derive(Clone, Debug)]
pub enum Recipients {}

/// Keys that open archives.
#[derive(Clone, Debug)]
pub enum Identities {}

/// The inside of an encrypted archive.
#[derive(Debug)]
pub enum EncryptedSource {}

impl Recipients {
    /// Says that there is no encryption.
    pub fn read(_texts: &[String], _files: &[PathBuf]) -> Result<Self, KeyError> {
        Err(KeyError::NotBuilt)
    }

    /// Nobody can ask for it.
    pub fn encrypt(
        &self,
        _out: &mut dyn Write,
        _write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        match *self {}
    }
}

impl Identities {
    /// Says that there is no encryption.
    pub fn read(_files: &[PathBuf]) -> Result<Self, KeyError> {
        Err(KeyError::NotBuilt)
    }

    /// Nobody can ask for it.
    pub fn open_to_all(&self) -> &[PathBuf] {
        match *self {}
    }
}

impl EncryptedSource {
    /// Nobody can ask for it.
    pub fn open(_inner: Arc<dyn Source>, identities: &Identities) -> io::Result<Self> {
        match *identities {}
    }
}

impl Source for EncryptedSource {
    fn length(&self) -> u64 {
        match *self {}
    }

    fn read_exact_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<()> {
        match *self {}
    }
}
