//! The note in a dedicated WAL dir after its segments were moved to `member/wal`.
//!
//! An etcd that is started with `--wal-dir` looks there for any name (2.x) or any `.wal` (3.x) before it starts as
//! a new member; it finds the note, but no segment, and does not start.

use std::path::Path;

/// The note's file name, which is not a segment's name.
pub const NAME: &str = "moved-to-member-wal.wal";

/// The note's text; `home` is the directory with the segments.
pub fn text(home: &Path) -> String {
    format!(
        "The WAL segments of this member are now in {}, where etcd 2.1 looks for them.\n\
         Start etcd without --wal-dir and without ETCD_WAL_DIR. This file keeps an etcd that is\n\
         started with it from taking the member for a new one.\n",
        home.display()
    )
}
