//! From the request's OCI messages to the runtime specification. Pure.

use std::path::Path;

use oci_spec::runtime::{LinuxResources, Process, Spec};
use redoubt_agent_api::oci;
use redoubt_image_offload::ImageConfig;
use serde_json::{Map, Value, json};

use crate::error::{AgentError, Result};
use crate::mounts;

/// The version of the specification that containers are made by.
const OCI_VERSION: &str = "1.2.0";
/// How mounts may spread: none of the container's may reach the guest.
const PROPAGATIONS: [&str; 5] = ["", "private", "rprivate", "slave", "rslave"];
/// Namespaces that a container has of its own whatever the request says: in its own
/// cgroup namespace a control group mount shows only its own group.
const ALWAYS_OWN: &str = "cgroup";
/// Namespaces of the pod, which is the guest: its containers share them with each other
/// and with the agent, which uses neither queues nor the host name.
const OF_THE_POD: [&str; 3] = ["network", "ipc", "uts"];

/// Fills in what the image says about its process where the request says nothing.
pub(crate) fn fill_from_image(spec: &mut oci::Spec, image: &ImageConfig) -> Result<()> {
    let process = spec.Process.as_mut().ok_or_else(|| missing("Process"))?;
    if process.Args.is_empty() {
        process.Args = image.entrypoint.iter().chain(&image.cmd).cloned().collect();
    }
    if process.Env.is_empty() {
        process.Env.clone_from(&image.env);
    }
    if process.Cwd.is_empty() {
        process.Cwd.clone_from(&image.working_dir);
    }
    // A request with a user of number 0 asks for root; one without any asks for the image's.
    if process.User.is_none() {
        process.User = Some(image_user(&image.user)?).into();
    }
    Ok(())
}

/// `user`, `user:group`, or nothing for root (OCI image-spec, config.md).
fn image_user(text: &str) -> Result<oci::User> {
    let mut user = oci::User::new();
    if text.is_empty() {
        return Ok(user);
    }
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
        return Err(AgentError::request(
            "the image names its user by name, and the request names none: name it by number",
        ));
    };
    (user.UID, user.GID) = (uid, gid);
    Ok(user)
}

/// Converts a request's specification for a container on a mounted root file system.
pub(crate) fn runtime_spec(spec: &oci::Spec, root: &Path) -> Result<Spec> {
    let process = spec.Process.as_ref().ok_or_else(|| missing("Process"))?;
    let linux = spec.Linux.as_ref().ok_or_else(|| missing("Linux"))?;
    // The host name is the pod's: CreateSandbox has set it.
    let document = json!({
        "ociVersion": OCI_VERSION,
        "root": { "path": root, "readonly": spec.Root.Readonly },
        "mounts": mounts(&spec.Mounts)?,
        "process": process_json(process),
        "linux": linux_json(linux)?,
    });
    serde_json::from_value(document).map_err(|error| unusable(&error))
}

/// Converts a process that is added to a container.
pub(crate) fn runtime_process(process: &oci::Process) -> Result<Process> {
    serde_json::from_value(process_json(process)).map_err(|error| unusable(&error))
}

/// Converts limits.
pub(crate) fn runtime_resources(resources: &oci::LinuxResources) -> Result<LinuxResources> {
    serde_json::from_value(resources_json(resources)).map_err(|error| unusable(&error))
}

fn missing(part: &str) -> AgentError {
    AgentError::request(format!("the OCI specification has no {part}"))
}

/// Says where the specification is wrong without repeating its values.
fn unusable(error: &serde_json::Error) -> AgentError {
    AgentError::request(format!(
        "the OCI specification is not usable (column {})",
        error.column()
    ))
}

fn mounts(mounts: &[oci::Mount]) -> Result<Vec<Value>> {
    mounts::check(mounts)?;
    Ok(mounts
        .iter()
        .map(|mount| {
            json!({
                "destination": mount.destination,
                "source": mount.source,
                "type": mount.type_,
                "options": mount.options,
            })
        })
        .collect())
}

fn process_json(process: &oci::Process) -> Value {
    let user = &process.User;
    let mut document = json!({
        "terminal": process.Terminal,
        "user": { "uid": user.UID, "gid": user.GID, "additionalGids": user.AdditionalGids },
        "args": process.Args,
        "env": process.Env,
        "cwd": if process.Cwd.is_empty() { "/" } else { process.Cwd.as_str() },
        "noNewPrivileges": process.NoNewPrivileges,
        "rlimits": process.Rlimits.iter().map(rlimit).collect::<Vec<_>>(),
    });
    let Some(members) = document.as_object_mut() else {
        return document;
    };
    if let Some(sets) = process.Capabilities.as_ref() {
        members.insert("capabilities".to_owned(), capabilities(sets));
    }
    if let Some(size) = process.ConsoleSize.as_ref() {
        let size = json!({ "height": size.Height, "width": size.Width });
        members.insert("consoleSize".to_owned(), size);
    }
    if process.OOMScoreAdj != 0 {
        members.insert("oomScoreAdj".to_owned(), json!(process.OOMScoreAdj));
    }
    document
}

