//! A test double of the guest at protocol level: it answers the agent's real calls, and
//! its "programs" are a few words that it understands itself.
//!
//! `print TEXT`, `flood BYTES`, `cat`, `sleep`, `exit STATUS`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use protobuf::well_known_types::empty::Empty;
use redoubt_agent_api::agent::*;
use redoubt_agent_api::agent_ttrpc::AgentService;
use redoubt_agent_api::health::{CheckRequest, HealthCheckResponse};
use redoubt_agent_api::health_ttrpc::Health;
use tokio::sync::{Notify, watch};
use ttrpc::Code;
use ttrpc::asynchronous::TtrpcContext;

type Reply<T> = ttrpc::Result<T>;

#[derive(Default)]
pub struct GuestDouble {
    processes: Mutex<BTreeMap<(String, String), Arc<Program>>>,
    calls: Mutex<Vec<String>>,
    /// Calls that are refused, with the message.
    pub refusals: Mutex<BTreeMap<&'static str, (Code, String)>>,
    /// The last container's request.
    pub created: Mutex<Option<CreateContainerRequest>>,
}

struct Program {
    args: Vec<String>,
    output: Mutex<VecDeque<u8>>,
    output_closed: watch::Sender<bool>,
    input: Mutex<VecDeque<u8>>,
    input_closed: watch::Sender<bool>,
    changed: Notify,
    exit: watch::Sender<Option<i32>>,
}

impl Program {
    fn new(args: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            args,
            output: Mutex::default(),
            output_closed: watch::Sender::new(false),
            input: Mutex::default(),
            input_closed: watch::Sender::new(false),
            changed: Notify::new(),
            exit: watch::Sender::new(None),
        })
    }

    fn print(&self, data: &[u8]) {
        self.output.lock().unwrap().extend(data);
        self.changed.notify_waiters();
    }

    fn end(&self, status: i32) {
        self.output_closed.send_replace(true);
        self.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert(status);
            first
        });
        self.changed.notify_waiters();
    }

    async fn run(self: Arc<Self>) {
        let word = |index: usize| self.args.get(index).cloned().unwrap_or_default();
        match word(0).as_str() {
            "print" => self.print(word(1).as_bytes()),
            "flood" => self.print(&vec![b'x'; word(1).parse().unwrap()]),
            "exit" => return self.end(word(1).parse().unwrap()),
            "sleep" => return,
            "cat" => self.echo().await,
            other => panic!("unknown program {other}"),
        }
        self.end(0);
    }

    async fn echo(&self) {
        loop {
            let changed = self.changed.notified();
            let input: Vec<u8> = self.input.lock().unwrap().drain(..).collect();
            if !input.is_empty() {
                self.print(&input);
            } else if *self.input_closed.borrow() {
                return;
            } else {
                changed.await;
            }
        }
    }

    async fn read(&self, length: usize) -> Vec<u8> {
        loop {
            let changed = self.changed.notified();
            {
                let mut output = self.output.lock().unwrap();
                let length = length.min(output.len());
                if length > 0 || *self.output_closed.borrow() {
                    return output.drain(..length).collect();
                }
            }
            changed.await;
        }
    }
}

impl GuestDouble {
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn note(&self, call: &'static str) -> Reply<()> {
        self.calls.lock().unwrap().push(call.to_owned());
        match self.refusals.lock().unwrap().get(call) {
            Some((code, message)) => Err(refused(*code, message)),
            None => Ok(()),
        }
    }

    fn program(&self, container: &str, exec: &str) -> Reply<Arc<Program>> {
        let key = (container.to_owned(), exec.to_owned());
        self.processes
            .lock()
            .unwrap()
            .get(&key)
            .cloned()
            .ok_or_else(|| refused(Code::NOT_FOUND, "no such process"))
    }

    fn insert(&self, container: &str, exec: &str, args: Vec<String>) -> Arc<Program> {
        let program = Program::new(args);
        let key = (container.to_owned(), exec.to_owned());
        self.processes.lock().unwrap().insert(key, program.clone());
        program
    }
}

#[async_trait]
impl Health for GuestDouble {
    async fn check(&self, _: &TtrpcContext, _: CheckRequest) -> Reply<HealthCheckResponse> {
        self.note("Check")?;
        Ok(HealthCheckResponse::default())
    }
}

#[async_trait]
impl AgentService for GuestDouble {
    async fn create_sandbox(&self, _: &TtrpcContext, _: CreateSandboxRequest) -> Reply<Empty> {
        self.note("CreateSandbox")?;
        Ok(Empty::new())
    }

