//! The server at one URL of a simulated member: a thread that accepts, one for each connection, and HTTP as far as etcd
//! 2.x uses it; or any other behaviour.
//!
//! In: the answers. Out: bytes on the loopback, until the server is closed.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::Shutdown;

use super::{Shared, lock};

/// Ports below those that the system gives to those that do not ask for one: no one takes the port of a member that is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Connections that may wait to be accepted, as std has it.
const BACKLOG: i32 = 128;

/// How long a member that never answers, or never ends, goes on; longer than any client waits.
pub(super) const FOREVER: Duration = Duration::from_secs(120);

/// What is behind a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// A member of etcd 2.x.
    #[default]
    Answers,
    /// No one: connections are refused.
    Down,
    /// Accepts connections and never says anything.
    Silent,
    /// An answer that comes at a byte a second.
    Dribbles,
    /// A right head, and then a body at a byte a second.
    DribblesBody,
    /// Something else than HTTP.
    NotHttp,
    /// A web page about something else.
    Html,
    /// JSON about something else.
    WrongJson,
    /// A body without an end.
    Endless,
    /// A head without an end.
    EndlessHead,
    /// Hangs up without an answer.
    HangsUp,
    /// What a server that wants TLS answers to plain HTTP: an alert, as etcd 2.x does.
    WantsTls,
    /// This status and body, whatever the question.
    Says(u16, &'static str),
}

/// A port, held for as long as the server lives, and the thread that answers there unless it is down.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) port: u16,
    is_peer: bool,
    listener: TcpListener,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Servers for a client URL and a peer URL, the second one port above the first as with etcd's own 2379 and 2380.
    pub(super) fn bind_pair(shared: &Arc<Shared>) -> [Self; 2] {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let room = (PORTS.end - PORTS.start) / 2;
        // Test binaries that run beside this one begin elsewhere.
        let offset = (std::process::id() % u32::from(room)) as u16;
        let bound = (0..room).find_map(|_| {
            let next = (NEXT.fetch_add(1, Ordering::Relaxed) % room + offset) % room;
            let port = PORTS.start + 2 * next;
            let client = TcpListener::bind(("127.0.0.1", port)).ok()?;
            let peer = TcpListener::bind(("127.0.0.1", port + 1)).ok()?;
            Some([(client, port, false), (peer, port + 1, true)])
        });
        bound
            .expect("no two ports are free")
            .map(|(listener, port, is_peer)| {
                let server = Self {
                    port,
                    is_peer,
                    listener,
                    running: Mutex::default(),
                };
                server.answer(shared);
                server
            })
    }

    fn answer(&self, shared: &Arc<Shared>) {
        let listener = self.listener.try_clone().unwrap();
        let (shared, is_peer) = (Arc::clone(shared), self.is_peer);
        let thread = std::thread::spawn(move || {
            // Ends with an error when the socket is shut down.
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&shared);
                // A client that hangs up in the middle of an answer has heard enough.
                std::thread::spawn(move || shared.converse(stream, is_peer));
            }
        });
        *lock(&self.running) = Some(thread);
    }

    pub(super) fn serve(&self, shared: &Arc<Shared>, up: bool) {
        let is_up = lock(&self.running).is_some();
        if up && !is_up {
            rustix::net::listen(&self.listener, BACKLOG).unwrap();
            self.answer(shared);
        } else if !up {
            self.close();
        }
    }

    /// Refuses connections from here on. The socket stays bound, so that nothing else can take the port meanwhile.
    fn close(&self) {
        if let Some(thread) = lock(&self.running).take() {
            rustix::net::shutdown(&self.listener, Shutdown::Both).unwrap();
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// The target and the `Authorization` of the next request; nothing once the client has hung up.
pub(super) fn read_request(
    reader: &mut BufReader<TcpStream>,
) -> std::io::Result<Option<(String, String)>> {
    let mut line = String::new();
    reader.take(4096).read_line(&mut line)?;
    let Some(path) = line.split(' ').nth(1).map(str::to_owned) else {
        return Ok(None);
    };
    let mut user = String::new();
    loop {
        line.clear();
        reader.take(4096).read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                value.clone_into(&mut user);
            }
            Some(_) => {}
            None => return Ok(Some((path, user))),
        }
    }
}

pub(super) fn write_answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &str,
    body: &str,
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} etcd\r\n{headers}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())
}

pub(super) fn misbehave(stream: &mut TcpStream, behaviour: &Behaviour) -> std::io::Result<()> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 1\r\n";
    const BODY: &str = "Content-Length: 100000\r\n\r\n";
    match behaviour {
        Behaviour::Silent => std::thread::sleep(FOREVER),
        Behaviour::Dribbles => dribble(stream, HEAD)?,
        Behaviour::DribblesBody => {
            stream.write_all(format!("{HEAD}{BODY}").as_bytes())?;
            dribble(stream, "{\"members\":[")?;
        }
        Behaviour::NotHttp => stream.write_all(b"SSH-2.0-OpenSSH_6.7p1 Debian-5\r\n")?,
        Behaviour::Html => write_answer(stream, 200, "", "<html><body>It works!</body></html>")?,
        Behaviour::WrongJson => write_answer(stream, 200, "", r#"{"items":[1,2,3]}"#)?,
        Behaviour::Endless => {
            stream.write_all(format!("{HEAD}\r\n").as_bytes())?;
            loop {
                stream.write_all(&[b'['; 1 << 14])?;
            }
        }
        Behaviour::EndlessHead => {
            stream.write_all(HEAD.as_bytes())?;
            for number in 0.. {
                stream.write_all(format!("X-{number}: {number}\r\n").as_bytes())?;
            }
        }
        // handshake_failure, in a record of TLS 1.0.
        Behaviour::WantsTls => stream.write_all(&[0x15, 3, 1, 0, 2, 2, 40])?,
        Behaviour::HangsUp | Behaviour::Answers | Behaviour::Down | Behaviour::Says(..) => {}
    }
    Ok(())
}

fn dribble(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    for byte in text.bytes().chain(std::iter::repeat(b'x')) {
        stream.write_all(&[byte])?;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
