//! Each kind of difference is found, and so are some combinations.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use redoubt_digest_explain::{Boot, Candidates, Named, SnpInputs, explain_snp};
use redoubt_firmware::Firmware;
use redoubt_launch_digest::{KernelHashes, LaunchDigest, MAX_VCPUS, SnpLaunch, snp_launch_digest};
use sha2::{Digest, Sha256};

const AMDSEV: &[u8] = include_bytes!("../../../firmware/testdata/ovmf_AmdSev_suffix.bin");
const CMDLINE: &str = "console=ttyS0 quiet panic=1 redoubt.attester=snp agent.debug_console";

fn firmware() -> Firmware {
    Firmware::parse(AMDSEV).unwrap()
}

/// The same firmware with another byte of code.
fn other_firmware() -> Firmware {
    let mut bytes = AMDSEV.to_vec();
    bytes[0] ^= 1;
    Firmware::parse(&bytes).unwrap()
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// A launch; tests change one part of it.
#[derive(Clone)]
struct Launch {
    firmware: Firmware,
    kernel: [u8; 32],
    initrd: [u8; 32],
    cmdline: String,
    hashes: bool,
    vcpus: u32,
    model: &'static str,
    features: u64,
}

impl Launch {
    fn digest(&self) -> LaunchDigest {
        let hashes = KernelHashes::from_digests(self.kernel, self.initrd, &self.cmdline);
        snp_launch_digest(&SnpLaunch {
            firmware: &self.firmware,
            kernel_hashes: self.hashes.then_some(hashes),
            vcpus: self.vcpus,
            cpu: self.model.parse().unwrap(),
            guest_features: self.features,
        })
        .unwrap()
    }
}

fn believed() -> Launch {
    Launch {
        firmware: firmware(),
        kernel: sha256("kernel"),
        initrd: sha256("initrd"),
        cmdline: CMDLINE.to_owned(),
        hashes: true,
        vcpus: 2,
        model: "EPYC-v4",
        features: 1,
    }
}

fn named<T>(name: &str, value: T) -> Named<T> {
    Named {
        name: name.to_owned(),
        value,
    }
}

/// What explains the digest of a launch that differs from what is believed.
fn explained(change: impl FnOnce(&mut Launch)) -> String {
    let mut launch = believed();
    change(&mut launch);
    explain(launch.digest())
}

fn explain(digest: LaunchDigest) -> String {
    let (own, other) = (firmware(), other_firmware());
    let inputs = SnpInputs {
        firmware: &own,
        boot: Some(Boot {
            kernel: sha256("kernel"),
            initrd: sha256("initrd"),
            cmdline: CMDLINE.to_owned(),
        }),
        vcpus: 2,
        cpu: named("EPYC-v4", "EPYC-v4".parse().unwrap()),
        guest_features: 1,
    };
    let candidates = Candidates {
        firmwares: vec![named("old.fd", &other)],
        kernels: vec![named("vmlinuz-old", sha256("old kernel"))],
        initrds: vec![named("initrd-old", sha256("old initrd"))],
        parameters: vec!["mine=1".to_owned()],
    };
    let explanation = explain_snp(&[digest], &inputs, &candidates).unwrap();
    assert_eq!(explanation.computed, believed().digest());
    match &explanation.matches[0] {
        Some(found) => found.to_string(),
        None => "no match".to_owned(),
    }
}

#[test]
fn each_single_difference_is_found() {
    let cmdline = |text: &str| {
        let text = text.to_owned();
        explained(|launch| launch.cmdline = text)
    };
    let lines = [
        explained(|_| {}),
        explained(|launch| launch.vcpus = 1),
        explained(|launch| launch.vcpus = 64),
        explained(|launch| launch.model = "EPYC-Milan"),
        explained(|launch| launch.model = "EPYC-Genoa"),
        explained(|launch| launch.features = 0x21),
        cmdline("console=ttyS0 quiet panic=1 redoubt.attester=snp"),
        cmdline("console=ttyS0 panic=1 redoubt.attester=snp agent.debug_console"),
        cmdline("console=ttyS0 quiet panic=1 redoubt.attester=simulated-snp agent.debug_console"),
        cmdline(&format!("{CMDLINE} agent.log=debug")),
        cmdline(&format!("{CMDLINE} mine=1")),
        cmdline(&format!("debug {CMDLINE}")),
        cmdline(&format!("{CMDLINE}\n")),
        cmdline(&format!("{CMDLINE} ")),
        cmdline(""),
        explained(|launch| launch.firmware = other_firmware()),
        explained(|launch| launch.kernel = sha256("old kernel")),
        explained(|launch| launch.initrd = sha256("old initrd")),
        explained(|launch| launch.initrd = sha256("")),
        explained(|launch| launch.hashes = false),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    matches the inputs
    matches with vcpus=1
    matches with vcpus=64
    matches with CPU model EPYC-Milan (signature 0xa00f11)
    matches with CPU model EPYC-Genoa (signature 0xa10f10)
    matches with guest features 0x21
    matches without `agent.debug_console`
    matches without `quiet`
    matches with `redoubt.attester=simulated-snp` instead of `redoubt.attester=snp`
    matches with `agent.log=debug` after `agent.debug_console`
    matches with `mine=1` after `agent.debug_console`
    matches with `debug` at the start of the command line
    matches with a line end at the end of the command line
    matches with a blank at the end of the command line
    matches with an empty command line
    matches with firmware old.fd
    matches with kernel vmlinuz-old
    matches with initrd initrd-old
    matches without the initrd
    matches without kernel hashes (kernel-hashes=off)
    "#);
}

#[test]
fn two_differences_are_found() {
    let lines = [
        explained(|launch| {
            launch.vcpus = 5;
            launch.model = "EPYC-Rome";
        }),
        explained(|launch| {
            launch.vcpus = 3;
            launch.initrd = sha256("old initrd");
        }),
        explained(|launch| {
            launch.kernel = sha256("old kernel");
            launch.initrd = sha256("old initrd");
        }),
        explained(|launch| {
            launch.vcpus = 1;
            launch.cmdline = "console=ttyS0 quiet panic=1 redoubt.attester=snp".to_owned();
        }),
        explained(|launch| {
            launch.cmdline =
                "console=ttyS0 panic=1 redoubt.attester=snp agent.debug_console agent.log=debug"
                    .to_owned();
        }),
        explained(|launch| {
            launch.firmware = other_firmware();
            launch.cmdline = "console=ttyS0 quiet panic=1 redoubt.attester=snp".to_owned();
        }),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    matches with vcpus=5 and with CPU model EPYC-Rome (signature 0x830f10)
    matches with initrd initrd-old and with vcpus=3
    matches with kernel vmlinuz-old and with initrd initrd-old
    matches without `agent.debug_console` and with vcpus=1
    matches without `quiet` and with `agent.log=debug` after `agent.debug_console`
    matches with firmware old.fd and without `agent.debug_console`
    "#);
}

#[test]
fn what_no_change_explains_has_no_match_within_five_seconds() {
    let start = Instant::now();
    assert_eq!(explain(LaunchDigest([7; 48])), "no match");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_launch_of_the_firmware_alone_is_searched_too() {
    let own = firmware();
    let launch = |vcpus| Launch {
        hashes: false,
        vcpus,
        ..believed()
    };
    let inputs = SnpInputs {
        firmware: &own,
        boot: None,
        vcpus: 1,
        cpu: named("EPYC-v4", "EPYC-v4".parse().unwrap()),
        guest_features: 1,
    };
    let digests = [launch(1).digest(), launch(8).digest()];
    let found = explain_snp(&digests, &inputs, &Candidates::default()).unwrap();
    let found: Vec<_> = found
        .matches
        .iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, ["matches the inputs", "matches with vcpus=8"]);
}

#[test]
fn inputs_that_cannot_be_measured_are_refused() {
    let own = firmware();
    let inputs = SnpInputs {
        firmware: &own,
        boot: None,
        vcpus: MAX_VCPUS + 1,
        cpu: named("EPYC-v4", "EPYC-v4".parse().unwrap()),
        guest_features: 1,
    };
    assert!(explain_snp(&[], &inputs, &Candidates::default()).is_err());
}
