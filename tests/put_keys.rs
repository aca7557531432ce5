//! Deleted keys, written back from a backup into the running cluster.
//!
//! With Debian's etcd 3.4 through its v2 API, and with the servers of 2.x that the environment names. The server's
//! answers afterwards are compared with those before the keys were deleted.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::live_2x::starts::{Alone, Did};
use crate::support::certs::Authority;
use crate::support::etcd::{Connection, ServerTls, http};
use crate::support::prelude::*;
use crate::support::trio::{MEMBERS, Trio};

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// What a key is written with: its method, its name in a URL, its form.
const KEYS: [(&str, &str, &str); 9] = [
    ("PUT", "app/config/name", "value=%C3%A4%22%5C%3C%26"),
    ("PUT", "app/config/binary", "value=a%FF%00z"),
    ("PUT", "app/config/odd%20%25name", "value="),
    ("PUT", "app/config/_hidden/deep", "value=unlisted"),
    ("PUT", "app/config/empty", "dir=true"),
    ("PUT", "app/config/lease", "value=x&ttl=86400"),
    ("POST", "app/config/queue", "value=first"),
    ("POST", "app/config/queue", "value=second"),
    ("PUT", "app/stays", "value=old"),
];

pub(crate) fn request(server: SocketAddr, method: &str, key: &str, form: &str) {
    let (status, body) = http(server, method, &format!("/v2/keys/{key}"), form).unwrap();
    assert!(
        matches!(status, 200 | 201),
        "{method} {key}: {status} {body}"
    );
}

/// Every key and directory below `key`, with its value, and whether it expires; indexes and times left out.
pub(crate) fn content(server: SocketAddr, key: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for key in [key.to_owned(), format!("{key}/config/_hidden")] {
        let path = format!("/v2/keys/{key}?recursive=true");
        let (_, body) = http(server, "GET", &path, "").unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        let mut left = vec![answer["node"].clone()];
        while let Some(node) = left.pop() {
            let nodes = node["nodes"].as_array().cloned();
            left.extend(nodes.unwrap_or_default());
            let fact = json!([node["value"], node["dir"], node["ttl"].is_number()]);
            found.insert(node["key"].to_string(), fact);
        }
    }
    found
}

/// An archive of a running server to which no client writes. Of 3.x only a copy can be archived.
pub(crate) fn archive_of(data_dir: &Path, scratch: &Path) -> PathBuf {
    let copy = scratch.join("copy.etcd");
    copy_dir(data_dir, &copy);
    snapshot(&copy, &scratch.join("backups"), &[]).0
}

pub(crate) fn put_keys(archive: &Path, prefix: &str, server: SocketAddr, flags: &[&str]) -> Ran {
    let endpoint = format!("http://{server}");
    let archive = archive.to_str().unwrap();
    let args = ["put-keys", archive, prefix, "--endpoints", &endpoint];
    ark(args.iter().chain(flags))
}

