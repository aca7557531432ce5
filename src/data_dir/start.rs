//! Asking whether servers start from a data dir where it is, sound or not.
//!
//! In: the path of a data dir, which need not be a whole one. Out: a verdict for each release line.
//! Reads only.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::data_dir::scan::PIECE;
use crate::etcd::start::{Layout, StartFile, StartScan, Verdicts};

/// What each release line does with the data dir at `root`, with its segments in `wal_dir` if that is
/// given; with `count_keys` also how many keys it serves.
pub fn start_verdicts(
    root: &Path,
    wal_dir: Option<&Path>,
    count_keys: bool,
) -> io::Result<Verdicts> {
    let member = member_dir(root);
    let snap = member.join("snap");
    let wal = wal_dir.map_or_else(|| member.join("wal"), Path::to_path_buf);
    let layout = Layout {
        has_snap_dir: snap.is_dir(),
        snap: names_in(&snap)?,
        wal: names_in(&wal)?,
    };
    let mut scan = StartScan::new(layout, count_keys);
    let mut piece = vec![0; PIECE];
    while let Some(file) = scan.next_file() {
        let path = match file {
            StartFile::Snap(name) => snap.join(name),
            StartFile::Wal(name) => wal.join(name),
        };
        let mut file = fs::File::open(path)?;
        scan.begin(file.metadata()?.len());
        loop {
            let length = file.read(&mut piece)?;
            match piece.get(..length) {
                None | Some([]) => break,
                Some(bytes) => scan.update(bytes),
            }
        }
        scan.end();
    }
    Ok(scan.finish())
}

/// The directory that holds `snap` and `wal`: the first 2.0 releases had them in the data dir itself,
/// and later ones move them.
fn member_dir(root: &Path) -> PathBuf {
    let member = root.join("member");
    let is_old = !member.is_dir() && root.join("snap").is_dir() && root.join("wal").is_dir();
    if is_old { root.to_path_buf() } else { member }
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
