//! Each rule of the formats page §5, with requests made by hand: what the store is after them.
//!
//! `docs/replay-rules.md` says which test here fails when a rule is taken out of the code.

use prost::Message as _;

use crate::etcd::ids::MemberId;
use crate::etcd::proto::{ConfChange, Request};
use crate::etcd::store::apply::{Applied, MAX_MEMBERS, Names, Unapplied};
use crate::etcd::store::ops::Refusal;
use crate::etcd::store::{NodeId, Store};

/// 2000-01-01 in nanoseconds since 1970.
const Y2000: i64 = 946_684_800_000_000_000;
/// A moment after it.
const LATER: i64 = Y2000 + 1_000;

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn request(method: &str, path: &str) -> Request {
    Request {
        method: Some(bytes(method)),
        path: Some(bytes(path)),
        ..Request::default()
    }
}

fn put(path: &str, value: &str) -> Request {
    Request {
        val: Some(bytes(value)),
        ..request("PUT", path)
    }
}

fn put_dir(path: &str) -> Request {
    Request {
        dir: Some(true),
        ..request("PUT", path)
    }
}

fn create(path: &str, value: &str) -> Request {
    Request {
        prev_exist: Some(false),
        ..put(path, value)
    }
}

fn update(path: &str, value: &str) -> Request {
    Request {
        prev_exist: Some(true),
        ..put(path, value)
    }
}

fn post(path: &str, value: &str) -> Request {
    Request {
        val: Some(bytes(value)),
        ..request("POST", path)
    }
}

fn delete(path: &str) -> Request {
    request("DELETE", path)
}

fn delete_dir(path: &str) -> Request {
    Request {
        dir: Some(true),
        ..delete(path)
    }
}

fn delete_recursive(path: &str) -> Request {
    Request {
        recursive: Some(true),
        ..delete(path)
    }
}

fn sync(time: i64) -> Request {
    Request {
        time: Some(time),
        ..request("SYNC", "")
    }
}

fn with_value(request: Request, value: &str) -> Request {
    Request {
        prev_value: Some(bytes(value)),
        ..request
    }
}

fn with_index(request: Request, index: u64) -> Request {
    Request {
        prev_index: Some(index),
        ..request
    }
}

fn until(request: Request, expiration: i64) -> Request {
    Request {
        expiration: Some(expiration),
        ..request
    }
}

fn refreshing(request: Request) -> Request {
    Request {
        refresh: Some(true),
        ..request
    }
}

/// A store after requests that must all be done.
#[track_caller]
fn after(requests: impl IntoIterator<Item = Request>) -> Store {
    let mut store = Store::new();
    for request in requests {
        done(&mut store, &request);
    }
    store
}

#[track_caller]
fn done(store: &mut Store, request: &Request) {
    let applied = store.apply_request(request, Names::Plain);
    assert_eq!(applied, Applied::Done, "{request:?}");
}

/// A refused request changes neither the tree nor the index, nor what will expire.
#[track_caller]
fn refused(store: &mut Store, request: &Request, refusal: Refusal) {
    let before = state(store);
    let applied = store.apply_request(request, Names::Plain);
    assert_eq!(applied, Applied::Refused(refusal), "{request:?}");
    assert_eq!(state(store), before, "{request:?}");
}

/// The store's index, and a line for each node: path, created/modified index, `=` its value or
/// `dir`, and `@` its expiry. The three directories of an empty store are left out as long as
/// they are as they were.
fn state(store: &Store) -> (u64, Vec<String>) {
    let mut lines = Vec::new();
    let mut expiring = 0;
    let mut walk = store.walk(NodeId::ROOT);
    while let Some(id) = walk.next_node() {
        let node = store.node(id);
        let path = String::from_utf8_lossy(walk.path()).into_owned();
        let expires = node.expires.map(|at| format!(" @{at}"));
        expiring += usize::from(expires.is_some());
        let untouched =
            node.is_dir() && (node.created, node.modified, node.expires) == (0, 0, None);
        if untouched && matches!(path.as_str(), "" | "/0" | "/1") {
            continue;
        }
        let content = match node.value() {
            Some(value) => format!("={}", String::from_utf8_lossy(&value.bytes())),
            None => "dir".to_owned(),
        };
        lines.push(format!(
            "{path} {}/{} {content}{}",
            node.created,
            node.modified,
            expires.unwrap_or_default()
        ));
    }
    // The queue holds exactly what expires.
    assert_eq!(store.expiries().count(), expiring);
    (store.index(), lines)
}

