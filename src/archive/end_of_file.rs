//! The end of a file, with an archive's seal and manifest: read in one piece, and again only if that is too short.

use std::io;

use crate::archive::read_at::Source;

/// The end of a file, as far as it has been read.
pub(super) struct End {
    bytes: Vec<u8>,
    file_length: u64,
}

impl End {
    pub(super) fn read(source: &dyn Source, file_length: u64, wanted: u64) -> io::Result<Self> {
        let mut bytes = vec![0; wanted.min(file_length) as usize];
        let from = file_length - bytes.len() as u64;
        source.read_exact_at(&mut bytes, from)?;
        Ok(Self { bytes, file_length })
    }

    /// Reads at least the last `wanted` bytes.
    pub(super) fn reach(&mut self, source: &dyn Source, wanted: u64) -> io::Result<()> {
        if wanted > self.bytes.len() as u64 {
            *self = Self::read(source, self.file_length, wanted)?;
        }
        Ok(())
    }

    /// The first bytes of the last `length`, without reading more than these.
    pub(super) fn first_of_last<const N: usize>(
        &self,
        source: &dyn Source,
        length: u64,
    ) -> io::Result<[u8; N]> {
        let mut found = [0; N];
        match self.last(length).first_chunk() {
            Some(first) if length <= self.bytes.len() as u64 => found = *first,
            _ => source.read_exact_at(&mut found, self.file_length - length)?,
        }
        Ok(found)
    }

    pub(super) fn last(&self, wanted: u64) -> &[u8] {
        let from = self.bytes.len().saturating_sub(wanted as usize);
        self.bytes.get(from..).unwrap_or_default()
    }

    pub(super) fn last_chunk<const N: usize>(&self) -> Option<&[u8; N]> {
        self.bytes.last_chunk()
    }
}
