//! The class of a message: that of the first rule in `rules.txt` that matches it.

use std::sync::LazyLock;

use memchr::memmem;

use crate::upgrade::explain_log::classes::{
    BUFFER_FULL, CLUSTER_VERSION, CONNECTED, ELECTION, NEW_MEMBER, NO_HEALTH_CHECK, NOT_KNOWN,
    OWN_STOP, PANIC, PEER_AWAY, PUBLISHED, STARTED, STOPPED,
};
use crate::upgrade::explain_log::{Class, Verdict};

/// The classes that the table only names, because lines before decide about them too.
const IN_CONTEXT: [Class; 12] = [
    PANIC,
    BUFFER_FULL,
    OWN_STOP,
    PEER_AWAY,
    CONNECTED,
    NO_HEALTH_CHECK,
    CLUSTER_VERSION,
    PUBLISHED,
    STOPPED,
    NEW_MEMBER,
    STARTED,
    ELECTION,
];

/// A class, and the patterns of the messages that belong to it.
type Rule = (Class, Vec<&'static str>);

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let lines = include_str!("rules.txt").lines();
    let mut rules: Vec<Rule> = Vec::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("  "), rules.last_mut()) {
            (Some(pattern), Some((_, patterns))) => patterns.push(pattern.trim_matches('"')),
            _ => rules.push((class_in(line), Vec::new())),
        }
    }
    rules
});

/// The class in the first line of a rule.
fn class_in(line: &'static str) -> Class {
    let parts: Vec<_> = line.splitn(3, " | ").collect();
    let (name, verdict, why) = match parts.as_slice() {
        [name, "look", why] => (name, Verdict::WorthALook, why),
        [name, "expected", why] => (name, Verdict::Expected, why),
        [name, "routine", why] => (name, Verdict::Routine, why),
        _ => {
            let known = IN_CONTEXT.into_iter().find(|class| class.name == line);
            return known.unwrap_or(NOT_KNOWN);
        }
    };
    Class { name, verdict, why }
}

pub(crate) fn class_of(message: &str) -> Option<Class> {
    let fitting = |(_, patterns): &&Rule| patterns.iter().any(|pattern| fits(pattern, message));
    RULES.iter().find(fitting).map(|(class, _)| *class)
}

/// Whether a message begins with `pattern`; `*` matches any text.
pub(crate) fn fits(pattern: &str, message: &str) -> bool {
    let message = message.as_bytes();
    // The first letter tells most apart.
    let first = pattern.as_bytes().first();
    if first != Some(&b'*') && first != message.first() {
        return first.is_none();
    }
    let mut parts = pattern.split('*').map(str::as_bytes);
    let begins = parts.next().and_then(|first| message.strip_prefix(first));
    begins.is_some_and(|rest| {
        let after = parts.try_fold(rest, |rest, part| {
            rest.get(memmem::find(rest, part)? + part.len()..)
        });
        after.is_some()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_pattern_fits_from_the_beginning_with_its_parts_in_order() {
        for (pattern, message, want) in [
            ("a * c", "a b c d", true),
            ("a * c", "x a b c", false),
            ("a * c", "a c", false),
            ("*c", "abc", true),
            ("*c*", "c", true),
            ("a*b*c", "acb", false),
            ("", "anything", true),
            ("é*", "é", true),
            ("* é", "日 é", true),
        ] {
            assert_eq!(fits(pattern, message), want, "{pattern:?} {message:?}");
        }
    }

    #[test]
    fn no_two_classes_share_a_name_and_no_pattern_is_hidden_by_an_earlier_rule() {
        let mut names = BTreeMap::new();
        assert!(RULES.len() > 40, "{}", RULES.len());
        for (class, patterns) in &*RULES {
            assert_eq!(names.insert(class.name, class), None, "{}", class.name);
            assert_ne!(class.verdict, Verdict::NotKnown, "{patterns:?}");
            assert!(!patterns.is_empty(), "{}", class.name);
            for pattern in patterns {
                let message = pattern.replace('*', " 5 ");
                let found = class_of(&message).unwrap();
                assert_eq!(found.name, class.name, "{message:?} is for {}", class.name);
            }
        }
    }
}
