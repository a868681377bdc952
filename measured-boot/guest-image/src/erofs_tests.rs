use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What stands at a path: mode, links, and content or device.
type Found = (u16, u16, Vec<u8>, u32);

fn number<const N: usize>(image: &[u8], at: usize) -> [u8; N] {
    *image[at..].first_chunk().unwrap()
}

/// A reader of its own: walks from the superblock's root to every file.
fn read(image: &[u8]) -> BTreeMap<String, Found> {
    assert!(image.len().is_multiple_of(BLOCK_BYTES));
    assert_eq!(u32::from_le_bytes(number(image, 1024)), 0xe0f5_e1e2);
    let blocks = u32::from_le_bytes(number(image, 1024 + 36)) as usize;
    assert_eq!(blocks * BLOCK_BYTES, image.len());
    let root = u64::from(u16::from_le_bytes(number(image, 1024 + 14)));
    let mut found = BTreeMap::new();
    walk(image, root, root, "", &mut found);
    let inodes = u64::from_le_bytes(number(image, 1024 + 16));
    assert_eq!(found.len() as u64, inodes);
    found
}

fn walk(image: &[u8], nid: u64, parent: u64, path: &str, found: &mut BTreeMap<String, Found>) {
    let at = usize::try_from(nid).unwrap() * 32;
    assert_eq!(image[at..at + 4], [0; 4]);
    let mode = u16::from_le_bytes(number(image, at + 4));
    let links = u16::from_le_bytes(number(image, at + 6));
    let size = u32::from_le_bytes(number(image, at + 8)) as usize;
    let place = u32::from_le_bytes(number(image, at + 16));
    let content = match size {
        0 => Vec::new(),
        _ => image[place as usize * BLOCK_BYTES..][..size].to_vec(),
    };
    if mode & 0o170_000 == 0o040_000 {
        let mut last: Option<Vec<u8>> = None;
        for (name, below, kind) in entries(&content) {
            assert!(last.is_none_or(|last| last < name), "not sorted");
            last = Some(name.clone());
            match name.as_slice() {
                b"." => assert_eq!((below, kind), (nid, 2)),
                b".." => assert_eq!((below, kind), (parent, 2)),
                _ => {
                    let name = String::from_utf8(name).unwrap();
                    walk(image, below, nid, &format!("{path}/{name}"), found);
                }
            }
        }
    }
    let device = if size == 0 { place } else { 0 };
    found.insert(path.to_owned(), (mode, links, content, device));
}

/// Entries of a folder: name, inode, type.
fn entries(content: &[u8]) -> Vec<(Vec<u8>, u64, u8)> {
    let mut found = Vec::new();
    for block in content.chunks(BLOCK_BYTES) {
        let first = usize::from(u16::from_le_bytes(number(block, 8)));
        let starts: Vec<usize> = (0..first / 12)
            .map(|index| usize::from(u16::from_le_bytes(number(block, index * 12 + 8))))
            .collect();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(block.len());
            let name = block[*start..end].split(|byte| *byte == 0).next();
            let nid = u64::from_le_bytes(number(block, index * 12));
            found.push((name.unwrap().to_vec(), nid, block[index * 12 + 10]));
        }
    }
    found
}

fn sample() -> Vec<Entry> {
    vec![
        Entry::directory("etc"),
        Entry::directory("etc/-x"),
        Entry::file("etc/motd", 0o644, b"hello".to_vec()),
        Entry::file("empty", 0o600, Vec::new()),
        Entry::file("large", 0o755, vec![7; 3 * BLOCK_BYTES + 1]),
        Entry {
            path: "etc/link".to_owned(),
            mode: 0o777,
            kind: EntryKind::Symlink("../run/x".to_owned()),
        },
        Entry {
            path: "console".to_owned(),
            mode: 0o600,
            kind: EntryKind::CharacterDevice { major: 5, minor: 1 },
        },
    ]
}

#[test]
fn every_file_is_found_from_the_root() {
    let found = read(&write_erofs(&sample()).unwrap());
    let of = |path: &str| found.get(path).unwrap().clone();
    assert_eq!(found.len(), 8);
    assert_eq!((of("").0, of("").1), (0o040_755, 3));
    assert_eq!((of("/etc").0, of("/etc").1), (0o040_755, 3));
    assert_eq!(of("/etc/-x").1, 2);
    assert_eq!(of("/etc/motd"), (0o100_644, 1, b"hello".to_vec(), 0));
    assert_eq!(of("/empty"), (0o100_600, 1, Vec::new(), 0));
    assert_eq!(of("/large").2, vec![7; 3 * BLOCK_BYTES + 1]);
    assert_eq!(of("/etc/link"), (0o120_777, 1, b"../run/x".to_vec(), 0));
    assert_eq!(of("/console"), (0o020_600, 1, Vec::new(), 0x501));
}

#[test]
fn the_order_of_the_entries_does_not_matter() {
    let mut reversed = sample();
    reversed.reverse();
    assert_eq!(
        write_erofs(&sample()).unwrap(),
        write_erofs(&reversed).unwrap()
    );
}

#[test]
fn a_folder_may_need_many_blocks() {
    let names: Vec<String> = (0..1000)
        .map(|n| format!("a-rather-long-name-{n}"))
        .collect();
    let entries: Vec<Entry> = names
        .iter()
        .map(|name| Entry::file(name, 0o644, name.clone().into_bytes()))
        .collect();
    let found = read(&write_erofs(&entries).unwrap());
    assert_eq!(found.len(), 1001);
    for name in names {
        assert_eq!(found[&format!("/{name}")].2, name.as_bytes());
    }
}

#[test]
fn paths_that_no_file_system_has_are_refused() {
    for path in ["", "/a", "a/../b", "a\0b"] {
        assert!(write_erofs(&[Entry::directory(path)]).is_err(), "{path:?}");
    }
    let long = "x".repeat(256);
    assert!(write_erofs(&[Entry::directory(&long)]).is_err());
    assert!(write_erofs(&[Entry::directory(&long[1..])]).is_ok());
    assert!(write_erofs(&[Entry::file("a/b", 0o644, Vec::new())]).is_err());
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(
        files in proptest::collection::btree_map("[a-z.-]{3,40}", proptest::collection::vec(any::<u8>(), 0..9000), 0..40)
    ) {
        let mut entries = vec![Entry::directory("d")];
        entries.extend(files.iter().map(|(path, bytes)| {
            Entry::file(&format!("d/{path}"), 0o644, bytes.clone())
        }));
        let files: BTreeMap<_, _> = files.into_iter().filter(|(path, _)| path != "...").collect();
        let found = read(&write_erofs(&entries).unwrap());
        for (path, bytes) in files {
            prop_assert_eq!(&found[&format!("/d/{path}")].2, &bytes);
        }
    }
}