/// Deletes keys and writes them back, on a server with the data dir `data_dir`.
fn a_directory_is_deleted_and_put_back(server: SocketAddr, data_dir: &Path, scratch: &Path) {
    for (method, key, form) in KEYS {
        request(server, method, key, form);
    }
    request(server, "PUT", "app/config/short", "value=x&ttl=1");
    // More than one argument of a program can hold.
    let large = format!("value={}", "x'".repeat(100_000));
    request(server, "PUT", "app/config/large", &large);
    let archive = archive_of(data_dir, scratch);
    std::thread::sleep(Duration::from_millis(1600));
    let before = content(server, "app");
    assert_eq!(before.len(), 14, "{before:#?}");

    request(server, "DELETE", "app/config?recursive=true", "");
    request(server, "PUT", "app/stays", "value=new");
    request(server, "PUT", "app/extra", "value=x");
    let after_accident = content(server, "app");

    let planned = put_keys(&archive, "/app", server, &["--dry-run", "--json"]).exits(0);
    assert_eq!(content(server, "app"), after_accident, "a dry run wrote");
    let counts = &planned.json()["counts"];
    let expected = json!({
        "create": 12, "change": 1, "same": 1, "unsure": 0, "other_kind": 0, "other_name": 0, "create_beside": 0,
        "other_expiry": 0, "only_there": 1, "expired": 1,
    });
    assert_eq!(*counts, expected);
    let planned = put_keys(&archive, "/app", server, &["--dry-run", "-v"]).exits(0);
    assert_has(&planned.stdout, "change        /app/stays  (stays)\n");
    assert_has(
        &planned.stdout,
        "1 with another value or expiration (not changed)",
    );
    assert_has(
        &planned.stdout,
        "expired       /app/config/short  (left out)\n",
    );

    let told = put_keys(&archive, "/app", server, &[]).exits(0);
    told.says("1 key has another value or expiration by now, which stays");
    let mut expected = before.clone();
    for changed in ["\"/app/stays\"", "\"/app/extra\""] {
        expected.insert(changed.to_owned(), after_accident[changed].clone());
    }
    assert_eq!(content(server, "app"), expected);

    let again = put_keys(&archive, "/app", server, &["--json"])
        .exits(0)
        .json();
    assert_eq!([&again["created"], &again["changed"]], [0, 0], "{again}");
    let all = ["--overwrite", "--delete-others"];
    put_keys(&archive, "/app", server, &all).exits(0);
    assert_eq!(content(server, "app"), before);

    // What JSON cannot show of a value is seen in the log, and stays untold of the server.
    let told = put_keys(&archive, "/app", server, &[]).exits(0);
    told.says("1 value looks the same, but the API shows U+FFFD")
        .says("so its bytes may differ: it stays");
    request(server, "PUT", "app/config/binary", "value=a%EF%BF%BD%00z");
    put_keys(&archive, "/app", server, &["--overwrite"]).exits(0);
    let mut keys = clean(BINARY);
    keys.args(["keys", "--pending", "--get", "/app/config/binary"]);
    let value = keys.arg(data_dir).output().unwrap().stdout;
    assert_eq!(value, b"a\xff\x00z");
    // The job that another release named otherwise is there, and does not come a second time.
    let queue = "\"/app/config/queue/";
    let mut jobs = before.iter().filter(|(key, _)| key.starts_with(queue));
    let (job, fact) = jobs.next().unwrap();
    let form = format!("value={}", fact[0].as_str().unwrap());
    let job = job.trim_matches('"').rsplit('/').next().unwrap();
    let number: u64 = job.parse().unwrap();
    let other = match number.to_string() {
        plain if plain == job => format!("{number:020}"),
        plain => plain,
    };
    request(server, "DELETE", &format!("app/config/queue/{job}"), "");
    let renamed = format!("app/config/queue/{other}");
    request(server, "PUT", &renamed, &form);
    let expected = content(server, "app");
    let told = put_keys(&archive, "/app", server, &all).exits(0);
    told.says(
        "1 in-order key is there with the same value under the name that another release gives it",
    );
    assert_eq!(content(server, "app"), expected);
    // After a rewind the numbers come a second time: another job under that number is not this one.
    request(server, "PUT", &renamed, "value=another+job");
    let told = put_keys(&archive, "/app", server, &["--overwrite"]).exits(0);
    let row = format!("create beside /app/config/queue/{job}\n");
    assert_has(&told.stdout, &row);
    request(server, "DELETE", &format!("app/config/queue/{job}"), "");
    put_keys(&archive, "/app", server, &["--dry-run", "--delete-others"])
        .shows(&format!("create        /app/config/queue/{job}\n"))
        .shows(&format!("remove        /{renamed}\n"))
        .says("`--delete-others` removes that one");
    put_keys(&archive, "/app", server, &[]).exits(0);
    told.says("1 in-order key has another value under the name that another release gives it");
    let mut both = before.clone();
    both.insert(
        format!("\"/{renamed}\""),
        json!(["another job", null, false]),
    );
    assert_eq!(content(server, "app"), both);
    request(server, "DELETE", &renamed, "");
    put_keys(&archive, "/app", server, &[]).exits(0);
    assert_eq!(content(server, "app"), before);
    what_names_no_key_is_refused(&archive, server);
}

fn what_names_no_key_is_refused(archive: &Path, server: SocketAddr) {
    let missing = put_keys(archive, "/nothing", server, &[]);
    missing.exits(10).says("no such key: `/nothing`");
    // What a variable that is not set leaves is not the whole store.
    for none in ["", ".", "/app/.."] {
        let told = put_keys(archive, none, server, &["--dry-run"]);
        told.exits(2).says("it names no key; `/` means all keys");
        typed("keys {} {}", &[&archive, &none]).exits(2);
        typed("keys {} --get {}", &[&archive, &none]).exits(2);
    }
}

