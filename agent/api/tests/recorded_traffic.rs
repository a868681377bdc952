//! Traffic recorded between Kata's own client and agent is ours to read and write.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use protobuf::Message;
use protobuf::well_known_types::empty::Empty;
use redoubt_agent_api::agent::*;
use redoubt_agent_api::health::{CheckRequest, HealthCheckResponse, VersionCheckResponse};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: u8,
    method: String,
    data: String,
}

fn frames() -> Vec<Frame> {
    serde_json::from_str(include_str!("../testdata/frames.json")).unwrap()
}

/// The message inside a frame: `None` for an error response.
fn payload(frame: &Frame) -> Option<Vec<u8>> {
    let bytes = hex::decode(&frame.data).unwrap();
    if frame.kind == 1 {
        let request = ttrpc::Request::parse_from_bytes(&bytes).unwrap();
        assert_eq!(
            format!("{}/{}", request.service, request.method),
            frame.method
        );
        assert_eq!(request.write_to_bytes().unwrap(), bytes);
        return Some(request.payload);
    }
    let response = ttrpc::Response::parse_from_bytes(&bytes).unwrap();
    let failed = response
        .status
        .as_ref()
        .is_some_and(|s| s.code() != ttrpc::Code::OK);
    (!failed).then_some(response.payload)
}

/// Decodes and encodes, once directly and once through the policy's JSON. The
/// JSON knows no unknown fields, so that a field missing from our messages
/// changes the bytes.
fn same_bytes<M: Message + Serialize + DeserializeOwned>(bytes: &[u8]) {
    let message = M::parse_from_bytes(bytes).unwrap();
    assert_eq!(
        sorted_maps(M::NAME, &message.write_to_bytes().unwrap()),
        sorted_maps(M::NAME, bytes)
    );
    let through_json: M = serde_json::from_value(serde_json::to_value(&message).unwrap()).unwrap();
    assert_eq!(
        sorted_maps(M::NAME, &through_json.write_to_bytes().unwrap()),
        sorted_maps(M::NAME, bytes),
        "{}",
        M::NAME
    );
}

/// Map entries have no order on the wire (protobuf encoding, "Maps"): sorts the
/// entries of the maps that the recorded messages hold, leaving all else alone.
fn sorted_maps(name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    match name {
        // cgroup_stats, memory_stats, stats
        "StatsContainerResponse" => sort_below(bytes, &[1, 2, 6]),
        // OCI, Annotations
        "CreateContainerRequest" => sort_below(bytes, &[6, 7]),
        _ => vec![bytes.to_vec()],
    }
}

fn sort_below(bytes: &[u8], path: &[u32]) -> Vec<Vec<u8>> {
    let mut input = protobuf::CodedInputStream::from_bytes(bytes);
    let mut parts = Vec::new();
    let mut entries = Vec::new();
    while let Some(tag) = input.read_raw_tag_or_eof().unwrap() {
        let start = input.pos();
        if tag >> 3 == path[0] && tag & 7 == 2 {
            let inner = input.read_bytes().unwrap();
            if path.len() == 1 {
                entries.push(inner);
            } else {
                parts.push(vec![u8::try_from(path[0]).unwrap()]);
                parts.extend(sort_below(&inner, &path[1..]));
            }
            continue;
        }
        match tag & 7 {
            0 => drop(input.read_raw_varint64().unwrap()),
            1 => drop(input.read_fixed64().unwrap()),
            2 => drop(input.read_bytes().unwrap()),
            5 => drop(input.read_fixed32().unwrap()),
            other => panic!("wire type {other}"),
        }
        let end = input.pos();
        let start = usize::try_from(start).unwrap();
        parts.push(
            [
                tag.to_le_bytes().as_slice(),
                &bytes[start..usize::try_from(end).unwrap()],
            ]
            .concat(),
        );
    }
    entries.sort();
    parts.extend(entries);
    parts
}

