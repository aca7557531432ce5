//! Removes the archives that no rule keeps.
//!
//! In: a repository and a policy. Out: the decision about each archive, and what was removed.
//! Everything is decided before the first removal; the oldest archive is removed first, each with the
//! files beside it. An archive that was verified recently is not read again (see
//! [`verified_cache`](crate::retention::verified_cache)), unless others are removed because of it.

use std::collections::{HashMap, HashSet};
use std::io;

use jiff::{SignedDuration, Timestamp};

use crate::interrupt::{Interrupt, Interrupted};
use crate::repository::check::prove;
use crate::repository::{ArchiveRef, ArchiveSummary, Catalog, Repository};
use crate::retention::verified_cache::{CACHE_NAME, VerifiedCache};
use crate::retention::{Decision, Group, Policy, Proof, Reason, by_log, decide};

#[derive(Clone, Copy, Debug)]
pub struct PruneRequest<'r> {
    pub repository: &'r dyn Repository,
    pub policy: &'r Policy,
    pub prove_again_after: SignedDuration,
    pub now: Timestamp,
    /// The name of an archive that was verified just now, when it was made.
    pub proven: Option<&'r str>,
}

#[derive(Debug)]
pub struct Plan<'c> {
    pub decisions: Vec<Decision<'c>>,
    /// The names of files beside archives that are gone, to be removed too; or why they are not known.
    pub orphans: io::Result<Vec<String>>,
    /// The cache of verifications, updated.
    known: VerifiedCache,
    noted: VerifiedCache,
}

#[derive(Debug, Default)]
pub struct Pruned {
    pub removed: Vec<String>,
    /// Those that could not be removed, and why.
    pub failed: Vec<(String, io::Error)>,
    /// The names of removed files that belonged to archives that are gone.
    pub orphans: Vec<String>,
    /// Which of these could not be removed, and why.
    pub failed_orphan: Option<(String, io::Error)>,
    /// Why the verifications could not be saved: they are repeated next time.
    pub unnoted: Option<io::Error>,
}

/// Keeps only the archives of one member in `catalog`.
pub fn only(catalog: &mut Catalog, group: Group) {
    catalog
        .summaries
        .retain(|summary| Group::of(summary) == group);
}

/// Decides what is kept, and changes nothing. `observe` is called before each archive is read.
pub fn plan<'c>(
    request: &PruneRequest<'_>,
    catalog: &'c Catalog,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(&ArchiveSummary),
) -> Result<Plan<'c>, Interrupted> {
    let known = verified(request.repository);
    let mut prover = Prover {
        request,
        interrupt,
        observe,
        noted: known.clone(),
        read: HashMap::new(),
    };
    let mut decisions = loop {
        let policy = request.policy;
        let mut proof = |summary: &ArchiveSummary| prover.prove(summary);
        let decisions = decide(&catalog.summaries, policy, request.now, &mut proof)?;
        if prover.all_good(guards(&decisions))? {
            break decisions;
        }
    };
    for decision in &mut decisions {
        if request.proven == Some(decision.summary.name()) && !decision.is_kept() {
            decision.reasons.push(Reason::JustTaken);
        }
    }
    Ok(Plan {
        decisions,
        orphans: request.repository.orphans(request.now),
        known,
        noted: prover.noted,
    })
}

/// The archives that are kept in place of removed ones: they must not have been
/// damaged since they were verified.
fn guards<'s>(decisions: &[Decision<'s>]) -> Vec<&'s ArchiveSummary> {
    let is_guard =
        |reason: &Reason| matches!(reason, Reason::LastGood | Reason::BeforeVersion { .. });
    let guards = decisions
        .iter()
        .filter(|decision| decision.reasons.iter().any(is_guard))
        .map(|decision| decision.summary);
    let stands_in = |guard: &ArchiveSummary| {
        decisions.iter().any(|decision| {
            !decision.is_kept()
                && Group::of(decision.summary) == Group::of(guard)
                && by_log(decision.summary, guard).is_lt()
        })
    };
    guards.filter(|guard| stands_in(guard)).collect()
}

/// Verifies archives, each at most once in a run.
struct Prover<'p> {
    request: &'p PruneRequest<'p>,
    interrupt: &'p Interrupt,
    observe: &'p mut dyn FnMut(&ArchiveSummary),
    noted: VerifiedCache,
    read: HashMap<String, Proof>,
}

