//! From creation to removal.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use redoubt_containers::{ContainerError, ContainerState, ExitStatus};
use serde_json::json;

use crate::lab::{Lab, init, process, shell, spec, tests, with};

tests![
    the_exit_status_is_told_to_every_waiter_and_remembered,
    a_created_container_waits_for_its_start,
    an_added_process_has_its_own_status_and_environment,
    a_missing_home_comes_from_the_containers_passwd,
    a_missing_working_folder_is_made,
    the_workload_inherits_nothing_of_the_agent,
    containerds_default_specification_runs,
    network_settings_reach_the_shared_network,
    a_paused_container_stands_still,
    removing_ends_every_process_and_leaves_nothing,
    many_added_processes_leave_no_file_and_are_forgotten_in_time,
    ten_containers_run_side_by_side,
    statistics_count_processor_time,
    limits_can_be_changed_where_the_kernel_has_the_controller,
    the_out_of_memory_killer_is_told_where_the_kernel_has_the_controller,
    orphans_are_collected,
];

tests![ALONE: many_short_containers_leak_no_descriptor];

async fn the_exit_status_is_told_to_every_waiter_and_remembered(lab: Arc<Lab>) {
    let id = lab.run("c", "exit 7").await;
    let waiters: Vec<_> = (0..5)
        .map(|_| {
            let (manager, process) = (lab.manager.clone(), init(&id));
            tokio::spawn(async move { manager.wait(&process).await.unwrap() })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().code(), 7);
    }
    assert_eq!(
        lab.manager.wait(&init(&id)).await.unwrap(),
        ExitStatus::Exited(7)
    );
    assert_eq!(lab.manager.state(&id).unwrap(), ContainerState::Stopped);
    lab.manager.remove(&id).await.unwrap();
    let gone = lab.manager.wait(&init(&id)).await.unwrap_err();
    assert!(
        matches!(gone, ContainerError::NoSuchContainer(_)),
        "{gone:?}"
    );
    lab.assert_nothing_left();
}

async fn a_created_container_waits_for_its_start(lab: Arc<Lab>) {
    let id = lab.create("c", shell("echo started")).await;
    assert_eq!(lab.manager.state(&id).unwrap(), ContainerState::Created);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(lab.manager.pid(&init(&id)).unwrap() > 1);
    assert_eq!(lab.manager.state(&id).unwrap(), ContainerState::Created);
    lab.manager.start(&id).await.unwrap();
    assert_eq!(lab.output(&init(&id)).await, "started\n");
    // One that is never started can be removed as well.
    let id = lab.create("d", shell("echo started")).await;
    lab.manager.remove(&id).await.unwrap();
}

async fn an_added_process_has_its_own_status_and_environment(lab: Arc<Lab>) {
    let id = lab.run("c", "exec sleep 1000").await;
    let script = "echo $GREETING $EXTRA $(pwd) $(hostname) $(id -u) $(cat /proc/1/comm); exit 3";
    let added = with(process(&["sh", "-c", script]), "/cwd", json!("/tmp"));
    let added = with(added, "/env", json!(["PATH=/bin", "EXTRA=more"]));
    let added = with(added, "/user", json!({"uid": 1000, "gid": 1000}));
    let exec = lab.exec(&id, "e1", added).await;
    assert_eq!(lab.output(&exec).await, "more /tmp box 1000 sleep\n");
    assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 3);
    assert_eq!(lab.manager.state(&id).unwrap(), ContainerState::Running);
}

async fn a_missing_home_comes_from_the_containers_passwd(lab: Arc<Lab>) {
    let id = lab
        .start("c", spec(process(&["sh", "-c", "echo $HOME; sleep 1000"])))
        .await;
    assert_eq!(lab.expect(&init(&id), "\n").await, "/root\n");
    let web = with(
        process(&["sh", "-c", "echo $HOME"]),
        "/user",
        json!({"uid": 1000, "gid": 0}),
    );
    let exec = lab.exec(&id, "e1", web).await;
    assert_eq!(lab.output(&exec).await, "/srv\n");
}

