//! SHA-256 digests taken on a thread of their own.
//!
//! In: parts of shared buffers, and where each text ends. Out: the digest of each text,
//! in order. Memory: the parts that wait.

use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use crate::etcd::digest::{Digest, Hasher};
use crate::thread_pool::{Lent, WorkerDied, start};

const WAITING: usize = 16;

#[derive(Clone)]
pub(crate) struct Part {
    buffer: Arc<Lent>,
    range: Range<usize>,
}

impl Part {
    pub(crate) fn of(buffer: &Arc<Lent>, range: Range<usize>) -> Self {
        let buffer = Arc::clone(buffer);
        Self { buffer, range }
    }

    pub(crate) fn whole(buffer: Lent) -> Self {
        let range = 0..buffer.len();
        let buffer = Arc::new(buffer);
        Self { buffer, range }
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

/// Takes digests, on this thread or another one.
pub(crate) enum Digester {
    Here(Texts),
    Beside(Sender<Option<Part>>, JoinHandle<Vec<Digest>>),
}

#[derive(Default)]
pub(crate) struct Texts {
    now: Hasher,
    done: Vec<Digest>,
}

impl Texts {
    fn take(&mut self, part: Option<&Part>) {
        match part {
            Some(part) => self.now.update(part),
            None => self.done.push(std::mem::take(&mut self.now).finish()),
        }
    }
}

impl Digester {
    /// One with a thread of its own, if there are several `threads` and one can be started.
    pub(crate) fn new(threads: usize) -> Self {
        let (sender, receiver) = bounded(WAITING);
        let work = move || {
            let mut texts = Texts::default();
            for part in receiver {
                texts.take(Option::as_ref(&part));
            }
            texts.done
        };
        match (threads > 1).then(|| start(work)) {
            Some(Ok(thread)) => Self::Beside(sender, thread),
            _ => Self::Here(Texts::default()),
        }
    }

    /// Takes the next part of the text; `None` ends the text.
    pub(crate) fn take(&mut self, part: Option<Part>) {
        match self {
            Self::Here(texts) => texts.take(part.as_ref()),
            // Fails only if the thread died, which `finish` reports.
            Self::Beside(sender, _) => drop(sender.send(part)),
        }
    }

    /// The digest of the only text.
    pub(crate) fn finish_one(mut self) -> io::Result<Digest> {
        self.take(None);
        let digests = self.finish()?;
        digests
            .first()
            .copied()
            .ok_or(WorkerDied)
            .map_err(io::Error::other)
    }

    pub(crate) fn finish(self) -> io::Result<Vec<Digest>> {
        match self {
            Self::Here(texts) => Ok(texts.done),
            Self::Beside(sender, thread) => {
                drop(sender);
                thread.join().map_err(|_| io::Error::other(WorkerDied))
            }
        }
    }
}
