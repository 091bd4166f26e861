//! Both programs: `ringgate bench` from a configuration to a verdict, and the gateway's log as a load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Once, mpsc};

use serde_json::Value;

use crate::support::{Client, Folder, Launch, Upstream, eventually, ok, send, to_upstream};

const ROUTES: &str = r#"
[upstreams.far]
endpoints = [{ address = "192.0.2.1:80" }]
[limits.per_client]
key = "client_ip"
rate = "50/s"
[limits.per_key]
key = "header:x-api-key"
rate = "60/s"
burst = 30
status = 503
[limits.watched]
rate = "1/s"
mode = "shadow"
[[routes]]
name = "plain"
path_prefix = "/plain"
upstream = "far"
[[routes]]
name = "clients"
hosts = ["*.example.com"]
path = "/clients"
limits = ["per_client"]
upstream = "far"
[[routes]]
name = "keys"
path = "/keys/{id}"
methods = ["POST"]
limits = ["per_key"]
upstream = "far"
[[routes]]
name = "teapot"
path = "/teapot"
limits = ["watched"]
respond = { status = 418 }
[[routes]]
name = "odd"
path_regex = "/odd[0-9]"
upstream = "far"
[filters.versioned]
methods = ["PUT"]
required_headers = { x-version = "v[0-9]+" }
[[routes]]
name = "filtered"
path = "/filtered"
filters = ["versioned"]
upstream = "far"
[forward_auth.judge]
upstream = "far"
path = "/judge"
[[routes]]
name = "judged"
path = "/judged"
auth = ["judge"]
upstream = "far"
[api_keys.callers]
file = "CALLERS"
header = "x-caller"
[[routes]]
name = "private"
path = "/private"
auth = ["callers"]
upstream = "far"
[[routes]]
name = "elsewhere"
path = "/elsewhere"
client_networks = ["10.0.0.0/8"]
upstream = "far"
"#;

fn ringgate() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ringgate"))
}

/// Builds the other program where only this crate's tests are; a whole `cargo test` has built it.
fn with_load() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        if !ringgate().with_file_name("ringgate-load").exists() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--locked", "-p", "loadgen"])
                .status();
            assert!(built.unwrap().success());
        }
    });
    ringgate()
}

fn bench(program: &Path, config: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(["bench", "--warmup", "0s", "--duration", "1s", "-c"])
        .arg(config)
        .args(arguments)
        .output()
        .unwrap()
}

fn written(folder: &Folder, text: &str) -> PathBuf {
    let file = folder.path().join("ringgate.toml");
    fs::write(&file, text).unwrap();
    file
}

