//! A simulated cluster: servers on the loopback that answer as members of etcd 2.x do, or as wrongly as a test wants.
//!
//! In: members with ids, or a state of the recorded upgrade. Out: a [`FakeCluster`], which ends when it is dropped.
//!
//! ```text
//! let fake = FakeCluster::of_story("2-backup-infra1");      // infra0 is 2.2.5 already, the others 2.1.3, all under 2.1.0
//! fake.member(1).version("2.2.5", "2.1.0");                 // members are in the order of their names
//! fake.member(2).down();
//! ark(["downgrade", "check", "--endpoints", &fake.endpoints(), …])
//! ```
//!
//! Every member has a client URL and a peer URL on two consecutive ports of its own, and the list of members that all
//! of them serve has these URLs; the ids are the recorded ones. So a data dir of the recording, which has the ports of
//! that time, and the simulated cluster are the same cluster for any run with `--endpoints`. A member's behaviour can
//! be changed at any time, even between two requests on one connection.

/// What listens at one URL.
mod server;
pub use server::Behaviour;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use fs_err as fs;
use serde_json::{Value, json};

use super::decode;
use server::{FOREVER, Server, misbehave, read_request, write_answer};

/// What becomes of a quorum read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quorum {
    #[default]
    Reads,
    /// etcd's own timeout has passed.
    IsLost,
    /// That timeout is longer than the client's.
    Hangs,
}

/// Servers that say they are a cluster.
#[derive(Debug)]
pub struct FakeCluster {
    cluster_id: u64,
    members: Vec<FakeMember>,
}

/// One of them.
#[derive(Debug)]
pub struct FakeMember {
    shared: Arc<Shared>,
    client: Server,
    peer: Server,
}

type Roster = Arc<Mutex<BTreeMap<u64, Value>>>;

#[derive(Debug)]
struct Shared {
    id: u64,
    name: String,
    /// What all members list, by id.
    roster: Roster,
    state: Mutex<State>,
    requests: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct State {
    cluster_id: u64,
    version: String,
    health: (u16, String),
    own: Value,
    /// What it says of itself the next time, and so on by turns.
    own_by_turns: Option<Value>,
    quorum: Quorum,
    /// What it says of its version once a quorum read has gone through it.
    learns: Option<String>,
    /// `X-Raft-Index`, `X-Raft-Term`, `X-Etcd-Index`.
    applied: [u64; 3],
    auth: Option<String>,
    /// Another list than the one all members have.
    lists: Option<String>,
    client: Behaviour,
    peer: Behaviour,
}

impl FakeCluster {
    /// Members with these ids and names, all of 2.1.3 and healthy, led by the first.
    pub fn start(cluster_id: u64, members: &[(u64, &str)]) -> Self {
        let roster = Roster::default();
        let leader = members.first().map_or(0, |(id, _)| *id);
        let members = members.iter();
        let members =
            members.map(|&(id, name)| FakeMember::start(cluster_id, id, name, leader, &roster));
        let mut members: Vec<_> = members.collect();
        members.sort_by(|a, b| a.name().cmp(b.name()));
        Self {
            cluster_id,
            members,
        }
    }

    /// The members of `upgrade-story` as they answered at a moment of it: `1-before-upgrade`, `2-backup-infra0` (and 1,
    /// 2), `3-after-upgrade`.
    pub fn of_story(moment: &str) -> Self {
        let said = recorded(moment);
        let text = |name: &str| said.get(name).cloned();
        let parsed = |name: &str| Some(serde_json::from_str::<Value>(&text(name)?).unwrap());
        let listed = parsed("members.json").or_else(|| parsed("infra0.members.json"));
        let listed = listed.unwrap_or_else(|| panic!("no moment `{moment}` is recorded"));
        let members = listed["members"].as_array().unwrap().iter();
        let members = members.map(|member| (hex(&member["id"]), member["name"].as_str().unwrap()));
        let fake = Self::start(story_cluster_id(), &members.collect::<Vec<_>>());
        for member in &fake.members {
            let name = member.name();
            let version = text(&format!("{name}.version.json"));
            let version = version
                .or_else(|| text(&format!("version-of-{name}.json")))
                .unwrap();
            let own = parsed(&format!("{name}.self.json")).unwrap_or_else(|| {
                let read_input = parsed("self.json").unwrap();
                let leader = read_input["leaderInfo"]["leader"].as_str().unwrap();
                own_stats(member.id(), name, hex(&json!(leader)))
            });
            member.set(|state| (state.version, state.own) = (version, own));
        }
        fake
    }

