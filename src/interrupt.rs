//! A wish to stop, raised from a signal handler and looked at between two pieces of work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared between those that may ask to stop and the work that can be stopped. It holds the number of
/// the signal that asks, or 0.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

/// The work was asked to stop, and did, after cleaning up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// Where a signal handler puts its signal's number.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }

    /// The number of the signal that asked to stop.
    pub fn signal(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// An error if someone asked to stop.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.signal().map_or(Ok(()), |_| Err(Interrupted))
    }
}