on_both_drivers! {
    fn a_log_that_the_gateway_wrote_is_sent_again_as_it_was_asked(driver) {
        let folder = Folder::new();
        let log = folder.path().join("access.log");
        let upstream = Upstream::answering(|_, _| ok(""));
        let gateway = Launch::new(driver)
            .access_log(&format!("path = \"{}\"\n", log.display()))
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let asked = ["GET /a%20b?c=d%26e&f=%22", "HEAD /second", "DELETE /third", "PURGE /fourth/%2F"];
        let mut client = Client::connect(gateway.address);
        for line in asked {
            client.send(format!("{line} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.response_to_head().status, 200);
        }
        // What is no request is a line of the log, too; nothing can be sent of it.
        assert_eq!(send(gateway.address, "GET\r\n\r\n").status, 400);
        eventually("the log", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            (text.lines().count() == asked.len() + 1 && text.ends_with('\n')).then_some(())
        });
        let (tell, told) = mpsc::channel();
        let target = Upstream::answering(move |request, _| {
            let line = request.line.trim_end_matches(" HTTP/1.1").to_owned();
            let _whoever_waits = tell.send((line, request.values("x-forwarded-for").concat()));
            ok("")
        });
        let output = Command::new(with_load().with_file_name("ringgate-load"))
            .args(["replay", log.to_str().unwrap(), "--forward", "--lag-max", "60s", "-c", "1", "-t", "1"])
            .args(["--live", "never", "--json", "-", &format!("http://{}/", target.address)])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["requests"]["succeeded"], 4, "{report:#}");
        assert!(report["verdict"]["notes"].to_string().contains("1 lines of the log"), "{report:#}");
        // They are milliseconds apart: a generator that was late sends them on several connections, in any order.
        let mut sent: Vec<_> = told.try_iter().collect();
        let mut expected: Vec<_> = asked.iter().map(|line| ((*line).to_owned(), "127.0.0.1".to_owned())).collect();
        sent.sort();
        expected.sort();
        assert_eq!(sent, expected);
    }

    fn a_configuration_is_benched_as_it_is_but_for_what_lies_beyond(driver) {
        let folder = Folder::new();
        // The address of the endpoint answers nobody, and that of the listener is taken elsewhere: neither is used.
        let text = Launch::new(driver).listen("192.0.2.2:80").runtime(&format!("driver = \"{}\"", driver.name()));
        let (key, callers) = ("0123456789abcdef0123456789abcdef", folder.path().join("callers"));
        fs::write(&callers, gateway::config::entry("ann", key.as_bytes()).unwrap()).unwrap();
        let routes = ROUTES.replace("CALLERS", callers.to_str().unwrap());
        let config = written(&folder, &text.rest(&routes).text());
        let field = format!("X-Caller: {key}");
        let output = bench(&with_load(), &config, &["--connections", "8", "--json", "-", "-H", &field]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!((&report["schema"], &report["exit_code"]), (&"ringgate-bench/1".into(), &0.into()));
        let kinds = report["load"]["kinds"].as_array().unwrap();
        let asked: Vec<&str> = kinds.iter().map(|kind| kind["name"].as_str().unwrap()).collect();
        assert_eq!(asked, ["plain", "clients", "keys", "teapot", "odd", "filtered", "judged", "private"]);
        for kind in kinds {
            assert!(kind["responses"].as_u64().unwrap() > 0 && kind["failed"] == 0, "{kind:#}");
        }
        assert_eq!(report["left_out"].as_array().unwrap().len(), 1, "{report:#}");
        assert_eq!(report["left_out"][0]["route"], "elsewhere");
        let busy = report["workers_busy"].as_array().unwrap();
        assert!(busy.len() == 2 && busy.iter().all(|ratio| ratio.as_f64().unwrap() > 0.0), "{busy:?}");
        assert!(report["worker_imbalance"]["web"].as_f64().unwrap() >= 1.0, "{report:#}");
        let [client, key, watched] = report["limits"].as_array().unwrap().as_slice() else {
            panic!("{report:#}")
        };
        for limit in [client, key] {
            let accuracy = &limit["accuracy"];
            let (keys, ideal) = (limit["keys"].as_f64().unwrap(), accuracy["ideal"].as_f64().unwrap());
            assert!(accuracy["requests"].as_f64().unwrap() > ideal, "it was asked for more: {limit:#}");
            // The ideal decides at the send and the limiter later, on a full machine much later; one bucket for each
            // worker would be off by all of it.
            for side in ["over_percent", "under_percent"] {
                let off = accuracy[side].as_f64().unwrap() / 100.0 * ideal;
                assert!(off <= 3.0 * keys + 0.1 * ideal, "{side}: {limit:#}");
            }
        }
        assert_eq!(watched["not_judged"], "it refuses nothing");
    }
}

#[test]
fn a_missed_goal_and_what_is_wrong_show_in_the_exit_code() {
    let folder = Folder::new();
    let plain = "version = 1\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
                 [[routes]]\nname = \"all\"\nrespond = { status = 200 }\n";
    let config = written(&folder, plain);
    let output = bench(&with_load(), &config, &["--slo", "p50<1ns"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    for part in [
        "closed loop",
        "MISSED",
        "verdict    a goal was missed",
        "balance    web",
        "1 routes",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let wrong = written(&folder, "version = 1\nlisteners = 3\n");
    assert_eq!(bench(&ringgate(), &wrong, &[]).status.code(), Some(78));
}

#[test]
fn a_configuration_whose_routes_all_refuse_is_told_what_each_of_them_asks_for() {
    let folder = Folder::new();
    let callers = folder.path().join("callers");
    fs::write(&callers, "").unwrap();
    let text = format!(
        "version = 1\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[api_keys.callers]\nfile = {callers:?}\n\
         [[routes]]\nname = \"all\"\nauth = [\"callers\"]\nrespond = {{ status = 200 }}\n"
    );
    let output = bench(&with_load(), &written(&folder, &text), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let lines: Vec<&str> = said.lines().collect();
    let [_, reason] = lines[..] else {
        panic!("{said}")
    };
    assert!(
        reason.starts_with("  all: ")
            && reason.contains("401")
            && reason.ends_with("add them with -H"),
        "{said}"
    );
}

#[test]
fn an_argument_that_the_load_generator_does_not_take_is_2_before_anything_starts() {
    let folder = Folder::new();
    let plain = "version = 1\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
                 [[routes]]\nname = \"all\"\nrespond = { status = 200 }\n";
    let config = written(&folder, plain);
    for (arguments, part) in [
        (["--slo", "p99<fast"], "--slo"),
        (["--rate", "many"], "--rate"),
    ] {
        let output = bench(&with_load(), &config, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(said.contains(part) && !said.contains("Usage"), "{said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn without_the_other_program_it_says_what_to_do() {
    let folder = Folder::new();
    let alone = folder.path().join("ringgate");
    fs::copy(ringgate(), &alone).unwrap();
    let config = written(
        &folder,
        "version = 1\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nname = \"all\"\nrespond = { status = 200 }\n",
    );
    let output = Command::new(&alone)
        .env("PATH", folder.path())
        .args(["bench", "-c"])
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "ringgate-load",
        "cargo build --release -p loadgen",
        "make install",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
