//! Real logs are read, replayed and named as other implementations do; damage is refused by place.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use proptest::prelude::*;
use redoubt_errors::{OneLine, UserError};
use redoubt_event_log::{
    Aael, CcType, CcelTable, DigestCheck, Event, EventLog, EventLogError, EventType, HashAlgorithm,
    Rtmr, Rtmrs, TaggedEvent, device_path,
};
use serde_json::Value;

macro_rules! testdata {
    ($name:literal) => {
        unpacked(include_bytes!(concat!("../testdata/", $name, ".gz")))
    };
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn ovmf() -> Vec<u8> {
    testdata!("trustee-CCEL_data_ovmf")
}

/// Each log that Trustee has read, with what it read.
fn trustee() -> [(&'static str, Vec<u8>, Vec<u8>); 5] {
    [
        (
            "td-shim",
            testdata!("trustee-CCEL_data"),
            testdata!("trustee-CCEL_data_out.json"),
        ),
        ("ovmf", ovmf(), testdata!("trustee-CCEL_data_ovmf_out.json")),
        (
            "grub",
            testdata!("trustee-CCEL_data_grub"),
            testdata!("trustee-CCEL_data_grub_out.json"),
        ),
        (
            "csv",
            testdata!("trustee-CCEL_data_csv"),
            testdata!("trustee-CCEL_data_csv_out.json"),
        ),
        (
            "aael",
            testdata!("trustee-CCEL_AAEL_alibabacloud"),
            testdata!("trustee-CCEL_AAEL_alibabacloud_out.json"),
        ),
    ]
}

fn trustee_algorithm(name: &str) -> HashAlgorithm {
    match name {
        "SHA-384" => HashAlgorithm::Sha384,
        "SM3" => HashAlgorithm::Sm3,
        other => panic!("no such algorithm: {other}"),
    }
}

fn agrees(event: &Event<'_>, expected: &Value) {
    assert_eq!(event.kind.to_string(), expected["type_name"]);
    assert_eq!(event.register.0, expected["index"]);
    assert_eq!(STANDARD.encode(event.data), expected["event"]);
    let digests = expected["digests"].as_array().unwrap();
    assert_eq!(event.digests.len(), digests.len());
    for digest in digests {
        let algorithm = trustee_algorithm(digest["alg"].as_str().unwrap());
        let found = event.digest(algorithm).unwrap();
        assert_eq!(hex::encode(found), digest["digest"]);
    }
    assert_eq!(
        event.digest_check() == DigestCheck::Data,
        expected["digest_matches_event"].as_bool().unwrap()
    );
    agrees_in_detail(event, &expected["details"]);
}

fn agrees_in_detail(event: &Event<'_>, details: &Value) {
    if let Some(variable) = event.variable() {
        assert_eq!(variable.name, details["unicode_name"]);
        assert_eq!(STANDARD.encode(variable.value), details["variable_data"]);
        let vendor = details["variable_name"].as_str().unwrap().replace('-', "");
        assert_eq!(hex::encode(variable.vendor.0), vendor);
    }
    if let Some(nodes) = details["device_paths"].as_array() {
        let path_len = u64::from_le_bytes(event.data[24..32].try_into().unwrap());
        let path_len = usize::try_from(path_len).unwrap();
        assert_eq!(
            device_path(&event.data[32..32 + path_len]),
            nodes
                .iter()
                .map(|node| node.as_str().unwrap())
                .collect::<Vec<_>>()
        );
    }
    if details["unicode_name"] == "AAEL" {
        let aael = Aael::parse(event.data).unwrap();
        assert_eq!(aael.domain(), details["data"]["domain"]);
        assert_eq!(aael.operation(), details["data"]["operation"]);
        let content = &details["data"]["content"];
        match content.as_str() {
            Some(text) => assert_eq!(aael.content(), text),
            None => assert_eq!(
                &serde_json::from_str::<Value>(aael.content()).unwrap(),
                content
            ),
        }
    }
}

#[test]
fn every_event_is_read_as_trustee_reads_it() {
    let mut checked = 0;
    for (name, log, expected) in trustee() {
        let log = EventLog::parse(&log).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let expected = expected["uefi_event_logs"].as_array().unwrap();
        assert_eq!(log.events().len(), expected.len(), "{name}");
        for (event, expected) in log.events().iter().zip(expected) {
            agrees(event, expected);
            checked += 1;
        }
        let strings = expected.iter().map(|event| &event["details"]["string"]);
        for (label, string) in log.labels().iter().zip(strings) {
            let grub_or_action = string.as_str().filter(|text| {
                text.starts_with("grub_cmd") || text.starts_with("Exit Boot Services")
            });
            let same = |text: &str| text.replace(['\n', '\r', '\t'], " ") == *label;
            assert!(grub_or_action.is_none_or(same), "{label}");
        }
    }
    assert_eq!(checked, 5 + 20 + 37 + 82 + 87);
}

/// The registers in a quote of version 4, or in a TDREPORT.
fn rtmrs_at(bytes: &[u8], offset: usize) -> Rtmrs {
    let value = |index: usize| bytes[offset + 48 * index..][..48].try_into().unwrap();
    Rtmrs::new([value(0), value(1), value(2), value(3)])
}

#[test]
fn replay_gives_the_registers_that_real_guests_reported() {
    let quote = include_bytes!("../testdata/attestation-rs-tdx_quote_live.dat");
    let log = testdata!("attestation-rs-tdx_ccel_live2.dat");
    let replayed = EventLog::parse(&log).unwrap().replay().unwrap();
    assert_eq!(replayed, rtmrs_at(quote, 376));
    let report = include_bytes!("../testdata/attestation-rs-tdx_tdreport_live.bin");
    let log = testdata!("attestation-rs-tdx_ccel_live.bin");
    let replayed = EventLog::parse(&log).unwrap().replay().unwrap();
    assert_eq!(replayed, rtmrs_at(report, 720));
    // The same firmware booted the same kernel, with other initrds.
    let differing: Vec<_> = replayed
        .differences(&rtmrs_at(quote, 376))
        .iter()
        .map(|difference| difference.rtmr)
        .collect();
    assert_eq!(differing, [Rtmr::Rtmr2]);
    assert_eq!(replayed.verify(&rtmrs_at(report, 720)), Ok(()));
    let error = replayed.verify(&rtmrs_at(quote, 376)).unwrap_err();
    assert_snapshot!(OneLine(&error), @"[RDT-LOG-015] RTMR2 was reported as 35b87e05bb5e6c7db86a1e3f9a5c7fe361741f01c1a3b1f54474ff8f39b38e9295ff142b932720dfc92e59797df081ec, but the event log leads to 4070333e094dec303a5034cc332c969780f9e65e48251331da55f08f8f7d19053444a43d3ff44bd2c97b672527b95e2d (hint: the log was changed, or it is the log of another guest or boot)");
}

#[test]
fn logs_of_other_clouds_and_firmware_are_replayed() {
    for (log, events, rtmr0) in [
        (
            testdata!("trustee-CCEL_data_gcp"),
            21,
            "3300980705adf09d28b707b79699d9874892164280832be2c386a715b6e204e0897fb564a064f810659207ba862b304f",
        ),
        (
            testdata!("go-eventlog-cos-113-intel-tdx.bin"),
            43,
            "3fa2f61f395b7f5feefb4ec2df61297f109ad8abcd6410c1b7df60f21f37b19297fc35e544039c7e1edece752afd17f6",
        ),
        (
            testdata!("go-eventlog-CCEL_unpadded.data.bin"),
            19,
            "8083cd6898cc52a90231cdf9c0532bf9513c40465c6f71e56cbe32ee2c11a9dfc030297ca3ca0f62477d6d1f610d3fdb",
        ),
        (
            testdata!("go-eventlog-event_log.bin"),
            27,
            "f68df15175d7c810a6b35f1847ba318723b9de337ee00bc63cf42c0a29ad1d94a5b16d3e2ba1b96ec55a46e67b1bea92",
        ),
    ] {
        let log = EventLog::parse(&log).unwrap();
        assert_eq!(log.events().len(), events);
        let replayed = log.replay().unwrap();
        assert_eq!(hex::encode(replayed.get(Rtmr::Rtmr0)), rtmr0);
        assert!(
            log.events()
                .iter()
                .all(|event| event.digest_check() != DigestCheck::Contradiction)
        );
    }
}

#[test]
fn an_event_that_stands_twice_changes_the_register() {
    let log = testdata!("go-eventlog-cos-113-intel-tdx.bin");
    let parsed = EventLog::parse(&log).unwrap();
    let separator = parsed
        .events()
        .iter()
        .position(|event| event.kind == EventType::SEPARATOR)
        .unwrap();
    let (start, end) = (
        parsed.events()[separator].offset,
        parsed.events()[separator + 1].offset,
    );
    let twice = [&log[..end], &log[start..end], &log[end..]].concat();
    let original = parsed.replay().unwrap();
    let replayed = EventLog::parse(&twice).unwrap().replay().unwrap();
    let differences = replayed.differences(&original);
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].rtmr, Rtmr::Rtmr0);
    assert_eq!(differences[0].reported, original.get(Rtmr::Rtmr0));
}

