//! Signals to one process and to all.

use std::sync::Arc;

use redoubt_containers::{ContainerError, ExitStatus};

use crate::lab::{Lab, init, process, tests};

tests![
    a_first_process_without_a_handler_is_killed_by_sigterm,
    a_first_process_with_a_handler_gets_sigterm,
    an_added_process_gets_the_signal_it_is_sent,
    a_realtime_signal_is_reported,
    all_processes_can_be_signalled,
    all_processes_can_be_killed,
    signals_to_the_dead_and_wrong_signals_are_errors,
];

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;
const SIGUSR1: u32 = 10;

async fn a_first_process_without_a_handler_is_killed_by_sigterm(lab: Arc<Lab>) {
    let id = lab.run("c", "exec sleep 1000").await;
    lab.manager.signal(&init(&id), SIGTERM).unwrap();
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 137);
}

async fn a_first_process_with_a_handler_gets_sigterm(lab: Arc<Lab>) {
    let id = lab
        .run(
            "c",
            "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done",
        )
        .await;
    lab.expect(&init(&id), "up").await;
    lab.manager.signal(&init(&id), SIGTERM).unwrap();
    assert_eq!(lab.output(&init(&id)).await, "bye\n");
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 5);
}

async fn an_added_process_gets_the_signal_it_is_sent(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let exec = lab.exec(&id, "e1", process(&["sleep", "1000"])).await;
    lab.manager.signal(&exec, SIGTERM).unwrap();
    assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 143);
    let exec = lab.exec(&id, "e2", process(&["sleep", "1000"])).await;
    lab.manager.signal(&exec, SIGKILL).unwrap();
    assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 137);
}

async fn a_realtime_signal_is_reported(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let exec = lab.exec(&id, "e", process(&["sleep", "1000"])).await;
    lab.manager.signal(&exec, 40).unwrap();
    assert_eq!(
        lab.manager.wait(&exec).await.unwrap(),
        ExitStatus::Signaled(40)
    );
}

async fn all_processes_can_be_signalled(lab: Arc<Lab>) {
    let id = lab
        .run(
            "c",
            "trap 'exit 11' USR1; echo up; while :; do sleep 0.1; done",
        )
        .await;
    lab.expect(&init(&id), "up").await;
    let script = "trap 'exit 12' USR1; echo up; while :; do sleep 0.1; done";
    let exec = lab.exec(&id, "e", process(&["sh", "-c", script])).await;
    lab.expect(&exec, "up").await;
    lab.manager.signal_all(&id, SIGUSR1).unwrap();
    // The end of the first process ends the others, if they did not come first.
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 11);
    assert!(matches!(
        lab.manager.wait(&exec).await.unwrap().code(),
        12 | 137
    ));
}

async fn all_processes_can_be_killed(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let exec = lab.exec(&id, "e", process(&["sleep", "1000"])).await;
    lab.manager.signal_all(&id, SIGKILL).unwrap();
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 137);
    assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 137);
    // Killing the dead is what the caller wanted.
    lab.manager.signal_all(&id, SIGKILL).unwrap();
}

async fn signals_to_the_dead_and_wrong_signals_are_errors(lab: Arc<Lab>) {
    let id = lab.run("c", "exit 0").await;
    lab.manager.wait(&init(&id)).await.unwrap();
    let ended = lab.manager.signal(&init(&id), SIGTERM).unwrap_err();
    assert!(
        matches!(ended, ContainerError::ProcessEnded(_)),
        "{ended:?}"
    );
    for wrong in [0, 65, u32::MAX] {
        let error = lab.manager.signal(&init(&id), wrong).unwrap_err();
        assert!(
            matches!(error, ContainerError::InvalidSignal(_)),
            "{error:?}"
        );
    }
}
