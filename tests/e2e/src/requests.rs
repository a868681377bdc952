//! What several tests ask of a pod.

use redoubt_lab::{PodRequest, ScenarioOptions};

use crate::Fixture;

/// A policy like the sample's that also lets any program of the image run.
pub fn any_program(fixture: &Fixture) -> ScenarioOptions {
    let mut options = fixture.working();
    options.policy = options
        .policy
        .replace(
            "input.OCI.Process.Args[0] == \"/srv/workload\"",
            "count(input.OCI.Process.Args) > 0",
        )
        .replace(
            "default ExecProcessRequest := false",
            "default ExecProcessRequest := true",
        );
    options
}

/// A pod whose workload is a shell script.
pub fn shell(script: &str) -> PodRequest {
    PodRequest {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..PodRequest::default()
    }
}
