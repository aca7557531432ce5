//! Whether servers of etcd 2.0, 2.1, 2.2 and 2.3 start from a data dir.
//!
//! In: the names in it, and the bytes of those files that a server reads, in the order in which
//! [`StartScan::next_file`] asks for them. Out: a [`Verdict`] for each release line.
//!
//! It simulates what each server does when it starts: load the newest raft snapshot that
//! is readable, open the segment that covers it by its name and all later ones, read the records, find the
//! marker, take the hard state, recover the cluster from the store, and apply what is committed.
//! A server starts from some damaged data; [`scan`](crate::etcd::scan) finds the damage.
//! Source: formats page, "When a server starts", and etcd's own at the releases named there.
//! Memory: one record, the entries that a later one may still replace, one raft snapshot's store if
//! keys are counted, otherwise the cluster's own keys.

mod cure;
mod decoder;
mod log;
pub mod reason;
mod release_line;

use std::collections::BTreeSet;
use std::fmt;

use crate::etcd::ids::{ClusterVersion, Index, MemberId, Release, SegmentName, SnapshotId, Term};
use crate::etcd::raft_snapshot::{SnapshotFault, SnapshotScan, StartRead};
use crate::etcd::start::decoder::{Stop, Tail};
use crate::etcd::start::log::Log;
use crate::etcd::start::reason::Reason;
use crate::etcd::start::release_line::{Server, servers};
use crate::etcd::store::from_json::{LoadOptions, StartTree};

pub use crate::etcd::ids::{V2_1, V2_2, V2_3};
pub use crate::etcd::start::cure::cure;
/// etcd 2.0.
pub const V2_0: Release = Release { major: 2, minor: 0 };

/// etcd 3.0, the oldest with a `snap/db`.
pub const V3_0: Release = Release { major: 3, minor: 0 };

/// The release lines that are simulated.
pub const LINES: [Release; 4] = [V2_0, V2_1, V2_2, V2_3];

/// What a server does with a data dir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It starts from it.
    Starts(Way),
    /// It stops, or never elects a leader.
    DoesNotStart(Reason),
    /// It finds no WAL and bootstraps a new, empty member.
    Empty,
    /// It starts only with `--force-new-cluster`: this is the output of `etcdctl backup`.
    ForceNewClusterOnly,
}

impl Verdict {
    /// Whether the server starts as it is.
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Starts(_))
    }

    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starts(_) => "yes",
            Self::DoesNotStart(_) => "no",
            Self::Empty => "empty",
            Self::ForceNewClusterOnly => "force-new-cluster",
        }
    }

    /// Whether it starts with no flag.
    pub fn never_starts(&self) -> bool {
        matches!(self, Self::DoesNotStart(_) | Self::Empty)
    }

    /// Why a server of `line` does not start, or not for good, in its own words if they are known;
    /// `None` if nothing is wrong.
    pub fn why_not(&self, line: Release) -> Option<String> {
        let why = |reason: &Reason| match reason.etcd_says(line) {
            Some(says) => format!("{reason} (etcd: `{says}`)"),
            None => reason.to_string(),
        };
        match self {
            Self::Starts(way) => Some(format!(
                "it starts only until its next raft snapshot or change of members (`--force-new-cluster` makes one), then never again: {}",
                why(way.later.as_ref()?)
            )),
            Self::DoesNotStart(reason) => Some(why(reason)),
            Self::Empty => {
                Some("it finds no WAL there: it would bootstrap a new, empty member".to_owned())
            }
            Self::ForceNewClusterOnly => Some(
                "this is the output of `etcdctl backup`: it starts only with `--force-new-cluster`"
                    .to_owned(),
            ),
        }
    }

    /// The warning that a server of `line` does not start `from` there, or not for good.
    pub fn warning(&self, line: Release, from: &str) -> Option<String> {
        let why = self.why_not(line)?;
        let for_good = if self.is_yes() { " for good" } else { "" };
        Some(format!(
            "etcd {line} does not start from {from}{for_good}: {why}"
        ))
    }
}

/// Whether only 3.x writes such a log.
pub fn is_3x(verdicts: &Verdicts) -> bool {
    let padded = Verdict::DoesNotStart(Reason::Padded);
    verdicts.iter().any(|(_, verdict)| *verdict == padded)
}

