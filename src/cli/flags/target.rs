//! The archive or data dir that a command reads.

use std::path::PathBuf;

use clap::ValueHint;

use crate::target::Target;

use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::flags::chosen::LatestFlags;
use crate::cli::flags::common::Threads;
use crate::cli::location::{Location, TargetName};

#[derive(Debug, clap::Args)]
pub(crate) struct TargetFlags {
    /// Archive or data dir; or part of its name, latest, latest:LABEL
    #[arg(value_name = "TARGET", value_hint = ValueHint::AnyPath)]
    pub(crate) target: TargetName,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Dedicated WAL dir of the data dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

impl TargetFlags {
    /// Opens the target; returns its place, too.
    pub(crate) fn open(&self, cx: &Context<'_>) -> Result<(Location, Target)> {
        let wal_dir = self.wal_dir.as_deref();
        let place = self.latest.search().resolve(&self.target, wal_dir, cx)?;
        let target = cx.places.target(&place, wal_dir)?;
        Ok((place, target))
    }
}
