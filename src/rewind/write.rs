//! Makes the archives of a plan: staged, each read back and compared with the plan, published
//! together by one rename.
//!
//! In: a [`Plan`] and its inputs. Out: a directory with one archive for every member, or nothing. A
//! member's directory is built beside the archives, captured as any other, and removed again; what a
//! killed run leaves behind has a staging name.

use std::io;
use std::io::{Seek, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::archive::Cipher;
use crate::archive::manifest::Scope;
use crate::data_dir::DataDir;
use crate::etcd::ids::{SegmentName, SnapshotId};
use crate::etcd::membership::Member;
use crate::etcd::replay::{self, Along, Start, Until};
use crate::etcd::wal::writer::SegmentSink;
use crate::fs::dir::Dir;
use crate::fs::error::{parent_of, with_path};
use crate::fs::owner::Owner;
use crate::fs::space;
use crate::fs::staged::{StagedDir, remove_stale};
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::repository::Directory;
use crate::rewind::archived::{Archived, refuse_unless_alike, unproven};
use crate::rewind::new_log::{refuse_unless_it_starts, without_leftovers, write_logs};
use crate::rewind::output_dir::Place;
use crate::rewind::reread::{Reading, snapshot_path};
use crate::rewind::two_at_a_time::two_at_a_time;
use crate::rewind::{FileFacts, Input, Plan, RewindError, require_db_between};
use crate::snapshot as capture;
use crate::snapshot::{Captured, Made, capture_made};
use crate::thread_pool::at_once;

/// The label of every archive that a rewind makes.
pub const LABEL: &str = "rewind";
/// The limit of the 100 MB rule, in bytes.
const SIZE_LIMIT: u64 = 100_000_000;
/// Mode of directories that etcd makes.
const DIR_MODE: u32 = 0o700;
const WAL_MODE: u32 = 0o600;

/// Where and how to write the archives.
#[derive(Clone, Copy, Debug)]
pub struct NewArchives<'o> {
    /// A directory that is empty or does not exist.
    pub dir: &'o Path,
    pub level: i32,
    pub threads: usize,
    pub cipher: Option<&'o dyn Cipher>,
}

/// Makes the archives of `plan`; `inputs` are those it was made of.
pub fn write(
    plan: &Plan,
    inputs: &[Input],
    output: NewArchives<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Vec<Archived>, RewindError> {
    let place = Place::find(output.dir, inputs)?;
    remove_stale(place.parent.path());
    let staged = StagedDir::create_in(&place.parent)?;
    let path = staged.lasting_path()?;
    let making = Making {
        plan,
        inputs,
        output,
        set: path.join("set"),
        work: path.join("work"),
        interrupt,
    };
    make_dir(&making.set)?;
    place.give(&making.set)?;
    make_dir(&making.work)?;
    making.refuse_if_no_room()?;
    for member in &plan.members {
        making.make_dirs(member)?;
    }
    let beside = || making.shared(&mut |_| {});
    let (logs, shared) = at_once(output.threads, || making.write_logs(observe), beside);
    logs?;
    let shared = shared?;
    for member in &plan.members {
        making.link_shared(member, &shared)?;
    }
    let mut made = making.members(&shared, observe)?;
    interrupt.check()?;
    fs::remove_dir_all(&making.work)?;
    Dir::open(&making.set)?.sync()?;
    place.publish(&staged.dir().entry("set"))?;
    for archived in &mut made {
        let name = archived.captured.path.file_name().unwrap_or_default();
        archived.captured.path = output.dir.join(name);
    }
    Ok(made)
}

/// Files that are the same for every member.
struct Shared {
    snapshot: Option<PathBuf>,
    db: Option<PathBuf>,
    owner: Owner,
}

struct Making<'m> {
    plan: &'m Plan,
    inputs: &'m [Input],
    output: NewArchives<'m>,
    /// The directory that becomes the result.
    set: PathBuf,
    /// Where the members' directories are built.
    work: PathBuf,
    interrupt: &'m Interrupt,
}

