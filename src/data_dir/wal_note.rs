//! The note that stands in a dedicated WAL dir whose segments went into `member/wal`.
//!
//! An etcd that is started with `--wal-dir` looks for any name there (2.x) or any `.wal` (3.x) before it takes the member for
//! a new one; it finds the note, no segment, and does not start.

use std::path::Path;

/// The note's file name: no segment is called so.
pub const NAME: &str = "moved-to-member-wal.wal";

/// What the note says; `home` is the directory that has the segments now.
pub fn text(home: &Path) -> String {
    format!(
        "The WAL segments of this member are now in {}, where etcd 2.1 looks for them.\n\
         Start etcd without --wal-dir and without ETCD_WAL_DIR. This file keeps an etcd that is\n\
         started with it from taking the member for a new one.\n",
        home.display()
    )
}
