//! Kata's `configuration.toml`: typed settings, where they came from, and what was odd about them.

mod annotations;
mod error;
mod keys;
mod load;
mod merge;
mod reference;
mod search;
mod spec;
mod value;

pub use annotations::{ANNOTATION_PREFIX, CONFIG_PATH_ANNOTATION};
pub use error::ConfigError;
pub use keys::{
    AgentSettings, FactorySettings, HypervisorSettings, ImageSettings, RuntimeSettings,
};
pub use load::{LoadedConfiguration, load};
pub use merge::{ConfigSource, ConfigWarning};
pub use reference::reference;
pub use search::{Candidate, ConfigSearch};
pub use spec::{AnnotationGate, KeySpec};
pub use value::{LogLevel, Timeout};

use spec::Origins;

/// The settings of a configuration file and its drop-ins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// `[hypervisor.qemu]`.
    pub hypervisor: HypervisorSettings,
    /// `[agent.kata]`.
    pub agent: AgentSettings,
    /// `[runtime]`.
    pub runtime: RuntimeSettings,
    /// `[image]`.
    pub image: ImageSettings,
    /// `[factory]`.
    pub factory: FactorySettings,
    /// Kernel parameters of an annotation, which replace those of the same name.
    pub(crate) annotation_kernel_params: Option<String>,
    pub(crate) origins: Origins,
}

impl Configuration {
    /// All keys, table by table.
    pub fn keys() -> impl Iterator<Item = &'static KeySpec> {
        [
            HypervisorSettings::keys(),
            AgentSettings::keys(),
            RuntimeSettings::keys(),
            ImageSettings::keys(),
            FactorySettings::keys(),
        ]
        .into_iter()
        .flatten()
    }

    /// What set a key, given as `hypervisor.qemu.path`; `None` if it has its default.
    pub fn origin(&self, path: &str) -> Option<&str> {
        self.origins.get(path).map(String::as_str)
    }

    /// A key's value as a person would write it.
    pub fn show(&self, key: &KeySpec) -> String {
        match key.table {
            "hypervisor.qemu" => self.hypervisor.show(key.name),
            "agent.kata" => self.agent.show(key.name),
            "runtime" => self.runtime.show(key.name),
            "image" => self.image.show(key.name),
            _ => self.factory.show(key.name),
        }
    }

    fn set_toml(&mut self, key: &KeySpec, spelling: &str, value: &toml::Value) -> bool {
        match key.table {
            "hypervisor.qemu" => self.hypervisor.set_toml(key.name, spelling, value),
            "agent.kata" => self.agent.set_toml(key.name, spelling, value),
            "runtime" => self.runtime.set_toml(key.name, spelling, value),
            "image" => self.image.set_toml(key.name, spelling, value),
            _ => self.factory.set_toml(key.name, spelling, value),
        }
    }

    fn set_text(&mut self, key: &KeySpec, spelling: &str, text: &str) -> bool {
        match key.table {
            "hypervisor.qemu" => self.hypervisor.set_text(key.name, spelling, text),
            "agent.kata" => self.agent.set_text(key.name, spelling, text),
            "runtime" => self.runtime.set_text(key.name, spelling, text),
            "image" => self.image.set_text(key.name, spelling, text),
            _ => self.factory.set_text(key.name, spelling, text),
        }
    }
}
