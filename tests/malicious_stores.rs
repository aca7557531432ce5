//! Stores made to do harm, with all CRCs right; and harmless-looking answers where something is wrong.
//!
//! Each member is built by hand: a log from its first entry, and raft snapshots with the claims of the test.

use crate::support::encode::{
    CLUSTER_ID, CONF_CHANGE, MEMBER_ID, NORMAL, SegmentBuilder, conf_change, raft_snapshot,
    request, segment_name, snap_name,
};
use crate::support::prelude::*;

/// A log under construction: every entry is committed.
struct Made {
    log: SegmentBuilder,
    last: u64,
    snapshots: Vec<(u64, u64, Vec<u8>)>,
}

impl Made {
    /// A log that begins with its only member and its cluster version.
    fn new(version: &str) -> Self {
        let mut log = SegmentBuilder::new(0, false);
        log.crc().metadata(MEMBER_ID, CLUSTER_ID).marker(0, 0);
        let mut made = Self {
            log,
            last: 0,
            snapshots: Vec::new(),
        };
        let context = format!(r#"{{"id":{MEMBER_ID},"peerURLs":["http://127.10.1.10:2380"]}}"#);
        made.entry(CONF_CHANGE, &conf_change(0, MEMBER_ID, &context));
        made.request("PUT", "/0/version", version);
        made
    }

    fn entry(&mut self, kind: u64, data: &[u8]) -> &mut Self {
        self.last += 1;
        self.log.entry(kind, 1, self.last, Some(data));
        self
    }

    fn request(&mut self, method: &str, path: &str, value: &str) -> &mut Self {
        self.entry(NORMAL, &request(method, path, value))
    }

    /// A raft snapshot of `json` under `term`, and the marker of a right one.
    fn snapshot(&mut self, term: u64, json: &[u8]) -> &mut Self {
        self.snapshots.push((term, self.last, json.to_vec()));
        self.log.marker(term, self.last);
        self
    }

    fn write(&mut self, dir: PathBuf) -> PathBuf {
        make_dir(&dir.join("member/wal"));
        make_dir(&dir.join("member/snap"));
        self.log.hard_state(1, MEMBER_ID, self.last);
        let segment = dir.join("member/wal").join(segment_name(0, 0));
        write_file(&segment, 0o600, self.log.bytes());
        for (term, index, json) in &self.snapshots {
            let path = dir.join("member/snap").join(snap_name(*term, *index));
            write_file(
                &path,
                0o644,
                &raft_snapshot(*term, *index, &[MEMBER_ID], json),
            );
        }
        dir
    }
}

/// A node as etcd saves it; `children` is what a directory holds.
#[expect(
    clippy::needless_pass_by_value,
    reason = "made where it is given, nearly always"
)]
fn node(path: &str, index: u64, value: &str, children: Value) -> Value {
    json!({
        "Path": path, "CreatedIndex": index, "ModifiedIndex": index, "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value, "Children": children,
    })
}

/// The store of [`Made`] by the 2.1 or 2.2 rules after the users' keys `keys`, standing at `index`.
fn store(version: &str, keys: &Value, index: u64) -> Value {
    let member = format!("/0/members/{MEMBER_ID:x}");
    let attributes = format!("{member}/raftAttributes");
    let urls = r#"{"peerURLs":["http://127.10.1.10:2380"]}"#;
    let attributes = node(&attributes, 1, urls, Value::Null);
    let member = node(&member, 1, "", json!({"raftAttributes": attributes}));
    let members = node(
        "/0/members",
        1,
        "",
        json!({format!("{MEMBER_ID:x}"): member}),
    );
    let version = node("/0/version", 2, version, Value::Null);
    let cluster = node("/0", 0, "", json!({"members": members, "version": version}));
    let root = node(
        "/",
        0,
        "",
        json!({"0": cluster, "1": node("/1", 0, "", keys.clone())}),
    );
    json!({"Root": root, "WatcherHub": {}, "CurrentIndex": index, "Stats": {}, "CurrentVersion": 2})
}

