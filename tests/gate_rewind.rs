//! The gate's forecast of a rewind is what `rewind` does: the printed command is run as printed, and loses as much as
//! was said.
//!
//! Guards against a forecast of 40 lost writes that becomes 120, because the two count by different rules or a flag is
//! missing.

use crate::support::encode::{
    CLUSTER_ID, NORMAL, SegmentBuilder, bootstrap, members, request, segment_name, sync_request,
};
use crate::support::prelude::*;
use crate::support::relabel_member::make_unreachable;

/// One entry of a history.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Write,
    Sync,
    Version(&'static str),
}

/// Writes the data dir of the member `own` of three whose log holds `history` up to `length` of it, `known` of those committed as
/// far as it knows.
fn write_member(dir: &Path, own: u64, history: &[Entry], length: usize, known: usize) {
    let wal = dir.join("member/wal");
    for path in [dir, &dir.join("member"), &wal, &dir.join("member/snap")] {
        make_dir(path);
    }
    let mut segment = SegmentBuilder::new(0, false);
    segment.crc().metadata(own, CLUSTER_ID).marker(0, 0);
    let (mut term, mut index) = (1, 0);
    for change in bootstrap(&members(), None) {
        let (kind, data) = change.entry();
        if kind == NORMAL && term == 1 {
            segment.hard_state(1, 0, index);
            (term, index) = (2, index + 1);
            segment.entry(NORMAL, term, index, None);
        }
        index += 1;
        segment.entry(kind, term, index, Some(&data));
    }
    let before = index;
    for (number, entry) in history.iter().take(length).enumerate() {
        let data = match entry {
            Entry::Write => request("PUT", &format!("/1/key{number}"), "value"),
            Entry::Sync => sync_request(1_440_000_000_000_000_000 + i64::try_from(number).unwrap()),
            Entry::Version(version) => request("PUT", "/0/version", version),
        };
        index += 1;
        segment.entry(NORMAL, term, index, Some(&data));
    }
    let commit = before + known.min(length) as u64;
    segment.hard_state(term, own, commit);
    write_file(&wal.join(segment_name(0, 0)), 0o600, segment.bytes());
}

/// What `downgrade check --offline` says of `targets`.
fn gate(targets: &[PathBuf], flags: &[&str]) -> Ran {
    let paths = targets.iter().map(|path| path.to_str().unwrap());
    let args = ["downgrade", "check", "--offline", "--json"].into_iter();
    let all: Vec<&str> = args.chain(flags.iter().copied()).chain(paths).collect();
    ark(all)
}

/// Runs a printed command as printed, with `--json` behind it.
pub(crate) fn as_printed(command: &str, dir: &Path) -> Ran {
    let path = Path::new(BINARY).parent().unwrap();
    let usual = std::env::var("PATH").unwrap();
    let mut shell: Command = clean("sh");
    shell
        .env("PATH", format!("{}:{usual}", path.display()))
        .current_dir(dir)
        .args(["-c", &format!("{command} --json")]);
    run(&mut shell)
}

