//! What ordinary archives become, and how hostile ones end.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use tar::EntryType;

use super::super::{ArchiveStream, extract};
use super::{Tar, problem, unpack, unpack_with};
use crate::errors::{EntryProblem, ImageError};
use crate::interrupt::Interrupt;
use crate::options::{AbsoluteNames, Devices, UnpackOptions};

#[test]
fn files_keep_content_owner_mode_and_time() {
    let mut header = Tar::header(EntryType::Regular, "dir/file");
    header.set_size(3);
    header.set_mode(0o6751);
    header.set_uid(1234);
    header.set_gid(5678);
    let unpacked = unpack(Tar::default().dir("dir/").raw(header, b"abc")).unwrap();
    assert_eq!(unpacked.text("dir/file"), "abc");
    let found = unpacked.stat("dir/file");
    assert_eq!((found.uid(), found.gid()), (1234, 5678));
    assert_eq!(found.mode() & 0o7777, 0o6751);
    assert_eq!(found.mtime(), 1_600_000_000);
    assert_eq!(unpacked.stat("dir").mtime(), 1_600_000_000);
    assert_eq!(unpacked.entries, 2);
    assert_eq!(unpacked.implicit, ["."]);
}

#[test]
fn links_point_where_they_should() {
    let unpacked = unpack(
        Tar::default()
            .file("a/file", b"abc")
            .hard_link("b/relative", "a/file")
            .hard_link("b/absolute", "/a/file")
            .hard_link("a/file", "a/file")
            .symlink("dangling", "/no/where")
            .symlink("up", "../../outside/victim")
            .hard_link("b/link", "up"),
    )
    .unwrap();
    assert_eq!(unpacked.stat("a/file").nlink(), 3);
    assert_eq!(unpacked.text("b/absolute"), "abc");
    assert_eq!(
        std::fs::read_link(unpacked.path("dangling")).unwrap(),
        Path::new("/no/where")
    );
    assert_eq!(unpacked.stat("dangling").mtime(), 1_600_000_000);
    assert!(unpacked.stat("b/link").is_symlink());
    assert_eq!(unpacked.implicit, [".", "a", "b"]);
}

#[test]
fn devices_and_fifos_are_created_or_refused_as_chosen() {
    let tar = || {
        Tar::default()
            .device(EntryType::Char, "null", 1, 3)
            .device(EntryType::Block, "disk", 8, 0)
            .entry(EntryType::Fifo, "fifo")
    };
    let unpacked = unpack(tar()).unwrap();
    assert!(unpacked.stat("null").file_type().is_char_device());
    assert_eq!(unpacked.stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(unpacked.stat("disk").file_type().is_block_device());
    assert!(unpacked.stat("fifo").file_type().is_fifo());
    assert_eq!(unpacked.stat("fifo").mode() & 0o7777, 0o644);
    let refuse = UnpackOptions {
        devices: Devices::Refuse,
        ..UnpackOptions::default()
    };
    assert!(matches!(
        unpack_with(&tar().finish(), &refuse),
        Err(ImageError::Entry {
            reason: EntryProblem::DeviceRefused,
            ..
        })
    ));
    assert_eq!(
        problem(Tar::default().device(EntryType::Char, "x", 0, 0)),
        EntryProblem::DeviceNumber
    );
    assert_eq!(
        problem(Tar::default().device(EntryType::Block, "x", 5000, 0)),
        EntryProblem::DeviceNumber
    );
}

#[test]
fn extended_attributes_and_capabilities_are_kept() {
    // VFS_CAP_REVISION_2, effective, CAP_NET_BIND_SERVICE.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let unpacked = unpack(
        Tar::default()
            .pax(&[
                ("SCHILY.xattr.security.capability", &capability),
                ("SCHILY.xattr.trusted.note", b"line\nline"),
            ])
            .file("ping", b"program")
            .pax(&[("SCHILY.xattr.trusted.note", b"on a link")])
            .symlink("link", "ping")
            .pax(&[("SCHILY.xattr.trusted.note", b"on a directory")])
            .dir("dir/"),
    )
    .unwrap();
    assert_eq!(
        unpacked.xattr("ping", "security.capability").unwrap(),
        capability
    );
    assert_eq!(
        unpacked.xattr("ping", "trusted.note").unwrap(),
        b"line\nline"
    );
    assert_eq!(
        unpacked.xattr("link", "trusted.note").unwrap(),
        b"on a link"
    );
    assert_eq!(
        unpacked.xattr("dir", "trusted.note").unwrap(),
        b"on a directory"
    );
}

