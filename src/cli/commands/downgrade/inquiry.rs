//! Collects the gate's inputs: this member's data dir, the other targets, and the cluster.

use std::path::Path;

use crate::cluster::Cluster;
use crate::data_dir::DataDirError;
use crate::interrupt::Interrupt;
use crate::target::{StoreError, Target};
use crate::upgrade::downgrade::collect::{Collected, Disks, EvidenceRequest, ask, read};
use crate::upgrade::downgrade::evidence::Step;
use crate::upgrade::downgrade::move_wal::{self, Found};

use crate::cli::commands::downgrade::flags::Gate;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::open::Opener;

/// The data dir of this machine's member.
#[derive(Default)]
pub(super) struct Own {
    pub(super) found: Option<Found>,
    pub(super) target: Option<Target>,
    /// Why it cannot be used: it is missing, or cannot be read.
    pub(super) fault: Option<CliError>,
}

impl Own {
    /// Opens it, with its segments wherever they are. The gate reports a missing or damaged one first;
    /// only a path that is certainly wrong fails.
    pub(super) fn open(dir: &Path, wal_dir: Option<&Path>) -> Result<Self> {
        let listed = |found: Found| {
            // A directory that cannot be listed is not a data dir.
            found.data_dir().list()?;
            Ok(found)
        };
        match move_wal::find(dir, wal_dir).and_then(listed) {
            Ok(found) => Ok(Self {
                target: Some(Target::DataDir(found.data_dir().clone())),
                found: Some(found),
                fault: None,
            }),
            Err(
                error @ (DataDirError::NotFound(_)
                | DataDirError::NoWalDir(_)
                | DataDirError::Empty(_)
                | DataDirError::SegmentGap { .. }
                | DataDirError::BeginsLate { .. }),
            ) => Ok(Self {
                fault: Some(error.into()),
                ..Self::default()
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// The data dir, unless it is missing or turned out to be `unreadable`.
    pub(super) fn into_result(self, unreadable: Option<StoreError>) -> Result<Found> {
        let unreadable = unreadable.map(CliError::from);
        match (self.fault.or(unreadable), self.found) {
            (None, Some(found)) => Ok(found),
            (fault, _) => Err(fault.unwrap_or_else(|| Kind::Failed.error("no data dir is given"))),
        }
    }
}

pub(super) struct Inquiry<'g> {
    pub(super) gate: &'g Gate,
    pub(super) step: Step,
    pub(super) own: Option<Target>,
    pub(super) others: Vec<Target>,
    pub(super) cluster: Option<Cluster>,
}

impl<'g> Inquiry<'g> {
    /// Opens everything first, so that an error is reported before any member is asked.
    pub(super) fn open(
        gate: &'g Gate,
        step: Step,
        own: Option<Target>,
        places: &Opener<'_>,
    ) -> Result<Self> {
        let targets = gate.targets.iter().map(|path| places.target(path, None));
        let others = targets.collect::<Result<_, _>>()?;
        let asks = !gate.offline || gate.connection.is_given();
        let cluster = if asks {
            Some(Cluster::new(&gate.connection.access()?)?)
        } else {
            None
        };
        Ok(Self {
            gate,
            step,
            own,
            others,
            cluster,
        })
    }

    fn request(&self) -> EvidenceRequest<'_> {
        EvidenceRequest {
            step: self.step,
            own: self.own.as_ref(),
            others: &self.others,
            cluster: self.cluster.as_ref(),
            offline: self.gate.offline,
            ran: self.gate.ran(),
            threads: self.gate.threads.count(),
        }
    }

    pub(super) fn read(&self, cx: &Context<'_>) -> Result<Disks> {
        Ok(cx.watched(|observe| read(&self.request(), cx.interrupt, observe))?)
    }

    pub(super) fn ask(&self, disks: &Disks, interrupt: &Interrupt) -> Result<Collected> {
        let collected = ask(&self.request(), disks)?;
        interrupt.check()?;
        Ok(collected)
    }
}
