//! Store paths, cleaned as etcd cleans them.
//!
//! In: a path as a request holds it, any bytes. Out: its components from the root down.
//! Source: `path.Clean(path.Join("/", p))` of Go, in every operation of `store/store.go`.

/// The components of `path`: empty ones and `.` dropped, `..` goes one up and stays at the root.
pub fn components(path: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                found.pop();
            }
            name => found.push(name),
        }
    }
    found
}

/// Components joined to a path again; `/` for none.
pub fn join(components: &[&[u8]]) -> Vec<u8> {
    let mut path = Vec::new();
    for component in components {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// The order in which a walk meets paths: a directory, all below it, then its next sibling.
pub fn walk_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    // Within one directory names order by bytes, so a separator orders before every byte.
    let rank = |&byte: &u8| {
        if byte == b'/' { 0 } else { u16::from(byte) + 1 }
    };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases from the documentation of Go's `path.Clean`.
    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (given, cleaned) in [
            ("", "/"),
            ("/", "/"),
            ("a//c", "/a/c"),
            ("a/c/.", "/a/c"),
            ("a/c/b/..", "/a/c"),
            ("/../a/c", "/a/c"),
            ("/../a/b/../././/c", "/a/c"),
            ("/1/...", "/1/..."),
            ("/1/a/", "/1/a"),
        ] {
            assert_eq!(join(&components(given.as_bytes())), cleaned.as_bytes());
        }
    }

    #[test]
    fn a_directory_comes_before_what_is_below_it_and_that_before_its_sibling() {
        let mut paths = ["/a-b", "/a/z", "/a", "/a/b/c", "/a/b", "/a!"];
        paths.sort_by(|a, b| walk_order(a.as_bytes(), b.as_bytes()));
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c", "/a/z", "/a!", "/a-b"]);
    }
}
