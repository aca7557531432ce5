//! The classes of messages during an upgrade from 2.1 to 2.2. Expected are those that etcd's upgrade guide
//! shows, and others that an upgrade causes.

use crate::upgrade::explain_log::Verdict::{Expected, NotKnown, Routine, WorthALook};
use crate::upgrade::explain_log::{Class, Verdict};

pub(crate) const PEER_AWAY: Class = class(
    "peer-away",
    Expected,
    "A member that was stopped cannot be reached until it runs again. The guide calls this normal, for one member at a time.",
);
pub(crate) const PEER_AWAY_LONG: Class = class(
    "peer-away-long",
    WorthALook,
    "This member has been away for more than five minutes: does it run? Look at its own log before the next one is stopped.",
);
pub(crate) const TWO_PEERS_AWAY: Class = class(
    "two-peers-away",
    WorthALook,
    "Two members are away at the same time. The guide stops one at a time; a cluster of three takes no writes now.",
);
pub(crate) const OWN_STOP: Class = class(
    "own-stop",
    Expected,
    "This member is being stopped and closes its connections.",
);
pub(crate) const CONNECTED: Class = class("connected", Routine, "A member can be reached again.");
pub(crate) const STARTED: Class = class("started", Expected, "This member starts.");
pub(crate) const STOPPED: Class = class(
    "stopped",
    Expected,
    "This member was told to stop, as each is before its binary is changed.",
);
pub(crate) const PUBLISHED: Class = class(
    "published",
    Expected,
    "This member serves, and has told the cluster where clients reach it. Once the cluster is healthy, the next one can follow.",
);
pub(crate) const NEW_MEMBER: Class = class(
    "new-member",
    Expected,
    "This member started with an empty data dir. Right for a new cluster and for a member just added; never for one that is upgraded.",
);
pub(crate) const EMPTY_AGAIN: Class = class(
    "empty-again",
    WorthALook,
    "This member had data, and has now started with an empty data dir. Stop it: `--data-dir` is another one than before, or it is 2.1, which has no `--wal-dir` and starts empty beside the data.",
);
pub(crate) const ELECTION: Class = class(
    "election",
    Expected,
    "The members elect a leader, as they do whenever the leader is stopped. It takes a second or two.",
);
pub(crate) const ELECTION_STORM: Class = class(
    "election-storm",
    WorthALook,
    "The fifth election within a minute: a majority cannot be reached, or disks or network are too slow for the heartbeat. Do not stop another member.",
);
pub(crate) const NO_HEALTH_CHECK: Class = class(
    "no-health-check",
    Expected,
    "2.1 has no health check, so that a 2.2 member takes every 2.1 peer for unhealthy. It ends with the last member's upgrade.",
);
pub(crate) const UNHEALTHY: Class = class(
    "unhealthy",
    WorthALook,
    "All members run 2.2 by now, so that this is no longer for want of a health check: that member does not answer.",
);
pub(crate) const CLUSTER_VERSION: Class = class(
    "cluster-version",
    Expected,
    "All members run 2.2, and the cluster has moved to it. The upgrade is done; from here no 2.1 may run on this data.",
);
pub(crate) const BUFFER_FULL: Class = class(
    "buffer-full",
    WorthALook,
    "Messages to or from a member that is connected were dropped: the network or that member is too slow.",
);
pub(crate) const PANIC: Class = class(
    "panic",
    WorthALook,
    "etcd ended by itself. The lines before this one say why. Keep its data dir as it is; `etcd-ark verify` checks it.",
);
pub(crate) const STACK_TRACE: Class =
    class("stack-trace", Routine, "This belongs to the panic above.");
pub(crate) const GRAVE: Class = class(
    "grave",
    WorthALook,
    "etcd holds this to be a warning or worse, and it is not one of the lines that this upgrade brings along.",
);
pub(crate) const NOT_KNOWN: Class = class("not-known", NotKnown, "No rule knows this line.");

const fn class(name: &'static str, verdict: Verdict, why: &'static str) -> Class {
    Class { name, verdict, why }
}
