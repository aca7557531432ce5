//! The flags of `downgrade`.

use std::path::PathBuf;

use crate::etcd::ids::{NoRelease, Release, V2_1, V2_2};
use crate::upgrade::downgrade::evidence::{Ran, Step};
use clap::builder::BoolishValueParser;
use clap::{Subcommand, ValueHint};

use crate::cli::connection::Connection;
use crate::cli::error::{CliError, Result};
use crate::cli::flags::common::Threads;
use crate::cli::flags::destination::DestinationFlags;
use crate::cli::location::Location;

#[derive(Debug, clap::Args)]
pub(crate) struct Downgrade {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Downgrade {
    /// The spool directory of the safety snapshot, if it is used.
    pub(crate) fn used_spool(&self) -> Option<PathBuf> {
        match &self.command {
            Command::Check(_) => None,
            Command::Run(args) => args.to.used_spool(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Decide whether the cluster may still go back, with the evidence
    #[command(
        after_help = "Exits with 0 where going back is allowed, or there is nothing to go back from, and with 3 where it is \
        refused: the cluster has moved, is moving, or too little is known. Nothing is changed."
    )]
    Check(Check),
    /// Prepare this stopped member: check, safety snapshot, verification, next steps
    #[command(
        after_help = "The member's own data are good for the release to go back to and are kept: only the binary is \
        swapped, and not by this command."
    )]
    Run(GoBack),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Data dir of this machine's member (only read)
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gate: Gate,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GoBack {
    /// Data dir of this member
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) gate: Gate,
    #[command(flatten)]
    pub(crate) to: DestinationFlags,
    /// Move the segments of a dedicated WAL dir into member/wal
    ///
    /// etcd 2.1 looks nowhere else. The old ones are kept.
    #[arg(long, env = "ETCD_ARK_MOVE_WAL", value_parser = BoolishValueParser::new())]
    pub(crate) move_wal: bool,
    /// Take no snapshot and move no segments
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub(crate) dry_run: bool,
    /// How long to wait, in seconds, for a move that was begun before etcd was stopped
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = crate::cli::commands::downgrade::SETTLED_AFTER,
        hide = true,
        env = "ETCD_ARK_SETTLE"
    )]
    pub(crate) settle: u16,
}

/// What the gate looks at.
#[derive(Debug, clap::Args)]
pub(crate) struct Gate {
    /// Further archives and data dirs of the cluster's members
    #[arg(value_name = "TARGET", value_hint = ValueHint::AnyPath)]
    pub(crate) targets: Vec<Location>,
    /// Dedicated WAL dir, if etcd runs with --wal-dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Contact no member: you are sure that all are stopped
    ///
    /// The data dirs of a majority of the members, given as TARGETs, then decide; archives alone never
    /// allow. Members named by --endpoints are still contacted.
    #[arg(long, env = "ETCD_ARK_OFFLINE", value_parser = BoolishValueParser::new())]
    pub(crate) offline: bool,
    /// Release to go back from
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.2",
        env = "ETCD_ARK_DOWNGRADE_FROM"
    )]
    from: Release,
    /// Release to go back to
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.1",
        env = "ETCD_ARK_DOWNGRADE_TO"
    )]
    to: Release,
    /// Release that this stopped member ran, also as "$(etcd --version)" [default: --from is assumed]
    #[arg(long, value_name = "RELEASE", env = "ETCD_ARK_STOPPED_VERSION", value_parser = ran_release)]
    stopped_version: Option<Release>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// A release, or what its binary prints with `--version`.
fn ran_release(text: &str) -> Result<Release, NoRelease> {
    Release::printed(text).map_or_else(|| text.parse(), |(_, release)| Ok(release))
}

impl Gate {
    pub(crate) fn step(&self) -> Result<Step> {
        let (from, to) = (self.from, self.to);
        if from <= to {
            return Err(CliError::usage(format!(
                "going back from {from} to {to} is not a downgrade"
            ))
            .hint("--from is the release to leave, --to an earlier one"));
        }
        Ok(Step { from, to })
    }

    pub(crate) fn step_flags(&self) -> Vec<(&'static str, String)> {
        if (self.from, self.to) == (V2_2, V2_1) {
            return Vec::new();
        }
        vec![
            ("--from", self.from.to_string()),
            ("--to", self.to.to_string()),
        ]
    }

    pub(crate) fn ran(&self) -> Ran {
        Ran {
            release: self.stopped_version.unwrap_or(self.from),
            assumed: self.stopped_version.is_none(),
        }
    }
}
