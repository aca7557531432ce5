//! Unpacks an archive into staging: files are written, checked, given their owner, synced.
//!
//! In: the content from [`Archive::unpack`]. Out: files on disk that equal the manifest, or the
//! first error.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::manifest::DirectoryEntry;
use crate::archive::sink::Digested;
use crate::archive::verify::{MemberCheck, VerifyFault};
use crate::archive::{Archive, FileEntry, Sink};
use crate::etcd::scan::Pass;
use crate::etcd::start::{Verdicts, cure, own_refusal};
use crate::fs::dir::Dir;
use crate::fs::error::with_path;
use crate::fs::owner::{self, Owner};
use crate::fs::staged::{WRITEBACK, start_writeback};
use crate::progress::Event;
use crate::restore::{RestoreError, RestoreRequest, RestoreTarget, Staging};

/// How many files may wait for their sync; until then the disk works on its own.
const UNSYNCED: usize = 32;

#[derive(Debug)]
pub(crate) struct ChosenOwner {
    /// One owner for all files; if `None`, the recorded ones.
    fixed: Option<Owner>,
    /// A note, if the owner differs from the recorded one without a flag.
    pub(crate) told: Option<String>,
}

impl ChosenOwner {
    /// Chooses the user's, or that of the replaced member or the existing data dir, or the recorded one.
    pub(crate) fn choose(
        request: &RestoreRequest<'_>,
        target: &RestoreTarget,
        staging: &Staging,
    ) -> std::io::Result<Self> {
        let data_dir = &staging.data_dir.place().dir;
        let there = match fs::symlink_metadata(target.member()) {
            Ok(member) => Some((target.member(), member)),
            Err(_) if target.data_dir.exists() => {
                Some((target.data_dir.path.clone(), data_dir.file().metadata()?))
            }
            Err(_) => None,
        };
        let there = there.map(|(path, found)| (path, Owner::of(&found)));
        let recorded = request.archive.manifest().directories.first();
        let told = match (request.owner, &there, recorded) {
            (None, Some((path, owner)), Some(entry)) if *owner != entry.owner() => Some(format!(
                "the files belong to {owner}, as `{}` does, and not to {} as in the archive; `--owner USER:GROUP` \
                 chooses another owner",
                path.display(),
                entry.owner()
            )),
            _ => None,
        };
        Ok(Self {
            fixed: request.owner.or(there.map(|(_, owner)| owner)),
            told,
        })
    }
}

pub(crate) struct Unpacking<'u> {
    archive: &'u Archive,
    staging: &'u Staging,
    owner: &'u ChosenOwner,
    check: MemberCheck,
    now: Option<Open>,
    unsynced: Vec<fs::File>,
    directories: Vec<(Arc<Dir>, DirectoryEntry)>,
    /// The first owner that could not be set.
    not_owned: Option<Owner>,
    observe: &'u mut dyn FnMut(Event),
}

struct Open {
    file: fs::File,
    written: u64,
    written_back: u64,
}

impl<'u> Unpacking<'u> {
    pub(crate) fn new(
        archive: &'u Archive,
        staging: &'u Staging,
        owner: &'u ChosenOwner,
        observe: &'u mut dyn FnMut(Event),
    ) -> Self {
        Self {
            archive,
            staging,
            owner,
            check: MemberCheck::new(archive, Pass::WHOLE),
            now: None,
            unsynced: Vec::new(),
            directories: Vec::new(),
            not_owned: None,
            observe,
        }
    }

    /// Verifies the whole, then makes it durable. Returns warnings.
    pub(crate) fn finish(
        mut self,
        digested: Digested,
        damaged: bool,
    ) -> Result<Vec<String>, RestoreError> {
        if let Some(fault) = digested.mismatches.into_iter().next() {
            return Err(unsound(self.archive, fault.into()));
        }
        let starts = self.check.take_starts();
        // For a damaged data dir the bytes are compared with the manifest, and nothing else can be checked.
        if self.archive.manifest().damage.is_none() {
            std::mem::take(&mut self.check)
                .finish(self.archive)
                .map_err(|fault| unsound(self.archive, fault))?;
        }
        let warning = refuse_dead(self.archive, starts, damaged)?;
        sync_all(&mut self.unsynced)?;
        for (dir, entry) in std::mem::take(&mut self.directories).iter().rev() {
            self.own(dir.file(), entry.owner());
            let mode = PermissionsExt::from_mode(entry.mode);
            dir.file().set_permissions(mode)?;
            dir.sync()?;
            if entry.path == "member/" {
                // It becomes the data dir if there is none.
                let staged = self.staging.data_dir.dir();
                self.own(staged.file(), entry.owner());
                staged.sync()?;
            }
        }
        let not_owned = self.not_owned.into_iter().map(not_owned_warning);
        Ok(not_owned.chain(warning).collect())
    }

