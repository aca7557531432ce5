//! Messages that an upgrade brings along or that etcd writes at any time, and those that are told
//! from them by a word only.

use crate::upgrade::explain_log::Verdict::{Expected, Routine, WorthALook};
use crate::upgrade::explain_log::classes::{
    BUFFER_FULL, CLUSTER_VERSION, CONNECTED, ELECTION, NEW_MEMBER, NO_HEALTH_CHECK, OWN_STOP,
    PEER_AWAY, PUBLISHED, Rule, STARTED, STOPPED, class,
};

/// Of what goes on.
pub(crate) const RULES: &[Rule] = &[
    (BUFFER_FULL, &["dropped *buffer is full"]),
    (
        class(
            "request-lost",
            Expected,
            "A client's request was under way when the leader stopped. It may have been done or not: the client has to look.",
        ),
        &["*request timed out, possibly due to previous leader failure"],
    ),
    (
        class(
            "no-quorum",
            WorthALook,
            "A request found no majority of the members in time. Do not stop another member.",
        ),
        &[
            "*request timed out",
            "publish error",
            "error updating cluster version",
            "* stepped down to follower since quorum is not active",
        ],
    ),
    (
        OWN_STOP,
        &[
            "aborting publish because server is stopped",
            "aborting update cluster version because server is stopped",
            "failed to process raft message (raft: stopped)",
            "failed to * on *request canceled",
            "failed to * on *context canceled",
            "failed to * on *(stream reader is stopped)",
        ],
    ),
    (
        PEER_AWAY,
        &[
            "failed to dial * on ",
            "failed to write * on ",
            "failed to read * on ",
            "failed to heartbeat * on ",
            "failed to reach the peerURL(",
            "cannot get the version of member ",
            "the connection with * became inactive",
            "peer * became inactive",
            "lost the TCP streaming connection",
        ],
    ),
    (
        CONNECTED,
        &[
            "the connection with * became active",
            "peer * became active",
            "established a TCP streaming connection",
            "closed an existing TCP streaming connection",
            "starting peer ",
            "started peer ",
            "started HTTP pipelining",
            "started streaming",
            "added peer ",
        ],
    ),
    (
        class(
            "higher-version",
            Expected,
            "This member still runs 2.1 and sees one that runs 2.2. It ends with this member's own upgrade.",
        ),
        &[
            "the etcd version 2.1.*is not up-to-date",
            "member * has a higher version &{2.2.",
        ],
    ),
    (
        class(
            "later-release",
            WorthALook,
            "Some member runs a later release than this upgrade is for. Give all of them the same 2.2 release.",
        ),
        &[
            "the local etcd version * is not up-to-date",
            "the etcd version * is not up-to-date",
            "member * has a higher version ",
        ],
    ),
    (
        NO_HEALTH_CHECK,
        &[
            "the connection to peer * is unhealthy",
            "health check for peer * could not connect",
        ],
    ),
    (
        CLUSTER_VERSION,
        &[
            "updating the cluster version from 2.1 to 2.2",
            "updated the cluster version from 2.1 to 2.2",
        ],
    ),
    (
        class(
            "initial-version",
            Routine,
            "The cluster agrees on its version.",
        ),
        &[
            "setting up the initial cluster version",
            "set the initial cluster version",
            "updating the cluster version from ",
            "updated the cluster version from ",
        ],
    ),
    (PUBLISHED, &["published {"]),
    (
        STOPPED,
        &[
            "received terminated signal",
            "received interrupt signal",
            "received hangup signal",
        ],
    ),
    (NEW_MEMBER, &["starting member ", "start member "]),
    (
        STARTED,
        &[
            "etcd Version: ",
            "the server is already initialized as ",
            "restarting member ",
            "restart member ",
            "recovered store from snapshot at index",
            "recovering from snapshot",
            "starting server... [",
        ],
    ),
    (
        ELECTION,
        &[
            "* is starting a new election at term ",
            "* became candidate at term ",
            "* received vote ",
            "* sent vote request to ",
            "* has received * votes and ",
            "* voted for ",
            "* rejected vote from ",
            "* became leader at term ",
            "* elected leader ",
            "* lost leader ",
            "* changed leader from ",
            "* message with higher term from ",
            "* message with lower term from ",
            "* no leader at term ",
        ],
    ),
    (
        class(
            "caught-up",
            Expected,
            "This member was behind by more than the leader keeps of its log, and was sent a whole raft snapshot.",
        ),
        &[
            "* starts to restore snapshot",
            "* restored progress of ",
            "* restored snapshot [",
            "* ignored snapshot [",
            "* fast-forwarded commit to snapshot",
            "raft applied incoming snapshot",
            "recovered from incoming snapshot",
        ],
    ),
    (
        class(
            "kept-beside",
            Expected,
            "Something lies beside `member`, such as what a restore has kept. etcd leaves it alone.",
        ),
        &[
            "found invalid file/dir ",
            "skipped unexpected non snapshot file ",
            "Unexpected non-snap file ",
            "ignored file ",
        ],
    ),
    (
        class("raft-snapshot", Routine, "Housekeeping of the log."),
        &[
            "start to snapshot (",
            "saved snapshot at index ",
            "compacted raft log at ",
            "segmented wal file ",
            "purged file ",
            "found conflict at index ",
            "set snapshot count to default",
        ],
    ),
    (
        class("members", Routine, "The members as recorded in the log."),
        &[
            "added member ",
            "added local member ",
            "update member ",
            "update local member ",
            "updated member ",
        ],
    ),
    (
        class("auth", Routine, "Users and roles; nothing of the upgrade."),
        &[
            "created user ",
            "created new role ",
            "created role ",
            "updated user ",
            "updated role ",
            "deleted user ",
            "deleted role ",
            "deleting user ",
            "deleting role ",
            "enabled auth",
            "disabled auth",
            "no guest role access found",
            "invalid access for ",
            "invalid password for user",
        ],
    ),
    (
        class("start-up", Routine, "What this member was started with."),
        &[
            "Git SHA: ",
            "Go Version: ",
            "Go OS/Arch: ",
            "setting maximum number of CPUs",
            "listening for ",
            "stopping listening for ",
            "name = ",
            "data dir = ",
            "member dir = ",
            "dedicated WAL dir = ",
            "heartbeat = ",
            "election = ",
            "snapshot count = ",
            "advertise client URLs = ",
            "initial advertise peer URLs = ",
            "initial cluster = ",
            "discovery URL",
            "discovery proxy",
            "cors = ",
            "peerTLS: ",
            "clientTLS: ",
            "loaded cluster information from store",
            "datadir is valid for ",
            "recognized environment variable",
            "recognized and used environment variable",
            "resolving ",
            "newRaft ",
            "* became follower at term ",
            "cannot monitor file descriptor usage",
            "discovery token ignored",
            "using peer urls ",
        ],
    ),
    (
        class("unit", Routine, "The unit starts or stops."),
        &[
            "Started ",
            "Starting ",
            "Stopped ",
            "Stopping ",
            "*: Succeeded.",
            "*: Deactivated successfully",
        ],
    ),
];
