//! Reads a Kubernetes manifest, up to the request for a sandbox of each workload.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redoubt_launch_plan::SandboxRequest;
use redoubt_pod_shape::Manifest;

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = Manifest::parse(data) else {
        return;
    };
    assert!(
        !manifest.workloads.is_empty(),
        "a manifest without a pod is refused"
    );
    for workload in &manifest.workloads {
        let _ = workload.to_string();
        for remark in &workload.remarks {
            let _ = remark.to_string();
        }
        let request = workload.sandbox_request("fuzz");
        let Ok(SandboxRequest { limits, .. }) = request else {
            panic!("the annotations that containerd would write are readable");
        };
        assert_eq!(limits, workload.resources.limits());
    }
});
