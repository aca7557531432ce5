//! The parts of a command line that printed commands need, too.

use std::path::PathBuf;

use crate::upgrade::downgrade::evidence::Step;

use crate::cli::args::Command;
use crate::cli::commands::downgrade::flags::Command as Downgrade;
use crate::cli::flags::destination::DestinationFlags;
use crate::cli::flags::repository::BackupDir;
use crate::cli::flags::target::TargetFlags;
use crate::cli::location::TargetName;
use crate::cli::printed::Printed;

pub(crate) fn given(command: &Command, identities: &[PathBuf]) -> Printed {
    let none = Printed {
        identities: identities.to_vec(),
        ..Printed::default()
    };
    match command {
        Command::Verify(args) => {
            target(none, only(&args.targets), &args.backup_dir).wal_dir(args.wal_dir.as_deref())
        }
        Command::Restore(args) => target(none, Some(&args.archive), &args.latest.backup_dir),
        Command::Inspect(args) => of_target(none, &args.from),
        Command::Keys(args) => of_target(none, &args.from),
        Command::Drill(args) => of_target(none, &args.from),
        Command::PutKeys(args) => of_target(none, &args.from),
        Command::Diff(args) => target(none, None, &args.latest.backup_dir),
        Command::Rewind(args) => none.place(only(&args.targets)),
        Command::Snapshot(args) => {
            let args = &args.snapshot;
            let given = none.data_dir(Some(&args.data_dir));
            destination(given.wal_dir(args.wal_dir.as_deref()), &args.to)
        }
        Command::Preflight(args) => {
            let mut given = none
                .data_dir(args.data_dir.as_deref())
                .wal_dir(args.wal_dir.as_deref())
                .backup_dir(args.backup_dir.backup_dir.as_ref());
            given.connection = args.connection.flags();
            let (from, to) = (args.to, args.from);
            given.step = Some(Step { from, to });
            given
        }
        Command::Downgrade(args) => {
            let (gate, given) = match &args.command {
                Downgrade::Check(args) => (&args.gate, none.data_dir(args.data_dir.as_deref())),
                Downgrade::Run(args) => {
                    let given = none.data_dir(Some(&args.data_dir));
                    (&args.gate, destination(given, &args.to))
                }
            };
            let mut given = given.wal_dir(gate.wal_dir.as_deref());
            given.step = gate.step().ok();
            given.connection = gate.connection.flags();
            given
        }
        Command::Copy(args) => none.backup_dir(Some(&args.from)),
        Command::List(args) => none.backup_dir(args.repository.named()),
        Command::Prune(args) => none.backup_dir(args.repository.named()),
        Command::Status(args) => none.backup_dir(args.repository.named()),
        _ => none,
    }
}

/// With several targets it is not known here which one a hint is about.
fn only<T>(targets: &[T]) -> Option<&T> {
    match targets {
        [one] => Some(one),
        _ => None,
    }
}

fn target(given: Printed, target: Option<&TargetName>, backup_dir: &BackupDir) -> Printed {
    let place = target.and_then(|target| match target {
        TargetName::At(place) => Some(place),
        TargetName::Latest { .. } => None,
    });
    given
        .place(place)
        .backup_dir(backup_dir.backup_dir.as_ref())
}

fn of_target(given: Printed, from: &TargetFlags) -> Printed {
    let given = target(given, Some(&from.target), &from.latest.backup_dir);
    given.wal_dir(from.wal_dir.as_deref())
}

fn destination(mut given: Printed, to: &DestinationFlags) -> Printed {
    given.recipients = to.recipient_flags();
    given.backup_dir(to.backup_dir.backup_dir.as_ref())
}
