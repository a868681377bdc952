//! What holds for archives of any shape.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Tar, unpack, unpack_with};
use crate::options::UnpackOptions;

fn name_part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(".wh.a".to_owned()),
        1 => Just(".wh..wh..opq".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(name_part(), 1..4).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the order and the targets: nothing outside is touched
    /// (checked by every unpacking in this file), and nothing panics.
    #[test]
    fn no_sequence_of_entries_touches_the_outside(
        entries in proptest::collection::vec((0..6_u8, name(), name()), 1..20)
    ) {
        let mut tar = Tar::default();
        for (kind, name, target) in &entries {
            tar = match kind {
                0 => tar.file(name, b"data"),
                1 => tar.dir(name),
                2 => tar.symlink(name, target),
                3 => tar.symlink(name, &format!("/{target}")),
                4 => tar.hard_link(name, target),
                _ => tar.symlink(name, "../../outside"),
            };
        }
        let _ = unpack(tar);
    }

    #[test]
    fn changed_bytes_never_make_the_reader_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut archive = Tar::default()
            .pax(&[("path", b"dir/pax"), ("SCHILY.xattr.user.x", b"1")])
            .file("x", b"data")
            .hard_link("y", "dir/pax")
            .finish();
        for (position, byte) in changes {
            *position.get_mut(&mut archive) = byte;
        }
        let _ = unpack_with(&archive, &UnpackOptions::default());
    }

    /// A plain tree comes out as it went in.
    #[test]
    fn a_tree_of_files_round_trips(
        files in proptest::collection::btree_map(
            "[a-d]{1,3}(/[e-h]{1,3}){0,2}/[i-z]{1,8}",
            proptest::collection::vec(any::<u8>(), 0..1500),
            0..12,
        )
    ) {
        let mut tar = Tar::default();
        for (name, data) in &files {
            tar = tar.file(name, data);
        }
        let unpacked = unpack(tar).unwrap();
        let mut found = BTreeMap::new();
        for name in files.keys() {
            found.insert(name.clone(), std::fs::read(unpacked.path(name)).unwrap());
        }
        prop_assert_eq!(found, files);
    }
}