/// Whether a server of a release line up to `own` starts; unknown for 3.x data.
pub fn some_line_starts(verdicts: &Verdicts, own: Option<Release>) -> bool {
    let own = own.unwrap_or(V2_3);
    let mut lines = verdicts.iter().filter(|(line, _)| *line <= own);
    own.major > V2_3.major || is_3x(verdicts) || lines.any(|(_, verdict)| verdict.is_yes())
}

/// Why the last release line up to `own` does not start, if none of them does.
pub fn none_starts(verdicts: &Verdicts, own: Option<Release>) -> Option<String> {
    if some_line_starts(verdicts, own) {
        return None;
    }
    let own = own.unwrap_or(V2_3);
    let last = verdicts.iter().rev().find(|(line, _)| *line <= own);
    let why = last.and_then(|(line, verdict)| verdict.why_not(*line));
    let mut later = verdicts.iter().filter(|(line, _)| *line > own);
    let up_to = if later.any(|(_, verdict)| !verdict.never_starts()) {
        format!(" up to {own}")
    } else {
        String::new()
    };
    Some(format!(
        "no etcd{up_to} starts from it: {}",
        why.unwrap_or_default()
    ))
}

/// The release of data with this cluster version, and with a `snap/db` if `has_db`, if it can be told.
pub fn own_release(version: Option<&ClusterVersion>, has_db: bool) -> Option<Release> {
    let version = version.map(ClusterVersion::release);
    if has_db {
        // 3.x has no cluster version before it writes the first one.
        return version.max(Some(V3_0));
    }
    version
}

/// The verdict of the data's own release, unless it starts for good. Data without a cluster version
/// may be of 2.0, which writes none. Unknown for 3.x data.
pub fn own_refusal(verdicts: &Verdicts, own: Option<Release>) -> Option<&(Release, Verdict)> {
    let own = own.unwrap_or(V2_0);
    let mut refusals = verdicts.iter().filter(|_| !is_3x(verdicts));
    refusals.find(|(line, verdict)| *line == own && verdict.why_not(own).is_some())
}

/// How a server starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Unreadable raft snapshots, which it skips and renames.
    pub skipped_snapshots: Vec<String>,
    /// Bytes that it cuts off the last segment.
    pub cut: Option<u64>,
    /// The first missing entry that the server does not notice.
    pub lost_entry: Option<Index>,
    /// The number of keys that it serves, without hidden ones, if keys were counted.
    pub keys: Option<u64>,
    /// Why it never starts again once its store is in a raft snapshot, or its members change.
    pub later: Option<Reason>,
}

impl fmt::Display for Way {
    /// What is lost or left out; empty if nothing is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lost) = self.lost_entry {
            write!(f, "; entry {lost} is lost then, which they do not notice")?;
        }
        if let Some(cut) = self.cut {
            write!(f, "; {cut} bytes are cut off the log")?;
        }
        Ok(())
    }
}

/// The release lines that start, and what is lost; `None` if none does.
pub fn those_that_start(verdicts: &Verdicts) -> Option<String> {
    let starts = |(line, verdict): &(Release, Verdict)| match verdict {
        Verdict::Starts(way) => Some((line.to_string(), way.clone())),
        _ => None,
    };
    let (lines, ways): (Vec<_>, Vec<_>) = verdicts.iter().filter_map(starts).unzip();
    let way = ways.last()?;
    let noun = if lines.len() == 1 { "starts" } else { "start" };
    Some(format!(
        "etcd {} still {noun} from it{way}",
        lines.join(", ")
    ))
}

/// The release lines that start from valid data; `None` for 3.x data. For example
/// `etcd 2.2, 2.3 (2.1 as well, but the cluster is at 2.2: do not)`.
pub fn starting_lines(verdicts: &Verdicts, own: Option<Release>) -> Option<String> {
    let lines = verdicts.iter().filter(|(_, verdict)| verdict.is_yes());
    let (older, lines): (Vec<_>, Vec<_>) = lines.partition(|(line, _)| Some(*line) < own);
    let list = |lines: &[&(Release, Verdict)]| {
        let lines = lines.iter().map(|(line, _)| line.to_string());
        lines.collect::<Vec<_>>().join(", ")
    };
    if lines.is_empty() || is_3x(verdicts) {
        return None;
    }
    let told = format!("etcd {}", list(&lines));
    Some(match own {
        Some(own) if !older.is_empty() => {
            format!("{told} ({} as well, {})", list(&older), but_do_not(own))
        }
        _ => told,
    })
}