fn rlimit(limit: &oci::POSIXRlimit) -> Value {
    json!({ "type": limit.Type, "hard": limit.Hard, "soft": limit.Soft })
}

fn capabilities(sets: &oci::LinuxCapabilities) -> Value {
    json!({
        "bounding": sets.Bounding,
        "effective": sets.Effective,
        "inheritable": sets.Inheritable,
        "permitted": sets.Permitted,
        "ambient": sets.Ambient,
    })
}

fn linux_json(linux: &oci::Linux) -> Result<Value> {
    if linux.Seccomp.is_some() {
        return Err(AgentError::request(
            "seccomp profiles are not supported in this guest",
        ));
    }
    let mut namespaces = Vec::new();
    for namespace in &linux.Namespaces {
        if !namespace.Path.is_empty() {
            return Err(AgentError::request(
                "a namespace of the OCI specification has a path",
            ));
        }
        if !OF_THE_POD.contains(&namespace.Type.as_str()) && namespace.Type != ALWAYS_OWN {
            namespaces.push(json!({ "type": namespace.Type }));
        }
    }
    namespaces.push(json!({ "type": ALWAYS_OWN }));
    if !PROPAGATIONS.contains(&linux.RootfsPropagation.as_str()) {
        return Err(AgentError::request(
            "the root file system's mounts would spread into the guest",
        ));
    }
    let mut document = json!({
        "namespaces": namespaces,
        "sysctl": linux.Sysctl,
        "maskedPaths": linux.MaskedPaths,
        "readonlyPaths": linux.ReadonlyPaths,
        "devices": linux.Devices.iter().map(device).collect::<Vec<_>>(),
    });
    let Some(members) = document.as_object_mut() else {
        return Ok(document);
    };
    if let Some(resources) = linux.Resources.as_ref() {
        members.insert("resources".to_owned(), resources_json(resources));
    }
    if !linux.RootfsPropagation.is_empty() {
        members.insert(
            "rootfsPropagation".to_owned(),
            json!(linux.RootfsPropagation),
        );
    }
    Ok(document)
}

fn device(device: &oci::LinuxDevice) -> Value {
    json!({
        "path": device.Path,
        "type": device.Type,
        "major": device.Major,
        "minor": device.Minor,
        "fileMode": device.FileMode,
        "uid": device.UID,
        "gid": device.GID,
    })
}

/// Limits; a zero means "not said" in the request's messages.
fn resources_json(resources: &oci::LinuxResources) -> Value {
    let mut document = Map::new();
    let devices: Vec<Value> = resources.Devices.iter().map(device_rule).collect();
    document.insert("devices".to_owned(), json!(devices));
    if let Some(memory) = resources.Memory.as_ref() {
        let mut limits = Map::new();
        put(&mut limits, "limit", memory.Limit);
        put(&mut limits, "reservation", memory.Reservation);
        put(&mut limits, "swap", memory.Swap);
        document.insert("memory".to_owned(), limits.into());
    }
    if let Some(cpu) = resources.CPU.as_ref() {
        let mut limits = Map::new();
        put(&mut limits, "shares", cpu.Shares);
        put(&mut limits, "quota", cpu.Quota);
        put(&mut limits, "period", cpu.Period);
        document.insert("cpu".to_owned(), limits.into());
    }
    if let Some(pids) = resources.Pids.as_ref() {
        document.insert("pids".to_owned(), json!({ "limit": pids.Limit }));
    }
    document.into()
}

fn put<T: Into<Value> + PartialEq + Default>(
    limits: &mut Map<String, Value>,
    name: &str,
    value: T,
) {
    if value != T::default() {
        limits.insert(name.to_owned(), value.into());
    }
}

