//! Names that members choose, made safe to print.
//!
//! In: a name from a store or from the network. Out: the same name on one line.

/// A name on one line and without control characters for a terminal: members choose their names.
pub fn printable(name: &str) -> String {
    let replaced = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    name.chars().map(replaced).collect()
}
