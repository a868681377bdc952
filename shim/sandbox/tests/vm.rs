//! Real virtual machines: QEMU, the AmdSev firmware and a Linux kernel, under emulation.
//!
//! They need root, QEMU 10, `vhost-device-vsock` and the files that the project's set-up fetches,
//! so they are ignored among the unit tests and run by the end-to-end tier, which names the files
//! in the environment.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests fail the test"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use redoubt_agent_api::health::CheckRequest;
use redoubt_agent_api::health_ttrpc::HealthClient;
use redoubt_errors::{OneLine, UserError};
use redoubt_guest_image::{Entry, write_newc};
use redoubt_launch_plan::{
    ConfigSearch, HostFacts, LaunchPlan, SandboxRequest, load, load_files, plan,
};
use redoubt_sandbox::{LaunchRequest, Sandbox, SandboxError, cleanup_from_disk};
use redoubt_snp_simulator::{RsaBits, SimulatedIdentity};
use tempfile::TempDir;

/// Everything that a failing boot may take, beyond which a user loses patience.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files of a launch, in a folder of their own.
struct Lab {
    dir: TempDir,
}

/// A file or folder that the end-to-end tier names.
fn given(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set; run these tests by `cargo xtask test --e2e`"),
    }
}

/// The modules of the guest in the order in which it loads them.
const MODULES: [&str; 6] = [
    "net/vmw_vsock/vsock",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common",
    "net/vmw_vsock/vmw_vsock_virtio_transport",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

fn module((number, path): (usize, &&str)) -> Entry {
    let path = given("REDOUBT_VM_MODULES").join(format!("kernel/{path}.ko.xz"));
    let output = Command::new("xz").arg("-dc").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", path.display());
    Entry::file(&format!("modules/{number}.ko"), 0o644, output.stdout)
}

/// A pod's namespace with one interface, whose other end has no address.
struct Pod {
    netns: String,
}

const POD_MAC: &str = "02:00:00:00:00:01";

impl Pod {
    fn new() -> Self {
        let netns = format!("rdtvm{}", std::process::id());
        ip(&format!("netns add {netns}"));
        let pod = Self { netns };
        pod.ip(&format!(
            "link add eth0 address {POD_MAC} type veth peer name eth0p"
        ));
        pod.ip("addr add 10.9.8.2/24 dev eth0");
        pod.ip("link set eth0 up");
        pod
    }

    fn ip(&self, args: &str) -> String {
        ip(&format!("-n {} {args}", self.netns))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.netns)
    }

    fn assert_untouched(&self) {
        let qdiscs = ip(&format!("netns exec {} tc qdisc show", self.netns));
        assert!(!qdiscs.contains("ingress"), "{qdiscs}");
        let links = self.ip("-o link");
        assert!(!links.contains("tap0_kata"), "{links}");
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.netns));
    }
}

