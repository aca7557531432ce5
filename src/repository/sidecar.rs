//! The unencrypted file beside an encrypted archive, by which it can be listed, monitored, pruned
//! and checked without a key.
//!
//! In and out: JSON. It has the cluster, the member, its position and versions, sizes, labels
//! and the ciphertext's SHA-256, but no URL, no file name and no key of the store. It is not
//! authenticated: opening the archive compares it with the manifest inside.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Manifest;
use crate::archive::manifest::{Scope, Sizes};
use crate::archive::warning::{Warning, WarningCode};
use crate::etcd::digest::Digest;
use crate::etcd::ids::{ClusterVersion, Identity, MemberId};
use crate::etcd::member::Position;
use crate::etcd::text::printable;
use crate::repository::{ArchiveRef, ArchiveSummary};

/// What follows an encrypted archive's name in the name of its sidecar.
pub const SIDECAR_EXTENSION: &str = ".json";
/// The format that this release writes, and the highest that it reads.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    format: u32,
    created: Timestamp,
    identity: Identity,
    position: Position,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_crc: Option<u32>,
    cluster_version: Option<ClusterVersion>,
    pending_version: Option<ClusterVersion>,
    members: Vec<MemberId>,
    sizes: Sizes,
    scope: Scope,
    labels: Vec<String>,
    rewound: bool,
    /// The number of lasting warnings in the manifest (their texts may name files); `None` in
    /// sidecars of releases that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warnings: Option<usize>,
    /// The code of each; `None` in sidecars of releases that only counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warning_codes: Option<Vec<WarningCode>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    does_not_start: bool,
    /// Bytes of the ciphertext.
    bytes: u64,
    sha256: Digest,
}

impl Sidecar {
    /// The sidecar of an archive with this manifest and a ciphertext of `bytes` bytes.
    pub fn of(manifest: &Manifest, bytes: u64, sha256: Digest) -> Self {
        let listed = ArchiveRef {
            name: String::new(),
            bytes,
            modified: None,
            is_link: false,
        };
        let summary = ArchiveSummary::of(listed, manifest);
        let codes = summary.warnings.iter().map(|warning| warning.code);
        let codes: Vec<_> = codes.filter(|code| !code.is_passing()).collect();
        Self {
            format: FORMAT,
            created: summary.created,
            identity: summary.identity,
            position: summary.position,
            log_crc: summary.log_crc,
            cluster_version: summary.cluster_version,
            pending_version: summary.pending_version,
            members: summary.members,
            sizes: summary.sizes,
            scope: summary.scope,
            labels: summary.labels,
            warnings: Some(codes.len()),
            warning_codes: Some(codes),
            does_not_start: summary.does_not_start.is_some(),
            rewound: summary.rewound,
            bytes,
            sha256,
        }
    }

    /// Parses a file's content; the error says why it cannot be used.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct OnlyFormat {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| error.to_string();
        let OnlyFormat { format } = serde_json::from_slice(json).map_err(unreadable)?;
        if format > FORMAT {
            return Err(format!(
                "it has format {format}, of a later release of etcd-ark"
            ));
        }
        let mut sidecar: Self = serde_json::from_slice(json).map_err(unreadable)?;
        for label in &mut sidecar.labels {
            *label = printable(label);
        }
        Ok(sidecar)
    }

    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Whether it agrees with the archive's manifest.
    pub fn is_of(&self, manifest: &Manifest) -> bool {
        let mut of = Self::of(manifest, self.bytes, self.sha256);
        if self.warnings.is_none() {
            of.warnings = None;
        }
        if self.warning_codes.is_none() {
            of.warning_codes = None;
        }
        *self == of
    }

    pub fn ciphertext(&self) -> (u64, Digest) {
        (self.bytes, self.sha256)
    }

    pub(crate) fn summary(self, listed: ArchiveRef) -> ArchiveSummary {
        ArchiveSummary {
            listed,
            created: self.created,
            identity: self.identity,
            position: self.position,
            log_crc: self.log_crc,
            cluster_version: self.cluster_version,
            pending_version: self.pending_version,
            sizes: self.sizes,
            scope: self.scope,
            labels: self.labels,
            warnings: told_inside(self.warnings.unwrap_or(0), self.warning_codes),
            does_not_start: self.does_not_start.then(|| {
                let read = "etcd-ark inspect --identity FILE ARCHIVE";
                format!("etcd does not start from it; `{read}` tells why, with a key")
            }),
            rewound: self.rewound,
            members: self.members,
            ciphertext: Some((self.bytes, self.sha256)),
        }
    }
}

/// Stand-ins for warnings with encrypted texts: one for each, with its code if that is known.
fn told_inside(count: usize, codes: Option<Vec<WarningCode>>) -> Vec<Warning> {
    let warnings = crate::text::count(count as u64, "warning", "warnings");
    let text = format!(
        "{warnings} of the capture can be read with a key: `etcd-ark inspect --identity FILE ARCHIVE`"
    );
    let mut codes = codes.unwrap_or_default();
    codes.dedup();
    match codes.as_slice() {
        _ if count == 0 => Vec::new(),
        [code] => vec![code.text(text)],
        _ => vec![WarningCode::Other.text(text)],
    }
}
