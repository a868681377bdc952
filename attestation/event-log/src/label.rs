//! Says what each event was, for people.

use crate::aael::{Aael, INITRD_TAG, LOAD_OPTIONS_TAG, TaggedEvent};
use crate::device_path::device_path;
use crate::event::Event;
use crate::event_type::EventType;
use crate::log::EventLog;
use crate::reader::Reader;
use crate::text;
use crate::variable::Variable;

/// What OVMF measures under one name, in this order.
const ACPI_PARTS: [&str; 3] = [
    "ACPI table loader",
    "ACPI root pointer (RSDP)",
    "ACPI tables",
];

impl EventLog<'_> {
    /// A label for every event, in order.
    pub fn labels(&self) -> Vec<String> {
        let unnamed = self.events().iter().filter(|event| is_unnamed_acpi(event));
        let all_parts = unnamed.count() == ACPI_PARTS.len();
        let mut parts = ACPI_PARTS.iter();
        self.events()
            .iter()
            .map(|event| {
                let part = (all_parts && is_unnamed_acpi(event)).then(|| parts.next());
                part.flatten()
                    .map_or_else(|| label(event), |part| (*part).to_owned())
            })
            .collect()
    }
}

fn is_unnamed_acpi(event: &Event<'_>) -> bool {
    event.kind == EventType::PLATFORM_CONFIG_FLAGS && event.data == b"ACPI DATA"
}

fn label(event: &Event<'_>) -> String {
    let data = event.data;
    match event.kind {
        EventType::NO_ACTION => format!("information: {}", text::until_nul(data)),
        EventType::SEPARATOR => "separator".to_owned(),
        EventType::EFI_HANDOFF_TABLES => "tables that the host gave, such as SMBIOS".to_owned(),
        EventType::EFI_HANDOFF_TABLES2 => handoff_tables(data),
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 => firmware_blob(data),
        EventType::EFI_GPT_EVENT => "partition table".to_owned(),
        EventType::EFI_BOOT_SERVICES_APPLICATION => application(data),
        EventType::EFI_ACTION | EventType::ACTION | EventType::IPL => text::until_nul(data),
        EventType::EVENT_TAG => tagged(data),
        EventType::POST_CODE | EventType::PLATFORM_CONFIG_FLAGS => configuration(data),
        _ => match event.variable() {
            Some(found) => variable(event.kind, &found),
            None => format!("{}, {} bytes", event.kind, data.len()),
        },
    }
}

/// A text with its length in front.
fn described<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = reader.u8("length").ok()?;
    reader.take(usize::from(len), "description").ok()
}

fn handoff_tables(data: &[u8]) -> String {
    let description = described(&mut Reader::new(data)).map(text::until_nul);
    match description.as_deref() {
        Some("TdxTable") => "TD HOB: the memory that the host gave".to_owned(),
        Some(other) => format!("tables that the host gave: {other}"),
        None => "tables that the host gave".to_owned(),
    }
}

fn firmware_blob(data: &[u8]) -> String {
    let Some((name, start, len)) = blob_place(data) else {
        return "part of the firmware".to_owned();
    };
    match name.as_str() {
        "td_payload" => format!("kernel in td-shim: {len} bytes at {start:#x}"),
        _ if name.starts_with("Fv(") => {
            format!("firmware volume with the configuration: {len} bytes at {start:#x}")
        }
        _ => format!("part of the firmware, {name}: {len} bytes at {start:#x}"),
    }
}

fn blob_place(data: &[u8]) -> Option<(String, u64, u64)> {
    let mut reader = Reader::new(data);
    let name = text::until_nul(described(&mut reader)?);
    let start = reader.u64("start").ok()?;
    Some((name, start, reader.u64("length").ok()?))
}

fn application(data: &[u8]) -> String {
    let nodes = application_path(data).unwrap_or_default();
    match nodes.last() {
        Some(file) if file == "File(kernel)" => "kernel given by the host".to_owned(),
        Some(_) => format!("program {}", nodes.join("/")),
        None => "program without a path".to_owned(),
    }
}