fn ip(args: &str) -> String {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let test = std::env::current_exe().unwrap();
        let init = test
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("examples/guest_init");
        let mut entries = vec![Entry::file("init", 0o755, fs::read(init).unwrap())];
        entries.push(Entry::directory("modules"));
        entries.extend(MODULES.iter().enumerate().map(module));
        fs::write(lab.path("initrd"), write_newc(&entries).unwrap()).unwrap();
        let identity = SimulatedIdentity::generate_with(RsaBits::Rsa2048).unwrap();
        identity.store(&lab.path("psp")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state_root(&self) -> PathBuf {
        self.path("sbs")
    }

    fn plan(&self, mode: &str) -> LaunchPlan {
        let config = format!(
            "[hypervisor.qemu]\n\
             path = \"/usr/bin/qemu-system-x86_64\"\n\
             kernel = \"{}\"\ninitrd = \"{}\"\nfirmware = \"{}\"\n\
             accelerator = \"tcg\"\nconfidential_guest = true\nsev_snp_guest = true\n\
             snp_simulation = \"{}\"\nvhost_user_vsock = \"{}\"\ndisable_vhost_net = true\n\
             default_memory = 512\nkernel_params = \"test.mode={mode}\"\n\
             [runtime]\ntrail_path = \"{}\"\n",
            given("REDOUBT_VM_KERNEL").display(),
            self.path("initrd").display(),
            given("REDOUBT_VM_FIRMWARE").display(),
            self.path("psp").display(),
            given("REDOUBT_VM_VSOCK_DAEMON").display(),
            self.path("trail").display(),
        );
        let file = self.path("configuration.toml");
        fs::write(&file, config).unwrap();
        let search = ConfigSearch {
            runtime_option: Some(file),
            ..Default::default()
        };
        let configuration = load(&search).unwrap().configuration;
        let request = SandboxRequest {
            sandbox_id: "vm".to_owned(),
            ..Default::default()
        };
        let files = load_files(&configuration, &request).unwrap();
        plan(&configuration, &request, &HostFacts::default(), &files).unwrap()
    }

    fn request(&self, plan: LaunchPlan) -> LaunchRequest {
        let mut request = LaunchRequest::new(plan, None);
        request.state_root = self.state_root();
        request
    }

    /// Launches what cannot boot; checks that it ends in time and leaves nothing.
    async fn refusal(&self, plan: LaunchPlan) -> SandboxError {
        let started = Instant::now();
        let error = Sandbox::launch(self.request(plan)).await.unwrap_err();
        println!("after {:?}: {}", started.elapsed(), OneLine(&error));
        assert!(started.elapsed() < PATIENCE);
        self.assert_clean();
        error
    }

    fn trail(&self) -> String {
        fs::read_to_string(self.path("trail")).unwrap()
    }

    fn assert_clean(&self) {
        assert!(!self.state_root().join("vm").exists());
        assert_eq!(self.processes(), Vec::<String>::new());
    }

    /// Command lines of all processes that know this lab's state directory.
    fn processes(&self) -> Vec<String> {
        let root = self.state_root();
        let root = root.to_str().unwrap();
        let own = std::process::id().to_string();
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| !path.ends_with(&own))
            .filter_map(|path| fs::read_to_string(path.join("cmdline")).ok())
            .filter(|cmdline| cmdline.contains(root))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn a_good_launch_ends_in_an_agent_that_answers_and_leaves_nothing_when_stopped() {
    let lab = Lab::new();
    let pod = Pod::new();
    let mut request = lab.request(lab.plan("serve"));
    request.netns = Some(pod.path());
    let sandbox = Sandbox::launch(request).await.unwrap();
    assert_eq!(sandbox.network().interfaces.len(), 1);
    let health = HealthClient::new(sandbox.agent());
    let context = ttrpc::context::with_timeout(5_000_000_000);
    let version = health.version(context, &CheckRequest::new()).await.unwrap();
    assert_eq!(version.agent_version, "test");

    sandbox.pause().await.unwrap();
    sandbox.resume().await.unwrap();
    assert!(sandbox.vm_gone().is_none());
    let trail = lab.trail();
    println!("{trail}");
    let stages: Vec<String> = trail
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["stage"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        stages,
        [
            "launch-planned",
            "qemu-started",
            "kernel-verified",
            "agent-up"
        ]
    );
    // The guest's report carries what it asked for: the software PSP answered. And the guest
    // has the pod's interface.
    assert!(
        trail.contains(&format!("report 7, interface {POD_MAC}")),
        "{trail}"
    );

    sandbox.stop().await.unwrap();
    lab.assert_clean();
    pod.assert_untouched();
    sandbox.stop().await.unwrap();
    assert!(sandbox.vm_gone().is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn a_killed_qemu_is_noticed_at_once() {
    let lab = Lab::new();
    let sandbox = Sandbox::launch(lab.request(lab.plan("serve")))
        .await
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(sandbox.qemu_pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(5), sandbox.wait_vm())
        .await
        .unwrap();
    assert_eq!(exit.signal, Some(9));
    let error = sandbox.vm_gone().unwrap();
    insta::assert_snapshot!(OneLine(&error), @"[RDT-VMM-022] the virtual machine is gone (killed by signal 9)");
    sandbox.stop().await.unwrap();
    lab.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn an_initrd_other_than_the_measured_one_is_refused_by_the_firmware() {
    let lab = Lab::new();
    let plan = lab.plan("serve");
    let mut initrd = fs::read(lab.path("initrd")).unwrap();
    *initrd.last_mut().unwrap() ^= 1;
    fs::write(lab.path("initrd"), initrd).unwrap();
    let error = lab.refusal(plan).await;
    insta::assert_snapshot!(OneLine(&error), @"[RDT-VMM-016] the firmware refused kernel, initrd or command line (they differ from the measured ones): it loops without end and has printed nothing; console: (nothing) (hint: compare the files on the host with those that were measured: redoubt plan)");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn a_command_line_other_than_the_measured_one_is_refused_by_the_firmware() {
    let lab = Lab::new();
    let mut plan = lab.plan("serve");
    plan.cmdline.push_str(" init=/bin/sh");
    let error = lab.refusal(plan).await;
    assert!(
        matches!(error, SandboxError::FirmwareRefused { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn too_little_memory_is_called_so_wherever_it_shows() {
    let lab = Lab::new();
    for memory_mib in [24, 48, 64, 96, 128] {
        let mut plan = lab.plan("serve");
        plan.memory_mib = memory_mib;
        let error = lab.refusal(plan).await;
        assert!(
            matches!(error, SandboxError::GuestOutOfMemory { .. }),
            "{memory_mib}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn an_agent_that_takes_all_memory_is_called_so() {
    let lab = Lab::new();
    let mut plan = lab.plan("memory");
    plan.memory_mib = 256;
    let error = lab.refusal(plan).await;
    assert!(
        matches!(error, SandboxError::GuestOutOfMemory { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn a_panic_is_quoted() {
    let lab = Lab::new();
    let error = lab.refusal(lab.plan("panic")).await;
    let SandboxError::KernelPanic { panic, .. } = &error else {
        panic!("{error}")
    };
    assert!(panic.contains("Attempted to kill init!"), "{panic}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn the_agent_s_last_words_are_the_error() {
    let lab = Lab::new();
    let error = lab.refusal(lab.plan("fatal")).await;
    insta::assert_snapshot!(OneLine(&error), @"[RDT-VMM-020] the guest agent gave up: RDT-AGT-999 the test wants it so");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn a_guest_that_resets_itself_is_not_waited_for() {
    let lab = Lab::new();
    let error = lab.refusal(lab.plan("reset")).await;
    assert!(
        matches!(error, SandboxError::GuestStopped { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots a virtual machine"]
async fn a_silent_agent_is_given_up_after_its_time() {
    let lab = Lab::new();
    let mut plan = lab.plan("silent");
    plan.agent.connect_timeout_ms = 12_000;
    let error = lab.refusal(plan).await;
    assert_eq!(error.code().0, "RDT-VMM-021", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: starts QEMU"]
async fn what_qemu_says_before_it_ends_is_the_error() {
    let lab = Lab::new();
    let mut plan = lab.plan("serve");
    plan.cpu_model = "nonsense".to_owned();
    let error = lab.refusal(plan).await;
    insta::assert_snapshot!(OneLine(&error), @"[RDT-VMM-012] QEMU ended before the agent answered (exit status 1): qemu-system-x86_64: unable to find CPU model 'nonsense'");
}

/// Some hosts offer `/dev/kvm`, create virtual machines and then cannot run them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "by hand: needs a host whose KVM works in part"]
async fn by_hand_a_kvm_that_gives_up_is_told_from_a_firmware_that_refuses() {
    let lab = Lab::new();
    let mut plan = lab.plan("serve");
    plan.accelerator = redoubt_launch_plan::Accelerator::Kvm;
    plan.cpu_model = "max".to_owned();
    let error = lab.refusal(plan).await;
    assert!(
        matches!(
            error,
            SandboxError::CannotRun { .. } | SandboxError::QemuExited { .. }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: starts QEMU"]
async fn a_vsock_daemon_that_does_not_listen_is_named() {
    let lab = Lab::new();
    let mut plan = lab.plan("serve");
    let daemon = PathBuf::from("/bin/false");
    plan.vsock = redoubt_launch_plan::VsockPlan::VhostUser { daemon };
    let error = lab.refusal(plan).await;
    insta::assert_snapshot!(OneLine(&error), @"[RDT-VMM-009] the vsock daemon /bin/false ended (exit status 1): nothing on standard error");
}

/// Plays the shim that is killed: launches, then waits for its end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "only for a_killed_shim_leaves_what_cleanup_removes"]
async fn play_a_shim_that_is_killed() {
    let Some(dir) = std::env::var_os("REDOUBT_TEST_KILLED_SHIM").map(PathBuf::from) else {
        return;
    };
    let plan: LaunchPlan = serde_json::from_slice(&fs::read(dir.join("plan")).unwrap()).unwrap();
    let netns =
        Some(PathBuf::from("/run/netns").join(fs::read_to_string(dir.join("netns")).unwrap()));
    let mut request = LaunchRequest::new(plan, netns);
    request.state_root = dir.join("sbs");
    let _sandbox = Sandbox::launch(request).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "end-to-end: boots virtual machines"]
async fn a_killed_shim_leaves_what_cleanup_removes() {
    let lab = Lab::new();
    let pod = Pod::new();
    fs::write(
        lab.path("plan"),
        serde_json::to_vec(&lab.plan("serve")).unwrap(),
    )
    .unwrap();
    fs::write(lab.path("netns"), &pod.netns).unwrap();
    let mut complete = 0;
    for after_ms in [0, 20, 40, 60, 90, 130, 200, 400, 900, 9000] {
        let mut shim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "play_a_shim_that_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("REDOUBT_TEST_KILLED_SHIM", lab.dir.path())
            .spawn()
            .unwrap();
        let state_dir = lab.state_root().join("vm");
        while !state_dir.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        shim.kill().unwrap();
        shim.wait().unwrap();
        let report = cleanup_from_disk(&state_dir, Some(std::process::id()))
            .await
            .unwrap();
        assert!(report.found);
        lab.assert_clean();
        println!("killed after {after_ms} ms: {report:?}");
        pod.assert_untouched();
        assert!(
            !cleanup_from_disk(&state_dir, Some(std::process::id()))
                .await
                .unwrap()
                .found
        );
        complete += 1;
    }
    assert_eq!(complete, 10);
}
