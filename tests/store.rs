//! The content of the store, compared with the answers of the recorded servers: keys, differences, and wrong raft
//! snapshots.
//!
//! A server's answer is the truth; only its `ttl`, which changes with time, is left out. Expectations come from the
//! answers and from the tests' own reading of the bytes, never from the tool.

mod deep;

use serde_json::Map;

use crate::support::encode;
use crate::support::prelude::*;
use crate::support::trio::without_ttl;

/// Answers of the upgrade that no directory was recorded with; stories of their own hold them against directories.
const UPGRADE_OTHERS: [&str; 5] = [
    "1-before-upgrade.infra0",
    "1-before-upgrade.infra1",
    "1-before-upgrade.infra2",
    "4-after-rewind",
    "5-rewound-before-2.2",
];

/// Something to look into, with the flags it takes.
struct Target {
    path: PathBuf,
    flags: Vec<String>,
    what: String,
}

impl Server {
    /// The directory as it is, an archive of its live set, and one of everything, which go into `scratch`.
    fn targets(&self, recording: &Recording, scratch: &Path) -> [Target; 3] {
        let source = Source::of(recording, self.dir);
        let flags = source.wal_flags();
        let archive = |name: &str, scope: &[&str]| {
            let flags = [&flags, scope].concat();
            let (path, _) = snapshot(&source.data, &scratch.join(self.dir).join(name), &flags);
            Target {
                path,
                flags: Vec::new(),
                what: format!("{name} of {}", self.dir),
            }
        };
        let live = archive("live set", &[]);
        let all = archive("everything", &["--all"]);
        let data = Target {
            path: source.data.clone(),
            flags: flags.into_iter().map(str::to_owned).collect(),
            what: self.dir.to_owned(),
        };
        [data, live, all]
    }

    fn answer(&self, recording: &Recording, what: &str) -> Value {
        without_ttl(recording.json(format!("{}.{what}.json", self.answers)))
    }

    fn has(&self, recording: &Recording, what: &str) -> bool {
        recording
            .path(format!("{}.{what}.json", self.answers))
            .exists()
    }
}

fn run<A: AsRef<OsStr>>(command: &[&str], target: &Path, flags: impl AsRef<[A]>) -> Ran {
    let command = command.iter().map(OsStr::new);
    let flags = flags.as_ref().iter().map(AsRef::as_ref);
    ark(command.chain([target.as_os_str()]).chain(flags))
}

#[track_caller]
fn keys<A: AsRef<OsStr>>(target: &Path, flags: impl AsRef<[A]>) -> Value {
    run(&["--json", "keys"], target, flags).exits(0).json()
}

/// Every node of an answer by its key, without its children; the root has no key and is left out.
fn flat(answer: &Value) -> BTreeMap<String, Map<String, Value>> {
    fn walk(node: &Value, found: &mut BTreeMap<String, Map<String, Value>>) {
        let mut own = node.as_object().unwrap().clone();
        let children = own.remove("nodes");
        if let Some(key) = own.remove("key") {
            found.insert(key.as_str().unwrap().to_owned(), own);
        }
        for child in children.iter().flat_map(|all| all.as_array().unwrap()) {
            walk(child, found);
        }
    }
    let mut found = BTreeMap::new();
    walk(&answer["node"], &mut found);
    found
}

/// Fails with the keys that differ, because two whole trees side by side are not readable.
#[track_caller]
fn assert_same_keys(found: &Value, expected: &Value, what: &str) {
    if found == expected {
        return;
    }
    let (ours, theirs) = (flat(found), flat(expected));
    let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differing: Vec<_> = keys
        .into_iter()
        .map(|key| (key, ours.get(key), theirs.get(key)))
        .filter(|(_, ours, theirs)| ours != theirs)
        .take(10)
        .collect();
    panic!("{what}: found, expected: {differing:#?}");
}

/// All that a server answered, from its data dir and from both kinds of archive of it.
fn answers_as(server: &Server, recording: &Recording) {
    let scratch = TempDir::new().unwrap();
    let expected = server.answer(recording, "keys");
    for target in server.targets(recording, scratch.path()) {
        assert_same_keys(&keys(&target.path, &target.flags), &expected, &target.what);
        if server.has(recording, "hidden") {
            assert_hidden(&target, &server.answer(recording, "hidden"));
        }
        if server.has(recording, "headers") {
            let headers = server.answer(recording, "headers");
            let told = run(&["--json", "inspect"], &target.path, &target.flags);
            let index = told.exits(0).json()["store"]["etcd_index"].to_string();
            assert_eq!(json!(index), headers["X-Etcd-Index"], "{}", target.what);
        }
    }
}

