//! Takes the URLs out of a copy of a recording, so that nobody can be met there.
//!
//! In: a data dir whose members were on the loopback, on ports of five digits. Out: the same data dir with `00001` for each of
//! them, where nobody listens: what else runs on this machine must not answer for the members. All lengths stay as they are;
//! the checksums are made anew.

use std::path::Path;

use fs_err as fs;

use super::decode;
use super::encode::{CRC, Message, SegmentBuilder};

const HOST: &[u8] = b"http://127.0.0.1:";
const NOBODY: &[u8] = b"00001";

/// Rewrites the data dir whose segments are in `member/wal`.
pub fn make_unreachable(data_dir: &Path) {
    for path in decode::snaps(&data_dir.join("member/snap")) {
        let snapshot = without_ports(decode::bytes(&fs::read(&path).unwrap(), 2));
        let crc = u64::from(crc32c::crc32c(&snapshot));
        let file = Message::new().uint(1, crc).bytes(2, &snapshot).finish();
        fs::write(&path, file).unwrap();
    }
    let mut chain = 0;
    for path in decode::segments(&data_dir.join("member/wal")) {
        let mut segment = SegmentBuilder::new(chain, false);
        for frame in decode::frames(&fs::read(&path).unwrap()) {
            if frame.kind == CRC {
                segment.crc();
            } else {
                segment.record(frame.kind, &without_ports(&frame.data));
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
        let digits = data.get_mut(port..port + NOBODY.len());
        if let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit)) {
            digits.copy_from_slice(NOBODY);
        }
    }
    data
}
