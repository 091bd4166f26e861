//! The gateway with programs that others wrote: nginx behind it, curl before it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Client, Driver, Folder, Launch, eventually, skip, terminate, to_upstream};

/// A program of this name; `None`: the test `test` is skipped.
fn find(program: &str, test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders
        .map(|folder| folder.join(program))
        .find(|file| file.exists());
    if found.is_none() {
        skip(program, test);
    }
    found
}

/// A running nginx; killed when dropped.
#[derive(Debug)]
struct Nginx {
    child: Child,
    address: SocketAddr,
    folder: Folder,
}

impl Nginx {
    /// Serves a folder in which `file` has `bytes` bytes.
    fn start(program: &Path, file: &str, bytes: usize) -> Self {
        // nginx cannot be given port 0, and another process may take a port between our look and its start.
        for _ in 0..20 {
            let address = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            if let Some(nginx) = Self::try_start(program, address, file, bytes) {
                return nginx;
            }
        }
        panic!("nginx does not start");
    }

    fn try_start(program: &Path, address: SocketAddr, file: &str, bytes: usize) -> Option<Self> {
        let folder = Folder::new();
        let at = folder.path().display();
        fs::write(folder.path().join(file), vec![b'n'; bytes]).unwrap();
        let mut config = String::new();
        write!(
            config,
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n  access_log off; keepalive_requests 1000000; client_max_body_size 0;\n"
        )
        .unwrap();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(config, "  {kind}_temp_path {at}/{kind};").unwrap();
        }
        // As root the workers would be another user, who may not read the folder.
        let user = if fs::metadata(folder.path())
            .is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
        {
            "user root;\n"
        } else {
            ""
        };
        write!(
            config,
            "  server {{\n    listen {address};\n    root {at};\n    location /echo {{ return 200 \
             \"$request_method $request_uri $http_host $http_x_forwarded_for\"; }}\n    location = /judge {{\n      if ($http_authorization = \"Bearer right\") {{ \
             return 204; }}\n      add_header WWW-Authenticate 'Bearer realm=\"nginx\"' always;\n      return 401 \"who?\";\n    }}\n  }}\n}}\n"
        )
        .unwrap();
        let path = folder.path().join("nginx.conf");
        fs::write(&path, format!("{user}{config}")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&path)
            .args(["-e", &format!("{at}/error.log")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Self {
            child,
            address,
            folder,
        };
        let runs = eventually("nginx or its end", || {
            if nginx.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            Client::try_connect(address).is_ok().then_some(true)
        });
        runs.then_some(nginx)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker goes with it: a master that is killed leaves one behind, one that is told to end does not.
        terminate(self.child.id());
        drop(self.child.wait());
    }
}

/// Runs the command line that the banner printed.
fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

on_both_drivers! {
    fn nginx_as_the_upstream(driver) {
        let Some(program) = find("nginx", "tools::nginx_as_the_upstream") else { return };
        let nginx = Nginx::start(&program, "file", 3_000_000);
        let gateway = Launch::new(driver).rest(&to_upstream(&[nginx.address], "")).start();
        let mut client = Client::connect(gateway.address);
        for turn in 0..200 {
            let answer = client.get(&format!("/echo/{turn}?a=b"));
            assert_eq!(answer.text(), format!("GET /echo/{turn}?a=b test 127.0.0.1"), "{}", nginx.log());
        }
        let file = client.get("/file");
        assert_eq!((file.status, file.body == vec![b'n'; 3_000_000]), (200, true));
        assert!(file.value("server").starts_with("nginx"));
        let unchanged = format!(
            "GET /file HTTP/1.1\r\nHost: test\r\nIf-None-Match: {}\r\n\r\n", file.value("etag")
        );
        client.send(unchanged);
        assert_eq!(client.response().status, 304);
        client.send("HEAD /file HTTP/1.1\r\nHost: test\r\n\r\n");
        let head = client.response_to_head();
        assert_eq!((head.status, head.value("content-length")), (200, "3000000"));
        client.send("GET /file HTTP/1.1\r\nHost: test\r\nRange: bytes=10-19\r\n\r\n");
        let part = client.response();
        assert_eq!((part.status, part.text()), (206, "nnnnnnnnnn"));
        assert_eq!(client.get("/none").status, 404);
        let opened = gateway.metric("ringgate_upstream_connections_opened_total", &[]);
        assert_eq!(opened, 1.0, "one connection for one client");
    }

    fn nginx_as_the_authenticator(driver) {
        let Some(program) = find("nginx", "tools::nginx_as_the_authenticator") else { return };
        let nginx = Nginx::start(&program, "file", 1);
        let gateway = Launch::new(driver)
            .one_worker()
            .rest(&to_upstream(&[nginx.address], ""))
            .rest("auth = [\"gate\"]\n[forward_auth.gate]\nupstream = \"up\"\npath = \"/judge\"\n")
            .start();
        let mut client = Client::connect(gateway.address);
        for turn in 0..100 {
            client.send(format!("GET /echo/{turn} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer right\r\n\r\n"));
            let answer = client.response();
            assert_eq!((answer.status, answer.text()), (200, &*format!("GET /echo/{turn} t 127.0.0.1")), "{}", nginx.log());
            let refused = client.get("/echo");
            assert_eq!((refused.status, refused.text()), (401, "who?"), "{}", nginx.log());
            assert_eq!(refused.value("www-authenticate"), "Bearer realm=\"nginx\"");
        }
        let opened = gateway.metric("ringgate_upstream_connections_opened_total", &[]);
        assert_eq!(opened, 1.0, "questions and requests take turns on one connection");
    }

    fn the_lines_of_the_banner_answer_as_printed_on_a_terminal_and_its_key_ends_it(driver) {
        let name = "tools::the_lines_of_the_banner_answer_as_printed_on_a_terminal_and_its_key_ends_it";
        if find("curl", name).is_none() || find("script", name).is_none() {
            return;
        }
        let mut terminal = Terminal::start(driver);
        let said = terminal.said.join("\n");
        let pages = format!(" ({})", gateway::control::admin::paths());
        for part in [pages.as_str(), "  listening  http://127.0.0.1:", " (web)", &format!(", on {} (", driver.name())] {
            assert!(said.contains(part), "{part:?} in:\n{said}");
        }
        let lines: Vec<&str> = terminal.said.iter().map(|line| line.trim()).filter(|line| line.starts_with("curl ")).collect();
        let [demo, hello, metrics] = lines[..] else { panic!("three lines: {said}") };
        let answer = run(demo);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\"method\":\"GET\""), "the request as the demo upstream got it: {answer}");
        let answer = run(hello);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("Hello from ringgate.\n"), "{answer}");
        assert!(run(metrics).contains("ringgate_build_info{"), "{metrics}");
        // The limit is low enough to be seen by hand.
        let again = run(&format!("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do {demo}; done"));
        assert!(again.contains("HTTP/1.1 429 ") && again.to_lowercase().contains("retry-after: "), "{again}");
        terminal.press_control_c();
        assert_eq!(eventually("its end", || terminal.script.try_wait().unwrap()).code(), Some(0));
    }
}

