use std::collections::BTreeSet;
use std::path::Path;

use protobuf::Message;
use redoubt_containers::Reaper;
use ttrpc::Code;
use ttrpc::r#async::Client;

use super::*;
use crate::agent::Folders;
use crate::params::Parameters;
use crate::settings::Settings;
use crate::trust::Trust;

/// An agent below a folder of the test's own.
pub(crate) fn agent(folder: &Path, policy: &str) -> Arc<Agent> {
    let policy = format!("package agent_policy\n{policy}");
    let trust = Trust {
        attester: None,
        policy: redoubt_agent_policy::PolicyEngine::lenient(&policy).unwrap(),
        settings: Settings {
            insecure_registries: vec!["127.0.0.1:1".to_owned()],
            ..Settings::default()
        },
        initdata: None,
    };
    let parameters = Parameters::parse("agent.image_pull_timeout=1").unwrap();
    let reaper = Reaper::start().unwrap();
    Arc::new(Agent::new(trust, &parameters, reaper, Folders::below(folder)).unwrap())
}

/// The calls as the service's definition lists them.
fn defined_calls() -> BTreeSet<String> {
    let definition = include_str!("../../../api/proto/agent.proto");
    definition
        .lines()
        .filter_map(|line| {
            let (name, _) = line.trim().strip_prefix("rpc ")?.split_once('(')?;
            Some(name.trim().to_owned())
        })
        .collect()
}

/// Sends an empty request, whose bytes are the same for every message.
async fn call(client: &Client, method: &str, payload: Vec<u8>) -> Code {
    let request = ttrpc::Request {
        service: "grpc.AgentService".to_owned(),
        method: method.to_owned(),
        timeout_nano: 5_000_000_000,
        payload,
        ..ttrpc::Request::default()
    };
    match client.request(request).await {
        Err(ttrpc::Error::RpcStatus(status)) => status.code(),
        Ok(_) => Code::OK,
        Err(error) => panic!("{method}: {error}"),
    }
}

async fn serve(folder: &Path, policy: &str) -> (ttrpc::r#async::Server, Client) {
    let address = format!("unix://{}", folder.join("agent.sock").display());
    let server = crate::server::start(&address, agent(folder, policy))
        .await
        .unwrap();
    let client = Client::connect(&address).await.unwrap();
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_the_service_passes_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    // No rule at all: nothing is allowed.
    let (_server, client) = serve(folder.path(), "").await;
    let calls = defined_calls();
    assert!(
        calls.len() > 40 && calls.contains("CreateContainer"),
        "{calls:?}"
    );
    for name in &calls {
        let code = call(&client, name, Vec::new()).await;
        // Streams are read to their end even if nothing of them may leave the guest; this
        // request names no container.
        let expected = if name.starts_with("ReadStd") {
            Code::INVALID_ARGUMENT
        } else {
            Code::PERMISSION_DENIED
        };
        assert_eq!(code, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_the_agent_does_not_serve_say_so_once_they_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "default GetIPTablesRequest := true\ndefault WriteStreamRequest := true";
    let (_server, client) = serve(folder.path(), policy).await;
    assert_eq!(
        call(&client, "GetIPTables", Vec::new()).await,
        Code::UNIMPLEMENTED
    );

    let large = agent::WriteStreamRequest {
        container_id: "c".to_owned(),
        data: vec![0; MAX_INPUT_BYTES + 1],
        ..agent::WriteStreamRequest::default()
    };
    let code = call(&client, "WriteStdin", large.write_to_bytes().unwrap()).await;
    assert_eq!(code, Code::INVALID_ARGUMENT);
    let small = agent::WriteStreamRequest {
        container_id: "c".to_owned(),
        data: vec![0; 10],
        ..agent::WriteStreamRequest::default()
    };
    let code = call(&client, "WriteStdin", small.write_to_bytes().unwrap()).await;
    assert_eq!(code, Code::NOT_FOUND);
}
