//! The checklist on facts made by hand: each reason for WARN and FAIL, one by one.

mod backups;
mod data_dir;
mod log_reach;
mod members;
mod watch;

use std::path::PathBuf;

use super::backups::Backup;
use super::data_dir::{ReplayFacts, Space};
use super::*;
use crate::cluster::{
    Applied, MemberState, MemberStatus, ProbeError, ReportedVersion, Role, UnknownEndpoint,
};
use crate::etcd::growth_rate::Pace;
use crate::etcd::ids::{
    ClusterId, ClusterVersion, Identity, Index, MemberId, SnapshotId, Term, V2_1, V2_2,
};
use crate::etcd::member::{MemberFacts, Position, VersionChange};
use crate::etcd::membership::Member;
use crate::etcd::replay::{InOrderDirectory, InOrderPosts};
use crate::etcd::wal::log::SegmentFacts;

const CLUSTER: ClusterId = ClusterId(0xc1);
const GB: u64 = 1_000_000_000;

fn now() -> Timestamp {
    "2015-10-01T12:00:00Z".parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn member(number: u64) -> Member {
    Member {
        id: MemberId(number + 1),
        name: format!("infra{number}"),
        ..Member::default()
    }
}

fn url(number: u64) -> String {
    format!("http://10.0.1.1{number}:2379")
}

fn version(text: &str) -> ClusterVersion {
    text.parse().unwrap()
}

/// Member `number` of three, all healthy, with infra0 as the leader.
fn well(number: u64) -> MemberState {
    MemberState {
        member: member(number),
        named_by_cluster: true,
        said: Ok(MemberStatus {
            url: url(number),
            server_version: "2.1.3".parse().unwrap(),
            cluster_version: ReportedVersion::Is(version("2.1.0")),
            healthy: Some(true),
            role: Some(Role {
                leads: number == 0,
                leader: Some(MemberId(1)),
            }),
            quorum_read: Ok(Applied {
                raft_index: Index(30_000),
                raft_term: Term(2),
                etcd_index: 20_000,
            }),
            members: Some([1, 2, 3].map(MemberId).to_vec()),
        }),
    }
}

fn identity(number: u64) -> Identity {
    Identity {
        cluster_id: CLUSTER,
        member_id: MemberId(number + 1),
        name: Some(format!("infra{number}")),
    }
}

fn position() -> Position {
    Position {
        term: Term(2),
        index: Index(30_000),
        commit: Index(30_000),
        hard_state_term: Term(2),
        vote: MemberId(1),
    }
}

fn member_facts() -> MemberFacts {
    MemberFacts {
        identity: identity(0),
        position: position(),
        log_crc: None,
        raft_snapshot: Some(snapshot(20_002)),
        cluster_version: Some(version("2.1.0")),
        versions: vec![VersionChange {
            version: version("2.1.0"),
            set_at: Some(Index(4)),
            committed: true,
        }],
        members: [0, 1, 2].map(member).to_vec(),
        removed_members: Vec::new(),
        removal_pending: false,
        segments: vec![segment(0, 1, 30_000, 6_000_000)],
        log_bytes_above_snapshot: 2_000_000,
        replaced_entries: 0,
        jumps: Vec::new(),
    }
}

fn segment(sequence: u64, first: u64, last: u64, bytes: u64) -> SegmentFacts {
    SegmentFacts {
        name: String::new(),
        sequence,
        bytes,
        records_end: bytes,
        torn: false,
        first: Some(Index(first)),
        last: Some(Index(last)),
    }
}

fn snapshot(index: u64) -> SnapshotId {
    SnapshotId {
        term: Term(2),
        index: Index(index),
    }
}

/// Two entries a second, up to now.
fn pace() -> Pace {
    let begin = now().checked_sub(hours(1)).unwrap();
    Pace::of(vec![(Index(30_000 - 7200), begin), (Index(30_000), now())])
}

fn data() -> DataFacts {
    let space = |device| Space {
        free: 10 * GB,
        device,
    };
    DataFacts {
        path: PathBuf::from("/var/lib/etcd"),
        dedicated_wal: None,
        running: true,
        member: Ok(member_facts()),
        faults: Vec::new(),
        starts: None,
        data_bytes: 3_000_000,
        directory_bytes: 8_000_000,
        raft_snapshots: vec![snapshot(10_001), snapshot(20_002)],
        replay: Some(ReplayFacts {
            in_order: InOrderPosts::default(),
            refreshes: 0,
            pace: pace(),
        }),
        space: space(1),
        wal_space: space(1),
        auth_enabled: Some(false),
    }
}

fn backup(number: u64) -> Backup {
    Backup {
        path: PathBuf::from(format!("/backup/etcd-infra{number}.tar.zst")),
        created: now().checked_sub(hours(2)).unwrap(),
        labels: vec!["pre-upgrade".to_owned()],
        identity: identity(number),
        position: position(),
        cluster_version: Some(version("2.1.0")),
        fault: None,
        does_not_start: None,
    }
}

fn good() -> Facts {
    Facts {
        rules: PreflightOptions {
            from: V2_1,
            to: V2_2,
            size_limit: 100_000_000,
            accept_data_size: false,
            max_backup_age: hours(24),
        },
        now: now(),
        look: ClusterState {
            cluster_id: Some(CLUSTER),
            members: vec![well(0), well(1), well(2)],
            unknown_endpoints: Vec::new(),
        },
        data: Seen::Found(data()),
        backups: Seen::Found(Backups {
            dir: PathBuf::from("/backup"),
            newest: vec![backup(0), backup(1), backup(2)],
            unreadable: Vec::new(),
            space: Some(Space {
                free: 50 * GB,
                device: 2,
            }),
        }),
    }
}

/// The facts of [`good`] with one change.
fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = good();
    change(&mut facts);
    facts
}