/// Where a key stands for a directory, or a directory for a key, all of it stays; so does what etcd does not list.
fn what_is_of_another_kind_stays(server: SocketAddr, scratch: &Path) {
    let archive = crate::support::tools::archives_in(&scratch.join("backups")).remove(0);
    let all = ["--overwrite", "--delete-others"];
    put_keys(&archive, "/app", server, &all).exits(0);
    for (method, key, form) in [
        ("DELETE", "app/config/_hidden?recursive=true", ""),
        ("PUT", "app/config/_hidden", "value=a key now"),
        ("DELETE", "app/config/name", ""),
        ("PUT", "app/config/name/inner", "value=a directory now"),
        ("PUT", "app/only/_secret", "value=x"),
        ("PUT", "app/stays", "value=old&ttl=600"),
        ("PUT", "app/config/empty", "dir=true&prevExist=true&ttl=600"),
        ("PUT", "app/config/queue", "dir=true&prevExist=true&ttl=600"),
        ("PUT", "app/config/queue/later", "value=x"),
        // It had expired in the backup, and is in use again.
        ("PUT", "app/config/short", "value=renewed&ttl=600"),
    ] {
        request(server, method, key, form);
    }
    let flags = ["--overwrite", "--delete-others", "--json"];
    // One each time is the value that is not UTF-8, of which no answer tells whether it is there.
    for changed in [2, 1] {
        let told = put_keys(&archive, "/app", server, &flags).exits(0);
        let told = told.json();
        assert_eq!(told["counts"]["other_kind"], 3, "{told:#}");
        assert_eq!(told["changed"], changed, "{told:#}");
        // Two directories, and the two jobs in one of them.
        assert_eq!(told["counts"]["other_expiry"], 4, "{told:#}");
        assert_eq!(told["deleted"], 0, "{told:#}");
        assert_eq!(told["conflicts"], json!([]), "{told:#}");
        assert_eq!(told["not_empty"], json!(["/app/only"]), "{told:#}");
    }
    put_keys(&archive, "/app", server, &all)
        .exits(0)
        .says("3 names are a key on one side and a directory on the other, or below such a name")
        .says(
            "4 names are a directory that expires in only one of backup and cluster, or below such",
        )
        .says("`/app/only` is not empty and stays");
    let found = content(server, "app");
    assert_eq!(found["\"/app/config/queue/later\""][0], "x");
    assert_eq!(found["\"/app/config/name/inner\""][0], "a directory now");
    assert_eq!(found["\"/app/stays\""], json!(["old", null, false]));
    assert_eq!(found["\"/app/config/short\""][0], "renewed");

    // A key that stands in the way of hidden keys, or of PREFIX itself, stops nothing.
    request(server, "DELETE", "app/config?recursive=true", "");
    request(server, "PUT", "app/config", "value=in the way");
    for prefix in ["/", "/app/config/queue", "/app/config/_hidden/deep"] {
        let told = put_keys(&archive, prefix, server, &all).exits(0);
        told.says("a key on one side and a directory on the other");
    }
    assert_eq!(content(server, "app")["\"/app/config\""][0], "in the way");
}

#[test]
fn a_deleted_directory_comes_back_as_it_was_and_what_was_written_since_stays() {
    only_with!(need("etcd"));
    let dir = fast_dir("ark-put-keys-");
    let data_dir = dir.path().join("real0.etcd");
    let etcd = Etcd::start(&data_dir);
    a_directory_is_deleted_and_put_back(etcd.client(), &data_dir, dir.path());

    // The same by the commands that `keys` prints for a shell.
    for tool in ["curl", "etcdctl"] {
        let before = content(etcd.client(), "app");
        request(etcd.client(), "DELETE", "app/config?recursive=true", "");
        let mut script = clean("sh");
        let archive = crate::support::tools::archives_in(&dir.path().join("backups")).remove(0);
        let keys = typed("keys --as-script {} {} /app/config", &[&tool, &archive]);
        let path = dir.path().join("script");
        let cautions = keys.stdout.matches("etcdctl 2.0 and 2.1 make a `+` of it");
        assert_eq!(cautions.count(), usize::from(tool == "etcdctl"));
        std::fs::write(&path, keys.exits(0).stdout).unwrap();
        script.arg(&path).env("ENDPOINT", etcd.client_url());
        script.env("ETCDCTL_ENDPOINT", etcd.client_url());
        let told = run(&mut script).exits(0);
        assert_eq!(content(etcd.client(), "app"), before, "{told:?}");
        // What is there already is not created, and that is not a success.
        let told = run(&mut script).exits(1);
        assert_has(&told.stderr, "/app/config/name");
        assert_eq!(content(etcd.client(), "app"), before, "{told:?}");
        script.env("ENDPOINT", "http://127.0.0.1:1");
        script.env("ETCDCTL_ENDPOINT", "http://127.0.0.1:1");
        run(&mut script).exits(1);
    }
    let nobody = "127.0.0.1:1".parse().unwrap();
    let archive = dir.path().join("backups");
    let flags = ["--backup-dir", archive.to_str().unwrap()];
    let told = put_keys(Path::new("latest"), "/app", nobody, &flags).exits(1);
    told.says("cannot read the cluster's keys, nothing was written")
        .says("127.0.0.1:1");
    what_is_of_another_kind_stays(etcd.client(), dir.path());
}

