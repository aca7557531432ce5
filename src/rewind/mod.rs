//! Takes a whole cluster back to one entry of its log: one archive for every member, all with the
//! same snapshot and log.
//!
//! ```text
//! input.rs        reads and verifies each input, records what its log holds
//! fork.rs         whether the logs are one history, and which one gives its end (pure)
//! history.rs      which input has which range of entries, and which are missing (pure)
//! cut.rs          the last entry to keep (pure)
//! stores.rs       the store at that entry, and whether the inputs have the same
//! leftovers.rs    what removed members left in the store, and files without it
//! new_cluster.rs  the new cluster: its id, its members
//! plan.rs         what will be done, and what is lost
//! reread.rs       reads entries and files of an input again
//! write.rs        the archives
//! two_at_a_time.rs  two of them at once
//! archived.rs     whether all of them lead to one store (pure)
//! output_dir.rs   the directory for the archives
//! error.rs        errors
//! ```
//!
//! In: archives and data dirs of any members of one cluster, and what to go back to. Out: a [`Plan`], from
//! which [`write()`] makes the archives. Why all of them get the same snapshot and log, and a new cluster
//! id and term: formats page §7. Nothing is guessed: what the inputs do not prove is refused.

pub mod archived;
pub mod cut;
pub mod error;
pub mod fork;
pub mod history;
pub mod input;
pub mod leftovers;
pub mod new_cluster;
pub mod new_log;
pub mod output_dir;
pub mod plan;
pub mod reread;
pub mod served;
pub mod stores;
mod two_at_a_time;
pub mod write;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;

pub use crate::rewind::error::RewindError;
pub use crate::rewind::new_log::refuse_dead_plan;
pub use crate::rewind::plan::Plan;
pub use crate::rewind::write::write;

use crate::archive::manifest::FILE_MODE;
use crate::data_dir::{DbLook, consistent_index};
use crate::etcd::ids::{ClusterId, Index, Term};
use crate::etcd::replay::InOrderRules;
use crate::etcd::scan::FileReport;
use crate::etcd::store::UnixNanos;
use crate::fs::owner::Owner;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::rewind::cut::{CutPoint, RewindTarget};
use crate::rewind::fork::agree;
use crate::rewind::history::History;
use crate::rewind::input::ReadInput;
use crate::rewind::new_cluster::MemberChanges;
use crate::rewind::plan::{Lost, PlannedStore};
use crate::rewind::reread::{Reading, snapshot_path};
use crate::rewind::stores::{Agreed, Stores, View};
use crate::target::Target;

/// What to take back, and to which entry.
#[derive(Clone, Debug)]
pub struct RewindRequest<'r> {
    pub to: RewindTarget,
    /// The input that gives the raft snapshot to all members, by its member's name or id, or its path; needed
    /// only where names of in-order keys differ.
    pub base: Option<&'r str>,
    pub requested: MemberChanges<'r>,
    pub keep_cluster_id: bool,
    /// Whether inputs may be in use, as they may for a plan that is only shown.
    pub may_run: bool,
    /// The present time: part of the new cluster's id, and the time for expiry checks.
    pub now: Timestamp,
    pub threads: usize,
}

/// An archive or a data dir of a member.
#[derive(Debug)]
pub struct Input {
    pub target: Target,
}

/// What is known of a file of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub(crate) bytes: u64,
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
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
                    owner: file.owner(),
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
                    owner: Owner::of(&metadata),
                })
            }
        }
    }

    /// Reads the `snap/db` of a data dir, which no checksum covers.
    pub(crate) fn look_at_db(&self) -> Result<Option<DbLook>, RewindError> {
        let Target::DataDir(data_dir) = &self.target else {
            return Ok(None);
        };
        let Some(db) = data_dir.list()?.db else {
            return Ok(None);
        };
        Ok(Some(DbLook::take(&fs::File::open(db.path)?)?))
    }
}