    async fn destroy_sandbox(&self, _: &TtrpcContext, _: DestroySandboxRequest) -> Reply<Empty> {
        self.note("DestroySandbox")?;
        Ok(Empty::new())
    }

    async fn get_guest_details(
        &self,
        _: &TtrpcContext,
        _: GuestDetailsRequest,
    ) -> Reply<GuestDetailsResponse> {
        self.note("GetGuestDetails")?;
        Ok(GuestDetailsResponse::default())
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> Reply<Empty> {
        self.note("CreateContainer")?;
        let args = request.OCI.Process.Args.clone();
        self.insert(&request.container_id, &request.exec_id, args);
        *self.created.lock().unwrap() = Some(request);
        Ok(Empty::new())
    }

    async fn start_container(
        &self,
        _: &TtrpcContext,
        request: StartContainerRequest,
    ) -> Reply<Empty> {
        self.note("StartContainer")?;
        let program = self.program(&request.container_id, &request.container_id)?;
        tokio::spawn(program.run());
        Ok(Empty::new())
    }

    async fn exec_process(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Reply<Empty> {
        self.note("ExecProcess")?;
        let args = request.process.Args.clone();
        tokio::spawn(
            self.insert(&request.container_id, &request.exec_id, args)
                .run(),
        );
        Ok(Empty::new())
    }

    async fn remove_container(
        &self,
        _: &TtrpcContext,
        request: RemoveContainerRequest,
    ) -> Reply<Empty> {
        self.note("RemoveContainer")?;
        self.processes
            .lock()
            .unwrap()
            .retain(|(container, _), _| *container != request.container_id);
        Ok(Empty::new())
    }

    async fn signal_process(
        &self,
        _: &TtrpcContext,
        request: SignalProcessRequest,
    ) -> Reply<Empty> {
        self.note("SignalProcess")?;
        let program = self.program(&request.container_id, &request.exec_id)?;
        program.end(128 + i32::try_from(request.signal).unwrap());
        Ok(Empty::new())
    }

    async fn wait_process(
        &self,
        _: &TtrpcContext,
        request: WaitProcessRequest,
    ) -> Reply<WaitProcessResponse> {
        let program = self.program(&request.container_id, &request.exec_id)?;
        let mut exit = program.exit.subscribe();
        let status = exit.wait_for(Option::is_some).await.unwrap().unwrap();
        Ok(WaitProcessResponse {
            status,
            ..WaitProcessResponse::default()
        })
    }

    async fn read_stdout(
        &self,
        _: &TtrpcContext,
        request: ReadStreamRequest,
    ) -> Reply<ReadStreamResponse> {
        let program = self.program(&request.container_id, &request.exec_id)?;
        let data = program.read(request.len.try_into().unwrap()).await;
        Ok(ReadStreamResponse {
            data,
            ..ReadStreamResponse::default()
        })
    }

    async fn read_stderr(
        &self,
        _: &TtrpcContext,
        request: ReadStreamRequest,
    ) -> Reply<ReadStreamResponse> {
        let program = self.program(&request.container_id, &request.exec_id)?;
        let mut closed = program.output_closed.subscribe();
        closed.wait_for(|closed| *closed).await.unwrap();
        Err(refused(Code::INTERNAL, "read meet eof"))
    }

    async fn write_stdin(
        &self,
        _: &TtrpcContext,
        request: WriteStreamRequest,
    ) -> Reply<WriteStreamResponse> {
        let program = self.program(&request.container_id, &request.exec_id)?;
        // Takes a part only, as the protocol allows.
        let taken = request.data.len().div_ceil(2);
        program.input.lock().unwrap().extend(&request.data[..taken]);
        program.changed.notify_waiters();
        Ok(WriteStreamResponse {
            len: taken.try_into().unwrap(),
            ..WriteStreamResponse::default()
        })
    }

    async fn close_stdin(&self, _: &TtrpcContext, request: CloseStdinRequest) -> Reply<Empty> {
        self.note("CloseStdin")?;
        let program = self.program(&request.container_id, &request.exec_id)?;
        program.input_closed.send_replace(true);
        program.changed.notify_waiters();
        Ok(Empty::new())
    }

    async fn pause_container(&self, _: &TtrpcContext, _: PauseContainerRequest) -> Reply<Empty> {
        self.note("PauseContainer")?;
        Ok(Empty::new())
    }

    async fn resume_container(&self, _: &TtrpcContext, _: ResumeContainerRequest) -> Reply<Empty> {
        self.note("ResumeContainer")?;
        Ok(Empty::new())
    }
}

fn refused(code: Code, message: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message))
}
