//! The gate's evidence and verdict as JSON, with the same content as the text.

use crate::cluster::ReportedVersion;
use crate::upgrade::downgrade::evidence::{DiskEvidence, DiskKind, MemberEvidence};
use crate::upgrade::downgrade::gate::{Claim, Ground, Source, Verdict};
use serde_json::{Value, json};

use crate::cli::commands::downgrade::left::Left;
use crate::cli::commands::downgrade::report::Judgement;
use crate::cli::json::{self, text};

impl Judgement<'_> {
    pub(crate) fn to_json(&self) -> Value {
        let (verdict, reason) = match &self.verdict {
            Verdict::Moved(_) => ("refused", "moved"),
            Verdict::Moving { .. } => ("refused", "moving"),
            Verdict::DoesNotStart(_) => ("refused", "does-not-start"),
            Verdict::Unknown(_) => ("refused", "unknown"),
            Verdict::AllowedWithWarning(..) if self.strict => ("refused", "warning"),
            Verdict::AllowedWithWarning(ground, _) => {
                ("allowed-with-warning", ground_name(*ground))
            }
            Verdict::Allowed(ground) => ("allowed", ground_name(*ground)),
            Verdict::NothingToGoBackFrom => ("nothing-to-go-back-from", "below"),
        };
        let claims = match &self.verdict {
            Verdict::Moved(claims) => claims.as_slice(),
            Verdict::Moving { pending, .. } => pending,
            _ => &[],
        };
        let evidence = self.evidence();
        let disks = &evidence.disks;
        json!({
            "from": evidence.step.from,
            "to": evidence.step.to,
            "offline": evidence.offline,
            "verdict": verdict,
            "reason": reason,
            "message": self.headline(),
            "details": self.reasons(),
            "said_by": claims.iter().map(|claim| claim_json(claim, disks)).collect::<Vec<_>>(),
            "left": self.left.as_ref().map(Left::to_json),
            "warnings": self.warnings(),
            "members": evidence.members.iter().map(member_json).collect::<Vec<_>>(),
            "disks": disks.iter().map(disk_json).collect::<Vec<_>>(),
            "endpoints_without_a_member": self.collected.unknown_endpoints.iter().map(|stray| json!({
                "endpoint": stray.endpoint, "no_answer": stray.silence.to_string(),
            })).collect::<Vec<_>>(),
            "unreadable": self.unreadable,
        })
    }
}

fn ground_name(ground: Ground) -> &'static str {
    match ground {
        Ground::OwnDataDir => "own-data-dir",
        Ground::QuorumRead => "quorum-read",
        Ground::Majority => "majority",
    }
}

fn claim_json(claim: &Claim, disks: &[DiskEvidence]) -> Value {
    let disk = match claim.source {
        Source::Disk(number) => disks.get(number),
        Source::Member(_) => None,
    };
    let member = match claim.source {
        Source::Member(id) => Some(id),
        Source::Disk(_) => disk.map(|disk| disk.identity.member_id),
    };
    json!({
        "member_id": member,
        "target": disk.map(|disk| text(&disk.path)),
        "version": claim.version,
        "set_at_raft_index": claim.set_at,
    })
}

fn member_json(known: &MemberEvidence) -> Value {
    let answer = known.answer.as_ref();
    json!({
        "id": known.member.id,
        "name": known.member.name,
        "url": answer.ok().map(|answer| &answer.url),
        "server_version": answer.ok().map(|answer| answer.server.to_string()),
        "cluster_version": answer.ok().map(|answer| said_json(&answer.cluster)),
        "quorum_read": answer.is_ok_and(|answer| answer.quorum_read.is_ok()),
        "raft_index": answer.ok().and_then(|answer| answer.quorum_read.as_ref().ok()),
        "no_quorum_read": answer.ok().and_then(|answer| answer.quorum_read.as_ref().err()).map(ToString::to_string),
        "no_answer": answer.err().map(ToString::to_string),
        "stopped_and_ran": known.stopped.map(|ran| ran.release),
        "release_is_assumed": known.release_is_assumed(),
    })
}

fn disk_json(disk: &DiskEvidence) -> Value {
    let kind = match disk.kind {
        DiskKind::Own { .. } => "own-data-dir",
        DiskKind::DataDir { .. } => "data-dir",
        DiskKind::Archive { .. } => "archive",
    };
    json!({
        "target": text(&disk.path),
        "kind": kind,
        "created_at": disk.created(),
        "running": disk.is_running(),
        "member": json::member(&disk.identity),
        "position": json::position(&disk.position),
        "cluster_version": disk.cluster_version,
        "versions": disk.versions.iter().map(|change| json!({
            "version": change.version,
            "set_at_raft_index": change.set_at,
            "committed": change.committed,
        })).collect::<Vec<_>>(),
    })
}

/// As in `/version`; 2.0 has none.
fn said_json(said: &ReportedVersion) -> Value {
    match said {
        ReportedVersion::Unknown20 => Value::Null,
        ReportedVersion::NotDecided => json!("not_decided"),
        ReportedVersion::Is(version) => json!(version),
    }
}
