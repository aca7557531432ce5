//! Exit codes and hints for errors of a restore.

use crate::restore::RestoreError;
use crate::restore::replaced::ReplacedError;
use crate::restore::stale_member::StaleMemberError;

use crate::cli::error::{
    CliError, Judge, Kind, STOP_FIRST, busy, corrupt, interrupted, not_found, of_space, refused,
    usage,
};

impl Judge for RestoreError {
    fn judge(&self) -> CliError {
        match self {
            Self::Archive(error) => error.judge(),
            Self::Io(error) => error.judge(),
            Self::Interrupted(_) => interrupted("nothing was changed"),
            Self::Unsound { .. } => {
                corrupt("nothing was changed; restore another archive, `etcd-ark list` shows them")
            }
            Self::Damaged { .. } => refused(
                "nothing was changed; restore a backup, `etcd-ark list` shows them, or pass --damaged to get the damaged files back",
            ),
            Self::DoesNotStart {
                cure: Some(cure), ..
            } => Kind::Refused.advice(format!(
                "nothing was changed; {cure}. Or pass --damaged to get the files back as they are"
            )),
            Self::DoesNotStart { cure: None, .. } => refused(
                "nothing was changed; restore another archive, `etcd-ark list` shows them, or pass --damaged to get the files back as they are",
            ),
            Self::Running(_) => busy(STOP_FIRST),
            Self::MemberExists(_) | Self::SegmentsExist(_) => refused(
                "nothing was changed; `--replace` replaces it atomically and keeps the old one under another name",
            ),
            Self::WalNowhere { .. } => refused(
                "nothing was changed; pass the --wal-dir that etcd was started with. Only if its WAL is lost for good: move `member` out of the way first",
            ),
            Self::WalElsewhere(_) => {
                refused("nothing was changed; pass the `--wal-dir` that etcd is started with")
            }
            Self::NotExchangeable { .. } | Self::CannotExchange(_) | Self::NotForAMember(_) => {
                refused(
                    "nothing was changed; restore into a new data dir and point etcd's `--data-dir` there",
                )
            }
            Self::InADataDir { data_dir, .. } => Kind::Usage.advice(format!(
                "nothing was changed; did you mean `{}`? `restore` makes `member` in it. If a new data dir itself is to be called `member`, make that directory first",
                data_dir.display()
            )),
            Self::CannotBeMade(_) => not_found("make that directory first"),
            Self::NotADirectory(_) => {
                usage("pass the path of a directory; `member` in it is one, too, if it is there")
            }
            Self::Space(error) => of_space(
                error,
                "nothing was changed; free some space, or restore into a data dir on another disk",
            ),
        }
    }
}

impl Judge for StaleMemberError {
    fn judge(&self) -> CliError {
        let hint = match self {
            Self::ClusterRuns { .. } => {
                "nothing was changed. Keep the current data if they are intact. If they are lost: `etcdctl member remove` and `member add`, then start with an empty data dir and `--initial-cluster-state existing`; to roll back the whole cluster use `etcd-ark rewind`; for a test cluster use `rewind --single`; to restore anyway: `--allow-stale-member`"
            }
            Self::OldClusterRuns { .. } => {
                "nothing was changed; stop every member of the old cluster for good before any of the rewound one starts; `--offline` skips the check, if you are sure that they are stopped"
            }
            Self::RewoundClusterRuns { .. } => {
                "nothing was changed; a member that has started in the rewound cluster keeps its data. If this one has not started yet: stop those that have, restore it, then start them all; to restore it beside them: `--allow-stale-member`"
            }
            Self::CannotBeAsked { rewound: false, .. } => {
                "nothing was changed; `--cacert`, `--cert` and `--key` may help to ask; if you know that no member of this cluster runs, `--offline` asks no member"
            }
            Self::CannotBeAsked { rewound: true, .. } => {
                "nothing was changed; `--cacert`, `--cert` and `--key` may help to ask; if you know that no member of the old cluster runs, `--offline` asks no member"
            }
        };
        refused(hint)
    }
}

impl Judge for ReplacedError {
    fn judge(&self) -> CliError {
        let hint = match self {
            Self::OtherMember { .. } => {
                "nothing was changed; choose the archive of this data dir's member. Only if this machine is to become the other member: `--change-member`"
            }
            Self::OtherCluster { .. } => {
                "nothing was changed; choose an archive of this data dir's cluster, `etcd-ark list` shows the cluster of each. Only if this machine is to leave its cluster, or what it holds was made by an earlier rewind of the same cluster: `--change-member`"
            }
            Self::HasRun { .. } | Self::HasVoted { .. } => {
                "nothing was changed; leave this member as it is, it is part of the rewound cluster. To give up its writes anyway: `--allow-stale-member`"
            }
            Self::Unclear { .. } => {
                "nothing was changed; if this data dir is of the old cluster, which is what a rewind replaces: `--allow-stale-member`. If it was restored from this rewind before and has run since, leave it as it is"
            }
            Self::MayHaveRun { .. } => {
                "nothing was changed; if it has not run since it was restored, or its writes are given up: `--allow-stale-member`. Another member of the rewound cluster holds them"
            }
        };
        refused(hint)
    }
}
