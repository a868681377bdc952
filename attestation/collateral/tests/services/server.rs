//! A server that answers as the services do, or as they do on a bad day.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is written to a connection, byte by byte.
#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) bytes: Vec<u8>,
    pub(crate) delay: Duration,
}

impl Scripted {
    pub(crate) fn status(line: &str, headers: &str) -> Self {
        Self::raw(format!("HTTP/1.1 {line}\r\n{headers}content-length: 0\r\n\r\n").into_bytes())
    }

    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::ok_with("", body)
    }

    /// An answer with more headers, each ended by a line end.
    pub(crate) fn ok_with(headers: &str, body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        Self::raw([head.as_bytes(), body].concat())
    }

    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// Answers by path: each path has a queue, whose last answer stays.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: HashMap<String, VecDeque<Scripted>>,
    asked: Vec<String>,
}

impl Script {
    /// Starts a server with these answers; returns its address.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, script.clone()));
            }
        });
        format!("http://{address}")
    }

    /// Queues answers for requests whose path begins so.
    pub(crate) fn on(&self, path: &str, answers: impl IntoIterator<Item = Scripted>) {
        let mut state = self.0.lock().unwrap();
        state
            .answers
            .insert(path.to_owned(), answers.into_iter().collect());
    }

    /// The paths that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    fn next(&self, path: &str) -> Option<Scripted> {
        let mut state = self.0.lock().unwrap();
        state.asked.push(path.to_owned());
        let key = state.answers.keys().find(|key| path.starts_with(*key))?;
        let key = key.clone();
        let queue = state.answers.get_mut(&key)?;
        if queue.len() > 1 {
            queue.pop_front()
        } else {
            queue.front().cloned()
        }
    }
}

async fn answer(mut stream: TcpStream, script: Script) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default();
    let scripted = script
        .next(path)
        .unwrap_or_else(|| Scripted::status("404 Not Found", ""));
    tokio::time::sleep(scripted.delay).await;
    // The client may have gone.
    let _ = stream.write_all(&scripted.bytes).await;
    let _ = stream.shutdown().await;
}
