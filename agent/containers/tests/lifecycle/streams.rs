//! Standard streams and terminals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redoubt_containers::{ContainerError, TerminalSize};
use serde_json::json;

use crate::lab::{Lab, init, process, shell, spec, tests, with};

tests![
    a_megabyte_of_output_arrives_complete,
    output_written_before_the_end_is_not_lost,
    input_comes_back,
    output_and_errors_are_apart,
    an_unprivileged_process_can_open_its_output_by_name,
    a_background_process_does_not_keep_the_output_open,
    writing_to_an_ended_process_is_an_error,
    writing_waits_for_a_slow_reader,
    a_terminal_has_the_size_it_is_given,
    an_added_process_can_have_a_terminal,
    a_terminal_belongs_to_its_user,
    terminal_output_ends_with_the_process,
    reads_are_bounded,
];

/// Numbers as `seq` prints them.
fn lines(numbers: std::ops::RangeInclusive<u32>, end: &str) -> String {
    numbers
        .flat_map(|number| [number.to_string(), end.to_owned()])
        .collect()
}

const MEBIBYTE: usize = 1024 * 1024;

async fn a_megabyte_of_output_arrives_complete(lab: Arc<Lab>) {
    let id = lab.run("c", "seq 1 200000 | head -c 1048576").await;
    let output = lab.output(&init(&id)).await;
    assert_eq!(output.len(), MEBIBYTE);
    let expected = lines(1..=200_000, "\n");
    assert!(expected.starts_with(&output));
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 0);
}

async fn output_written_before_the_end_is_not_lost(lab: Arc<Lab>) {
    let id = lab.run("c", "seq 1 10000; echo last >&2").await;
    lab.manager.wait(&init(&id)).await.unwrap();
    // Longer than the process's streams are waited for after its end.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let expected = lines(1..=10_000, "\n");
    assert_eq!(lab.output(&init(&id)).await, expected);
    assert_eq!(
        lab.manager.read_stderr(&init(&id), 100).await.unwrap(),
        b"last\n"
    );
    assert!(
        lab.manager
            .read_stderr(&init(&id), 100)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn input_comes_back(lab: Arc<Lab>) {
    let id = lab.run("c", "cat").await;
    let input = lines(0..=60_000, "\n");
    let writer = {
        let (lab, id, input) = (lab.clone(), id.clone(), input.clone());
        tokio::spawn(async move {
            let written = lab
                .manager
                .write_stdin(&init(&id), input.as_bytes())
                .await
                .unwrap();
            assert_eq!(written, input.len());
            lab.manager.close_stdin(&init(&id)).unwrap();
            lab.manager.close_stdin(&init(&id)).unwrap();
        })
    };
    assert!(lab.output(&init(&id)).await == input);
    writer.await.unwrap();
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 0);
    let closed = lab.manager.write_stdin(&init(&id), b"x").await.unwrap_err();
    assert!(
        matches!(closed, ContainerError::StdinClosed(_)),
        "{closed:?}"
    );
}

async fn output_and_errors_are_apart(lab: Arc<Lab>) {
    let id = lab.run("c", "echo out; echo err >&2").await;
    assert_eq!(lab.output(&init(&id)).await, "out\n");
    assert_eq!(
        lab.manager.read_stderr(&init(&id), 100).await.unwrap(),
        b"err\n"
    );
}

async fn an_unprivileged_process_can_open_its_output_by_name(lab: Arc<Lab>) {
    let script = shell("echo one > /dev/stdout; echo two > /proc/self/fd/1");
    let spec = with(script, "/process/user", json!({"uid": 1000, "gid": 1000}));
    let id = lab.start("c", spec).await;
    assert_eq!(lab.output(&init(&id)).await, "one\ntwo\n");
}

async fn a_background_process_does_not_keep_the_output_open(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let exec = lab
        .exec(&id, "e", process(&["sh", "-c", "sleep 1000 & echo done"]))
        .await;
    let begin = Instant::now();
    assert_eq!(lab.output(&exec).await, "done\n");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 0);
}

