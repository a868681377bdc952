//! Checks an OCI specification and turns it into what libcontainer is given.
//!
//! The specification comes from the host. What libcontainer would silently
//! ignore (so that the container would run with less protection than asked
//! for) or would run outside of the container is refused here by name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hooks, Linux, LinuxCapabilities, LinuxNamespaceType, LinuxSeccompAction, Process, Spec,
};

use crate::error::ContainerError;
use crate::io::TerminalSize;
use crate::sysctl::{SharedSetting, take_shared_settings};

/// The most bytes of arguments and environment together, as `execve` has it for an 8 MiB stack.
const MAX_ARGS_BYTES: usize = 2 * 1024 * 1024;
/// The id that means "no change" to the kernel.
const NO_ID: u32 = u32::MAX;

/// A checked specification.
#[derive(Clone, Debug)]
pub(crate) struct CheckedSpec {
    pub(crate) spec: Spec,
    pub(crate) rootfs: PathBuf,
    pub(crate) has_user_namespace: bool,
    pub(crate) shared_settings: Vec<SharedSetting>,
}

fn invalid(reason: impl Into<String>) -> ContainerError {
    ContainerError::InvalidSpec {
        reason: reason.into(),
    }
}

/// Checks a container's specification, makes its root path absolute and sets its control group.
pub(crate) fn check_spec(
    mut spec: Spec,
    bundle: &Path,
    cgroups_path: &Path,
) -> Result<CheckedSpec, ContainerError> {
    refuse_hooks(spec.hooks().as_ref())?;
    spec.set_hooks(None);

    let mut root = spec
        .root()
        .clone()
        .ok_or_else(|| invalid("it has no root"))?;
    if root.path().as_os_str().is_empty() {
        return Err(invalid("root.path is empty"));
    }
    let rootfs = bundle.join(root.path());
    if !rootfs.is_absolute() {
        return Err(invalid("root.path is relative and so is the bundle's path"));
    }
    root.set_path(rootfs.clone());
    spec.set_root(Some(root));

    let process = spec
        .process()
        .clone()
        .ok_or_else(|| invalid("it has no process"))?;
    spec.set_process(Some(check_process(process)?));

    let linux = spec
        .linux()
        .clone()
        .ok_or_else(|| invalid("it has no linux section"))?;
    let (mut linux, has_user_namespace) = check_linux(linux, cgroups_path)?;
    let shared_settings = take_shared_settings(&mut linux)?;
    spec.set_linux(Some(linux));
    Ok(CheckedSpec {
        spec,
        rootfs,
        has_user_namespace,
        shared_settings,
    })
}

/// Hooks would run programs named by the host in the guest, outside of any container.
fn refuse_hooks(hooks: Option<&Hooks>) -> Result<(), ContainerError> {
    let Some(hooks) = hooks else { return Ok(()) };
    let prestart = hooks.prestart();
    let lists = [
        prestart,
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    if lists.into_iter().flatten().any(|list| !list.is_empty()) {
        return Err(ContainerError::UnsupportedSpec { feature: "hooks" });
    }
    Ok(())
}

fn check_linux(mut linux: Linux, cgroups_path: &Path) -> Result<(Linux, bool), ContainerError> {
    if let Some(seccomp) = linux.seccomp() {
        let allows_all = seccomp.default_action() == LinuxSeccompAction::ScmpActAllow
            && seccomp.syscalls().as_ref().is_none_or(Vec::is_empty);
        if !allows_all {
            return Err(ContainerError::UnsupportedSpec {
                feature: "a seccomp profile",
            });
        }
        linux.set_seccomp(None);
    }
    if linux.intel_rdt().is_some() {
        return Err(ContainerError::UnsupportedSpec {
            feature: "Intel RDT",
        });
    }
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let mut kinds = HashSet::new();
    for namespace in &mut namespaces {
        if !kinds.insert(namespace.typ()) {
            return Err(invalid("linux.namespaces names a namespace twice"));
        }
        if namespace
            .path()
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            namespace.set_path(None);
        }
    }
    // Without one the container's mounts would be made in the agent's own tree.
    if !kinds.contains(&LinuxNamespaceType::Mount) {
        return Err(invalid("linux.namespaces has no mount namespace"));
    }
    linux.set_namespaces(Some(namespaces));
    // The host's choice means nothing in the guest, and could name the agent's own group.
    linux.set_cgroups_path(Some(cgroups_path.to_owned()));
    let has_user_namespace = kinds.contains(&LinuxNamespaceType::User);
    Ok((linux, has_user_namespace))
}