/// What the gate says is left is what the printed rewind does; whether it does anything.
#[track_caller]
fn holds(said: &Value) -> bool {
    let scratch = TempDir::new().unwrap();
    let (left, to) = (&said["left"], said["to"].as_str().unwrap());
    if left["refused"] != Value::Null {
        assert_eq!(left["command"], Value::Null, "{left:#}");
        let disks = said["disks"].as_array().unwrap().iter();
        let targets: Vec<_> = disks.map(|disk| disk["target"].as_str().unwrap()).collect();
        let (_, minor) = to.split_once('.').unwrap();
        let refused = format!(
            "etcd-ark rewind {} --to last-before:2.{} --out rewound",
            targets.join(" "),
            minor.parse::<u32>().unwrap() + 1
        );
        let ran = as_printed(&refused, scratch.path());
        assert_ne!(ran.code, 0, "{left:#} and {ran:#?}");
        return false;
    }
    let ran = as_printed(left["command"].as_str().unwrap(), scratch.path());
    let done = ran.exits(0).json();
    assert_eq!(done["to_raft_index"], left["to_raft_index"], "{left:#}");
    assert_eq!(done["lost"]["entries"], left["entries"], "{left:#}");
    // It leads to the release that was asked for, also where another one is between.
    let version = done["cluster_version"].as_str().unwrap_or("2.0.0");
    assert!(
        version <= format!("{to}.9").as_str(),
        "{version} for {to}: {left:#}"
    );
    assert_eq!(
        done["lost"]["client_writes"], left["client_writes"],
        "{left:#}"
    );
    assert_eq!(done["moved"] != Value::Null, left["is_before_move"] == true);
    assert!(!names(&scratch.path().join("rewound")).is_empty());
    true
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// A cluster that went up release by release, with writes in between.
fn history(dice: &mut Dice, versions: &[&'static str]) -> Vec<Entry> {
    let mut history = Vec::new();
    for version in versions {
        history.push(Entry::Version(version));
        for _ in 0..=dice.roll(12) {
            history.push(if dice.roll(3) == 0 {
                Entry::Sync
            } else {
                Entry::Write
            });
        }
    }
    history
}

#[test]
fn over_histories_of_up_to_four_releases_and_each_pair_the_printed_rewind_loses_what_was_said() {
    let mut dice = Dice(7);
    let (mut done, mut refused, mut allowed) = (0, 0, 0);
    for round in 0..12 {
        let all = ["2.0.0", "2.1.0", "2.2.0", "2.3.0"];
        let first = dice.roll(2);
        let history = history(&mut dice, &all[first..]);
        let scratch = TempDir::new().unwrap();
        let mut targets = Vec::new();
        for (id, name, _) in members() {
            // A member that lags, one that has not heard what is committed, an archive from before the end.
            let length = history.len() - dice.roll(history.len() / 2);
            let known = length - dice.roll(4).min(length);
            let dir = scratch.path().join(name);
            write_member(&dir, id, &history, length, known);
            let is_archive = dice.roll(3) == 0;
            targets.push(if is_archive {
                snapshot(&dir, scratch.path(), &[]).0
            } else {
                dir
            });
        }
        targets.truncate(1 + dice.roll(3));
        for (from, to) in [
            ("2.1", "2.0"),
            ("2.2", "2.1"),
            ("2.3", "2.2"),
            ("2.3", "2.1"),
        ] {
            let said = gate(&targets, &["--from", from, "--to", to]).json();
            match said["reason"].as_str().unwrap() {
                "moved" | "moving" if holds(&said) => done += 1,
                "moved" | "moving" => refused += 1,
                _ => {
                    assert_eq!(said["left"], Value::Null, "{round}: {said:#}");
                    allowed += 1;
                }
            }
        }
    }
    println!("{done} rewound as said, {refused} refused by both, {allowed} with nothing to rewind");
    assert!(done > 12, "{done}, {refused}, {allowed}");
}

#[test]
fn a_recorded_upgrade_is_rewound_as_said_by_any_of_its_data_with_pre_upgrade_archives_among_them() {
    let story = unpack("upgrade-story");
    let scratch = TempDir::new().unwrap();
    let dir = |name: &str| {
        let path = story.data_dir(name);
        make_unreachable(&path);
        path
    };
    let after = dir("3-after-upgrade-infra0");
    let (late, _) = snapshot(&dir("3-after-upgrade-infra1"), scratch.path(), &[]);
    let (early, _) = snapshot(&dir("2-backup-infra0"), scratch.path(), &[]);
    let all = [after.clone(), late, early.clone(), dir("2-backup-infra2")];
    let mut done = 0;
    for chosen in 1..16_usize {
        let chosen = (0..4).filter(|n| chosen >> n & 1 == 1);
        let targets: Vec<_> = chosen.map(|n| all[n].clone()).collect();
        let said = gate(&targets, &[]).json();
        if said["reason"] == "moved" {
            done += u32::from(holds(&said));
        }
    }
    assert_eq!(done, 12, "each with data from after the move in it");
    // An earlier archive alone cannot tell what came later, and the output says so.
    let fake = crate::support::fake_cluster::FakeCluster::of_story("3-after-upgrade");
    for member in fake.members() {
        member.applied(498, 2, 450);
    }
    let endpoints = fake.endpoints();
    let args = ["downgrade", "check", "--endpoints", &endpoints];
    let early = early.to_str().unwrap();
    let said = ark([&args[..], &["--json", early]].concat())
        .exits(3)
        .json();
    let left = &said["left"];
    assert_eq!(left["is_before_move"], false);
    assert!(
        left["not_counted_after_raft_index"].as_u64() < left["members_raft_index"].as_u64(),
        "{left:#}"
    );
    let text = ark([&args[..], &[early]].concat()).exits(3).stdout;
    assert_has_each(
        &text,
        &[
            "the version change came later and is not in them",
            "is lost too and cannot be counted here: the members are at entry 498",
        ],
    );
    holds(&said);
}

#[test]
fn a_wal_dir_and_a_path_with_a_space_are_in_the_printed_command() {
    let recording = unpack("upgrade-story");
    // A `=` in them was where the pair was split.
    let data = recording.path("data dir=a=b");
    let wal = recording.path("its=wal");
    fs::rename(recording.data_dir("3-after-upgrade-infra0"), &data).unwrap();
    fs::rename(data.join("member/wal"), &wal).unwrap();
    let flags = [
        "--data-dir",
        data.to_str().unwrap(),
        "--wal-dir",
        wal.to_str().unwrap(),
    ];
    let said = gate(&[], &flags).json();
    assert_eq!(said["reason"], "moved");
    let command = said["left"]["command"].as_str().unwrap();
    let pair = format!("--wal-dir '{}={}'", data.display(), wal.display());
    assert!(command.contains(&pair), "{command}");
    assert!(holds(&said), "{said:#}");
}
