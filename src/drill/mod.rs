//! Tests a backup with etcd itself: restores it into a scratch directory, starts etcd there, compares.
//!
//! In: an archive or a data dir, and an etcd to start. Out: a [`Drilled`] that says whether the
//! server has the store that a replay of the log gives, node by node. The server runs alone, with
//! `--force-new-cluster` where its cluster has other members (that flag makes etcd panic on a log in which
//! a member's peer URLs change), on loopback and on free ports, in a process group that ends with the drill.
//! Its keys are read from the raft snapshot that it makes itself, because that has every key: hidden
//! ones, and those that auth lets no user list. Neither the source nor the backup is written to, and
//! the scratch directory is removed at the end.

pub mod server;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::manifest::Scope;
use crate::archive::warning::WarningCode;
use crate::archive::{Archive, ArchiveError};
use crate::data_dir::DataDir;
use crate::drill::server::{Binary, Ended, Member, Server};
use crate::etcd::ids::{ClusterVersion, Index, Release, SnapshotId, V2_2};
use crate::etcd::json::tokens::go_utf8;
use crate::etcd::member::MemberFacts;
use crate::etcd::raft_snapshot::SnapshotScan;
use crate::etcd::replay::{InOrderRules, Until};
use crate::etcd::start::cure;
use crate::etcd::store::diff::{Part, compare, parts};
use crate::etcd::store::from_json::LoadOptions as WantedOfStore;
use crate::etcd::store::{NodeId, Store, UnixNanos};
use crate::etcd::wal::isolated::Isolated;
use crate::fs::PIECE;
use crate::fs::owner::Owner;
use crate::fs::staged::{StagedDir, remove_stale};
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use crate::restore::{RestoreError, restore};
use crate::snapshot::destination::{Destination, is_inside};
use crate::snapshot::error::CaptureError;
use crate::snapshot::{CreatedAt, capture};
use crate::target::{StoreError, StoreQuery, Target};

/// How often the server is polled.
const PAUSE: Duration = Duration::from_millis(100);
/// How many of the last lines of the server's log to show.
const LAST_LINES: usize = 12;
/// How many bytes of the end of that log are read.
const MOST_READ: u64 = 1 << 20;

#[derive(Debug)]
pub struct DrillRequest<'r> {
    pub etcd: &'r Path,
    /// This program's own file, if servers are started through it, so that the kernel ends them with
    /// this process (see [`server::stand_in`]).
    pub stand_in: Option<&'r Path>,
    pub environment: &'r [(OsString, OsString)],
    pub scratch: &'r Path,
    pub within: Duration,
    pub threads: usize,
}

#[derive(Debug)]
pub struct Drilled {
    pub version: String,
    pub member: MemberFacts,
    /// When its archive was made; for a data dir, now.
    pub created: Timestamp,
    /// The entry at which the stores were compared.
    pub at: Index,
    /// The number of keys, hidden ones included.
    pub keys: u64,
    /// The number of keys that have expired since, so that the server need not have them.
    pub expired: u64,
    pub differences: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: Vec<u8>,
    pub what: Unequal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unequal {
    /// The server lacks it.
    Missing,
    /// The server has it and the backup does not.
    Added,
    Parts(Vec<Part>),
}

#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error("there is no program at `{0}`")]
    NoBinary(PathBuf),
    #[error("`{0}` does not answer `--version` as etcd does")]
    NotEtcd(PathBuf),
    #[error(
        "the backup is of a cluster at {own}, and etcd {version} is older: that it starts says nothing"
    )]
    Older { version: String, own: Release },
    #[error("etcd {version} does not start from what is restored: {ended}")]
    DoesNotStart {
        version: String,
        ended: Ended,
        log: Vec<String>,
        /// What makes a cluster that starts of it, if that is known.
        cure: Option<String>,
    },
    #[error("there is no scratch directory at `{0}`")]
    NoScratch(PathBuf),
    #[error("the scratch directory `{0}` is inside the data dir, which is only read")]
    ScratchInside(PathBuf),
    #[error("{0}")]
    Source(String),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

