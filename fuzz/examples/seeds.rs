//! Writes a seed corpus of a few KB a target to `fuzz/seeds`, from the recording `testdata/infra0.etcd`.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --no-default-features --example seeds`

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use etcd_ark::archive::manifest::Scope;
use etcd_ark::data_dir::DataDir;
use etcd_ark::etcd::ids::SnapshotId;
use etcd_ark::etcd::wal::segment::SegmentScan;
use etcd_ark::interrupt::Interrupt;
use etcd_ark::snapshot::destination::Destination;
use etcd_ark::snapshot::{CreatedAt, SnapshotRequest, capture};
use serde_json::Value;

type Done = Result<(), Box<dyn Error>>;

/// About how many bytes of a recording go into a seed.
const ENOUGH: usize = 3000;

fn main() -> Done {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data_dir = home.join("../testdata/infra0.etcd");
    wal_segment(&data_dir.join("member/wal"))?;
    raft_snapshot(&data_dir.join("member/snap"))?;
    archive_manifest(&data_dir)
}

fn seed(target: &str, name: &str, parts: &[&[u8]]) -> Done {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = home.join("seeds").join(target);
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join(name), parts.concat())?)
}

fn first_in(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let mut names = names.collect::<Result<Vec<_>, _>>()?;
    names.sort();
    Ok(names.into_iter().next().ok_or("an empty directory")?)
}

/// The first records as they stand, and as a list to be framed again: as 2.x, as 3.x with the room it
/// preallocates, above a raft snapshot, as a later segment and with a tail of rubble.
fn wal_segment(dir: &Path) -> Done {
    let recorded = fs::read(first_in(dir)?)?;
    let (mut listed, mut end) = (Vec::new(), 0);
    SegmentScan::new(Some(0)).update(&recorded, &mut |at| {
        let data = at.record.data.unwrap_or_default();
        if at.offset < ENOUGH as u64 {
            end = (at.offset + at.frame) as usize;
            if let Ok(length) = u8::try_from(data.len()) {
                listed.extend([at.record.kind as u8, length]);
                listed.extend(data);
            }
        }
        Ok(())
    });
    // The crc and the metadata record: the target writes its own.
    let header = 2 + 2 + usize::from(listed[3]);
    let listed = &listed[header..];
    let (sizes_and_cut, zeros) = ([7, 100, 0, 0x40, 3], [0; 600]);
    let head = |form, sequence, first_index: u64| {
        let index = first_index.to_le_bytes();
        [&[form, sequence][..], &index, &sizes_and_cut].concat()
    };
    let raw = &recorded[..end];
    seed("wal_segment", "raw", &[&head(0, 0, 0), raw])?;
    seed(
        "wal_segment",
        "raw-torn",
        &[&head(0, 0, 0), &raw[..end - 9]],
    )?;
    seed("wal_segment", "framed-2.x", &[&head(1, 0, 0), listed])?;
    seed(
        "wal_segment",
        "framed-3.x",
        &[&head(2, 0, 0), listed, &zeros],
    )?;
    seed(
        "wal_segment",
        "above-a-snapshot",
        &[&head(1 + 3 * 9, 0, 0), listed, &[5, 4, 0x08, 9, 0x10, 1]],
    )?;
    seed("wal_segment", "later", &[&head(1, 3, 2), listed])?;
    seed(
        "wal_segment",
        "rubble",
        &[&head(2, 0, 0), listed, b"rubble"],
    )
}

/// A store without its watchers and all but a few keys: as a file, and to be wrapped as one.
fn raft_snapshot(dir: &Path) -> Done {
    let path = first_in(dir)?;
    let recorded = fs::read(&path)?;
    let json = recorded.iter().position(|&byte| byte == b'{');
    let values = serde_json::Deserializer::from_slice(&recorded[json.ok_or("no JSON")?..]);
    let mut store: Value = values.into_iter().next().ok_or("no JSON")??;
    store["WatcherHub"] = Value::Null;
    while store.to_string().len() > ENOUGH {
        let keys = store["Root"]["Children"]["1"]["Children"].as_object_mut();
        let keys = keys.ok_or("no keys")?;
        let last = keys.keys().next_back().cloned().ok_or("too much else")?;
        keys.remove(&last);
    }
    let json = store.to_string();
    let name = path.file_name().and_then(|name| name.to_str());
    let id = name.and_then(SnapshotId::from_file_name).ok_or("a name")?;
    let file = etcd_ark::etcd::raft_snapshot::write(id, &[], json.as_bytes());
    seed("raft_snapshot", "raw", &[&[0, 9, 0, 0, 1, 1], &file])?;
    seed(
        "raft_snapshot",
        "store",
        &[&[1, 9, 5, 0, 1, 1], json.as_bytes()],
    )
}

/// The manifest of an archive, the tar entry around it, and a tail of three frames.
fn archive_manifest(data_dir: &Path) -> Done {
    let backups = tempfile::tempdir()?;
    let request = SnapshotRequest {
        data_dir: &DataDir::open(data_dir, None)?,
        to: Destination::BackupDir(backups.path()),
        scope: Scope::All,
        labels: vec!["a label".to_owned()],
        level: 3,
        threads: 1,
        size_limit: 100_000_000,
        created: CreatedAt::At(jiff::Timestamp::from_second(1_450_000_000)?),
        lock: None,
    };
    let captured = capture(&request, &Interrupt::default(), &mut |_| ())?;
    let mut manifest = captured.manifest;
    for file in &mut manifest.files {
        file.size = file.size.min(1000);
        // Who checked this out, and when, is no part of a seed.
        (file.mode, file.uid, file.gid) = (0o600, 0, 0);
        file.mtime = manifest.created;
    }
    for entry in &mut manifest.directories {
        (entry.mode, entry.uid, entry.gid) = (0o700, 0, 0);
    }
    let json = serde_json::to_vec(&manifest)?;
    let mut header = tar::Header::new_ustar();
    header.set_path("manifest.json")?;
    header.set_size(json.len() as u64);
    header.set_cksum();
    let end = vec![0; json.len().next_multiple_of(512) - json.len() + 1024];
    seed("archive_manifest", "manifest", &[&json])?;
    let entry = [&[0][..], header.as_bytes(), &json, &end];
    seed("archive_manifest", "tar-entry", &entry)?;
    let sizes = [700_u32, 1 << 20, 12, 40, 4000, 16_000];
    let sizes: Vec<u8> = sizes.into_iter().flat_map(u32::to_le_bytes).collect();
    seed("archive_manifest", "tail", &[&[1, 30, 0, 1], &sizes])
}