    /// Sets the owner of a new file; keeps only the first failure.
    fn own(&mut self, file: &fs::File, recorded: Owner) {
        let wanted = self.owner.fixed.unwrap_or(recorded);
        if owner::give(file, wanted).is_err() {
            self.not_owned.get_or_insert(wanted);
        }
    }

    /// The directory of an archive path's file or directory, and its name there.
    fn place_of<'p>(&self, path: &'p str) -> (&Arc<Dir>, &'p str) {
        let (parent, name) = path
            .trim_end_matches('/')
            .rsplit_once('/')
            .unwrap_or(("", path));
        let is_parent =
            |(_, entry): &&(_, DirectoryEntry)| entry.path.trim_end_matches('/') == parent;
        let made = self.directories.iter().find(is_parent);
        (
            made.map_or(self.staging.data_dir.dir(), |(dir, _)| dir),
            name,
        )
    }
}

impl Sink for Unpacking<'_> {
    type Error = RestoreError;

    fn directory(&mut self, entry: &DirectoryEntry) -> Result<(), RestoreError> {
        let dir = match &self.staging.wal_dir {
            Some(wal_dir) if entry.path == "member/wal/" => Arc::clone(wal_dir.dir()),
            _ => {
                let (dir, name) = self.place_of(&entry.path);
                dir.create_dir(name.as_ref())?
            }
        };
        self.directories.push((dir, entry.clone()));
        Ok(())
    }

    fn begin(&mut self, entry: &FileEntry) -> Result<(), RestoreError> {
        self.check.begin(entry);
        let path = self.archive.manifest().restored_path(entry);
        let (dir, name) = self.place_of(&path);
        self.now = Some(Open {
            file: dir.create_file(name.as_ref())?,
            written: 0,
            written_back: 0,
        });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.check.data(bytes);
        if let Some(open) = &mut self.now {
            open.file.write_all(bytes)?;
            open.written += bytes.len() as u64;
            open.write_back(WRITEBACK);
        }
        (self.observe)(Event::Advance(bytes.len() as u64));
        Ok(())
    }

    fn end(&mut self, entry: &FileEntry) -> Result<(), RestoreError> {
        if let Some(fault) = self.check.end() {
            let path = entry.path.clone();
            return Err(unsound(self.archive, VerifyFault::File { path, fault }));
        }
        if let Some(mut open) = self.now.take() {
            open.write_back(1);
            self.own(&open.file, entry.owner());
            let mode = PermissionsExt::from_mode(entry.mode);
            open.file.set_permissions(mode)?;
            open.file
                .file()
                .set_modified(system_time(entry.mtime))
                .map_err(|error| with_path(error, "set the time of", open.file.path()))?;
            self.unsynced.push(open.file);
        }
        if self.unsynced.len() >= UNSYNCED {
            sync_all(&mut self.unsynced)?;
        }
        Ok(())
    }
}

impl Open {
    /// Starts writing to the disk once at least `least` bytes wait.
    fn write_back(&mut self, least: u64) {
        let waiting = self.written - self.written_back;
        if waiting >= least {
            start_writeback(self.file.file(), self.written_back, waiting);
            self.written_back = self.written;
        }
    }
}

fn sync_all(files: &mut Vec<fs::File>) -> std::io::Result<()> {
    files.drain(..).try_for_each(|file| file.sync_all())
}

/// Refuses data from which etcd of their own release does not start, unless `damaged` data are accepted,
/// or a flag makes etcd start.
fn refuse_dead(
    archive: &Archive,
    starts: Option<Verdicts>,
    damaged: bool,
) -> Result<Option<String>, RestoreError> {
    let manifest = archive.manifest();
    let starts = starts.filter(|_| !manifest.has_backend());
    let refusal = starts
        .as_ref()
        .and_then(|starts| own_refusal(starts, manifest.member.release()));
    let Some((line, verdict)) = refusal else {
        return Ok(None);
    };
    match verdict.warning(*line, "this archive") {
        Some(why) if verdict.never_starts() && !damaged => Err(RestoreError::DoesNotStart {
            path: archive.path().to_path_buf(),
            why,
            cure: starts.as_ref().and_then(cure),
        }),
        warning => Ok(warning),
    }
}

fn not_owned_warning(owner: Owner) -> String {
    format!(
        "cannot change the owner to {owner} (needs root); the files are owned by the current user"
    )
}

fn system_time(time: Timestamp) -> std::time::SystemTime {
    std::time::SystemTime::from(time)
}

fn unsound(archive: &Archive, fault: VerifyFault) -> RestoreError {
    RestoreError::Unsound {
        path: archive.path().to_path_buf(),
        fault,
    }
}
