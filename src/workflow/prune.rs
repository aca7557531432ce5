//! Removing the archives that no rule keeps.
//!
//! In: a repository and a policy. Out: what is decided about each archive, and what became of it.
//! Everything is decided before the first archive goes; the oldest goes first, each with what
//! stands beside it. An archive that was proven lately is not read again, see [`ledger`].

pub mod ledger;

use std::collections::HashSet;
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
    /// The name of an archive that was proven a moment ago, when it was taken.
    pub proven: Option<&'r str>,
}

/// What is decided, and what was learnt about the archives on the way.
#[derive(Debug)]
pub struct Plan<'c> {
    /// What becomes of each archive.
    pub decisions: Vec<Decision<'c>>,
    /// What the ledger says, and what it should say.
    known: Ledger,
    noted: Ledger,
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
    /// Why the proofs could not be noted: they are made again next time.
    pub unnoted: Option<io::Error>,
}

/// Leaves in `catalog` only the archives of one member.
pub fn only(catalog: &mut Catalog, group: Group) {
    catalog
        .summaries
        .retain(|summary| Group::of(summary) == group);
}

/// Decides what stays, and changes nothing. `observe` hears of each archive before it is read.
pub fn plan<'c>(
    request: &Request<'_>,
    catalog: &'c Catalog,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(&Summary),
) -> Result<Plan<'c>, Interrupted> {
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
        if request.proven != Some(summary.name()) {
            observe(summary);
            let proof = Proof::of(prove(repository, summary, interrupt))?;
            if proof != Proof::Good {
                return Ok(proof);
            }
        }
        noted.note(listed, request.now);
        Ok(Proof::Good)
    };
    let decisions = decide(&catalog.summaries, request.policy, request.now, &mut proof)?;
    Ok(Plan {
        decisions,
        known,
        noted,
    })
}

/// Removes what `plan` does not keep; goes on past what cannot be removed. If somebody asks to
/// stop, what was removed until then is told all the same.
pub fn carry_out(request: &Request<'_>, plan: &Plan<'_>, interrupt: &Interrupt) -> Pruned {
    let mut pruned = Pruned::default();
    for decision in plan.decisions.iter().rev().filter(|d| !d.is_kept()) {
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
    pruned.unnoted = note(request.repository, plan).err();
    pruned
}

/// Writes the ledger, if there is news, for the archives that are left.
fn note(repository: &dyn Repository, plan: &Plan<'_>) -> io::Result<()> {
    let mut noted = plan.noted.clone();
    // Of another member's archives only a listing tells whether they are gone.
    if let Ok(all) = repository.list() {
        let names: HashSet<_> = all.into_iter().map(|listed| listed.name).collect();
        noted.retain(|name| names.contains(name));
    }
    if noted == plan.known {
        return Ok(());
    }
    let json = noted.write().map_err(io::Error::other)?;
    repository.write_beside(LEDGER, &json)
}
