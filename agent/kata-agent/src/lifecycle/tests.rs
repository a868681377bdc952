use redoubt_agent_api::agent::Storage;

use super::*;
use crate::sandbox::Sandbox;
use crate::service::tests::agent;

/// No registry listens there.
const IMAGE: &str =
    "127.0.0.1:1/i@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn request(id: &str) -> CreateContainerRequest {
    CreateContainerRequest {
        container_id: id.to_owned(),
        storages: vec![Storage {
            driver: GUEST_PULL.to_owned(),
            source: IMAGE.to_owned(),
            ..Storage::default()
        }],
        OCI: Some(oci::Spec::new()).into(),
        ..CreateContainerRequest::default()
    }
}

fn id(id: &str) -> ContainerId {
    ContainerId::parse(id).unwrap()
}

#[tokio::test]
async fn a_second_request_for_a_name_leaves_the_container_alone() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), "");
    *agent.sandbox() = Some(Sandbox::default());
    let bundle = agent.folders.bundles.join("web");
    let mut made = Made::nothing(bundle.clone());
    made.make_bundle().unwrap();
    fs::write(bundle.join("data"), "kept").unwrap();
    agent.reserve(&id("web")).unwrap();
    agent.settle(id("web"), made, Ok(())).await.unwrap();

    let error = agent
        .clone()
        .create_container(request("web"))
        .await
        .unwrap_err();
    let is_taken = matches!(
        error,
        AgentError::Container(ContainerError::AlreadyExists(_))
    );
    assert!(is_taken, "{error}");
    assert_eq!(fs::read_to_string(bundle.join("data")).unwrap(), "kept");
    assert!(matches!(
        agent.slots().get(&id("web")),
        Some(Slot::Ready(_))
    ));
}

#[tokio::test]
async fn a_container_that_cannot_be_made_leaves_nothing_but_its_name_free() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), "");
    *agent.sandbox() = Some(Sandbox::default());
    let place = agent.folders.sandbox.join("data");
    for _ in 0..2 {
        let mut request = request("web");
        request.storages.push(Storage {
            driver: "local".to_owned(),
            mount_point: place.to_str().unwrap().to_owned(),
            ..Storage::default()
        });
        let error = agent.clone().create_container(request).await.unwrap_err();
        assert!(matches!(error, AgentError::Image { .. }), "{error}");
        assert!(!place.exists());
        assert!(!agent.folders.bundles.join("web").exists());
        assert!(agent.slots().is_empty());
    }
}

#[tokio::test]
async fn names_of_the_pods_own_folders_are_names_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), "");
    *agent.sandbox() = Some(Sandbox::default());
    fs::create_dir_all(agent.folders.sandbox.join("shm")).unwrap();
    fs::create_dir_all(&agent.folders.shared).unwrap();
    for name in ["sandbox", "shared"] {
        let error = agent
            .clone()
            .create_container(request(name))
            .await
            .unwrap_err();
        assert!(matches!(error, AgentError::Image { .. }), "{error}");
    }
    assert!(agent.folders.sandbox.join("shm").is_dir());
    assert!(agent.folders.shared.is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_stops_waiting_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), "");
    *agent.sandbox() = Some(Sandbox::default());
    let creation = agent.clone().create_container(request("web"));
    // The client hangs up: the call's future is dropped.
    let waited = tokio::time::timeout(Duration::from_millis(1), creation).await;
    assert!(waited.is_err());
    tokio::time::timeout(Duration::from_secs(10), async {
        while !agent.slots().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(!agent.folders.bundles.join("web").exists());
}

#[tokio::test]
async fn a_container_made_while_the_sandbox_ends_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), "");
    agent.reserve(&id("web")).unwrap();
    let mut made = Made::nothing(agent.folders.bundles.join("web"));
    made.make_bundle().unwrap();
    agent.clone().destroy_sandbox().await.unwrap();
    let error = agent.settle(id("web"), made, Ok(())).await.unwrap_err();
    assert!(matches!(error, AgentError::NoSandbox), "{error}");
    assert!(!agent.folders.bundles.join("web").exists());
    assert!(agent.slots().is_empty());
}

#[tokio::test]
async fn a_container_that_is_being_made_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), "");
    agent.reserve(&id("web")).unwrap();
    for seconds in [0, 1] {
        let removal = agent.clone().remove_container(id("web"), seconds).await;
        let error = removal.unwrap_err();
        let is_refused = matches!(
            error,
            AgentError::Container(ContainerError::WrongState { .. })
        );
        assert!(is_refused, "{error}");
    }
    assert!(agent.slots().contains_key(&id("web")));
}

#[tokio::test]
async fn without_a_sandbox_there_are_no_containers() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), "");
    let error = agent
        .clone()
        .create_container(request("web"))
        .await
        .unwrap_err();
    assert!(matches!(error, AgentError::NoSandbox), "{error}");
    assert!(agent.slots().is_empty());
}
