//! Plans of TDX guests: the guest object, what is refused, and the run that shows ACPI tables.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::ffi::OsString;
use std::path::PathBuf;

use insta::assert_snapshot;
use redoubt_errors::OneLine;
use redoubt_firmware::Firmware;
use redoubt_initdata::{Algorithm, Initdata};
use redoubt_launch_plan::{
    AcpiRunResources, ConfigSource, Configuration, ConsoleResource, FirmwareFile, HostFacts,
    LaunchPlan, LaunchResources, MeasuredFile, MeasuredFiles, NetworkInterface, PlanError,
    QmpResource, SandboxRequest, VsockResource, plan,
};
use sha2::{Digest, Sha256};

/// An image that can start TDX guests, and one that cannot.
const GENERIC: &[u8] = include_bytes!("../../../firmware/testdata/ovmf_OvmfX64_suffix.bin");
const AMDSEV: &[u8] = include_bytes!("../../../firmware/testdata/ovmf_AmdSev_suffix.bin");

const TDX: &str = "[hypervisor.qemu]\npath = \"/q\"\nkernel = \"/k\"\ninitrd = \"/i\"\n\
                   firmware = \"/f\"\nconfidential_guest = true\n";

fn measured(path: &str, bytes: &[u8]) -> MeasuredFile {
    MeasuredFile {
        path: PathBuf::from(path),
        sha256: Sha256::digest(bytes).into(),
        size_bytes: bytes.len() as u64,
    }
}

fn plan_of(more: &str, host: &HostFacts, firmware: &[u8]) -> Result<LaunchPlan, PlanError> {
    let source = ConfigSource {
        name: "configuration.toml".to_owned(),
        text: format!("{TDX}{more}"),
    };
    let (configuration, _) = Configuration::from_sources(&[source]).unwrap();
    let request = SandboxRequest {
        sandbox_id: "abc".to_owned(),
        ..SandboxRequest::default()
    };
    let files = MeasuredFiles {
        root_disk_bytes: None,
        qemu: PathBuf::from("/q"),
        kernel: measured("/k", b"kernel"),
        initrd: measured("/i", b"initrd"),
        firmware: Some(FirmwareFile {
            file: measured("/f", firmware),
            image: Firmware::parse(firmware),
        }),
    };
    plan(&configuration, &request, host, &files)
}

fn tdx_plan(more: &str) -> LaunchPlan {
    plan_of(more, &HostFacts::assumed_tdx(), GENERIC).unwrap()
}

fn initdata() -> Initdata {
    let entries = [(
        "policy.rego".to_owned(),
        "package agent_policy\n".to_owned(),
    )];
    Initdata::build(Algorithm::Sha384, entries.into()).unwrap()
}

fn with_initdata() -> String {
    let annotation = initdata().to_annotation().unwrap();
    format!("initdata = \"{annotation}\"\n")
}

fn resources() -> LaunchResources {
    LaunchResources {
        vsock: VsockResource::Vhost {
            fd: 4,
            guest_cid: 77,
        },
        console: ConsoleResource::Socket("/run/console.sock".into()),
        qmp: QmpResource::Fd(3),
        initdata_disk: Some("/run/initdata".into()),
        hash_table: None,
        interfaces: vec![NetworkInterface {
            mac: [2, 0, 0, 0, 0, 0xa],
            tap_fds: vec![5],
            vhost_fds: vec![7],
        }],
        pid_file: None,
    }
}

fn acpi_run() -> AcpiRunResources {
    AcpiRunResources {
        firmware: None,
        interfaces: 1,
        phys_bits: 46,
        console: "/run/console".into(),
        qmp: "/run/qmp".into(),
        qtest: "/run/q,test".into(),
    }
}

fn lines(args: Vec<OsString>) -> String {
    let mut text = String::new();
    for arg in args {
        let arg = arg.into_string().unwrap();
        text.push_str(if arg.starts_with('-') { "\n" } else { " " });
        text.push_str(&arg);
    }
    text.trim_start().to_owned()
}

