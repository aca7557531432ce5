//! One frame of a WAL segment, read and written.
//!
//! ```text
//! bytes        width  what
//! 0..8         8      length word, little-endian
//!                     2.x: the record's length
//!                     3.x: low 56 bits the record's length; if padding follows, the top byte
//!                          is 0x80 | pad, pad 1..=7
//! 8..8+n       n      walpb.Record: 08 type, 10 crc (varint), and unless it is a crc record
//!                     1a length (varint) data
//! 8+n..        0..=7  zero bytes up to a multiple of 8 (3.x only)
//! ```
//!
//! Source: `wal/encoder.go` and `wal/walpb/record.proto` at etcd 2.1.3 and 3.4.23 (formats page
//! §2). The outer record is read strictly, because the rolling CRC covers only `data`: exactly
//! the fields above in that order, as every etcd from 2.0 to 3.5 writes them. So a flipped bit
//! in a tag, a type or a length is found at its position.

/// Bytes of a length word.
pub const LENGTH_WORD: usize = 8;
/// The longest accepted record, in bytes. etcd 2.x accepts request bodies of at most 10 MB and
/// 3.x proposals of 1.5 MB by default; a larger value is a broken length word.
pub const MAX_RECORD: u64 = 64 << 20;
/// The most bytes before a record's data: type, crc and data length with their tags.
pub const MAX_RECORD_HEAD: usize = 2 + 6 + 6;

/// The type of a record: `walpb.Record.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The member that the WAL belongs to.
    Metadata = 1,
    Entry = 2,
    HardState = 3,
    /// The running CRC, at the start of every segment.
    Crc = 4,
    /// A raft snapshot's index and term.
    SnapshotMarker = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Metadata,
            2 => Self::Entry,
            3 => Self::HardState,
            4 => Self::Crc,
            5 => Self::SnapshotMarker,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Without padding: 2.x.
    Plain,
    /// Each padded to a multiple of 8 bytes: 3.x.
    Padded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    /// The CRC-32C of all records' data up to and including this one's.
    pub crc: u32,
    /// The message; absent in a crc record.
    pub data: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthWord {
    /// A record of `record` bytes and `padding` zero bytes follow.
    Frame {
        /// Bytes of the record.
        record: usize,
        /// Zero bytes after it.
        padding: usize,
    },
    /// Zero: nothing was written here; a 3.x segment is preallocated.
    Nothing,
    Impossible,
}

impl LengthWord {
    /// Reads the eight bytes in front of a record.
    pub fn read(word: [u8; LENGTH_WORD]) -> Self {
        let word = u64::from_le_bytes(word);
        if word == 0 {
            return Self::Nothing;
        }
        let top = word >> 56;
        let record = word & ((1 << 56) - 1);
        let padding = match top {
            0 => 0,
            0x81..=0x87 => top & 7,
            _ => return Self::Impossible,
        };
        if record == 0
            || record > MAX_RECORD
            || (padding > 0 && !(record + padding).is_multiple_of(8))
        {
            return Self::Impossible;
        }
        Self::Frame {
            record: record as usize,
            padding: padding as usize,
        }
    }
}

/// What the first bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The data begins after `head` bytes and fills the record.
    Whole {
        kind: Kind,
        crc: u32,
        /// Bytes before the data.
        head: usize,
    },
    /// It could be a record; more bytes are needed to tell.
    Cut,
    /// Not what etcd writes, or not of the frame's length.
    Malformed,
}

impl Head {
    /// Whether `bytes` begin like a record of any length.
    pub fn begins(bytes: &[u8]) -> bool {
        matches!(bytes, [0x08, kind, 0x10, ..] if Kind::from_byte(*kind).is_some())
    }

    /// Reads the start of a record of `length` bytes, of which `bytes` are available.
    pub fn read(bytes: &[u8], length: usize) -> Self {
        let bytes = bytes.get(..length).unwrap_or(bytes);
        Self::try_read(bytes, length).unwrap_or(if bytes.len() < length {
            Self::Cut
        } else {
            Self::Malformed
        })
    }

    /// `None` if there are too few bytes to tell.
    fn try_read(bytes: &[u8], length: usize) -> Option<Self> {
        if *bytes.first()? != 0x08 {
            return Some(Self::Malformed);
        }
        let Some(kind) = Kind::from_byte(*bytes.get(1)?) else {
            return Some(Self::Malformed);
        };
        if *bytes.get(2)? != 0x10 {
            return Some(Self::Malformed);
        }
        let (crc, after_crc) = match varint32(bytes, 3) {
            Varint::Value(value, next) => (value, next),
            Varint::Cut => return None,
            Varint::TooLong => return Some(Self::Malformed),
        };
        if kind == Kind::Crc {
            let head = after_crc;
            return Some(if head == length {
                Self::Whole { kind, crc, head }
            } else {
                Self::Malformed
            });
        }
        if after_crc == length || *bytes.get(after_crc)? != 0x1a {
            return Some(Self::Malformed);
        }
        match varint32(bytes, after_crc + 1) {
            Varint::Value(data, head) if head + data as usize == length => {
                Some(Self::Whole { kind, crc, head })
            }
            Varint::Cut => None,
            _ => Some(Self::Malformed),
        }
    }
}

/// The types of the records that `bytes`, the start of a segment, begin with.
pub fn first_kinds(bytes: &[u8]) -> impl Iterator<Item = Kind> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (word, behind) = rest.split_first_chunk()?;
        let LengthWord::Frame { record, padding } = LengthWord::read(*word) else {
            return None;
        };
        let Head::Whole { kind, .. } = Head::read(behind, record) else {
            return None;
        };
        rest = behind.get(record + padding..).unwrap_or_default();
        Some(kind)
    })
}

