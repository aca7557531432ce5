//! The findings of each check, as text.
//!
//! In: the facts. Out: a [`Finding`] for each check.

use jiff::{SignedDuration, Timestamp};

use crate::archive::warning::WarningCode;
use crate::monitoring::scope::{Others, Watched, is_ahead};
use crate::monitoring::{Facts, Finding, Level, Room, Thresholds, Verification, age};
use crate::text::{about, count, list, size, utc};

fn finding(level: Level, check: &'static str, member: Option<&str>, text: String) -> Finding {
    Finding {
        level,
        check,
        member: member.map(str::to_owned),
        text,
    }
}

const DAMAGED: [&str; 2] = [
    "archive of a damaged data dir",
    "archives of damaged data dirs",
];

/// The numbers above 0, each with its word.
fn told<const N: usize>(numbers: [(u64, [&str; 2]); N]) -> Vec<String> {
    let some = numbers.into_iter().filter(|(number, _)| *number > 0);
    some.map(|(number, [one, more])| count(number, one, more))
        .collect()
}

/// No member is watched, because there are no archives.
pub(super) fn nothing(facts: &Facts) -> Finding {
    let location = &facts.location;
    let unlooked = facts.unreadable.iter().find(|one| !one.looked);
    let (level, text) = if let Some(unlooked) = unlooked {
        (Level::Unknown, unlooked.why.clone())
    } else if let Some(first) = facts.unreadable.first() {
        let text = format!("no archive in {location} can be read: {}", first.why);
        (Level::Critical, text)
    } else if let Some(wanted) = &facts.wanted {
        let text = format!("no archive of a member {wanted} in {location}");
        (Level::Critical, text)
    } else {
        let told = told([
            (facts.others.damaged, DAMAGED),
            (
                facts.others.rewound,
                ["archive made by `rewind`", "archives made by `rewind`"],
            ),
        ]);
        let text = match told.as_slice() {
            [] => format!("no archive in {location}"),
            told => format!("no backup in {location}, only {}", list(told)),
        };
        (Level::Critical, text)
    };
    finding(level, "archives", None, text)
}

pub(super) fn member(
    watched: &Watched,
    proof: &Verification,
    facts: &Facts,
    rules: &Thresholds,
) -> Vec<Finding> {
    let mut found = vec![
        of_age(watched, facts, rules),
        of_proof(watched, proof, facts),
        of_size(watched, rules),
    ];
    found.extend(of_start(watched));
    found.extend(of_dates(watched, facts.now));
    found.extend(of_warnings(watched));
    found
}

fn of_age(watched: &Watched, facts: &Facts, rules: &Thresholds) -> Finding {
    let Watched { name, newest, .. } = watched;
    let is = "newest archive is";
    let over = |limit| age(watched, facts.now).filter(|age| *age > limit);
    let (level, text) = match age(watched, facts.now) {
        None => {
            let created = utc(newest.created);
            let text = format!("{is} dated {created}, in the future: its age is not known");
            (Level::Critical, text)
        }
        Some(age) => {
            let limits = [
                (Level::Critical, Some(rules.max_age)),
                (Level::Warning, rules.warn_age),
            ];
            let passed = limits.into_iter().find_map(|(level, limit)| {
                let limit = limit?;
                over(limit).map(|_| (level, format!(", over {}", limit_of(limit))))
            });
            let (level, over) = passed.unwrap_or((Level::Ok, String::new()));
            let taken = facts.now.duration_since(newest.created);
            let text = if watched.current.is_some() && age < taken {
                format!(
                    "{is} {} old (found still current {} ago){over}",
                    about(taken),
                    about(age)
                )
            } else {
                format!("{is} {} old{over}", about(age))
            };
            (level, text)
        }
    };
    finding(level, "age", Some(name), text)
}

fn limit_of(age: SignedDuration) -> String {
    if age < SignedDuration::from_secs(1) {
        "less than a second".to_owned()
    } else {
        about(age)
    }
}

fn of_proof(watched: &Watched, proof: &Verification, facts: &Facts) -> Finding {
    let name = &watched.name;
    let newest = "newest archive";
    let mut newer = facts.unreadable.iter();
    let newer = newer.find(|one| watched.is_newer_by_name(&one.name));
    let old = |created| about(facts.now.duration_since(created));
    let (level, text) = match (proof, newer) {
        (Verification::Bad { why, good }, _) => {
            let rest = match good {
                Some(good) => format!("the newest valid one is {} old", old(*good)),
                None if watched.older.is_empty() => "there is no older one".to_owned(),
                None => "no older one is known to be valid".to_owned(),
            };
            let text = format!("{newest} is corrupt: {why}; {rest}");
            (Level::Critical, text)
        }
        (Verification::Unread(why), _) => {
            (Level::Unknown, format!("{newest} could not be read: {why}"))
        }
        (_, Some(newer)) => {
            let rest = format!(
                "the newest that can be opened is {} old",
                old(watched.newest.created)
            );
            let text = format!("{newest} cannot be opened: {}; {rest}", newer.why);
            // What was not read may be intact.
            let level = if newer.looked {
                Level::Critical
            } else {
                Level::Unknown
            };
            (level, text)
        }
        (Verification::Whole, None) => (Level::Ok, "verified".to_owned()),
        (Verification::EndOnly, None) => (Level::Ok, "only its end was read".to_owned()),
    };
    finding(level, "proof", Some(name), text)
}

