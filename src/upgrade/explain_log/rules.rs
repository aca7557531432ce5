//! What etcd's messages mean during an upgrade from 2.1 to 2.2.
//!
//! In: a message. Out: the class of the first rule that matches it. The messages are those in the
//! sources of 2.0 to 2.3, and some of 3.x.

use memchr::memmem;

use crate::upgrade::explain_log::Class;
use crate::upgrade::explain_log::classes::Rule;

pub(crate) fn class_of(message: &str) -> Option<Class> {
    let fitting = |(_, patterns): &&Rule| patterns.iter().any(|pattern| fits(pattern, message));
    rules().find(fitting).map(|(class, _)| *class)
}

/// All rules. The first match decides, so severe ones come first.
fn rules() -> impl Iterator<Item = &'static Rule> {
    crate::upgrade::explain_log::problems::RULES
        .iter()
        .chain(crate::upgrade::explain_log::expected::RULES)
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
        for (class, patterns) in rules() {
            assert_eq!(names.insert(class.name, class), None, "{}", class.name);
            for pattern in *patterns {
                let message = pattern.replace('*', " 5 ");
                let found = class_of(&message).unwrap();
                assert_eq!(found.name, class.name, "{message:?} is for {}", class.name);
            }
        }
    }
}
