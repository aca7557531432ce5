//! A real S3 server on the loopback, and a proxy that counts, refuses and breaks requests.
//!
//! In: a directory with buckets as its subdirectories. Out: a server that can be killed and started again on the same
//! port, and a [`Road`] in front of it: it forwards one request for each connection, counts it, and may refuse it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_err as fs;

use super::tools::{server, start_server};

/// The program: `cargo install s3s-fs --features binary`.
pub const SERVER: &str = "s3s-fs";
pub const ACCESS_KEY: &str = "AKIDTESTTESTTESTTEST";
pub const SECRET_KEY: &str = "secret-for-tests-only";
/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub struct S3 {
    root: PathBuf,
    address: SocketAddr,
    child: Mutex<Option<Child>>,
}

impl S3 {
    /// Starts a server with the directories in `root` as its buckets.
    pub fn start(root: &Path) -> Arc<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            root: root.to_path_buf(),
            address: free.local_addr().unwrap(),
            child: Mutex::new(None),
        };
        drop(free);
        server.start_again();
        Arc::new(server)
    }

    /// Starts it again where it was, after [`S3::kill`].
    pub fn start_again(&self) {
        let mut command = server(SERVER);
        command
            .args(["--host", "127.0.0.1", "--port"])
            .arg(self.address.port().to_string())
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        *self.child.lock().unwrap() = Some(start_server(command));
        let since = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(since.elapsed() < PATIENCE, "{SERVER} does not answer");
            sleep(Duration::from_millis(50));
        }
    }

    /// Kills it, as a power failure would.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Pass,
    /// Answered with 403, as a bucket's policy does.
    Deny,
    /// Answered with 404: this server makes a bucket that is missing, others do not.
    NoBucket,
    /// The server is killed before it sees the request, and started again a second later.
    Outage,
    /// Says that it is done, and does nothing.
    Pretend,
    /// Passes it on, and names each object of a list twice.
    NameTwice,
    /// Passes it on, and adds this to the list that comes back.
    AlsoList(&'static str),
    /// Passes it on, and loses the answer.
    LoseAnswer,
    /// Answered with this status, text and error code.
    Answer(&'static str, &'static str),
    /// Answered with 403 by a store with a clock two hours ahead.
    OtherTime,
    /// Refused unless it comes with a checksum, as by a bucket with Object Lock.
    WantChecksum,
    /// What was asked for, and then bytes without end.
    WithoutEnd,
}

/// How many requests went over a road, and how many bytes came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub requests: u64,
    pub bytes_back: u64,
}

/// A road to the server.
#[derive(Debug)]
pub struct Road {
    address: SocketAddr,
    traffic: Arc<Mutex<Traffic>>,
}

type Rule = dyn FnMut(&str, &str) -> Then + Send;

impl Road {
    /// A road on which `rule` is asked about each request's method and target.
    pub fn to(server: &Arc<S3>, rule: impl FnMut(&str, &str) -> Then + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let road = Self {
            address: listener.local_addr().unwrap(),
            traffic: Arc::default(),
        };
        let (server, traffic) = (Arc::clone(server), Arc::clone(&road.traffic));
        let rule: Arc<Mutex<Box<Rule>>> = Arc::new(Mutex::new(Box::new(rule)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, traffic, rule) =
                    (Arc::clone(&server), Arc::clone(&traffic), Arc::clone(&rule));
                // What breaks off here breaks off for the caller, too.
                std::thread::spawn(move || pass(&stream, &server, &traffic, &rule));
            }
        });
        road
    }

    /// A road that lets everything pass.
    pub fn open(server: &Arc<S3>) -> Self {
        Self::to(server, |_, _| Then::Pass)
    }

    pub fn traffic(&self) -> Traffic {
        *self.traffic.lock().unwrap()
    }

    /// What the cloud's tools find in the environment.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
        ]
    }
}