#[test]
fn a_log_with_other_digests_than_sha384_is_read_but_not_replayed() {
    let log = testdata!("trustee-CCEL_data_csv");
    let log = EventLog::parse(&log).unwrap();
    let error = log.replay().unwrap_err();
    assert_eq!(error.code().0, "RDT-LOG-012");
    assert_eq!(log.events()[0].digests[0].algorithm, HashAlgorithm::Sm3);
}

#[test]
fn every_event_of_a_direct_boot_has_a_label() {
    let log = ovmf();
    let log = EventLog::parse(&log).unwrap();
    let lines: Vec<_> = log
        .events()
        .iter()
        .zip(log.labels())
        .map(|(event, label)| {
            let rtmr = event.register.rtmr().unwrap();
            format!("{rtmr}  {label} [{:?}]", event.digest_check())
        })
        .collect();
    assert_snapshot!(lines.join("\n"), @r"
    RTMR0  TD HOB: the memory that the host gave [Elsewhere]
    RTMR0  firmware volume with the configuration: 540672 bytes at 0xffc00000 [Elsewhere]
    RTMR0  UEFI variable SecureBoot: not set [Data]
    RTMR0  UEFI variable PK: empty [Data]
    RTMR0  UEFI variable KEK: empty [Data]
    RTMR0  UEFI variable db: empty [Data]
    RTMR0  UEFI variable dbx: empty [Data]
    RTMR0  separator [Data]
    RTMR0  ACPI table loader [Elsewhere]
    RTMR0  ACPI root pointer (RSDP) [Elsewhere]
    RTMR0  ACPI tables [Elsewhere]
    RTMR1  kernel given by the host [Elsewhere]
    RTMR0  UEFI variable BootOrder: 0000 [Value]
    RTMR0  UEFI variable Boot0000: UiApp [Value]
    RTMR1  Calling EFI Application from Boot Option [Data]
    RTMR0  separator [Data]
    RTMR2  kernel command line [Elsewhere]
    RTMR2  initrd [Elsewhere]
    RTMR1  Exit Boot Services Invocation [Data]
    RTMR1  Exit Boot Services Returned with Success [Data]
    ");
    assert_eq!(log.len_without_padding(), 2120);
}

#[test]
fn labels_of_other_logs_name_what_they_know() {
    let shown = |log: &[u8], range: std::ops::Range<usize>| {
        let log = EventLog::parse(log).unwrap();
        log.labels()[range].join("\n")
    };
    assert_snapshot!(shown(&testdata!("trustee-CCEL_data"), 0..5), @r"
    TD HOB: the memory that the host gave
    separator
    separator
    kernel in td-shim: 268435456 bytes at 0x901000
    kernel command line of td-shim: root=/dev/vda1 console=hvc0 rw
    ");
    assert_snapshot!(shown(&testdata!("trustee-CCEL_AAEL_alibabacloud"), 8..20), @r"
    ACPI DATA
    ACPI table loader
    ACPI root pointer (RSDP)
    ACPI tables
    UEFI variable BootOrder: 0005,0000,0001,0002,0003,0004
    UEFI variable Boot0005: Alibaba Cloud Linux
    UEFI variable Boot0000: UiApp
    UEFI variable Boot0001: UEFI Floppy
    UEFI variable Boot0002: UEFI Floppy 2
    UEFI variable Boot0003: UEFI Alibaba Cloud Elastic Block Storage 2zee8vys7hjb68lm121f 1
    UEFI variable Boot0004: EFI Internal Shell
    Calling EFI Application from Boot Option
    ");
    assert_snapshot!(shown(&testdata!("trustee-CCEL_AAEL_alibabacloud"), 83..87), @r#"
    Exit Boot Services Invocation
    Exit Boot Services Returned with Success
    runtime event coco.com some-operation: some-content
    runtime event coco.com some-operation: {"key": "value", "nested-key": {"sub-key": "value"}}
    "#);
    assert_snapshot!(shown(&testdata!("go-eventlog-event_log.bin"), 8..17), @r"
    ACPI DATA
    kernel
    ACPI table loader
    ACPI root pointer (RSDP)
    ACPI tables
    kernel given by the host
    DirectBoot Command Line
    UEFI variable BootOrder: 0000
    UEFI variable Boot0000: UiApp
    ");
}

#[test]
fn changed_event_data_is_a_contradiction() {
    let log = ovmf();
    let parsed = EventLog::parse(&log).unwrap();
    let variable = &parsed.events()[3];
    assert_eq!(variable.kind, EventType::EFI_VARIABLE_DRIVER_CONFIG);
    assert_eq!(variable.digest_check(), DigestCheck::Data);
    let boot = parsed
        .events()
        .iter()
        .find(|event| event.kind == EventType::EFI_VARIABLE_BOOT)
        .unwrap();
    assert_eq!(boot.digest_check(), DigestCheck::Value);
    let last = parsed.events().last().unwrap();
    for (event, expected) in [
        (variable, DigestCheck::Contradiction),
        (boot, DigestCheck::Contradiction),
        (last, DigestCheck::Contradiction),
        (&parsed.events()[0], DigestCheck::Elsewhere),
    ] {
        let mut data = event.data.to_vec();
        *data.last_mut().unwrap() ^= 1;
        let changed = Event {
            data: &data,
            ..event.clone()
        };
        assert_eq!(changed.digest_check(), expected, "{}", event.kind);
    }
}

#[test]
fn runtime_events_have_the_digests_of_the_attestation_agent() {
    let vectors: Value =
        serde_json::from_str(include_str!("../testdata/aael-vectors.json")).unwrap();
    let mut rtmrs = Rtmrs::default();
    for case in vectors["cases"].as_array().unwrap() {
        let word = |key: &str| case[key].as_str().unwrap();
        let event = Aael::new(word("domain"), word("operation"), word("content")).unwrap();
        assert_eq!(hex::encode(event.encode()), word("tagged_event_hex"));
        assert_eq!(hex::encode(event.sha384()), word("sha384"));
        assert_eq!(Aael::parse(&event.encode()), Some(event.clone()));
        rtmrs.extend(Rtmr::Rtmr3, &event.sha384());
    }
    assert_eq!(
        hex::encode(rtmrs.get(Rtmr::Rtmr3)),
        vectors["rtmr3_after_both_from_zero_sha384"]
    );
    for (domain, operation, content) in [
        ("", "b", "c"),
        ("a b", "b", "c"),
        ("a", "b\n", "c"),
        ("a", "b", "c\nd e f"),
    ] {
        let error = Aael::new(domain, operation, content).unwrap_err();
        assert_eq!(error.code().0, "RDT-LOG-014");
    }
    assert_eq!(TaggedEvent::parse(b"LEAA\x05\0\0\0abc"), None);
}

#[test]
fn ccel_tables_are_checked() {
    let table = include_bytes!("../testdata/go-eventlog-cos-113-intel-tdx.table.bin");
    let parsed = CcelTable::parse(table).unwrap();
    assert_eq!(parsed.cc_type, CcType::Tdx);
    assert_eq!(parsed.log_area_len, 0x4_0000);
    assert_eq!(parsed.log_area_start, 0xbedb_f000);
    assert!(CcelTable::parse(include_bytes!("../testdata/go-eventlog-CCEL.bin")).is_ok());
    for (at, field) in [(0, "signature"), (4, "length"), (40, "checksum")] {
        let mut damaged = table.to_vec();
        damaged[at] ^= 1;
        assert!(matches!(
            CcelTable::parse(&damaged),
            Err(EventLogError::CcelTable { field: found, .. }) if found == field
        ));
    }
    assert!(CcelTable::parse(&table[..3]).is_err());
}

#[test]
fn a_table_in_place_of_a_log_is_refused_with_a_hint() {
    let table = include_bytes!("../testdata/go-eventlog-CCEL.bin");
    let mut padded = table.to_vec();
    padded.resize(200, 0);
    let error = EventLog::parse(&padded).unwrap_err();
    assert_eq!(error, EventLogError::NoSpecId);
    assert!(error.hint().unwrap().contains("tables/data/CCEL"));
}

fn patched(log: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut log = log.to_vec();
    log[at..at + bytes.len()].copy_from_slice(bytes);
    log
}

#[test]
fn damage_is_refused_with_its_place() {
    let log = &ovmf()[..2120];
    let refused = |at: usize, bytes: &[u8]| EventLog::parse(&patched(log, at, bytes)).unwrap_err();
    // The first record: its data starts at 32, the number of algorithms stands at 56.
    assert_eq!(refused(32, b"spec"), EventLogError::NoSpecId);
    for count in [0u32, 9, u32::MAX] {
        assert_eq!(
            refused(56, &count.to_le_bytes()),
            EventLogError::AlgorithmCount { offset: 56, count }
        );
    }
    assert_eq!(
        refused(62, &[32]),
        EventLogError::AlgorithmSize {
            offset: 60,
            algorithm: HashAlgorithm::Sha384,
            size: 32
        }
    );
    assert!(matches!(
        refused(56, &[2]),
        EventLogError::Truncated {
            field: "algorithm",
            ..
        }
    ));
    // The first event starts at 65: register, type, number of digests, algorithm.
    for count in [0u32, 2, u32::MAX] {
        assert_eq!(
            refused(73, &count.to_le_bytes()),
            EventLogError::DigestCount {
                offset: 73,
                count,
                limit: 1
            }
        );
    }
    assert_eq!(
        refused(77, &[0xb, 0]),
        EventLogError::UnknownAlgorithm {
            offset: 77,
            algorithm: HashAlgorithm::Sha256
        }
    );
    assert_eq!(
        refused(127, &u32::MAX.to_le_bytes()),
        EventLogError::Truncated {
            offset: 131,
            field: "event",
            needed: 0xffff_ffff,
            left: 2120 - 131
        }
    );
    assert_eq!(
        EventLog::parse(&patched(log, 65, &[9])).unwrap().replay(),
        Err(EventLogError::NoRtmr {
            offset: 65,
            kind: EventType::EFI_HANDOFF_TABLES2,
            register: 9
        })
    );
    assert_eq!(
        EventLog::parse(&vec![0; (4 << 20) + 1]),
        Err(EventLogError::TooLarge {
            size: (4 << 20) + 1
        })
    );
}

#[test]
fn nothing_may_hide_behind_the_end() {
    let log = &ovmf()[..2120];
    for padding in [[0xff; 64], [0; 64]] {
        let mut padded = [log, &padding].concat();
        assert_eq!(EventLog::parse(&padded).unwrap().events().len(), 20);
        padded[2120 + 50] = 7;
        assert_eq!(
            EventLog::parse(&padded),
            Err(EventLogError::TrailingBytes { offset: 2120 + 50 })
        );
    }
}

#[test]
fn every_cut_is_noticed() {
    let log = &ovmf()[..2120];
    let ends: Vec<_> = EventLog::parse(log)
        .unwrap()
        .events()
        .iter()
        .map(|event| event.offset)
        .collect();
    for len in 0..log.len() {
        let cut = EventLog::parse(&log[..len]);
        assert_eq!(cut.is_ok(), ends.contains(&len), "{len}");
    }
}

proptest! {
    #[test]
    fn damaged_logs_never_panic(edits in proptest::collection::vec((0usize..2120, any::<u8>()), 1..12)) {
        let mut log = ovmf()[..2200].to_vec();
        for (at, byte) in edits {
            log[at] = byte;
        }
        if let Ok(log) = EventLog::parse(&log) {
            prop_assert_eq!(log.labels().len(), log.events().len());
            let _ = log.replay();
            for event in log.events() {
                let _ = event.digest_check();
            }
        }
    }

    #[test]
    fn arbitrary_device_paths_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(device_path(&bytes).len() <= 32);
    }

    #[test]
    fn runtime_events_survive_encoding(domain in "[a-z./-]{1,30}", operation in "[A-Za-z]{1,20}", content in "\\PC{0,80}") {
        let event = Aael::new(&domain, &operation, &content).unwrap();
        prop_assert_eq!(Aael::parse(&event.encode()), Some(event));
    }
}
