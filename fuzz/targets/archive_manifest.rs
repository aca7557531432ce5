//! Bytes as the end of an archive: its manifest, the tar entry around it, its seal and seek table.
#![no_main]

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use etcd_ark::archive::format::{
    Frame, MAX_FRAME, TABLE_FOOTER, claimed_tail, read_tail, write_tail,
};
use etcd_ark::archive::manifest::DirectoryEntry;
use etcd_ark::archive::{
    Archive, ArchiveError, ArchiveFault, Digests, FileEntry, Manifest, NewFile, Sink, Writer,
};
use etcd_ark::etcd::digest::Digest;
use etcd_ark::interrupt::Interrupt;
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

/// The most content that is written to try a manifest, in bytes.
const MOST: u64 = 64 << 10;

/// The one archive of this process, written again for each input.
static FILE: LazyLock<NamedTempFile> =
    LazyLock::new(|| NamedTempFile::new_in("/dev/shm").expect("room in memory"));

// input = a JSON object, or form 1, body
fuzz_target!(|input: &[u8]| match input {
    [b'{', ..] => manifest(input),
    [form, body @ ..] if form % 2 == 0 => tar_entry(body),
    [_, body @ ..] => tail(body),
    [] => {}
});

/// A manifest that is taken names only what a member has, and is the same behind an archive.
fn manifest(json: &[u8]) {
    let Ok(manifest) = Manifest::read(json) else {
        return;
    };
    let written = manifest.write().expect("JSON again");
    assert_eq!(Manifest::read(&written).as_ref(), Ok(&manifest));
    for file in &manifest.files {
        let parts: Vec<_> = file.path.split('/').collect();
        assert!(matches!(parts[..], ["member", "snap" | "wal", name] if !name.starts_with('.')));
        assert!(
            !file
                .path
                .contains(|c: char| c.is_control() || c.is_whitespace())
        );
        assert_eq!(file.mode & !0o777, 0);
    }
    assert!(
        manifest
            .directories
            .iter()
            .all(|entry| entry.mode & !0o7777 == 0)
    );
    let bytes = (manifest.files.iter()).fold(0_u64, |sum, file| sum.saturating_add(file.size));
    if bytes <= MOST {
        let archive = archive(&manifest).expect("an archive in memory");
        assert_eq!(archive.manifest(), &manifest);
        match archive.unpack(1, Digests::All, &Interrupt::default(), &mut Passing) {
            Ok(_) => {}
            Err(ArchiveError::Fault { fault, .. }) => assert_eq!(fault, ArchiveFault::Sums),
            Err(other) => panic!("{other}"),
        }
    }
}

/// An archive of zeros as `manifest` lists them, digests apart.
fn archive(manifest: &Manifest) -> Result<Archive, Box<dyn std::error::Error>> {
    let mut writer = Writer::new(FILE.as_file(), 1, 1)?;
    for entry in &manifest.directories {
        writer.directory(entry, manifest.created)?;
    }
    for file in manifest.files.clone() {
        let new = NewFile {
            path: file.path,
            size: file.size,
            mode: file.mode,
            uid: file.uid,
            gid: file.gid,
            mtime: file.mtime,
        };
        writer.append(&new, io::repeat(0))?;
    }
    writer.finish(manifest.created, |_| manifest.clone())?;
    Ok(Archive::open(FILE.path())?)
}

struct Passing;

impl Sink for Passing {
    type Error = ArchiveError;

    fn directory(&mut self, _: &DirectoryEntry) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn begin(&mut self, _: &FileEntry) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn data(&mut self, _: &[u8]) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn end(&mut self, _: &FileEntry) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// The last frame's tar stream, its first header's checksum mended.
fn tar_entry(plain: &[u8]) {
    let mut plain = plain.to_vec();
    if let Some(head) = plain.first_chunk_mut::<512>() {
        let header = tar::Header::from_byte_slice(head);
        let mut header = header.clone();
        header.set_cksum();
        *head = *header.as_bytes();
    }
    let packed = zstd::bulk::compress(&plain, 1).expect("room");
    let frame = Frame {
        offset: 0,
        compressed: packed.len() as u32,
        plain: plain.len() as u32,
        digest: Digest::of(&packed),
    };
    let _ = open(&[&packed[..], &write_tail(&[frame])]);
}

fn open(parts: &[&[u8]]) -> Result<Archive, ArchiveError> {
    let bytes = parts.concat();
    FILE.as_file().set_len(0)?;
    FILE.as_file().write_all_at(&bytes, 0)?;
    Archive::open(FILE.path())
}

/// A tail of the frames that `listed` holds, with one byte changed; then with the digest mended.
///
/// ```text
/// listed = where to change 2, change 1, (compressed size 4, plain size 4)*
/// ```
fn tail(listed: &[u8]) {
    let Some((&[low, high, change], sizes)) = listed.split_first_chunk() else {
        return;
    };
    let mut offset = 0;
    let frames: Vec<_> = (sizes.as_chunks::<4>().0.as_chunks::<2>().0.iter())
        .map(|&[compressed, plain]| {
            let compressed = u32::from_le_bytes(compressed);
            let frame = Frame {
                offset,
                compressed,
                plain: u32::from_le_bytes(plain),
                digest: Digest::of(&[]),
            };
            offset += u64::from(compressed);
            frame
        })
        .collect();
    let mut tail = write_tail(&frames);
    let file_length = offset + tail.len() as u64;
    let told = read_tail(&tail, file_length);
    let believable = |frame: &Frame| {
        let most = zstd::zstd_safe::compress_bound(frame.plain as usize);
        frame.plain <= MAX_FRAME && frame.compressed as usize <= most
    };
    assert_eq!(told.is_ok(), frames.iter().all(believable));
    assert!(told.is_err() || told.as_ref() == Ok(&frames));
    let place = usize::from(u16::from_le_bytes([low, high])) % tail.len();
    tail[place] ^= change;
    let footer = *tail.last_chunk::<TABLE_FOOTER>().expect("a footer");
    let _ = open(&[&tail]);
    let claimed = claimed_tail(footer, file_length).map(|claim| claim.length);
    if claimed != Ok(tail.len() as u64) {
        return;
    }
    assert!(change == 0 || read_tail(&tail, file_length).is_err());
    let seal = 20 + frames.len() * 32;
    let digest = Digest::of(&[&tail[..seal], &tail[seal + 32..]].concat());
    tail[seal..seal + 32].copy_from_slice(&digest.0);
    if let Ok(found) = read_tail(&tail, file_length) {
        let mut end = 0;
        for frame in &found {
            assert_eq!(frame.offset, end);
            assert!(believable(frame));
            end += u64::from(frame.compressed);
        }
        assert_eq!(end + tail.len() as u64, file_length);
    }
    let _ = open(&[&tail]);
}
