//! A real etcd server on this machine's loopback, for the time of a test.
//!
//! In: a data dir, and certificates for TLS. Out: a one-member server with the v2 and the v3 API, stopped or
//! killed on request and when dropped; and its answers, to one request or to thousands over one connection.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Error, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::ark::{Ran, run};
use super::certs::Pair;
use super::tools::{clear_environment, server, start_server};

/// How long a server may take to start or to stop, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Entries between two raft snapshots, so few that a short story has several.
const SNAPSHOT_COUNT: u64 = 50;

#[derive(Debug)]
pub struct Etcd {
    child: Child,
    own: Addresses,
    scheme: &'static str,
    log: NamedTempFile,
}

/// TLS at client and peer URLs; both demand certificates of the same authority from the user.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub own: Pair,
    pub trusted_ca: PathBuf,
}

impl Etcd {
    /// Starts a server on `data_dir` and waits until it answers; it is the only member, and makes raft snapshots often.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, SNAPSHOT_COUNT)
    }

    /// As [`Etcd::start`], with a raft snapshot whenever `snapshot_count` entries have been applied since the last one.
    pub fn start_with(data_dir: &Path, snapshot_count: u64) -> Self {
        Self::start_as(data_dir, snapshot_count, None, None)
    }

    /// As [`Etcd::start`], but the user needs a certificate.
    pub fn start_tls(data_dir: &Path, tls: &ServerTls) -> Self {
        Self::start_as(data_dir, SNAPSHOT_COUNT, Some(tls), None)
    }

    /// As [`Etcd::start_tls`], where a server was that gave these [addresses](Etcd::addresses).
    pub fn start_tls_at(addresses: [SocketAddr; 2], data_dir: &Path, tls: &ServerTls) -> Self {
        Self::start_as(data_dir, SNAPSHOT_COUNT, Some(tls), Some(addresses))
    }

    fn start_as(
        data_dir: &Path,
        snapshot_count: u64,
        tls: Option<&ServerTls>,
        at: Option<[SocketAddr; 2]>,
    ) -> Self {
        // Between the choice of a port and its use someone else may take it.
        let started = (0..3).find_map(|_| Self::launch(data_dir, snapshot_count, tls, at));
        started.expect("etcd did not start three times")
    }

    /// As [`Etcd::start_with`], unless the server ends by itself, as one does that finds its data dir locked.
    pub fn try_start_with(data_dir: &Path, snapshot_count: u64) -> Option<Self> {
        Self::launch(data_dir, snapshot_count, None, None)
    }

    /// Starts members, each on the data dir of its name below `dir` and at addresses of its own, and waits until each
    /// answers. Where the data dirs are new they become one cluster.
    pub fn start_cluster(dir: &Path, members: &[(&str, Addresses)]) -> Vec<Self> {
        let peers = members.iter();
        let peers: Vec<_> = peers
            .map(|(name, own)| format!("{name}=http://{}", own.peer))
            .collect();
        let spawn = |(name, own): &(&str, Addresses)| {
            let data_dir = dir.join(name);
            Self::spawn(
                name,
                &data_dir,
                SNAPSHOT_COUNT,
                *own,
                &peers.join(","),
                None,
            )
        };
        // All of them before any is waited for: it takes a majority to answer.
        let mut servers: Vec<_> = members.iter().map(spawn).collect();
        for server in &mut servers {
            let answers = server.answers_in_time();
            assert!(
                answers,
                "{}",
                fs::read_to_string(server.log.path()).unwrap()
            );
        }
        servers
    }

    fn launch(
        data_dir: &Path,
        snapshot_count: u64,
        tls: Option<&ServerTls>,
        at: Option<[SocketAddr; 2]>,
    ) -> Option<Self> {
        let mut own = Addresses::free();
        if let Some([client, peer]) = at {
            (own.client, own.peer) = (client, peer);
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let peers = format!("real0={scheme}://{}", own.peer);
        let mut server = Self::spawn("real0", data_dir, snapshot_count, own, &peers, tls);
        if server.answers_in_time() {
            Some(server)
        } else {
            eprintln!("{}", fs::read_to_string(server.log.path()).unwrap());
            None
        }
    }

    fn spawn(
        name: &str,
        data_dir: &Path,
        snapshot_count: u64,
        own: Addresses,
        initial_cluster: &str,
        tls: Option<&ServerTls>,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log = NamedTempFile::with_prefix("etcd-log-").unwrap();
        let client_url = format!("{scheme}://{}", own.client);
        let peer_url = format!("{scheme}://{}", own.peer);
        let mut command = server("etcd");
        clear_environment(&mut command);
        command
            .args(["--name", name, "--enable-v2=true", "--logger", "zap"])
            .args(["--snapshot-count", &snapshot_count.to_string()])
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", initial_cluster])
            // Health is served here without TLS, too.
            .args(["--listen-metrics-urls", &format!("http://{}", own.metrics)])
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap());
        if let Some(tls) = tls {
            tls.tell(&mut command);
        }
        Self {
            child: start_server(command),
            own,
            scheme,
            log,
        }
    }

    fn answers_in_time(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.child.try_wait().unwrap().is_none() {
            let answer = http(self.own.metrics, "GET", "/health", "");
            if answer.is_ok_and(|(status, body)| status == 200 && body.contains("true")) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    pub fn addresses(&self) -> [SocketAddr; 2] {
        [self.own.client, self.own.peer]
    }

    pub fn client_url(&self) -> String {
        format!("{}://{}", self.scheme, self.own.client)
    }

    pub fn peer_url(&self) -> String {
        format!("{}://{}", self.scheme, self.own.peer)
    }

    pub fn client(&self) -> SocketAddr {
        self.own.client
    }

    pub fn set_v2(&self, key: &str, value: &str) {
        let path = format!("/v2/keys/{key}");
        let (status, body) =
            http(self.own.client, "PUT", &path, &format!("value={value}")).unwrap();
        assert!(status == 200 || status == 201, "{status} {body}");
    }

    pub fn set_v3(&self, key: &str, value: &str) {
        self.etcdctl(["put", key, value]).exits(0);
    }

    /// All keys of both APIs, as the server itself tells them: equal texts are equal stores.
    pub fn all_keys(&self) -> (String, String) {
        let path = "/v2/keys/?recursive=true&sorted=true&quorum=true";
        let (status, v2) = http(self.own.client, "GET", path, "").unwrap();
        assert_eq!(status, 200, "{v2}");
        let v3 = self
            .etcdctl(["get", "", "--prefix", "-w", "fields"])
            .exits(0);
        // The header tells of this answer, not of the keys.
        let about_keys = |line: &&str| {
            !line.starts_with("\"ClusterID")
                && !line.contains("\"MemberID")
                && !line.contains("\"RaftTerm")
        };
        let v3: Vec<&str> = v3.stdout.lines().filter(about_keys).collect();
        (v2, v3.join("\n"))
    }

    fn etcdctl<const N: usize>(&self, args: [&str; N]) -> Ran {
        let mut command = Command::new("etcdctl");
        clear_environment(&mut command);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("http://{}", self.own.client)])
            .args(args.map(OsStr::new));
        run(&mut command)
    }

    /// Stops it as its unit would.
    pub fn stop(mut self) {
        self.end(Signal::TERM);
    }

    /// Kills it, as the kernel does when memory runs out.
    pub fn kill(mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        if self.child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

impl ServerTls {
    fn tell(&self, command: &mut Command) {
        for prefix in ["--", "--peer-"] {
            command.arg(format!("{prefix}client-cert-auth"));
            for (flag, file) in [
                ("cert-file", &self.own.cert),
                ("key-file", &self.own.key),
                ("trusted-ca-file", &self.trusted_ca),
            ] {
                command.arg(format!("{prefix}{flag}")).arg(file);
            }
        }
    }
}

/// Where a server is on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub client: SocketAddr,
    pub peer: SocketAddr,
    /// The address that serves health without TLS.
    metrics: SocketAddr,
}

