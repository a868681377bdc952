//! What one pod is launched with: configuration, initdata, reference values.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{run, text_of};
use crate::lab::Lab;

/// The annotation that carries initdata.
pub(crate) const INITDATA_ANNOTATION: &str = "io.katacontainers.config.hypervisor.cc_init_data";

/// Agent calls that the sample workload needs; everything else is denied.
pub const POLICY_ALLOWING: &str = include_str!("policy.rego");

/// Which initdata reaches the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitdataChoice {
    /// The document whose digest the launch is bound to.
    #[default]
    Matching,
    /// No initdata at all.
    None,
}

/// How a scenario differs from a pod that works.
#[derive(Clone, Debug)]
pub struct ScenarioOptions {
    /// The policy of the guest; `@IMAGE_DIGESTS@` becomes the image's digest.
    pub policy: String,
    /// The image the pod runs.
    pub image: String,
    /// Digests that the policy allows; `None` means the image's own.
    pub allowed_digests: Option<Vec<String>>,
    /// Where the guest looks for the broker; `None` means the lab's broker.
    pub broker_url: Option<String>,
    /// Whether the broker is told this launch digest.
    pub register: bool,
    /// Which initdata reaches the guest.
    pub initdata: InitdataChoice,
    /// Keys of `[hypervisor.qemu]` that replace or extend the defaults, as TOML values.
    pub hypervisor: Vec<(String, String)>,
}

impl ScenarioOptions {
    /// A pod that works.
    pub fn working(image: &str) -> Self {
        Self {
            policy: POLICY_ALLOWING.to_owned(),
            image: image.to_owned(),
            allowed_digests: None,
            broker_url: None,
            register: true,
            initdata: InitdataChoice::default(),
            hypervisor: Vec::new(),
        }
    }

    /// Sets a key of `[hypervisor.qemu]`; `value` is written as TOML.
    #[must_use]
    pub fn hypervisor(mut self, key: &str, value: &str) -> Self {
        self.hypervisor.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// The files of one pod.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The pod's folder.
    pub dir: PathBuf,
    /// `configuration.toml`.
    pub configuration: PathBuf,
    /// Annotations of the pod's OCI specification.
    pub annotations: Vec<(String, String)>,
    /// The image by digest.
    pub image: String,
    /// The launch digest that the broker was told.
    pub launch_digest: Option<String>,
}

impl Scenario {
    /// Writes the configuration, builds initdata and registers the launch digest.
    pub fn prepare(lab: &Lab, name: &str, options: &ScenarioOptions) -> Result<Self> {
        let dir = lab.dir().join("pods").join(name);
        fs::create_dir_all(&dir)?;
        let configuration = dir.join("configuration.toml");
        fs::write(&configuration, configuration_text(lab, &dir, options))?;
        let mut annotations = vec![("io.redoubt.image".to_owned(), options.image.clone())];
        if options.initdata == InitdataChoice::Matching {
            let annotation = build_initdata(lab, &dir, options)?;
            annotations.push((INITDATA_ANNOTATION.to_owned(), annotation));
        }
        let mut scenario = Self {
            dir,
            configuration,
            annotations,
            image: options.image.clone(),
            launch_digest: None,
        };
        if options.register {
            scenario.register(lab, name)?;
        }
        Ok(scenario)
    }

    /// The file the shim writes the trail to.
    pub fn trail(&self) -> PathBuf {
        self.dir.join("trail.jsonl")
    }

    /// Measures this very pod and tells the broker.
    fn register(&mut self, lab: &Lab, name: &str) -> Result<()> {
        let mut measure = Command::new(&lab.binaries.redoubt);
        measure
            .args(["measure", "sandbox", "--config"])
            .arg(&self.configuration);
        for (key, value) in &self.annotations {
            measure.arg("--annotation").arg(format!("{key}={value}"));
        }
        let output = run(measure.args(["--format", "redoubt"]))?;
        lab.broker.put_reference_values(name, &output.stdout)?;
        let values: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let digest = values["values"][0]["launch_digest"].as_str();
        self.launch_digest = Some(digest.context("no launch digest")?.to_owned());
        Ok(())
    }
}

fn configuration_text(lab: &Lab, dir: &Path, options: &ScenarioOptions) -> String {
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let mut keys: Vec<(String, String)> = [
        ("path", quoted(&lab.binaries.qemu)),
        ("kernel", quoted(&lab.guest.kernel)),
        ("initrd", quoted(&lab.guest.initrd)),
        ("firmware", quoted(&lab.guest.firmware)),
        ("machine_type", "\"q35\"".to_owned()),
        ("accelerator", "\"tcg\"".to_owned()),
        ("confidential_guest", "true".to_owned()),
        ("sev_snp_guest", "true".to_owned()),
        ("snp_simulation", quoted(&lab.simulator())),
        ("vhost_user_vsock", quoted(&lab.binaries.vsock_daemon)),
        ("disable_vhost_net", "true".to_owned()),
        ("default_vcpus", "1".to_owned()),
        ("default_memory", "512".to_owned()),
        (
            "enable_annotations",
            "[\"cc_init_data\", \"kernel_params\", \"default_vcpus\"]".to_owned(),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec();
    for (key, value) in &options.hypervisor {
        keys.retain(|(known, _)| known != key);
        if !value.is_empty() {
            keys.push((key.clone(), value.clone()));
        }
    }
    let mut text = String::from("[hypervisor.qemu]\n");
    for (key, value) in keys {
        text.extend([
            &key, " = ", &value, "
",
        ]);
    }
    text.push_str(
        "\n[agent.kata]\ndial_timeout = 30\n\n[runtime]\nstatic_sandbox_resource_mgmt = true\n",
    );
    text.extend(["trail_path = ", &quoted(&dir.join("trail.jsonl")), "\n"]);
    text
}

fn build_initdata(lab: &Lab, dir: &Path, options: &ScenarioOptions) -> Result<String> {
    let url = options
        .broker_url
        .clone()
        .unwrap_or_else(|| lab.broker.url());
    let certificate = lab.broker.certificate()?;
    let own = options
        .image
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .to_owned();
    let digests = options.allowed_digests.clone().unwrap_or_else(|| vec![own]);
    let digests = serde_json::to_string(&digests)?;
    let files = [
        (
            "policy.rego",
            options.policy.replace("@IMAGE_DIGESTS@", &digests),
        ),
        (
            "aa.toml",
            format!("[token_configs.kbs]\nurl = \"{url}\"\ncert = \"\"\"\n{certificate}\"\"\"\n"),
        ),
        (
            "cdh.toml",
            format!(
                "[kbc]\nname = \"cc_kbc\"\nurl = \"{url}\"\nkbs_cert = \"\"\"\n{certificate}\"\"\"\n\n\
                 [[image.registry_config.registry]]\nlocation = \"{}\"\ninsecure = true\n",
                lab.registry.host()
            ),
        ),
    ];
    let mut build = Command::new(&lab.binaries.redoubt);
    build.args(["initdata", "build", "--algorithm", "sha256"]);
    for (name, text) in files {
        let path = dir.join(name);
        fs::write(&path, text)?;
        build
            .arg("--file")
            .arg(format!("{name}={}", path.display()));
    }
    text_of(build.args(["--format", "annotation"]))
}