fn said(facts: &mut Facts, number: usize) -> &mut MemberStatus {
    facts.look.members[number].said.as_mut().unwrap()
}

fn silence(facts: &mut Facts, number: usize) {
    facts.look.members[number].said = Err(ProbeError::Unreachable {
        url: url(number as u64),
        why: "connection refused".to_owned(),
    });
}

fn found(facts: &mut Facts) -> &mut DataFacts {
    match &mut facts.data {
        Seen::Found(data) => data,
        _ => panic!("no data dir"),
    }
}

fn archives(facts: &mut Facts) -> &mut Backups {
    match &mut facts.backups {
        Seen::Found(backups) => backups,
        _ => panic!("no backup dir"),
    }
}

fn check(facts: &Facts, id: &str) -> Check {
    let found = checks(facts).into_iter().find(|check| check.id == id);
    found.unwrap_or_else(|| panic!("no check {id}"))
}

/// The check `id` ends with `status`, and `words` stand in its evidence or advice.
#[track_caller]
fn expect(facts: &Facts, id: &str, status: Status, words: &[&str]) {
    let check = check(facts, id);
    let advice = check.advice.clone().unwrap_or_default();
    let text = check.evidence.join("\n") + "\n" + &advice;
    assert_eq!(check.status, status, "{id}: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {id}: {text}");
    }
}

#[track_caller]
fn fails(facts: &Facts, id: &str, words: &[&str]) {
    expect(facts, id, Status::Fail, words);
}

#[track_caller]
fn warns(facts: &Facts, id: &str, words: &[&str]) {
    expect(facts, id, Status::Warn, words);
}

/// The checks that do not pass.
fn complaints(facts: &Facts) -> Vec<(&'static str, Status)> {
    let all = checks(facts).into_iter();
    let bad = all.filter(|check| matches!(check.status, Status::Warn | Status::Fail));
    bad.map(|check| (check.id, check.status)).collect()
}

#[test]
fn a_cluster_as_the_guide_wants_it_passes_every_check_and_is_reminded_of_staging() {
    let facts = good();
    assert_eq!(complaints(&facts), []);
    let notes: Vec<_> = checks(&facts)
        .into_iter()
        .filter(|check| check.status == Status::Note)
        .map(|check| check.id)
        .collect();
    assert_eq!(notes, ["staging"]);
}

#[test]
fn every_check_that_does_not_pass_says_what_to_do() {
    let nothing = Facts {
        data: Seen::NotGiven,
        backups: Seen::NotGiven,
        look: ClusterState::default(),
        ..good()
    };
    for check in checks(&nothing) {
        assert!(!check.evidence.is_empty(), "{check:?}");
        let first = &check.evidence[0];
        // The advice about members that do not answer is given once.
        let is_told = first.contains("give --") || first.contains("no member answered");
        let says = check.advice.is_some() || is_told;
        let passes = matches!(check.status, Status::Ok | Status::Note);
        assert_eq!(says, !passes, "{check:?}");
    }
}
