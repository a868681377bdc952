//! From the request's OCI messages to the runtime specification. Pure.

use oci_spec::runtime::{LinuxResources, Process, Spec};
use redoubt_agent_api::oci;
use serde_json::{Map, Value, json};

use crate::error::{AgentError, Result};

/// The version of the specification that containers are made by.
const OCI_VERSION: &str = "1.2.0";
/// Folders of the guest that a container may see parts of.
const SHARED_ROOTS: [&str; 2] = [
    "/run/kata-containers/sandbox/",
    "/run/kata-containers/shared/containers/",
];

/// What the guest adds to a request's specification.
#[derive(Clone, Debug)]
pub(crate) struct GuestParts {
    /// The mounted root file system.
    pub(crate) root: String,
    /// The file that becomes `/etc/resolv.conf`, when the sandbox has name servers.
    pub(crate) resolv_conf: Option<String>,
}

/// Converts a request's specification.
pub(crate) fn runtime_spec(spec: &oci::Spec, parts: &GuestParts) -> Result<Spec> {
    let process = spec.Process.as_ref().ok_or_else(|| missing("Process"))?;
    let linux = spec.Linux.as_ref().ok_or_else(|| missing("Linux"))?;
    let mut document = json!({
        "ociVersion": OCI_VERSION,
        "root": { "path": parts.root, "readonly": spec.Root.Readonly },
        "mounts": mounts(spec, parts)?,
        "process": process_json(process),
        "linux": linux_json(linux)?,
    });
    if !spec.Hostname.is_empty()
        && let Some(members) = document.as_object_mut()
    {
        members.insert("hostname".to_owned(), json!(spec.Hostname));
    }
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

fn mounts(spec: &oci::Spec, parts: &GuestParts) -> Result<Vec<Value>> {
    let mut mounts = Vec::new();
    for mount in &spec.Mounts {
        if is_bind(mount) {
            check_bind_source(&mount.source)?;
        }
        mounts.push(json!({
            "destination": mount.destination,
            "source": mount.source,
            "type": mount.type_,
            "options": mount.options,
        }));
    }
    let own = |mount: &oci::Mount| mount.destination == "/etc/resolv.conf";
    if let Some(source) = &parts.resolv_conf
        && !spec.Mounts.iter().any(own)
    {
        mounts.push(json!({
            "destination": "/etc/resolv.conf",
            "source": source,
            "type": "bind",
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        }));
    }
    Ok(mounts)
}

fn is_bind(mount: &oci::Mount) -> bool {
    mount.type_ == "bind"
        || mount
            .options
            .iter()
            .any(|option| option == "bind" || option == "rbind")
}

/// A container may see the sandbox's shared folders, never the guest's own files.
fn check_bind_source(source: &str) -> Result<()> {
    let below = SHARED_ROOTS.iter().any(|root| source.starts_with(root));
    let leaves = source.split('/').any(|part| part == "..");
    if below && !leaves {
        return Ok(());
    }
    let shown: String = source.chars().take(128).collect();
    Err(AgentError::request(format!(
        "mount source {shown} is outside of the shared folders"
    )))
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
        // The pod's network and control groups are the guest's own.
        if namespace.Type != "network" && namespace.Type != "cgroup" {
            namespaces.push(json!({ "type": namespace.Type }));
        }
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
        for kind in ["pid", "mount", "network", "cgroup"] {
            let mut namespace = oci::LinuxNamespace::new();
            namespace.Type = kind.to_owned();
            linux.Namespaces.push(namespace);
        }
        spec.Linux = Some(linux).into();
        spec
    }

    fn parts() -> GuestParts {
        GuestParts {
            root: "/run/r".to_owned(),
            resolv_conf: Some("/run/kata-containers/sandbox/resolv.conf".to_owned()),
        }
    }

    #[test]
    fn the_process_is_kept_and_network_and_cgroup_are_the_guests() {
        let spec = runtime_spec(&spec(), &parts()).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_ref().unwrap(), &["/bin/true"]);
        assert_eq!(process.cwd().to_string_lossy(), "/");
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 2);
        let mounts = spec.mounts().as_ref().unwrap();
        assert_eq!(
            mounts.last().unwrap().destination().to_string_lossy(),
            "/etc/resolv.conf"
        );
    }

    #[test]
    fn sources_outside_of_the_shared_folders_are_refused() {
        for source in [
            "/etc",
            "relative",
            "/run/kata-containers/sandbox/../../x",
            "/",
        ] {
            let mut spec = spec();
            let mut mount = oci::Mount::new();
            mount.destination = "/x".to_owned();
            mount.source = source.to_owned();
            mount.options = vec!["rbind".to_owned()];
            spec.Mounts.push(mount);
            assert!(
                matches!(
                    runtime_spec(&spec, &parts()),
                    Err(AgentError::Request { .. })
                ),
                "{source}"
            );
        }
    }

    #[test]
    fn a_joined_namespace_and_a_seccomp_profile_are_refused() {
        let mut joined = spec();
        joined.Linux.as_mut().unwrap().Namespaces[0].Path = "/proc/1/ns/pid".to_owned();
        assert!(runtime_spec(&joined, &parts()).is_err());
        let mut profile = spec();
        profile.Linux.as_mut().unwrap().Seccomp = Some(oci::LinuxSeccomp::new()).into();
        assert!(runtime_spec(&profile, &parts()).is_err());
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