#[test]
fn attributes_of_the_overlay_file_system_are_refused() {
    for name in [
        "trusted.overlay.redirect",
        "trusted.overlay.opaque",
        "user.overlay.whiteout",
        "",
    ] {
        let key = format!("SCHILY.xattr.{name}");
        let tar = Tar::default().pax(&[(&key, b"/etc")]).dir("dir/");
        assert_eq!(problem(tar), EntryProblem::Xattr, "{name}");
    }
}

#[test]
fn long_names_of_both_dialects_are_read() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut gnu = Tar::header(EntryType::GNULongName, "././@LongLink");
    let data = format!("{long}-gnu\0");
    gnu.set_size(data.len() as u64);
    let unpacked = unpack(
        Tar::default()
            .pax(&[
                ("path", long.as_bytes()),
                ("mtime", b"1500000000.5"),
                ("uid", b"3000000"),
            ])
            .file("short", b"pax")
            .raw(gnu, data.as_bytes())
            .file("short", b"gnu"),
    )
    .unwrap();
    assert_eq!(unpacked.text(&long), "pax");
    assert_eq!(unpacked.text(&format!("{long}-gnu")), "gnu");
    let found = unpacked.stat(&long);
    assert_eq!(
        (found.mtime(), found.mtime_nsec()),
        (1_500_000_000, 500_000_000)
    );
    assert_eq!(found.uid(), 3_000_000);
}

#[test]
fn the_size_of_an_extended_header_wins_over_the_plain_one() {
    // Readers that disagree here see two different archives.
    let mut header = Tar::header(EntryType::Regular, "file");
    header.set_size(0);
    let unpacked = unpack(
        Tar::default()
            .pax(&[("size", b"5")])
            .raw(header, b"12345")
            .file("next", b"n"),
    )
    .unwrap();
    assert_eq!(unpacked.text("file"), "12345");
    assert_eq!(unpacked.text("next"), "n");
}

#[test]
fn names_that_leave_are_refused() {
    for name in ["../outside/victim", "a/../../outside/victim", ".."] {
        assert_eq!(
            problem(Tar::default().file(name, b"evil")),
            EntryProblem::Traversal,
            "{name}"
        );
        assert_eq!(
            problem(Tar::default().dir(name)),
            EntryProblem::Traversal,
            "{name}"
        );
        assert_eq!(
            problem(Tar::default().symlink(name, "x")),
            EntryProblem::Traversal,
            "{name}"
        );
    }
    assert_eq!(
        problem(Tar::default().file("/etc/evil", b"")),
        EntryProblem::AbsoluteName
    );
    let inside = UnpackOptions {
        absolute_names: AbsoluteNames::InsideRoot,
        ..UnpackOptions::default()
    };
    let unpacked = unpack_with(&Tar::default().file("/etc/file", b"x").finish(), &inside).unwrap();
    assert_eq!(unpacked.text("etc/file"), "x");
}

#[test]
fn symbolic_links_lead_nobody_out() {
    for target in [
        "/",
        "/tmp",
        "..",
        "../outside",
        "inside/../../outside",
        "/proc/self/root",
    ] {
        let tar = || Tar::default().dir("inside/").symlink("way", target);
        assert_eq!(
            problem(tar().file("way/victim", b"evil")),
            EntryProblem::SymlinkEscape,
            "{target}"
        );
        assert_eq!(
            problem(tar().dir("way/new/")),
            EntryProblem::SymlinkEscape,
            "{target}"
        );
        assert_eq!(
            problem(tar().hard_link("stolen", "way/victim")),
            EntryProblem::HardLinkEscape,
            "{target}"
        );
    }
    let chain = Tar::default()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", b"");
    assert_eq!(problem(chain), EntryProblem::SymlinkEscape);
}

