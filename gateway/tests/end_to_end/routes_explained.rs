//! `ringgate explain`: what it says beside what the gateway does, from one configuration.

use std::fs;
use std::process::Command;
use std::sync::mpsc;

use gateway::config::entry;
use serde_json::Value;

use crate::support::{Client, Driver, Folder, LONG, Launch, Upstream, ok};

const KEY: &str = "mobile-key-0123456789";

/// Routes with one of everything, to the upstream at `UPSTREAM`, with the file of keys `KEYS`.
const ROUTES: &str = r#"
[client_ip]
trusted_proxies = ["127.0.0.0/8"]
[upstreams.up]
endpoints = [{ address = "UPSTREAM" }]
[upstreams.spare]
endpoints = [{ address = "192.0.2.9:80" }]
[consumers.mobile]
groups = ["apps"]
plan = "gold"
[api_keys.keys]
file = "KEYS"
[network_lists.office]
otherwise = "allow"
deny = ["198.51.100.0/24"]
[filters.known]
methods = ["GET", "POST", "PUT"]
[limits.per_caller]
key = ["consumer", "path:2"]
rate = "100/s"
[limits.watched]
key = "header:x-tenant"
rate = "1/s"
mode = "shadow"
[[routes]]
name = "user"
host = "api.test"
path = "/users/{id}"
auth = ["keys"]
limits = ["per_caller", "watched"]
network_lists = ["office"]
filters = ["known"]
upstream = "up"
max_body = "2B"
rewrite = { path = "/v2/${path.id}/of", host = "internal.test" }
request_headers = { set = { x-user = "${consumer.name} at ${client.address}" }, remove = ["x-secret"] }
response_headers = { set = { x-served = "${route}" }, remove = ["server"] }
[[routes]]
name = "user_by_version"
host = "api.test"
path = "/users/{id}"
headers = { x-version = "2" }
upstream = "spare"
[[routes]]
name = "user_writes"
host = "api.test"
path = "/users/{id}"
methods = ["PUT", "PATCH"]
query = { force = "1" }
upstream = "spare"
[[routes]]
name = "users"
host = "api.test"
path_prefix = "/users"
methods = ["GET"]
upstream = "up"
[[routes]]
name = "inside"
host = "api.test"
path = "/inside"
client_networks = ["10.0.0.0/8"]
upstream = "up"
[[routes]]
name = "moved"
host = "www.test"
redirect = { to = "https://${host}${path}" }
[[routes]]
name = "shares"
host = "shares.test"
split = [{ upstream = "up", weight = 5 }, { upstream = "spare", weight = 95 }]
[[routes]]
name = "teapot"
host = "tea.test"
respond = { status = 418, body = "short and stout" }
"#;

