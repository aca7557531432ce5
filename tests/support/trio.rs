//! A real cluster of three etcd servers on this machine's loopback. Each can be stopped, killed and started
//! again on another data dir and with another release.
//!
//! In: a directory. Out: three members, `infra0` to `infra2`, with the v2 API; each one's own answers. They
//! run etcd 3.4 unless a test gives them a server of 2.x, and keep their ports, which a data dir has as peer URLs, for
//! the time of the cluster.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::etcd::{http, http_within};
use super::tools::{clear_environment, server, start_server};

/// How long the members may take to agree, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many members there are.
pub const MEMBERS: usize = 3;
/// Where ports are looked for: below those that the kernel gives to the user for any, so that none is taken while its
/// member is stopped.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The cluster, whether its members run or not.
#[derive(Debug)]
pub struct Trio {
    dir: PathBuf,
    snapshot_count: u64,
    seats: Vec<Seat>,
}

/// A member's place: what stays when its server is stopped.
#[derive(Debug)]
struct Seat {
    client: SocketAddr,
    peer: SocketAddr,
    data_dir: PathBuf,
    /// A dedicated WAL dir, which its server is started with.
    wal_dir: Option<PathBuf>,
    program: Program,
    /// Whether it was added to a cluster that was there before it.
    joins: bool,
    server: Option<Child>,
}

/// What runs as a member.
#[derive(Clone, Debug)]
pub enum Program {
    /// Debian's etcd 3.4, with the v2 API.
    Etcd34,
    /// This server of 2.x.
    Etcd2(PathBuf),
}

impl Trio {
    /// A new cluster below `dir`, started and healthy, which makes a raft snapshot every `snapshot_count` entries.
    pub fn start(dir: &Path, snapshot_count: u64) -> Self {
        let mut trio = Self::prepare(dir, snapshot_count);
        trio.start_all();
        trio
    }

    /// As [`Trio::start`], but without starting the servers.
    pub fn prepare(dir: &Path, snapshot_count: u64) -> Self {
        let ports: Vec<SocketAddr> = free_ports(2 * MEMBERS);
        let addresses = |n: usize| [ports[2 * n], ports[2 * n + 1]];
        Self::prepare_at(dir, snapshot_count, addresses)
    }

    /// As [`Trio::prepare`], with a client and a peer address for each member.
    pub fn prepare_at(
        dir: &Path,
        snapshot_count: u64,
        addresses: impl Fn(usize) -> [SocketAddr; 2],
    ) -> Self {
        let seat = |n: usize| Seat {
            client: addresses(n)[0],
            peer: addresses(n)[1],
            data_dir: dir.join(format!("infra{n}.etcd")),
            wal_dir: None,
            program: Program::Etcd34,
            joins: false,
            server: None,
        };
        Self {
            dir: dir.to_owned(),
            snapshot_count,
            seats: (0..MEMBERS).map(seat).collect(),
        }
    }

    /// Starts every member that does not run, and waits until all are healthy.
    pub fn start_all(&mut self) {
        for n in 0..MEMBERS {
            self.start_member(n);
        }
        self.wait_healthy(&[0, 1, 2]);
    }

