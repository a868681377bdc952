//! Starting processes, watching them, and ending them.

use std::sync::Arc;
use std::time::SystemTime;

use containerd_shim_protos::api::{KillRequest, StartRequest, StartResponse};
use containerd_shim_protos::events::task::{TaskExecStarted, TaskExit, TaskStart};
use protobuf::well_known_types::empty::Empty;
use redoubt_agent_api::agent::{
    ExecProcessRequest, SignalProcessRequest, StartContainerRequest, TtyWinResizeRequest,
};
use redoubt_agent_api::stage::Stage;

use super::core::Core;
use crate::error::{Result, ShimError};
use crate::events::timestamp;
use crate::pod::Pod;
use crate::process::{Process, TerminalSize};
use crate::process_state::{Event, Exit, Phase};
use crate::stdio::RunningIo;

/// Status of processes whose machine ended: as if killed by SIGKILL.
pub(super) const KILLED: u32 = 128 + SIGKILL;
/// Status of processes whose end the agent could not tell.
const UNKNOWN: u32 = 255;
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

impl Core {
    pub(super) async fn start(self: Arc<Self>, request: StartRequest) -> Result<StartResponse> {
        let process = self.process(&request.id, &request.exec_id)?;
        let pod = self.pod_for(&request.id)?;
        process.apply(Event::Start)?;
        if let Err(error) = start_in_guest(&pod, &process).await {
            // Fails only where the machine's end has ended the process, too.
            let _ = process.apply(Event::StartFailed);
            // Whoever waits for the end of the streams must not wait for ever.
            process.close_streams();
            return Err(pod.explain(error).await);
        }
        process.apply(Event::Started)?;
        let pid = pod.machine.pid();
        self.announce_start(&process, pid);
        if process.exec_id.is_empty() {
            pod.machine
                .record(Stage::ContainerStarted, &process.name.container);
        }
        if let Some(size) = process.remembered_size()
            && let Err(error) = resize(&pod, &process, size).await
        {
            tracing::warn!(error = error.one_line(), "cannot set the terminal's size");
        }
        tokio::spawn(self.supervise(pod, process));
        Ok(StartResponse {
            pid,
            ..StartResponse::default()
        })
    }

    fn announce_start(&self, process: &Process, pid: u32) {
        let container_id = process.name.container.clone();
        if process.exec_id.is_empty() {
            self.events.send(&TaskStart {
                container_id,
                pid,
                ..TaskStart::default()
            });
        } else {
            self.events.send(&TaskExecStarted {
                container_id,
                exec_id: process.exec_id.clone(),
                pid,
                ..TaskExecStarted::default()
            });
        }
    }

    /// Copies a process's streams, waits for its end, and tells containerd once all of its
    /// output has been delivered.
    async fn supervise(self: Arc<Self>, pod: Arc<Pod>, process: Arc<Process>) {
        let Some(streams) = process.take_streams() else {
            return;
        };
        let mut io = RunningIo::start(&pod.agent, &process.name, streams, process.stdin_close());
        let status = wait_for_end(&pod, &process).await;
        let at = SystemTime::now();
        io.drain().await;
        self.finish(&pod, &process, Exit { status, at });
        // A reader that has stalled keeps its data until containerd deletes the process.
        let mut phase = process.watch();
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Deleted) => {}
            () = io.delivered() => {}
        }
    }

    /// Notes the end of a process and tells containerd, once.
    pub(super) fn finish(&self, pod: &Pod, process: &Process, exit: Exit) {
        if process.apply(Event::Exited(exit)).is_err() {
            return;
        }
        process.close_streams();
        if process.exec_id.is_empty() {
            pod.machine.record(Stage::Exited, &exit.status.to_string());
        }
        self.events.send(&TaskExit {
            container_id: process.name.container.clone(),
            id: process.name.exec.clone(),
            pid: pod.machine.pid(),
            exit_status: exit.status,
            exited_at: Some(timestamp(exit.at)).into(),
            ..TaskExit::default()
        });
    }

    pub(super) async fn kill(self: Arc<Self>, request: KillRequest) -> Result<Empty> {
        let process = self.process(&request.id, &request.exec_id)?;
        match process.phase() {
            Phase::Stopped(_) | Phase::Deleted => {}
            Phase::Created if matches!(request.signal, SIGKILL | SIGTERM) => {
                let status = 128 + request.signal;
                let pod = self.pod_for(&request.id)?;
                self.finish(
                    &pod,
                    &process,
                    Exit {
                        status,
                        at: SystemTime::now(),
                    },
                );
            }
            Phase::Created => return Err(refused(&process, "get this signal")),
            Phase::Starting | Phase::Running | Phase::Paused => {
                let pod = self.pod_for(&request.id)?;
                signal(&pod, &process, request.signal, request.all).await?;
            }
        }
        Ok(Empty::new())
    }
}

