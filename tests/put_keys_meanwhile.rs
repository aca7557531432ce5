//! Keys written back from a backup while they expire, or while another client writes them.
//!
//! With Debian's etcd 3.4 through its v2 API, and with the servers of 2.x that the environment names. A proxy lets the
//! other client go first before one of the requests, each of them in its turn.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::live_2x::starts::{Alone, Did};
use crate::put_keys::{archive_of, content, put_keys, request};
use crate::support::etcd::http;
use crate::support::prelude::*;

/// Runs `story` on Debian's etcd 3.4, and on each server of 2.x there is.
fn on_each_server(story: impl Fn(SocketAddr, &Path, &Path)) {
    if need("etcd") {
        let dir = fast_dir("ark-put-keys-");
        let data_dir = dir.path().join("real0.etcd");
        let etcd = Etcd::start(&data_dir);
        story(etcd.client(), &data_dir, dir.path());
    }
    for line in ["2.0", "2.1", "2.2", "2.3"] {
        let Some(program) = need_etcd_2x(line) else {
            continue;
        };
        let dir = fast_dir("ark-put-keys-");
        let data_dir = dir.path().join("solo.etcd");
        let mut server = Alone::start(&program, &data_dir, &[]);
        assert!(matches!(server.did(), Did::Serves(_)));
        story(server.client.parse().unwrap(), &data_dir, dir.path());
    }
}

