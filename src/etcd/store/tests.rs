//! Each rule of the formats page §5, with requests made by hand and the resulting store.
//!
//! `docs/replay-rules.md` says which test here fails if a rule is removed from the code.

use prost::Message as _;

use crate::etcd::ids::MemberId;
use crate::etcd::proto::{ConfChange, Request};
use crate::etcd::store::apply::{Applied, MAX_MEMBERS, Names, Unapplied};
use crate::etcd::store::rules::InOrderRules;
use crate::etcd::store::{NodeId, Store};

/// 2000-01-01 in nanoseconds since 1970.
const Y2000: i64 = 946_684_800_000_000_000;

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// A time: nanoseconds since 1970, or after `+` since 2000.
fn time(text: &str) -> i64 {
    let number: i64 = text.parse().unwrap();
    number + if text.starts_with('+') { Y2000 } else { 0 }
}

/// A request: its method (`create` and `update` are a PUT with `prevExist`), its path, and after
/// these its other fields: `=` the value, `dir`, `recursive`, `refresh`, `value=` and `index=` the
/// conditions, `until=` and `time=` a [`time`].
fn request(text: &str) -> Request {
    let mut words = text.split(' ');
    let method = words.next().unwrap();
    let mut request = Request {
        path: words.next().map(bytes),
        ..Request::default()
    };
    request.prev_exist = match method {
        "create" => Some(false),
        "update" => Some(true),
        _ => None,
    };
    request.method = Some(match method {
        "create" | "update" => bytes("PUT"),
        "none" => Vec::new(),
        _ => bytes(method),
    });
    for word in words {
        match word.split_once('=') {
            Some(("", value)) => request.val = Some(bytes(value)),
            Some(("value", value)) => request.prev_value = Some(bytes(value)),
            Some(("index", index)) => request.prev_index = Some(index.parse().unwrap()),
            Some(("until", at)) => request.expiration = Some(time(at)),
            Some(("time", at)) => request.time = Some(time(at)),
            None if word == "dir" => request.dir = Some(true),
            None if word == "recursive" => request.recursive = Some(true),
            None if word == "refresh" => request.refresh = Some(true),
            _ => panic!("{text}: {word}"),
        }
    }
    request
}

/// A conf change: its type, the member's id and its context; a URL stands for a member there.
fn conf_change(text: &str) -> Option<ConfChange> {
    let (kind, rest) = text.split_once(' ')?;
    let kind = match kind {
        "ADD" => Some(0),
        "REMOVE" => Some(1),
        "UPDATE" => Some(2),
        "LEARNER" => Some(3),
        "UNKNOWN" => Some(4),
        "UNTYPED" => None,
        _ => return None,
    };
    let (id, context) = rest.split_once(' ').unwrap_or((rest, ""));
    let context = if context.starts_with("http") {
        format!(r#"{{"id":161,"peerURLs":["{context}"],"name":"infra0"}}"#)
    } else {
        context.to_owned()
    };
    Some(ConfChange {
        id: Some(1),
        kind,
        node_id: Some(u64::from_str_radix(id, 16).unwrap()),
        context: Some(context.into_bytes()),
    })
}

/// Runs a story, line by line: a request or a conf change, with its result after `->` if that is not
/// `done`; or `=` and the [`state`] of the store at that point; or `members`, for [`TWO_MEMBERS`]. A
/// request that is not done changes neither the tree nor the index nor the expiries.
fn run(store: &mut Store, text: &str) -> Result<(), String> {
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line == "members" {
            run(store, TWO_MEMBERS)?;
            continue;
        }
        let expected_state = line.strip_prefix("= ");
        let (asked, expected) = line.split_once(" -> ").unwrap_or((line, "done"));
        let before = state(store);
        if let Some(expected) = expected_state {
            if before != expected {
                return Err(format!("{line}\n but = {before}"));
            }
            continue;
        }
        let applied = match conf_change(asked) {
            Some(change) => store.apply(1, &change.encode_to_vec(), InOrderRules::Before22),
            None => Ok(store.apply_request(&request(asked), Names::Plain)),
        };
        let (came, changes) = match applied {
            Ok(Applied::Done) => ("done".to_owned(), true),
            Ok(Applied::CreatedInOrder(path)) => (String::from_utf8(path).unwrap(), true),
            Ok(Applied::Expired(count)) => (format!("{count} expired"), count > 0),
            Ok(Applied::Refused(refusal)) => (format!("{refusal:?}"), false),
            Ok(other) => (format!("{other:?}"), false),
            Err(unapplied) => (format!("{unapplied:?}"), false),
        };
        if came != expected || !(changes || state(store) == before) {
            return Err(format!("{line}\n but {came}, = {}", state(store)));
        }
    }
    Ok(())
}