#[test]
fn a_deleted_directory_comes_back_as_it_was_in_servers_of_2x() {
    for line in ["2.0", "2.1", "2.2", "2.3"] {
        let Some(program) = need_etcd_2x(line) else {
            continue;
        };
        let dir = TempDir::with_prefix("ark-put-keys-").unwrap();
        let data_dir = dir.path().join("solo.etcd");
        let mut server = Alone::start(&program, &data_dir, &[]);
        assert!(matches!(server.did(), Did::Serves(_)));
        let client = server.client.parse().unwrap();
        a_directory_is_deleted_and_put_back(client, &data_dir, dir.path());
        what_is_of_another_kind_stays(client, dir.path());
    }
}

#[test]
fn a_writer_beside_it_loses_nothing_and_a_killed_run_is_gone_on_with() {
    // Guards against a key of today overwritten by one of yesterday because the two were written in the same moment.
    only_with!(need("etcd"));
    let count: usize = if is_thorough() { 10_000 } else { 1500 };
    let dir = fast_dir("ark-put-keys-");
    let data_dir = dir.path().join("real0.etcd");
    let etcd = Etcd::start_with(&data_dir, 100_000);
    let client = etcd.client();
    let mut connection = Connection::new(client);
    let key = |number: usize| format!("/v2/keys/bulk/{}/key-{number}", number % 16);
    for number in 0..count {
        let answer = connection.send("PUT", &key(number), FORM, &format!("value=old-{number}"));
        assert_eq!(answer.unwrap().status, 201);
    }
    let archive = archive_of(&data_dir, dir.path());
    request(client, "DELETE", "bulk?recursive=true", "");

    let endpoint = etcd.client_url();
    let put = || {
        let mut put = server(BINARY);
        put.args(["put-keys", "--json", archive.to_str().unwrap(), "/bulk"])
            .args(["--endpoints", &endpoint])
            .stdout(Stdio::piped());
        put.spawn().unwrap()
    };
    let until_more_than = |keys: usize| {
        while content(client, "bulk").len() <= keys {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut killed = put();
    until_more_than(100);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let by_killed = content(client, "bulk").len();
    assert!(by_killed < count, "it was done before it was killed");

    // The plan is made; another client writes from the last key down, while the run works from the first one up.
    let second = put();
    until_more_than(by_killed);
    let theirs: Vec<usize> = (0..count).rev().filter(|number| number % 7 == 0).collect();
    for number in &theirs {
        let value = format!("value=new-{number}");
        let answer = connection.send("PUT", &key(*number), FORM, &value).unwrap();
        assert!(matches!(answer.status, 200 | 201));
    }
    let told = second.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let conflicts = told["conflicts"].as_array().unwrap().len();
    println!(
        "{by_killed} by the killed run, {} by the other client, {conflicts} conflicts",
        theirs.len()
    );
    assert!(conflicts > 0, "they never met");
    let found = content(client, "bulk");
    for number in 0..count {
        let key = format!("\"/bulk/{}/key-{number}\"", number % 16);
        let new = theirs.contains(&number);
        let value = if new {
            format!("new-{number}")
        } else {
            format!("old-{number}")
        };
        assert_eq!(found[&key][0], json!(value), "{key}");
    }
}

/// A way to `server` that breaks once: the `last` PUT is passed on, its answer is not, and no one listens any more.
fn breaks_at(server: SocketAddr, last: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        drop(listener);
        let mut upstream = TcpStream::connect(server).unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let (mut from, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        let is_broken = Arc::clone(&broken);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if !is_broken.load(Ordering::SeqCst) {
                    to.write_all(&buffer[..length]).unwrap();
                }
            }
        });
        let (mut buffer, mut puts) = ([0; 4096], 0);
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            puts += usize::from(buffer.starts_with(b"PUT "));
            if puts == last {
                broken.store(true, Ordering::SeqCst);
                // The rest of the request may come in pieces.
                let patience = Some(Duration::from_millis(300));
                client.set_read_timeout(patience).unwrap();
            }
            upstream.write_all(&buffer[..length]).unwrap();
        }
        for stream in [client, upstream] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    own
}

