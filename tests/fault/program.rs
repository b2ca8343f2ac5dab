//! The real binary as a child process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, Lines};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::RawClient;

/// Longest that a start, a stop or a delivery of everything may take, on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// What it runs with where a test has no configuration of its own.
const PATIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fault/patient.toml");

/// More than a test makes a program say.
const LOG_BYTES_MAX: usize = 256 << 20;

/// A running relay.
pub(crate) struct Program {
    child: Child,
    log: Lines<BufReader<DuplexStream>>,
    /// Reads what it says while it runs: a program whose log nobody reads stands still.
    _pump: JoinSet<()>,
    read: String,
    pub(crate) listen: SocketAddr,
    admin: SocketAddr,
}

fn command(data: &Path, upstream: SocketAddr, level: &str) -> Command {
    let program = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
    command_of(program, data, upstream, level)
}

fn command_of(mut command: Command, data: &Path, upstream: SocketAddr, level: &str) -> Command {
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--upstream", &format!("http://{upstream}"), "--data-dir"])
        .arg(data)
        .env("BEACON_RELAY_LOG__LEVEL", level)
        .env("BEACON_RELAY_CONFIG", PATIENT)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Program {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(data: &Path, upstream: SocketAddr) -> Self {
        Self::run(command(data, upstream, "info")).await
    }

    /// The same with a spool of 16 MiB, whose files are quickly read.
    pub(crate) async fn start_small(data: &Path, upstream: SocketAddr) -> Self {
        let mut command = command(data, upstream, "info");
        command.env("BEACON_RELAY_SPOOL__MAX_BYTES", "16 MiB");
        Self::run(command).await
    }

    /// The same, with its writes, syncs and answers noted in `record` by strace.
    pub(crate) async fn start_traced(data: &Path, upstream: SocketAddr, record: &Path) -> Self {
        let mut strace = Command::new("strace");
        // The tracer stands aside, so that the child is the relay itself.
        strace.args(["-D", "-f", "-y", "-s", "4096", "-e"]);
        strace.arg("trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg,exit_group");
        strace.arg("-o").arg(record).arg(env!("CARGO_BIN_EXE_beacon-relay"));
        Self::run(command_of(strace, data, upstream, "info")).await
    }

    /// The same with everything in its log.
    pub(crate) async fn start_loud(data: &Path, upstream: SocketAddr) -> Self {
        Self::run(command(data, upstream, "trace")).await
    }

    /// The same with a configuration file.
    pub(crate) async fn start_loud_with(config: &Path, data: &Path, upstream: SocketAddr) -> Self {
        let mut command = command(data, upstream, "trace");
        command.env("BEACON_RELAY_CONFIG", config).env("RUST_BACKTRACE", "1");
        Self::run(command).await
    }

    /// A file of the process under `/proc`.
    pub(crate) fn proc_file(&self, name: &str) -> String {
        let pid = self.child.id().expect("it runs");
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap()
    }

    /// A page of the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let answer = RawClient::connect(self.admin).await.exchange(request.as_bytes()).await;
        answer.text().to_owned()
    }

    /// Starts it where it cannot run; its exit code and what it said.
    pub(crate) async fn refused(data: &Path, upstream: SocketAddr) -> (Option<i32>, String) {
        let output = timeout(WITHIN, command(data, upstream, "info").output()).await;
        let output = output.expect("ends by itself").unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The same with a configuration file.
    pub(crate) async fn start_with(data: &Path, upstream: SocketAddr, file: &Path) -> Self {
        let mut command = command(data, upstream, "info");
        command.arg("--config").arg(file);
        Self::run(command).await
    }

    async fn run(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (mut into, log) = tokio::io::duplex(LOG_BYTES_MAX);
        let mut pump = JoinSet::new();
        pump.spawn(async move {
            let _ended = tokio::io::copy(&mut stderr, &mut into).await;
        });
        let mut log = BufReader::new(log).lines();
        let mut read = String::new();
        let ready = loop {
            let line = timeout(WITHIN, log.next_line()).await.expect("starts in time").unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended at its start: {read}"));
            read.push_str(&line);
            read.push('\n');
            match serde_json::from_str::<Value>(&line) {
                Ok(line) if line["message"] == "ready" => break line,
                Ok(_) | Err(_) => {}
            }
        };
        let address = |key: &str| ready[key].as_str().unwrap().parse().unwrap();
        Self { child, log, _pump: pump, read, listen: address("listen"), admin: address("admin") }
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL: nothing is finished, nothing is closed. Waits until it is gone.
    pub(crate) async fn killed(mut self) {
        timeout(WITHIN, self.child.kill()).await.expect("goes in time").unwrap();
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::HUP).unwrap();
    }

    /// The next line of the log with that message.
    pub(crate) async fn until_logged(&mut self, message: &str) -> Value {
        loop {
            let line = timeout(WITHIN, self.log.next_line()).await.expect("is logged").unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended: {}", self.read));
            self.read.push_str(&line);
            self.read.push('\n');
            match serde_json::from_str::<Value>(&line) {
                Ok(line) if line["message"] == message => return line,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn pid(&self) -> rustix::process::Pid {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        pid.expect("it runs")
    }

    /// SIGTERM; the exit code and the whole log.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, String) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        while let Some(line) = timeout(WITHIN, self.log.next_line()).await.expect("ends").unwrap() {
            self.read.push_str(&line);
            self.read.push('\n');
        }
        let status = timeout(WITHIN, self.child.wait()).await.expect("ends in time").unwrap();
        (status.code(), self.read)
    }

    /// Waits until nothing is owed, and sees that the sums balance.
    pub(crate) async fn settled(&self) {
        let waiting = async {
            loop {
                let status = self.status().await;
                let destinations = status["destinations"].as_array().unwrap();
                let in_hand = destinations.iter().any(|one| one["leases"]["in_hand"] != 0);
                if status["ledger"]["store"]["spooled"] == 0 && !in_hand {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let status = timeout(WITHIN, waiting).await.expect("everything is delivered in time");
        for sum in ["items", "leases", "store", "letters"] {
            assert_eq!(status["ledger"]["differences"][sum], 0, "{sum}: {status:#}");
        }
    }

    async fn status(&self) -> Value {
        let request = b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        RawClient::connect(self.admin).await.exchange(request).await.json()
    }
}
