//! Makes a launch plan out of configuration, request, host facts and files.

use std::path::{Path, PathBuf};

use redoubt_initdata::Initdata;

use super::protection::{Kind, Shape, snp_cpu_model};
use super::{
    Accelerator, AgentPlan, InitdataPlan, LaunchPlan, MemoryBacking, NetworkModel, Origin,
    ShimPlan, VsockPlan, cmdline, root_disk, sizing,
};
use crate::config::{Configuration, HypervisorSettings};
use crate::error::PlanError;
use crate::files::MeasuredFiles;
use crate::host::HostFacts;
use crate::request::SandboxRequest;

/// Makes the launch plan of one sandbox. Depends on nothing but its arguments.
pub fn plan(
    configuration: &Configuration,
    request: &SandboxRequest,
    host: &HostFacts,
    files: &MeasuredFiles,
) -> Result<LaunchPlan, PlanError> {
    check_sandbox_id(&request.sandbox_id)?;
    let (effective, warnings) = configuration
        .with_annotations(&request.annotations)
        .map_err(PlanError::Config)?;
    let settings = &effective.hypervisor;
    check_files(settings, files)?;
    check_options(&effective)?;
    let kind = Kind::choose(settings, host)?;
    if settings.accelerator == Accelerator::Kvm && !host.kvm {
        return Err(PlanError::NoKvm);
    }
    let size = sizing::size(&effective, &request.limits, files.initrd.size_bytes)?;
    let verity = root_disk::verity_params(settings, files)?;
    let cmdline = cmdline::cmdline(&effective, kind.attester(), verity.as_ref())?;
    let initdata = initdata(settings)?;
    let shape = Shape {
        cmdline: &cmdline,
        vcpus: size.vcpus,
        initdata: initdata.as_ref(),
    };
    let protection = kind.measure(&effective, files, &shape)?;
    let origins = origins(&effective, &size);
    Ok(LaunchPlan {
        sandbox_id: request.sandbox_id.clone(),
        qemu: files.qemu.clone(),
        accelerator: settings.accelerator,
        machine_type: settings.machine_type.clone(),
        machine_accelerators: settings.machine_accelerators.clone(),
        cpu_model: cpu_model(settings, kind),
        cpu_features: settings.cpu_features.clone(),
        vcpus: size.vcpus,
        memory_mib: size.memory_mib,
        memory: MemoryBacking {
            huge_pages: settings.enable_hugepages,
            preallocate: settings.enable_mem_prealloc,
        },
        kernel: files.kernel.clone(),
        initrd: files.initrd.clone(),
        root_disk: verity.map(|_| settings.image.clone()),
        firmware: files
            .firmware
            .as_ref()
            .map(|firmware| firmware.file.clone()),
        vsock: vsock(settings, host)?,
        vhost_net: vhost_net(&effective, host)?,
        network_queues: settings.network_queues,
        network_model: effective.runtime.internetworking_model,
        entropy_source: settings.entropy_source.clone(),
        seccomp_sandbox: settings.seccompsandbox.clone(),
        initdata: initdata.as_ref().map(|document| InitdataPlan {
            toml: document.toml_text().to_owned(),
            disk_image: document.to_disk_image(),
        }),
        agent: agent(&effective),
        shim: shim(&effective),
        warnings: warnings
            .iter()
            .map(ToString::to_string)
            .chain(root_disk::warning(settings))
            .collect(),
        origins,
        protection,
        cmdline,
    })
}

/// The id becomes a folder's name and part of QEMU's arguments.
fn check_sandbox_id(sandbox_id: &str) -> Result<(), PlanError> {
    let usable = (1..=128).contains(&sandbox_id.len())
        && !sandbox_id.starts_with('.')
        && sandbox_id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if usable {
        Ok(())
    } else {
        Err(PlanError::SandboxId {
            sandbox_id: sandbox_id.to_owned(),
        })
    }
}

/// The files were read before; they must be the ones that this configuration names.
fn check_files(settings: &HypervisorSettings, files: &MeasuredFiles) -> Result<(), PlanError> {
    let firmware = files
        .firmware
        .as_ref()
        .map_or(Path::new(""), |f| f.file.path.as_path());
    for (key, configured, measured) in [
        ("hypervisor.qemu.path", &settings.path, files.qemu.as_path()),
        (
            "hypervisor.qemu.kernel",
            &settings.kernel,
            files.kernel.path.as_path(),
        ),
        (
            "hypervisor.qemu.initrd",
            &settings.initrd,
            files.initrd.path.as_path(),
        ),
        ("hypervisor.qemu.firmware", &settings.firmware, firmware),
    ] {
        if configured != measured {
            return Err(PlanError::OtherFiles {
                key,
                configured: configured.clone(),
                measured: measured.to_owned(),
            });
        }
    }
    Ok(())
}

