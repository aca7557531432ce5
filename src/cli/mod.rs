//! The command line: arguments in, a deed done, text or JSON and an exit code out.

pub(crate) mod args;
pub(crate) mod commands;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod encryption;
pub(crate) mod error;
pub(crate) mod flags;
pub(crate) mod global;
pub(crate) mod help;
pub(crate) mod json;
pub(crate) mod location;
pub(crate) mod metrics;
pub(crate) mod open;
pub(crate) mod output;
pub(crate) mod progress;
#[cfg(test)]
mod reference;
pub(crate) mod render;
pub(crate) mod values;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::interrupt::Interrupt;
use clap::CommandFactory;
use signal_hook::consts::{SIGHUP, SIGXFSZ};
use signal_hook::flag;

use crate::cli::args::{Args, Command, misread};
use crate::cli::error::{CliError, Kind};
use crate::cli::metrics::Record;
use crate::cli::open::Places;
use crate::cli::output::Out;

/// Exit code for a deed done whose warnings count under `--strict`.
const DONE_WITH_WARNINGS: u8 = 5;

/// Runs the command that the process was started with and gives its exit code.
pub fn main() -> u8 {
    if let Some(code) = crate::drill::server::stand_in(std::env::args_os()) {
        return code;
    }
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => return misread(error),
    };
    let out = Out::new(&args.global);
    raise_file_limit();
    let interrupt = Interrupt::default();
    watch_signals(&interrupt);
    let places = Places::new(&interrupt, &args.global.identity);
    let strict = args.global.strict;
    let record = Record::begin(args.command.metrics());
    let outcome = match &args.command {
        Command::Snapshot(args) => {
            crate::cli::commands::snapshot::run(args, &places, &out, &record)
        }
        Command::Verify(args) => crate::cli::commands::verify::run(args, &places, &out),
        Command::Restore(args) => {
            crate::cli::commands::restore::run(args, &places, &out, &interrupt)
        }
        Command::Drill(args) => crate::cli::commands::drill::run(args, &places, &out, &record),
        Command::List(args) => crate::cli::commands::list::run(args, &places, &out),
        Command::Inspect(args) => {
            crate::cli::commands::inspect::run(args, &places, &out, &interrupt)
        }
        Command::Keys(args) => crate::cli::commands::keys::run(args, &places, &out, &interrupt),
        Command::PutKeys(args) => crate::cli::commands::put_keys::run(args, &places, &out),
        Command::Diff(args) => crate::cli::commands::diff::run(args, &places, &out, &interrupt),
        Command::ExplainLog(args) => crate::cli::commands::explain_log::run(args, &out, &interrupt),
        Command::Rewind(args) => crate::cli::commands::rewind::run(args, &places, &out, &interrupt),
        Command::Copy(args) => crate::cli::commands::copy::run(args, &places, &out, &interrupt),
        Command::Downgrade(args) => {
            crate::cli::commands::downgrade::run(args, strict, &places, &out)
        }
        Command::Preflight(args) => crate::cli::commands::preflight::run(args, &places, &out),
        Command::Status(args) => crate::cli::commands::status::run(args, &places, &out),
        Command::Prune(args) => crate::cli::commands::prune::run(args, &places, &out, &record),
        Command::Schedule(args) => crate::cli::commands::schedule::run(args, &places, &out),
        Command::Completions(args) => Ok(crate::cli::commands::completions::run(
            args,
            Args::command(),
            &out,
        )),
        Command::Man(args) => crate::cli::commands::man::run(args, Args::command(), &out),
    };
    let ended = match outcome {
        Ok(_) if out.lost_output() => Err(CliError::new(
            Kind::Failed,
            "done, but stdout could not be written to",
        )
        .hint("`etcd-ark list` and `etcd-ark inspect` show how things stand")),
        Ok(0) if out.warned() && strict => Ok(DONE_WITH_WARNINGS),
        Ok(code) => Ok(code),
        Err(error) => Err(error
            .stopped_by(interrupt.signal())
            .of_spool(args.command.spool_dir().as_deref())),
    };
    match record.end(ended) {
        Ok(code) => code,
        Err(failure) => {
            out.failure(&failure);
            failure.kind.exit_code()
        }
    }
}

/// The first SIGINT, SIGTERM or SIGHUP asks the work to stop and clean up; a second one ends it.
/// SIGXFSZ does not end it.
fn watch_signals(interrupt: &Interrupt) {
    // Beyond a limit on the size of files the write then fails and is told, as on a full disk.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let asked = Arc::new(AtomicBool::new(false));
    for (signal, kind) in crate::cli::error::SIGNALS {
        // Whoever started it with `nohup` wants it to go on without a terminal.
        if signal == SIGHUP && is_ignored(signal) {
            continue;
        }
        let code = kind.exit_code().into();
        // Without a handler the signal ends the process, which loses nothing but tidiness.
        let _ = flag::register_conditional_shutdown(signal, code, asked.clone());
        let _ = flag::register(signal, asked.clone());
        let _ = flag::register_usize(signal, interrupt.flag(), signal.cast_unsigned() as usize);
    }
}

/// Whether the process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signals are counted from 1.
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A capture holds every file of a member open, and there may be more than 1024 of them.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it cannot be raised the usual limit must do.
    let _ = setrlimit(Resource::Nofile, wanted);
}
