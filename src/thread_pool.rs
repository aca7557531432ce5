//! Runs jobs on several threads and returns the results in the order of the jobs.
//!
//! In: jobs, one after the other. Out: one result for each job, in the same order. With one thread
//! everything runs on the caller's own thread, which keeps a run's system calls in one order.

use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

type Job<J, R> = (J, Sender<R>);

/// A pool of workers that keeps order.
pub struct Ordered<J, R> {
    mode: Mode<J, R>,
    depth: usize,
}

enum Mode<J, R> {
    Inline {
        work: Box<dyn FnMut(J) -> R>,
        done: VecDeque<R>,
    },
    Pool {
        jobs: Option<Sender<Job<J, R>>>,
        pending: VecDeque<Receiver<R>>,
        workers: Vec<JoinHandle<()>>,
    },
}

/// A worker ended without a result: it panicked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a worker thread died")]
pub struct WorkerDied;

impl<J: Send + 'static, R: Send + 'static> Ordered<J, R> {
    /// `threads` workers (at least one), each with its own worker function from `make`.
    pub fn new<W>(threads: usize, make: impl Fn() -> W) -> Self
    where
        W: FnMut(J) -> R + Send + 'static,
    {
        let (jobs, queue) = unbounded::<Job<J, R>>();
        let work_all = || {
            let queue = queue.clone();
            let mut work = make();
            move || {
                for (job, answer) in queue {
                    // After the pool is dropped there is no receiver.
                    let _ = answer.send(work(job));
                }
            }
        };
        let wanted = if threads <= 1 { 0 } else { threads };
        // If fewer threads can be started, fewer are used.
        let workers: Vec<_> = (0..wanted).map_while(|_| start(work_all()).ok()).collect();
        if workers.is_empty() {
            return Self {
                mode: Mode::Inline {
                    work: Box::new(make()),
                    done: VecDeque::new(),
                },
                depth: 1,
            };
        }
        Self {
            // Twice the number of workers: no thread waits while the caller is busy.
            depth: workers.len() * 2 + 2,
            mode: Mode::Pool {
                jobs: Some(jobs),
                pending: VecDeque::new(),
                workers,
            },
        }
    }

    /// The number of jobs without a fetched result.
    pub fn in_flight(&self) -> usize {
        match &self.mode {
            Mode::Inline { done, .. } => done.len(),
            Mode::Pool { pending, .. } => pending.len(),
        }
    }

    /// Whether there are enough jobs in flight to keep every worker busy; take a result before the next job.
    pub fn is_full(&self) -> bool {
        self.in_flight() >= self.depth
    }

    pub fn submit(&mut self, job: J) {
        match &mut self.mode {
            Mode::Inline { work, done } => done.push_back(work(job)),
            Mode::Pool { jobs, pending, .. } => {
                let (answer, result) = bounded(1);
                if let Some(jobs) = jobs {
                    // A send fails only if all workers died, which the result's receiver reports.
                    let _ = jobs.send((job, answer));
                }
                pending.push_back(result);
            }
        }
    }

    /// Waits for the result of the oldest job in flight; `None` if none is in flight.
    pub fn take(&mut self) -> Result<Option<R>, WorkerDied> {
        match &mut self.mode {
            Mode::Inline { done, .. } => Ok(done.pop_front()),
            Mode::Pool { pending, .. } => match pending.pop_front() {
                None => Ok(None),
                Some(result) => result.recv().map(Some).map_err(|_| WorkerDied),
            },
        }
    }
}

impl<J, R> Drop for Ordered<J, R> {
    fn drop(&mut self) {
        if let Mode::Pool {
            jobs,
            pending,
            workers,
        } = &mut self.mode
        {
            *jobs = None;
            pending.clear();
            for worker in workers.drain(..) {
                let _ = worker.join();
            }
        }
    }
}

/// Buffers that are reused between a producer and its workers.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer, perhaps with capacity from earlier use.
    pub fn get(&self) -> Lent {
        let mut lent = self.take();
        lent.clear();
        lent
    }

    /// A buffer of `length` bytes, to be overwritten: zeros, or content from earlier use.
    pub fn get_filled(&self, length: usize) -> Lent {
        let mut lent = self.take();
        if lent.capacity() == 0 {
            // New memory of the system is zero already.
            lent.bytes = vec![0; length];
        } else {
            lent.resize(length, 0);
        }
        lent
    }

    fn take(&self) -> Lent {
        let bytes = self.all().pop().unwrap_or_default();
        let home = self.clone();
        Lent { bytes, home }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that returns to its pool when its last owner drops it.
pub struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Deref for Lent {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.all().push(bytes);
    }
}

/// Runs `here` on this thread and `beside` on another one at the same time, if there are several `threads` and one can be
/// started; otherwise one after the other.
pub(crate) fn at_once<A, B: Send>(
    threads: usize,
    here: impl FnOnce() -> A,
    beside: impl Fn() -> B + Sync,
) -> (A, B) {
    std::thread::scope(|scope| {
        let start = || std::thread::Builder::new().spawn_scoped(scope, &beside);
        let started = (threads > 1).then(start).and_then(Result::ok);
        let here = here();
        let beside = match started.map(std::thread::ScopedJoinHandle::join) {
            Some(Ok(done)) => done,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => beside(),
        };
        (here, beside)
    })
}

/// Starts a thread; fails if no more can be started.
pub fn start<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    std::thread::Builder::new().spawn(work).map_err(|error| {
        let why = format!("failed to start a thread: {error}");
        io::Error::new(error.kind(), why)
    })
}

/// Fails if no thread can be started: for libraries that would panic.
pub fn require_one() -> io::Result<()> {
    // A thread that does nothing cannot panic.
    let _ = start(|| ())?.join();
    Ok(())
}

/// The default number of threads: that of the cores.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
