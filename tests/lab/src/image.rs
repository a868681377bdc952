//! A real multi-layer image made from Debian packages with umoci.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::{command, run, text_of};

/// Unpacked Debian packages that the image is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SampleParts {
    /// `busybox-static`: the base layer.
    pub busybox: PathBuf,
    /// `libc6`: the library of the second layer.
    pub libc: PathBuf,
    /// `hello`: the program of the second layer.
    pub hello: PathBuf,
}

/// An OCI layout with three layers: base system, libraries and program, application.
#[derive(Clone, Debug)]
pub struct SampleImage {
    layout: PathBuf,
}

/// Text that only the image's last layer holds; a pod that prints it has opened the layer.
pub const SECRET: &str = "the recipe stays in the confidential VM";

const APPLETS: [&str; 16] = [
    "sh",
    "cat",
    "echo",
    "ls",
    "sleep",
    "id",
    "env",
    "date",
    "true",
    "false",
    "dd",
    "sha256sum",
    "stty",
    "head",
    "kill",
    "wget",
];

const WORKLOAD: &str = "#!/bin/sh\n\
    /usr/bin/hello\n\
    echo \"workload: $(id -u) on $(cat /proc/sys/kernel/ostype), arguments: $*\"\n\
    echo \"workload: secret of the image: $(cat /srv/recipe)\"\n\
    test ! -e /etc/removed-later || exit 9\n\
    exit \"${1:-0}\"\n";

/// Writes the files of one layer below a root folder.
type Fill<'a> = &'a dyn Fn(&Path) -> Result<()>;

impl SampleImage {
    /// Builds the layout below `dir`.
    pub fn build(dir: &Path, parts: &SampleParts) -> Result<Self> {
        let layout = dir.join("sample");
        let image = format!("{}:v1", layout.display());
        let umoci = |arguments: &[&str]| run(&mut command("umoci", arguments)).map(drop);
        umoci(&["init", "--layout", path_text(&layout)?])?;
        umoci(&["new", "--image", &image])?;
        umoci(&[
            "config",
            "--image",
            &image,
            "--config.entrypoint",
            "/srv/workload",
            "--config.env",
            "PATH=/usr/bin:/bin",
            "--config.workingdir",
            "/srv",
        ])?;
        let layers: [(&str, Fill<'_>); 3] = [
            ("base", &|root| base_layer(root, &parts.busybox)),
            ("libraries", &|root| {
                library_layer(root, &parts.libc, &parts.hello)
            }),
            ("application", &application_layer),
        ];
        for (name, fill) in layers {
            let bundle = dir.join(format!("bundle-{name}"));
            umoci(&["unpack", "--image", &image, path_text(&bundle)?])?;
            fill(&bundle.join("rootfs"))?;
            umoci(&["repack", "--image", &image, path_text(&bundle)?])?;
            fs::remove_dir_all(&bundle)?;
        }
        umoci(&["gc", "--layout", path_text(&layout)?])?;
        Ok(Self { layout })
    }

    /// The layout with its tag, as `redoubt image` and skopeo name it.
    pub fn source(&self) -> String {
        format!("oci:{}:v1", self.layout.display())
    }

    /// The digest of the unencrypted image's manifest.
    pub fn manifest_digest(&self) -> Result<String> {
        text_of(&mut command(
            "skopeo",
            &["inspect", "--format", "{{.Digest}}", &self.source()],
        ))
    }
}

fn base_layer(root: &Path, busybox: &Path) -> Result<()> {
    for folder in [
        "bin", "etc", "proc", "sys", "dev", "tmp", "srv", "usr/bin", "run",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    let source = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|name| busybox.join(name))
        .find(|path| path.exists())
        .context("busybox-static holds no busybox")?;
    fs::copy(source, root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/srv:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::write(
        root.join("etc/removed-later"),
        "a later layer deletes this file\n",
    )?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    Ok(())
}

fn library_layer(root: &Path, libc: &Path, hello: &Path) -> Result<()> {
    let library = root.join("lib/x86_64-linux-gnu");
    fs::create_dir_all(&library)?;
    fs::create_dir_all(root.join("lib64"))?;
    let from = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
        .iter()
        .map(|name| libc.join(name))
        .find(|path| path.join("libc.so.6").exists())
        .context("libc6 holds no libc.so.6")?;
    fs::copy(from.join("libc.so.6"), library.join("libc.so.6"))?;
    fs::copy(
        from.join("ld-linux-x86-64.so.2"),
        root.join("lib64/ld-linux-x86-64.so.2"),
    )?;
    fs::copy(hello.join("usr/bin/hello"), root.join("usr/bin/hello"))?;
    Ok(())
}

fn application_layer(root: &Path) -> Result<()> {
    fs::write(root.join("srv/recipe"), format!("{SECRET}\n"))?;
    fs::set_permissions(root.join("srv/recipe"), fs::Permissions::from_mode(0o600))?;
    fs::write(root.join("srv/workload"), WORKLOAD)?;
    fs::set_permissions(root.join("srv/workload"), fs::Permissions::from_mode(0o755))?;
    fs::remove_file(root.join("etc/removed-later"))?;
    Ok(())
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("path is not UTF-8: {}", path.display()))
}
