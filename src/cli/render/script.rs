//! Writes keys as a script that creates them in a running cluster.
//!
//! In: a store and a key in it. Out: lines for a shell, one for each key and directory, that create what is missing and
//! do not change existing keys. The script ends with 1 if one of them failed, also because the key exists.

use std::io::{self, Write};

use crate::cluster::keys::escaped;
use crate::etcd::store::to_json::api_key;
use crate::etcd::store::{NodeId, Store, UnixNanos, seconds_left};

/// Bytes of a value that an argument of a program can hold on any kernel: Linux takes 128 KiB with the final zero.
const MOST_IN_ARGUMENT: usize = 128_000;
/// A shell function has no limit for its arguments, and the answer of a key that was created begins with its action.
const PUT: &str = r#"put() {
  answer=$(printf %s "$2" | curl -sS -X PUT "$ENDPOINT/v2/keys$1" -d @-)
  case $answer in
  '{"action":'*) printf '%s\n' "$answer" ;;
  *) failed=1; printf '%s: not created: %s\n' "$1" "$answer" >&2 ;;
  esac
}"#;

/// The program that the script calls.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Script {
    Curl,
    Etcdctl,
}

/// Writes the script for `top` and all below it; the remaining time to live of each key is counted from `now`.
pub(crate) fn write(
    script: Script,
    store: &Store,
    top: NodeId,
    now: UnixNanos,
    to: &mut dyn Write,
) -> io::Result<()> {
    writeln!(
        to,
        "#!/bin/sh\n# Ends with 1 if a key or directory is not created, also because it exists.\nfailed=0"
    )?;
    match script {
        Script::Curl => writeln!(to, ": \"${{ENDPOINT:=http://127.0.0.1:2379}}\"\n{PUT}")?,
        Script::Etcdctl => {
            if has_blanks(store, top) {
                writeln!(
                    to,
                    "# Names with a blank are below. etcdctl 2.0 and 2.1 make a `+` of it; --as-script curl keeps it."
                )?;
            }
            writeln!(to, "export ETCDCTL_API=2")?;
        }
    }
    let mut walk = store.walk(top);
    while let Some(id) = walk.next_node() {
        let node = store.node(id);
        // What is below a directory that expires gets its time, too: without the directory it would stay for ever.
        let ttl = store.gone_at(id).map(|gone| seconds_left(gone, now));
        if ttl.is_some_and(|left| left <= 0) {
            if node.is_dir() {
                walk.skip();
            }
            continue;
        }
        let key = api_key(walk.path());
        if key.is_empty() {
            continue;
        }
        let value = node.value().map(crate::etcd::store::value::Value::bytes);
        match script {
            Script::Curl => curl(key, value.as_deref(), ttl, to)?,
            Script::Etcdctl => etcdctl(key, value.as_deref(), ttl, to)?,
        }
    }
    writeln!(to, "exit $failed")
}

fn has_blanks(store: &Store, top: NodeId) -> bool {
    let mut walk = store.walk(top);
    std::iter::from_fn(|| walk.next_node()).any(|id| store.node(id).name().contains(&b' '))
        || store.path(top).contains(&b' ')
}

fn curl(key: &[u8], value: Option<&[u8]>, ttl: Option<i64>, to: &mut dyn Write) -> io::Result<()> {
    let ttl = ttl.map(|ttl| format!("&ttl={ttl}")).unwrap_or_default();
    let form = match value {
        Some(value) => format!("value={}", escaped(value, b"")),
        None => "dir=true".to_owned(),
    };
    let key = escaped(key, b"/");
    writeln!(to, "put '{key}?prevExist=false{ttl}' '{form}'")
}

fn etcdctl(
    key: &[u8],
    value: Option<&[u8]>,
    ttl: Option<i64>,
    to: &mut dyn Write,
) -> io::Result<()> {
    if key.contains(&0) {
        let key = escaped(key, b"/");
        return writeln!(
            to,
            "echo '{key}: no command line can hold its name; see --as-script curl' >&2; failed=1"
        );
    }
    // No argument can hold a zero byte or a large value, but stdin can.
    let from_stdin = value.filter(|value| value.contains(&0) || value.len() > MOST_IN_ARGUMENT);
    if let Some(value) = from_stdin {
        if value.contains(&0) {
            write!(to, "printf '")?;
            for byte in value {
                write!(to, "\\{byte:03o}")?;
            }
            write!(to, "'")?;
        } else {
            write!(to, "printf %s ")?;
            quoted(value, to)?;
        }
        write!(to, " | ")?;
    }
    let command = if value.is_some() { "mk" } else { "mkdir" };
    write!(to, "etcdctl {command}")?;
    if let Some(ttl) = ttl {
        write!(to, " --ttl {ttl}")?;
    }
    write!(to, " -- ")?;
    quoted(key, to)?;
    if let Some(value) = value.filter(|_| from_stdin.is_none()) {
        write!(to, " ")?;
        quoted(value, to)?;
    }
    writeln!(to, " || failed=1")
}

/// A word for a shell, byte for byte.
fn quoted(word: &[u8], to: &mut dyn Write) -> io::Result<()> {
    to.write_all(b"'")?;
    for (number, part) in word.split(|byte| *byte == b'\'').enumerate() {
        if number > 0 {
            to.write_all(b"'\\''")?;
        }
        to.write_all(part)?;
    }
    to.write_all(b"'")
}
