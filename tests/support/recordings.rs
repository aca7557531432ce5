//! Unpacks the recordings of real etcd servers, and compares and copies directory trees.
//!
//! In: the name of a recording in `testdata/`, or a path. Out: a temporary directory that is removed with its
//! [`Recording`], or the facts of a tree, to compare with later ones.

use std::collections::BTreeMap;
use std::fs::{FileTimes, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// One unpacked recording; its files are removed when it is dropped.
#[derive(Debug)]
pub struct Recording {
    pub dir: TempDir,
}

impl Recording {
    /// The path of `rel` within the recording, whether it exists or not.
    pub fn path(&self, rel: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(rel)
    }

    /// The recorded answer in the file `rel`, such as `ops-2.1.keys.json`.
    pub fn json(&self, rel: impl AsRef<Path>) -> serde_json::Value {
        let path = self.path(rel);
        let text = fs::read(&path).unwrap();
        serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{} is not JSON: {error}", path.display()))
    }

    /// The recorded answer in the file `rel` as it is: what 2.0 says of its version is not JSON.
    pub fn text(&self, rel: impl AsRef<Path>) -> String {
        fs::read_to_string(self.path(rel)).unwrap()
    }

    /// The data directory `rel`, with or without its `.etcd`: `3-after-upgrade-infra0`, `mem-a.etcd`.
    pub fn data_dir(&self, rel: &str) -> PathBuf {
        let path = self.path(format!("{}.etcd", rel.trim_end_matches(".etcd")));
        assert!(
            path.is_dir(),
            "the recording has no directory {}",
            path.display()
        );
        path
    }
}

/// Unpacks `testdata/NAME.tar.zst` into a fresh temporary directory, with the modes and times etcd left.
pub fn unpack(name: &str) -> Recording {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(format!("{name}.tar.zst"));
    let dir = TempDir::with_prefix(format!("recording-{name}-")).unwrap();
    let unzstd = zstd::stream::read::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
    let mut tar = tar::Archive::new(unzstd);
    tar.set_preserve_permissions(true);
    tar.set_preserve_mtime(true);
    // The account that runs the tests owns the files: another owner would need root, and would make them unreadable.
    tar.set_preserve_ownerships(false);
    tar.unpack(dir.path()).unwrap();
    Recording { dir }
}

/// A data directory that was recorded, with what its server answered before it stopped.
#[derive(Clone, Copy)]
pub struct Server {
    /// The archive in `testdata/`.
    pub recording: &'static str,
    /// The data directory in it.
    pub dir: &'static str,
    /// What the names of the answers begin with.
    pub answers: &'static str,
}

impl Server {
    /// The only one of its recording, which has its name.
    pub const fn alone(name: &'static str) -> Self {
        Self {
            recording: name,
            dir: name,
            answers: name,
        }
    }

    const fn upgraded(dir: &'static str, answers: &'static str) -> Self {
        Self {
            recording: "upgrade-story",
            dir,
            answers,
        }
    }
}

/// Recordings of one server each.
pub const SINGLE: [Server; 10] = [
    Server::alone("auth"),
    Server::alone("gap-follower"),
    Server::alone("mem-a"),
    Server::alone("mem-d"),
    Server::alone("multisegment"),
    Server::alone("ops-2.1"),
    Server::alone("ops-2.2"),
    Server::alone("v20"),
    Server::alone("v23"),
    Server::alone("waldir"),
];

/// The directories of the upgrade.
pub const UPGRADE: [Server; 6] = [
    Server::upgraded("2-backup-infra0", "2-backup-infra0"),
    Server::upgraded("2-backup-infra1", "2-backup-infra1"),
    Server::upgraded("2-backup-infra2", "2-backup-infra2"),
    Server::upgraded("3-after-upgrade-infra0", "3-after-upgrade.infra0"),
    Server::upgraded("3-after-upgrade-infra1", "3-after-upgrade.infra1"),
    Server::upgraded("3-after-upgrade-infra2", "3-after-upgrade.infra2"),
];

/// Where the parts of one recorded member are.
pub struct Source {
    pub data: PathBuf,
    wal: Option<PathBuf>,
}

impl Source {
    pub fn of(recording: &Recording, dir: &str) -> Self {
        let wal = recording.path(format!("{dir}.wal"));
        Self {
            data: recording.data_dir(dir),
            wal: wal.is_dir().then_some(wal),
        }
    }

    pub fn snap_dir(&self) -> PathBuf {
        self.data.join("member/snap")
    }

    pub fn wal_dir(&self) -> PathBuf {
        let own = self.data.join("member/wal");
        self.wal.clone().unwrap_or(own)
    }

    /// The flags that name the dedicated WAL directory, if there is one.
    pub fn wal_flags(&self) -> Vec<&str> {
        self.wal
            .iter()
            .flat_map(|wal| ["--wal-dir", wal.to_str().unwrap()])
            .collect()
    }

    pub fn trees(&self) -> Vec<BTreeMap<PathBuf, Stat>> {
        let dirs = [Some(&self.data), self.wal.as_ref()];
        dirs.into_iter().flatten().map(|dir| tree(dir)).collect()
    }
}

/// What a test can tell about one entry of a tree without having written it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stat {
    /// File type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Bytes in a file; 0 for a directory, since its size depends on the file system.
    pub len: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i128,
    pub inode: u64,
    /// Hex digest of a file's bytes or of a symbolic link's target; empty for anything else.
    pub sha256: String,
}