/// Checks a process's description and fills in what libcontainer leaves to chance.
pub(crate) fn check_process(mut process: Process) -> Result<Process, ContainerError> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(invalid("process.args names no program"));
    }
    let env = process.env().as_deref().unwrap_or_default();
    let bytes: usize = args.iter().chain(env).map(|text| text.len() + 1).sum();
    if bytes > MAX_ARGS_BYTES {
        return Err(invalid(
            "process.args and process.env are longer than 2 MiB",
        ));
    }
    if let Some(index) = args.iter().position(|arg| arg.contains('\0')) {
        return Err(invalid(format!(
            "process.args[{index}] contains a NUL character"
        )));
    }
    for (index, entry) in env.iter().enumerate() {
        let named = entry
            .split_once('=')
            .is_some_and(|(name, _)| !name.is_empty());
        if !named || entry.contains('\0') {
            return Err(invalid(format!(
                "process.env[{index}] is not of the form NAME=value"
            )));
        }
    }
    let user = process.user();
    let groups = user.additional_gids().iter().flatten();
    if [user.uid(), user.gid()]
        .iter()
        .chain(groups)
        .any(|&id| id == NO_ID)
    {
        return Err(invalid("process.user has an id that the kernel reserves"));
    }
    if process.cwd().as_os_str().is_empty() {
        process.set_cwd("/".into());
    } else if !process.cwd().is_absolute() {
        return Err(invalid("process.cwd is not an absolute path"));
    }
    check_labels(&mut process)?;
    let capabilities = only_listed(process.capabilities().as_ref());
    process.set_capabilities(Some(capabilities));
    Ok(process)
}

fn check_labels(process: &mut Process) -> Result<(), ContainerError> {
    if process
        .apparmor_profile()
        .as_deref()
        .is_some_and(|p| !matches!(p, "" | "unconfined"))
    {
        return Err(ContainerError::UnsupportedSpec {
            feature: "an AppArmor profile",
        });
    }
    if process
        .selinux_label()
        .as_deref()
        .is_some_and(|label| !label.is_empty())
    {
        return Err(ContainerError::UnsupportedSpec {
            feature: "an SELinux label",
        });
    }
    process.set_apparmor_profile(None);
    process.set_selinux_label(None);
    Ok(())
}

/// Makes every set explicit: libcontainer leaves a missing set as the agent has it, which is full.
fn only_listed(given: Option<&LinuxCapabilities>) -> LinuxCapabilities {
    let none = || Some(HashSet::new());
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(given.and_then(|g| g.bounding().clone()).or_else(none))
        .set_effective(given.and_then(|g| g.effective().clone()).or_else(none))
        .set_inheritable(given.and_then(|g| g.inheritable().clone()).or_else(none))
        .set_permitted(given.and_then(|g| g.permitted().clone()).or_else(none))
        .set_ambient(given.and_then(|g| g.ambient().clone()).or_else(none));
    sets
}

/// Whether the process wants a terminal.
pub(crate) fn wants_terminal(process: &Process) -> bool {
    process.terminal().unwrap_or(false)
}

/// The terminal's first size, if the description has one.
pub(crate) fn terminal_size(process: &Process) -> Option<TerminalSize> {
    let size = process.console_size()?;
    let fit = |length: u64| u16::try_from(length).unwrap_or(u16::MAX);
    let (rows, columns) = (fit(size.height()), fit(size.width()));
    (rows > 0 && columns > 0).then_some(TerminalSize { rows, columns })
}

