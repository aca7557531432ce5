//! Damages of a data dir, and pairs of them, on recordings of several releases.
//!
//! In: a copy of a recording. Out: the same, damaged, or left alone where the damage does not apply to it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err as fs;

use super::decode::{Field, fields as fields_of, frames, log, segments};
use super::encode::{LENGTH_WORD, SegmentBuilder, conf_change, request, snap_name};
use super::random_ops::Random;
use super::recordings::{Recording, copy_dir, unpack};
use super::tools::fast_dir;

/// Recordings that a server left when it stopped: name, data dir, and the release line it ran, as `2.1`.
pub const BASES: [(&str, &str, &str); 11] = [
    ("v20", "v20", "2.0"),
    ("v23", "v23", "2.3"),
    ("start-verdicts", "start-verdicts/cases/F-intact", "2.1"),
    ("start-verdicts", "start-verdicts/cases/G-intact", "2.1"),
    ("auth", "auth", "2.1"),
    ("gap-follower", "gap-follower", "2.1"),
    ("mem-a", "mem-a", "2.1"),
    ("mem-b", "mem-b", "2.1"),
    ("mem-d", "mem-d", "2.1"),
    ("upgrade-story", "2-backup-infra1", "2.1"),
    ("upgrade-story", "3-after-upgrade-infra0", "2.2"),
];

/// How many data dirs are worked on at once.
const THREADS: usize = 24;

/// A damage: its name, and what it does to the directory of the member.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 28] = [
    ("none", |_| ()),
    ("tail_cut", |member| {
        change_last(member, |bytes| bytes.truncate(bytes.len() - 3));
    }),
    ("length_word_only", |member| {
        change_last(member, |bytes| bytes.extend([32, 0, 0, 0, 0, 0, 0, 0]));
    }),
    ("garbage", |member| {
        change_last(member, |bytes| bytes.extend(*b"\x20\0\0\0\0\0\0\0abc"));
    }),
    ("zeros", |member| {
        change_last(member, |bytes| bytes.extend([0; 600]));
    }),
    ("middle_flip", |member| {
        change_last(member, |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 4;
        });
    }),
    ("last_record_gone", |member| drop_frames(member, 1)),
    ("last_records_gone", |member| drop_frames(member, 3)),
    ("commit_past_end", |member| {
        append(member, |log, end, _| {
            log.hard_state(end.term, end.vote, end.commit + 9);
        });
    }),
    ("term_falls", |member| {
        append(member, |log, end, _| {
            log.hard_state(end.term.max(2) - 1, 0, end.commit);
        });
    }),
    ("uncommitted_tail", |member| {
        append(member, |log, end, next| {
            log.entry(0, end.term, next, Some(&request("PUT", "/1/late", "v")));
        });
    }),
    ("unknown_type", |member| apply(member, 7, b"")),
    ("bad_request", |member| apply(member, 0, b"\xff\xff")),
    ("bad_conf_change", |member| apply(member, 1, b"\xff\xff")),
    ("late_publish", |member| {
        apply(
            member,
            0,
            &request("PUT", "/0/members/1234/attributes", r#"{"name":"x"}"#),
        );
    }),
    ("removed", |member| {
        append(member, |log, end, next| {
            log.entry(1, end.term, next, Some(&conf_change(1, end.member_id, "")));
            log.hard_state(end.term, end.vote, next);
        });
    }),
    ("stranger_added", |member| {
        apply(
            member,
            1,
            &conf_change(0, 0x77, r#"{"id":119,"peerURLs":["http://127.0.0.1:9"]}"#),
        );
    }),
    ("version_22", |member| {
        apply(member, 0, &request("PUT", "/0/version", "2.2.0"));
    }),
    ("version_bad", |member| {
        apply(member, 0, &request("PUT", "/0/version", "two"));
    }),
    ("entry_gap", |member| {
        append(member, |log, end, next| {
            log.entry(0, end.term, next + 1, None);
        });
    }),
    ("entry_gap_at_commit", |member| {
        append(member, |log, end, next| {
            log.entry(0, end.term, next + 1, None);
            log.hard_state(end.term, end.vote, next);
        });
    }),
    ("entry_gap_below_commit", |member| {
        append(member, |log, end, next| {
            log.entry(0, end.term, next + 1, None);
            log.hard_state(end.term, end.vote, next + 1);
        });
    }),
    ("snap_empty", |member| {
        change_snap(member, |path| fs::write(path, b"").unwrap());
    }),
    ("snap_flip", |member| {
        change_snap(member, |path| {
            let mut bytes = fs::read(path).unwrap();
            let at = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
            fs::write(path, bytes).unwrap();
        });
    }),
    ("snap_gone", |member| {
        change_snap(member, |path| fs::remove_file(path).unwrap());
    }),
    ("snap_misnamed", |member| {
        change_snap(member, |path| {
            fs::rename(path, path.with_file_name(snap_name(9, 0xffff))).unwrap();
        });
    }),
    ("first_segment_gone", |member| {
        fs::remove_file(&segments(&member.join("wal"))[0]).unwrap();
    }),
    ("next_segment_empty", |member| {
        if !is_whole(member) {
            return;
        }
        let end = log(&member.join("wal")).index;
        let wal = member.join("wal");
        let all = segments(&wal).len() as u64;
        fs::write(
            wal.join(super::encode::segment_name(all + sequence(&wal), end + 1)),
            b"",
        )
        .unwrap();
    }),
];

/// The sequence number of the first segment.
fn sequence(wal: &Path) -> u64 {
    let first = segments(wal).remove(0);
    let name = first.file_name().unwrap().to_str().unwrap().to_owned();
    u64::from_str_radix(&name[..16], 16).unwrap()
}

fn last_segment(member: &Path) -> Option<PathBuf> {
    segments(&member.join("wal")).pop()
}

fn change_last(member: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let Some(path) = last_segment(member) else {
        return;
    };
    let mut bytes = fs::read(&path).unwrap();
    if bytes.len() > 64 {
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }
}

/// Whether the log can be read to its end: else nothing is put behind it.
fn is_whole(member: &Path) -> bool {
    let all = segments(&member.join("wal"));
    !all.is_empty() && all.iter().all(|path| is_readable(&fs::read(path).unwrap()))
}

/// Whether every frame is whole and holds messages.
fn is_readable(mut bytes: &[u8]) -> bool {
    while let Some((word, rest)) = bytes.split_first_chunk::<LENGTH_WORD>() {
        let Some((record, rest)) = rest.split_at_checked(u64::from_le_bytes(*word) as usize) else {
            return false;
        };
        let is_message = |fields: &Vec<(u64, Field)>| {
            let data = fields.iter().find_map(|(number, field)| match field {
                Field::Bytes(data) if *number == 3 => Some(*data),
                _ => None,
            });
            data.is_none_or(|data| fields_of(data).is_some())
        };
        if record.is_empty() || !fields_of(record).as_ref().is_some_and(is_message) {
            return false;
        }
        bytes = rest;
    }
    bytes.is_empty()
}

fn drop_frames(member: &Path, count: usize) {
    if is_whole(member) {
        change_last(member, |bytes| {
            let all = frames(bytes);
            if let Some(frame) = all
                .len()
                .checked_sub(count)
                .and_then(|at| all.get(at.max(4)))
            {
                bytes.truncate(frame.offset);
            }
        });
    }
}

/// Puts records behind the last one, with CRCs that are right.
fn append(member: &Path, records: impl FnOnce(&mut SegmentBuilder, &super::decode::LogRead, u64)) {
    if !is_whole(member) {
        return;
    }
    let wal = member.join("wal");
    let mut crc = 0;
    for (number, path) in segments(&wal).iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        for frame in frames(&bytes) {
            // A log that is not read from its start begins with the CRC of what went before.
            if frame.kind == 4 && number == 0 {
                crc = super::decode::number(&bytes[frame.offset + 8..frame.end], 2) as u32;
            } else if frame.kind != 4 {
                crc = crc32c::crc32c_append(crc, &frame.data);
            }
        }
    }
    let end = log(&wal);
    let mut more = SegmentBuilder::new(crc, false);
    records(&mut more, &end, end.index + 1);
    change_last(member, |bytes| bytes.extend_from_slice(more.bytes()));
}

