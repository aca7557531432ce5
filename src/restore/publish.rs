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

#[derive(Debug, Default)]
pub(crate) struct Publication {
    pub(crate) kept: Option<PathBuf>,
    pub(crate) kept_wal: Option<PathBuf>,
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
        let kept = self.beside(data_dir, "member.before-restore");
        moves.rename(&between, &kept)?;
        Ok(Publication {
            undo: vec![undo_member(&member.path(), &kept.path())],
            kept: Some(kept.path()),
            kept_wal: None,
        })
    }

    /// The new member is complete in `member/`, and comes in one step, so that etcd 2.1 finds the old one or the new
    /// one. A note keeps an etcd that still has `--wal-dir` from starting on parts of both: it is there first.
    fn home(&self, place: &Place, moves: &mut Moves) -> io::Result<Publication> {
        let undo_note = self.leave_note(place, moves)?;
        let mut published = self.member_alone(moves)?;
        if published.undo.is_empty() {
            published.undo.push(self.undo_new_member());
        }
        if place.exists() {
            self.put_aside(place, moves, &mut published)?;
        }
        if published.kept_wal.is_none() {
            published.undo.extend(undo_note);
        }
        Ok(published)
    }

    fn undo_new_member(&self) -> String {
        let member = self.target.member();
        let (member, undone) = (quoted(&member), quoted(&undone_name(&member)));
        format!("mv -T {member} {undone}")
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
            let kept = self.beside(data_dir, "member.before-restore");
            moves.rename(&member, &kept)?;
            let undo = undo_member(&member.path(), &kept.path());
            published.undo.push(undo);
            published.kept = Some(kept.path());
        } else {
            published.undo.push(self.undo_new_member());
        }
        if place.exists() {
            self.put_aside(place, moves, &mut published)?;
        }
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
        let kept = moves.create_dir(&self.beside(&wal_dir, "before-restore"), wal_dir.file())?;
        for path in &old {
            let name = path.file_name().unwrap_or_default();
            moves.rename(&wal_dir.entry(name), &kept.entry(name))?;
        }
        published.undo.push(format!(
            "rm {wal}/*.wal && mv {kept}/*.wal {wal}/",
            wal = quoted(&place.path),
            kept = quoted(kept.path())
        ));
        published.kept_wal = Some(kept.path().to_path_buf());
        Ok(())
    }

    /// Prevents an etcd that is still started with `--wal-dir` from starting empty; returns how to undo that, unless an
    /// earlier run has done it.
    fn leave_note(&self, place: &Place, moves: &mut Moves) -> io::Result<Option<String>> {
        let base = Dir::open_resolved(&place.base)?;
        let owner = self.staging.data_dir.dir().file();
        let wal_dir = moves.reach(base, &place.missing, owner)?;
        let note = wal_dir.entry(wal_note::NAME);
        if !note.is_free() {
            return Ok(None);
        }
        // The WAL dir may be on another filesystem than the data dir, so no file can be renamed to it.
        let text = wal_note::text(&self.target.member().join("wal"));
        let staged = StagedFile::holding(&wal_dir, text.as_bytes())?;
        // A sync that fails behind the rename leaves it there, too.
        moves.0.push(Step::Written(note.clone()));
        staged.publish(wal_note::NAME.as_ref())?;
        Ok(Some(format!("rm {}", quoted(&note.path()))))
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

fn undo_member(member: &Path, kept: &Path) -> String {
    format!(
        "mv -T {member} {undone} && mv -T {kept} {member}",
        member = quoted(member),
        undone = quoted(&undone_name(member)),
        kept = quoted(kept)
    )
}

/// A free name: an earlier restore may also have been undone.
fn undone_name(member: &Path) -> PathBuf {
    let names = std::iter::once("member.undone".to_owned());
    let mut names = names.chain((2..).map(|number| format!("member.undone-{number}")));
    let free = names.find_map(|name| {
        let path = member.with_file_name(name);
        path.symlink_metadata().is_err().then_some(path)
    });
    free.unwrap_or_else(|| member.with_file_name("member.undone"))
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
