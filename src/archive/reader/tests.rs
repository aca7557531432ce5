use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::*;
use crate::archive::manifest::{DIRECTORIES, DirectoryEntry};
use crate::archive::writer::{NewFile, Writer};
use crate::etcd::ids::ClusterId;

/// A gigabyte of zeros that ends like an archive of `count` frames.
#[derive(Debug)]
struct Hollow {
    footer: [u8; TABLE_FOOTER],
    read: AtomicU64,
}

const GIGABYTE: u64 = 1 << 30;

impl Source for Hollow {
    fn length(&self) -> u64 {
        GIGABYTE
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        buffer.fill(0);
        if offset + buffer.len() as u64 == GIGABYTE {
            let from = buffer.len() - TABLE_FOOTER;
            buffer[from..].copy_from_slice(&self.footer);
        }
        Ok(())
    }
}

#[test]
fn a_damaged_count_of_frames_makes_no_reader_take_the_file_into_memory() {
    // `list` and `status` must not read a gigabyte, or download it, for one flipped bit.
    for bit in 0..32 {
        let mut footer = [0, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f];
        footer[..4].copy_from_slice(&(2_u32 ^ (1 << bit)).to_le_bytes());
        let hollow = Arc::new(Hollow {
            footer,
            read: AtomicU64::new(0),
        });
        let source: Arc<dyn Source> = Arc::clone(&hollow) as _;
        let opened = Archive::from_source(source, Path::new("hollow"));
        assert!(matches!(
            opened,
            Err(ArchiveError::Fault {
                fault: ArchiveFault::Tail(TailFault::Table),
                ..
            })
        ));
        let read = hollow.read.load(Ordering::Relaxed);
        assert!(read <= FIRST_READ + 8, "bit {bit}: {read} bytes were read");
    }
}

#[test]
fn a_damaged_frame_names_the_files_that_have_a_byte_in_it_and_no_neighbour() {
    let file = |name: &str, size: u64| {
        serde_json::json!({
            "path": format!("member/wal/{name}"), "size": size, "mode": 0o600, "uid": 0, "gid": 0,
            "mtime": "2026-01-01T00:00:00Z", "sha256": "00".repeat(32), "role": "leftover",
        })
    };
    // A header and a block; a header alone; a header and two blocks, the second of which is padding but for a byte.
    let files = [file("a", 512), file("b", 0), file("c", 513)]
        .map(|file| serde_json::from_value::<FileEntry>(file).unwrap());
    let archive = Archive {
        path: PathBuf::from("drawn"),
        source: Arc::new(Hollow {
            footer: [0; TABLE_FOOTER],
            read: AtomicU64::new(0),
        }),
        bytes: 0,
        frames: Vec::new(),
        manifest: manifest(&files),
    };
    let begin = 3 * BLOCK;
    let (a, b, c) = (begin, begin + 1024, begin + 1536);
    let end = c + 1536;
    for (from, to, expected) in [
        (0, a, &[][..]),
        (0, a + 1, &["a"]),
        (a, b, &["a"]),
        (b - 1, b, &["a"]),
        (b - 1, b + 1, &["a", "b"]),
        (b, c, &["b"]),
        (c, end, &["c"]),
        (end - 1, end + 1, &["c"]),
        (end, end + 1, &[]),
        (0, end, &["a", "b", "c"]),
    ] {
        let found = archive.files_between(from, to);
        let expected: Vec<_> = expected.iter().map(|n| format!("member/wal/{n}")).collect();
        assert_eq!(found, expected, "{from}..{to}");
    }
}

fn manifest(files: &[FileEntry]) -> Manifest {
    let directory = |path: &str| DirectoryEntry {
        path: path.to_owned(),
        mode: 0o700,
        uid: 0,
        gid: 0,
    };
    Manifest {
        directories: DIRECTORIES.map(directory).into(),
        files: files.to_vec(),
        ..Manifest::sample(ClusterId(1))
    }
}

const TIME: Timestamp = Timestamp::UNIX_EPOCH;

/// Files of several frames: of bytes that do not compress, so that each frame has many.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let mut seed = 1_u64;
    let mut bytes = |count: usize| {
        let next = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        (0..count).map(next).collect::<Vec<_>>()
    };
    [
        ("member/snap/a", 700_000),
        ("member/snap/b", 0),
        ("member/wal/c", 2_500_001),
        ("member/wal/d", 512),
    ]
    .map(|(path, count)| (path, bytes(count)))
    .into()
}

/// An archive of [`contents`], whose manifest is changed before it is written.
fn archive_in(dir: &Path, change: impl FnOnce(&mut Manifest)) -> PathBuf {
    let path = dir.join("archive");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = Writer::new(&file, 1, 2).unwrap();
    for directory in manifest(&[]).directories {
        writer.directory(&directory, TIME).unwrap();
    }
    for (path, bytes) in contents() {
        let new = NewFile {
            path: path.to_owned(),
            size: bytes.len() as u64,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: TIME,
        };
        writer.append(&new, &bytes[..]).unwrap();
    }
    let complete = |files: Vec<FileEntry>| {
        let mut made = manifest(&files);
        change(&mut made);
        made
    };
    writer.finish(TIME, complete).unwrap();
    path
}

/// What was unpacked: of each directory and file its path, and of a file its bytes.
#[derive(Debug, Default, PartialEq)]
struct Gathered {
    directories: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    ended: usize,
}