/// Sets `HOME` if the process has none. libcontainer would ask the C library, which would read
/// the container's name service configuration and load the libraries that it names.
pub(crate) fn set_home(process: &mut Process, home: impl FnOnce() -> String) {
    let mut env = process.env().clone().unwrap_or_default();
    let has_home = env
        .iter()
        .any(|entry| entry.len() > 5 && entry.starts_with("HOME="));
    if !has_home {
        env.retain(|entry| !entry.starts_with("HOME="));
        env.push(format!("HOME={}", home()));
        process.set_env(Some(env));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn minimal() -> Value {
        json!({
            "ociVersion": "1.1.0",
            "root": {"path": "rootfs"},
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["sh"],
                "env": ["A=1"],
                "cwd": "/",
            },
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut spec = minimal();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = spec.pointer_mut(parent).unwrap();
        parent
            .as_object_mut()
            .unwrap()
            .insert(key.to_owned(), value);
        spec
    }

    fn check(spec: Value) -> Result<CheckedSpec, ContainerError> {
        let spec = serde_json::from_value(spec).unwrap();
        check_spec(spec, Path::new("/bundle"), Path::new("/redoubt/c"))
    }

    #[test]
    fn a_plain_specification_is_made_explicit() {
        let checked = check(minimal()).unwrap();
        assert_eq!(checked.rootfs, Path::new("/bundle/rootfs"));
        assert!(!checked.has_user_namespace);
        let linux = checked.spec.linux().as_ref().unwrap();
        assert_eq!(
            linux.cgroups_path().as_deref(),
            Some(Path::new("/redoubt/c"))
        );
        let process = checked.spec.process().as_ref().unwrap();
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.effective(), &Some(HashSet::new()));
        assert_eq!(capabilities.bounding(), &Some(HashSet::new()));
    }

    #[test]
    fn the_hosts_control_group_is_not_used() {
        let checked = check(with("/linux/cgroupsPath", json!("/../../init"))).unwrap();
        let linux = checked.spec.linux().as_ref().unwrap();
        assert_eq!(
            linux.cgroups_path().as_deref(),
            Some(Path::new("/redoubt/c"))
        );
    }

    #[test]
    fn listed_capabilities_stay_and_missing_sets_become_empty() {
        let given = json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]});
        let checked = check(with("/process/capabilities", given)).unwrap();
        let process = checked.spec.process().as_ref().unwrap();
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 1);
        assert_eq!(capabilities.ambient(), &Some(HashSet::new()));
    }

    #[test]
    fn what_cannot_be_enforced_is_refused_by_name() {
        let hook = json!([{"path": "/bin/evil"}]);
        for (pointer, value, feature) in [
            ("/hooks", json!({"prestart": hook}), "hooks"),
            ("/hooks", json!({"createRuntime": hook}), "hooks"),
            ("/hooks", json!({"createContainer": hook}), "hooks"),
            ("/hooks", json!({"startContainer": hook}), "hooks"),
            ("/hooks", json!({"poststart": hook}), "hooks"),
            ("/hooks", json!({"poststop": hook}), "hooks"),
            (
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ERRNO"}),
                "a seccomp profile",
            ),
            ("/linux/intelRdt", json!({}), "Intel RDT"),
            (
                "/process/apparmorProfile",
                json!("docker-default"),
                "an AppArmor profile",
            ),
            (
                "/process/selinuxLabel",
                json!("system_u:x"),
                "an SELinux label",
            ),
        ] {
            match check(with(pointer, value)) {
                Err(ContainerError::UnsupportedSpec { feature: named }) => {
                    assert_eq!(named, feature);
                }
                other => panic!("{pointer}: {other:?}"),
            }
        }
    }

    #[test]
    fn empty_settings_ask_for_nothing() {
        for (pointer, value) in [
            ("/hooks", json!({})),
            ("/hooks", json!({"prestart": []})),
            ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"})),
            ("/process/apparmorProfile", json!("")),
            ("/process/selinuxLabel", json!("")),
            ("/linux/namespaces", json!([{"type": "mount", "path": ""}])),
        ] {
            check(with(pointer, value)).unwrap_or_else(|error| panic!("{pointer}: {error}"));
        }
    }

    #[test]
    fn malformed_specifications_are_refused_without_repeating_their_values() {
        for (pointer, value) in [
            ("/root", json!(null)),
            ("/root", json!({"path": ""})),
            ("/process", json!(null)),
            ("/process/args", json!([])),
            ("/process/args", json!([""])),
            ("/process/args", json!(["sh", "topsecret\0"])),
            ("/process/env", json!(["=topsecret"])),
            ("/process/env", json!(["topsecret"])),
            ("/process/env", json!([""])),
            ("/process/env", json!(["A=topsecret\0"])),
            ("/process/cwd", json!("topsecret")),
            ("/process/user", json!({"uid": u32::MAX, "gid": 0})),
            (
                "/process/user",
                json!({"uid": 0, "gid": 0, "additionalGids": [u32::MAX]}),
            ),
            (
                "/process/env",
                json!([format!("A={}topsecret", "x".repeat(MAX_ARGS_BYTES))]),
            ),
            ("/linux", json!(null)),
            ("/linux/namespaces", json!([{"type": "pid"}])),
            (
                "/linux/namespaces",
                json!([{"type": "mount"}, {"type": "mount"}]),
            ),
        ] {
            match check(with(pointer, value)) {
                Err(error @ ContainerError::InvalidSpec { .. }) => {
                    assert!(!error.to_string().contains("topsecret"), "{error}");
                }
                other => panic!("{pointer}: {other:?}"),
            }
        }
    }

    #[test]
    fn home_is_set_only_where_it_is_missing() {
        let home = |env: Value| {
            let checked = check(with("/process/env", env)).unwrap();
            let mut process = checked.spec.process().clone().unwrap();
            set_home(&mut process, || "/root".to_owned());
            process.env().clone().unwrap()
        };
        assert_eq!(home(json!(["HOME=/h"])), ["HOME=/h"]);
        assert_eq!(home(json!(["HOME=", "A=1"])), ["A=1", "HOME=/root"]);
        assert_eq!(home(json!([])), ["HOME=/root"]);
    }

    #[test]
    fn terminal_sizes_are_clamped() {
        let size = |height: u64, width: u64| {
            let spec = with(
                "/process/consoleSize",
                json!({"height": height, "width": width}),
            );
            terminal_size(check(spec).unwrap().spec.process().as_ref().unwrap())
        };
        assert_eq!(
            size(24, 80),
            Some(TerminalSize {
                rows: 24,
                columns: 80
            })
        );
        assert_eq!(size(0, 0), None);
        assert_eq!(
            size(70_000, 1),
            Some(TerminalSize {
                rows: u16::MAX,
                columns: 1
            })
        );
    }
}