fn device_rule(rule: &oci::LinuxDeviceCgroup) -> Value {
    let mut document = json!({ "allow": rule.Allow });
    let Some(members) = document.as_object_mut() else {
        return document;
    };
    if !rule.Type.is_empty() {
        members.insert("type".to_owned(), json!(rule.Type));
    }
    // Without a type the rule speaks of all devices, and its numbers mean nothing.
    if !rule.Type.is_empty() && rule.Type != "a" {
        for (name, number) in [("major", rule.Major), ("minor", rule.Minor)] {
            if number > 0 {
                members.insert(name.to_owned(), json!(number));
            }
        }
    }
    if !rule.Access.is_empty() {
        members.insert("access".to_owned(), json!(rule.Access));
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> oci::Spec {
        let mut spec = oci::Spec::new();
        let mut process = oci::Process::new();
        process.Args = vec!["/bin/true".to_owned()];
        process.Env = vec!["A=b".to_owned()];
        spec.Process = Some(process).into();
        let mut linux = oci::Linux::new();
        for kind in ["pid", "mount", "network", "cgroup", "ipc", "uts"] {
            let mut namespace = oci::LinuxNamespace::new();
            namespace.Type = kind.to_owned();
            linux.Namespaces.push(namespace);
        }
        spec.Linux = Some(linux).into();
        spec
    }

    const ROOT: &str = "/run/r";

    fn convert(spec: &oci::Spec) -> Result<Spec> {
        runtime_spec(spec, Path::new(ROOT))
    }

    #[test]
    fn the_process_is_kept_and_network_ipc_and_host_name_are_the_pods() {
        let spec = convert(&spec()).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_ref().unwrap(), &["/bin/true"]);
        assert_eq!(process.cwd().to_string_lossy(), "/");
        let linux = spec.linux().as_ref().unwrap();
        let kinds: Vec<_> = linux
            .namespaces()
            .iter()
            .flatten()
            .map(|namespace| namespace.typ().to_string())
            .collect();
        assert_eq!(kinds, ["pid", "mnt", "cgroup"]);
    }

    #[test]
    fn mounts_that_no_container_gets_are_refused() {
        let mut spec = spec();
        spec.Mounts.push(oci::Mount {
            destination: "/x".to_owned(),
            type_: "overlay".to_owned(),
            options: vec!["lowerdir=/".to_owned()],
            ..oci::Mount::default()
        });
        assert!(matches!(convert(&spec), Err(AgentError::MountType { .. })));
    }

    #[test]
    fn mounts_do_not_spread_into_the_guest() {
        for (propagation, good) in [("shared", false), ("rshared", false), ("rslave", true)] {
            let mut spec = spec();
            spec.Linux.as_mut().unwrap().RootfsPropagation = propagation.to_owned();
            assert_eq!(convert(&spec).is_ok(), good, "{propagation}");
        }
    }

    #[test]
    fn the_image_fills_only_what_the_request_leaves_empty() {
        let image = ImageConfig {
            entrypoint: vec!["/bin/app".to_owned()],
            cmd: vec!["serve".to_owned()],
            env: vec!["FROM=image".to_owned()],
            working_dir: "/srv".to_owned(),
            user: "1000:1001".to_owned(),
            ..ImageConfig::default()
        };
        let mut empty = spec();
        empty.Process = Some(oci::Process::new()).into();
        fill_from_image(&mut empty, &image).unwrap();
        assert_eq!(empty.Process.Args, ["/bin/app", "serve"]);
        assert_eq!(empty.Process.Env, ["FROM=image"]);
        assert_eq!(empty.Process.Cwd, "/srv");
        assert_eq!(
            (empty.Process.User.UID, empty.Process.User.GID),
            (1000, 1001)
        );

        let mut full = spec();
        let process = full.Process.as_mut().unwrap();
        process.Cwd = "/".to_owned();
        process.User = Some(oci::User::new()).into();
        let before = full.clone();
        fill_from_image(&mut full, &image).unwrap();
        assert_eq!(full, before);
    }

    #[test]
    fn users_of_an_image_are_numbers() {
        assert_eq!(image_user("").unwrap().UID, 0);
        assert_eq!(image_user("7").unwrap().GID, 0);
        for text in ["web", "1000:web", ":", "-1", "4294967296"] {
            assert!(image_user(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_joined_namespace_and_a_seccomp_profile_are_refused() {
        let mut joined = spec();
        joined.Linux.as_mut().unwrap().Namespaces[0].Path = "/proc/1/ns/pid".to_owned();
        assert!(convert(&joined).is_err());
        let mut profile = spec();
        profile.Linux.as_mut().unwrap().Seccomp = Some(oci::LinuxSeccomp::new()).into();
        assert!(convert(&profile).is_err());
    }

    #[test]
    fn zero_limits_are_not_set_and_errors_repeat_no_value() {
        let mut resources = oci::LinuxResources::new();
        let mut memory = oci::LinuxMemory::new();
        memory.Limit = 1 << 20;
        resources.Memory = Some(memory).into();
        let limits = runtime_resources(&resources).unwrap();
        let memory = limits.memory().as_ref().unwrap();
        assert_eq!(memory.limit(), Some(1 << 20));
        assert_eq!(memory.swap(), None);
    }
}