    /// The member at a place in the order of names: 0 is infra0.
    pub fn member(&self, place: usize) -> &FakeMember {
        &self.members[place]
    }

    pub fn members(&self) -> &[FakeMember] {
        &self.members
    }

    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The members as [`small_member_of`](super::encode::small_member_of) takes them, in the order of their ids.
    pub fn as_encoded(&self) -> Vec<(u64, String, String)> {
        let members = self.members.iter();
        let members =
            members.map(|member| (member.id(), member.name().to_owned(), member.peer_url()));
        let mut members: Vec<_> = members.collect();
        members.sort();
        members
    }

    /// All client URLs, as `--endpoints` takes them.
    pub fn endpoints(&self) -> String {
        let urls: Vec<_> = self.members.iter().map(FakeMember::client_url).collect();
        urls.join(",")
    }
}

impl FakeMember {
    fn start(cluster_id: u64, id: u64, name: &str, leader: u64, roster: &Roster) -> Self {
        let shared = Arc::new(Shared {
            id,
            name: name.to_owned(),
            roster: Arc::clone(roster),
            state: Mutex::new(State {
                cluster_id,
                version: version_json("2.1.3", "2.1.0"),
                health: health_json(true),
                own: own_stats(id, name, leader),
                own_by_turns: None,
                quorum: Quorum::default(),
                learns: None,
                applied: [250, 2, 200],
                auth: None,
                lists: None,
                client: Behaviour::Answers,
                peer: Behaviour::Answers,
            }),
            requests: Mutex::default(),
        });
        let [client, peer] = Server::bind_pair(&shared);
        let member = Self {
            shared,
            client,
            peer,
        };
        member.publishes(&[&member.client_url()]);
        member
    }

