//! Numbers, times and names as text for people.

use jiff::{SignedDuration, Timestamp};

use crate::etcd::ids::{Identity, Index};
use crate::etcd::membership::Member;
use crate::etcd::store::UnixNanos;
use crate::etcd::store::to_json::Expiration;
use crate::etcd::text::printable;

/// A duration with two digits: `40 seconds`, `6.6 hours`, `12 days`. Seconds are whole ones that have passed, as in JSON.
pub(crate) fn about(length: SignedDuration) -> String {
    let seconds = length.as_secs_f64().abs();
    let units = [
        (60.0, 1.0, "seconds"),
        (3600.0, 60.0, "minutes"),
        (86_400.0 * 2.0, 3600.0, "hours"),
        (f64::INFINITY, 86_400.0, "days"),
    ];
    let unit = units.into_iter().find(|(below, ..)| seconds < *below);
    let (_, unit, name) = unit.unwrap_or((0.0, 86_400.0, "days"));
    let number = if unit > 1.0 {
        seconds / unit
    } else {
        seconds.floor()
    };
    if number < 10.0 && unit > 1.0 {
        format!("{number:.1} {name}")
    } else {
        let number = format!("{number:.0}");
        let name = if number == "1" {
            name.trim_end_matches('s')
        } else {
            name
        };
        format!("{number} {name}")
    }
}

/// A time in prose: `2026-11-26 13:08:00 UTC`.
pub(crate) fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The same for an expiry.
pub(crate) fn expiry(nanos: UnixNanos) -> String {
    let at = Timestamp::from_nanosecond(i128::from(nanos));
    at.map_or_else(|_| Expiration(nanos).to_string(), utc)
}

/// `entry 134`, `entries 134 to 140`.
pub(crate) fn entries(from: Index, to: Index) -> String {
    if from == to {
        format!("entry {from}")
    } else {
        format!("entries {from} to {to}")
    }
}

/// A member's name and id; one without a name has not started yet.
pub(crate) fn who(member: &Member) -> String {
    if member.name.is_empty() {
        name(member)
    } else {
        format!("{} ({})", name(member), member.id)
    }
}

/// A member's name, or its id until it has a name.
pub(crate) fn name(member: &Member) -> String {
    if member.name.is_empty() {
        format!("{} (has not started yet)", member.id)
    } else {
        printable(&member.name)
    }
}

/// The name of an identity, or its id if it has none.
pub(crate) fn name_or_id(identity: &Identity) -> String {
    let name = identity.name.as_deref().map(printable);
    name.unwrap_or_else(|| identity.member_id.to_string())
}

/// The same for a table of several: with the id where two members have one name.
pub(crate) fn names_in_table<'i>(identities: impl Iterator<Item = &'i Identity>) -> Vec<String> {
    let all: Vec<_> = identities.collect();
    let is_shared = |own: &Identity| {
        let mut others = all.iter();
        own.name.is_some()
            && others.any(|other| other.name == own.name && other.member_id != own.member_id)
    };
    let name = |own: &&Identity| {
        if is_shared(own) {
            format!("{} ({})", name_or_id(own), own.member_id)
        } else {
            name_or_id(own)
        }
    };
    all.iter().map(name).collect()
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `1 entry`, `2 entries`.
pub(crate) fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Bytes in decimal units.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_told_in_the_unit_that_fits() {
        let told = |seconds| about(SignedDuration::from_secs(seconds));
        assert_eq!(told(0), "0 seconds");
        assert_eq!(told(1), "1 second");
        assert_eq!(told(59), "59 seconds");
        let told_millis = |millis| about(SignedDuration::from_millis(millis));
        assert_eq!(told_millis(999), "0 seconds");
        assert_eq!(told_millis(8_600), "8 seconds");
        assert_eq!(told_millis(59_900), "59 seconds");
        assert_eq!(told(90), "1.5 minutes");
        assert_eq!(told(47 * 60), "47 minutes");
        assert_eq!(told(24_000), "6.7 hours");
        assert_eq!(told(47 * 3600), "47 hours");
        assert_eq!(told(86_400 * 30), "30 days");
    }

    #[test]
    fn lists_read_as_sentences() {
        let list =
            |words: &[&str]| list(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
    }
}