/// Holds the recorded answer of a hidden subtree, or that there was none, against a listing of it, and against a listing of
/// all with what is hidden.
fn assert_hidden(target: &Target, expected: &Value) {
    let listed = |arguments: &[&str]| {
        let arguments = arguments.iter().map(ToString::to_string);
        let arguments: Vec<_> = arguments.chain(target.flags.clone()).collect();
        run(&["--json", "keys"], &target.path, arguments)
    };
    if expected["errorCode"] == 100 {
        let prefix = expected["cause"].as_str().unwrap();
        let refused = listed(&[prefix]).exits(10);
        assert_eq!(refused.stdout, "", "{}", target.what);
        assert_eq!(refused.json_error()["code"], 10, "{}", target.what);
        return;
    }
    let prefix = expected["node"]["key"].as_str().unwrap();
    let found = listed(&[prefix]).exits(0).json();
    assert_same_keys(&found, expected, &target.what);
    let (all, hidden) = (listed(&["--hidden"]).exits(0).json(), flat(expected));
    let mut all = flat(&all);
    all.retain(|key, _| hidden.contains_key(key));
    assert_eq!(all, hidden, "{}", target.what);
}

fn single(recording: &str) {
    let server = SINGLE
        .iter()
        .find(|server| server.recording == recording)
        .unwrap();
    answers_as(server, &unpack(recording));
}

