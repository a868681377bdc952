//! `redoubt id-block`, and the launches that its blocks are for.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

const MEASURED_BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../measured-boot");

fn key(name: &str) -> PathBuf {
    Path::new(MEASURED_BOOT)
        .join("id-block/testdata")
        .join(name)
}

fn redoubt(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
    command.args(arguments);
    command
}

/// `redoubt measure snp` of a published image.
fn measure(arguments: &[&str]) -> Command {
    let mut command = redoubt(&["measure", "snp", "--firmware"]);
    let testdata = Path::new(MEASURED_BOOT).join("launch-digest/testdata");
    command.arg(testdata.join("ovmf_AmdSev_suffix.bin"));
    command.args(arguments);
    command
}

fn create(digest: &str) -> Command {
    let mut command = redoubt(&["id-block", "create", "--digest", digest, "--id-key"]);
    command.arg(key("rs-test_id_key.pem"));
    command
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(command: &mut Command, dir: &TempDir) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let text = text.replace(MEASURED_BOOT, "DATA");
    let text = text.replace(&dir.path().display().to_string(), "DIR");
    format!("{}: {text}", output.status.code().unwrap())
}

/// Writes the block and authentication that a command made as JSON.
fn store(dir: &TempDir, json: &str) -> (PathBuf, PathBuf) {
    let made: Value = serde_json::from_str(json).unwrap();
    let store = |member: &str| {
        let path = dir.path().join(member);
        fs::write(&path, made[member].as_str().unwrap().to_owned() + "\n").unwrap();
        path
    };
    (store("snp_id_block"), store("snp_id_auth"))
}

#[test]
fn a_block_is_made_shown_and_required_of_a_launch() {
    let dir = TempDir::new().unwrap();
    let digest = succeeds(&mut measure(&["--bare", "--vcpus", "2"]));
    let mut command = create(digest.trim());
    command.arg("--author-key").arg(key("rs-test_auth_key.pem"));
    command.args(["--image-id", "000102030405060708090a0b0c0d0e0f", "--json"]);
    let (block, auth) = store(&dir, &succeeds(&mut command));
    let inspect = || {
        let mut command = redoubt(&["id-block", "inspect"]);
        command.arg(&block).arg(&auth);
        command
    };
    let text = succeeds(&mut inspect());
    let (facts, toml) = text.split_once("\n\nFor configuration.toml\n").unwrap();
    assert_snapshot!(facts, @"
    launch digest ae7e31b6e2220dcb2832b050464cf9fb5da4feed92be5cdd966435c2ee722f341410bb2438923ee696bd23460ff9c904
    guest policy  0x30000
    family id     00000000000000000000000000000000
    image id      000102030405060708090a0b0c0d0e0f
    guest SVN     0
    ID key        59fb2c686dfa4fef49f38339aa775c90051c28d57383ddc3baf3b5eb4b1496df3b0dbbdcbae5fe27677a644820773fe2
    author key    eed81169fb0cb5e0ec34794f128fd4e0c4a46f67c65a1adfa81fcb24bcc088c272369b7ffc3eb2b6af6a4284a1b36c5f
    ");
    assert!(toml.starts_with("snp_id_block = \""), "{toml}");

    let launch = |arguments: &[&str]| {
        let mut command = measure(arguments);
        command.arg("--id-block").arg(&block);
        command.arg("--id-auth").arg(&auth);
        command
    };
    let policy = ["--guest-policy", "0x30000"];
    let json = succeeds(launch(&["--range", "vcpus=1..4", "--json"]).args(policy));
    let rows: Value = serde_json::from_str(&json).unwrap();
    let shown: Value = serde_json::from_str(&succeeds(inspect().arg("--json"))).unwrap();
    let input = &rows[0]["inputs"]["id_block"];
    assert_eq!(input["id_key_digest"], shown["id_key_digest"]);
    assert_eq!(input["author_key_digest"], shown["author_key_digest"]);
    let other = fails(launch(&["--vcpus", "3"]).args(policy), &dir);
    assert!(
        other.starts_with("4: [RDT-IDB-013] file \"DIR/snp_id_block\""),
        "{other}"
    );
    let other = fails(
        launch(&["--vcpus", "2"]).args(["--guest-policy", "0xb0000"]),
        &dir,
    );
    assert!(
        other.starts_with("4: [RDT-IDB-014] file \"DIR/snp_id_block\""),
        "{other}"
    );
}

#[test]
fn a_sandbox_takes_the_printed_keys_of_the_configuration() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let mut kernel = vec![0; 0x400];
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    let (kernel, initrd) = (write("k", &kernel), write("i", b"initrd"));
    let configure = |more: &str| {
        let text = format!(
            "[hypervisor.qemu]\nkernel = \"{kernel}\"\ninitrd = \"{initrd}\"\n\
             firmware = \"{MEASURED_BOOT}/launch-digest/testdata/ovmf_AmdSev_suffix.bin\"\n\
             confidential_guest = true\nsnp_simulation = \"/sim\"\naccelerator = \"tcg\"\n{more}"
        );
        write("configuration.toml", text.as_bytes())
    };
    let measure = |path: &str| redoubt(&["measure", "sandbox", "--bare", "--config", path]);
    let digest = succeeds(&mut measure(&configure("")));
    let toml = succeeds(create(digest.trim()).args(["--format", "toml"]));
    assert_eq!(succeeds(&mut measure(&configure(&toml))), digest);
    let other = succeeds(create(&"ab".repeat(48)).args(["--format", "toml"]));
    let refused = fails(&mut measure(&configure(&other)), &dir);
    assert!(refused.starts_with("3: [RDT-PLAN-032]"), "{refused}");
}

#[test]
fn keys_and_structures_that_are_none_are_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "-----BEGIN PRIVATE KEY-----\nsecret\n").unwrap();
    let digest = "ab".repeat(48);
    let mut command = redoubt(&["id-block", "create", "--digest", &digest, "--id-key"]);
    command.arg(&file);
    assert_snapshot!(fails(&mut command, &dir), @r#"4: [RDT-IDB-011] file "DIR/file" is not usable for an ID block: not an unencrypted P-384 private key in PEM (hint: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384`)"#);
    let mut command = redoubt(&["id-block", "inspect"]);
    command.arg(&file).arg(&file);
    assert_snapshot!(fails(&mut command, &dir), @r#"4: [RDT-IDB-002] file "DIR/file" is not usable for an ID block: ID block is not 96 bytes in base64"#);
    let (block, auth) = store(&dir, &succeeds(create(&digest).arg("--json")));
    let other = succeeds(create(&"cd".repeat(48)).arg("--json"));
    let folder = TempDir::new().unwrap();
    let (other, _) = store(&folder, &other);
    let mut command = redoubt(&["id-block", "inspect"]);
    command.arg(&other).arg(&auth);
    assert_snapshot!(fails(&mut command, &dir), @r#"4: [RDT-IDB-009] file "DIR/snp_id_auth" is not usable for an ID block: ID authentication, block signature at offset 0x40: not the ID key's for this ID block"#);
    let raw = Path::new(MEASURED_BOOT).join("id-block/testdata/rs-test_auth_block.bin");
    let mut command = redoubt(&["id-block", "inspect"]);
    command.arg(&block).arg(raw);
    assert_snapshot!(fails(&mut command, &dir), @r#"4: [RDT-IDB-009] file "DATA/id-block/testdata/rs-test_auth_block.bin" is not usable for an ID block: ID authentication, block signature at offset 0x40: not the ID key's for this ID block"#);
}
