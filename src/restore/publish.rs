//! Publishes a staged restore by renames, in an order in which etcd never starts on a part of it.
//!
//! In: a complete, synced [`Staging`]. Out: it is in place, and the old data are kept under
//! another name. If a step fails, the steps before it are undone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use jiff::Timestamp;

use crate::data_dir::wal_note;
use crate::fs::dir::{Dir, Entry};
use crate::fs::owner::give_to_owner_of;
use crate::fs::staged::{StagedDir, StagedFile};
use crate::restore::{Place, RestoreTarget, Staging, segments_in};

/// The beginning of the name of a replaced member, and of the directory of a replaced log; a time follows.
const KEPT_MEMBER: &str = "member.before-restore";
const KEPT_WAL: &str = "before-restore";

#[derive(Debug, Default)]
pub(crate) struct Publication {
    pub(crate) kept: Option<PathBuf>,
    pub(crate) kept_wal: Option<PathBuf>,
    /// Shell commands, each for after the one before: they remove nothing but a note, and the first one fails if they
    /// are run again.
    pub(crate) undo: Vec<String>,
}

pub(crate) fn publish(
    target: &RestoreTarget,
    staging: Staging,
    now: Timestamp,
) -> io::Result<Publication> {
    let time = now.strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let staged = Staged {
        target,
        staging: &staging,
        time: &time,
    };
    let mut moves = Moves::default();
    let published = match &target.wal_dir {
        Some(place) => staged.with_wal_dir(place, &mut moves),
        None => staged.member_alone(&mut moves),
    };
    let published = match published {
        Ok(published) => published,
        Err(error) => {
            moves.take_back();
            return Err(error);
        }
    };
    // Published: the staging directory is empty now.
    drop(staging);
    Ok(published)
}

/// The warning that an earlier restore ended in between, and where the member is that it had moved away.
pub(crate) fn cut_off_before(target: &RestoreTarget) -> io::Result<Option<String>> {
    let mut kept = kept_in(&target.data_dir.path, KEPT_MEMBER)?;
    if kept.is_empty() || fs::symlink_metadata(target.member()).is_ok() {
        return Ok(None);
    }
    if let Some(wal_dir) = target.wal_path() {
        kept.extend(kept_in(wal_dir, KEPT_WAL)?);
    }
    Ok(Some(format!(
        "there was no member directory to replace: an earlier restore ended in between; the data that it replaced are in {}, \
         and the printed undo does not bring them back",
        kept.join(" and ")
    )))
}

/// The paths in `dir` with names that begin with `kept`; none if it does not exist.
fn kept_in(dir: &Path, kept: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(kept) {
            found.push(format!("`{}`", entry.path().display()));
        }
    }
    found.sort();
    Ok(found)
}

struct Staged<'s> {
    target: &'s RestoreTarget,
    staging: &'s Staging,
    time: &'s str,
}

