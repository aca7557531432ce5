//! The JSON of a raft snapshot's store: what etcd's own decoder accepts, and what it refuses.
//!
//! A raft snapshot with a valid CRC and an unreadable store is not skipped for an older one: the server
//! panics. So everything that Go refuses must be found, and what it accepts must not be called damaged.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use etcd_ark::data_dir::start::start_verdicts;
use fs_err as fs;

use crate::support::ark::{ark, snapshot};
use crate::support::decode::raft_snapshot;
use crate::support::encode;
use crate::support::recordings::{Recording, copy_dir, unpack};
use crate::support::tools::{clear_environment, need, only_with, server};

/// What is replaced in the store's JSON, and by what, after which Go takes it and the server stops with its first event.
const QUEUES: &[(&str, &[u8], &[u8])] = &[
    (
        // A server looks into the event at the front.
        "an event of null at the front",
        b"\"Events\":[",
        b"\"Events\":[null,",
    ),
    (
        "no place for an event",
        b"\"Events\":[",
        b"\"Events\":null,\"Y\":[",
    ),
    ("a capacity of 0", b"\"Capacity\":1000", b"\"Capacity\":0"),
    ("a front outside the queue", b"\"Front\":0", b"\"Front\":-1"),
];

/// What is replaced in the store's JSON, by what, and whether Go takes the result. The live story below asks a real
/// server about each.
const EDITS: &[(&str, &[u8], &[u8], bool)] = &[
    ("nothing", b"", b"", true),
    ("a space more", b"}$", b"} ", true),
    ("a line end more", b"}$", b"}\n", true),
    ("a space before", b"^{", b" {", true),
    ("a byte short", b"}$", b"", false),
    ("a brace more", b"}$", b"}}", false),
    ("a letter more", b"}$", b"}x", false),
    ("a zero more", b"}$", b"}\0", false),
    ("a second document", b"}$", b"}{}", false),
    ("a byte order mark", b"^{", b"\xef\xbb\xbf{", false),
    (
        "names in lower case",
        b"\"CurrentIndex\":",
        b"\"currentindex\":",
        true,
    ),
    ("a name in upper case", b"\"Root\":", b"\"ROOT\":", true),
    (
        "a field no one knows",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":2,\"X\":[1e999,{\"a\":-0.5e-3}]",
        true,
    ),
    (
        "an empty field no one knows",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":2,\"X\":",
        false,
    ),
    (
        "a version too large",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":1e999",
        false,
    ),
    (
        "a version with a fraction",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":2.0",
        false,
    ),
    (
        "a version in quotes",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":\"2\"",
        false,
    ),
    (
        "a version of null",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":null",
        true,
    ),
    (
        "a version below zero",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":-2",
        true,
    ),
    (
        "a leading zero",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":02",
        false,
    ),
    (
        "a plus sign",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":+2",
        false,
    ),
    (
        "a point at the end",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":2.",
        false,
    ),
    (
        "a hexadecimal number",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":0x2",
        false,
    ),
    (
        "not a number",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":NaN",
        false,
    ),
    (
        "a comma at the end",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":2,",
        false,
    ),
    (
        "a comment",
        b"\"CurrentVersion\":2",
        b"\"CurrentVersion\":/**/2",
        false,
    ),
    (
        "a first event too large",
        b"\"StartIndex\":1",
        b"\"StartIndex\":1e999",
        false,
    ),
    (
        "a first event in tens",
        b"\"StartIndex\":1",
        b"\"StartIndex\":1e1",
        false,
    ),
    (
        "a first event below zero",
        b"\"StartIndex\":1",
        b"\"StartIndex\":-1",
        false,
    ),
    (
        "a first event of 65 bits",
        b"\"StartIndex\":1",
        b"\"StartIndex\":18446744073709551616",
        false,
    ),
    (
        "a first event of true",
        b"\"StartIndex\":1",
        b"\"StartIndex\":true",
        false,
    ),
    (
        "a first event of null",
        b"\"StartIndex\":1",
        b"\"StartIndex\":null",
        true,
    ),
    (
        "a first event in an array",
        b"\"StartIndex\":1",
        b"\"StartIndex\":[1]",
        false,
    ),
    (
        "a size with a fraction",
        b"\"Size\":",
        b"\"Size\":0.5,\"Y\":",
        false,
    ),
    (
        "a size of 64 bits",
        b"\"Size\":",
        b"\"Size\":9223372036854775808,\"Y\":",
        false,
    ),
    (
        "a history in an array",
        b"\"EventHistory\":",
        b"\"EventHistory\":[],\"Y\":",
        false,
    ),
    (
        "a watcher hub of a text",
        b"\"WatcherHub\":",
        b"\"WatcherHub\":\"\",\"Y\":",
        false,
    ),
    (
        "events in an object",
        b"\"Events\":[",
        b"\"Events\":{},\"Y\":[",
        false,
    ),
    (
        "an event of a number",
        b"\"Events\":[",
        b"\"Events\":[1,",
        false,
    ),
    (
        "a history without a queue",
        b"\"Queue\":{",
        b"\"Y\":{",
        true,
    ),
    (
        "an action of a number",
        b"\"action\":",
        b"\"action\":1,\"y\":",
        false,
    ),
    (
        "an event's index too large",
        b"\"node\":{",
        b"\"node\":{\"createdIndex\":1e999,",
        false,
    ),
    (
        "an event's empty time",
        b"\"node\":{",
        b"\"node\":{\"expiration\":\"\",",
        false,
    ),
    (
        "an event's time of null",
        b"\"node\":{",
        b"\"node\":{\"expiration\":null,",
        true,
    ),
    (
        "an event's time",
        b"\"node\":{",
        b"\"node\":{\"expiration\":\"2036-01-02T15:04:05.5+01:00\",",
        true,
    ),
    (
        "an event's time with a space",
        b"\"node\":{",
        b"\"node\":{\"expiration\":\"2036-01-02 15:04:05Z\",",
        false,
    ),
    (
        "an event's time of a number",
        b"\"node\":{",
        b"\"node\":{\"expiration\":5,",
        false,
    ),
    (
        "an event's time to live too large",
        b"\"node\":{",
        b"\"node\":{\"ttl\":9223372036854775808,",
        false,
    ),
    (
        "an event's directory in quotes",
        b"\"node\":{",
        b"\"node\":{\"dir\":\"true\",",
        false,
    ),
    (
        "an event's directory",
        b"\"node\":{",
        b"\"node\":{\"dir\":true,",
        true,
    ),
    (
        "an event's value of a number",
        b"\"value\":",
        b"\"value\":1,\"y\":",
        false,
    ),
    (
        "a line end in an event's value",
        b"\"value\":\"",
        b"\"value\":\"\n",
        false,
    ),
    (
        "a control character in an event's key",
        b"\"key\":\"",
        b"\"key\":\"\x1f",
        false,
    ),
    (
        "an escape that is none",
        b"\"value\":\"",
        b"\"value\":\"\\x41",
        false,
    ),
    (
        "an escape cut short",
        b"\"value\":\"",
        b"\"value\":\"\\u12g4",
        false,
    ),
    (
        "half a surrogate pair",
        b"\"value\":\"",
        b"\"value\":\"\\ud800",
        true,
    ),
    (
        "an escaped slash",
        b"\"value\":\"",
        b"\"value\":\"\\/",
        true,
    ),
    (
        "a byte that is not UTF-8",
        b"\"value\":\"",
        b"\"value\":\"\xff",
        true,
    ),
    (
        "a tab in a key's value",
        b"\"Value\":\"g-",
        b"\"Value\":\"\tg-",
        false,
    ),
    (
        "a byte that is not UTF-8 in a key's value",
        b"\"Value\":\"g-",
        b"\"Value\":\"\xff",
        true,
    ),
    (
        "a key's value of a number",
        b"\"Value\":\"g-",
        b"\"Value\":1,\"z\":\"",
        false,
    ),
    (
        "a key's empty time",
        b"\"ExpireTime\":\"0001-01-01T00:00:00Z\"&",
        b"\"ExpireTime\":\"\"",
        false,
    ),
    (
        "a key's time with a space",
        b"\"ExpireTime\":\"0001-01-01T00:00:00Z\"&",
        b"\"ExpireTime\":\"2036-01-02 15:04:05Z\"",
        false,
    ),
    (
        "a key's time in lower case",
        b"\"ExpireTime\":\"0001-01-01T00:00:00Z\"&",
        b"\"ExpireTime\":\"2036-01-02t15:04:05z\"",
        false,
    ),
    (
        "a key's time without a zone",
        b"\"ExpireTime\":\"0001-01-01T00:00:00Z\"&",
        b"\"ExpireTime\":\"2036-01-02T15:04:05\"",
        false,
    ),
    (
        "a key's time at second 60",
        b"\"ExpireTime\":\"0001-01-01T00:00:00Z\"&",
        b"\"ExpireTime\":\"2036-01-02T15:04:60Z\"",
        false,
    ),
    (
        "a key's time",
        b"\"ExpireTime\":\"0001-01-01T00:00:00Z\"&",
        b"\"ExpireTime\":\"2036-01-02T15:04:05.123456789-07:00\"",
        true,
    ),
    (
        "a key's index too large",
        b"\"CreatedIndex\":",
        b"\"CreatedIndex\":1e999,\"z\":",
        false,
    ),
    (
        "a counter below zero",
        b"\"setsFail\":0",
        b"\"setsFail\":-1",
        false,
    ),
    (
        "a counter too large",
        b"\"setsFail\":0",
        b"\"setsFail\":1e999",
        false,
    ),
    (
        "statistics of a number",
        b"\"Stats\":{",
        b"\"Stats\":5,\"Y\":{",
        false,
    ),
    ("single quotes", b"\"Stats\":{", b"'Stats':{", false),
];