#[track_caller]
fn assert_state(store: &Store, index: u64, lines: &[&str]) {
    let (found_index, found) = state(store);
    assert_eq!(found, lines);
    assert_eq!(found_index, index);
}

#[test]
fn an_empty_store_has_index_0_and_three_directories() {
    let store = Store::new();
    assert_state(&store, 0, &[]);
    for path in ["/", "/0", "/1"] {
        assert!(store.node(store.get(path.as_bytes()).unwrap()).is_dir());
    }
}

#[test]
fn a_request_path_is_cleaned() {
    let mut store = after([put("1//a/./x/../b/", "v"), put("/../../1/c", "w")]);
    let expected = ["/1/a 1/1 dir", "/1/a/b 1/1 =v", "/1/c 2/2 =w"];
    assert_state(&store, 2, &expected);
    done(&mut store, &delete_recursive("/1/c/../a"));
    done(&mut store, &update("//1/c", "x"));
    assert_state(&store, 4, &["/1/c 2/4 =x"]);
}

#[test]
fn a_write_to_a_read_only_path_has_no_effect() {
    let mut store = after([put("/1/a", "v")]);
    for path in ["/", "", "/0", "/1", "1/", "/1/a/..", "/../0/."] {
        for request in [
            put(path, "v"),
            put_dir(path),
            create(path, "v"),
            update(path, ""),
            until(update(path, ""), LATER),
            with_index(put(path, "v"), 1),
            with_value(update(path, "v"), "v"),
            delete(path),
            delete_dir(path),
            delete_recursive(path),
        ] {
            refused(&mut store, &request, Refusal::RootReadOnly);
        }
        // No key is there to compare: etcd does not ask first whether the path is read-only.
        let request = with_index(delete_recursive(path), 1);
        refused(&mut store, &request, Refusal::NotFile);
    }
}

#[test]
fn a_post_is_read_only_by_the_path_that_results() {
    // The first child of the root is called `/1`.
    refused(&mut Store::new(), &post("/", "v"), Refusal::RootReadOnly);
    let mut store = Store::new();
    let applied = store.apply_request(&post("/1", "v"), Names::Plain);
    assert_eq!(applied, Applied::CreatedInOrder(b"/1/1".to_vec()));
    let applied = store.apply_request(&post("/", "w"), Names::Plain);
    assert_eq!(applied, Applied::CreatedInOrder(b"/2".to_vec()));
    assert_state(&store, 2, &["/1/1 1/1 =v", "/2 2/2 =w"]);
}

#[test]
fn an_in_order_name_is_the_next_index_as_its_release_writes_it() {
    for (names, expected) in [
        (Names::Plain, "/1/q/2"),
        (Names::Padded, "/1/q/00000000000000000002"),
    ] {
        let mut store = after([put_dir("/1/q")]);
        let applied = store.apply_request(&post("/1/q", "v"), names);
        let path = expected.as_bytes().to_vec();
        assert_eq!(applied, Applied::CreatedInOrder(path));
        let key = format!("{expected} 2/2 =v");
        assert_state(&store, 2, &["/1/q 1/1 dir", &key]);
    }
}

#[test]
fn a_post_is_a_create() {
    let mut store = after([put("/1/q/2", "v")]);
    refused(&mut store, &post("/1/q", "w"), Refusal::NodeExist);
    refused(&mut store, &post("/1/q/2", "w"), Refusal::NotDir);
    let request = Request {
        dir: Some(true),
        ..until(post("/1/new", "dropped"), LATER)
    };
    // Of a POST no condition counts.
    let request = with_index(with_value(request, "x"), 7);
    store.apply_request(&request, Names::Plain);
    let new = format!("/1/new/2 2/2 dir @{LATER}");
    let expected = ["/1/new 2/2 dir", &new, "/1/q 1/1 dir", "/1/q/2 1/1 =v"];
    assert_state(&store, 2, &expected);
}

#[test]
fn prev_exist_true_alone_updates() {
    let mut store = after([put("/1/a", "v"), update("/1/a", "w")]);
    assert_state(&store, 2, &["/1/a 1/2 =w"]);
    refused(&mut store, &update("/1/b", "w"), Refusal::KeyNotFound);
    refused(&mut store, &update("/1/a/b", "w"), Refusal::NotDir);
}