impl Stat {
    /// The permission bits alone.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Whether both have the same type, mode, length and bytes, at whatever time and inode: the question asked of a copy.
    pub fn same_content(&self, other: &Self) -> bool {
        (self.mode, self.len, &self.sha256) == (other.mode, other.len, &other.sha256)
    }
}

/// Everything below `root` and `root` itself (as the empty path), by path relative to it. Symbolic links are not followed.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Stat> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(rel) = pending.pop() {
        let path = root.join(&rel);
        let stat = stat(&path);
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(&path).unwrap() {
                pending.push(rel.join(entry.unwrap().file_name()));
            }
        }
        found.insert(rel, stat);
    }
    found
}

pub fn stat(path: &Path) -> Stat {
    let meta = fs::symlink_metadata(path).unwrap();
    Stat {
        mode: meta.mode(),
        len: if meta.is_dir() { 0 } else { meta.len() },
        mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        inode: meta.ino(),
        sha256: digest(path, &meta),
    }
}

fn digest(path: &Path, meta: &std::fs::Metadata) -> String {
    let mut hasher = Sha256::new();
    if meta.is_symlink() {
        hasher.update(fs::read_link(path).unwrap().as_os_str().as_encoded_bytes());
    } else if meta.is_file() {
        // In pieces: the largest recorded snapshot is 100 MB.
        let mut file = fs::File::open(path).unwrap();
        let mut piece = vec![0; 1 << 16];
        loop {
            match file.read(&mut piece).unwrap() {
                0 => break,
                read => hasher.update(&piece[..read]),
            }
        }
    } else {
        return String::new();
    }
    super::archive_builder::hex(&hasher.finalize())
}

/// Copies the directory `from` to `to`, which must not exist yet, with the modes and modification times of every entry.
pub fn copy_dir(from: &Path, to: &Path) {
    assert!(!to.exists(), "{} exists already", to.display());
    fs::create_dir_all(to).unwrap();
    let whole = fs_extra::dir::CopyOptions::new().content_only(true);
    fs_extra::dir::copy(from, to, &whole).unwrap();
    let mut entries: Vec<PathBuf> = tree(from).into_keys().collect();
    // Deepest first: whatever is touched inside a directory later would change the directory's own time again.
    entries.sort_by_key(|rel| std::cmp::Reverse(rel.components().count()));
    for rel in entries {
        copy_mode_and_time(&from.join(&rel), &to.join(&rel));
    }
}

/// `fs_extra` makes files again under the umask, so that 0600 becomes 0644; this puts right what it lost.
fn copy_mode_and_time(from: &Path, to: &Path) {
    let meta = fs::symlink_metadata(from).unwrap();
    if meta.is_symlink() {
        return;
    }
    let times = FileTimes::new().set_modified(meta.modified().unwrap());
    // Opened for reading: that is enough for an owner to set times, and a directory cannot be opened otherwise.
    let opened = fs::File::open(to).unwrap();
    opened
        .set_permissions(Permissions::from_mode(meta.mode() & 0o7777))
        .unwrap();
    opened.file().set_times(times).unwrap();
}