#[test]
fn a_symbolic_link_inside_the_layer_may_be_on_the_way() {
    let unpacked = unpack(
        Tar::default()
            .dir("usr/")
            .dir("usr/lib/")
            .symlink("lib", "usr/lib")
            .file("lib/x", b"x"),
    )
    .unwrap();
    assert_eq!(unpacked.text("usr/lib/x"), "x");
    assert!(unpacked.stat("lib").is_symlink());
}

#[test]
fn writing_to_a_name_replaces_a_link_and_does_not_follow_it() {
    let unpacked = unpack(
        Tar::default()
            .symlink("file", "../outside/victim")
            .file("file", b"own")
            .dir("file2"),
    )
    .unwrap();
    assert!(unpacked.stat("file").is_file());
    assert_eq!(unpacked.text("file"), "own");
}

#[test]
fn hard_links_stay_inside() {
    for target in ["../outside/victim", "a/../../outside/victim"] {
        let tar = Tar::default().hard_link("stolen", target);
        assert_eq!(problem(tar), EntryProblem::HardLinkEscape, "{target}");
    }
    let absent = Tar::default().hard_link("x", "/etc/passwd");
    assert_eq!(problem(absent), EntryProblem::HardLinkTargetMissing);
    let directory = Tar::default().dir("d/").hard_link("x", "d");
    assert_eq!(problem(directory), EntryProblem::HardLinkTarget);
    let whiteout = Tar::default().file(".wh.gone", b"").hard_link("x", "gone");
    assert_eq!(problem(whiteout), EntryProblem::HardLinkTarget);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let unpacked = unpack(
        Tar::default()
            .file("file-then-dir", b"x")
            .dir("file-then-dir/")
            .file("file-then-dir/inside", b"y")
            .dir("dir-then-file/")
            .file("dir-then-file/deep/er", b"x")
            .file("dir-then-file", b"now a file")
            .file("twice", b"long content")
            .file("twice", b"short"),
    )
    .unwrap();
    assert_eq!(unpacked.text("file-then-dir/inside"), "y");
    assert_eq!(unpacked.text("dir-then-file"), "now a file");
    assert_eq!(unpacked.text("twice"), "short");
}

#[test]
fn whiteouts_become_marks_of_the_overlay_file_system() {
    let unpacked = unpack(
        Tar::default()
            .file(".wh.gone", b"")
            .dir("opaque/")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/new", b"x")
            .dir("both/")
            .file("both/new", b"x")
            .file(".wh.both", b"")
            .file(".wh.reborn", b"")
            .dir("reborn/")
            .file("kept", b"x")
            .file(".wh.kept", b"")
            .file(".wh..wh.plnk", b""),
    )
    .unwrap();
    assert!(unpacked.is_whiteout("gone"));
    assert_eq!(unpacked.text("kept"), "x");
    for name in ["opaque", "both", "reborn"] {
        assert_eq!(
            unpacked.xattr(name, crate::unpack::OPAQUE_XATTR).unwrap(),
            b"y",
            "{name}"
        );
    }
    assert_eq!(unpacked.text("both/new"), "x");
    assert!(!unpacked.path(".wh..wh.plnk").exists());
    for name in [".wh.", ".wh..", ".wh..."] {
        assert_eq!(
            problem(Tar::default().file(name, b"")),
            EntryProblem::Whiteout,
            "{name}"
        );
    }
}

#[test]
fn sparse_files_of_all_formats_have_the_same_content() {
    let mut expected = vec![0; 3000];
    expected[1000..1005].copy_from_slice(b"hello");
    let data = b"hello";
    let mut old = Tar::header(EntryType::GNUSparse, "old");
    old.set_size(5);
    let gnu = old.as_gnu_mut().unwrap();
    gnu.sparse[0].offset[..12].copy_from_slice(b"00000001750\0");
    gnu.sparse[0].numbytes[..12].copy_from_slice(b"00000000005\0");
    gnu.realsize.copy_from_slice(b"00000005670\0");
    let mut inline = b"1\n1000\n5\n".to_vec();
    inline.resize(512, 0);
    inline.extend_from_slice(data);
    let unpacked = unpack(
        Tar::default()
            .raw(old, data)
            .pax(&[
                ("GNU.sparse.name", b"zero-one"),
                ("GNU.sparse.size", b"3000"),
                ("GNU.sparse.map", b"1000,5"),
            ])
            .file("x", data)
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"one"),
                ("GNU.sparse.realsize", b"3000"),
            ])
            .file("x", &inline)
            .file("after", b"ok"),
    )
    .unwrap();
    for name in ["old", "zero-one", "one"] {
        assert_eq!(
            std::fs::read(unpacked.path(name)).unwrap(),
            expected,
            "{name}"
        );
    }
    assert_eq!(unpacked.text("after"), "ok");
    let beyond = Tar::default()
        .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"1000,5")])
        .file("x", data);
    assert_eq!(problem(beyond), EntryProblem::Sparse);
}

