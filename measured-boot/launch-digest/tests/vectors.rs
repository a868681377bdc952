//! Every row of the vectors that describes an SNP launch by QEMU.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

use std::io::Read;

use redoubt_errors::UserError;
use redoubt_firmware::Firmware;
use redoubt_launch_digest::{
    BSP_EIP, CPU_MODELS, CpuSignature, DEFAULT_GUEST_FEATURES, DigestError, KernelHashes,
    LaunchChain, MAX_VCPUS, SnpLaunch, firmware_digest, snp_launch_digest, vmsa_page,
};
use serde_json::Value;
use sha2::{Digest, Sha384};

const AMDSEV: &[u8] = include_bytes!("../testdata/ovmf_AmdSev_suffix.bin");
const GENERIC: &[u8] = include_bytes!("../testdata/ovmf_OvmfX64_suffix.bin");
const KERNEL: &[u8] = include_bytes!("../testdata/k.bin");
const INITRD: &[u8] = include_bytes!("../testdata/i.bin");

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn sev_snp_measure() -> Value {
    vectors(include_str!("../testdata/sev-snp-measure-vectors.json"))
}

fn firmware(name: &str) -> Firmware {
    Firmware::parse(match name {
        "ovmf_AmdSev_suffix.bin" => AMDSEV,
        "ovmf_OvmfX64_suffix.bin" => GENERIC,
        other => panic!("no such firmware: {other}"),
    })
    .unwrap()
}

/// `null` in a row means an empty file, a missing value no file at all.
fn file(row: &Value, key: &str) -> Option<&'static [u8]> {
    match row[key].as_str() {
        None => None,
        Some("null") => Some(b""),
        Some("k.bin") => Some(KERNEL),
        Some("i.bin") => Some(INITRD),
        Some(other) => panic!("no such file: {other}"),
    }
}

