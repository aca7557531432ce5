//! What makes data start again from which no server starts.
//!
//! In: the verdicts. Out: a command, and what it does; for now only where the attributes of one that is not a
//! member keep servers from a start.

use crate::etcd::ids::Index;
use crate::etcd::start::reason::Reason;
use crate::etcd::start::{V2_0, Verdict, Verdicts};

/// What makes a cluster that starts, if the attributes of one that is not a member keep servers from it.
pub fn cure(verdicts: &Verdicts) -> Option<String> {
    let reasons = verdicts.iter().filter_map(|(line, verdict)| match verdict {
        Verdict::DoesNotStart(reason) => Some((*line, reason)),
        _ => None,
    });
    let mut never_a_member = reasons.clone().filter_map(|(line, reason)| match reason {
        // 2.0 says it of removed members, too.
        Reason::UnknownMember { index, .. } if line > V2_0 => {
            Some(Index(index.0.saturating_sub(1)))
        }
        _ => None,
    });
    if let Some(before) = never_a_member.next() {
        return Some(format!(
            "`etcd-ark rewind --to index:{before}` makes archives of a cluster that starts, with every key from before that entry"
        ));
    }
    let is_leftover =
        |reason: &Reason| matches!(reason, Reason::HalfMember(_) | Reason::UnknownMember { .. });
    reasons.clone().any(|(_, reason)| is_leftover(reason)).then(|| {
        "`etcd-ark rewind --to end` drops what the removed member left, and makes archives of a cluster that starts, with every key".to_owned()
    })
}
