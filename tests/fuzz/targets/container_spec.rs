//! Reads a container's OCI specification, and makes of it what the guest gets.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use redoubt_launch_plan::SandboxRequest;
use redoubt_shim::image::{guest_pull, image_reference};
use redoubt_shim::oci::{
    container_kind, guest_spec, parse_process, parse_resources, parse_spec, plan_mounts, resources,
};

fuzz_target!(|data: &[u8]| {
    let _ = SandboxRequest::from_oci_spec("fuzz", data);
    let _ = parse_process(data);
    if let Ok(limits) = parse_resources(data) {
        let _ = resources(&limits);
    }
    let Ok(spec) = parse_spec(data) else {
        return;
    };
    let Ok(kind) = container_kind("fuzz", &spec) else {
        return;
    };
    let Ok(mounts) = plan_mounts("fuzz", &spec.mounts) else {
        return;
    };
    let bundle = Path::new("/run/bundle");
    let Ok(guest) = guest_spec("fuzz", bundle, &kind, &spec, mounts.mounts) else {
        return;
    };
    if let Ok(reference) = image_reference(&kind, &spec) {
        let _ = guest_pull("fuzz", &reference, &guest.Annotations);
    }
});