    pub fn id(&self) -> u64 {
        self.shared.id
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client.port)
    }

    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer.port)
    }

    /// What it answers to `/version`: its own, and the cluster's or `not_decided`.
    pub fn version(&self, server: &str, cluster: &str) -> &Self {
        self.set(|state| state.version = version_json(server, cluster))
    }

    /// What it answers to `/version`, word by word: 2.0 says `etcd 2.0.13`.
    pub fn version_text(&self, text: &str) -> &Self {
        self.set(|state| text.clone_into(&mut state.version))
    }

    /// What it answers to `/health`, with status 200 or 503.
    pub fn healthy(&self, healthy: bool) -> &Self {
        self.set(|state| state.health = health_json(healthy))
    }

    /// The member that it regards as the leader; 0 for none.
    pub fn follows(&self, leader: u64) -> &Self {
        self.set(|state| state.own = own_stats(self.id(), self.name(), leader))
    }

    /// Every other time someone asks who it is, the answer is this id: two servers behind one name.
    pub fn shares_its_name_with(&self, id: u64) -> &Self {
        self.set(|state| state.own_by_turns = Some(own_stats(id, "twin", id)))
    }

    pub fn of_cluster(&self, cluster_id: u64) -> &Self {
        self.set(|state| state.cluster_id = cluster_id)
    }

    pub fn quorum(&self, quorum: Quorum) -> &Self {
        self.set(|state| state.quorum = quorum)
    }

    /// What it answers to `/version` from its next quorum read on: it had fallen behind.
    pub fn learns(&self, server: &str, cluster: &str) -> &Self {
        self.set(|state| state.learns = Some(version_json(server, cluster)))
    }

    /// `X-Raft-Index`, `X-Raft-Term`, `X-Etcd-Index` of what it answers with.
    pub fn applied(&self, raft_index: u64, raft_term: u64, etcd_index: u64) -> &Self {
        self.set(|state| state.applied = [raft_index, raft_term, etcd_index])
    }

    /// Keys are for this user only; `credentials` is base64 of `NAME:PASSWORD`.
    pub fn auth(&self, credentials: &str) -> &Self {
        self.set(|state| state.auth = Some(format!("Basic {credentials}")))
    }

    /// Another list of members than the others have, as JSON.
    pub fn lists(&self, members: &str) -> &Self {
        self.set(|state| state.lists = Some(members.to_owned()))
    }

    /// Where it tells the cluster that clients reach it; without any URL it has not told yet, nor has it a name.
    pub fn publishes(&self, client_urls: &[&str]) -> &Self {
        let name = if client_urls.is_empty() {
            ""
        } else {
            self.name()
        };
        let listed = json!({
            "id": format!("{:x}", self.id()),
            "name": name,
            "peerURLs": [self.peer_url()],
            "clientURLs": client_urls,
        });
        lock(&self.shared.roster).insert(self.id(), listed);
        self
    }

    /// The others no longer list it, although it runs.
    pub fn removed(&self) -> &Self {
        lock(&self.shared.roster).remove(&self.id());
        self
    }

    /// No one at either URL.
    pub fn down(&self) -> &Self {
        self.client(Behaviour::Down).peer(Behaviour::Down)
    }

    /// Accepts connections at both URLs, and never answers.
    pub fn silent(&self) -> &Self {
        self.client(Behaviour::Silent).peer(Behaviour::Silent)
    }

    pub fn client(&self, behaviour: Behaviour) -> &Self {
        self.set(|state| state.client = behaviour);
        self.client
            .serve(&self.shared, behaviour != Behaviour::Down);
        self
    }

    pub fn peer(&self, behaviour: Behaviour) -> &Self {
        self.set(|state| state.peer = behaviour);
        self.peer.serve(&self.shared, behaviour != Behaviour::Down);
        self
    }

    /// What it was asked so far: the path, and the credentials behind a space.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    fn set(&self, change: impl FnOnce(&mut State)) -> &Self {
        change(&mut lock(&self.shared.state));
        self
    }
}

