//! What goes wrong is told by a typed error on one line, and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use redoubt_containers::{ContainerError, ContainerId, ContainerState, ProcessId};
use redoubt_errors::{OneLine, UserError};
use serde_json::{Value, json};

use crate::lab::{Lab, init, parse, process, process_of, shell, spec, tests, with};

tests![
    malformed_specifications_leave_nothing,
    a_missing_program_is_told_by_create,
    an_unrunnable_program_is_told_in_the_containers_errors,
    a_failed_mount_is_told_with_its_cause,
    an_added_process_that_cannot_run_leaves_the_container_alone,
    the_order_of_operations_is_enforced,
    a_helper_that_takes_too_long_is_given_up,
    limits_on_numbers_hold,
    an_abandoned_creation_is_finished,
];

/// Environment and arguments hold this word; no error may.
const SECRET: &str = "topsecret";

fn check_message(error: &ContainerError) -> String {
    let line = OneLine(error).to_string();
    assert!(!line.contains(SECRET), "{line}");
    assert!(!line.contains('\n') && line.len() < 2000, "{line}");
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
    line
}

fn secretive() -> Value {
    let process = process(&["sh", "-c", "true", SECRET]);
    spec(with(
        process,
        "/env",
        json!(["PATH=/bin", format!("PASSWORD={SECRET}")]),
    ))
}

async fn refused(lab: &Lab, spec: Value) -> ContainerError {
    let id = ContainerId::parse("c").unwrap();
    let error = lab
        .manager
        .create(&id, parse(spec), lab.rootfs())
        .await
        .unwrap_err();
    assert!(lab.manager.list().is_empty());
    lab.assert_nothing_left();
    error
}

async fn malformed_specifications_leave_nothing(lab: Arc<Lab>) {
    for (pointer, value, code) in [
        ("/process", json!(null), "RDT-CTR-002"),
        ("/process/args", json!([]), "RDT-CTR-002"),
        ("/process/env", json!([format!("={SECRET}")]), "RDT-CTR-002"),
        ("/linux", json!(null), "RDT-CTR-002"),
        ("/linux/namespaces", json!([{"type": "pid"}]), "RDT-CTR-002"),
        (
            "/hooks",
            json!({"poststop": [{"path": "/bin/true"}]}),
            "RDT-CTR-003",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            "RDT-CTR-003",
        ),
        ("/root/path", json!("/no/such/folder"), "RDT-CTR-027"),
        ("/ociVersion", json!("2.0.0"), "RDT-CTR-015"),
        (
            "/linux/sysctl",
            json!({"kernel.no.such": "1"}),
            "RDT-CTR-015",
        ),
        (
            "/process/cwd",
            json!("/bin/sh/inside-a-file"),
            "RDT-CTR-027",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "pid", "path": "/no"}, {"type": "uts"}]),
            "RDT-CTR-015",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}]),
            "RDT-CTR-015",
        ),
    ] {
        let error = refused(&lab, with(secretive(), pointer, value)).await;
        let line = check_message(&error);
        assert_eq!(error.code().0, code, "{pointer}: {line}");
    }
    // After all of them a good one works.
    let id = lab.start("c", secretive()).await;
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 0);
}

async fn a_missing_program_is_told_by_create(lab: Arc<Lab>) {
    for program in [SECRET, "/no/such/topsecret", "/etc/passwd", "/bin"] {
        let error = refused(&lab, with(secretive(), "/process/args", json!([program]))).await;
        let line = check_message(&error);
        assert!(line.contains("the process's program"), "{line}");
    }
}

async fn an_unrunnable_program_is_told_in_the_containers_errors(lab: Arc<Lab>) {
    use std::os::unix::fs::PermissionsExt;
    let path = lab.rootfs().join("bin/broken");
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let id = lab.start("c", spec(process(&["broken", SECRET]))).await;
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 127);
    let errors = lab.manager.read_stderr(&init(&id), 1000).await.unwrap();
    let errors = String::from_utf8(errors).unwrap();
    assert!(
        errors.starts_with("redoubt: cannot run the program: "),
        "{errors}"
    );
    assert!(!errors.contains(SECRET));
}

async fn a_failed_mount_is_told_with_its_cause(lab: Arc<Lab>) {
    let mut spec = secretive();
    let mount = json!({"destination": "/mnt", "type": "bind", "source": "/no/such/source",
                       "options": ["rbind"]});
    spec["mounts"].as_array_mut().unwrap().push(mount);
    let line = check_message(&refused(&lab, spec).await);
    assert!(
        line.contains("/no/such/source") || line.contains("No such file"),
        "{line}"
    );
}