#[test]
fn a_member_that_dies_meanwhile_is_named_and_the_next_one_goes_on() {
    only_with!(need("etcd"));
    let dir = fast_dir("ark-put-keys-");
    let data_dir = dir.path().join("real0.etcd");
    let etcd = Etcd::start(&data_dir);
    let client = etcd.client();
    for number in 0..20 {
        request(client, "PUT", &format!("app/key-{number:02}"), "value=x");
    }
    let archive = archive_of(&data_dir, dir.path());
    request(client, "DELETE", "app?recursive=true", "");
    let broken = breaks_at(client, 6);
    put_keys(&archive, "/app", broken, &["--timeout", "10s"])
        .exits(1)
        .says("stopped at `/app/key-04`, after 5 writes: http://127.0.0.1:")
        .says("cannot be reached")
        .says("run the same command again: what has been written is not written again");
    assert_eq!(content(client, "app").len(), 7);
    let endpoints = [breaks_at(client, 6), client].map(|one| format!("http://{one}"));
    let told = typed(
        "put-keys {} /app --json --endpoints {}",
        &[&archive, &endpoints.join(",")],
    );
    let told = told.exits(0).json();
    // One was written by the member that could not say so.
    assert_eq!(told["conflicts"], json!([]), "{told:#}");
    assert_eq!(told["created"], 15, "{told:#}");
    assert_eq!(told["endpoint"], etcd.client_url(), "{told:#}");
    assert_eq!(content(client, "app").len(), 22);
}

#[test]
fn nothing_is_written_to_an_endpoint_of_another_cluster() {
    only_with!(need("etcd"));
    let dir = fast_dir("ark-put-keys-");
    let data_dir = dir.path().join("real0.etcd");
    let etcd = Etcd::start(&data_dir);
    let (own, other) = (etcd.client(), Etcd::start(&dir.path().join("other.etcd")));
    for number in 0..20 {
        request(own, "PUT", &format!("app/key-{number:02}"), "value=x");
    }
    let archive = archive_of(&data_dir, dir.path());
    request(own, "DELETE", "app?recursive=true", "");
    let before = content(other.client(), "app");
    // The other one takes the place of the first, and is asked in each round after it.
    let endpoints = [breaks_at(own, 6), other.client()].map(|one| format!("http://{one}"));
    let put = |endpoints: &[String]| {
        typed(
            "put-keys {} /app --json --endpoints {}",
            &[&archive, &endpoints.join(",")],
        )
    };
    put(&endpoints)
        .exits(1)
        .says("stopped at `/app/key-04`, after 5 writes")
        .says("belongs to another cluster");
    assert_eq!(content(other.client(), "app"), before);
    // Another endpoint of the first cluster is found behind it.
    request(own, "DELETE", "app?recursive=true", "");
    let first = format!("http://{}", breaks_at(own, 6));
    let told = put(&[first, other.client_url(), etcd.client_url()]);
    let told = told.exits(0).json();
    assert_eq!(told["conflicts"], json!([]), "{told:#}");
    assert_eq!(told["created"], 21, "{told:#}");
    assert_eq!(told["endpoint"], etcd.client_url(), "{told:#}");
    assert_eq!(content(other.client(), "app"), before);
}

