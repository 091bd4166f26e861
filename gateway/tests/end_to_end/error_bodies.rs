//! Bodies of one's own for refusals: which is said when, what of the request stands in it, and which fields stay.

use std::fs;
use std::process::Command;

use gateway::config::entry;
use serde_json::Value;

use crate::support::{
    Client, Driver, Folder, Gateway, Launch, Response, Upstream, eventually, ok, send,
};

/// A gateway whose listener says what is in `bodies`.
fn gateway(driver: Driver, bodies: &str, rest: &str) -> Gateway {
    launch(driver, bodies, rest).start()
}

fn launch(driver: Driver, bodies: &str, rest: &str) -> Launch {
    Launch::new(driver)
        .one_worker()
        .listener("error_bodies = \"site\"")
        .rest(&format!("[error_bodies.site]\nbodies = [{bodies}]\n{rest}"))
}

#[track_caller]
fn says(response: &Response, status: u16, content_type: &str, body: &str) {
    let found = (
        response.status,
        response.value("content-type"),
        response.text(),
    );
    assert_eq!(found, (status, content_type, body));
    response.has_the_fields_of_its_status();
}

const HTML: &str = "text/html; charset=utf-8";

on_both_drivers! {
    fn the_exact_status_wins_over_its_class_and_the_route_over_its_listener(driver) {
        let folder = Folder::new();
        let file = folder.path().join("4xx.html");
        fs::write(&file, "<h1>${error.status} ${error.reason}</h1><p>$1 $(x) $${y}: ${error.detail}").unwrap();
        let bodies = format!(
            "{{ status = 404, body = \"lost\", content_type = \"text/plain\" }}, {{ status = \"4xx\", file = \"{}\" }}", file.display());
        let gateway = gateway(driver, &bodies,
            "[error_bodies.api]\nbodies = [{ status = \"403\", body = \"{\\\"error\\\":\\\"${error.detail}\\\"}\", content_type = \"application/json\" }]\n\
             [network_lists.none]\notherwise = \"deny\"\n[filters.get]\nmethods = [\"GET\"]\n\
             [[routes]]\nname = \"own\"\npath = \"/own\"\nerror_bodies = \"api\"\nnetwork_lists = [\"none\"]\nrespond = {}\n\
             [[routes]]\nname = \"mine\"\npath = \"/mine\"\nerror_bodies = \"api\"\nfilters = [\"get\"]\nrespond = {}\n\
             [[routes]]\nname = \"teapot\"\npath = \"/teapot\"\nrespond = { status = 404, body = \"as written\" }\n\
             [[routes]]\nname = \"denied\"\npath = \"/denied\"\nnetwork_lists = [\"none\"]\nrespond = {}\n");
        says(&gateway.get("/nowhere"), 404, "text/plain", "lost");
        says(&gateway.get("/denied"), 403, HTML, "<h1>403 Forbidden</h1><p>$1 $(x) ${y}: network_denied");
        says(&gateway.get("/own"), 403, "application/json", "{\"error\":\"network_denied\"}");
        let post = send(gateway.address, "POST /mine HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n");
        says(&post, 405, HTML, "<h1>405 Method Not Allowed</h1><p>$1 $(x) ${y}: method_denied");
        assert_eq!(post.value("allow"), "GET, HEAD");
        assert_eq!(gateway.get("/teapot").text(), "as written", "an answer that the file has is no refusal");
        // Of what is no request the listener tells.
        let broken = send(gateway.address, "GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n");
        says(&broken, 400, HTML, "<h1>400 Bad Request</h1><p>$1 $(x) ${y}: bare_lf");
    }

    fn what_is_not_configured_is_a_problem_document(driver) {
        let gateway = gateway(driver, "{ status = 503, body = \"later\" }", "");
        assert_eq!(gateway.get("/").problem(404), "no_route");
    }

    fn the_fields_of_refusals_stay(driver) {
        let folder = Folder::new();
        let file = folder.path().join("keys");
        fs::write(&file, entry("robot", b"robot-key-0123456").unwrap()).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let rest = format!(
            "[api_keys.keys]\nfile = \"{}\"\n[limits.one]\nrate = \"1/h\"\nburst = 1\n\
             [limits.busy]\nrate = \"1/h\"\nburst = 1\nstatus = 503\n\
             [jwt.main]\nissuer = \"any\"\naudience = \"any\"\njwks_url = \"http://{nobody}/\"\n\
             [[routes]]\nname = \"key\"\npath = \"/key\"\nauth = [\"keys\"]\nrespond = {{}}\n\
             [[routes]]\nname = \"token\"\npath = \"/token\"\nauth = [\"main\"]\nrespond = {{}}\n\
             [[routes]]\nname = \"post\"\npath = \"/post\"\nmethods = [\"POST\", \"PUT\"]\nrespond = {{}}\n\
             [[routes]]\nname = \"limited\"\npath = \"/limited\"\nlimits = [\"one\"]\nrespond = {{}}\n\
             [[routes]]\nname = \"busy\"\npath = \"/busy\"\nlimits = [\"busy\"]\nrespond = {{}}\n", file.display());
        let gateway = gateway(driver, "{ status = \"4xx\", body = \"no\" }, { status = \"5xx\", body = \"later\" }", &rest);
        let refused = gateway.get("/key");
        says(&refused, 401, HTML, "no");
        assert_eq!(refused.value("www-authenticate"), "ApiKey realm=\"keys\"");
        let refused = gateway.get("/post");
        says(&refused, 405, HTML, "no");
        assert_eq!(refused.value("allow"), "POST, PUT");
        assert_eq!(gateway.get("/limited").status, 200);
        let refused = gateway.get("/limited");
        says(&refused, 429, HTML, "no");
        assert_eq!(refused.value("ratelimit-policy"), "\"one\";q=1;w=3600");
        assert!(refused.value("retry-after").parse::<u64>().unwrap() > 3000);
        assert_eq!(gateway.get("/busy").status, 200);
        let refused = gateway.get("/busy");
        says(&refused, 503, HTML, "later");
        assert!(refused.value("retry-after").parse::<u64>().unwrap() > 3000, "the limit's, and no other");
        let refused = send(gateway.address, "GET /token HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer a.b.c\r\n\r\n");
        says(&refused, 503, HTML, "later");
        assert_eq!(refused.value("retry-after"), "1");
        let refused = send(gateway.address, "TRACE / HTTP/1.1\r\nHost: t\r\n\r\n");
        says(&refused, 405, HTML, "no");
        assert!(refused.value("allow").starts_with("GET, HEAD"));
    }

    fn head_gets_the_length_and_no_body(driver) {
        let gateway = gateway(driver, "{ status = 404, body = \"nothing at ${path}\" }", "");
        let mut client = Client::connect(gateway.address);
        for _ in 0..2 {
            client.send("HEAD /here HTTP/1.1\r\nHost: t\r\n\r\n");
            let head = client.response_to_head();
            assert_eq!((head.status, head.value("content-length")), (404, "16"));
            says(&client.get("/here"), 404, HTML, "nothing at /here");
        }
    }

    fn upstreams_are_not_spoken_for_but_where_they_fail(driver) {
        let upstream = Upstream::answering(|request, _| match request.target() {
            "/own" => "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nown".to_owned(),
            "/broken" => "HTTP/1.1 two hundred\r\n\r\n".to_owned(),
            _ => ok("fine"),
        });
        let rest = format!(
            "[upstreams.up]\nendpoints = [{{ address = \"{}\" }}]\n[[routes]]\nname = \"all\"\nupstream = \"up\"\n", upstream.address);
        let gateway = gateway(driver, "{ status = 502, body = \"${error.detail} at ${route}, ${client.address}\" }", &rest);
        assert_eq!(gateway.get("/").text(), "fine");
        assert_eq!(gateway.get("/own").text(), "own");
        says(&gateway.get("/broken"), 502, HTML, "response_status_line at all, 127.0.0.1");
    }

    fn nothing_of_a_request_gets_out_of_its_place_or_into_another_answer(driver) {
        let folder = Folder::new();
        let file = folder.path().join("keys");
        fs::write(&file, entry("<b>&\"'", b"robot-key-0123456").unwrap()).unwrap();
        let page = |kind: &str| format!(
            "[error_bodies.{kind}]\nbodies = [{{ status = 429, body = '\"${{consumer.name}} ${{query}}\"', content_type = \"{}\" }}]\n\
             [[routes]]\nname = \"{kind}\"\npath = \"/{kind}\"\nauth = [\"keys\"]\nlimits = [\"none\"]\nerror_bodies = \"{kind}\"\nrespond = {{}}\n",
            match kind { "html" => HTML, "json" => "application/json", _ => "text/plain" });
        let rest = format!(
            "[api_keys.keys]\nfile = \"{}\"\n[limits.none]\nrate = \"1/h\"\nburst = 1\nkey = \"route\"\n{}{}{}",
            file.display(), page("html"), page("json"), page("text"));
        let bodies = "{ status = \"4xx\", content_type = \"text/plain\", body = \"${error.detail} [${host}|${path}|${query}|${method}|${client.address}|${route}] ${request.id}\" }";
        let gateway = gateway(driver, bodies, &rest);
        let mut client = Client::connect(gateway.address);
        let mut ask = |kind: &str| {
            let line = format!("GET /{kind}?a='&b HTTP/1.1\r\nHost: t\r\nX-Api-Key: robot-key-0123456\r\n\r\n");
            client.send(&line);
            assert_eq!(client.response().status, 200, "{kind}");
            client.send(&line);
            let response = client.response();
            assert_eq!(response.status, 429);
            response.text().to_owned()
        };
        assert_eq!(ask("html"), "\"&lt;b&gt;&amp;&quot;&#39; a=&#39;&amp;b\"");
        let json: Value = serde_json::from_str(&ask("json")).unwrap();
        assert_eq!(json, "<b>&\"' a='&b");
        assert_eq!(ask("text"), "\"<b>&\"' a='&b\"");
        client.send("GET /secret?token=1 HTTP/1.1\r\nHost: One.test:80\r\n\r\n");
        let told = client.response().text().to_owned();
        assert!(told.starts_with("no_route [one.test|/secret|token=1|GET|127.0.0.1|] "), "{told}");
        // What cannot be read has nothing of its own, and nothing of who was here before.
        client.send("GET /%zz HTTP/1.1\r\nHost: two.test\r\n\r\n");
        let refused = client.response();
        let told = refused.text().to_owned();
        assert!(told.starts_with("path_escape [|||||] "), "{told}");
        let id = told.rsplit(' ').next().unwrap();
        assert_eq!(id.len(), 32, "{told}");
        eventually("its record", || {
            let mut records = gateway.records().into_iter();
            records.find(|record| record["request_id"] == id)
        });
    }
}

#[test]
fn explain_shows_the_body_that_would_be_said() {
    let folder = Folder::new();
    let file = folder.path().join("ringgate.toml");
    let bodies = "{ status = 404, body = \"<p>${path} is not at ${host}\" }";
    let launch = launch(Driver::Epoll, bodies, "");
    fs::write(&file, launch.text()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
        let output = command
            .args(["explain", "-c"])
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&["GET http://a.test/b"]);
    for line in [
        "refused    404, no_route",
        "body       of error_bodies.site",
        "<p>/b is not at a.test",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let json = run(&["GET http://a.test/b", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(
        json.to_string().contains("\"error_bodies\":\"site\""),
        "{json}"
    );
}
