//! The needs of stories: real tools, servers that end with the tests, mounts of their own.
//!
//! A missing tool is reported visibly.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

use tempfile::TempDir;

use super::ark::{BINARY, Ran, clean, names, run};

/// Whether `program` can be run. If not, the test that asks is skipped and says so; under `CI` that is a failure.
pub fn need(program: &str) -> bool {
    need_quietly(program) || skip(&format!("`{program}` is not installed"))
}

/// Ends the test unless what it needs is there; that it is not has been said.
macro_rules! only_with {
    ($there:expr) => {
        if !($there) {
            return;
        }
    };
}
pub(crate) use only_with;

fn need_quietly(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// As [`need`], of the library that Debian's package `libfaketime` installs: preloaded, it sets a program's clock.
pub fn need_faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = folders
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.is_file());
    if library.is_none() {
        skip("`libfaketime` is not installed");
    }
    library
}

/// As [`need`], of a module of Python's.
pub fn need_python_module(name: &str) -> bool {
    let import = Command::new("python3")
        .args(["-c", &format!("import {name}")])
        .output();
    let there = import.is_ok_and(|import| import.status.success());
    there || skip(&format!("python3 has no module `{name}`"))
}

/// Whether the tests run as root, who alone can mount; else as [`need`].
pub fn need_root() -> bool {
    rustix::process::geteuid().is_root() || skip("mounting takes root")
}

/// The etcd server of a release line of 2.x that the environment names, such as `ETCD_ARK_ETCD_2_1` for `2.1`. Without it the
/// test that asks is skipped and says so, in CI too: no package has these servers.
pub fn need_etcd_2x(line: &str) -> Option<PathBuf> {
    let variable = format!("ETCD_ARK_ETCD_{}", line.replace('.', "_"));
    let Some(program) = std::env::var_os(&variable).map(PathBuf::from) else {
        say_skipped(&format!("{variable} names no etcd {line}"));
        return None;
    };
    assert!(
        program.is_file(),
        "{variable} is not a file: {}",
        program.display()
    );
    Some(program)
}

fn skip(why: &str) -> bool {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!in_ci, "{why}, and in CI no story may be skipped");
    say_skipped(why);
    false
}

fn say_skipped(why: &str) {
    // Past the capture of the test harness: a skipped story must not look like one that was told.
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED {name}: {why} ***");
}

/// Runs a script in a mount namespace of its own; `$ARK` is the binary under test.
pub fn in_own_mounts(script: &str, args: &[&Path]) -> Ran {
    let mut command = clean("unshare");
    let shell = ["-m", "--propagation", "private", "sh", "-euc", script, "sh"];
    run(command.args(shell).args(args).env("ARK", BINARY))
}

/// A command for a server, which the kernel kills when this process ends, however it ends.
pub fn server(program: &str) -> Command {
    if !need_quietly("setpriv") {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// Starts a [`server`] from a thread that lives as long as this process: the kernel looks at the thread that made a process.
pub fn start_server(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static STARTER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, taken) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, started) = channel();
    STARTER.send((command, answer)).unwrap();
    started.recv().unwrap().unwrap()
}

/// Takes the variables away that the binary, etcd and etcdctl read.
pub fn clear_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    // Nor of what is configured on this machine.
    command.env("ETCD_ARK_CONFIG", "");
}

/// The archives in a backup dir, by name; none if it is missing.
pub fn archives_in(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = names(dir)
        .into_iter()
        .filter(|name| name.starts_with("etcd-") && name.ends_with(".tar.zst"))
        .map(|name| dir.join(name))
        .collect();
    found.sort();
    found
}

/// A temporary directory in memory where there is room for that: thousands of syncs cost nothing there.
pub fn fast_dir(prefix: &str) -> TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = memory
        .is_dir()
        .then(|| TempDir::with_prefix_in(prefix, memory));
    match in_memory {
        Some(Ok(dir)) => dir,
        _ => TempDir::with_prefix(prefix).unwrap(),
    }
}

/// Whether to try every call and every bit, as the long run does, and not only some of each kind.
pub(crate) fn is_thorough() -> bool {
    std::env::var_os("ETCD_ARK_THOROUGH").is_some()
}
