//! The plan read as QEMU's arguments.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::plan::{
    Accelerator, IdBlockPlan, LaunchPlan, Protection, QuoteService, SnpLaunchPlan, TdxLaunchPlan,
    VsockPlan,
};
use crate::resources::{
    ConsoleResource, LaunchResources, NetworkInterface, QmpResource, VsockResource,
};

impl LaunchPlan {
    /// QEMU's arguments (without the program name) for this plan.
    pub fn qemu_args(&self, resources: &LaunchResources) -> Vec<OsString> {
        let mut args = Args::default();
        args.pair(
            "-name",
            format!("sandbox-{},debug-threads=on", self.sandbox_id),
        );
        self.machine(&mut args);
        self.memory(&mut args);
        self.boot(&mut args, resources);
        self.devices(&mut args, resources);
        for flag in ["-no-user-config", "-nodefaults", "-no-reboot"] {
            args.flag(flag);
        }
        args.pair("-display", "none").pair("-vga", "none");
        if !self.seccomp_sandbox.is_empty() {
            args.pair("-sandbox", &self.seccomp_sandbox);
        }
        if let Some(path) = &resources.pid_file {
            args.flag("-pidfile").path(path);
        }
        args.0
    }

    fn machine(&self, args: &mut Args) {
        let mut machine = format!("{},accel={}", self.machine_type, self.accelerator);
        if self.accelerator == Accelerator::Kvm {
            machine.push_str(",kernel_irqchip=split");
        }
        machine.push_str(",memory-backend=ram0");
        match self.protection {
            Protection::Snp { .. } => machine.push_str(",confidential-guest-support=snp"),
            Protection::Tdx { .. } => machine.push_str(",confidential-guest-support=tdx"),
            Protection::None | Protection::SimulatedSnp { .. } => {}
        }
        append(&mut machine, &self.machine_accelerators);
        args.pair("-machine", machine);
        let mut cpu = self.cpu_model.clone();
        append(&mut cpu, &self.cpu_features);
        args.pair("-cpu", cpu);
        args.pair("-smp", self.smp());
        args.pair("-rtc", "base=utc");
    }

    pub(crate) fn smp(&self) -> String {
        let vcpus = self.vcpus;
        format!("{vcpus},sockets=1,cores={vcpus},threads=1,maxcpus={vcpus}")
    }

    fn memory(&self, args: &mut Args) {
        let mib = self.memory_mib;
        args.pair("-m", format!("{mib}M"));
        // A vhost-user device is another process, which must see the guest's memory.
        let shared = matches!(self.vsock, VsockPlan::VhostUser { .. });
        let mut backend = match (self.memory.huge_pages, shared) {
            (true, _) => format!(
                "memory-backend-file,id=ram0,size={mib}M,mem-path=/dev/hugepages,share={}",
                if shared { "on" } else { "off" }
            ),
            (false, true) => format!("memory-backend-memfd,id=ram0,size={mib}M,share=on"),
            (false, false) => format!("memory-backend-ram,id=ram0,size={mib}M"),
        };
        if self.memory.preallocate {
            backend.push_str(",prealloc=on");
        }
        args.pair("-object", backend);
    }

    fn boot(&self, args: &mut Args, resources: &LaunchResources) {
        if let Some(firmware) = &self.firmware {
            args.flag("-bios").path(&firmware.path);
        }
        args.flag("-kernel").path(&self.kernel.path);
        args.flag("-initrd").path(&self.initrd.path);
        args.pair("-append", &self.cmdline);
        match &self.protection {
            Protection::None => {}
            Protection::Snp { host, launch } => {
                let object = format!(
                    "sev-snp-guest,id=snp,cbitpos={},reduced-phys-bits={},kernel-hashes=on,policy={:#x}",
                    host.cbitpos, host.reduced_phys_bits, launch.policy
                );
                args.pair("-object", object + &reported(launch));
            }
            Protection::Tdx { launch } => {
                args.pair("-object", tdx_guest(launch));
            }
            Protection::SimulatedSnp { hash_area, .. } => {
                if let Some(table) = &resources.hash_table {
                    let address = format!(",addr={:#x},force-raw=on", hash_area.gpa);
                    args.flag("-device")
                        .with_path("loader,file=", table, &address);
                }
            }
        }
    }

    fn devices(&self, args: &mut Args, resources: &LaunchResources) {
        console(args, &resources.console);
        qmp(args, &resources.qmp);
        vsock(args, &resources.vsock);
        for (index, interface) in resources.interfaces.iter().enumerate() {
            network(args, index, interface);
        }
        if let Some(disk) = &resources.initdata_disk {
            read_only_disk(args, "initdata", disk);
        }
        if let Some(disk) = &self.root_disk {
            read_only_disk(args, "rootfs", disk);
        }
        // A confidential guest draws randomness from its CPU: the host's could be chosen by the host.
        if !self.is_confidential() {
            args.flag("-object").with_path(
                "rng-random,id=rng0,filename=",
                &self.entropy_source,
                "",
            );
            args.pair("-device", "virtio-rng-pci,rng=rng0");
        }
    }
}

