//! What the backup dir holds.

use crate::upgrade::preflight::tests::*;

#[test]
fn no_archive_of_this_member_or_of_another_fails() {
    let facts = with(|facts| {
        archives(facts).newest.remove(0);
    });
    let words = ["no archive of infra0", "etcd-ark snapshot"];
    fails(&facts, "own-backup", &words);
    expect(&facts, "all-backups", Status::Ok, &["infra1", "infra2"]);
    let facts = with(|facts| {
        archives(facts).newest.pop();
    });
    expect(&facts, "own-backup", Status::Ok, &["2.0 hours old"]);
    fails(&facts, "all-backups", &["infra2: no archive"]);
}

#[test]
fn an_archive_that_is_old_corrupt_late_or_from_the_future_does_not_count() {
    let spoilt = |spoil: fn(&mut Backup)| {
        with(|facts| {
            let all = &mut archives(facts).newest;
            all.iter_mut().for_each(spoil);
        })
    };
    let both = |facts: &Facts, words: &[&str]| {
        fails(facts, "own-backup", words);
        fails(facts, "all-backups", words);
        warns(facts, "way-back", &["take one now"]);
    };
    let facts = spoilt(|backup| backup.created = now().checked_sub(hours(24)).unwrap());
    expect(&facts, "own-backup", Status::Ok, &["24 hours old"]);
    let facts = spoilt(|backup| backup.created = now().checked_sub(hours(25)).unwrap());
    both(&facts, &["25 hours old, more than 24 hours"]);
    let facts = spoilt(|backup| backup.does_not_start = Some("etcd 2.1 does not start".to_owned()));
    both(&facts, &["leads nowhere: etcd 2.1 does not start"]);
    let facts = spoilt(|backup| backup.fault = Some("flipped".to_owned()));
    both(&facts, &["is corrupt: flipped"]);
    let facts = spoilt(|backup| backup.cluster_version = Some(version("2.2.0")));
    both(&facts, &["after the cluster moved to 2.2.0"]);
    let facts = spoilt(|backup| backup.created = now().checked_add(hours(1)).unwrap());
    both(&facts, &["in the future"]);
}

#[test]
fn without_a_data_dir_every_member_is_another() {
    let facts = with(|facts| {
        facts.data = Seen::NotGiven;
        archives(facts).newest.remove(0);
    });
    warns(&facts, "own-backup", &["--data-dir"]);
    fails(&facts, "all-backups", &["infra0: no archive"]);
}