/// As etcd writes it: what a directory holds comes last.
fn saved(value: &Value) -> Vec<u8> {
    let Value::Object(members) = value else {
        return serde_json::to_vec(value).unwrap();
    };
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(name, _)| *name == "Children");
    let members = members.into_iter().map(|(name, member)| {
        let name = serde_json::to_vec(name).unwrap();
        [name, saved(member)].join(&b':')
    });
    let members: Vec<_> = members.collect();
    [b"{".as_slice(), &members.join(&b','), b"}"].concat()
}

/// The same with one in-order key `name` in `/q`.
fn with_in_order_key(name: &str, value: &str) -> Vec<u8> {
    let key = node(&format!("/1/q/{name}"), 3, value, Value::Null);
    let keys = json!({"q": node("/1/q", 3, "", json!({name: key}))});
    saved(&store("2.1.0", &keys, 3))
}

fn deep(target: &Path) -> Ran {
    ark(["--json", "verify", "--deep"]
        .map(AsRef::as_ref)
        .into_iter()
        .chain([target.as_os_str()]))
}

fn diff(a: &Path, b: &Path) -> Ran {
    let command = ["--json", "diff"].map(AsRef::as_ref);
    ark(command.into_iter().chain([a.as_os_str(), b.as_os_str()]))
}

/// A member with a log that makes one in-order key, and with the given store in its raft snapshot.
fn one_post(dir: PathBuf, json: &[u8]) -> PathBuf {
    let mut made = Made::new("2.1.0");
    made.request("POST", "/1/q", "job").snapshot(1, json);
    made.request("PUT", "/1/after", "x").write(dir)
}

#[test]
fn a_store_built_by_hand_is_what_its_log_leads_to() {
    // Guards against every other story here: they prove nothing if the right store is not taken for right.
    let dir = TempDir::new().unwrap();
    for (name, rules) in [("3", "2.1"), ("00000000000000000003", "2.2")] {
        let json = with_in_order_key(name, "job");
        let member = one_post(dir.path().join(rules), &json);
        let told = deep(&member).exits(0).json();
        let checks = &told["targets"][0]["deep"]["raft_snapshots"];
        assert_eq!(checks[0]["equal"], true, "{told:#}");
        assert_eq!(checks[0]["in_order_rules"], rules, "{told:#}");
        assert_eq!(
            told["targets"][0]["deep"]["not_compared"],
            json!([]),
            "{told:#}"
        );
    }
}

#[test]
fn an_in_order_name_excuses_no_other_value() {
    // Guards against a raft snapshot with another value called right because the key has the other release's name besides.
    let dir = TempDir::new().unwrap();
    let mut made = Made::new("2.1.0");
    made.request("POST", "/1/q", "job")
        .request("POST", "/1/q", "job");
    let (plain, padded) = ("3", "00000000000000000004");
    let key = |name: &str, index, value| node(&format!("/1/q/{name}"), index, value, Value::Null);
    for (what, value, code) in [("right", "job", 0), ("wrong", "other", 4)] {
        let children = json!({plain: key(plain, 3, "job"), padded: key(padded, 4, value)});
        let keys = json!({"q": node("/1/q", 3, "", children)});
        let json = saved(&store("2.1.0", &keys, 4));
        let mut made = Made {
            log: made.log.clone(),
            last: made.last,
            snapshots: Vec::new(),
        };
        let member = made.snapshot(1, &json).write(dir.path().join(what));
        deep(&member).exits(code);
    }
    let told = diff(
        &one_post(dir.path().join("a"), &with_in_order_key("3", "job")),
        &one_post(
            dir.path().join("b"),
            &with_in_order_key("00000000000000000003", "other"),
        ),
    );
    let told = told.exits(1).json();
    assert_eq!(told["keys"][0]["fields"], json!(["value"]), "{told:#}");
}

