//! UEFI device paths as text (UEFI 2.10, section 10.3).

use redoubt_firmware::Guid;

use crate::reader::Reader;
use crate::text;

/// No path of a boot has more nodes.
const MAX_NODES: usize = 32;
const HARDWARE: u8 = 1;
const ACPI: u8 = 2;
const MEDIA: u8 = 4;
const END: u8 = 0x7f;

/// The nodes of a device path up to its end; what cannot be read is left out.
pub fn device_path(bytes: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(bytes);
    let mut nodes = Vec::new();
    while nodes.len() < MAX_NODES {
        let Some((kind, subtype, data)) = node(&mut reader) else {
            break;
        };
        if kind == END {
            break;
        }
        nodes.push(text_of(kind, subtype, data));
    }
    nodes
}

fn node<'a>(reader: &mut Reader<'a>) -> Option<(u8, u8, &'a [u8])> {
    const HEADER_LEN: usize = 4;
    let kind = reader.u8("type").ok()?;
    let subtype = reader.u8("subtype").ok()?;
    let len = usize::from(reader.u16("length").ok()?).checked_sub(HEADER_LEN)?;
    Some((kind, subtype, reader.take(len, "node").ok()?))
}

fn text_of(kind: u8, subtype: u8, data: &[u8]) -> String {
    known(kind, subtype, data)
        .unwrap_or_else(|| format!("Path({kind},{subtype},{})", hex::encode(data)))
}

fn known(kind: u8, subtype: u8, data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    match (kind, subtype) {
        (HARDWARE, 1) => {
            let function = reader.u8("function").ok()?;
            let device = reader.u8("device").ok()?;
            Some(format!("Pci({function},{device})"))
        }
        (ACPI, 1) => {
            let id = reader.u32("HID").ok()?;
            let unit = reader.u32("UID").ok()?;
            Some(format!("ACPI({},{unit})", eisa_id(id)?))
        }
        (MEDIA, 1) => hard_drive(&mut reader),
        (MEDIA, 3) => {
            let vendor = guid(&mut reader)?;
            let rest = hex::encode_upper(reader.rest());
            Some(format!("VenMedia({vendor},{rest})"))
        }
        (MEDIA, 4) => Some(format!("File({})", text::utf16_until_nul(data))),
        (MEDIA, 6) => Some(format!("FvFile({})", guid(&mut reader)?)),
        (MEDIA, 7) => Some(format!("Fv({})", guid(&mut reader)?)),
        _ => None,
    }
}

fn hard_drive(reader: &mut Reader<'_>) -> Option<String> {
    const GPT: u8 = 2;
    let partition = reader.u32("partition").ok()?;
    let start = reader.u64("start").ok()?;
    let size = reader.u64("size").ok()?;
    let signature = guid(reader)?;
    (reader.u8("format").ok()? == GPT)
        .then(|| format!("HD({partition},GPT,{signature},{start:#x},{size:#x})"))
}

fn guid(reader: &mut Reader<'_>) -> Option<String> {
    let bytes = reader.take(16, "GUID").ok()?.try_into().ok()?;
    Some(Guid(bytes).to_string().to_uppercase())
}

/// Three letters of five bits each, then four hexadecimal digits.
fn eisa_id(id: u32) -> Option<String> {
    let letter = |shift: u32| {
        let code = u8::try_from(id >> shift & 0x1f).ok()?;
        (1..=26).contains(&code).then(|| char::from(b'@' + code))
    };
    let (first, second, third) = (letter(10)?, letter(5)?, letter(0)?);
    Some(format!("{first}{second}{third}{:04X}", id >> 16))
}
