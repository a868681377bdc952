//! The kernel command line: the same inputs always give the same bytes.
//!
//! Layers from weakest to strongest are the base, the settings, the
//! configuration's `kernel_params` and the annotation's. A layer replaces every
//! parameter of the same name in the layers before it.

use redoubt_dm_verity::VerityParams;
use redoubt_launch_digest::MAX_CMDLINE_BYTES;

use crate::config::{AgentSettings, Configuration, LogLevel};
use crate::error::PlanError;

/// Parameters that only the plan sets.
const RESERVED_PREFIX: &str = "redoubt.";

/// The attester that the guest is told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttesterParam {
    None,
    Snp,
    SimulatedSnp,
    Tdx,
}

impl AttesterParam {
    fn value(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Snp => "snp",
            Self::SimulatedSnp => "simulated-snp",
            Self::Tdx => "tdx",
        }
    }
}

pub(crate) fn cmdline(
    configuration: &Configuration,
    attester: AttesterParam,
    root_disk: Option<&VerityParams>,
) -> Result<String, PlanError> {
    let mut params = base(configuration, attester);
    params.extend(root_disk.map(|verity| format!("redoubt.root_verity={verity}")));
    let from_file = (
        &configuration.hypervisor.kernel_params,
        file_origin(configuration),
    );
    let from_annotation = configuration
        .annotation_kernel_params
        .as_ref()
        .map(|text| (text, "the annotation kernel_params".to_owned()));
    for (text, origin) in [from_file].into_iter().chain(from_annotation) {
        let layer = split(text, &origin)?;
        if let Some(reserved) = layer
            .iter()
            .find(|param| name(param).starts_with(RESERVED_PREFIX))
        {
            return Err(PlanError::ReservedParam {
                name: name(reserved).to_owned(),
                origin,
            });
        }
        params.retain(|param| !layer.iter().any(|other| name(other) == name(param)));
        params.extend(layer);
    }
    let cmdline = params.join(" ");
    if cmdline.len() > MAX_CMDLINE_BYTES {
        return Err(PlanError::CmdlineTooLong { len: cmdline.len() });
    }
    Ok(cmdline)
}

fn base(configuration: &Configuration, attester: AttesterParam) -> Vec<String> {
    let mut params = vec!["console=ttyS0".to_owned()];
    if !configuration.hypervisor.enable_debug {
        params.push("quiet".to_owned());
    }
    params.extend(["panic=1", "reboot=k"].map(str::to_owned));
    params.push(format!("redoubt.attester={}", attester.value()));
    params.extend(agent_params(configuration));
    params
}

fn agent_params(configuration: &Configuration) -> Vec<String> {
    let agent = &configuration.agent;
    let defaults = AgentSettings::default();
    let mut params = Vec::new();
    if agent.enable_debug {
        params.push("agent.log=debug".to_owned());
    } else if agent.log_level != LogLevel::Default {
        params.push(format!("agent.log={}", agent.log_level.name()));
    }
    if agent.cdh_api_timeout != defaults.cdh_api_timeout {
        // The agent counts in seconds, and zero would be no time at all.
        let seconds = agent.cdh_api_timeout.ms.div_ceil(1000);
        params.push(format!("agent.cdh_api_timeout={seconds}"));
    }
    if configuration.image.pull_timeout != 0 {
        params.push(format!(
            "agent.image_pull_timeout={}",
            configuration.image.pull_timeout
        ));
    }
    params
}

fn file_origin(configuration: &Configuration) -> String {
    configuration
        .origin("hypervisor.qemu.kernel_params")
        .map_or_else(
            || "kernel_params".to_owned(),
            |source| format!("kernel_params of {source}"),
        )
}

fn name(param: &str) -> &str {
    param.split('=').next().unwrap_or(param)
}

/// Splits at blanks outside double quotes, as the kernel does.
fn split(text: &str, origin: &str) -> Result<Vec<String>, PlanError> {
    let wrong = |problem| PlanError::KernelParams {
        origin: origin.to_owned(),
        problem,
    };
    let mut params = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            ' ' | '\t' if !quoted => params.push(String::new()),
            ' '..='~' => {
                quoted ^= c == '"';
                if let Some(param) = params.last_mut() {
                    param.push(c);
                }
            }
            _ => return Err(wrong("only printable ASCII characters are possible")),
        }
    }
    if quoted {
        return Err(wrong("a double quote is not closed"));
    }
    params.retain(|param| !param.is_empty());
    if params.iter().any(|param| param == "--") {
        return Err(wrong("arguments for init after -- are not possible"));
    }
    Ok(params)
}
