//! What an encrypted archive still says to everybody: the `.json` beside it.
//!
//! In and out: JSON. It holds what lists, retention and monitoring need, and the digest of the
//! encrypted bytes; no members, no URLs, no names of files. Nothing proves what it says but the
//! archive itself, to who can open it: then [`Sidecar::check_manifest`] holds it against that.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::{Format, Manifest, Scope, Sizes};
use crate::ground::digest::Digest;
use crate::ground::ids::ClusterVersion;
use crate::language::member::{Identity, Position};

/// The format this release writes and the highest major version it reads.
const FORMAT: Format = Format { major: 1, minor: 0 };
/// No sidecar is longer, in bytes.
const LONGEST: usize = 64 << 10;

/// What is said of an encrypted archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// The version of the sidecar's format.
    pub format: Format,
    /// When the capture began.
    pub created: Timestamp,
    /// Whose data it holds.
    pub identity: Identity,
    /// How far its log goes.
    pub position: Position,
    /// The cluster version in force.
    pub cluster_version: Option<ClusterVersion>,
    /// A cluster version that is in its log and not known to be committed.
    pub pending_version: Option<ClusterVersion>,
    /// How much data the member had.
    pub sizes: Sizes,
    /// How much of the data dir is in it.
    pub scope: Scope,
    /// What the user called it.
    pub labels: Vec<String>,
    /// Whether a rewind made it.
    pub rewound: bool,
    /// The encrypted archive itself.
    pub ciphertext: Ciphertext,
}

/// An encrypted archive's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ciphertext {
    /// How many there are.
    pub bytes: u64,
    /// The digest of all of them.
    pub sha256: Digest,
}

/// What is wrong with a sidecar, or with the archive by what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SidecarFault {
    /// There is none.
    #[error("it is encrypted and has no sidecar, the same name with `.json` behind it")]
    Missing,
    /// It is no sidecar.
    #[error("its sidecar cannot be read: {0}")]
    Json(String),
    /// It is longer than any sidecar.
    #[error("its sidecar has {0} bytes; none has more than {LONGEST}")]
    TooLong(usize),
    /// A later release wrote it.
    #[error("its sidecar has format {}.{}, of a later release of etcd-ark than this one", .0.major, .0.minor)]
    LaterFormat(Format),
    /// The file has another size.
    #[error("it has {found} bytes; by its sidecar {listed} were written")]
    Size {
        /// By the sidecar.
        listed: u64,
        /// Of the file.
        found: u64,
    },
    /// The file has other bytes.
    #[error("its encrypted bytes do not match the SHA-256 in its sidecar")]
    Digest,
    /// The checksum file says something else.
    #[error("its checksum file and its sidecar hold different digests")]
    Sum,
    /// The archive says something else.
    #[error("its sidecar says something else of the {0} than the archive itself")]
    Differs(&'static str),
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: Format,
}

impl Sidecar {
    /// The sidecar of the archive with this manifest, encrypted to these bytes.
    pub fn of(manifest: &Manifest, ciphertext: Ciphertext) -> Self {
        let member = &manifest.member;
        Self {
            format: FORMAT,
            created: manifest.created,
            identity: member.identity.clone(),
            position: member.position.clone(),
            cluster_version: member.cluster_version.clone(),
            pending_version: member.pending_version().map(|v| v.version.clone()),
            sizes: manifest.sizes.clone(),
            scope: manifest.scope,
            labels: manifest.labels.clone(),
            rewound: manifest.rewind.is_some(),
            ciphertext,
        }
    }

    /// Reads and checks a sidecar.
    pub fn read(json: &[u8]) -> Result<Self, SidecarFault> {
        if json.len() > LONGEST {
            return Err(SidecarFault::TooLong(json.len()));
        }
        let unreadable = |error: serde_json::Error| SidecarFault::Json(error.to_string());
        let OnlyFormat { format } = serde_json::from_slice(json).map_err(unreadable)?;
        if format.major > FORMAT.major {
            return Err(SidecarFault::LaterFormat(format));
        }
        serde_json::from_slice(json).map_err(unreadable)
    }

    /// The bytes of the file, which [`Sidecar::read`] reads.
    pub fn write(&self) -> Result<Vec<u8>, SidecarFault> {
        let json = serde_json::to_vec_pretty(self);
        let mut json = json.map_err(|error| SidecarFault::Json(error.to_string()))?;
        json.push(b'\n');
        if json.len() > LONGEST {
            return Err(SidecarFault::TooLong(json.len()));
        }
        Ok(json)
    }

    /// Holds the size of the file against it.
    pub fn check_size(&self, found: u64) -> Result<(), SidecarFault> {
        let listed = self.ciphertext.bytes;
        if found == listed {
            Ok(())
        } else {
            Err(SidecarFault::Size { listed, found })
        }
    }

    /// Holds what the archive says of itself against it.
    pub fn check_manifest(&self, manifest: &Manifest) -> Result<(), SidecarFault> {
        let right = Self::of(manifest, self.ciphertext);
        let said = [
            ("time", self.created == right.created),
            ("member", self.identity == right.identity),
            ("position", self.position == right.position),
            (
                "cluster version",
                self.cluster_version == right.cluster_version
                    && self.pending_version == right.pending_version,
            ),
            ("sizes", self.sizes == right.sizes),
            ("scope", self.scope == right.scope),
            ("labels", self.labels == right.labels),
            ("origin", self.rewound == right.rewound),
        ];
        match said.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(SidecarFault::Differs(what)),
            None => Ok(()),
        }
    }
}
