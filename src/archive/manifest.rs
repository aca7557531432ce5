//! The archive's manifest: `manifest.json`.
//!
//! In and out: JSON. A reader trusts nothing in it: [`Manifest::read`] accepts only the
//! paths, kinds and sizes that this crate writes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::warning::Warnings;
use crate::etcd::digest::Digest;
use crate::etcd::ids::{ClusterId, Identity, Index};
use crate::etcd::member::{MemberFacts, Position};
use crate::etcd::membership::Member;
use crate::etcd::scan::FileKind;
use crate::etcd::text::printable;
use crate::fs::owner::Owner;

pub const MANIFEST: &str = "manifest.json";
pub const SUMS: &str = "SHA256SUMS";
/// The directories of every archive, in the order they are written.
pub const DIRECTORIES: [&str; 3] = ["member/", "member/snap/", "member/wal/"];
/// The permission bits that a file may have: neither setuid nor setgid.
pub const FILE_MODE: u32 = 0o777;
pub const DIRECTORY_MODE: u32 = 0o7777;
/// The longest file name accepted below `member/snap` and `member/wal`: what fits into a tar header's
/// name field.
const MAX_NAME: usize = 80;

/// The version of the archive's format. A higher minor only adds fields; a higher major is incompatible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Readers of a lower major cannot read it.
    pub major: u32,
    /// Readers of a lower minor can.
    pub minor: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Live,
    All,
    /// Every readable file of a damaged data dir.
    Damaged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The raft snapshot that a start loads.
    RaftSnapshot,
    /// A segment that a start reads.
    Wal,
    /// 3.x: the backend of the v3 store.
    V3Backend,
    /// A raft snapshot that a start could fall back to.
    OlderRaftSnapshot,
    /// A segment from before the raft snapshot.
    OlderWal,
    /// A file that etcd would not load.
    Leftover,
    /// A file of a damaged data dir, valid or not.
    Damaged,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// `member/snap/…` or `member/wal/…`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub sha256: Digest,
    pub role: Role,
}

impl FileEntry {
    pub fn owner(&self) -> Owner {
        let (uid, gid) = (self.uid, self.gid);
        Owner { uid, gid }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// One of [`DIRECTORIES`].
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl DirectoryEntry {
    pub fn owner(&self) -> Owner {
        let (uid, gid) = (self.uid, self.gid);
        Owner { uid, gid }
    }
}

/// The member's data sizes, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The raft snapshot and the log's entries above it: what the 100 MB rule measures.
    pub data: u64,
    pub limit: u64,
    pub directory: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: Format,
    pub tool: Tool,
    pub created: Timestamp,
    pub scope: Scope,
    pub labels: Vec<String>,
    pub member: MemberFacts,
    pub sizes: Sizes,
    /// The directories, in archive order.
    pub directories: Vec<DirectoryEntry>,
    /// The files, in archive order.
    pub files: Vec<FileEntry>,
    #[serde(flatten)]
    pub warnings: Warnings,
    pub notes: Vec<String>,
    /// Why a server of the data's own release does not start from them, if it does not, or from the data
    /// dir of which this lacks entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub does_not_start: Option<String>,
    /// The inputs of a rewind; `None` for a captured member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind: Option<Rewind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Files that are corrupt, or could not be opened.
    pub files: Vec<DamagedFile>,
    pub unreadable: Vec<Unreadable>,
    /// Why etcd could not start from the files together, if known.
    pub start: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// Its path in the archive; if it is not in the archive, its path on disk.
    pub path: String,
    pub fault: String,
}

/// A range of a file that could not be read: zeros in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    pub path: String,
    /// Bytes from the start of the file.
    pub offset: u64,
    pub bytes: u64,
    pub why: String,
}

impl Damage {
    pub fn is_none(&self) -> bool {
        self.files.is_empty() && self.unreadable.is_empty() && self.start.is_none()
    }

    /// Everything that is wrong, one item in a line.
    pub fn lines(&self) -> Vec<String> {
        let unreadable = self.unreadable.iter().map(|lost| {
            let Unreadable { path, offset, bytes, why } = lost;
            format!("{path}: {bytes} bytes from offset {offset} on cannot be read and are zeros in the archive: {why}")
        });
        let files = self.files.iter();
        let files = files.map(|file| format!("{}: {}", file.path, file.fault));
        let start = self.start.iter();
        let start = start.map(|why| format!("etcd could not start from it: {why}"));
        unreadable.chain(files).chain(start).collect()
    }
}

