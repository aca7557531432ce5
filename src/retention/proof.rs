//! Whether an archive is valid, checked at most once.
//!
//! In: the result of verifying an archive. Out: a [`Proof`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::archive::ArchiveError;
use crate::interrupt::Interrupted;
use crate::repository::ArchiveSummary;
use crate::retention::Prove;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    Good,
    Bad(String),
    /// It could not be read; the reason.
    Undecided(String),
    Gone,
}

impl Proof {
    /// The proof from the result of verifying an archive.
    pub fn of(proven: Result<(), ArchiveError>) -> Result<Self, Interrupted> {
        Ok(match proven {
            Ok(()) => Self::Good,
            Err(ArchiveError::Interrupted(interrupted)) => return Err(interrupted),
            Err(ArchiveError::NotFound(_)) => Self::Gone,
            Err(ArchiveError::Fault { fault, .. }) => Self::Bad(fault.to_string()),
            Err(error @ ArchiveError::NotRegular(_)) => Self::Bad(error.to_string()),
            Err(ArchiveError::Io(error)) => Self::Undecided(error.to_string()),
        })
    }
}

pub(crate) struct Proofs<'p, 'f> {
    prove: &'p mut Prove<'f>,
    known: HashMap<String, Proof>,
}

impl<'p, 'f> Proofs<'p, 'f> {
    pub(crate) fn new(prove: &'p mut Prove<'f>) -> Self {
        Self {
            prove,
            known: HashMap::new(),
        }
    }

    pub(crate) fn of(&mut self, summary: &ArchiveSummary) -> Result<&Proof, Interrupted> {
        Ok(match self.known.entry(summary.name().to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert((self.prove)(summary)?),
        })
    }
}