#[test]
fn no_recorded_answer_is_left_out() {
    // Guards against a recording that is added and never asked.
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut expected = BTreeSet::new();
    for server in SINGLE.iter().chain(&UPGRADE) {
        expected.insert((server.recording.to_owned(), server.answers.to_owned()));
    }
    expected.extend(UPGRADE_OTHERS.map(|name| ("upgrade-story".to_owned(), name.to_owned())));
    let mut found = BTreeSet::new();
    for name in names(&testdata) {
        let Some(recording) = name.strip_suffix(".tar.zst") else {
            continue;
        };
        let file = fs::File::open(testdata.join(&name)).unwrap();
        let mut tar = tar::Archive::new(zstd::stream::read::Decoder::new(file).unwrap());
        for entry in tar.entries().unwrap() {
            let path = entry.unwrap().path().unwrap().to_str().unwrap().to_owned();
            if let Some(answers) = path.trim_start_matches("./").strip_suffix(".keys.json") {
                found.insert((recording.to_owned(), answers.to_owned()));
            }
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn keys_are_what_servers_of_every_version_answered() {
    // Guards against a rule of one release (2.0 has no cluster version, 2.3 pads in-order names) taken for all.
    single("v20");
    single("v23");
    single("waldir");
}

#[test]
fn keys_are_what_a_server_with_auth_answered() {
    // Guards against the users and roles, a third directory beside the cluster's and the keys', and a log from the very start.
    single("auth");
}

#[test]
fn keys_are_what_members_of_a_changed_cluster_answered() {
    // Guards against conf changes that count wrongly in the store's index, and a log that begins at a received raft snapshot.
    single("mem-a");
    single("mem-d");
}

#[test]
fn keys_are_what_a_follower_with_a_hole_in_its_log_answered() {
    // Guards against a replay across the hole, from entry 46 to a raft snapshot at 5661.
    single("gap-follower");
}

#[test]
fn keys_are_what_2_1_answered_after_operations_of_every_kind() {
    // Guards against any rule of the replay: 2,400 random operations, expiries and failures among them, in three archives.
    single("ops-2.1");
}

#[test]
fn keys_are_what_2_2_answered_after_operations_of_every_kind() {
    // Guards against any rule of the replay as 2.2 has it.
    single("ops-2.2");
}

#[test]
fn keys_are_what_a_server_with_large_values_answered() {
    // Guards against a watcher hub ten times the store, and a log of three segments.
    single("multisegment");
}

#[test]
fn keys_are_what_every_member_answered_during_and_after_the_upgrade() {
    // Guards against the rules of one binary applied to what the other did: the cluster version says which.
    let recording = unpack("upgrade-story");
    for server in &UPGRADE {
        answers_as(server, &recording);
    }
}

#[test]
fn the_first_backup_still_has_what_all_members_answered_before_the_upgrade() {
    // Guards against a backup that is not the state one wants to go back to: nothing was written between the two.
    let recording = unpack("upgrade-story");
    let backup = recording.data_dir("2-backup-infra0");
    for member in ["infra0", "infra1", "infra2"] {
        let before = |what: &str| {
            let answer = recording.json(format!("1-before-upgrade.{member}.{what}.json"));
            without_ttl(answer)
        };
        assert_same_keys(&keys::<&str>(&backup, []), &before("keys"), member);
        let hidden = before("hidden");
        let prefix = hidden["node"]["key"].as_str().unwrap();
        assert_same_keys(&keys(&backup, [prefix]), &hidden, member);
    }
}

#[test]
fn a_replay_by_the_rules_of_2_1_is_what_rewound_servers_answered() {
    // Guards against a rewind that promises one state and starts servers on another.
    let recording = unpack("upgrade-story");
    let rewound = without_ttl(recording.json("4-after-rewind.keys.json"));
    let backup = recording.data_dir("2-backup-infra2");
    let by = |rules: &str| keys(&backup, ["--in-order-rules", rules]);
    assert_same_keys(&by("2.1"), &rewound, "2-backup-infra2");

    let before_move = without_ttl(recording.json("5-rewound-before-2.2.keys.json"));
    let moved = recording.data_dir("3-after-upgrade-infra0");
    let flags = ["--at-index", "450", "--in-order-rules", "2.1"];
    assert_same_keys(
        &keys(&moved, flags),
        &before_move,
        "3-after-upgrade-infra0 at 450",
    );

    // A 2.2 server on the same backup would have named every POST above the raft snapshot otherwise, and nothing else.
    let (by_2_1, by_2_2) = (flat(&rewound), flat(&by("2.2")));
    let differing: BTreeSet<&str> = difference(&by_2_1, &by_2_2).into_keys().collect();
    let renamed = posts(&recording, "2-backup-infra2")
        .into_iter()
        .filter(|post| post.raft_index > 404)
        .flat_map(|post| {
            let index = created(&by_2_1, &post).expect("none of them was deleted");
            [
                format!("{}/{index}", post.directory),
                format!("{}/{index:020}", post.directory),
            ]
        });
    let renamed: BTreeSet<String> = renamed.collect();
    assert!(!renamed.is_empty());
    assert_eq!(differing, renamed.iter().map(String::as_str).collect());
}

#[test]
fn the_last_member_upgraded_can_tell_what_the_others_answered_before() {
    // Guards against a log that is read only from the newest raft snapshot: the oldest will do, and any index between.
    let recording = unpack("upgrade-story");
    let last = recording.data_dir("3-after-upgrade-infra2");
    for (index, answers) in [
        ("250", "2-backup-infra0"),
        ("343", "2-backup-infra1"),
        ("435", "2-backup-infra2"),
    ] {
        let expected = without_ttl(recording.json(format!("{answers}.keys.json")));
        let found = keys(&last, ["--at-index", index, "--in-order-rules", "2.1"]);
        assert_same_keys(&found, &expected, answers);
    }
}

#[test]
fn an_entry_that_is_not_committed_shows_only_where_it_is_asked_for() {
    // Guards against a write that no one acknowledged taken for state, or passed over where its outcome is open.
    let scratch = TempDir::new().unwrap();
    let member = small_member(scratch.path());
    let values = |flags: &[&str]| -> Vec<(String, String)> {
        let nodes = flat(&keys(scratch.path(), flags)).into_iter();
        let keys = nodes.filter_map(|(key, node)| {
            let value = node.get("value")?.as_str()?.to_owned();
            Some((format!("/1{key}"), value))
        });
        keys.collect()
    };
    assert_eq!(values(&[]), member.keys);
    let mut pending = member.keys.clone();
    pending.push((
        encode::key_path(member.keys.len()),
        encode::key_value(member.keys.len()),
    ));
    assert_eq!(values(&["--pending"]), pending);
    let told = run::<&str>(&["--json", "inspect"], scratch.path(), []);
    assert_eq!(
        told.exits(0).json()["store"]["etcd_index"],
        json!(member.store_index)
    );
}

/// Keys with different nodes in the two, and how they changed.
fn difference<'a>(
    a: &'a BTreeMap<String, Map<String, Value>>,
    b: &'a BTreeMap<String, Map<String, Value>>,
) -> BTreeMap<&'a str, &'static str> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut found = BTreeMap::new();
    for key in keys {
        let change = match (a.get(key), b.get(key)) {
            (Some(_), None) => "removed",
            (None, Some(_)) => "added",
            (a, b) if a != b => "changed",
            _ => continue,
        };
        found.insert(key.as_str(), change);
    }
    found
}

#[derive(Debug)]
struct Post {
    raft_index: u64,
    /// The user's path of the directory it created a key in.
    directory: String,
    value: String,
}

/// All POSTs in the log of a recorded directory.
fn posts(recording: &Recording, dir: &str) -> Vec<Post> {
    let text = |request: &[u8], field| {
        let bytes = decode::bytes(request, field).to_vec();
        String::from_utf8(bytes).unwrap()
    };
    let normal = decode::entries(&Source::of(recording, dir).wal_dir())
        .into_iter()
        .filter(|(_, (kind, data))| *kind == encode::NORMAL && !data.is_empty());
    let posts = normal.filter_map(|(raft_index, (_, request))| {
        (text(&request, 2) == "POST").then(|| Post {
            raft_index,
            directory: text(&request, 3).strip_prefix("/1").unwrap().to_owned(),
            value: text(&request, 4),
        })
    });
    posts.collect()
}

/// The index at which a key came to be that `post` must have created: in its directory, with its value.
fn created(nodes: &BTreeMap<String, Map<String, Value>>, post: &Post) -> Option<u64> {
    let mut found = nodes.iter().filter(|(key, node)| {
        key.rsplit_once('/').unwrap().0 == post.directory
            && node.get("value") == Some(&json!(post.value))
    });
    let (_, node) = found.next()?;
    assert!(found.next().is_none(), "{post:?} is not the only one");
    node["createdIndex"].as_u64()
}

/// The rows of a `diff --json`, by key.
fn rows(told: &Value) -> BTreeMap<&str, &Value> {
    let rows = told["keys"].as_array().unwrap().iter();
    rows.map(|row| (row["key"].as_str().unwrap(), row))
        .collect()
}

fn diff(a: &Path, b: &Path, flags: &[&str]) -> Ran {
    let targets = [a.as_os_str(), b.as_os_str()];
    let command = ["--json", "diff"].map(OsStr::new);
    ark(command
        .into_iter()
        .chain(targets)
        .chain(flags.iter().map(OsStr::new)))
}

/// Every node that a member answered, also the hidden ones it was asked for.
fn answered(recording: &Recording, answers: &str) -> BTreeMap<String, Map<String, Value>> {
    ["keys", "hidden"]
        .into_iter()
        .flat_map(|what| {
            flat(&without_ttl(
                recording.json(format!("{answers}.{what}.json")),
            ))
        })
        .collect()
}

#[test]
fn members_differ_after_the_upgrade_in_the_in_order_keys_and_nothing_else() {
    // Guards against the in-order trap unseen, or shown as a heap of keys with nothing said about how they came to differ.
    let recording = unpack("upgrade-story");
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let dir = |member: i32| recording.data_dir(&format!("3-after-upgrade-infra{member}"));
        let nodes =
            [a, b].map(|member| answered(&recording, &format!("3-after-upgrade.infra{member}")));
        let told = diff(&dir(a), &dir(b), &["--at-common-index"]);
        let told = told.exits(1).json();
        assert_eq!(told["equal"], false);
        let rows = rows(&told);
        let found: BTreeMap<&str, &str> = rows
            .iter()
            .map(|(key, row)| (*key, row["change"].as_str().unwrap()))
            .collect();
        assert_eq!(found, difference(&nodes[0], &nodes[1]), "{a} {b}");
        assert_eq!(told["in_order_keys"], json!(rows.len()), "{a} {b}");
        let posts = posts(&recording, &format!("3-after-upgrade-infra{a}"));
        for (key, row) in rows {
            assert_in_order(key, row, &nodes, &posts);
        }
        for side in ["a", "b"] {
            assert_eq!(told[side]["raft_index"], 498);
            let root = &nodes[0];
            let highest = root
                .values()
                .filter_map(|node| node["modifiedIndex"].as_u64());
            assert!(told[side]["etcd_index"].as_u64() >= highest.max(), "{told}");
        }
        assert_eq!(told["members"], json!([]));
        assert_eq!(told["cluster_version"], Value::Null);
        assert_eq!(told["log"]["first_difference_raft_index"], Value::Null);
    }
}

