//! Whether an archive already holds all that a new one would: `--if-changed`.
//!
//! In: a capture's request. Out: that archive, verified now, or `None`. Any doubt gives `None`:
//! then a new archive is made, and the capture reports what is wrong.
//!
//! ```text
//! index      … commit of the archive … last entry of the archive … last entry now
//! archive    ────────────────────────┤
//! log now      ──────────────────────┼───────────────────────────┤
//!              what was committed since, or is new: all there, and none of it a change
//! ```
//!
//! Both logs are the same up to the archive's last entry if that entry is in the log now, with its
//! term and with the running CRC over all that was written before it. Index and term alone are not
//! enough: after a restore of an older archive the log may branch and have both again. An
//! entry counts as a change unless it is known to change nothing that a client or an
//! operator asked for.

use std::path::PathBuf;

use crate::archive::verify::verify;
use crate::archive::{Archive, Digests};
use crate::data_dir::scan::survey;
use crate::etcd::entry::EntryClass;
use crate::etcd::ids::Index;
use crate::etcd::member::{MemberFacts, Position};
use crate::etcd::scan::Pass;
use crate::etcd::trace::{Trace, TracedEntry};
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use crate::repository::catalog::Catalog;
use crate::repository::check::prove;
use crate::repository::{ArchiveSummary, Directory, Repository, summarize};
use crate::snapshot::SnapshotRequest;
use crate::snapshot::destination::Destination;

/// The existing archive that makes a new one needless.
#[derive(Debug)]
pub struct Unchanged {
    pub path: PathBuf,
    pub summary: ArchiveSummary,
}

/// The newest archive of the same member, if it has what `request` asks for and nothing has
/// changed since.
pub fn unchanged(
    request: &SnapshotRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Option<Unchanged>, Interrupted> {
    let backup_dir;
    let repository: &dyn Repository = match request.to {
        Destination::BackupDir(dir) => {
            backup_dir = Directory::new(dir);
            &backup_dir
        }
        Destination::Through { repository, .. } => repository,
        Destination::Nowhere => return Ok(None),
    };
    let found = find(request, repository, interrupt, observe);
    // Interrupted work also finds nothing.
    interrupt.check()?;
    Ok(found)
}

/// Every `?` here is a case of doubt.
fn find(
    request: &SnapshotRequest<'_>,
    repository: &dyn Repository,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Option<Unchanged> {
    let catalog = summarize(repository).ok()?;
    // Without any archive the log need not be read.
    catalog.summaries.first()?;
    let now = survey(request.data_dir, Pass::TRACE, interrupt, observe).ok()?;
    if !now.is_valid() {
        return None;
    }
    let (member, trace) = (now.facts.ok()?, now.trace?);
    let newest = newest_of(&member, &catalog)?;
    if !serves(newest, request)
        || !is_same(&newest.position, newest.log_crc, &member.position, &trace)
    {
        return None;
    }
    let path = repository.path_of(newest.name());
    let is_valid = if newest.ciphertext.is_some() {
        // There is no key for encrypted archives here: they were verified when they were made.
        prove(repository, newest, interrupt).is_ok()
    } else {
        let source = repository.source(&newest.listed).ok()?;
        let archive = Archive::from_source(source, &path).ok()?;
        let (pass, digests) = (Pass::CHECK, Digests::All);
        let report = verify(&archive, pass, digests, request.threads, interrupt, observe).ok()?;
        report.is_valid()
    };
    is_valid.then(|| Unchanged {
        path,
        summary: newest.clone(),
    })
}

/// The member's newest archive, unless one that cannot be opened may be newer.
fn newest_of<'c>(member: &MemberFacts, catalog: &'c Catalog) -> Option<&'c ArchiveSummary> {
    let is_own = |summary: &&ArchiveSummary| {
        let of = &summary.identity;
        (of.cluster_id, of.member_id) == (member.identity.cluster_id, member.identity.member_id)
    };
    let mut sound = catalog.summaries.iter().filter(|one| !one.is_damaged());
    let newest = sound.find(is_own)?;
    let written = newest.listed.modified?;
    let mut unreadable = catalog.unreadable.iter();
    let is_older = |modified| modified < written;
    unreadable
        .all(|(listed, _)| listed.modified.is_some_and(is_older))
        .then_some(newest)
}

/// Whether `archive` is of the requested kind, apart from its content.
fn serves(archive: &ArchiveSummary, request: &SnapshotRequest<'_>) -> bool {
    let has = |label: &String| archive.labels.contains(label);
    let encrypts = matches!(
        request.to,
        Destination::Through {
            cipher: Some(_),
            ..
        }
    );
    archive.ciphertext.is_some() == encrypts
        && archive.scope == request.scope
        && !archive.rewound
        && request.labels.iter().all(has)
}