#[test]
fn prev_exist_true_with_either_condition_compares() {
    let mut store = after([put("/1/a", "v"), put_dir("/1/d")]);
    for request in [
        with_index(update("/1/a", "w"), 7),
        with_value(update("/1/a", "w"), "x"),
    ] {
        refused(&mut store, &request, Refusal::TestFailed);
    }
    // Which an update would do.
    refused(
        &mut store,
        &with_index(update("/1/d", ""), 2),
        Refusal::NotFile,
    );
    done(&mut store, &with_index(update("/1/a", "w"), 1));
    done(&mut store, &with_value(update("/1/a", "x"), "w"));
    assert_state(&store, 4, &["/1/a 1/4 =x", "/1/d 2/2 dir"]);
}

#[test]
fn prev_exist_false_creates_whatever_the_conditions() {
    let mut store = after([with_index(with_value(create("/1/a", "v"), "x"), 7)]);
    assert_state(&store, 1, &["/1/a 1/1 =v"]);
    for request in [
        create("/1/a", "w"),
        with_value(create("/1/a", "w"), "v"),
        with_index(create("/1/a", "w"), 1),
        Request {
            dir: Some(true),
            ..create("/1/a", "")
        },
    ] {
        refused(&mut store, &request, Refusal::NodeExist);
    }
}

#[test]
fn without_prev_exist_either_condition_compares() {
    let mut store = after([put("/1/a", "v")]);
    let missing = with_index(put("/1/b", "w"), 1);
    refused(&mut store, &missing, Refusal::KeyNotFound);
    let missing = with_value(put("/1/b", "w"), "v");
    refused(&mut store, &missing, Refusal::KeyNotFound);
    refused(
        &mut store,
        &with_index(put("/1/a", "w"), 2),
        Refusal::TestFailed,
    );
    refused(
        &mut store,
        &with_value(put("/1/a", "w"), "x"),
        Refusal::TestFailed,
    );
    done(&mut store, &with_value(put("/1/a", "w"), "v"));
    assert_state(&store, 2, &["/1/a 1/2 =w"]);
}

#[test]
fn an_empty_condition_is_none() {
    let mut store = after([put("/1/a", "v")]);
    // etcd writes all fields, also where no one asked for them.
    done(&mut store, &with_index(with_value(put("/1/a", "w"), ""), 0));
    done(&mut store, &with_index(with_value(put("/1/b", "w"), ""), 0));
    assert_state(&store, 3, &["/1/a 2/2 =w", "/1/b 3/3 =w"]);
}

#[test]
fn parents_are_made_with_the_index_of_what_they_are_made_for() {
    for request in [put("/1/a/b/c", "v"), create("/1/a/b/c", "v")] {
        let store = after([put("/1/x", "v"), request]);
        let expected = [
            "/1/a 2/2 dir",
            "/1/a/b 2/2 dir",
            "/1/a/b/c 2/2 =v",
            "/1/x 1/1 =v",
        ];
        assert_state(&store, 2, &expected);
    }
}

#[test]
fn a_parent_that_is_a_key_fails_create_and_set() {
    let mut store = after([put("/1/a", "v")]);
    for path in ["/1/a/b", "/1/a/b/c"] {
        refused(&mut store, &put(path, "v"), Refusal::NotDir);
        refused(&mut store, &put_dir(path), Refusal::NotDir);
        refused(&mut store, &create(path, "v"), Refusal::NotDir);
    }
}

#[test]
fn a_set_replaces_a_key_as_if_it_had_never_been() {
    let mut store = after([until(put("/1/a", "v"), LATER), put("/1/a", "w")]);
    // Neither the index of creation nor the expiry is kept.
    assert_state(&store, 2, &["/1/a 2/2 =w"]);
    assert_eq!(
        store.apply_request(&sync(LATER), Names::Plain),
        Applied::Expired(0)
    );
    done(&mut store, &until(put("/1/a", "w"), LATER));
    assert_state(&store, 3, &[&format!("/1/a 3/3 =w @{LATER}")]);
}

#[test]
fn a_set_fails_on_a_directory() {
    let mut store = after([put_dir("/1/d"), put("/1/e/f", "v")]);
    for path in ["/1/d", "/1/e"] {
        refused(&mut store, &put(path, "v"), Refusal::NotFile);
        refused(&mut store, &put_dir(path), Refusal::NotFile);
    }
}

#[test]
fn with_dir_a_directory_is_made_and_the_value_dropped() {
    let with_val = |request: Request| Request {
        dir: Some(true),
        ..request
    };
    let store = after([with_val(put("/1/a", "v")), with_val(create("/1/b", "v"))]);
    assert_state(&store, 2, &["/1/a 1/1 dir", "/1/b 2/2 dir"]);
}