/// Reads `inputs` and plans what `request` asks for. Writes nothing.
pub fn plan(
    request: &RewindRequest<'_>,
    inputs: &[Input],
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Plan, RewindError> {
    let mut read_inputs = read_all(request, inputs, interrupt, observe)?;
    let mut unloadable = None;
    loop {
        match plan_from(&mut read_inputs, request, inputs, interrupt, observe) {
            Err(error @ RewindError::Unloadable { .. }) => {
                // An older one, or the log from its beginning, may lead to the same.
                if !pass_over(&error, &mut read_inputs) {
                    return Err(error);
                }
                unloadable = Some(error);
            }
            Err(error @ (RewindError::Uncovered { .. } | RewindError::Base { .. })) => {
                return Err(unloadable.unwrap_or(error));
            }
            planned => return planned,
        }
    }
}

/// Leaves a raft snapshot that cannot be loaded out of what its input has; `false` if it was not there.
fn pass_over(error: &RewindError, read_inputs: &mut [ReadInput]) -> bool {
    let RewindError::Unloadable { path, id, fault } = error else {
        return false;
    };
    let report = FileReport {
        path: snapshot_path(*id),
        bytes: 0,
        fault: Some(fault.clone().into()),
    };
    let mut read_inputs = read_inputs.iter_mut();
    read_inputs.any(|read_input| read_input.path == *path && read_input.pass_over(*id, &report))
}

/// Plans from what was read; takes `read_inputs` if that succeeds.
fn plan_from(
    read_inputs: &mut Vec<ReadInput>,
    request: &RewindRequest<'_>,
    inputs: &[Input],
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Plan, RewindError> {
    let names: Vec<String> = read_inputs.iter().map(name_of).collect();
    let logs: Vec<_> = read_inputs.iter().map(ReadInput::log).collect();
    let agreement = agree(&logs).map_err(|fork| RewindError::Fork {
        fork,
        names: names.clone(),
    })?;
    let history = History::new(logs, agreement.clone());
    let moment = CutPoint::find(&request.to, &history, read_inputs)?;
    refuse_cut_of_3x(read_inputs, &moment, &history)?;
    let views = views(read_inputs, &history, &moment, &names)?;
    let base = choose_base(request, read_inputs, &views, &moment)?;
    let rules = InOrderRules::of(moment.cluster_version.as_ref());
    let mut stores = Stores {
        inputs,
        read_inputs,
        history: &history,
        moment: moment.index,
        rules,
        reading: Reading {
            threads: request.threads,
            interrupt,
            observe,
        },
    };
    let Agreed {
        mut store,
        leftovers,
        disagreed,
        served,
    } = stores.agreed(base, &views, &names, request.base.is_some())?;
    let db = choose_db(read_inputs, base);
    if let Some((input, read_input)) =
        db.and_then(|place| Some((inputs.get(place)?, read_inputs.get(place)?)))
        && let Target::DataDir(data_dir) = &input.target
        && let Some(file) = data_dir.list()?.db
        // A server writes to it, so it tells nothing.
        && read_input.running.is_none()
    {
        require_db_between(&file.path, base.index(), moment.index)?;
    }
    let term = next_term(read_inputs)?;
    let changes =
        crate::rewind::new_cluster::changes(request.requested, &mut store, moment.index, term)?;
    let members = crate::rewind::new_cluster::members_of(&store, moment.index)?;
    let old_cluster_id = cluster_of(read_inputs);
    let log = history.cover(base.index().next(), moment.index, Some(base.input));
    Ok(Plan {
        db,
        cluster_id: if request.keep_cluster_id {
            old_cluster_id
        } else {
            crate::rewind::new_cluster::new_cluster_id(
                old_cluster_id,
                moment.index,
                read_inputs,
                request.now,
            )
        },
        old_cluster_id,
        store: PlannedStore::of(&store, served.highest_index, request.now),
        lost: Lost::behind(&moment, &history),
        clocks: clocks(&moment, &history),
        members: members.into_values().collect(),
        renamed: served.renamed,
        auth_lost: served.auth,
        leftovers,
        agreement,
        moment,
        base,
        log: log.parts,
        term,
        changes,
        rules,
        disagreed,
        read_inputs: std::mem::take(read_inputs),
        now: request.now,
    })
}

fn read_all(
    request: &RewindRequest<'_>,
    inputs: &[Input],
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Vec<ReadInput>, RewindError> {
    let mut read_inputs: Vec<ReadInput> = Vec::new();
    // Damaged data must not decide where the history ends.
    let rescue = matches!(request.to, RewindTarget::Index(_));
    for input in inputs {
        let found = ReadInput::read(&input.target, rescue, request.threads, interrupt, observe)?;
        if let Some(running) = found.running.clone().filter(|_| !request.may_run) {
            return Err(RewindError::Running {
                path: found.path,
                running,
            });
        }
        if let Some(first) = read_inputs.first() {
            let cluster = |read_input: &ReadInput| read_input.facts.identity.cluster_id;
            let (one, other) = (cluster(first), cluster(&found));
            if one != other {
                let first = (first.path.clone(), one);
                return Err(RewindError::Clusters(first, (found.path, other)));
            }
        }
        read_inputs.push(found);
    }
    if read_inputs.is_empty() {
        return Err(RewindError::NoInput);
    }
    Ok(read_inputs)
}

fn name_of(read_input: &ReadInput) -> String {
    format!("`{}` ({})", read_input.path.display(), read_input.member())
}

fn cluster_of(read_inputs: &[ReadInput]) -> ClusterId {
    let first = read_inputs.first();
    first.map_or(ClusterId(0), |read_input| {
        read_input.facts.identity.cluster_id
    })
}

/// Entries that 3.x has applied to `snap/db` cannot be taken out of it.
fn refuse_cut_of_3x(
    read_inputs: &[ReadInput],
    moment: &CutPoint,
    history: &History<'_>,
) -> Result<(), RewindError> {
    let end = history.agreement.end.index;
    match read_inputs.iter().find(|read_input| read_input.has_db) {
        Some(read_input) if moment.index < end => Err(RewindError::CutOf3x {
            path: read_input.path.clone(),
            to: moment.index,
            end,
        }),
        _ => Ok(()),
    }
}

/// What each input can begin from; at least one must have something.
fn views(
    read_inputs: &[ReadInput],
    history: &History<'_>,
    moment: &CutPoint,
    names: &[String],
) -> Result<Vec<View>, RewindError> {
    let places = read_inputs.iter().enumerate();
    let views: Vec<_> = places
        .filter_map(|(place, read_input)| View::newest(place, read_input, history, moment.index))
        .collect();
    if !views.is_empty() {
        return Ok(views);
    }
    let places = read_inputs.iter().enumerate();
    let snapshots = places.flat_map(|(place, read_input)| {
        let ids = read_input.trace.snapshots.iter();
        ids.map(move |snapshot| (snapshot.id.index, place))
    });
    let newest = snapshots.filter(|(index, _)| *index <= moment.index).max();
    let (from, place) = newest.map_or((Index(0), None), |(index, place)| (index, Some(place)));
    let cover = history.cover(from.next(), moment.index, place);
    match cover.unjoined.filter(|_| cover.missing.is_empty()) {
        Some(unjoined) => Err(RewindError::Unjoined {
            at: unjoined.at,
            names: unjoined
                .inputs
                .map(|input| names.get(input).cloned().unwrap_or_default()),
        }),
        None => Err(RewindError::Uncovered {
            to: moment.index,
            from,
            missing: cover.missing,
        }),
    }
}

/// The newest, for the shortest log; of the member that was given, if any.
fn choose_base(
    request: &RewindRequest<'_>,
    read_inputs: &[ReadInput],
    views: &[View],
    moment: &CutPoint,
) -> Result<View, RewindError> {
    let read_input = |view: &View| read_inputs.get(view.input);
    let is_meant = |view: &&View| match request.base {
        Some(name) => read_input(view).is_some_and(|read_input| read_input.is_called(name)),
        None => true,
    };
    let first_of_newest = |view: &&View| (view.index(), usize::MAX - view.input);
    let meant = views.iter().filter(is_meant).max_by_key(first_of_newest);
    meant.copied().ok_or_else(|| {
        let name = request.base.unwrap_or_default().to_owned();
        if !read_inputs
            .iter()
            .any(|read_input| read_input.is_called(&name))
        {
            return RewindError::NoSuchInput(name);
        }
        let known = views
            .iter()
            .filter_map(|view| Some(read_input(view)?.member()));
        let mut known: Vec<_> = known.collect();
        known.dedup();
        RewindError::Base {
            name,
            to: moment.index,
            known: known.join(", "),
        }
    })
}

fn next_term(read_inputs: &[ReadInput]) -> Result<Term, RewindError> {
    let highest = read_inputs.iter().map(ReadInput::highest_term).max();
    let next = highest.unwrap_or(0).checked_add(1);
    next.map(Term).ok_or(RewindError::NoTermLeft)
}

/// The `snap/db` of the base, if it is at least as new as its raft snapshot, or else the newest one.
fn choose_db(read_inputs: &[ReadInput], base: View) -> Option<usize> {
    let with_db = read_inputs.iter().enumerate().filter(|(_, one)| one.has_db);
    let best = with_db.max_by_key(|(place, one)| (*place == base.input, one.facts.position.commit));
    best.map(|(place, _)| place)
}

/// Refuses a `snap/db` that is older than the raft snapshot or newer than the log: 3.x would not start.
pub(crate) fn require_db_between(db: &Path, from: Index, to: Index) -> Result<(), RewindError> {
    let reached = Index(consistent_index(&fs::File::open(db)?)?);
    if (from..=to).contains(&reached) {
        Ok(())
    } else {
        Err(RewindError::NoDb { from, to })
    }
}

/// The last times in the kept entries and in all entries: each SYNC holds its leader's clock.
fn clocks(moment: &CutPoint, history: &History<'_>) -> (Option<UnixNanos>, Option<UnixNanos>) {
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