/// The warning about an older release that starts because it does not check the cluster version.
pub fn but_do_not(own: Release) -> String {
    format!("but the cluster is at {own}: do not")
}

/// A verdict for each release line, oldest first.
pub type Verdicts = [(Release, Verdict); 4];

/// The names in a data dir that a start depends on.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Whether there is a directory for raft snapshots.
    pub has_snap_dir: bool,
    /// All names in it.
    pub snap: Vec<String>,
    /// All names in the WAL dir, directories too; none if it does not exist.
    pub wal: Vec<String>,
    /// Whether that is a dedicated WAL dir, which 2.0 and 2.1 do not have.
    pub has_dedicated_wal: bool,
    /// Whether the data dir holds a `proxy` too.
    pub has_proxy: bool,
}

/// A file that a server reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFile {
    /// The file of this name in the directory of the raft snapshots.
    Snap(String),
    /// The file of this name in the WAL dir.
    Wal(String),
}

/// A simulated start in progress.
#[derive(Debug)]
pub struct StartScan {
    count_keys: bool,
    layout: Layout,
    /// Raft snapshots still to try, the next one last.
    snapshots: Vec<String>,
    skipped: Vec<String>,
    /// Segments, in order.
    segments: Vec<(SegmentName, String)>,
    /// Names that 2.0 accepts as segments and later releases do not.
    stray_segments: Vec<String>,
    /// How many segments have been read.
    read: usize,
    now: Option<SnapshotScan>,
    loaded: Loaded,
    log: Option<Log>,
}

/// The raft snapshot that a start loads.
#[derive(Debug)]
enum Loaded {
    /// Not known yet.
    Pending,
    /// None.
    None,
    /// One on which the server panics.
    Unreadable,
    Some,
}

impl StartScan {
    /// A start from a data dir with these names. With `count_keys` the whole store is kept.
    pub fn new(layout: Layout, count_keys: bool) -> Self {
        let snapshots = layout.snap.iter();
        let snapshots = snapshots.filter(|name| name.strip_suffix(".snap").is_some());
        let mut snapshots: Vec<_> = snapshots.cloned().collect();
        snapshots.sort();
        let mut names = layout.wal.clone();
        names.sort();
        let parsed = |name: &String| Some((SegmentName::parse(name)?, name.clone()));
        let is_stray = |name: &&String| {
            let start = name.get(..SEGMENT_NAME_LENGTH);
            name.len() > SEGMENT_NAME_LENGTH && start.and_then(SegmentName::parse).is_some()
        };
        let mut scan = Self {
            count_keys,
            layout,
            segments: names.iter().filter_map(parsed).collect(),
            stray_segments: names.iter().filter(is_stray).cloned().collect(),
            snapshots,
            skipped: Vec::new(),
            read: 0,
            now: None,
            loaded: Loaded::Pending,
            log: None,
        };
        if scan.snapshots.is_empty() {
            scan.load_nothing();
        }
        scan
    }

    /// The start of a 2.0 server, if that reads other segments than later ones do.
    pub fn of_2_0(layout: &Layout, count_keys: bool) -> Option<Self> {
        let mut scan = Self::new(layout.clone(), count_keys);
        if scan.stray_segments.is_empty() {
            return None;
        }
        let mut names = std::mem::take(&mut scan.stray_segments);
        let own = scan.layout.wal.iter();
        names.extend(
            own.filter(|name| SegmentName::parse(name).is_some())
                .cloned(),
        );
        names.sort();
        let parsed = |name: String| {
            let start = name.get(..SEGMENT_NAME_LENGTH)?;
            Some((SegmentName::parse(start)?, name))
        };
        scan.segments = names.into_iter().filter_map(parsed).collect();
        if scan.snapshots.is_empty() {
            scan.load_nothing();
        }
        Some(scan)
    }

    fn load_nothing(&mut self) {
        self.loaded = Loaded::None;
        let start = SnapshotId {
            term: Term(0),
            index: Index(0),
        };
        let whole = self.count_keys;
        self.begin_log(start, servers(|line| Server::new(line, whole)));
    }