#[test]
fn a_sparse_file_cannot_claim_any_size() {
    let tar = Tar::default()
        .pax(&[
            ("GNU.sparse.size", b"9223372036854775807"),
            ("GNU.sparse.map", b"0,1"),
        ])
        .file("x", b"y");
    assert!(matches!(
        unpack(tar),
        Err(ImageError::UnpackedTooLarge { .. })
    ));
}

#[test]
fn broken_archives_are_refused() {
    let good = Tar::default().file("file", &[7; 2000]).finish();
    let archive = |bytes: &[u8]| {
        let result = unpack_with(bytes, &UnpackOptions::default());
        assert!(
            matches!(result, Err(ImageError::Archive { .. })),
            "{:?}",
            result.err()
        );
    };
    archive(&good[..700]);
    archive(&good[..300]);
    let mut checksum = good.clone();
    checksum[0] ^= 1;
    archive(&checksum);
    let mut single_zero_block = vec![0; 512];
    single_zero_block.extend_from_slice(&good);
    archive(&single_zero_block);
    archive(&Tar::default().pax(&[("path", b"x")]).finish());
    let mut huge = Tar::header(EntryType::GNULongName, "././@LongLink");
    huge.set_size(2 << 20);
    archive(&Tar::default().raw(huge, &vec![b'a'; 2 << 20]).finish());
    let mut bottomless = Tar::header(EntryType::Regular, "x");
    bottomless.set_size(u64::MAX >> 1);
    archive(&Tar::default().raw(bottomless, b"").finish());
}

#[test]
fn impossible_entries_are_refused() {
    assert_eq!(
        problem(Tar::default().symlink("x", "")),
        EntryProblem::SymlinkTarget
    );
    assert_eq!(
        problem(Tar::default().symlink("./", "x")),
        EntryProblem::InvalidName
    );
    assert_eq!(
        problem(Tar::default().entry(EntryType::new(b'Z'), "x")),
        EntryProblem::Type
    );
    let owner = Tar::default().pax(&[("uid", b"4294967295")]).file("x", b"");
    assert_eq!(problem(owner), EntryProblem::Metadata);
    let parent = Tar::default().file("file", b"").file("file/below", b"");
    assert_eq!(problem(parent), EntryProblem::ParentNotDirectory);
    let nul = Tar::default().pax(&[("path", b"a\0b")]).file("x", b"");
    assert_eq!(problem(nul), EntryProblem::InvalidName);
    let deep = "a/".repeat(300);
    let deep = Tar::default().pax(&[("path", deep.as_bytes())]).dir("x");
    assert_eq!(problem(deep), EntryProblem::NameTooLong);
}

#[test]
fn the_destination_may_hold_a_link_to_elsewhere_and_is_not_followed() {
    // The root itself is ours; a link planted in it by someone else is not
    // followed either.
    let directory = tempfile::tempdir().unwrap();
    let (root, trash) = (
        directory.path().join("root"),
        directory.path().join("trash"),
    );
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir(&trash).unwrap();
    std::fs::create_dir(directory.path().join("outside")).unwrap();
    symlink("../outside", root.join("way")).unwrap();
    let archive = Tar::default().file("way/file", b"x").finish();
    let options = UnpackOptions::default();
    let interrupt = Interrupt::after(Duration::from_secs(60));
    let stream = ArchiveStream::new(Box::new(archive.as_slice()), 1, &options, &interrupt);
    assert!(extract(stream, &root, &trash, &options).is_err());
    assert_eq!(
        std::fs::read_dir(directory.path().join("outside"))
            .unwrap()
            .count(),
        0
    );
}