/// A key that one member has and the other has under a name of the other width, made by a POST that is in the log.
fn assert_in_order(
    key: &str,
    row: &Value,
    nodes: &[BTreeMap<String, Map<String, Value>>; 2],
    posts: &[Post],
) {
    let (directory, name) = key.rsplit_once('/').unwrap();
    let index: u64 = name.parse().unwrap();
    let other = if name.len() == 20 {
        format!("{directory}/{index}")
    } else {
        format!("{directory}/{index:020}")
    };
    assert_eq!(row["in_order"]["other"], json!(other), "{row}");
    let (had, has) = (nodes[0].get(key), nodes[1].get(key));
    assert!(had.is_some() != has.is_some(), "{key} is on one side only");
    let post = posts
        .iter()
        .find(|post| {
            nodes
                .iter()
                .any(|nodes| created(nodes, post) == Some(index))
        })
        .unwrap_or_else(|| panic!("no POST created {key}"));
    assert_eq!(post.directory, directory);
    assert_eq!(row["raft_index"], json!(post.raft_index), "{row}");
    let value = |node: Option<&Map<String, Value>>| node.map(|node| node["value"].clone());
    for (side, node) in [("a", had), ("b", has)] {
        assert_eq!(row[side].is_null(), node.is_none(), "{row}");
        assert_eq!(row[side].get("value").cloned(), value(node), "{row}");
    }
}