/// What `explain` prints and its exit code.
fn explain(config: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .arg("explain")
        .arg("-c")
        .arg(config)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn json(config: &std::path::Path, arguments: &[&str]) -> Value {
    let (_, out, told) = explain(config, &[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{told}"))
}

/// Writes the configuration of `launch` with its routes.
fn written(folder: &Folder, launch: &Launch) -> std::path::PathBuf {
    let file = folder.path().join("ringgate.toml");
    fs::write(&file, launch.text()).unwrap();
    file
}

fn routes(folder: &Folder, upstream: &str) -> String {
    let keys = folder.path().join("keys");
    fs::write(&keys, entry("mobile", KEY.as_bytes()).unwrap() + "\n").unwrap();
    ROUTES
        .replace("UPSTREAM", upstream)
        .replace("KEYS", &keys.display().to_string())
}

/// The configuration in a file, for no gateway that runs.
fn unserved() -> (Folder, std::path::PathBuf) {
    let folder = Folder::new();
    let launch = Launch::new(Driver::Epoll).rest(&routes(&folder, "192.0.2.1:80"));
    let file = written(&folder, &launch);
    (folder, file)
}

/// Lines of a head but for what is of the moment.
fn lasting(head: &str) -> Vec<String> {
    let moment = |line: &&str| {
        !line.starts_with("X-Request-Id:")
            && !line.starts_with("Date:")
            && !line.starts_with("Connection:")
    };
    head.lines().filter(moment).map(str::to_owned).collect()
}

on_both_drivers! {
    fn what_is_explained_is_what_is_done(driver) {
        let (requests, received) = mpsc::channel();
        let upstream = Upstream::answering(move |request, _| {
            drop(requests.send(request.clone()));
            ok("ok")
        });
        let folder = Folder::new();
        let launch = Launch::new(driver).rest(&routes(&folder, &upstream.address.to_string()));
        let file = written(&folder, &launch);
        let gateway = launch.start();
        let mut client = Client::connect(gateway.address);
        let key = format!("X-Api-Key: {KEY}");
        for (request, headers) in [
            ("GET http://api.test/users/a%2Fb?x=1", &[&*key, "X-Secret: 1", "X-Forwarded-For: 192.0.2.1"][..]),
            ("GET http://api.test/users/7/x", &["Connection: X-Gone", "X-Gone: 1"]),
            ("GET http://api.test/users/7", &[]),
            ("GET http://api.test/users/7", &["X-Api-Key: wrong"]),
            ("GET http://api.test/users/7", &[&*key, "X-Forwarded-For: 198.51.100.7"]),
            ("POST http://api.test/users/7", &[&*key, "Content-Length: 3"]),
            ("DELETE http://api.test/users/7/x", &[]),
            ("DELETE http://api.test/users/7", &[]),
            ("GET http://api.test/users/%2e%2e/x", &[]),
            ("GET http://api.test/users/%2F..", &[]),
            ("GET http://nobody.test/", &[]),
            ("GET http://www.test/a?b", &[]),
            ("HEAD http://tea.test/", &[]),
            ("GET http://tea.test/", &["Bad Name: 1"]),
        ] {
            let mut arguments = vec![request];
            for header in headers {
                arguments.extend(["-H", header]);
            }
            let said = json(&file, &arguments);
            let (method, url) = request.split_once(' ').unwrap();
            let url = url.strip_prefix("http://").unwrap();
            let (host, target) = url.split_at(url.find('/').unwrap());
            let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"));
            let answer = if method == "HEAD" { client.response_to_head() } else { client.response() };
            if answer.closes() {
                client = Client::connect(gateway.address);
            }
            let end = &said["end"];
            if let Some(forwarded) = end.get("forwarded") {
                assert_eq!(answer.status, 200, "{request}");
                let got = received.recv_timeout(LONG).unwrap();
                let fields = got.fields.iter().map(|(name, value)| format!("{name}: {value}\n"));
                let got = format!("{}\n{}", got.line, fields.collect::<String>());
                let head = forwarded["head"].as_str().unwrap();
                assert_eq!(lasting(head.trim_end()), lasting(&got), "{request}");
                for line in forwarded["response_added"].as_str().unwrap().lines() {
                    let (name, value) = line.split_once(": ").unwrap();
                    assert_eq!(answer.value(name), value);
                }
            } else {
                let own = end.get("answered").unwrap_or_else(|| &end["refused"]);
                assert_eq!(own["status"], answer.status, "{request}");
                let fields = answer.fields.iter().map(|(name, value)| format!("{name}: {value}"));
                let text = own["answer"].as_str().unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let fields: String = fields.map(|line| line + "\n").collect();
                assert_eq!(lasting(head)[1..], lasting(&fields), "{request}");
                if end.get("refused").is_some() {
                    assert_eq!(answer.json()["detail"], own["reason"], "{request}");
                } else {
                    assert_eq!(body, answer.text(), "{request}");
                }
            }
        }
    }
}

#[test]
fn each_route_that_lost_says_why() {
    let (_folder, file) = unserved();
    let key = format!("X-Api-Key: {KEY}");
    let (code, text, _) = explain(
        &file,
        &[
            "PUT http://api.test/users/7?force=1",
            "-H",
            &key,
            "--from",
            "::ffff:10.0.0.7",
            "-v",
        ],
    );
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "listener   web, from ::ffff:10.0.0.7",
        "route      user_writes",
        "  not      user_by_version: no header x-version is \"2\"",
        "  not      user: it would, but is less specific",
        "  not      users: the method PUT is none of GET",
        "  not      inside: it is for other paths",
        "  not      moved: it is for other hosts",
        "upstream   spare",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
    }
    let said = json(
        &file,
        &["GET http://api.test/inside", "-H", "Host: api.test"],
    );
    assert_eq!(said["route"], Value::Null);
    let why = |said: &Value, route: &str| {
        let lost = said["lost"].as_array().unwrap().iter();
        let found = lost.clone().find(|each| each["route"] == route).unwrap();
        found["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(why(&said, "inside"), "client_network");
    assert_eq!(why(&said, "teapot"), "host");
    let said = json(&file, &["PATCH http://api.test/users/7"]);
    assert_eq!(
        (&said["route"], &*why(&said, "user_writes")),
        (&"user".into(), "query")
    );
    let (_, text, _) = explain(&file, &["http://shares.test/"]);
    assert!(
        text.contains("\nupstream   up: 5 of 100 requests\nupstream   spare: 95 of 100 requests\n"),
        "{text}"
    );
    assert!(
        text.contains("\n  not      7 routes for other hosts\n"),
        "{text}"
    );
}

#[test]
fn each_filter_says_what_it_would_do() {
    let (_folder, file) = unserved();
    let key = format!("X-Api-Key: {KEY}");
    let (code, text, _) = explain(
        &file,
        &[
            "http://api.test/users/7",
            "-H",
            &key,
            "-H",
            "X-Tenant: acme",
            "-H",
            "X-Forwarded-For: 192.0.2.7",
        ],
    );
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "client     192.0.2.7, as the trusted proxy says",
        "networks   office: allowed",
        "filters    known: allowed",
        "auth       keys; caller mobile, groups apps, plan gold",
        "limit      per_caller: \"per_caller\";q=100;w=1 by consumer=mobile path:2=7",
        "limit      watched: \"watched\";q=1;w=1 by header:x-tenant=its value, in shadow mode",
        "  GET /v2/7/of HTTP/1.1",
        "  x-user: mobile at 192.0.2.7",
        "response   without x-served, server",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
    }
    assert!(!text.contains(KEY), "{text}");
    let (code, text, _) = explain(&file, &["http://api.test/users/7"]);
    assert_eq!(code, Some(1));
    for line in [
        "auth       keys; caller unknown",
        "limit      per_caller: not asked",
        "refused    401, credentials_missing",
        "  WWW-Authenticate: ApiKey realm=\"keys\"",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
    }
}

#[test]
fn wrong_usage_and_configurations_have_codes_of_their_own() {
    let (_folder, file) = unserved();
    for arguments in [
        &[][..],
        &["GET"],
        &["ftp://a.test/"],
        &["GET http://a.test/ b"],
        &["http://a.test/", "-H", "nothing"],
        &["http://a.test/", "--from", "a.test"],
    ] {
        let (code, _, told) = explain(&file, arguments);
        assert_eq!(code, Some(2), "{arguments:?} {told}");
    }
    for (name, near) in [("wbe", "did you mean `web`?"), ("other", "there is web")] {
        let (code, _, told) = explain(&file, &["http://a.test/", "--listener", name]);
        assert_eq!(code, Some(2), "{told}");
        let message = format!("no listener is named `{name}`; {near}");
        assert!(told.contains(&message), "{told}");
    }
    let without = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["explain", "http://a.test/"])
        .env_remove("RINGGATE_CONFIG")
        .output()
        .unwrap();
    assert_eq!(without.status.code(), Some(2));
    fs::write(&file, "version = 1\nzzz = 1\n").unwrap();
    let (code, out, told) = explain(&file, &["http://a.test/"]);
    assert_eq!((code, &*out), (Some(78), ""));
    assert!(told.contains("zzz: unknown key"), "{told}");
}

#[test]
fn an_authenticator_elsewhere_is_not_asked_and_it_says_that_it_would_be() {
    let folder = Folder::new();
    let sso = Upstream::saying("no");
    let launch = Launch::new(Driver::Epoll).rest(&format!(
        "[upstreams.up]\nendpoints = [{{ address = \"{0}\" }}]\n[upstreams.sso]\nendpoints = [{{ address = \"{0}\" }}]\n\
         [forward_auth.gate]\nupstream = \"sso\"\npath = \"/verify\"\nconsumer_header = \"x-user\"\n\
         [[routes]]\nname = \"r\"\nauth = [\"gate\"]\ngroups = [\"staff\"]\nupstream = \"up\"\n",
        sso.address
    ));
    let file = written(&folder, &launch);
    let (code, text, _) = explain(
        &file,
        &["http://api.test/", "-H", "Authorization: Bearer t"],
    );
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "auth       gate; caller unknown",
        "asks       gate, by GET /verify to sso; supposed that it lets in",
        "upstream   up",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
    }
    assert!(!text.contains("Bearer"), "{text}");
    let said = json(&file, &["http://api.test/"]);
    assert_eq!(said["asks"]["upstream"], "sso");
    assert_eq!(said["asks"]["request"], "GET /verify");
    assert_eq!((sso.accepted(), sso.requests()), (0, 0));
}
