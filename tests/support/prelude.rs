//! What nearly every story uses: paths, processes and JSON of the libraries, and of this support the binary, tools,
//! recordings and the small member.

pub use std::collections::{BTreeMap, BTreeSet};
pub use std::ffi::{OsStr, OsString};
pub use std::path::{Path, PathBuf};
pub use std::process::{Child, Command, Stdio};
pub use std::time::{Duration, Instant};

pub use fs_err as fs;
pub use serde_json::{Value, json};
pub use tempfile::TempDir;

pub use super::ark::*;
pub use super::decode;
pub use super::encode::{make_dir, small_member, write_file};
pub use super::etcd::Etcd;
pub use super::fake_cluster::FakeCluster;
pub use super::recordings::*;
pub use super::scene::small_scene;
pub use super::tools::*;
pub(crate) use super::tools::{is_thorough, only_with};