#[test]
fn the_in_order_trap_is_told_in_words_with_what_to_do() {
    // Guards against an operator who sees doubled keys and deletes the wrong ones.
    let recording = unpack("upgrade-story");
    let dir = |member: i32| recording.data_dir(&format!("3-after-upgrade-infra{member}"));
    let told = typed("diff {} {} --at-common-index", &[&dir(0), &dir(2)]).exits(1);
    let text = told.stdout.clone() + &told.stderr;
    assert!(text.to_lowercase().contains("in-order trap"), "{text}");
    // Both streams count a key with two names once.
    let (_, trap) = told.stdout.split_once("in-order trap: ").unwrap();
    let number = trap.split(' ').next().unwrap();
    assert_has(&told.stderr, &format!("differ: {number} in-order key"));
    assert!(text.contains("POST"), "{text}");
    assert!(text.contains("What helps:"), "{text}");
    assert_has_each(
        &text,
        &["/app/inorder/183", "/app/inorder/00000000000000000183"],
    );
}

#[test]
fn what_helps_with_in_order_keys_is_said_once() {
    let recording = unpack("upgrade-story");
    let (a, b) = (
        recording.data_dir("2-backup-infra0"),
        recording.data_dir("3-after-upgrade-infra2"),
    );
    let told = typed("diff {} {} --at-common-index", &[&a, &b]).exits(1);
    assert_has(&told.stdout, "once they run, and if their answers differ");
    assert_eq!(told.stdout.matches("by PUT").count(), 1, "{told:#?}");
}

