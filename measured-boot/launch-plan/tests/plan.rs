//! The plan and its readers: QEMU arguments, digest, explanation, simulation, refusals.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use redoubt_errors::OneLine;
use redoubt_firmware::Firmware;
use redoubt_id_block::{IdAuth, IdBlock, SigningKey};
use redoubt_initdata::{Algorithm, Initdata};
use redoubt_launch_digest::{KernelHashes, LaunchDigest, SnpLaunch, snp_launch_digest};
use redoubt_launch_plan::{
    ConfigSource, Configuration, ConsoleResource, FirmwareFile, HostFacts, LaunchPlan,
    LaunchResources, MeasuredFile, MeasuredFiles, NetworkInterface, PlanError, QmpResource,
    ResourceLimits, SandboxRequest, VsockResource, load_files, plan,
};
use sha2::{Digest, Sha256};

const AMDSEV: &[u8] = include_bytes!("../../../firmware/testdata/ovmf_AmdSev_suffix.bin");
const GENERIC: &[u8] = include_bytes!("../../../firmware/testdata/ovmf_OvmfX64_suffix.bin");
const KERNEL: &[u8] = b"kernel";
const INITRD: &[u8] = b"initrd";

const COMMON: &str = "[hypervisor.qemu]\npath = \"/q\"\nkernel = \"/k\"\ninitrd = \"/i\"\n\
                      enable_annotations = [\"kernel_params\", \"default_vcpus\", \"default_memory\", \"cc_init_data\"]\n";
const SNP: &str = "firmware = \"/f\"\nconfidential_guest = true\n";
const SIMULATED: &str = "firmware = \"/f\"\nconfidential_guest = true\naccelerator = \"tcg\"\n\
                         snp_simulation = \"/sim\"\nvhost_user_vsock = \"/vsock\"\n\
                         disable_vhost_net = true\ndefault_memory = 512\n";
const PLAIN: &str = "default_memory = 512\n";

/// A host that offers nothing.
const BARE: HostFacts = HostFacts {
    sev_snp: None,
    tdx: false,
    tdx_quote_socket: false,
    kvm: false,
    vhost_net: false,
    vhost_vsock: false,
};