    /// Starts one member, without waiting for it: alone it cannot become healthy.
    pub fn start_member(&mut self, n: usize) {
        if self.runs(n) {
            return;
        }
        let log = self.open_log(n);
        let initial: Vec<String> = (0..MEMBERS)
            .map(|n| format!("infra{n}={}", self.peer_url(n)))
            .collect();
        let state = if self.seats[n].joins {
            "existing"
        } else {
            "new"
        };
        let mut command = match &self.seats[n].program {
            Program::Etcd34 => server("etcd"),
            Program::Etcd2(path) => server(path.to_str().unwrap()),
        };
        clear_environment(&mut command);
        if matches!(self.seats[n].program, Program::Etcd34) {
            command.args(["--logger", "zap", "--enable-v2=true"]);
        }
        if let Some(wal_dir) = &self.seats[n].wal_dir {
            command.arg("--wal-dir").arg(wal_dir);
        }
        command
            .args(["--name", &format!("infra{n}")])
            // Twice the default: a busy machine is not a reason for an election.
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"])
            .args(["--snapshot-count", &self.snapshot_count.to_string()])
            .arg("--data-dir")
            .arg(&self.seats[n].data_dir)
            .args(["--listen-client-urls", &self.client_url(n)])
            .args(["--advertise-client-urls", &self.client_url(n)])
            .args(["--listen-peer-urls", &self.peer_url(n)])
            .args(["--initial-advertise-peer-urls", &self.peer_url(n)])
            .args(["--initial-cluster", &initial.join(",")])
            .args(["--initial-cluster-state", state])
            .args(["--initial-cluster-token", "trio"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.seats[n].server = Some(start_server(command));
    }

    fn open_log(&self, n: usize) -> std::fs::File {
        let path = self.log_path(n);
        let mut options = fs::OpenOptions::new();
        let log = options.create(true).append(true).open(path).unwrap();
        log.into_file()
    }

    /// The file with what a member has logged.
    pub fn log_path(&self, n: usize) -> PathBuf {
        self.dir.join(format!("infra{n}.log"))
    }

    /// Waits until each of `members` says that it is healthy: it has a leader and a quorum read comes back.
    #[track_caller]
    pub fn wait_healthy(&self, members: &[usize]) {
        let deadline = Instant::now() + PATIENCE;
        for &n in members {
            while !self.healthy(n) {
                let in_time = Instant::now() < deadline;
                assert!(in_time, "infra{n} is not healthy:\n{}", self.log(n));
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Whether a member says that it is healthy, now.
    pub fn healthy(&self, n: usize) -> bool {
        // A member that waits for a quorum takes the connection and says nothing.
        let patience = Duration::from_secs(2);
        let answer = http_within(patience, self.client(n), "GET", "/health", "");
        // 2.x writes a space behind the colon.
        let says_so = |body: &str| body.replace(' ', "").contains(r#""health":"true""#);
        answer.is_ok_and(|(status, body)| status == 200 && says_so(&body))
    }

    /// Whether a member leads, by its own word.
    pub fn leads(&self, n: usize) -> bool {
        self.get(n, "/v2/stats/self")["state"] == "StateLeader"
    }

    /// Whether a member's server runs; one that ended by itself does not.
    pub fn runs(&mut self, n: usize) -> bool {
        let server = &mut self.seats[n].server;
        let ended = server
            .as_mut()
            .is_none_or(|server| server.try_wait().unwrap().is_some());
        if ended {
            *server = None;
        }
        !ended
    }

    /// Stops a member as its unit would.
    pub fn stop(&mut self, n: usize) {
        self.end(n, Signal::TERM);
    }

    /// Stops all members, one after the other.
    pub fn stop_all(&mut self) {
        (0..MEMBERS).for_each(|n| self.stop(n));
    }

    /// Kills a member, as the kernel does when memory runs out.
    pub fn kill(&mut self, n: usize) {
        self.end(n, Signal::KILL);
    }

    fn end(&mut self, n: usize, signal: Signal) {
        if self.runs(n)
            && let Some(mut server) = self.seats[n].server.take()
        {
            kill_process(Pid::from_child(&server), signal).unwrap();
            server.wait().unwrap();
        }
    }

    /// Gives a member another server, with which it starts the next time.
    pub fn set_program(&mut self, n: usize, program: Program) {
        self.seats[n].program = program;
    }

    /// Lets a member start as one that was added to the cluster, the next time that it has no data.
    pub fn set_joins(&mut self, n: usize) {
        self.seats[n].joins = true;
    }

    /// Gives a member a dedicated WAL dir, or none, with which it starts the next time.
    pub fn set_wal_dir(&mut self, n: usize, wal_dir: Option<&Path>) {
        self.seats[n].wal_dir = wal_dir.map(Path::to_path_buf);
    }

    /// A member's data dir.
    pub fn data_dir(&self, n: usize) -> &Path {
        &self.seats[n].data_dir
    }

    /// Where clients reach a member.
    pub fn client(&self, n: usize) -> SocketAddr {
        self.seats[n].client
    }

    /// The same as a URL.
    pub fn client_url(&self, n: usize) -> String {
        format!("http://{}", self.seats[n].client)
    }

    /// Where the other members reach it.
    pub fn peer_url(&self, n: usize) -> String {
        format!("http://{}", self.seats[n].peer)
    }

    /// All client URLs, as `--endpoints` takes them.
    pub fn endpoints(&self) -> String {
        let urls: Vec<_> = (0..MEMBERS).map(|n| self.client_url(n)).collect();
        urls.join(",")
    }

    /// What a member has logged, over all its starts.
    pub fn log(&self, n: usize) -> String {
        fs::read_to_string(self.log_path(n)).unwrap()
    }

    /// Sets a key of the v2 API through a member. While a leader is chosen it tries again, so that a key may be set twice.
    #[track_caller]
    pub fn set_v2(&self, n: usize, key: &str, value: &str) {
        self.write(n, "PUT", key, value);
    }

    /// Creates an in-order key in a directory of the v2 API through a member; on a retry there may be two.
    #[track_caller]
    pub fn post_v2(&self, n: usize, dir: &str, value: &str) {
        self.write(n, "POST", dir, value);
    }

    #[track_caller]
    fn write(&self, n: usize, method: &str, key: &str, value: &str) {
        let (path, form) = (format!("/v2/keys/{key}"), format!("value={value}"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = http(self.client(n), method, &path, &form);
            if matches!(answer, Ok((200 | 201, _))) {
                return;
            }
            let in_time = Instant::now() < deadline;
            assert!(in_time, "{answer:?} of infra{n}:\n{}", self.log(n));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The tree of keys as a member itself holds it, without `ttl`, which counts down: it asks no other member.
    #[track_caller]
    pub fn keys(&self, n: usize) -> Value {
        without_ttl(self.get(n, "/v2/keys/?recursive=true&sorted=true"))
    }

    /// What a member says of its own version and the cluster's.
    #[track_caller]
    pub fn version(&self, n: usize) -> Value {
        self.get(n, "/version")
    }

    /// The JSON that a member answers with.
    #[track_caller]
    pub fn get(&self, n: usize, path: &str) -> Value {
        let (status, body) = http(self.client(n), "GET", path, "").unwrap();
        assert_eq!(status, 200, "{path} of infra{n}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Waits until all members hold the same keys, and gives them.
    #[track_caller]
    pub fn wait_equal(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let keys: Vec<Value> = (0..MEMBERS).map(|n| self.keys(n)).collect();
            if keys.windows(2).all(|pair| pair[0] == pair[1]) {
                return keys.into_iter().next().unwrap();
            }
            assert!(Instant::now() < deadline, "the members differ: {keys:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        (0..MEMBERS).for_each(|n| self.kill(n));
    }
}

/// An answer with keys, less what counts down.
pub fn without_ttl(mut answer: Value) -> Value {
    let inside: Vec<&mut Value> = match &mut answer {
        Value::Object(fields) => {
            fields.remove("ttl");
            fields.values_mut().collect()
        }
        Value::Array(nodes) => nodes.iter_mut().collect(),
        _ => Vec::new(),
    };
    for value in inside {
        *value = without_ttl(value.take());
    }
    answer
}

/// All keys with their values in the answer to a recursive listing, by name.
pub fn values(tree: &Value) -> std::collections::BTreeMap<String, String> {
    let mut found = std::collections::BTreeMap::new();
    let mut pending = vec![&tree["node"]];
    while let Some(node) = pending.pop() {
        if let (Some(key), Some(value)) = (node["key"].as_str(), node["value"].as_str()) {
            found.insert(key.to_owned(), value.to_owned());
        }
        pending.extend(node["nodes"].as_array().into_iter().flatten());
    }
    found
}

/// Free addresses that no other cluster of this process gets.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let room = PORTS.end - PORTS.start;
    // Two test runs on one machine begin in different places.
    let begin = (std::process::id() % u32::from(room)) as u16;
    let mut held = Vec::new();
    for _ in 0..room {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % room;
        let port = PORTS.start + (begin + step) % room;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
        if held.len() == count {
            break;
        }
    }
    assert_eq!(held.len(), count, "no ports left");
    let address = |listener: &TcpListener| listener.local_addr().unwrap();
    held.iter().map(address).collect()
}
