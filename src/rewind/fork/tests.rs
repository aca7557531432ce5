//! Logs of a small raft that elects, replicates and commits at random, compared with what it committed.

use proptest::prelude::*;

use super::*;
use crate::etcd::entry::EntryClass;
use crate::etcd::trace::{EntryDigest, TracedSnapshot};
use crate::etcd::wal::log::EntryView;
use crate::rewind::history::{History, Missing, Part, Unjoined};

fn entry(index: u64, term: u64, what: u64) -> TracedEntry {
    let data = what.to_le_bytes();
    let view = EntryView {
        kind: 0,
        term: Term(term),
        index: Index(index),
        data: &data,
    };
    TracedEntry {
        index: Index(index),
        term: Term(term),
        digest: EntryDigest::of(&view),
        log_crc: 0,
        bytes: 8,
        class: EntryClass::ClientWrite,
        clock: None,
    }
}

/// A log of entries `(term, what)` above `floor`, with raft snapshots `(index, term)`.
fn trace(floor: u64, entries: &[(u64, u64)], snapshots: &[(u64, u64)]) -> Trace {
    let numbered = (floor + 1..).zip(entries);
    Trace {
        entries: numbered
            .map(|(index, (term, what))| entry(index, *term, *what))
            .collect(),
        snapshots: snapshots
            .iter()
            .map(|(index, term)| TracedSnapshot {
                id: SnapshotId {
                    term: Term(*term),
                    index: Index(*index),
                },
                cluster_version: None,
            })
            .collect(),
    }
}

fn log(trace: &Trace, commit: u64) -> Log<'_> {
    let entry = trace.entries.last().map(|last| (last.index, last.term));
    let snapshot = trace
        .snapshots
        .last()
        .map(|last| (last.id.index, last.id.term));
    let (index, term) = entry.max(snapshot).unwrap();
    Log {
        trace,
        last: SnapshotId { term, index },
        commit: Index(commit),
    }
}

#[test]
fn tails_above_all_that_is_known_to_be_committed_may_differ_and_the_later_term_wins() {
    let long = trace(0, &[(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)], &[]);
    let late = trace(0, &[(1, 1), (1, 2), (2, 30)], &[]);
    let found = agree(&[log(&long, 2), log(&late, 1)]).unwrap();
    assert_eq!((found.committed, found.knower), (Index(2), 0));
    assert_eq!((found.winner, found.end.index), (1, Index(3)));
    assert_eq!(found.sure, [Index(2), Index(3)]);
    // With the same last term the longer log wins, in either order.
    let longer = trace(0, &[(1, 1), (1, 2), (2, 30), (2, 40)], &[]);
    let found = agree(&[log(&late, 1), log(&longer, 1), log(&long, 2)]).unwrap();
    assert_eq!((found.winner, found.end.index), (1, Index(4)));
    assert_eq!(found.sure, [Index(3), Index(4), Index(2)]);
}

#[test]
fn a_difference_at_or_below_what_both_know_to_be_committed_is_a_fork() {
    let one = trace(0, &[(1, 1), (1, 2), (1, 3)], &[]);
    let other = trace(0, &[(1, 1), (1, 2), (2, 3), (2, 4)], &[]);
    for (commit, known, forks) in [(2, 4, false), (3, 4, true), (2, 3, false), (3, 3, true)] {
        let found = agree(&[log(&one, commit), log(&other, known)]);
        assert_eq!(found.is_err(), forks, "{commit}, {known}: {found:?}");
        if let Err(fork) = found {
            assert_eq!(fork.index, Index(3));
            let why = Why::Committed {
                commit: Index(known),
                knower: usize::from(known > commit),
            };
            assert_eq!(fork.why, why);
            assert!(fork.sides[0].committed && fork.sides[1].committed);
        }
    }
}