pub fn drill(
    target: Target,
    request: &DrillRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Drilled, DrillError> {
    let place = request.scratch;
    if place.try_exists().is_ok_and(|exists| !exists) {
        return Err(DrillError::NoScratch(place.to_path_buf()));
    }
    if let Target::DataDir(data_dir) = &target
        && is_inside(data_dir, place)?
    {
        return Err(DrillError::ScratchInside(place.to_path_buf()));
    }
    remove_stale(place);
    let scratch = StagedDir::create(place)?;
    let drilled = drill_in(
        &scratch.lasting_path()?,
        target,
        request,
        interrupt,
        observe,
    );
    scratch.remove()?;
    drilled
}

fn drill_in(
    scratch: &Path,
    target: Target,
    request: &DrillRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Drilled, DrillError> {
    let binary = Binary::find(request, scratch, interrupt)?;
    let archive = match target {
        Target::Archive(archive) => archive,
        Target::DataDir(data_dir) => {
            Box::new(captured(&data_dir, scratch, request, interrupt, observe)?)
        }
    };
    let own = archive.manifest().member.cluster_version.as_ref();
    let own = own.map(ClusterVersion::release);
    if let Some(own) = own.filter(|own| *own > binary.release) {
        let version = binary.version;
        return Err(DrillError::Older { version, own });
    }
    let data_dir = scratch.join("data");
    restore_into(&data_dir, &archive, request, interrupt, observe)?;
    isolate(&data_dir, binary.release)?;
    let created = archive.manifest().created;
    let is_alone = is_alone(&archive.manifest().member);
    let target = Target::Archive(archive);
    let wanted = StoreQuery {
        // A single member commits all of its log; --force-new-cluster drops what is not committed.
        until: if is_alone { Until::End } else { Until::Commit },
        rules: Some(InOrderRules::of_release(binary.release)),
        starts: true,
        threads: request.threads,
        ..StoreQuery::default()
    };
    let read = target.read_store(wanted, interrupt, observe)?;
    let log = scratch.join("etcd.log");
    let member = Member {
        data_dir: &data_dir,
        log: &log,
        is_alone,
    };
    let mut server = Server::start(&binary, &member, request)?;
    let at = read.replayed.at;
    let reached = until_it_serves(&mut server, &data_dir, &read.member, at, request, interrupt);
    server.end()?;
    let reached = match reached? {
        Ok(store) => store,
        Err(ended) => {
            return Err(DrillError::DoesNotStart {
                version: binary.version,
                ended,
                log: last_lines(&log),
                cure: read.starts.as_ref().and_then(cure),
            });
        }
    };
    let expected = &*read.replayed.store;
    let (differences, expired) = differences(expected, &reached, crate::clock::now());
    Ok(Drilled {
        version: binary.version,
        member: read.member,
        created,
        at,
        keys: keys(expected),
        expired,
        differences,
    })
}

/// An archive of a data dir, in the scratch directory.
fn captured(
    data_dir: &DataDir,
    scratch: &Path,
    request: &DrillRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Archive, DrillError> {
    let backup_dir = scratch.join("backup");
    let request = crate::snapshot::SnapshotRequest {
        data_dir,
        to: Destination::BackupDir(&backup_dir),
        scope: Scope::Live,
        labels: Vec::new(),
        level: 1,
        threads: request.threads,
        size_limit: u64::MAX,
        created: CreatedAt::Beginning(crate::clock::now),
        lock: None,
    };
    let captured = capture(&request, interrupt, observe)?;
    let mut warnings = captured.manifest.warnings.iter();
    match warnings.find(|warning| warning.code == WarningCode::SourceDoesNotStart) {
        // What starts from the archive says nothing about it.
        Some(warning) => Err(DrillError::Source(warning.text.clone())),
        None => Ok(Archive::open(&captured.path)?),
    }
}

fn restore_into(
    data_dir: &Path,
    archive: &Archive,
    request: &DrillRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<(), DrillError> {
    // The server runs as the account that runs the drill.
    let owner = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    let request = crate::restore::RestoreRequest {
        archive,
        data_dir,
        wal_dir: None,
        replace: false,
        owner: Some(owner),
        dry_run: false,
        // Whether a server starts from it is what the drill finds out.
        damaged: true,
        threads: request.threads,
        now: crate::clock::now(),
    };
    restore(&request, interrupt, observe)?;
    Ok(())
}

/// Makes the restored member one of another cluster: the server is told of the real members' addresses by the log, and
/// would join them as the member that the backup is of.
fn isolate(data_dir: &Path, release: Release) -> io::Result<()> {
    let mut isolated = Isolated::new(release < V2_2);
    let wal = data_dir.join("member/wal");
    // Every file: which ones a server takes for segments differs from release to release.
    let paths = fs::read_dir(&wal)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let bytes = isolated.segment(&fs::read(&path)?);
        fs::write(&path, bytes)?;
    }
    Ok(())
}

fn is_alone(member: &MemberFacts) -> bool {
    let own = member.identity.member_id;
    member.members.iter().map(|member| member.id).eq([own])
}

/// Waits until the server is healthy and has made a raft snapshot at or above `at`; returns its store.
fn until_it_serves(
    server: &mut Server,
    data_dir: &Path,
    member: &MemberFacts,
    at: Index,
    request: &DrillRequest<'_>,
    interrupt: &Interrupt,
) -> Result<Result<Store, Ended>, DrillError> {
    let deadline = Instant::now() + request.within;
    let restored = member.raft_snapshot.map_or(Index(0), |id| id.index);
    let mut store = None;
    loop {
        interrupt.check()?;
        if let Some(ended) = server.has_ended()? {
            return Ok(Err(ended));
        }
        if store.is_none() {
            store = newest_store(&data_dir.join("member/snap"), at.max(restored.next()))?;
        }
        if store.is_some() && server.is_healthy() {
            return Ok(store.ok_or(Ended::TooLate(request.within)));
        }
        if Instant::now() > deadline {
            return Ok(Err(Ended::TooLate(request.within)));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The store in the newest complete raft snapshot at or above `least`.
fn newest_store(snap: &Path, least: Index) -> io::Result<Option<Store>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(snap)? {
        let name = entry?.file_name();
        let id = SnapshotId::from_file_name(&name.to_string_lossy());
        ids.extend(id.filter(|id| id.index >= least).map(|id| (id, name)));
    }
    ids.sort();
    for (id, name) in ids.into_iter().rev() {
        // It may be purged meanwhile, or not be complete yet.
        if let Ok(Some(store)) = read_store(&snap.join(name), id) {
            return Ok(Some(store));
        }
    }
    Ok(None)
}

fn read_store(path: &Path, id: SnapshotId) -> io::Result<Option<Store>> {
    let mut file = fs::File::open(path)?;
    let wanted = WantedOfStore {
        tree: true,
        ..WantedOfStore::default()
    };
    let mut scan = SnapshotScan::new(id, file.metadata()?.len(), wanted);
    let mut piece = vec![0; PIECE];
    loop {
        let length = file.read(&mut piece)?;
        match piece.get(..length) {
            None | Some([]) => break,
            Some(bytes) => scan.update(bytes),
        }
    }
    Ok(scan.finish().ok().and_then(|(_, store)| store))
}

/// The differences, except in the cluster's own keys; and the number of expired keys.
fn differences(expected: &Store, reached: &Store, now: Timestamp) -> (Vec<Difference>, u64) {
    let now: UnixNanos = now.as_nanosecond().try_into().unwrap_or(UnixNanos::MAX);
    let mut expired = 0;
    let mut found = Vec::new();
    let all = compare(expected, reached);
    // etcd saves names as JSON, where a byte outside a character becomes U+FFFD; of two that become one the last stays.
    let mut saved = BTreeSet::new();
    for difference in all.iter().filter(|one| one.b.is_none()) {
        let name = go_utf8(&difference.path);
        if *name != *difference.path
            && let (Some(own), Some(there)) = (difference.a, reached.get(&name))
            && parts(expected, own, reached, there).is_empty()
        {
            saved.insert(name.into_owned());
        }
    }
    let all = all.into_iter();
    for difference in all.filter(|one| !saved.contains(&*go_utf8(&one.path))) {
        let is_own = difference.path == b"/0" || difference.path.starts_with(b"/0/");
        if is_own || difference.path.is_empty() || difference.path == b"/" {
            continue;
        }
        let what = match (difference.a, difference.b) {
            (Some(_), None) if has_expired(expected, &difference.path, now) => {
                expired += 1;
                continue;
            }
            (Some(_), None) => Unequal::Missing,
            (None, _) => Unequal::Added,
            (Some(_), Some(_)) => Unequal::Parts(difference.parts),
        };
        found.push(Difference {
            path: difference.path,
            what,
        });
    }
    (found, expired)
}

/// Whether the node at `path`, or one of its parents, has expired by `now`.
fn has_expired(store: &Store, path: &[u8], now: UnixNanos) -> bool {
    let ends = path.iter().enumerate().skip(1);
    let ends = ends.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut paths = ends.chain([path.len()]).filter_map(|end| path.get(..end));
    paths.any(|path| {
        let expires = store.get(path).and_then(|id| store.node(id).expires);
        expires.is_some_and(|expires| expires <= now)
    })
}

/// The users' keys, hidden ones included.
fn keys(store: &Store) -> u64 {
    let mut keys = 0;
    let mut open: Vec<NodeId> = store.get(b"/1").into_iter().collect();
    while let Some(directory) = open.pop() {
        for child in store.children(directory) {
            if store.node(child).is_dir() {
                open.push(child);
            } else {
                keys += 1;
            }
        }
    }
    keys
}

/// The end of a file, at most [`MOST_READ`] bytes.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST_READ)))?;
    let mut bytes = Vec::new();
    file.take(MOST_READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn last_lines(log: &Path) -> Vec<String> {
    let text = end_of(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    // A panic's first line says why; its goroutines follow.
    let panic = lines.iter().rposition(|line| line.starts_with("panic:"));
    let end = panic.map_or(lines.len(), |at| at + 1);
    let from = end.saturating_sub(LAST_LINES);
    let shown = lines.get(from..end).unwrap_or_default();
    shown.iter().map(|line| (*line).to_owned()).collect()
}
