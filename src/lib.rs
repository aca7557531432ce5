//! Snapshots an etcd 2.x member's data directory into one sealed archive, proves it, restores it.
//!
//! The layers, each knowing only those below it:
//!
//! - [`workflow`]: what etcd's upgrade guide says, and its way back: the gate, rewinding a cluster.
//! - [`deed`]: what is done to a member's bytes: capture, survey, verify, restore; its store read,
//!   compared and proven.
//! - [`place`]: where they are: a data dir on disk, an archive in one file.
//! - [`language`]: what etcd's bytes mean: WAL, raft snapshot, the v2 store and its rules.
//! - [`ground`]: ids, digests, JSON in pieces, ordered parallel work, publishing by rename.
//!
//! Values come back, events go up through an `observe` function, and nothing here prints or reads
//! the environment or the clock.
//!
//! ```
//! use etcd_ark::deed::capture::{Destination, Moment, Request, capture};
//! use etcd_ark::ground::interrupt::Interrupt;
//! use etcd_ark::place::archive::manifest::Scope;
//! use etcd_ark::place::data_dir::DataDir;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let backups = tempfile::tempdir()?;
//! let data_dir = DataDir::open("testdata/infra0.etcd".as_ref(), None)?;
//! let request = Request {
//!     data_dir: &data_dir,
//!     to: Destination::BackupDir(backups.path()),
//!     scope: Scope::Live,
//!     labels: vec!["pre-upgrade".to_owned()],
//!     level: 3,
//!     threads: 2,
//!     size_limit: 100_000_000,
//!     created: Moment::Beginning(jiff::Timestamp::now),
//!     lock: None,
//! };
//! let captured = capture(&request, &Interrupt::default(), &mut |_event| ())?;
//! assert_eq!(captured.manifest.member.position.index.0, 250);
//! # Ok(())
//! # }
//! ```

#[doc(hidden)]
pub mod cli;
pub mod deed;
pub mod ground;
pub mod language;
pub mod place;
pub mod workflow;
