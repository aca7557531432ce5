//! Pins archives from before a change of the cluster version: the only way back, kept forever.
//!
//! In: all archives of a group in the order of its log. Out: their reasons. Times are not used.

use crate::etcd::ids::ClusterVersion;
use crate::interrupt::Interrupted;
use crate::retention::Decision;
use crate::retention::proof::{Proof, Proofs};
use crate::retention::reason::Reason;

/// Pins the archives from before each change, and before one that is uncommitted in the newest valid archive's log.
pub(crate) fn pin(
    decisions: &mut [Decision<'_>],
    proofs: &mut Proofs<'_, '_>,
) -> Result<(), Interrupted> {
    let mut moves = moves(decisions);
    if let Some(newest) = newest_good(decisions, proofs, |_| true)? {
        let newest = decisions.get(newest).map(|decision| decision.summary);
        let announced = newest.and_then(|newest| newest.pending_version.clone());
        moves.extend(announced.map(|version| (decisions.len(), Some(version))));
    }
    for (at, version) in moves {
        let before = decisions.get_mut(..at).unwrap_or_default();
        let Some(newest) = newest_good(before, proofs, |_| true)? else {
            continue;
        };
        let has_it = |decision: &Decision<'_>| {
            let pending = decision.summary.pending_version.as_ref();
            version.is_some() && pending >= version.as_ref()
        };
        let has_it_already = before.get(newest).is_some_and(has_it);
        give(before, newest, version.as_ref(), false);
        if has_it_already
            && let Some(without) = newest_good(before, proofs, |decision| !has_it(decision))?
        {
            give(before, without, version.as_ref(), true);
        }
    }
    Ok(())
}

/// Where the cluster version changes, and its new value. A member that was restored from an old archive
/// may have gone back, even to none: the archives from before that are pinned too.
fn moves(decisions: &[Decision<'_>]) -> Vec<(usize, Option<ClusterVersion>)> {
    // The version in a damaged data dir proves nothing.
    let sound = decisions.iter().enumerate();
    let sound = sound.filter(|(_, decision)| !decision.summary.is_damaged());
    let versions = sound.map(|(at, d)| (at, d.summary.cluster_version.as_ref()));
    let pairs = versions.clone().zip(versions.skip(1));
    pairs
        .filter(|((_, before), (_, after))| before != after)
        .map(|(_, (at, after))| (at, after.cloned()))
        .collect()
}

fn newest_good(
    before: &[Decision<'_>],
    proofs: &mut Proofs<'_, '_>,
    wanted: impl Fn(&Decision<'_>) -> bool,
) -> Result<Option<usize>, Interrupted> {
    for (at, decision) in before.iter().enumerate().rev() {
        // A link's target may be removed.
        let summary = decision.summary;
        let leads_back = !summary.is_damaged() && summary.does_not_start.is_none();
        let counts = wanted(decision) && !summary.listed.is_link && leads_back;
        if counts && *proofs.of(decision.summary)? == Proof::Good {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn give(before: &mut [Decision<'_>], at: usize, version: Option<&ClusterVersion>, without: bool) {
    if let Some(decision) = before.get_mut(at) {
        decision.reasons.push(Reason::BeforeVersion {
            version: version.cloned(),
            without_it_in_the_log: without,
        });
    }
}
