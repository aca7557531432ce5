//! If the gate allows, the server starts: compared with what real servers did with 357 data dirs.

use etcd_ark::etcd::ids::Release;
use etcd_ark::interrupt::Interrupt;
use etcd_ark::target::Target;
use etcd_ark::upgrade::downgrade::collect::{CollectError, EvidenceRequest, ask, read};
use etcd_ark::upgrade::downgrade::evidence::{Ran, Step};
use etcd_ark::upgrade::downgrade::gate::{Verdict, decide};

use crate::support::ark::Ran as Output;
use crate::support::prelude::*;

fn release(text: &str) -> Release {
    text.parse().unwrap()
}

/// The verdict on a cluster of one, stopped; `None` where the data dir cannot be read.
fn verdict_on(target: &Target, step: Step) -> Option<Verdict> {
    let request = EvidenceRequest {
        step,
        own: Some(target),
        others: &[],
        cluster: None,
        offline: false,
        ran: Ran {
            release: step.from,
            assumed: true,
        },
        threads: 1,
    };
    let disks = match read(&request, &Interrupt::default(), &mut |_| ()) {
        Ok(disks) => disks,
        Err(CollectError::Store(_)) => return None,
        Err(error) => panic!("{error}"),
    };
    match ask(&request, &disks) {
        Ok(collected) => Some(decide(&collected.evidence)),
        Err(CollectError::NotAMember { .. } | CollectError::EtcdctlBackup(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_data_dir_that_the_gate_allows_is_one_that_the_older_server_did_not_start_from() {
    let recording = unpack("start-verdicts");
    let seen = recording.json("start-verdicts/verdicts.json");
    let (mut allowed, mut refused, mut wrong) = (0, 0, Vec::new());
    for (case, seen) in seen.as_object().unwrap() {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let Ok(target) = Target::open(&dir, None) else {
            continue;
        };
        for (from, to, server) in [
            ("2.1", "2.0", "2.0.13"),
            ("2.2", "2.1", "2.1.3"),
            ("2.3", "2.2", "2.2.5"),
            ("3.0", "2.3", "2.3.8"),
        ] {
            let step = Step {
                from: release(from),
                to: release(to),
            };
            match verdict_on(&target, step) {
                Some(Verdict::Allowed(_) | Verdict::AllowedWithWarning(..)) => {
                    allowed += 1;
                    let started = &seen[server];
                    if started["starts"] != Value::Bool(true) || started["keys"] == 0 {
                        wrong.push(format!("{case}, {from} to {to}: {started}"));
                    }
                }
                Some(Verdict::DoesNotStart(_)) => refused += 1,
                _ => {}
            }
        }
    }
    println!("{allowed} allowed, {refused} refused because the older server does not start");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(allowed > 50 && refused > 10, "{allowed}, {refused}");
}

fn check(args: &[&str]) -> Output {
    ark([&["downgrade", "check"], args].concat())
}

#[test]
fn a_left_over_backend_of_3_0_refuses_the_way_back_to_2_3() {
    let recording = unpack("v23");
    let data = recording.data_dir("v23");
    crate::support::relabel_member::make_unreachable(&data);
    let dir = data.to_str().unwrap();
    let flags = ["--from", "3.0", "--to", "2.3", "--data-dir", dir];
    check(&flags).exits(0);
    fs::write(data.join("member/snap/db"), [0; 4096]).unwrap();
    let ran = check(&flags).exits(3);
    assert_has_each(
        &ran.stdout,
        &[
            "REFUSED: etcd 2.3 does not start from these data",
            "`snap/db` is there: a 3.x server has run on it",
        ],
    );
    let said = check(&[&flags[..], &["--json"]].concat()).exits(3).json();
    assert_eq!(said["reason"], "does-not-start");
    let backups = recording.path("backups");
    let to = ["--backup-dir", backups.to_str().unwrap(), "--settle", "0"];
    let run = [&["downgrade", "run"], &flags[..], &to].concat();
    ark(run).exits(3).says("etcd 2.3 does not start");
    assert!(!backups.exists());
}

#[test]
fn what_the_older_release_does_with_moved_data_is_said_as_it_is() {
    // 2.1 starts on data of 2.2 without a word; 2.2 exits on data of 2.3.
    let recording = unpack("v23");
    let data = recording.data_dir("v23");
    crate::support::relabel_member::make_unreachable(&data);
    let dir = data.to_str().unwrap();
    let verified = ark(["verify", dir]).exits(0).stdout;
    let starts = "starts: etcd 2.3 (2.0, 2.1 as well, but the cluster is at 2.3: do not)";
    assert!(verified.contains(starts), "{verified}");
    let inspected = ark(["inspect", dir]).exits(0).stdout;
    let older = "etcd 2.1: yes, but the cluster is at 2.3: do not";
    assert!(inspected.contains(older), "{inspected}");
    let ran = check(&["--from", "2.3", "--to", "2.2", "--data-dir", dir]).exits(3);
    assert_has(
        &ran.stdout,
        "etcd 2.2 does not start from it: the cluster version 2.3 is higher than the server's (etcd: `cluster cannot be downgraded`)",
    );
    let ran = check(&["--from", "2.2", "--to", "2.1", "--data-dir", dir]).exits(3);
    assert_has(
        &ran.stdout,
        "etcd 2.1 would start on this data and report healthy without any warning.",
    );
}
