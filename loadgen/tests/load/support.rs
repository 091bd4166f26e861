//! Servers to send load to, and the binary to send it with.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a scripted server is a blocking thread on purpose"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Both drivers, as the argument and as the report names them.
pub(crate) const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

/// `ringgate-load`, not started.
pub(crate) fn load() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringgate-load"))
}

/// The result of a run with `--json -`.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) report: Value,
}

impl Run {
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.report
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{pointer} in {:#}", self.report))
    }

    /// Errors of a kind.
    pub(crate) fn errors(&self, kind: &str) -> u64 {
        self.report["errors"][kind].as_u64().unwrap_or(0)
    }
}

/// Runs to the end, with a generous limit on lag: a test machine is no quiet machine.
pub(crate) fn run(arguments: &[&str]) -> Run {
    let mut command = load();
    if arguments.contains(&"--rate") && !arguments.contains(&"--lag-max") {
        command.args(["--lag-max", "60s"]);
    }
    let output = command
        .args(arguments)
        .args(["--json", "-"])
        .output()
        .unwrap();
    finish(&output)
}

pub(crate) fn finish(output: &Output) -> Run {
    let report = serde_json::from_slice(&output.stdout);
    Run {
        code: output.status.code().unwrap(),
        report: report.unwrap_or_else(|_| panic!("no report: {output:?}")),
    }
}

/// The `upstream` subcommand in a process of its own, on a free port.
pub(crate) struct Upstream {
    child: Child,
    /// The first of its addresses.
    pub(crate) address: String,
    pub(crate) addresses: Vec<String>,
}

impl Upstream {
    pub(crate) fn start(driver: &str) -> Self {
        Self::start_with(&["--threads", "1", "--driver", driver], 1)
    }

    /// With other arguments, which make it listen on `count` addresses.
    pub(crate) fn start_with(arguments: &[&str], count: usize) -> Self {
        let mut child = load()
            .arg("upstream")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let addresses: Vec<_> = (0..count)
            .map(|_| {
                let line = lines.next().unwrap().unwrap();
                line.strip_prefix("listening on ").unwrap().to_owned()
            })
            .collect();
        Self {
            child,
            address: addresses[0].clone(),
            addresses,
        }
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends `request` and reads all that comes until the close.
    pub(crate) fn talk(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Asks it to end; returns its exit code.
    pub(crate) fn terminate(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A byte stream of either kind.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What a scripted server does with one connection, the number of which it is given, from 0.
pub(crate) type Script = dyn Fn(u64, &mut dyn Stream) + Send + Sync;

/// A server that does with each connection what a closure says; returns its address.
pub(crate) fn scripted(script: impl Fn(u64, &mut dyn Stream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script: Arc<Script> = Arc::new(script);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, script) = (stream.unwrap(), Arc::clone(&script));
            std::thread::spawn(move || script(number as u64, &mut stream));
        }
    });
    address.to_string()
}

/// The same on a Unix socket at `path`.
pub(crate) fn scripted_unix(
    path: &Path,
    script: impl Fn(u64, &mut dyn Stream) + Send + Sync + 'static,
) {
    let listener = UnixListener::bind(path).unwrap();
    let script: Arc<Script> = Arc::new(script);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, script) = (stream.unwrap(), Arc::clone(&script));
            std::thread::spawn(move || script(number as u64, &mut stream));
        }
    });
}

/// Reads one request head; `None` at the end of the stream.
pub(crate) fn read_head(stream: &mut dyn Stream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers each request of a connection with the same bytes.
pub(crate) fn always(
    answer: &'static [u8],
) -> impl Fn(u64, &mut dyn Stream) + Send + Sync + Clone + 'static {
    move |_, stream| {
        while read_head(stream).is_some() {
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

/// A server that answers one request, says that it closes, and stops listening before it does.
pub(crate) fn once() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // The check that somebody listens, then the connection of the run.
        drop(listener.accept().unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        if read_head(&mut stream).is_some() {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).unwrap();
        }
    });
    address.to_string()
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

/// A server that hands each request head to a channel and answers 200.
pub(crate) fn recording() -> (String, Receiver<String>) {
    let (heads, received) = channel();
    let address = scripted(move |_, stream| {
        while let Some(head) = read_head(stream) {
            let _ignored = heads.send(head);
            if stream.write_all(OK).is_err() {
                return;
            }
        }
    });
    (address, received)
}

/// A server that limits each `X-Forwarded-For` with a token bucket of its own and answers 200 or 429.
pub(crate) fn limiting(rate_per_second: u32, burst: u32) -> String {
    let period = Duration::from_secs(1) / rate_per_second;
    let full_at: Mutex<HashMap<String, Instant>> = Mutex::default();
    scripted(move |_, stream| {
        while let Some(head) = read_head(stream) {
            let client = field(&head, "X-Forwarded-For").unwrap_or_default();
            let now = Instant::now();
            let mut buckets = full_at.lock().unwrap();
            let bucket = buckets.entry(client).or_insert(now);
            let full = (*bucket).max(now) + period;
            let granted = full - now <= period * burst;
            if granted {
                *bucket = full;
            }
            drop(buckets);
            let refusal = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n";
            let answer = if granted { OK } else { refusal };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    })
}

/// The value of a field in a request head.
pub(crate) fn field(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    Some(found.1.to_owned())
}

/// A server that notes the address of each connection and answers 200.
pub(crate) struct Peers {
    pub(crate) address: String,
    seen: Receiver<String>,
}

pub(crate) fn peers() -> Peers {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            if sender
                .send(stream.peer_addr().unwrap().ip().to_string())
                .is_err()
            {
                return;
            }
            std::thread::spawn(move || always(OK)(number as u64, &mut stream));
        }
    });
    Peers { address, seen }
}

impl Peers {
    /// The addresses of all connections so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.try_iter().collect()
    }
}