async fn a_missing_working_folder_is_made(lab: Arc<Lab>) {
    let id = lab
        .start(
            "c",
            with(shell("pwd"), "/process/cwd", json!("/var/new/place")),
        )
        .await;
    assert_eq!(lab.output(&init(&id)).await, "/var/new/place\n");
}

async fn the_workload_inherits_nothing_of_the_agent(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let ls = lab.exec(&id, "ls", process(&["ls", "/proc/self/fd"])).await;
    // The listing opens the folder as number 3.
    assert_eq!(lab.output(&ls).await, "0\n1\n2\n3\n");
    let cat = lab
        .exec(&id, "cat", process(&["cat", "/proc/self/status"]))
        .await;
    let status = lab.output(&cat).await;
    for line in [
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "CapEff:\t00000000000000e1",
    ] {
        assert!(status.contains(line), "{status}");
    }
    let env = lab.exec(&id, "env", process(&["env"])).await;
    let env = lab.output(&env).await;
    let env: BTreeSet<_> = env.lines().collect();
    assert_eq!(
        env,
        BTreeSet::from(["GREETING=hello", "HOME=/root", "PATH=/bin"])
    );
    let cgroup = lab
        .exec(&id, "cgroup", process(&["cat", "/proc/self/cgroup"]))
        .await;
    let group = format!("0::/{}/c\n", lab.config.cgroup_parent);
    assert!(lab.output(&cgroup).await.ends_with(&group));
}

/// What `ctr run` of containerd 2 asks for, without a network namespace and devices of the host.
fn containerds_default() -> serde_json::Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ]);
    let mount = |destination, kind, source, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]},
            "args": ["sh", "-c", "df /dev/shm /run > /dev/null && ls /sys/fs/cgroup | head -n 1; \
                      touch /x 2>/dev/null || echo read-only; ulimit -n; cat /proc/self/oom_score_adj; \
                      head -c 1 /proc/kcore | wc -c; id -G"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
            "oomScoreAdj": 500,
        },
        "root": {"path": "", "readonly": true},
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                  &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm",
                  &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
            mount("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "cgroupsPath": "/default/c",
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/sys/devices/virtual/powercap", "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

async fn containerds_default_specification_runs(lab: Arc<Lab>) {
    let id = lab.start("c", containerds_default()).await;
    let output = lab.output(&init(&id)).await;
    let lines: Vec<_> = output.lines().collect();
    let expected = [
        "cgroup.controllers",
        "read-only",
        "1024",
        "500",
        "0",
        "0 10",
    ];
    assert_eq!(lines, expected, "{output}");
    assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 0);
}

async fn network_settings_reach_the_shared_network(lab: Arc<Lab>) {
    let name = "net.ipv4.ip_unprivileged_port_start";
    let script = shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    let id = lab
        .start("c", with(script, "/linux/sysctl", json!({name: "77"})))
        .await;
    assert_eq!(lab.output(&init(&id)).await, "77\n");
}

