//! An etcd that runs only for the time of a drill.
//!
//! In: the program and a data dir. Out: a [`Server`] on loopback; whether it is healthy, and how it
//! ended. It has a process group of its own, which is ended when the [`Server`] is dropped; if this
//! process is killed, the kernel ends it ([`stand_in`]).

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, io};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::drill::{DrillError, DrillRequest};
use crate::etcd::ids::Release;
use crate::interrupt::Interrupt;

/// The server's name, for any member: the log does not hold the name.
const NAME: &str = "drill";
/// Time limit for a program to print its version, and for a server to end after a signal.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Time limit of one health request.
const LOOK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);
/// The first argument of a process that only becomes another program.
const STAND_IN: &str = "--stand-in-for-a-server";
/// How many bytes of a program's version output are read.
const MOST_SAID: u64 = 4096;

/// A program that writes more than this is stopped, in bytes.
const MOST_LOGGED: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub(super) struct Binary {
    path: PathBuf,
    /// Its version, such as `2.1.3`.
    pub(super) version: String,
    pub(super) release: Release,
}

pub(super) struct Member<'m> {
    pub(super) data_dir: &'m Path,
    pub(super) log: &'m Path,
    /// Whether its cluster has no other member; then it needs no `--force-new-cluster`.
    pub(super) is_alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Signalled(i32),
    /// It did not become healthy with all of the log applied within this time.
    TooLate(Duration),
    /// It was stopped because its log grew and grew.
    TooMuchLog,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMuchLog => {
                let most = MOST_LOGGED >> 20;
                write!(f, "its log grew to more than {most} MiB, so it was stopped")
            }
            Self::Exited(code) => write!(f, "it exited with code {code}"),
            Self::Signalled(signal) => write!(f, "signal {signal} ended it"),
            Self::TooLate(within) => {
                let seconds = within.as_secs();
                write!(
                    f,
                    "within {seconds} s it was not healthy with all of the log applied"
                )
            }
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (None, Some(signal)) => Self::Signalled(signal),
            (code, _) => Self::Exited(code.unwrap_or(0)),
        }
    }
}

impl Binary {
    /// Asks the program for its version.
    pub(super) fn find(
        request: &DrillRequest<'_>,
        scratch: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, DrillError> {
        let path = request.etcd.to_path_buf();
        if !path.is_file() {
            return Err(DrillError::NoBinary(path));
        }
        let said = scratch.join("version");
        let mut group = Group::spawn(request, &path, &["--version".into()], &said)?;
        let deadline = Instant::now() + TIME_LIMIT.min(request.within);
        while group.child.try_wait()?.is_none()
            && !group.logs_too_much()
            && Instant::now() < deadline
        {
            interrupt.check()?;
            std::thread::sleep(PAUSE);
        }
        group.end()?;
        let mut text = Vec::new();
        fs::File::open(&said)?
            .take(MOST_SAID)
            .read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let Some((version, release)) = Release::printed(&text) else {
            return Err(DrillError::NotEtcd(path));
        };
        Ok(Self {
            version: version.to_owned(),
            release,
            path,
        })
    }
}

#[derive(Debug)]
pub(super) struct Server {
    group: Group,
    client: SocketAddr,
}

impl Server {
    /// Starts it, alone and on loopback.
    pub(super) fn start(
        binary: &Binary,
        member: &Member<'_>,
        request: &DrillRequest<'_>,
    ) -> io::Result<Self> {
        let [client, peer] = free_addresses()?;
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let cluster = format!("{NAME}={peer_url}");
        let flags: [(&str, &OsStr); 8] = [
            ("--name", NAME.as_ref()),
            ("--data-dir", member.data_dir.as_ref()),
            ("--listen-client-urls", client_url.as_ref()),
            ("--advertise-client-urls", client_url.as_ref()),
            ("--listen-peer-urls", peer_url.as_ref()),
            ("--initial-advertise-peer-urls", peer_url.as_ref()),
            ("--initial-cluster", cluster.as_ref()),
            // Makes a raft snapshot as soon as there is an entry to put into one.
            ("--snapshot-count", "1".as_ref()),
        ];
        let mut args: Vec<OsString> = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.into(), value.to_owned()])
            .collect();
        if !member.is_alone {
            args.push("--force-new-cluster".into());
        }
        if binary.release.major >= 3 {
            args.push("--enable-v2=true".into());
        }
        let group = Group::spawn(request, &binary.path, &args, member.log)?;
        Ok(Self { group, client })
    }

    /// How it ended, if it has ended or must end.
    pub(super) fn has_ended(&mut self) -> io::Result<Option<Ended>> {
        let ended = self.group.child.try_wait()?.map(Ended::from);
        let floods = || self.group.logs_too_much().then_some(Ended::TooMuchLog);
        Ok(ended.or_else(floods))
    }

    /// Whether it says that it is healthy: it has a leader and accepts writes.
    pub(super) fn is_healthy(&self) -> bool {
        self.health().is_ok_and(|answer| {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
            head.contains(" 200 ") && body.replace(' ', "").contains(r#""health":"true""#)
        })
    }

    fn health(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.client, LOOK)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(LOOK))?;
        write!(
            stream,
            "GET /health HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.client
        )?;
        let mut answer = String::new();
        stream.take(MOST_SAID).read_to_string(&mut answer)?;
        Ok(answer)
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        self.group.end()
    }
}

