//! Pseudo-random choices and values, the same for the same seed.
//!
//! In: a seed. Out: numbers, and values of the sizes that clients write, mostly small and a few very large.

/// Characters of values: 64 of them, so that six bits choose one.
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.range(0, times) == 0
    }

    /// A position inside `len` bytes, neither at their start nor at their end; `len` is at least 2.
    pub(super) fn inside(&mut self, len: usize) -> usize {
        self.range(1, len as u64) as usize
    }

    pub(super) fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.range(0, choices.len() as u64) as usize]
    }

    /// A value: tens of bytes as a rule, up to 20 KiB, and once in 250 times 300 KiB, which is more than a segment of default size.
    pub(super) fn value(&mut self) -> String {
        let len = match self.range(0, 1000) {
            0..4 => 300 << 10,
            4..50 => self.range(4 << 10, 20 << 10),
            50..300 => self.range(400, 4 << 10),
            _ => self.range(20, 400),
        };
        self.text(len as usize)
    }

    fn text(&mut self, len: usize) -> String {
        let mut text = String::with_capacity(len + 10);
        while text.len() < len {
            let mut bits = self.next();
            for _ in 0..10 {
                text.push(char::from(ALPHABET[(bits & 63) as usize]));
                bits >>= 6;
            }
        }
        text.truncate(len);
        text
    }
}
