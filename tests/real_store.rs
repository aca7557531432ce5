//! Our reading of a data dir, compared with the answers of the server that wrote it: after thousands of random
//! operations.
//!
//! In: etcd, if it is installed; `ETCD_ARK_STORE_SEEDS` (how many seeds, 4), `ETCD_ARK_STORE_FIRST_SEED` (0) and
//! `ETCD_ARK_STORE_OPERATIONS` (how many for each, 500). Out: nothing, or the seed and the first difference.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Mutex;
use std::thread::ScopedJoinHandle;

use crate::support::etcd::{Answer, Connection};
use crate::support::prelude::*;
use crate::support::random_ops::{LONG_TTL, Random, RandomOps, Tally, v2_target};
use crate::support::trio::without_ttl;

/// How long the short lifetimes may take to end, and a server to come to rest.
const PATIENCE: Duration = Duration::from_secs(30);

/// Seeds at the same time.
const WORKERS: usize = 4;

/// What each seed adds to the operations.
#[derive(Clone, Copy, Debug)]
struct Setting {
    seed: u64,
    operations: u64,
    /// Entries between two raft snapshots.
    snapshot_count: u64,
    /// Names and values that are not UTF-8.
    any_bytes: bool,
}

impl Setting {
    /// Four kinds in turn: raft snapshots all the time; none, so that the replay begins at the very start; some; and some
    /// in a store that is not UTF-8.
    fn of_seed(seed: u64, operations: u64) -> Self {
        let mut random = Random::new(!seed);
        let (snapshot_count, any_bytes) = match seed % 4 {
            0 => (50, false),
            1 => (100_000, true),
            2 => (200 + random.below(200), false),
            _ => (40 + random.below(200), true),
        };
        Self {
            seed,
            operations,
            snapshot_count,
            any_bytes,
        }
    }

    /// Whether a server that never stopped holds what its data dir says. Bytes that are not UTF-8 are lost in a raft
    /// snapshot, which is JSON: then it is the server started again that knows what is on disk.
    fn disk_is_memory(self) -> bool {
        !self.any_bytes || self.snapshot_count > self.operations * 2
    }
}

#[derive(Clone, Debug)]
struct Answers {
    /// The answer for `/`, which shows no hidden node.
    visible: Value,
    /// The answer for each hidden node that is there, parents first.
    hidden: Vec<(Vec<u8>, Value)>,
    etcd_index: u64,
    raft_index: u64,
}

