//! Where the tasks keep what they download and build: all below the target directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The triple that `.cargo/config.toml` builds for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The profile that the guest's agent is built in.
pub(crate) const GUEST_PROFILE: &str = "guest";

/// The folders of this checkout.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The checkout itself.
    pub(crate) root: PathBuf,
}

impl Paths {
    /// Finds the checkout from this package's manifest.
    pub(crate) fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .context("the xtask package has no parent folder")?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// A built binary of the host.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.target().join(TARGET).join("release").join(name)
    }

    /// The built agent of the guest.
    pub(crate) fn agent(&self) -> PathBuf {
        self.guest_program("kata-agent")
    }

    /// The built program that opens the guest's root disk.
    pub(crate) fn root_loader(&self) -> PathBuf {
        self.guest_program("root-loader")
    }

    fn guest_program(&self, name: &str) -> PathBuf {
        self.target().join(TARGET).join(GUEST_PROFILE).join(name)
    }

    /// What `setup` and `guest` made: packages, firmware, kernel, initrd, tools.
    pub(crate) fn assets(&self) -> PathBuf {
        self.target().join("redoubt")
    }

    /// The private state of apt.
    pub(crate) fn apt(&self) -> PathBuf {
        self.assets().join("apt")
    }

    /// Unpacked Debian packages.
    pub(crate) fn packages(&self) -> PathBuf {
        self.assets().join("packages")
    }

    /// Tools that are installed by cargo.
    pub(crate) fn tools(&self) -> PathBuf {
        self.assets().join("tools")
    }

    /// The fuzz targets as built, their corpora, logs and findings.
    pub(crate) fn fuzz(&self) -> PathBuf {
        self.target().join("fuzz")
    }

    /// Images that benchmarks are run on.
    pub(crate) fn bench(&self) -> PathBuf {
        self.target().join("bench")
    }

    /// The guest's kernel, initrd and manifest.
    pub(crate) fn guest(&self) -> PathBuf {
        self.assets().join("guest")
    }
}

/// A path as text for a command line, or an error that names it.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("path is not UTF-8: {}", path.display()))
}
