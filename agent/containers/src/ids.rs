//! Names of containers and of processes in them.

use std::fmt;

use crate::error::ContainerError;

/// The longest container or exec id; it becomes a file name and a control group's name.
const MAX_ID_BYTES: usize = 128;

fn is_valid(id: &str) -> bool {
    let mut bytes = id.bytes();
    id.len() <= MAX_ID_BYTES
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A container's checked name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks a name: 1 to 128 of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
    pub fn parse(id: &str) -> Result<Self, ContainerError> {
        if is_valid(id) {
            Ok(Self(id.to_owned()))
        } else {
            Err(ContainerError::InvalidId { kind: "container" })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The checked name of an additional process of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecId(String);

impl ExecId {
    /// Checks a name by the rules of [`ContainerId::parse`].
    pub fn parse(id: &str) -> Result<Self, ContainerError> {
        if is_valid(id) {
            Ok(Self(id.to_owned()))
        } else {
            Err(ContainerError::InvalidId { kind: "exec" })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names one process: a container's first one, or one that was added to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The container.
    pub container: ContainerId,
    /// The added process, or `None` for the container's first process.
    pub exec: Option<ExecId>,
}

impl ProcessId {
    /// Reads the pair of ids as the agent API sends it: an empty exec id, or one
    /// equal to the container id, names the container's first process.
    pub fn from_request(container_id: &str, exec_id: &str) -> Result<Self, ContainerError> {
        let container = ContainerId::parse(container_id)?;
        let exec = if exec_id.is_empty() || exec_id == container_id {
            None
        } else {
            Some(ExecId::parse(exec_id)?)
        };
        Ok(Self { container, exec })
    }

    /// The first process of a container.
    pub fn init(container: &ContainerId) -> Self {
        Self {
            container: container.clone(),
            exec: None,
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exec {
            None => write!(f, "{}", self.container),
            Some(exec) => write!(f, "{} of container {}", exec.as_str(), self.container),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for bad in [
            "", ".", "..", "a/b", "/", "../x", "-x", "_x", "a b", "a\0", "ä", "a\n",
        ] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
            assert!(ExecId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ContainerId::parse(&"a".repeat(128)).is_ok());
        assert!(ContainerId::parse(&"a".repeat(129)).is_err());
    }

    #[test]
    fn an_empty_exec_id_names_the_first_process() {
        assert_eq!(ProcessId::from_request("c1", "").unwrap().exec, None);
        assert_eq!(ProcessId::from_request("c1", "c1").unwrap().exec, None);
        let exec = ProcessId::from_request("c1", "e1").unwrap().exec.unwrap();
        assert_eq!(exec.as_str(), "e1");
        assert!(ProcessId::from_request("c1", "../e").is_err());
        assert!(ProcessId::from_request("", "").is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_harmless_path_component(id in ".{0,140}") {
            if let Ok(id) = ContainerId::parse(&id) {
                let path = std::path::Path::new(id.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(path.file_name().is_some());
            }
        }
    }
}
