//! What every command needs.

use std::path::PathBuf;

use crate::interrupt::Interrupt;
use crate::progress::Event;

use crate::cli::metrics::Record;
use crate::cli::open::Opener;
use crate::cli::output::Output;
use crate::cli::progress::Progress;

pub(crate) struct Context<'c> {
    pub(crate) places: Opener<'c>,
    pub(crate) out: Output,
    pub(crate) record: Record,
    pub(crate) interrupt: &'c Interrupt,
    pub(crate) strict: bool,
    /// The configuration file that was read, if any.
    pub(crate) config: Option<PathBuf>,
}

impl Context<'_> {
    /// Runs `work` and shows its progress.
    pub(crate) fn watched<T>(&self, work: impl FnOnce(&mut dyn FnMut(Event)) -> T) -> T {
        let mut progress = Progress::new(&self.out);
        work(&mut |event| progress.observe(event))
    }
}