#[test]
fn members_that_may_run_two_releases_are_not_called_equal() {
    // Guards against "equal" in the mixed phase, when a member that has started with 2.2 serves other names than the others.
    let recording = unpack("upgrade-story");
    let dirs = [0, 1].map(|member| recording.data_dir(&format!("2-backup-infra{member}")));
    let served: BTreeSet<String> = [0, 1, 2]
        .iter()
        .flat_map(|member| answered(&recording, &format!("3-after-upgrade.infra{member}")))
        .map(|(key, _)| key)
        .collect();
    let told = diff(&dirs[0], &dirs[1], &["--at-common-index"]).exits(0);
    let unsure = told.json()["in_order_keys_unsure"].clone();
    let unsure = unsure.as_array().unwrap();
    assert!(!unsure.is_empty(), "{told:#?}");
    for key in unsure {
        // Real members served each under both names when they had been upgraded one by one.
        for name in ["before_2_2", "from_2_2"] {
            assert!(served.contains(key[name].as_str().unwrap()), "{key}");
        }
    }
    let line = |flags: &[&str]| {
        let mut args = vec!["diff".as_ref(), dirs[0].as_os_str(), dirs[1].as_os_str()];
        args.extend(flags.iter().map(OsStr::new));
        ark(args)
    };
    let told = line(&["--at-common-index"]).exits(0).says("ran 2.2");
    assert_has(&told.stdout, "equal if both run etcd 2.1");
    line(&["--at-common-index", "--strict"]).exits(5);
    for rules in ["2.1", "2.2"] {
        let told = line(&["--at-common-index", "--in-order-rules", rules]).exits(0);
        assert_eq!(told.stdout.lines().last(), Some("equal"), "{told:#?}");
    }
}

#[test]
fn two_backups_differ_by_what_was_written_between_them() {
    // Guards against a difference of time taken for a fault: added, removed and changed keys are what the answers show.
    let recording = unpack("upgrade-story");
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        let names = [a, b].map(|member| format!("2-backup-infra{member}"));
        let dirs = names.each_ref().map(|name| recording.data_dir(name));
        let nodes = names.each_ref().map(|name| answered(&recording, name));
        let told = diff(&dirs[0], &dirs[1], &[]).exits(1).json();
        let rows = rows(&told);
        let found: BTreeMap<&str, &str> = rows
            .iter()
            .map(|(key, row)| (*key, row["change"].as_str().unwrap()))
            .collect();
        assert_eq!(found, difference(&nodes[0], &nodes[1]), "{a} {b}");
        assert_eq!(told["in_order_keys"], 0, "{a} {b}");
        for (key, row) in rows {
            assert_eq!(row["in_order"], Value::Null, "{row}");
            if row["change"] == "changed" {
                let fields = row["fields"].as_array().unwrap().iter();
                let fields: BTreeSet<&str> = fields.map(|field| field.as_str().unwrap()).collect();
                let expected = difference_of_fields(&nodes[0][key], &nodes[1][key]);
                assert_eq!(fields, expected, "{row}");
            }
        }
        // Up to the shorter log they are one.
        let told = diff(&dirs[0], &dirs[1], &["--at-common-index"]).exits(0);
        assert_eq!(told.json()["equal"], true);
    }
}

/// The fields in which two nodes differ, absent ones included.
fn difference_of_fields<'a>(
    a: &'a Map<String, Value>,
    b: &'a Map<String, Value>,
) -> BTreeSet<&'a str> {
    let fields = a.keys().chain(b.keys());
    let differing = fields.filter(|field| a.get(*field) != b.get(*field));
    differing.map(String::as_str).collect()
}

#[test]
fn a_directory_equals_itself_and_its_archives() {
    // Guards against a backup said to differ from what it was taken from.
    for server in [&SINGLE[1], &SINGLE[5], &UPGRADE[3]] {
        let recording = unpack(server.recording);
        let scratch = TempDir::new().unwrap();
        let [data, live, all] = server.targets(&recording, scratch.path());
        for other in [&data, &live, &all] {
            for flags in [&[][..], &["--at-common-index"]] {
                let told = diff(&data.path, &other.path, flags).exits(0).json();
                assert_eq!(told["equal"], true, "{}", other.what);
                assert_eq!(told["keys"], json!([]), "{}", other.what);
                assert_eq!(told["in_order_keys"], 0, "{}", other.what);
            }
        }
    }
}

#[test]
fn members_of_a_changed_cluster_are_equal_where_their_logs_meet() {
    // Guards against a member that joined, or was removed, called different where it is only younger or older.
    let dirs = ["mem-a", "mem-b", "mem-d"].map(unpack);
    let path = |member: usize| dirs[member].data_dir(["mem-a", "mem-b", "mem-d"][member]);
    for (a, b, common) in [(0, 1, 49), (0, 2, 73), (1, 2, 49)] {
        let told = diff(&path(a), &path(b), &["--at-common-index"]);
        let told = told.exits(0).json();
        assert_eq!(told["a"]["raft_index"], common);
        assert_eq!(told["b"]["raft_index"], common);
        assert_eq!(told["a"]["etcd_index"], told["b"]["etcd_index"]);
    }
}

