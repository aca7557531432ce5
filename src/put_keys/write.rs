//! A plan carried out.
//!
//! In: a [`Plan`], and what it may do. Out: what was [`Done`].
//!
//! etcd makes the directories of a new key that are not there, and makes them for ever. So a key in a directory that
//! expires is first written with the time that is left to the directory, and its own expiration, or none, is given to it
//! only when the directory is seen to be the same as before: then it holds the key, and takes it along.

use std::collections::BTreeMap;

use crate::cluster::ProbeError;
use crate::cluster::keys::{Condition, Keys, LiveNode, Written};
use crate::etcd::store::{UnixNanos, seconds_left};
use crate::interrupt::Interrupt;
use crate::put_keys::{Allowed, Done, Plan, Planned, PutError, Step, is_below};

impl Plan<'_> {
    pub fn carry_out(
        &self,
        allowed: Allowed,
        keys: &mut Keys<'_>,
        interrupt: &Interrupt,
    ) -> Result<Done, PutError> {
        let mut work = Work {
            plan: self,
            keys,
            done: Done::default(),
            directories: BTreeMap::new(),
            left: None,
        };
        for (number, planned) in self.keys.iter().enumerate() {
            if !allowed.takes(planned.step) {
                continue;
            }
            let result = match interrupt.check() {
                Ok(()) => work.carry_out(number, planned),
                Err(_) => return Err(work.interrupted()),
            };
            if let Err(why) = result {
                if interrupt.check().is_err() {
                    return Err(work.interrupted());
                }
                let key = planned.key.clone();
                let done = work.done.writes();
                return Err(match why {
                    ProbeError::NotAllowed { .. } => PutError::MayNotWrite { key, done },
                    why => PutError::Write { key, done, why },
                });
            }
        }
        Ok(work.done)
    }

    fn seconds_left(&self, until: Option<UnixNanos>) -> Option<i64> {
        let passed = self.began.elapsed().as_nanos();
        let passed = UnixNanos::try_from(passed).unwrap_or(UnixNanos::MAX);
        Some(seconds_left(until?, self.now.saturating_add(passed)))
    }

    fn has_expired(&self, planned: &Planned<'_>) -> bool {
        let left = self.seconds_left(planned.gone_at);
        left.is_some_and(|left| left <= 0)
    }

    /// The time that is left; not 0, which etcd takes for none.
    fn ttl(&self, until: Option<UnixNanos>) -> Option<i64> {
        self.seconds_left(until).map(|left| left.max(1))
    }
}

impl Done {
    fn writes(&self) -> usize {
        self.created + self.changed + self.deleted
    }
}

struct Work<'p, 's, 'k, 'c> {
    plan: &'p Plan<'s>,
    keys: &'k mut Keys<'c>,
    done: Done,
    /// Directories that expire, by their place in the plan.
    directories: BTreeMap<usize, Directory<'p>>,
    /// The last directory that has gone, or is another client's: nothing is written below it.
    left: Option<&'p [u8]>,
}

/// A directory of the cluster that expires.
struct Directory<'p> {
    /// `createdIndex`.
    created: u64,
    /// A key in it, with its `createdIndex`: while that is there, so is the directory.
    holds: Option<(&'p [u8], u64)>,
}