fn application_path(data: &[u8]) -> Option<Vec<String>> {
    /// Address, length and link address come before the path's length.
    const BEFORE_PATH_LEN: usize = 24;
    let mut reader = Reader::new(data);
    reader.take(BEFORE_PATH_LEN, "image").ok()?;
    let len = usize::try_from(reader.u64("length of the path").ok()?).ok()?;
    Some(device_path(reader.take(len, "path").ok()?))
}

fn tagged(data: &[u8]) -> String {
    if let Some(event) = Aael::parse(data) {
        let content = text::printable(event.content());
        return format!(
            "runtime event {} {}: {content}",
            event.domain(),
            event.operation()
        );
    }
    match TaggedEvent::parse(data).map(|event| event.tag) {
        Some(LOAD_OPTIONS_TAG) => "kernel command line".to_owned(),
        Some(INITRD_TAG) => "initrd".to_owned(),
        Some(tag) => format!("tagged event {tag:#x}"),
        // Older kernels wrote only the description.
        None if data.starts_with(b"LOADED_IMAGE::LoadOptions") => "kernel command line".to_owned(),
        None if data.starts_with(b"Linux initrd") => "initrd".to_owned(),
        None => "tagged event".to_owned(),
    }
}

fn configuration(data: &[u8]) -> String {
    const FW_CFG: &[u8] = b"QEMU FW CFG\0";
    const TD_SHIM_PARAMETERS: &str = "td_payload_info";
    if let Some(name) = data.strip_prefix(FW_CFG) {
        return format!("firmware configuration {}", text::until_nul(name));
    }
    let name = text::until_nul(data);
    let [loader, rsdp, tables] = ACPI_PARTS;
    match name.as_str() {
        "etc/table-loader" => loader.to_owned(),
        "etc/acpi/rsdp" => rsdp.to_owned(),
        "etc/acpi/tables" => tables.to_owned(),
        "td_hob" => "TD HOB: the memory that the host gave".to_owned(),
        // The name fills 16 bytes; a length of four bytes follows.
        TD_SHIM_PARAMETERS => {
            let line = data.get(20..).map(text::until_nul).unwrap_or_default();
            format!("kernel command line of td-shim: {line}")
        }
        _ if data.get(1) == Some(&0) => text::utf16_until_nul(data),
        _ => name,
    }
}

fn variable(kind: EventType, variable: &Variable<'_>) -> String {
    let Variable { name, value, .. } = variable;
    let size = match value.len() {
        0 => "empty".to_owned(),
        len => format!("{len} bytes"),
    };
    match (kind, name.as_str()) {
        (_, "SecureBoot") => match value {
            [] => "UEFI variable SecureBoot: not set".to_owned(),
            [1] => "UEFI variable SecureBoot: on".to_owned(),
            _ => "UEFI variable SecureBoot: off".to_owned(),
        },
        (_, "BootOrder") => format!("UEFI variable BootOrder: {}", boot_order(value)),
        (EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2, _) => {
            format!("UEFI variable {name}: {}", load_option(value))
        }
        (EventType::EFI_VARIABLE_AUTHORITY, "SbatLevel") => {
            format!("authority SbatLevel: {}", text::until_nul(value).trim_end())
        }
        (EventType::EFI_VARIABLE_AUTHORITY, _) => format!("authority {name}: {size}"),
        _ => format!("UEFI variable {name}: {size}"),
    }
}

fn boot_order(value: &[u8]) -> String {
    const MAX_SHOWN: usize = 32;
    let numbers: Vec<String> = value
        .as_chunks::<2>()
        .0
        .iter()
        .take(MAX_SHOWN)
        .map(|pair| format!("{:04X}", u16::from_le_bytes(*pair)))
        .collect();
    numbers.join(",")
}

/// The description of an `EFI_LOAD_OPTION` (UEFI 2.10, section 3.1.3).
fn load_option(value: &[u8]) -> String {
    /// Attributes and the path's length come before it.
    const BEFORE_DESCRIPTION: usize = 6;
    value
        .get(BEFORE_DESCRIPTION..)
        .map(text::utf16_until_nul)
        .unwrap_or_default()
}
