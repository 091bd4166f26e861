//! The process under test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{process, thread};

use serde_json::Value;

use super::client::get;
use super::http::Response;
use super::metrics::Metrics;
use super::{Driver, Launch, eventually, process as system};

/// A running gateway. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    /// Of the listener.
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    stdout: Lines,
    stderr: Lines,
    _folder: Folder,
}

/// A gateway that has ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: Vec<String>,
    /// The configuration's file.
    pub(crate) config: PathBuf,
}

/// The lines of a stream so far, read by a thread so that the writer never waits.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Output>>);

#[derive(Debug, Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                shared.0.lock().unwrap().lines.push(line);
            }
            shared.0.lock().unwrap().ended = true;
        });
        lines
    }

    fn so_far(&self) -> Vec<String> {
        self.0.lock().unwrap().lines.clone()
    }

    fn whole(&self) -> Vec<String> {
        eventually("the end of the output", || {
            self.0.lock().unwrap().ended.then_some(())
        });
        self.so_far()
    }
}

/// A folder of a test's own, removed with it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("end-to-end-{}-{number}", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn spawn(launch: &Launch, folder: &Folder) -> (Child, Lines, Lines, PathBuf) {
    let config = folder.path().join("ringgate.toml");
    fs::write(&config, launch.text()).unwrap();
    let binary = env!("CARGO_BIN_EXE_ringgate");
    let mut words = launch.wrapper.iter().map(String::as_str).chain([binary]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg("run").arg("-c").arg(&config);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
        .env_remove("MONOIO_FORCE_LEGACY_DRIVER")
        .env_remove("RINGGATE_CONFIG");
    if launch.driver == Driver::Epoll {
        command.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    }
    command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
    if let Some(prepare) = launch.prepare {
        prepare(&mut command);
    }
    let mut child = command.spawn().unwrap();
    let stdout = Lines::of(child.stdout.take().unwrap());
    let stderr = Lines::of(child.stderr.take().unwrap());
    (child, stdout, stderr, config)
}

/// The last line of a start is there.
fn serves(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains("info  serving "))
}

/// A field of the first line of the process log with this message.
#[track_caller]
fn field(lines: &[String], message: &str, name: &str) -> String {
    let start = format!("info  {message} ");
    let fields = lines.iter().find_map(|line| line.split_once(&start));
    let (_, fields) = fields.unwrap_or_else(|| panic!("{message} in {lines:?}"));
    let value = fields
        .split(' ')
        .find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value
        .unwrap_or_else(|| panic!("{name} in {fields}"))
        .to_owned()
}

#[track_caller]
pub(super) fn start(launch: Launch) -> Gateway {
    let folder = Folder::new();
    let (child, stdout, stderr, _config) = spawn(&launch, &folder);
    let nowhere = SocketAddr::from(([0; 4], 0));
    let mut gateway = Gateway {
        child,
        address: nowhere,
        admin: nowhere,
        stdout,
        stderr,
        _folder: folder,
    };
    let said = eventually("it to serve", || {
        let lines = gateway.stderr.so_far();
        if let Some(status) = gateway.child.try_wait().unwrap() {
            panic!("ended with {status}: {:?}", gateway.stderr.whole());
        }
        serves(&lines).then_some(lines)
    });
    let address = |message: &str| {
        let url = field(&said, message, "address");
        let host = url.strip_prefix("http://").unwrap();
        host.parse::<SocketAddr>().unwrap()
    };
    gateway.address = address("listening");
    gateway.admin = address("admin");
    let expected = launch.reported.unwrap_or(launch.driver).name();
    assert_eq!(field(&said, "serving", "driver"), expected);
    let metrics = gateway.metrics();
    let all = metrics.sum("ringgate_workers", &[]);
    let on_driver = metrics.sum("ringgate_io_driver", &[("driver", expected)]);
    assert!(
        all > 0.0 && all == on_driver,
        "{on_driver} of {all} workers on {expected}"
    );
    gateway
}

#[track_caller]
pub(super) fn fail(launch: Launch) -> Ended {
    let folder = Folder::new();
    let (mut child, _stdout, stderr, config) = spawn(&launch, &folder);
    let status = eventually("the end of a gateway that cannot start", || {
        let status = child.try_wait().unwrap();
        if serves(&stderr.so_far()) {
            drop(child.kill());
            panic!("it started: {:?}", stderr.so_far());
        }
        status
    });
    Ended {
        code: status.code(),
        stderr: stderr.whole(),
        config,
    }
}

impl Gateway {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From now on it gets no new descriptor: those that it has stay.
    pub(crate) fn take_descriptors(&self) {
        system::limit_files(self.pid(), 3);
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let response = get(self.admin, "/metrics");
        assert_eq!(response.status, 200);
        Metrics::new(response.text())
    }

    /// A metric's sum over the series with these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// `GET target` on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        get(self.address, target)
    }

    /// What the gateway has said on standard error.
    pub(crate) fn said(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// The access records on standard output so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        let lines = self.stdout.so_far();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The first record of a request to `path`, when it is there.
    #[track_caller]
    pub(crate) fn record_of(&self, path: &str) -> Value {
        eventually(&format!("the record of {path}"), || {
            self.records()
                .into_iter()
                .find(|record| record["url.path"] == path)
        })
    }

    /// Sends a signal of `libc`.
    pub(crate) fn signal(&self, signal: i32) {
        system::signal(self.pid(), signal);
    }

    /// Holds all of its threads up.
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
        eventually("it to stop", || {
            (system::state(self.pid()) == 'T').then_some(())
        });
    }

    /// Ends a pause.
    pub(crate) fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    /// It is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; the exit code, `None` after a signal.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        eventually("the end of the gateway", || self.child.try_wait().unwrap()).code()
    }

    /// All records, once it has ended.
    pub(crate) fn all_records(&self) -> Vec<Value> {
        drop(self.stdout.whole());
        self.records()
    }

    pub(crate) fn open_files(&self) -> usize {
        system::open_files(self.pid())
    }

    pub(crate) fn threads(&self) -> usize {
        system::threads(self.pid())
    }

    /// Processor time so far, of all workers.
    pub(crate) fn workers_time(&self) -> Duration {
        system::cpu_time(self.pid(), "ringgate-w")
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        system::resident_bytes(self.pid())
    }

    /// Nothing is open but what a quiet gateway has: no client, no exchange.
    #[track_caller]
    pub(crate) fn wait_until_quiet(&self) {
        eventually("no connection and no request", || {
            let metrics = self.metrics();
            let busy = metrics.sum("ringgate_connections", &[])
                + metrics.sum("http_server_active_requests", &[])
                + metrics.sum("ringgate_upstream_connections", &[("state", "active")]);
            (busy == 0.0).then_some(())
        });
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let lines = self.stderr.so_far().join("\n");
            drop(std::io::Write::write_all(
                &mut std::io::stderr().lock(),
                format!("--- the gateway said:\n{lines}\n---\n").as_bytes(),
            ));
        }
    }
}
