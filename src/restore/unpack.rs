//! Unpacking an archive into staging: written, checked, owned, synced.
//!
//! In: what [`Archive::unpack`] passes on. Out: files on the disk that equal the manifest, or an
//! error at the first thing that is corrupt.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::manifest::DirectoryEntry;
use crate::archive::verify::{MemberCheck, VerifyFault};
use crate::archive::{Archive, ArchiveFault, FileEntry, Sink};
use crate::etcd::start::{Verdict, Verdicts, own_refusal, start_warning};
use crate::fs::staged::{start_writeback, sync_dir, with_path};
use crate::progress::Event;
use crate::restore::{Request, RestoreError, Staging, Target};

/// After how many bytes the kernel is asked to begin writing them to the disk.
const WRITEBACK: u64 = 8 << 20;
/// How many files may wait for their sync at once; until then the disk works on its own.
const UNSYNCED: usize = 32;

/// Whose the restored files will be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// As the archive says.
    Recorded,
    /// All the same.
    Fixed(u32, u32),
}

impl Owner {
    /// What the user said, or the owner of what is replaced, or as recorded.
    pub(crate) fn choose(request: &Request<'_>, target: &Target) -> Self {
        let replaced = fs::metadata(target.member())
            .ok()
            .map(|metadata| (metadata.uid(), metadata.gid()));
        match request.owner.or(replaced) {
            Some((uid, gid)) => Self::Fixed(uid, gid),
            None => Self::Recorded,
        }
    }

    fn of(self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Recorded => (uid, gid),
            Self::Fixed(uid, gid) => (uid, gid),
        }
    }
}

pub(crate) struct Unpacking<'u> {
    archive: &'u Archive,
    staging: &'u Staging,
    owner: Owner,
    check: MemberCheck,
    now: Option<Open>,
    unsynced: Vec<fs::File>,
    directories: Vec<(PathBuf, DirectoryEntry)>,
    /// Files whose owner could not be set: `(path, uid, gid)`.
    not_owned: Option<(PathBuf, u32, u32)>,
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
        owner: Owner,
        observe: &'u mut dyn FnMut(Event),
    ) -> Self {
        Self {
            archive,
            staging,
            owner,
            check: MemberCheck::default().and_starts(archive),
            now: None,
            unsynced: Vec::new(),
            directories: Vec::new(),
            not_owned: None,
            observe,
        }
    }

    /// Proves the whole, then makes it durable. Gives warnings.
    pub(crate) fn finish(mut self, damaged: bool) -> Result<Vec<String>, RestoreError> {
        let starts = self.check.take_starts();
        // Of a damaged data dir every byte is as it was, which is all that there is to prove.
        if self.archive.manifest().damage.is_none() {
            self.check
                .finish(self.archive)
                .map_err(|fault| unsound(self.archive, fault))?;
        }
        let warning = refuse_dead(self.archive, starts, damaged)?;
        sync_all(&mut self.unsynced)?;
        for (path, entry) in self.directories.iter().rev() {
            let (uid, gid) = self.owner.of(entry.uid, entry.gid);
            own(path, uid, gid, &mut self.not_owned);
            fs::set_permissions(path, PermissionsExt::from_mode(entry.mode))?;
            sync_dir(path)?;
        }
        let staged = [Some(&self.staging.data_dir), self.staging.wal_dir.as_ref()];
        for dir in staged.into_iter().flatten() {
            // It becomes the data dir or the WAL dir where there is none.
            if let Some((_, entry)) = self.directories.first() {
                let (uid, gid) = self.owner.of(entry.uid, entry.gid);
                own(dir.path(), uid, gid, &mut self.not_owned);
            }
            sync_dir(dir.path())?;
        }
        let not_owned = self.not_owned.iter().map(not_owned_warning);
        Ok(not_owned.chain(warning).collect())
    }
}

impl Sink for Unpacking<'_> {
    type Error = RestoreError;

    fn directory(&mut self, entry: &DirectoryEntry) -> Result<(), RestoreError> {
        if entry.path == "member/wal/" && self.staging.wal_dir.is_some() {
            return Ok(());
        }
        let path = self.staging.place_of(&entry.path);
        fs::create_dir(&path)?;
        self.directories.push((path, entry.clone()));
        Ok(())
    }

    fn begin(&mut self, entry: &FileEntry) -> Result<(), RestoreError> {
        self.check.begin(entry);
        let path = self.staging.place_of(&entry.path);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        options.options_mut().mode(0o600);
        self.now = Some(Open {
            file: options.open(&path)?,
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

    fn end(
        &mut self,
        entry: &FileEntry,
        digest: Result<(), ArchiveFault>,
    ) -> Result<(), RestoreError> {
        digest.map_err(|fault| unsound(self.archive, fault.into()))?;
        if let Some(fault) = self.check.end() {
            let path = entry.path.clone();
            return Err(unsound(self.archive, VerifyFault::File { path, fault }));
        }
        if let Some(mut open) = self.now.take() {
            open.write_back(1);
            let (uid, gid) = self.owner.of(entry.uid, entry.gid);
            own(open.file.path(), uid, gid, &mut self.not_owned);
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
    /// Lets the disk work on what has been written, once that is at least `least` bytes.
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

/// Sets a path's owner; only the first failure is worth telling.
fn own(path: &std::path::Path, uid: u32, gid: u32, failed: &mut Option<(PathBuf, u32, u32)>) {
    let as_wanted = fs::metadata(path).is_ok_and(|now| now.uid() == uid && now.gid() == gid);
    if !as_wanted
        && std::os::unix::fs::chown(path, Some(uid), Some(gid)).is_err()
        && failed.is_none()
    {
        *failed = Some((path.to_path_buf(), uid, gid));
    }
}

/// That etcd of the release that the data are of does not start from them as they are: refused unless
/// `damaged` data are taken, or a flag makes etcd start.
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
    let why = start_warning(*line, verdict);
    if damaged || *verdict == Verdict::ForceNewClusterOnly {
        return Ok(Some(why));
    }
    let path = archive.path().to_path_buf();
    Err(RestoreError::DoesNotStart { path, why })
}

fn not_owned_warning((_, uid, gid): &(PathBuf, u32, u32)) -> String {
    format!(
        "the files should belong to {uid}:{gid}, which only root can set; they belong to the user who ran this"
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