#[test]
fn a_set_with_dir_replaces_a_key_by_a_directory() {
    let mut store = after([put("/1/a", "v"), put_dir("/1/a")]);
    assert_state(&store, 2, &["/1/a 2/2 dir"]);
    done(&mut store, &put("/1/a/b", "w"));
    assert_state(&store, 3, &["/1/a 2/2 dir", "/1/a/b 3/3 =w"]);
}

#[test]
fn an_update_gives_a_key_value_index_and_expiry() {
    let mut store = after([until(put("/1/a", "v"), LATER)]);
    done(&mut store, &until(update("/1/a", ""), LATER + 1));
    assert_state(&store, 2, &[&format!("/1/a 1/2 = @{}", LATER + 1)]);
    // Without an expiry it is permanent.
    done(&mut store, &update("/1/a", "w"));
    assert_state(&store, 3, &["/1/a 1/3 =w"]);
}

#[test]
fn an_update_gives_a_directory_an_expiry_and_nothing_else() {
    let mut store = after([put("/1/d/a", "v")]);
    refused(
        &mut store,
        &until(update("/1/d", "w"), LATER),
        Refusal::NotFile,
    );
    done(&mut store, &until(update("/1/d", ""), LATER));
    let directory = format!("/1/d 1/1 dir @{LATER}");
    assert_state(&store, 2, &[&directory, "/1/d/a 1/1 =v"]);
    done(&mut store, &update("/1/d", ""));
    assert_state(&store, 3, &["/1/d 1/1 dir", "/1/d/a 1/1 =v"]);
}

#[test]
fn compare_and_swap_is_for_keys_only() {
    let mut store = after([put_dir("/1/d")]);
    refused(
        &mut store,
        &with_index(put("/1/d", ""), 1),
        Refusal::NotFile,
    );
    refused(
        &mut store,
        &with_index(put_dir("/1/d"), 1),
        Refusal::NotFile,
    );
}

#[test]
fn compare_and_swap_needs_both_conditions() {
    let mut store = after([put("/1/a", "v")]);
    let both = |value, index| with_index(with_value(put("/1/a", "w"), value), index);
    refused(&mut store, &both("v", 2), Refusal::TestFailed);
    refused(&mut store, &both("x", 1), Refusal::TestFailed);
    done(&mut store, &both("v", 1));
    // It is the index of the last change that is compared, not that of the creation.
    refused(
        &mut store,
        &with_index(put("/1/a", "x"), 1),
        Refusal::TestFailed,
    );
    done(&mut store, &with_index(put("/1/a", "x"), 2));
    assert_state(&store, 3, &["/1/a 1/3 =x"]);
}

#[test]
fn compare_and_swap_replaces_value_index_and_expiry() {
    let mut store = after([until(put("/1/a", "v"), LATER)]);
    done(
        &mut store,
        &until(with_index(put("/1/a", ""), 1), LATER + 1),
    );
    assert_state(&store, 2, &[&format!("/1/a 1/2 = @{}", LATER + 1)]);
    done(&mut store, &with_index(put("/1/a", "w"), 2));
    assert_state(&store, 3, &["/1/a 1/3 =w"]);
    // A key stays a key.
    let request = Request {
        dir: Some(true),
        ..with_index(put("/1/a", "x"), 3)
    };
    done(&mut store, &request);
    assert_state(&store, 4, &["/1/a 1/4 =x"]);
}

#[test]
fn compare_and_delete_removes_a_key_that_is_as_the_request_says() {
    let mut store = after([until(put("/1/a", "v"), LATER), put("/1/d/b", "w")]);
    let both = |value, index| with_index(with_value(delete("/1/a"), value), index);
    refused(&mut store, &both("v", 2), Refusal::TestFailed);
    refused(&mut store, &both("x", 1), Refusal::TestFailed);
    let missing = with_index(delete("/1/b"), 1);
    refused(&mut store, &missing, Refusal::KeyNotFound);
    let directory = with_index(delete_recursive("/1/d"), 2);
    refused(&mut store, &directory, Refusal::NotFile);
    done(&mut store, &both("v", 1));
    done(&mut store, &with_value(delete("/1/d/b"), "w"));
    assert_state(&store, 4, &["/1/d 2/2 dir"]);
}

#[test]
fn a_delete_counts_and_takes_what_is_asked_for() {
    let mut store = after([put("/1/a", "v"), put("/1/b", "w")]);
    refused(&mut store, &delete("/1/c"), Refusal::KeyNotFound);
    refused(&mut store, &delete("/1/a/c"), Refusal::NotDir);
    done(&mut store, &delete("/1/a"));
    // For a key the flags mean nothing.
    done(&mut store, &delete_dir("/1/b"));
    assert_state(&store, 4, &[]);
}

