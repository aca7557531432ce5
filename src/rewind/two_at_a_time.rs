//! Works on two things at once, while progress is told on one thread.
//!
//! In: things and what to do with each. Out: the results in the order of the things, or the first error. With one thread
//! everything runs on the caller's own, one after the other.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::progress::Event;
use crate::thread_pool::at_once;

/// Does `work` on all `things`. The parts that it begins are not told, only how many bytes are done.
pub(super) fn two_at_a_time<T: Sync, R: Send, E: Send>(
    things: &[T],
    threads: usize,
    observe: &mut dyn FnMut(Event),
    work: impl Fn(&T, &mut dyn FnMut(Event)) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let waiting = Mutex::new(things.iter().enumerate());
    let next = || lock(&waiting).next();
    let results = Mutex::new(BTreeMap::new());
    let has_failed = AtomicBool::new(false);
    let work_on = |observe: &mut dyn FnMut(Event)| {
        while let Some((place, thing)) = next().filter(|_| !has_failed.load(Relaxed)) {
            let result = work(thing, observe);
            has_failed.fetch_or(result.is_err(), Relaxed);
            lock(&results).insert(place, result);
        }
    };
    let done_beside = AtomicU64::new(0);
    let mut here = |event| match event {
        Event::Advance(bytes) => observe(Event::Advance(bytes + done_beside.swap(0, Relaxed))),
        Event::Begin { .. } => {}
        Event::Again { .. } => observe(event),
    };
    let beside = || {
        work_on(&mut |event| {
            if let Event::Advance(bytes) = event {
                done_beside.fetch_add(bytes, Relaxed);
            }
        });
    };
    at_once(threads, || work_on(&mut here), beside);
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_values().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_an_error_stops_the_rest() {
        for threads in [1, 2] {
            let mut told = 0;
            let mut observe = |event| match event {
                Event::Advance(bytes) => told += bytes,
                other => panic!("{other:?}"),
            };
            let double = |thing: &u64, observe: &mut dyn FnMut(Event)| {
                observe(Event::Advance(*thing));
                if *thing < 4 {
                    Ok(thing * 2)
                } else {
                    Err(*thing)
                }
            };
            let done = two_at_a_time(&[1, 2, 3], threads, &mut observe, double);
            assert_eq!(done, Ok(vec![2, 4, 6]));
            let failed = two_at_a_time(&[1, 4, 3, 5], 1, &mut |_| {}, double);
            assert_eq!(failed, Err(4));
        }
        assert_eq!(
            two_at_a_time(&[0_u8; 0], 2, &mut |_| {}, |_, _| Ok::<_, ()>(())),
            Ok(vec![])
        );
    }
}
