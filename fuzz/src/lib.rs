//! What the targets share: cutting an input into pieces, and frames around it that check.

use etcd_ark::etcd::wal::record::{Kind, LENGTH_WORD, Record};

/// Passes `bytes` on in pieces of `sizes` bytes, in turn; a size of 0 is all that is left.
pub fn in_pieces(sizes: &[u8], mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
    let mut sizes = sizes.iter().cycle();
    while let (false, Some(&size)) = (bytes.is_empty(), sizes.next()) {
        let size = if size == 0 { bytes.len() } else { size.into() };
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        take(piece);
        bytes = rest;
    }
}

/// A WAL segment that begins as it must and goes on with the records in `listed`, each under a
/// CRC that checks; `padded` as etcd 3.x writes it.
///
/// ```text
/// listed = (kind 1, length 1, data length)*, and from a kind that is none on: bytes as they are
/// ```
pub fn segment(mut listed: &[u8], padded: bool) -> Vec<u8> {
    const METADATA: &[u8] = &[0x08, 0x2a, 0x10, 0x07];
    let (mut out, mut crc) = (Vec::new(), 0);
    write_frame(Kind::Crc, None, &mut crc, padded, &mut out);
    write_frame(Kind::Metadata, Some(METADATA), &mut crc, padded, &mut out);
    while let &[kind, length, ref rest @ ..] = listed {
        let kind = match kind {
            1 => Kind::Metadata,
            2 => Kind::Entry,
            3 => Kind::HardState,
            4 => Kind::Crc,
            5 => Kind::SnapshotMarker,
            _ => break,
        };
        let (data, rest) = rest.split_at(usize::from(length).min(rest.len()));
        let data = (kind != Kind::Crc).then_some(data);
        write_frame(kind, data, &mut crc, padded, &mut out);
        listed = rest;
    }
    out.extend_from_slice(listed);
    out
}

fn write_frame(kind: Kind, data: Option<&[u8]>, crc: &mut u32, padded: bool, out: &mut Vec<u8>) {
    *crc = crc32c::crc32c_append(*crc, data.unwrap_or_default());
    let start = out.len();
    Record {
        kind,
        crc: *crc,
        data,
    }
    .write_frame(out);
    let padding = (out.len() - start).next_multiple_of(8) - (out.len() - start);
    if padded && padding > 0 {
        out[start + LENGTH_WORD - 1] = 0x80 | padding as u8;
        out.resize(out.len() + padding, 0);
    }
}