impl Addresses {
    /// Ports that are free now.
    pub fn free() -> Self {
        // All held at once, so that they differ.
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer, metrics] = listeners.map(|listener| listener.local_addr().unwrap());
        Self {
            client,
            peer,
            metrics,
        }
    }
}

/// One HTTP request with a form as its body; the status and the body of the answer.
pub fn http(
    server: SocketAddr,
    method: &str,
    path: &str,
    form: &str,
) -> std::io::Result<(u16, String)> {
    http_within(PATIENCE, server, method, path, form)
}

/// As [`http`], for a server that may not answer: it is given `patience` for each piece of its answer.
pub fn http_within(
    patience: Duration,
    server: SocketAddr,
    method: &str,
    path: &str,
    form: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {server}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(answer.clone()))?;
    Ok((status, body.to_owned()))
}

/// A connection that is kept for many requests, one after the other: HTTP/1.1 as far as etcd speaks it.
#[derive(Debug)]
pub struct Connection {
    server: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The header lines as they came, without the status line.
    pub headers: Vec<String>,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn new(server: SocketAddr) -> Self {
        Self {
            server,
            stream: None,
        }
    }

    /// Sends one request with a body of type `content_type` and waits for its answer, whatever its status.
    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        content_type: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open()?,
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            self.server,
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let answer = Answer::read(&mut stream)?;
        let closes = answer.header("Connection");
        if !closes.is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    pub fn get(&mut self, target: &str) -> std::io::Result<Answer> {
        self.send("GET", target, "text/plain", "")
    }

    fn open(&self) -> std::io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

impl Answer {
    fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Self> {
        let first = read_line(stream)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut answer = Self {
            status: status.ok_or_else(|| Error::other(format!("status line {first:?}")))?,
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = read_line(stream)?;
            if line.is_empty() {
                break;
            }
            answer.headers.push(line);
        }
        if answer.header("Transfer-Encoding").is_some() {
            while answer.read_chunk(stream)? {}
        } else if let Some(length) = answer.header("Content-Length") {
            answer.body = vec![0; length.parse().map_err(Error::other)?];
            stream.read_exact(&mut answer.body)?;
        } else if answer.status != 204 {
            return Err(Error::other(format!("a body without an end: {answer:?}")));
        }
        Ok(answer)
    }

    /// Appends one chunk: its length in hex, its bytes, and a line end after both. The last one is empty, and what the
    /// gateway of the v3 API says after it is passed over.
    fn read_chunk(&mut self, stream: &mut BufReader<TcpStream>) -> std::io::Result<bool> {
        let length = u64::from_str_radix(&read_line(stream)?, 16).map_err(Error::other)?;
        stream.by_ref().take(length).read_to_end(&mut self.body)?;
        while !read_line(stream)?.is_empty() {}
        Ok(length > 0)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.headers.iter().filter_map(|line| line.split_once(':'));
        let found = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    /// A header that holds a number, such as `X-Etcd-Index`.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let value = self.header(name).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("no number in {name} of {self:?}"))
    }

    /// The body as JSON; `null` if it is anything else.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One line without its end.
fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(Error::other(format!(
            "the connection ended within {line:?}"
        ))),
    }
}

/// The one data dir below a recording or a temporary directory that has a `member` in it.
pub fn data_dir_in(dir: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("member").is_dir())
        .collect();
    found.sort();
    found.swap_remove(0)
}
