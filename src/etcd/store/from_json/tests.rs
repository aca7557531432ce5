//! Saved stores that are accepted, and those that are refused.

use super::*;

/// What is wrong with a store, and at which byte.
fn fault(json: &str, wanted: LoadOptions) -> Option<(&'static str, u64)> {
    let mut scan = SavedScan::new(wanted);
    scan.update(json.as_bytes());
    match scan.finish().0 {
        Ok(_) => None,
        Err(StoreFault::Json(fault)) => Some((fault.what, fault.offset)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_root_never_expires() {
    // The fuzzer found that the digest of such a store differed from that of the store read from it.
    let root = |time: &str| {
        format!(
            r#"{{"Root":{{"Path":"/","ExpireTime":"{time}","Children":{{}}}},"CurrentIndex":3}}"#
        )
    };
    let wanted = LoadOptions {
        tree: true,
        fingerprint: true,
        ..LoadOptions::default()
    };
    let expires = fault(&root("2001-01-01T00:00:00Z"), wanted);
    assert_eq!(expires.map(|(what, _)| what), Some("a root that expires"));
    assert_eq!(fault(&root("0001-01-01T00:00:00Z"), wanted), None);
}

#[test]
fn a_start_beside_sees_what_go_takes_and_changes_nothing_for_the_others() {
    let store = |urls: &str, behind: &str| {
        format!(
            concat!(
                r#"{{"Root":{{"Path":"/","Children":{{"0":{{"Path":"/0","Children":{{"#,
                r#""members":{{"Path":"/0/members","Children":{{"7":{{"Path":"/0/members/7","Children":{{"#,
                r#""raftAttributes":{{"Path":"/0/members/7/raftAttributes","Value":{},"Children":null}}"#,
                r#"}}}}}}}}}}}},"1":{{"Path":"/1","Children":{{}}}}}}}},"CurrentIndex":{}}}"#,
            ),
            serde_json::json!(urls),
            behind
        )
    };
    let [sound, half] = [r#"{"peerURLs":["http://p"]}"#, "{"];
    for (urls, behind, facts_are_sound, starts) in [
        (sound, "3", true, true),
        (half, "3", false, true),
        (sound, "1e999", true, false),
        (half, "1e999", false, false),
    ] {
        let json = store(urls, behind);
        for tree in [false, true] {
            let alone = LoadOptions {
                tree,
                ..LoadOptions::default()
            };
            let beside = LoadOptions {
                for_start: StartTree::Cluster,
                ..alone
            };
            let [(alone, none), (beside, start)] = [alone, beside].map(|wanted| {
                let mut scan = SavedScan::new(wanted);
                scan.update(json.as_bytes());
                scan.finish()
            });
            assert!(none.is_none());
            assert_eq!(start.unwrap().is_ok(), starts, "{json}");
            let sound = facts_are_sound && (starts || !tree);
            assert_eq!(alone.is_ok(), sound, "{json}");
            let facts = [alone, beside].map(|saved| saved.map(|saved| saved.facts));
            assert_eq!(facts[0], facts[1], "{json}");
        }
    }
}

#[test]
fn every_node_says_where_it_is() {
    // Every etcd writes it; without it a file of 8 MB nested 200,000 deep.
    let whole = concat!(
        r#"{"Root":{"Path":"/","Children":{"0":{"Path":"/0","Children":{"#,
        r#""version":{"Path":"/0/version","Value":"2.1.0","Children":null}}},"#,
        r#""1":{"Path":"/1","Children":{"a":{"Path":"/1/a","Value":"x","Children":null}}}}}}"#,
    );
    let tree = LoadOptions {
        tree: true,
        ..LoadOptions::default()
    };
    assert_eq!(fault(whole, tree), None);
    for path in ["/", "/0", "/0/version", "/1", "/1/a"] {
        let field = format!(r#""Path":"{path}","#);
        let without = whole.replace(&field, "");
        // Where the node's children begin, or where it ends.
        let behind = whole.find(&field).unwrap();
        let stop = match path {
            "/0/version" | "/1/a" => "}",
            _ => r#"{""#,
        };
        let at = behind + without[behind..].find(stop).unwrap();
        let expected = Some(("a node that does not say where it is", at as u64));
        assert_eq!(fault(&without, tree), expected, "{path}");
        let of_cluster = !path.starts_with("/1");
        let facts = fault(&without, LoadOptions::default());
        assert_eq!(facts, expected.filter(|_| of_cluster), "{path}");
    }
}

#[test]
fn an_event_queue_has_a_place_for_the_next_event() {
    // A server indexes it by these numbers whenever it starts: with the others 2.0 to 2.3 end in a Go panic.
    let read = |queue: &str| {
        let json = format!(
            concat!(
                r#"{{"Root":{{"Path":"/","Children":{{}}}},"#,
                r#""WatcherHub":{{"EventHistory":{{"Queue":{}}}}},"CurrentIndex":3}}"#,
            ),
            queue
        );
        let wanted = LoadOptions {
            tree: true,
            ..LoadOptions::default()
        };
        fault(&json, wanted).map(|(what, _)| what)
    };
    let full = r#"[{"action":"set","node":{"key":"/a"}},{"action":"set","node":{"key":"/b"}}]"#;
    let queue = |events: &str, [size, front, back, capacity]: [i64; 4]| {
        read(&format!(
            r#"{{"Events":{events},"Size":{size},"Front":{front},"Back":{back},"Capacity":{capacity}}}"#
        ))
    };
    for usual in [[2, 0, 0, 2], [2, 1, 1, 2]] {
        assert_eq!(queue(full, usual), None, "{usual:?}");
    }
    assert_eq!(queue("[null,null]", [0, 0, 0, 2]), None);
    // What is absent stays as a new server has it.
    assert_eq!((read("{}"), read(r#"{"Front":1,"Back":1}"#)), (None, None));
    let bad = Some("an event queue in which etcd cannot put an event");
    for numbers in [
        [2, 0, 0, 0],
        [2, 0, 2, 2],
        [2, 0, -1, 2],
        [1, 2, 0, 2],
        [1, -1, 0, 2],
    ] {
        assert_eq!(queue(full, numbers), bad, "{numbers:?}");
    }
    for empty in [
        "null",
        "[]",
        "[null,null]",
        "[{},{}]",
        r#"[{"node":null},{"node":null}]"#,
    ] {
        assert_eq!(queue(empty, [1, 1, 0, 2]), bad, "{empty}");
    }
}

#[test]
fn an_expiry_with_an_escape_is_none() {
    // Go hands `time.Time` the bytes of the document, in which `\u005a` does not count as `Z`.
    let read = |time: &str| {
        let json = format!(
            concat!(
                r#"{{"Root":{{"Path":"/","Children":{{"1":{{"Path":"/1","ExpireTime":"{0}","#,
                r#""Children":{{}}}}}}}},"WatcherHub":{{"EventHistory":{{"Queue":{{"#,
                r#""Events":[{{"node":{{"expiration":"{1}"}}}}]}}}}}},"CurrentIndex":3}}"#,
            ),
            time, "2001-01-01T00:00:00Z",
        );
        let wanted = LoadOptions {
            tree: true,
            ..LoadOptions::default()
        };
        fault(&json, wanted).map(|(what, _)| what)
    };
    assert_eq!(read("2001-01-01T00:00:00Z"), None);
    let escaped = Some("an escape where Go takes none");
    assert_eq!(read(r"2001-01-01T00:00:00\u005a"), escaped);
}

#[test]
fn the_nodes_of_an_event_are_typed_at_any_depth() {
    // A tester's servers did not start from these, and the verdict was yes.
    let read = |nodes: &str| {
        let json = format!(
            concat!(
                r#"{{"Root":{{"Path":"/","Children":{{}}}},"WatcherHub":{{"EventHistory":{{"Queue":{{"#,
                r#""Events":[{{"node":{{"nodes":{}}}}}]}}}}}},"CurrentIndex":3}}"#,
            ),
            nodes
        );
        let wanted = LoadOptions {
            tree: true,
            ..LoadOptions::default()
        };
        fault(&json, wanted).map(|(what, _)| what)
    };
    for good in ["null", "[]", r#"[{"key":"/a","nodes":[{"ttl":1}]}]"#] {
        assert_eq!(read(good), None, "{good}");
    }
    let bad = Some("a value of a type that etcd does not take there");
    for nodes in ["[1]", r#"[{"key":1}]"#, r#"[{"nodes":[{"ttl":"1"}]}]"#] {
        assert_eq!(read(nodes), bad, "{nodes}");
    }
}
