//! The events of a direct boot, in the order in which firmware and kernel measure them.

use redoubt_event_log::{Event, EventLog, EventType, Rtmr, Rtmrs, Variable};
use redoubt_firmware::{Firmware, Guid, TdxSectionKind};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha384};

use crate::acpi::AcpiDigests;
use crate::error::TdxError;
use crate::generation::{BootSeparator, EventLayout, SecureBootDriver};
use crate::hob::{one, td_hob};
use crate::variables::{GLOBAL, IMAGE_SECURITY, variable};

const SEPARATOR: [u8; 4] = [0; 4];
/// What the firmware appends to the command line where there is an initrd.
const INITRD_PARAMETER: &str = " initrd=initrd";

/// Something that is measured into a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeasuredEvent {
    /// The register.
    pub rtmr: Rtmr,
    /// What it is.
    pub label: String,
    /// The digest that extends the register.
    #[serde(rename = "sha384", serialize_with = "as_hex")]
    pub digest: [u8; 48],
}

fn as_hex<S: Serializer>(digest: &[u8; 48], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&hex::encode(digest))
}

impl MeasuredEvent {
    fn new(rtmr: Rtmr, label: impl Into<String>, digest: [u8; 48]) -> Self {
        Self {
            rtmr,
            label: label.into(),
            digest,
        }
    }

    fn of(rtmr: Rtmr, label: impl Into<String>, measured: impl AsRef<[u8]>) -> Self {
        Self::new(rtmr, label, Sha384::digest(measured.as_ref()).into())
    }
}

/// What the host gives the firmware.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// The guest's memory in MiB.
    pub memory_mib: u64,
    /// Its ACPI tables.
    pub acpi: AcpiDigests,
}

/// The kernel's digest as the firmware measures it: Authenticode, of the file or of the patched file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelDigest(pub [u8; 48]);

/// The events of RTMR0: what the host gave the firmware, and the firmware's own settings.
pub fn rtmr0_events(
    firmware: &Firmware,
    platform: &Platform,
    layout: EventLayout,
) -> Result<Vec<MeasuredEvent>, TdxError> {
    layout.require_predictable()?;
    let rtmr = Rtmr::Rtmr0;
    let volume = configuration_volume(firmware)?;
    let mut events = vec![hob_event(firmware, platform.memory_mib)?];
    events.push(MeasuredEvent::of(
        rtmr,
        "firmware volume with the configuration (CFV)",
        volume,
    ));
    events.extend(secure_boot_variables(volume, layout.secure_boot_driver));
    let AcpiDigests {
        loader,
        rsdp,
        tables,
    } = platform.acpi;
    events.extend([
        MeasuredEvent::of(rtmr, "separator", SEPARATOR),
        MeasuredEvent::new(rtmr, "ACPI table loader", loader),
        MeasuredEvent::new(rtmr, "ACPI root pointer (RSDP)", rsdp),
        MeasuredEvent::new(rtmr, "ACPI tables", tables),
        MeasuredEvent::of(rtmr, "UEFI variable BootOrder: 0000", [0, 0]),
        MeasuredEvent::of(rtmr, "UEFI variable Boot0000: UiApp", ui_app_option()),
    ]);
    if layout.boot_separator == BootSeparator::Rtmr0 {
        events.push(MeasuredEvent::of(rtmr, "separator", SEPARATOR));
    }
    Ok(events)
}

/// The events of RTMR0 as a guest with the same firmware and shape has logged them.
///
/// For firmware that measures more than can be predicted. What can be predicted must
/// stand in the log: the guest's memory and the firmware's configuration.
pub fn rtmr0_events_from_log(
    firmware: &Firmware,
    memory_mib: u64,
    log: &EventLog<'_>,
) -> Result<Vec<MeasuredEvent>, TdxError> {
    log.replay()?;
    let events: Vec<MeasuredEvent> = log
        .events()
        .iter()
        .zip(log.labels())
        .filter(|(event, _)| event.extends())
        .filter_map(|(event, label)| {
            let rtmr = event.register.rtmr().filter(|rtmr| *rtmr == Rtmr::Rtmr0)?;
            Some(MeasuredEvent::new(rtmr, label, event.sha384()?))
        })
        .collect();
    let volume = configuration_volume(firmware)?;
    let expected = [
        (
            EventType::EFI_HANDOFF_TABLES2,
            hob_event(firmware, memory_mib)?,
        ),
        (
            EventType::EFI_PLATFORM_FIRMWARE_BLOB2,
            MeasuredEvent::of(
                Rtmr::Rtmr0,
                "firmware volume with the configuration (CFV)",
                volume,
            ),
        ),
    ];
    for (kind, expected) in expected {
        let found = log.events().iter().find(|event| event.kind == kind);
        let found = found.and_then(Event::sha384);
        if found != Some(expected.digest) {
            return Err(TdxError::LogDigest {
                label: expected.label,
                found: found.map_or_else(|| "none".to_owned(), hex::encode),
                expected: hex::encode(expected.digest),
            });
        }
    }
    Ok(events)
}