async fn writing_to_an_ended_process_is_an_error(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    // The background process holds the input, so the pipe itself does not break.
    let exec = lab
        .exec(&id, "e", process(&["sh", "-c", "sleep 1000 <&0 & exit 0"]))
        .await;
    lab.manager.wait(&exec).await.unwrap();
    let closed = lab
        .manager
        .write_stdin(&exec, &vec![0; MEBIBYTE])
        .await
        .unwrap_err();
    assert!(
        matches!(closed, ContainerError::StdinClosed(_)),
        "{closed:?}"
    );
}

async fn writing_waits_for_a_slow_reader(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 0.3; wc -c").await;
    let data = vec![b'x'; MEBIBYTE];
    assert_eq!(
        lab.manager.write_stdin(&init(&id), &data).await.unwrap(),
        MEBIBYTE
    );
    lab.manager.close_stdin(&init(&id)).unwrap();
    assert_eq!(lab.output(&init(&id)).await.trim(), "1048576");
}

fn with_terminal(process: serde_json::Value) -> serde_json::Value {
    let process = with(process, "/terminal", json!(true));
    with(process, "/consoleSize", json!({"height": 33, "width": 111}))
}

async fn a_terminal_has_the_size_it_is_given(lab: Arc<Lab>) {
    let script = "stty size; test -c /dev/console && echo console; read x; stty size; echo got $x";
    let id = lab
        .start("c", spec(with_terminal(process(&["sh", "-c", script]))))
        .await;
    let output = lab.expect(&init(&id), "console").await;
    assert!(output.starts_with("33 111\r\n"), "{output:?}");
    let size = TerminalSize {
        rows: 50,
        columns: 200,
    };
    lab.manager.resize(&init(&id), size).unwrap();
    lab.manager
        .write_stdin(&init(&id), b"word\n")
        .await
        .unwrap();
    let output = lab.output(&init(&id)).await;
    assert!(output.ends_with("50 200\r\ngot word\r\n"), "{output:?}");
    assert!(
        lab.manager
            .read_stderr(&init(&id), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 0);

    let id = lab.run("d", "sleep 1000").await;
    let refused = lab.manager.resize(&init(&id), size).unwrap_err();
    assert!(
        matches!(refused, ContainerError::NoTerminal(_)),
        "{refused:?}"
    );
}

async fn an_added_process_can_have_a_terminal(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let script = "tty; stty size; ps -o tty= | head -n 1; exit 4";
    let exec = lab
        .exec(&id, "e", with_terminal(process(&["sh", "-c", script])))
        .await;
    let output = lab.output(&exec).await;
    assert!(output.starts_with("/dev/pts/0\r\n33 111\r\n"), "{output:?}");
    assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 4);
}

async fn a_terminal_belongs_to_its_user(lab: Arc<Lab>) {
    let script = "echo one > /dev/tty; echo two > $(tty)";
    let process = with(
        process(&["sh", "-c", script]),
        "/user",
        json!({"uid": 1000, "gid": 1000}),
    );
    let id = lab.start("c", spec(with_terminal(process))).await;
    assert_eq!(lab.output(&init(&id)).await, "one\r\ntwo\r\n");
}

async fn terminal_output_ends_with_the_process(lab: Arc<Lab>) {
    let script = "seq 1 5000; exit 6";
    let id = lab
        .start("c", spec(with_terminal(process(&["sh", "-c", script]))))
        .await;
    let output = lab.output(&init(&id)).await;
    let expected = lines(1..=5000, "\r\n");
    assert!(output == expected);
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 6);
    let closed = lab.manager.write_stdin(&init(&id), b"x").await;
    assert!(
        matches!(closed, Err(ContainerError::StdinClosed(_))),
        "{closed:?}"
    );
}

async fn reads_are_bounded(lab: Arc<Lab>) {
    let id = lab.run("c", "seq 1 1000000").await;
    let empty = lab.manager.read_stdout(&init(&id), 0).await.unwrap_err();
    assert!(matches!(empty, ContainerError::EmptyRead));
    assert_eq!(lab.manager.read_stdout(&init(&id), 1).await.unwrap(), b"1");
    let much = lab
        .manager
        .read_stdout(&init(&id), usize::MAX)
        .await
        .unwrap();
    assert!(much.len() <= redoubt_containers::MAX_READ_BYTES);
}
