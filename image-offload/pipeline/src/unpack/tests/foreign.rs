//! The same tree by this extractor and by others: a listing of a file system made by
//! `mkfs.erofs`, and what `umoci` makes of generated archives.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use serde::Deserialize;
use tar::{EntryType, Header};

use super::{Tar, unpack_with};
use crate::digest::Digest;
use crate::errors::ImageError;
use crate::host::OciLayout;
use crate::options::UnpackOptions;

/// Everything that two unpackers must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attributes {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    device: u64,
    mtime: i64,
    target: Option<Vec<u8>>,
    content: Option<String>,
    xattrs: BTreeMap<String, String>,
}

fn attributes(path: &Path) -> Attributes {
    let found = path.symlink_metadata().unwrap();
    let kind = found.file_type();
    let node = kind.is_char_device() || kind.is_block_device();
    Attributes {
        mode: found.mode(),
        owner: (found.uid(), found.gid()),
        // Directories are counted differently by different file systems.
        links: if kind.is_dir() { 0 } else { found.nlink() },
        device: if node { found.rdev() } else { 0 },
        mtime: found.mtime(),
        target: kind.is_symlink().then(|| {
            std::fs::read_link(path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec()
        }),
        content: kind
            .is_file()
            .then(|| Digest::of(&std::fs::read(path).unwrap()).to_string()),
        xattrs: xattrs(path),
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = &names[..length];
    names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = [0; 4096];
            let length =
                rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            let name = String::from_utf8(name.to_vec()).unwrap();
            (name, hex::encode(&value[..length]))
        })
        .collect()
}

/// Every entry below a folder by its name from there.
fn listing(root: &Path) -> BTreeMap<String, Attributes> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            found.insert(name, attributes(&path));
            if path.symlink_metadata().unwrap().is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// One entry of the listing, as its maker wrote it.
#[derive(Deserialize)]
struct Listed {
    path: String,
    mode: String,
    uid: u32,
    gid: u32,
    nlink: u64,
    target: Option<String>,
    rdev: Option<(u32, u32)>,
    sha256: Option<String>,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
}

impl Listed {
    fn attributes(self) -> Attributes {
        let mode = u32::from_str_radix(self.mode.trim_start_matches("0o"), 8).unwrap();
        let directory = mode & 0o170_000 == 0o040_000;
        Attributes {
            mode,
            owner: (self.uid, self.gid),
            links: if directory { 0 } else { self.nlink },
            device: self
                .rdev
                .map_or(0, |(major, minor)| rustix::fs::makedev(major, minor)),
            mtime: 1_700_000_000,
            target: self.target.map(String::into_bytes),
            content: self.sha256.map(|digest| format!("sha256:{digest}")),
            xattrs: self.xattrs,
        }
    }
}

fn test_file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/tree")
        .join(name);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

const OVERLAY_ATTRIBUTE: &[u8] = b"trusted.overlay.opaque";
const OTHER_ATTRIBUTE: &[u8] = b"trusted.another.opaque";

/// The entry for which an archive is refused.
fn refused_entry(archive: &[u8]) -> String {
    match unpack_with(archive, &UnpackOptions::default()) {
        Err(ImageError::Entry { path, .. }) => path,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("unpacked"),
    }
}

/// Makes major number 0 of a device's header a 1, and the checksum right again.
fn give_another_major_number(archive: &mut [u8], name: &[u8]) {
    let header = archive
        .chunks_exact_mut(512)
        .find(|block| block.starts_with(name))
        .unwrap();
    let mut header_fields = Header::from_byte_slice(header).clone();
    assert_eq!(header_fields.device_major().unwrap(), Some(0));
    header_fields.set_device_major(1).unwrap();
    header_fields.set_cksum();
    header.copy_from_slice(header_fields.as_bytes());
}

#[test]
fn a_tree_comes_out_as_the_file_system_that_others_made_of_it() {
    let mut archive = test_file("tree.tar.gz");
    // What could steer the overlay file system is refused: first the device that it takes for a
    // whiteout, which becomes an ordinary device for the rest ...
    assert_eq!(refused_entry(&archive), "./dir/wh");
    give_another_major_number(&mut archive, b"./dir/wh\0");
    // ... then its attribute, which under another name is one like others.
    assert_eq!(refused_entry(&archive), "./opaque/");
    let place = archive
        .windows(OVERLAY_ATTRIBUTE.len())
        .position(|window| window == OVERLAY_ATTRIBUTE)
        .unwrap();
    archive[place..place + OTHER_ATTRIBUTE.len()].copy_from_slice(OTHER_ATTRIBUTE);
    let unpacked = unpack_with(&archive, &UnpackOptions::default()).unwrap();

    let listed: Vec<Listed> = serde_json::from_slice(&test_file("tree.json.gz")).unwrap();
    assert_eq!(listed.len(), 315);
    let mut expected: BTreeMap<String, Attributes> = listed
        .into_iter()
        .filter(|entry| entry.path != "/")
        .map(|entry| (entry.path[1..].to_owned(), entry.attributes()))
        .collect();
    expected.get_mut("dir/wh").unwrap().device = rustix::fs::makedev(1, 0);
    let opaque = expected.get_mut("opaque").unwrap();
    let value = opaque.xattrs.remove("trusted.overlay.opaque").unwrap();
    opaque
        .xattrs
        .insert("trusted.another.opaque".to_owned(), value);
    let found = listing(&unpacked.path("."));
    for (name, attributes) in &expected {
        assert_eq!(found.get(name), Some(attributes), "{name}");
    }
    assert_eq!(found.len(), expected.len());
}

