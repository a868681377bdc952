//! What this host offers to a virtual machine.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use redoubt_launch_plan::{HostFacts, SnpHost};

use crate::sys;

/// Finds out what this host offers.
///
/// KVM counts only if a virtual machine with a virtual CPU can really be created.
pub fn host_facts() -> HostFacts {
    let kvm = kvm_works();
    HostFacts {
        sev_snp: kvm.then(sev_snp).flatten(),
        tdx: kvm && is_on(&read_parameter("/sys/module/kvm_intel/parameters/tdx")),
        tdx_quote_socket: Path::new("/var/run/tdx-qgs/qgs.socket").exists(),
        kvm,
        vhost_net: Path::new("/dev/vhost-net").exists(),
        vhost_vsock: Path::new("/dev/vhost-vsock").exists(),
    }
}

fn kvm_works() -> bool {
    let works = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .and_then(|kvm: File| sys::try_kvm(&kvm));
    if let Err(error) = &works {
        tracing::debug!(%error, "KVM cannot be used");
    }
    works.is_ok()
}

fn sev_snp() -> Option<SnpHost> {
    if !is_on(&read_parameter("/sys/module/kvm_amd/parameters/sev_snp")) {
        return None;
    }
    sys::memory_encryption_ebx().map(SnpHost::from_cpuid_ebx)
}

fn read_parameter(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Boolean module parameters read as `Y`/`N`, older ones as `1`/`0`.
fn is_on(parameter: &str) -> bool {
    matches!(parameter.trim(), "Y" | "y" | "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_parameters_are_read_in_both_spellings() {
        for (text, on) in [
            ("Y\n", true),
            ("1\n", true),
            ("N\n", false),
            ("0\n", false),
            ("", false),
        ] {
            assert_eq!(is_on(text), on, "{text:?}");
        }
    }

    #[test]
    fn a_tee_is_found_only_where_kvm_works() {
        let facts = host_facts();
        assert!(facts.kvm || (facts.sev_snp.is_none() && !facts.tdx));
        assert_eq!(facts.vhost_net, Path::new("/dev/vhost-net").exists());
    }
}