/// A process and all that it starts, ended when this is dropped.
#[derive(Debug)]
struct Group {
    child: Child,
    output: fs::File,
    has_ended: bool,
}

impl Group {
    fn spawn(
        request: &DrillRequest<'_>,
        program: &Path,
        args: &[OsString],
        output: &Path,
    ) -> io::Result<Self> {
        let output = fs::File::create(output)?;
        let mut command = match request.stand_in {
            Some(own) => {
                let mut command = Command::new(own);
                command.arg(STAND_IN);
                command.arg(std::process::id().to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        let child = command
            .args(args)
            .env_clear()
            .envs(request.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.file().try_clone()?)
            .stderr(output.file().try_clone()?)
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            output,
            has_ended: false,
        })
    }

    fn logs_too_much(&self) -> bool {
        let metadata = self.output.metadata();
        metadata.is_ok_and(|metadata| metadata.len() > MOST_LOGGED)
    }

    /// Ends all of its processes: first by a signal to stop, then by a kill.
    fn end(&mut self) -> io::Result<()> {
        if self.has_ended {
            return Ok(());
        }
        let group = Pid::from_child(&self.child);
        // Fails if all of its processes have ended.
        let _ = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + TIME_LIMIT;
        while self.child.try_wait()?.is_none() && !self.logs_too_much() && Instant::now() < deadline
        {
            std::thread::sleep(PAUSE);
        }
        let _ = kill_process_group(group, Signal::KILL);
        self.child.wait()?;
        self.has_ended = true;
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Two free addresses, bound at the same time so that they differ.
fn free_addresses() -> io::Result<[SocketAddr; 2]> {
    let loopback = || TcpListener::bind(("127.0.0.1", 0));
    let (one, other) = (loopback()?, loopback()?);
    Ok([one.local_addr()?, other.local_addr()?])
}

/// If `args` start with [`STAND_IN`], tells the kernel to end this process with its parent and becomes the
/// server. `None` for any other arguments; the exit code if it fails.
pub fn stand_in(mut args: impl Iterator<Item = OsString>) -> Option<u8> {
    if args.nth(1)? != STAND_IN {
        return None;
    }
    let parent: Option<i32> = args.next()?.to_str()?.parse().ok();
    let program = args.next()?;
    let told = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let is_orphan = Some(Pid::as_raw(rustix::process::getppid())) != parent;
    if told.is_err() || is_orphan {
        return Some(1);
    }
    // Returns only if the program cannot be started.
    let _ = Command::new(program).args(args).exec();
    Some(1)
}