/// Passes one request on, and its answer back.
fn pass(
    client: &TcpStream,
    server: &S3,
    traffic: &Mutex<Traffic>,
    rule: &Mutex<Box<Rule>>,
) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head.push(line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    traffic.lock().unwrap().requests += 1;
    let mut words = head.first()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let then = (rule.lock().unwrap())(&method, &target);
    let mut client = client;
    match then {
        Then::Deny => return refuse(client, "403 Forbidden", "AccessDenied"),
        Then::NoBucket => return refuse(client, "404 Not Found", "NoSuchBucket"),
        Then::Outage => {
            server.kill();
            sleep(Duration::from_secs(1));
            server.start_again();
            return None;
        }
        Then::Pretend => {
            let done =
                "HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return client.write_all(done.as_bytes()).ok();
        }
        Then::Answer(status, code) => return refuse(client, status, code),
        Then::OtherTime => {
            let theirs = etcd_ark::clock::now() + jiff::SignedDuration::from_hours(2);
            let date = theirs.strftime("%a, %d %b %Y %H:%M:%S GMT");
            let head = format!(
                "HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return client.write_all(head.as_bytes()).ok();
        }
        Then::WantChecksum => {
            let is_checksum = |line: &String| {
                let line = line.to_ascii_lowercase();
                line.starts_with("x-amz-checksum-") || line.starts_with("content-md5:")
            };
            if !head.iter().any(is_checksum) {
                return refuse(client, "400 Bad Request", "InvalidRequest");
            }
        }
        Then::Pass | Then::NameTwice | Then::AlsoList(_) | Then::LoseAnswer | Then::WithoutEnd => {}
    }
    let mut upstream = TcpStream::connect(server.address).ok()?;
    let head = head.concat() + "Connection: close\r\n\r\n";
    upstream.write_all(head.as_bytes()).ok()?;
    upstream.write_all(&body).ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).ok()?;
    traffic.lock().unwrap().bytes_back += answer.len() as u64;
    match then {
        Then::NameTwice => answer = changed(answer, name_twice),
        Then::AlsoList(more) => {
            let with_more = |body: &str| {
                body.replacen(
                    "</ListBucketResult>",
                    &format!("{more}</ListBucketResult>"),
                    1,
                )
            };
            answer = changed(answer, with_more);
        }
        Then::LoseAnswer => return None,
        Then::WithoutEnd => {
            let head = answer.windows(4).position(|at| at == b"\r\n\r\n")?;
            let lines = String::from_utf8_lossy(&answer[..head]).into_owned();
            let kept = lines
                .lines()
                .filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
            let head: Vec<_> = kept.collect();
            let head = head.join("\r\n") + "\r\n";
            client.write_all(format!("{head}\r\n").as_bytes()).ok()?;
            let zeros = vec![0; 1 << 20];
            loop {
                traffic.lock().unwrap().bytes_back += 1 << 20;
                client.write_all(&zeros).ok()?;
            }
        }
        _ => {}
    }
    client.write_all(&answer).ok()
}

/// A list with each object twice.
fn name_twice(body: &str) -> String {
    let parts: Vec<_> = body.split_inclusive("</Contents>").collect();
    let twice = |part: &&str| match part.find("<Contents>") {
        Some(at) => format!("{part}{}", &part[at..]),
        None => (*part).to_owned(),
    };
    parts.iter().map(twice).collect()
}

/// An answer with another body, and the length of that.
fn changed(answer: Vec<u8>, change: impl FnOnce(&str) -> String) -> Vec<u8> {
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = change(body);
    let lines = head.lines();
    let kept: Vec<_> = lines
        .filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"))
        .collect();
    let length = body.len();
    format!(
        "{}\r\nContent-Length: {length}\r\n\r\n{body}",
        kept.join("\r\n")
    )
    .into_bytes()
}

fn refuse(mut client: &TcpStream, status: &str, code: &str) -> Option<()> {
    let message = match code {
        "InvalidRequest" => {
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        }
        _ => "no",
    };
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all((head + &body).as_bytes()).ok()
}

/// The names of the objects in a bucket, of those that are under its own key.
pub fn objects(bucket: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(bucket)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