async fn a_paused_container_stands_still(lab: Arc<Lab>) {
    let id = lab.run("c", "while true; do :; done").await;
    let used = || lab.manager.stats(&id).unwrap().cpu.total_usage_ns;
    lab.manager.pause(&id).await.unwrap();
    assert_eq!(lab.manager.state(&id).unwrap(), ContainerState::Paused);
    let before = used();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(used(), before);

    let exec = redoubt_containers::ProcessId::from_request("c", "e").unwrap();
    let refused = lab
        .manager
        .exec(&exec, crate::lab::process_of(process(&["true"])))
        .await;
    assert!(
        matches!(refused, Err(ContainerError::WrongState { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        lab.manager.pause(&id).await,
        Err(ContainerError::WrongState { .. })
    ));

    lab.manager.resume(&id).await.unwrap();
    assert_eq!(lab.manager.state(&id).unwrap(), ContainerState::Running);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(used() > before);
    assert!(matches!(
        lab.manager.resume(&id).await,
        Err(ContainerError::WrongState { .. })
    ));

    // A paused one can be removed.
    lab.manager.pause(&id).await.unwrap();
    lab.manager.remove(&id).await.unwrap();
    lab.assert_nothing_left();
}

async fn removing_ends_every_process_and_leaves_nothing(lab: Arc<Lab>) {
    let id = lab
        .run("c", "sleep 1000 & sleep 1000 & echo up; wait")
        .await;
    lab.expect(&init(&id), "up").await;
    let exec = lab
        .exec(
            &id,
            "e1",
            process(&["sh", "-c", "trap '' TERM; sleep 1000"]),
        )
        .await;
    let pids = lab.manager.pids(&id).unwrap();
    assert!(pids.len() >= 4, "{pids:?}");
    let waiter = {
        let manager = lab.manager.clone();
        tokio::spawn(async move { manager.wait(&exec).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    lab.manager.remove(&id).await.unwrap();
    for pid in pids {
        assert!(
            fs::metadata(format!("/proc/{pid}")).is_err(),
            "{pid} is left"
        );
    }
    assert_eq!(waiter.await.unwrap().unwrap().code(), 137);
    lab.assert_nothing_left();
    // The name is free again.
    lab.run("c", "true").await;
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn many_short_containers_leak_no_descriptor(lab: Arc<Lab>) {
    let cycles = async |count| {
        for _ in 0..count {
            let id = lab.run("c", "echo out; echo err >&2").await;
            assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), 0);
            lab.manager.remove(&id).await.unwrap();
        }
        // Tasks that were told to end may still hold a descriptor.
        tokio::time::sleep(Duration::from_millis(100)).await;
        open_descriptors()
    };
    let before = cycles(5).await;
    assert_eq!(cycles(200).await, before);
    lab.assert_nothing_left();
}

async fn many_added_processes_leave_no_file_and_are_forgotten_in_time(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    for round in 0..80 {
        let exec = lab
            .exec(&id, &format!("e{round}"), process(&["true"]))
            .await;
        assert_eq!(lab.manager.wait(&exec).await.unwrap().code(), 0);
    }
    let name = |exec| redoubt_containers::ProcessId::from_request("c", exec).unwrap();
    let forgotten = lab.manager.wait(&name("e0")).await.unwrap_err();
    assert!(
        matches!(forgotten, ContainerError::NoSuchProcess(_)),
        "{forgotten:?}"
    );
    assert_eq!(lab.manager.wait(&name("e79")).await.unwrap().code(), 0);
    let bundle: Vec<_> = fs::read_dir(lab.config.state_dir.join("bundles/c"))
        .unwrap()
        .collect();
    assert_eq!(bundle.len(), 1, "{bundle:?}");
    let state: Vec<_> = fs::read_dir(lab.config.state_dir.join("state/c"))
        .unwrap()
        .flatten()
        .collect();
    assert!(state.len() <= 3, "{state:?}");
    // An ended process's name may be used again, a running one's may not.
    let exec = lab.exec(&id, "e79", process(&["sleep", "1000"])).await;
    let again = lab
        .manager
        .exec(&exec, crate::lab::process_of(process(&["true"])))
        .await;
    assert!(
        matches!(again, Err(ContainerError::ExecIdInUse(_))),
        "{again:?}"
    );
}

async fn ten_containers_run_side_by_side(lab: Arc<Lab>) {
    let tasks: Vec<_> = (0..10)
        .map(|number| {
            let lab = lab.clone();
            tokio::spawn(async move {
                let id = lab
                    .run(&format!("c{number}"), &format!("cat; exit {number}"))
                    .await;
                let input = format!("input of {number}");
                lab.manager
                    .write_stdin(&init(&id), input.as_bytes())
                    .await
                    .unwrap();
                let exec = lab
                    .exec(&id, "e", process(&["sh", "-c", "echo $PPID"]))
                    .await;
                assert_eq!(lab.output(&exec).await, "0\n");
                lab.manager.close_stdin(&init(&id)).unwrap();
                assert_eq!(lab.output(&init(&id)).await, input);
                assert_eq!(lab.manager.wait(&init(&id)).await.unwrap().code(), number);
                lab.manager.remove(&id).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(lab.manager.list().is_empty());
    lab.assert_nothing_left();
}

async fn statistics_count_processor_time(lab: Arc<Lab>) {
    let id = lab
        .run("c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat")
        .await;
    let mut used = 0;
    while used == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        used = lab.manager.stats(&id).unwrap().cpu.total_usage_ns;
    }
    lab.manager.remove(&id).await.unwrap();
    assert!(matches!(
        lab.manager.stats(&id),
        Err(ContainerError::NoSuchContainer(_))
    ));
}

async fn limits_can_be_changed_where_the_kernel_has_the_controller(lab: Arc<Lab>) {
    let id = lab.run("c", "sleep 1000").await;
    let limits = json!({"pids": {"limit": 7}});
    let result = lab
        .manager
        .update(&id, &serde_json::from_value(limits).unwrap());
    let group = lab.cgroup().join("c");
    if fs::read_to_string(group.join("cgroup.controllers"))
        .unwrap()
        .contains("pids")
    {
        result.unwrap();
        assert_eq!(
            fs::read_to_string(group.join("pids.max")).unwrap().trim(),
            "7"
        );
        assert_eq!(lab.manager.stats(&id).unwrap().pids.limit, 7);
    } else {
        assert!(
            matches!(result, Err(ContainerError::Resources { .. })),
            "{result:?}"
        );
    }
}

async fn the_out_of_memory_killer_is_told_where_the_kernel_has_the_controller(lab: Arc<Lab>) {
    let limits = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    // tail keeps the endless line in memory.
    let spec = with(shell("tail -n 1 /dev/zero"), "/linux/resources", limits);
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    if !controllers.contains("memory") {
        // A limit that cannot be enforced is not silently dropped.
        let id = redoubt_containers::ContainerId::parse("c").unwrap();
        let refused = lab
            .manager
            .create(&id, crate::lab::parse(spec), lab.rootfs())
            .await;
        assert!(
            matches!(refused, Err(ContainerError::Runtime { .. })),
            "{refused:?}"
        );
        lab.assert_nothing_left();
        return;
    }
    let other = lab.run("other", "sleep 1000").await;
    let id = lab.start("c", spec).await;
    assert_eq!(lab.manager.next_oom().await.unwrap(), id);
    lab.manager.wait(&init(&id)).await.unwrap();
    let stats = lab.manager.stats(&id).unwrap();
    assert_eq!(stats.memory.usage.limit_bytes, 16 << 20);
    assert!(stats.memory.usage.fail_count > 0);
    assert_eq!(lab.manager.state(&other).unwrap(), ContainerState::Running);
}

async fn orphans_are_collected(lab: Arc<Lab>) {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "sh -c 'sleep 0.2; exit 5' & echo $!; exit 3"]);
    command.stdout(std::process::Stdio::piped());
    let mut output = tempfile::tempfile().unwrap();
    command.stdout(output.try_clone().unwrap());
    let child = lab.reaper.spawn(&mut command).unwrap();
    assert_eq!(child.exit.wait().await.unwrap(), ExitStatus::Exited(3));
    let orphan = {
        use std::io::{Read, Seek};
        let mut text = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut text).unwrap();
        text.trim().to_owned()
    };
    // A zombie would keep the entry; the sleep above ends by itself.
    while fs::metadata(format!("/proc/{orphan}")).is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
