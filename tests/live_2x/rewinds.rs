//! Rewinds of clusters of real servers in which raft itself has left more than one history.

use super::{Roll, ark_with};
use crate::support::etcd::http_within;
use crate::support::prelude::*;
use crate::support::trio::MEMBERS;

#[test]
fn what_a_killed_leader_wrote_ahead_is_left_out_and_every_acknowledged_key_comes_back() {
    // Guards against a refusal after the most ordinary accident: a leader without a quorum takes writes, and dies.
    let Some(mut roll) = Roll::start() else {
        return;
    };
    let leader = (0..MEMBERS).find(|n| roll.trio.leads(*n)).unwrap();
    let others: Vec<_> = (0..MEMBERS).filter(|n| *n != leader).collect();
    for n in &others {
        roll.trio.kill(*n);
    }
    for number in 0..3 {
        let path = format!("/v2/keys/app/never-{number}");
        let patience = Duration::from_millis(300);
        let answer = http_within(patience, roll.trio.client(leader), "PUT", &path, "value=x");
        assert!(!matches!(answer, Ok((200 | 201, _))), "{answer:?}");
    }
    roll.trio.kill(leader);
    for n in &others {
        roll.trio.start_member(*n);
    }
    roll.trio.wait_healthy(&others);
    for number in 0..12 {
        let key = format!("app/later-{number}");
        roll.trio.set_v2(others[number % 2], &key, "x");
    }
    // It is committed on both, which an entry behind it tells them.
    std::thread::sleep(Duration::from_secs(1));
    let keys = roll.trio.keys(others[0]);
    assert_eq!(roll.trio.keys(others[1]), keys);
    roll.trio.stop_all();
    let out = roll.backups.with_file_name("rewound");
    let dirs: Vec<PathBuf> = (0..MEMBERS)
        .map(|n| roll.trio.data_dir(n).to_owned())
        .collect();
    let mut paths: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
    paths.extend([Path::new("--out"), &out]);
    let words = ["rewind", "--json", "--to", "end"];
    let told = ark_with(&words, &paths).exits(0).json();
    let tails = told["lost"]["tails"].as_array().unwrap();
    let inputs: Vec<_> = tails.iter().map(|tail| &tail["input"]).collect();
    assert_eq!(inputs, [&json!(leader + 1)], "{told:#}");
    for n in 0..MEMBERS {
        let name = json!(format!("infra{n}"));
        let mut members = told["members"].as_array().unwrap().iter();
        let own = members.find(|own| own["member"]["name"] == name).unwrap();
        let archive = own["archive"].as_str().unwrap();
        roll.restore(n, Path::new(archive)).exits(0);
    }
    roll.trio.start_all();
    assert_eq!(roll.trio.wait_equal(), keys);
}
