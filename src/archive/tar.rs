//! Compares the tar stream's entries with the manifest: the same ones, and no others.

use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::archive::error::ArchiveFault;
use crate::archive::manifest::{FileEntry, MANIFEST, Manifest, SUMS, check_path, sums_line_length};

/// Bytes of a tar block.
pub(super) const BLOCK: u64 = 512;

/// Reads the next entry's header; `None` at the end of the stream.
pub(super) fn read_header(stream: &mut impl Read) -> io::Result<Option<Header>> {
    let mut header = Header::new_ustar();
    stream.read_exact(header.as_mut_bytes())?;
    let bytes = header.as_bytes();
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    // The checksum is taken with spaces in the checksum field.
    let with_spaces = (0..).zip(bytes).map(|(at, &byte)| match at {
        148..156 => u32::from(b' '),
        _ => u32::from(byte),
    });
    if header.cksum()? == with_spaces.sum::<u32>() {
        return Ok(Some(header));
    }
    Err(io::Error::other("archive header checksum mismatch"))
}

/// Skips the padding of an entry of `size` bytes, of which `left` are still unread.
pub(super) fn leave_entry(stream: &mut impl Read, size: u64, left: u64) -> io::Result<()> {
    let filling = tar_entry_length(size).saturating_sub(BLOCK.saturating_add(size));
    let behind = left.saturating_add(filling);
    if io::copy(&mut stream.take(behind), &mut io::sink())? == behind {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Compares an entry's path and kind with the expected ones.
pub(super) fn check_entry(header: &Header, listed: &str) -> Result<(), ArchiveFault> {
    let found = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    let kind = match header.entry_type() {
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
    let is_directory = header.entry_type() == EntryType::Directory;
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

/// Compares an entry's header with the manifest: size, mode, owner.
pub(super) fn check_header(
    header: &Header,
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

/// Compares a file's time with the manifest. A tar header has whole seconds, and none before
/// 1970.
pub(super) fn check_time(header: &Header, file: &FileEntry) -> Result<(), ArchiveFault> {
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
pub(super) fn read_manifest_frame(plain: &[u8]) -> Result<Manifest, ArchiveFault> {
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
pub(super) fn tar_length(manifest: &Manifest) -> u64 {
    let files = manifest.files.iter().map(|file| file.size);
    let sums = manifest.files.iter().map(sums_line_length).sum();
    let directories = manifest.directories.len() as u64 * BLOCK;
    files.chain([sums]).fold(directories, |sum, size| {
        sum.saturating_add(tar_entry_length(size))
    })
}

/// Bytes that a file of `size` bytes takes in the tar stream.
pub(super) fn tar_entry_length(size: u64) -> u64 {
    BLOCK.saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX))
}