/// One entry of a generated archive.
#[derive(Clone, Debug)]
enum Made {
    File(Vec<u8>, u32, u32, u64),
    Directory(u32, u64),
    Symlink(String),
    HardLink(prop::sample::Index),
    Fifo,
    Device(bool, u32, u32),
    Attribute(Vec<u8>),
}

fn made() -> impl Strategy<Value = Made> {
    let data = || proptest::collection::vec(any::<u8>(), 0..700);
    let time = || 0..4_000_000_000_u64;
    prop_oneof![
        3 => (data(), 0..0o10_000_u32, 0..70_000_u32, time())
            .prop_map(|(data, mode, owner, mtime)| Made::File(data, mode, owner, mtime)),
        2 => (0o700..0o2_000_u32, time()).prop_map(|(mode, mtime)| Made::Directory(mode, mtime)),
        1 => "[a-z./]{1,40}".prop_map(Made::Symlink),
        1 => any::<prop::sample::Index>().prop_map(Made::HardLink),
        1 => Just(Made::Fifo),
        1 => (any::<bool>(), 1..250_u32, 0..250_u32)
            .prop_map(|(block, major, minor)| Made::Device(block, major, minor)),
        1 => data().prop_map(Made::Attribute),
    ]
}

/// An archive of these entries, each in a folder of its own or at the top.
fn archive(entries: &[(bool, Made)]) -> Vec<u8> {
    let mut tar = Tar::default();
    let mut files = Vec::new();
    for (number, (nested, made)) in entries.iter().enumerate() {
        let mut name = format!("e{number}");
        if *nested {
            tar = tar.dir(&format!("d{number}/"));
            name = format!("d{number}/{name}");
        }
        let with = |kind, mode: u32, owner: u32, mtime: u64| {
            let mut header = Tar::header(kind, &name);
            header.set_mode(mode);
            header.set_uid(owner.into());
            header.set_gid((owner / 2).into());
            header.set_mtime(mtime);
            header
        };
        tar = match made {
            Made::File(data, mode, owner, mtime) => {
                files.push(name.clone());
                let mut header = with(EntryType::Regular, *mode, *owner, *mtime);
                header.set_size(data.len() as u64);
                tar.raw(header, data)
            }
            Made::Directory(mode, mtime) => {
                tar.raw(with(EntryType::Directory, *mode, 7, *mtime), b"")
            }
            Made::Symlink(target) => tar.symlink(&name, target),
            Made::HardLink(_) if files.is_empty() => tar,
            Made::HardLink(to) => tar.hard_link(&name, to.get(files.as_slice()).as_str()),
            Made::Fifo => tar.entry(EntryType::Fifo, &name),
            Made::Device(true, major, minor) => tar.device(EntryType::Block, &name, *major, *minor),
            Made::Device(false, major, minor) => tar.device(EntryType::Char, &name, *major, *minor),
            Made::Attribute(value) => tar
                .pax(&[("SCHILY.xattr.user.made", value)])
                .file(&name, b"with an attribute"),
        };
    }
    tar.finish()
}

/// What `umoci` makes of a layer, as an image of that layer alone.
fn unpacked_by_umoci(folder: &Path, archive: &[u8]) -> BTreeMap<String, Attributes> {
    let layout = OciLayout::create(&folder.join("layout")).unwrap();
    let layer = layout.write_blob(archive).unwrap().to_string();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let config = config.to_string();
    let config_digest = layout.write_blob(config.as_bytes()).unwrap().to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest, "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer, "size": archive.len(),
        }],
    });
    let manifest = manifest.to_string();
    let digest = layout.write_blob(manifest.as_bytes()).unwrap();
    layout
        .add_manifest(digest, manifest.len() as u64, Some("it"))
        .unwrap();
    let output = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:it", folder.join("layout").display()))
        .arg(folder.join("bundle"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "umoci: {said}");
    listing(&folder.join("bundle/rootfs"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn generated_archives_come_out_as_umoci_unpacks_them(
        entries in proptest::collection::vec((any::<bool>(), made()), 1..16)
    ) {
        let archive = archive(&entries);
        let unpacked = unpack_with(&archive, &UnpackOptions::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let theirs = unpacked_by_umoci(folder.path(), &archive);
        prop_assert_eq!(listing(&unpacked.path(".")), theirs);
    }
}