/// The object of a TDX guest. Debugging is off, as nothing asks for it.
fn tdx_guest(launch: &TdxLaunchPlan) -> String {
    let quote_service = match &launch.quote_service {
        QuoteService::Unix { path } => json!({ "type": "unix", "path": path.to_string_lossy() }),
        // Addresses of vsock are texts in QEMU's JSON; 2 is the host.
        QuoteService::Vsock { port } => {
            json!({ "type": "vsock", "cid": "2", "port": port.to_string() })
        }
    };
    let mut object = json!({
        "qom-type": "tdx-guest",
        "id": "tdx",
        "sept-ve-disable": true,
        "quote-generation-socket": quote_service,
    });
    if launch.mr_config_id != [0; 48] {
        object["mrconfigid"] = STANDARD.encode(launch.mr_config_id).into();
    }
    object.to_string()
}

/// The parts of an SNP launch that the guest's report repeats.
fn reported(launch: &SnpLaunchPlan) -> String {
    let mut text = String::new();
    if launch.host_data != [0; 32] {
        text = format!(",host-data={}", STANDARD.encode(launch.host_data));
    }
    if let Some(IdBlockPlan {
        block,
        auth,
        author_key,
    }) = &launch.id_block
    {
        let author_key = if *author_key { "on" } else { "off" };
        text = format!("{text},id-block={block},id-auth={auth},author-key-enabled={author_key}");
    }
    text
}

fn console(args: &mut Args, console: &ConsoleResource) {
    args.flag("-chardev");
    match console {
        ConsoleResource::Socket(socket) => {
            args.with_path("socket,id=console0,path=", socket, ",server=on,wait=off");
        }
        ConsoleResource::SocketWithLog { socket, log } => {
            let log = Args::escaped(log);
            let mut option = OsString::from("socket,id=console0,path=");
            option.push(Args::escaped(socket));
            option.push(",server=on,wait=off,logfile=");
            option.push(log);
            option.push(",logappend=on");
            args.0.push(option);
        }
        ConsoleResource::File(file) => {
            args.with_path("file,id=console0,path=", file, ",append=on");
        }
    }
    args.pair("-device", "isa-serial,chardev=console0");
}

fn qmp(args: &mut Args, qmp: &QmpResource) {
    args.flag("-chardev");
    match qmp {
        QmpResource::Fd(fd) => {
            args.flag(format!("socket,id=qmp0,fd={fd},server=on,wait=off"));
        }
        QmpResource::Socket(path) => {
            args.with_path("socket,id=qmp0,path=", path, ",server=on,wait=off");
        }
    }
    args.pair("-mon", "chardev=qmp0,mode=control");
}

fn vsock(args: &mut Args, vsock: &VsockResource) {
    match vsock {
        VsockResource::Vhost { fd, guest_cid } => {
            args.pair(
                "-device",
                format!("vhost-vsock-pci,id=vsock0,vhostfd={fd},guest-cid={guest_cid}"),
            );
        }
        VsockResource::VhostUser { socket } => {
            args.flag("-chardev")
                .with_path("socket,id=vsock0,path=", socket, "");
            args.pair("-device", "vhost-user-vsock-pci,chardev=vsock0");
        }
    }
}

/// A disk that the guest finds by its serial number.
fn read_only_disk(args: &mut Args, name: &str, path: &Path) {
    let before =
        format!("driver=raw,node-name={name},read-only=on,file.driver=file,file.filename=");
    args.flag("-blockdev").with_path(&before, path, "");
    args.pair(
        "-device",
        format!("virtio-blk-pci,drive={name},serial={name}"),
    );
}

fn network(args: &mut Args, index: usize, interface: &NetworkInterface) {
    let mut netdev = format!("tap,id=net{index},fds={}", joined(&interface.tap_fds));
    if interface.vhost_fds.is_empty() {
        netdev.push_str(",vhost=off");
    } else {
        netdev = format!(
            "{netdev},vhost=on,vhostfds={}",
            joined(&interface.vhost_fds)
        );
    }
    args.pair("-netdev", netdev);
    let mac: Vec<_> = interface
        .mac
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut device = format!(
        "virtio-net-pci,netdev=net{index},mac={},romfile=",
        mac.join(":")
    );
    let queues = interface.tap_fds.len();
    if queues > 1 {
        device = format!("{device},mq=on,vectors={}", 2 * queues + 2);
    }
    args.pair("-device", device);
}

fn joined(fds: &[i32]) -> String {
    fds.iter().map(i32::to_string).collect::<Vec<_>>().join(":")
}

pub(crate) fn append(option: &mut String, more: &str) {
    if !more.is_empty() {
        option.push(',');
        option.push_str(more);
    }
}

/// Arguments under construction.
#[derive(Default)]
pub(crate) struct Args(pub(crate) Vec<OsString>);

impl Args {
    pub(crate) fn flag(&mut self, flag: impl Into<OsString>) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    pub(crate) fn pair(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.flag(name).flag(value)
    }

    pub(crate) fn path(&mut self, path: &Path) -> &mut Self {
        self.flag(path)
    }

    pub(crate) fn with_path(&mut self, before: &str, path: &Path, after: &str) -> &mut Self {
        let mut option = OsString::from(before);
        option.push(Self::escaped(path));
        option.push(after);
        self.flag(option)
    }

    /// A path inside an option: QEMU reads a doubled comma as one that belongs to the value.
    pub(crate) fn escaped(path: &Path) -> OsString {
        let mut escaped = Vec::new();
        for byte in path.as_os_str().as_bytes() {
            escaped.push(*byte);
            if *byte == b',' {
                escaped.push(b',');
            }
        }
        OsString::from_vec(escaped)
    }
}
