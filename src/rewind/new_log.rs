//! The logs that a plan leads to, and whether servers start from them.
//!
//! In: a [`Plan`] and its inputs. Out: each member's segments, for any [`SegmentSink`]; or, without writing anything,
//! a refusal where servers would not start from what the plan makes.

use std::io;

use crate::etcd::ids::{ClusterVersion, Index, SegmentName, SnapshotId, Term};
use crate::etcd::membership::Member;
use crate::etcd::start::{Layout, StartScan, V2_0, Verdicts};
use crate::etcd::wal::record::Framing;
use crate::etcd::wal::writer::{Beginning, LogWriter, SegmentSink};
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::rewind::input::member_text;
use crate::rewind::reread::{Reading, snapshot_path};
use crate::rewind::stores::read_snapshot;
use crate::rewind::{Input, Plan, RewindError};

/// Writes the logs of all members of `plan`; the common entries are read once.
pub(super) fn write_logs<S: SegmentSink>(
    plan: &Plan,
    inputs: &[Input],
    sinks: &mut [S],
    reading: &mut Reading<'_>,
) -> Result<(), RewindError> {
    let before_first = SnapshotId {
        term: Term(0),
        index: Index(0),
    };
    let beginning = |member: &Member| Beginning {
        member_id: member.id,
        cluster_id: plan.cluster_id,
        snapshot: plan.base.snapshot.unwrap_or(before_first),
        term: plan.term,
        framing: if plan.db.is_some() {
            Framing::Padded
        } else {
            Framing::Plain
        },
    };
    let members = sinks.iter_mut().zip(&plan.members);
    let logs = members.map(|(sink, member)| LogWriter::begin(sink, beginning(member)));
    let mut logs = logs.collect::<io::Result<Vec<_>>>()?;
    for part in &plan.log {
        let (Some(input), Some(read_input)) =
            (inputs.get(part.input), plan.read_inputs.get(part.input))
        else {
            return Err(RewindError::NoInput);
        };
        reading.entries(&input.target, read_input, *part, &mut |index, _, record| {
            let instead = plan.leftovers.entries.get(&index);
            let record = instead.map_or(record, Vec::as_slice);
            Ok(logs
                .iter_mut()
                .try_for_each(|log| log.entry(index, record))?)
        })?;
    }
    for mut log in logs {
        for change in &plan.changes {
            log.entry(change.index, &change.record)?;
        }
        log.finish()?;
    }
    Ok(())
}

/// A raft snapshot's file without what removed members left in it.
pub(super) fn without_leftovers(
    plan: &Plan,
    file: Vec<u8>,
    id: SnapshotId,
) -> Result<Vec<u8>, RewindError> {
    let leftovers = &plan.leftovers;
    if !leftovers.is_in_snapshot() {
        return Ok(file);
    }
    let facts = read_snapshot(id, &file).map(|(facts, _)| facts);
    let without = facts.and_then(|facts| leftovers.out_of_snapshot(&file, &facts));
    without.ok_or(RewindError::Leftover(id))
}

/// Refuses if the release at the plan's entry does not start, by the `verdicts` on what `member` gets.
pub(super) fn refuse_unless_it_starts(
    plan: &Plan,
    member: &Member,
    verdicts: &Verdicts,
) -> Result<(), RewindError> {
    let version = plan.moment.cluster_version.as_ref();
    let release = version.map_or(V2_0, ClusterVersion::release);
    let own = verdicts.iter().find(|(line, _)| *line == release);
    match own.and_then(|(line, verdict)| Some((*line, verdict.why_not(*line)?))) {
        None => Ok(()),
        Some((line, why)) => Err(RewindError::WouldNotStart {
            member: member_text(Some(&member.name), member.id),
            line,
            why,
        }),
    }
}

/// Refuses a plan from which servers would not start; writes nothing. Not known for 3.x.
pub fn refuse_dead_plan(
    plan: &Plan,
    inputs: &[Input],
    threads: usize,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<(), RewindError> {
    if plan.db.is_some() {
        return Ok(());
    }
    let mut reading = Reading {
        threads,
        interrupt,
        observe,
    };
    let mut snapshot = None;
    if let (Some(id), Some(input)) = (plan.base.snapshot, inputs.get(plan.base.input)) {
        let mut file = Vec::new();
        reading.file(&input.target, &snapshot_path(id), &mut |bytes| {
            file.extend_from_slice(bytes);
            Ok(())
        })?;
        snapshot = Some((id, without_leftovers(plan, file, id)?));
    }
    let members = plan.members.iter();
    let starts = members.map(|_| TriedStart {
        snapshot: snapshot.as_ref(),
        scan: None,
    });
    let mut starts: Vec<_> = starts.collect();
    write_logs(plan, inputs, &mut starts, &mut reading)?;
    for (member, start) in plan.members.iter().zip(starts) {
        if let Some(scan) = start.scan {
            refuse_unless_it_starts(plan, member, &scan.finish())?;
        }
    }
    Ok(())
}

/// A start from a log that is made, and written nowhere.
struct TriedStart<'t> {
    snapshot: Option<&'t (SnapshotId, Vec<u8>)>,
    /// Begins with the first segment.
    scan: Option<StartScan>,
}

impl SegmentSink for TriedStart<'_> {
    fn begin(&mut self, name: SegmentName) -> io::Result<()> {
        if let Some(scan) = &mut self.scan {
            scan.end();
            scan.begin(0);
            return Ok(());
        }
        let layout = Layout {
            has_snap_dir: true,
            snap: self.snapshot.iter().map(|(id, _)| id.file_name()).collect(),
            wal: vec![name.to_string()],
            has_dedicated_wal: false,
            has_proxy: false,
        };
        let mut scan = StartScan::new(layout, false);
        if let Some((_, file)) = self.snapshot {
            scan.begin(file.len() as u64);
            scan.update(file, false);
            scan.end();
        }
        scan.begin(0);
        self.scan = Some(scan);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(scan) = &mut self.scan {
            scan.update(bytes, false);
        }
        Ok(())
    }
}