fn configuration(text: &str) -> Configuration {
    let text = format!("{COMMON}{text}");
    let source = ConfigSource {
        name: "configuration.toml".to_owned(),
        text,
    };
    let (configuration, warnings) = Configuration::from_sources(&[source]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    configuration
}

fn measured(path: &str, bytes: &[u8]) -> MeasuredFile {
    MeasuredFile {
        path: PathBuf::from(path),
        sha256: Sha256::digest(bytes).into(),
        size_bytes: bytes.len() as u64,
    }
}

fn files(firmware: Option<&[u8]>) -> MeasuredFiles {
    MeasuredFiles {
        root_disk_bytes: None,
        qemu: PathBuf::from("/q"),
        kernel: measured("/k", KERNEL),
        initrd: measured("/i", INITRD),
        firmware: firmware.map(|bytes| FirmwareFile {
            file: measured("/f", bytes),
            image: Firmware::parse(bytes),
        }),
    }
}

fn request(annotations: &[(&str, &str)]) -> SandboxRequest {
    SandboxRequest {
        sandbox_id: "abc".to_owned(),
        annotations: annotations
            .iter()
            .map(|(name, value)| {
                (
                    format!("io.katacontainers.config.hypervisor.{name}"),
                    (*value).to_owned(),
                )
            })
            .collect(),
        limits: ResourceLimits::default(),
    }
}

fn plan_of(
    text: &str,
    host: &HostFacts,
    annotations: &[(&str, &str)],
) -> Result<LaunchPlan, PlanError> {
    let configuration = configuration(text);
    let firmware = (!configuration.hypervisor.firmware.as_os_str().is_empty()).then_some(AMDSEV);
    plan(
        &configuration,
        &request(annotations),
        host,
        &files(firmware),
    )
}

fn snp_plan(annotations: &[(&str, &str)]) -> LaunchPlan {
    plan_of(SNP, &HostFacts::assumed_snp(), annotations).unwrap()
}

fn simulated_plan(annotations: &[(&str, &str)]) -> LaunchPlan {
    plan_of(SIMULATED, &BARE, annotations).unwrap()
}

fn refused(text: &str, host: &HostFacts) -> String {
    OneLine(&plan_of(text, host, &[]).unwrap_err()).to_string()
}

fn initdata() -> Initdata {
    let entries = [(
        "policy.rego".to_owned(),
        "package agent_policy\n".to_owned(),
    )];
    Initdata::build(Algorithm::Sha256, entries.into()).unwrap()
}

fn kernel_vsock_resources() -> LaunchResources {
    LaunchResources {
        vsock: VsockResource::Vhost {
            fd: 4,
            guest_cid: 77,
        },
        console: ConsoleResource::Socket("/run/console.sock".into()),
        qmp: QmpResource::Fd(3),
        initdata_disk: None,
        hash_table: None,
        interfaces: vec![NetworkInterface {
            mac: [2, 0, 0, 0, 0, 0xa],
            tap_fds: vec![5, 6],
            vhost_fds: vec![7, 8],
        }],
        pid_file: None,
    }
}

fn daemon_resources() -> LaunchResources {
    LaunchResources {
        vsock: VsockResource::VhostUser {
            socket: "/run/a,b/vsock.sock".into(),
        },
        console: ConsoleResource::SocketWithLog {
            socket: "/run/console.sock".into(),
            log: "/run/console.log".into(),
        },
        qmp: QmpResource::Socket("/run/qmp.sock".into()),
        initdata_disk: Some("/run/initdata.img".into()),
        hash_table: Some("/run/hashes.bin".into()),
        interfaces: vec![NetworkInterface {
            mac: [2, 0, 0, 0, 0, 0xb],
            tap_fds: vec![5],
            vhost_fds: vec![],
        }],
        pid_file: Some("/run/pid".into()),
    }
}

/// QEMU's arguments, an option with its value a line.
fn lines(plan: &LaunchPlan, resources: &LaunchResources) -> String {
    let mut text = String::new();
    for arg in plan.qemu_args(resources) {
        let arg = arg.into_string().unwrap();
        let separator = if arg.starts_with('-') { "\n" } else { " " };
        text.push_str(separator);
        text.push_str(&arg);
    }
    text
}

#[test]
fn snp_hardware_gets_the_guest_object_and_host_data() {
    let annotation = initdata().to_annotation().unwrap();
    let plan = snp_plan(&[("cc_init_data", &annotation)]);
    let mut resources = kernel_vsock_resources();
    resources.initdata_disk = Some("/run/initdata.img".into());
    assert_snapshot!(lines(&plan, &resources), @r#"
    -name sandbox-abc,debug-threads=on
    -machine q35,accel=kvm,kernel_irqchip=split,memory-backend=ram0,confidential-guest-support=snp
    -cpu EPYC-v4,pmu=off
    -smp 1,sockets=1,cores=1,threads=1,maxcpus=1
    -rtc base=utc
    -m 2048M
    -object memory-backend-ram,id=ram0,size=2048M
    -bios /f
    -kernel /k
    -initrd /i
    -append console=ttyS0 quiet panic=1 reboot=k redoubt.attester=snp
    -object sev-snp-guest,id=snp,cbitpos=51,reduced-phys-bits=1,kernel-hashes=on,policy=0x30000,host-data=3hO8X1XVrAAdA5YlgQr9VjNrCpt7petUfSlDaNY5xTM=
    -chardev socket,id=console0,path=/run/console.sock,server=on,wait=off
    -device isa-serial,chardev=console0
    -chardev socket,id=qmp0,fd=3,server=on,wait=off
    -mon chardev=qmp0,mode=control
    -device vhost-vsock-pci,id=vsock0,vhostfd=4,guest-cid=77
    -netdev tap,id=net0,fds=5:6,vhost=on,vhostfds=7:8
    -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:0a,romfile=,mq=on,vectors=6
    -blockdev driver=raw,node-name=initdata,read-only=on,file.driver=file,file.filename=/run/initdata.img
    -device virtio-blk-pci,drive=initdata,serial=initdata
    -no-user-config
    -nodefaults
    -no-reboot
    -display none
    -vga none
    "#);
    assert_eq!(plan.snp().unwrap().host_data, initdata().host_data());
    assert!(plan.simulation().is_none());
}

#[test]
fn a_simulated_guest_gets_the_hash_table_through_the_loader() {
    let plan = simulated_plan(&[]);
    assert_snapshot!(lines(&plan, &daemon_resources()), @r#"
    -name sandbox-abc,debug-threads=on
    -machine q35,accel=tcg,memory-backend=ram0
    -cpu max,pmu=off
    -smp 1,sockets=1,cores=1,threads=1,maxcpus=1
    -rtc base=utc
    -m 512M
    -object memory-backend-memfd,id=ram0,size=512M,share=on
    -bios /f
    -kernel /k
    -initrd /i
    -append console=ttyS0 quiet panic=1 reboot=k redoubt.attester=simulated-snp
    -device loader,file=/run/hashes.bin,addr=0x810c00,force-raw=on
    -chardev socket,id=console0,path=/run/console.sock,server=on,wait=off,logfile=/run/console.log,logappend=on
    -device isa-serial,chardev=console0
    -chardev socket,id=qmp0,path=/run/qmp.sock,server=on,wait=off
    -mon chardev=qmp0,mode=control
    -chardev socket,id=vsock0,path=/run/a,,b/vsock.sock
    -device vhost-user-vsock-pci,chardev=vsock0
    -netdev tap,id=net0,fds=5,vhost=off
    -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:0b,romfile=
    -blockdev driver=raw,node-name=initdata,read-only=on,file.driver=file,file.filename=/run/initdata.img
    -device virtio-blk-pci,drive=initdata,serial=initdata
    -no-user-config
    -nodefaults
    -no-reboot
    -display none
    -vga none
    -pidfile /run/pid
    "#);
    let simulation = plan.simulation().unwrap();
    assert_eq!(simulation.hash_area.gpa, 0x0081_0c00);
    assert_eq!(
        simulation.hash_table,
        KernelHashes::of(KERNEL, INITRD, &plan.cmdline).table()
    );
    assert_eq!(Some(simulation.launch_digest), plan.launch_digest());
}

#[test]
fn a_plain_virtual_machine_has_no_measurement_and_a_random_number_device() {
    let host = HostFacts {
        sev_snp: None,
        ..HostFacts::assumed_snp()
    };
    let plan = plan_of(PLAIN, &host, &[]).unwrap();
    assert_snapshot!(lines(&plan, &kernel_vsock_resources()), @r#"
    -name sandbox-abc,debug-threads=on
    -machine q35,accel=kvm,kernel_irqchip=split,memory-backend=ram0
    -cpu host,pmu=off
    -smp 1,sockets=1,cores=1,threads=1,maxcpus=1
    -rtc base=utc
    -m 512M
    -object memory-backend-ram,id=ram0,size=512M
    -kernel /k
    -initrd /i
    -append console=ttyS0 quiet panic=1 reboot=k redoubt.attester=none
    -chardev socket,id=console0,path=/run/console.sock,server=on,wait=off
    -device isa-serial,chardev=console0
    -chardev socket,id=qmp0,fd=3,server=on,wait=off
    -mon chardev=qmp0,mode=control
    -device vhost-vsock-pci,id=vsock0,vhostfd=4,guest-cid=77
    -netdev tap,id=net0,fds=5:6,vhost=on,vhostfds=7:8
    -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:0a,romfile=,mq=on,vectors=6
    -object rng-random,id=rng0,filename=/dev/urandom
    -device virtio-rng-pci,rng=rng0
    -no-user-config
    -nodefaults
    -no-reboot
    -display none
    -vga none
    "#);
    assert_eq!(plan.launch_digest(), None);
    assert!(!plan.is_confidential());
}

#[test]
fn the_digest_is_that_of_the_files_command_line_and_vcpus_of_the_plan() {
    let firmware = Firmware::parse(AMDSEV).unwrap();
    for vcpus in 1..=4 {
        let plan = snp_plan(&[("default_vcpus", &vcpus.to_string())]);
        assert_eq!(plan.vcpus, vcpus);
        let expected = snp_launch_digest(&SnpLaunch {
            firmware: &firmware,
            kernel_hashes: Some(KernelHashes::of(KERNEL, INITRD, &plan.cmdline)),
            vcpus,
            cpu: "EPYC-v4".parse().unwrap(),
            guest_features: 1,
        });
        assert_eq!(plan.launch_digest(), Some(expected.unwrap()));
    }
}

#[test]
fn memory_size_does_not_move_the_digest_but_the_command_line_does() {
    let base = snp_plan(&[]).launch_digest();
    assert_eq!(
        snp_plan(&[("default_memory", "4096")]).launch_digest(),
        base
    );
    assert_ne!(snp_plan(&[("kernel_params", "x=y")]).launch_digest(), base);
    assert_ne!(snp_plan(&[("default_vcpus", "2")]).launch_digest(), base);
}

#[test]
fn the_plan_is_explained_in_sentences() {
    let plan = simulated_plan(&[("kernel_params", "loglevel=4")]);
    assert_snapshot!(plan.explain(), @r#"
    Sandbox abc

    Protection
      simulated SEV-SNP: the host can read and change everything in this guest
      identity /sim
      kernel-hash table of 1024 bytes at 0x810c00
      launch digest ce3a01235bc328cf8f1a5d8d97ac5555e25fefba10de1686d4226daeba354d35264edcbda5f2fb73c82e2794435c7b52
      HOST_DATA 0000000000000000000000000000000000000000000000000000000000000000
      guest policy 0x30000 (no debugging)
      CPU model EPYC-v4
      ID block: no

    Size
      1 vCPU, 512 MiB of memory

    Boot (measured)
      firmware /f of 4096 bytes, sha256 8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c
      kernel /k of 6 bytes, sha256 6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c
      initrd /i of 6 bytes, sha256 09e6c018d2c8c4903308613dd1b72484d57eadf12ec50ddc8f52e5accce470f2
      command line "console=ttyS0 quiet panic=1 reboot=k redoubt.attester=simulated-snp loglevel=4"
      no initdata

    Connections
      vsock through the daemon /vsock
      network: tap device without vhost-net

    Where the values came from
      vCPUs = 1  (default of default_vcpus)
      memory in MiB = 512  (default_memory of configuration.toml)
      hypervisor.qemu.path = "/q"  (configuration.toml)
      hypervisor.qemu.kernel = "/k"  (configuration.toml)
      hypervisor.qemu.initrd = "/i"  (configuration.toml)
      hypervisor.qemu.firmware = "/f"  (configuration.toml)
      hypervisor.qemu.accelerator = "tcg"  (configuration.toml)
      hypervisor.qemu.confidential_guest = true  (configuration.toml)
      hypervisor.qemu.snp_simulation = "/sim"  (configuration.toml)
      hypervisor.qemu.enable_annotations = ["kernel_params", "default_vcpus", "default_memory", "cc_init_data"]  (configuration.toml)
      hypervisor.qemu.kernel_params = "loglevel=4"  (annotation io.katacontainers.config.hypervisor.kernel_params)
      hypervisor.qemu.default_memory = 512  (configuration.toml)
      hypervisor.qemu.vhost_user_vsock = "/vsock"  (configuration.toml)
      hypervisor.qemu.disable_vhost_net = true  (configuration.toml)
    "#);
}

#[test]
fn a_plan_survives_its_serialised_form() {
    let annotation = initdata().to_annotation().unwrap();
    for plan in [
        snp_plan(&[("cc_init_data", &annotation)]),
        simulated_plan(&[]),
    ] {
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<LaunchPlan>(&json).unwrap(), plan);
    }
}

#[test]
fn kernel_parameters_of_a_stronger_layer_replace_those_of_the_same_name() {
    let text = format!("{SIMULATED}kernel_params = \"panic=5 a=1 b=\\\"x y\\\" a=2\"\n");
    let plan = plan_of(&text, &BARE, &[("kernel_params", "a=3  c")]).unwrap();
    assert_snapshot!(plan.cmdline, @r#"console=ttyS0 quiet reboot=k redoubt.attester=simulated-snp panic=5 b="x y" a=3 c"#);
}

#[test]
fn agent_settings_stand_on_the_measured_command_line() {
    let text = format!(
        "{SIMULATED}enable_debug = true\n[agent.kata]\nenable_debug = true\n\
         cdh_api_timeout_ms = 50500\n[image]\npull_timeout = 600\n"
    );
    assert_snapshot!(plan_of(&text, &BARE, &[]).unwrap().cmdline, @"console=ttyS0 panic=1 reboot=k redoubt.attester=simulated-snp agent.log=debug agent.cdh_api_timeout=51 agent.image_pull_timeout=600");
}

#[test]
fn bad_kernel_parameters_are_refused() {
    let refused = |params: &str| {
        let error = plan_of(SIMULATED, &BARE, &[("kernel_params", params)]).unwrap_err();
        OneLine(&error).to_string()
    };
    assert_snapshot!(refused("redoubt.attester=none"), @"[RDT-PLAN-026] kernel parameter redoubt.attester from the annotation kernel_params is reserved");
    assert_snapshot!(refused("a=\"b"), @"[RDT-PLAN-025] kernel parameters from the annotation kernel_params: a double quote is not closed");
    assert_snapshot!(refused("a\nb"), @"[RDT-PLAN-025] kernel parameters from the annotation kernel_params: only printable ASCII characters are possible");
    assert_snapshot!(refused("a -- b"), @"[RDT-PLAN-025] kernel parameters from the annotation kernel_params: arguments for init after -- are not possible");
    assert_snapshot!(refused(&"x".repeat(2048)), @"[RDT-PLAN-027] kernel command line of 2116 bytes is longer than the 2047 that the kernel keeps");
}

#[test]
fn each_resource_is_sized_on_its_own() {
    let sized = |limits: ResourceLimits| {
        let configuration = configuration(PLAIN);
        let host = HostFacts::assumed_snp();
        let request = SandboxRequest {
            limits,
            ..request(&[])
        };
        let plan = plan(&configuration, &request, &host, &files(None)).unwrap();
        (plan.vcpus, plan.memory_mib)
    };
    let none = ResourceLimits::default();
    let cpus = |quota| ResourceLimits {
        cpu_quota_us: Some(quota),
        cpu_period_us: Some(100_000),
        cpu_shares: Some(3072),
        ..none
    };
    let memory = |mib: i64| ResourceLimits {
        memory_bytes: Some(mib << 20),
        ..none
    };
    assert_eq!(sized(none), (1, 512), "defaults");
    assert_eq!(sized(cpus(250_000)), (3, 512), "2.5 + 0.4 CPUs, rounded up");
    assert_eq!(sized(cpus(0)), (1, 512), "no quota");
    assert_eq!(sized(cpus(-1)), (4, 512), "3 CPUs by weight + 0.4");
    assert_eq!(sized(memory(1000)), (1, 1128), "limit and overhead");
    assert_eq!(sized(memory(64)), (1, 256), "raised to the floor");
    assert_eq!(sized(memory(0)), (1, 512), "no limit");
    assert_eq!(
        sized(ResourceLimits {
            memory_bytes: Some(i64::MAX),
            ..none
        }),
        (1, 512),
        "unlimited"
    );
}

const ROOT_DISK: &str = "image = \"/root.img\"\nkernel_verity_params = \"root_hash=\
    0707070707070707070707070707070707070707070707070707070707070707,salt=01,data_blocks=8,\
    data_block_size=4096,hash_block_size=4096\"\n";
/// Eight blocks of data, the superblock, one block of tree.
const ROOT_DISK_BYTES: u64 = 10 * 4096;

fn root_disk_plan(text: &str, bytes: Option<u64>) -> Result<LaunchPlan, PlanError> {
    let files = MeasuredFiles {
        root_disk_bytes: bytes,
        ..files(Some(AMDSEV))
    };
    let configuration = configuration(&format!("{SNP}{text}"));
    let host = HostFacts::assumed_snp();
    plan(&configuration, &request(&[]), &host, &files)
}

#[test]
fn a_root_disk_is_attached_read_only_and_its_root_hash_is_measured() {
    let planned = root_disk_plan(ROOT_DISK, Some(ROOT_DISK_BYTES)).unwrap();
    assert_snapshot!(planned.cmdline, @"console=ttyS0 quiet panic=1 reboot=k redoubt.attester=snp redoubt.root_verity=root_hash=0707070707070707070707070707070707070707070707070707070707070707,salt=01,data_blocks=8,data_block_size=4096,hash_block_size=4096");
    let args = planned.qemu_args(&kernel_vsock_resources());
    let of_disk: Vec<_> = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .filter(|arg| arg.contains("rootfs"))
        .collect();
    assert_snapshot!(of_disk.join("\n"), @"
    driver=raw,node-name=rootfs,read-only=on,file.driver=file,file.filename=/root.img
    virtio-blk-pci,drive=rootfs,serial=rootfs
    ");
    assert!(
        planned
            .explain()
            .contains("root disk /root.img, verified by the root hash")
    );
    let other = ROOT_DISK.replace("root_hash=07", "root_hash=08");
    let other = root_disk_plan(&other, Some(ROOT_DISK_BYTES)).unwrap();
    assert_ne!(planned.launch_digest(), other.launch_digest());
    // Away from the host the digest is the same.
    let away = root_disk_plan(ROOT_DISK, None).unwrap();
    assert_eq!(planned.launch_digest(), away.launch_digest());
}

#[test]
fn a_root_disk_that_cannot_be_verified_is_refused_or_left_alone() {
    let error = |text: &str, bytes| {
        let error = root_disk_plan(text, Some(bytes)).unwrap_err();
        OneLine(&error).to_string()
    };
    assert_snapshot!(error(ROOT_DISK, ROOT_DISK_BYTES - 1), @r#"[RDT-PLAN-039] hypervisor.qemu.image = "/root.img" has 40959 bytes, fewer than the 40960 that kernel_verity_params needs (hint: take image and kernel_verity_params from the same build)"#);
    let params = ROOT_DISK.split_once('\n').unwrap().1;
    assert_snapshot!(error(params, 0), @"[RDT-PLAN-038] kernel_verity_params is set, but image is not (hint: name the disk in image, or remove kernel_verity_params)");
    assert_snapshot!(error(&ROOT_DISK.replace("salt=01,", ""), ROOT_DISK_BYTES), @"[RDT-DMV-008] kernel_verity_params cannot be used: dm-verity parameters: salt is missing (hint: expected root_hash=…,salt=…,data_blocks=…,data_block_size=…,hash_block_size=…)");
    assert_snapshot!(error(&ROOT_DISK.replace("data_blocks=8", "data_blocks=99999999999999999"), ROOT_DISK_BYTES), @"[RDT-DMV-006] kernel_verity_params cannot be used: dm-verity device of 99999999999999999 blocks is empty or too large");
    assert_snapshot!(error(&format!("{ROOT_DISK}kernel_params = \"redoubt.root_verity=1\"\n"), ROOT_DISK_BYTES), @"[RDT-PLAN-026] kernel parameter redoubt.root_verity from kernel_params of configuration.toml is reserved");
    let plain = root_disk_plan("", None).unwrap();
    let unverified = root_disk_plan("image = \"/root.img\"\n", None).unwrap();
    assert_eq!(unverified.root_disk, None);
    assert_eq!(unverified.launch_digest(), plain.launch_digest());
    assert_snapshot!(unverified.warnings.join("\n"), @"hypervisor.qemu.image has no effect without kernel_verity_params: the root file system is the measured initrd");
}

#[test]
fn a_large_initrd_needs_more_memory() {
    let mut files = files(None);
    files.initrd.size_bytes = 120 << 20;
    let error = plan(
        &configuration(PLAIN),
        &request(&[]),
        &HostFacts::assumed_snp(),
        &files,
    )
    .unwrap_err();
    assert_snapshot!(OneLine(&error).to_string(), @"[RDT-PLAN-020] guest memory too small: 512 MiB (default_memory of configuration.toml), this guest needs 552 MiB (hint: raise default_memory in [hypervisor.qemu])");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let snp = HostFacts::assumed_snp();
    assert_snapshot!(refused(&format!("{SNP}default_memory = 255\n"), &snp), @"[RDT-PLAN-020] guest memory too small: 255 MiB (default_memory of configuration.toml), this guest needs 256 MiB (hint: raise default_memory in [hypervisor.qemu])");
    assert_snapshot!(refused(&format!("{SNP}default_vcpus = 0\n"), &snp), @"[RDT-PLAN-021] 0 vCPUs (default_vcpus of configuration.toml) are not possible: 1 to 1024 are");
    assert_snapshot!(refused(&format!("{SNP}default_vcpus = 10000\n"), &snp), @"[RDT-PLAN-021] 10000 vCPUs (default_vcpus of configuration.toml) are not possible: 1 to 1024 are");
}

#[test]
fn a_confidential_guest_never_becomes_a_plain_one() {
    let kvm = HostFacts {
        sev_snp: None,
        ..HostFacts::assumed_snp()
    };
    assert_snapshot!(refused(SNP, &kvm), @"[RDT-PLAN-010] confidential_guest is true, but this host has no TEE (hint: enable SEV-SNP in the host's firmware and kernel (kvm_amd sev_snp=Y); for tests, name a simulated identity in snp_simulation)");
    let tdx = HostFacts { tdx: true, ..kvm };
    assert_snapshot!(refused(&format!("{SNP}accelerator = \"tcg\"\n"), &tdx), @r#"[RDT-PLAN-034] TDX needs accelerator = "kvm" (hint: set accelerator = "kvm")"#);
    let snp = HostFacts::assumed_snp();
    assert_snapshot!(refused(&format!("{SNP}sev_snp_guest = false\n"), &snp), @"[RDT-PLAN-012] confidential_guest is true and sev_snp_guest false, but plain SEV is not supported (hint: set sev_snp_guest = true)");
    assert_snapshot!(refused(&format!("{SNP}accelerator = \"tcg\"\n"), &snp), @r#"[RDT-PLAN-015] SEV-SNP needs accelerator = "kvm""#);
    assert_snapshot!(refused("snp_simulation = \"/sim\"\n", &snp), @"[RDT-PLAN-013] snp_simulation is set, but confidential_guest is false (hint: set confidential_guest = true, or remove snp_simulation)");
}

#[test]
fn what_the_host_lacks_is_named_with_what_to_do() {
    let host = HostFacts {
        sev_snp: None,
        ..HostFacts::assumed_snp()
    };
    assert_snapshot!(refused(PLAIN, &HostFacts { kvm: false, ..host }), @r#"[RDT-PLAN-014] accelerator = "kvm", but this host has no usable /dev/kvm (hint: load kvm_amd or kvm_intel, or set accelerator = "tcg")"#);
    assert_snapshot!(refused(PLAIN, &HostFacts { vhost_net: false, ..host }), @"[RDT-PLAN-016] this host has no /dev/vhost-net (hint: run `modprobe vhost_net`, or set disable_vhost_net = true)");
    assert_snapshot!(refused(PLAIN, &HostFacts { vhost_vsock: false, ..host }), @"[RDT-PLAN-017] this host has no /dev/vhost-vsock (hint: run `modprobe vhost_vsock`, or name the vhost-device-vsock binary in vhost_user_vsock)");
}

#[test]
fn a_pod_without_a_network_needs_no_vhost_net() {
    let host = HostFacts {
        vhost_net: false,
        ..HostFacts::assumed_snp()
    };
    let text = format!("{PLAIN}[runtime]\ninternetworking_model = \"none\"\n");
    assert!(!plan_of(&text, &host, &[]).unwrap().vhost_net);
}

#[test]
fn a_firmware_that_measures_nothing_is_refused_by_name() {
    let refused = |firmware: Option<&[u8]>, text: &str| {
        let error = plan(
            &configuration(text),
            &request(&[]),
            &HostFacts::assumed_snp(),
            &files(firmware),
        )
        .unwrap_err();
        OneLine(&error).to_string()
    };
    assert_snapshot!(refused(Some(GENERIC), SNP), @r#"[RDT-FW-004] the launch needs kernel, initrd and command line to be measured: firmware "/f" has no kernel-hash section: it would boot any kernel, initrd and command line (hint: use an AmdSev build of OVMF, such as /usr/share/ovmf/OVMF.amdsev.fd of the package ovmf-amdsev)"#);
    assert_snapshot!(refused(Some(&[0; 4096]), SNP), @r#"[RDT-PLAN-007] firmware "/f" cannot be used: no OVMF footer GUID at offset 0xfd0 (hint: check that the file is a complete OVMF image)"#);
    assert_snapshot!(refused(None, "confidential_guest = true\n"), @"[RDT-PLAN-001] configuration key hypervisor.qemu.firmware is not set (hint: set it in configuration.toml)");
}

#[test]
fn files_other_than_the_configured_ones_are_not_measured_silently() {
    let mut other = files(None);
    other.kernel.path = "/other".into();
    let error = plan(
        &configuration(PLAIN),
        &request(&[]),
        &HostFacts::assumed_snp(),
        &other,
    )
    .unwrap_err();
    assert!(matches!(
        error,
        PlanError::OtherFiles {
            key: "hypervisor.qemu.kernel",
            ..
        }
    ));
}

fn id_key(name: &str) -> SigningKey {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../id-block/testdata")
        .join(name);
    SigningKey::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn id_block_keys(block: &str, auth: &str) -> String {
    format!("{SNP}snp_id_block = \"{block}\"\nsnp_id_auth = \"{auth}\"\n")
}

#[test]
fn an_id_block_must_fit_the_launch() {
    let block = IdBlock {
        launch_digest: snp_plan(&[]).launch_digest().unwrap(),
        family_id: [1; 16],
        image_id: [2; 16],
        guest_svn: 3,
        policy: 0x3_0000,
    };
    let key = id_key("rs-test_id_key.pem");
    let author = id_key("rs-test_auth_key.pem");
    let snp = HostFacts::assumed_snp();
    let attempt = |block: &IdBlock, auth: &IdAuth| {
        let keys = id_block_keys(&block.to_base64(), &auth.to_base64());
        plan_of(&keys, &snp, &[])
    };
    for (author, enabled) in [(None, "off"), (Some(&author), "on")] {
        let auth = IdAuth::sign(&block, &key, author).unwrap();
        let plan = attempt(&block, &auth).unwrap();
        let args = lines(&plan, &kernel_vsock_resources());
        let expected = format!(
            ",id-block={},id-auth={},author-key-enabled={enabled}",
            block.to_base64(),
            auth.to_base64()
        );
        assert!(args.contains(&expected), "{args}");
    }

    let signed = |block: &IdBlock| attempt(block, &IdAuth::sign(block, &key, None).unwrap());
    let other_digest = IdBlock {
        launch_digest: LaunchDigest([7; 48]),
        ..block
    };
    assert!(matches!(
        signed(&other_digest),
        Err(PlanError::IdBlockDigest { .. })
    ));
    let other_policy = IdBlock {
        policy: 0xb_0000,
        ..block
    };
    assert!(matches!(
        signed(&other_policy),
        Err(PlanError::IdBlockPolicy {
            expected: 0xb_0000,
            actual: 0x3_0000
        })
    ));
    let other_svn = IdBlock {
        guest_svn: 4,
        ..block
    };
    let auth = IdAuth::sign(&block, &key, None).unwrap();
    let error = attempt(&other_svn, &auth).unwrap_err();
    assert_snapshot!(OneLine(&error).to_string(), @"[RDT-IDB-009] snp_id_block or snp_id_auth cannot be used: ID authentication, block signature at offset 0x40: not the ID key's for this ID block");
}

#[test]
fn malformed_id_blocks_are_named_by_their_keys() {
    let snp = HostFacts::assumed_snp();
    let short = id_block_keys("AAAA", &"A".repeat(5464));
    assert_snapshot!(OneLine(&plan_of(&short, &snp, &[]).unwrap_err()).to_string(), @"[RDT-PLAN-031] snp_id_block is not 96 bytes in base64");
    let alone = format!("{SNP}snp_id_block = \"AAAA\"\n");
    assert!(matches!(
        plan_of(&alone, &snp, &[]),
        Err(PlanError::IdBlockPair { .. })
    ));
}

#[test]
fn a_guest_policy_with_reserved_bits_is_refused() {
    for policy in ["0", "65536", "67239936"] {
        let text = format!("{SNP}snp_guest_policy = {policy}\n");
        assert!(matches!(
            plan_of(&text, &HostFacts::assumed_snp(), &[]),
            Err(PlanError::GuestPolicy { .. })
        ));
    }
}

#[test]
fn option_texts_cannot_smuggle_in_other_properties() {
    for line in [
        "machine_accelerators = \"confidential-guest-support=\"",
        "machine_accelerators = \"nosmm,accel=tcg\"",
        "cpu_features = \"pmu=off -device x\"",
        "cpu_model = \"EPYC-v4,+x\"",
    ] {
        let error = plan_of(&format!("{SNP}{line}\n"), &HostFacts::assumed_snp(), &[]);
        assert!(matches!(error, Err(PlanError::OptionText { .. })), "{line}");
    }
    let mut request = request(&[]);
    for id in ["", "../x", "a/b", "a,b", ".", &"x".repeat(129)] {
        request.sandbox_id = id.to_owned();
        let error = plan(
            &configuration(PLAIN),
            &request,
            &HostFacts::assumed_snp(),
            &files(None),
        );
        assert!(matches!(error, Err(PlanError::SandboxId { .. })), "{id}");
    }
}

#[test]
fn damaged_initdata_stops_the_plan() {
    let error = plan_of(SIMULATED, &BARE, &[("cc_init_data", "version = 1")]).unwrap_err();
    assert_snapshot!(OneLine(&error).to_string(), @"[RDT-INIT-008] initdata of the sandbox: initdata annotation is not base64 (hint: the annotation is base64 of the gzip-compressed document: make it with `redoubt initdata build --format annotation`)");
}

#[test]
fn the_configuration_may_hold_initdata_as_text() {
    let document = initdata();
    let quoted = format!("{:?}", document.toml_text());
    let plan = plan_of(&format!("{SIMULATED}initdata = {quoted}\n"), &BARE, &[]).unwrap();
    assert_eq!(plan.initdata.unwrap().toml, document.toml_text());
}

#[test]
fn limits_of_a_pod_come_from_annotations_and_of_a_container_from_its_resources() {
    let container = br#"{"linux":{"resources":{"cpu":{"quota":50000,"period":100000},"memory":{"limit":1048576}}}}"#;
    let request = SandboxRequest::from_oci_spec("a", container).unwrap();
    assert_eq!(request.limits.cpu_quota_us, Some(50_000));
    assert_eq!(request.limits.memory_bytes, Some(1 << 20));
    let pod = br#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-memory":"2097152","io.kubernetes.cri.sandbox-cpu-quota":"-1"},"linux":{"resources":{"memory":{"limit":1}}}}"#;
    let request = SandboxRequest::from_oci_spec("a", pod).unwrap();
    assert_eq!(request.limits.memory_bytes, Some(2 << 20));
    assert_eq!(request.limits.cpu_quota_us, Some(-1));
    assert!(matches!(
        SandboxRequest::from_oci_spec("a", b"[]x"),
        Err(PlanError::Spec { .. })
    ));
    let bad = br#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-memory":"much"}}"#;
    assert!(matches!(
        SandboxRequest::from_oci_spec("a", bad),
        Err(PlanError::Spec { .. })
    ));
}

#[test]
fn files_are_hashed_and_missing_or_wrong_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut kernel = vec![0; 2 << 20];
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    fs::write(path("k"), &kernel).unwrap();
    fs::write(path("i"), INITRD).unwrap();
    fs::write(path("q"), "").unwrap();
    fs::set_permissions(path("q"), fs::Permissions::from_mode(0o755)).unwrap();
    let load = |change: &dyn Fn(&mut Configuration)| {
        let mut configuration = Configuration::default();
        configuration.hypervisor.path = path("q");
        configuration.hypervisor.kernel = path("k");
        configuration.hypervisor.initrd = path("i");
        change(&mut configuration);
        load_files(&configuration, &request(&[]))
    };
    let files = load(&|_| {}).unwrap();
    assert_eq!(
        files.kernel.sha256,
        <[u8; 32]>::from(Sha256::digest(&kernel))
    );
    assert_eq!(files.kernel.size_bytes, 2 << 20);
    let error = |change: &dyn Fn(&mut Configuration)| {
        let text = OneLine(&load(change).unwrap_err()).to_string();
        text.replace(&dir.path().display().to_string(), "DIR")
    };
    assert_snapshot!(error(&|c| c.hypervisor.kernel = path("none")), @r#"[RDT-PLAN-002] hypervisor.qemu.kernel = "DIR/none" does not exist (hint: install the file, or correct the key in configuration.toml)"#);
    assert_snapshot!(error(&|c| c.hypervisor.initrd = PathBuf::new()), @"[RDT-PLAN-001] configuration key hypervisor.qemu.initrd is not set (hint: set it in configuration.toml)");
    assert_snapshot!(error(&|c| c.hypervisor.path = path("none")), @r#"[RDT-PLAN-002] hypervisor.qemu.path = "DIR/none" does not exist (hint: install the file, or correct the key in configuration.toml)"#);
    assert_snapshot!(error(&|c| c.hypervisor.path = path("i")), @r#"[RDT-PLAN-005] hypervisor.qemu.path = "DIR/i" is not an executable file"#);
    assert_snapshot!(error(&|c| c.hypervisor.kernel = path("i")), @r#"[RDT-PLAN-006] hypervisor.qemu.kernel = "DIR/i" cannot be booted: not a bzImage: boot flag at offset 0x1fe is wrong"#);
    assert_snapshot!(error(&|c| c.hypervisor.firmware = path("none")), @r#"[RDT-PLAN-002] hypervisor.qemu.firmware = "DIR/none" does not exist (hint: install the file, or correct the key in configuration.toml)"#);
    assert_snapshot!(error(&|c| c.hypervisor.kernel = dir.path().to_owned()), @r#"[RDT-PLAN-003] cannot read hypervisor.qemu.kernel = "DIR": not a regular file"#);
}
