//! Network settings of a container that shares the guest's network.
//!
//! The guest's network is the pod's, so pod-wide `net.*` settings (container
//! engines ask for some by default) belong to the guest. libcontainer refuses
//! them where it sees no network namespace of the container's own; the agent
//! sets them itself.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::error::ContainerError;

const SETTINGS: &str = "/proc/sys";
/// The longest value, in bytes; the kernel takes a page.
const MAX_VALUE_BYTES: usize = 4096;

/// A setting of the guest's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkSetting {
    file: PathBuf,
    value: String,
}

/// Takes the network's settings out of a specification without a network namespace.
pub(crate) fn take_network_settings(
    linux: &mut Linux,
) -> Result<Vec<NetworkSetting>, ContainerError> {
    let has_own_network = linux
        .namespaces()
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Network);
    let Some(all) = linux.sysctl().clone().filter(|_| !has_own_network) else {
        return Ok(Vec::new());
    };
    let (network, others): (HashMap<_, _>, HashMap<_, _>) = all
        .into_iter()
        .partition(|(name, _)| name.starts_with("net.") || name.starts_with("net/"));
    linux.set_sysctl((!others.is_empty()).then_some(others));
    network
        .into_iter()
        .map(|(name, value)| NetworkSetting::new(&name, value))
        .collect()
}

impl NetworkSetting {
    /// A name's parts are separated by dots, or by slashes if a part contains dots (sysctl(8)).
    fn new(name: &str, value: String) -> Result<Self, ContainerError> {
        let separator = if name.contains('/') { '/' } else { '.' };
        let parts: Vec<_> = name.split(separator).collect();
        let harmless =
            |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(['/', '\0']);
        if parts.first() != Some(&"net")
            || !parts.iter().all(harmless)
            || value.len() > MAX_VALUE_BYTES
        {
            let reason = "linux.sysctl has a malformed network setting".to_owned();
            return Err(ContainerError::InvalidSpec { reason });
        }
        let file = Path::new(SETTINGS).join(parts.iter().collect::<PathBuf>());
        Ok(Self { file, value })
    }

    /// Applies the setting to the network of the calling process.
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
        let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "5"});
        serde_json::from_value(json!({"namespaces": namespaces, "sysctl": sysctl})).unwrap()
    }

    #[test]
    fn settings_of_a_shared_network_are_taken_out() {
        let mut spec = linux(&["mount"]);
        let taken = take_network_settings(&mut spec).unwrap();
        let file = "/proc/sys/net/ipv4/ip_forward".into();
        assert_eq!(
            taken,
            [NetworkSetting {
                file,
                value: "1".to_owned()
            }]
        );
        assert_eq!(spec.sysctl().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn settings_of_a_network_of_its_own_stay() {
        let mut spec = linux(&["mount", "network"]);
        assert_eq!(take_network_settings(&mut spec).unwrap(), []);
        assert_eq!(spec.sysctl().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn names_with_dots_in_a_part_are_written_with_slashes() {
        let setting = NetworkSetting::new("net/ipv4/conf/eth0.1/mtu", String::new()).unwrap();
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
            assert!(
                NetworkSetting::new(name, String::new()).is_err(),
                "{name:?}"
            );
        }
        assert!(NetworkSetting::new("net.x", "1".repeat(MAX_VALUE_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn every_accepted_name_stays_below_net(name in "net[./][a-z./]{0,20}") {
            if let Ok(setting) = NetworkSetting::new(&name, String::new()) {
                prop_assert!(setting.file.starts_with("/proc/sys/net"));
                let up = std::path::Component::ParentDir;
                prop_assert!(setting.file.components().all(|part| part != up));
            }
        }
    }
}
