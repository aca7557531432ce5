//! Deeds: what is done to a member's bytes. Capture, verify, restore, survey; the store read,
//! compared and proven.

/// What happens while a deed is done, for code that wants to show it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A part begins that will go through this many bytes.
    Begin {
        /// What it is, such as `capturing`.
        part: &'static str,
        /// Bytes it will go through, as far as known.
        bytes: u64,
    },
    /// So many bytes more are done.
    Advance(u64),
    /// The source moved; the capture starts over.
    Again {
        /// Which try ended, from 1.
        attempt: u32,
        reason: String,
    },
}
