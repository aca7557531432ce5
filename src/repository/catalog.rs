//! The facts of an archive without its files, as lists, retention and monitoring use them.
//!
//! In: a repository. Out: a [`ArchiveSummary`] for each archive, from the archive's end alone, and the names of
//! those that cannot be opened.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::archive::manifest::{Scope, Sizes};
use crate::archive::warning::Warning;
use crate::archive::{Archive, ArchiveError, ArchiveFault, Manifest};
use crate::etcd::digest::Digest;
use crate::etcd::ids::{ClusterVersion, Identity, MemberId};
use crate::etcd::member::Position;
use crate::repository::sidecar::{SIDECAR_EXTENSION, Sidecar};
use crate::repository::{ArchiveRef, Repository, RepositoryError, is_encrypted_name};

/// An archive without its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSummary {
    pub listed: ArchiveRef,
    pub created: Timestamp,
    pub identity: Identity,
    pub position: Position,
    /// The WAL's running CRC at the last entry, if the manifest has it.
    pub log_crc: Option<u32>,
    pub cluster_version: Option<ClusterVersion>,
    /// A cluster version in its log that is not known to be committed.
    pub pending_version: Option<ClusterVersion>,
    pub sizes: Sizes,
    pub scope: Scope,
    pub labels: Vec<String>,
    pub warnings: Vec<Warning>,
    /// Why a server of its own release does not start from its data, if it does not.
    pub does_not_start: Option<String>,
    pub rewound: bool,
    /// The members of its cluster at its commit index.
    pub members: Vec<MemberId>,
    /// For an encrypted archive: the ciphertext's size in bytes and digest, from its sidecar.
    pub ciphertext: Option<(u64, Digest)>,
}

/// The archives of a repository, newest first, and those that cannot be opened.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Those with a readable end, newest first.
    pub summaries: Vec<ArchiveSummary>,
    pub unreadable: Vec<(ArchiveRef, ArchiveError)>,
}

#[cfg(test)]
impl ArchiveSummary {
    /// An archive of 1000 bytes, of a member of the cluster `c`.
    pub(crate) fn sample(name: &str, created: Timestamp, member: u64, index: u64) -> Self {
        use crate::etcd::ids::{ClusterId, Index, Term};
        Self {
            listed: ArchiveRef {
                name: name.to_owned(),
                bytes: 1000,
                modified: Some(created),
                is_link: false,
            },
            created,
            identity: Identity {
                cluster_id: ClusterId(0xc),
                member_id: MemberId(member),
                name: Some("infra0".to_owned()),
            },
            position: Position {
                term: Term(2),
                index: Index(index),
                commit: Index(index),
                hard_state_term: Term(2),
                vote: MemberId(0),
            },
            log_crc: None,
            cluster_version: None,
            pending_version: None,
            sizes: Sizes {
                data: 100,
                limit: 100_000_000,
                directory: 100,
            },
            scope: Scope::Live,
            labels: Vec::new(),
            warnings: Vec::new(),
            does_not_start: None,
            rewound: false,
            members: Vec::new(),
            ciphertext: None,
        }
    }
}

impl ArchiveSummary {
    pub fn of(listed: ArchiveRef, manifest: &Manifest) -> Self {
        let member = &manifest.member;
        Self {
            listed,
            created: manifest.created,
            identity: member.identity.clone(),
            position: member.position.clone(),
            log_crc: member.log_crc,
            cluster_version: member.cluster_version.clone(),
            pending_version: member.pending_version().map(|v| v.version.clone()),
            sizes: manifest.sizes.clone(),
            scope: manifest.scope,
            labels: manifest.labels.clone(),
            warnings: manifest.warnings.0.clone(),
            does_not_start: manifest.does_not_start.clone(),
            rewound: manifest.rewind.is_some(),
            members: member.members.iter().map(|member| member.id).collect(),
            ciphertext: None,
        }
    }

    /// Whether it is a backup of a member: not made by a rewind, and not of a damaged data dir.
    pub fn is_backup(&self) -> bool {
        !self.rewound && !self.is_damaged()
    }

    pub fn is_damaged(&self) -> bool {
        self.scope == Scope::Damaged
    }

    pub fn name(&self) -> &str {
        &self.listed.name
    }
}

/// Reads the end of every archive in `repository`.
pub fn summarize(repository: &dyn Repository) -> Result<Catalog, RepositoryError> {
    let mut catalog = Catalog::default();
    for (listed, summary) in read_all(repository, repository.list()?) {
        match summary {
            Ok(summary) => catalog.summaries.push(summary),
            // Pruned since the directory was listed.
            Err(ArchiveError::NotFound(_)) => {}
            Err(error) => catalog.unreadable.push((listed, error)),
        }
    }
    catalog
        .unreadable
        .sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    catalog.summaries.sort_by(|a, b| {
        let newest_first = b.created.cmp(&a.created);
        newest_first.then_with(|| a.name().cmp(b.name()))
    });
    Ok(catalog)
}

/// Reads the end of each archive, with as many threads as the repository supports.
fn read_all(
    repository: &dyn Repository,
    listed: Vec<ArchiveRef>,
) -> Vec<(ArchiveRef, Result<ArchiveSummary, ArchiveError>)> {
    let threads = repository.at_once(listed.len());
    let waiting = Mutex::new(listed.into_iter());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next()
    };
    let work = || {
        std::iter::from_fn(next)
            .map(|listed| (listed.clone(), read_one(repository, listed)))
            .collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        // This thread works too; the others are optional.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work);
        let workers: Vec<_> = (1..threads).map_while(|at| start(at).ok()).collect();
        let mut done = work();
        for worker in workers {
            match worker.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

pub fn read_one(
    repository: &dyn Repository,
    listed: ArchiveRef,
) -> Result<ArchiveSummary, ArchiveError> {
    if is_encrypted_name(&listed.name) {
        return Ok(sidecar_of(repository, &listed.name)?.0.summary(listed));
    }
    let source = repository.source(&listed)?;
    let archive = Archive::from_source(source, &repository.path_of(&listed.name))?;
    Ok(ArchiveSummary::of(listed, archive.manifest()))
}

/// The sidecar of an encrypted archive, parsed and as bytes.
pub fn sidecar_of(
    repository: &dyn Repository,
    name: &str,
) -> Result<(Sidecar, Vec<u8>), ArchiveError> {
    let beside = format!("{name}{SIDECAR_EXTENSION}");
    let json = repository.read_beside(&beside)?;
    let json = json.ok_or_else(|| "it is missing".to_owned());
    json.and_then(|json| Ok((Sidecar::read(&json)?, json)))
        .map_err(|why| ArchiveError::Fault {
            path: repository.path_of(name),
            fault: ArchiveFault::Sidecar(why),
        })
}
