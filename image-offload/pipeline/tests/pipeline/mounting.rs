//! The real overlay mount, in a mount namespace of its own. Needs root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use redoubt_image_offload::{ImageError, ImageStore, NoObserver, PulledImage, StaticKeys};
use tar::EntryType::{Directory, Regular};

use crate::common::{TestRegistry, archive, layout, options};
use crate::host::archive_of;

/// Runs a test on a thread with its own mounts and a fresh tmpfs.
fn in_mount_namespace(test: impl FnOnce(&Path) + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=256m"),
        )
        .unwrap();
        test(&path);
    })
    .join()
    .unwrap();
}

/// Pulls on this thread, so that all that is created is in its namespace.
fn pull(path: &Path, serve: impl FnOnce(&TestRegistry) -> String) -> (ImageStore, PulledImage) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let registry = TestRegistry::start().await;
        let reference = serve(&registry);
        let store = ImageStore::open(path.join("store")).unwrap();
        let keys = StaticKeys::none();
        let image = store
            .pull(&reference, &options(&registry), &keys, &NoObserver)
            .await
            .unwrap();
        (store, image)
    })
}

fn bundle(path: &Path) -> PathBuf {
    // Characters that mean something in mount options.
    let bundle = path.join("a,b:c");
    std::fs::create_dir(&bundle).unwrap();
    bundle
}

#[test]
fn the_layers_of_the_vector_are_mounted_and_written_to_and_unmounted() {
    in_mount_namespace(|path| {
        let (store, image) = pull(path, |registry| registry.serve_layout(&layout("plain")));
        let bundle = bundle(path);
        let rootfs = store.mount_rootfs(&image, &bundle).unwrap();
        assert_eq!(rootfs, bundle.join("rootfs"));
        let names = std::fs::read_dir(&rootfs).unwrap().count();
        assert!(names > 0);
        std::fs::write(rootfs.join("written"), "here").unwrap();
        for layer in &image.layers {
            assert!(!layer.path.join("written").exists());
        }
        store.unmount_rootfs(&bundle).unwrap();
        assert_eq!(std::fs::read_dir(&bundle).unwrap().count(), 0);
        // And again, with nothing of the first time in it.
        let rootfs = store.mount_rootfs(&image, &bundle).unwrap();
        assert!(!rootfs.join("written").exists());
        store.unmount_rootfs(&bundle).unwrap();
    });
}

#[test]
fn whiteouts_opaque_and_implicit_directories_work_in_the_kernel() {
    in_mount_namespace(|path| {
        let base = archive_of(&[
            (Directory, "./", 0o711, ""),
            (Directory, "tmp/", 0o1777, ""),
            (Directory, "etc/", 0o750, ""),
            (Regular, "etc/gone", 0o644, ""),
            (Regular, "etc/kept", 0o644, ""),
            (Directory, "old/", 0o700, ""),
            (Regular, "old/file", 0o644, ""),
            (Directory, "replaced/", 0o700, ""),
            (Regular, "replaced/file", 0o644, ""),
        ]);
        let second = archive(&[
            ("tmp/new", b"x"),
            ("etc/.wh.gone", b""),
            ("old/.wh..wh..opq", b""),
            ("old/fresh", b"y"),
            (".wh.replaced", b""),
            ("replaced/other", b"z"),
        ]);
        let third = archive(&[("tmp/newer", b"x")]);
        let archives = [base, second.clone(), third, second];
        let (store, image) = pull(path, |registry| registry.serve_archives(&archives));
        let bundle = bundle(path);
        let rootfs = store.mount_rootfs(&image, &bundle).unwrap();
        let names = |name: &str| {
            let mut names: Vec<_> = std::fs::read_dir(rootfs.join(name))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("."), ["etc", "old", "replaced", "tmp"]);
        assert_eq!(names("etc"), ["kept"]);
        assert_eq!(names("old"), ["fresh"]);
        assert_eq!(names("tmp"), ["new", "newer"]);
        assert_eq!(names("replaced"), ["other"]);
        let mode = |name: &str| rootfs.join(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("tmp"), 0o1777);
        assert_eq!(mode("etc"), 0o750);
        assert_eq!(mode("."), 0o711);
        // Hidden below: what was there says nothing about the new one.
        assert_eq!(mode("replaced"), 0o755);
        assert_eq!(
            rootfs.join("tmp").metadata().unwrap().mtime(),
            1_600_000_000
        );
        store.unmount_rootfs(&bundle).unwrap();
    });
}

#[test]
fn as_many_layers_as_the_limit_allows_are_mounted() {
    in_mount_namespace(|path| {
        let archives: Vec<_> = (0..500)
            .map(|n| archive(&[(&format!("file-{n}"), b"x")]))
            .collect();
        let (store, image) = pull(path, |registry| registry.serve_archives(&archives));
        let bundle = bundle(path);
        let rootfs = store.mount_rootfs(&image, &bundle).unwrap();
        assert_eq!(std::fs::read_dir(&rootfs).unwrap().count(), 500);
        store.unmount_rootfs(&bundle).unwrap();
    });
}

#[test]
fn a_mount_that_fails_leaves_the_bundle_as_it_was() {
    in_mount_namespace(|path| {
        let (store, mut image) = pull(path, |registry| registry.serve_layout(&layout("plain")));
        image.layers[0].path = path.join("nowhere");
        let bundle = bundle(path);
        let error = store.mount_rootfs(&image, &bundle).unwrap_err();
        assert!(matches!(error, ImageError::Mount { .. }), "{error:?}");
        assert_eq!(std::fs::read_dir(&bundle).unwrap().count(), 0);
    });
}
