//! The JSON of a raft snapshot's store: what etcd's own decoder accepts, and what it refuses.
//!
//! A raft snapshot with a valid CRC and an unreadable store is not skipped for an older one: the server
//! panics. So everything that Go refuses must be found, and what it accepts must not be called damaged.

use etcd_ark::data_dir::start::start_verdicts;

use crate::support::decode::raft_snapshot;
use crate::support::encode;
use crate::support::prelude::*;

/// What is replaced in the store's JSON, one edit a line: its result, its name, what is replaced, and by what. `taken` and
/// `no` are what Go does with the JSON, as the live story below asks a real server; after `stops` Go takes it, and the
/// server stops with its first event: it looks into the one at the front. `<ff>` is that byte.
const EDITS: &str = r#"
stops | an event of null at the front | "Events":[ | "Events":[null,
stops | no place for an event | "Events":[ | "Events":null,"Y":[
stops | a capacity of 0 | "Capacity":1000 | "Capacity":0
stops | a front outside the queue | "Front":0 | "Front":-1
taken | nothing |  |
taken | a space more | }$ | }<20>
taken | a line end more | }$ | }<0a>
taken | a space before | ^{ | <20>{
no    | a byte short | }$ |
no    | a brace more | }$ | }}
no    | a letter more | }$ | }x
no    | a zero more | }$ | }<00>
no    | a second document | }$ | }{}
no    | a byte order mark | ^{ | <ef><bb><bf>{
taken | names in lower case | "CurrentIndex": | "currentindex":
taken | a name in upper case | "Root": | "ROOT":
taken | a field no one knows | "CurrentVersion":2 | "CurrentVersion":2,"X":[1e999,{"a":-0.5e-3}]
no    | an empty field no one knows | "CurrentVersion":2 | "CurrentVersion":2,"X":
no    | a version too large | "CurrentVersion":2 | "CurrentVersion":1e999
no    | a version with a fraction | "CurrentVersion":2 | "CurrentVersion":2.0
no    | a version in quotes | "CurrentVersion":2 | "CurrentVersion":"2"
taken | a version of null | "CurrentVersion":2 | "CurrentVersion":null
taken | a version below zero | "CurrentVersion":2 | "CurrentVersion":-2
no    | a leading zero | "CurrentVersion":2 | "CurrentVersion":02
no    | a plus sign | "CurrentVersion":2 | "CurrentVersion":+2
no    | a point at the end | "CurrentVersion":2 | "CurrentVersion":2.
no    | a hexadecimal number | "CurrentVersion":2 | "CurrentVersion":0x2
no    | not a number | "CurrentVersion":2 | "CurrentVersion":NaN
no    | a comma at the end | "CurrentVersion":2 | "CurrentVersion":2,
no    | a comment | "CurrentVersion":2 | "CurrentVersion":/**/2
no    | a first event too large | "StartIndex":1 | "StartIndex":1e999
no    | a first event in tens | "StartIndex":1 | "StartIndex":1e1
no    | a first event below zero | "StartIndex":1 | "StartIndex":-1
no    | a first event of 65 bits | "StartIndex":1 | "StartIndex":18446744073709551616
no    | a first event of true | "StartIndex":1 | "StartIndex":true
taken | a first event of null | "StartIndex":1 | "StartIndex":null
no    | a first event in an array | "StartIndex":1 | "StartIndex":[1]
no    | a size with a fraction | "Size": | "Size":0.5,"Y":
no    | a size of 64 bits | "Size": | "Size":9223372036854775808,"Y":
no    | a history in an array | "EventHistory": | "EventHistory":[],"Y":
no    | a watcher hub of a text | "WatcherHub": | "WatcherHub":"","Y":
no    | events in an object | "Events":[ | "Events":{},"Y":[
no    | an event of a number | "Events":[ | "Events":[1,
taken | a history without a queue | "Queue":{ | "Y":{
no    | an action of a number | "action": | "action":1,"y":
no    | an event's index too large | "node":{ | "node":{"createdIndex":1e999,
no    | an event's empty time | "node":{ | "node":{"expiration":"",
taken | an event's time of null | "node":{ | "node":{"expiration":null,
taken | an event's time | "node":{ | "node":{"expiration":"2036-01-02T15:04:05.5+01:00",
no    | an event's time with a space | "node":{ | "node":{"expiration":"2036-01-02 15:04:05Z",
no    | an event's time of a number | "node":{ | "node":{"expiration":5,
no    | an event's time to live too large | "node":{ | "node":{"ttl":9223372036854775808,
no    | an event's directory in quotes | "node":{ | "node":{"dir":"true",
taken | an event's directory | "node":{ | "node":{"dir":true,
no    | an event's value of a number | "value": | "value":1,"y":
no    | a line end in an event's value | "value":" | "value":"<0a>
no    | a control character in an event's key | "key":" | "key":"<1f>
no    | an invalid escape      | "value":" | "value":"\x41
no    | an escape cut short | "value":" | "value":"\u12g4
taken | half a surrogate pair | "value":" | "value":"\ud800
taken | an escaped slash | "value":" | "value":"\/
taken | a byte that is not UTF-8 | "value":" | "value":"<ff>
no    | a tab in a key's value | "Value":"g- | "Value":"<09>g-
taken | a byte that is not UTF-8 in a key's value | "Value":"g- | "Value":"<ff>
no    | a key's value of a number | "Value":"g- | "Value":1,"z":"
no    | a key's empty time | "ExpireTime":"0001-01-01T00:00:00Z"& | "ExpireTime":""
no    | a key's time with a space | "ExpireTime":"0001-01-01T00:00:00Z"& | "ExpireTime":"2036-01-02 15:04:05Z"
no    | a key's time in lower case | "ExpireTime":"0001-01-01T00:00:00Z"& | "ExpireTime":"2036-01-02t15:04:05z"
no    | a key's time without a zone | "ExpireTime":"0001-01-01T00:00:00Z"& | "ExpireTime":"2036-01-02T15:04:05"
no    | a key's time at second 60 | "ExpireTime":"0001-01-01T00:00:00Z"& | "ExpireTime":"2036-01-02T15:04:60Z"
taken | a key's time | "ExpireTime":"0001-01-01T00:00:00Z"& | "ExpireTime":"2036-01-02T15:04:05.123456789-07:00"
no    | a key's index too large | "CreatedIndex": | "CreatedIndex":1e999,"z":
no    | a counter below zero | "setsFail":0 | "setsFail":-1
no    | a counter too large | "setsFail":0 | "setsFail":1e999
no    | statistics of a number | "Stats":{ | "Stats":5,"Y":{
no    | single quotes | "Stats":{ | 'Stats':{
"#;

/// A data dir with a newest raft snapshot that can be changed.
pub(crate) struct Base {
    recording: Recording,
    snap: PathBuf,
    read: crate::support::decode::RaftSnapshotRead,
}

/// One line of [`EDITS`].
pub(crate) struct Edit {
    result: &'static str,
    pub(crate) name: &'static str,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl Edit {
    /// Whether a server starts with it.
    pub(crate) fn starts(&self) -> bool {
        self.result == "taken"
    }
}

pub(crate) fn edits() -> impl Iterator<Item = Edit> {
    let bytes = |text: &str| {
        let mut parts = text.split('<');
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            let (hex, rest) = part.split_once('>').unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            bytes.extend_from_slice(rest.as_bytes());
        }
        bytes
    };
    EDITS.trim().lines().map(move |line| {
        let parts: Vec<_> = line.split('|').map(str::trim).collect();
        Edit {
            result: parts[0],
            name: parts[1],
            from: bytes(parts[2]),
            to: bytes(parts[3]),
        }
    })
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
    pub(crate) fn edit(&self, dir: &Path, edit: &Edit) {
        let from = &edit.from[..];
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
        let json = [&json[..at], &edit.to, &json[at + from.len()..]].concat();
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
    for edit in edits() {
        base.edit(&dir, &edit);
        for (line, verdict) in start_verdicts(&dir, None, false).unwrap() {
            if verdict.is_yes() != edit.starts() {
                wrong.push(format!("{} on {line}: {verdict:?}", edit.name));
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
    let ask = |edit: &Edit| -> bool {
        let dir = scratch.path().join(edit.name);
        copy_dir(&base.dir(), &dir);
        base.edit(&dir, edit);
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
    for edit in edits().filter(|edit| edit.result != "stops") {
        if ask(&edit) != edit.starts() {
            wrong.push(edit.name);
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
        base.edit(&dir, &edits().find(|edit| edit.name == name).unwrap());
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
        assert_has(&warnings, "the store in the raft snapshot cannot be read");
    }
}
