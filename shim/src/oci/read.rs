//! Reads specifications from files and messages, bounded in size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::model::{LinuxResources, Process, Spec};
use crate::error::{Result, ShimError};

/// The largest `config.json`: what is larger would not fit a message to the agent.
const MAX_SPEC_BYTES: u64 = 4 << 20;

/// Reads the `config.json` of a bundle.
pub fn read_config(bundle: &Path) -> Result<Vec<u8>> {
    read_bounded(&bundle.join("config.json"), MAX_SPEC_BYTES)
}

/// Parses a specification.
pub fn parse_spec(bytes: &[u8]) -> Result<Spec> {
    parse_json(bytes, "the bundle's config.json")
}

/// Parses the process of an exec request.
pub fn parse_process(bytes: &[u8]) -> Result<Process> {
    parse_json(bytes, "the process of the exec request")
}

/// Parses the limits of an update request.
pub fn parse_resources(bytes: &[u8]) -> Result<LinuxResources> {
    parse_json(bytes, "the resources of the update request")
}

/// Reads a file of at most `limit_bytes`.
pub fn read_bounded(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let unreadable = |source| ShimError::ReadFile {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit_bytes) {
        return Err(ShimError::FileTooLarge {
            path: path.to_owned(),
            limit: limit_bytes,
        });
    }
    Ok(bytes)
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| ShimError::BadSpec { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nulls_and_unknown_fields_do_not_disturb() {
        let spec = parse_spec(
            br#"{"ociVersion":"1.1.0","future":{"x":1},"mounts":null,
                "process":{"args":["sh"],"capabilities":null,"rlimits":null,"user":{"uid":1,"gid":2}},
                "linux":{"resources":{"cpu":{"quota":null}},"namespaces":[{"type":"network","path":"/n"}]}}"#,
        )
        .unwrap();
        assert_eq!(spec.version, "1.1.0");
        assert_eq!(spec.network_namespace(), Some("/n"));
        assert_eq!(spec.process.unwrap().user.uid, 1);
    }

    #[test]
    fn a_process_is_never_printed() {
        let process = parse_process(br#"{"args":["s3cret"],"env":["KEY=s3cret"]}"#).unwrap();
        assert!(!format!("{process:?}").contains("s3cret"));
    }

    #[test]
    fn wrong_types_are_named() {
        let error = parse_spec(br#"{"mounts":7}"#).unwrap_err().one_line();
        assert!(
            error
                .starts_with("[RDT-SHIM-034] the bundle's config.json is not a valid OCI document")
        );
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [b' '; 11]).unwrap();
        assert!(read_bounded(&path, 11).is_ok());
        assert!(matches!(
            read_bounded(&path, 10),
            Err(ShimError::FileTooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_spec(&bytes);
            let _ = parse_process(&bytes);
            let _ = parse_resources(&bytes);
        }
    }
}
