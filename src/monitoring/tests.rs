//! What the stories of `status` cannot bring about on a disk.

use super::scope::watched;
use super::*;
use crate::archive::manifest::{Scope, Sizes};
use crate::etcd::ids::{Identity, Term};
use crate::etcd::member::Position;
use crate::repository::{Listed, Summary};

fn now() -> Timestamp {
    Timestamp::from_second(1_440_000_000).unwrap()
}

/// An archive of 1000 bytes, made so many hours ago by a member of a cluster of two.
fn archive(name: &str, member: u64, hours: i64) -> Summary {
    let created = now() - SignedDuration::from_hours(hours);
    let time = created.strftime("%Y%m%dT%H%M%S%.3fZ");
    Summary {
        listed: Listed {
            is_link: false,
            name: format!("etcd-{name}-{time}-0000000000000007.tar.zst"),
            bytes: 1000,
            modified: None,
        },
        created,
        identity: Identity {
            cluster_id: ClusterId(1),
            member_id: MemberId(member),
            name: Some(name.to_owned()),
        },
        position: Position {
            term: Term(1),
            index: Index(7),
            commit: Index(7),
            hard_state_term: Term(1),
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
        rewound: false,
        members: vec![MemberId(0xa), MemberId(0xb)],
        ciphertext: None,
    }
}

fn judged(archives: &[Summary], free: Result<Option<u64>, String>) -> Report {
    let watched = watched(archives, now(), None).into_iter();
    let facts = Facts {
        location: "s3://backups".to_owned(),
        now: now(),
        wanted: None,
        watched: watched.map(|one| (one, Proof::Whole)).collect(),
        unreadable: Vec::new(),
        skipped: Vec::new(),
        free,
        read_only: false,
        others: Others::default(),
    };
    let rules = Rules {
        max_age: SignedDuration::from_hours(26),
        warn_age: None,
        size_limit: 100_000_000,
        min_free: None,
    };
    judge(&facts, &rules)
}

#[test]
fn nobody_knows_how_much_fits_into_a_bucket_and_that_is_no_alarm() {
    let report = judged(&[archive("infra0", 0xa, 3)], Ok(None));
    assert_eq!(report.level, Level::Ok);
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.check != "free")
    );
    let report = judged(&[archive("infra0", 0xa, 3)], Err("no answer".to_owned()));
    assert_eq!(report.level, Level::Unknown);
}

#[test]
fn room_is_counted_in_rounds_of_all_members() {
    let archives = [archive("infra0", 0xa, 3), archive("infra1", 0xb, 4)];
    let level = |free| judged(&archives, Ok(Some(free))).level;
    assert_eq!(level(20_000), Level::Ok);
    assert_eq!(level(19_999), Level::Warning);
    assert_eq!(level(4000), Level::Warning);
    assert_eq!(level(3999), Level::Critical);
}

#[test]
fn members_that_share_a_name_are_called_by_their_ids() {
    let archives = [archive("default", 0xa, 3), archive("default", 0xb, 30)];
    let report = judged(&archives, Ok(None));
    assert_eq!(report.level, Level::Critical);
    let names: Vec<_> = report.members.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_removed_member_that_still_takes_backups_is_watched_only_if_it_is_alone() {
    let removed = archive("gone", 0xc, 1);
    let names = |archives: &[Summary]| -> Vec<String> {
        let watched = watched(archives, now(), None).into_iter();
        watched.map(|one| one.name).collect()
    };
    assert_eq!(names(std::slice::from_ref(&removed)), ["gone"]);
    assert_eq!(names(&[removed, archive("infra0", 0xa, 3)]), ["infra0"]);
}

#[test]
fn the_name_of_an_archive_that_cannot_be_opened_tells_whose_newest_it_is() {
    let own = watched(&[archive("node-1", 0xa, 3)], now(), None).remove(0);
    let later = |name: &str, hours| own.is_newer_by_name(archive(name, 0xa, hours).name());
    assert!(later("node-1", 2));
    assert!(!later("node-1", 4));
    assert!(!later("node-2", 2));
    for odd in ["etcd-.tar.zst", "etcd-node-1-x-y.tar.zst", "node-1"] {
        assert!(!own.is_newer_by_name(odd), "{odd}");
    }
}

#[test]
fn a_newest_archive_that_nobody_could_read_is_unknown() {
    let name = |archive: Summary, extension: &str| Unreadable {
        name: archive.listed.name + extension,
        why: "why".to_owned(),
        looked: true,
    };
    let archives = [archive("infra0", 0xa, 3)];
    let judged = |proof: Proof, unreadable: Vec<Unreadable>| {
        let watched = watched(&archives, now(), None).into_iter();
        let facts = Facts {
            location: "s3://backups".to_owned(),
            now: now(),
            wanted: None,
            watched: watched.map(|one| (one, proof.clone())).collect(),
            unreadable,
            skipped: Vec::new(),
            free: Ok(None),
            read_only: false,
            others: Others::default(),
        };
        let rules = Rules {
            max_age: SignedDuration::from_hours(26),
            warn_age: None,
            size_limit: 100_000_000,
            min_free: None,
        };
        judge(&facts, &rules).level
    };
    assert_eq!(
        judged(Proof::Unread("no".to_owned()), Vec::new()),
        Level::Unknown
    );
    let newer = || archive("infra0", 0xa, 1);
    let mut unseen = name(newer(), "");
    unseen.looked = false;
    assert_eq!(judged(Proof::Whole, vec![unseen]), Level::Unknown);
    assert_eq!(
        judged(Proof::Whole, vec![name(newer(), "")]),
        Level::Critical
    );
    // An encrypted one whose sidecar is lost is the newest all the same.
    assert_eq!(
        judged(Proof::Whole, vec![name(newer(), ".age")]),
        Level::Critical
    );
    let older = archive("infra0", 0xa, 9);
    assert_eq!(judged(Proof::Whole, vec![name(older, "")]), Level::Warning);
}
