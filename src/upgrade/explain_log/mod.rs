//! Classifies each line of an etcd log: expected during an upgrade from 2.1 to 2.2, and why, or worth
//! a look.
//!
//! In: the lines of one member's log, in order. Out: the class of each. Most lines are judged alone;
//! some are expected only for a time: a member may be unreachable, but not for long and not two at
//! once, and there may be an election, but not five in a minute.

pub mod classes;
pub mod line;
pub mod rules;

use std::collections::{BTreeMap, VecDeque};

use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::Serialize;

use crate::upgrade::explain_log::classes::{
    BUFFER_FULL, CLUSTER_VERSION, CONNECTED, ELECTION, ELECTION_STORM, EMPTY_AGAIN, GRAVE,
    NEW_MEMBER, NO_HEALTH_CHECK, NOT_KNOWN, OWN_STOP, PANIC, PEER_AWAY, PEER_AWAY_LONG, PUBLISHED,
    STACK_TRACE, STARTED, STOPPED, TWO_PEERS_AWAY, UNHEALTHY,
};
pub use crate::upgrade::explain_log::line::{Level, Line};

use crate::etcd::ids::MemberId;

/// How long a member may be unreachable before a line is worth a look. A member with as much data as the
/// guide allows is back within a minute or two.
const AWAY_LONG: SignedDuration = SignedDuration::from_mins(5);
/// How many elections within a minute are worth a look. A rolling upgrade has at most one for each
/// member.
const STORM: u64 = 5;
/// The period in which elections are counted.
const STORM_WITHIN: SignedDuration = SignedDuration::from_mins(1);
/// How many unreachable members are remembered: more than any cluster has.
const MOST_AWAY: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Expected,
    /// etcd writes it at any time.
    Routine,
    /// An operator should look at it before going on.
    WorthALook,
    /// No rule matches it, and its level is not severe.
    NotKnown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Class {
    pub name: &'static str,
    pub verdict: Verdict,
    pub why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained<'a> {
    pub line: Line<'a>,
    pub class: Class,
    /// Whether a rule matches its message, or it names a package of etcd.
    pub is_of_etcd: bool,
}

/// The state from the lines before.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Explainer {
    stopping: bool,
    /// Whether the member has joined its cluster. A log may begin after that.
    joined: bool,
    /// Whether the member has had data before.
    had_data: bool,
    /// Whether the cluster version is known to be 2.2.
    moved: bool,
    /// Whether the lines belong to a panic.
    crashed: bool,
    /// The unreachable members, each with the time since when.
    away: BTreeMap<MemberId, Option<DateTime>>,
    /// The terms of the last minute's elections.
    elections: VecDeque<(DateTime, u64)>,
}

impl Default for Explainer {
    fn default() -> Self {
        Self {
            stopping: false,
            joined: true,
            had_data: false,
            moved: false,
            crashed: false,
            away: BTreeMap::new(),
            elections: VecDeque::new(),
        }
    }
}

impl Explainer {
    pub fn explain<'a>(&mut self, text: &'a str) -> Explained<'a> {
        let line = Line::parse(text);
        let known = rules::class_of(&line.message);
        let is_of_etcd = known.is_some() || line.package.is_some();
        let class = match known {
            Some(class) if self.crashed && class == PANIC && !begins_a_panic(&line.message) => {
                STACK_TRACE
            }
            Some(class) => {
                self.crashed = class == PANIC;
                self.in_context(class, &line)
            }
            None if line.level >= Some(Level::Warning) => GRAVE,
            None if self.crashed => STACK_TRACE,
            None => NOT_KNOWN,
        };
        Explained {
            line,
            class,
            is_of_etcd,
        }
    }

    fn in_context(&mut self, class: Class, line: &Line<'_>) -> Class {
        match class {
            STARTED => self.started(&line.message),
            STOPPED => self.stopping = true,
            PUBLISHED => (self.joined, self.had_data) = (true, true),
            CLUSTER_VERSION => self.moved = true,
            CONNECTED => drop(peer(&line.message).map(|peer| self.away.remove(&peer))),
            NEW_MEMBER if self.had_data => return EMPTY_AGAIN,
            PEER_AWAY if self.stopping => return OWN_STOP,
            PEER_AWAY => return self.peer_away(line),
            BUFFER_FULL if !self.away.is_empty() => return PEER_AWAY,
            NO_HEALTH_CHECK if self.is_long_away(peer(&line.message), line.time) => {
                return PEER_AWAY_LONG;
            }
            NO_HEALTH_CHECK if self.moved => return UNHEALTHY,
            ELECTION if self.is_storm(line) => return ELECTION_STORM,
            _ => {}
        }
        class
    }

    fn started(&mut self, message: &str) {
        if message.starts_with("etcd Version: ") {
            *self = Self {
                joined: false,
                had_data: self.had_data,
                moved: self.moved,
                ..Self::default()
            };
        }
        self.had_data |= message.starts_with("restarting member ");
        self.moved |= message.ends_with("cluster version: 2.2]");
    }

    fn peer_away(&mut self, line: &Line<'_>) -> Class {
        // A closed connection does not mean that the other member is unreachable.
        let evidence = !line.message.ends_with(" became inactive");
        let Some(peer) = peer(&line.message).filter(|_| evidence) else {
            return PEER_AWAY;
        };
        if self.away.len() < MOST_AWAY {
            self.away.entry(peer).or_insert(line.time);
        }
        if self.joined && self.away.len() > 1 {
            TWO_PEERS_AWAY
        } else if self.is_long_away(Some(peer), line.time) {
            PEER_AWAY_LONG
        } else {
            PEER_AWAY
        }
    }

    fn is_long_away(&self, peer: Option<MemberId>, now: Option<DateTime>) -> bool {
        let since = peer.and_then(|peer| self.away.get(&peer).copied().flatten());
        let (Some(since), Some(now)) = (since, now) else {
            return false;
        };
        now.duration_since(since) > AWAY_LONG
    }

    /// Whether the terms rise too fast: each election has its own term.
    fn is_storm(&mut self, line: &Line<'_>) -> bool {
        // An election writes many lines; its first or its last one counts.
        let counts = ["is starting a new election", "elected leader"];
        if !counts.iter().any(|what| line.message.contains(what)) {
            return false;
        }
        let term = line.message.rsplit_once(" at term ").map(|(_, term)| term);
        let (Some(Ok(term)), Some(now)) = (term.map(str::parse), line.time) else {
            return false;
        };
        let last = self.elections.back().map_or(0, |&(_, last)| last);
        if term > last {
            self.elections.push_back((now, term));
        }
        while let Some(&(then, _)) = self.elections.front()
            && now.duration_since(then) > STORM_WITHIN
        {
            self.elections.pop_front();
        }
        let first = self.elections.front().map_or(term, |&(_, first)| first);
        term.saturating_sub(first) >= STORM
    }
}

/// Whether a line of a panic is its first, and not that of a goroutine.
fn begins_a_panic(message: &str) -> bool {
    !message.starts_with("goroutine ")
}

fn peer(message: &str) -> Option<MemberId> {
    const BEFORE_IT: [&str; 10] = [
        "failed to dial ",
        "failed to write ",
        "failed to read ",
        "failed to heartbeat ",
        " of member ",
        "removed member ",
        "the connection with ",
        "the connection to peer ",
        "health check for peer ",
        "peer ",
    ];
    let after = BEFORE_IT
        .iter()
        .find_map(|before| message.split_once(before));
    let id = after?.1.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u64::from_str_radix(id, 16).ok().map(MemberId)
}
