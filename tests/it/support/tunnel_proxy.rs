//! An egress proxy that opens tunnels, for tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Answers CONNECT and passes on what follows.
pub(crate) struct TunnelProxy {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    frozen: Arc<Notify>,
    _serving: AbortOnDropHandle<()>,
}

impl TunnelProxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tasks, heads) = (TaskTracker::new(), Arc::<Mutex<Vec<String>>>::default());
        let (kept, frozen) = (Arc::clone(&heads), Arc::<Notify>::default());
        let freezing = Arc::clone(&frozen);
        let serving = tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tasks.spawn(tunnel(stream, Arc::clone(&kept), Arc::clone(&freezing)));
            }
        });
        Self { addr, heads, frozen, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Nothing comes through the tunnels that are open, and nobody is told. New ones work.
    pub(crate) fn freeze(&self) {
        self.frozen.notify_waiters();
    }

    /// The head of every request for a tunnel.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn tunnel(mut client: TcpStream, heads: Arc<Mutex<Vec<String>>>, frozen: Arc<Notify>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // Whoever ends first ends both.
    tokio::select! {
        _ended = copy_bidirectional(&mut client, &mut server) => {}
        () = frozen.notified() => std::future::pending().await,
    }
}