impl<'a> Record<'a> {
    /// Reads a whole record; `None` if it is not one.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        match Head::read(bytes, bytes.len()) {
            Head::Whole { kind, crc, head } => Some(Self {
                kind,
                crc,
                data: (kind != Kind::Crc).then(|| bytes.get(head..)).flatten(),
            }),
            Head::Cut | Head::Malformed => None,
        }
    }

    /// Appends this record as a 2.x frame, without padding.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        self.write_frame_as(Framing::Plain, out);
    }

    /// Appends this record as a frame.
    pub fn write_frame_as(&self, framing: Framing, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_WORD]);
        out.extend_from_slice(&[0x08, self.kind as u8, 0x10]);
        write_varint32(self.crc, out);
        if let Some(data) = self.data {
            out.push(0x1a);
            write_varint32(data.len() as u32, out);
            out.extend_from_slice(data);
        }
        let record = out.len() - start - LENGTH_WORD;
        let padding = match framing {
            Framing::Plain => 0,
            Framing::Padded => record.next_multiple_of(8) - record,
        };
        out.resize(out.len() + padding, 0);
        let flag = match padding as u64 {
            0 => 0,
            padding => (0x80 | padding) << 56,
        };
        let length = record as u64 | flag;
        if let Some(word) = out.get_mut(start..start + LENGTH_WORD) {
            word.copy_from_slice(&length.to_le_bytes());
        }
    }
}

enum Varint {
    Value(u32, usize),
    Cut,
    TooLong,
}

/// A varint that fits 32 bits, in its shortest form: `(value, offset after it)`.
fn varint32(bytes: &[u8], from: usize) -> Varint {
    let mut value = 0_u64;
    for (position, shift) in (from..).zip([0, 7, 14, 21, 28]) {
        let Some(&byte) = bytes.get(position) else {
            return Varint::Cut;
        };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || shift == 0;
            return match u32::try_from(value) {
                Ok(value) if shortest => Varint::Value(value, position + 1),
                _ => Varint::TooLong,
            };
        }
    }
    Varint::TooLong
}

fn write_varint32(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// `walpb.Record` as prost reads it: the oracle for the hand-written reader.
    #[derive(Clone, PartialEq, Message)]
    struct Oracle {
        #[prost(int64, optional, tag = "1")]
        kind: Option<i64>,
        #[prost(uint32, optional, tag = "2")]
        crc: Option<u32>,
        #[prost(bytes = "vec", optional, tag = "3")]
        data: Option<Vec<u8>>,
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Metadata),
            Just(Kind::Entry),
            Just(Kind::HardState),
            Just(Kind::SnapshotMarker)
        ]
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_and_prost_agrees(
            kind in any_kind(), crc: u32, data in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let mut frame = Vec::new();
            Record { kind, crc, data: Some(&data) }.write_frame(&mut frame);
            let body = &frame[LENGTH_WORD..];
            let record = Record::read(body).unwrap();
            prop_assert_eq!((record.kind, record.crc, record.data), (kind, crc, Some(&data[..])));
            let oracle = Oracle::decode(body).unwrap();
            prop_assert_eq!(oracle.kind, Some(kind as i64));
            prop_assert_eq!(oracle.crc, Some(crc));
            prop_assert_eq!(oracle.encode_to_vec(), body);
        }

        #[test]
        fn a_padded_frame_is_the_plain_one_and_zeros(
            kind in any_kind(), crc: u32, data in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let record = Record { kind, crc, data: Some(&data) };
            let (mut plain, mut padded) = (Vec::new(), Vec::new());
            record.write_frame_as(Framing::Plain, &mut plain);
            record.write_frame_as(Framing::Padded, &mut padded);
            let LengthWord::Frame { record, padding } =
                LengthWord::read(padded[..LENGTH_WORD].try_into().unwrap())
            else {
                panic!("no frame");
            };
            prop_assert_eq!(LENGTH_WORD + record, plain.len());
            prop_assert_eq!(padded.len(), plain.len() + padding);
            prop_assert!(padded.len().is_multiple_of(8) && padding < 8);
            prop_assert_eq!(&padded[LENGTH_WORD..plain.len()], &plain[LENGTH_WORD..]);
            prop_assert!(padded[plain.len()..].iter().all(|&byte| byte == 0));
        }

        #[test]
        fn every_cut_of_a_record_is_a_cut_and_never_a_panic(
            kind in any_kind(), crc: u32, data in prop::collection::vec(any::<u8>(), 0..50)
        ) {
            let mut frame = Vec::new();
            Record { kind, crc, data: Some(&data) }.write_frame(&mut frame);
            let body = &frame[LENGTH_WORD..];
            for cut in 0..body.len() {
                prop_assert_ne!(Head::read(&body[..cut], body.len()), Head::Malformed);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Record::read(&bytes);
            let _ = Head::read(&bytes, bytes.len() + 3);
        }
    }

    #[test]
    fn a_flipped_length_word_of_a_small_record_never_fits_its_data() {
        let mut frame = Vec::new();
        Record {
            kind: Kind::Entry,
            crc: 7,
            data: Some(b"0123456789"),
        }
        .write_frame(&mut frame);
        frame.extend_from_slice(&[9; 600]);
        for bit in 0..64 {
            let mut word: [u8; 8] = frame[..8].try_into().unwrap();
            word[bit / 8] ^= 1 << (bit % 8);
            if let LengthWord::Frame { record, .. } = LengthWord::read(word) {
                assert_eq!(
                    Head::read(&frame[8..], record),
                    Head::Malformed,
                    "bit {bit}"
                );
            }
        }
    }
}
