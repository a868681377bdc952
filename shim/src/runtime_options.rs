//! The options that containerd's configuration attaches to a runtime. Pure.

use protobuf::well_known_types::any::Any;
use protobuf::{CodedInputStream, rt::WireType};

use crate::error::{Result, ShimError};

/// Names under which the generic runtime options travel: containerd 1.7 and later,
/// and the CRI plugin of 1.6 and earlier.
const KNOWN_TYPES: [&str; 2] = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];

/// The generic runtime options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Path of the configuration file (`ConfigPath`).
    pub config_path: Option<String>,
    /// A configuration file's text (`ConfigBody`).
    pub config_body: Option<String>,
}

/// What the options of a request turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// None were given.
    Nothing,
    /// The generic runtime options.
    Options(RuntimeOptions),
    /// Options of another runtime, by type name; they are ignored.
    Foreign(String),
}

/// Reads the options of a create request.
pub fn parse(any: Option<&Any>) -> Result<Found> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
        return Ok(Found::Nothing);
    };
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if !KNOWN_TYPES.contains(&name) {
        return Ok(Found::Foreign(name.chars().take(128).collect()));
    }
    decode(&any.value)
        .map(Found::Options)
        .map_err(ShimError::BadOptions)
}

/// `TypeUrl` is field 1, `ConfigPath` field 2, `ConfigBody` (bytes) field 3.
fn decode(bytes: &[u8]) -> protobuf::Result<RuntimeOptions> {
    let mut options = RuntimeOptions::default();
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match (tag >> 3, tag & 7) {
            (2, 2) => options.config_path = filled(input.read_string()?),
            (3, 2) => options.config_body = filled(input.read_string()?),
            (_, wire) => {
                let wire = WireType::new(wire).ok_or_else(malformed)?;
                input.skip_field(wire)?;
            }
        }
    }
    Ok(options)
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn malformed() -> protobuf::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "unknown wire type").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(type_url: &str, value: &[u8]) -> Any {
        Any {
            type_url: type_url.to_owned(),
            value: value.to_vec(),
            ..Any::default()
        }
    }

    #[test]
    fn both_names_of_the_generic_options_are_read() {
        let value = b"\x0a\x04type\x12\x09/etc/kata";
        for name in [
            "runtimeoptions.v1.Options",
            "type.googleapis.com/cri.runtimeoptions.v1.Options",
        ] {
            let Found::Options(found) = parse(Some(&options(name, value))).unwrap() else {
                panic!("{name} not recognised");
            };
            assert_eq!(found.config_path.as_deref(), Some("/etc/kata"));
        }
    }

    #[test]
    fn options_of_runc_are_foreign() {
        let found = parse(Some(&options("containerd.runc.v1.Options", b"\xff\xff"))).unwrap();
        assert_eq!(
            found,
            Found::Foreign("containerd.runc.v1.Options".to_owned())
        );
    }

    #[test]
    fn a_cut_message_is_refused() {
        let error =
            parse(Some(&options("runtimeoptions.v1.Options", b"\x12\x09/etc"))).unwrap_err();
        assert!(
            error
                .one_line()
                .starts_with("[RDT-SHIM-042] the runtime options are malformed")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(Some(&options("runtimeoptions.v1.Options", &value)));
        }
    }
}