#[test]
fn what_a_crashed_leader_never_committed_gives_way_to_what_a_later_one_did() {
    let crashed = trace(0, &[(4, 1), (4, 2), (4, 3), (4, 4)], &[]);
    let later = trace(0, &[(4, 1), (5, 20), (5, 30), (5, 40), (5, 50)], &[]);
    let follower = trace(0, &[(4, 1), (5, 20), (5, 30)], &[]);
    for logs in [
        [log(&crashed, 1), log(&later, 5)],
        [log(&later, 5), log(&crashed, 1)],
    ] {
        let found = agree(&logs).unwrap();
        assert_eq!((found.committed, found.end.index), (Index(5), Index(5)));
        let expected = logs.map(|log| log.commit);
        assert_eq!(found.sure, expected);
    }
    // The log that knows it to be committed need not be the later leader's.
    let found = agree(&[log(&crashed, 1), log(&follower, 3), log(&later, 1)]).unwrap();
    assert_eq!(found.sure, [Index(1), Index(3), Index(5)]);
    // A raft snapshot of the later leader covers what it committed.
    let from_snapshot = trace(3, &[(5, 40)], &[(3, 5)]);
    let found = agree(&[log(&from_snapshot, 4), log(&crashed, 1)]).unwrap();
    assert_eq!(found.sure, [Index(4), Index(1)]);
    // One term later, or of the same term: then the tail is the later leader's.
    for term in [5, 6] {
        let tail = trace(
            0,
            &[(4, 1), (term, 2), (term, 3), (term, 4), (term, 5)],
            &[],
        );
        agree(&[log(&tail, 1), log(&later, 5)]).unwrap_err();
    }
    // A member's own raft snapshot is not that of a later leader.
    let own = trace(0, &[(4, 1), (4, 2), (4, 3)], &[(2, 5)]);
    let fork = agree(&[log(&own, 2), log(&later, 5)]).unwrap_err();
    assert_eq!(fork.index, Index(2));
}

#[test]
fn one_index_and_term_with_two_contents_is_a_fork_wherever_it_stands() {
    let one = trace(0, &[(1, 1), (1, 2), (1, 3)], &[]);
    let other = trace(0, &[(1, 1), (1, 2), (1, 99)], &[]);
    let fork = agree(&[log(&one, 1), log(&other, 1)]).unwrap_err();
    assert_eq!((fork.index, fork.why), (Index(3), Why::SameTerm));
    assert_eq!(fork.sides[0].said, LogState::Entry(entry(3, 1, 3)));
    assert_eq!(fork.sides[1].said, LogState::Entry(entry(3, 1, 99)));
    // If several pairs differ there, the first is reported.
    let fork = agree(&[log(&one, 1), log(&one, 1), log(&other, 1)]).unwrap_err();
    assert_eq!(fork.sides.map(|side| side.input), [0, 2]);
}

#[test]
fn logs_that_part_and_meet_again_are_no_logs_of_one_cluster() {
    let one = trace(0, &[(1, 1), (1, 2), (3, 3)], &[]);
    let other = trace(0, &[(1, 1), (2, 2), (3, 3)], &[]);
    let fork = agree(&[log(&one, 1), log(&other, 1)]).unwrap_err();
    let why = Why::MeetAgain { at: Index(3) };
    assert_eq!((fork.index, fork.why), (Index(2), why));
}

#[test]
fn a_raft_snapshot_of_another_term_is_a_fork_of_another_log_and_of_its_own() {
    let with_snapshot = trace(3, &[(2, 4)], &[(3, 2)]);
    let without = trace(0, &[(1, 1), (1, 2), (1, 3)], &[]);
    let fork = agree(&[log(&with_snapshot, 4), log(&without, 3)]).unwrap_err();
    assert_eq!(fork.index, Index(3));
    assert_eq!(fork.sides[0].said, LogState::Snapshot(Term(2)));
    assert_eq!(fork.sides[1].said, LogState::Entry(entry(3, 1, 3)));
    let own = trace(1, &[(3, 2), (3, 3)], &[(1, 1), (2, 7)]);
    let fork = agree(&[log(&own, 3)]).unwrap_err();
    assert_eq!(fork.index, Index(2));
    assert_eq!(fork.sides[1].said, LogState::Snapshot(Term(7)));
}

