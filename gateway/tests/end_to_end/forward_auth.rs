//! Authenticators that are asked by a subrequest: what they are asked, what their answers do, and what happens when they do
//! not answer.

mod trouble;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use crate::support::{
    Client, Driver, Exchange, Folder, Gateway, LONG, Launch, Request, Response, Upstream, ok,
};

/// An upstream that answers with the fields and the body that it got.
fn echo() -> Upstream {
    Upstream::answering(|request, body| {
        let fields = request
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"));
        let body = String::from_utf8_lossy(body);
        ok(&format!("{}\n{body}", fields.collect::<String>()))
    })
}

/// A gateway before `up`, whose callers `sso` judges. `lines`: of `[forward_auth.gate]`; `more`: of the route, and sections.
fn start(driver: Driver, up: &Upstream, sso: &Upstream, lines: &str, more: &str) -> Gateway {
    launch(driver, up, sso, lines, more).start()
}

fn launch(driver: Driver, up: &Upstream, sso: &Upstream, lines: &str, more: &str) -> Launch {
    let (up, sso) = (up.address, sso.address);
    Launch::new(driver).one_worker().rest(&format!(
        "[upstreams.up]\nendpoints = [{{ address = \"{up}\" }}]\n\
         [upstreams.sso]\nendpoints = [{{ address = \"{sso}\" }}]\n\
         [forward_auth.gate]\nupstream = \"sso\"\n{lines}\n\
         [[routes]]\nname = \"all\"\nupstream = \"up\"\nauth = [\"gate\"]\n{more}\n"
    ))
}

fn ask(gateway: &Gateway, fields: &str) -> Response {
    let mut client = Client::connect(gateway.address);
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client.response()
}

/// What the authenticator said, by outcome: allowed, denied, failed, failed_open.
fn outcomes(gateway: &Gateway) -> [f64; 4] {
    ["allowed", "denied", "failed", "failed_open"].map(|outcome| {
        let labels = [("authenticator", "gate"), ("outcome", outcome)];
        gateway.metric("ringgate_forward_auth_total", &labels)
    })
}

/// An authenticator that keeps the questions, and lets in.
fn keeping() -> (Upstream, mpsc::Receiver<(Request, Vec<u8>)>) {
    let (questions, asked) = mpsc::channel();
    let sso = Upstream::answering(move |request, body| {
        drop(questions.send((request.clone(), body.to_vec())));
        "HTTP/1.1 200 OK\r\nX-User: ada\r\nX-Tenant: t1\r\nContent-Length: 2\r\n\r\nok".to_owned()
    });
    (sso, asked)
}

/// Answers `answer` to every question.
fn saying(answer: &'static str) -> Upstream {
    Upstream::answering(move |_, _| answer.to_owned())
}

const CONSUMER: &str = "consumer_header = \"x-user\"\ncopy_response_headers = [\"x-tenant\"]";

fn the_question(driver: Driver) {
    let (up, (sso, asked)) = (echo(), keeping());
    let gateway = start(driver, &up, &sso, "path = \"/verify?a=b\"", "");
    let mut client = Client::connect(gateway.address);
    client.send(
        "PUT /a/../b%2Fc?x=1 HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer t\r\nCookie: a=1; b=2\r\n\
         X-Other: o\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Uri: /free\r\n\
         X-Forwarded-Method: GET\r\nConnection: x-gone\r\nX-Gone: 1\r\nContent-Length: 4\r\n\r\nbody",
    );
    let answer = client.response();
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with("\nbody"), "{}", answer.text());
    let (question, body) = asked.recv_timeout(LONG).unwrap();
    assert_eq!(question.line, "GET /verify?a=b HTTP/1.1");
    assert!(body.is_empty());
    for (name, values) in [
        ("host", vec![sso.address.to_string()]),
        ("authorization", vec!["Bearer t".to_owned()]),
        ("cookie", vec!["a=1; b=2".to_owned()]),
        ("x-forwarded-method", vec!["PUT".to_owned()]),
        ("x-forwarded-uri", vec!["/b%2Fc?x=1".to_owned()]),
        ("x-forwarded-host", vec!["api.test".to_owned()]),
        ("x-forwarded-proto", vec!["http".to_owned()]),
        ("x-forwarded-for", vec!["127.0.0.1".to_owned()]),
        ("x-other", vec![]),
        ("x-gone", vec![]),
        ("content-length", vec![]),
        ("transfer-encoding", vec![]),
        ("connection", vec![]),
    ] {
        assert_eq!(question.values(name), values, "{name}");
    }
    assert_eq!(question.values("x-request-id").len(), 1);
    assert_eq!(outcomes(&gateway), [1.0, 0.0, 0.0, 0.0]);
}