/// The error for a request that a process's phase forbids.
pub(super) fn refused(process: &Process, what: &'static str) -> ShimError {
    let source = process.phase().refuse(what);
    ShimError::WrongState {
        what: process.name.exec.clone(),
        source,
    }
}

async fn start_in_guest(pod: &Pod, process: &Process) -> Result<()> {
    let container_id = process.name.container.clone();
    match process.exec_spec() {
        None => {
            let request = StartContainerRequest {
                container_id,
                ..StartContainerRequest::default()
            };
            pod.agent.start_container(request).await.map(drop)
        }
        Some(spec) => {
            let request = ExecProcessRequest {
                container_id,
                exec_id: process.exec_id.clone(),
                process: Some(spec).into(),
                ..ExecProcessRequest::default()
            };
            pod.agent.exec_process(request).await.map(drop)
        }
    }
}

/// Sets a terminal's size.
pub(super) async fn resize(pod: &Pod, process: &Process, size: TerminalSize) -> Result<()> {
    pod.agent
        .tty_win_resize(TtyWinResizeRequest {
            container_id: process.name.container.clone(),
            exec_id: process.name.exec.clone(),
            row: size.rows,
            column: size.columns,
            ..TtyWinResizeRequest::default()
        })
        .await
        .map(drop)
}

async fn wait_for_end(pod: &Pod, process: &Process) -> u32 {
    let mut ended = pod.machine.ended();
    let answer = tokio::select! {
        answer = pod.agent.wait_process(&process.name) => answer,
        _ = ended.wait_for(Option::is_some) => return KILLED,
    };
    match answer {
        // Statuses of processes are small; what does not fit is no status.
        Ok(status) => u32::try_from(status).unwrap_or(UNKNOWN),
        Err(error) => {
            let error = pod.explain(error).await;
            tracing::error!(
                container = process.name.container,
                exec = process.exec_id,
                error = error.one_line(),
                "the end of a process is unknown"
            );
            if pod.machine.ended().borrow().is_some() {
                KILLED
            } else {
                UNKNOWN
            }
        }
    }
}

/// Sends a signal; a process that has ended meanwhile got what was wanted.
async fn signal(pod: &Pod, process: &Process, signal: u32, all: bool) -> Result<()> {
    let request = SignalProcessRequest {
        container_id: process.name.container.clone(),
        exec_id: if all {
            String::new()
        } else {
            process.name.exec.clone()
        },
        signal,
        ..SignalProcessRequest::default()
    };
    match pod.agent.signal_process(request).await {
        Ok(_)
        | Err(ShimError::Agent {
            code: ttrpc::Code::NOT_FOUND,
            ..
        }) => Ok(()),
        Err(_) if !process.phase().is_alive() => Ok(()),
        Err(error) => {
            let error = pod.explain(error).await;
            if pod.machine.ended().borrow().is_some() {
                Ok(())
            } else {
                Err(error)
            }
        }
    }
}
