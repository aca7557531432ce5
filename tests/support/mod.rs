//! Support for the stories: recordings of real servers, an encoder of our own, and a member that writes while captures
//! run.
//!
//! Nothing here uses the crate under test, so that a bug in its reading cannot be hidden by the same bug in the
//! writing.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "shared by all stories: not each uses everything, and a failure to prepare a test is a failed test"
)]

/// Builds archives from the drawing in the format's documentation, right ones and hostile ones.
pub mod archive_builder;
/// Runs the real binary, and the tools an operator has beside it.
pub mod ark;
/// Certificates of an authority made for one test.
pub mod certs;
/// Damages of a data dir, and pairs of them, on recordings of several releases.
pub mod damages;
/// Reads etcd's bytes on its own, for the tests to hold the tool's answers against.
pub mod decode;
/// Writes etcd's bytes: WAL frames, raft snapshots, requests, the v2 store, and a small valid member.
pub mod encode;
/// A real etcd server on the loopback.
pub mod etcd;
/// Servers on the loopback that answer as a cluster of etcd 2.x does, or as badly as a test wants.
pub mod fake_cluster;
/// Behaves like a busy etcd 2.x member in threads of the test process, and remembers what it wrote.
pub mod live_writer;
/// Archives as many nights leave them in a backup dir.
pub mod nights;
/// The names that nearly every story uses.
pub mod prelude;
/// Random operations of the v2 API, the same again for the same seed.
pub mod random_ops;
/// Unpacks the recordings in `testdata/` and compares and copies directory trees.
pub mod recordings;
/// Rewrites a copy of a data dir: other URLs, another member.
pub mod relabel_member;
/// A real S3 server, and a road to it that counts, refuses and breaks down.
pub mod s3;
/// The small member in a directory of its own, with a place for its archives.
pub mod scene;
/// What stories need of the machine: real tools, servers that end with the tests, mounts of their own.
pub mod tools;
/// Three real etcd servers that are one cluster.
pub mod trio;
