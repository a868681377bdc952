//! The task service over its real socket, with a protocol-level double of the guest.

mod support;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use containerd_shim_protos::api;
use protobuf::well_known_types::any::Any;
use support::{Bench, limit, read_fifo, refusal};
use ttrpc::Code;

fn delete(id: &str, exec_id: &str) -> api::DeleteRequest {
    api::DeleteRequest {
        id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        ..Default::default()
    }
}

fn exec(id: &str, exec_id: &str, args: &[&str]) -> api::ExecProcessRequest {
    let spec = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
        value: serde_json::json!({ "args": args, "cwd": "/" })
            .to_string()
            .into_bytes(),
        ..Any::default()
    };
    api::ExecProcessRequest {
        id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        spec: Some(spec).into(),
        ..Default::default()
    }
}

fn kill(id: &str, signal: u32) -> api::KillRequest {
    api::KillRequest {
        id: id.to_owned(),
        signal,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_from_create_to_delete_in_containerds_order() {
    let bench = Bench::new().await;
    let stdout = bench.fifo("stdout");
    let mut request =
        Bench::create_request("web", &bench.bundle("web", &["print", "hello\n"], &[]));
    request.stdout = stdout.display().to_string();
    assert_eq!(
        bench.client.create(limit(), &request).await.unwrap().pid,
        4242
    );
    let reader = read_fifo(&stdout);
    assert_eq!(bench.start("web", "").await.unwrap(), 4242);
    assert_eq!(bench.wait("web", "").await, 0);
    let deleted = bench
        .client
        .delete(limit(), &delete("web", ""))
        .await
        .unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (4242, 0));
    assert_eq!(reader.join().unwrap(), b"hello\n");

    let topics = bench.events.until("/tasks/delete").await;
    assert_eq!(
        topics,
        [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete"
        ]
    );
    assert_eq!(
        bench.guest.calls()[..5],
        [
            "Check",
            "CreateSandbox",
            "GetGuestDetails",
            "CreateContainer",
            "StartContainer"
        ]
    );
    assert_eq!(bench.guest.calls().last().unwrap(), "DestroySandbox");
    assert!(bench.machine.stopped.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_is_told_to_pull_the_image() {
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    let created = bench.guest.created.lock().unwrap().clone().unwrap();
    assert_eq!(created.exec_id, "web");
    assert_eq!(created.storages[0].driver, "image_guest_pull");
    assert_eq!(created.storages[0].source, "registry/image@sha256:00");
    assert_eq!(created.OCI.Root.Path, "/run/kata-containers/web/rootfs");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_told_only_after_a_slow_reader_has_everything() {
    const FLOOD: usize = 1 << 20;
    let bench = Bench::new().await;
    let stdout = bench.fifo("stdout");
    let bundle = bench.bundle("web", &["flood", &FLOOD.to_string()], &[]);
    let mut request = Bench::create_request("web", &bundle);
    request.stdout = stdout.display().to_string();
    bench.client.create(limit(), &request).await.unwrap();
    bench.start("web", "").await.unwrap();

    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = Instant::now();
    let state = api::StateRequest {
        id: "web".to_owned(),
        ..Default::default()
    };
    let state = bench.client.state(limit(), &state).await.unwrap();
    assert_eq!(state.status.enum_value().unwrap(), api::Status::RUNNING);
    assert!(
        before.elapsed() < Duration::from_millis(500),
        "a slow reader blocks other requests"
    );
    assert!(!bench.events.topics().contains(&"/tasks/exit".to_owned()));

    let reader = read_fifo(&stdout);
    assert_eq!(bench.wait("web", "").await, 0);
    assert_eq!(reader.join().unwrap().len(), FLOOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_with_close_io_although_a_client_holds_it_open() {
    let bench = Bench::new().await;
    let (stdin, stdout) = (bench.fifo("stdin"), bench.fifo("stdout"));
    let mut request = Bench::create_request("web", &bench.bundle("web", &["cat"], &[]));
    request.stdin = stdin.display().to_string();
    request.stdout = stdout.display().to_string();
    bench.client.create(limit(), &request).await.unwrap();
    let reader = read_fifo(&stdout);
    bench.start("web", "").await.unwrap();

    let client = || std::fs::File::options().write(true).open(&stdin).unwrap();
    let mut first = client();
    let mut second = client();
    first.write_all(b"one ").unwrap();
    drop(first);
    second.write_all(b"two").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!bench.guest.calls().contains(&"CloseStdin".to_owned()));
    let close = api::CloseIORequest {
        id: "web".to_owned(),
        stdin: true,
        ..Default::default()
    };
    bench.client.close_io(limit(), &close).await.unwrap();
    assert_eq!(bench.wait("web", "").await, 0);
    assert_eq!(reader.join().unwrap(), b"one two");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_with_its_last_client_where_close_io_never_comes() {
    let bench = Bench::new().await;
    let (stdin, stdout) = (bench.fifo("stdin"), bench.fifo("stdout"));
    let mut request = Bench::create_request("web", &bench.bundle("web", &["cat"], &[]));
    request.stdin = stdin.display().to_string();
    request.stdout = stdout.display().to_string();
    bench.client.create(limit(), &request).await.unwrap();
    let reader = read_fifo(&stdout);
    // Gone before the process starts.
    let mut client = std::fs::File::options().write(true).open(&stdin).unwrap();
    client.write_all(b"early").unwrap();
    drop(client);
    bench.start("web", "").await.unwrap();
    assert_eq!(bench.wait("web", "").await, 0);
    assert_eq!(reader.join().unwrap(), b"early");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_has_its_own_events_and_status() {
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    bench.start("web", "").await.unwrap();
    bench
        .client
        .exec(limit(), &exec("web", "probe", &["exit", "3"]))
        .await
        .unwrap();
    let twice = bench
        .client
        .exec(limit(), &exec("web", "probe", &["exit", "3"]))
        .await;
    assert_eq!(refusal(twice).0, Code::ALREADY_EXISTS);
    bench.start("web", "probe").await.unwrap();
    assert_eq!(bench.wait("web", "probe").await, 3);
    let deleted = bench
        .client
        .delete(limit(), &delete("web", "probe"))
        .await
        .unwrap();
    assert_eq!(deleted.exit_status, 3);
    let topics = bench.events.until("/tasks/exit").await;
    assert_eq!(
        topics[2..],
        ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_exec_is_one_readable_line_and_leaves_the_container_alone() {
    let bench = Bench::new().await;
    let message = "[RDT-POL-001] ExecProcessRequest is blocked by policy: rule exec";
    let refused = (Code::PERMISSION_DENIED, message.to_owned());
    bench
        .guest
        .refusals
        .lock()
        .unwrap()
        .insert("ExecProcess", refused);
    bench.create("web", &["sleep"]).await;
    bench.start("web", "").await.unwrap();
    bench
        .client
        .exec(limit(), &exec("web", "sh", &["print", "x"]))
        .await
        .unwrap();
    let refused = refusal(bench.start("web", "sh").await);
    assert_eq!(refused, (Code::PERMISSION_DENIED, message.to_owned()));
    bench
        .client
        .delete(limit(), &delete("web", "sh"))
        .await
        .unwrap();
    bench.client.kill(limit(), &kill("web", 9)).await.unwrap();
    assert_eq!(bench.wait("web", "").await, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_create_stops_the_machine_and_frees_the_name() {
    let bench = Bench::new().await;
    let refused = (Code::INTERNAL, "no space left".to_owned());
    bench
        .guest
        .refusals
        .lock()
        .unwrap()
        .insert("CreateContainer", refused);
    let bundle = bench.bundle("web", &["sleep"], &[]);
    let (_, message) = refusal(
        bench
            .client
            .create(limit(), &Bench::create_request("web", &bundle))
            .await,
    );
    assert_eq!(
        message,
        "[RDT-SHIM-020] the guest agent answered CreateContainer: no space left"
    );
    assert!(bench.machine.stopped.load(Ordering::SeqCst));
    let gone = bench.client.delete(limit(), &delete("web", "")).await;
    assert_eq!(refusal(gone).0, Code::NOT_FOUND);
    assert!(bench.events.topics().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_machine_is_the_end_of_every_task() {
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    bench.start("web", "").await.unwrap();
    let (status, ()) = tokio::join!(bench.wait("web", ""), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.machine.die().await;
    });
    assert_eq!(status, 137);
    bench.events.until("/tasks/exit").await;
    bench.client.kill(limit(), &kill("web", 15)).await.unwrap();
    let deleted = bench
        .client
        .delete(limit(), &delete("web", ""))
        .await
        .unwrap();
    assert_eq!(deleted.exit_status, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_killed_before_its_start_can_be_deleted() {
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    bench.client.kill(limit(), &kill("web", 9)).await.unwrap();
    assert_eq!(bench.wait("web", "").await, 137);
    bench
        .client
        .delete(limit(), &delete("web", ""))
        .await
        .unwrap();
    let topics = bench.events.until("/tasks/delete").await;
    assert_eq!(topics, ["/tasks/create", "/tasks/exit", "/tasks/delete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_is_neither_deleted_nor_started_again() {
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    bench.start("web", "").await.unwrap();
    let (code, message) = refusal(bench.client.delete(limit(), &delete("web", "")).await);
    assert_eq!(code, Code::FAILED_PRECONDITION);
    assert_eq!(
        message,
        "[RDT-SHIM-027] this request does not fit the state of web: a process that is running cannot be deleted"
    );
    assert_eq!(
        refusal(bench.start("web", "").await).0,
        Code::FAILED_PRECONDITION
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_pod_share_its_machine() {
    let bench = Bench::new().await;
    let sandbox = bench.bundle(
        "pod",
        &["sleep"],
        &[("io.kubernetes.cri.container-type", "sandbox")],
    );
    let belongs = |pod| {
        [
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.sandbox-id", pod),
        ]
    };
    let member = bench.bundle("web", &["exit", "7"], &belongs("pod"));
    let stranger = bench.bundle("stray", &["sleep"], &belongs("elsewhere"));

    let early = bench
        .client
        .create(limit(), &Bench::create_request("web", &member))
        .await;
    assert_eq!(refusal(early).0, Code::FAILED_PRECONDITION);
    bench
        .client
        .create(limit(), &Bench::create_request("pod", &sandbox))
        .await
        .unwrap();
    assert_eq!(
        bench
            .guest
            .created
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .storages[0]
            .source,
        "pause"
    );
    bench
        .client
        .create(limit(), &Bench::create_request("web", &member))
        .await
        .unwrap();
    let stray = bench
        .client
        .create(limit(), &Bench::create_request("stray", &stranger))
        .await;
    assert_eq!(refusal(stray).0, Code::INVALID_ARGUMENT);

    bench.start("web", "").await.unwrap();
    assert_eq!(bench.wait("web", "").await, 7);
    bench
        .client
        .delete(limit(), &delete("web", ""))
        .await
        .unwrap();
    assert!(!bench.machine.stopped.load(Ordering::SeqCst));

    let shutdown = api::ShutdownRequest {
        id: "web".to_owned(),
        ..Default::default()
    };
    bench.client.shutdown(limit(), &shutdown).await.unwrap();
    assert!(
        !bench.core.shutdown_token().is_cancelled(),
        "the sandbox still exists"
    );
    bench
        .client
        .delete(limit(), &delete("pod", ""))
        .await
        .unwrap();
    assert!(bench.machine.stopped.load(Ordering::SeqCst));
    bench.client.shutdown(limit(), &shutdown).await.unwrap();
    assert!(bench.core.shutdown_token().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_and_resume_are_told() {
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    bench.start("web", "").await.unwrap();
    let id = || "web".to_owned();
    let pause = api::PauseRequest {
        id: id(),
        ..Default::default()
    };
    bench.client.pause(limit(), &pause).await.unwrap();
    assert_eq!(
        refusal(bench.client.pause(limit(), &pause).await).0,
        Code::FAILED_PRECONDITION
    );
    let resume = api::ResumeRequest {
        id: id(),
        ..Default::default()
    };
    bench.client.resume(limit(), &resume).await.unwrap();
    let topics = bench.events.until("/tasks/resumed").await;
    assert_eq!(topics[2..], ["/tasks/paused", "/tasks/resumed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_refused_as_unimplemented() {
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    let request = api::CheckpointTaskRequest {
        id: "web".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        refusal(bench.client.checkpoint(limit(), &request).await).0,
        Code::UNIMPLEMENTED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_answers_to_the_name_that_containerd_16_uses() {
    use protobuf::Message;
    let bench = Bench::new().await;
    bench.create("web", &["sleep"]).await;
    let mut request = ttrpc::Request::new();
    request.service = "containerd.task.v2.Task".to_owned();
    request.method = "State".to_owned();
    let state = api::StateRequest {
        id: "web".to_owned(),
        ..Default::default()
    };
    request.payload = state.write_to_bytes().unwrap();
    let response = bench.connection.request(request).await.unwrap();
    let state = api::StateResponse::parse_from_bytes(&response.payload).unwrap();
    assert_eq!((state.id.as_str(), state.pid), ("web", 4242));
}
