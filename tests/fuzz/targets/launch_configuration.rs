//! Reads a configuration and a pod's annotations, and plans the launch they ask for.
//!
//! The input is the TOML text and, each behind a NUL, annotations as `name=value`.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redoubt_firmware::Firmware;
use redoubt_launch_plan::{
    ANNOTATION_PREFIX, ConfigSource, Configuration, ConsoleResource, FirmwareFile, HostFacts,
    LaunchResources, MeasuredFile, MeasuredFiles, NetworkInterface, QmpResource, ResourceLimits,
    SandboxRequest, VsockResource, plan,
};

static FILES: LazyLock<MeasuredFiles> = LazyLock::new(|| {
    let firmware = include_bytes!("../../../firmware/testdata/ovmf_AmdSev_suffix.bin");
    let file = |path: &str| MeasuredFile {
        path: path.into(),
        sha256: [7; 32],
        size_bytes: 4096,
    };
    MeasuredFiles {
        root_disk_bytes: None,
        qemu: "/q".into(),
        kernel: file("/k"),
        initrd: file("/i"),
        firmware: Some(FirmwareFile {
            file: file("/f"),
            image: Firmware::parse(firmware),
        }),
    }
});

fn resources() -> LaunchResources {
    LaunchResources {
        vsock: VsockResource::Vhost {
            fd: 4,
            guest_cid: 77,
        },
        console: ConsoleResource::Socket("/run/console.sock".into()),
        qmp: QmpResource::Fd(3),
        initdata_disk: Some("/run/initdata.img".into()),
        hash_table: Some("/run/hashes.bin".into()),
        interfaces: vec![NetworkInterface {
            mac: [2, 0, 0, 0, 0, 0xa],
            tap_fds: vec![5, 6],
            vhost_fds: vec![7, 8],
        }],
        pid_file: None,
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut parts = text.split('\0');
    let source = ConfigSource {
        name: "configuration.toml".to_owned(),
        text: parts.next().unwrap_or_default().to_owned(),
    };
    let Ok((configuration, warnings)) = Configuration::from_sources(&[source]) else {
        return;
    };
    for warning in &warnings {
        let _ = warning.to_string();
    }
    let annotations: BTreeMap<String, String> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (format!("{ANNOTATION_PREFIX}{name}"), value.to_owned()))
        .collect();
    let request = SandboxRequest {
        sandbox_id: "fuzz".to_owned(),
        annotations,
        limits: ResourceLimits::default(),
    };
    let bare = HostFacts {
        sev_snp: None,
        tdx: false,
        tdx_quote_socket: false,
        kvm: false,
        vhost_net: false,
        vhost_vsock: true,
    };
    for host in [HostFacts::assumed_snp(), bare] {
        let Ok(plan) = plan(&configuration, &request, &host, &FILES) else {
            continue;
        };
        // The digest that is printed is the one that is launched.
        assert_eq!(plan.launch_digest().is_some(), plan.is_confidential());
        let _ = plan.explain();
        let _ = plan.simulation();
        let args = plan.qemu_args(&resources());
        assert!(
            args.iter().all(|arg| !arg.as_encoded_bytes().contains(&0)),
            "a NUL would cut an argument short"
        );
    }
});
