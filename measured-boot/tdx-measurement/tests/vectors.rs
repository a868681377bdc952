//! Published and independent values, and registers that real guests reported.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

use std::io::Read;

use redoubt_event_log::{EventLog, EventType, Rtmr};
use redoubt_firmware::{Firmware, TdxAttributes, TdxSection, TdxSectionKind};
use redoubt_tdx_measurement::{
    AcpiDigests, AcpiTables, BootSeparator, EventLayout, KernelDigest, MeasuredEvent, PageOrder,
    Platform, SecureBootDriver, TdxError, authenticode_sha384, mrtd, replay, rtmr0_events,
    rtmr0_events_from_log, rtmr1_events, rtmr2_events, td_hob,
};
use serde_json::Value;
use sha2::{Digest, Sha384};

const BY_SECTION: &str = "7ce4cec5729d95652108c1dfe381a3ccb6a6a9061920f0479a3e4c7c806cf51d2438958def083084880f2bf4dd2e14eb";
const LAYOUT: EventLayout = EventLayout::new(BootSeparator::Rtmr1, SecureBootDriver::Absent);

macro_rules! unpacked {
    ($path:literal) => {{
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(include_bytes!($path).as_slice())
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }};
}

fn ubuntu() -> Firmware {
    let image = unpacked!("../../launch-digest/testdata/OVMF-ubuntu-2025.02-3ubuntu2.fd.gz");
    Firmware::parse(&image).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn event_vectors() -> Value {
    json(include_str!("../testdata/rtmr0-event-vectors.json"))
}

fn digest(value: &Value) -> [u8; 48] {
    let mut digest = [0; 48];
    hex::decode_to_slice(value.as_str().unwrap(), &mut digest).unwrap();
    digest
}

/// The configurations whose tables are at hand: name, memory in MiB, tables, expected values.
fn configurations() -> [(&'static str, u64, Vec<u8>, Value); 3] {
    [
        (
            "canonical-defaults",
            2048,
            unpacked!("../testdata/canonical-defaults-acpi_tables.bin.gz"),
            json(include_str!("../testdata/canonical-defaults-expected.json")),
        ),
        (
            "q35-with-hpet",
            4096,
            unpacked!("../testdata/q35-with-hpet-acpi_tables.bin.gz"),
            json(include_str!("../testdata/q35-with-hpet-expected.json")),
        ),
        (
            "runtime-capture",
            16 << 10,
            unpacked!("../testdata/runtime-capture-acpi_tables.bin.gz"),
            json(include_str!("../testdata/runtime-capture-expected.json")),
        ),
    ]
}

#[test]
fn mrtd_and_rtmr0_agree_with_published_values() {
    let firmware = ubuntu();
    for (name, memory_mib, tables, expected) in configurations() {
        let acpi = AcpiTables::from_tables(tables).unwrap().digests();
        let platform = Platform { memory_mib, acpi };
        let events = rtmr0_events(&firmware, &platform, LAYOUT).unwrap();
        let rtmr0 = replay(&events).get(Rtmr::Rtmr0);
        assert_eq!(hex::encode(rtmr0), expected["rtmr0"], "{name}");
        let mrtd = mrtd(&firmware, PageOrder::ByPage).unwrap();
        assert_eq!(hex::encode(mrtd), expected["mrtd"], "{name}");
        let vectors = &event_vectors()[name]["events"];
        let digests: Vec<_> = vectors
            .as_array()
            .unwrap()
            .iter()
            .map(|event| digest(&event["sha384"]))
            .collect();
        let found: Vec<_> = events.iter().map(|event| event.digest).collect();
        assert_eq!(found, digests, "{name}");
    }
}

#[test]
fn an_older_qemu_gives_another_mrtd() {
    let mrtd = mrtd(&ubuntu(), PageOrder::BySection).unwrap();
    assert_eq!(hex::encode(mrtd), BY_SECTION);
}

fn hexadecimal(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn hand_off_blocks_are_those_in_the_logs_of_real_guests() {
    let checks = json(include_str!("../testdata/hardware-event-checks.json"));
    let checks = checks.as_array().unwrap();
    assert_eq!(checks.len(), 5);
    for check in checks {
        let sections: Vec<_> = check["temp_mem_and_hob_sections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|section| TdxSection {
                kind: match section["type"].as_str().unwrap() {
                    "TD_HOB" => TdxSectionKind::TdHob,
                    _ => TdxSectionKind::TempMem,
                },
                data_offset: 0,
                data_size: 0,
                gpa: hexadecimal(&section["gpa"]),
                size: hexadecimal(&section["size"]),
                attributes: TdxAttributes(0),
                descriptor_offset: 0,
            })
            .collect();
        let list = td_hob(&sections, check["memory_mib"].as_u64().unwrap()).unwrap();
        assert_eq!(hex::encode(&list), check["td_hob_hex"]);
        let digest = hex::encode(Sha384::digest(&list));
        assert_eq!(digest, check["td_hob_sha384"]);
    }
}

fn log_digests(log: &EventLog<'_>, kind: EventType) -> Vec<[u8; 48]> {
    log.events()
        .iter()
        .filter(|event| event.kind == kind)
        .map(|event| event.sha384().unwrap())
        .collect()
}

/// ACPI tables, kernel and initrd as a guest logged them; the rest is computed.
fn computed(log: &EventLog<'_>, layout: EventLayout) -> Vec<MeasuredEvent> {
    let [loader, rsdp, tables] = log_digests(log, EventType::PLATFORM_CONFIG_FLAGS)[..] else {
        panic!("three ACPI events");
    };
    let platform = Platform {
        memory_mib: 2048,
        acpi: AcpiDigests {
            loader,
            rsdp,
            tables,
        },
    };
    let kernel = log_digests(log, EventType::EFI_BOOT_SERVICES_APPLICATION)[0];
    let mut events = rtmr0_events(&ubuntu(), &platform, layout).unwrap();
    events.extend(rtmr1_events(KernelDigest(kernel), layout));
    events
}

#[test]
fn rtmr0_and_rtmr1_of_a_real_guest_follow_from_its_parts() {
    let log =
        unpacked!("../../../attestation/event-log/testdata/attestation-rs-tdx_ccel_live.bin.gz");
    let log = EventLog::parse(&log).unwrap();
    let reported = log.replay().unwrap();
    let computed = replay(&computed(&log, LAYOUT));
    // This guest's firmware has the same metadata and variables as Ubuntu's.
    for rtmr in [Rtmr::Rtmr0, Rtmr::Rtmr1] {
        assert_eq!(computed.get(rtmr), reported.get(rtmr), "{rtmr}");
    }
}

#[test]
fn older_firmware_measures_both_separators_into_rtmr0() {
    let log = unpacked!("../../../attestation/event-log/testdata/trustee-CCEL_data_ovmf.gz");
    let log = EventLog::parse(&log).unwrap();
    let reported = log.replay().unwrap();
    let layout = EventLayout::new(BootSeparator::Rtmr0, SecureBootDriver::Absent);
    let mut events = computed(&log, layout);
    // That firmware starts its temporary memory one page earlier.
    events[0].digest = log_digests(&log, EventType::EFI_HANDOFF_TABLES2)[0];
    let computed = replay(&events);
    for rtmr in [Rtmr::Rtmr0, Rtmr::Rtmr1] {
        assert_eq!(computed.get(rtmr), reported.get(rtmr), "{rtmr}");
    }
}

#[test]
fn a_guests_log_gives_rtmr0_where_the_host_is_the_same() {
    let bytes =
        unpacked!("../../../attestation/event-log/testdata/attestation-rs-tdx_ccel_live.bin.gz");
    let log = EventLog::parse(&bytes).unwrap();
    let events = rtmr0_events_from_log(&ubuntu(), 2048, &log).unwrap();
    let reported = log.replay().unwrap();
    assert_eq!(replay(&events).get(Rtmr::Rtmr0), reported.get(Rtmr::Rtmr0));
    assert_eq!(events[12].label, "UEFI variable Boot0000: UiApp");
    let other_size = rtmr0_events_from_log(&ubuntu(), 4096, &log).unwrap_err();
    assert!(matches!(
        other_size,
        TdxError::LogDigest { label, .. } if label.starts_with("TD HOB")
    ));
    let gcp = unpacked!("../../../attestation/event-log/testdata/trustee-CCEL_data_gcp.gz");
    let gcp = EventLog::parse(&gcp).unwrap();
    assert!(rtmr0_events_from_log(&ubuntu(), 2048, &gcp).is_err());
}

#[test]
fn pe_images_have_the_digests_of_an_independent_calculation() {
    let vectors = unpacked!("../testdata/authenticode-vectors.json.gz");
    let vectors: Value = serde_json::from_slice(&vectors).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let image = hex::decode(case["image_hex"].as_str().unwrap()).unwrap();
        let found = authenticode_sha384(&image).unwrap();
        assert_eq!(hex::encode(found), case["sha384"], "{}", case["name"]);
    }
}

#[test]
fn the_command_line_is_measured_as_the_kernel_gets_it() {
    let initrd = Sha384::digest(b"initrd").into();
    let with = rtmr2_events("console=hvc0", Some(initrd)).unwrap();
    let text: Vec<u8> = "console=hvc0 initrd=initrd\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let expected: [u8; 48] = Sha384::digest(text).into();
    assert_eq!(with[0].digest, expected);
    assert_eq!(with[1].digest, initrd);
    let without = rtmr2_events("console=hvc0", None).unwrap();
    assert_eq!(without.len(), 1);
    assert_ne!(without[0].digest, with[0].digest);
    assert!(rtmr2_events("", None).unwrap().is_empty());
    assert_eq!(rtmr2_events("", Some(initrd)).unwrap().len(), 2);
    for (text, offset) in [("a\0b", 1), ("a b\n", 3), ("é", 0)] {
        assert_eq!(rtmr2_events(text, None), Err(TdxError::Cmdline { offset }));
    }
}