#[test]
fn numbers_that_clients_give_are_no_in_order_names() {
    // Guards against two keys that clients made, shown as one key under two names, which no one needs to worry about.
    let dir = TempDir::new().unwrap();
    let member = |name: &str, key: &str| {
        let mut made = Made::new("2.1.0");
        made.request("PUT", key, "job").write(dir.path().join(name))
    };
    let told = diff(
        &member("a", "/1/jobs/7"),
        &member("b", "/1/jobs/00000000000000000007"),
    );
    let told = told.exits(1).json();
    assert_eq!(told["in_order_keys"], 0, "{told:#}");
    // The same log, but one raft snapshot lacks a key that has the number of a POST in another directory.
    let both = |has: bool| {
        let name = "4";
        let post = node("/1/q/4", 4, "job", Value::Null);
        let mut keys = json!({
            "n": node("/1/n", 3, "", json!({})), "q": node("/1/q", 4, "", json!({name: post})),
        });
        if has {
            keys["n"]["Children"][name] = node("/1/n/4", 3, "mine", Value::Null);
        }
        let json = saved(&store("2.1.0", &keys, 4));
        let mut made = Made::new("2.1.0");
        made.request("PUT", "/1/n/4", "mine")
            .request("POST", "/1/q", "job");
        made.snapshot(1, &json)
            .write(dir.path().join(has.to_string()))
    };
    let told = diff(&both(true), &both(false)).exits(1).json();
    assert_eq!(told["in_order_keys"], 0, "{told:#}");
    assert_eq!(told["keys"][0]["key"], "/n/4", "{told:#}");
}

#[test]
fn stores_that_count_differently_are_not_equal() {
    // Guards against two members called equal although the next write gets another index on each.
    let dir = TempDir::new().unwrap();
    let member = |name: &str, index| {
        let keys = json!({"a": node("/1/a", 3, "x", Value::Null)});
        let json = saved(&store("2.1.0", &keys, index));
        let mut made = Made::new("2.1.0");
        made.request("PUT", "/1/a", "x").snapshot(1, &json);
        made.write(dir.path().join(name))
    };
    let (a, b) = (member("a", 3), member("b", 9));
    diff(&a, &a).exits(0);
    assert_eq!(diff(&a, &b).exits(1).json()["equal"], false);
    let told = typed("diff {} {}", &[&a, &b]).exits(1);
    assert_has(&told.stdout, "X-Etcd-Index: 3 in A, 9 in B");
    deep(&b).exits(4);
}

#[test]
fn no_raft_snapshot_is_passed_over_in_silence() {
    // Guards against one that stands at an entry of another term, hidden by a right one at the same index.
    let dir = TempDir::new().unwrap();
    let json = with_in_order_key("3", "job");
    let mut made = Made::new("2.1.0");
    made.request("POST", "/1/q", "job").snapshot(1, &json);
    made.snapshots.push((0, made.last, json));
    let member = made
        .request("PUT", "/1/after", "x")
        .write(dir.path().join("term"));
    let told = deep(&member).exits(4);
    let told = told.json();
    let checks = told["targets"][0]["deep"]["raft_snapshots"]
        .as_array()
        .unwrap();
    assert_eq!(checks.len(), 2, "{told:#}");
    for check in checks {
        assert_eq!(check["equal"], check["term"] == 1, "{told:#}");
    }
}

#[test]
fn an_entry_that_did_nothing_made_no_difference() {
    // Guards against the first entry above a raft snapshot named as the one that wrote what was in it.
    let dir = TempDir::new().unwrap();
    let member = |name: &str, value: &str| {
        let keys = json!({"a": node("/1/a", 3, value, Value::Null)});
        let json = saved(&store("2.1.0", &keys, 3));
        let mut log = SegmentBuilder::new(0, false);
        log.crc()
            .metadata(MEMBER_ID, CLUSTER_ID)
            .marker(0, 0)
            .marker(1, 3);
        log.entry(NORMAL, 1, 4, None);
        let mut made = Made {
            log,
            last: 4,
            snapshots: vec![(1, 3, json)],
        };
        made.write(dir.path().join(name))
    };
    let told = diff(&member("a", "x"), &member("b", "y")).exits(1).json();
    assert_eq!(told["keys"][0]["key"], "/a", "{told:#}");
    assert_eq!(told["keys"][0]["raft_index"], Value::Null, "{told:#}");
}

