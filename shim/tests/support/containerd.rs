//! A listener in the place of containerd's event service.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Events, create_events};
use protobuf::well_known_types::empty::Empty;
use ttrpc::asynchronous::{Server, TtrpcContext};

/// The topics that arrived, in their order.
pub struct EventLog {
    path: PathBuf,
    topics: Arc<Mutex<Vec<String>>>,
    _server: Server,
}

struct Receiver(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Events for Receiver {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap();
        assert_eq!(envelope.namespace, "default");
        assert!(
            envelope
                .event
                .type_url
                .starts_with("containerd.events.Task")
        );
        self.0.lock().unwrap().push(envelope.topic);
        Ok(Empty::new())
    }
}

impl EventLog {
    pub async fn listen(path: &Path) -> Self {
        let topics = Arc::new(Mutex::new(Vec::new()));
        let mut server = Server::new()
            .register_service(create_events(Arc::new(Receiver(topics.clone()))))
            .bind(&format!("unix://{}", path.display()))
            .unwrap();
        server.start().await.unwrap();
        Self {
            path: path.to_owned(),
            topics,
            _server: server,
        }
    }

    pub fn address(&self) -> String {
        self.path.display().to_string()
    }

    pub fn topics(&self) -> Vec<String> {
        self.topics.lock().unwrap().clone()
    }

    /// Waits until a topic has arrived, then tells all.
    pub async fn until(&self, topic: &str) -> Vec<String> {
        for _ in 0..400 {
            let topics = self.topics();
            if topics.iter().any(|seen| seen == topic) {
                return topics;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{topic} did not arrive, only {:?}", self.topics());
    }
}