/// The events of RTMR1: the kernel and what the firmware did to start it.
pub fn rtmr1_events(kernel: KernelDigest, layout: EventLayout) -> Vec<MeasuredEvent> {
    let rtmr = Rtmr::Rtmr1;
    let action = |text: &str| MeasuredEvent::of(rtmr, text, text);
    let mut events = vec![
        MeasuredEvent::new(rtmr, "kernel given by the host", kernel.0),
        action("Calling EFI Application from Boot Option"),
    ];
    if layout.boot_separator == BootSeparator::Rtmr1 {
        events.push(MeasuredEvent::of(rtmr, "separator", SEPARATOR));
    }
    events.extend([
        action("Exit Boot Services Invocation"),
        action("Exit Boot Services Returned with Success"),
    ]);
    events
}

/// The events of RTMR2, which the kernel's EFI stub measures: command line and initrd.
pub fn rtmr2_events(
    cmdline: &str,
    initrd_sha384: Option<[u8; 48]>,
) -> Result<Vec<MeasuredEvent>, TdxError> {
    let printable = |byte: u8| (0x20..=0x7e).contains(&byte);
    if let Some(offset) = cmdline.bytes().position(|byte| !printable(byte)) {
        return Err(TdxError::Cmdline { offset });
    }
    let parameter = match initrd_sha384 {
        Some(_) => INITRD_PARAMETER,
        None => "",
    };
    let mut events = Vec::new();
    if !(cmdline.is_empty() && parameter.is_empty()) {
        let text: Vec<u8> = cmdline
            .encode_utf16()
            .chain(parameter.encode_utf16())
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        events.push(MeasuredEvent::of(Rtmr::Rtmr2, "kernel command line", text));
    }
    if let Some(digest) = initrd_sha384 {
        events.push(MeasuredEvent::new(Rtmr::Rtmr2, "initrd", digest));
    }
    Ok(events)
}

/// The registers after these events.
pub fn replay(events: &[MeasuredEvent]) -> Rtmrs {
    let mut rtmrs = Rtmrs::default();
    for event in events {
        rtmrs.extend(event.rtmr, &event.digest);
    }
    rtmrs
}

fn hob_event(firmware: &Firmware, memory_mib: u64) -> Result<MeasuredEvent, TdxError> {
    let list = td_hob(firmware.require_tdx_sections()?, memory_mib)?;
    Ok(MeasuredEvent::of(
        Rtmr::Rtmr0,
        "TD HOB: the memory that the host gave",
        list,
    ))
}

fn configuration_volume(firmware: &Firmware) -> Result<&[u8], TdxError> {
    let section = one(firmware.require_tdx_sections()?, TdxSectionKind::Cfv, "CFV")?;
    Ok(firmware.tdx_section_data(section)?)
}

/// The five variables of secure boot, with the values that the image brings.
fn secure_boot_variables(volume: &[u8], driver: SecureBootDriver) -> Vec<MeasuredEvent> {
    let event = |vendor: Guid, name: &str, value: &[u8]| {
        let value_text = match (name, value) {
            ("SecureBoot", []) => "not set".to_owned(),
            ("SecureBoot", [1]) => "on".to_owned(),
            ("SecureBoot", _) => "off".to_owned(),
            (_, []) => "empty".to_owned(),
            (_, value) => format!("{} bytes", value.len()),
        };
        let label = format!("UEFI variable {name}: {value_text}");
        MeasuredEvent::of(Rtmr::Rtmr0, label, Variable::encode(vendor, name, value))
    };
    let stored = |vendor, name| variable(volume, vendor, name).unwrap_or_default();
    let secure_boot: &[u8] = match (stored(GLOBAL, "PK"), driver) {
        ([], SecureBootDriver::Absent) => &[],
        ([], SecureBootDriver::Present) => &[0],
        _ => &[1],
    };
    let mut events = vec![event(GLOBAL, "SecureBoot", secure_boot)];
    for (vendor, name) in [
        (GLOBAL, "PK"),
        (GLOBAL, "KEK"),
        (IMAGE_SECURITY, "db"),
        (IMAGE_SECURITY, "dbx"),
    ] {
        events.push(event(vendor, name, stored(vendor, name)));
    }
    events
}

/// The option for the firmware's own menu (`EFI_LOAD_OPTION`, UEFI 2.10, section 3.1.3).
fn ui_app_option() -> Vec<u8> {
    /// Active, hidden, an application.
    const ATTRIBUTES: u32 = 0x109;
    const VOLUME: Guid = Guid::new(
        0x7cb8_bdc9,
        0xf8eb,
        0x4f34,
        0xaaea,
        [0x3e, 0xe4, 0xaf, 0x65, 0x16, 0xa1],
    );
    const FILE: Guid = Guid::new(
        0x462c_aa21,
        0x7614,
        0x4503,
        0x836e,
        [0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31],
    );
    // Nodes of a device path: firmware volume, file in it, end.
    let mut path = vec![4, 7, 20, 0];
    path.extend_from_slice(&VOLUME.0);
    path.extend_from_slice(&[4, 6, 20, 0]);
    path.extend_from_slice(&FILE.0);
    path.extend_from_slice(&[0x7f, 0xff, 4, 0]);
    let mut option = ATTRIBUTES.to_le_bytes().to_vec();
    option.extend_from_slice(&u16::try_from(path.len()).unwrap_or(0).to_le_bytes());
    for unit in "UiApp\0".encode_utf16() {
        option.extend_from_slice(&unit.to_le_bytes());
    }
    option.append(&mut path);
    option
}
