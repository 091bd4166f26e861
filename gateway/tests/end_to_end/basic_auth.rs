//! Names and passwords: who is let in, what is told to whom, and what a flood of wrong ones cannot do.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{
    Client, Driver, Folder, Gateway, LONG, Launch, Response, Upstream, eventually, ok, skip,
    to_upstream,
};

/// Of "correct horse", by the C library's crypt and by the reference implementation of argon2.
const BCRYPT: &str = "$2b$08$abcdefghijklmnopqrstuubAvJmxpQuyV3jn7x.SUSPxe.DearCPe";
const ARGON2ID: &str = "$argon2id$v=19$m=8192,t=1,p=1$AlwmlgJjTtzFV+9qbBECHQ$Y5Zsr2Te3kWmq6R8ylJwCBEQ2YSZIW4A7msPIJzJstk";

fn users(folder: &Folder, text: &str) -> String {
    let file = folder.path().join("users");
    fs::write(folder.path().join("users.new"), text).unwrap();
    fs::rename(folder.path().join("users.new"), &file).unwrap();
    format!(
        "[basic_auth.staff]\nfile = \"{}\"\nrealm = \"Staff only\"\n",
        file.display()
    )
}

fn both(folder: &Folder) -> String {
    users(folder, &format!("# users\nada:{BCRYPT}\nbob:{ARGON2ID}\n"))
}

const ROUTE: &str = "[[routes]]\nname = \"r\"\nauth = [\"staff\"]\nrespond = { body = \"in\" }\n";

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

fn ask(gateway: &Gateway, fields: &str) -> Response {
    let mut client = Client::connect(gateway.address);
    client.send(format!("GET / HTTP/1.1\r\nHost: t\r\n{fields}\r\n"));
    client.response()
}