/// A way to `server` on which something is done before request `number` is passed on; how many came is counted.
fn does_before(
    number: usize,
    server: SocketAddr,
    done: impl FnOnce() + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    std::thread::spawn(move || {
        let mut done = Some(done);
        while let Ok((mut client, _)) = listener.accept() {
            let mut upstream = TcpStream::connect(server).unwrap();
            let (mut from, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
            });
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = client.read(&mut buffer) {
                let is_first = ["GET ", "PUT ", "DELETE "]
                    .iter()
                    .any(|method| buffer.starts_with(method.as_bytes()));
                if is_first && counted.fetch_add(1, Ordering::SeqCst) + 1 == number {
                    done.take().unwrap()();
                }
                upstream.write_all(&buffer[..length]).unwrap();
            }
            for stream in [client, upstream] {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    });
    (own, requests)
}

/// The node of a key, `None` if it is not there.
fn node(server: SocketAddr, key: &str) -> Option<Value> {
    let path = format!("/v2/keys/{key}?recursive=true");
    let (status, body) = http(server, "GET", &path, "").unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    (status == 200).then(|| answer["node"].clone())
}

/// A directory that expires, with keys in it and below it; none of them expires by itself, but for one.
fn make_session(server: SocketAddr, ttl: u32) {
    request(server, "PUT", "app/session", &format!("dir=true&ttl={ttl}"));
    for key in ["host", "port", "sub/deep", "sub/_hidden"] {
        request(server, "PUT", &format!("app/session/{key}"), "value=x");
    }
    request(server, "PUT", "app/session/empty", "dir=true");
    request(server, "PUT", "app/session/inner", "dir=true&ttl=3000");
    request(server, "PUT", "app/session/inner/key", "value=x&ttl=9000");
    request(server, "PUT", "app/stays", "value=x");
}

#[test]
fn a_directory_that_goes_meanwhile_leaves_no_key_for_ever() {
    on_each_server(|server, data_dir, scratch| {
        make_session(server, 6000);
        let archive = archive_of(data_dir, scratch);
        let before = content(server, "app");
        let remove = move || {
            let _ = http(server, "DELETE", "/v2/keys/app/session?recursive=true", "");
        };
        for made_again in [None, Some("dir=true"), Some("dir=true&ttl=5000")] {
            let mut were_left = 0;
            for number in 1.. {
                request(server, "DELETE", "app?recursive=true", "");
                let meanwhile = move || {
                    remove();
                    if let Some(form) = made_again {
                        request(server, "PUT", "app/session", form);
                    }
                };
                let (proxy, requests) = does_before(number, server, meanwhile);
                let told = put_keys(&archive, "/app", proxy, &["--json"]).exits(0);
                let told = told.json();
                if requests.load(Ordering::SeqCst) < number {
                    assert_eq!(content(server, "app"), before, "{told:#}");
                    assert_eq!(told["created"], before.len(), "{told:#}");
                    break;
                }
                let session = node(server, "app/session");
                let expires = session.as_ref().is_none_or(|node| node["ttl"].is_number());
                let holds = session.is_some_and(|node| node["nodes"].is_array());
                assert!(expires || !holds, "{number}: {told:#}");
                assert!(node(server, "app/stays").is_some(), "{number}: {told:#}");
                let gone = told["gone"].as_array().unwrap();
                were_left += gone.len();
            }
            assert!(were_left > 10, "{were_left}");
        }
    });
}

#[test]
fn a_directory_that_expires_meanwhile_is_left_out_with_its_keys() {
    only_with!(need("etcd"));
    let dir = fast_dir("ark-put-keys-");
    let data_dir = dir.path().join("real0.etcd");
    let etcd = Etcd::start(&data_dir);
    let server = etcd.client();
    make_session(server, 5);
    let archive = archive_of(&data_dir, dir.path());
    request(server, "DELETE", "app?recursive=true", "");
    let expires = move || {
        while node(server, "app/session").is_some() {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let (proxy, _) = does_before(8, server, expires);
    let told = put_keys(&archive, "/app", proxy, &[]).exits(0);
    told.says(
        "`/app/session` expired or was removed meanwhile: what was still to be written of it",
    );
    let found = content(server, "app");
    let found: Vec<_> = found.keys().filter(|key| key.contains("app")).collect();
    assert_eq!(found, ["\"/app\"", "\"/app/stays\""]);
}

#[test]
fn the_directories_above_prefix_expire_with_what_is_put_back() {
    on_each_server(|server, data_dir, scratch| {
        request(server, "PUT", "short", "dir=true&ttl=1");
        request(server, "PUT", "short/sub/key", "value=x");
        make_session(server, 6000);
        let archive = archive_of(data_dir, scratch);
        std::thread::sleep(Duration::from_millis(2500));
        let told = put_keys(&archive, "/short/sub/key", server, &["--json"]).exits(0);
        assert_eq!(told.json()["counts"]["expired"], 1, "{told:?}");
        assert_eq!(node(server, "short"), None);
        let script = |key: &str| {
            let keys = typed("keys --as-script curl {} {}", &[&archive, &key]);
            let path = scratch.join("script");
            std::fs::write(&path, keys.exits(0).stdout).unwrap();
            let mut script = clean("sh");
            script
                .arg(&path)
                .env("ENDPOINT", format!("http://{server}"));
            run(&mut script)
        };
        script("/short/sub/key").exits(0);
        assert_eq!(node(server, "short"), None);

        let key = "/app/session/inner/key";
        request(server, "DELETE", "app?recursive=true", "");
        let told = put_keys(&archive, key, server, &["--json"]).exits(0);
        assert_eq!(told.json()["created"], 3, "{told:?}");
        let ttl = |key: &str| node(server, key).unwrap()["ttl"].as_i64().unwrap();
        assert!((5900..=6000).contains(&ttl("app/session")));
        assert!((2900..=3000).contains(&ttl("app/session/inner")));
        assert!((8900..=9000).contains(&ttl("app/session/inner/key")));
        // Where such a directory is a permanent one by now, nothing is written into it.
        request(server, "DELETE", "app?recursive=true", "");
        request(server, "PUT", "app/session/other", "value=x");
        let told = put_keys(&archive, key, server, &["--json", "--delete-others"]).exits(0);
        assert_eq!(told.json()["counts"]["other_expiry"], 3, "{told:?}");
        assert!(node(server, "app/session/other").is_some());
        request(server, "DELETE", "app?recursive=true", "");
        script("/app/session").exits(0);
        assert!((5900..=6000).contains(&ttl("app/session/sub/deep")));
        assert!((5900..=6000).contains(&ttl("app/session/empty")));
        assert!((2900..=3000).contains(&ttl("app/session/inner/key")));
    });
}

#[test]
fn a_directory_that_another_client_made_alike_is_not_a_conflict() {
    on_each_server(|server, data_dir, scratch| {
        request(server, "PUT", "app/inner/key", "value=x");
        let archive = archive_of(data_dir, scratch);
        request(server, "DELETE", "app?recursive=true", "");
        let other = move || request(server, "PUT", "app/inner/other", "value=x");
        // The first one reads the keys for the plan.
        let (proxy, _) = does_before(2, server, other);
        let told = put_keys(&archive, "/app", proxy, &["--json"])
            .exits(0)
            .json();
        assert_eq!(told["conflicts"], json!([]), "{told:#}");
        assert_eq!(told["created"], 1, "{told:#}");
        assert!(node(server, "app/inner/key").is_some());
    });
}

#[test]
fn an_interrupted_run_says_how_many_keys_it_wrote() {
    only_with!(need("etcd"));
    let dir = fast_dir("ark-put-keys-");
    let data_dir = dir.path().join("real0.etcd");
    let etcd = Etcd::start(&data_dir);
    let server = etcd.client();
    for number in 0..8 {
        request(server, "PUT", &format!("app/key-{number}"), "value=x");
    }
    let archive = archive_of(&data_dir, dir.path());
    request(server, "DELETE", "app?recursive=true", "");
    let (reached, is_reached) = std::sync::mpsc::channel();
    let (sent, is_sent) = std::sync::mpsc::channel();
    let (proxy, _) = does_before(5, server, move || {
        reached.send(()).unwrap();
        is_sent.recv().unwrap();
    });
    let mut put = clean(BINARY);
    put.args(["put-keys", archive.to_str().unwrap(), "/app"])
        .args(["--quiet", "--endpoints", &format!("http://{proxy}")])
        .stderr(Stdio::piped());
    let child = put.spawn().unwrap();
    is_reached.recv().unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    sent.send(()).unwrap();
    let told = Ran::ended(&put, child.wait_with_output().unwrap());
    told.exits(130)
        .says("interrupted after 4 writes")
        .says("run the same command again");
}

#[test]
fn a_value_that_fills_a_form_comes_back() {
    on_each_server(|server, data_dir, scratch| {
        let value = "\u{e9}".repeat(2_000_000);
        request(server, "PUT", "app/large", &format!("value={value}"));
        let archive = archive_of(data_dir, scratch);
        request(server, "DELETE", "app?recursive=true", "");
        put_keys(&archive, "/app", server, &[]).exits(0);
        assert_eq!(node(server, "app/large").unwrap()["value"], value);
    });
}
