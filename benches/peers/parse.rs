//! The measure for everything that looks into the store: its JSON, parsed once into a plain `Value`.
//!
//! In: paths of raft snapshots. The bench binary runs itself in this mode, so that time and
//! memory are those of a process that does nothing else. `serde_json` is as the crate has it,
//! without features that would make a `Value` larger or slower.

use std::path::Path;

/// The first argument that asks for this mode.
pub(crate) const MODE: &str = "parse-raft-snapshot";

/// Parses the store in the raft snapshot at `path` and ends the process with the `Value` still
/// whole: taking it apart is not counted.
pub(crate) fn run(path: &Path) -> ! {
    let file = std::fs::read(path).unwrap();
    let store: serde_json::Value = serde_json::from_slice(json_in(&file)).unwrap();
    assert!(store["Root"].is_object(), "not a store");
    std::mem::forget(store);
    std::process::exit(0)
}

/// The JSON in `08 crc 12 length (0a length JSON …)`.
fn json_in(file: &[u8]) -> &[u8] {
    let mut rest = file;
    let _crc = field(&mut rest, 0x08);
    let _data_length = field(&mut rest, 0x12);
    let length = field(&mut rest, 0x0a);
    rest.get(..length as usize).unwrap()
}

/// The number behind a tag that must come next.
fn field(rest: &mut &[u8], tag: u8) -> u64 {
    let (&found, value) = rest.split_first().unwrap();
    assert_eq!(found, tag, "not a raft snapshot");
    *rest = value;
    prost::encoding::decode_varint(rest).unwrap()
}
