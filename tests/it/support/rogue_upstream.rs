//! An upstream that breaks HTTP in a way of the test's choosing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// What a connection does once a request has come, whole but where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rogue {
    /// Answers 202 and keeps the connection.
    Behaves,
    /// Accepts, and neither reads nor answers.
    HalfOpen,
    /// Resets before the first byte is read.
    ResetsAtOnce,
    /// Resets when it has the head and not yet the body.
    ResetsInBody,
    /// Resets when it has it all.
    ResetsAfter,
    /// Closes in the middle of its head.
    DiesInHead,
    /// Closes in the middle of its body.
    DiesInBody(&'static str),
    /// Answers a byte at a time, which takes longer than an attempt may.
    Trickles,
    /// Answers exactly this and keeps the connection.
    Answers(&'static str),
}

/// An upstream that does what it is told, and counts.
pub(crate) struct RogueUpstream {
    addr: SocketAddr,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

struct State {
    rogue: Mutex<Rogue>,
    connections: AtomicUsize,
    accepted: Mutex<Vec<String>>,
}

impl RogueUpstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            rogue: Mutex::new(Rogue::Behaves),
            connections: AtomicUsize::new(0),
            accepted: Mutex::default(),
        });
        let (tasks, accepting) = (TaskTracker::new(), Arc::clone(&state));
        let serving = tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(serve(stream, Arc::clone(&accepting)));
            }
        });
        Self { addr, state, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Does that from now on, connections that are open included.
    pub(crate) fn turn(&self, rogue: Rogue) {
        *self.state.rogue.lock().unwrap() = rogue;
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Bodies of the requests that were answered as by a server that behaves.
    pub(crate) fn accepted(&self) -> Vec<String> {
        self.state.accepted.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let now = || *state.rogue.lock().unwrap();
    loop {
        // Which way to go is decided when a request is there, not when the connection is made.
        let mut first = [0];
        let waiting = now();
        if waiting == Rogue::ResetsAtOnce {
            return reset(stream);
        }
        if !matches!(stream.peek(&mut first).await, Ok(1)) {
            return;
        }
        let rogue = now();
        match rogue {
            Rogue::HalfOpen => return std::future::pending().await,
            Rogue::ResetsAtOnce => return reset(stream),
            Rogue::ResetsInBody => {
                let _head = read_until(&mut stream, b"\r\n\r\n").await;
                return reset(stream);
            }
            Rogue::Behaves
            | Rogue::ResetsAfter
            | Rogue::DiesInHead
            | Rogue::DiesInBody(_)
            | Rogue::Trickles
            | Rogue::Answers(_) => {}
        }
        let Some(body) = read_request(&mut stream).await else { return };
        let answer = match rogue {
            Rogue::Behaves => {
                state.accepted.lock().unwrap().push(body);
                "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
            }
            Rogue::DiesInHead => "HTTP/1.1 202 Acc",
            Rogue::DiesInBody(answer) | Rogue::Answers(answer) => answer,
            Rogue::Trickles => {
                for byte in b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n" {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
            Rogue::ResetsAfter | Rogue::HalfOpen | Rogue::ResetsAtOnce | Rogue::ResetsInBody => {
                return reset(stream);
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if matches!(rogue, Rogue::DiesInHead | Rogue::DiesInBody(_)) {
            return;
        }
    }
}

/// Closes with a reset instead of an end.
fn reset(stream: TcpStream) {
    let _gone = stream.set_zero_linger();
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(bytes)
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let head = read_until(stream, b"\r\n\r\n").await?;
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let len = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.ok()?;
    String::from_utf8(body).ok()
}
