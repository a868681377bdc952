//! How containerd hands over to `start`: nothing, runtime options, or the
//! bootstrap message of containerd 2.3 on standard input. Pure.

use containerd_shim_protos::TASK_API_VERSION;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use protobuf::Message;

use crate::cli::Flags;

/// The most that is read from standard input.
pub const MAX_INPUT_BYTES: u64 = 1 << 20;

/// How containerd wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The address as text. containerd 1.6 knows nothing else, and later versions
    /// take it for a shim of the second task API, which this one serves too.
    Plain,
    /// The protobuf message of containerd 2.3.
    Message,
}

/// What `start` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartParameters {
    /// containerd's own socket.
    pub containerd_address: String,
    /// Where events go, when containerd said so on standard input.
    pub ttrpc_address: Option<String>,
    /// A folder for the socket, when containerd wants another than its usual one.
    pub socket_dir: Option<String>,
    /// Log more.
    pub debug: bool,
    /// How to answer.
    pub reply: Reply,
}

/// Tells from standard input and the flags how this `start` is meant.
///
/// Runtime options of older versions are a protobuf `Any`, whose bytes can be read as
/// a bootstrap message too; only one that repeats this command line's id and
/// namespace is taken for one.
pub fn interpret(input: &[u8], flags: &Flags) -> StartParameters {
    match BootstrapParams::parse_from_bytes(input) {
        Ok(message) if message.instance_id == flags.id && message.namespace == flags.namespace => {
            from_message(message, flags)
        }
        _ => StartParameters {
            containerd_address: flags.address.clone(),
            ttrpc_address: None,
            socket_dir: None,
            debug: flags.debug,
            reply: Reply::Plain,
        },
    }
}

fn from_message(message: BootstrapParams, flags: &Flags) -> StartParameters {
    let filled = |text: String| (!text.is_empty()).then_some(text);
    StartParameters {
        debug: flags.debug || message.log_level.value() <= -4,
        containerd_address: filled(message.containerd_grpc_address)
            .unwrap_or_else(|| flags.address.clone()),
        ttrpc_address: filled(message.containerd_ttrpc_address),
        socket_dir: message.socket_dir.and_then(filled),
        reply: Reply::Message,
    }
}

/// The bytes that `start` prints.
pub fn encode_reply(address: &str, reply: Reply) -> protobuf::Result<Vec<u8>> {
    match reply {
        Reply::Plain => Ok(address.as_bytes().to_vec()),
        Reply::Message => BootstrapResult {
            version: TASK_API_VERSION,
            address: address.to_owned(),
            protocol: "ttrpc".to_owned(),
            ..BootstrapResult::default()
        }
        .write_to_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protobuf::EnumOrUnknown;
    use protobuf::well_known_types::any::Any;

    fn flags() -> Flags {
        Flags {
            id: "web".to_owned(),
            namespace: "k8s.io".to_owned(),
            address: "/run/containerd/containerd.sock".to_owned(),
            ..Flags::default()
        }
    }

    #[test]
    fn no_input_is_answered_with_a_plain_address() {
        let parameters = interpret(&[], &flags());
        assert_eq!(parameters.reply, Reply::Plain);
        assert_eq!(
            encode_reply("unix:///s", parameters.reply).unwrap(),
            b"unix:///s"
        );
    }

    #[test]
    fn runtime_options_on_stdin_are_not_a_bootstrap_message() {
        let options = Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: vec![1, 2, 3],
            ..Any::default()
        };
        let parameters = interpret(&options.write_to_bytes().unwrap(), &flags());
        assert_eq!(parameters.reply, Reply::Plain);
    }

    #[test]
    fn containerd_23_is_answered_in_its_own_form() {
        let message = BootstrapParams {
            instance_id: "web".to_owned(),
            namespace: "k8s.io".to_owned(),
            log_level: EnumOrUnknown::from_i32(-4),
            containerd_ttrpc_address: "/run/containerd/containerd.sock.ttrpc".to_owned(),
            socket_dir: Some("/run/x".to_owned()),
            ..BootstrapParams::default()
        };
        let parameters = interpret(&message.write_to_bytes().unwrap(), &flags());
        assert!(parameters.debug);
        assert_eq!(
            parameters.containerd_address,
            "/run/containerd/containerd.sock"
        );
        assert_eq!(parameters.socket_dir.as_deref(), Some("/run/x"));
        let reply = encode_reply("unix:///s", parameters.reply).unwrap();
        let reply = BootstrapResult::parse_from_bytes(&reply).unwrap();
        assert_eq!((reply.version, reply.address.as_str()), (3, "unix:///s"));
    }

    proptest! {
        #[test]
        fn any_input_is_interpreted(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = interpret(&input, &flags());
        }
    }
}
