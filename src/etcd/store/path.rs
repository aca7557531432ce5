//! Store paths, cleaned as etcd cleans them.
//!
//! In: a path in a request, any bytes. Out: its components from the root down.
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

/// Joins components to a path; `/` if there are none.
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
}
