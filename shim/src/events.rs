//! Tells containerd what happens to tasks, in order.

use std::time::{Duration, SystemTime};

use containerd_shim_protos::events::task as events;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use ttrpc::context;

/// How long containerd may take for one event.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an event is tried before it is given up.
const TRIES: u32 = 5;
/// The most events that wait.
const QUEUE_LENGTH: usize = 2048;

/// An event of containerd's, with its topic and type name.
pub trait TaskEvent: Message {
    /// Where it is published.
    const TOPIC: &'static str;
    /// Its protobuf type, as containerd spells it.
    const TYPE: &'static str;
}

macro_rules! task_events {
    ($($name:ident => $topic:ident,)+) => {
        $(impl TaskEvent for events::$name {
            const TOPIC: &'static str = topics::$topic;
            const TYPE: &'static str = concat!("containerd.events.", stringify!($name));
        })+
    };
}

task_events! {
    TaskCreate => TASK_CREATE_EVENT_TOPIC,
    TaskStart => TASK_START_EVENT_TOPIC,
    TaskExecAdded => TASK_EXEC_ADDED_EVENT_TOPIC,
    TaskExecStarted => TASK_EXEC_STARTED_EVENT_TOPIC,
    TaskExit => TASK_EXIT_EVENT_TOPIC,
    TaskDelete => TASK_DELETE_EVENT_TOPIC,
    TaskOOM => TASK_OOM_EVENT_TOPIC,
    TaskPaused => TASK_PAUSED_EVENT_TOPIC,
    TaskResumed => TASK_RESUMED_EVENT_TOPIC,
}

/// Queues events; clones feed the same queue.
#[derive(Clone, Debug)]
pub struct EventSender {
    namespace: String,
    queue: mpsc::Sender<Envelope>,
}

impl EventSender {
    /// Starts a publisher towards containerd's ttRPC socket. Without an address events
    /// are logged and dropped, as CRI-O expects.
    pub fn new(namespace: &str, address: Option<String>) -> (Self, JoinHandle<()>) {
        let (queue, receiver) = mpsc::channel(QUEUE_LENGTH);
        let worker = tokio::spawn(publish_all(address, receiver));
        (
            Self {
                namespace: namespace.to_owned(),
                queue,
            },
            worker,
        )
    }

    /// Queues an event. It never waits: a containerd that does not listen must not stop
    /// a container.
    pub fn send<E: TaskEvent>(&self, event: &E) {
        let value = match event.write_to_bytes() {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(topic = E::TOPIC, %error, "cannot encode an event");
                return;
            }
        };
        let envelope = Envelope {
            timestamp: Some(timestamp(SystemTime::now())).into(),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(Any {
                type_url: E::TYPE.to_owned(),
                value,
                ..Any::default()
            })
            .into(),
            ..Envelope::default()
        };
        if self.queue.try_send(envelope).is_err() {
            tracing::error!(
                topic = E::TOPIC,
                "the event queue is full, an event is lost"
            );
        }
    }
}

async fn publish_all(address: Option<String>, mut queue: mpsc::Receiver<Envelope>) {
    let mut connection = None;
    while let Some(envelope) = queue.recv().await {
        let topic = envelope.topic.clone();
        match &address {
            None => tracing::info!(topic, "event without a receiver"),
            Some(address) => publish(address, &mut connection, envelope).await,
        }
    }
}

async fn publish(address: &str, connection: &mut Option<EventsClient>, envelope: Envelope) {
    let topic = envelope.topic.clone();
    let request = ForwardRequest {
        envelope: Some(envelope).into(),
        ..ForwardRequest::default()
    };
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(200) * (1 << attempt)).await;
        }
        match try_publish(address, connection, &request).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(topic, attempt, %error, "cannot publish an event"),
        }
    }
    tracing::error!(topic, "an event is lost");
}

async fn try_publish(
    address: &str,
    connection: &mut Option<EventsClient>,
    request: &ForwardRequest,
) -> ttrpc::Result<()> {
    let client = match connection.take() {
        Some(client) => client,
        None => EventsClient::new(connect(address).await?),
    };
    client
        .forward(context::with_duration(PUBLISH_TIMEOUT), request)
        .await?;
    *connection = Some(client);
    Ok(())
}

async fn connect(address: &str) -> ttrpc::Result<Client> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    Client::connect(&format!("unix://{path}")).await
}

/// A time in protobuf's form; times before 1970 become 1970.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let elapsed = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(elapsed.subsec_nanos()).unwrap_or_default(),
        ..Timestamp::default()
    }
}