on_both_drivers! {
    fn who_knows_the_password_is_let_in(driver) {
        let folder = Folder::new();
        let gateway = Launch::new(driver).rest(&both(&folder)).rest(ROUTE).start();
        // The second time a worker knows it.
        for _ in 0..3 {
            for user in ["ada", "bob"] {
                assert_eq!(ask(&gateway, &basic(&format!("{user}:correct horse"))).text(), "in");
            }
        }
        let scheme = basic("ada:correct horse").replace("Basic", "bAsIc");
        assert_eq!(ask(&gateway, &scheme).text(), "in");
        let refused = ask(&gateway, "");
        assert_eq!(refused.problem(401), "credentials_missing");
        assert_eq!(refused.value("www-authenticate"), "Basic realm=\"Staff only\", charset=\"UTF-8\"");
    }

    fn nobody_else_is(driver) {
        let folder = Folder::new();
        let gateway = Launch::new(driver).rest(&both(&folder)).rest(ROUTE).start();
        assert_eq!(ask(&gateway, &basic("ada:correct horse")).text(), "in");
        for pair in [
            "ada:", "ada:correct horsE", "ada:correct horse ", "ada:correct horse\0", "ada:correct horse\0x", "ada",
            "Ada:correct horse", "adb:correct horse", "bob:correct", ":correct horse", ":",  "eve:x", "ada:correct horse:x",
        ] {
            let refused = ask(&gateway, &basic(pair));
            assert_eq!(refused.problem(401), "password_wrong", "{pair:?}");
            assert_eq!(refused.values("www-authenticate").len(), 1);
        }
        for (fields, reason) in [
            ("Authorization: Basic %%%\r\n".to_owned(), "password_wrong"),
            ("Authorization: Basic\r\n".to_owned(), "credentials_missing"),
            ("Authorization: Bearer YWRhOmNvcnJlY3QgaG9yc2U=\r\n".to_owned(), "credentials_missing"),
            (format!("{}{}", basic("ada:correct horse"), basic("eve:x")), "credentials_several"),
        ] {
            assert_eq!(ask(&gateway, &fields).problem(401), reason, "{fields}");
        }
    }

    fn the_upstream_is_told_who_and_not_how(driver) {
        let folder = Folder::new();
        let (requests, received) = mpsc::channel();
        let upstream = Upstream::answering(move |request, _| {
            drop(requests.send(request.clone()));
            ok("")
        });
        let consumer = "[consumers.ada]\ngroups = [\"staff\"]\nplan = \"gold\"\n";
        for (forward, fields) in [(false, 0), (true, 1)] {
            let gateway = Launch::new(driver)
                // One worker: so its records are in the order of the requests.
                .one_worker()
                .rest(&format!("{}forward_credentials = {forward}\n{consumer}", both(&folder)))
                .rest(&to_upstream(&[upstream.address], ""))
                .rest("auth = [\"staff\"]\ngroups = [\"staff\"]\n")
                .start();
            // Whether it has just been verified, or was known.
            for _ in 0..2 {
                assert_eq!(ask(&gateway, &basic("ada:correct horse")).status, 200);
                let request = received.recv_timeout(LONG).unwrap();
                assert_eq!(request.values("x-consumer"), ["ada"]);
                assert_eq!(request.values("x-consumer-plan"), ["gold"]);
                assert_eq!(request.values("authorization").len(), fields);
            }
            assert_eq!(ask(&gateway, &basic("bob:correct horse")).problem(403), "group_missing");
            assert_eq!(gateway.record_of("/")["ringgate.consumer"], "ada");
            let said = gateway.said().join("\n");
            assert!(!said.contains("correct horse") && !said.contains(&STANDARD.encode("ada:correct horse")));
        }
    }

    fn a_key_beside_a_password_is_asked_in_the_order_of_the_route(driver) {
        let folder = Folder::new();
        let keys = folder.path().join("keys");
        fs::write(&keys, "machine sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n").unwrap();
        let gateway = Launch::new(driver)
            .rest(&both(&folder))
            .rest(&format!("[api_keys.keys]\nfile = \"{}\"\n", keys.display()))
            .rest("[[routes]]\nname = \"r\"\nauth = [\"staff\", \"keys\"]\nrespond = { body = \"in\" }\n")
            .start();
        // The SHA-256 of "secret".
        let key = "X-Api-Key: secret\r\n";
        assert_eq!(ask(&gateway, key).text(), "in");
        assert_eq!(ask(&gateway, &format!("{}{key}", basic("ada:wrong"))).text(), "in");
        let refused = ask(&gateway, &format!("{}X-Api-Key: other\r\n", basic("ada:wrong")));
        assert_eq!(refused.problem(401), "password_wrong");
        assert_eq!(refused.values("www-authenticate").len(), 2);
    }

    fn a_password_that_was_changed_is_forgotten(driver) {
        let folder = Folder::new();
        let gateway = Launch::new(driver).rest(&both(&folder)).rest(ROUTE).start();
        assert_eq!(ask(&gateway, &basic("ada:correct horse")).text(), "in");
        users(&folder, &format!("bob:{ARGON2ID}\n"));
        eventually("the end of ada", || {
            (ask(&gateway, &basic("ada:correct horse")).status == 401).then_some(())
        });
        assert_eq!(ask(&gateway, &basic("bob:correct horse")).text(), "in");
        // A file with a mistake changes nothing.
        users(&folder, "bob:plain\n");
        eventually("the failed load", || {
            let labels = [("authenticator", "staff"), ("outcome", "failed")];
            (gateway.metric("ringgate_credential_loads_total", &labels) > 0.0).then_some(())
        });
        assert_eq!(ask(&gateway, &basic("bob:correct horse")).text(), "in");
    }

    fn a_flood_of_wrong_passwords_waits_for_nobody_and_keeps_nobody_waiting(driver) {
        let folder = Folder::new();
        let gateway = Launch::new(driver)
            .one_worker()
            .rest(&both(&folder))
            .rest(&format!("{ROUTE}[[routes]]\nname = \"free\"\npath = \"/free\"\nrespond = {{ body = \"free\" }}\n"))
            .start();
        assert_eq!(ask(&gateway, &basic("ada:correct horse")).text(), "in");
        let mut flood: Vec<Client> = (0..200).map(|_| Client::connect(gateway.address)).collect();
        for (number, client) in flood.iter_mut().enumerate() {
            client.send(format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", basic(&format!("ada:{number}"))));
        }
        // Some wait, the others get 503 at once; who is known and who needs no password are served meanwhile.
        assert_eq!(ask(&gateway, &basic("ada:correct horse")).text(), "in");
        assert_eq!(gateway.get("/free").text(), "free");
        let statuses: Vec<u16> = flood.iter_mut().map(|client| client.response().status).collect();
        let count = |status| statuses.iter().filter(|each| **each == status).count();
        assert_eq!(count(401) + count(503), 200, "{statuses:?}");
        assert!(count(503) > 0 && count(401) >= 64, "{statuses:?}");
        let rejected = gateway.metric("ringgate_rejected_requests_total", &[("reason", "passwords_busy")]);
        assert!(rejected > 0.0);
    }
}

/// How long a wrong password takes does not say whether the user exists: the shortest times, which the load of the machine does
/// not touch, differ by less than a quarter.
#[test]
fn a_user_that_is_not_there_takes_as_long_as_one_that_is() {
    let folder = Folder::new();
    let gateway = Launch::new(Driver::Epoll)
        .rest(&users(&folder, &format!("ada:{BCRYPT}\nbob:{BCRYPT}\n")))
        .rest(ROUTE)
        .start();
    let mut client = Client::connect(gateway.address);
    let mut time = |user: &str, number: usize| {
        let start = Instant::now();
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: t\r\n{}\r\n",
            basic(&format!("{user}:{number}"))
        ));
        assert_eq!(client.response().status, 401);
        start.elapsed()
    };
    let (there, absent): (Vec<Duration>, Vec<Duration>) = (0..21)
        .map(|number| (time("bob", number), time("eve", number)))
        .unzip();
    let shortest = |times: &[Duration]| times.iter().min().unwrap().as_secs_f64();
    let ratio = shortest(&there) / shortest(&absent);
    assert!((0.75..1.33).contains(&ratio), "{there:?} {absent:?}");
}

