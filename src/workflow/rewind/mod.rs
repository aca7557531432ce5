//! Taking a whole cluster back to one moment of its history: one archive for every member, all the
//! same but for whose it is.
//!
//! ```text
//! witness.rs      each input proven, and asked what its log holds
//! agreement.rs    whether the logs are one history, and whose end counts (pure)
//! history.rs      who has which stretch of it, and what nobody has (pure)
//! moment.rs       the last entry to keep (pure)
//! stores.rs       the store at that moment, and whether the inputs have the same
//! incarnation.rs  the new cluster: its id, its members
//! write.rs        the archives
//! ```
//!
//! In: archives and data dirs of any members of one cluster, and a moment. Out: a [`Plan`], from
//! which [`write()`] makes the archives. Why all of them get the same snapshot and log, and a new cluster
//! id and term: formats page §7. Nothing is guessed: what the inputs do not prove is refused.

pub mod agreement;
mod error;
pub mod history;
pub mod incarnation;
pub mod moment;
mod source;
pub mod stores;
pub mod witness;
pub mod write;

use std::os::unix::fs::MetadataExt;

use fs_err as fs;
use jiff::Timestamp;

pub use error::RewindError;
pub use write::write;

use crate::deed::Event;
use crate::deed::store::Target;
use crate::ground::digest::Digest;
use crate::ground::ids::{ClusterId, Index, Term};
use crate::ground::interrupt::Interrupt;
use crate::language::entry_class::EntryCount;
use crate::language::replay::InOrderRules;
use crate::language::store::summary::Expiring;
use crate::language::store::{Store, UnixNanos};
use crate::language::store_facts::Member;
use crate::place::archive::manifest::FILE_MODE;
use agreement::{Agreement, agree};
use history::{History, Missing, Part};
use incarnation::{Change, Wishes};
use moment::{Moment, To};
use source::Reading;
use stores::{Renamed, Stores, View};
use witness::Witness;

/// What to take back, and to when.
#[derive(Clone, Debug)]
pub struct Request<'r> {
    /// The moment.
    pub to: To,
    /// Whose raft snapshot everybody gets, by the member's name or id, or by an input's path; needed
    /// only where names of in-order keys differ.
    pub base: Option<&'r str>,
    /// What changes about the members.
    pub wishes: Wishes<'r>,
    /// Whether the cluster keeps its id.
    pub keep_cluster_id: bool,
    /// Whether inputs may be in use: for a plan that is only looked at.
    pub may_run: bool,
    /// The time that goes into the new cluster's id, and against which expiry is held.
    pub now: Timestamp,
    /// Threads to decompress on.
    pub threads: usize,
}

/// An archive or a data dir to go by.
#[derive(Debug)]
pub struct Input {
    /// Where it is.
    pub target: Target,
}

/// What will be done, and what it costs.
#[derive(Debug)]
pub struct Plan {
    /// What the inputs say, in the order they were given.
    pub witnesses: Vec<Witness>,
    /// What their logs have in common.
    pub agreement: Agreement,
    /// The last entry that is kept.
    pub moment: Moment,
    /// What everybody begins from.
    pub base: View,
    /// Who gives which entries above it.
    pub log: Vec<Part>,
    /// Whose `snap/db` everybody gets, where the inputs are of 3.x.
    pub db: Option<usize>,
    /// The cluster's id until now.
    pub old_cluster_id: ClusterId,
    /// Its new one.
    pub cluster_id: ClusterId,
    /// The term that the new incarnation begins with.
    pub term: Term,
    /// Conf changes behind the last entry that is kept.
    pub changes: Vec<Change>,
    /// The members from then on.
    pub members: Vec<Member>,
    /// How in-order keys are named in what is replayed.
    pub rules: InOrderRules,
    /// What the store will be.
    pub store: PlannedStore,
    /// In-order keys that another input has by another name at that moment.
    pub disagreed: Renamed,
    /// In-order keys that a member serves by another name now.
    pub renamed: Renamed,
    /// What is lost.
    pub lost: Lost,
    /// The last moment that the kept entries tell of, and the last that the whole history does.
    pub clocks: (Option<UnixNanos>, Option<UnixNanos>),
    /// When it was made.
    pub now: Timestamp,
}

/// The store that every member will have.
#[derive(Clone, Debug)]
pub struct PlannedStore {
    /// Its digest, once the conf changes are applied.
    pub fingerprint: Digest,
    /// Its `X-Etcd-Index` then.
    pub index: u64,
    /// The highest `X-Etcd-Index` that any input comes to.
    pub index_before: u64,
    /// The users' keys.
    pub keys: u64,
    /// What expires when.
    pub expiring: Expiring,
}

/// What is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Entries behind the moment that are at hand.
    pub count: EntryCount,
    /// Those of them that anybody knows to be committed.
    pub committed: EntryCount,
    /// Entries behind the moment that no input has: what is in them is not known.
    pub unseen: Vec<Missing>,
    /// Entries that an input has beyond where the history ends, or where it parts from it, none of
    /// them known to be committed: the input and the first and last of them.
    pub tails: Vec<(usize, Index, Index)>,
}

