//! `keys`: the keys of the v2 store at an index, as a tree, as the API's JSON, or one value.

use std::ffi::{OsStr, OsString};
use std::io;
use std::io::{IsTerminal as _, Write};
use std::os::unix::ffi::OsStrExt;

use crate::data_dir::scan::SurveyError;
use crate::etcd::ids::Index;
use crate::etcd::replay::Until;
use crate::etcd::scan::FileFault;
use crate::etcd::store::to_json::{Shown, api_key};
use crate::etcd::store::{Node, NodeId, Step, Store, UnixNanos, path};
use crate::interrupt::Interrupt;
use crate::target::keys_json::write_answer;
use crate::target::{StoreQuery, StoreRead, Target};
use crate::text::{count, expiry, size};
use clap::builder::BoolishValueParser;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::common::NamingRules;
use crate::cli::flags::target::TargetFlags;
use crate::cli::json::AfterSchema;
use crate::cli::layout::width;
use crate::cli::output::{Output, Paint, one_line};
use crate::cli::render::script::{self, Script};
use crate::cli::values::{index, key};

#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    pub(crate) from: TargetFlags,
    /// Only this key, or this directory and its content
    #[arg(value_name = "PREFIX", conflicts_with = "get", value_parser = key())]
    pub(crate) prefix: Option<OsString>,
    /// Store as of this raft index [default: last one known to be committed]
    #[arg(long, value_name = "INDEX", value_parser = index, env = "ETCD_ARK_AT_INDEX")]
    pub(crate) at_index: Option<u64>,
    /// Also apply entries that are not known to be committed
    #[arg(long, env = "ETCD_ARK_PENDING", value_parser = BoolishValueParser::new())]
    pub(crate) pending: bool,
    #[command(flatten)]
    pub(crate) rules: NamingRules,
    /// Show values in full
    #[arg(long, env = "ETCD_ARK_VALUES", value_parser = BoolishValueParser::new())]
    pub(crate) values: bool,
    /// Show hidden keys (name begins with `_`)
    #[arg(long, env = "ETCD_ARK_HIDDEN", value_parser = BoolishValueParser::new())]
    pub(crate) hidden: bool,
    /// Write the value of one key to stdout, byte for byte
    #[arg(long, value_name = "KEY", value_parser = key())]
    pub(crate) get: Option<OsString>,
    /// Print commands that create these keys in a cluster
    ///
    /// For those who want to look first; `etcd-ark put-keys` does the same, and says what it would do.
    #[arg(long, value_name = "TOOL", value_enum, conflicts_with = "get")]
    pub(crate) as_script: Option<Script>,
}

/// How many characters of a value are shown, however long its name is.
const LEAST_SHOWN: usize = 20;

pub(crate) fn run(args: &Keys, cx: &Context<'_>) -> Result<()> {
    let (path, target) = args.from.open(cx)?;
    let threads = args.from.threads.count();
    let read = read_store(&target, until(args), &args.rules, threads, cx)?;
    let incomplete = lost(&read).filter(|_| args.at_index.is_none());
    if !cx.out.is_json() || incomplete.is_none() {
        print_lost(&read, &cx.out);
    }
    let store = &read.replayed.store;
    let asked = args.get.as_deref().or(args.prefix.as_deref());
    let top = find(store, asked, &read)?;
    if cx.out.is_json() {
        let hidden = args.hidden;
        cx.out.stream(|stdout| {
            let stdout = &mut AfterSchema::new(stdout);
            let mut stdout = Stoppable {
                stdout,
                interrupt: cx.interrupt,
            };
            write_answer(store, top, Shown { hidden }, threads, &mut stdout)
        });
    } else if let Some(script) = args.as_script {
        let now = now();
        cx.out.stream(|stdout| {
            let stdout = &mut Stoppable {
                stdout,
                interrupt: cx.interrupt,
            };
            script::write(script, store, top, now, stdout)
        });
    } else if let Some(key) = &args.get {
        let value = store.node(top).value().ok_or_else(|| {
            CliError::usage(format!("`{}` is a directory", key.display()))
                .hint("name one of the keys in it; without --get they are listed")
        })?;
        // So that the prompt starts on a new line.
        let end: &[u8] = if io::stdout().is_terminal() {
            b"\n"
        } else {
            b""
        };
        cx.out.stream(|stdout| {
            stdout.write_all(&value.bytes())?;
            stdout.write_all(end)
        });
    } else {
        let of = format!("keys of {}", path.as_path().display());
        cx.out.line(&cx.out.paint(Paint::Strong, &of));
        cx.out.line(&cx.out.paint(Paint::Strong, &header(&read)));
        let rules = rules_text(&read);
        cx.out.line(&cx.out.paint(Paint::Dim, &rules));
        let tree = Tree {
            store,
            args,
            out: &cx.out,
        };
        cx.out.stream(|stdout| {
            tree.write(
                top,
                &mut Stoppable {
                    stdout,
                    interrupt: cx.interrupt,
                },
            )
        });
    }
    cx.interrupt.check().map_err(SurveyError::from)?;
    if let Some(lost) = incomplete {
        return Err(only_to(&target, read.replayed.at, &lost, &cx.out));
    }
    // The process ends here, so freeing every node would only take time.
    std::mem::forget(read);
    Ok(())
}