#[test]
fn systemd_takes_the_unit_and_what_the_page_adds_to_it_without_a_word() {
    let name = "tools::systemd_takes_the_unit_and_what_the_page_adds_to_it_without_a_word";
    if find("systemd-analyze", name).is_none() {
        return;
    }
    let folder = Folder::new();
    let programs = Path::new(env!("CARGO_BIN_EXE_ringgate")).parent().unwrap();
    let unit = include_str!("../../../packaging/ringgate.service")
        .replace("@BINDIR@", programs.to_str().unwrap())
        .replace("@SYSCONFDIR@", "/etc");
    let page = include_str!("../../../docs/deploy.md");
    let (_, rest) = page.split_once("```ini\n").unwrap();
    let (addition, _) = rest.split_once("```").unwrap();
    assert!(addition.contains("LoadCredential=") && addition.contains("SupplementaryGroups="));
    let verify = |addition: &str| {
        let additions = folder.path().join("ringgate.service.d");
        fs::create_dir_all(&additions).unwrap();
        fs::write(additions.join("override.conf"), addition).unwrap();
        let file = folder.path().join("ringgate.service");
        fs::write(&file, &unit).unwrap();
        let mut command = Command::new("systemd-analyze");
        let output = command.arg("verify").arg(&file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        // Of other units of this system it may say what it likes.
        let ours = said.lines().filter(|line| line.contains("ringgate"));
        ours.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(verify(addition), "");
    let said = verify(&addition.replace("LoadCredential", "LoadCredentails"));
    assert!(said.contains("LoadCredentails"), "{said}");
}

/// A gateway in front of a terminal, which `script` makes; with what is served without a file, on ports of its own.
struct Terminal {
    script: Child,
    pid: u32,
    said: Vec<String>,
    _folder: Folder,
}

impl Terminal {
    fn start(driver: Driver) -> Self {
        let folder = Folder::new();
        let config = folder.path().join("ringgate.toml");
        let text = include_str!("../../src/config/default.toml")
            .replace("127.0.0.1:8080", "127.0.0.1:0")
            .replace("127.0.0.1:9400", "127.0.0.1:0");
        fs::write(&config, text).unwrap();
        let (program, config) = (env!("CARGO_BIN_EXE_ringgate"), config.display());
        let line = format!("echo $$; exec '{program}' run -c '{config}'");
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]);
        command.env_remove("MONOIO_FORCE_LEGACY_DRIVER");
        if driver == Driver::Epoll {
            command.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
        }
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let pid = lines.next().unwrap().unwrap().trim().parse().unwrap();
        let mut said = Vec::new();
        while !said
            .last()
            .is_some_and(|line: &String| line.starts_with("Ctrl-C"))
        {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {said:?}"));
            said.push(line.unwrap());
        }
        // So that it never waits for a reader.
        std::thread::spawn(move || lines.count());
        Self {
            script,
            pid,
            said,
            _folder: folder,
        }
    }

    fn press_control_c(&mut self) {
        self.script
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"\x03")
            .unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where a test failed. A terminal that goes is no reason for it to end.
        if matches!(self.script.try_wait(), Ok(None)) {
            terminate(self.pid);
            drop(self.script.wait());
        }
    }
}
