//! A gateway of four workers before an upstream that counts, and clients that choose their address.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test helpers")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::exposition::Exposition;

/// Workers of every gateway here, however many cores there are.
pub(crate) const WORKERS: usize = 4;
/// The limit of `/limited`, per client.
pub(crate) const RATE_PER_SECOND: u64 = 100;
pub(crate) const BURST: u64 = 100;
/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// Says loudly that the machine lacks what a test is about.
pub(crate) fn skip(why: &str) {
    let line = format!("\nSKIPPED {:?}: {why}\n", thread::current().name());
    // Not by a macro: what those write is hidden where the test passes.
    drop(std::io::stderr().write_all(line.as_bytes()));
}

pub(crate) fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skip("no IPv6 here");
    }
    has
}

/// What the gateway runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Driver {
    IoUring,
    Epoll,
}

impl Driver {
    pub(crate) fn is_here(self) -> bool {
        let (choice, entries) = (runtime::Choice::IoUring, 256);
        let is_here = matches!(self, Self::Epoll)
            || runtime::Executor::new(runtime::Options { choice, entries }).is_ok();
        if !is_here {
            skip("no io_uring here");
        }
        is_here
    }
}

/// A running gateway and its upstream. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    /// Of the listener.
    pub(crate) port: u16,
    admin: u16,
    records: flume::Receiver<Value>,
    upstream_requests: Arc<AtomicU64>,
}

impl Gateway {
    pub(crate) fn start(driver: Driver, steer: &str, listen: &str) -> Self {
        let (upstream, upstream_requests) = counting_upstream();
        let driver = match driver {
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        };
        let config = format!(
            "runtime = {{ workers = {WORKERS}, driver = \"{driver}\" }}\n\
             admin.listen = \"127.0.0.1:0\"\n\
             [[listeners]]\nname = \"web\"\naddress = \"{listen}\"\nsteer = \"{steer}\"\n\
             [upstreams.up]\nendpoints = [{{ address = \"{upstream}\" }}]\n\
             [limits.per_client]\nrate = \"{RATE_PER_SECOND}/s\"\nburst = {BURST}\nmax_keys = \"1MiB\"\n\
             [[routes]]\nname = \"limited\"\npath = \"/limited\"\nlimits = [\"per_client\"]\nupstream = \"up\"\n\
             [[routes]]\nname = \"open\"\npath = \"/\"\nupstream = \"up\"\n"
        );
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!(
            "{}/steering-{}-{number}.toml",
            env!("CARGO_TARGET_TMPDIR"),
            std::process::id()
        );
        fs::write(&path, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["run", "-c", &path])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let banner: Vec<String> = said
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.starts_with("try:"))
            .collect();
        drop(fs::remove_file(path));
        let port = |label: &str| {
            let line = banner.iter().find(|line| line.trim().starts_with(label));
            let line = line.unwrap_or_else(|| panic!("no `{label}` in {banner:#?}"));
            let (_, address) = line.split_once("http://").unwrap();
            address
                .split(' ')
                .next()
                .unwrap()
                .parse::<SocketAddr>()
                .unwrap()
                .port()
        };
        let (port, admin) = (port("listening"), port("admin"));
        let (sender, records) = flume::unbounded();
        let log = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                drop(sender.send(serde_json::from_str(&line).unwrap()));
            }
        });
        Self {
            child,
            port,
            admin,
            records,
            upstream_requests,
        }
    }

    /// The next access record.
    pub(crate) fn next_record(&self) -> Value {
        self.records.recv_timeout(LONG).unwrap()
    }

    /// Requests that the upstream got.
    pub(crate) fn upstream_requests(&self) -> u64 {
        self.upstream_requests.load(Ordering::SeqCst)
    }

    pub(crate) fn imbalance(&self) -> f64 {
        let (_, page) = Client::connect(Ipv4Addr::LOCALHOST.into(), self.admin).get("/metrics");
        Exposition::parse(&page).value("ringgate_worker_imbalance_ratio{listener=\"web\"}")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Answers 200 to every request, and counts them. Ends with the process.
fn counting_upstream() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counter) = (stream.unwrap(), Arc::clone(&counter));
            thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in lines.map_while(Result::ok) {
                    if line.is_empty() {
                        counter.fetch_add(1, Ordering::SeqCst);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        drop(stream.write_all(answer));
                    }
                }
            });
        }
    });
    (address, requests)
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects from `client`, over loopback.
    pub(crate) fn connect(client: IpAddr, port: u16) -> Self {
        let to = match client {
            IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(client, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self(BufReader::new(socket.into()))
    }

    /// Sends a GET; status and body of the answer.
    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_ascii_lowercase()),
            }
        }
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.expect("an answer with a length").parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}