#[test]
fn a_directory_is_deleted_only_with_dir() {
    let mut store = after([put_dir("/1/d")]);
    refused(&mut store, &delete("/1/d"), Refusal::NotFile);
    done(&mut store, &delete_dir("/1/d"));
    assert_state(&store, 2, &[]);
}

#[test]
fn a_directory_that_is_not_empty_is_deleted_only_with_recursive_which_implies_dir() {
    let mut store = after([until(put("/1/d/e/a", "v"), LATER), put("/1/f", "w")]);
    refused(&mut store, &delete("/1/d"), Refusal::NotFile);
    refused(&mut store, &delete_dir("/1/d"), Refusal::DirNotEmpty);
    done(&mut store, &delete_recursive("/1/d"));
    assert_state(&store, 3, &["/1/f 2/2 =w"]);
}

#[test]
fn a_condition_makes_a_delete_compare() {
    let mut store = after([put("/1/a", "v")]);
    refused(
        &mut store,
        &with_index(delete("/1/a"), 7),
        Refusal::TestFailed,
    );
    refused(
        &mut store,
        &with_value(delete("/1/a"), "x"),
        Refusal::TestFailed,
    );
    // Empty ones do not.
    done(&mut store, &with_index(with_value(delete("/1/a"), ""), 0));
    assert_state(&store, 2, &[]);
}

#[test]
fn a_quorum_read_and_an_unknown_method_do_nothing() {
    let mut store = after([put("/1/a", "v")]);
    let before = state(&store);
    for method in ["QGET", "GET", "HEAD", ""] {
        let request = delete_recursive("/1/a");
        let request = Request {
            method: Some(bytes(method)),
            ..request
        };
        let applied = store.apply_request(&request, Names::Plain);
        assert_eq!(applied, Applied::Nothing, "{method}");
        assert_eq!(state(&store), before, "{method}");
    }
}

#[test]
fn no_expiry_is_permanent() {
    let mut store = after([
        until(put("/1/a", "v"), 0),
        until(create("/1/b", "v"), 0),
        until(update("/1/a", "w"), 0),
        until(with_index(put("/1/a", "x"), 3), 0),
    ]);
    assert_state(&store, 4, &["/1/a 1/4 =x", "/1/b 2/2 =v"]);
    assert_eq!(
        store.apply_request(&sync(i64::MAX), Names::Plain),
        Applied::Expired(0)
    );
}

#[test]
fn an_expiry_before_2000_counts_as_none_on_create_and_set_only() {
    for at in [i64::MIN, -1, 1, Y2000 - 1] {
        let mut store = after([
            until(put("/1/a", "v"), at),
            until(create("/1/b", "v"), at),
            until(put_dir("/1/d"), at),
        ]);
        store.apply_request(&until(post("/1/q", "v"), at), Names::Plain);
        let made = [
            "/1/a 1/1 =v",
            "/1/b 2/2 =v",
            "/1/d 3/3 dir",
            "/1/q 4/4 dir",
            "/1/q/4 4/4 =v",
        ];
        assert_state(&store, 4, &made);
        done(&mut store, &until(update("/1/a", "w"), at));
        done(&mut store, &until(with_index(put("/1/b", "w"), 2), at));
        done(&mut store, &until(update("/1/d", ""), at));
        let a = format!("/1/a 1/5 =w @{at}");
        let b = format!("/1/b 2/6 =w @{at}");
        let d = format!("/1/d 3/3 dir @{at}");
        assert_state(&store, 7, &[&a, &b, &d, "/1/q 4/4 dir", "/1/q/4 4/4 =v"]);
    }
    let store = after([until(put("/1/a", "v"), Y2000)]);
    assert_state(&store, 1, &[&format!("/1/a 1/1 =v @{Y2000}")]);
}

#[test]
fn sync_removes_what_does_not_expire_after_its_time_and_counts_each() {
    let mut store = after([
        until(put("/1/a", "v"), LATER),
        until(put("/1/b", "v"), LATER + 1),
        until(put("/1/c", "v"), LATER + 2),
        put("/1/d", "v"),
    ]);
    // Nothing to remove is nothing to count.
    assert_eq!(
        store.apply_request(&sync(LATER - 1), Names::Plain),
        Applied::Expired(0)
    );
    assert_eq!(store.index(), 4);
    assert_eq!(
        store.apply_request(&sync(LATER + 1), Names::Plain),
        Applied::Expired(2)
    );
    let c = format!("/1/c 3/3 =v @{}", LATER + 2);
    assert_state(&store, 6, &[&c, "/1/d 4/4 =v"]);
}