fn of_size(watched: &Watched, rules: &Thresholds) -> Finding {
    let (name, data) = (&watched.name, watched.newest.sizes.data);
    let is = format!("data size {}", size(data));
    let (level, text) = if data > rules.size_limit {
        let limit = size(rules.size_limit);
        let rule = "etcd's guide says to get help before an upgrade";
        (Level::Warning, format!("{is}, over {limit}: {rule}"))
    } else {
        (Level::Ok, is)
    };
    finding(level, "data-size", Some(name), text)
}

/// No etcd starts from the newest archive.
fn of_start(watched: &Watched) -> Option<Finding> {
    let why = watched.newest.does_not_start.as_ref()?;
    let text = format!("newest archive: {why}");
    Some(finding(Level::Critical, "start", Some(&watched.name), text))
}

/// A clock was wrong, where that may hide something: an archive dated in the future hides nothing if
/// the newest one's log is at least as long.
fn of_dates(watched: &Watched, now: Timestamp) -> Option<Finding> {
    let beyond = watched.furthest()?;
    let created = utc(beyond.created);
    let when = if is_ahead(beyond, now) {
        format!("{created}, in the future")
    } else {
        format!(
            "{created}, before it: a clock was wrong, or the member went back to older data (`{}`)",
            beyond.name()
        )
    };
    let text = format!("an archive with a longer log than the newest is dated {when}");
    Some(finding(Level::Warning, "dates", Some(&watched.name), text))
}

fn of_warnings(watched: &Watched) -> Vec<Finding> {
    let name = &watched.name;
    let warnings = watched.newest.warnings.iter();
    let is_told = watched.newest.does_not_start.is_some();
    let lasting = warnings.filter(|warning| match warning.code {
        WarningCode::DoesNotStart | WarningCode::SourceDoesNotStart => !is_told,
        code => !code.is_passing(),
    });
    let found = lasting.map(|warning| {
        let text = format!("newest archive warns: {warning}");
        finding(Level::Warning, "warnings", Some(name), text)
    });
    found.collect()
}

/// Archives that cannot be opened, except one that is a member's newest.
pub(super) fn unreadable(facts: &Facts) -> Option<Finding> {
    let told = |name: &str| {
        let mut watched = facts.watched.iter();
        watched.any(|(watched, proof)| {
            !matches!(proof, Verification::Bad { .. } | Verification::Unread(_))
                && watched.is_newer_by_name(name)
        })
    };
    let unreadable = facts.unreadable.iter();
    let rest: Vec<_> = unreadable.filter(|one| !told(&one.name)).collect();
    let first = rest.first()?;
    let text = match rest.len() as u64 {
        1 => format!("an archive cannot be opened: {}", first.why),
        more => format!("{more} archives cannot be opened, the first: {}", first.why),
    };
    Some(finding(Level::Warning, "unreadable", None, text))
}

/// Whether there is room for more archives.
pub(super) fn free(facts: &Facts, room: &Room) -> Option<Finding> {
    let free = match &facts.free {
        Err(why) => {
            return Some(finding(Level::Unknown, "free", None, why.clone()));
        }
        Ok(free) => (*free)?,
    };
    let rounds = free.checked_div(room.round)?;
    let each = match facts.watched.len() {
        1 => "like the newest",
        _ => "of each member",
    };
    let fits = format!("room for {} {each}", count(rounds, "archive", "archives"));
    let (level, text) = if free < room.critical_below {
        let text = format!("{} free in {}: {fits}", size(free), facts.location);
        (Level::Critical, text)
    } else if free < room.warning_below {
        let (free, below) = (size(free), size(room.warning_below));
        let text = format!("{free} free in {}, under {below}: {fits}", facts.location);
        (Level::Warning, text)
    } else {
        let text = format!("{} free in {}", size(free), facts.location);
        (Level::Ok, text)
    };
    Some(finding(level, "free", None, text))
}

/// Objects of other programs, which are neither backups nor errors.
pub(super) fn skipped(facts: &Facts) -> Option<Finding> {
    let keys: Vec<_> = facts.skipped.iter().map(|key| format!("{key:?}")).collect();
    let text = format!(
        "{} in {} skipped, which no archive can have: {}",
        count(keys.len() as u64, "key", "keys"),
        facts.location,
        list(&keys)
    );
    (!keys.is_empty()).then(|| finding(Level::Ok, "skipped", None, text))
}

/// No snapshot can be written there, even with free space.
pub(super) fn read_only(facts: &Facts) -> Option<Finding> {
    let text = format!(
        "{} is mounted read-only: nothing can be written there",
        facts.location
    );
    (facts.read_only).then(|| finding(Level::Warning, "writable", None, text))
}

/// The members that have archives and raise no alarm, listed so that they are not thought to be watched.
pub(super) fn others(facts: &Facts) -> Option<Finding> {
    let Others {
        clusters,
        members,
        damaged,
        ..
    } = facts.others;
    let told = told([
        (clusters, ["other cluster", "other clusters"]),
        (members, ["other member", "other members"]),
        (damaged, DAMAGED),
    ]);
    let text = format!("{} not watched", list(&told));
    (!told.is_empty()).then(|| finding(Level::Ok, "others", None, text))
}