    fn begin_log(&mut self, start: SnapshotId, servers: [Server; 4]) {
        let begins = |(name, _): &(SegmentName, String)| name.first_index <= start.index;
        match self.segments.iter().rposition(begins) {
            Some(first) => drop(self.segments.drain(..first)),
            None => self.segments.clear(),
        }
        if let Some((_, first)) = self.segments.first() {
            // 2.0 does not read what is sorted before the segment that it begins at.
            self.stray_segments.retain(|name| name > first);
        }
        if !is_row(self.segments.iter().map(|(name, _)| *name)) {
            self.segments.clear();
        }
        self.log = Some(Log::new(start, servers));
    }

    /// The file that the server reads next; `None` at the end.
    pub fn next_file(&self) -> Option<StartFile> {
        if self.layout.wal.is_empty() {
            return None;
        }
        match self.loaded {
            Loaded::Pending => self.snapshots.last().cloned().map(StartFile::Snap),
            Loaded::Unreadable => None,
            Loaded::None | Loaded::Some => {
                let segment = self.segments.get(self.read);
                segment.map(|(_, name)| StartFile::Wal(name.clone()))
            }
        }
    }

    /// The part of a raft snapshot's store that it needs.
    pub(crate) fn wants(&self) -> StartTree {
        if self.count_keys {
            StartTree::Whole
        } else {
            StartTree::Cluster
        }
    }

    /// Begins that file, of `length` bytes.
    pub fn begin(&mut self, length: u64) {
        if matches!(self.loaded, Loaded::Pending) {
            let scan = SnapshotScan::by_content(length, LoadOptions::default());
            self.now = Some(scan.with_start(self.wants()));
        } else if let Some(log) = &mut self.log {
            log.begin_segment();
        }
    }

    /// Takes the file's next bytes. `proven` says that the CRCs of all records in them are known to
    /// match.
    pub fn update(&mut self, bytes: &[u8], proven: bool) {
        match (&mut self.now, &mut self.log) {
            (Some(snapshot), _) => snapshot.update(bytes),
            (None, Some(log)) => log.update(bytes, proven),
            (None, None) => {}
        }
    }

    /// Ends the file.
    pub fn end(&mut self) {
        match self.now.take() {
            None => self.read += 1,
            Some(snapshot) => {
                let (_, read) = snapshot.finish_for_start();
                if let Some(read) = read {
                    self.take_snapshot(read);
                }
            }
        }
    }

    /// Takes the next raft snapshot, which was read elsewhere.
    pub(crate) fn take_snapshot(&mut self, read: StartRead) {
        let name = self.snapshots.pop();
        match read {
            Ok(snapshot) => {
                self.loaded = Loaded::Some;
                let (store, whole) = (&snapshot.store, self.count_keys);
                let load = |line| Server::loaded(line, store.clone(), whole, &snapshot.nodes);
                self.begin_log(snapshot.id, servers(load));
            }
            Err(SnapshotFault::Store(_)) => self.loaded = Loaded::Unreadable,
            Err(_) => {
                self.skipped.extend(name);
                if self.snapshots.is_empty() {
                    self.load_nothing();
                }
            }
        }
    }

    /// The verdict of each release line.
    pub fn finish(mut self) -> Verdicts {
        let mut servers = None;
        if let Some(log) = &mut self.log {
            log.settle_all();
            servers = Some(log.take_servers());
        }
        let mut servers = servers.into_iter().flatten();
        LINES.map(|line| {
            let server = servers.next();
            (line, self.verdict(line, server.as_ref()))
        })
    }

    fn verdict(&self, line: Release, server: Option<&Server>) -> Verdict {
        if self.layout.has_proxy {
            return Verdict::DoesNotStart(Reason::Proxy);
        }
        if line == V2_3 && self.layout.snap.iter().any(|name| name == "db") {
            return Verdict::DoesNotStart(Reason::Backend);
        }
        if self.layout.wal.is_empty() || self.layout.has_dedicated_wal && line < V2_2 {
            return Verdict::Empty;
        }
        match self.start(line, server) {
            Ok(way) => Verdict::Starts(way),
            Err(Reason::NoLeader) if self.is_etcdctl_backup() => {
                let update = server
                    .filter(|_| line < V2_2)
                    .and_then(|server| server.update);
                update.map_or(Verdict::ForceNewClusterOnly, |update| {
                    Verdict::DoesNotStart(Reason::ForcedUpdate(update))
                })
            }
            Err(reason) => Verdict::DoesNotStart(reason),
        }
    }

