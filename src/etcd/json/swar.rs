//! Searches bytes eight at a time in plain integers: in texts with a special byte about every ten
//! bytes, a search with a start-up cost for each hit is too slow.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte of `word` that is below `limit`, at most 128; of those above the
/// first such byte some may be wrong.
pub(crate) fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH
}

/// The high bit of each byte of `word` that is `byte`; of those above the first such byte some may
/// be wrong.
pub(crate) fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// The high bit of each byte of `word` that is `byte` once the bits of `mask` are set in it.
pub(crate) fn equal_with(word: u64, mask: u8, byte: u8) -> u64 {
    equal(word | (ONES * u64::from(mask)), byte)
}

/// The number of bytes before the first one that `stops` finds, in whole words: eight if none.
pub(crate) fn before(stops: u64) -> usize {
    stops.trailing_zeros() as usize / 8
}

/// Copies from `bytes` to `out` up to the first byte that `stops` finds; returns the number of bytes.
pub(crate) fn copy_until(bytes: &[u8], out: &mut Vec<u8>, stops: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
        // Copies all eight and truncates: a copy of fixed length is a single move.
        out.extend_from_slice(chunk);
        let found = stops(u64::from_le_bytes(*chunk));
        if found != 0 {
            let surplus = 8 - before(found);
            out.truncate(out.len() - surplus);
            return bytes.len() - rest.len() + 8 - surplus;
        }
        rest = behind;
    }
    let length = last_until(rest, stops);
    out.extend_from_slice(rest.get(..length).unwrap_or_default());
    bytes.len() - rest.len() + length
}

/// The number of bytes before the first one that `stops` finds.
pub(crate) fn length_until(bytes: &[u8], stops: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
        let found = stops(u64::from_le_bytes(*chunk));
        if found != 0 {
            return bytes.len() - rest.len() + before(found);
        }
        rest = behind;
    }
    bytes.len() - rest.len() + last_until(rest, stops)
}

/// The same for fewer than eight bytes.
fn last_until(bytes: &[u8], stops: impl Fn(u64) -> u64) -> usize {
    // Missing bytes must not count, so they are not padded with zeros.
    let is_stop = |&byte: &u8| stops(ONES * u64::from(byte)) != 0;
    bytes.iter().position(is_stop).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_find_what_a_look_at_each_byte_finds(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x1f_u8..0x27, Just(0x5c)], 0..60),
        ) {
            let stops = |word| below(word, 0x20) | equal(word, b'\\') | equal_with(word, 4, b'&');
            let is_stop = |byte: &u8| *byte < 0x20 || matches!(byte, b'\\' | b'"' | b'&');
            let expected = bytes.iter().position(is_stop).unwrap_or(bytes.len());
            prop_assert_eq!(length_until(&bytes, stops), expected);
            let mut out = b"before".to_vec();
            prop_assert_eq!(copy_until(&bytes, &mut out, stops), expected);
            prop_assert_eq!(&out[6..], &bytes[..expected]);
        }
    }
}
