//! What PID 1 does before anything else: file systems, modules, and the end.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use crate::console;
use crate::error::{AgentError, Result};
use crate::params::Parameters;

/// The list of modules in the initrd: a path a line, `?` before those that may fail.
const MODULE_LIST: &str = "/etc/redoubt/modules";
/// The largest list that is read, in bytes.
const MAX_LIST_BYTES: usize = 16 * 1024;
/// The type of the file system that root disks hold.
const EROFS_MAGIC: i64 = 0xe0f5_e1e2;
/// The folder that containers' root file systems and pulled layers live on.
const RUN: &str = "/run";

struct BaseMount {
    target: &'static str,
    kind: &'static str,
    options: &'static str,
    flags: MsFlags,
    /// A kernel without it still makes a guest.
    optional: bool,
}

const fn base(
    target: &'static str,
    kind: &'static str,
    options: &'static str,
    flags: MsFlags,
) -> BaseMount {
    BaseMount {
        target,
        kind,
        options,
        flags,
        optional: false,
    }
}

const NO_PROGRAMS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// The file systems of the guest in the order in which they are mounted.
const BASE_MOUNTS: [BaseMount; 9] = [
    base("/proc", "proc", "", NO_PROGRAMS),
    base("/sys", "sysfs", "", NO_PROGRAMS),
    base("/dev", "devtmpfs", "mode=0755", MsFlags::MS_NOSUID),
    base(
        "/dev/pts",
        "devpts",
        "mode=0620,ptmxmode=0666",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
    ),
    base(
        "/dev/shm",
        "tmpfs",
        "mode=1777",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
    ),
    // Images are unpacked here: they may need nearly all of the guest's memory.
    base(
        RUN,
        "tmpfs",
        "mode=0755,size=90%",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
    ),
    base(
        "/tmp",
        "tmpfs",
        "mode=1777",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
    ),
    base("/sys/fs/cgroup", "cgroup2", "", NO_PROGRAMS),
    BaseMount {
        target: "/sys/kernel/config",
        kind: "configfs",
        options: "",
        flags: NO_PROGRAMS,
        optional: true,
    },
];

/// Makes the guest's root file system usable. Runs before there are threads.
pub(crate) fn prepare_file_systems() -> Result<()> {
    fs::create_dir_all("/mnt").map_err(AgentError::file("create", "/mnt"))?;
    redoubt_containers::make_root_movable(Path::new("/mnt"))?;
    for entry in &BASE_MOUNTS {
        if let Err(error) = mount_base(entry)
            && !entry.optional
        {
            return Err(error);
        }
    }
    Ok(())
}

fn mount_base(entry: &BaseMount) -> Result<()> {
    // A folder below sysfs cannot be created: it is there or it is not.
    let _ = fs::create_dir_all(entry.target);
    mount(
        Some(entry.kind),
        entry.target,
        Some(entry.kind),
        entry.flags,
        (!entry.options.is_empty()).then_some(entry.options),
    )
    .map_err(|errno| AgentError::file("mount", entry.target)(errno.into()))
}

/// Fails where the command line names a root disk that this guest did not start from: an initrd
/// that holds an agent of its own would pass it over.
pub(crate) fn check_root(parameters: &Parameters) -> Result<()> {
    let root =
        rustix::fs::statfs("/").map_err(|errno| AgentError::file("look at", "/")(errno.into()))?;
    if parameters.root_disk && root.f_type != EROFS_MAGIC {
        return Err(AgentError::RootDiskUnused);
    }
    Ok(())
}

/// Loads the modules that the initrd lists, in its order.
pub(crate) fn load_modules() -> Result<()> {
    let list = match fs::read(MODULE_LIST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        list => list.map_err(AgentError::file("read", MODULE_LIST))?,
    };
    let list = list
        .get(..list.len().min(MAX_LIST_BYTES))
        .unwrap_or_default();
    for line in String::from_utf8_lossy(list).lines() {
        let (path, optional) = line
            .strip_prefix('?')
            .map_or((line, false), |path| (path, true));
        if path.is_empty() {
            continue;
        }
        match load_module(Path::new(path)) {
            Err(_) if optional => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn load_module(path: &Path) -> Result<()> {
    let failed = |source| AgentError::Module {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Ends the virtual machine. Returns only where this process may not do that.
pub(crate) fn power_off() {
    console::drain();
    nix::unistd::sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
}
