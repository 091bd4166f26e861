//! Key sets by URL: fetched, rotated, kept while the issuer fails, and what an issuer or a caller can try. Issuers are servers on
//! real sockets; those with TLS show certificates that another implementation made, see `tests/keys/make_tls.py`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::jwt::{CLAIMS, bearer, keys, refused, token};
use crate::support::{Driver, Folder, Gateway, LONG, Launch, Upstream, eventually, ok, send};

/// An issuer whose answer can be changed.
struct Issuer {
    server: Upstream,
    answer: Arc<Mutex<String>>,
}

impl Issuer {
    fn new(answer: &str) -> Self {
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let shared = Arc::clone(&answer);
        let server = Upstream::answering(move |_, _| shared.lock().unwrap().clone());
        Self { server, answer }
    }

    fn now_answers(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    fn url(&self) -> String {
        format!("http://{}/jwks", self.server.address)
    }
}

/// The keys of the tests, those that `keep` says.
fn set(keep: impl Fn(&Value) -> bool) -> Value {
    let mut set: Value = serde_json::from_slice(&fs::read(keys("jwks.json")).unwrap()).unwrap();
    set["keys"].as_array_mut().unwrap().retain(keep);
    set
}

fn all() -> String {
    ok(&set(|_| true).to_string())
}

fn rsa_alone() -> String {
    ok(&set(|key| key["kid"] == "rsa").to_string())
}

/// A gateway that asks for tokens with the keys of `url`.
fn gateway(driver: Driver, url: &str, more: &str) -> Gateway {
    Launch::new(driver)
        .one_worker()
        .rest(&routes(url, more))
        .start()
}

/// As [`gateway`], with two workers: each looks for newer keys by itself, within a second.
fn gateway_of_two(driver: Driver, url: &str, more: &str) -> Gateway {
    Launch::new(driver).rest(&routes(url, more)).start()
}

fn routes(url: &str, more: &str) -> String {
    format!(
        "[jwt.main]\n{CLAIMS}\njwks_url = \"{url}\"\n{more}\n\
         [[routes]]\nname = \"all\"\nauth = [\"main\"]\nrespond = {{ body = \"in\" }}\n"
    )
}

/// Asserts that nobody can say whose a token is.
#[track_caller]
fn without_keys(gateway: &Gateway) {
    let response = bearer(gateway, token("RS256"));
    assert_eq!(response.problem(503), "token_keys_missing");
    assert_eq!(response.value("retry-after"), "1");
}

fn fetches(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("authenticator", "main"), ("outcome", outcome)];
    gateway.metric("ringgate_credential_loads_total", &labels)
}

/// A token with good claims that names a key of this name; its signature is nobody's.
fn made_up(kid: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": kid}).to_string());
    let claims = token("ES256").split('.').nth(1).unwrap();
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64]))
}

/// A server with TLS that shows the certificate of this file and answers all with `answer`, on a thread of its own.
fn with_tls(certificate: &str, answer: String) -> SocketAddr {
    let pem = fs::read(keys(&format!("tls/{certificate}.pem"))).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that does not trust it ends the handshake, and so this.
            drop(answer_over_tls(stream, &config, &answer));
        }
    });
    address
}

fn answer_over_tls(
    stream: TcpStream,
    config: &Arc<rustls::ServerConfig>,
    answer: &str,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LONG))?;
    let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

