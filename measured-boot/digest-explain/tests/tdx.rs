//! Differences in MRTD and RTMR2 are found.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::Read;

use insta::assert_snapshot;
use redoubt_digest_explain::{Named, TdxBoot, explain_mrtd, explain_rtmr2};
use redoubt_event_log::Rtmr;
use redoubt_firmware::Firmware;
use redoubt_tdx_measurement::{PageOrder, mrtd, replay, rtmr2_events};

fn image() -> Vec<u8> {
    let packed = include_bytes!("../../launch-digest/testdata/OVMF-ubuntu-2025.02-3ubuntu2.fd.gz");
    let mut image = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut image)
        .unwrap();
    image
}

fn named<T>(name: &str, value: T) -> Named<T> {
    Named {
        name: name.to_owned(),
        value,
    }
}

#[test]
fn page_orders_and_other_firmware_are_found_in_mrtd() {
    let own = Firmware::parse(&image()).unwrap();
    let mut changed = image();
    // A byte of the boot volume, which ends before the footer.
    let at = changed.len() - 8192;
    changed[at] ^= 1;
    let other = Firmware::parse(&changed).unwrap();
    let values = [
        mrtd(&own, PageOrder::ByPage).unwrap(),
        mrtd(&own, PageOrder::BySection).unwrap(),
        mrtd(&other, PageOrder::ByPage).unwrap(),
        mrtd(&other, PageOrder::BySection).unwrap(),
        [7; 48],
    ];
    let candidates = [named("old.fd", &other)];
    let found = explain_mrtd(&values, &own, PageOrder::ByPage, &candidates).unwrap();
    assert_eq!(found.computed, values[0]);
    let lines: Vec<_> = found
        .matches
        .iter()
        .map(|found| {
            found
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string)
        })
        .collect();
    assert_snapshot!(lines.join("\n"), @"
    matches the inputs
    matches with pages measured section by section (QEMU 8)
    matches with firmware old.fd
    matches with firmware old.fd and with pages measured section by section (QEMU 8)
    none
    ");
}

#[test]
fn firmware_without_tdx_metadata_is_refused() {
    // Renames the metadata's GUID in the footer table.
    let guid = [
        0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e,
        0xc2,
    ];
    let mut image = image();
    let at = image
        .windows(16)
        .rposition(|window| window == guid)
        .unwrap();
    image[at] ^= 1;
    let firmware = Firmware::parse(&image).unwrap();
    assert!(explain_mrtd(&[], &firmware, PageOrder::ByPage, &[]).is_err());
}

#[test]
fn command_lines_and_initrds_are_found_in_rtmr2() {
    const CMDLINE: &str = "console=ttyS0 quiet agent.debug_console";
    let value =
        |cmdline: &str, initrd| replay(&rtmr2_events(cmdline, initrd).unwrap()).get(Rtmr::Rtmr2);
    let own = Some([1; 48]);
    let values = [
        value(CMDLINE, own),
        value("console=ttyS0 quiet", own),
        value("console=ttyS0 agent.debug_console agent.log=debug", own),
        value(CMDLINE, Some([2; 48])),
        value(CMDLINE, None),
        value("console=ttyS0 quiet", Some([2; 48])),
        value("", own),
        [7; 48],
    ];
    let boot = TdxBoot {
        cmdline: CMDLINE.to_owned(),
        initrd_sha384: own,
    };
    let initrds = [named("initrd.old", [2; 48])];
    let found = explain_rtmr2(&values, &boot, &initrds, &[]).unwrap();
    let lines: Vec<_> = found
        .matches
        .iter()
        .map(|found| {
            found
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string)
        })
        .collect();
    assert_snapshot!(lines.join("\n"), @"
    matches the inputs
    matches without `agent.debug_console`
    matches without `quiet` and with `agent.log=debug` after `agent.debug_console`
    matches with initrd initrd.old
    matches without the initrd
    matches with initrd initrd.old and without `agent.debug_console`
    matches with an empty command line
    none
    ");
}

#[test]
fn a_command_line_that_no_firmware_passes_on_is_refused() {
    let boot = TdxBoot {
        cmdline: "a\nb".to_owned(),
        initrd_sha384: None,
    };
    assert!(explain_rtmr2(&[], &boot, &[], &[]).is_err());
}
