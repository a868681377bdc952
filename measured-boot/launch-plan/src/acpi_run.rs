//! The plan read as arguments of a machine without a guest, whose ACPI tables are the guest's.
//!
//! QEMU makes the tables out of the machine: its vCPUs and memory, the places of its devices on
//! the PCI bus, and the addresses that the firmware gives them. The run has the same machine with
//! devices of other kinds in the same places, and emulates the processor.

use std::ffi::OsString;

use crate::plan::{LaunchPlan, NetworkModel};
use crate::qemu::{Args, append};
use crate::resources::AcpiRunResources;

impl LaunchPlan {
    /// Network interfaces of a pod with one network.
    pub fn usual_interfaces(&self) -> usize {
        match self.network_model {
            NetworkModel::TcFilter => 1,
            NetworkModel::None => 0,
        }
    }

    /// QEMU's arguments for a run in which the firmware fetches the ACPI tables of a TDX guest.
    pub fn acpi_run_args(&self, resources: &AcpiRunResources) -> Vec<OsString> {
        let mut args = Args::default();
        // TDX has neither system management mode nor the old interrupt controller.
        let mut machine = format!(
            "{},accel=tcg,memory-backend=ram0,smm=off,pic=off",
            self.machine_type
        );
        append(&mut machine, &self.machine_accelerators);
        args.pair("-machine", machine);
        args.pair("-cpu", format!("max,phys-bits={}", resources.phys_bits));
        args.pair("-smp", self.smp());
        let mib = self.memory_mib;
        args.pair("-m", format!("{mib}M"));
        args.pair("-object", format!("memory-backend-ram,id=ram0,size={mib}M"));
        let planned = self.firmware.as_ref().map(|firmware| &firmware.path);
        if let Some(firmware) = resources.firmware.as_ref().or(planned) {
            args.flag("-bios").path(firmware);
        }
        self.stand_ins(&mut args, resources);
        args.flag("-chardev").with_path(
            "socket,id=qmp0,path=",
            &resources.qmp,
            ",server=on,wait=off",
        );
        args.pair("-mon", "chardev=qmp0,mode=control");
        args.flag("-chardev").with_path(
            "socket,id=qtest0,path=",
            &resources.qtest,
            ",server=on,wait=off",
        );
        args.pair("-qtest", "chardev:qtest0");
        args.pair("-qtest-log", "none");
        for flag in ["-no-user-config", "-nodefaults", "-no-reboot"] {
            args.flag(flag);
        }
        args.pair("-display", "none").pair("-vga", "none");
        args.0
    }

    /// Devices in the order of the guest's, as only their places count.
    fn stand_ins(&self, args: &mut Args, resources: &AcpiRunResources) {
        args.flag("-chardev")
            .with_path("file,id=console0,path=", &resources.console, "");
        args.pair("-device", "isa-serial,chardev=console0");
        // In the place of the vsock device.
        args.pair("-device", "virtio-rng-pci");
        for _ in 0..resources.interfaces {
            args.pair("-device", "virtio-net-pci,romfile=");
        }
        if self.initdata.is_some() {
            args.pair(
                "-blockdev",
                "driver=null-co,node-name=initdata,read-only=on,size=4096",
            );
            args.pair("-device", "virtio-blk-pci,drive=initdata,serial=initdata");
        }
    }
}