impl Answers {
    /// Reads until nothing happens during the reading, and until nothing is left that will expire soon if `settled` is asked.
    #[track_caller]
    fn read(connection: &mut Connection, hidden: &BTreeSet<Vec<u8>>, settled: bool) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let before = Self::try_read(connection, hidden);
            std::thread::sleep(Duration::from_millis(20));
            let after = Self::try_read(connection, hidden);
            match (before, after) {
                (Some(before), Some(after))
                    if before.raft_index == after.raft_index
                        && before.etcd_index == after.etcd_index
                        && !(settled && after.expires_soon()) =>
                {
                    return after;
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        panic!("the server does not come to rest");
    }

    fn try_read(connection: &mut Connection, hidden: &BTreeSet<Vec<u8>>) -> Option<Self> {
        let mut get = |key: &[u8]| {
            let target = format!("{}?recursive=true&sorted=true", v2_target(key));
            connection.get(&target).unwrap()
        };
        let root = get(b"/");
        let mut answers = Self {
            visible: root.json(),
            hidden: Vec::new(),
            etcd_index: root.number("X-Etcd-Index"),
            raft_index: root.number("X-Raft-Index"),
        };
        let of_this_moment = |answer: &Answer| answer.number("X-Etcd-Index") == answers.etcd_index;
        for key in hidden {
            let answer = get(key);
            if !of_this_moment(&answer) {
                return None;
            }
            match answer.status {
                200 => answers.hidden.push((key.clone(), answer.json())),
                _ => assert_eq!(answer.json()["errorCode"], missing(key, &answer)),
            }
        }
        Some(answers)
    }

    fn expires_soon(&self) -> bool {
        // A lifetime of 0 is left out: what has expired in this second, and is still there, has none.
        let soon = |node: &Value| {
            let lasts = node["ttl"].as_u64().is_some_and(|ttl| ttl >= LONG_TTL / 2);
            !node["expiration"].is_null() && !lasts
        };
        let hidden = self.hidden.iter().map(|(_, answer)| answer);
        let mut answers = std::iter::once(&self.visible).chain(hidden);
        answers.any(|answer| any_node(&answer["node"], &soon))
    }

    /// The visible answer, without lifetimes, which count down.
    fn expected(&self) -> Value {
        without_ttl(self.visible.clone())
    }

    /// One answer in which the hidden nodes stand at their places.
    fn expected_with_hidden(&self) -> Value {
        let mut whole = self.expected();
        for (key, answer) in &self.hidden {
            let node = without_ttl(answer["node"].clone());
            insert(&mut whole["node"], key, node);
        }
        whole
    }
}

/// The error code for a node that is not there: none of that name, or a key where its directory would be.
fn missing(key: &[u8], answer: &Answer) -> i64 {
    match answer.json()["errorCode"].as_i64() {
        Some(code @ (100 | 104)) => code,
        _ => panic!("{:?}: {answer:?}", String::from_utf8_lossy(key)),
    }
}

fn any_node(node: &Value, is: &impl Fn(&Value) -> bool) -> bool {
    is(node) || children(node).iter().any(|child| any_node(child, is))
}

fn children(node: &Value) -> &[Value] {
    node["nodes"].as_array().map_or(&[], Vec::as_slice)
}

/// How many keys and directories a node is and holds.
fn count(node: &Value) -> (u64, u64) {
    let own = if node["dir"] == true { (0, 1) } else { (1, 0) };
    let below = children(node).iter().map(count);
    below.fold(own, |sum, below| (sum.0 + below.0, sum.1 + below.1))
}

/// Adds a hidden node to the tree below `root`: its parent exists, since parents come first.
fn insert(root: &mut Value, key: &[u8], node: Value) {
    // As the server tells it: with U+FFFD for what is not UTF-8.
    let name = node["key"].as_str().unwrap().to_owned();
    let mut parent = root;
    loop {
        let nodes = parent["nodes"].take();
        let mut nodes = match nodes {
            Value::Array(nodes) => nodes,
            _ => Vec::new(),
        };
        let within = nodes.iter().position(|child| {
            let above = child["key"].as_str().unwrap();
            child["dir"] == true && name.starts_with(&format!("{above}/"))
        });
        if let Some(within) = within {
            parent["nodes"] = Value::Array(nodes);
            parent = &mut parent["nodes"][within];
            continue;
        }
        let at = nodes.partition_point(|child| child["key"].as_str().unwrap() < name.as_str());
        let depth = |key: &str| key.matches('/').count();
        let above = parent["key"].as_str().unwrap_or_default();
        assert_eq!(
            depth(above) + 1,
            depth(&name),
            "no parent of {:?}",
            key.escape_ascii().to_string()
        );
        nodes.insert(at, node);
        parent["nodes"] = Value::Array(nodes);
        return;
    }
}

/// One seed's server, data dir and what is known of them.
struct Story {
    setting: Setting,
    operations: RandomOps,
    /// What the server said in the pauses between operations.
    moments: Vec<Answers>,
    /// How many keys and directories expired while a server ran.
    expired: u64,
    /// Time spent in operations alone.
    busy: Duration,
}

impl Story {
    fn new(setting: Setting) -> Self {
        Self {
            setting,
            operations: RandomOps::new(setting.seed, setting.any_bytes),
            moments: Vec::new(),
            expired: 0,
            busy: Duration::ZERO,
        }
    }

    /// Runs a server for `count` operations, with pauses in which keys expire, until nothing more expires soon. What it
    /// said last, before it was stopped.
    fn serve(
        &mut self,
        data_dir: &Path,
        snapshot_count: u64,
        (count, pauses): (u64, u64),
    ) -> Answers {
        let etcd = Etcd::start_with(data_dir, snapshot_count);
        let mut connection = Connection::new(etcd.client());
        let first = Answers::read(&mut connection, self.operations.hidden(), false);
        self.moments.push(first);
        let mut random = Random::new(self.setting.seed ^ count);
        for pause in 1..=pauses {
            let start = Instant::now();
            let share = count * pause / pauses - count * (pause - 1) / pauses;
            self.operations.run(&mut connection, share);
            self.busy += start.elapsed();
            std::thread::sleep(Duration::from_millis(random.below(1500)));
            let moment = Answers::read(&mut connection, self.operations.hidden(), false);
            self.moments.push(moment);
        }
        let last = Answers::read(&mut connection, self.operations.hidden(), true);
        let stats = connection.get("/v2/stats/store").unwrap().json();
        self.expired += stats["expireCount"].as_u64().unwrap();
        etcd.stop();
        last
    }

