//! Whether complete records follow a break at the end of a segment.
//!
//! Nothing follows a torn tail. A broken length word in the middle looks like one, and
//! everything after it would be lost silently (formats page §2). In: a reader at
//! the break. Out: the position of the next plausible record, if there is one.

use std::io::{self, Read};

use crate::etcd::wal::record::{Head, LENGTH_WORD, LengthWord};

/// How many bytes are searched at once.
const WINDOW: usize = 1 << 20;
/// A length word and the longest start of a record.
const LOOK_AHEAD: usize = LENGTH_WORD + crate::etcd::wal::record::MAX_RECORD_HEAD;

/// Looks for a complete record in `bytes`, which begin right after the first byte of the broken
/// frame; `length` is the number of bytes. Returns the distance from there.
///
/// A record counts if its length word, its start and its data length agree and it ends
/// within the segment: some ten bytes that agree, which a torn record's own data contain only if
/// a client stored WAL bytes in etcd. Such data are refused.
pub fn next_whole_record(mut bytes: impl Read, length: u64) -> io::Result<Option<u64>> {
    let mut window = Vec::with_capacity(WINDOW + LOOK_AHEAD);
    let mut start = 0_u64;
    loop {
        let wanted = WINDOW.saturating_sub(window.len()) as u64;
        let read = (&mut bytes).take(wanted).read_to_end(&mut window)?;
        let at_end = (read as u64) < wanted;
        let usable = if at_end {
            window.len()
        } else {
            window.len() - LOOK_AHEAD
        };
        let left = length.saturating_sub(start);
        if let Some(found) = (0..usable).find(|&at| whole_record_at(&window, at, left)) {
            return Ok(Some(start + found as u64));
        }
        if at_end {
            return Ok(None);
        }
        window.drain(..usable);
        start += usable as u64;
    }
}

fn whole_record_at(window: &[u8], at: usize, left: u64) -> bool {
    let Some((word, record)) = window
        .get(at..)
        .and_then(<[u8]>::split_first_chunk::<LENGTH_WORD>)
    else {
        return false;
    };
    let LengthWord::Frame {
        record: length,
        padding,
    } = LengthWord::read(*word)
    else {
        return false;
    };
    let end = (at + LENGTH_WORD + length + padding) as u64;
    end <= left && matches!(Head::read(record, length), Head::Whole { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::wal::record::{Kind, Record};

    #[test]
    fn a_record_behind_a_megabyte_of_rubble_is_found_at_every_distance() {
        let mut frame = Vec::new();
        Record {
            kind: Kind::HardState,
            crc: 99,
            data: Some(&[8, 1, 16, 0, 24, 5]),
        }
        .write_frame(&mut frame);
        for distance in [
            0,
            1,
            17,
            WINDOW - 30,
            WINDOW - 3,
            WINDOW,
            WINDOW + 5,
            3 * WINDOW,
        ] {
            let mut bytes = vec![0xab; distance];
            bytes.extend_from_slice(&frame);
            let found = next_whole_record(&bytes[..], bytes.len() as u64).unwrap();
            assert_eq!(found, Some(distance as u64));
            bytes.pop();
            let cut = next_whole_record(&bytes[..], bytes.len() as u64).unwrap();
            assert_eq!(cut, None, "a record cut short is a torn tail");
        }
    }
}