fn hashes(row: &Value, cmdline_key: &str) -> Option<KernelHashes> {
    let kernel = file(row, "kernel")?;
    let initrd = file(row, "initrd").unwrap_or_default();
    Some(KernelHashes::of(
        kernel,
        initrd,
        row[cmdline_key].as_str().unwrap_or_default(),
    ))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn vcpus(row: &Value) -> u32 {
    u32::try_from(number(&row["vcpus"])).unwrap()
}

#[test]
fn sev_snp_measure_agrees_on_every_snp_row_of_qemu() {
    let vectors = sev_snp_measure();
    let mut checked = 0;
    for row in vectors["vectors"].as_array().unwrap() {
        if row["mode"] != "snp" || row["vmm"] != "QEMU" {
            continue;
        }
        let firmware = firmware(row["ovmf"].as_str().unwrap());
        let digest = snp_launch_digest(&SnpLaunch {
            firmware: &firmware,
            kernel_hashes: hashes(row, "cmdline"),
            vcpus: vcpus(row),
            cpu: row["vcpu_type"].as_str().unwrap().parse().unwrap(),
            guest_features: number(&row["guest_features"]),
        });
        match row["expected_hex"].as_str() {
            Some(expected) => assert_eq!(digest.unwrap().to_string(), expected, "{row}"),
            None => assert_eq!(digest, Err(DigestError::NoKernelHashSection), "{row}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 39);
}

#[test]
fn virtee_sev_agrees_on_every_row_of_qemu() {
    let vectors = vectors(include_str!("../testdata/virtee-sev-rust-expected.json"));
    let mut checked = 0;
    for row in vectors["snp"].as_array().unwrap() {
        if row["vmm"] != "QEMU" {
            continue;
        }
        let firmware = firmware(row["ovmf"].as_str().unwrap());
        let digest = snp_launch_digest(&SnpLaunch {
            firmware: &firmware,
            kernel_hashes: hashes(row, "append"),
            vcpus: vcpus(row),
            cpu: "EPYC-v4".parse().unwrap(),
            guest_features: number(&row["features"]),
        });
        assert_eq!(digest.unwrap().to_string(), row["expected"], "{row}");
        checked += 1;
    }
    assert_eq!(checked, 10);
}

#[test]
fn sev_snp_measure_agrees_on_a_complete_firmware() {
    let packed = include_bytes!("../testdata/OVMF-ubuntu-2025.02-3ubuntu2.fd.gz");
    let mut image = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut image)
        .unwrap();
    let firmware = Firmware::parse(&image).unwrap();
    let chain = LaunchChain::new(&firmware, None).unwrap();
    let vectors = vectors(include_str!("../testdata/ubuntu-ovmf-2025.02-vectors.json"));
    let mut checked = 0;
    for row in vectors["vectors"].as_array().unwrap() {
        if row["mode"] != "snp" {
            continue;
        }
        let cpu = row["vcpu_type"].as_str().unwrap().parse().unwrap();
        let digest = chain
            .with_vcpus(vcpus(row), cpu, number(&row["guest_features"]))
            .unwrap();
        assert_eq!(digest.to_string(), row["expected_hex"], "{row}");
        checked += 1;
    }
    assert_eq!(checked, 12);
    assert_eq!(
        LaunchChain::new(&firmware, Some(&KernelHashes::of(KERNEL, INITRD, ""))).unwrap_err(),
        DigestError::NoKernelHashSection
    );
}

#[test]
fn hash_tables_have_the_bytes_that_qemu_writes() {
    let vectors = sev_snp_measure();
    let tables = vectors["hash_tables"].as_array().unwrap();
    assert_eq!(tables.len(), 3);
    for row in tables {
        let table = hashes(row, "cmdline").unwrap().table();
        assert_eq!(hex::encode(table), row["table_hex"], "{row}");
    }
}

#[test]
fn vcpu_states_have_the_bytes_that_kvm_measures() {
    let vectors = sev_snp_measure();
    let mut checked = 0;
    for row in vectors["vmsa_sha384"].as_array().unwrap() {
        if row["vmm"] != "QEMU" {
            continue;
        }
        let ap_eip = firmware("ovmf_AmdSev_suffix.bin")
            .sev_es_reset_eip()
            .unwrap();
        let eip = if row["vcpu"] == "BSP" {
            BSP_EIP
        } else {
            ap_eip
        };
        let cpu: CpuSignature = row["cpu"].as_str().unwrap().parse().unwrap();
        let page = vmsa_page(eip, cpu.0, number(&row["features"]));
        assert_eq!(hex::encode(Sha384::digest(page)), row["sha384"], "{row}");
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn the_firmware_alone_has_the_published_digest() {
    let vectors = sev_snp_measure();
    for (name, expected) in vectors["ovmf_hash"].as_object().unwrap() {
        assert_eq!(firmware_digest(&firmware(name)).to_string(), *expected);
    }
}

#[test]
fn every_published_cpu_signature_is_known() {
    let vectors = sev_snp_measure();
    for (name, expected) in vectors["cpu_sigs"].as_object().unwrap() {
        let model = CPU_MODELS.iter().find(|model| model.name == name).unwrap();
        assert_eq!(u64::from(model.signature.0), number(expected), "{name}");
    }
}

#[test]
fn one_chain_gives_every_vcpu_count() {
    let firmware = firmware("ovmf_AmdSev_suffix.bin");
    let kernel_hashes = Some(KernelHashes::of(KERNEL, INITRD, "quiet"));
    let cpu = "EPYC-v4".parse().unwrap();
    let chain = LaunchChain::new(&firmware, kernel_hashes.as_ref()).unwrap();
    for vcpus in 1..=16 {
        let launch = SnpLaunch {
            firmware: &firmware,
            kernel_hashes,
            vcpus,
            cpu,
            guest_features: DEFAULT_GUEST_FEATURES,
        };
        assert_eq!(
            chain.with_vcpus(vcpus, cpu, DEFAULT_GUEST_FEATURES),
            snp_launch_digest(&launch)
        );
    }
}

#[test]
fn impossible_vcpu_counts_are_refused() {
    let firmware = firmware("ovmf_AmdSev_suffix.bin");
    let chain = LaunchChain::new(&firmware, None).unwrap();
    let cpu = "EPYC-v4".parse().unwrap();
    for vcpus in [0, MAX_VCPUS + 1, 10_000, u32::MAX] {
        let error = chain.with_vcpus(vcpus, cpu, 1).unwrap_err();
        assert_eq!(error, DigestError::VcpuCount { vcpus });
        assert_eq!(error.code().0, "RDT-DIG-001");
    }
}

#[test]
fn a_section_of_unknown_type_is_refused_rather_than_guessed() {
    let mut image = AMDSEV.to_vec();
    let metadata = image
        .windows(4)
        .position(|window| window == b"ASEV")
        .unwrap();
    image[metadata + 16 + 8] = 0x77;
    let firmware = Firmware::parse(&image).unwrap();
    assert_eq!(
        LaunchChain::new(&firmware, None).unwrap_err(),
        DigestError::UnknownSection {
            kind: 0x77,
            gpa: 0x80_0000
        }
    );
}