/// What is known of a file of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub(crate) bytes: u64,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

impl Input {
    /// The facts of the file that has `path` in an archive.
    pub(crate) fn file(&self, path: &str) -> Result<FileFacts, RewindError> {
        let changed = || RewindError::Changed(self.target.path().to_path_buf());
        match &self.target {
            Target::Archive(archive) => {
                let mut files = archive.manifest().files.iter();
                let file = files.find(|file| file.path == path).ok_or_else(changed)?;
                Ok(FileFacts {
                    bytes: file.size,
                    mode: file.mode,
                    owner: (file.uid, file.gid),
                })
            }
            Target::DataDir(data_dir) => {
                let listing = data_dir.list()?;
                let snapshots = listing.snapshots.iter().map(|(_, file)| file);
                let segments = listing.segments.iter().map(|(_, file)| file);
                let mut files = snapshots.chain(segments).chain(&listing.db);
                let file = files.find(|file| file.archive_path == path);
                let metadata = fs::metadata(&file.ok_or_else(changed)?.path)?;
                Ok(FileFacts {
                    bytes: metadata.len(),
                    mode: metadata.mode() & FILE_MODE,
                    owner: (metadata.uid(), metadata.gid()),
                })
            }
        }
    }
}

/// Reads `inputs` and finds out what `request` comes to. Writes nothing.
pub fn plan(
    request: &Request<'_>,
    inputs: &[Input],
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Plan, RewindError> {
    let witnesses = hear_all(request, inputs, interrupt, observe)?;
    let names: Vec<String> = witnesses.iter().map(name_of).collect();
    let logs: Vec<_> = witnesses.iter().map(Witness::log).collect();
    let agreement = agree(&logs).map_err(|fork| RewindError::Fork {
        fork,
        names: names.clone(),
    })?;
    let history = History::new(logs, agreement.clone());
    let moment = Moment::find(&request.to, &history, &witnesses)?;
    refuse_cut_of_3x(&witnesses, &moment, &history)?;
    let views = views(&witnesses, &history, &moment)?;
    let base = choose_base(request, &witnesses, &views, &moment)?;
    let rules = InOrderRules::of(moment.cluster_version.as_ref());
    let mut stores = Stores {
        inputs,
        witnesses: &witnesses,
        history: &history,
        moment: moment.index,
        rules,
        reading: Reading {
            threads: request.threads,
            interrupt,
            observe,
        },
    };
    let mut store = stores.at_moment(base)?;
    let disagreed = stores.compare(base, &store, &views, &names)?;
    if !disagreed.is_empty() && request.base.is_none() {
        return Err(RewindError::InOrder {
            keys: disagreed,
            names,
        });
    }
    let served = stores.served(&store)?;
    let term = next_term(&witnesses)?;
    incarnation::members_of(&store, moment.index)?;
    let changes = incarnation::changes(request.wishes, &mut store, moment.index, term)?;
    let members = incarnation::members_of(&store, moment.index)?;
    let old_cluster_id = cluster_of(&witnesses);
    let (log, _) = history.cover(base.index().next(), moment.index);
    Ok(Plan {
        db: choose_db(&witnesses, base),
        cluster_id: if request.keep_cluster_id {
            old_cluster_id
        } else {
            incarnation::new_cluster_id(old_cluster_id, moment.index, &witnesses, request.now)
        },
        old_cluster_id,
        store: PlannedStore::of(&store, served.highest_index, request.now),
        lost: Lost::behind(&moment, &history),
        clocks: clocks(&moment, &history),
        members: members.into_values().collect(),
        renamed: served.renamed,
        agreement,
        moment,
        base,
        log,
        term,
        changes,
        rules,
        disagreed,
        witnesses,
        now: request.now,
    })
}

fn hear_all(
    request: &Request<'_>,
    inputs: &[Input],
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Vec<Witness>, RewindError> {
    let mut witnesses: Vec<Witness> = Vec::new();
    for input in inputs {
        let found = Witness::hear(&input.target, request.threads, interrupt, observe)?;
        if let Some(running) = found.running.clone().filter(|_| !request.may_run) {
            return Err(RewindError::Running {
                path: found.path,
                running,
            });
        }
        if let Some(first) = witnesses.first() {
            let cluster = |witness: &Witness| witness.facts.identity.cluster_id;
            let (one, other) = (cluster(first), cluster(&found));
            if one != other {
                let first = (first.path.clone(), one);
                return Err(RewindError::Clusters(first, (found.path, other)));
            }
        }
        witnesses.push(found);
    }
    if witnesses.is_empty() {
        return Err(RewindError::NoInput);
    }
    Ok(witnesses)
}

/// An input as a message names it.
fn name_of(witness: &Witness) -> String {
    format!("`{}` ({})", witness.path.display(), witness.member())
}

fn cluster_of(witnesses: &[Witness]) -> ClusterId {
    let first = witnesses.first();
    first.map_or(ClusterId(0), |witness| witness.facts.identity.cluster_id)
}

/// What 3.x has done to its `snap/db` cannot be undone by leaving out entries.
fn refuse_cut_of_3x(
    witnesses: &[Witness],
    moment: &Moment,
    history: &History<'_>,
) -> Result<(), RewindError> {
    let end = history.agreement.end.index;
    match witnesses.iter().find(|witness| witness.has_db) {
        Some(witness) if moment.index < end => Err(RewindError::CutOf3x {
            path: witness.path.clone(),
            to: moment.index,
            end,
        }),
        _ => Ok(()),
    }
}

/// What each input can begin from; at least one can.
fn views(
    witnesses: &[Witness],
    history: &History<'_>,
    moment: &Moment,
) -> Result<Vec<View>, RewindError> {
    let places = witnesses.iter().enumerate();
    let views: Vec<_> = places
        .filter_map(|(place, witness)| View::newest(place, witness, history, moment.index))
        .collect();
    if !views.is_empty() {
        return Ok(views);
    }
    let snapshots = witnesses
        .iter()
        .flat_map(|witness| &witness.trace.snapshots);
    let below = snapshots.map(|snapshot| snapshot.id.index);
    let newest = below.filter(|index| *index <= moment.index).max();
    let from = newest.unwrap_or(Index(0));
    Err(RewindError::Uncovered {
        to: moment.index,
        from,
        missing: history.missing(from.next(), moment.index),
    })
}

/// The newest, for the shortest log; of the member that was named, if one was.
fn choose_base(
    request: &Request<'_>,
    witnesses: &[Witness],
    views: &[View],
    moment: &Moment,
) -> Result<View, RewindError> {
    let witness = |view: &View| witnesses.get(view.input);
    let is_meant = |view: &&View| match request.base {
        Some(name) => witness(view).is_some_and(|witness| witness.is_called(name)),
        None => true,
    };
    let first_of_newest = |view: &&View| (view.index(), usize::MAX - view.input);
    let meant = views.iter().filter(is_meant).max_by_key(first_of_newest);
    meant.copied().ok_or_else(|| {
        let name = request.base.unwrap_or_default().to_owned();
        if !witnesses.iter().any(|witness| witness.is_called(&name)) {
            return RewindError::NoSuchInput(name);
        }
        let known = views
            .iter()
            .filter_map(|view| Some(witness(view)?.member()));
        let mut known: Vec<_> = known.collect();
        known.dedup();
        RewindError::Base {
            name,
            to: moment.index,
            known: known.join(", "),
        }
    })
}

fn next_term(witnesses: &[Witness]) -> Result<Term, RewindError> {
    let highest = witnesses.iter().map(Witness::highest_term).max();
    let next = highest.unwrap_or(0).checked_add(1);
    next.map(Term).ok_or(RewindError::NoTermLeft)
}

/// The `snap/db` of the base, which has come at least as far as its raft snapshot, or else the one
/// that has come furthest.
fn choose_db(witnesses: &[Witness], base: View) -> Option<usize> {
    let with_db = witnesses.iter().enumerate().filter(|(_, one)| one.has_db);
    let best = with_db.max_by_key(|(place, one)| (*place == base.input, one.facts.position.commit));
    best.map(|(place, _)| place)
}

impl PlannedStore {
    fn of(store: &Store, index_before: u64, now: Timestamp) -> Self {
        let now = now.as_nanosecond().try_into().unwrap_or(i64::MAX);
        Self {
            fingerprint: store.fingerprint(),
            index: store.index(),
            index_before,
            keys: store.summary(0).keys,
            expiring: store.expiring(now),
        }
    }
}

impl Lost {
    fn behind(moment: &Moment, history: &History<'_>) -> Self {
        let agreement = &history.agreement;
        let (from, to) = (moment.index.next(), agreement.end.index);
        let mut lost = Self {
            unseen: history.missing(from, to),
            ..Self::default()
        };
        for entry in history.entries(from, to) {
            lost.count.add(entry.class);
            if entry.index <= agreement.committed {
                lost.committed.add(entry.class);
            }
        }
        for (place, (log, sure)) in history.logs.iter().zip(&agreement.sure).enumerate() {
            let beyond = (*sure).max(agreement.committed);
            if let [first, .., last] | [first @ last] = log.trace.above(beyond) {
                lost.tails.push((place, first.index, last.index));
            }
        }
        lost
    }
}

/// The last moments that the kept entries and all entries tell of: each SYNC has its leader's clock.
fn clocks(moment: &Moment, history: &History<'_>) -> (Option<UnixNanos>, Option<UnixNanos>) {
    let (mut kept, mut all) = (None, None);
    for entry in history.entries(Index(1), history.agreement.end.index) {
        if let Some(clock) = entry.clock {
            if entry.index <= moment.index {
                kept = kept.max(Some(clock));
            }
            all = all.max(Some(clock));
        }
    }
    (kept, all)
}