/// Reads the keys in `target`, of a damaged log as far as they go; warns of what does not prevent that.
pub(crate) fn read_store(
    target: &Target,
    until: Until,
    rules: &NamingRules,
    threads: usize,
    cx: &Context<'_>,
) -> Result<StoreRead> {
    let wanted = StoreQuery {
        until,
        rules: rules.in_order_rules,
        rescue: true,
        starts: true,
        threads,
        ..StoreQuery::default()
    };
    let read = cx.watched(|observe| target.read_store(wanted, cx.interrupt, observe))?;
    print_passed_over(&read, &cx.out);
    print_none_starts(&read, &cx.out);
    Ok(read)
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> UnixNanos {
    let now = crate::clock::now().as_nanosecond();
    now.try_into().unwrap_or(UnixNanos::MAX)
}

fn until(args: &Keys) -> Until {
    match (args.at_index.map(Index), args.pending) {
        (None, false) => Until::Commit,
        (None, true) => Until::End,
        (Some(index), false) => Until::Index(index),
        (Some(index), true) => Until::PendingIndex(index),
    }
}

/// Reports corrupt raft snapshots, which etcd would skip too.
pub(crate) fn print_passed_over(read: &StoreRead, out: &Output) {
    for file in &read.passed_over {
        if let Some(fault @ FileFault::Snapshot(_)) = &file.fault {
            out.warn(&format!(
                "`{}` is corrupt and was passed over: {fault}",
                file.path
            ));
        }
    }
}

/// Reports if no server starts from the data: their keys are complete, but they are not a backup.
pub(crate) fn print_none_starts(read: &StoreRead, out: &Output) {
    if let Some(why) = read.none_starts().filter(|_| read.lost.is_none()) {
        out.warn(&why);
    }
}

/// What is lost from a damaged log.
pub(crate) fn lost(read: &StoreRead) -> Option<String> {
    read.lost.map(|lost| lost.of(&read.passed_over))
}

pub(crate) fn print_lost(read: &StoreRead, out: &Output) {
    if let Some(lost) = lost(read) {
        out.warn(&lost);
    }
}

/// The failure of a command that printed what there is, but was asked for the end of the log.
pub(crate) fn only_to(target: &Target, at: Index, lost: &str, out: &Output) -> CliError {
    // Without `--json` a warning has said what is lost.
    let lost = if out.is_json() {
        lost
    } else {
        "the rest is lost"
    };
    let message = format!("this is the state at entry {at}: {lost}");
    let rewind = format!("`etcd-ark rewind --to index:{at}` makes archives of what is whole");
    let hint = match target {
        Target::Archive(_) => rewind,
        Target::DataDir(_) => format!(
            "{rewind}; before a damaged data dir is repaired, `etcd-ark snapshot --damaged` saves it as it is"
        ),
    };
    let mut error = Kind::Corrupt.error(message).hint(hint);
    error.target = Some(target.path().to_path_buf());
    error
}

/// The node of a key with its API name.
pub(crate) fn find(store: &Store, asked: Option<&OsStr>, read: &StoreRead) -> Result<NodeId> {
    let asked = asked.unwrap_or_default();
    let mut names = vec![&b"1"[..]];
    names.extend(path::components(asked.as_bytes()));
    let found = store.get(&path::join(&names));
    found.ok_or_else(|| {
        Kind::NotFound.error(format!(
                "no such key: `{}` (at index {})",
                asked.display(),
                read.replayed.at
            ),
        )
        .hint(
            "`keys` without PREFIX lists all keys, with `--at-index` those as of an earlier index",
        )
    })
}

fn header(read: &StoreRead) -> String {
    let replayed = &read.replayed;
    let commit = read.member.position.commit;
    let at = match replayed.at.cmp(&commit) {
        std::cmp::Ordering::Less => format!("index {} (commit is {commit})", replayed.at),
        std::cmp::Ordering::Equal => format!("index {commit} (commit)"),
        std::cmp::Ordering::Greater => format!(
            "index {}, of which those above {commit} are not known to be committed",
            replayed.at
        ),
    };
    format!("{at}, X-Etcd-Index {}", replayed.store.index())
}

/// The in-order naming rules in use, and why.
pub(crate) fn rules_text(read: &StoreRead) -> String {
    format!(
        "in-order names by the {} rules: {}",
        read.replayed.rules, read.rules_from
    )
}

/// Stops writing after an interrupt: the output can be far larger than the store.
struct Stoppable<'a> {
    stdout: &'a mut dyn Write,
    interrupt: &'a Interrupt,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.interrupt.check().map_err(io::Error::other)?;
        self.stdout.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

struct Tree<'a> {
    store: &'a Store,
    args: &'a Keys,
    out: &'a Output,
}

