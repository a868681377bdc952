//! `redoubt measure pod`: manifests in, digests out.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

const AMDSEV: &[u8] = include_bytes!("../../firmware/testdata/ovmf_AmdSev_suffix.bin");

const MANIFEST: &str = "
kind: Service
metadata: {name: web}
---
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {annotations: {io.katacontainers.config.hypervisor.kernel_params: agent.log=debug}}
    spec:
      runtimeClassName: kata-qemu-snp
      containers:
      - {name: a, image: i, resources: {limits: {cpu: 1, memory: 1Gi}}}
      - {name: b, image: i, resources: {limits: {cpu: 500m}}}
---
kind: Job
metadata: {name: migrate}
spec: {template: {spec: {containers: [{name: a, image: i}]}}}
";

/// What containerd writes for a pod of the deployment.
const OCI_SPEC: &str = r#"{"annotations": {
  "io.katacontainers.config.hypervisor.kernel_params": "agent.log=debug",
  "io.kubernetes.cri.container-type": "sandbox",
  "io.kubernetes.cri.sandbox-cpu-period": "100000",
  "io.kubernetes.cri.sandbox-cpu-quota": "150000",
  "io.kubernetes.cri.sandbox-cpu-shares": "1536",
  "io.kubernetes.cri.sandbox-memory": "1073741824"
}}"#;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut kernel = vec![0; 0x400];
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        let kernel = folder.write("bzimage", &kernel);
        let initrd = folder.write("initrd", b"an initrd");
        let firmware = folder.write("amdsev.fd", AMDSEV);
        let text = format!(
            "[hypervisor.qemu]\nkernel = \"{}\"\ninitrd = \"{}\"\nfirmware = \"{}\"\n\
             confidential_guest = true\nenable_annotations = [\"kernel_params\"]\n",
            kernel.display(),
            initrd.display(),
            firmware.display()
        );
        folder.write("configuration.toml", text.as_bytes());
        folder.write("pods.yaml", MANIFEST.as_bytes());
        folder.write("config.json", OCI_SPEC.as_bytes());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn measure(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redoubt"));
        command
            .current_dir(self.0.path())
            .env_remove("KATA_CONF_FILE")
            .args(["measure", "pod", "--config", "configuration.toml"])
            .args(args);
        command.output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.measure(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_workload_of_a_manifest_is_measured() {
    let folder = Folder::new();
    let output = folder.measure(&["pods.yaml"]);
    assert!(output.status.success(), "{output:?}");
    assert_snapshot!(text(output.stdout), @r#"
    Deployment web (1152 MiB of memory)
    vCPUs  launch digest
        2  5b1c80c9057b7f48a1c08f42eb48f5d62efbc518623c5011f25d0e929ce225f4bc525ddb2c5b4fdc92c96edb51113469

    Made from
      HOST_DATA       0000000000000000000000000000000000000000000000000000000000000000
      firmware        8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c
      kernel          5964cb077ed0646ec01a57400bfbc12bb6e388f09a8a1224d44a33f63459c5e6
      initrd          d52742203e8e42f16f5bbe48a6e8aa94d9876c5abc0185f12c7f7b9ff94c814d
      command line    console=ttyS0 quiet panic=1 reboot=k redoubt.attester=snp agent.log=debug
      CPU model       EPYC-v4
      guest features  0x1
      guest policy    0x30000

    Job migrate (2048 MiB of memory)
    vCPUs  launch digest
        1  4a525658e2d4d66494deba81c6d872146e0e58dc9f16e6ddf75068b2fb2ef1661a49bc1a25709ff1fa9e9be7af7fc808

    Made from
      HOST_DATA       0000000000000000000000000000000000000000000000000000000000000000
      firmware        8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c
      kernel          5964cb077ed0646ec01a57400bfbc12bb6e388f09a8a1224d44a33f63459c5e6
      initrd          d52742203e8e42f16f5bbe48a6e8aa94d9876c5abc0185f12c7f7b9ff94c814d
      command line    console=ttyS0 quiet panic=1 reboot=k redoubt.attester=snp
      CPU model       EPYC-v4
      guest features  0x1
      guest policy    0x30000
    "#);
    assert_snapshot!(text(output.stderr), @r#"
    warning: Job migrate names no runtimeClassName, so that its pods run without a virtual machine unless something else adds one
    "#);
}

#[test]
fn a_manifest_and_the_specification_made_of_it_have_the_same_digest() {
    let folder = Folder::new();
    let of_manifest = folder.json(&["pods.yaml", "--workload", "deployment/web"]);
    let of_spec = folder.json(&["--oci-spec", "config.json"]);
    assert_eq!(of_manifest[0]["launch_digest"], of_spec[0]["launch_digest"]);
    assert_eq!(of_manifest[0]["inputs"], of_spec[0]["inputs"]);
    assert_eq!(of_manifest[0]["inputs"]["vcpus"], 2);
    assert_eq!(of_manifest[0]["memory_mib"], 1152);
    assert_eq!(of_manifest[0]["workload"], "Deployment web");
    assert_eq!(of_manifest.as_array().unwrap().len(), 1);
}

#[test]
fn the_key_broker_imports_the_reference_values_of_all_workloads() {
    let folder = Folder::new();
    let output = folder.measure(&["pods.yaml", "--format", "redoubt"]);
    let values = redoubt_kbs_server::parse_reference_values(&output.stdout, "x").unwrap();
    assert_eq!(values.len(), 2);
    let bare = text(folder.measure(&["pods.yaml", "--format", "bare"]).stdout);
    let digests: Vec<_> = values
        .iter()
        .map(|value| hex::encode(value.launch_digest))
        .collect();
    assert_eq!(bare.lines().collect::<Vec<_>>(), digests);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = Folder::new();
    folder.write("service.yaml", b"kind: Service\n");
    folder.write("half.yaml", b"kind: Pod\nspec: {containers: [\n");
    let cases: [&[&str]; 4] = [
        &["pods.yaml", "--workload", "Pod/web"],
        &["service.yaml"],
        &["half.yaml"],
        &["missing.yaml"],
    ];
    let refusals: Vec<_> = cases
        .iter()
        .map(|args| {
            let output = folder.measure(args);
            assert!(output.stdout.is_empty());
            format!("{}: {}", output.status.code().unwrap(), text(output.stderr))
        })
        .collect();
    assert_snapshot!(refusals.concat(), @r#"
    1: [RDT-CLI-020] the manifest has no workload "Pod/web", but Deployment web, Job migrate
    4: [RDT-POD-004] Kubernetes manifest describes no pod: it holds Service (hint: give a Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob)
    4: [RDT-POD-003] Kubernetes manifest is not YAML: unclosed bracket '[' at line 2, column 20 (hint: templates must be rendered first, for example by `helm template`)
    1: [RDT-CLI-001] cannot read "missing.yaml": No such file or directory (os error 2)
    "#);
}