impl Sink for Gathered {
    type Error = ArchiveError;

    fn directory(&mut self, entry: &DirectoryEntry) -> Result<(), ArchiveError> {
        self.directories.push(entry.path.clone());
        Ok(())
    }

    fn begin(&mut self, entry: &FileEntry) -> Result<(), ArchiveError> {
        self.files.push((entry.path.clone(), Vec::new()));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.files.last_mut().unwrap().1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, _: &FileEntry) -> Result<(), ArchiveError> {
        self.ended += 1;
        Ok(())
    }
}

fn unpacked(archive: &Archive, digests: Digests) -> Result<(Gathered, Digested), ArchiveError> {
    let mut gathered = Gathered::default();
    let digested = archive.unpack(2, digests, &Interrupt::default(), &mut gathered)?;
    Ok((gathered, digested))
}

fn read_file(archive: &Archive, file: &FileEntry) -> Result<Vec<u8>, ArchiveError> {
    let mut read = Vec::new();
    archive.read_file(file, 2, &Interrupt::default(), &mut |bytes| {
        read.extend_from_slice(bytes);
        Ok::<_, ArchiveError>(())
    })?;
    Ok(read)
}

#[test]
fn an_archive_gives_back_what_went_in_whole_and_file_by_file() {
    let temp = tempfile::tempdir().unwrap();
    let path = archive_in(temp.path(), |_| ());
    let archive = Archive::open(&path).unwrap();
    assert!(archive.frames().len() > 4, "{}", archive.frames().len());
    let bytes = std::fs::read(&path).unwrap();
    let contents = contents();
    assert_eq!(archive.bytes(), bytes.len() as u64);
    assert_eq!(archive.plain_bytes(), 700_000 + 2_500_001 + 512);
    for (digests, whole) in [
        (Digests::AllAndWhole, Some(Digest::of(&bytes))),
        (Digests::All, None),
        (Digests::Unchecked, None),
    ] {
        let (gathered, digested) = unpacked(&archive, digests).unwrap();
        assert_eq!(gathered.directories, DIRECTORIES);
        assert_eq!(gathered.ended, contents.len());
        let expected = contents
            .iter()
            .map(|(path, bytes)| (path.to_string(), bytes.clone()));
        assert!(gathered.files.into_iter().eq(expected), "{digests:?}");
        assert_eq!((digested.mismatches, digested.whole), (Vec::new(), whole));
    }
    archive.check_frames(&Interrupt::default()).unwrap();
    assert_eq!(archive.damaged_frames().unwrap(), []);
    for (file, (_, bytes)) in archive.manifest().files.iter().zip(&contents) {
        assert!(
            read_file(&archive, file).unwrap() == *bytes,
            "{}",
            file.path
        );
    }
    // What asked to stop stops it.
    let interrupt = Interrupt::default();
    interrupt.flag().store(15, Ordering::Relaxed);
    let stopped = |outcome| matches!(outcome, Err(ArchiveError::Interrupted(_)));
    assert!(stopped(archive.check_frames(&interrupt)));
    let unpacked = archive.unpack(1, Digests::All, &interrupt, &mut Gathered::default());
    assert!(stopped(unpacked.map(|_| ())));
    let file = archive.manifest().files.first().unwrap();
    assert!(stopped(archive.read_file(
        file,
        1,
        &interrupt,
        &mut |_| Ok(())
    )));
}

#[test]
fn a_flipped_bit_in_any_frame_is_found_there_by_every_reader() {
    let temp = tempfile::tempdir().unwrap();
    let path = archive_in(temp.path(), |_| ());
    let frames = Archive::open(&path).unwrap().frames().to_vec();
    let whole = std::fs::read(&path).unwrap();
    let mut named = Vec::new();
    let (last, content) = frames.split_last().unwrap();
    for (number, frame) in content.iter().enumerate() {
        let mut bytes = whole.clone();
        bytes[frame.offset as usize + frame.compressed as usize / 2] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let archive = Archive::open(&path).unwrap();
        let offset = frame.offset;
        let fault = ArchiveFault::FrameDigest {
            frame: number,
            offset,
        };
        let Err(ArchiveError::Fault { fault: found, .. }) =
            archive.check_frames(&Interrupt::default())
        else {
            panic!("frame {number} passed");
        };
        assert_eq!(found, fault);
        let damaged = archive.damaged_frames().unwrap();
        assert_eq!((damaged.len(), &damaged[0].0), (1, &fault));
        let files = damaged[0].1.clone();
        let found = unpacked(&archive, Digests::All).unwrap_err();
        assert!(matches!(found, ArchiveError::Fault { fault: found, .. } if found == fault));
        for file in archive
            .manifest()
            .files
            .iter()
            .filter(|file| file.size > 1000)
        {
            let read = read_file(&archive, file);
            assert_eq!(
                read.is_err(),
                files.contains(&file.path),
                "frame {number}: {}",
                file.path
            );
        }
        named.extend(files);
    }
    named.dedup();
    assert_eq!(
        named,
        [
            "member/snap/a",
            "member/snap/b",
            "member/wal/c",
            "member/wal/d"
        ]
    );
    let mut bytes = whole;
    bytes[last.offset as usize + last.compressed as usize / 2] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    Archive::open(&path).unwrap_err();
}
