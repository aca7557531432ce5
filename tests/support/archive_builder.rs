//! Builds archives from the format's documentation: valid ones, and ones made to do harm.
//!
//! In: an archive that the tool made, taken apart with `zstd` and `tar`; then a test's changes. Out: bytes of an
//! archive with valid digests again, made by its own code: tar headers, frames, seal and seek table.

use std::io::Read as _;
use std::path::Path;

use fs_err as fs;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Tar's entry kinds.
pub const REGULAR: u8 = b'0';
pub const HARD_LINK: u8 = b'1';
pub const SYMLINK: u8 = b'2';
pub const CHAR_DEVICE: u8 = b'3';
pub const FIFO: u8 = b'6';

const BLOCK: usize = 512;

#[derive(Clone, Debug)]
pub struct Entry {
    pub path: String,
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub link: String,
    pub data: Vec<u8>,
}

impl Entry {
    pub fn file(path: &str, data: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            kind: REGULAR,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: 0,
            link: String::new(),
            data: data.to_vec(),
        }
    }

    /// A ustar header and the data, padded to whole blocks.
    fn bytes(&self) -> Vec<u8> {
        let mut block = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| {
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, &self.path);
        put(100, &format!("{:07o}", self.mode));
        put(108, &format!("{:07o}", self.uid));
        put(116, &format!("{:07o}", self.gid));
        put(124, &format!("{:011o}", self.data.len()));
        put(136, &format!("{:011o}", self.mtime));
        put(148, "        ");
        put(157, &self.link);
        put(257, "ustar\x0000");
        block[156] = self.kind;
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = block.to_vec();
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

/// One compressed frame and what the seek table says of it.
#[derive(Clone, Debug)]
pub struct Packed {
    pub bytes: Vec<u8>,
    pub plain: u32,
}

impl Packed {
    pub fn of(plain: &[u8]) -> Self {
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        compressor.include_checksum(true).unwrap();
        Self {
            bytes: compressor.compress(plain).unwrap(),
            plain: plain.len() as u32,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Forge {
    /// Everything before the manifest, but for `SHA256SUMS`, which is made.
    pub entries: Vec<Entry>,
    pub manifest: Value,
    /// Written as `SHA256SUMS`, in place of what the entries have.
    pub raw_sums: Option<String>,
    /// Written in place of the manifest, byte for byte.
    pub raw_manifest: Option<Vec<u8>>,
    /// Entries behind the manifest.
    pub behind_manifest: Vec<Entry>,
    /// Bytes behind the tar stream's end.
    pub behind_end: Vec<u8>,
    pub seal_version: u8,
}

impl Forge {
    /// Takes apart an archive that the tool made.
    pub fn of(archive: &Path) -> Self {
        let mut tar = Vec::new();
        let mut unzstd =
            zstd::stream::read::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
        unzstd.read_to_end(&mut tar).unwrap();
        let mut forge = Self {
            entries: Vec::new(),
            manifest: Value::Null,
            raw_sums: None,
            raw_manifest: None,
            behind_manifest: Vec::new(),
            behind_end: Vec::new(),
            seal_version: 1,
        };
        for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            let header = entry.header();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            match path.as_str() {
                "SHA256SUMS" => {}
                "manifest.json" => forge.manifest = serde_json::from_slice(&data).unwrap(),
                _ => forge.entries.push(Entry {
                    kind: header.entry_type().as_byte(),
                    mode: header.mode().unwrap(),
                    uid: header.uid().unwrap() as u32,
                    gid: header.gid().unwrap() as u32,
                    mtime: header.mtime().unwrap(),
                    link: String::new(),
                    path,
                    data,
                }),
            }
        }
        forge
    }

    pub fn entry(&mut self, part: &str) -> &mut Entry {
        let found = self
            .entries
            .iter_mut()
            .find(|entry| entry.kind == REGULAR && entry.path.contains(part));
        found.unwrap_or_else(|| panic!("no entry {part}"))
    }

    /// The manifest's entry of the file with `part` in its path.
    pub fn listed(&mut self, part: &str) -> &mut Value {
        let files = self.manifest["files"].as_array_mut().unwrap();
        let found = files
            .iter_mut()
            .find(|file| file["path"].as_str().unwrap().contains(part));
        found.unwrap_or_else(|| panic!("the manifest lists no {part}"))
    }

    /// Adds an entry and lists it as a leftover.
    pub fn add(&mut self, entry: Entry) {
        self.manifest["files"].as_array_mut().unwrap().push(json!({
            "path": entry.path, "size": entry.data.len(), "mode": entry.mode, "uid": entry.uid, "gid": entry.gid,
            "mtime": "1970-01-01T00:00:00Z", "sha256": hex(&Sha256::digest(&entry.data)), "role": "leftover",
        }));
        self.entries.push(entry);
    }

    /// Makes the manifest's sizes and digests those of the entries with the same paths.
    pub fn relist(&mut self) {
        for entry in self.entries.clone() {
            for file in self.manifest["files"].as_array_mut().unwrap() {
                if file["path"] == entry.path {
                    file["size"] = json!(entry.data.len());
                    file["sha256"] = json!(hex(&Sha256::digest(&entry.data)));
                }
            }
        }
    }

    /// The tar stream's two parts: everything before the manifest, and the rest.
    pub fn tar(&self) -> (Vec<u8>, Vec<u8>) {
        let mut content: Vec<u8> = self.entries.iter().flat_map(Entry::bytes).collect();
        let mut sums = String::new();
        for file in self.manifest["files"].as_array().unwrap() {
            let text = |name: &str| file[name].as_str().unwrap().to_owned();
            sums += &[
                text("sha256"),
                "  ".to_owned(),
                text("path"),
                "\n".to_owned(),
            ]
            .concat();
        }
        content.extend(
            Entry::file(
                "SHA256SUMS",
                self.raw_sums.as_ref().unwrap_or(&sums).as_bytes(),
            )
            .bytes(),
        );
        let json = serde_json::to_vec_pretty(&self.manifest).unwrap();
        let json = self.raw_manifest.as_ref().unwrap_or(&json);
        let mut last = Entry::file("manifest.json", json).bytes();
        last.extend(self.behind_manifest.iter().flat_map(Entry::bytes));
        last.resize(last.len() + 2 * BLOCK, 0);
        last.extend_from_slice(&self.behind_end);
        (content, last)
    }

    /// The frames, the content cut into several as in a large archive.
    pub fn frames(&self) -> Vec<Packed> {
        let (content, last) = self.tar();
        let mut frames: Vec<_> = content.chunks(4096).map(Packed::of).collect();
        frames.push(Packed::of(&last));
        frames
    }

    pub fn bytes(&self) -> Vec<u8> {
        seal(&self.frames(), self.seal_version)
    }
}

/// The frames with a seal and a seek table behind them, every digest right.
pub fn seal(frames: &[Packed], version: u8) -> Vec<u8> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let count = frames.len() as u32;
    let seal_payload = 12 + 32 * (count + 1);
    let mut seal = words(&[0x184D_2A5A, seal_payload]);
    seal.extend_from_slice(b"etcdark");
    seal.push(version);
    seal.extend(words(&[count]));
    let mut table = words(&[0x184D_2A5E, 8 * (count + 1) + 9]);
    for frame in frames {
        seal.extend_from_slice(&Sha256::digest(&frame.bytes));
        table.extend(words(&[frame.bytes.len() as u32, frame.plain]));
    }
    table.extend(words(&[seal_payload + 8, 0, count + 1]));
    table.push(0);
    table.extend(words(&[0x8F92_EAB1]));
    let mut whole = Sha256::new();
    whole.update(&seal);
    whole.update(&table);
    let mut archive: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame.bytes.clone())
        .collect();
    archive.extend_from_slice(&seal);
    archive.extend_from_slice(&whole.finalize());
    archive.extend_from_slice(&table);
    archive
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}