/// A data dir with a newest raft snapshot that can be changed.
pub(crate) struct Base {
    recording: Recording,
    snap: PathBuf,
    read: crate::support::decode::RaftSnapshotRead,
}

/// All edits, and whether a server starts after each.
pub(crate) fn edits() -> impl Iterator<Item = (&'static str, &'static [u8], &'static [u8], bool)> {
    let queues = QUEUES
        .iter()
        .map(|(name, from, to)| (*name, *from, *to, false));
    queues.chain(EDITS.iter().copied())
}

impl Base {
    pub(crate) fn new() -> Self {
        let recording = unpack("start-verdicts");
        let dir = recording.path("start-verdicts/cases/G-intact.etcd/member/snap");
        let mut snaps = crate::support::decode::snaps(&dir);
        snaps.sort();
        let snap = snaps.pop().unwrap();
        let read = raft_snapshot(&fs::read(&snap).unwrap());
        Self {
            recording,
            snap,
            read,
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.recording.path("start-verdicts/cases/G-intact.etcd")
    }

    /// Writes the raft snapshot with `from` in its store replaced by `to`, with a right CRC: the first one, but for `^`
    /// and `$` the one at the very beginning or end, and for `&` the last one in the tree.
    pub(crate) fn edit(&self, dir: &Path, from: &[u8], to: &[u8]) {
        let json = self.read.json.as_bytes();
        let find = |text: &[u8]| memchr::memmem::find(json, text).expect("there is one");
        let (from, at) = match (from.first(), from.last()) {
            (Some(b'^'), _) => (&from[1..], 0),
            (_, Some(b'$')) => (&from[..from.len() - 1], json.len() + 1 - from.len()),
            (_, Some(b'&')) => {
                let from = &from[..from.len() - 1];
                let tree = &json[..find(b"\"WatcherHub\"")];
                (from, memchr::memmem::rfind(tree, from).unwrap())
            }
            _ => (from, find(from)),
        };
        let json = [&json[..at], to, &json[at + from.len()..]].concat();
        let file = encode::raft_snapshot(self.read.term, self.read.index, &self.read.nodes, &json);
        let snap = dir.join("member/snap").join(self.snap.file_name().unwrap());
        fs::write(snap, file).unwrap();
    }
}

#[test]
fn what_go_refuses_of_a_store_starts_nowhere_and_what_it_takes_does() {
    let base = Base::new();
    let dir = base.dir();
    let mut wrong = Vec::new();
    for (name, from, to, taken) in edits() {
        base.edit(&dir, from, to);
        for (line, verdict) in start_verdicts(&dir, None, false).unwrap() {
            if verdict.is_yes() != taken {
                wrong.push(format!("{name} on {line}: {verdict:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// etcd 3.4 reads the store with the same decoder before it looks for a backend, which there is none of.
#[test]
fn what_go_takes_of_a_store_is_what_a_real_server_takes() {
    only_with!(need("etcd"));
    let base = Base::new();
    let scratch = tempfile::tempdir().unwrap();
    let ask = |number: usize, from: &[u8], to: &[u8]| -> bool {
        let dir = scratch.path().join(number.to_string());
        copy_dir(&base.dir(), &dir);
        base.edit(&dir, from, to);
        let mut command = server("etcd");
        clear_environment(&mut command);
        let urls = [
            "--listen-client-urls",
            "--advertise-client-urls",
            "--listen-peer-urls",
        ];
        // It ends before anyone could ask it, so any port will do.
        let urls = urls.iter().flat_map(|flag| [*flag, "http://127.0.0.1:0"]);
        command
            .args(["--name", "solo", "--data-dir"])
            .arg(&dir)
            .args(urls);
        let ended = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        let refused = said.contains("recovered store from snapshot error")
            || said.contains("failed to recover from snapshot");
        let taken = said.contains("recovering backend from snapshot error")
            || said.contains("failed to recover v3 backend");
        assert!(refused != taken, "{said}");
        taken
    };
    let mut wrong = Vec::new();
    for (number, (name, from, to, taken)) in EDITS.iter().enumerate() {
        if ask(number, from, to) != *taken {
            wrong.push(*name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn verify_snapshot_and_keys_say_that_a_store_cannot_be_read() {
    let base = Base::new();
    let (dir, backups) = (base.dir(), tempfile::tempdir().unwrap());
    for name in [
        "a letter more",
        "a first event too large",
        "an event's empty time",
        "a line end in an event's value",
    ] {
        let (_, from, to, _) = EDITS.iter().find(|edit| edit.0 == name).unwrap();
        base.edit(&dir, from, to);
        let dir = dir.as_os_str();
        ark(["verify".as_ref(), dir])
            .exits(4)
            .says("the store in the raft snapshot cannot be read");
        // It goes on with an older raft snapshot, and says so.
        ark(["keys".as_ref(), dir])
            .exits(0)
            .says("is corrupt and was passed over");
        let (_, told) = snapshot(&base.dir(), &backups.path().join(name), &[]);
        let warnings = told["manifest"]["warnings"].to_string();
        assert!(
            warnings.contains("the store in the raft snapshot cannot be read"),
            "{name}: {warnings}"
        );
    }
}