#[test]
fn sync_removes_a_directory_with_all_below_it() {
    let mut store = after([
        put("/1/d/e/permanent", "v"),
        until(put("/1/d/e/later", "v"), LATER + 9),
        until(update("/1/d", ""), LATER),
    ]);
    assert_eq!(
        store.apply_request(&sync(LATER), Names::Plain),
        Applied::Expired(1)
    );
    assert_state(&store, 4, &[]);
}

#[test]
fn sync_removes_in_order_of_expiry() {
    // Before its directory a key counts for itself; after it, it is gone already.
    for (key, counted) in [(LATER - 1, 2), (LATER + 1, 1)] {
        for key_first in [true, false] {
            let made = put("/1/d/a", "v");
            let key = until(update("/1/d/a", "v"), key);
            let directory = until(update("/1/d", ""), LATER);
            let mut store = if key_first {
                after([made, key, directory])
            } else {
                after([made, directory, key])
            };
            let applied = store.apply_request(&sync(LATER + 5), Names::Plain);
            assert_eq!(applied, Applied::Expired(counted));
            assert_state(&store, 3 + counted, &[]);
        }
    }
}

#[test]
fn hidden_nodes_are_state_like_any_other() {
    let mut store = after([
        put("/1/_h/a", "v"),
        put("/1/_k", "v"),
        until(put("/1/_e", "v"), LATER),
        update("/1/_k", "w"),
    ]);
    let e = format!("/1/_e 3/3 =v @{LATER}");
    let expected = [&e, "/1/_h 1/1 dir", "/1/_h/a 1/1 =v", "/1/_k 2/4 =w"];
    assert_state(&store, 4, &expected);
    refused(&mut store, &delete_dir("/1/_h"), Refusal::DirNotEmpty);
    store.apply_request(&sync(LATER), Names::Plain);
    done(&mut store, &delete_recursive("/1/_h"));
    assert_state(&store, 6, &["/1/_k 2/4 =w"]);
}

#[test]
fn a_refresh_leaves_the_value() {
    let mut store = after([put("/1/a", "v"), put_dir("/1/d")]);
    let missing = until(refreshing(put("/1/b", "")), LATER);
    refused(&mut store, &missing, Refusal::KeyNotFound);
    let directory = until(refreshing(put("/1/d", "")), LATER);
    refused(&mut store, &directory, Refusal::NotFile);
    for (request, indexes) in [
        (put("/1/a", ""), "3/3"),
        (update("/1/a", ""), "3/4"),
        (with_index(put("/1/a", ""), 4), "3/5"),
    ] {
        done(&mut store, &until(refreshing(request), LATER));
        let a = format!("/1/a {indexes} =v @{LATER}");
        assert_eq!(state(&store).1, [&a, "/1/d 2/2 dir"]);
    }
}

// Entries.

/// A field of kind 2 before its bytes, which are few.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let head = [number << 3 | 2, u8::try_from(content.len()).unwrap()];
    [&head[..], content].concat()
}

#[test]
fn an_empty_entry_does_nothing() {
    let mut store = Store::new();
    assert_eq!(store.apply(0, b"", Names::Plain), Ok(Applied::Nothing));
    assert_state(&store, 0, &[]);
}

#[test]
fn an_entry_of_3_x_holds_its_v2_request_inside() {
    let mut store = Store::new();
    let plain = put("/1/a", "v").encode_to_vec();
    assert_eq!(store.apply(0, &plain, Names::Plain), Ok(Applied::Done));
    // Behind an id and in front of an unknown field.
    let inside = field(2, &put("/1/b", "w").encode_to_vec());
    let internal = [&[0x08, 7][..], &inside, &field(15, b"x")].concat();
    assert_eq!(store.apply(0, &internal, Names::Plain), Ok(Applied::Done));
    assert_state(&store, 2, &["/1/a 1/1 =v", "/1/b 2/2 =w"]);
}

#[test]
fn a_request_of_the_v3_store_does_not_touch_the_v2_store() {
    let mut store = Store::new();
    // A PutRequest with key and value.
    let put = field(4, &[field(1, b"/1/a"), field(2, b"v")].concat());
    let internal = [&[0x08, 7][..], &put].concat();
    assert_eq!(
        store.apply(0, &internal, Names::Plain),
        Ok(Applied::Nothing)
    );
    assert_state(&store, 0, &[]);
}

