//! Every row of the published vectors.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

use std::io::Read;

use redoubt_errors::UserError;
use redoubt_firmware::Firmware;
use redoubt_launch_digest::{
    BSP_EIP, CPU_MODELS, CpuSignature, DEFAULT_GUEST_FEATURES, DigestError, FirmwareChain,
    KernelHashes, LaunchChain, MAX_VCPUS, SnpLaunch, Svsm, Vmm, firmware_digest,
    sev_es_launch_digests, sev_launch_digest, snp_launch_digest, vmsa_page,
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

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut image = Vec::new();
    flate2::read::GzDecoder::new(gzip)
        .read_to_end(&mut image)
        .unwrap();
    image
}

fn ubuntu_firmware() -> Firmware {
    let packed = include_bytes!("../testdata/OVMF-ubuntu-2025.02-3ubuntu2.fd.gz");
    Firmware::parse(&unpacked(packed)).unwrap()
}

/// The row's CPU; rows without one measure none.
fn cpu(row: &Value) -> CpuSignature {
    row["vcpu_type"]
        .as_str()
        .map_or(CpuSignature(0), |name| name.parse().unwrap())
}

fn rows<'a>(vectors: &'a Value, mode: &str) -> Vec<&'a Value> {
    let all = vectors["vectors"].as_array().unwrap();
    all.iter().filter(|row| row["mode"] == mode).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn vcpus(row: &Value) -> u32 {
    u32::try_from(number(&row["vcpus"])).unwrap()
}

#[test]
fn sev_snp_measure_agrees_on_every_snp_row() {
    let vectors = sev_snp_measure();
    let rows = rows(&vectors, "snp");
    for row in &rows {
        let firmware = firmware(row["ovmf"].as_str().unwrap());
        let vmm: Vmm = row["vmm"].as_str().unwrap().parse().unwrap();
        let hashes = hashes(row, "cmdline");
        let digest = LaunchChain::for_vmm(vmm, &firmware, hashes.as_ref()).and_then(|chain| {
            chain.with_vcpus(vcpus(row), cpu(row), number(&row["guest_features"]))
        });
        match row["expected_hex"].as_str() {
            Some(expected) => assert_eq!(digest.unwrap().to_string(), expected, "{row}"),
            None => assert_eq!(digest, Err(DigestError::NoKernelHashSection), "{row}"),
        }
    }
    assert_eq!(rows.len(), 47);
    for vmm in ["QEMU", "ec2", "gce"] {
        assert!(rows.iter().any(|row| row["vmm"] == vmm));
    }
}

#[test]
fn sev_snp_measure_agrees_on_every_row_with_a_service_module() {
    let image = |packed| Firmware::parse(&unpacked(packed)).unwrap();
    let firmware = FirmwareChain::new(image(include_bytes!("../testdata/svsm_ovmf.fd.gz")));
    let module = image(include_bytes!("../testdata/svsm.bin.gz"));
    let vectors = sev_snp_measure();
    let rows = rows(&vectors, "snp:svsm");
    for row in &rows {
        let svsm = Svsm::new(module.clone(), number(&row["extra"]["ovmf_vars_size"])).unwrap();
        let chain = firmware.launch_with_svsm(&svsm).unwrap();
        // The calculator takes other guest features without using them.
        let digest = chain.with_vcpus(vcpus(row), cpu(row), DEFAULT_GUEST_FEATURES);
        assert_eq!(digest.unwrap().to_string(), row["expected_hex"], "{row}");
        assert_eq!(
            chain.with_vcpus(vcpus(row), cpu(row), number(&row["guest_features"])),
            Err(DigestError::SvsmFeatures {
                guest_features: 0x21
            })
        );
    }
    assert_eq!(rows.len(), 4);
}

#[test]
fn sev_snp_measure_agrees_on_every_sev_row() {
    let vectors = sev_snp_measure();
    let rows = rows(&vectors, "sev");
    for row in &rows {
        let firmware = firmware(row["ovmf"].as_str().unwrap());
        let digest = sev_launch_digest(&firmware, hashes(row, "cmdline").as_ref());
        match row["expected_hex"].as_str() {
            Some(expected) => assert_eq!(digest.unwrap().to_string(), expected, "{row}"),
            None => assert_eq!(digest, Err(DigestError::NoKernelHashArea), "{row}"),
        }
    }
    assert_eq!(rows.len(), 4);
}

#[test]
fn sev_snp_measure_agrees_on_every_sev_es_row() {
    let vectors = sev_snp_measure();
    let rows = rows(&vectors, "seves");
    for row in &rows {
        let firmware = firmware(row["ovmf"].as_str().unwrap());
        let hashes = hashes(row, "cmdline");
        let vcpus = vcpus(row);
        let digests = sev_es_launch_digests(&firmware, hashes.as_ref(), vcpus..=vcpus, cpu(row));
        match row["expected_hex"].as_str() {
            Some(expected) => assert_eq!(digests.unwrap()[0].to_string(), expected, "{row}"),
            None => assert_eq!(digests, Err(DigestError::NoKernelHashArea), "{row}"),
        }
    }
    assert_eq!(rows.len(), 3);
}