#[test]
fn the_leader_dies_meanwhile_and_the_next_one_is_waited_for() {
    const COUNT: usize = 1000;
    only_with!(need("etcd"));
    let dir = fast_dir("ark-put-keys-");
    let mut trio = Trio::start(dir.path(), 100_000);
    let mut connection = Connection::new(trio.client(0));
    for number in 0..COUNT {
        let key = format!("/v2/keys/app/key-{number}");
        let answer = connection.send("PUT", &key, FORM, "value=x").unwrap();
        assert_eq!(answer.status, 201);
    }
    // With this one its member learns that the others are committed.
    request(trio.client(0), "PUT", "last", "value=x");
    let archive = archive_of(trio.data_dir(0), dir.path());
    request(trio.client(0), "DELETE", "app?recursive=true", "");
    let leader = |trio: &Trio| (0..MEMBERS).find(|n| trio.leads(*n)).unwrap();
    let first = leader(&trio);
    let follower = (first + 1) % MEMBERS;
    let url = |n: usize| trio.client_url(n);
    let endpoints = format!("{},{}", url(first), url(follower));
    let mut put = server(BINARY);
    put.args(["put-keys", "--json", archive.to_str().unwrap(), "/app"])
        .args(["--endpoints", &endpoints])
        .stdout(Stdio::piped());
    let put = put.spawn().unwrap();
    while content(trio.client(follower), "app").len() < 50 {
        std::thread::sleep(Duration::from_millis(5));
    }
    trio.kill(first);
    let told = put.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["conflicts"], json!([]), "{told:#}");
    // The directory itself, and the hidden one that is not there.
    assert_eq!(content(trio.client(follower), "app").len(), COUNT + 2);
    // The same before the plan is made.
    trio.start_member(first);
    trio.wait_healthy(&[0, 1, 2]);
    let second = leader(&trio);
    let endpoints = [second, (second + 1) % MEMBERS].map(|n| trio.client_url(n));
    trio.kill(second);
    let both = endpoints.join(",");
    let told = typed("put-keys {} /app --json --endpoints {}", &[&archive, &both]).exits(0);
    assert_eq!(told.json()["counts"]["same"], COUNT + 1);
    // Each endpoint is told with its reason when none answers.
    trio.stop_all();
    let told = typed("put-keys {} /app --endpoints {}", &[&archive, &both]).exits(1);
    for endpoint in &endpoints {
        let reason = format!("{endpoint} cannot be reached: Connection refused");
        assert_has(&told.stderr, &reason);
    }
}

/// etcdctl against a server, as root once there is auth.
struct Ctl {
    flags: Vec<String>,
}

impl Ctl {
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let mut command = clean("etcdctl");
        command.env("ETCDCTL_API", "2").args(&self.flags);
        let ran = run(command.args(line.split(' ')));
        ran.exits(0).stdout.trim_end().to_owned()
    }

    /// Makes the user `app`, who may do everything below /app and nothing else, and `reader`, who may read there, and refuses requests without a user name.
    fn enable_auth(&mut self) {
        for line in [
            "user add root:the:root",
            "user add app:of-app",
            "role add app",
            "role grant app --path /app/* --readwrite",
            "user grant app --roles app",
            "user add reader:of-reader",
            "role add reader",
            "role grant reader --path /app/* --read",
            "user grant reader --roles reader",
            "auth enable",
        ] {
            self.run(line);
        }
        self.flags
            .extend(["-u", "root:the:root"].map(str::to_owned));
        // What it may do has another name in 2.1.
        self.run("role remove guest");
    }
}