/// Values that stand inside a QEMU option must not be able to add another option's property unseen.
fn check_options(configuration: &Configuration) -> Result<(), PlanError> {
    let settings = &configuration.hypervisor;
    if settings.machine_type != "q35" {
        return Err(PlanError::MachineType {
            machine_type: settings.machine_type.clone(),
        });
    }
    if configuration.factory.enable_template {
        return Err(PlanError::Template);
    }
    if !(1..=256).contains(&settings.network_queues) {
        return Err(PlanError::NetworkQueues {
            queues: settings.network_queues,
        });
    }
    for (key, text, forbidden) in [
        (
            "hypervisor.qemu.cpu_model",
            &settings.cpu_model,
            &[',', ' ', '\0'][..],
        ),
        (
            "hypervisor.qemu.cpu_features",
            &settings.cpu_features,
            &[' ', '\0'],
        ),
        (
            "hypervisor.qemu.machine_accelerators",
            &settings.machine_accelerators,
            &[' ', '\0'],
        ),
        (
            "hypervisor.qemu.seccompsandbox",
            &settings.seccompsandbox,
            &[' ', '\0'],
        ),
    ] {
        if let Some(character) = text
            .chars()
            .find(|c| forbidden.contains(c) || c.is_control())
        {
            return Err(PlanError::OptionText { key, character });
        }
    }
    check_machine_options(&settings.machine_accelerators)
}

/// An annotation may tune the machine, not take its protection away.
fn check_machine_options(options: &str) -> Result<(), PlanError> {
    let key = "hypervisor.qemu.machine_accelerators";
    let protected = [
        "confidential-guest-support",
        "memory-backend",
        "accel",
        "kernel_irqchip",
    ];
    let names = options
        .split(',')
        .filter_map(|option| option.split('=').next());
    match names
        .into_iter()
        .find(|name| protected.contains(&name.trim()))
    {
        Some(_) => Err(PlanError::OptionText {
            key,
            character: '=',
        }),
        None => Ok(()),
    }
}

fn cpu_model(settings: &HypervisorSettings, kind: Kind) -> String {
    let own = (!settings.cpu_model.is_empty()).then_some(settings.cpu_model.as_str());
    match kind {
        Kind::Snp(_) => snp_cpu_model(settings),
        // The model is measured as configured; what emulates it is any CPU that works.
        Kind::SimulatedSnp => "max",
        Kind::Tdx { .. } => own.unwrap_or("host"),
        Kind::None => own.unwrap_or(match settings.accelerator {
            Accelerator::Kvm => "host",
            Accelerator::Tcg => "max",
        }),
    }
    .to_owned()
}

fn vsock(settings: &HypervisorSettings, host: &HostFacts) -> Result<VsockPlan, PlanError> {
    if !settings.vhost_user_vsock.as_os_str().is_empty() {
        return Ok(VsockPlan::VhostUser {
            daemon: settings.vhost_user_vsock.clone(),
        });
    }
    if host.vhost_vsock {
        Ok(VsockPlan::Vhost)
    } else {
        Err(PlanError::NoVhostVsock)
    }
}

fn vhost_net(configuration: &Configuration, host: &HostFacts) -> Result<bool, PlanError> {
    let no_network = configuration.runtime.internetworking_model == NetworkModel::None;
    if configuration.hypervisor.disable_vhost_net || no_network {
        return Ok(false);
    }
    if host.vhost_net {
        Ok(true)
    } else {
        Err(PlanError::NoVhostNet)
    }
}

/// The document in the annotation's form, or as plain text where the file holds it so.
fn initdata(settings: &HypervisorSettings) -> Result<Option<Initdata>, PlanError> {
    let text = settings.initdata.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let document = if text.contains('=') && text.contains('\n') {
        Initdata::parse_toml(text.as_bytes())
    } else {
        Initdata::from_annotation(text)
    };
    document.map(Some).map_err(PlanError::Initdata)
}

fn agent(configuration: &Configuration) -> AgentPlan {
    AgentPlan {
        connect_timeout_ms: configuration.agent.dial_timeout.ms,
        create_container_timeout_ms: configuration.runtime.create_container_timeout.ms,
    }
}

fn shim(configuration: &Configuration) -> ShimPlan {
    let runtime = &configuration.runtime;
    let trail = &runtime.trail_path;
    ShimPlan {
        debug: runtime.enable_debug,
        trail_path: (!trail.as_os_str().is_empty()).then(|| PathBuf::from(trail)),
        disable_new_netns: runtime.disable_new_netns,
        sandbox_cgroup_only: runtime.sandbox_cgroup_only,
    }
}

/// Every key that something other than its default set, and the sizes with their reasons.
fn origins(configuration: &Configuration, size: &sizing::Size) -> Vec<Origin> {
    let sizes = [
        ("vCPUs", size.vcpus.to_string(), &size.vcpus_origin),
        (
            "memory in MiB",
            size.memory_mib.to_string(),
            &size.memory_origin,
        ),
    ];
    let sizes = sizes.into_iter().map(|(key, value, source)| Origin {
        key: key.to_owned(),
        value,
        source: source.clone(),
    });
    let keys = Configuration::keys()
        .filter(|key| key.unused.is_none())
        .filter_map(|key| {
            let source = configuration.origin(&key.path())?;
            let value = match (key.table, key.name) {
                // Documents and signatures are too long to be shown.
                ("hypervisor.qemu", "initdata" | "snp_id_block" | "snp_id_auth") => {
                    "set".to_owned()
                }
                ("hypervisor.qemu", "kernel_params") => kernel_params(configuration),
                _ => configuration.show(key),
            };
            Some(Origin {
                key: key.path(),
                value,
                source: source.to_owned(),
            })
        });
    sizes.chain(keys).collect()
}

fn kernel_params(configuration: &Configuration) -> String {
    let params = match &configuration.annotation_kernel_params {
        Some(params) => params,
        None => &configuration.hypervisor.kernel_params,
    };
    format!("{params:?}")
}