#[test]
fn virtee_sev_agrees_on_every_row_but_its_former_ec2() {
    let vectors = vectors(include_str!("../testdata/virtee-sev-rust-expected.json"));
    let mut former_ec2 = 0;
    for row in vectors["snp"].as_array().unwrap() {
        let firmware = firmware(row["ovmf"].as_str().unwrap());
        let vmm: Vmm = row["vmm"].as_str().unwrap().parse().unwrap();
        let hashes = hashes(row, "append");
        let digest = LaunchChain::for_vmm(vmm, &firmware, hashes.as_ref())
            .unwrap()
            .with_vcpus(
                vcpus(row),
                "EPYC-v4".parse().unwrap(),
                number(&row["features"]),
            )
            .unwrap();
        if vmm == Vmm::Ec2 {
            // Why these differ is settled by the tests of the vCPUs' states.
            assert_ne!(digest.to_string(), row["expected"], "{row}");
            former_ec2 += 1;
        } else {
            assert_eq!(digest.to_string(), row["expected"], "{row}");
        }
    }
    assert_eq!(vectors["snp"].as_array().unwrap().len(), 12);
    assert_eq!(former_ec2, 2);
}

#[test]
fn sev_snp_measure_agrees_on_a_complete_firmware() {
    let firmware = ubuntu_firmware();
    let chain = LaunchChain::new(&firmware, None).unwrap();
    let vectors = vectors(include_str!("../testdata/ubuntu-ovmf-2025.02-vectors.json"));
    let all = vectors["vectors"].as_array().unwrap();
    for row in all {
        let vcpus = vcpus(row);
        let digest = match row["mode"].as_str().unwrap() {
            "snp" => chain
                .with_vcpus(vcpus, cpu(row), number(&row["guest_features"]))
                .unwrap()
                .to_string(),
            "seves" => sev_es_launch_digests(&firmware, None, vcpus..=vcpus, cpu(row)).unwrap()[0]
                .to_string(),
            "sev" => sev_launch_digest(&firmware, None).unwrap().to_string(),
            other => panic!("no such mode: {other}"),
        };
        assert_eq!(digest, row["expected_hex"], "{row}");
    }
    assert_eq!(all.len(), 36);
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
fn vcpu_states_have_the_bytes_that_each_monitor_measures() {
    let vectors = sev_snp_measure();
    let rows = vectors["vmsa_sha384"].as_array().unwrap();
    for row in rows {
        let ap_eip = firmware("ovmf_AmdSev_suffix.bin")
            .sev_es_reset_eip()
            .unwrap();
        let eip = if row["vcpu"] == "BSP" {
            BSP_EIP
        } else {
            ap_eip
        };
        let vmm = row["vmm"].as_str().unwrap().parse().unwrap();
        let cpu = row["cpu"].as_str().unwrap().parse().unwrap();
        let page = vmsa_page(vmm, eip, cpu, number(&row["features"]));
        assert_eq!(hex::encode(Sha384::digest(page)), row["sha384"], "{row}");
    }
    assert_eq!(rows.len(), 12);
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
fn one_pass_gives_every_vcpu_count() {
    let firmware = firmware("ovmf_AmdSev_suffix.bin");
    let kernel_hashes = Some(KernelHashes::of(KERNEL, INITRD, "quiet"));
    let cpu = "EPYC-v4".parse().unwrap();
    let chain = LaunchChain::new(&firmware, kernel_hashes.as_ref()).unwrap();
    let all = chain
        .with_each(3..=16, cpu, DEFAULT_GUEST_FEATURES)
        .unwrap();
    assert_eq!(all.len(), 14);
    let sev_es = sev_es_launch_digests(&firmware, kernel_hashes.as_ref(), 3..=16, cpu).unwrap();
    for ((vcpus, digest), sev_es) in (3..=16).zip(all).zip(sev_es) {
        let launch = SnpLaunch {
            firmware: &firmware,
            kernel_hashes,
            vcpus,
            cpu,
            guest_features: DEFAULT_GUEST_FEATURES,
        };
        assert_eq!(Ok(digest), snp_launch_digest(&launch));
        let one = sev_es_launch_digests(&firmware, kernel_hashes.as_ref(), vcpus..=vcpus, cpu);
        assert_eq!(Ok(vec![sev_es]), one);
    }
}

#[test]
fn a_service_module_must_be_one_and_fit() {
    let image = |packed| Firmware::parse(&unpacked(packed)).unwrap();
    let firmware = image(include_bytes!("../testdata/svsm_ovmf.fd.gz"));
    let measured = FirmwareChain::new(firmware.clone());
    let module = unpacked(include_bytes!("../testdata/svsm.bin.gz"));
    assert_eq!(Svsm::new(firmware, 0).unwrap_err(), DigestError::NotSvsm);
    let svsm = |bytes: &[u8], vars| Svsm::new(Firmware::parse(bytes).unwrap(), vars);
    assert_eq!(
        svsm(&module, 540_673).unwrap_err(),
        DigestError::SvsmVars {
            vars_bytes: 540_673
        }
    );
    for vars in [0xffff_f000, !0xfff] {
        let svsm = svsm(&module, vars).unwrap();
        let error = measured.launch_with_svsm(&svsm).unwrap_err();
        assert!(matches!(error, DigestError::SvsmRoom { .. }), "{error:?}");
    }
    let mut outside = module.clone();
    let guid = [0x12, 0xa6, 0x89, 0xa7, 0x97, 0x05, 0x4b, 0x4c];
    let entry = outside.windows(8).rposition(|bytes| bytes == guid).unwrap();
    outside[entry - 6..entry - 2].copy_from_slice(&1_138_688u32.to_le_bytes());
    assert!(matches!(
        svsm(&outside, 0),
        Err(DigestError::SvsmEntry { .. })
    ));
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
        let sev_es = sev_es_launch_digests(&firmware, None, 1..=vcpus, cpu);
        assert_eq!(sev_es, Err(DigestError::VcpuCount { vcpus }));
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