on_both_drivers! {
    fn keys_are_fetched_and_those_that_are_gone_verify_nothing_any_more(driver) {
        let issuer = Issuer::new(&all());
        let gateway = gateway(driver, &issuer.url(), "jwks_refresh = \"1s\"");
        for name in ["RS256", "ES256", "EdDSA"] {
            assert_eq!(bearer(&gateway, token(name)).status, 200, "{name}");
        }
        assert_eq!(gateway.metric("ringgate_key_set_keys", &[("authenticator", "main")]), 4.0);
        assert!(gateway.metric("ringgate_key_set_fetched_timestamp_seconds", &[]) > 1.5e9);
        issuer.now_answers(&rsa_alone());
        eventually("the keys to be gone", || (bearer(&gateway, token("ES256")).status == 401).then_some(()));
        refused(&bearer(&gateway, token("ES256")), "token_key_unknown");
        assert_eq!(bearer(&gateway, token("RS256")).status, 200);
        let said = gateway.said().join("\n");
        assert!(said.contains("keys were fetched") && said.contains("left_out=3"), "{said}");
    }

    fn a_token_with_a_new_key_waits_for_the_fetch_that_it_causes(driver) {
        let (go, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let server = Upstream::start(move |mut exchange| {
            if exchange.request().is_none() {
                return;
            }
            if exchange.number == 0 {
                exchange.send(rsa_alone());
            } else {
                held.lock().unwrap().recv_timeout(LONG).unwrap();
                exchange.send(all());
            }
        });
        let url = format!("http://{}/jwks", server.address);
        let more = "jwks_cooldown = \"1s\"\njwks_refresh = \"1h\"\njwks_timeout = \"30s\"";
        let gateway = Arc::new(gateway_of_two(driver, &url, more));
        let (asking, statuses) = (Arc::clone(&gateway), Arc::new(Mutex::new(Vec::new())));
        let heard = Arc::clone(&statuses);
        let asking = thread::spawn(move || {
            eventually("a new key to be taken", || {
                let status = bearer(&asking, token("named")).status;
                heard.lock().unwrap().push(status);
                (status == 200).then_some(())
            });
        });
        eventually("the second fetch", || (server.requests() == 2).then_some(()));
        let refused = statuses.lock().unwrap().len();
        assert_eq!(bearer(&gateway, token("RS256")).status, 200, "others are not held up");
        go.send(()).unwrap();
        asking.join().unwrap();
        let statuses = statuses.lock().unwrap();
        assert!(statuses[..refused].iter().all(|status| *status == 401), "{statuses:?}");
        assert_eq!(statuses[refused..], [200], "{statuses:?}");
        assert_eq!(gateway.metric("ringgate_key_set_early_fetches_total", &[]), 1.0);
        assert_eq!(server.requests(), 2);
    }

    fn made_up_keys_cause_no_more_fetches_than_the_cooldown_allows(driver) {
        let issuer = Issuer::new(&all());
        let quiet = gateway_of_two(driver, &issuer.url(), "jwks_cooldown = \"1h\"\njwks_refresh = \"1d\"");
        for number in 0..100 {
            refused(&bearer(&quiet, &made_up(&number.to_string())), "token_key_unknown");
        }
        assert_eq!(issuer.server.requests(), 1);

        let issuer = Issuer::new(&all());
        let begin = Instant::now();
        let gateway = Arc::new(gateway_of_two(driver, &issuer.url(), "jwks_cooldown = \"1s\"\njwks_refresh = \"1d\""));
        let flood = |thread: usize| {
            let (gateway, issuer) = (Arc::clone(&gateway), &issuer.server);
            move || {
                let mut number = 0;
                while issuer.requests() < 3 && begin.elapsed() < LONG {
                    refused(&bearer(&gateway, &made_up(&format!("{thread}-{number}"))), "token_key_unknown");
                    number += 1;
                }
                number
            }
        };
        let asked: usize = thread::scope(|scope| {
            let floods: Vec<_> = (0..3).map(|thread| scope.spawn(flood(thread))).collect();
            floods.into_iter().map(|each| each.join().unwrap()).sum()
        });
        let most = begin.elapsed().as_secs() + 1;
        let fetches = issuer.server.requests() as u64;
        assert!((3..=most).contains(&fetches), "{fetches} fetches in {most} s for {asked} tokens");
        assert_eq!(bearer(&gateway, token("ES256")).status, 200);
    }

    fn only_a_token_that_a_newer_key_would_let_in_has_the_set_fetched(driver) {
        let issuer = Issuer::new(&rsa_alone());
        let gateway = gateway(driver, &issuer.url(), "jwks_cooldown = \"1s\"\njwks_refresh = \"1d\"");
        // When the cooldown is over these still ask nobody: one that would have is what ends the test.
        let first = Instant::now();
        while first.elapsed().as_secs() < 2 {
            for hopeless in ["other_issuer", "other_audience", "expired"] {
                refused(&bearer(&gateway, token(hopeless)), "token_key_unknown");
            }
        }
        assert_eq!(issuer.server.requests(), 1);
        eventually("a fetch", || {
            refused(&bearer(&gateway, token("ES256")), "token_key_unknown");
            (issuer.server.requests() == 2).then_some(())
        });
    }

    fn an_issuer_that_fails_leaves_the_last_set_until_it_is_too_old(driver) {
        let issuer = Issuer::new(&all());
        let more = "jwks_refresh = \"1s\"\njwks_max_stale = \"3s\"\njwks_cooldown = \"1s\"";
        let gateway = gateway(driver, &issuer.url(), more);
        issuer.now_answers("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
        eventually("a failure", || (fetches(&gateway, "failed") >= 1.0).then_some(()));
        assert_eq!(bearer(&gateway, token("RS256")).status, 200);
        eventually("the set to be too old", || {
            let response = bearer(&gateway, token("RS256"));
            assert!([200, 503].contains(&response.status), "{response:?}");
            (response.status == 503).then_some(())
        });
        without_keys(&gateway);
        assert_eq!(gateway.metric("ringgate_key_set_keys", &[]), 0.0);
        assert_eq!(gateway.record_of("/")["http.response.status_code"], 200);
        issuer.now_answers(&all());
        eventually("the issuer to be back", || (bearer(&gateway, token("RS256")).status == 200).then_some(()));
        let said = gateway.said().join("\n");
        for line in ["those that were known stay in use", "answered 500", "too old", "keys were fetched"] {
            assert!(said.contains(line), "{line} in {said}");
        }
        assert_eq!(said.matches("answered 500").count(), 1, "{said}");
    }

    fn a_set_without_a_usable_key_does_not_take_the_place_of_a_good_one(driver) {
        let alone = |change: &dyn Fn(&mut Value)| {
            let mut set = set(|key| key["kid"] == "rsa");
            change(&mut set["keys"][0]);
            ok(&set.to_string())
        };
        let issuer = Issuer::new(&all());
        // The other takes what an elliptic key can sign, by the same set.
        let url = issuer.url();
        let other = format!(
            "[jwt.other]\nissuer = \"any\"\naudience = \"any\"\nalgorithms = [\"ES256\"]\njwks_url = \"{url}\"\njwks_refresh = \"1s\"\n\
             [[routes]]\nname = \"other\"\npath = \"/other\"\nauth = [\"other\"]\nrespond = {{ body = \"in\" }}");
        let more = format!("jwks_refresh = \"1s\"\n{other}");
        let gateway = gateway(driver, &url, &more);
        let unusable: [(&str, String); 8] = [
            ("kty", alone(&|key| key["kty"] = "AKP".into())),
            ("alg", alone(&|key| key["alg"] = "RSA-OAEP-256".into())),
            ("alg of another kind", alone(&|key| key["alg"] = "ES256".into())),
            ("alg of a secret", alone(&|key| key["alg"] = "HS256".into())),
            ("use", alone(&|key| key["use"] = "enc".into())),
            ("key_ops", alone(&|key| key["key_ops"] = json!(["encrypt"]))),
            ("short", alone(&|key| key["n"] = URL_SAFE_NO_PAD.encode([0xc5; 128]).into())),
            ("crv", ok(&json!({"keys": [{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}]}).to_string())),
        ];
        for (what, answer) in &unusable {
            let failed = fetches(&gateway, "failed");
            issuer.now_answers(answer);
            eventually(what, || (fetches(&gateway, "failed") > failed).then_some(()));
            assert_eq!(bearer(&gateway, token("RS256")).status, 200, "{what}");
            assert_eq!(gateway.metric("ringgate_key_set_keys", &[("authenticator", "main")]), 4.0, "{what}");
            // The first of a row is told, and then that it is over.
            issuer.now_answers(&all());
            let good = fetches(&gateway, "ok");
            eventually("a good set", || (fetches(&gateway, "ok") > good).then_some(()));
        }
        let said = gateway.said().join("\n");
        let told = "keys could not be fetched, those that were known stay in use authenticator=\"main, other\"";
        assert_eq!(said.matches(told).count(), unusable.len(), "{said}");
        assert!(said.contains("it holds no key that verifies signatures"), "{said}");
        // Good for one of the two alone: the other keeps what it has.
        issuer.now_answers(&rsa_alone());
        eventually("a set for one of them", || {
            (gateway.metric("ringgate_key_set_keys", &[("authenticator", "main")]) == 1.0).then_some(())
        });
        let asked = |path: &str, name: &str| {
            let line = format!("GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n\r\n", token(name));
            send(gateway.address, &line).status
        };
        eventually("its keys to be in use", || (asked("/", "ES256") == 401).then_some(()));
        assert_eq!([asked("/", "RS256"), asked("/other", "ES256")], [200, 200]);
        let of_other = [("authenticator", "other"), ("outcome", "failed")];
        assert!(gateway.metric("ringgate_credential_loads_total", &of_other) > unusable.len() as f64);
        let said = gateway.said().join("\n");
        assert!(said.contains("authenticator=other") && said.contains("it holds no key for ES256"), "{said}");
    }

    fn the_start_does_not_need_an_issuer_unless_told_so(driver) {
        // Taken and free again: nobody listens there.
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{nobody}/jwks");
        let gateway = gateway(driver, &url, "");
        without_keys(&gateway);
        let reasons = [("reason", "token_keys_missing")];
        assert_eq!(gateway.metric("ringgate_rejected_requests_total", &reasons), 1.0);
        let _issuer = Upstream::start_at(nobody, |mut exchange| {
            exchange.request();
            exchange.send(all());
        });
        eventually("the first set", || (bearer(&gateway, token("RS256")).status == 200).then_some(()));

        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{nobody}/jwks");
        let ended = Launch::new(driver).rest(&routes(&url, "jwks_required = true")).fail();
        assert_eq!(ended.code, Some(1));
        let said = ended.stderr.join("\n");
        assert!(said.contains(&format!("main are required, and {url} gives none: cannot connect")), "{said}");
        let issuer = Issuer::new(&all());
        // Of two that go by one set each must have keys.
        let url = issuer.url();
        issuer.now_answers(&rsa_alone());
        let other = format!("[jwt.other]\nalgorithms = [\"ES256\"]\nissuer = \"any\"\naudience = \"any\"\njwks_url = \"{url}\"\njwks_required = true\n");
        let both = format!("{other}{}", routes(&url, "jwks_required = true"));
        let ended = Launch::new(driver).rest(&both).fail();
        let said = ended.stderr.join("\n");
        assert!(said.contains(&format!("[jwt] other are required, and {url} gives none for their algorithms")), "{said}");
        issuer.now_answers(&all());
        assert_eq!(bearer(&gateway, token("RS256")).status, 200);
    }

    fn what_is_no_set_of_keys_is_not_used(driver) {
        let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "a".repeat(1 << 20));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let many = json!({"keys": vec![json!({}); 257]}).to_string();
        let whole = set(|_| true).to_string();
        let answers = [
            ("html", ok("<html>Welcome to the portal</html>"), "no JSON Web Key Set (line 1, column 1)"),
            ("other", ok("{\"issuer\":\"https://id.test/\"}"), "no JSON Web Key Set"),
            ("nothing", ok(""), "no JSON Web Key Set"),
            ("empty", ok("{\"keys\":[]}"), "holds no key"),
            ("secret", ok(&set(|key| key["kty"] == "oct").to_string()), "holds no key"),
            ("many", ok(&many), "at most 256 keys; found 257"),
            ("missing", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(), "answered 404"),
            ("moved", "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n".into(), "redirects are not followed"),
            ("moved_body", format!("HTTP/1.1 307 X\r\nLocation: /good\r\nContent-Length: {}\r\n\r\n{whole}", whole.len()), "redirects are not followed"),
            ("packed", ok(&whole).replacen("\r\n", "\r\nContent-Encoding: gzip\r\n", 1), "compressed"),
            ("large", ok(&large), "larger than 1048576 bytes"),
            ("chunked", format!("{chunked}{:x}\r\n{large}\r\n0\r\n\r\n", large.len()), "larger than 1048576 bytes"),
            ("short", format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{whole}", whole.len() + 1), "broke off"),
            ("noise", "\u{16}\u{3}\u{1}\r\n\r\n".into(), "the exchange failed"),
            ("slow", format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", whole.len()), "no whole answer within 1s"),
            ("silent", String::new(), "no whole answer within 1s"),
        ];
        let scripts = answers.clone();
        let asked_good = Arc::new(Mutex::new(0));
        let good = Arc::clone(&asked_good);
        let server = Upstream::start(move |mut exchange| {
            let Some((request, _)) = exchange.request() else { return };
            let name = request.target().trim_start_matches('/').to_owned();
            if name == "good" {
                *good.lock().unwrap() += 1;
            }
            let script = scripts.iter().find(|(each, ..)| *each == name);
            exchange.send(script.map_or_else(all, |(_, answer, _)| answer.clone()));
            if name != "slow" && name != "silent" {
                return;
            }
            exchange.wait_closed();
        });
        let mut rest = String::new();
        for (name, ..) in &answers {
            rest += &format!(
                "[jwt.{name}]\n{CLAIMS}\njwks_url = \"http://{}/{name}\"\njwks_timeout = \"1s\"\n\
                 [[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nauth = [\"{name}\"]\nrespond = {{ body = \"in\" }}\n",
                server.address
            );
        }
        let gateway = Launch::new(driver).rest(&rest).start();
        for (name, _, problem) in &answers {
            let line = format!("GET /{name} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n\r\n", token("RS256"));
            assert_eq!(send(gateway.address, &line).problem(503), "token_keys_missing", "{name}");
            let said = eventually(&format!("a word on {name}"), || {
                let of = format!("authenticator={name} ");
                gateway.said().into_iter().find(|line| line.contains(&of))
            });
            assert!(said.contains(problem) && said.contains("there are none"), "{name}: {said}");
            assert!(!said.contains("portal"), "{said}");
        }
        assert_eq!(*asked_good.lock().unwrap(), 0, "no redirect was followed");
    }

    fn a_fetched_key_serves_what_it_is_for_and_a_secret_serves_nothing(driver) {
        let changed = |change: fn(&mut Value)| {
            let mut set = set(|_| true);
            set["keys"].as_array_mut().unwrap().iter_mut().for_each(change);
            ok(&set.to_string())
        };
        let forged = ["HS256", "none", "confused_pem", "confused_der", "own_key", "key_elsewhere", "other_key"];
        let issuer = Issuer::new(&all());
        let gateway = gateway(driver, &issuer.url(), "jwks_refresh = \"1d\"");
        for name in forged {
            assert_eq!(bearer(&gateway, token(name)).status, 401, "{name}");
        }
        for (what, set, good, bad) in [
            ("use", changed(|key| if key["kid"] == "rsa" { key["use"] = "enc".into() }), "ES256", "RS256"),
            ("key_ops", changed(|key| if key["kid"] == "rsa" { key["key_ops"] = json!(["sign", "wrapKey"]) }), "ES256", "RS256"),
            ("alg", changed(|key| if key["kid"] == "rsa" { key["alg"] = "PS256".into() }), "PS256", "RS256"),
            ("alg of encryption", changed(|key| if key["kid"] == "rsa" { key["alg"] = "RSA-OAEP".into() }), "ES256", "RS256"),
            // RFC 7517, 5: a key that is broken is left out, and the others go on.
            ("a part", changed(|key| if key["kid"] == "rsa" { key["n"] = "!".into() }), "ES256", "RS256"),
            ("a type", changed(|key| if key["kid"] == "rsa" { key["kid"] = 7.into() }), "ES256", "RS256"),
            ("a kind", changed(|key| if key["kty"] == "RSA" { *key = "RSA".into() }), "ES256", "RS256"),
            // The names of the others given to a secret that signs what they do.
            ("oct", changed(|key| if key["kty"] == "oct" { key["alg"] = "HS256".into(); key["kid"] = Value::Null }), "ES256", "HS256"),
        ] {
            let issuer = Issuer::new(&set);
            let gateway = crate::jwks::gateway(driver, &issuer.url(), "jwks_refresh = \"1d\"");
            assert_eq!(bearer(&gateway, token(good)).status, 200, "{what}");
            assert_eq!(bearer(&gateway, token(bad)).status, 401, "{what}");
            for name in forged {
                assert_eq!(bearer(&gateway, token(name)).status, 401, "{what}: {name}");
            }
        }
    }

    fn sets_come_by_tls_from_whom_the_authority_vouches_for(driver) {
        let ca = |name: &str| format!("jwks_ca_file = \"{}\"", keys(&format!("tls/{name}.pem")));
        let address = with_tls("server", all());
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{}/jwks", address.port());
            let gateway = gateway(driver, &url, &ca("ca"));
            assert_eq!(bearer(&gateway, token("RS256")).status, 200, "{host}");
        }
        for (certificate, trusts, problem) in [
            ("server", ca("stranger"), "invalid peer certificate: UnknownIssuer"),
            ("other_name", ca("ca"), "invalid peer certificate: certificate not valid for name"),
            ("expired", ca("ca"), "invalid peer certificate: certificate expired"),
            // The system's authorities, if there are any, do not know ours.
            ("server", String::new(), ""),
        ] {
            let address = with_tls(certificate, all());
            let gateway = gateway(driver, &format!("https://127.0.0.1:{}/jwks", address.port()), &trusts);
            without_keys(&gateway);
            let said = gateway.said().join("\n");
            assert!(said.contains("keys could not be fetched") && said.contains(problem), "{certificate}: {said}");
        }
        // Without TLS where it is asked for.
        let plain = Issuer::new(&all());
        let url = format!("https://{}/jwks", plain.server.address);
        without_keys(&gateway(driver, &url, &ca("ca")));
    }

    fn one_set_is_fetched_once_for_all_that_use_it(driver) {
        let issuer = Issuer::new(&all());
        let other = format!(
            "[jwt.other]\nissuer = \"any\"\naudience = \"any\"\nalgorithms = [\"ES256\"]\njwks_url = \"{}\"\n\
             [[routes]]\nname = \"other\"\npath = \"/other\"\nauth = [\"other\"]\nrespond = {{ body = \"in\" }}", issuer.url());
        let gateway = gateway(driver, &issuer.url(), &other);
        let asked = |path: &str, name: &str| {
            let line = format!("GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n\r\n", token(name));
            send(gateway.address, &line).status
        };
        assert_eq!([asked("/", "RS256"), asked("/other", "RS256"), asked("/other", "other_issuer")], [200, 401, 200]);
        assert_eq!(issuer.server.requests(), 1);
    }

    fn an_authenticator_that_knows_the_caller_needs_no_keys_of_others(driver) {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = Folder::new();
        let file = folder.path().join("keys");
        fs::write(&file, ::gateway::config::entry("robot", b"robot-key-0123456").unwrap()).unwrap();
        let rest = format!(
            "[jwt.main]\n{CLAIMS}\njwks_url = \"http://{nobody}/\"\n[api_keys.robots]\nfile = \"{}\"\n\
             [[routes]]\nname = \"all\"\nauth = [\"main\", \"robots\"]\nrespond = {{ body = \"in\" }}\n", file.display());
        let gateway = Launch::new(driver).rest(&rest).start();
        let asked = |lines: &str| send(gateway.address, &format!("GET / HTTP/1.1\r\nHost: t\r\n{lines}\r\n"));
        let bad = format!("Authorization: Bearer {}\r\n", token("RS256"));
        assert_eq!(asked(&format!("X-Api-Key: robot-key-0123456\r\n{bad}")).status, 200);
        assert_eq!(asked(&bad).problem(503), "token_keys_missing");
        assert_eq!(asked(&format!("X-Api-Key: wrong\r\n{bad}")).problem(503), "token_keys_missing");
        assert_eq!(asked("X-Api-Key: wrong\r\n").problem(401), "api_key_unknown");
        assert_eq!(asked("").problem(401), "credentials_missing");
    }
}

#[test]
fn check_and_explain_say_where_keys_come_from_and_ask_nobody() {
    let issuer = Issuer::new(&all());
    let folder = Folder::new();
    let file = folder.path().join("ringgate.toml");
    fs::write(
        &file,
        Launch::new(Driver::Epoll)
            .rest(&routes(&issuer.url(), ""))
            .text(),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
        let output = command
            .args(arguments)
            .arg("-c")
            .arg(&file)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["check"]), "ok\n");
    let url = issuer.url();
    let line = format!("keys of jwt.main: fetched from {url} by a running gateway");
    assert!(run(&["check", "-v"]).contains(&line));
    let explain = |name: Option<&str>, format: &str| {
        let field = name.map(|name| format!("Authorization: Bearer {}", token(name)));
        let mut arguments = vec!["explain", "GET http://a.test/", "--format", format];
        arguments.extend(field.iter().flat_map(|field| ["-H", field]));
        run(&arguments)
    };
    let keys = format!("keys       main: fetched from {url} by a running gateway, and not here");
    // What is wrong with a token whoever made it, and else what would be done with one that the issuer made.
    for (name, supposed, expected) in [
        (Some("RS256"), true, "answered   200, by the gateway itself"),
        (Some("RS256"), true, "auth       main; caller alice"),
        (Some("expired"), true, "refused    401, token_expired"),
        (Some("other_issuer"), true, "refused    401, token_issuer"),
        (Some("HS256"), true, "refused    401, token_algorithm"),
        (None, false, "refused    401, credentials_missing"),
    ] {
        let text = explain(name, "text");
        let word = "; supposed that its issuer made the token. Without keys a gateway answers 503, token_keys_missing\n";
        let line = format!("{keys}{}", if supposed { word } else { "\n" });
        assert!(text.contains(&line) && text.contains(expected), "{text}");
    }
    let report: Value = serde_json::from_str(&explain(Some("RS256"), "json")).unwrap();
    let fetched = json!([{ "authenticator": "main", "url": url, "supposed": true }]);
    assert_eq!(report["fetched_keys"], fetched);
    assert_eq!(report["end"]["answered"]["status"], 200);
    assert_eq!(issuer.server.accepted(), 0);
}
