//! Collects the facts for the checks: the data dir, the backup dir, free space.
//!
//! In: a data dir and the archives' paths. Out: [`DataFacts`] and [`Backups`]. Reads only.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::archive::verify::verify;
use crate::archive::{Archive, ArchiveError, Digests};
use crate::data_dir::DataDir;
use crate::data_dir::scan::{SurveyError, survey};
use crate::data_dir::start::verdicts_at_home;
use crate::etcd::ids::ClusterId;
use crate::etcd::replay::{Along, InOrderRules, Plan, Replayed, Start, Until};
use crate::etcd::scan::Pass;
use crate::fs::space::{free, nearest};
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::repository::check::prove;
use crate::repository::{ArchiveSummary, Catalog, Repository};
use crate::upgrade::preflight::backups::{Backup, Backups};
use crate::upgrade::preflight::data_dir::{DataFacts, ReplayFacts, Space};

/// The store path of etcd's flag for enabled auth.
const AUTH_ENABLED: &[u8] = b"/2/enabled";

/// The facts of a data dir, which is read whole, with its log replayed as the member has applied it.
pub fn data_facts(
    data_dir: &DataDir,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<DataFacts, SurveyError> {
    let plan = Plan {
        start: Start::Newest,
        // Entries not known to be committed may be by the time of the next start.
        until: Until::End,
        rules: InOrderRules::Before22,
        along: Along::Nothing,
    };
    let found = survey(data_dir, Pass::replaying(plan), interrupt, observe)?;
    let (raft_snapshots, data_bytes) = (found.sound_snapshots(), found.data_bytes());
    let faults = found.files.iter().filter_map(|file| {
        let fault = file.fault.as_ref()?;
        Some(format!("{}: {fault}", file.path))
    });
    let faults: Vec<_> = faults.collect();
    let starts = if data_dir.has_dedicated_wal() {
        Some(verdicts_at_home(data_dir)?)
    } else {
        found.starts
    };
    let replayed = found.replay.and_then(Result::ok);
    let space = space(data_dir.snap_dir())?;
    let wal_space = self::space(data_dir.wal_dir())?;
    Ok(DataFacts {
        path: data_dir.root().to_path_buf(),
        dedicated_wal: dedicated_wal(data_dir),
        running: found.running.is_some(),
        faults,
        starts,
        member: found.facts.map_err(|fault| fault.to_string()),
        data_bytes,
        directory_bytes: data_dir.total_bytes(),
        raft_snapshots,
        auth_enabled: replayed.as_ref().map(auth_enabled),
        replay: replayed.map(|replayed| ReplayFacts {
            in_order: replayed.in_order,
            refreshes: replayed.refreshes,
            pace: replayed.pace,
        }),
        space,
        wal_space,
    })
}

/// The WAL dir, if it is a dedicated one.
fn dedicated_wal(data_dir: &DataDir) -> Option<PathBuf> {
    let wal_dir = data_dir.wal_dir();
    let elsewhere = wal_dir != data_dir.member_dir().join("wal");
    (data_dir.has_dedicated_wal() && elsewhere).then(|| wal_dir.to_path_buf())
}

fn auth_enabled(replayed: &Replayed) -> bool {
    let store = &replayed.store;
    let value = store.get(AUTH_ENABLED);
    let value = value.and_then(|id| store.node(id).value());
    value.is_some_and(|value| *value.bytes() == *b"true")
}

/// The newest archive of each member in a backup dir, verified; only those of `cluster`, if it is
/// known. For an encrypted one the ciphertext is verified.
pub fn backups(
    repository: &dyn Repository,
    catalog: Catalog,
    cluster: Option<ClusterId>,
    threads: usize,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Backups, ArchiveError> {
    let mut newest: BTreeMap<_, ArchiveSummary> = BTreeMap::new();
    for summary in catalog.summaries {
        let identity = &summary.identity;
        let counts =
            summary.is_backup() && cluster.is_none_or(|cluster| cluster == identity.cluster_id);
        if counts {
            // The newest come first.
            let key = (identity.cluster_id, identity.member_id);
            newest.entry(key).or_insert(summary);
        }
    }
    let mut proven = Vec::new();
    for summary in newest.into_values() {
        let fault = match fault_in(repository, &summary, threads, interrupt, observe) {
            Err(ArchiveError::Interrupted(stop)) => return Err(stop.into()),
            Err(error) => Some(error.to_string()),
            Ok(fault) => fault,
        };
        let versions = [summary.cluster_version, summary.pending_version];
        proven.push(Backup {
            path: repository.path_of(&summary.listed.name),
            created: summary.created,
            labels: summary.labels,
            identity: summary.identity,
            position: summary.position,
            cluster_version: versions.into_iter().flatten().max(),
            fault,
            does_not_start: summary.does_not_start,
        });
    }
    let unreadable = catalog.unreadable.into_iter();
    let unreadable =
        unreadable.map(|(listed, error)| (repository.path_of(&listed.name), error.to_string()));
    Ok(Backups {
        dir: PathBuf::from(repository.location()),
        newest: proven,
        unreadable: unreadable.collect(),
        space: repository.directory().map(space).transpose()?,
    })
}

fn fault_in(
    repository: &dyn Repository,
    summary: &ArchiveSummary,
    threads: usize,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Option<String>, ArchiveError> {
    if summary.ciphertext.is_some() {
        return prove(repository, summary, interrupt).map(|()| None);
    }
    let path = repository.path_of(summary.name());
    let archive = Archive::from_source(repository.source(&summary.listed)?, &path)?;
    let (pass, digests) = (Pass::CHECK, Digests::All);
    let report = verify(&archive, pass, digests, threads, interrupt, observe)?;
    Ok(report.first_fault().map(|fault| fault.to_string()))
}

/// Free space on the filesystem of `path`, or of its nearest parent that exists.
fn space(path: &Path) -> io::Result<Space> {
    let there = nearest(path);
    Ok(Space {
        free: free(there)?,
        device: fs::metadata(there)?.dev(),
    })
}
