//! The start verdicts compared with real servers: a sample of the recorded directories, and members that no server
//! starts from.
//!
//! In: the servers of 2.x that the environment names, at least two. Out: whether each started from a copy of each
//! directory, and with how many keys.

use std::net::TcpListener;
use std::sync::Mutex;

use etcd_ark::data_dir::start::start_verdicts;
use etcd_ark::etcd::start::Verdict;
use tempfile::NamedTempFile;

use crate::store_json::{Base, edits};
use crate::support::damages::pairs;
use crate::support::encode::{SegmentBuilder, conf_change, request, segment_name};
use crate::support::etcd::http_within;
use crate::support::prelude::*;
use crate::support::trio::values;

/// How long a server alone may take to become a leader or to end: many times what it takes.
const PATIENCE: Duration = Duration::from_secs(12);
/// So many pairs of damages are tried, of which a third are on a cluster of one.
const PAIRS: u64 = 60;
/// One directory of the recording in so many.
const SAMPLE: usize = 17;

/// An address on the loopback without a server.
fn free_address() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    port.local_addr().unwrap().to_string()
}

#[derive(Debug, PartialEq)]
pub(crate) enum Did {
    /// It serves this number of keys.
    Serves(usize),
    /// It ended by itself, with these last words.
    Ended(String),
    NoLeader,
}

/// A server that is the only member, killed when dropped.
pub(crate) struct Alone {
    child: Child,
    pub(crate) client: String,
    log: NamedTempFile,
}

impl Alone {
    pub(crate) fn start(program: &Path, data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_at(program, data_dir, &free_address(), flags)
    }

