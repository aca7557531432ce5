//! A running cluster over HTTP: its members, what each reports, and whether that is
//! current.
//!
//! In: an [`Access`] and the members already known from a data dir or an archive. Out: a [`ClusterState`]:
//! one [`MemberState`] for every known member, all asked at the same time, so that several hanging
//! members cost one timeout; or, where that is enough, only whether they are there:
//! a [`Presence`] each. Only [`keys`] writes to a cluster.
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

/// The path with a member's own identity.
const OWN: &str = "/v2/stats/self";
/// The path with the list of members.
const MEMBERS: &str = "/v2/members";

#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Client URLs of endpoints, such as `http://127.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// CA certificates in PEM that may sign a server's; the system's if `None`.
    pub ca_cert: Option<PathBuf>,
    /// The SHA-256 of the servers' certificates, in DER: only these are accepted, with any
    /// signer. Empty by default.
    pub pins: Vec<Digest>,
    /// This client's certificate and key, in PEM.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    pub user: Option<User>,
    /// The time limit for all requests to one server, including the connection.
    pub timeout: Duration,
}

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

#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    /// The cluster's id, from the first member that answered, or the expected one.
    pub cluster_id: Option<ClusterId>,
    pub members: Vec<MemberState>,
    pub unknown_endpoints: Vec<UnknownEndpoint>,
}

impl ClusterState {
    /// A URL that answers for another cluster, and that cluster, if no member of this one answers.
    pub fn only_other_cluster(&self) -> Option<(&str, ClusterId)> {
        if self.members.iter().any(|member| member.said.is_ok()) {
            return None;
        }
        let endpoints = self.unknown_endpoints.iter().map(|stray| &stray.silence);
        let members = self.members.iter();
        let members = members.filter_map(|member| member.said.as_ref().err());
        endpoints.chain(members).find_map(|silence| match silence {
            ProbeError::OtherCluster { url, found } => Some((&**url, *found)),
            _ => None,
        })
    }
}

/// An endpoint that does not belong to a member of the cluster.
#[derive(Clone, Debug)]
pub struct UnknownEndpoint {
    pub endpoint: String,
    pub silence: ProbeError,
}

#[derive(Clone, Debug)]
pub struct MemberState {
    /// The member, from the cluster itself, or else from the files.
    pub member: Member,
    /// Whether a running member listed it, and not only files.
    pub named_by_cluster: bool,
    pub said: Result<MemberStatus, ProbeError>,
}

#[derive(Clone, Debug)]
pub struct MemberStatus {
    pub url: String,
    /// The version of its binary, such as 2.1.3.
    pub server_version: semver::Version,
    pub cluster_version: ReportedVersion,
    /// The answer of `/health`; `None` without an answer.
    pub healthy: Option<bool>,
    /// Its role and its leader; `None` without an answer of `/v2/stats/self`.
    pub role: Option<Role>,
    /// Whether it answered a quorum read, which makes its answers current.
    pub quorum_read: Result<Applied, ProbeError>,
    /// The ids of the members that it lists; `None` without an answer.
    pub members: Option<Vec<MemberId>>,
}

/// The cluster version that a member reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedVersion {
    /// 2.0 does not report one.
    Unknown20,
    /// `not_decided`: no version is written yet.
    NotDecided,
    Is(ClusterVersion),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub leads: bool,
    /// The member that it regards as the leader, if any.
    pub leader: Option<MemberId>,
}

/// The indexes in the headers of a member's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// `X-Raft-Index`; 0 right after a restart.
    pub raft_index: Index,
    /// `X-Raft-Term`.
    pub raft_term: Term,
    /// `X-Etcd-Index`.
    pub etcd_index: u64,
}

/// Why there is no answer. Each variant has the URL that was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("it has not told the cluster where clients reach it")]
    NoClientUrl,
    /// Nothing listens there, or the host cannot be reached or resolved.
    #[error("{url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    /// A server listens there, but does not answer in time.
    #[error("{url} did not answer within {} s", .after.as_secs_f32())]
    TooSlow { url: String, after: Duration },
    #[error("{url}: TLS handshake failed: {why}{}", not_tls(why))]
    Tls {
        url: String,
        why: String,
        /// Whether it may want a client certificate, or another one.
        wants_certificate: bool,
    },
    /// It answered before, and does not any more.
    #[error("the connection to {url} was lost")]
    Lost { url: String },
    /// None of the endpoints answered, each for its own reason.
    #[error("no endpoint answered: {}", listed(.each))]
    NoneAnswered { each: Vec<ProbeError> },
    /// It requires a user (401, or 403).
    #[error("{url}: authentication failed (wrong user or password, or a user who may not do this)")]
    NotAllowed { url: String },
    #[error("{url} answered with status {status}: {message}{}", not_client(*status))]
    Refused {
        url: String,
        status: u16,
        /// Its message, shortened.
        message: String,
    },
    #[error("{url}: not a valid etcd 2.x response: {why}")]
    Rubbish { url: String, why: String },
    #[error("{url} belongs to another cluster, {found}")]
    OtherCluster { url: String, found: ClusterId },
    #[error("at {url} another member answers, {found}")]
    OtherMember { url: String, found: MemberId },
}

/// What a server does that closes the connection before it answers in TLS, as etcd 2.x does on a plain port.
pub(crate) const HUNG_UP: &str = "it hung up during the handshake";

/// What the cause means if the server's first bytes are not TLS, or if it has none.
fn not_tls(why: &str) -> &'static str {
    if why.contains("InvalidContentType") {
        ": the server does not speak TLS there, pass its URL as `http://…`"
    } else if why == HUNG_UP {
        "; if it does not speak TLS there, pass its URL as `http://…`"
    } else {
        ""
    }
}

/// No path that is asked for is missing at a client URL.
fn not_client(status: u16) -> &'static str {
    if status == 404 {
        "; if that is a peer URL, pass the client URL"
    } else {
        ""
    }
}

fn listed(each: &[ProbeError]) -> String {
    let each: Vec<_> = each.iter().map(ToString::to_string).collect();
    each.join("; ")
}

impl ProbeError {
    /// Whether a client certificate, or another one, may be what is missing.
    pub fn wants_certificate(&self) -> bool {
        match self {
            Self::Tls {
                wants_certificate, ..
            } => *wants_certificate,
            Self::NoneAnswered { each } => each.iter().any(Self::wants_certificate),
            _ => false,
        }
    }

    /// Whether what is there may not speak TLS, or not this one.
    pub fn is_of_tls(&self) -> bool {
        match self {
            Self::Tls { .. } => true,
            Self::NoneAnswered { each } => each.iter().any(Self::is_of_tls),
            _ => false,
        }
    }

    /// Whether a server is there, although its answer cannot be used.
    pub fn is_reached(&self) -> bool {
        !matches!(self, Self::NoClientUrl | Self::Unreachable { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_kind_of_url_is_told() {
        let url = || "https://a:2380".to_owned();
        let why = "received corrupt message of type InvalidContentType".to_owned();
        for why in [why, HUNG_UP.to_owned()] {
            let tls = ProbeError::Tls {
                url: url(),
                why,
                wants_certificate: false,
            };
            assert!(tls.to_string().ends_with("pass its URL as `http://…`"));
        }
        let refused = |status| ProbeError::Refused {
            url: url(),
            status,
            message: "no".to_owned(),
        };
        assert!(refused(404).to_string().ends_with("pass the client URL"));
        assert!(refused(500).to_string().ends_with("500: no"));
    }
}
