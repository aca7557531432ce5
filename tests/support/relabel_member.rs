//! Rewrites a copy of a data dir: the same history, with other URLs or of another member.
//!
//! In: a data dir of 2.x. Out: the same, with new checksums.

use std::path::Path;

use fs_err as fs;

use super::decode;
use super::encode::{CRC, METADATA, Message, SegmentBuilder, metadata};

const HOST: &[u8] = b"http://127.0.0.1:";
/// A port without a server, with as many digits as a recorded one.
const NO_ENDPOINT: &[u8] = b"00001";

/// Takes the members' URLs out, which are on the loopback on ports of five digits: what else runs on this machine must not
/// answer for them.
pub fn make_unreachable(data_dir: &Path) {
    for path in decode::snaps(&data_dir.join("member/snap")) {
        let snapshot = without_ports(decode::bytes(&fs::read(&path).unwrap(), 2));
        let crc = u64::from(crc32c::crc32c(&snapshot));
        let file = Message::new().uint(1, crc).bytes(2, &snapshot).finish();
        fs::write(&path, file).unwrap();
    }
    rewrite(data_dir, |_, data| without_ports(data));
}

/// Makes the log that of the member `id`.
pub fn make_member(data_dir: &Path, id: u64) {
    let cluster = decode::log(&data_dir.join("member/wal")).cluster_id;
    rewrite(data_dir, |kind, data| match kind {
        METADATA => metadata(id, cluster),
        _ => data.to_vec(),
    });
}

/// Lets `change` say what each record of the log holds.
fn rewrite(data_dir: &Path, change: impl Fn(u64, &[u8]) -> Vec<u8>) {
    let mut chain = 0;
    for path in decode::segments(&data_dir.join("member/wal")) {
        let mut segment = SegmentBuilder::new(chain, false);
        for frame in decode::frames(&fs::read(&path).unwrap()) {
            if frame.kind == CRC {
                segment.crc();
            } else {
                segment.record(frame.kind, &change(frame.kind, &frame.data));
            }
        }
        chain = segment.chain_crc();
        fs::write(&path, segment.bytes()).unwrap();
    }
}

fn without_ports(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut from = 0;
    while let Some(found) = data[from..].windows(HOST.len()).position(|at| at == HOST) {
        let port = from + found + HOST.len();
        from = port;
        let digits = data.get_mut(port..port + NO_ENDPOINT.len());
        if let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit)) {
            digits.copy_from_slice(NO_ENDPOINT);
        }
    }
    data
}
