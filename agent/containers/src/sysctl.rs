//! Kernel settings of a container that shares the guest's namespaces.
//!
//! The guest is the pod: pod-wide settings of its network (`net.*`, container
//! engines ask for some by default) and of its System V and POSIX queues belong
//! to the guest. libcontainer refuses them where it sees no namespace of the
//! container's own; the agent sets them itself.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::error::ContainerError;

const SETTINGS: &str = "/proc/sys";
/// The longest value, in bytes; the kernel takes a page.
const MAX_VALUE_BYTES: usize = 4096;
/// The settings that an IPC namespace has of its own, below `kernel` (`ipc_namespaces(7)`).
const QUEUES: [&str; 8] = [
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shmall",
    "shmmax",
    "shmmni",
    "shm_rmid_forced",
];

/// A setting of a namespace that all containers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedSetting {
    file: PathBuf,
    value: String,
}

/// Takes the settings of shared namespaces out of a specification.
pub(crate) fn take_shared_settings(
    linux: &mut Linux,
) -> Result<Vec<SharedSetting>, ContainerError> {
    let Some(all) = linux.sysctl().clone() else {
        return Ok(Vec::new());
    };
    let own: Vec<LinuxNamespaceType> = linux
        .namespaces()
        .iter()
        .flatten()
        .map(oci_spec::runtime::LinuxNamespace::typ)
        .collect();
    let mut taken = Vec::new();
    let mut others = HashMap::new();
    for (name, value) in all {
        match namespace_of(&parts(&name)).filter(|kind| !own.contains(kind)) {
            Some(_) => taken.push(SharedSetting::new(&name, value)?),
            None => {
                others.insert(name, value);
            }
        }
    }
    linux.set_sysctl((!others.is_empty()).then_some(others));
    Ok(taken)
}

/// A name's parts are separated by dots, or by slashes if a part contains dots (sysctl(8)).
fn parts(name: &str) -> Vec<&str> {
    let separator = if name.contains('/') { '/' } else { '.' };
    name.split(separator).collect()
}

fn namespace_of(parts: &[&str]) -> Option<LinuxNamespaceType> {
    match parts {
        ["net", ..] => Some(LinuxNamespaceType::Network),
        ["fs", "mqueue", ..] => Some(LinuxNamespaceType::Ipc),
        ["kernel", name] if QUEUES.contains(name) => Some(LinuxNamespaceType::Ipc),
        _ => None,
    }
}

impl SharedSetting {
    fn new(name: &str, value: String) -> Result<Self, ContainerError> {
        let parts = parts(name);
        let harmless =
            |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(['/', '\0']);
        if namespace_of(&parts).is_none()
            || !parts.iter().all(harmless)
            || value.len() > MAX_VALUE_BYTES
        {
            let reason = "linux.sysctl has a malformed setting".to_owned();
            return Err(ContainerError::InvalidSpec { reason });
        }
        let file = Path::new(SETTINGS).join(parts.iter().collect::<PathBuf>());
        Ok(Self { file, value })
    }

    /// Applies the setting to the namespaces of the calling process.
    pub(crate) fn apply(&self) -> Result<(), ContainerError> {
        OpenOptions::new()
            .write(true)
            .open(&self.file)
            .and_then(|mut file| file.write_all(self.value.as_bytes()))
            .map_err(|source| ContainerError::State {
                action: "set",
                path: self.file.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn linux(namespaces: &[&str]) -> Linux {
        let namespaces: Vec<_> = namespaces
            .iter()
            .map(|kind| json!({"type": kind}))
            .collect();
        let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.core_pattern": "x"});
        serde_json::from_value(json!({"namespaces": namespaces, "sysctl": sysctl})).unwrap()
    }

    #[test]
    fn settings_of_a_shared_network_are_taken_out() {
        let mut spec = linux(&["mount"]);
        let taken = take_shared_settings(&mut spec).unwrap();
        let file = "/proc/sys/net/ipv4/ip_forward".into();
        assert_eq!(
            taken,
            [SharedSetting {
                file,
                value: "1".to_owned()
            }]
        );
        assert_eq!(spec.sysctl().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn settings_of_a_network_of_its_own_stay() {
        let mut spec = linux(&["mount", "network"]);
        assert_eq!(take_shared_settings(&mut spec).unwrap(), []);
        assert_eq!(spec.sysctl().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn settings_of_shared_queues_are_taken_out_and_no_other_of_the_kernel() {
        let sysctl = json!({
            "kernel.shmmax": "5",
            "fs/mqueue/msg_max": "6",
            "kernel.core_pattern": "|/x",
            "kernel.sem.x": "7",
        });
        let mut spec: Linux = serde_json::from_value(json!({
            "namespaces": [{"type": "mount"}], "sysctl": sysctl
        }))
        .unwrap();
        let mut files: Vec<_> = take_shared_settings(&mut spec)
            .unwrap()
            .into_iter()
            .map(|setting| setting.file)
            .collect();
        files.sort();
        assert_eq!(
            files,
            ["/proc/sys/fs/mqueue/msg_max", "/proc/sys/kernel/shmmax"].map(PathBuf::from)
        );
        let mut left: Vec<_> = spec.sysctl().clone().unwrap().into_keys().collect();
        left.sort();
        assert_eq!(left, ["kernel.core_pattern", "kernel.sem.x"]);
    }

    #[test]
    fn names_with_dots_in_a_part_are_written_with_slashes() {
        let setting = SharedSetting::new("net/ipv4/conf/eth0.1/mtu", String::new()).unwrap();
        assert_eq!(
            setting.file,
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/mtu")
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "net/../kernel/core_pattern",
            "net..x",
            "net./a",
            "net.x/a",
            "net.",
            "net//x",
            "net/./x",
            "net.a\0",
        ] {
            assert!(SharedSetting::new(name, String::new()).is_err(), "{name:?}");
        }
        assert!(SharedSetting::new("net.x", "1".repeat(MAX_VALUE_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn every_accepted_name_stays_below_net(name in "net[./][a-z./]{0,20}") {
            if let Ok(setting) = SharedSetting::new(&name, String::new()) {
                prop_assert!(setting.file.starts_with("/proc/sys/net"));
                let up = std::path::Component::ParentDir;
                prop_assert!(setting.file.components().all(|part| part != up));
            }
        }
    }
}