#[test]
fn a_raft_snapshot_is_a_fork_in_whatever_order_the_inputs_come_and_the_first_of_two_is_told() {
    let with_snapshot = trace(3, &[(2, 4)], &[(3, 2)]);
    let without = trace(0, &[(1, 1), (1, 2), (1, 3)], &[]);
    let fork = agree(&[log(&without, 3), log(&with_snapshot, 4)]).unwrap_err();
    assert_eq!(fork.index, Index(3));
    assert_eq!(fork.sides[1].said, LogState::Snapshot(Term(2)));
    // Each has a raft snapshot that contradicts the other: the first log at 5, the second at 2.
    let late = trace(0, &[(1, 1), (1, 2)], &[(5, 3)]);
    let early = trace(2, &[(2, 3), (2, 4), (2, 5), (2, 6)], &[(2, 9)]);
    // One that contradicts the other's entries at 2 and at 5.
    let twice = trace(5, &[(3, 6)], &[(2, 9), (5, 3)]);
    let entries = [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (2, 6)];
    let plain = trace(0, &entries, &[]);
    for logs in [[&late, &early], [&early, &late], [&twice, &plain]] {
        let fork = agree(&logs.map(|trace| log(trace, 6))).unwrap_err();
        assert_eq!(fork.index, Index(2), "{fork:?}");
    }
}

#[test]
fn a_raft_snapshot_that_differs_before_the_entries_do_is_what_is_told() {
    let entries = [(1, 1), (1, 2), (2, 3), (2, 4)];
    let one = trace(0, &entries, &[]);
    let other = trace(2, &[(2, 3), (2, 40)], &[(2, 2)]);
    let fork = agree(&[log(&one, 1), log(&other, 2)]).unwrap_err();
    assert_eq!(fork.index, Index(2), "{fork:?}");
    assert!(matches!(fork.why, Why::Committed { .. }), "{fork:?}");
    // Where the entries differ first, they are reported.
    let one = trace(0, &[(1, 1), (1, 20), (2, 3), (2, 4)], &[]);
    let other = trace(0, &entries, &[(4, 3)]);
    let fork = agree(&[log(&one, 4), log(&other, 4)]).unwrap_err();
    assert_eq!((fork.index, fork.why), (Index(2), Why::SameTerm));
}

#[test]
fn a_log_that_ends_with_what_was_committed_lacks_nothing_and_two_contents_are_told_before_a_lack() {
    let committed = trace(0, &[(1, 1), (1, 2), (1, 3)], &[]);
    let ends_there = trace(0, &[(1, 1), (1, 2), (1, 3)], &[]);
    let ends_before = trace(1, &[(5, 50)], &[(1, 1)]);
    let knower = trace(5, &[(1, 6)], &[(5, 1)]);
    let agreed = agree(&[log(&committed, 3), log(&ends_there, 3)]).unwrap();
    assert_eq!((agreed.winner, agreed.committed), (0, Index(3)));
    // The leader of term 5 ends at 2, and lacks 3 to 6.
    let fork = agree(&[log(&knower, 6), log(&ends_before, 1)]).unwrap_err();
    let why = Why::Lacks { commit: Index(6) };
    assert_eq!((fork.index, fork.why), (Index(3), why));
    // Two others have different entries at the first index that it lacks, or at the next.
    let one = trace(2, &[(1, 3), (1, 4)], &[]);
    let other = trace(2, &[(1, 33), (1, 4)], &[]);
    let later = trace(2, &[(1, 3), (1, 44)], &[]);
    for (other, told) in [(&other, Why::SameTerm), (&later, why)] {
        let logs = [&knower, &ends_before, &one, other];
        let logs = [6, 1, 2, 2]
            .iter()
            .zip(logs)
            .map(|(commit, trace)| log(trace, *commit));
        let fork = agree(&logs.collect::<Vec<_>>()).unwrap_err();
        assert_eq!((fork.index, fork.why), (Index(3), told));
    }
}

