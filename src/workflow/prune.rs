//! Removing the archives that no rule keeps.
//!
//! In: a repository and a policy. Out: what is decided about each archive, and what became of it.
//! Everything is decided before the first archive goes; the oldest goes first, each with what
//! stands beside it. An archive that was proven lately is not read again, see [`ledger`].

pub mod ledger;

use std::io;

use jiff::{SignedDuration, Timestamp};

use super::retention::{Decision, Group, Policy, Proof, decide};
use crate::deed::proof::prove;
use crate::ground::interrupt::{Interrupt, Interrupted};
use crate::place::repository::{Catalog, Repository, Summary};
use ledger::{LEDGER, Ledger};

/// What to prune, and how.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Where the archives are.
    pub repository: &'r dyn Repository,
    /// What is to be kept.
    pub policy: &'r Policy,
    /// How long a proof counts.
    pub prove_again_after: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

/// What became of the archives that no rule keeps.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The names of those that are gone.
    pub removed: Vec<String>,
    /// Those that could not be removed, and why.
    pub failed: Vec<(String, io::Error)>,
    /// Why what stood beside archives that are gone could not be removed.
    pub orphans: Option<io::Error>,
}

/// Leaves in `catalog` only the archives of one member.
pub fn only(catalog: &mut Catalog, group: Group) {
    catalog
        .summaries
        .retain(|summary| Group::of(summary) == group);
}

/// Decides what stays. `observe` hears of each archive before it is read. What could not be noted
/// about the proofs is told in the second place: they are made again next time.
pub fn plan<'c>(
    request: &Request<'_>,
    catalog: &'c Catalog,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(&Summary),
) -> Result<(Vec<Decision<'c>>, Option<io::Error>), Interrupted> {
    let repository = request.repository;
    let there = repository.read_beside(LEDGER).ok().flatten();
    let known = there.as_deref().map_or_else(Ledger::default, Ledger::read);
    let mut noted = known.clone();
    let mut proof = |summary: &Summary| -> Result<Proof, Interrupted> {
        interrupt.check()?;
        let listed = &summary.listed;
        if known.covers(listed, request.now, request.prove_again_after) {
            return Ok(Proof::Good);
        }
        observe(summary);
        let proof = Proof::of(prove(repository, summary, interrupt))?;
        if proof == Proof::Good {
            noted.note(listed, request.now);
        }
        Ok(proof)
    };
    let decisions = decide(&catalog.summaries, request.policy, request.now, &mut proof)?;
    // Of another member's archives nobody knows here whether they are gone.
    if let Ok(all) = repository.list() {
        noted.retain(|name| all.iter().any(|listed| listed.name == name));
    }
    let unnoted = if noted == known {
        None
    } else {
        let json = noted.write().map_err(io::Error::other);
        json.and_then(|json| repository.write_beside(LEDGER, &json))
            .err()
    };
    Ok((decisions, unnoted))
}

/// Removes what `decisions` do not keep; goes on past what cannot be removed. If somebody asks to
/// stop, what was removed until then is told all the same.
pub fn carry_out(
    request: &Request<'_>,
    decisions: &[Decision<'_>],
    interrupt: &Interrupt,
) -> Pruned {
    let mut pruned = Pruned::default();
    for decision in decisions.iter().rev().filter(|d| !d.is_kept()) {
        if interrupt.check().is_err() {
            return pruned;
        }
        let name = decision.summary.name().to_owned();
        match request.repository.remove(&name) {
            Ok(()) => pruned.removed.push(name),
            Err(error) => pruned.failed.push((name, error)),
        }
    }
    pruned.orphans = request.repository.remove_orphans(request.now).err();
    pruned
}
