//! Exit codes and hints for errors of the commands around an upgrade.

use crate::cluster::AccessError;
use crate::upgrade::downgrade::collect::CollectError;
use crate::upgrade::downgrade::move_wal::MoveError;
use crate::upgrade::downgrade::prepare::PrepareError;

use crate::cli::error::{
    CliError, Judge, Kind, STOP_FIRST, busy, corrupt, interrupted, of_space, refused, usage,
};

impl Judge for CollectError {
    fn judge(&self) -> CliError {
        match self {
            Self::Store(error) => error.judge(),
            Self::OtherCluster { .. } => {
                refused("pass the data dir, the archives and the endpoints of one cluster")
            }
            Self::EtcdctlBackup(_) => refused("pass the data dir that etcd was started with"),
            Self::NotAMember { .. } => refused(
                "a removed member does not come back with its old data; look at the others' data dirs instead",
            ),
        }
    }
}

impl Judge for PrepareError {
    fn judge(&self) -> CliError {
        match self {
            Self::Capture(error) => error.judge(),
            Self::Store(error) => error.judge(),
            Self::Move(error) => error.judge(),
            Self::Io(error) => error.judge(),
            Self::Interrupted(error) => error.judge(),
        }
    }
}

impl Judge for MoveError {
    fn judge(&self) -> CliError {
        match self {
            Self::DataDir(error) => error.judge(),
            Self::Survey(error) => error.judge(),
            Self::Running(_) => busy(STOP_FIRST),
            Self::InTheWay(_) => refused(
                "nothing was changed; see what is in it, and move it away if etcd does not need it",
            ),
            Self::Space(error) => of_space(
                error,
                "nothing was moved; free some space for a second copy of the segments",
            ),
            Self::ReadBack(_) => corrupt(
                "the disk returned different bytes than were written to it; the segments are where they were",
            ),
            Self::Io(error) => {
                let judged = error.judge();
                let hint = "run it again: it continues from the step at which it was killed";
                let hint = judged.hint.or(Some(hint.into()));
                CliError { hint, ..judged }
            }
            Self::Interrupted(_) => interrupted("run it again to go on"),
        }
    }
}

impl Judge for AccessError {
    fn judge(&self) -> CliError {
        match self {
            Self::Pem { .. } => {
                usage("`--cacert`, `--cert` and `--key` each name a PEM file, as for etcdctl")
            }
            Self::KeyMismatch { .. } => {
                usage("pass with `--key` the key that the certificate of `--cert` was made for")
            }
            Self::Key { .. } => usage(
                "pass a client certificate with an RSA key of 2048 bits or more, or with an ECDSA key, of the same authority",
            ),
            Self::Tls(_) => Kind::Failed.error(""),
            Self::Endpoint(_) => usage(
                "an endpoint is a member's client URL without a path, such as http://10.0.1.10:2379",
            ),
            Self::Io(error) => error.judge(),
        }
    }
}
