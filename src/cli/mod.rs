//! The command line: arguments in, a deed done, text or JSON and an exit code out.

mod args;
mod completions;
mod connection;
mod contents;
mod deep;
mod diff;
mod downgrade;
mod explain_log;
mod failure;
mod inspect;
mod keys;
mod list;
mod man;
mod out;
mod picture;
mod preflight;
mod progress;
mod restore;
mod rewind;
mod schedule;
mod snapshot;
mod standings;
mod verify;
mod watch;

use etcd_ark::ground::interrupt::Interrupt;

use args::{Args, Command};
use failure::{Failure, Kind};
use out::Out;

/// Exit code for a deed done whose warnings count under `--strict`.
const DONE_WITH_WARNINGS: u8 = 5;

/// Runs the command that the process was started with and gives its exit code.
pub(crate) fn main() -> u8 {
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => return failure::usage(&error),
    };
    let out = Out::new(&args.global);
    raise_file_limit();
    let interrupt = Interrupt::default();
    watch_signals(&interrupt);
    let strict = args.global.strict;
    let outcome = match &args.command {
        Command::Snapshot(args) => snapshot::run(args, &out, &interrupt),
        Command::Verify(args) => verify::run(args, &out, &interrupt),
        Command::Restore(args) => restore::run(args, &out, &interrupt),
        Command::List(args) => list::run(args, &out),
        Command::Inspect(args) => inspect::run(args, &out, &interrupt),
        Command::Keys(args) => keys::run(args, &out, &interrupt),
        Command::Diff(args) => diff::run(args, &out, &interrupt),
        Command::ExplainLog(args) => explain_log::run(args, &out, &interrupt),
        Command::Rewind(args) => rewind::run(args, &out, &interrupt),
        Command::Downgrade(args) => downgrade::run(args, strict, &out, &interrupt),
        Command::Preflight(args) => preflight::run(args, &out, &interrupt),
        Command::Schedule(args) => schedule::run(args, &out),
        Command::Completions(args) => Ok(completions::run(args, &out)),
        Command::Man(args) => man::run(args, &out),
    };
    match outcome {
        Ok(_) if out.lost_output() => {
            let failure = Failure {
                kind: Kind::Failed,
                message: "the deed is done, but stdout could not be written to".to_owned(),
                hint: Some(
                    "`etcd-ark list` and `etcd-ark inspect` show how things stand".to_owned(),
                ),
            };
            out.failure(&failure);
            failure.kind.exit_code()
        }
        Ok(0) if out.warned() && strict => DONE_WITH_WARNINGS,
        Ok(code) => code,
        Err(error) => {
            let failure = Failure::of(&error);
            out.failure(&failure);
            failure.kind.exit_code()
        }
    }
}

/// The first SIGINT or SIGTERM asks the work to stop and clean up; a second one ends it.
fn watch_signals(interrupt: &Interrupt) {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let flag = interrupt.flag();
        // Without a handler the signal ends the process, which loses nothing but tidiness.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone());
        let _ = signal_hook::flag::register(signal, flag);
    }
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
