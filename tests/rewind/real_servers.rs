//! Real servers started on rewound archives.

use super::{
    Addresses, INFRA0, INFRA1, archives, assert_framed_well, keys, paths, rewind, step, untar,
    values, with_plain_names,
};
use crate::support::prelude::*;

fn need_etcd() -> bool {
    need("etcd") && need("etcdctl")
}

#[test]
fn a_rewound_archive_for_2_1_brings_the_segments_home_where_the_member_had_a_wal_dir() {
    // Guards against the segments in a WAL dir that 2.1 does not know: it would start an empty member, healthy and without keys.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let backups = step(&story, "2-backup");
    let told = rewind(&paths(&backups), &dir.path().join("out"), &[]);
    let archive = archives(&told.exits(0).json())[&INFRA0].clone();
    let (data, wal) = (dir.path().join("data"), dir.path().join("wal"));
    copy_dir(&backups[0], &data);
    fs::rename(data.join("member/wal"), &wal).unwrap();
    let with_wal_dir = |command: &str| {
        let mut args: Vec<OsString> = vec!["--json".into(), command.into(), data.clone().into()];
        args.extend(["--wal-dir".into(), wal.clone().into()]);
        ark(args)
    };
    let before = with_wal_dir("keys").exits(0).json();

    let mut args: Vec<OsString> = vec!["--json".into(), "restore".into(), archive.clone().into()];
    args.extend(["--data-dir".into(), data.clone().into()]);
    args.extend(["--wal-dir".into(), wal.clone().into()]);
    args.extend(["--replace".into(), "--offline".into()]);
    let ran = ark(args).exits(0);
    let warnings = ran.json()["warnings"].to_string();
    assert_has(&warnings, "start etcd without --wal-dir");
    assert_eq!(keys(&data), keys(&archive));
    let verified = ark(["--json".as_ref(), "verify".as_ref(), data.as_os_str()]);
    let starts = verified.exits(0).json();
    assert_eq!(starts["targets"][0]["starts"]["2.1"], "yes", "{starts}");
    // An etcd that is still started with the WAL dir finds a note there, and does not take the member for a new one.
    let left = names(&wal);
    assert!(
        left.len() == 2 && left[0].starts_with("before-restore-"),
        "{left:?}"
    );
    assert_eq!(left[1], "moved-to-member-wal.wal");

    for command in ran.json()["undo"].as_array().unwrap() {
        run(crate::support::ark::clean("sh").args(["-c", command.as_str().unwrap()])).exits(0);
    }
    assert_eq!(with_wal_dir("keys").exits(0).json(), before);
}

/// The keys of both APIs; the v3 header's revision is the same on all members.
fn all_keys(server: &Etcd) -> (String, String) {
    server.all_keys()
}

#[test]
fn three_real_3x_members_come_back_from_one_rewind_with_every_key() {
    // Guards against archives that read well and that no etcd starts from, or as a cluster that does not agree.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-rewind-real-").unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    make_dir(&old);
    make_dir(&new);
    let members = ["one", "two", "three"].map(|name| (name, Addresses::free()));
    let servers = Etcd::start_cluster(&old, &members);
    for number in 0..70 {
        servers[number % 3].set_v2(&format!("app/key-{number}"), &format!("value-{number}"));
    }
    for number in 0..4 {
        servers[number % 3].set_v3(&format!("/v3/key-{number}"), "x");
    }
    let keys = all_keys(&servers[0]);
    servers.into_iter().for_each(Etcd::stop);

    let sources = members.map(|(name, _)| old.join(name));
    let out = dir.path().join("out");
    let cut = rewind(&paths(&sources), &out, &["--to", "index:30"]).exits(3);
    let message = cut.json_error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("cannot be cut back"), "{message}");
    // On new hosts, as after the loss of a site.
    let moved = ["one", "two", "three"].map(|name| (name, Addresses::free()));
    let urls = moved.map(|(name, own)| format!("{name}=http://{}", own.peer));
    let urls = urls.join(",");
    let told = rewind(
        &paths(&sources),
        &out,
        &["--to", "end", "--peer-url", &urls],
    );
    let told = told.exits(0).json();
    for member in told["members"].as_array().unwrap() {
        let name = member["member"]["name"].as_str().unwrap();
        let archive = PathBuf::from(member["archive"].as_str().unwrap());
        ark(["verify".as_ref(), "--deep".as_ref(), archive.as_os_str()]).exits(0);
        assert_framed_well(
            &untar(&archive, &dir.path().join(format!("tar-{name}"))),
            true,
        );
        restore(&archive, &new.join(name), &[]).exits(0);
    }
    let servers = Etcd::start_cluster(&new, &moved);
    for server in &servers {
        assert_eq!(all_keys(server), keys);
    }
    servers[0].set_v2("app/afterwards", "it lives");
    servers[1].set_v3("/v3/afterwards", "it lives");
    let found: BTreeSet<_> = servers.iter().map(all_keys).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    servers.into_iter().for_each(Etcd::stop);

    // And one of them alone, for a drill.
    let drill = dir.path().join("drill");
    let alone = [("two", Addresses::free())];
    let url = format!("two=http://{}", alone[0].1.peer);
    let flags = ["--to", "end", "--single", "two", "--peer-url", &url];
    let told = rewind(&paths(&sources), &drill, &flags).exits(0).json();
    let (_, archive) = archives(&told).pop_first().unwrap();
    let data = dir.path().join("alone");
    make_dir(&data);
    restore(&archive, &data.join("two"), &[]).exits(0);
    let servers = Etcd::start_cluster(&data, &alone);
    assert_eq!(all_keys(&servers[0]).0, keys.0);
    servers[0].set_v2("app/drill", "it writes alone");
}

#[test]
fn a_real_server_starts_on_a_rewound_log_of_2x_and_answers_what_2_1_3_answered() {
    // Guards against a log of 2.x that only our own reader takes. 3.4 starts on one from the very beginning, without a raft
    // snapshot (which it would want a `snap/db` for), and names in-order keys as 2.2 does.
    only_with!(need_etcd());
    let story = unpack("upgrade-story");
    let dir = TempDir::with_prefix("ark-rewind-real-").unwrap();
    let [source, _, _] = step(&story, "2-backup");
    for snap in decode::snaps(&source.join("member/snap")) {
        fs::remove_file(snap).unwrap();
    }
    let own = [("infra1", Addresses::free())];
    let url = format!("infra1=http://{}", own[0].1.peer);
    let out = dir.path().join("out");
    let told = rewind(
        &[&source],
        &out,
        &["--single", "infra1", "--peer-url", &url],
    );
    let told = told.exits(0).json();
    assert_eq!(told["base"]["raft_snapshot"], Value::Null);
    let made = archives(&told);
    restore(&made[&INFRA1], &dir.path().join("infra1"), &[]).exits(0);
    let servers = Etcd::start_cluster(dir.path(), &own);
    let answer: Value = serde_json::from_str(&servers[0].all_keys().0).unwrap();
    let expected = story.json("2-backup-infra0.keys.json");
    assert_eq!(with_plain_names(&answer), values(&expected));
}
