//! Progress events of work on a member's data: capture, verify, restore, reading and comparing
//! stores.

/// A step of work, for code that shows progress.
#[derive(Clone, Debug)]
pub enum Event {
    /// A part begins that will process this many bytes.
    Begin {
        /// Its name, such as `capturing`.
        part: &'static str,
        /// The expected number of bytes.
        bytes: u64,
    },
    /// This many more bytes are processed.
    Advance(u64),
    /// The source changed; the capture starts again.
    Again {
        /// The try that ended, from 1.
        attempt: u32,
        reason: String,
    },
}
