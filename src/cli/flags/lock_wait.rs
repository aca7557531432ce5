//! The lock on a backup dir: how long a run waits for it, and its line in the lock file.

use std::path::Path;
use std::time::Duration;

use crate::repository::lock::{BackupLock, LockRequest};
use crate::text::utc;
use jiff::SignedDuration;

use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::values::duration_or_zero;

/// The warning if the filesystem does not support locks.
pub(crate) const UNLOCKED: &str = "the filesystem of the backup dir does not support locks: another run could have worked on it at the same time";

/// For the commands that change a backup dir.
#[derive(Debug, clap::Args)]
pub(crate) struct LockWait {
    /// How long to wait for another run on the same backup dir, e.g. 10m
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration_or_zero, env = "ETCD_ARK_LOCK_WAIT")]
    lock_wait: SignedDuration,
}

impl LockWait {
    /// Takes the lock on `dir` for `command`; warns if the filesystem has none.
    pub(crate) fn take(
        &self,
        dir: Option<&Path>,
        command: &str,
        cx: &Context<'_>,
    ) -> Result<Option<BackupLock>> {
        let take = |dir| BackupLock::take(dir, &self.claim(command), cx.interrupt);
        let lock = dir.map(take).transpose()?;
        if lock.as_ref().is_some_and(|lock| !lock.keeps_others_out()) {
            cx.out.warn(UNLOCKED);
        }
        Ok(lock)
    }

    pub(crate) fn claim(&self, command: &str) -> LockRequest {
        claim(command, self.lock_wait.unsigned_abs())
    }
}

/// The lock for `command`, which waits for `wait`.
pub(crate) fn claim(command: &str, wait: Duration) -> LockRequest {
    let host = rustix::system::uname();
    let holder = format!(
        "`etcd-ark {command}`, process {} on {}, since {}",
        std::process::id(),
        host.nodename().to_string_lossy(),
        utc(crate::clock::now()),
    );
    LockRequest { holder, wait }
}
