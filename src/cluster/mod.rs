//! A running cluster, asked over HTTP: who the members are, what each says, and whether that is
//! current.
//!
//! In: an [`Access`] and the members already known from a data dir or an archive. Out: a [`Look`]:
//! one [`MemberLook`] for every member that anyone knows of, each asked at the same time, so that
//! one which hangs costs one timeout and not one each; or, where only that matters, who is there at
//! all: a [`Presence`] each. Only [`keys`] writes to a cluster.
//! Source: formats page §8.

mod certificate;
pub mod connector;
pub mod fan_out;
pub mod http;
pub mod keys;
pub mod presence;
pub mod probe;
pub mod response;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::etcd::digest::Digest;
use crate::etcd::ids::{ClusterId, ClusterVersion, Index, MemberId, Term};
use crate::etcd::membership::Member;

pub use crate::cluster::http::Cluster;
#[cfg(feature = "object-store")]
pub(crate) use crate::cluster::http::system_tls;
pub use crate::cluster::presence::Presence;

/// Where a member says who it is.
const OWN: &str = "/v2/stats/self";
/// Where a member says who the members are.
const MEMBERS: &str = "/v2/members";

/// How to reach a cluster.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Client URLs to begin from, such as `http://127.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// Certificates, in PEM, of those who may vouch for a server; the system's if there is none.
    pub ca_cert: Option<PathBuf>,
    /// The SHA-256 of the servers' certificates, in DER; any other is refused, and these are taken
    /// whatever vouches for them. None by default.
    pub pins: Vec<Digest>,
    /// This client's certificate and key, in PEM.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    pub user: Option<User>,
    /// How long one server may take for all it is asked, from the first attempt to connect.
    pub timeout: Duration,
}

/// A user of etcd's auth.
#[derive(Clone)]
pub struct User {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why no one can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("`{path}` is not a valid {what} in PEM")]
    Pem { path: PathBuf, what: &'static str },
    #[error("the key in `{key}` does not belong to the certificate in `{cert}`")]
    KeyMismatch { cert: PathBuf, key: PathBuf },
    #[error("the key in `{key}` cannot be used: {why}")]
    Key { key: PathBuf, why: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("`{0}` is not a valid endpoint URL")]
    Endpoint(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What was found when a cluster was asked.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The cluster's id, as the first member that answered has it, or as it was expected.
    pub cluster_id: Option<ClusterId>,
    /// Every member that is known of, by id.
    pub members: Vec<MemberLook>,
    /// Endpoints that led to no member of this cluster.
    pub strays: Vec<Stray>,
}

/// An endpoint that led to no member of the cluster in question.
#[derive(Clone, Debug)]
pub struct Stray {
    pub endpoint: String,
    pub silence: Silence,
}

/// One member and what it said.
#[derive(Clone, Debug)]
pub struct MemberLook {
    /// The member, as the cluster itself tells, or else the files.
    pub member: Member,
    /// Whether a running member named it, and not only files: the cluster's own present word.
    pub named_by_cluster: bool,
    pub said: Result<Said, Silence>,
}

/// What a member answered.
#[derive(Clone, Debug)]
pub struct Said {
    pub url: String,
    /// The version of its binary, such as 2.1.3.
    pub server_version: semver::Version,
    pub cluster_version: SaidVersion,
    /// `/health`; none where it could not be asked.
    pub healthy: Option<bool>,
    /// Its role and whom it follows; none where `/v2/stats/self` could not be asked.
    pub role: Option<Role>,
    /// Whether it answered a quorum read, which makes what it said current.
    pub quorum_read: Result<Applied, Silence>,
    /// The members' ids that it knows of; none where it could not be asked.
    pub members: Option<Vec<MemberId>>,
}

/// A member's word on the cluster version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaidVersion {
    /// 2.0 has none.
    Unknown20,
    /// `not_decided`: no one has written it yet.
    NotDecided,
    Is(ClusterVersion),
}

/// What a member is to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub leads: bool,
    /// The member that it takes for the leader, if any.
    pub leader: Option<MemberId>,
}

/// How far a member has come, from the headers of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// `X-Raft-Index`; 0 right after a restart.
    pub raft_index: Index,
    /// `X-Raft-Term`.
    pub raft_term: Term,
    /// `X-Etcd-Index`.
    pub etcd_index: u64,
}

/// Why there is no answer. Every one of them names the URL that was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    #[error("it has not told the cluster where clients reach it")]
    NoClientUrl,
    /// No one listens, or the host cannot be reached or resolved.
    #[error("{url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    /// Someone listens and does not answer in time.
    #[error("{url} did not answer within {} s", .after.as_secs_f32())]
    TooSlow { url: String, after: Duration },
    #[error("{url}: TLS handshake failed: {why}")]
    Tls { url: String, why: String },
    /// It wants to know who asks (401, or 403).
    #[error("{url}: authentication failed (wrong user or password, or a user who may not do this)")]
    NotAllowed { url: String },
    #[error("{url} answered with status {status}: {message}")]
    Refused {
        url: String,
        /// HTTP's status.
        status: u16,
        /// What it says, shortened.
        message: String,
    },
    #[error("{url}: not a valid etcd 2.x response: {why}")]
    Rubbish { url: String, why: String },
    #[error("{url} belongs to another cluster, {found}")]
    OtherCluster { url: String, found: ClusterId },
    #[error("at {url} another member answers, {found}")]
    OtherMember { url: String, found: MemberId },
}

impl Silence {
    /// Whether someone is there, although there is no answer to work with.
    pub fn is_reached(&self) -> bool {
        !matches!(self, Self::NoClientUrl | Self::Unreachable { .. })
    }
}
