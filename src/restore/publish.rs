//! Publishing what was staged: by rename, in an order in which etcd never starts on a half.
//!
//! In: a complete, synced [`Staging`]. Out: it stands in place, and what was there is kept under
//! a name of its own. What fails on the way is taken back.

use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;

use crate::data_dir::wal_note;
use crate::fs::staged::{StagedFile, exchange, rename_to_free_name, sync_parents};
use crate::restore::{Staging, Target, segments_in};

/// What was kept and how to get it back.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    pub(crate) kept: Option<PathBuf>,
    pub(crate) kept_wal: Option<PathBuf>,
    pub(crate) undo: Vec<String>,
}

pub(crate) fn publish(
    target: &Target,
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
        Some(wal_dir) => staged.with_wal_dir(wal_dir, &mut moves),
        None => staged.member_alone(&mut moves),
    };
    let published = match published {
        Ok(published) => published,
        Err(error) => {
            moves.take_back();
            return Err(error);
        }
    };
    // Published: what is left of staging is empty.
    drop(staging);
    Ok(published)
}

struct Staged<'s> {
    target: &'s Target,
    staging: &'s Staging,
    /// The time in the names of what is kept.
    time: &'s str,
}

impl Staged<'_> {
    fn member_alone(&self, moves: &mut Moves) -> io::Result<Publication> {
        let member = self.target.member();
        let staged = self.staging.data_dir.path().join("member");
        if !self.target.exists {
            moves.rename(self.staging.data_dir.path(), &self.target.data_dir)?;
            return Ok(Publication::default());
        }
        if fs::symlink_metadata(&member).is_err() {
            moves.rename(&staged, &member)?;
            return Ok(Publication::default());
        }
        // The new directory leaves staging, where a later run's clean-up would find the old one
        // after a kill, for a name that is true before and after the exchange.
        let between = self.beside("exchange");
        moves.rename(&staged, &between)?;
        moves.exchange(&between, &member)?;
        let kept = self.beside("before-restore");
        moves.rename(&between, &kept)?;
        Ok(Publication {
            undo: vec![undo_member(&member, &kept)],
            kept: Some(kept),
            kept_wal: None,
        })
    }

    /// With segments elsewhere there are two places and no single step: `member/` goes out
    /// first and comes in last, and without it etcd does not start on the segments.
    fn with_wal_dir(&self, wal_dir: &Path, moves: &mut Moves) -> io::Result<Publication> {
        let member = self.target.member();
        let mut published = Publication::default();
        if fs::symlink_metadata(&member).is_ok() {
            let kept = self.beside("before-restore");
            moves.rename(&member, &kept)?;
            published.undo.push(undo_member(&member, &kept));
            published.kept = Some(kept);
        } else {
            let (member, undone) = (quoted(&member), quoted(&undone_name(&member)));
            published.undo.push(format!("mv -T {member} {undone}"));
        }
        let old = segments_in(wal_dir);
        if !old.is_empty() {
            let kept = wal_dir.join(format!("before-restore-{}", self.time));
            moves.create_dir(&kept)?;
            for path in &old {
                moves.rename(path, &kept.join(path.file_name().unwrap_or_default()))?;
            }
            published.undo.push(format!(
                "rm {wal}/*.wal && mv {kept}/*.wal {wal}/",
                wal = quoted(wal_dir),
                kept = quoted(&kept)
            ));
            published.kept_wal = Some(kept);
        }
        match &self.staging.wal_dir {
            None => {
                let undo = self.leave_note(wal_dir, moves)?;
                if published.kept_wal.is_none() {
                    published.undo.push(undo);
                }
            }
            Some(staged) if wal_dir.is_dir() => {
                for path in fs::read_dir(staged.path())? {
                    let path = path?.path();
                    moves.rename(&path, &wal_dir.join(path.file_name().unwrap_or_default()))?;
                }
            }
            Some(staged) => moves.rename(staged.path(), wal_dir)?,
        }
        if self.target.exists {
            moves.rename(&self.staging.data_dir.path().join("member"), &member)?;
        } else {
            moves.rename(self.staging.data_dir.path(), &self.target.data_dir)?;
        }
        Ok(published)
    }

    /// Keeps an etcd that is still started with `--wal-dir` from starting empty; how to undo that.
    fn leave_note(&self, wal_dir: &Path, moves: &mut Moves) -> io::Result<String> {
        if !wal_dir.is_dir() {
            moves.create_dir(wal_dir)?;
        }
        let note = wal_dir.join(wal_note::NAME);
        // The WAL dir may be another filesystem than the data dir: no file comes there by rename.
        let staged = StagedFile::create(wal_dir)?;
        let text = wal_note::text(&self.target.member().join("wal"));
        staged.file().write_all(text.as_bytes())?;
        staged.sync()?;
        staged.publish(&note)?;
        moves.0.push(Step::Written(note.clone()));
        Ok(format!("rm {}", quoted(&note)))
    }

    /// A name of its own beside `member`.
    fn beside(&self, what: &str) -> PathBuf {
        let name = format!("member.{what}-{}", self.time);
        self.target.data_dir.join(name)
    }
}

/// One step of a publication.
enum Step {
    Renamed { from: PathBuf, to: PathBuf },
    Exchanged { one: PathBuf, other: PathBuf },
    Created(PathBuf),
    Written(PathBuf),
}

/// Steps done so far, to be taken back in reverse. A step counts from the moment it is done, not
/// from when it is durable: where a sync fails after it, it must be taken back too.
#[derive(Default)]
struct Moves(Vec<Step>);

impl Moves {
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        rename_to_free_name(from, to)?;
        let (source, target) = (from.to_path_buf(), to.to_path_buf());
        self.0.push(Step::Renamed {
            from: source,
            to: target,
        });
        sync_parents(from, to)
    }

    fn exchange(&mut self, one: &Path, other: &Path) -> io::Result<()> {
        exchange(one, other)?;
        self.0.push(Step::Exchanged {
            one: one.to_path_buf(),
            other: other.to_path_buf(),
        });
        sync_parents(one, other)
    }

    fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        self.0.push(Step::Created(path.to_path_buf()));
        Ok(())
    }

    /// Stops at the first step that cannot be taken back: after it the names are no longer what
    /// the earlier steps left, and what goes back into staging is removed with it.
    fn take_back(&mut self) {
        for step in self.0.drain(..).rev() {
            let taken_back = match &step {
                Step::Renamed { from, to } => rename_to_free_name(to, from),
                Step::Exchanged { one, other } => exchange(one, other),
                Step::Created(path) => fs::remove_dir(path),
                Step::Written(path) => fs::remove_file(path),
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
                // The names are back; that they are durable as well cannot be had by force.
                let _ = sync_parents(one, other);
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

fn undone_name(member: &Path) -> PathBuf {
    member.with_file_name("member.undone")
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
