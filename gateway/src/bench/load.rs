//! The program that makes load, found and run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Error, missing_tool};
use crate::cli::BenchArgs;

/// The program's name.
const NAME: &str = "ringgate-load";
/// Clients of the mix: enough that no limit by address sees one alone.
const CLIENTS: &str = "uniform:1000";

/// Its exit code for wrong arguments.
const USAGE: i32 = 2;

/// `ringgate-load`.
#[derive(Clone, Debug)]
pub(super) struct Tool(PathBuf);

impl Tool {
    /// The one beside this program, else the one on `PATH`.
    pub(super) fn find() -> Result<Self, Error> {
        let beside = std::env::current_exe()?.with_file_name(NAME);
        if beside.is_file() {
            return Ok(Self(beside));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join(NAME));
        match on_path.into_iter().find(|file| file.is_file()) {
            Some(file) => Ok(Self(file)),
            None => Err(missing_tool(&[beside])),
        }
    }

    pub(super) fn command(&self) -> Command {
        Command::new(&self.0)
    }

    /// Starts the built-in server on a free port.
    pub(super) fn upstream(&self) -> Result<Upstream, Error> {
        let mut child = self
            .command()
            .args(["upstream", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(Upstream { child, address }),
            None => {
                drop((child.kill(), child.wait()));
                Err(Error::Failed(format!("{NAME} upstream did not start")))
            }
        }
    }

    /// `ringgate-load` as it will send the mix, but for the target.
    fn mix_command(&self, arguments: &BenchArgs, mix: &Path) -> Command {
        let mut command = self.command();
        command.arg("--scenario").arg(mix);
        command.args(["--keys", CLIENTS, "--key-as", "source"]);
        command.args([
            "--duration",
            &arguments.duration,
            "--warmup",
            &arguments.warmup,
        ]);
        for (name, value) in [
            ("--rate", &arguments.rate),
            ("--slo", &arguments.slo),
            (
                "--connections",
                &arguments.connections.map(|count| count.to_string()),
            ),
        ] {
            if let Some(value) = value {
                command.args([name, value]);
            }
        }
        command
    }

    /// Lets the program say what it thinks of the arguments that are passed on, before anything starts.
    pub(super) fn check(
        &self,
        arguments: &BenchArgs,
        folder: &Folder,
        scenario: &str,
    ) -> Result<(), Error> {
        let mix = folder.file("mix.toml");
        std::fs::write(&mix, scenario)?;
        let mut command = self.mix_command(arguments, &mix);
        command.args(["--check", "http://127.0.0.1:1/"]);
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // What follows is about the usage of another program.
        let why = said.split("\n\n").next().unwrap_or_default().trim();
        let why = why.trim_start_matches("error: ");
        match output.status.code() {
            Some(USAGE) => Err(Error::Usage(
                why.trim_start_matches("ringgate-load: ").to_owned(),
            )),
            _ => Err(Error::Failed(format!(
                "{NAME} ended: {}: {why}",
                output.status
            ))),
        }
    }

    /// Sends the mix; the exit code and the report. The summary goes to standard output, unless JSON does.
    pub(super) fn mix(
        &self,
        arguments: &BenchArgs,
        folder: &Folder,
        target: SocketAddr,
        scenario: &str,
    ) -> Result<(u8, Value), Error> {
        let (mix, json) = (folder.file("mix.toml"), folder.file("mix.json"));
        std::fs::write(&mix, scenario)?;
        let mut command = self.mix_command(arguments, &mix);
        command.arg("--json").arg(&json);
        if arguments.json_to_stdout() {
            command.arg("--quiet");
        }
        command.arg(format!("http://{target}/"));
        let status = command.status()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let code = code.ok_or_else(|| Error::Failed(format!("{NAME} ended: {status}")))?;
        let Ok(report) = std::fs::read(&json) else {
            return Err(Error::Failed(format!("{NAME} made no report: {status}")));
        };
        let report = serde_json::from_slice(&report)
            .map_err(|error| Error::Failed(format!("{NAME}: {error}")))?;
        Ok((code, report))
    }
}

/// The built-in server, which ends with this value.
#[derive(Debug)]
pub(super) struct Upstream {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // It may have ended already.
        drop((self.child.kill(), self.child.wait()));
    }
}

/// A folder for the files that the two programs exchange.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self, Error> {
        let folder = std::env::temp_dir().join(format!("ringgate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