    /// Holds all that we say of the stopped server's data dir against its answers.
    fn check(&self, data_dir: &Path, last: &Answers) {
        self.check_keys("the data dir", data_dir, last);
        let inspected = ark_json(&["inspect".as_ref(), data_dir.as_ref()]);
        let index = json!(last.etcd_index);
        self.equal(
            "the store's index",
            &index,
            &inspected["store"]["etcd_index"],
        );
        if !self.setting.any_bytes {
            // The root is not a directory of the users'.
            let (keys, directories) = count(&last.expected_with_hidden()["node"]);
            let [said_keys, said_directories] =
                ["keys", "directories"].map(|name| &inspected["store"][name]);
            self.equal("the number of keys", &json!(keys), said_keys);
            let directories = json!(directories - 1);
            self.equal("the number of directories", &directories, said_directories);
        }
        self.check_hidden_one_by_one(data_dir, last);
        self.check_values(data_dir, last);
        if !self.setting.disk_is_memory() {
            return;
        }
        for moment in &self.moments {
            let at = moment.raft_index.to_string();
            let what = format!("the data dir at raft index {at}");
            let at_index = ["--at-index".as_ref(), at.as_ref()];
            let visible = keys(data_dir, &at_index);
            self.equal(&what, &moment.expected(), &visible);
        }
        typed("verify --deep {}", &[&data_dir]).exits(0);
        let backups = data_dir.with_extension("backups");
        let archive = archived(data_dir, &backups);
        self.check_keys("the archive", &archive, last);
        typed("verify --deep {}", &[&archive]).exits(0);
    }

    fn check_keys(&self, what: &str, target: &Path, last: &Answers) {
        self.equal(what, &last.expected(), &keys(target, &[]));
        // Names that are not UTF-8 look alike in JSON: where a hidden node stands is then not to be told from its name.
        if !self.setting.any_bytes {
            let whole = keys(target, &["--hidden".as_ref()]);
            let what = format!("{what} with hidden nodes");
            self.equal(&what, &last.expected_with_hidden(), &whole);
        }
    }

    fn check_hidden_one_by_one(&self, data_dir: &Path, last: &Answers) {
        // No argument of a command holds a NUL. Each takes a process: some of them are enough.
        let some = last.hidden.iter().filter(|(key, _)| !key.contains(&0));
        for (key, answer) in some.take(15) {
            let found = keys(data_dir, &[OsStr::from_bytes(key)]);
            let what = format!("below {}", key.escape_ascii());
            self.equal(&what, &without_ttl(answer.clone()), &found);
        }
        for key in ["/_h/not/there", "/nor/this"] {
            let args: [&OsStr; 3] = ["keys".as_ref(), data_dir.as_ref(), key.as_ref()];
            ark(args).exits(10);
        }
    }

    /// Some values as they are.
    fn check_values(&self, data_dir: &Path, last: &Answers) {
        let mut found = Vec::new();
        collect_values(&last.visible["node"], &mut found);
        // What JSON cannot tell, and what no argument can name.
        found.retain(|(key, value)| !format!("{key}{value}").contains(['\u{fffd}', '\0']));
        let step = found.len().div_ceil(5).max(1);
        for (key, value) in found.into_iter().step_by(step) {
            let told = typed("keys {} --get {}", &[&data_dir, &key])
                .exits(0)
                .stdout;
            let what = format!("the value of {key:?}");
            self.equal(&what, &json!(value), &json!(told));
        }
    }

    #[track_caller]
    fn equal(&self, what: &str, server: &Value, ours: &Value) {
        if let Some(difference) = first_difference("", server, ours) {
            panic!(
                "{what} is not as the server said: {difference}\n{:?}",
                self.setting
            );
        }
    }
}

fn keys(target: &Path, more: &[&OsStr]) -> Value {
    let mut args: Vec<&OsStr> = vec!["keys".as_ref(), target.as_ref()];
    args.extend(more);
    ark_json(&args)
}

fn ark_json(args: &[&OsStr]) -> Value {
    let mut all: Vec<OsString> = vec!["--json".into()];
    all.extend(args.iter().map(OsString::from));
    ark(all).exits(0).json()
}

fn collect_values(node: &Value, into: &mut Vec<(String, String)>) {
    if let (Some(key), Some(value)) = (node["key"].as_str(), node["value"].as_str()) {
        into.push((key.to_owned(), value.to_owned()));
    }
    for child in children(node) {
        collect_values(child, into);
    }
}

/// Where two answers first differ, and how.
fn first_difference(at: &str, server: &Value, ours: &Value) -> Option<String> {
    match (server, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let at = left.get("key").and_then(Value::as_str).unwrap_or(at);
            // The nodes last: a difference of the node itself explains more than one below it.
            let (nodes, others): (Vec<_>, Vec<_>) =
                names.into_iter().partition(|name| *name == "nodes");
            others.into_iter().chain(nodes).find_map(|name| {
                let sides = [left, right].map(|side| side.get(name).unwrap_or(&Value::Null));
                first_difference(&format!("{at} → {name}"), sides[0], sides[1])
            })
        }
        (Value::Array(left), Value::Array(right)) => {
            let count = left.len().max(right.len());
            (0..count).find_map(|number| match (left.get(number), right.get(number)) {
                (Some(left), Some(right)) if left["key"] == right["key"] => {
                    first_difference(at, left, right)
                }
                (left, right) => Some(format!(
                    "in {at}, at place {number}: the server has {}, we have {}",
                    in_short(left),
                    in_short(right)
                )),
            })
        }
        (left, right) if left == right => None,
        (left, right) => Some(format!(
            "at {at}: the server says {}, we say {}",
            in_short(Some(left)),
            in_short(Some(right))
        )),
    }
}