/// A committed entry behind the last one.
fn apply(member: &Path, kind: u64, data: &[u8]) {
    append(member, |log, end, next| {
        log.entry(kind, end.term, next, Some(data));
        log.hard_state(end.term, end.vote, next);
    });
}

fn change_snap(member: &Path, change: impl FnOnce(&Path)) {
    let mut names: Vec<_> = fs::read_dir(member.join("snap"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    if let Some(newest) = names.pop() {
        change(&newest);
    }
}

pub struct Damaged {
    /// Base and damages, for messages.
    pub name: String,
    /// The release line that the base ran.
    pub line: &'static str,
    pub path: PathBuf,
}

/// Data dirs with two damages each: all there are, or `sample` of them, the same again for the same seed. Many at a
/// time: a capture waits before it believes that a file is corrupt. `ETCD_ARK_PAIR` names those that are tried instead, by
/// a part of their names.
pub fn pairs(sample: Option<u64>, seed: u64, each: impl Fn(&Damaged) + Sync) {
    let recordings: Vec<Recording> = BASES.iter().map(|(name, ..)| unpack(name)).collect();
    let count = DAMAGES.len();
    let all = BASES.len() * count * count;
    let mut random = Random::new(seed);
    let only = std::env::var("ETCD_ARK_PAIR").ok();
    let picks: Vec<usize> = match sample.filter(|_| only.is_none()) {
        Some(sample) => (0..sample)
            .map(|_| random.below(all as u64) as usize)
            .collect(),
        None => (0..all).collect(),
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(pick) = picks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (base, first, second) =
                        (pick / (count * count), pick / count % count, pick % count);
                    let (_, dir, line) = BASES[base];
                    let (one, other) = (DAMAGES[first], DAMAGES[second]);
                    let name = format!("{dir} with {} and {}", one.0, other.0);
                    if only.as_ref().is_some_and(|only| !name.contains(only)) {
                        continue;
                    }
                    let work = fast_dir("ark-pair-");
                    let path = work.path().join("data");
                    copy_dir(&recordings[base].data_dir(dir), &path);
                    let member = path.join("member");
                    for (_, damage) in [one, other] {
                        if !segments(&member.join("wal")).is_empty() {
                            damage(&member);
                        }
                    }
                    each(&Damaged { name, line, path });
                }
            });
        }
    });
}