/// Whether the log in `trace`, which ends at `now`, continues the log of an archive that ends
/// at `then` with the running CRC `log_crc`, and holds no change that the archive does not have.
fn is_same(then: &Position, log_crc: Option<u32>, now: &Position, trace: &Trace) -> bool {
    let is_last = |entry: &TracedEntry| entry.term == then.term && Some(entry.log_crc) == log_crc;
    if !trace.entry(then.index).is_some_and(is_last) {
        return false;
    }
    // An entry that was uncommitted in the archive is a change once it is committed.
    let mut expected = then.commit.min(then.index);
    for entry in trace.above(expected) {
        expected = Index(expected.0 + 1);
        let is_news = entry.index > then.index || entry.index <= now.commit;
        if entry.index != expected || (is_news && is_change(entry.class)) {
            return false;
        }
    }
    // A raft snapshot may replace entries in the log.
    expected == now.index
}

fn is_change(class: EntryClass) -> bool {
    match class {
        EntryClass::Sync
        | EntryClass::QuorumRead
        | EntryClass::Empty
        | EntryClass::MemberAttributes => false,
        EntryClass::ClientWrite
        | EntryClass::ConfChange
        | EntryClass::ClustersOwn
        | EntryClass::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::ids::{MemberId, Term};
    use crate::etcd::trace::{EntryDigest, TracedEntry};
    use crate::etcd::wal::log::EntryView;

    fn at(term: u64, index: u64, commit: u64) -> Position {
        Position {
            term: Term(term),
            index: Index(index),
            commit: Index(commit),
            hard_state_term: Term(term),
            vote: MemberId(0),
        }
    }

    /// The running CRC at every entry of [`log`].
    const CRC: Option<u32> = Some(7);

    /// A log of term 2 that begins at `first`.
    fn log(first: u64, classes: &[EntryClass]) -> Trace {
        let digest = EntryDigest::of(&EntryView {
            kind: 0,
            term: Term(2),
            index: Index(1),
            data: &[],
        });
        let entry = |(at, class): (usize, &EntryClass)| TracedEntry {
            index: Index(first + at as u64),
            term: Term(2),
            digest,
            log_crc: 7,
            bytes: 0,
            class: *class,
            clock: None,
        };
        Trace {
            entries: classes.iter().enumerate().map(entry).collect(),
            snapshots: Vec::new(),
        }
    }

    use EntryClass::{
        ClientWrite, ClustersOwn, ConfChange, Empty, MemberAttributes, Other, QuorumRead, Sync,
    };

    #[test]
    fn what_an_idle_cluster_logs_is_no_change_and_all_else_is() {
        let idle = [ClientWrite, Sync, Empty, QuorumRead, MemberAttributes];
        assert!(is_same(
            &at(2, 10, 10),
            CRC,
            &at(2, 14, 14),
            &log(10, &idle)
        ));
        for change in [ClientWrite, ConfChange, ClustersOwn, Other] {
            let classes = [ClientWrite, Sync, change, Sync];
            // An uncommitted entry counts, too: a client may have been told of it.
            for commit in [10, 13] {
                let now = at(2, 13, commit);
                assert!(
                    !is_same(&at(2, 10, 10), CRC, &now, &log(10, &classes)),
                    "{change:?}"
                );
            }
        }
    }

    #[test]
    fn another_history_or_a_log_that_does_not_reach_back_is_unclear() {
        let idle = [Sync, Sync, Sync];
        let now = at(2, 12, 12);
        assert!(is_same(&at(2, 10, 10), CRC, &now, &log(10, &idle)));
        assert!(
            !is_same(&at(1, 10, 10), CRC, &now, &log(10, &idle)),
            "another term"
        );
        assert!(
            !is_same(&at(2, 9, 9), CRC, &now, &log(10, &idle)),
            "compacted"
        );
        assert!(
            !is_same(&at(2, 13, 12), CRC, &now, &log(10, &idle)),
            "it went back"
        );
        for other in [Some(8), None] {
            assert!(
                !is_same(&at(2, 10, 10), other, &now, &log(10, &idle)),
                "other entries of the same index and term"
            );
        }
    }

    #[test]
    fn entries_that_only_a_raft_snapshot_stands_for_are_unclear() {
        let mut holed = log(10, &[Sync, Sync, Sync, Sync]);
        holed.entries.remove(2);
        assert!(!is_same(&at(2, 10, 10), CRC, &at(2, 13, 13), &holed));
        assert!(!is_same(
            &at(2, 11, 11),
            CRC,
            &at(2, 30, 30),
            &log(10, &[Sync, Sync])
        ));
    }

    #[test]
    fn a_write_that_the_archive_holds_is_news_once_it_is_committed() {
        let trace = log(10, &[Sync, ClientWrite, Sync]);
        let then = at(2, 11, 10);
        assert!(is_same(
            &then,
            CRC,
            &at(2, 11, 10),
            &log(10, &[Sync, ClientWrite])
        ));
        assert!(!is_same(&then, CRC, &at(2, 12, 11), &trace));
    }
}