fn in_short(value: Option<&Value>) -> String {
    value.map_or("nothing".to_owned(), |value| {
        value.to_string().chars().take(300).collect()
    })
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value}")),
        Err(_) => otherwise,
    }
}

/// Runs one seed. How its operations ended, and how many nodes expired.
fn replay(setting: Setting) -> (Tally, u64) {
    let mut dir = fast_dir("ark-store-");
    // What expires when is not in the seed: looking into a failure takes the very data dir.
    dir.disable_cleanup(true);
    println!("{setting:?} in {}", dir.path().display());
    let data_dir = dir.path().join("data");
    let mut story = Story::new(setting);
    let work = (setting.operations, 4);
    let last = story.serve(&data_dir, setting.snapshot_count, work);
    if setting.disk_is_memory() {
        story.check(&data_dir, &last);
        // Started again, in another term; and first of all it must itself find what it had.
        let restarted = story.moments.len();
        let work = (setting.operations / 4, 2);
        let last_again = story.serve(&data_dir, setting.snapshot_count, work);
        let found = &story.moments[restarted];
        story.equal("the same server", &last.expected(), &found.expected());
        story.check(&data_dir, &last_again);
    } else {
        // With no further raft snapshot, which would lose more.
        let last = story.serve(&data_dir, 100_000, (0, 0));
        story.check(&data_dir, &last);
    }
    let (all, succeeded) = story.operations.tally().sums();
    println!(
        "seed {}: {all} operations in {:?}, {succeeded} of them succeeded, {} nodes expired\n{}",
        setting.seed,
        story.busy,
        story.expired,
        story.operations.tally()
    );
    dir.disable_cleanup(false);
    (story.operations.tally().clone(), story.expired)
}

#[test]
fn random_operations_replay_to_what_a_real_etcd_answers() {
    // Guards against every rule of the store that we have misunderstood, and that no recording happens to show.
    only_with!(need("etcd"));
    let seeds = from_environment("ETCD_ARK_STORE_SEEDS", 4);
    let first = from_environment("ETCD_ARK_STORE_FIRST_SEED", 0);
    let operations = from_environment("ETCD_ARK_STORE_OPERATIONS", 500);
    let left = Mutex::new(first..first + seeds);
    // Mostly they wait for keys to expire: several can wait together.
    let told: Vec<(Tally, u64)> = std::thread::scope(|scope| {
        let take = || {
            let next = || left.lock().unwrap().next();
            let seeds = std::iter::from_fn(next);
            let settings = seeds.map(|seed| Setting::of_seed(seed, operations));
            settings.map(replay).collect::<Vec<_>>()
        };
        let workers = [(); WORKERS].map(|()| scope.spawn(take));
        let told = workers.into_iter().map(ScopedJoinHandle::join);
        told.flat_map(|told| told.unwrap_or_else(|why| std::panic::resume_unwind(why)))
            .collect()
    });
    let (mut tally, mut expired) = (Tally::default(), 0);
    for (of_seed, expired_of_seed) in &told {
        tally.add(of_seed);
        expired += expired_of_seed;
    }
    // A story in which nothing happens would pass as well.
    let (all, succeeded) = tally.sums();
    if all >= 1000 {
        assert!(succeeded > all / 3, "{tally}");
        assert!(expired > 10, "{expired} expired\n{tally}");
        for code in [100, 101, 102, 104, 105, 107, 108] {
            let outcome = format!("code {code}");
            assert!(tally.ended(&outcome) > 2, "{outcome}\n{tally}");
        }
    }
}