impl Tree<'_> {
    fn write(&self, top: NodeId, stdout: &mut dyn Write) -> io::Result<()> {
        let mut walk = self.store.walk(top);
        let mut depth = 0_usize;
        let mut hidden = 0_u64;
        while let Some(step) = walk.step() {
            let id = match step {
                Step::Key(id) | Step::Open(id) => id,
                Step::Close => {
                    depth -= 1;
                    continue;
                }
            };
            let node = self.store.node(id);
            let leave_out = id != top && node.is_hidden() && !self.args.hidden;
            hidden += u64::from(leave_out);
            if leave_out {
                walk.skip();
            } else {
                let name = if id == top {
                    api_key(walk.path())
                } else {
                    node.name()
                };
                self.write_node(name, node, depth, stdout)?;
            }
            depth += usize::from(matches!(step, Step::Open(_)));
        }
        if hidden > 0 {
            let nodes = count(hidden, "hidden node", "hidden nodes");
            let text = format!("{nodes} left out; --hidden shows them");
            writeln!(stdout, "{}", self.out.paint(Paint::Dim, &text))?;
        }
        Ok(())
    }

    fn write_node(
        &self,
        name: &[u8],
        node: &Node,
        depth: usize,
        stdout: &mut dyn Write,
    ) -> io::Result<()> {
        // A tree that is deeper than a screen is not readable as one.
        let indent = " ".repeat(2 * depth.min(40));
        let name = one_line(name);
        let expires = match node.expires {
            Some(expires) => format!("  (expires {})", expiry(expires)),
            None => String::new(),
        };
        let others = [&indent, &name, " = ", &expires];
        let taken: usize = others.map(|part| part.chars().count()).iter().sum();
        let expires = match expires.as_str() {
            "" => String::new(),
            text => self.out.paint(Paint::Dim, text),
        };
        match node.value() {
            None => writeln!(stdout, "{indent}{name}/{expires}"),
            Some(value) => {
                let room = width().saturating_sub(taken).max(LEAST_SHOWN);
                let value = self.shorten(&value.bytes(), room);
                writeln!(stdout, "{indent}{name} = {value}{expires}")
            }
        }
    }

    /// A value on one line, cut to `room` characters unless all of it is wanted.
    fn shorten(&self, value: &[u8], room: usize) -> String {
        if self.args.values {
            return one_line(value);
        }
        // A character takes at most 4 bytes.
        let beginning = value.get(..room.saturating_mul(4)).unwrap_or(value);
        let line = one_line(beginning);
        if line.chars().count() <= room && beginning.len() == value.len() {
            return line;
        }
        let rest = format!("… ({})", size(value.len() as u64));
        let shown = room.saturating_sub(rest.chars().count());
        let short: String = line.chars().take(shown).collect();
        short + &rest
    }
}