impl Staged<'_> {
    fn member_alone(&self, moves: &mut Moves) -> io::Result<Publication> {
        let target = &self.target.data_dir;
        // If the data dir is missing, this is its future parent: there is no member to replace.
        let data_dir = &self.staging.data_dir.place().dir;
        let member = data_dir.entry("member");
        if !target.exists() || member.is_free() {
            moves.place(&self.staging.data_dir, &target.missing)?;
            return Ok(Publication::default());
        }
        // The new directory leaves staging first, where a later run's clean-up would remove the old one
        // after a kill, and gets a name that fits before and after the exchange.
        let between = self.beside(data_dir, "member.exchange");
        moves.rename(&self.staging.data_dir.dir().entry("member"), &between)?;
        moves.exchange(&between, &member)?;
        let kept = self.beside(data_dir, KEPT_MEMBER);
        moves.rename(&between, &kept)?;
        Ok(Publication {
            undo: undo_member(&member.path(), Some(&kept.path())),
            kept: Some(kept.path()),
            kept_wal: None,
        })
    }

    /// The new member is complete in `member/`, and comes in one step, so that etcd 2.1 finds the old one or the new
    /// one. A note keeps an etcd that still has `--wal-dir` from starting on parts of both: it is there first.
    fn home(&self, place: &Place, moves: &mut Moves) -> io::Result<Publication> {
        let (note, is_new) = self.leave_note(place, moves)?;
        let mut published = self.member_alone(moves)?;
        if published.undo.is_empty() {
            published.undo = undo_member(&self.target.member(), None);
        }
        if place.exists() {
            self.put_aside(place, moves, &mut published)?;
        }
        published.undo.extend(undo_wal(&published));
        // Last: until then an etcd with the flag does not start.
        if is_new || published.kept_wal.is_some() {
            published.undo.push(format!("rm {}", quoted(&note)));
        }
        Ok(published)
    }

    /// With segments elsewhere there are two places and no single step: `member/` is moved out
    /// first and in last, and without it an etcd with `--wal-dir` does not start on the segments.
    fn with_wal_dir(&self, place: &Place, moves: &mut Moves) -> io::Result<Publication> {
        let Some(staged_wal) = &self.staging.wal_dir else {
            return self.home(place, moves);
        };
        let target = &self.target.data_dir;
        let mut published = Publication::default();
        let data_dir = &self.staging.data_dir.place().dir;
        let member = data_dir.entry("member");
        if target.exists() && !member.is_free() {
            let kept = self.beside(data_dir, KEPT_MEMBER);
            moves.rename(&member, &kept)?;
            published.kept = Some(kept.path());
        }
        if place.exists() {
            self.put_aside(place, moves, &mut published)?;
        }
        published.undo = undo_member(&self.target.member(), published.kept.as_deref());
        let wal = quoted(&place.path);
        let undone = quoted(&free_name(&place.path.join("undone")));
        published.undo.push(format!("mkdir {undone}"));
        published.undo.push(format!("mv {wal}/*.wal {undone}/"));
        published.undo.extend(undo_wal(&published));
        moves.place(staged_wal, &place.missing)?;
        moves.place(&self.staging.data_dir, &target.missing)?;
        Ok(published)
    }

    /// Moves the segments of a WAL dir into a new directory in it.
    fn put_aside(
        &self,
        place: &Place,
        moves: &mut Moves,
        published: &mut Publication,
    ) -> io::Result<()> {
        let mut old = segments_in(&place.path)?;
        let stays = self.target.home.then_some(OsStr::new(wal_note::NAME));
        old.retain(|path| stays.is_none() || path.file_name() != stays);
        if old.is_empty() {
            return Ok(());
        }
        let wal_dir = Dir::open_resolved(&place.path)?;
        let kept = moves.create_dir(&self.beside(&wal_dir, KEPT_WAL), wal_dir.file())?;
        for path in &old {
            let name = path.file_name().unwrap_or_default();
            moves.rename(&wal_dir.entry(name), &kept.entry(name))?;
        }
        published.kept_wal = Some(kept.path().to_path_buf());
        Ok(())
    }

    /// Prevents an etcd that is still started with `--wal-dir` from starting empty, by a note; returns its path, and
    /// whether this run has made it.
    fn leave_note(&self, place: &Place, moves: &mut Moves) -> io::Result<(PathBuf, bool)> {
        let base = Dir::open_resolved(&place.base)?;
        let owner = self.staging.data_dir.dir().file();
        let wal_dir = moves.reach(base, &place.missing, owner)?;
        let note = wal_dir.entry(wal_note::NAME);
        if !note.is_free() {
            return Ok((note.path(), false));
        }
        // The WAL dir may be on another filesystem than the data dir, so no file can be renamed to it.
        let text = wal_note::text(&self.target.member().join("wal"));
        let staged = StagedFile::holding(&wal_dir, text.as_bytes())?;
        // A sync that fails behind the rename leaves it there, too.
        moves.0.push(Step::Written(note.clone()));
        staged.publish(wal_note::NAME.as_ref())?;
        Ok((note.path(), true))
    }

    /// A free name that contains the time.
    fn beside(&self, dir: &Arc<Dir>, what: &str) -> Entry {
        dir.entry(format!("{what}-{}", self.time)).free()
    }
}

enum Step {
    Renamed { from: Entry, to: Entry },
    Exchanged { one: Entry, other: Entry },
    Created(Entry),
    Written(Entry),
}

/// Finished steps, to be undone in reverse. A step counts as soon as it is done, not when it
/// is durable: if a sync fails after it, it must be undone too.
#[derive(Default)]
struct Moves(Vec<Step>);

