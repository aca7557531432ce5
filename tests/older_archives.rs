//! Archives in `testdata/older`, made by a release without warning codes, one of them encrypted with a sidecar.

use crate::support::prelude::*;

#[test]
fn archives_from_before_warnings_had_codes_are_listed_verified_and_restored() {
    let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/older");
    let key = older.join("key");
    let (key, dir) = (key.to_str().unwrap(), older.to_str().unwrap());
    let archives = ark(["list", dir, "--json"]).exits(0).json()["archives"].clone();
    let [encrypted, open] = archives.as_array().unwrap().as_slice() else {
        panic!("{archives:#}");
    };
    let removal = "the removal of member 1512e7959dba47fe, this one, is in the log but not known to be committed";
    let size = "the data size is 15.4 kB, over the limit of 1.0 kB: etcd's guide says to get help before an upgrade";
    assert_eq!(open["warnings"], json!([size, removal]));
    let inside = encrypted["warnings"].to_string();
    assert_has(&inside, "1 warning of the capture can be read with a key");

    let story = unpack("mem-b");
    let was = tree(&story.data_dir("mem-b").join("member"));
    for (archive, key) in [(open, vec![]), (encrypted, vec!["-i", key])] {
        let path = archive["archive"].as_str().unwrap();
        let with = |arguments: &[&str]| ark(arguments.iter().chain(&key));
        with(&["verify", path]).exits(0);
        let inside = with(&["inspect", path, "--json"]).exits(0).json();
        assert_eq!(inside["manifest"]["warnings"], json!([size, removal]));
        let scratch = TempDir::new().unwrap();
        let to = scratch.path().join("restored");
        with(&[
            "restore",
            path,
            "--offline",
            "--data-dir",
            to.to_str().unwrap(),
        ])
        .exits(0);
        let restored = tree(&to.join("member"));
        let files = restored.iter().filter(|(_, file)| file.len > 0);
        let same = files.map(|(path, file)| file.sha256 == was[path].sha256);
        assert_eq!(same.collect::<Vec<_>>(), [true; 2]);
        fs::remove_dir_all(&to).unwrap();
    }
    // Without its key too, by what its sidecar says of the ciphertext.
    ark(["verify", encrypted["archive"].as_str().unwrap()]).exits(0);
}