/// The command that makes lines of files of passwords.
fn hash_password(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .arg("hash-password")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_line_that_hash_password_makes_lets_its_user_in() {
    let folder = Folder::new();
    let ada = hash_password(&["--user", "ada"], "correct horse\n");
    let bob = hash_password(&["--bcrypt", "--user", "bob"], "battery staple");
    let gateway = Launch::new(Driver::Epoll)
        .rest(&users(&folder, &(ada + &bob)))
        .rest(ROUTE)
        .start();
    assert_eq!(ask(&gateway, &basic("ada:correct horse")).text(), "in");
    assert_eq!(ask(&gateway, &basic("bob:battery staple")).text(), "in");
    let swapped = ask(&gateway, &basic("bob:correct horse"));
    assert_eq!(swapped.problem(401), "password_wrong");
}

/// On a terminal, which `script` makes.
#[test]
fn a_password_that_is_typed_is_not_shown() {
    let command = format!(
        "{} hash-password --user ada",
        env!("CARGO_BIN_EXE_ringgate")
    );
    let child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        return skip(
            "script",
            "basic_auth::a_password_that_is_typed_is_not_shown",
        );
    };
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    for question in ["Password: ", "Again: "] {
        while !shown.ends_with(question) {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{shown}");
            shown.push(byte[0].into());
        }
        stdin.write_all(b"correct horse\n").unwrap();
    }
    stdout.read_to_string(&mut shown).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{shown}");
    assert!(
        shown.contains("ada:$argon2id$v=19$m=19456,t=2,p=1$"),
        "{shown}"
    );
    assert!(!shown.contains("horse"), "{shown}");
}
