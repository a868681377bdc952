//! The plan read as QEMU's arguments.

use std::ffi::OsString;

use crate::plan::LaunchPlan;
use crate::resources::LaunchResources;

impl LaunchPlan {
    /// QEMU's arguments (without the program name) for this plan.
    pub fn qemu_args(&self, _resources: &LaunchResources) -> Vec<OsString> {
        vec![
            "-name".into(),
            format!("sandbox-{}", self.sandbox_id).into(),
        ]
    }
}
