//! The command line: parses arguments, runs a command, prints text or JSON, returns an exit code.

pub(crate) mod args;
pub(crate) mod commands;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod encryption;
pub(crate) mod error;
pub(crate) mod flags;
pub(crate) mod foreign;
pub(crate) mod given;
pub(crate) mod global;
pub(crate) mod help;
pub(crate) mod json;
pub(crate) mod layout;
pub(crate) mod location;
pub(crate) mod metrics;
pub(crate) mod open;
pub(crate) mod output;
pub(crate) mod printed;
pub(crate) mod progress;
pub(crate) mod quote;
#[cfg(test)]
mod reference;
pub(crate) mod render;
pub(crate) mod values;
#[cfg(test)]
mod words;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::interrupt::Interrupt;
use clap::CommandFactory;
use signal_hook::consts::{SIGHUP, SIGXFSZ};
use signal_hook::flag;

use crate::cli::args::{Args, Command, misread};
use crate::cli::context::Context;
use crate::cli::error::{Kind, Result};
use crate::cli::given::given;
use crate::cli::metrics::Record;
use crate::cli::open::Opener;
use crate::cli::output::Output;

pub fn main() -> u8 {
    if let Some(code) = crate::drill::server::stand_in(std::env::args_os()) {
        return code;
    }
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => return misread(error),
    };
    raise_file_limit();
    let interrupt = Interrupt::default();
    watch_signals(&interrupt);
    let cx = Context {
        places: Opener::new(&interrupt, &args.global.identity),
        out: Output::new(&args.global, given(&args.command, &args.global.identity)),
        record: Record::begin(args.command.metrics()),
        interrupt: &interrupt,
        strict: args.global.strict,
        config: args.global.config_file(),
    };
    let outcome = run(&args.command, &cx);
    let ended = match outcome {
        Ok(()) if cx.out.lost() => Err(Kind::Failed
            .error("done, but stdout could not be written to")
            .hint("`etcd-ark list` and `etcd-ark inspect` show what was done")),
        Ok(()) if cx.out.warned() && args.global.strict => Err(cx.out.only_warned()),
        Ok(()) => Ok(()),
        Err(error) => Err(error
            .stopped_by(interrupt.signal())
            .of_spool(args.command.spool_dir().as_deref())),
    };
    match cx.record.end(ended) {
        Ok(()) => 0,
        Err(failure) => {
            // A monitoring system shows both streams, and `status` has reported it on stdout.
            let is_told = matches!(failure.kind, Kind::Backups(_)) && !cx.out.is_json();
            if !is_told || cx.out.lost() {
                cx.out.failure(&failure);
            }
            failure.kind.exit_code()
        }
    }
}

fn run(command: &Command, cx: &Context<'_>) -> Result<()> {
    match command {
        Command::Snapshot(args) => commands::snapshot::run(args, cx),
        Command::Verify(args) => commands::verify::run(args, cx),
        Command::Restore(args) => commands::restore::run(args, cx),
        Command::Drill(args) => commands::drill::run(args, cx),
        Command::List(args) => commands::list::run(args, cx),
        Command::Inspect(args) => commands::inspect::run(args, cx),
        Command::Keys(args) => commands::keys::run(args, cx),
        Command::PutKeys(args) => commands::put_keys::run(args, cx),
        Command::Diff(args) => commands::diff::run(args, cx),
        Command::ExplainLog(args) => commands::explain_log::run(args, cx),
        Command::Rewind(args) => commands::rewind::run(args, cx),
        Command::Copy(args) => commands::copy::run(args, cx),
        Command::Downgrade(args) => commands::downgrade::run(args, cx),
        Command::Preflight(args) => commands::preflight::run(args, cx),
        Command::Status(args) => commands::status::run(args, cx),
        Command::Prune(args) => commands::prune::run(args, cx),
        Command::Schedule(args) => commands::schedule::run(args, cx),
        Command::Completions(args) => {
            commands::completions::run(args, Args::command(), cx);
            Ok(())
        }
        Command::Man(args) => commands::man::run(args, Args::command(), cx),
    }
}

/// The first SIGINT, SIGTERM or SIGHUP asks the work to stop and clean up; a second one ends the process.
/// SIGXFSZ is caught.
fn watch_signals(interrupt: &Interrupt) {
    // A write beyond a file size limit then fails with an error, as on a full disk.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let asked = Arc::new(AtomicBool::new(false));
    for (signal, kind) in crate::cli::error::SIGNALS {
        // Under `nohup` it continues without a terminal.
        if signal == SIGHUP && is_ignored(signal) {
            continue;
        }
        let code = kind.exit_code().into();
        // If the handler cannot be set, the signal ends the process without cleaning up, which is safe.
        let _ = flag::register_conditional_shutdown(signal, code, asked.clone());
        let _ = flag::register(signal, asked.clone());
        let _ = flag::register_usize(signal, interrupt.flag(), signal.cast_unsigned() as usize);
    }
}

fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signals are counted from 1.
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Raises the limit of open files: a capture holds every file of a member open, which may be more than 1024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // If it cannot be raised, the usual limit is used.
    let _ = setrlimit(Resource::Nofile, wanted);
}