#[test]
fn recorded_messages_are_read_and_written_to_the_same_bytes() {
    let mut seen = 0;
    for frame in frames() {
        let Some(bytes) = payload(&frame) else {
            assert_eq!(frame.method, "grpc.AgentService/PauseContainer");
            continue;
        };
        let method = frame.method.rsplit('/').next().unwrap();
        match (method, frame.kind) {
            ("Check" | "Version", 1) => same_bytes::<CheckRequest>(&bytes),
            ("Check", _) => same_bytes::<HealthCheckResponse>(&bytes),
            ("Version", _) => same_bytes::<VersionCheckResponse>(&bytes),
            ("GetGuestDetails", 1) => same_bytes::<GuestDetailsRequest>(&bytes),
            ("GetGuestDetails", _) => same_bytes::<GuestDetailsResponse>(&bytes),
            ("ListInterfaces", 1) => same_bytes::<ListInterfacesRequest>(&bytes),
            ("ListInterfaces", _) => same_bytes::<Interfaces>(&bytes),
            ("ListRoutes", 1) => same_bytes::<ListRoutesRequest>(&bytes),
            ("ListRoutes", _) => same_bytes::<Routes>(&bytes),
            ("GetMetrics", 1) => same_bytes::<GetMetricsRequest>(&bytes),
            ("GetMetrics", _) => same_bytes::<Metrics>(&bytes),
            ("CreateSandbox", 1) => same_bytes::<CreateSandboxRequest>(&bytes),
            ("CreateContainer", 1) => same_bytes::<CreateContainerRequest>(&bytes),
            ("StartContainer", 1) => same_bytes::<StartContainerRequest>(&bytes),
            ("ReadStdout", 1) => same_bytes::<ReadStreamRequest>(&bytes),
            ("ReadStdout", _) => same_bytes::<ReadStreamResponse>(&bytes),
            ("StatsContainer", 1) => same_bytes::<StatsContainerRequest>(&bytes),
            ("StatsContainer", _) => same_bytes::<StatsContainerResponse>(&bytes),
            ("ExecProcess", 1) => same_bytes::<ExecProcessRequest>(&bytes),
            ("WaitProcess", 1) => same_bytes::<WaitProcessRequest>(&bytes),
            ("WaitProcess", _) => same_bytes::<WaitProcessResponse>(&bytes),
            ("SignalProcess", 1) => same_bytes::<SignalProcessRequest>(&bytes),
            ("RemoveContainer", 1) => same_bytes::<RemoveContainerRequest>(&bytes),
            ("ReseedRandomDev", 1) => same_bytes::<ReseedRandomDevRequest>(&bytes),
            ("PauseContainer", 1) => same_bytes::<PauseContainerRequest>(&bytes),
            ("DestroySandbox", 1) => same_bytes::<DestroySandboxRequest>(&bytes),
            (_, 2) => assert_eq!(
                Empty::parse_from_bytes(&bytes).unwrap(),
                Empty::new(),
                "{method}"
            ),
            other => panic!("no message for {other:?}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 38);
}

#[test]
fn recorded_values_have_their_meaning() {
    let find = |method: &str, kind: u8, nth: usize| {
        let frame = frames()
            .into_iter()
            .filter(|f| f.method.ends_with(method) && f.kind == kind)
            .nth(nth)
            .unwrap();
        payload(&frame).unwrap()
    };
    let exit = |nth| {
        WaitProcessResponse::parse_from_bytes(&find("/WaitProcess", 2, nth))
            .unwrap()
            .status
    };
    assert_eq!((exit(0), exit(1)), (3, 137));
    let out = ReadStreamResponse::parse_from_bytes(&find("/ReadStdout", 2, 0))
        .unwrap()
        .data;
    assert!(out.starts_with(b"hello-from-container\n"));
    let create = CreateContainerRequest::parse_from_bytes(&find("/CreateContainer", 1, 0)).unwrap();
    assert!(!create.OCI.Process.Args.is_empty());
    assert!(!create.container_id.is_empty());
    let kill = SignalProcessRequest::parse_from_bytes(&find("/SignalProcess", 1, 0)).unwrap();
    assert_eq!(kill.signal, 9);
}

#[test]
fn a_policy_sees_katas_json() {
    let request = CreateContainerRequest {
        container_id: "c1".to_owned(),
        devices: vec![Device {
            type_: "blk".to_owned(),
            ..Device::default()
        }],
        storages: vec![Storage {
            fs_group: Some(FSGroup {
                group_id: 5,
                ..FSGroup::default()
            })
            .into(),
            ..Storage::default()
        }],
        ..CreateContainerRequest::default()
    };
    let json = serde_json::to_value(&request).unwrap();
    assert_eq!(json["OCI"], serde_json::Value::Null);
    assert_eq!(json["devices"][0]["type_"], "blk");
    assert_eq!(json["storages"][0]["fs_group"]["group_change_policy"], 0);
    assert_eq!(json["storages"][0]["fs_group"]["group_id"], 5);
    assert!(json.get("special_fields").is_none());

    let write = WriteStreamRequest {
        data: vec![104, 105],
        ..WriteStreamRequest::default()
    };
    assert_eq!(
        serde_json::to_value(&write).unwrap()["data"],
        serde_json::json!([104, 105])
    );

    let tuning = MemAgentMemcgConfig {
        swap: Some(true),
        ..MemAgentMemcgConfig::default()
    };
    let json = serde_json::to_value(&tuning).unwrap();
    assert_eq!(json["swap"], true);
    assert_eq!(json["disabled"], serde_json::Value::Null);
}

#[test]
fn truncated_frames_are_errors_not_panics() {
    for frame in frames() {
        let bytes = hex::decode(&frame.data).unwrap();
        for end in 0..bytes.len().min(1200) {
            let _ = ttrpc::Request::parse_from_bytes(&bytes[..end]);
            let _ = CreateContainerRequest::parse_from_bytes(&bytes[..end]);
        }
    }
}
