//! Whether a server survives its first event with the event queue of a saved store.
//!
//! In: the tokens of `WatcherHub`. Out: whether the next event finds its place in the queue. A
//! server puts one there whenever it starts, since it publishes its own name.
//! Source: `insert` in `store/event_queue.go`, `addEvent` in `store/event_history.go` at etcd 2.1.3.

use crate::etcd::json::go::same_name;
use crate::etcd::json::tokens::Token;

/// The number of events for which a server makes the queue before it loads a saved one into it.
const CAPACITY: i64 = 1000;

/// The queue, as far as its next event depends on it.
#[derive(Debug)]
pub(super) struct EventQueue {
    /// The name of the last field of `WatcherHub`, of `EventHistory` and of `Queue`.
    at: [Vec<u8>; 3],
    /// Whether the last field of an event was its node.
    is_node: bool,
    /// For each place whether an event with a node is in it.
    events: Vec<bool>,
    size: i64,
    front: i64,
    back: i64,
    capacity: i64,
}

impl Default for EventQueue {
    fn default() -> Self {
        Self {
            at: Default::default(),
            is_node: false,
            events: vec![false; CAPACITY as usize],
            size: 0,
            front: 0,
            back: 0,
            capacity: CAPACITY,
        }
    }
}

impl EventQueue {
    /// Takes a token of `WatcherHub` that comes in `depth` objects and arrays.
    pub(super) fn token(&mut self, depth: usize, token: Token<'_>) {
        match (depth, token) {
            (1..=3, Token::Key(name)) => {
                if let Some(at) = self.at.get_mut(depth - 1) {
                    at.clear();
                    at.extend_from_slice(name);
                }
            }
            (5, Token::Key(name)) => self.is_node = same_name(b"node", name),
            _ if depth >= 3 && self.is_in_queue() => self.value(depth, token),
            _ => {}
        }
    }

    fn is_in_queue(&self) -> bool {
        let [history, queue, _] = &self.at;
        same_name(b"EventHistory", history) && same_name(b"Queue", queue)
    }

    fn value(&mut self, depth: usize, token: Token<'_>) {
        let [_, _, field] = &self.at;
        let is_events = same_name(b"Events", field);
        match (depth, token) {
            (3, Token::Number(digits)) => {
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                let fields = [
                    (&b"Size"[..], &mut self.size),
                    (b"Front", &mut self.front),
                    (b"Back", &mut self.back),
                    (b"Capacity", &mut self.capacity),
                ];
                for (name, number) in fields {
                    if same_name(name, field) {
                        *number = digits.parse().unwrap_or(0);
                    }
                }
            }
            (3, Token::BeginArray | Token::Null) if is_events => self.events.clear(),
            (4, Token::BeginObject | Token::Null) if is_events => self.events.push(false),
            (5, Token::BeginObject | Token::Null) if is_events && self.is_node => {
                if let Some(event) = self.events.last_mut() {
                    *event = token == Token::BeginObject;
                }
            }
            _ => {}
        }
    }

    /// Whether there is a place for one more event, and an event at the front then.
    pub(super) fn takes_an_event(&self) -> bool {
        let is_place = |at: i64| usize::try_from(at).is_ok_and(|at| at < self.events.len());
        let has_event = |at: i64| {
            let at = usize::try_from(at).ok().and_then(|at| self.events.get(at));
            at.is_some_and(|&event| event)
        };
        let Some(behind) = self.front.wrapping_add(1).checked_rem(self.capacity) else {
            return false;
        };
        let front = if self.size == self.capacity {
            behind
        } else {
            self.front
        };
        is_place(self.back) && (front == self.back || has_event(front))
    }
}