#[test]
fn an_entry_that_is_no_request_is_unreadable() {
    for (kind, data) in [(0, &b"\xff"[..]), (1, b"\xff")] {
        let mut store = Store::new();
        assert_eq!(
            store.apply(kind, data, Names::Plain),
            Err(Unapplied::Unreadable)
        );
    }
}

// Conf changes.

const ADD: u64 = 0;
const REMOVE: u64 = 1;
const UPDATE: u64 = 2;
const ADD_LEARNER: u64 = 3;

/// A member's id, with which no leading zero is printed.
const A: u64 = 0x0a1;
const B: u64 = 0xb;

fn change(store: &mut Store, kind: u64, id: u64, context: &str) -> Result<Applied, Unapplied> {
    let change = ConfChange {
        id: Some(1),
        kind: Some(kind),
        node_id: Some(id),
        context: Some(bytes(context)),
    };
    store.apply(1, &change.encode_to_vec(), Names::Plain)
}

#[track_caller]
fn changed(store: &mut Store, kind: u64, id: u64, context: &str) {
    assert_eq!(change(store, kind, id, context), Ok(Applied::Done));
}

#[track_caller]
fn invalid(store: &mut Store, kind: u64, id: u64, context: &str) {
    let before = state(store);
    assert_eq!(change(store, kind, id, context), Ok(Applied::Invalid));
    assert_eq!(state(store), before);
}

