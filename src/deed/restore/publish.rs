//! Publishing what was staged: by rename, in an order in which etcd never starts on a half.
//!
//! In: a complete, synced [`Staging`]. Out: it stands in place, and what was there is kept under
//! a name of its own. What fails on the way is taken back.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;

use super::{Staging, Target, segments_in};
use crate::ground::publish::{exchange, rename_to_free_name, sync_dir};

/// What was kept and how to get it back.
#[derive(Debug, Default)]
pub(super) struct Publication {
    pub(super) kept: Option<PathBuf>,
    pub(super) kept_wal: Option<PathBuf>,
    pub(super) undo: Vec<String>,
}

pub(super) fn publish(
    target: &Target,
    staging: Staging,
    now: Timestamp,
) -> io::Result<Publication> {
    let suffix = format!("before-restore-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ"));
    let staged = Staged {
        target,
        staging: &staging,
        suffix: &suffix,
    };
    let published = if target.wal_dir.is_some() {
        staged.with_wal_dir()?
    } else {
        staged.member_alone()?
    };
    // Published: what is left of staging is empty.
    drop(staging);
    Ok(published)
}

struct Staged<'s> {
    target: &'s Target,
    staging: &'s Staging,
    suffix: &'s str,
}

impl Staged<'_> {
    fn member_alone(&self) -> io::Result<Publication> {
        let member = self.target.member();
        let staged = self.staging.data_dir.path().join("member");
        if !self.target.exists {
            rename_to_free_name(self.staging.data_dir.path(), &self.target.data_dir)?;
            return Ok(Publication::default());
        }
        if fs::symlink_metadata(&member).is_err() {
            rename_to_free_name(&staged, &member)?;
            return Ok(Publication::default());
        }
        // The new directory takes the name under which the old one will be kept, out of reach
        // of a later run's clean-up; then the two change places in one step.
        let kept = self.kept_member();
        rename_to_free_name(&staged, &kept)?;
        if let Err(error) = exchange(&kept, &member) {
            rename_to_free_name(&kept, &staged)?;
            return Err(error);
        }
        Ok(Publication {
            undo: vec![undo_member(&member, &kept)],
            kept: Some(kept),
            kept_wal: None,
        })
    }

    /// With segments elsewhere there are two places and no single step: `member/` goes out
    /// first and comes in last, and without it etcd does not start on the segments.
    fn with_wal_dir(&self) -> io::Result<Publication> {
        let mut moves = Moves::default();
        match self.move_all(&mut moves) {
            Ok(published) => Ok(published),
            Err(error) => {
                moves.take_back();
                Err(error)
            }
        }
    }

    fn move_all(&self, moves: &mut Moves) -> io::Result<Publication> {
        let member = self.target.member();
        let mut published = Publication::default();
        let (Some(wal_dir), Some(staged_wal)) = (&self.target.wal_dir, &self.staging.wal_dir)
        else {
            return Ok(published);
        };
        if fs::symlink_metadata(&member).is_ok() {
            let kept = self.kept_member();
            moves.rename(&member, &kept)?;
            published.undo.push(undo_member(&member, &kept));
            published.kept = Some(kept);
        }
        let old = segments_in(wal_dir);
        if !old.is_empty() {
            let kept = wal_dir.join(self.suffix);
            fs::create_dir(&kept)?;
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
        if wal_dir.is_dir() {
            for path in fs::read_dir(staged_wal.path())? {
                let path = path?.path();
                moves.rename(&path, &wal_dir.join(path.file_name().unwrap_or_default()))?;
            }
        } else {
            moves.rename(staged_wal.path(), wal_dir)?;
        }
        if self.target.exists {
            moves.rename(&self.staging.data_dir.path().join("member"), &member)?;
        } else {
            moves.rename(self.staging.data_dir.path(), &self.target.data_dir)?;
        }
        Ok(published)
    }

    fn kept_member(&self) -> PathBuf {
        self.target.data_dir.join(format!("member.{}", self.suffix))
    }
}

/// Renames done so far, to be taken back in reverse.
#[derive(Default)]
struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        rename_to_free_name(from, to)?;
        self.0.push((from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn take_back(&mut self) {
        for (from, to) in self.0.drain(..).rev() {
            // Nothing better can be done where this fails too; nothing is removed.
            let _ = rename_to_free_name(&to, &from);
            let _ = to.parent().map(sync_dir);
        }
    }
}

fn undo_member(member: &Path, kept: &Path) -> String {
    let undone = member.with_file_name("member.undone");
    format!(
        "mv -T {member} {undone} && mv -T {kept} {member}",
        member = quoted(member),
        undone = quoted(&undone),
        kept = quoted(kept)
    )
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