    /// Only `etcdctl backup` writes the marker that the log begins from after the entries, in the
    /// first segment.
    fn is_etcdctl_backup(&self) -> bool {
        let log = self.log.as_ref();
        self.segments.len() == 1 && log.is_some_and(|log| log.ends_in_marker)
    }

    /// The start of a server of `line`, with checks in the order in which it would stop at them.
    fn start(&self, line: Release, server: Option<&Server>) -> Result<Way, Reason> {
        let fault = |fault: Option<&Reason>| fault.cloned().map_or(Ok(()), Err);
        if !self.layout.has_snap_dir {
            return Err(Reason::NoSnapDir);
        }
        let (Some(log), Some(server)) = (&self.log, server) else {
            return Err(Reason::SnapshotStore);
        };
        let cluster_fault = server.cluster_fault.as_ref();
        if line == V2_0 {
            fault(cluster_fault)?;
        }
        let no_segment = Reason::NoSegment(log.start.index);
        let has_stray = line == V2_0 && !self.stray_segments.is_empty();
        if self.segments.is_empty() || has_stray {
            return Err(no_segment);
        }
        let cut = read_to_end(line, log)?;
        fault(log.marker_fault().as_ref())?;
        let own = log.member()?;
        fault(log.commit_fault(own).as_ref())?;
        fault(cluster_fault)?;
        fault(server.entry_fault.as_ref())?;
        fault(log.hole_fault(is_alone(&server.voters, own)).as_ref())?;
        if server.removed_itself {
            return Err(Reason::Removed);
        }
        if !server.voters.contains(&own.0) {
            let is_new = log.start.index == Index(0) && !log.has_entries();
            return Err(if is_new {
                Reason::JustAdded
            } else {
                Reason::NoLeader
            });
        }
        if !server.lists(own) {
            return Err(Reason::Unlisted(own));
        }
        server.majority_fault().map_or(Ok(()), Err)?;
        Ok(Way {
            skipped_snapshots: self.skipped.clone(),
            cut,
            lost_entry: log.holes.first().map(|(first, _)| *first),
            keys: server.keys(),
            later: server.later_fault(),
        })
    }
}

/// How many bytes the server cuts off, if it reads to the end.
fn read_to_end(line: Release, log: &Log) -> Result<Option<u64>, Reason> {
    let decoder = &log.decoder;
    if let Some(illegal) = decoder.illegal().filter(|_| line >= V2_2) {
        return Err(Reason::IllegalField(illegal.clone()));
    }
    if let Some(reason) = &log.fault {
        return Err(reason.clone());
    }
    match (decoder.stop(), decoder.tail()) {
        (None, Tail::Whole) => Ok(None),
        (None, Tail::LengthWord) if line == V2_0 => Ok(None),
        (None, Tail::LengthWord | Tail::Torn) | (Some(Stop::CutRecord), _) => {
            let cut = decoder.repairable().filter(|_| line > V2_0);
            cut.map(Some).ok_or(Reason::CutShort)
        }
        (Some(Stop::Padded), _) => Err(Reason::Padded),
        (Some(Stop::ImpossibleLength), _) => Err(Reason::ImpossibleLength),
        (Some(Stop::OutOfMemory), _) => Err(Reason::OutOfMemory),
        (Some(Stop::CrcMismatch), _) => Err(Reason::CrcMismatch),
        (Some(Stop::Malformed | Stop::Refused), _) => Err(Reason::Malformed),
    }
}

/// Bytes of a segment's name.
const SEGMENT_NAME_LENGTH: usize = 16 + 1 + 16 + 4;

/// Whether etcd accepts these segments as consecutive. It does not check those after segment 0.
fn is_row(names: impl Iterator<Item = SegmentName>) -> bool {
    let mut last = 0;
    for name in names {
        if last != 0 && name.sequence.checked_sub(1) != Some(last) {
            return false;
        }
        last = name.sequence;
    }
    true
}

/// Whether the only voter is `own`.
fn is_alone(voters: &BTreeSet<u64>, own: MemberId) -> bool {
    voters.len() == 1 && voters.contains(&own.0)
}