#[test]
fn the_last_entry_that_another_knows_to_be_committed_is_sure_and_the_next_is_not() {
    let tail = trace(0, &[(1, 1), (1, 2), (1, 3), (1, 4)], &[]);
    let knower = trace(0, &[(1, 1), (1, 2), (1, 3), (1, 4)], &[]);
    // It has none of these, and wins.
    let far = trace(9, &[(2, 100)], &[(9, 2)]);
    let found = agree(&[log(&tail, 1), log(&knower, 3), log(&far, 9)]).unwrap();
    assert_eq!(found.sure, [Index(3), Index(3), Index(10)]);
}

#[test]
fn a_later_leader_without_what_was_committed_is_a_fork() {
    let committed = trace(0, &[(1, 1), (1, 2), (1, 3)], &[]);
    let later = trace(0, &[(1, 1), (5, 50)], &[]);
    let fork = agree(&[log(&committed, 3), log(&later, 1)]).unwrap_err();
    assert_eq!(fork.index, Index(2));
    let ends_early = trace(1, &[(5, 50)], &[(1, 1)]);
    let starts_late = trace(3, &[(1, 4), (1, 5)], &[(3, 1)]);
    let fork = agree(&[log(&starts_late, 5), log(&ends_early, 1)]).unwrap_err();
    let why = Why::Lacks { commit: Index(5) };
    assert_eq!((fork.index, fork.why), (Index(3), why));
    assert!(matches!(fork.sides[0].said, LogState::Nothing(_)));
}

#[test]
fn a_tail_below_a_raft_snapshot_of_the_winner_counts_once_it_meets_it() {
    let tail = trace(0, &[(1, 1), (1, 2), (1, 3), (1, 4)], &[]);
    let meets = trace(3, &[(2, 40)], &[(3, 1)]);
    let far = trace(9, &[(2, 100)], &[(9, 2)]);
    let found = agree(&[log(&tail, 1), log(&meets, 3)]).unwrap();
    assert_eq!(found.sure, [Index(3), Index(4)]);
    let history = History::new(vec![log(&tail, 1), log(&meets, 3)], found);
    let part = |from, to, input| Part {
        from: Index(from),
        to: Index(to),
        input,
    };
    let cover = history.cover(Index(2), Index(4), None);
    assert_eq!(cover.parts, [part(2, 3, 0), part(4, 4, 1)]);
    assert!(cover.is_whole(), "{cover:?}");
    // Nothing proves that these entries are the same as in the history.
    let found = agree(&[log(&tail, 1), log(&far, 9)]).unwrap();
    assert_eq!(found.sure, [Index(1), Index(10)]);
}

#[test]
fn logs_that_follow_each_other_by_number_only_are_not_joined() {
    let ends = trace(0, &[(1, 1), (1, 2), (1, 3)], &[(2, 1)]);
    let [overlaps, adjoins, late] = [2, 3, 4].map(|floor| {
        let entries: Vec<_> = (floor + 1..=6).map(|index| (1, index)).collect();
        trace(floor, &entries, &[])
    });
    let cover = |other: &Trace| {
        let logs = vec![log(&ends, 3), log(other, 5)];
        let agreed = agree(&logs).unwrap();
        History::new(logs, agreed).cover(Index(3), Index(5), Some(0))
    };
    assert!(cover(&overlaps).is_whole());
    let unjoined = Unjoined {
        at: Index(3),
        inputs: [0, 1],
    };
    assert_eq!(cover(&adjoins).unjoined, Some(unjoined));
    assert_eq!(cover(&adjoins).missing, []);
    let missing = Missing {
        from: Index(4),
        to: Index(4),
    };
    assert_eq!(cover(&late).missing, [missing]);
    // A raft snapshot that ends where the other log does proves it.
    let marked = trace(3, &[(1, 4), (1, 5)], &[(3, 1)]);
    assert!(cover(&marked).is_whole());
}