/// As [`run`], which must be as it says.
#[track_caller]
fn tell(store: &mut Store, text: &str) {
    run(store, text).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[track_caller]
fn after(text: &str) -> Store {
    let mut store = Store::new();
    tell(&mut store, text);
    store
}

/// The store's index, and each node after a `|`: path, created/modified index, `=` its value or
/// `dir`, and `@` its expiry. The three directories of an empty store are left out while they are
/// unchanged.
fn state(store: &Store) -> String {
    let mut parts = vec![store.index().to_string()];
    let mut expiring = 0;
    let mut walk = store.walk(NodeId::ROOT);
    while let Some(id) = walk.next_node() {
        let node = store.node(id);
        let path = String::from_utf8_lossy(walk.path()).into_owned();
        expiring += usize::from(node.expires.is_some());
        let untouched =
            node.is_dir() && (node.created, node.modified, node.expires) == (0, 0, None);
        if untouched && matches!(path.as_str(), "" | "/0" | "/1") {
            continue;
        }
        let content = match node.value() {
            Some(value) => format!("={}", String::from_utf8_lossy(&value.bytes())),
            None => "dir".to_owned(),
        };
        let expires = match node.expires {
            Some(at) if at >= Y2000 => format!(" @+{}", at - Y2000),
            Some(at) => format!(" @{at}"),
            None => String::new(),
        };
        let indexes = format!("{}/{}", node.created, node.modified);
        parts.push(format!("{path} {indexes} {content}{expires}"));
    }
    // The queue holds exactly what expires.
    assert_eq!(store.expiries().count(), expiring);
    parts.join(" | ")
}

/// Stories of one rule each, told on an empty store.
const STORIES: &str = "
a_request_path_is_cleaned
    PUT 1//a/./x/../b/ =v
    PUT /../../1/c =w
    = 2 | /1/a 1/1 dir | /1/a/b 1/1 =v | /1/c 2/2 =w
    DELETE /1/c/../a recursive
    update //1/c =x
    = 4 | /1/c 2/4 =x
a_post_is_a_create
    PUT /1/q/2 =v
    POST /1/q =w -> NodeExist
    POST /1/q/2 =w -> NotDir
    # Of a POST no condition counts.
    POST /1/new =dropped dir until=+1000 value=x index=7 -> /1/new/2
    = 2 | /1/new 2/2 dir | /1/new/2 2/2 dir @+1000 | /1/q 1/1 dir | /1/q/2 1/1 =v
prev_exist_true_alone_updates
    PUT /1/a =v
    update /1/a =w
    = 2 | /1/a 1/2 =w
    update /1/b =w -> KeyNotFound
    update /1/a/b =w -> NotDir
prev_exist_true_with_either_condition_compares
    PUT /1/a =v
    PUT /1/d dir
    update /1/a =w index=7 -> TestFailed
    update /1/a =w value=x -> TestFailed
    # Which an update would do.
    update /1/d = index=2 -> NotFile
    update /1/a =w index=1
    update /1/a =x value=w
    = 4 | /1/a 1/4 =x | /1/d 2/2 dir
prev_exist_false_creates_whatever_the_conditions
    create /1/a =v value=x index=7
    = 1 | /1/a 1/1 =v
    create /1/a =w -> NodeExist
    create /1/a =w value=v -> NodeExist
    create /1/a =w index=1 -> NodeExist
    create /1/a = dir -> NodeExist
without_prev_exist_either_condition_compares
    PUT /1/a =v
    PUT /1/b =w index=1 -> KeyNotFound
    PUT /1/b =w value=v -> KeyNotFound
    PUT /1/a =w index=2 -> TestFailed
    PUT /1/a =w value=x -> TestFailed
    PUT /1/a =w value=v
    = 2 | /1/a 1/2 =w
an_empty_condition_is_none
    # etcd writes all fields, even those that were not set.
    PUT /1/a =v
    PUT /1/a =w value= index=0
    PUT /1/b =w value= index=0
    = 3 | /1/a 2/2 =w | /1/b 3/3 =w
a_set_replaces_a_key_as_if_it_had_never_been
    PUT /1/a =v until=+1000
    PUT /1/a =w
    # Neither the index of creation nor the expiry is kept.
    = 2 | /1/a 2/2 =w
    SYNC  time=+1000 -> 0 expired
    PUT /1/a =w until=+1000
    = 3 | /1/a 3/3 =w @+1000
a_set_fails_on_a_directory
    PUT /1/d dir
    PUT /1/e/f =v
    PUT /1/d =v -> NotFile
    PUT /1/d dir -> NotFile
    PUT /1/e =v -> NotFile
    PUT /1/e dir -> NotFile
with_dir_a_directory_is_made_and_the_value_dropped
    PUT /1/a =v dir
    create /1/b =v dir
    = 2 | /1/a 1/1 dir | /1/b 2/2 dir
a_set_with_dir_replaces_a_key_by_a_directory
    PUT /1/a =v
    PUT /1/a dir
    = 2 | /1/a 2/2 dir
    PUT /1/a/b =w
    = 3 | /1/a 2/2 dir | /1/a/b 3/3 =w
an_update_gives_a_key_value_index_and_expiry
    PUT /1/a =v until=+1000
    update /1/a = until=+1001
    = 2 | /1/a 1/2 = @+1001
    # Without an expiry it is permanent.
    update /1/a =w
    = 3 | /1/a 1/3 =w
an_update_gives_a_directory_an_expiry_and_nothing_else
    PUT /1/d/a =v
    update /1/d =w until=+1000 -> NotFile
    update /1/d = until=+1000
    = 2 | /1/d 1/1 dir @+1000 | /1/d/a 1/1 =v
    update /1/d =
    = 3 | /1/d 1/1 dir | /1/d/a 1/1 =v
compare_and_swap_is_for_keys_only
    PUT /1/d dir
    PUT /1/d = index=1 -> NotFile
    PUT /1/d dir index=1 -> NotFile
compare_and_swap_needs_both_conditions
    PUT /1/a =v
    PUT /1/a =w value=v index=2 -> TestFailed
    PUT /1/a =w value=x index=1 -> TestFailed
    PUT /1/a =w value=v index=1
    # It is the index of the last change that is compared, not that of the creation.
    PUT /1/a =x index=1 -> TestFailed
    PUT /1/a =x index=2
    = 3 | /1/a 1/3 =x
compare_and_swap_replaces_value_index_and_expiry
    PUT /1/a =v until=+1000
    PUT /1/a = index=1 until=+1001
    = 2 | /1/a 1/2 = @+1001
    PUT /1/a =w index=2
    = 3 | /1/a 1/3 =w
    # A key stays a key.
    PUT /1/a =x dir index=3
    = 4 | /1/a 1/4 =x
compare_and_delete_removes_a_key_that_is_as_the_request_says
    PUT /1/a =v until=+1000
    PUT /1/d/b =w
    DELETE /1/a value=v index=2 -> TestFailed
    DELETE /1/a value=x index=1 -> TestFailed
    DELETE /1/b index=1 -> KeyNotFound
    DELETE /1/d recursive index=2 -> NotFile
    DELETE /1/a value=v index=1
    DELETE /1/d/b value=w
    = 4 | /1/d 2/2 dir
a_delete_counts_and_takes_what_is_asked_for
    PUT /1/a =v
    PUT /1/b =w
    DELETE /1/c -> KeyNotFound
    DELETE /1/a/c -> NotDir
    DELETE /1/a
    # For a key the flags mean nothing.
    DELETE /1/b dir
    = 4
a_directory_is_deleted_only_with_dir
    PUT /1/d dir
    DELETE /1/d -> NotFile
    DELETE /1/d dir
    = 2
a_directory_that_is_not_empty_is_deleted_only_with_recursive_which_implies_dir
    PUT /1/d/e/a =v until=+1000
    PUT /1/f =w
    DELETE /1/d -> NotFile
    DELETE /1/d dir -> DirNotEmpty
    DELETE /1/d recursive
    = 3 | /1/f 2/2 =w
a_condition_makes_a_delete_compare
    PUT /1/a =v
    DELETE /1/a index=7 -> TestFailed
    DELETE /1/a value=x -> TestFailed
    # Empty ones do not.
    DELETE /1/a value= index=0
    = 2
no_expiry_is_permanent
    PUT /1/a =v until=0
    create /1/b =v until=0
    update /1/a =w until=0
    PUT /1/a =x index=3 until=0
    = 4 | /1/a 1/4 =x | /1/b 2/2 =v
    SYNC  time=9223372036854775807 -> 0 expired
sync_removes_what_does_not_expire_after_its_time_and_counts_each
    PUT /1/a =v until=+1000
    PUT /1/b =v until=+1001
    PUT /1/c =v until=+1002
    PUT /1/d =v
    # Nothing to remove is nothing to count.
    SYNC  time=+999 -> 0 expired
    SYNC  time=+1001 -> 2 expired
    = 6 | /1/c 3/3 =v @+1002 | /1/d 4/4 =v
sync_removes_a_directory_with_all_below_it
    PUT /1/d/e/permanent =v
    PUT /1/d/e/later =v until=+1009
    update /1/d = until=+1000
    SYNC  time=+1000 -> 1 expired
    = 4
hidden_nodes_are_state_like_any_other
    PUT /1/_h/a =v
    PUT /1/_k =v
    PUT /1/_e =v until=+1000
    update /1/_k =w
    = 4 | /1/_e 3/3 =v @+1000 | /1/_h 1/1 dir | /1/_h/a 1/1 =v | /1/_k 2/4 =w
    DELETE /1/_h dir -> DirNotEmpty
    SYNC  time=+1000 -> 1 expired
    DELETE /1/_h recursive
    = 6 | /1/_k 2/4 =w
a_refresh_leaves_the_value
    PUT /1/a =v
    PUT /1/d dir
    PUT /1/b = refresh until=+1000 -> KeyNotFound
    PUT /1/d = refresh until=+1000 -> NotFile
    PUT /1/a = refresh until=+1000
    = 3 | /1/a 3/3 =v @+1000 | /1/d 2/2 dir
    update /1/a = refresh until=+1000
    = 4 | /1/a 3/4 =v @+1000 | /1/d 2/2 dir
    PUT /1/a = refresh until=+1000 index=4
    = 5 | /1/a 3/5 =v @+1000 | /1/d 2/2 dir
a_removed_id_never_comes_back
    members
    REMOVE b
    ADD b http://new -> Invalid
    LEARNER b http://new -> Invalid
    REMOVE b http://new -> Invalid
    UPDATE b http://new -> Invalid
    # Its URL is free again.
    ADD c http://b
an_update_is_valid_for_a_known_id_at_urls_of_no_other
    members
    UPDATE c http://new -> Invalid
    UPDATE a1 http://b -> Invalid
    # Its own it may keep.
    UPDATE a1 http://a
a_conf_change_that_etcd_could_not_read_is_unreadable
    members
    ADD c no JSON -> Unreadable
    UPDATE a1 -> Unreadable
    UNKNOWN a1 {} -> Unreadable
";

#[test]
fn every_story_of_a_rule_is_true() {
    let mut wrong = Vec::new();
    let mut stories: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in STORIES.trim().lines() {
        match line.strip_prefix("    ") {
            None => stories.push((line, Vec::new())),
            Some(line) => stories.last_mut().unwrap().1.push(line),
        }
    }
    for (name, lines) in &stories {
        let told = run(&mut Store::new(), &lines.join("\n"));
        wrong.extend(told.err().map(|why| format!("{name}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(stories.len() >= 29);
}

#[test]
fn an_empty_store_has_index_0_and_three_directories() {
    let store = after("= 0");
    for path in ["/", "/0", "/1"] {
        assert!(store.node(store.get(path.as_bytes()).unwrap()).is_dir());
    }
}

#[test]
fn a_write_to_a_read_only_path_has_no_effect() {
    let mut store = after("PUT /1/a =v");
    for path in ["/", "", "/0", "/1", "1/", "/1/a/..", "/../0/."] {
        tell(
            &mut store,
            &format!(
                "PUT {path} =v -> RootReadOnly
                 PUT {path} dir -> RootReadOnly
                 create {path} =v -> RootReadOnly
                 update {path} = -> RootReadOnly
                 update {path} = until=+1000 -> RootReadOnly
                 PUT {path} =v index=1 -> RootReadOnly
                 update {path} =v value=v -> RootReadOnly
                 DELETE {path} -> RootReadOnly
                 DELETE {path} dir -> RootReadOnly
                 DELETE {path} recursive -> RootReadOnly
                 # No key is there to compare: etcd does not ask first whether the path is read-only.
                 DELETE {path} recursive index=1 -> NotFile"
            ),
        );
    }
}

#[test]
fn a_post_is_read_only_by_the_path_that_results() {
    // The first child of the root is called `/1`.
    after("POST / =v -> RootReadOnly");
    after(
        "POST /1 =v -> /1/1
         POST / =w -> /2
         = 2 | /1/1 1/1 =v | /2 2/2 =w",
    );
}

#[test]
fn an_in_order_name_is_the_next_index_as_its_release_writes_it() {
    for (names, expected) in [
        (Names::Plain, "/1/q/2"),
        (Names::Padded, "/1/q/00000000000000000002"),
    ] {
        let mut store = after("PUT /1/q dir");
        let applied = store.apply_request(&request("POST /1/q =v"), names);
        assert_eq!(applied, Applied::CreatedInOrder(bytes(expected)));
        tell(
            &mut store,
            &format!("= 2 | /1/q 1/1 dir | {expected} 2/2 =v"),
        );
    }
}

#[test]
fn parents_are_made_with_the_index_of_what_they_are_made_for() {
    for method in ["PUT", "create"] {
        after(&format!(
            "PUT /1/x =v
             {method} /1/a/b/c =v
             = 2 | /1/a 2/2 dir | /1/a/b 2/2 dir | /1/a/b/c 2/2 =v | /1/x 1/1 =v"
        ));
    }
}

#[test]
fn a_parent_that_is_a_key_fails_create_and_set() {
    for path in ["/1/a/b", "/1/a/b/c"] {
        after(&format!(
            "PUT /1/a =v
             PUT {path} =v -> NotDir
             PUT {path} dir -> NotDir
             create {path} =v -> NotDir"
        ));
    }
}

#[test]
fn a_quorum_read_and_an_unknown_method_do_nothing() {
    let mut store = after("PUT /1/a =v");
    for method in ["QGET", "GET", "HEAD", "none"] {
        tell(&mut store, &format!("{method} /1/a recursive -> Nothing"));
    }
}

#[test]
fn an_expiry_before_2000_counts_as_none_on_create_and_set_only() {
    for at in [i64::MIN, -1, 1, Y2000 - 1] {
        after(&format!(
            "PUT /1/a =v until={at}
             create /1/b =v until={at}
             PUT /1/d dir until={at}
             POST /1/q =v until={at} -> /1/q/4
             = 4 | /1/a 1/1 =v | /1/b 2/2 =v | /1/d 3/3 dir | /1/q 4/4 dir | /1/q/4 4/4 =v
             update /1/a =w until={at}
             PUT /1/b =w index=2 until={at}
             update /1/d = until={at}
             = 7 | /1/a 1/5 =w @{at} | /1/b 2/6 =w @{at} | /1/d 3/3 dir @{at} \
             | /1/q 4/4 dir | /1/q/4 4/4 =v"
        ));
    }
    after("PUT /1/a =v until=+0\n= 1 | /1/a 1/1 =v @+0");
}

#[test]
fn sync_removes_in_order_of_expiry() {
    // A key that expires before its directory counts; after it, it is already removed.
    for (key, counted) in [("+999", 2), ("+1001", 1)] {
        let mut updates = [
            format!("update /1/d/a =v until={key}"),
            "update /1/d = until=+1000".to_owned(),
        ];
        for _key_first in [true, false] {
            after(&format!(
                "PUT /1/d/a =v
                 {}
                 SYNC  time=+1005 -> {counted} expired
                 = {}",
                updates.join("\n"),
                3 + counted
            ));
            updates.reverse();
        }
    }
}

// Entries.

/// A field of kind 2 with a few bytes of content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let head = [number << 3 | 2, u8::try_from(content.len()).unwrap()];
    [&head[..], content].concat()
}

/// A store after entries that are not conf changes, and what each did.
fn entries(entries: &[&[u8]]) -> (String, Vec<Result<Applied, Unapplied>>) {
    let mut store = Store::new();
    let apply = |entry: &&[u8]| store.apply(0, entry, InOrderRules::Before22);
    let applied = entries.iter().map(apply).collect();
    (state(&store), applied)
}

#[test]
fn an_empty_entry_does_nothing() {
    assert_eq!(
        entries(&[b""]),
        ("0".to_owned(), vec![Ok(Applied::Nothing)])
    );
}

#[test]
fn an_entry_of_3_x_holds_its_v2_request_inside() {
    let plain = request("PUT /1/a =v").encode_to_vec();
    // After an id and before an unknown field.
    let inside = field(2, &request("PUT /1/b =w").encode_to_vec());
    let internal = [&[0x08, 7][..], &inside, &field(15, b"x")].concat();
    let (state, applied) = entries(&[&plain, &internal]);
    assert_eq!(applied, [Ok(Applied::Done), Ok(Applied::Done)]);
    assert_eq!(state, "2 | /1/a 1/1 =v | /1/b 2/2 =w");
}

#[test]
fn a_request_of_the_v3_store_does_not_touch_the_v2_store() {
    // A PutRequest with key and value.
    let put = field(4, &[field(1, b"/1/a"), field(2, b"v")].concat());
    let internal = [&[0x08, 7][..], &put].concat();
    let nothing = ("0".to_owned(), vec![Ok(Applied::Nothing)]);
    assert_eq!(entries(&[&internal]), nothing);
}

#[test]
fn an_entry_that_is_no_request_is_unreadable() {
    for kind in [0, 1] {
        let applied = Store::new().apply(kind, b"\xff", InOrderRules::Before22);
        assert_eq!(applied, Err(Unapplied::Unreadable));
    }
}

// Conf changes.

const TWO_MEMBERS: &str = "ADD a1 http://a
                           ADD b http://b";
/// The nodes of the first of them.
const FIRST: &str = concat!(
    "/0/members 1/1 dir | /0/members/a1 1/1 dir | ",
    r#"/0/members/a1/raftAttributes 1/1 ={"peerURLs":["http://a"]}"#
);
/// Those of the second, before its attributes are written.
const SECOND: &str = "/0/members/b 2/2 dir | /0/members/b/raftAttributes";

#[track_caller]
fn with_members(story: &str) -> Store {
    after(&format!("{TWO_MEMBERS}\n{story}"))
}

#[test]
fn an_added_member_has_its_raft_attributes_in_the_store() {
    let store = with_members(&format!(
        r#"= 2 | {FIRST} | {SECOND} 2/2 ={{"peerURLs":["http://b"]}}"#
    ));
    assert_eq!(store.cluster_facts().unwrap().members.len(), 2);
}

#[test]
fn raft_attributes_are_what_go_writes() {
    let store = after(
        r#"ADD a1 {"peerURLs":["http://a?<é>&","http://b"],"clientURLs":[]}
           ADD b {}"#,
    );
    let state = state(&store);
    assert!(state.contains(r#"={"peerURLs":["http://a?\u003cé\u003e\u0026","http://b"]} |"#));
    assert!(state.ends_with(r#"={"peerURLs":null}"#));
}

#[test]
fn an_addition_is_valid_for_a_new_id_at_new_urls() {
    with_members(
        r#"ADD a1 http://new -> Invalid
           ADD c http://a -> Invalid
           ADD c {"peerURLs":["http://new","http://b"]} -> Invalid
           ADD c http://new"#,
    );
}

#[test]
fn a_removal_deletes_the_member_and_remembers_its_id() {
    // Both operations count.
    with_members(&format!(
        r#"PUT /0/members/b/attributes ={{"name":"b"}}
           REMOVE b
           = 5 | {FIRST} | /0/removed_members 5/5 dir | /0/removed_members/b 5/5 =
           REMOVE c -> Invalid"#
    ));
}

#[test]
fn an_update_changes_raft_attributes_in_place() {
    let store = with_members("UPDATE a1 http://new");
    let state = state(&store);
    let updated = r#"/0/members/a1/raftAttributes 1/3 ={"peerURLs":["http://new"]}"#;
    assert!(state.starts_with("3 | /0/members 1/1 dir | /0/members/a1 1/1 dir | "));
    assert!(state.contains(updated), "{state}");
}

#[test]
fn a_cluster_of_a_thousand_members_is_not_changed_beyond_that() {
    let mut store = Store::new();
    for id in 1..=MAX_MEMBERS {
        let added = conf_change(&format!("ADD {id:x} http://{id}")).unwrap();
        let applied = store.apply(1, &added.encode_to_vec(), InOrderRules::Before22);
        assert_eq!(applied, Ok(Applied::Done));
    }
    tell(
        &mut store,
        "UPDATE 7 http://new
         ADD ffff http://one-more
         REMOVE 7 -> TooManyMembers",
    );
}

#[test]
fn a_conf_change_without_a_type_is_an_addition() {
    let store = after("UNTYPED b http://b");
    let facts = store.cluster_facts().unwrap();
    assert!(facts.members.contains_key(&MemberId(0xb)));
}

#[test]
fn the_late_publish_of_a_removed_member_is_written_before_2_3_and_ignored_from_then_on() {
    let attributes = request(r#"PUT /0/members/b/attributes ={"name":"late"}"#);
    let removed = |version: Option<&str>| match version {
        Some(version) => with_members(&format!("PUT /0/version ={version}\nREMOVE b")),
        None => with_members("REMOVE b"),
    };
    for names in [Names::Plain, Names::Padded] {
        for version in [None, Some("2.1.0"), Some("2.2.0"), Some("two")] {
            let mut store = removed(version);
            let before = store.index();
            let applied = store.apply_request(&attributes, names);
            assert_eq!(applied, Applied::Done, "{version:?}");
            assert_eq!(store.index(), before + 1, "{version:?}");
        }
        for version in ["2.3.0", "3.4.0"] {
            let mut store = removed(Some(version));
            let before = state(&store);
            let applied = store.apply_request(&attributes, names);
            assert_eq!(applied, Applied::Invalid, "{version}");
            assert_eq!(state(&store), before, "{version}");
            // Any other key is written.
            for path in ["/0/members/b/x/attributes", "/0/members/a1/attributes"] {
                let applied = store.apply_request(&request(&format!("PUT {path} ={{}}")), names);
                assert_eq!(applied, Applied::Done, "{path}");
            }
        }
    }
}

// Learners, of 3.4.

#[test]
fn a_learner_says_so_and_there_is_no_second_one() {
    after(&format!(
        r#"ADD a1 http://a
           LEARNER b {{"id":11,"peerURLs":["http://b"],"isLearner":true}}
           = 2 | {FIRST} | {SECOND} 2/2 ={{"peerURLs":["http://b"],"isLearner":true}}
           LEARNER c {{"id":11,"peerURLs":["http://c"],"isLearner":true}} -> Invalid
           ADD c http://c"#
    ));
}

#[test]
fn a_promotion_makes_a_learner_a_voter_at_its_own_urls() {
    after(&format!(
        r#"ADD a1 http://a
           ADD b {{"id":11,"peerURLs":null,"isPromote":true}} -> Invalid
           LEARNER b {{"id":11,"peerURLs":["http://b"],"isLearner":true}}
           ADD b {{"id":11,"peerURLs":null,"isPromote":true}}
           = 3 | {FIRST} | {SECOND} 2/3 ={{"peerURLs":["http://b"]}}
           # Who votes already is not promoted.
           ADD b {{"id":11,"peerURLs":null,"isPromote":true}} -> Invalid"#
    ));
}