async fn an_added_process_that_cannot_run_leaves_the_container_alone(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let exec = ProcessId::from_request("c", "e").unwrap();
    for (pointer, value) in [
        ("/args", json!([format!("/no/{SECRET}")])),
        ("/args", json!([])),
        ("/cwd", json!("/no/such/folder")),
        ("/cwd", json!("relative")),
    ] {
        let broken = with(process(&["true", SECRET]), pointer, value);
        let error = lab
            .manager
            .exec(&exec, process_of(broken))
            .await
            .unwrap_err();
        check_message(&error);
        let missing = lab.manager.wait(&exec).await.unwrap_err();
        assert!(
            matches!(missing, ContainerError::NoSuchProcess(_)),
            "{missing:?}"
        );
    }
    assert_eq!(lab.manager.state(&id).unwrap(), ContainerState::Running);
    assert_eq!(lab.manager.pids(&id).unwrap().len(), 1);
    let exec = lab.exec(&id, "e", process(&["true"])).await;
    assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 0);
}

async fn the_order_of_operations_is_enforced(lab: Arc<Lab>) {
    let unknown = ContainerId::parse("unknown").unwrap();
    assert!(matches!(
        lab.manager.start(&unknown).await,
        Err(ContainerError::NoSuchContainer(_))
    ));
    assert!(matches!(
        lab.manager.remove(&unknown).await,
        Err(ContainerError::NoSuchContainer(_))
    ));

    let id = lab.create("c", shell("sleep 1000")).await;
    let twice = lab
        .manager
        .create(&id, parse(shell("true")), lab.rootfs())
        .await;
    assert!(
        matches!(twice, Err(ContainerError::AlreadyExists(_))),
        "{twice:?}"
    );
    let exec = ProcessId::from_request("c", "e").unwrap();
    let early = lab
        .manager
        .exec(&exec, process_of(process(&["true"])))
        .await
        .unwrap_err();
    assert_eq!(
        OneLine(&early).to_string(),
        "[RDT-CTR-008] cannot run a process in container c: it is created, but not started"
    );
    lab.manager.start(&id).await.unwrap();
    let again = lab.manager.start(&id).await.unwrap_err();
    assert!(
        matches!(again, ContainerError::WrongState { .. }),
        "{again:?}"
    );
    lab.manager.signal_all(&id, 9).unwrap();
    lab.manager.wait(&init(&id)).await.unwrap();
    let late = lab
        .manager
        .exec(&exec, process_of(process(&["true"])))
        .await
        .unwrap_err();
    assert!(
        matches!(late, ContainerError::WrongState { .. }),
        "{late:?}"
    );
}

async fn a_helper_that_takes_too_long_is_given_up(_: Arc<Lab>) {
    let lab = Lab::new(|config| config.helper_timeout = Duration::ZERO);
    let id = ContainerId::parse("c").unwrap();
    let mut given_up = 0;
    for _attempt in 0..20 {
        match lab
            .manager
            .create(&id, parse(secretive()), lab.rootfs())
            .await
        {
            Err(error) => {
                assert!(
                    matches!(error, ContainerError::HelperTimeout { .. }),
                    "{error:?}"
                );
                given_up += 1;
            }
            // On a busy machine the helper may be done before anybody looks at the time.
            Ok(_) => lab.manager.remove(&id).await.unwrap(),
        }
        // Whatever the helper was doing when it was killed, nothing of it appears later.
        tokio::time::sleep(Duration::from_millis(10)).await;
        lab.assert_nothing_left();
    }
    assert!(given_up > 0);
    lab.manager.destroy_all().await.unwrap();
}

async fn limits_on_numbers_hold(_: Arc<Lab>) {
    let lab = Lab::new(|config| {
        config.max_containers = 1;
        config.max_execs = 1;
    });
    let id = lab.run("c", "sleep 1000").await;
    let other = ContainerId::parse("d").unwrap();
    let error = lab
        .manager
        .create(&other, parse(shell("true")), lab.rootfs())
        .await
        .unwrap_err();
    assert!(matches!(error, ContainerError::TooMany { .. }), "{error:?}");
    let first = lab.exec(&id, "e", process(&["sleep", "1000"])).await;
    let second = ProcessId::from_request("c", "f").unwrap();
    let error = lab
        .manager
        .exec(&second, process_of(process(&["true"])))
        .await
        .unwrap_err();
    assert!(matches!(error, ContainerError::TooMany { .. }), "{error:?}");
    lab.manager.signal(&first, 9).unwrap();
    lab.manager.wait(&first).await.unwrap();
    lab.exec(&id, "f", process(&["true"])).await;
    lab.manager.destroy_all().await.unwrap();
    lab.assert_nothing_left();
}

async fn an_abandoned_creation_is_finished(lab: Arc<Lab>) {
    let id = ContainerId::parse("c").unwrap();
    let creation = lab.manager.create(&id, parse(shell("true")), lab.rootfs());
    // The caller gives up at once; what was begun is not left half-done.
    assert!(
        tokio::time::timeout(Duration::from_micros(1), creation)
            .await
            .is_err()
    );
    while lab.manager.state(&id).unwrap() == ContainerState::Creating {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lab.manager.start(&id).await.unwrap();
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 0);
}