impl Moves {
    fn rename(&mut self, from: &Entry, to: &Entry) -> io::Result<()> {
        from.rename_to_free(to)?;
        self.0.push(Step::Renamed {
            from: from.clone(),
            to: to.clone(),
        });
        from.sync_with(to)
    }

    fn exchange(&mut self, one: &Entry, other: &Entry) -> io::Result<()> {
        one.exchange(other)?;
        self.0.push(Step::Exchanged {
            one: one.clone(),
            other: other.clone(),
        });
        one.sync_with(other)
    }

    /// A new directory, with the owner of `like`.
    fn create_dir(&mut self, entry: &Entry, like: &fs::File) -> io::Result<Arc<Dir>> {
        let made = entry.dir.create_dir(&entry.name)?;
        self.0.push(Step::Created(entry.clone()));
        give_to_owner_of(like, made.file());
        Ok(made)
    }

    /// The directory at the path `names` below `dir`. Missing ones are created as etcd does: with mode
    /// 0700, and with the owner of the data, which is that of `like`.
    fn reach(
        &mut self,
        mut dir: Arc<Dir>,
        names: &[OsString],
        like: &fs::File,
    ) -> io::Result<Arc<Dir>> {
        for name in names {
            let entry = dir.entry(name);
            dir = if entry.is_free() {
                let made = self.create_dir(&entry, like)?;
                dir.sync()?;
                made
            } else {
                dir.open_dir(name)?
            };
        }
        Ok(dir)
    }

    /// Moves a staged directory to `names` below its parent. If that exists, the content of the
    /// staged one is moved into it.
    fn place(&mut self, staged: &StagedDir, names: &[OsString]) -> io::Result<()> {
        let place = staged.place();
        place.must_be(staged.dir().file())?;
        let mut dir = Arc::clone(&place.dir);
        if let Some((last, above)) = names.split_last() {
            dir = self.reach(dir, above, staged.dir().file())?;
            let entry = dir.entry(last);
            if entry.is_free() {
                return self.rename(place, &entry);
            }
            dir = dir.open_dir(last)?;
        }
        for name in staged.dir().names()? {
            self.rename(&staged.dir().entry(&name), &dir.entry(&name))?;
        }
        Ok(())
    }

    /// Undoes the steps. Stops at the first that fails: after it the earlier steps' names are not
    /// as they left them, and what is moved back into staging is removed with it.
    fn take_back(&mut self) {
        for step in self.0.drain(..).rev() {
            let taken_back = match &step {
                Step::Renamed { from, to } => to.rename_to_free(from),
                Step::Exchanged { one, other } => one.exchange(other),
                Step::Created(entry) => entry.remove_dir(),
                Step::Written(entry) => entry.remove(),
            };
            if taken_back.is_err() {
                return;
            }
            if let Step::Renamed {
                from: one,
                to: other,
            }
            | Step::Exchanged { one, other } = &step
            {
                // The names are restored; if they cannot be synced, nothing more can be done.
                let _ = one.sync_with(other);
            }
        }
    }
}

/// Moves the restored member away, and the `kept` one back.
fn undo_member(member: &Path, kept: Option<&Path>) -> Vec<String> {
    let undone = quoted(&free_name(&member.with_file_name("member.undone")));
    let member = quoted(member);
    let mut undo = vec![format!("mv -T {member} {undone}")];
    undo.extend(kept.map(|kept| format!("mv -T {} {member}", quoted(kept))));
    undo
}

/// Moves the kept segments back to the WAL dir that they are in.
fn undo_wal(published: &Publication) -> Option<String> {
    let kept = published.kept_wal.as_deref()?;
    let wal = kept.parent()?;
    Some(format!("mv {}/*.wal {}/", quoted(kept), quoted(wal)))
}

/// `path`, or the same with a number: an earlier restore may also have been undone.
fn free_name(path: &Path) -> PathBuf {
    let numbered = |number: u64| PathBuf::from(format!("{}-{number}", path.display()));
    let mut names = std::iter::once(path.to_path_buf()).chain((2..).map(numbered));
    let free = names.find(|path| path.symlink_metadata().is_err());
    free.unwrap_or_else(|| path.to_path_buf())
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