/// A panic while the lock was held is a test that failed already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    fn converse(&self, mut stream: TcpStream, is_peer: bool) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = std::io::BufReader::new(stream.try_clone()?);
        loop {
            let Some((path, user)) = read_request(&mut reader)? else {
                return Ok(());
            };
            lock(&self.requests).push(format!("{path} {user}").trim_end().to_owned());
            let state = lock(&self.state).clone();
            let behaviour = if is_peer { &state.peer } else { &state.client };
            match behaviour {
                Behaviour::Answers => {
                    let (status, headers, body) = self.answer(&state, &path, &user, is_peer);
                    write_answer(&mut stream, status, &headers, &body)?;
                }
                Behaviour::Says(status, body) => write_answer(&mut stream, *status, "", body)?,
                behaviour => return misbehave(&mut stream, behaviour),
            }
        }
    }

    /// Status, further headers and body of what a member answers.
    fn answer(
        &self,
        state: &State,
        path: &str,
        user: &str,
        is_peer: bool,
    ) -> (u16, String, String) {
        let cluster = format!("X-Etcd-Cluster-Id: {:x}\r\n", state.cluster_id);
        match (path, is_peer) {
            ("/version", _) => (200, String::new(), state.version.clone()),
            ("/members", true) => (200, cluster, self.numbered_members()),
            ("/health", false) => (state.health.0, String::new(), state.health.1.clone()),
            ("/v2/stats/self", false) => {
                let mut next = lock(&self.state);
                if let Some(other) = next.own_by_turns.replace(state.own.clone()) {
                    next.own = other;
                } else {
                    next.own_by_turns = None;
                }
                (200, String::new(), state.own.to_string())
            }
            ("/v2/members", false) => {
                let all: Vec<_> = lock(&self.roster).values().cloned().collect();
                let all = json!({ "members": all }).to_string();
                (200, cluster, state.lists.clone().unwrap_or(all))
            }
            (keys, false) if keys.starts_with("/v2/keys") => {
                if state.auth.as_deref().is_some_and(|wanted| wanted != user) {
                    return (
                        401,
                        cluster,
                        r#"{"message":"Insufficient credentials"}"#.to_owned(),
                    );
                }
                if path.contains("quorum=true") && state.quorum != Quorum::Reads {
                    if state.quorum == Quorum::Hangs {
                        std::thread::sleep(FOREVER);
                    }
                    let body = r#"{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out","index":200}"#;
                    return (500, cluster, body.to_owned());
                }
                if path.contains("quorum=true")
                    && let Some(version) = &state.learns
                {
                    lock(&self.state).version.clone_from(version);
                }
                let [index, term, etcd_index] = state.applied;
                let headers = format!(
                    "{cluster}X-Etcd-Index: {etcd_index}\r\nX-Raft-Index: {index}\r\nX-Raft-Term: {term}\r\n"
                );
                (
                    200,
                    headers,
                    r#"{"action":"get","node":{"dir":true}}"#.to_owned(),
                )
            }
            _ => (404, String::new(), "404 page not found".to_owned()),
        }
    }

    /// The members as a peer URL lists them: ids are numbers there.
    fn numbered_members(&self) -> String {
        let mut all: Vec<_> = lock(&self.roster).values().cloned().collect();
        for member in &mut all {
            member["id"] = json!(hex(&member["id"]));
        }
        json!(all).to_string()
    }
}

fn version_json(server: &str, cluster: &str) -> String {
    format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}"}}"#)
}

fn health_json(healthy: bool) -> (u16, String) {
    let status = if healthy { 200 } else { 503 };
    (status, format!(r#"{{"health": "{healthy}"}}"#))
}

fn own_stats(id: u64, name: &str, leader: u64) -> Value {
    let state = if id == leader {
        "StateLeader"
    } else {
        "StateFollower"
    };
    let leader = if leader == 0 {
        String::new()
    } else {
        format!("{leader:x}")
    };
    json!({
        "name": name,
        "id": format!("{id:x}"),
        "state": state,
        "startTime": "2026-11-22T07:10:19.927883099Z",
        "leaderInfo": {"leader": leader, "uptime": "4.9s", "startTime": "2026-11-22T07:10:21.230350465Z"},
    })
}

fn hex(id: &Value) -> u64 {
    u64::from_str_radix(id.as_str().unwrap(), 16).unwrap()
}

/// The cluster of `upgrade-story`, as the WAL of its first backup has it.
fn story_cluster_id() -> u64 {
    let wal = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/infra0.etcd/member/wal");
    decode::log(&wal).cluster_id
}

/// The answers recorded at a moment of `upgrade-story`, by what follows the moment's name.
fn recorded(moment: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/upgrade-story.tar.zst");
    let unzstd = zstd::stream::read::Decoder::new(fs::File::open(path).unwrap()).unwrap();
    let mut tar = tar::Archive::new(unzstd);
    let mut said = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let name = path.trim_start_matches("./").strip_prefix(moment);
        let name = name.and_then(|rest| rest.strip_prefix('.'));
        let is_json = Path::new(&path)
            .extension()
            .is_some_and(|kind| kind == "json");
        if let Some(name) = name.filter(|_| is_json) {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            said.insert(name.to_owned(), text);
        }
    }
    said
}
