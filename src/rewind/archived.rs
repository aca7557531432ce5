//! Whether the new archives of a rewind lead to one store, though only the first is replayed.
//!
//! In: archives, each as it was read back. Out: a refusal that names the first one with another raft snapshot or log than the
//! first archive has.

use crate::archive::manifest::Role;
use crate::etcd::membership::Member;
use crate::etcd::trace::TracedEntry;
use crate::rewind::RewindError;
use crate::rewind::input::member_text;
use crate::snapshot::Captured;

/// A member's new archive.
#[derive(Debug)]
pub struct Archived {
    /// As it will be in the new cluster.
    pub member: Member,
    pub captured: Captured,
}

impl Archived {
    /// Whether it has the same raft snapshot and the same entries as `other`, as both were read back.
    fn is_like(&self, other: &Self) -> bool {
        let snapshot = |archived: &Self| {
            let mut files = archived.captured.manifest.files.iter();
            let file = files.find(|file| file.role == Role::RaftSnapshot);
            file.map(|file| file.sha256)
        };
        let (Some(ours), Some(theirs)) = (&self.captured.proof, &other.captured.proof) else {
            return false;
        };
        let entry = |entry: &TracedEntry| (entry.index, entry.term, entry.digest);
        let (ours, theirs) = (ours.trace.entries.iter(), theirs.trace.entries.iter());
        snapshot(self) == snapshot(other) && ours.map(entry).eq(theirs.map(entry))
    }
}

/// Refuses if one of them has another raft snapshot or log than the first, which was replayed.
pub(super) fn refuse_unless_alike(made: &[Archived]) -> Result<(), RewindError> {
    let Some((first, others)) = made.split_first() else {
        return Ok(());
    };
    match others.iter().find(|other| !other.is_like(first)) {
        Some(other) => Err(unproven(&other.member, "its store")),
        None => Ok(()),
    }
}

pub(super) fn unproven(member: &Member, what: &'static str) -> RewindError {
    RewindError::Unproven {
        member: member_text(Some(&member.name), member.id),
        what,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::archive::manifest::{FileEntry, Manifest};
    use crate::etcd::digest::Digest;
    use crate::etcd::entry::EntryClass;
    use crate::etcd::ids::{ClusterId, Index, MemberId, Term};
    use crate::etcd::trace::{EntryDigest, Trace};
    use crate::etcd::wal::log::EntryView;
    use crate::snapshot::ReadBack;

    /// An entry of term 2; `log_crc` differs in every member's log, which begins with the member's id.
    fn entry(index: u64, data: &[u8], log_crc: u32) -> TracedEntry {
        let (term, index) = (Term(2), Index(index));
        let digest = EntryDigest::of(&EntryView {
            kind: 0,
            term,
            index,
            data,
        });
        TracedEntry {
            index,
            term,
            digest,
            log_crc,
            bytes: data.len() as u32,
            class: EntryClass::ClientWrite,
            clock: None,
        }
    }

    /// The archive of the member `id`, with a raft snapshot and two entries.
    fn archived(id: u64) -> Archived {
        let mut manifest = Manifest::sample(ClusterId(1));
        let file = |path: &str, role, sha256| FileEntry {
            path: path.to_owned(),
            size: 1,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Timestamp::UNIX_EPOCH,
            sha256: Digest(sha256),
            role,
        };
        manifest.files = vec![
            file("member/snap/1", Role::RaftSnapshot, [1; 32]),
            file("member/wal/1", Role::Wal, [id as u8; 32]),
        ];
        let entries = [(8, b"a"), (9, b"b")].map(|(at, data)| entry(at, data, id as u32));
        let trace = Trace {
            entries: entries.into(),
            snapshots: Vec::new(),
        };
        Archived {
            member: Member {
                id: MemberId(id),
                name: format!("m{id}"),
                peer_urls: Vec::new(),
                client_urls: Vec::new(),
            },
            captured: Captured {
                path: "archive".into(),
                bytes: 1,
                sha256: Digest([0; 32]),
                manifest,
                proof: Some(ReadBack {
                    store: None,
                    trace,
                    starts: None,
                }),
                alone: true,
            },
        }
    }

    #[test]
    fn an_archive_that_may_lead_to_another_store_than_the_first_is_refused() {
        // Guards against members of one cluster with different stores: only the first archive is replayed.
        type Change = fn(&mut Captured);
        fn entries(captured: &mut Captured) -> &mut Vec<TracedEntry> {
            &mut captured.proof.as_mut().unwrap().trace.entries
        }
        let alike = [1, 2, 3].map(archived);
        assert!(refuse_unless_alike(&alike).is_ok());
        let changes: [(&str, Change); 8] = [
            ("another snapshot", |c| c.manifest.files[0].sha256.0[31] = 9),
            ("without a snapshot", |c| drop(c.manifest.files.remove(0))),
            ("another entry", |c| entries(c)[1] = entry(9, b"c", 3)),
            ("another term", |c| entries(c)[1].term = Term(3)),
            ("another index", |c| entries(c)[0].index = Index(7)),
            ("one entry less", |c| entries(c).truncate(1)),
            ("one entry more", |c| entries(c).push(entry(10, b"", 3))),
            ("not read back", |c| c.proof = None),
        ];
        for (what, change) in changes {
            let mut made = [1, 2, 3].map(archived);
            change(&mut made[2].captured);
            let refused = refuse_unless_alike(&made).unwrap_err().to_string();
            assert!(refused.contains("m3"), "{what}: {refused}");
        }
    }
}