    /// As [`Alone::start`], reached by other members at `peer`: then it need not be alone.
    fn start_at(program: &Path, data_dir: &Path, peer: &str, flags: &[&str]) -> Self {
        let client = free_address();
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let log = NamedTempFile::with_prefix("etcd-log-").unwrap();
        let mut command = server(program.to_str().unwrap());
        clear_environment(&mut command);
        command
            .args(["--name", "solo", "--data-dir"])
            .arg(data_dir)
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("solo={peer_url}")])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap());
        let child = start_server(command);
        Self { child, client, log }
    }

    /// The node of a key that it serves.
    fn node(&mut self, key: &str) -> Value {
        assert!(matches!(self.did(), Did::Serves(_)), "{}", self.log());
        let client = self.client.parse().unwrap();
        let path = format!("/v2/keys{key}");
        let (_, body) = http_within(PATIENCE, client, "GET", &path, "").unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["node"].clone()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    pub(crate) fn did(&mut self) -> Did {
        let client = self.client.parse().unwrap();
        let path = "/v2/keys/?recursive=true&quorum=true";
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return Did::Ended(self.log());
            }
            let answer = http_within(Duration::from_secs(1), client, "GET", path, "");
            if let Ok((200, body)) = answer {
                // It publishes itself about now, which a damaged store may not survive.
                std::thread::sleep(Duration::from_millis(300));
                if self.child.try_wait().unwrap().is_some() {
                    return Did::Ended(self.log());
                }
                let keys: Value = serde_json::from_str(&body).unwrap();
                return Did::Serves(values(&keys).len());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Did::NoLeader
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server does with a copy of a data dir.
fn try_start(program: &Path, data_dir: &Path, flags: &[&str]) -> Did {
    let dir = TempDir::with_prefix("ark-alone-").unwrap();
    let copy = dir.path().join("data");
    copy_dir(data_dir, &copy);
    Alone::start(program, &copy, flags).did()
}

/// The servers that there are, by the place of their release line in a list of verdicts; `None` without those of 2.1 and 2.2.
fn servers() -> Option<Vec<(usize, PathBuf)>> {
    let found = ["2.0", "2.1", "2.2", "2.3"].map(need_etcd_2x);
    let is_enough = found[1].is_some() && found[2].is_some();
    let found = found.into_iter().enumerate();
    is_enough.then(|| {
        found
            .filter_map(|(place, path)| Some((place, path?)))
            .collect()
    })
}

/// What speaks against a verdict, if anything does.
fn difference(verdict: &Verdict, program: &Path, data_dir: &Path) -> Option<String> {
    let did = try_start(program, data_dir, &[]);
    let as_said = match (verdict, &did) {
        (Verdict::Starts(way), Did::Serves(keys)) => way.keys == Some(*keys as u64),
        (Verdict::Empty, did) => *did == Did::Serves(0),
        (Verdict::DoesNotStart(_), did) => !matches!(did, Did::Serves(_)),
        (Verdict::ForceNewClusterOnly, Did::NoLeader) => {
            let forced = try_start(program, data_dir, &["--force-new-cluster"]);
            matches!(forced, Did::Serves(keys) if keys > 0)
        }
        _ => false,
    };
    (!as_said).then(|| format!("{verdict:?}, but it did: {did:?}"))
}

#[test]
fn a_verdict_that_no_recording_gave_is_what_a_real_server_does() {
    let Some(servers) = servers() else {
        return;
    };
    let recording = unpack("start-verdicts");
    let seen = recording.json("start-verdicts/verdicts.json");
    let cases = seen.as_object().unwrap().keys().enumerate();
    let chosen = cases.filter(|(place, case)| {
        let always = [
            "C-wal_dir_empty",
            "C-etcdctl_backup_213",
            "C-etcdctl_backup_225",
        ];
        place % SAMPLE == 0 || always.contains(&case.as_str())
    });
    let (mut compared, mut wrong) = (0, Vec::new());
    for (_, case) in chosen {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let verdicts = start_verdicts(&dir, None, true).unwrap();
        for (place, program) in &servers {
            let (line, verdict) = &verdicts[*place];
            let difference = difference(verdict, program, &dir);
            wrong.extend(difference.map(|text| format!("{case} on {line}: {text}")));
            compared += 1;
        }
    }
    println!(
        "{compared} verdicts compared with real servers, {} differ",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_go_takes_of_a_store_is_what_each_real_release_takes() {
    let Some(servers) = servers() else {
        return;
    };
    let base = Base::new();
    let mut wrong = Vec::new();
    for edit in edits() {
        let dir = base.dir();
        base.edit(&dir, &edit);
        let verdicts = start_verdicts(&dir, None, true).unwrap();
        for (place, program) in &servers {
            let (line, verdict) = &verdicts[*place];
            let difference = difference(verdict, program, &dir);
            wrong.extend(difference.map(|text| format!("{} on {line}: {text}", edit.name)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_segment_that_2_0_has_not_renamed_is_read_by_2_0_alone() {
    let Some(servers) = servers() else {
        return;
    };
    for name in ["v20", "multisegment"] {
        let recording = unpack(name);
        let data = recording.data_dir(name);
        let segments = crate::support::decode::segments(&data.join("member/wal"));
        let last = segments.last().unwrap();
        fs::rename(last, last.with_extension("wal.tmp")).unwrap();
        let verdicts = start_verdicts(&data, None, true).unwrap();
        for (place, program) in &servers {
            let (line, verdict) = &verdicts[*place];
            assert_eq!(
                difference(verdict, program, &data),
                None,
                "{name} on {line}"
            );
        }
    }
}

#[test]
fn two_damages_at_once_do_on_real_servers_what_the_verdict_says() {
    let Some(servers) = servers() else {
        return;
    };
    // A member of a larger cluster gets no leader by itself, whatever its data.
    let alone = ["v20", "v23", "start-verdicts"];
    // Nor does one that a second member was added to; and one that was removed serves until it has applied that.
    let ends_alone = ["stranger_added", "removed"];
    let found = Mutex::new((0, Vec::new()));
    pairs(Some(PAIRS), 2015, |damaged| {
        if !alone.iter().any(|base| damaged.name.starts_with(base))
            || ends_alone
                .iter()
                .any(|damage| damaged.name.contains(damage))
        {
            return;
        }
        let verdicts = start_verdicts(&damaged.path, None, true).unwrap();
        // One server after the other: the ports are free only until someone takes them.
        let mut found = found.lock().unwrap();
        for (place, program) in &servers {
            let (line, verdict) = &verdicts[*place];
            let difference = difference(verdict, program, &damaged.path);
            let difference = difference.map(|text| format!("{} on {line}: {text}", damaged.name));
            found.1.extend(difference);
            found.0 += 1;
        }
    });
    let (compared, wrong) = found.into_inner().unwrap();
    println!(
        "{compared} verdicts on pairs of damages compared with real servers, {} differ",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_member_dead_by_a_late_publish_is_named_by_preflight_and_snapshot_before_a_restart_shows_it() {
    let Some(servers) = servers() else {
        return;
    };
    let recording = unpack("dead-members");
    let work = TempDir::with_prefix("ark-dead-").unwrap();
    for name in ["natural", "crafted"] {
        let data = work.path().join(name);
        fs::create_dir(&data).unwrap();
        let archive = recording.path(format!("dead-members/{name}.tar.zst"));
        tool(&data, "tar", &["--zstd", "-xf", archive.to_str().unwrap()]);
        let verdicts = start_verdicts(&data, None, true).unwrap();
        for (place, program) in &servers {
            let (line, verdict) = &verdicts[*place];
            let Verdict::DoesNotStart(reason) = verdict else {
                assert_eq!(
                    difference(verdict, program, &data),
                    None,
                    "{name} on {line}"
                );
                continue;
            };
            let Did::Ended(words) = try_start(program, &data, &[]) else {
                panic!("{name} starts on {line}, against {reason}");
            };
            let says = reason.etcd_says(*line).unwrap();
            let says = says.trim_start_matches("panic: ");
            assert!(
                words.contains(says),
                "{name} on {line}: {says:?} is not in {words}"
            );
        }
        let told = typed(
            "preflight --endpoints http://127.0.0.1:1 --data-dir {}",
            &[&data],
        );
        let told = told.exits(3);
        assert_has(&told.stdout, "etcd 2.1 does not start from it: member");
        let (_, told) = snapshot(&data, &work.path().join("backups"), &[]);
        let warnings = told["manifest"]["warnings"].to_string();
        assert_has(&warnings, "does not start from this archive");
    }
}

/// Writes a member `solo` with a log of its own, in which another member publishes itself after its removal.
fn with_late_publish(dir: &Path, version: &str) {
    let (own, other) = (0xa, 0xb);
    let member = |id: u64, port: u16| {
        format!(r#"{{"id":{id},"peerURLs":["http://127.0.0.1:{port}"],"name":"m{id}"}}"#)
    };
    let late = r#"{"name":"late","clientURLs":["http://127.0.0.1:3"]}"#;
    let entries = [
        (1, conf_change(0, own, &member(own, 1))),
        (1, conf_change(0, other, &member(other, 2))),
        (0, request("PUT", "/0/version", version)),
        (1, conf_change(1, other, "")),
        (0, request("PUT", "/0/members/b/attributes", late)),
        (0, request("PUT", "/1/key", "value")),
    ];
    let mut segment = SegmentBuilder::new(0, false);
    segment.crc().metadata(own, 0xc).marker(0, 0);
    for (index, (kind, data)) in (1..).zip(&entries) {
        segment.entry(*kind, 1, index, Some(data));
    }
    segment.hard_state(1, own, entries.len() as u64);
    fs::create_dir_all(dir.join("member/snap")).unwrap();
    fs::create_dir_all(dir.join("member/wal")).unwrap();
    let path = dir.join("member/wal").join(segment_name(0, 0));
    fs::write(path, segment.bytes()).unwrap();
}

#[test]
fn the_late_publish_of_a_removed_member_counts_in_the_indexes_as_each_real_release_has_it() {
    // Guards against keys with indexes that are off by one from there on.
    let Some(servers) = servers() else {
        return;
    };
    for (place, program) in servers.into_iter().filter(|(place, _)| *place > 0) {
        let dir = TempDir::with_prefix("ark-late-").unwrap();
        let version = format!("2.{place}.0");
        with_late_publish(dir.path(), &version);
        let data = dir.path().to_str().unwrap();
        let told = ark(["keys", "--json", data, "/key"]).exits(0).json();
        let served = Alone::start(&program, dir.path(), &[]).node("/key");
        assert_eq!(
            told["node"]["modifiedIndex"], served["modifiedIndex"],
            "{version}: {told}"
        );
    }
}

#[test]
fn a_cluster_of_dead_members_comes_back_from_a_rewind_with_every_key() {
    let Some(servers) = servers() else {
        return;
    };
    let recording = unpack("dead-members");
    let work = TempDir::with_prefix("ark-dead-").unwrap();
    for (name, member, keys) in [("natural", "n1", 180), ("crafted", "rep0", 480)] {
        let archive = recording.path(format!("dead-members/{name}.tar.zst"));
        let out = work.path().join(format!("{name}-out"));
        let [archive, out] = [&archive, &out].map(|path| path.to_str().unwrap());
        let flags = ["--to", "end", "--single", member, "--out", out];
        let told = ark([&["rewind", "--json", archive][..], &flags].concat());
        let told = told.exits(0).json();
        let made = told["members"][0]["archive"].as_str().unwrap();
        let data = work.path().join(name);
        let data_dir = data.to_str().unwrap();
        ark(["restore", made, "--data-dir", data_dir]).exits(0);
        for (place, program) in &servers {
            let did = try_start(program, &data, &[]);
            assert_eq!(did, Did::Serves(keys), "{name} on server {place}");
        }
    }
}

#[test]
fn both_members_of_a_dead_cluster_come_back_at_new_addresses_and_serve_every_key() {
    let Some(servers) = servers() else {
        return;
    };
    let recording = unpack("dead-members");
    let archive = recording.path("dead-members/natural.tar.zst");
    for (_, program) in servers.iter().filter(|(place, _)| [1, 2].contains(place)) {
        let work = TempDir::with_prefix("ark-dead-").unwrap();
        let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
        let peers = [free_address(), free_address()];
        let urls = ["n0", "n1"].into_iter().zip(&peers);
        let urls = urls.map(|(name, peer)| format!("{name}=http://{peer}"));
        let [first, second] = urls.collect::<Vec<_>>().try_into().unwrap();
        let (source, out) = (archive.to_str().unwrap(), path("out"));
        let args = ["rewind", "--json", source, "--to", "end", "--out", &out];
        let args = [&args[..], &["--peer-url", &first, "--peer-url", &second]].concat();
        let told = ark(args).exits(0).json();
        let mut members = Vec::new();
        for (made, peer) in told["members"].as_array().unwrap().iter().zip(&peers) {
            let (archive, data) = (made["archive"].as_str().unwrap(), path(peer));
            ark(["restore", archive, "--data-dir", &data]).exits(0);
            members.push((PathBuf::from(data), peer));
        }
        assert_eq!(members.len(), 2, "{told:#}");
        let start = |(data, peer): &(PathBuf, &String)| Alone::start_at(program, data, peer, &[]);
        let mut running: Vec<_> = members.iter().map(start).collect();
        for server in &mut running {
            assert_eq!(server.did(), Did::Serves(180), "{}", program.display());
        }
        // They are one cluster: what is written to one, the other has.
        let client = running[0].client.parse().unwrap();
        http_within(PATIENCE, client, "PUT", "/v2/keys/after", "value=1").unwrap();
        assert_eq!(running[1].node("/after?quorum=true")["value"], "1");
    }
}