impl Making<'_> {
    fn reading<'r>(&'r self, observe: &'r mut dyn FnMut(Event)) -> Reading<'r> {
        Reading {
            threads: self.output.threads,
            interrupt: self.interrupt,
            observe,
        }
    }

    /// Refuses if there is no room for the shared files and the members' logs, which exist at the same time.
    fn refuse_if_no_room(&self) -> Result<(), RewindError> {
        let mut needed = 64 << 10;
        for (input, path) in self.shared_files() {
            needed += input.file(&path)?.bytes;
        }
        for part in &self.plan.log {
            if let Some(read_input) = self.plan.read_inputs.get(part.input) {
                let above = read_input.trace.above(part.from.previous());
                let entries = above.iter().take_while(|entry| entry.index <= part.to);
                let log: u64 = entries.map(|entry| u64::from(entry.bytes) + 16).sum();
                needed += log * self.plan.members.len() as u64;
            }
        }
        space::require(&self.work, needed, &parent_of(self.output.dir))?;
        Ok(())
    }

    /// The inputs' files that every member gets, by their paths in an archive.
    fn shared_files(&self) -> Vec<(&Input, String)> {
        let base = self.plan.base;
        let snapshot = base.snapshot.map(|id| (base.input, snapshot_path(id)));
        let db = self
            .plan
            .db
            .map(|place| (place, "member/snap/db".to_owned()));
        let files = snapshot.into_iter().chain(db);
        files
            .filter_map(|(place, path)| Some((self.inputs.get(place)?, path)))
            .collect()
    }

    fn shared(&self, observe: &mut dyn FnMut(Event)) -> Result<Shared, RewindError> {
        let base = self.plan.base;
        let snapshot = base.snapshot.map(|id| (base.input, snapshot_path(id)));
        let snapshot = snapshot
            .map(|(place, path)| self.copy(place, &path, observe))
            .transpose()?;
        if let (Some((copy, _)), Some(id)) = (&snapshot, base.snapshot) {
            self.drop_leftovers(copy, id)?;
        }
        let db = self.plan.db.map(|place| self.copy_db(place, observe));
        let db = db.transpose()?;
        let owner = match &snapshot {
            Some((_, facts)) => facts.owner,
            None => self.owner_of_log()?,
        };
        Ok(Shared {
            snapshot: snapshot.map(|(path, _)| path),
            db,
            owner,
        })
    }

    /// Removes what removed members left from the copy of the raft snapshot.
    fn drop_leftovers(&self, copy: &Path, id: SnapshotId) -> Result<(), RewindError> {
        if !self.plan.leftovers.is_in_snapshot() {
            return Ok(());
        }
        fs::write(copy, without_leftovers(self.plan, fs::read(copy)?, id)?)?;
        Ok(())
    }

    /// Copies a `snap/db`. No process may write to it meanwhile.
    fn copy_db(
        &self,
        place: usize,
        observe: &mut dyn FnMut(Event),
    ) -> Result<PathBuf, RewindError> {
        let Some(input) = self.inputs.get(place) else {
            return Err(RewindError::NoInput);
        };
        let before = input.look_at_db()?;
        let (copy, _) = self.copy(place, "member/snap/db", observe)?;
        if input.look_at_db()? != before {
            return Err(RewindError::Changed(input.target.path().to_path_buf()));
        }
        require_db_between(&copy, self.plan.base.index(), self.plan.moment.index)?;
        Ok(copy)
    }

    /// The owner of the base's last segment.
    fn owner_of_log(&self) -> Result<Owner, RewindError> {
        let place = self.plan.base.input;
        let read_input = self.plan.read_inputs.get(place);
        let segment = read_input.and_then(|read_input| read_input.facts.segments.last());
        match (self.inputs.get(place), segment) {
            (Some(input), Some(segment)) => {
                Ok(input.file(&format!("member/wal/{}", segment.name))?.owner)
            }
            _ => Ok(Owner { uid: 0, gid: 0 }),
        }
    }

    /// Copies one file of an input to where members' directories can link to it.
    fn copy(
        &self,
        place: usize,
        path: &str,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(PathBuf, FileFacts), RewindError> {
        let Some(input) = self.inputs.get(place) else {
            return Err(RewindError::NoInput);
        };
        let facts = input.file(path)?;
        let copy = self.work.join(path.replace('/', "-"));
        let mut file = create(&copy, facts.mode)?;
        self.reading(observe)
            .file(&input.target, path, &mut |bytes| {
                file.write_all(bytes)?;
                Ok(())
            })?;
        if file.stream_position()? != facts.bytes {
            return Err(RewindError::Changed(input.target.path().to_path_buf()));
        }
        Ok((copy, facts))
    }

    fn root(&self, member: &Member) -> PathBuf {
        self.work.join(member.id.to_string())
    }

    /// Creates one member's directory.
    fn make_dirs(&self, member: &Member) -> io::Result<()> {
        let mut dirs = ["member/snap", "member/wal"].into_iter();
        dirs.try_for_each(|dir| make_dir(&self.root(member).join(dir)))
    }

    /// Puts the files that all members share into one member's directory.
    fn link_shared(&self, member: &Member, shared: &Shared) -> Result<(), RewindError> {
        let root = self.root(member);
        if let (Some(copy), Some(id)) = (&shared.snapshot, self.plan.base.snapshot) {
            fs::hard_link(copy, root.join(snapshot_path(id)))?;
        }
        if let Some(copy) = &shared.db {
            fs::hard_link(copy, root.join("member/snap/db"))?;
        }
        Ok(())
    }

    /// Makes the archives of all members, two at a time. The first is replayed; the others must have the same raft snapshot
    /// and log, which lead to the same store.
    fn members(
        &self,
        shared: &Shared,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Vec<Archived>, RewindError> {
        let mut bytes = 0;
        for member in &self.plan.members {
            // Each byte is read twice: out of the directory and out of the archive.
            bytes += 2 * DataDir::open(&self.root(member), None)?.total_bytes();
        }
        observe(Event::Begin {
            part: "making archives",
            bytes,
        });
        let work =
            |member: &Member, observe: &mut dyn FnMut(Event)| self.member(member, shared, observe);
        let made = two_at_a_time(&self.plan.members, self.output.threads, observe, work)?;
        refuse_unless_alike(&made)?;
        Ok(made)
    }

    /// Captures one member's directory, verifies the archive, and removes the directory.
    fn member(
        &self,
        member: &Member,
        shared: &Shared,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Archived, RewindError> {
        let root = self.root(member);
        let captured = self.capture(member, &root, shared, observe)?;
        self.refuse_unless_it_starts(member, &captured)?;
        self.prove(member, &captured)?;
        fs::remove_dir_all(&root)?;
        Ok(Archived {
            member: member.clone(),
            captured,
        })
    }

    /// Writes the logs of all members.
    fn write_logs(&self, observe: &mut dyn FnMut(Event)) -> Result<(), RewindError> {
        let (plan, inputs) = (self.plan, self.inputs);
        let dirs = plan.members.iter().map(|member| Segments {
            wal: self.root(member).join("member/wal"),
            open: None,
        });
        let mut dirs: Vec<_> = dirs.collect();
        write_logs(plan, inputs, &mut dirs, &mut self.reading(observe))
    }

    /// Refuses if the release at that entry does not start from the result; not known for 3.x.
    fn refuse_unless_it_starts(
        &self,
        member: &Member,
        captured: &Captured,
    ) -> Result<(), RewindError> {
        if self.plan.db.is_some() {
            return Ok(());
        }
        let proof = captured.proof.as_ref();
        let Some(verdicts) = proof.and_then(|proof| proof.starts.as_ref()) else {
            return Err(unproven(member, "whether etcd starts from it"));
        };
        refuse_unless_it_starts(self.plan, member, verdicts)
    }

    fn capture(
        &self,
        member: &Member,
        root: &Path,
        shared: &Shared,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Captured, RewindError> {
        let data_dir = DataDir::open(root, None)?;
        let set = Directory::new(&self.set);
        let request = capture::SnapshotRequest {
            data_dir: &data_dir,
            to: match self.output.cipher {
                None => capture::destination::Destination::BackupDir(&self.set),
                cipher => capture::destination::Destination::Through {
                    repository: &set,
                    spool: &self.work,
                    cipher,
                },
            },
            scope: Scope::Live,
            labels: vec![LABEL.to_owned()],
            level: self.output.level,
            threads: self.output.threads,
            size_limit: SIZE_LIMIT,
            created: capture::CreatedAt::At(self.plan.now),
            lock: None,
        };
        let members = self.plan.members.iter();
        let namesakes = members.filter(|other| other.name == member.name).count();
        let made = Made {
            rewind: self.plan.rewind(),
            owner: shared.owner,
            named_by_id: namesakes > 1,
            replay: self.is_first(member).then_some(replay::Plan {
                start: Start::Newest,
                until: Until::Commit,
                rules: self.plan.rules,
                along: Along::Nothing,
            }),
        };
        Ok(capture_made(&request, made, self.interrupt, observe)?)
    }

    fn is_first(&self, member: &Member) -> bool {
        let first = self.plan.members.first();
        first.is_some_and(|first| first.id == member.id)
    }

    /// Compares the facts of the archive, as it was read back, with the plan.
    fn prove(&self, member: &Member, captured: &Captured) -> Result<(), RewindError> {
        let plan = self.plan;
        let found = &captured.manifest.member;
        let (identity, position) = (&found.identity, &found.position);
        let store = captured.proof.as_ref().and_then(|proof| proof.store);
        let last = plan.last_index();
        let checks = [
            (identity.member_id == member.id, "its member id"),
            (identity.cluster_id == plan.cluster_id, "its cluster id"),
            (
                position.index == last && position.commit == last,
                "where its log ends",
            ),
            (position.hard_state_term == plan.term, "its term"),
            (found.members == plan.members, "its members"),
            (
                store == Some(plan.store.fingerprint) || !self.is_first(member),
                "its store",
            ),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, what)) => Err(unproven(member, what)),
        }
    }
}

/// Writes segments into a directory.
struct Segments {
    wal: PathBuf,
    open: Option<fs::File>,
}

impl SegmentSink for Segments {
    fn begin(&mut self, name: SegmentName) -> io::Result<()> {
        self.open = Some(create(&self.wal.join(name.to_string()), WAL_MODE)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        }
    }
}

fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options.options_mut().mode(mode);
    let file = options.open(path)?;
    // Independent of the umask.
    file.set_permissions(PermissionsExt::from_mode(mode))?;
    Ok(file)
}

fn make_dir(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)
        .map_err(|error| with_path(error, "create the directory", path))
}
