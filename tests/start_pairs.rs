//! Pairs of damages, on data of several releases: an archive behaves as the verdict on its data dir says.

use std::sync::Mutex;

use etcd_ark::archive::Archive;
use etcd_ark::archive::manifest::Manifest;
use etcd_ark::archive::manifest::Scope;
use etcd_ark::archive::warning::{Warning, WarningCode};
use etcd_ark::data_dir::DataDir;
use etcd_ark::data_dir::scan::survey;
use etcd_ark::data_dir::start::start_verdicts;
use etcd_ark::etcd::scan::Pass;
use etcd_ark::etcd::start::{Verdict, Verdicts};
use etcd_ark::interrupt::Interrupt;
use etcd_ark::restore::{RestoreRequest as Restore, restore};
use etcd_ark::snapshot::destination::Destination;
use etcd_ark::snapshot::error::CaptureError;
use etcd_ark::snapshot::{CreatedAt, SnapshotRequest, capture};
use jiff::Timestamp;

use crate::support::damages::{Damaged, pairs};
use crate::support::prelude::*;

/// How many pairs are tried, if not all: a second's worth.
const SAMPLE: u64 = 120;

/// The keys that each line serves, where it starts.
fn keys(verdicts: &Verdicts) -> [Option<u64>; 4] {
    [0, 1, 2, 3].map(|line| match &verdicts[line].1 {
        Verdict::Starts(way) => way.keys,
        _ => None,
    })
}

/// A live archive of it: what is restored from it, and what it says of itself.
fn archived(data: &Path, work: &Path) -> Result<(Verdicts, Manifest), CaptureError> {
    let (data_dir, interrupt) = (DataDir::open(data, None)?, Interrupt::default());
    let backups = work.join("backups");
    let request = SnapshotRequest {
        data_dir: &data_dir,
        to: Destination::BackupDir(&backups),
        scope: Scope::Live,
        labels: Vec::new(),
        level: 1,
        threads: 1,
        size_limit: u64::MAX,
        created: CreatedAt::At(Timestamp::UNIX_EPOCH),
        lock: None,
    };
    let captured = capture(&request, &interrupt, &mut |_| {})?;
    let archive = Archive::open(&captured.path).unwrap();
    let restored = work.join("restored");
    let request = Restore {
        archive: &archive,
        data_dir: &restored,
        wal_dir: None,
        replace: false,
        owner: None,
        dry_run: false,
        damaged: true,
        threads: 1,
        now: Timestamp::UNIX_EPOCH,
    };
    restore(&request, &interrupt, &mut |_| {}).unwrap();
    let verdicts = start_verdicts(&restored, None, true).unwrap();
    Ok((verdicts, archive.manifest().clone()))
}

fn contradiction(damaged: &Damaged, work: &Path) -> Option<String> {
    let before = start_verdicts(&damaged.path, None, true).unwrap();
    let data_dir = DataDir::open(&damaged.path, None).ok()?;
    let is_valid = survey(&data_dir, Pass::CHECK, &Interrupt::default(), &mut |_| {})
        .is_ok_and(|found| found.is_valid());
    let starts = |line: &str, verdicts: &Verdicts| {
        let of = verdicts
            .iter()
            .find(|(release, _)| release.to_string() == line);
        of.is_some_and(|(_, verdict)| verdict.is_yes())
    };
    match archived(&damaged.path, work) {
        Ok((after, manifest)) => {
            let kept = keys(&before).into_iter().zip(keys(&after));
            for (before, after) in kept {
                if before.is_some() && before != after {
                    return Some(format!(
                        "a server with {before:?} keys has {after:?} from the archive"
                    ));
                }
            }
            let own = manifest.member.release().map(|release| release.to_string());
            let lacks = |one: &Warning| one.code == WarningCode::SourceDoesNotStart;
            let says = manifest.does_not_start.is_some() && !manifest.warnings.iter().any(lacks);
            let own_starts = own.as_deref().map(|own| starts(own, &after));
            (own_starts == Some(says)).then(|| {
                format!(
                    "{own:?} starts: {own_starts:?}, and the manifest says {:?}",
                    manifest.does_not_start
                )
            })
        }
        Err(_) if is_valid && starts(damaged.line, &before) => Some(
            "verify finds nothing damaged and its release starts, and snapshot refuses".to_owned(),
        ),
        Err(CaptureError::Source { also, .. }) => {
            let some_start = before.iter().any(|(_, verdict)| verdict.is_yes());
            (some_start != also.is_some())
                .then(|| format!("some servers start: {some_start}, and snapshot says {also:?}"))
        }
        Err(_) => None,
    }
}

#[test]
fn what_starts_from_a_damaged_data_dir_starts_from_its_archive_with_the_same_keys() {
    let sample = (!is_thorough()).then_some(SAMPLE);
    let found = Mutex::new((0, Vec::new()));
    pairs(sample, 14, |damaged| {
        let work = fast_dir("ark-pair-");
        let wrong = contradiction(damaged, work.path());
        let mut found = found.lock().unwrap();
        found.0 += 1;
        found
            .1
            .extend(wrong.map(|wrong| format!("{}: {wrong}", damaged.name)));
    });
    let (tried, wrong) = found.into_inner().unwrap();
    println!("{tried} pairs of damages tried, {} contradict", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