#[test]
fn a_deep_directory_in_one_store_only_is_told_once() {
    // Guards against paths that add up: those of 200,000 directories, each in the other, come to 40 GB.
    let dir = TempDir::new().unwrap();
    let mut made = Made::new("2.1.0");
    made.request("PUT", &format!("/1{}", "/a".repeat(200_000)), "x");
    let deep_one = made.write(dir.path().join("deep"));
    let mut made = Made::new("2.1.0");
    let flat = made
        .request("PUT", "/1/b", "x")
        .write(dir.path().join("flat"));
    let told = diff(&deep_one, &flat).exits(1).json();
    assert!(told["keys"].as_array().unwrap().len() < 5000);
    diff(&deep_one, &deep_one).exits(0);
    deep(&deep_one).exits(0);
}

#[test]
fn nodes_that_do_not_say_where_they_are_are_refused_at_once() {
    // Guards against a tree far deeper than its file is long in paths, where each key costs a look at all above it.
    let dir = TempDir::new().unwrap();
    let depth = 60_000;
    for (part, path) in [("cluster", "/0"), ("users", "/1")] {
        let place = format!(r#"{{"Path":"{path}","Children":{{"#);
        let mut json = format!(
            r#"{{"Root":{{"Path":"/","Children":{{"{}":{place}"z":"#,
            &path[1..]
        );
        for _ in 0..depth {
            json.push_str(r#"{"Children":{"k":{"Value":"","Children":null},"z":"#);
        }
        json.push_str(r#"{"Value":"","Children":null}"#);
        json.push_str(&"}}".repeat(depth + 2));
        json.push_str(r#"},"CurrentIndex":3}"#);
        let mut made = Made::new("2.1.0");
        made.request("PUT", "/1/a", "x")
            .snapshot(1, json.as_bytes());
        let member = made.write(dir.path().join(part));
        let started = std::time::Instant::now();
        deep(&member)
            .exits(4)
            .says("a node that does not say where it is at byte");
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}

#[test]
fn names_that_a_path_cannot_have_are_refused() {
    // Guards against a difference that no path leads to, and that is therefore never reported.
    let dir = TempDir::new().unwrap();
    for name in ["", ".", "..", "a/b"] {
        let keys = json!({name: node(&format!("/1/{name}"), 3, "x", Value::Null)});
        let json = saved(&store("2.1.0", &keys, 3));
        let mut made = Made::new("2.1.0");
        made.request("PUT", "/1/a", "x").snapshot(1, &json);
        let name = format!("n{}", name.replace('/', "_"));
        let member = made.write(dir.path().join(name));
        deep(&member).exits(4).says("an impossible node name");
    }
}

#[test]
fn a_peer_url_gives_a_terminal_no_orders() {
    // Guards against a line of the report that someone else wrote.
    let dir = TempDir::new().unwrap();
    let mut made = Made::new("2.1.0");
    let url = r#""http://x\n  ok  FORGED\u001b[2J""#;
    let context = format!(r#"{{"id":7,"peerURLs":[{url},{url}]}}"#);
    made.entry(CONF_CHANGE, &conf_change(0, 7, &context));
    let member = made.write(dir.path().join("urls"));
    let told = typed("verify --deep {}", &[&member]).exits(4);
    for text in [&told.stdout, &told.stderr] {
        assert!(
            !text.contains("\n  ok  FORGED") && !text.contains('\u{1b}'),
            "{told:#?}"
        );
    }
}

#[test]
fn an_answer_without_end_can_be_stopped() {
    // Guards against a `keys` that no one can stop: the paths of 200,000 directories come to 40 GB of JSON.
    let dir = TempDir::new().unwrap();
    let mut made = Made::new("2.1.0");
    made.request("PUT", &format!("/1{}", "/a".repeat(200_000)), "x");
    let member = made.write(dir.path().join("deep"));
    let mut bounded = clean("timeout");
    bounded.args(["--preserve-status", "-k", "10", "1", "sh", "-c"]);
    bounded.args([r#"exec "$1" --json keys "$2" >/dev/null"#, "sh", BINARY]);
    run(bounded.arg(&member)).exits(143);
}

#[test]
fn a_raft_snapshot_that_no_etcd_loads_hides_nothing_that_an_older_one_and_the_log_hold() {
    // A bit was flipped in the JSON and the CRC made to fit: `rewind` said that something writes to the data dir,
    // and nothing read the archive of it.
    let dir = TempDir::new().unwrap();
    let mut made = Made::new("2.1.0");
    let key = |name: &str, index| node(&format!("/1/{name}"), index, "x", Value::Null);
    let older = json!({"a": key("a", 3)});
    let newer = json!({"a": key("a", 3), "b": key("b", 4)});
    made.request("PUT", "/1/a", "x")
        .snapshot(1, &saved(&store("2.1.0", &older, 3)))
        .request("PUT", "/1/b", "x");
    let mut broken = saved(&store("2.1.0", &newer, 4));
    broken.pop();
    let member = made.snapshot(1, &broken).request("PUT", "/1/c", "x");
    let member = member.write(dir.path().join("member.etcd"));

    let listed = |target: &Path| {
        let told = typed("keys --json {}", &[&target]).exits(0).json();
        told["node"].clone()
    };
    let expected = listed(&member);
    assert_has(&expected.to_string(), "/c");
    let (live, _) = snapshot(&member, &dir.path().join("live"), &[]);
    let (all, _) = snapshot(&member, &dir.path().join("all"), &["--all"]);
    for (name, input) in [("1", &member), ("2", &live), ("3", &all)] {
        assert_eq!(listed(input), expected, "{}", input.display());
        let out = dir.path().join(name);
        typed("rewind --to end --out {} {}", &[&out, input])
            .exits(0)
            .says("is corrupt and was passed over");
        let archives = names(&out).into_iter();
        let mut archives = archives.filter(|name| name.strip_suffix(".zst").is_some());
        let archive = out.join(archives.next().unwrap());
        typed("verify --deep {}", &[&archive]).exits(0);
        assert_eq!(listed(&archive), expected);
    }
    let (saved, told) = snapshot(&member, &dir.path().join("damaged"), &["--damaged"]);
    let why = told["manifest"]["damage"]["start"].as_str().unwrap();
    assert_has(why, "the store in the raft snapshot cannot be read");
    assert_eq!(listed(&saved), expected);
}

#[test]
fn a_rewind_that_needs_a_raft_snapshot_that_no_etcd_loads_says_so() {
    let dir = TempDir::new().unwrap();
    let mut made = Made::new("2.1.0");
    let mut broken = saved(&store("2.1.0", &json!({}), 2));
    broken.pop();
    let member = made.snapshot(1, &broken).request("PUT", "/1/c", "x");
    let member = member.write(dir.path().join("member.etcd"));
    let wal = member.join("member/wal");
    // The log begins behind it.
    let mut log = SegmentBuilder::new(0, false);
    log.crc().metadata(MEMBER_ID, CLUSTER_ID).marker(1, 2);
    log.entry(NORMAL, 1, 3, Some(&request("PUT", "/1/c", "x")));
    log.hard_state(1, MEMBER_ID, 3);
    fs::remove_file(wal.join(segment_name(0, 0))).unwrap();
    write_file(&wal.join(segment_name(1, 3)), 0o600, log.bytes());
    let out = dir.path().join("out");
    typed("rewind --to end --out {} {}", &[&out, &member])
        .exits(4)
        .says(
            "etcd cannot load the raft snapshot at index 2 of term 1: the store is not etcd's JSON",
        )
        .says("leave that input out");
}

#[test]
fn what_is_lost_is_the_first_warning() {
    // It was the last of six.
    let dir = TempDir::new().unwrap();
    let mut made = Made::new("2.1.0");
    let member = made.snapshot(1, &saved(&store("2.1.0", &json!({}), 2)));
    let member = member.write(dir.path().join("member.etcd"));
    let segment = member.join("member/wal").join(segment_name(0, 0));
    let mut bytes = fs::read(&segment).unwrap();
    bytes.truncate(61);
    fs::write(&segment, bytes).unwrap();
    let (_, told) = snapshot(&member, &dir.path().join("backups"), &[]);
    let warnings = told["manifest"]["warnings"].as_array().unwrap();
    assert!(warnings.len() > 2, "{warnings:#?}");
    assert_has(&warnings[0].to_string(), "entries 1 to 2 are lost");
}
