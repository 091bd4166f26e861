//! How a gateway is started: its configuration and its environment.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use super::{Driver, Ended, Gateway, gateway};

/// A gateway to be. Listener and admin are on ports of the kernel's choice, records go to standard output, and there
/// are two workers.
pub(crate) struct Launch {
    pub(crate) driver: Driver,
    workers: usize,
    runtime: String,
    address: String,
    listener: String,
    access_log: String,
    rest: String,
    pub(crate) whole: Option<String>,
    pub(crate) wrapper: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) prepare: Option<fn(&mut Command)>,
    /// The driver that the gateway is to report, where that is not `driver`.
    pub(crate) reported: Option<Driver>,
}

impl Launch {
    pub(crate) fn new(driver: Driver) -> Self {
        Self {
            driver,
            workers: 2,
            runtime: String::new(),
            address: "127.0.0.1:0".to_owned(),
            listener: String::new(),
            access_log: "path = \"stdout\"\n".to_owned(),
            rest: String::new(),
            whole: None,
            wrapper: Vec::new(),
            environment: Vec::new(),
            prepare: None,
            reported: None,
        }
    }

    /// Lines of `[runtime]`, after `workers`.
    pub(crate) fn runtime(mut self, lines: &str) -> Self {
        self.runtime.push_str(lines);
        self.runtime.push('\n');
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// One worker.
    pub(crate) fn one_worker(self) -> Self {
        self.workers(1)
    }

    /// Where the listener is, in place of 127.0.0.1.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// Lines of `[[listeners]]`.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// Lines of `[log.access]`, in place of standard output.
    pub(crate) fn access_log(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.access_log);
        self
    }

    /// Upstreams, limits and routes.
    pub(crate) fn rest(mut self, sections: &str) -> Self {
        self.rest.push_str(sections);
        self.rest.push('\n');
        self
    }

    /// This text is the whole configuration.
    pub(crate) fn whole(mut self, text: &str) -> Self {
        self.whole = Some(text.to_owned());
        self
    }

    /// The gateway is an argument of this command.
    pub(crate) fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes the command before it is started.
    pub(crate) fn prepare(mut self, change: fn(&mut Command)) -> Self {
        self.prepare = Some(change);
        self
    }

    /// The gateway is to run on this driver, although `driver` was asked for.
    pub(crate) fn reporting(mut self, driver: Driver) -> Self {
        self.reported = Some(driver);
        self
    }

    /// The configuration.
    pub(crate) fn text(&self) -> String {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let mut text = String::from("version = 1\n");
        let Self {
            workers,
            runtime,
            address,
            listener,
            access_log,
            rest,
            ..
        } = self;
        write!(
            text,
            "[runtime]\nworkers = {workers}\n{runtime}\n[admin]\nlisten = \"127.0.0.1:0\"\n[log.access]\n{access_log}\n\
             [[listeners]]\nname = \"web\"\naddress = \"{address}\"\n{listener}\n{rest}"
        )
        .unwrap();
        text
    }

    /// Starts it and waits until it serves; it runs on the driver that was asked for.
    #[track_caller]
    pub(crate) fn start(self) -> Gateway {
        gateway::start(self)
    }

    /// Starts it where that must fail; what it said and its exit code.
    #[track_caller]
    pub(crate) fn fail(self) -> Ended {
        gateway::fail(self)
    }
}

/// `[upstreams.up]` with these endpoints and more lines, and a route to it for everything.
pub(crate) fn to_upstream(endpoints: &[SocketAddr], lines: &str) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|address| format!("{{ address = \"{address}\" }}"))
        .collect();
    format!(
        "[upstreams.up]\nendpoints = [{}]\n{lines}\n[[routes]]\nname = \"all\"\npath_prefix = \"/\"\nupstream = \"up\"\n",
        endpoints.join(", ")
    )
}
