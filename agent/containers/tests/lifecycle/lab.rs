//! A place for one test's containers, and a check that nothing of them stays.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::{Process, Spec};
use redoubt_containers::{
    ContainerId, ContainerManager, ManagerConfig, ProcessId, Reaper, make_root_movable,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const CGROUPS: &str = "/sys/fs/cgroup";

pub(crate) type Test = fn(Arc<Lab>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Gives this program mounts and a network of its own. No thread may exist yet.
pub(crate) fn isolate() -> io::Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )?;
    if fs::read_to_string("/proc/self/mountinfo")?.contains(" / / rw - rootfs ") {
        make_root_movable(Path::new("/mnt")).map_err(io::Error::other)?;
    }
    let statfs = nix::sys::statfs::statfs(CGROUPS)?;
    if statfs.filesystem_type() != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        mount(
            Some("cgroup2"),
            CGROUPS,
            Some("cgroup2"),
            MsFlags::empty(),
            nothing,
        )?;
    }
    Reaper::become_subreaper().map_err(io::Error::other)
}

struct Shared {
    runtime: Runtime,
    reaper: Reaper,
    rootfs: TempDir,
}

/// One reaper and one root file system serve all tests of the program.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        // It runs a program without the reaper, which would take its exit status.
        let rootfs = busybox_rootfs();
        let runtime = Runtime::new().unwrap();
        let reaper = runtime.block_on(async { Reaper::start() }).unwrap();
        Shared {
            runtime,
            reaper,
            rootfs,
        }
    })
}

