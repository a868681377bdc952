//! What operators and pods see of the configuration: values, warnings, errors.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use proptest::prelude::*;
use redoubt_errors::OneLine;
use redoubt_launch_plan::{
    ConfigError, ConfigSearch, ConfigSource, Configuration, Timeout, load, reference,
};

fn source(name: &str, text: &str) -> ConfigSource {
    ConfigSource {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn parsed(text: &str) -> (Configuration, Vec<String>) {
    let (configuration, warnings) =
        Configuration::from_sources(&[source("base.toml", text)]).unwrap();
    (
        configuration,
        warnings.iter().map(ToString::to_string).collect(),
    )
}

fn refused(text: &str) -> String {
    let error = Configuration::from_sources(&[source("base.toml", text)]).unwrap_err();
    OneLine(&error).to_string()
}

fn annotated(
    configuration: &Configuration,
    annotations: &[(&str, &str)],
) -> Result<(Configuration, Vec<String>), ConfigError> {
    let annotations: BTreeMap<String, String> = annotations
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let (configuration, warnings) = configuration.with_annotations(&annotations)?;
    Ok((
        configuration,
        warnings.iter().map(ToString::to_string).collect(),
    ))
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let (configuration, warnings) = parsed("");
    assert!(warnings.is_empty());
    assert_eq!(configuration, Configuration::default());
    assert!(!configuration.hypervisor.confidential_guest);
    assert_eq!(configuration.hypervisor.default_memory, 2048);
    assert_eq!(configuration.hypervisor.snp_guest_policy, 0x30000);
    assert_eq!(configuration.agent.dial_timeout, Timeout::seconds(90));
}

#[test]
fn values_are_taken_over_with_the_file_that_set_them() {
    let (configuration, warnings) = parsed(
        "[hypervisor.qemu]\nkernel = \"/k\"\ndefault_vcpus = 2\ndefault_memory = 512\n\
         confidential_guest = true\n[runtime]\ninternetworking_model = \"none\"\n",
    );
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(configuration.hypervisor.kernel, Path::new("/k"));
    assert!(configuration.hypervisor.confidential_guest);
    assert_eq!(
        configuration.origin("hypervisor.qemu.kernel"),
        Some("base.toml")
    );
    assert_eq!(configuration.origin("hypervisor.qemu.initrd"), None);
}

#[test]
fn later_drop_ins_replace_single_keys_and_whole_lists() {
    let (configuration, _) = Configuration::from_sources(&[
        source("base.toml", "[hypervisor.qemu]\nkernel = \"/k\"\ninitrd = \"/i\"\nenable_annotations = [\"a\", \"b\"]\n"),
        source("config.d/10.toml", "[hypervisor.qemu]\nkernel = \"/k2\"\nenable_annotations = [\"c\"]\n"),
    ])
    .unwrap();
    assert_eq!(configuration.hypervisor.kernel, Path::new("/k2"));
    assert_eq!(configuration.hypervisor.initrd, Path::new("/i"));
    assert_eq!(configuration.hypervisor.enable_annotations, ["c"]);
    assert_eq!(
        configuration.origin("hypervisor.qemu.kernel"),
        Some("config.d/10.toml")
    );
    assert_eq!(
        configuration.origin("hypervisor.qemu.initrd"),
        Some("base.toml")
    );
}

#[test]
fn both_runtimes_spellings_are_read_with_their_units() {
    let (go, warnings) = parsed(
        "[hypervisor.qemu]\nseccompsandbox = \"on\"\n[agent.kata]\ndial_timeout = 7\n\
         cdh_api_timeout = 9\n[runtime]\ncreate_container_timeout = 11\n",
    );
    assert!(warnings.is_empty(), "{warnings:?}");
    let (rs, warnings) = parsed(
        "[hypervisor.qemu]\nseccomp_sandbox = \"on\"\n[agent.kata]\nreconnect_timeout_ms = 7000\n\
         cdh_api_timeout_ms = 9000\ncreate_container_timeout = 11\n",
    );
    assert!(warnings.is_empty(), "{warnings:?}");
    for configuration in [&go, &rs] {
        assert_eq!(configuration.hypervisor.seccompsandbox, "on");
        assert_eq!(configuration.agent.dial_timeout, Timeout::seconds(7));
        assert_eq!(configuration.agent.cdh_api_timeout, Timeout::seconds(9));
        assert_eq!(
            configuration.runtime.create_container_timeout,
            Timeout::seconds(11)
        );
    }
}

#[test]
fn two_spellings_of_one_key_are_reported() {
    let (configuration, warnings) =
        parsed("[agent.kata]\ndial_timeout = 7\nreconnect_timeout_ms = 1\n");
    assert_eq!(configuration.agent.dial_timeout, Timeout::seconds(7));
    assert_snapshot!(warnings.join("\n"), @"base.toml: agent.kata.reconnect_timeout_ms is ignored, because agent.kata.dial_timeout is given too");
}

#[test]
fn an_unknown_key_is_a_warning_that_names_the_nearest_one() {
    let (_, warnings) = parsed(
        "[hypervisor.qemu]\nkernal = \"/k\"\n[hypervisor.clh]\npath = \"/c\"\n\
         [agent.kata]\nenable_debugg = true\n[zoo]\nxyzzy = 1\n",
    );
    assert_snapshot!(warnings.join("\n"), @r#"
    base.toml: unknown key agent.kata.enable_debugg; did you mean agent.kata.enable_debug?
    base.toml: unknown key hypervisor.clh.path; did you mean hypervisor.qemu.path?
    base.toml: unknown key hypervisor.qemu.kernal; did you mean hypervisor.qemu.kernel?
    base.toml: unknown key zoo.xyzzy
    "#);
}

#[test]
fn a_key_without_effect_is_a_warning_unless_it_says_nothing() {
    let (_, warnings) = parsed(
        "[hypervisor.qemu]\nimage_hash = \"00\"\nshared_fs = \"none\"\nvirtio_fs_daemon = \"\"\n\
         [runtime]\nenable_pprof = true\nstatic_sandbox_resource_mgmt = true\n",
    );
    assert_snapshot!(warnings.join("\n"), @r#"
    base.toml: hypervisor.qemu.image_hash has no effect: the launch digest covers the root hash
    base.toml: runtime.enable_pprof has no effect: the shim has no profiler
    "#);
}

#[test]
fn a_wrong_type_is_an_error_that_names_file_and_key() {
    assert_snapshot!(refused("[hypervisor.qemu]\ndefault_memory = \"2G\"\n"), @r#"[RDT-CFG-005] configuration base.toml: hypervisor.qemu.default_memory must be a whole number, not "2G""#);
    assert_snapshot!(refused("[hypervisor.qemu]\ndefault_vcpus = -1\n"), @"[RDT-CFG-005] configuration base.toml: hypervisor.qemu.default_vcpus must be a number, not -1");
    assert_snapshot!(refused("[runtime]\ninternetworking_model = \"macvtap\"\n"), @r#"[RDT-CFG-005] configuration base.toml: runtime.internetworking_model must be "tcfilter" or "none", not "macvtap""#);
    assert_snapshot!(refused("[runtime]\nenable_pprof = 3\n"), @"[RDT-CFG-005] configuration base.toml: runtime.enable_pprof must be true or false, not 3");
    assert_snapshot!(refused("[agent.kata]\ndial_timeout = 0\n"), @"[RDT-CFG-005] configuration base.toml: agent.kata.dial_timeout must be a time in whole seconds above 0, not 0");
    assert_snapshot!(refused("[hypervisor.qemu]\nkernel = \n"), @"[RDT-CFG-004] configuration base.toml, line 2: string values must be quoted, expected literal string");
}

#[test]
fn a_hypervisor_annotation_must_be_enabled_by_its_whole_name() {
    let (configuration, _) =
        parsed("[hypervisor.qemu]\nenable_annotations = [\"kernel\", \"default_.*\"]\n");
    let memory = ("io.katacontainers.config.hypervisor.default_memory", "512");
    let (annotated_configuration, warnings) = annotated(&configuration, &[memory]).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(annotated_configuration.hypervisor.default_memory, 512);
    assert_eq!(
        annotated_configuration.origin("hypervisor.qemu.default_memory"),
        Some("annotation io.katacontainers.config.hypervisor.default_memory")
    );
    let params = (
        "io.katacontainers.config.hypervisor.kernel_params",
        "agent.log=debug",
    );
    let error = annotated(&configuration, &[params]).unwrap_err();
    assert_snapshot!(OneLine(&error).to_string(), @r#"[RDT-CFG-008] annotation io.katacontainers.config.hypervisor.kernel_params is not enabled (hint: add "kernel_params" to enable_annotations in [hypervisor.qemu], or remove the annotation)"#);
}

#[test]
fn annotations_outside_the_gate_are_refused_or_reported() {
    let (configuration, _) = parsed("[hypervisor.qemu]\nenable_annotations = [\".*\"]\n");
    let refused = |name: &str, value: &str| {
        let name = format!("io.katacontainers.config.{name}");
        OneLine(&annotated(&configuration, &[(&name, value)]).unwrap_err()).to_string()
    };
    assert_snapshot!(refused("hypervisor.confidential_guest", "false"), @"[RDT-CFG-009] annotation io.katacontainers.config.hypervisor.confidential_guest sets a key that only the host's operator may set");
    assert_snapshot!(refused("hypervisor.snp_simulation", "/x"), @"[RDT-CFG-009] annotation io.katacontainers.config.hypervisor.snp_simulation sets a key that only the host's operator may set");
    assert_snapshot!(refused("agent.policy", "cGFja2FnZQ=="), @"[RDT-CFG-012] annotation io.katacontainers.config.agent.policy would reach the guest unmeasured (hint: put the policy into initdata as policy.rego: `redoubt initdata build`)");
    assert_snapshot!(refused("hypervisor.default_memory", "much"), @"[RDT-CFG-010] annotation io.katacontainers.config.hypervisor.default_memory must be a whole number");
    assert_snapshot!(refused("hypervisor.path", "/tmp/qemu"), @r#"[RDT-CFG-011] annotation io.katacontainers.config.hypervisor.path: "/tmp/qemu" matches no entry of valid_hypervisor_paths"#);
    let odd = [
        ("io.katacontainers.config.hypervisor.default_memry", "1"),
        ("io.katacontainers.config.runtime.enable_pprof", "true"),
        ("io.kubernetes.cri.sandbox-id", "x"),
    ];
    let (_, warnings) = annotated(&configuration, &odd).unwrap();
    assert_snapshot!(warnings.join("\n"), @r#"
    annotation: unknown key io.katacontainers.config.hypervisor.default_memry; did you mean io.katacontainers.config.hypervisor.default_memory?
    annotation: io.katacontainers.config.runtime.enable_pprof has no effect: the shim has no profiler
    "#);
}

#[test]
fn a_bad_pattern_in_the_gate_is_an_error() {
    let (configuration, _) = parsed("[hypervisor.qemu]\nenable_annotations = [\"(\"]\n");
    let error = annotated(&configuration, &[]).unwrap_err();
    assert_snapshot!(OneLine(&error).to_string(), @r#"[RDT-CFG-006] configuration: hypervisor.qemu.enable_annotations is not a regular expression: "(""#);
}

#[test]
fn a_named_file_is_read_with_the_drop_ins_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("configuration.toml");
    fs::write(&file, "[hypervisor.qemu]\ndefault_memory = 300\n").unwrap();
    fs::create_dir(dir.path().join("config.d")).unwrap();
    fs::write(
        dir.path().join("config.d/50-more.toml"),
        "[hypervisor.qemu]\ndefault_memory = 400\n",
    )
    .unwrap();
    fs::write(dir.path().join("config.d/notes"), "not TOML at all").unwrap();
    let search = ConfigSearch {
        runtime_option: Some(file.clone()),
        ..ConfigSearch::default()
    };
    let loaded = load(&search).unwrap();
    assert_eq!(loaded.configuration.hypervisor.default_memory, 400);
    assert_eq!(loaded.files.len(), 2);

    let missing = ConfigSearch {
        runtime_option: Some(PathBuf::from("/nonexistent/configuration.toml")),
        ..ConfigSearch::default()
    };
    assert_snapshot!(OneLine(&load(&missing).unwrap_err()).to_string(), @r#"[RDT-CFG-002] cannot read "/nonexistent/configuration.toml", named by ConfigPath or --config: No such file or directory (os error 2)"#);
}

#[test]
fn a_pod_cannot_bring_its_own_configuration_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("configuration.toml");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let search = ConfigSearch {
        annotation: Some(file),
        ..ConfigSearch::default()
    };
    assert!(matches!(
        load(&search),
        Err(ConfigError::UntrustedPath { .. })
    ));
}

#[test]
fn the_reference_lists_every_key_once_with_its_default() {
    let text = reference();
    for key in Configuration::keys() {
        let cell = if key.unused.is_some() {
            key.path()
        } else {
            key.name.to_owned()
        };
        assert!(text.contains(&format!("| `{cell}`")), "{cell}");
        assert!(key.unused.is_some() || !key.doc.trim().is_empty(), "{cell}");
    }
    let mut paths: Vec<_> = Configuration::keys()
        .map(redoubt_launch_plan::KeySpec::path)
        .collect();
    let count = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), count, "a key is declared twice");
    let line = text
        .lines()
        .find(|line| line.starts_with("| `default_memory`"))
        .unwrap();
    assert_snapshot!(line, @"| `default_memory` | a whole number | `2048` | where enabled | Memory in MiB of a sandbox without a memory limit. |");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = Configuration::from_sources(&[source("x", &text)]);
    }

    #[test]
    fn arbitrary_values_of_known_keys_never_panic(index in 0usize..200, value in "(-?[0-9]{1,19}|true|\"[a-z/]{0,8}\"|\\[\"a\"\\]|1\\.5|\\{\\}|nan|inf)") {
        let key = Configuration::keys().nth(index % Configuration::keys().count()).unwrap();
        let text = format!("[{}]\n{} = {value}\n", key.table, key.name);
        let _ = Configuration::from_sources(&[source("x", &text)]);
    }

    #[test]
    fn arbitrary_annotations_never_panic(name in "(hypervisor|runtime|agent)\\.[a-z_]{1,20}", value in "\\PC{0,40}") {
        let (configuration, _) = parsed("[hypervisor.qemu]\nenable_annotations = [\".*\"]\n");
        let _ = annotated(&configuration, &[(&format!("io.katacontainers.config.{name}"), &value)]);
    }
}
