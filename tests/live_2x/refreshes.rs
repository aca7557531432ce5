//! A key that is refreshed while members run 2.2 and 2.3: the two releases make two values of one log.

use super::{Roll, ark_with, predicted};
use crate::support::etcd::http;
use crate::support::prelude::*;
use crate::support::trio::{MEMBERS, Trio, without_ttl};

#[test]
fn a_refresh_that_2_2_does_not_know_is_named_before_either_way_and_a_rewind_serves_what_it_says() {
    // Guards against members that differ with the same log: "equal", and a rewound archive with a value that no server has.
    let Some(mut roll) = Roll::of(["2.2", "2.3"], |dir| Trio::prepare(dir, 10_000)) else {
        return;
    };
    roll.request("PUT", "owner", "value=me&ttl=86400");
    roll.write(5);
    let step = ["--from", "2.2", "--to", "2.3"];
    roll.back_up_all();
    for n in [0, 1] {
        roll.trio.stop(n);
        roll.install(n, true);
        roll.trio.start_member(n);
        roll.trio.wait_healthy(&[0, 1, 2]);
    }
    roll.request("PUT", "owner", "refresh=true&prevExist=true&ttl=86400");
    roll.write(5);
    std::thread::sleep(Duration::from_secs(1));
    let value = |n: usize| {
        let (_, body) = http(roll.trio.client(n), "GET", "/v2/keys/owner", "").unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["node"]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!([0, 1, 2].map(value), ["me", "me", ""]);

    // The last of 2.2 is to follow.
    let ready = roll.ark_for(2, &["preflight"], &step);
    let found = ready.json().to_string();
    assert_has(&found, "1 refresh (`refresh=true`) above the raft snapshot");
    // And the first of 2.3 to go back.
    let ends: Vec<Value> = (0..MEMBERS).map(|n| roll.trio.keys(n)).collect();
    roll.trio.stop(0);
    let back = ["--from", "2.3", "--to", "2.2"];
    let told = roll.ark_for(0, &["downgrade", "run"], &back).exits(0);
    assert_has(&told.stdout, "no client may refresh keys");
    roll.trio.stop_all();

    let dirs: Vec<PathBuf> = (0..MEMBERS)
        .map(|n| roll.trio.data_dir(n).to_owned())
        .collect();
    let found = typed("diff {} {} --at-common-index", &[&dirs[0], &dirs[2]]);
    assert_has(&found.stdout, "/owner");
    for data in &dirs {
        typed("verify --deep {}", &[data]).exits(0);
    }
    // What 2.2 serves again is what the rewind says.
    let out = roll.backups.with_file_name("rewound");
    let mut paths: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
    paths.extend([Path::new("--out"), &out]);
    let made = ark_with(&["rewind", "--json", "--to", "end"], &paths).exits(0);
    let warnings = made.json()["warnings"].to_string();
    assert_has(&warnings, "1 refresh (`refresh=true`, of etcd 2.3)");
    let made = made.json();
    for member in made["members"].as_array().unwrap() {
        let archive = Path::new(member["archive"].as_str().unwrap());
        let n = (0..MEMBERS).find(|n| member["member"]["name"] == format!("infra{n}"));
        let n = n.unwrap();
        roll.install(n, false);
        assert_eq!(predicted(archive), without_ttl(ends[2].clone()));
        roll.restore(n, archive).exits(0);
    }
    roll.trio.start_all();
    assert_eq!(
        without_ttl(roll.trio.wait_equal()),
        without_ttl(ends[2].clone())
    );
}