/// That of `REDOUBT_BUSYBOX`, which `cargo xtask test` sets, or the machine's own.
fn static_busybox() -> PathBuf {
    env::var_os("REDOUBT_BUSYBOX")
        .map(PathBuf::from)
        .into_iter()
        .chain(["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from))
        .find(|path| path.exists())
        .expect("these tests need REDOUBT_BUSYBOX or the package busybox-static")
}

fn busybox_rootfs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bin", "dev", "proc", "sys", "run", "etc", "tmp", "root"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let busybox = &static_busybox();
    let bin = folder.path().join("bin");
    fs::copy(busybox, bin.join("busybox")).unwrap();
    let list = Command::new(busybox).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(list)
        .unwrap()
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    fs::write(
        folder.path().join("etc/passwd"),
        "root:x:0:0::/root:\nweb:x:1000:1000::/srv:\n",
    )
    .unwrap();
    folder
}

/// One test's manager with its folders.
pub(crate) struct Lab {
    pub(crate) manager: ContainerManager,
    pub(crate) reaper: Reaper,
    pub(crate) config: ManagerConfig,
    _folder: TempDir,
    pids: Mutex<Vec<i32>>,
}

/// Tests that count what the whole program has keep others out.
static PROGRAM: RwLock<()> = RwLock::new(());

pub(crate) fn run_alone(test: Test) {
    let _program = PROGRAM.write().unwrap_or_else(PoisonError::into_inner);
    run_now(test);
}

pub(crate) fn run(test: Test) {
    let _program = PROGRAM.read().unwrap_or_else(PoisonError::into_inner);
    run_now(test);
}

fn run_now(test: Test) {
    let lab = Arc::new(Lab::new(|_| ()));
    shared().runtime.block_on(async {
        let outcome = tokio::time::timeout(PATIENCE, tokio::spawn(test(lab.clone()))).await;
        lab.manager.destroy_all().await.unwrap();
        outcome.expect("the test takes too long").unwrap();
    });
    lab.assert_nothing_left();
    assert!(!lab.cgroup().exists());
}

impl Lab {
    pub(crate) fn new(adjust: impl FnOnce(&mut ManagerConfig)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let mut config = ManagerConfig {
            state_dir: folder.path().join("state"),
            cgroup_parent: format!("redoubt-test-{}-{number}", std::process::id()),
            ..ManagerConfig::default()
        };
        adjust(&mut config);
        let reaper = shared().reaper.clone();
        let manager = ContainerManager::new(config.clone(), reaper.clone()).unwrap();
        Self {
            manager,
            reaper,
            config,
            _folder: folder,
            pids: Mutex::default(),
        }
    }

    pub(crate) fn cgroup(&self) -> PathBuf {
        Path::new(CGROUPS).join(&self.config.cgroup_parent)
    }

    #[expect(clippy::unused_self, reason = "tests do not depend on who shares what")]
    pub(crate) fn rootfs(&self) -> &'static Path {
        shared().rootfs.path()
    }

    /// Makes a container and remembers its process for the check at the end.
    pub(crate) async fn create(&self, name: &str, spec: Value) -> ContainerId {
        let id = ContainerId::parse(name).unwrap();
        let pid = self
            .manager
            .create(&id, parse(spec), self.rootfs())
            .await
            .unwrap();
        self.pids.lock().unwrap().push(pid);
        id
    }

    /// Makes and starts a container that runs a shell script.
    pub(crate) async fn run(&self, name: &str, script: &str) -> ContainerId {
        self.start(name, shell(script)).await
    }

    pub(crate) async fn start(&self, name: &str, spec: Value) -> ContainerId {
        let id = self.create(name, spec).await;
        self.manager.start(&id).await.unwrap();
        id
    }

    /// Adds a process to a container.
    pub(crate) async fn exec(&self, id: &ContainerId, exec: &str, process: Value) -> ProcessId {
        let exec = ProcessId::from_request(id.as_str(), exec).unwrap();
        let pid = self.manager.exec(&exec, process_of(process)).await.unwrap();
        self.pids.lock().unwrap().push(pid);
        exec
    }

    /// Reads a process's output to its end.
    pub(crate) async fn output(&self, id: &ProcessId) -> String {
        let mut output = Vec::new();
        loop {
            let part = self.manager.read_stdout(id, 8192).await.unwrap();
            if part.is_empty() {
                return String::from_utf8(output).unwrap();
            }
            output.extend(part);
        }
    }

    /// Reads output until it contains a text.
    pub(crate) async fn expect(&self, id: &ProcessId, text: &str) -> String {
        let mut output = String::new();
        while !output.contains(text) {
            let part = self.manager.read_stdout(id, 8192).await.unwrap();
            assert!(!part.is_empty(), "the output ended with {output:?}");
            output.push_str(&String::from_utf8(part).unwrap());
        }
        output
    }

    /// Fails if a process, group, mount or file of a container of this lab still exists.
    pub(crate) fn assert_nothing_left(&self) {
        for pid in self.pids.lock().unwrap().iter() {
            assert!(
                !Path::new(&format!("/proc/{pid}")).exists(),
                "process {pid} is left"
            );
        }
        if let Ok(entries) = fs::read_dir(self.cgroup()) {
            let left: Vec<_> = entries
                .flatten()
                .filter(|e| e.file_type().unwrap().is_dir())
                .collect();
            assert!(left.is_empty(), "control groups are left: {left:?}");
        }
        for folder in ["state", "bundles", "tty"] {
            let left: Vec<_> = fs::read_dir(self.config.state_dir.join(folder))
                .unwrap()
                .flatten()
                .collect();
            assert!(left.is_empty(), "{folder} has {left:?}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let rootfs = self.rootfs().to_str().unwrap();
        assert!(!mounts.contains(rootfs), "mounts are left:\n{mounts}");
    }
}

/// A specification that runs a shell script.
pub(crate) fn shell(script: &str) -> Value {
    spec(process(&["sh", "-c", script]))
}

/// A specification like containerd's default, without what this test's kernel may lack.
#[expect(clippy::needless_pass_by_value, reason = "calls nest")]
pub(crate) fn spec(process: Value) -> Value {
    json!({
        "ociVersion": "1.1.0",
        "root": {"path": ""},
        "hostname": "box",
        "process": process,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
            "cgroupsPath": "/host-chosen/name",
            "maskedPaths": ["/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}

/// A process description.
pub(crate) fn process(args: &[&str]) -> Value {
    let capabilities = json!(["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin", "GREETING=hello"],
        "cwd": "/",
        "noNewPrivileges": true,
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        },
    })
}

/// A process description or specification with one member changed.
pub(crate) fn with(mut value: Value, pointer: &str, member: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(key.to_owned(), member);
    value
}

pub(crate) fn parse(mut spec: Value) -> Spec {
    if spec["root"]["path"] == "" {
        spec["root"]["path"] = json!(shared().rootfs.path());
    }
    serde_json::from_value(spec).unwrap()
}

pub(crate) fn process_of(process: Value) -> Process {
    serde_json::from_value(process).unwrap()
}

/// The first process of a container.
pub(crate) fn init(id: &ContainerId) -> ProcessId {
    ProcessId::init(id)
}

/// Lists asynchronous tests by name.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        crate::lab::tests!(TESTS: $($name),*);
    };
    ($list:ident: $($name:ident),* $(,)?) => {
        pub(crate) const $list: &[(&str, crate::lab::Test)] = &[
            $((concat!(module_path!(), "::", stringify!($name)), |lab| Box::pin($name(lab)))),*
        ];
    };
}
pub(crate) use tests;