impl Prover<'_> {
    /// By the cache, if its entry is still valid.
    fn prove(&mut self, summary: &ArchiveSummary) -> Result<Proof, Interrupted> {
        self.interrupt.check()?;
        let request = self.request;
        if let Some(proof) = self.read.get(summary.name()) {
            return Ok(proof.clone());
        }
        let again_after = request.prove_again_after;
        if self.noted.covers(&summary.listed, request.now, again_after) {
            return Ok(Proof::Good);
        }
        self.prove_now(summary)
    }

    /// By reading it, whatever the cache has.
    fn prove_now(&mut self, summary: &ArchiveSummary) -> Result<Proof, Interrupted> {
        if let Some(proof) = self.read.get(summary.name()) {
            return Ok(proof.clone());
        }
        let proof = if self.request.proven == Some(summary.name()) {
            Proof::Good
        } else {
            (self.observe)(summary);
            Proof::of(prove(self.request.repository, summary, self.interrupt))?
        };
        if proof == Proof::Good {
            self.noted.note(&summary.listed, self.request.now);
        } else {
            self.noted.forget(summary.name());
        }
        self.read.insert(summary.name().to_owned(), proof.clone());
        Ok(proof)
    }

    fn all_good(&mut self, guards: Vec<&ArchiveSummary>) -> Result<bool, Interrupted> {
        let mut all_good = true;
        for guard in guards {
            all_good &= self.prove_now(guard)? == Proof::Good;
        }
        Ok(all_good)
    }
}

/// Removes what `plan` does not keep; continues after one that cannot be removed. After an
/// interrupt, what was removed until then is still reported.
pub fn carry_out(request: &PruneRequest<'_>, plan: &Plan<'_>, interrupt: &Interrupt) -> Pruned {
    let mut pruned = Pruned::default();
    let kept = plan.decisions.iter().filter(|d| d.is_kept());
    let kept: HashSet<_> = kept.map(|decision| decision.summary.name()).collect();
    for decision in plan.decisions.iter().rev() {
        // A list that names an archive twice must not cause its removal as its own copy.
        if decision.is_kept() || kept.contains(decision.summary.name()) {
            continue;
        }
        if interrupt.check().is_err() {
            return pruned;
        }
        let name = decision.summary.name().to_owned();
        match request.repository.remove(&name) {
            Ok(()) => pruned.removed.push(name),
            Err(error) => pruned.failed.push((name, error)),
        }
    }
    for name in plan.orphans.iter().flatten() {
        match request.repository.remove_orphan(name, request.now) {
            Ok(()) => pruned.orphans.push(name.clone()),
            Err(error) => {
                pruned.failed_orphan = Some((name.clone(), error));
                break;
            }
        }
    }
    pruned.unnoted = note(request.repository, plan).err();
    pruned
}

/// Records that an archive was verified at `now` and holds all that its member holds, so that
/// monitoring does not expect a newer one.
pub fn record_unchanged(
    repository: &dyn Repository,
    listed: &ArchiveRef,
    now: Timestamp,
) -> io::Result<()> {
    let mut verified = verified(repository);
    verified.record_unchanged(listed, now);
    let json = verified.write().map_err(io::Error::other)?;
    repository.write_beside(CACHE_NAME, &json)
}

/// The cache of verifications in `repository`; empty if it cannot be read.
pub fn verified(repository: &dyn Repository) -> VerifiedCache {
    let there = repository.read_beside(CACHE_NAME).ok().flatten();
    there
        .as_deref()
        .map_or_else(VerifiedCache::default, VerifiedCache::read)
}

/// Writes the cache, if it has changed, for the remaining archives.
fn note(repository: &dyn Repository, plan: &Plan<'_>) -> io::Result<()> {
    let mut noted = plan.noted.clone();
    // Only a list tells whether another member's archives are gone.
    if let Ok(all) = repository.list() {
        let names: HashSet<_> = all.into_iter().map(|listed| listed.name).collect();
        noted.retain(|name| names.contains(name));
    }
    if noted == plan.known {
        return Ok(());
    }
    let json = noted.write().map_err(io::Error::other)?;
    repository.write_beside(CACHE_NAME, &json)
}