impl<'p> Work<'p, '_, '_, '_> {
    fn interrupted(&self) -> PutError {
        PutError::Stopped {
            done: self.done.writes(),
        }
    }

    fn carry_out(&mut self, number: usize, planned: &'p Planned<'_>) -> Result<(), ProbeError> {
        let path = planned.path.as_slice();
        let is_left = |top: &[u8]| is_below(path, top);
        if let Step::OnlyThere(at) = planned.step {
            let condition = at.map_or(Condition::EmptyDirectory, Condition::Modified);
            match self.keys.delete(path, condition)? {
                Written::Done(_) => self.done.deleted += 1,
                Written::Conflict => self.conflicts(planned),
                Written::NotEmpty => self.done.not_empty.push(planned.key.clone()),
            }
        } else if self.left.is_some_and(is_left) {
        } else if self.plan.has_expired(planned) {
            let directory = planned.within.map(|number| &self.plan.keys[number]);
            let directory = directory.filter(|directory| self.plan.has_expired(directory));
            self.leave(directory.unwrap_or(planned));
        } else if let Step::Change(at) | Step::Unsure(Some(at)) = planned.step {
            let ttl = self.plan.ttl(planned.expires);
            let condition = Condition::Modified(at);
            match self
                .keys
                .put(path, planned.value.as_deref(), ttl, condition)?
            {
                Written::Done(_) => self.done.changed += 1,
                _ => self.conflicts(planned),
            }
        } else {
            self.create(number, planned)?;
        }
        Ok(())
    }

    fn create(&mut self, number: usize, planned: &'p Planned<'_>) -> Result<(), ProbeError> {
        let (path, value) = (planned.path.as_slice(), planned.value.as_deref());
        let first = value.map_or(planned.expires, |_| planned.gone_at);
        let ttl = self.plan.ttl(first);
        let Written::Done(at) = self.keys.put(path, value, ttl, Condition::Absent)? else {
            return self.find(number, planned);
        };
        if let Some(directory) = planned.within
            && !self.is_there(directory)?
        {
            self.take_back(planned, at)?;
            self.leave(&self.plan.keys[directory]);
            return Ok(());
        }
        if first != planned.expires {
            let ttl = self.plan.ttl(planned.expires);
            let written = self.keys.put(path, value, ttl, Condition::Modified(at))?;
            if !matches!(written, Written::Done(_)) {
                match planned.within {
                    Some(directory) if !self.is_there(directory)? => {
                        self.leave(&self.plan.keys[directory]);
                    }
                    _ => self.conflicts(planned),
                }
                return Ok(());
            }
        }
        self.done.created += 1;
        let directory = planned.within.filter(|_| value.is_some());
        if let Some(directory) = directory.and_then(|number| self.directories.get_mut(&number)) {
            directory.holds = Some((path, at));
        }
        self.remember(number, planned, at);
        Ok(())
    }

    /// Something is there meanwhile: a directory that is like the planned one is as good, of anything else all stays.
    fn find(&mut self, number: usize, planned: &'p Planned<'_>) -> Result<(), ProbeError> {
        if planned.value.is_some() {
            self.conflicts(planned);
            return Ok(());
        }
        let found = self.keys.node(&planned.path, true)?;
        let expires = planned.expires.is_some();
        let alike = found.filter(|node| node.value.is_none() && node.expires == expires);
        if let Some(node) = alike {
            self.remember(number, planned, node.created);
        } else {
            self.conflicts(planned);
            self.left = Some(&planned.path);
        }
        Ok(())
    }

    fn remember(&mut self, number: usize, planned: &Planned<'_>, created: u64) {
        if planned.value.is_none() && planned.expires.is_some() {
            let holds = None;
            let directory = Directory { created, holds };
            self.directories.insert(number, directory);
        }
    }

    /// Whether a directory of the plan is the one that was created, or that was there when the plan was made.
    fn is_there(&mut self, number: usize) -> Result<bool, ProbeError> {
        let planned = &self.plan.keys[number];
        let created = planned.created;
        let directory = self.directories.entry(number);
        let directory = directory.or_insert(Directory {
            created,
            holds: None,
        });
        if let Some((key, created)) = directory.holds.take() {
            let node = self.keys.node(key, false)?;
            if node.is_some_and(|node| node.created == created) {
                directory.holds = Some((key, created));
                return Ok(true);
            }
        }
        let node = self.keys.node(&planned.path, true)?;
        let is_same = |node: LiveNode| node.value.is_none() && node.created == directory.created;
        Ok(node.is_some_and(is_same))
    }

    /// Removes what was created at `at`, and the directories that etcd made for it.
    fn take_back(&mut self, planned: &Planned<'_>, at: u64) -> Result<(), ProbeError> {
        let condition = match planned.value {
            Some(_) => Condition::Modified(at),
            None => Condition::EmptyDirectory,
        };
        self.keys.delete(&planned.path, condition)?;
        let mut path = planned.path.as_slice();
        while let Some(end) = path.iter().rposition(|byte| *byte == b'/')
            && end > 0
        {
            path = &path[..end];
            let node = self.keys.node(path, true)?;
            if !node.is_some_and(|node| node.value.is_none() && node.created == at) {
                break;
            }
            self.keys.delete(path, Condition::EmptyDirectory)?;
        }
        Ok(())
    }

    fn leave(&mut self, gone: &'p Planned<'_>) {
        self.done.gone.push(gone.key.clone());
        self.left = Some(&gone.path);
    }

    fn conflicts(&mut self, planned: &Planned<'_>) {
        self.done.conflicts.push(planned.key.clone());
    }
}