#[test]
fn a_key_that_is_not_there_is_said_to_be_missing() {
    // Guards against an empty answer, or a bare error, for a name with a typo in it.
    let recording = unpack("upgrade-story");
    let data = recording.data_dir("2-backup-infra0");
    for arguments in [
        &["/app/no-such-key"][..],
        &["/app/inorder/00000000000000000183"],
        &["--get", "/app/no-such-key"],
    ] {
        let told = run(&["keys"], &data, arguments).exits(10);
        assert_eq!(told.stdout, "");
        told.says(arguments.last().unwrap()).says("hint:");
        let told = run(&["--json", "keys"], &data, arguments).exits(10);
        assert_eq!(told.stdout, "");
        assert_eq!(told.json_error()["code"], 10);
    }
    let proxy = unpack("proxy");
    run::<&str>(&["keys"], &proxy.data_dir("proxy"), [])
        .exits(10)
        .says("proxy");
}

#[test]
fn get_prints_a_value_as_it_is_and_nothing_else() {
    // Guards against a value that comes back quoted, escaped, cut or with a newline of ours behind it.
    let recording = unpack("ops-2.1");
    let data = recording.data_dir("ops-2.1");
    let nodes: BTreeMap<_, _> = ["keys", "hidden"]
        .into_iter()
        .flat_map(|what| flat(&recording.json(format!("ops-2.1.{what}.json"))))
        .collect();
    let value = |node: &Map<String, Value>| Some(node.get("value")?.as_str()?.to_owned());
    for odd in ['\n', '"', '\\', '<', 'é'] {
        let (key, value) = nodes
            .iter()
            .filter_map(|(key, node)| Some((key, value(node)?)))
            .find(|(_, value)| value.contains(odd))
            .unwrap();
        let told = run(&["keys"], &data, ["--get", key]).exits(0);
        assert_eq!(told.stdout, value, "{key}");
        assert_eq!(told.stderr, "", "{key}");
    }
    let (hidden, expected) = nodes
        .iter()
        .filter_map(|(key, node)| Some((key, value(node)?)))
        .find(|(key, _)| key.starts_with("/_h/"))
        .unwrap();
    let told = run(&["keys"], &data, ["--get", hidden]).exits(0);
    assert_eq!(told.stdout, expected, "{hidden}");
    // A directory has no value, not even an empty one.
    let told = run(&["keys"], &data, ["--get", "/_h"]);
    assert_ne!(told.code, 0, "{told:#?}");
    assert_eq!(told.stdout, "");
}

#[test]
fn an_index_out_of_reach_is_refused() {
    // Guards against the nearest state shown for the one that was asked for.
    let upgrade = unpack("upgrade-story");
    let (gap, joined) = (unpack("gap-follower"), unpack("mem-d"));
    let scratch = TempDir::new().unwrap();
    let small = small_member(scratch.path());
    let beyond = (small.last_index + 1).to_string();
    let backups = TempDir::new().unwrap();
    let (archive, _) = snapshot(&joined.data_dir("mem-d"), backups.path(), &[]);
    for (data, index) in [
        // Beyond the end of the log.
        (upgrade.data_dir("2-backup-infra0"), "251"),
        (gap.data_dir("gap-follower"), "5701"),
        (scratch.path().to_owned(), beyond.as_str()),
        (joined.data_dir("mem-d"), "18446744073709551615"),
        // Below the oldest raft snapshot, and no log from the start.
        (joined.data_dir("mem-d"), "41"),
        (archive, "62"),
        // In the hole.
        (gap.data_dir("gap-follower"), "47"),
        (gap.data_dir("gap-follower"), "5660"),
    ] {
        let told = run(&["keys"], &data, ["--at-index", index]);
        assert!(matches!(told.code, 3 | 10), "{index}: {told:#?}");
        assert_eq!(told.stdout, "", "{index}");
        // Nothing is wrong with the directory.
        assert!(!told.stderr.contains("could not start"), "{told:#?}");
        told.says(index).says("hint:");
    }
}
