//! Whether a server starts from a data dir, against what real servers of four releases did with 357.

use etcd_ark::data_dir::start::start_verdicts;
use etcd_ark::etcd::start::{Verdict, Verdicts};
use serde_json::Value;

use crate::support::recordings::unpack;

/// The patch releases that the verdicts were seen on, in the order of the release lines.
const SERVERS: [&str; 4] = ["2.0.13", "2.1.3", "2.2.5", "2.3.8"];

/// What is wrong with a verdict, if anything: whether it starts, and with how many keys.
fn difference(verdict: &Verdict, seen: &Value) -> Option<String> {
    let starts = seen["starts"].as_bool().unwrap();
    let equal = match verdict {
        Verdict::Starts(way) => starts && way.keys == seen["keys"].as_u64(),
        Verdict::Empty => starts && seen["keys"] == 0,
        Verdict::DoesNotStart(_) | Verdict::ForceNewClusterOnly => !starts,
    };
    (!equal).then(|| format!("{verdict:?}, but {seen}"))
}

/// Whether the reason is the one that the server gave.
fn same_message(verdict: &Verdict, line: etcd_ark::etcd::ids::Release, seen: &Value) -> bool {
    let Verdict::DoesNotStart(reason) = verdict else {
        return true;
    };
    let why = seen["why"].as_str().unwrap_or_default();
    reason.etcd_says(line).is_none_or(|says| {
        let says = says.strip_prefix("panic: ").unwrap_or(&says);
        why.contains(says)
    })
}

#[test]
fn every_verdict_is_that_of_the_real_server() {
    let recording = unpack("start-verdicts");
    let seen = recording.json("start-verdicts/verdicts.json");
    let mut compared = 0;
    let (mut wrong, mut worded) = (Vec::new(), Vec::new());
    for (case, seen) in seen.as_object().unwrap() {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let verdicts: Verdicts = start_verdicts(&dir, None, true).unwrap();
        for ((line, verdict), server) in verdicts.iter().zip(SERVERS) {
            compared += 1;
            if let Some(difference) = difference(verdict, &seen[server]) {
                wrong.push(format!("{case} on {server}: {difference}"));
            } else if !same_message(verdict, *line, &seen[server]) {
                worded.push(format!(
                    "{case} on {server}: {verdict:?}, but {}",
                    seen[server]
                ));
            }
        }
    }
    println!(
        "{compared} verdicts compared, {} differ; {} have another message",
        wrong.len(),
        worded.len()
    );
    println!("{}", worded.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(compared, 1428);
}
