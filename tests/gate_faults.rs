//! `downgrade run --move-wal`, with a failure at every system call.
//!
//! Guards against the one thing worse than a member that does not start: one that starts with an empty or incomplete
//! WAL as a new member, and forgets what it had acknowledged. After each failure both starts are checked: by 2.1, which
//! knows only `member/wal`, and by 2.2 with its old `--wal-dir`.

use crate::faults::{
    Blow, Call, Content, Story, content, digests, ensure, ensure_no_staging, strike_everywhere,
};
use crate::support::encode::members;
use crate::support::prelude::*;
use crate::support::relabel_member::make_member;

const NOTE: &str = "moved-to-member-wal.wal";

struct MoveStory {
    /// A member with its segments in `wal`, beside its data dir `data`.
    before: PathBuf,
    /// Another member's data dir, which makes a majority with it.
    read_input: PathBuf,
}

impl MoveStory {
    fn new(dir: &Path) -> Self {
        let (before, read_input) = (dir.join("before"), dir.join("witness"));
        small_member(&read_input);
        copy_dir(&read_input, &before.join("data"));
        make_member(&read_input, members()[0].0);
        std::fs::rename(before.join("data/member/wal"), before.join("wal")).unwrap();
        Self { before, read_input }
    }

    /// The segments in a directory; none if it is missing.
    fn segments(dir: &Path) -> Content {
        let mut all = content(dir);
        all.retain(|path, _| {
            let is_segment = path.extension().is_some_and(|extension| extension == "wal");
            is_segment && path.components().count() == 1 && path != Path::new(NOTE)
        });
        all
    }

    fn wanted(&self) -> Content {
        Self::segments(&self.before.join("wal"))
    }

    fn is_home(&self, root: &Path) -> bool {
        Self::segments(&root.join("data/member/wal")) == self.wanted()
    }

    /// Whatever etcd would start on is all there, or it does not start.
    fn judge_instant(&self, root: &Path) -> Result<(), String> {
        let home = names(&root.join("data/member/wal"));
        ensure(home.is_empty() || self.is_home(root), || {
            format!("2.1 would start on a half WAL: {home:?}")
        })?;
        let names = names(&root.join("wal"));
        let left = Self::segments(&root.join("wal"));
        let wanted = self.wanted();
        if left == wanted {
            return Ok(());
        }
        ensure(names.contains(&NOTE.to_owned()), || {
            format!("2.2 would take the member for a new one: {names:?}")
        })?;
        ensure(self.is_home(root), || {
            "segments went before their copies stood".to_owned()
        })?;
        // The oldest went first, and it is needed: opening the WAL fails.
        let newest_left = wanted
            .into_iter()
            .rev()
            .take(left.len())
            .collect::<Content>();
        ensure(left == newest_left, || {
            format!("2.2 would find a hole: {names:?}")
        })
    }
}

impl Story for MoveStory {
    fn prepare(&self, root: &Path) {
        for part in ["data", "wal"] {
            copy_dir(&self.before.join(part), &root.join(part));
        }
    }

    fn args(&self, root: &Path) -> Vec<OsString> {
        let line = "downgrade run --offline --threads 1 --move-wal --data-dir {} --wal-dir {}";
        let mut args = words(line, &[&root.join("data"), &root.join("wal")]);
        // The snapshot is struck in a story of its own.
        args.extend(["--backup-dir".into(), root.with_extension("backups").into()]);
        args.push(self.read_input.clone().into());
        args
    }

    fn judge(&self, root: &Path, struck: Option<(&Call, Blow)>, ran: &Ran) -> Result<(), String> {
        self.judge_instant(root)?;
        let (old, present) = (digests(&self.before), digests(root));
        ensure(old.is_subset(&present), || {
            "something is nowhere".to_owned()
        })?;
        ensure(struck.is_some() || ran.code == 0, || {
            "it does not go on".to_owned()
        })?;
        if ran.code == 0 {
            // A young leftover of the struck run outlives the next one; it is a file of ours, not a segment.
            let mut names = names(&root.join("wal"));
            names.retain(|name| !name.starts_with(".etcd-ark-"));
            ensure(self.is_home(root), || "done, and not home".to_owned())?;
            ensure(names.len() == 2 && names[1] == NOTE, || {
                format!("done, and left: {names:?}")
            })?;
            let kept = Self::segments(&root.join("wal").join(&names[0]));
            ensure(kept == self.wanted(), || {
                "done, and the old ones are not kept".to_owned()
            })?;
        }
        ensure_no_staging(root, struck, ran)
    }
}

#[test]
fn the_way_home_struck_anywhere_leaves_a_whole_wal_or_one_that_etcd_refuses() {
    only_with!(need("strace"));
    let dir = fast_dir("ark-faults-");
    let blows = strike_everywhere(&MoveStory::new(dir.path()));
    println!("move-wal: {blows} blows");
    assert!(blows > 50, "only {blows}");
}
