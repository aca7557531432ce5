//! Retention: which archives of a repository are kept, and why.
//!
//! In: the [`ArchiveSummary`] of every archive, a [`Policy`], the time, and a function that verifies an archive.
//! Out: a [`Decision`] for each archive; one without a reason to be kept is removed. Nothing is read,
//! removed or timed here.
//!
//! Archives are grouped by cluster id and member id. Only those count that are valid,
//! not dated in the future, and have times in the same order as their log positions
//! ([`order`]); all others are kept and reported. So a bad archive or a wrong clock can keep more than
//! was asked for, and never less. Of equal archives one counts, and the others are kept or removed with it.
//! Whatever the policy, two are kept: the newest valid archive, and the newest valid one from before each
//! change of the cluster version ([`pins`]).
//!
//! A removal may change which archives are in order. A group is therefore decided again
//! until nothing more is to be removed: the run after this one finds nothing left to do.

pub mod order;
pub mod pins;
pub mod policy;
pub mod proof;
pub mod prune;
pub mod reason;
pub mod slots;
pub mod verified_cache;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::etcd::ids::{ClusterId, MemberId};
use crate::interrupt::Interrupted;
use crate::repository::ArchiveSummary;

pub(crate) use crate::retention::order::by_log;
pub use crate::retention::policy::{EmptyPolicy, Policy, RetentionRules};
pub use crate::retention::proof::Proof;
pub use crate::retention::reason::{Period, Reason};

use crate::retention::proof::Proofs;

/// How far ahead of this machine's clock an archive's time may be.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A member's archives, which compete for slots: never grouped by host or path, which change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
}

impl Group {
    pub fn of(summary: &ArchiveSummary) -> Self {
        Self {
            cluster_id: summary.identity.cluster_id,
            member_id: summary.identity.member_id,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Decision<'s> {
    pub summary: &'s ArchiveSummary,
    /// Why it is kept; it is removed if there is no reason.
    pub reasons: Vec<Reason>,
}

impl Decision<'_> {
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Verifies an archive; called at most once for each.
pub type Prove<'p> = dyn FnMut(&ArchiveSummary) -> Result<Proof, Interrupted> + 'p;

/// Decides about `summaries`, given in any order; newest first. One that is gone when it is
/// verified is left out. `now` is the time on this machine.
pub fn decide<'s>(
    summaries: &'s [ArchiveSummary],
    policy: &Policy,
    now: Timestamp,
    prove: &mut Prove<'_>,
) -> Result<Vec<Decision<'s>>, Interrupted> {
    let mut proofs = Proofs::new(prove);
    let mut groups: BTreeMap<Group, Vec<&ArchiveSummary>> = BTreeMap::new();
    for summary in summaries {
        groups.entry(Group::of(summary)).or_default().push(summary);
    }
    let mut decisions = Vec::new();
    for mut archives in groups.into_values() {
        archives.sort_by(|a, b| order::by_log(a, b));
        decisions.extend(decide_group(archives, policy, now, &mut proofs)?);
    }
    decisions.sort_by(|a, b| {
        let newest_first = b.summary.created.cmp(&a.summary.created);
        newest_first.then_with(|| a.summary.name().cmp(b.summary.name()))
    });
    Ok(decisions)
}

fn decide_group<'s>(
    mut archives: Vec<&'s ArchiveSummary>,
    policy: &Policy,
    now: Timestamp,
    proofs: &mut Proofs<'_, '_>,
) -> Result<Vec<Decision<'s>>, Interrupted> {
    let mut decisions = look(&archives, policy, now, proofs)?;
    loop {
        let kept: Vec<_> = decisions
            .iter()
            .filter(|decision| decision.is_kept())
            .collect();
        if kept.len() == archives.len() {
            return Ok(decisions);
        }
        archives = kept.into_iter().map(|decision| decision.summary).collect();
        for again in look(&archives, policy, now, proofs)? {
            // What is finally kept keeps the reasons of the first pass, which had all archives.
            let unwanted = |d: &&mut Decision<'_>| d.summary.name() == again.summary.name();
            if !again.is_kept()
                && let Some(decision) = decisions.iter_mut().find(unwanted)
            {
                decision.reasons.clear();
            }
        }
    }
}

/// One pass over a group, given in the order of its log.
fn look<'s>(
    archives: &[&'s ArchiveSummary],
    policy: &Policy,
    now: Timestamp,
    proofs: &mut Proofs<'_, '_>,
) -> Result<Vec<Decision<'s>>, Interrupted> {
    let (mut good, mut decisions) = (Vec::new(), Vec::new());
    for &summary in archives {
        let mut keep = |reason| {
            let reasons = vec![reason];
            decisions.push(Decision { summary, reasons });
        };
        match set_aside(summary, now) {
            Some(reason) => keep(reason),
            None => match proofs.of(summary)? {
                Proof::Good => good.push(summary),
                Proof::Bad(why) => keep(Reason::Bad(why.clone())),
                Proof::Undecided(why) => keep(Reason::Undecided(why.clone())),
                Proof::Gone => {}
            },
        }
    }
    let (good, copies) = order::apart_from_copies(good);
    let times: Vec<_> = good.iter().map(|summary| summary.created).collect();
    let mut chain = Vec::new();
    for (summary, goes_forward) in good.into_iter().zip(order::longest_forward(&times)) {
        let (to, reasons) = if goes_forward {
            (&mut chain, Vec::new())
        } else {
            (&mut decisions, vec![Reason::Contradiction])
        };
        to.push(Decision { summary, reasons });
    }
    chain.reverse();
    // An archive that no server of its release starts from never takes the place of one that it does start from.
    let starts = |decision: &Decision<'_>| decision.summary.does_not_start.is_none();
    let (mut starting, mut dead): (Vec<_>, Vec<_>) = chain.into_iter().partition(starts);
    for chain in [&mut starting, &mut dead] {
        slots::fill(chain, policy);
    }
    decisions.extend(starting.into_iter().chain(dead));
    decisions.sort_by(|a, b| order::by_log(a.summary, b.summary));
    pins::pin(&mut decisions, proofs)?;
    for decision in &mut decisions {
        let labels = policy.labels_of(decision.summary);
        decision.reasons.extend(labels.map(Reason::Label));
    }
    for (of, summary) in copies {
        let is_kept = decisions
            .iter()
            .any(|decision| decision.summary.name() == of.name() && decision.is_kept());
        let reasons = is_kept.then(|| Reason::CopyOf(of.name().to_owned()));
        let reasons = reasons.into_iter().collect();
        decisions.push(Decision { summary, reasons });
    }
    decisions.sort_by(|a, b| order::by_log(a.summary, b.summary));
    Ok(decisions)
}

/// The reason to keep an archive that does not count, if it does not.
fn set_aside(summary: &ArchiveSummary, now: Timestamp) -> Option<Reason> {
    if summary.listed.is_link {
        // Its target may be in the list as well, and must not count twice.
        Some(Reason::Link)
    } else if summary.is_damaged() {
        Some(Reason::Damaged)
    } else if summary.rewound {
        // Made once by hand, for an emergency. It takes no slot.
        Some(Reason::Rewound)
    } else if summary.created.duration_since(now) > CLOCK_TOLERANCE {
        Some(Reason::Future)
    } else {
        None
    }
}