fn other_questions(driver: Driver) {
    let (up, (sso, asked)) = (echo(), keeping());
    let lines = "method = \"POST\"\npath_prefix = \"/check/\"\nsend_headers = [\"x-api-key\"]";
    let gateway = start(driver, &up, &sso, lines, "");
    assert_eq!(
        ask(&gateway, "X-Api-Key: k\r\nAuthorization: t\r\n").status,
        200
    );
    let (question, _) = asked.recv_timeout(LONG).unwrap();
    assert_eq!(question.line, "POST /check/ HTTP/1.1");
    assert_eq!(question.values("content-length"), ["0"]);
    assert_eq!(question.values("x-api-key"), ["k"]);
    assert!(question.values("authorization").is_empty());
    assert_eq!(gateway.get("/a/b?c=d").status, 200);
    let (question, _) = asked.recv_timeout(LONG).unwrap();
    assert_eq!(question.target(), "/check/a/b?c=d");
    let head = start(driver, &up, &sso, "method = \"HEAD\"", "");
    let mut client = Client::connect(head.address);
    client.send("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
    // Its answer would have a body, which an answer to HEAD has not: the connection is closed and the verdict stands.
    assert_eq!(client.response().status, 200);
    let (question, _) = asked.recv_timeout(LONG).unwrap();
    assert_eq!(question.line, "HEAD / HTTP/1.1");
    assert_eq!(question.values("x-forwarded-uri"), ["*"]);
}

fn bodies(driver: Driver) {
    let (up, (sso, _asked)) = (echo(), keeping());
    let gateway = start(driver, &up, &sso, "", "");
    let mut client = Client::connect(gateway.address);
    let long = "x".repeat(300_000);
    for turn in 0..3 {
        client.send(format!(
            "POST /{turn} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{long}",
            long.len()
        ));
        assert!(client.response().text().ends_with(&long));
        client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.send("2\r\nde\r\n0\r\n\r\n");
        assert!(client.response().text().ends_with("\nabcde"));
        client.send(
            "POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        );
        let answer =
            std::iter::repeat_with(|| client.response()).find(|answer| answer.status != 100);
        assert!(answer.unwrap().text().ends_with("\nhi"));
        client.send("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
        let up = Client::response_to_head;
        // The upstream of this test sends a body all the same, so the connection behind is not used again.
        assert_eq!(up(&mut client).status, 200);
    }
}

/// Answers that refuse, each with status, reason and body of what the client gets.
fn answers_that_refuse() -> [(&'static str, u16, &'static str, &'static [u8]); 9] {
    [
        (
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"sso\"\r\nContent-Type: text/x-mine\r\nX-Inner: 1\r\nContent-Length: 4\r\n\r\nwho?",
            401,
            "auth_denied",
            b"who?",
        ),
        (
            "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\nContent-Type: text/x-mine\r\nWWW-Authenticate: Bearer realm=\"sso\"\r\n\r\n2\r\nno\r\n1\r\n!\r\n0\r\n\r\n",
            403,
            "auth_forbidden",
            b"no!",
        ),
        (
            "HTTP/1.1 302 Go\r\nLocation: https://login.test/?to=x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
            302,
            "auth_redirected",
            b"",
        ),
        (
            "HTTP/1.1 307 Go\r\nLocation: /login\r\nContent-Length: 2\r\n\r\ngo",
            307,
            "auth_redirected",
            b"go",
        ),
        (
            "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
            403,
            "auth_refused",
            b"",
        ),
        (
            "HTTP/1.1 431 No\r\nContent-Length: 2\r\n\r\nno",
            403,
            "auth_refused",
            b"",
        ),
        // Neither lets in where `on_error` would: a client may be able to ask for them.
        (
            "HTTP/1.1 304 Same\r\nLocation: /x\r\n\r\n",
            403,
            "auth_refused",
            b"",
        ),
        (
            "HTTP/1.1 300 Choose\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            403,
            "auth_refused",
            b"",
        ),
        (
            "HTTP/1.1 302 Where\r\nContent-Length: 0\r\n\r\n",
            403,
            "auth_refused",
            b"",
        ),
    ]
}

fn refusals(driver: Driver) {
    let up = echo();
    for (answer, status, reason, body) in answers_that_refuse() {
        let sso = saying(answer);
        let gateway = start(driver, &up, &sso, "on_error = \"allow\"", "");
        let mut client = Client::connect(gateway.address);
        // The client's connection stays, and so does that to the authenticator.
        for _ in 0..3 {
            client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc");
            let got = client.response();
            assert_eq!(got.status, status, "{answer}");
            if body.is_empty() && status == 403 {
                assert_eq!(got.problem(403), reason);
            } else {
                assert_eq!(got.body, body, "{answer}");
                assert!(got.values("x-inner").is_empty());
                match status {
                    302 => {
                        assert_eq!(got.value("location"), "https://login.test/?to=x");
                        assert_eq!(got.values("set-cookie"), ["a=1", "b=2"]);
                    }
                    307 => assert_eq!(got.value("location"), "/login"),
                    _ => {
                        assert_eq!(got.value("content-type"), "text/x-mine");
                        assert_eq!(got.value("www-authenticate"), "Bearer realm=\"sso\"");
                    }
                }
            }
        }
        client.send("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(client.response_to_head().status, status);
        assert_eq!(gateway.record_of("/")["error.type"], reason);
        assert_eq!((sso.accepted(), sso.requests()), (1, 4), "{answer}");
        assert_eq!(outcomes(&gateway), [0.0, 4.0, 0.0, 0.0]);
    }
    assert_eq!(up.requests(), 0);
}

fn challenged(driver: Driver) {
    let up = echo();
    let silent = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
    let own = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"sso\"\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n";
    let basic = "challenge = 'Basic realm=\"corp\", charset=\"UTF-8\"'";
    let unsent = "pass_response_headers = [\"content-type\"]";
    for (answer, lines, told) in [
        (silent, "", &["Bearer realm=\"gate\""][..]),
        (
            silent,
            "send_headers = [\"cookie\"]",
            &["Cookie realm=\"gate\""],
        ),
        (
            silent,
            "send_headers = [\"x-key\"]",
            &["ApiKey realm=\"gate\""],
        ),
        (silent, basic, &["Basic realm=\"corp\", charset=\"UTF-8\""]),
        (own, basic, &["Basic realm=\"sso\"", "Negotiate"]),
        // Its own is not to be told; there has to be one.
        (own, unsent, &["Bearer realm=\"gate\""]),
    ] {
        let sso = saying(answer);
        let gateway = start(driver, &up, &sso, lines, "");
        let mut client = Client::connect(gateway.address);
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        let refused = client.response();
        assert_eq!(refused.status, 401);
        assert_eq!(refused.values("www-authenticate"), told, "{lines}");
        client.send("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
        let refused = client.response_to_head();
        assert_eq!(refused.values("www-authenticate"), told, "{lines}");
    }
    let sso = saying("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    let forbidden = ask(&start(driver, &up, &sso, basic, ""), "");
    assert!(forbidden.values("www-authenticate").is_empty());
}

fn callers(driver: Driver) {
    let (up, (sso, _asked)) = (echo(), keeping());
    let more = "groups = [\"staff\"]\nlimits = [\"each\"]\n[limits.each]\nkey = \"consumer\"\nrate = \"1/h\"\nburst = 2\n\
                [consumers.ada]\ngroups = [\"staff\"]\nplan = \"gold\"";
    let gateway = launch(driver, &up, &sso, CONSUMER, more)
        .listener("underscore_headers = \"allow\"")
        .start();
    let spoofed = "X-Tenant: evil\r\nx-tenant: worse\r\nX_Tenant: worst\r\nX-User: eve\r\nX_User: eve\r\nX-Consumer: eve\r\nX_Consumer: eve\r\nAuthorization: t\r\n";
    let answer = ask(&gateway, spoofed);
    let told: Vec<&str> = answer
        .text()
        .lines()
        .filter(|line| {
            let line = line.to_lowercase().replace('_', "-");
            line.starts_with("x-tenant")
                || line.starts_with("x-user")
                || line.starts_with("x-consumer")
                || line.starts_with("authorization")
        })
        .collect();
    let expected = [
        "X-Consumer: ada",
        "X-Consumer-Groups: staff",
        "X-Consumer-Plan: gold",
        "x-tenant: t1",
    ];
    assert_eq!(told, expected);
    assert_eq!(gateway.record_of("/")["ringgate.consumer"], "ada");
    assert_eq!(ask(&gateway, "").status, 200);
    assert_eq!(ask(&gateway, "").problem(429), "limited");
    // With a name that no group has.
    let eve = saying("HTTP/1.1 200 OK\r\nX-User: eve\r\nContent-Length: 0\r\n\r\n");
    let gateway = start(driver, &up, &eve, CONSUMER, more);
    assert_eq!(ask(&gateway, "").problem(403), "group_missing");
    // And with one that cannot be a consumer's.
    let odd = saying("HTTP/1.1 200 OK\r\nX-User: a b\r\nContent-Length: 0\r\n\r\n");
    let gateway = start(
        driver,
        &up,
        &odd,
        &format!("{CONSUMER}\non_error = \"allow\""),
        "",
    );
    assert_eq!(ask(&gateway, "").problem(403), "auth_consumer");
}

fn credentials(driver: Driver) {
    let (up, (sso, asked)) = (echo(), keeping());
    let fields = "Authorization: Bearer t\r\nCookie: theme=dark; session=s; a=b\r\n";
    for (lines, kept) in [
        ("cookie = \"session\"", (0, "theme=dark; a=b")),
        (
            "cookie = \"session\"\nforward_credentials = true",
            (1, "theme=dark; session=s; a=b"),
        ),
        (
            "send_headers = [\"cookie\"]",
            (1, "theme=dark; session=s; a=b"),
        ),
    ] {
        let gateway = start(driver, &up, &sso, lines, "");
        let answer = ask(&gateway, fields);
        let count = |name: &str| {
            let mut lines = answer.text().lines();
            lines
                .by_ref()
                .filter(|line| line.to_lowercase().starts_with(name))
                .count()
        };
        assert_eq!(count("authorization:"), kept.0, "{lines}");
        assert!(
            answer.text().contains(&format!("Cookie: {}\n", kept.1)),
            "{lines}"
        );
        assert_eq!(count("cookie:"), 1);
        let (question, _) = asked.recv_timeout(LONG).unwrap();
        assert_eq!(question.values("cookie"), ["theme=dark; session=s; a=b"]);
    }
}

fn beside_keys(driver: Driver) {
    let (folder, up) = (Folder::new(), echo());
    let file = folder.path().join("keys");
    // The SHA-256 of "secret".
    fs::write(
        &file,
        "machine sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n",
    )
    .unwrap();
    let keys = format!("[api_keys.keys]\nfile = \"{}\"\n", file.display());
    let sso = saying("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    let starting = |order: &str| {
        let text = launch(driver, &up, &sso, CONSUMER, &keys).text();
        Launch::new(driver)
            .whole(&text.replace("auth = [\"gate\"]", order))
            .start()
    };
    let gateway = starting("auth = [\"keys\", \"gate\"]");
    assert!(
        ask(&gateway, "X-Api-Key: secret\r\nX-Tenant: evil\r\n")
            .text()
            .contains("X-Consumer: machine")
    );
    // Who is let in by a key is asked nobody about, and still cannot say what the other would.
    assert_eq!(sso.requests(), 0);
    assert!(
        !ask(&gateway, "X-Api-Key: secret\r\nX-Tenant: evil\r\n")
            .text()
            .contains("evil")
    );
    for fields in ["", "X-Api-Key: wrong\r\n"] {
        let refused = ask(&gateway, fields);
        assert_eq!(refused.status, 401);
        // What would have let it in: each of them says so.
        assert_eq!(
            refused.values("www-authenticate"),
            ["ApiKey realm=\"keys\"", "Bearer realm=\"gate\""]
        );
    }
    assert_eq!(sso.requests(), 2);
    let gateway = starting("auth = [\"gate\", \"keys\"]");
    assert_eq!(ask(&gateway, "X-Api-Key: secret\r\n").status, 200);
    assert_eq!(ask(&gateway, "X-Api-Key: wrong\r\n").status, 401);
    assert_eq!(sso.requests(), 4);
}

fn kept_connections(driver: Driver) {
    let up = echo();
    let closing = AtomicBool::new(false);
    let closing = Arc::new(closing);
    let closes = Arc::clone(&closing);
    let sso = Upstream::start(move |mut exchange: Exchange| {
        while exchange.request().is_some() {
            exchange.send("HTTP/1.1 204 No Content\r\n\r\n");
            if closes.load(Ordering::Relaxed) {
                return exchange.close();
            }
        }
    });
    let gateway = start(driver, &up, &sso, "", "");
    let mut client = Client::connect(gateway.address);
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!((sso.accepted(), sso.requests()), (1, 50));
    // One that goes stale between two questions is no failure.
    closing.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(outcomes(&gateway), [70.0, 0.0, 0.0, 0.0]);
}

on_both_drivers! {
    fn it_is_asked_what_the_request_is_and_its_2xx_lets_in(driver) {
        the_question(driver);
    }

    fn method_target_and_fields_of_the_question_can_be_chosen(driver) {
        other_questions(driver);
    }

    fn the_body_of_the_request_reaches_the_upstream_and_nobody_else(driver) {
        bodies(driver);
    }

    fn its_refusals_and_redirects_are_what_the_client_gets(driver) {
        refusals(driver);
    }

    fn a_401_of_its_has_a_challenge_whether_it_says_one_or_not(driver) {
        challenged(driver);
    }

    fn the_consumer_it_names_counts_in_limits_and_nobody_can_pose_as_one(driver) {
        callers(driver);
    }

    fn credentials_go_no_further_unless_that_is_asked_for(driver) {
        credentials(driver);
    }

    fn beside_others_it_is_asked_in_the_order_of_the_route(driver) {
        beside_keys(driver);
    }

    fn its_connection_is_kept_and_may_go_stale(driver) {
        kept_connections(driver);
    }
}