#[derive(Clone, Debug, Default)]
struct Peer {
    /// `(term, what)`.
    log: Vec<(u64, u64)>,
    term: u64,
    leads: bool,
    commit: usize,
    /// Entries up to here exist only in a raft snapshot.
    floor: usize,
    snapshots: Vec<usize>,
}

impl Peer {
    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |last| last.0), self.log.len())
    }

    fn trace(&self) -> Trace {
        let ids = self.snapshots.iter();
        let ids: Vec<_> = ids
            .map(|&index| (index as u64, self.log[index - 1].0))
            .collect();
        trace(self.floor as u64, &self.log[self.floor..], &ids)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Elect(usize, usize),
    Append(usize),
    Replicate(usize, usize, usize),
    Snapshot(usize, bool),
    Copy(usize),
}

const PEERS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let peer = 0..PEERS;
    let step = prop_oneof![
        1 => (peer.clone(), 1..PEERS).prop_map(|(a, b)| Step::Elect(a, b)),
        6 => peer.clone().prop_map(Step::Append),
        6 => (peer.clone(), 1..PEERS, 0_usize..4).prop_map(|(a, b, n)| Step::Replicate(a, b, n)),
        1 => (peer.clone(), any::<bool>()).prop_map(|(a, purge)| Step::Snapshot(a, purge)),
        1 => peer.prop_map(Step::Copy),
    ];
    prop::collection::vec(step, 5..120)
}

/// The result of a run of the cluster: copies of its members, and what was committed.
fn run(steps: &[Step]) -> (Vec<Peer>, Vec<(u64, u64)>) {
    let mut peers = vec![Peer::default(); PEERS];
    let (mut copies, mut committed) = (Vec::new(), Vec::new());
    let mut what = 0;
    for step in steps {
        match *step {
            Step::Elect(who, other) => {
                let voter = (who + other) % PEERS;
                if peers[who].last() < peers[voter].last() {
                    continue;
                }
                let term = peers.iter().map(|peer| peer.term).max().unwrap() + 1;
                for place in [who, voter] {
                    peers[place].term = term;
                    peers[place].leads = false;
                }
                peers[who].leads = true;
                what += 1;
                peers[who].log.push((term, what));
            }
            Step::Append(who) if peers[who].leads => {
                what += 1;
                let term = peers[who].term;
                peers[who].log.push((term, what));
            }
            Step::Replicate(who, other, fewer) if peers[who].leads => {
                let to = (who + other) % PEERS;
                if peers[to].term > peers[who].term {
                    peers[who].leads = false;
                    continue;
                }
                replicate(&mut peers, who, to, fewer);
                commit(&mut peers, who, &mut committed);
            }
            Step::Snapshot(who, purge) => {
                let commit = peers[who].commit;
                if commit > 0 && peers[who].snapshots.last() < Some(&commit) {
                    peers[who].snapshots.push(commit);
                    if purge {
                        peers[who].floor = commit;
                        peers[who].snapshots = vec![commit];
                    }
                }
            }
            Step::Copy(who) => copies.push(peers[who].clone()),
            Step::Append(_) | Step::Replicate(..) => {}
        }
    }
    copies.extend(peers);
    copies.retain(|peer| !peer.log.is_empty());
    (copies, committed)
}

/// Sends the leader's log without its last `fewer` entries; conflicting entries are removed.
fn replicate(peers: &mut [Peer], who: usize, to: usize, fewer: usize) {
    let leader = peers[who].clone();
    let sent = &leader.log[..leader.log.len().saturating_sub(fewer)];
    let follower = &mut peers[to];
    follower.term = leader.term;
    follower.leads = false;
    let same = follower
        .log
        .iter()
        .zip(sent)
        .take_while(|(a, b)| a == b)
        .count();
    if same < sent.len() {
        follower.log.truncate(same);
        follower.log.extend_from_slice(&sent[same..]);
    }
    let known = leader.commit.min(sent.len());
    follower.commit = follower.commit.max(known);
}