fn object_of(plan: &LaunchPlan) -> serde_json::Value {
    let args = plan.qemu_args(&resources());
    let object = args
        .iter()
        .find(|arg| arg.to_str().is_some_and(|arg| arg.contains("tdx-guest")))
        .unwrap();
    serde_json::from_str(object.to_str().unwrap()).unwrap()
}

#[test]
fn a_tdx_host_gets_the_guest_object_and_the_initdata_digest() {
    let plan = tdx_plan(&with_initdata());
    assert_snapshot!(lines(plan.qemu_args(&resources())), @r#"
    -name sandbox-abc,debug-threads=on
    -machine q35,accel=kvm,kernel_irqchip=split,memory-backend=ram0,confidential-guest-support=tdx
    -cpu host,pmu=off
    -smp 1,sockets=1,cores=1,threads=1,maxcpus=1
    -rtc base=utc
    -m 2048M
    -object memory-backend-ram,id=ram0,size=2048M
    -bios /f
    -kernel /k
    -initrd /i
    -append console=ttyS0 quiet panic=1 reboot=k redoubt.attester=tdx
    -object {"id":"tdx","mrconfigid":"6a74LIKECxqNugePOqNprM95kPl7Qv8ZKaPBZN1ULPBcbkzKyevtQw+u4K8XfRvr","qom-type":"tdx-guest","quote-generation-socket":{"cid":"2","port":"4050","type":"vsock"},"sept-ve-disable":true}
    -chardev socket,id=console0,path=/run/console.sock,server=on,wait=off
    -device isa-serial,chardev=console0
    -chardev socket,id=qmp0,fd=3,server=on,wait=off
    -mon chardev=qmp0,mode=control
    -device vhost-vsock-pci,id=vsock0,vhostfd=4,guest-cid=77
    -netdev tap,id=net0,fds=5,vhost=on,vhostfds=7
    -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:0a,romfile=
    -blockdev driver=raw,node-name=initdata,read-only=on,file.driver=file,file.filename=/run/initdata
    -device virtio-blk-pci,drive=initdata,serial=initdata
    -no-user-config
    -nodefaults
    -no-reboot
    -display none
    -vga none
    "#);
    assert_eq!(plan.tdx().unwrap().mr_config_id, initdata().mr_config_id());
    assert_eq!(plan.launch_digest(), None);
    assert!(plan.is_confidential());
}

#[test]
fn quotes_come_from_the_socket_the_port_or_the_usual_port() {
    let unset = object_of(&tdx_plan(""));
    assert_eq!(unset.get("mrconfigid"), None);
    assert_eq!(unset["sept-ve-disable"], true);
    assert_snapshot!(unset["quote-generation-socket"], @r#"{"cid":"2","port":"4050","type":"vsock"}"#);
    let port = "tdx_quote_generation_service_socket_port = 4711\n";
    assert_snapshot!(object_of(&tdx_plan(port))["quote-generation-socket"], @r#"{"cid":"2","port":"4711","type":"vsock"}"#);
    let host = HostFacts {
        tdx_quote_socket: true,
        ..HostFacts::assumed_tdx()
    };
    let socket = plan_of("", &host, GENERIC).unwrap();
    assert_snapshot!(object_of(&socket)["quote-generation-socket"], @r#"{"path":"/var/run/tdx-qgs/qgs.socket","type":"unix"}"#);
    let named = plan_of(port, &host, GENERIC).unwrap();
    assert_eq!(object_of(&named)["quote-generation-socket"]["port"], "4711");
}

#[test]
fn the_plan_is_explained_and_survives_its_serialised_form() {
    let plan = tdx_plan(&with_initdata());
    let text = plan.explain();
    let boot = text.find("\nBoot").unwrap();
    assert_snapshot!(&text[..boot], @r"
    Sandbox abc

    Protection
      Intel TDX
      MRCONFIGID e9aef82c82840b1a8dba078f3aa369accf7990f97b42ff1929a3c164dd542cf05c6e4ccac9ebed430faee0af177d1beb
      quotes by the service at vsock port 4050 of the host

    Size
      1 vCPU, 2048 MiB of memory
    ");
    assert!(text.contains("bytes, as MRCONFIGID"), "{text}");
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<LaunchPlan>(&json).unwrap(), plan);
}

#[test]
fn what_cannot_run_on_tdx_is_refused() {
    let refused = |firmware: &[u8]| {
        let error = plan_of("", &HostFacts::assumed_tdx(), firmware).unwrap_err();
        OneLine(&error).to_string()
    };
    // Another GUID in the place of the TDX metadata's.
    let guid = hex::decode("35657ae44a989847865e4685a7bf8ec2").unwrap();
    let mut without = GENERIC.to_vec();
    let at = without.windows(16).position(|bytes| bytes == guid).unwrap();
    without[at] ^= 1;
    assert_snapshot!(refused(&without), @r#"[RDT-PLAN-035] firmware "/f" cannot start a TDX guest: firmware has no TDX metadata: it cannot start as a TDX guest (hint: use a build of OVMF for TDX, such as /usr/share/ovmf/OVMF.inteltdx.ms.fd of the package ovmf-inteltdx)"#);
    let plan = tdx_plan("");
    assert_snapshot!(OneLine(&plan.require_launchable().unwrap_err()), @"[RDT-PLAN-011] confidential_guest is true, but guests are not launched on Intel TDX yet (hint: use an SEV-SNP host)");
    let snp = plan_of("", &HostFacts::assumed_snp(), AMDSEV).unwrap();
    assert_eq!(snp.tdx(), None);
    assert!(snp.require_launchable().is_ok());
}

#[test]
fn the_run_for_acpi_tables_has_the_machine_of_the_plan() {
    let plan = tdx_plan(&with_initdata());
    assert_snapshot!(lines(plan.acpi_run_args(&acpi_run())), @r"
    -machine q35,accel=tcg,memory-backend=ram0,smm=off,pic=off
    -cpu max,phys-bits=46
    -smp 1,sockets=1,cores=1,threads=1,maxcpus=1
    -m 2048M
    -object memory-backend-ram,id=ram0,size=2048M
    -bios /f
    -chardev file,id=console0,path=/run/console
    -device isa-serial,chardev=console0
    -device virtio-rng-pci
    -device virtio-net-pci,romfile=
    -blockdev driver=null-co,node-name=initdata,read-only=on,size=4096
    -device virtio-blk-pci,drive=initdata,serial=initdata
    -chardev socket,id=qmp0,path=/run/qmp,server=on,wait=off
    -mon chardev=qmp0,mode=control
    -chardev socket,id=qtest0,path=/run/q,,test,server=on,wait=off
    -qtest chardev:qtest0
    -qtest-log none
    -no-user-config
    -nodefaults
    -no-reboot
    -display none
    -vga none
    ");
    assert_eq!(plan.usual_interfaces(), 1);
    // A stand-in on the PCI bus for each device on the PCI bus, in the same order.
    let places = |args: Vec<OsString>| {
        let texts: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        let devices = texts
            .windows(2)
            .filter(|pair| pair[0] == "-device")
            .map(|pair| match pair[1].split(',').next().unwrap() {
                "vhost-vsock-pci" | "virtio-rng-pci" => "first",
                other => other,
            });
        devices.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        places(plan.acpi_run_args(&acpi_run())),
        places(plan.qemu_args(&resources()))
    );
    let other = AcpiRunResources {
        firmware: Some("/other".into()),
        interfaces: 0,
        ..acpi_run()
    };
    let text = lines(plan.acpi_run_args(&other));
    assert!(
        text.contains("-bios /other") && !text.contains("virtio-net"),
        "{text}"
    );
}
