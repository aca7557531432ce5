//! A real etcd server on this machine's loopback, for as long as a test needs it.
//!
//! In: a data dir. Out: a one-member server with the v2 and the v3 API, stopped or killed on request and when dropped.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::tools::{Ran, clean};

/// How long a server may take to start or to stop, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    client: SocketAddr,
    log: NamedTempFile,
}

impl Etcd {
    /// Starts a server on `data_dir` and waits until it answers; it is the only member, and makes raft snapshots often.
    pub fn start(data_dir: &Path) -> Self {
        // Between the choice of a port and its use somebody else may take it.
        let started = (0..3).find_map(|_| Self::try_start(data_dir));
        started.expect("etcd did not start three times")
    }

    fn try_start(data_dir: &Path) -> Option<Self> {
        let (client, peer) = free_addresses();
        let log = NamedTempFile::with_prefix("etcd-log-").unwrap();
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new("etcd");
        clean(&mut command);
        command
            .args(["--name", "real0", "--enable-v2=true", "--logger", "zap"])
            .args(["--snapshot-count", "50", "--data-dir"])
            .arg(data_dir)
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("real0={peer_url}")])
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap());
        let mut server = Self {
            child: command.spawn().unwrap(),
            client,
            log,
        };
        if server.answers_in_time() {
            Some(server)
        } else {
            eprintln!("{}", fs::read_to_string(server.log.path()).unwrap());
            None
        }
    }

    fn answers_in_time(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.child.try_wait().unwrap().is_none() {
            let answer = http(self.client, "GET", "/health", "");
            if answer.is_ok_and(|(status, body)| status == 200 && body.contains("true")) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Where clients reach it.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Sets a key through the v2 API.
    pub fn set_v2(&self, key: &str, value: &str) {
        let path = format!("/v2/keys/{key}");
        let (status, body) = http(self.client, "PUT", &path, &format!("value={value}")).unwrap();
        assert!(status == 200 || status == 201, "{status} {body}");
    }

    /// Sets a key through the v3 API.
    pub fn set_v3(&self, key: &str, value: &str) {
        self.etcdctl(["put", key, value]).expect(0);
    }

    /// All keys of both APIs, as the server itself tells them: equal texts are equal stores.
    pub fn all_keys(&self) -> (String, String) {
        let path = "/v2/keys/?recursive=true&sorted=true&quorum=true";
        let (status, v2) = http(self.client, "GET", path, "").unwrap();
        assert_eq!(status, 200, "{v2}");
        let v3 = self
            .etcdctl(["get", "", "--prefix", "-w", "fields"])
            .expect(0);
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
        clean(&mut command);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("http://{}", self.client)])
            .args(args.map(OsStr::new));
        Ran::of(&command.output().unwrap())
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

fn free_addresses() -> (SocketAddr, SocketAddr) {
    // Both held at once, so that they differ.
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [client, peer] = listeners.map(|listener| listener.local_addr().unwrap());
    (client, peer)
}

/// One HTTP request with a form as its body; the status and the body of the answer.
pub fn http(
    server: SocketAddr,
    method: &str,
    path: &str,
    form: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
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
