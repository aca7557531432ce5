//! Backs up, verifies and restores etcd 2.x data directories, and takes a cluster back to the
//! release before.
//!
//! From the bottom up; a module uses only those in lines above its own:
//!
//! - [`etcd`]: what etcd's bytes mean: WAL, raft snapshots, the v2 store and its rules. Pure: no files, clock or environment.
//! - [`clock`], [`fs`], [`text`], [`progress`], [`interrupt`], [`thread_pool`]: small tools that everything uses.
//! - [`data_dir`], [`archive`], [`cluster`]: a member's directory, an archive, a running cluster over HTTP.
//! - [`repository`]: the places of archives, directories and buckets, and their lock.
//! - [`target`]: an archive or a data dir, read in the same way.
//! - [`snapshot`], [`restore`], [`rewind`], [`retention`], [`monitoring`], [`upgrade`], [`drill`], [`put_keys`]: what is done
//!   with them.
//! - [`cli`]: arguments in, text and JSON out.
//!
//! Values come back and events go up through an `observe` function. Only `cli` prints.
//!
//! ```
//! use etcd_ark::snapshot::destination::Destination;
//! use etcd_ark::snapshot::{CreatedAt, SnapshotRequest, capture};
//! use etcd_ark::interrupt::Interrupt;
//! use etcd_ark::archive::manifest::Scope;
//! use etcd_ark::data_dir::DataDir;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let backups = tempfile::tempdir()?;
//! let data_dir = DataDir::open("testdata/infra0.etcd".as_ref(), None)?;
//! let request = SnapshotRequest {
//!     data_dir: &data_dir,
//!     to: Destination::BackupDir(backups.path()),
//!     scope: Scope::Live,
//!     labels: vec!["pre-upgrade".to_owned()],
//!     level: 3,
//!     threads: 2,
//!     size_limit: 100_000_000,
//!     created: CreatedAt::Beginning(etcd_ark::clock::now),
//!     lock: None,
//! };
//! let captured = capture(&request, &Interrupt::default(), &mut |_event| ())?;
//! assert_eq!(captured.manifest.member.position.index.0, 250);
//! # Ok(())
//! # }
//! ```

pub mod archive;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod data_dir;
pub mod drill;
pub mod etcd;
pub mod fs;
pub mod interrupt;
pub mod monitoring;
pub mod progress;
pub mod put_keys;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod rewind;
pub mod snapshot;
pub mod target;
pub mod text;
pub mod thread_pool;
pub mod upgrade;