/// The member in a context.
fn at(url: &str) -> String {
    format!(r#"{{"id":161,"peerURLs":["{url}"],"name":"infra0"}}"#)
}

fn two_members() -> Store {
    let mut store = Store::new();
    changed(&mut store, ADD, A, &at("http://a"));
    changed(&mut store, ADD, B, &at("http://b"));
    store
}

const MEMBERS: [&str; 5] = [
    "/0/members 1/1 dir",
    "/0/members/a1 1/1 dir",
    r#"/0/members/a1/raftAttributes 1/1 ={"peerURLs":["http://a"]}"#,
    "/0/members/b 2/2 dir",
    r#"/0/members/b/raftAttributes 2/2 ={"peerURLs":["http://b"]}"#,
];

#[test]
fn an_added_member_has_its_raft_attributes_in_the_store() {
    assert_state(&two_members(), 2, &MEMBERS);
    assert_eq!(two_members().cluster_facts().unwrap().members.len(), 2);
}

#[test]
fn raft_attributes_are_what_go_writes() {
    let mut store = Store::new();
    let context = r#"{"peerURLs":["http://a?<é>&","http://b"],"clientURLs":[]}"#;
    changed(&mut store, ADD, A, context);
    changed(&mut store, ADD, B, "{}");
    let attributes = |id: &str| {
        let path = format!("/0/members/{id}/raftAttributes");
        let id = store.get(path.as_bytes()).unwrap();
        String::from_utf8(store.node(id).value().unwrap().bytes().into_owned()).unwrap()
    };
    let expected = r#"{"peerURLs":["http://a?\u003cé\u003e\u0026","http://b"]}"#;
    assert_eq!(attributes("a1"), expected);
    assert_eq!(attributes("b"), r#"{"peerURLs":null}"#);
}

#[test]
fn an_addition_is_valid_for_a_new_id_at_new_urls() {
    let mut store = two_members();
    invalid(&mut store, ADD, A, &at("http://new"));
    invalid(&mut store, ADD, 0xc, &at("http://a"));
    let one_of_two = r#"{"peerURLs":["http://new","http://b"]}"#;
    invalid(&mut store, ADD, 0xc, one_of_two);
    changed(&mut store, ADD, 0xc, &at("http://new"));
}

#[test]
fn a_removal_deletes_the_member_and_remembers_its_id() {
    let mut store = two_members();
    done(
        &mut store,
        &put("/0/members/b/attributes", r#"{"name":"b"}"#),
    );
    changed(&mut store, REMOVE, B, "");
    let mut expected = MEMBERS[..3].to_vec();
    expected.extend(["/0/removed_members 5/5 dir", "/0/removed_members/b 5/5 ="]);
    // Both operations count.
    assert_state(&store, 5, &expected);
    invalid(&mut store, REMOVE, 0xc, "");
}

#[test]
fn a_removed_id_never_comes_back() {
    let mut store = two_members();
    changed(&mut store, REMOVE, B, "");
    for kind in [ADD, ADD_LEARNER, REMOVE, UPDATE] {
        invalid(&mut store, kind, B, &at("http://new"));
    }
    // Its URL is free again.
    changed(&mut store, ADD, 0xc, &at("http://b"));
}

#[test]
fn an_update_changes_raft_attributes_in_place() {
    let mut store = two_members();
    changed(&mut store, UPDATE, A, &at("http://new"));
    let mut expected = MEMBERS.to_vec();
    expected[2] = r#"/0/members/a1/raftAttributes 1/3 ={"peerURLs":["http://new"]}"#;
    assert_state(&store, 3, &expected);
}

#[test]
fn an_update_is_valid_for_a_known_id_at_urls_of_no_other() {
    let mut store = two_members();
    invalid(&mut store, UPDATE, 0xc, &at("http://new"));
    invalid(&mut store, UPDATE, A, &at("http://b"));
    // Its own it may keep.
    changed(&mut store, UPDATE, A, &at("http://a"));
}

#[test]
fn a_conf_change_that_etcd_could_not_read_is_unreadable() {
    let mut store = two_members();
    for (kind, id, context) in [(ADD, 0xc, "no JSON"), (UPDATE, A, ""), (4, A, "{}")] {
        let before = state(&store);
        assert_eq!(
            change(&mut store, kind, id, context),
            Err(Unapplied::Unreadable)
        );
        assert_eq!(state(&store), before);
    }
}

#[test]
fn a_cluster_of_a_thousand_members_is_not_changed_beyond_that() {
    let mut store = Store::new();
    for id in 1..=MAX_MEMBERS as u64 {
        changed(&mut store, ADD, id, &at(&format!("http://{id}")));
    }
    changed(&mut store, UPDATE, 7, &at("http://new"));
    changed(&mut store, ADD, 0xffff, &at("http://one-more"));
    let before = state(&store);
    let refused = change(&mut store, REMOVE, 7, "");
    assert_eq!(refused, Err(Unapplied::TooManyMembers));
    assert_eq!(state(&store), before);
}

#[test]
fn a_conf_change_without_a_type_is_an_addition() {
    let mut store = Store::new();
    let change = ConfChange {
        node_id: Some(B),
        context: Some(bytes(&at("http://b"))),
        ..ConfChange::default()
    };
    let applied = store.apply(1, &change.encode_to_vec(), Names::Plain);
    assert_eq!(applied, Ok(Applied::Done));
    assert!(
        store
            .cluster_facts()
            .unwrap()
            .members
            .contains_key(&MemberId(B))
    );
}

#[test]
fn the_late_publish_of_a_removed_member_is_written_before_2_3_and_ignored_from_then_on() {
    let attributes = put("/0/members/b/attributes", r#"{"name":"late"}"#);
    let removed = |version: Option<&str>| {
        let mut store = two_members();
        if let Some(version) = version {
            store.apply_request(&put("/0/version", version), Names::Plain);
        }
        changed(&mut store, REMOVE, B, "");
        store
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
                let applied = store.apply_request(&put(path, "{}"), names);
                assert_eq!(applied, Applied::Done, "{path}");
            }
        }
    }
}

// Learners, of 3.4.

const LEARNER: &str = r#"{"id":11,"peerURLs":["http://b"],"isLearner":true}"#;
const PROMOTION: &str = r#"{"id":11,"peerURLs":null,"isPromote":true}"#;

#[test]
fn a_learner_says_so_and_there_is_no_second_one() {
    let mut store = Store::new();
    changed(&mut store, ADD, A, &at("http://a"));
    changed(&mut store, ADD_LEARNER, B, LEARNER);
    let mut expected = MEMBERS;
    expected[4] = r#"/0/members/b/raftAttributes 2/2 ={"peerURLs":["http://b"],"isLearner":true}"#;
    assert_state(&store, 2, &expected);
    let another = LEARNER.replace("http://b", "http://c");
    invalid(&mut store, ADD_LEARNER, 0xc, &another);
    changed(&mut store, ADD, 0xc, &at("http://c"));
}

#[test]
fn a_promotion_makes_a_learner_a_voter_at_its_own_urls() {
    let mut store = Store::new();
    changed(&mut store, ADD, A, &at("http://a"));
    invalid(&mut store, ADD, B, PROMOTION);
    changed(&mut store, ADD_LEARNER, B, LEARNER);
    changed(&mut store, ADD, B, PROMOTION);
    let mut expected = MEMBERS;
    expected[4] = r#"/0/members/b/raftAttributes 2/3 ={"peerURLs":["http://b"]}"#;
    assert_state(&store, 3, &expected);
    // Who votes already is not promoted.
    invalid(&mut store, ADD, B, PROMOTION);
}
