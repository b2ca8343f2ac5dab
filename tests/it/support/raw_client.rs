//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::SOON;

/// One connection. Every wait ends after [`SOON`].
pub(crate) struct RawClient {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer, its body without its transfer coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order, by FIN.
    Closed,
    /// By RST.
    Reset,
}

/// A request with `Host` and `Content-Length`; `head` holds further lines, each with its CRLF.
pub(crate) fn post(target: &str, head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let (body, host) = (body.as_ref(), "Host: upstream\r\n");
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\n{host}{head}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

impl RawClient {
    /// A new connection to `addr`.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = timeout(SOON, TcpStream::connect(addr)).await.expect("connects").unwrap();
        Self::over(stream)
    }

    /// A client of a connection that is there.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Sends `bytes` as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        timeout(SOON, self.stream.write_all(bytes)).await.expect("is read").unwrap();
    }

    /// Sends `request` and reads its answer, from a server that may go away.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) async fn try_exchange(&mut self, request: &[u8]) -> io::Result<RawAnswer> {
        let sent = timeout(SOON, self.stream.write_all(request)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.answer().await
    }

    /// Sends `request` and reads its answer. A server that refuses a request may close before it
    /// has read all of it, and what it answered counts all the same.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> RawAnswer {
        let sent = timeout(SOON, self.stream.write_all(request)).await.expect("is read");
        match self.answer().await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error}; of the request: {sent:?}"),
        }
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// The connection's, `UnexpectedEof` when it ends inside, `TimedOut` when nothing more comes.
    pub(crate) async fn answer(&mut self) -> io::Result<RawAnswer> {
        let head = self.through(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).map_err(io::Error::other)?;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = RawAnswer { status, headers, body: Vec::new() };
        answer.body = self.body(&answer).await?;
        Ok(answer)
    }

    async fn body(&mut self, answer: &RawAnswer) -> io::Result<Vec<u8>> {
        if answer.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                let size = String::from_utf8_lossy(&self.through(b"\r\n").await?).into_owned();
                let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                let mut chunk = self.take(size + 2).await?;
                chunk.truncate(size);
                body.append(&mut chunk);
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match answer.header("content-length") {
            Some(length) => self.take(length.parse().map_err(io::Error::other)?).await,
            None => Ok(Vec::new()),
        }
    }

    /// Reads until the other side ends the connection; what came before is dropped.
    pub(crate) async fn end(&mut self) -> End {
        loop {
            match self.more().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return End::Closed,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return End::Reset,
                Err(error) => panic!("the connection did not end: {error}"),
            }
        }
    }

    /// The bytes up to and with `end`.
    async fn through(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len()).await;
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            self.more().await?;
        }
        let rest = self.unread.split_off(count);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    async fn more(&mut self) -> io::Result<()> {
        let read = timeout(SOON, self.stream.read_buf(&mut self.unread)).await;
        match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl RawAnswer {
    /// The first value of `name`, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
