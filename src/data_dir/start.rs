//! Whether servers start from a data dir in place, valid or not.
//!
//! In: the path of a data dir, which need not be complete. Out: a verdict for each release line.
//! Reads only.

use std::fs::Metadata;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::data_dir::DataDir;
use crate::data_dir::listing::first_unrenamed;
use crate::etcd::ids::SegmentName;
use crate::etcd::start::{Layout, StartFile, StartScan, Verdict, Verdicts};
use crate::fs::PIECE;
use crate::fs::dir::open_regular;

/// Whether each release line starts from the data dir at `root`, with its segments in `wal_dir` if
/// given; with `count_keys` also how many keys it serves.
pub fn start_verdicts(
    root: &Path,
    wal_dir: Option<&Path>,
    count_keys: bool,
) -> io::Result<Verdicts> {
    let member = member_dir(root);
    let snap = member.join("snap");
    let wal = wal_dir.map_or_else(|| member.join("wal"), Path::to_path_buf);
    let (scan, beside) = StartBeside::of(snap, wal, wal_dir.is_some(), count_keys)?;
    beside.finish(scan)
}

/// Whether each release line starts from `data_dir` once its segments are in `member/wal`.
pub fn verdicts_at_home(data_dir: &DataDir) -> io::Result<Verdicts> {
    let (scan, beside) = StartBeside::with(data_dir, false)?;
    beside.finish(scan)
}

/// A start that is simulated while a data dir is read for other reasons, since most of what a server reads
/// is read anyway.
#[derive(Debug)]
pub(crate) struct StartBeside {
    snap: PathBuf,
    wal: PathBuf,
    layout: Layout,
    count_keys: bool,
}

impl StartBeside {
    pub(crate) fn new(data_dir: &DataDir) -> io::Result<(StartScan, Self)> {
        Self::with(data_dir, data_dir.has_dedicated_wal())
    }

    fn with(data_dir: &DataDir, has_dedicated_wal: bool) -> io::Result<(StartScan, Self)> {
        let (snap, wal) = (data_dir.snap_dir(), data_dir.wal_dir());
        Self::of(
            snap.to_path_buf(),
            wal.to_path_buf(),
            has_dedicated_wal,
            false,
        )
    }

    fn of(
        snap: PathBuf,
        wal: PathBuf,
        has_dedicated_wal: bool,
        count_keys: bool,
    ) -> io::Result<(StartScan, Self)> {
        let layout = Layout {
            has_snap_dir: is_dir(&snap)?,
            snap: names_in(&snap)?,
            wal: names_in(&wal)?,
            has_dedicated_wal,
            has_proxy: has_proxy(&snap),
        };
        let scan = StartScan::new(layout.clone(), count_keys);
        let beside = Self {
            snap,
            wal,
            layout,
            count_keys,
        };
        Ok((scan, beside))
    }

    /// Whether the file at `path` is the next that the start reads. Files that it reads before that are read
    /// here, except those at the paths `later`, which are still to come.
    pub(crate) fn is_next(
        &self,
        scan: &mut StartScan,
        path: &Path,
        later: &[&Path],
    ) -> io::Result<bool> {
        loop {
            match self.wanted(scan) {
                Some(wanted) if wanted == path => return Ok(true),
                Some(wanted) if !later.contains(&wanted.as_path()) => read_into(scan, &wanted)?,
                _ => return Ok(false),
            }
        }
    }

    fn wanted(&self, scan: &StartScan) -> Option<PathBuf> {
        let file = scan.next_file()?;
        Some(path_of(&file, &self.snap, &self.wal))
    }

    pub(crate) fn finish(&self, scan: StartScan) -> io::Result<Verdicts> {
        let mut verdicts = self.read_rest(scan)?;
        let Some(of_2_0) = StartScan::of_2_0(&self.layout, self.count_keys) else {
            return Ok(verdicts);
        };
        let [of_2_0, ..] = self.read_rest(of_2_0)?;
        let [first, later @ ..] = &mut verdicts;
        *first = of_2_0;
        let unrenamed = first_unrenamed(&self.wal).map_err(io::Error::other)?;
        let renamed = self.layout.wal.iter();
        let last = renamed.filter_map(|name| SegmentName::parse(name)).max();
        // One before others is not needed by those that start.
        let unrenamed = unrenamed.filter(|name| Some(*name) > last);
        for (_, verdict) in later {
            if let (Verdict::Starts(way), Some(name)) = (verdict, unrenamed) {
                way.lost_entry.get_or_insert(name.first_index);
            }
        }
        Ok(verdicts)
    }

    fn read_rest(&self, mut scan: StartScan) -> io::Result<Verdicts> {
        while let Some(wanted) = self.wanted(&scan) {
            read_into(&mut scan, &wanted)?;
        }
        Ok(scan.finish())
    }
}

fn path_of(file: &StartFile, snap: &Path, wal: &Path) -> PathBuf {
    match file {
        StartFile::Snap(name) => snap.join(name),
        StartFile::Wal(name) => wal.join(name),
    }
}

fn read_into(scan: &mut StartScan, path: &Path) -> io::Result<()> {
    let fails = |found: io::Result<Metadata>| match found {
        Ok(found) => found.is_dir(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if matches!(scan.next_file(), Some(StartFile::Snap(_))) && fails(fs::metadata(path)) {
        // A server cannot read it either, and skips it.
        scan.begin(0);
        scan.end();
        return Ok(());
    }
    let mut file = open_regular(path)?;
    let mut piece = vec![0; PIECE];
    scan.begin(file.metadata()?.len());
    loop {
        let length = file.read(&mut piece)?;
        match piece.get(..length) {
            None | Some([]) => break,
            Some(bytes) => scan.update(bytes, false),
        }
    }
    scan.end();
    Ok(())
}

/// The directory that holds `snap` and `wal`: the first 2.0 releases had them in the data dir itself,
/// and later ones move them.
fn member_dir(root: &Path) -> PathBuf {
    let member = root.join("member");
    let is_old = !member.is_dir() && root.join("snap").is_dir() && root.join("wal").is_dir();
    if is_old { root.to_path_buf() } else { member }
}

/// Whether the data dir of `snap` holds a `proxy` beside `member`, of any kind: servers look at names only.
fn has_proxy(snap: &Path) -> bool {
    let member = snap.parent().filter(|parent| parent.ends_with("member"));
    let root = member.and_then(Path::parent);
    root.is_some_and(|root| fs::symlink_metadata(root.join("proxy")).is_ok())
}

/// Whether the directory exists; other errors than "not found" are passed on.
fn is_dir(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