/// The leader commits what a majority has, if that is of the leader's own term.
fn commit(peers: &mut [Peer], who: usize, committed: &mut Vec<(u64, u64)>) {
    let leader = peers[who].clone();
    for index in (leader.commit + 1..=leader.log.len()).rev() {
        let has = |peer: &&Peer| peer.log.get(..index) == leader.log.get(..index);
        let majority = peers.iter().filter(has).count() * 2 > PEERS;
        if majority && leader.log[index - 1].0 == leader.term {
            peers[who].commit = index;
            assert_eq!(&committed[..], &leader.log[..committed.len()], "no raft");
            *committed = leader.log[..index].to_vec();
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn members_of_a_cluster_agree_on_what_it_committed(steps in steps()) {
        let (peers, committed) = run(&steps);
        prop_assume!(!peers.is_empty());
        let traces: Vec<_> = peers.iter().map(Peer::trace).collect();
        let logs: Vec<_> = traces
            .iter()
            .zip(&peers)
            .map(|(trace, peer)| log(trace, peer.commit as u64))
            .collect();
        let agreed = agree(&logs);
        prop_assert!(agreed.is_ok(), "{agreed:?}");
        let agreed = agreed.unwrap();
        let known = agreed.committed.0 as usize;
        let winner = &peers[agreed.winner];
        prop_assert_eq!(&winner.log[..known], &committed[..known]);
        for (peer, sure) in peers.iter().zip(&agreed.sure) {
            let sure = sure.0 as usize;
            prop_assert!(sure >= peer.commit && sure <= winner.log.len());
            prop_assert_eq!(&peer.log[..sure], &winner.log[..sure]);
        }
        // The history is the winner's log, and every input from which a part is taken has that part.
        let history = History::new(logs, agreed);
        let end = history.agreement.end.index;
        let told: Vec<_> = history.entries(Index(1), end).map(|entry| entry.index).collect();
        let holds = |index: u64| peers.iter().any(|peer| {
            let index = index as usize;
            index > peer.floor && index <= peer.commit.max(usize::from(peer.log == winner.log) * peer.log.len())
        });
        let there: Vec<_> = (1..=end.0).filter(|&index| holds(index)).map(Index).collect();
        for index in there {
            prop_assert!(told.contains(&index), "{index} of {told:?}");
        }
    }

    #[test]
    fn an_altered_entry_that_two_members_have_is_found_where_it_is(
        steps in steps(), which: prop::sample::Index, at: prop::sample::Index,
    ) {
        let (peers, _) = run(&steps);
        prop_assume!(!peers.is_empty());
        let mut traces: Vec<_> = peers.iter().map(Peer::trace).collect();
        let logs = |traces: &'_ [Trace]| -> bool {
            let logs: Vec<_> = traces
                .iter()
                .zip(&peers)
                .map(|(trace, peer)| log(trace, peer.commit as u64))
                .collect();
            agree(&logs).is_ok()
        };
        prop_assume!(logs(&traces));
        let victim = which.index(traces.len());
        prop_assume!(!traces[victim].entries.is_empty());
        let place = at.index(traces[victim].entries.len());
        let original = traces[victim].entries[place];
        let others = traces.iter().enumerate().filter(|(other, _)| *other != victim);
        let shared = others
            .filter_map(|(_, trace)| trace.entry(original.index))
            .any(|other| other.term == original.term);
        traces[victim].entries[place] = entry(original.index.0, original.term.0, u64::MAX);
        let found: Vec<_> = traces
            .iter()
            .zip(&peers)
            .map(|(trace, peer)| log(trace, peer.commit as u64))
            .collect();
        match agree(&found) {
            Ok(_) => prop_assert!(!shared),
            Err(fork) => {
                prop_assert!(shared);
                prop_assert_eq!((fork.index, fork.why), (original.index, Why::SameTerm));
                prop_assert!(fork.sides.iter().any(|side| side.input == victim));
            }
        }
    }
}