/// Keys of two applications are lost, and one of them has only its own user to put them back; `flags` reach the server.
fn a_user_puts_back_what_is_its_own(
    ctl: &mut Ctl,
    flags: &[&str],
    data_dir: &Path,
    scratch: &Path,
) {
    for (key, value) in [
        ("/app/name", "one"),
        ("/app/deep/name", "two"),
        ("/other/name", "x"),
    ] {
        ctl.run(&format!("set {key} {value}"));
    }
    ctl.enable_auth();
    let archive = archive_of(data_dir, scratch);
    ctl.run("rm --recursive /app/deep");
    ctl.run("rm /other/name");
    let password = |name: &str, text: &str| {
        let path = scratch.join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (root, app) = (password("root", "the:root"), password("app", "of-app"));
    let put = |prefix: &str, user: &[&str]| {
        let flags = [flags, user].concat();
        typed_with("put-keys {} {}", &[&archive, &prefix], &flags)
    };
    let refused = [
        put("/app", &[]),
        put("/app", &["--username", "app", "--password-file", &root]),
        put("/app", &["--username", "nobody", "--password-file", &app]),
        put("/other", &["--username", "app", "--password-file", &app]),
    ];
    for told in refused {
        told.exits(1).says("nothing was written").says("--username");
    }
    put("/other", &["--username", "app", "--password-file", &app])
        .says("/v2/keys/other/: authentication failed");
    let reader = password("reader", "of-reader");
    put(
        "/app/deep",
        &["--username", "reader", "--password-file", &reader],
    )
    .exits(1)
    .says("stopped at `/app/deep`, after 0 writes: reading is allowed there, but writing is not")
    .says("give the user a role that may write these keys");
    let as_app = ["--username", "app", "--password-file", &app];
    // Its role is of what is below /app, not of that directory itself, but etcd takes `/app/` for that.
    let told = put("/app", &[&as_app[..], &["--json"]].concat()).exits(0);
    assert_eq!(told.json()["created"], 2, "{told:#?}");
    ctl.run("rm --recursive /app");
    let told = put("/app/", &[&as_app[..], &["--json"]].concat()).exits(0);
    assert_eq!(told.json()["created"], 4, "{told:#?}");
    assert_eq!(ctl.run("get /app/deep/name"), "two");
    let as_root = ["--username", "root", "--password-file", &root];
    let told = put("/", &[&as_root[..], &["--json"]].concat()).exits(0);
    assert_eq!(told.json()["created"], 1, "{told:#?}");
    assert_eq!(ctl.run("get /other/name"), "x");
}

#[test]
fn users_of_2x_put_back_what_they_may_write() {
    for line in ["2.1", "2.2", "2.3"] {
        let Some(program) = need_etcd_2x(line).filter(|_| need("etcdctl")) else {
            continue;
        };
        let dir = TempDir::with_prefix("ark-put-keys-").unwrap();
        let data_dir = dir.path().join("solo.etcd");
        let mut server = Alone::start(&program, &data_dir, &[]);
        assert!(matches!(server.did(), Did::Serves(_)));
        let url = format!("http://{}", server.client);
        let flags = ["--endpoints", &url].map(str::to_owned).to_vec();
        let mut ctl = Ctl { flags };
        let client = server.client.parse().unwrap();
        // It takes users once the cluster version is decided.
        while http(client, "GET", "/v2/auth/users", "").is_ok_and(|(status, _)| status != 200) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let flags = ["--endpoints", &url];
        a_user_puts_back_what_is_its_own(&mut ctl, &flags, &data_dir, dir.path());
    }
}

#[test]
fn users_and_certificates_of_a_cluster_hold_for_what_is_put_back() {
    only_with!(need("etcd") && need("etcdctl"));
    let dir = fast_dir("ark-put-keys-");
    let authority = Authority::new(dir.path(), "ca");
    let (client, server) = (authority.signs("client"), authority.signs("server"));
    let stranger = Authority::new(dir.path(), "other-ca").signs("stranger");
    let tls = ServerTls {
        own: server,
        trusted_ca: authority.cert.clone(),
    };
    let data_dir = dir.path().join("real0.etcd");
    let etcd = Etcd::start_tls(&data_dir, &tls);
    let url = etcd.client_url();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (text(&authority.cert), text(&client.cert), text(&client.key));
    let split = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut ctl = Ctl {
        flags: split(&format!(
            "--endpoints {url} --ca-file {ca} --cert-file {cert} --key-file {key}"
        )),
    };
    let flags = format!("--endpoints {url} --cacert {ca} --cert {cert} --key {key}");
    let flags: Vec<_> = flags.split(' ').collect();
    a_user_puts_back_what_is_its_own(&mut ctl, &flags, &data_dir, dir.path());

    let archive = crate::support::tools::archives_in(&dir.path().join("backups")).remove(0);
    let archive = text(&archive);
    let (strange_cert, strange_key) = (text(&stranger.cert), text(&stranger.key));
    for flags in [
        format!("--cacert {ca}"),
        format!("--cert {cert} --key {key}"),
        format!("--cacert {ca} --cert {strange_cert} --key {strange_key}"),
    ] {
        let args = ["put-keys", &archive, "/app", "--endpoints", &url];
        let told = ark(args.into_iter().chain(flags.split(' '))).exits(1);
        let told = told.says("nothing was written").says("TLS");
        // Not where the authority of the server is unknown here.
        let pass = told.stderr.contains("pass --cert and --key");
        assert_eq!(pass, flags.contains("--cacert"), "{told:#?}");
    }
}
