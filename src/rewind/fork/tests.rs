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

/// A log as text, and the commit index it knows: entries as `term.what`, above a floor `3>`, raft snapshots as
/// `s<index>.<term>`, and `@` the commit.
fn parsed(text: &str) -> (Trace, u64) {
    let (mut floor, mut entries, mut snapshots, mut commit) = (0, Vec::new(), Vec::new(), 0);
    let pair = |text: &str| {
        let (one, other) = text.split_once('.').unwrap();
        (one.parse().unwrap(), other.parse().unwrap())
    };
    for word in text.split_whitespace() {
        if let Some(number) = word.strip_suffix('>') {
            floor = number.parse().unwrap();
        } else if let Some(snapshot) = word.strip_prefix('s') {
            snapshots.push(pair(snapshot));
        } else if let Some(number) = word.strip_prefix('@') {
            commit = number.parse().unwrap();
        } else {
            entries.push(pair(word));
        }
    }
    (trace(floor, &entries, &snapshots), commit)
}

/// What logs agree on, or where they fork, in words.
fn told(logs: &[Log<'_>]) -> String {
    let fork = match agree(logs) {
        Ok(found) => {
            let sure: Vec<_> = found.sure.iter().map(ToString::to_string).collect();
            return format!(
                "{} committed, says {}; {} wins to {}; sure {}",
                found.committed,
                found.knower,
                found.winner,
                found.end.index,
                sure.join(" ")
            );
        }
        Err(fork) => fork,
    };
    let why = match fork.why {
        Why::SameTerm => "same term".to_owned(),
        Why::Committed { commit, knower } => format!("{commit} committed, says {knower}"),
        Why::MeetAgain { at } => format!("meet again at {at}"),
        Why::Lacks { commit } => format!("lacks up to {commit}"),
    };
    let sides = fork.sides.map(|side| {
        let said = match side.said {
            LogState::Entry(entry) => {
                assert_eq!(logs[side.input].trace.entry(fork.index), Some(&entry));
                format!("term {}", entry.term)
            }
            LogState::Snapshot(term) => format!("snapshot {term}"),
            LogState::Nothing(_) => "nothing".to_owned(),
        };
        let known = if side.committed { " committed" } else { "" };
        format!("{} {said}{known}", side.input)
    });
    format!("fork at {}, {why}: {}", fork.index, sides.join(", "))
}

/// Stories: logs between bars, and what is told of them.
const STORIES: &str = "
tails_above_all_that_is_known_to_be_committed_may_differ_and_the_later_term_wins
    1.1 1.2 1.3 1.4 1.5 @2 | 1.1 1.2 2.30 @1 -> 2 committed, says 0; 1 wins to 3; sure 2 3
    # With the same last term the longer log wins, in either order.
    1.1 1.2 2.30 @1 | 1.1 1.2 2.30 2.40 @1 | 1.1 1.2 1.3 1.4 1.5 @2 -> 2 committed, says 2; 1 wins to 4; sure 3 4 2
a_difference_at_or_below_what_both_know_to_be_committed_is_a_fork
    1.1 1.2 1.3 @2 | 1.1 1.2 2.3 2.4 @4 -> 4 committed, says 1; 1 wins to 4; sure 2 4
    1.1 1.2 1.3 @3 | 1.1 1.2 2.3 2.4 @4 -> fork at 3, 4 committed, says 1: 0 term 1 committed, 1 term 2 committed
    1.1 1.2 1.3 @2 | 1.1 1.2 2.3 2.4 @3 -> 3 committed, says 1; 1 wins to 4; sure 2 4
    1.1 1.2 1.3 @3 | 1.1 1.2 2.3 2.4 @3 -> fork at 3, 3 committed, says 0: 0 term 1 committed, 1 term 2 committed
what_a_crashed_leader_never_committed_gives_way_to_what_a_later_one_did
    4.1 4.2 4.3 4.4 @1 | 4.1 5.20 5.30 5.40 5.50 @5 -> 5 committed, says 1; 1 wins to 5; sure 1 5
    4.1 5.20 5.30 5.40 5.50 @5 | 4.1 4.2 4.3 4.4 @1 -> 5 committed, says 0; 0 wins to 5; sure 5 1
    # The log that knows it to be committed need not be the later leader's.
    4.1 4.2 4.3 4.4 @1 | 4.1 5.20 5.30 @3 | 4.1 5.20 5.30 5.40 5.50 @1 -> 3 committed, says 1; 2 wins to 5; sure 1 3 5
    # A raft snapshot of the later leader covers what it committed.
    3> 5.40 s3.5 @4 | 4.1 4.2 4.3 4.4 @1 -> 4 committed, says 0; 0 wins to 4; sure 4 1
    # One term later, or of the same term: then the tail is the later leader's.
    4.1 5.2 5.3 5.4 5.5 @1 | 4.1 5.20 5.30 5.40 5.50 @5 -> fork at 2
    4.1 6.2 6.3 6.4 6.5 @1 | 4.1 5.20 5.30 5.40 5.50 @5 -> fork at 2
    # A member's own raft snapshot is not that of a later leader.
    4.1 4.2 4.3 s2.5 @2 | 4.1 5.20 5.30 5.40 5.50 @5 -> fork at 2
one_index_and_term_with_two_contents_is_a_fork_wherever_it_stands
    1.1 1.2 1.3 @1 | 1.1 1.2 1.99 @1 -> fork at 3, same term: 0 term 1, 1 term 1
    # If several pairs differ there, the first is reported.
    1.1 1.2 1.3 @1 | 1.1 1.2 1.3 @1 | 1.1 1.2 1.99 @1 -> fork at 3, same term: 0 term 1, 2 term 1
logs_that_part_and_meet_again_are_no_logs_of_one_cluster
    1.1 1.2 3.3 @1 | 1.1 2.2 3.3 @1 -> fork at 2, meet again at 3
a_raft_snapshot_of_another_term_is_a_fork_of_another_log_and_of_its_own
    3> 2.4 s3.2 @4 | 1.1 1.2 1.3 @3 -> fork at 3, 4 committed, says 0: 0 snapshot 2 committed, 1 term 1 committed
    1> 3.2 3.3 s1.1 s2.7 @3 -> fork at 2, 3 committed, says 0: 0 term 3 committed, 0 snapshot 7 committed
a_raft_snapshot_is_a_fork_in_whatever_order_the_inputs_come_and_the_first_of_two_is_told
    1.1 1.2 1.3 @3 | 3> 2.4 s3.2 @4 -> fork at 3, 4 committed, says 1: 0 term 1 committed, 1 snapshot 2 committed
    # Each has a raft snapshot that contradicts the other: the first log at 5, the second at 2.
    1.1 1.2 s5.3 @6 | 2> 2.3 2.4 2.5 2.6 s2.9 @6 -> fork at 2
    2> 2.3 2.4 2.5 2.6 s2.9 @6 | 1.1 1.2 s5.3 @6 -> fork at 2
    # One that contradicts the other's entries at 2 and at 5.
    5> 3.6 s2.9 s5.3 @6 | 1.1 1.2 2.3 2.4 2.5 2.6 @6 -> fork at 2
a_raft_snapshot_that_differs_before_the_entries_do_is_what_is_told
    1.1 1.2 2.3 2.4 @1 | 2> 2.3 2.40 s2.2 @2 -> fork at 2, 2 committed, says 1
    # Where the entries differ first, they are reported.
    1.1 1.20 2.3 2.4 @4 | 1.1 1.2 2.3 2.4 s4.3 @4 -> fork at 2, same term
a_log_that_ends_with_what_was_committed_lacks_nothing_and_two_contents_are_told_before_a_lack
    1.1 1.2 1.3 @3 | 1.1 1.2 1.3 @3 -> 3 committed, says 0; 0 wins to 3
    # The leader of term 5 ends at 2, and lacks 3 to 6.
    5> 1.6 s5.1 @6 | 1> 5.50 s1.1 @1 -> fork at 3, lacks up to 6
    # Two others have different entries at the first index that it lacks, or at the next.
    5> 1.6 s5.1 @6 | 1> 5.50 s1.1 @1 | 2> 1.3 1.4 @2 | 2> 1.33 1.4 @2 -> fork at 3, same term
    5> 1.6 s5.1 @6 | 1> 5.50 s1.1 @1 | 2> 1.3 1.4 @2 | 2> 1.3 1.44 @2 -> fork at 3, lacks up to 6
the_last_entry_that_another_knows_to_be_committed_is_sure_and_the_next_is_not
    # The last has none of these, and wins.
    1.1 1.2 1.3 1.4 @1 | 1.1 1.2 1.3 1.4 @3 | 9> 2.100 s9.2 @9 -> 9 committed, says 2; 2 wins to 10; sure 3 3 10
a_later_leader_without_what_was_committed_is_a_fork
    1.1 1.2 1.3 @3 | 1.1 5.50 @1 -> fork at 2
    3> 1.4 1.5 s3.1 @5 | 1> 5.50 s1.1 @1 -> fork at 3, lacks up to 5: 1 nothing, 0 snapshot 1
";

#[test]
fn every_story_of_logs_is_true() {
    let (mut wrong, mut story) = (Vec::new(), "");
    for line in STORIES.trim().lines() {
        let Some(line) = line.strip_prefix("    ") else {
            story = line;
            continue;
        };
        if line.starts_with('#') {
            continue;
        }
        let (logs, expected) = line.split_once(" -> ").expect(line);
        let traces: Vec<_> = logs.split('|').map(parsed).collect();
        let logs = traces.iter().map(|(trace, commit)| log(trace, *commit));
        let found = told(&logs.collect::<Vec<_>>());
        if !found.starts_with(expected) {
            wrong.push(format!("{story}: {line}\n but {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