/// What a rewound archive was made from, and where it was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// The cluster that it replaces; none of its members may run when the archive is restored.
    pub old_cluster_id: ClusterId,
    /// That cluster's members, as far as the inputs have them.
    pub old_members: Vec<Member>,
    pub rewound_to: Index,
    pub derived_from: Vec<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub name: String,
    pub identity: Identity,
    pub position: Position,
    /// What was taken from it, such as `raft snapshot`, `log`; empty if it was only compared.
    pub used_for: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    #[error("its manifest cannot be read: {0}")]
    Json(String),
    #[error("it has format {}.{} and was written by {writer}; that release and later ones read it", .format.major, .format.minor)]
    LaterFormat {
        format: Format,
        /// The program that wrote it, as far as that can be read.
        writer: String,
    },
    #[error("its manifest names `{path}`: {why}")]
    Path {
        /// The path, shortened if long.
        path: String,
        why: &'static str,
    },
    #[error("its manifest contradicts itself about whether its data are damaged")]
    Damage,
    #[error("its manifest does not list the directories of a member")]
    Directories,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: Format,
    tool: Option<serde_json::Value>,
}

impl Tool {
    pub fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Format {
    /// The format that this release writes.
    pub const CURRENT: Self = Self { major: 1, minor: 0 };
    /// The format of an archive of a damaged data dir, and the highest major version that is read: a
    /// release that does not know about damage must not take it for a valid one.
    pub const DAMAGED: Self = Self { major: 2, minor: 0 };
}

impl Manifest {
    pub fn read(json: &[u8]) -> Result<Self, ManifestFault> {
        let unreadable = |error: serde_json::Error| ManifestFault::Json(error.to_string());
        let read: Result<Self, _> = serde_json::from_slice(json);
        let is_later = |format: Format| format.major > Format::DAMAGED.major;
        // A manifest that cannot be parsed may be of a later release.
        if read
            .as_ref()
            .map_or(true, |manifest| is_later(manifest.format))
        {
            let OnlyFormat { format, tool } = serde_json::from_slice(json).map_err(unreadable)?;
            if is_later(format) {
                let tool: Option<Tool> = tool.and_then(|tool| serde_json::from_value(tool).ok());
                let writer = tool.map_or_else(
                    || "a later release of etcd-ark".to_owned(),
                    |tool| printable(&format!("{} {}", tool.name, tool.version)),
                );
                return Err(ManifestFault::LaterFormat { format, writer });
            }
        }
        let mut manifest = read.map_err(unreadable)?;
        // Control characters of the file's author must not reach a terminal.
        let tool = [&mut manifest.tool.name, &mut manifest.tool.version];
        let warnings = manifest.warnings.0.iter_mut();
        let texts = warnings.map(|warning| &mut warning.text);
        let texts = texts.chain(&mut manifest.notes).chain(&mut manifest.labels);
        for text in texts.chain(tool) {
            *text = printable(text);
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether the data are of 3.x, with the backend of the v3 store.
    pub fn has_backend(&self) -> bool {
        self.files.iter().any(|file| file.role == Role::V3Backend)
    }

    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Where a file is restored to: see [`leftover_path`].
    pub(crate) fn restored_path(&self, file: &FileEntry) -> String {
        if file.role != Role::Leftover {
            return file.path.clone();
        }
        let live = |role| self.files.iter().find(|file| file.role == role);
        let live = |role| live(role).map(FileEntry::kind);
        leftover_path(&file.path, live(Role::RaftSnapshot), live(Role::Wal))
    }

    fn check(&self) -> Result<(), ManifestFault> {
        let is_damaged = self.damage.is_some();
        let files = self.files.iter();
        let mut files = files.map(|file| file.role == Role::Damaged);
        if (self.scope == Scope::Damaged) != is_damaged || files.any(|file| file != is_damaged) {
            return Err(ManifestFault::Damage);
        }
        let directories = self.directories.iter().map(|entry| entry.path.as_str());
        if !directories.eq(DIRECTORIES) {
            return Err(ManifestFault::Directories);
        }
        let odd = |entry: &&DirectoryEntry| entry.mode & !DIRECTORY_MODE != 0;
        if let Some(entry) = self.directories.iter().find(odd) {
            let path = entry.path.clone();
            let why = "a mode that no directory has";
            return Err(ManifestFault::Path { path, why });
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            let refuse = |why| ManifestFault::Path {
                path: file.path.chars().take(200).collect(),
                why,
            };
            check_path(&file.path).map_err(refuse)?;
            if file.mode & !FILE_MODE != 0 {
                return Err(refuse("a mode that no file of an etcd member has"));
            }
            if !role_fits(file) {
                return Err(refuse("its role and its name do not fit together"));
            }
            if !seen.insert(&file.path) {
                return Err(refuse("it is listed twice"));
            }
        }
        Ok(())
    }
}

impl FileEntry {
    /// Its kind for a rescue: files of a damaged data dir have the kind that their names give.
    pub(crate) fn kind_in_rescue(&self) -> FileKind {
        match self.role {
            Role::Damaged => kind_of(&self.path),
            _ => self.kind(),
        }
    }

    /// Its kind, which decides how its bytes are checked.
    pub fn kind(&self) -> FileKind {
        if matches!(self.role, Role::Leftover | Role::Damaged) {
            FileKind::Other
        } else {
            kind_of(&self.path)
        }
    }
}

pub fn kind_of(path: &str) -> FileKind {
    FileKind::of(path)
}

fn role_fits(file: &FileEntry) -> bool {
    match file.role {
        Role::RaftSnapshot | Role::OlderRaftSnapshot => {
            matches!(kind_of(&file.path), FileKind::Snapshot(_))
        }
        Role::Wal | Role::OlderWal => matches!(kind_of(&file.path), FileKind::Segment(_)),
        Role::V3Backend => file.path == "member/snap/db",
        Role::Leftover | Role::Damaged => true,
    }
}

/// The text of `SHA256SUMS` for `files`, as `sha256sum` writes it.
pub fn sums(files: &[FileEntry]) -> String {
    let mut sums = String::new();
    for file in files {
        // Writing to a String cannot fail.
        let _ = writeln!(sums, "{}  {}", file.sha256, file.path);
    }
    sums
}

/// Bytes of a file's line in it.
pub(super) fn sums_line_length(file: &FileEntry) -> u64 {
    (64 + "  \n".len() + file.path.len()) as u64
}

/// The path of a leftover, changed if etcd would load it: a raft snapshot that is not older than the live one, or a
/// segment that is not older than the first live one.
pub(crate) fn leftover_path(
    path: &str,
    live_snapshot: Option<FileKind>,
    first_live: Option<FileKind>,
) -> String {
    let extension = Path::new(path).extension();
    let is_before = match (kind_of(path), live_snapshot, first_live) {
        (FileKind::Snapshot(id), Some(FileKind::Snapshot(live)), _) => id < live,
        (FileKind::Segment(name), _, Some(FileKind::Segment(live))) => name < live,
        (FileKind::Other, ..) => extension.is_none_or(|found| found != "snap" && found != "wal"),
        _ => false,
    };
    let suffix = if is_before { "" } else { ".leftover" };
    format!("{path}{suffix}")
}

/// Checks that an archive may hold this path; the error says why not.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.starts_with('/') {
        return Err("an absolute path");
    }
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err("a path that goes up");
    }
    let name = path
        .strip_prefix("member/snap/")
        .or_else(|| path.strip_prefix("member/wal/"))
        .ok_or("not below member/snap or member/wal")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if !starts_well || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        return Err("not a name that an etcd member has");
    }
    Ok(())
}

#[cfg(test)]
impl Manifest {
    /// An archive without files of the member `a`, at term 1, index 1.
    pub(crate) fn sample(cluster: crate::etcd::ids::ClusterId) -> Self {
        serde_json::from_value(serde_json::json!({
            "format": {"major": 1, "minor": 0},
            "tool": {"name": "etcd-ark", "version": "0"},
            "created": "2026-01-01T00:00:00Z", "scope": "live", "labels": [],
            "member": {
                "identity": {"cluster_id": cluster, "member_id": "a", "name": "a"},
                "position": {"term": 1, "index": 1, "commit": 1, "hard_state_term": 1, "vote": "0"},
                "raft_snapshot": null, "cluster_version": null, "versions": [], "members": [],
                "removed_members": [], "removal_pending": false, "segments": [],
                "log_bytes_above_snapshot": 0, "replaced_entries": 0, "jumps": [],
            },
            "sizes": {"data": 0, "limit": 0, "directory": 0},
            "directories": [], "files": [], "warnings": [], "notes": [],
        }))
        .unwrap()
    }
}
