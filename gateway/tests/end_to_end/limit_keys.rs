//! What limits count by, several limits on a route, overrides of listed keys, and who is busiest.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::support::{Client, Driver, Gateway, Launch, get, send};

/// A route for everything, with these limits and an answer of the gateway's own.
fn limited(driver: Driver, limits: &str, names: &str) -> Gateway {
    Launch::new(driver)
        .rest(limits)
        .rest(&route("all", names))
        .start()
}

fn route(name: &str, limits: &str) -> String {
    let prefix = if name == "all" { "/" } else { name };
    format!(
        "[[routes]]\nname = \"{}\"\npath_prefix = \"{prefix}\"\nlimits = [{limits}]\nrespond = {{ body = \"ok\" }}\n",
        name.trim_start_matches('/')
    )
}

fn statuses(requests: &[String], gateway: &Gateway) -> Vec<u16> {
    requests
        .iter()
        .map(|request| send(gateway.address, request).status)
        .collect()
}

fn request(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n")
}

/// A table so small that its fill is counted and not estimated.
const SMALL: &str = "max_keys = 4000";

/// Asserts that each group of requests (target and field lines) has one bucket of two units, and no group another's.
fn assert_buckets(driver: Driver, key: &str, groups: &[&[(&str, &str)]]) {
    let limit = format!("[limits.a]\nkey = {key}\nrate = \"1/h\"\nburst = 2\n{SMALL}");
    let gateway = limited(driver, &limit, "\"a\"");
    for group in groups {
        let requests: Vec<String> = group
            .iter()
            .cycle()
            .take(group.len().max(3))
            .map(|(target, lines)| request(target, lines))
            .collect();
        let mut expected = vec![429; requests.len()];
        expected[..2].fill(200);
        assert_eq!(statuses(&requests, &gateway), expected, "{key} {group:?}");
    }
    let metrics = gateway.metrics();
    let fill = |name| metrics.sum(name, &[("limit", "a")]);
    assert_eq!(fill("ringgate_ratelimit_keys"), groups.len() as f64);
    assert_eq!(fill("ringgate_ratelimit_overflow_total"), 0.0);
    let capacity = fill("ringgate_ratelimit_capacity_keys");
    assert!((4000.0..4100.0).contains(&capacity), "{capacity}");
}

fn top(gateway: &Gateway) -> Value {
    let response = get(gateway.admin, "/top");
    assert_eq!(response.status, 200);
    assert_eq!(response.value("content-type"), "application/json");
    let page = response.json();
    assert_eq!(page["workers_answered"], page["workers"]);
    page
}

fn from(last: u8, gateway: &Gateway) -> Client {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    Client::connect_from(address, gateway.address)
}

on_both_drivers! {
    fn a_header_is_a_key(driver) {
        assert_buckets(driver, "\"header:X-Api-Key\"", &[
            &[("/", "x-api-key: one\r\n"), ("/other", "X-API-Key:one\r\n")],
            &[("/", "x-api-key: two\r\n")],
            &[("/", ""), ("/", "x-api-key: three\r\nconnection: x-api-key\r\n")],
            &[("/", "x-api-key:\r\n")],
            &[("/", "x-api-key: one\r\nx-api-key: two\r\n"), ("/", "x-api-key: 3\r\nx-api-key: 4\r\n")],
        ]);
    }

    fn a_cookie_is_a_key(driver) {
        assert_buckets(driver, "\"cookie:sid\"", &[
            &[("/", "cookie: sid=one\r\n"), ("/", "cookie: a=b; sid=\"one\"; c=d\r\n")],
            &[("/", "cookie: sid=two\r\n")],
            &[("/", ""), ("/", "cookie: SID=one\r\n")],
        ]);
    }

    fn a_query_parameter_is_a_key(driver) {
        assert_buckets(driver, "\"query:user\"", &[
            &[("/?user=a+b", ""), ("/x?y=z&user=a%20b", ""), ("/?us%65r=a%20b", "")],
            &[("/?user=b", "")],
            &[("/", ""), ("/?users=a", "")],
            &[("/?user=a&user=b", ""), ("/?user=c&user=d", "")],
        ]);
    }

    fn a_path_segment_is_a_key(driver) {
        assert_buckets(driver, "\"path:2\"", &[
            &[("/users/7", ""), ("/users/7/orders", ""), ("/users/%37", ""), ("/users/8/../7", "")],
            &[("/users/8", "")],
            &[("/users", ""), ("/", "")],
        ]);
    }

    fn a_host_is_a_key(driver) {
        let gateway = limited(driver, "[limits.a]\nkey = \"host\"\nrate = \"1/h\"\nburst = 2", "\"a\"");
        let ask = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let requests = ["a.test", "A.TEST:80", "a.test", "b.test", "b.test", "b.test:8080"].map(ask);
        assert_eq!(statuses(&requests, &gateway), [200, 200, 429, 200, 200, 429]);
    }

    fn a_route_is_a_key(driver) {
        let gateway = Launch::new(driver)
            .rest("[limits.a]\nkey = \"route\"\nrate = \"1/h\"\nburst = 2")
            .rest(&route("/one", "\"a\""))
            .rest(&route("/two", "\"a\""))
            .start();
        let requests = ["/one", "/one/x", "/one", "/two", "/two", "/two/y"].map(|path| request(path, ""));
        assert_eq!(statuses(&requests, &gateway), [200, 200, 429, 200, 200, 429]);
    }

    fn parts_are_a_key_together(driver) {
        assert_buckets(driver, "[\"header:x-api-key\", \"path:1\"]", &[
            &[("/a", "x-api-key: 1\r\n")],
            &[("/b", "x-api-key: 1\r\n")],
            &[("/a", "x-api-key: 2\r\n")],
            &[("/a", "")],
            &[("/", "x-api-key: 1\r\n")],
        ]);
        let limit = "[limits.a]\nkey = [\"client_ip\", \"route\"]\nrate = \"1/h\"\nburst = 1";
        let gateway = limited(driver, limit, "\"a\"");
        assert_eq!([1, 1, 2, 2].map(|last| from(last, &gateway).get("/").status), [200, 429, 200, 429]);
    }

    fn of_several_limits_all_are_charged_or_none(driver) {
        let limits = format!(
            "[limits.burst]\nkey = \"header:x-user\"\nrate = \"1/h\"\nburst = 2\n{SMALL}\n\
             [limits.total]\nkey = \"host\"\nrate = \"1/h\"\nburst = 5\nstatus = 503\n{SMALL}"
        );
        let gateway = limited(driver, &limits, "\"total\", \"burst\"");
        let ask = |user: &str| send(gateway.address, &request("/", &format!("x-user: {user}\r\n")));
        // The refusals of the first user take nothing of what all share.
        for expected in [200, 200, 429, 429, 429, 429] {
            assert_eq!(ask("one").status, expected);
        }
        assert_eq!(["two", "two", "three"].map(|user| ask(user).status), [200, 200, 200]);
        // Nor does the refusal of what all share take anything of a user's own.
        let refused = ask("three");
        assert_eq!((refused.status, refused.value("ratelimit-policy")), (503, "\"total\";q=5;w=18000"));
        assert_eq!(refused.json()["violated-policies"], json!(["total"]));
        let metrics = gateway.metrics();
        let keys = |limit| metrics.sum("ringgate_ratelimit_keys", &[("limit", limit)]);
        assert_eq!((keys("total"), keys("burst")), (1.0, 3.0));
    }

    fn a_limit_in_shadow_or_off_refuses_nothing_beside_one_that_does(driver) {
        let limit = |name: &str, mode: &str, burst: u32| {
            format!("[limits.{name}]\nrate = \"1/h\"\nburst = {burst}\nmode = \"{mode}\"\n")
        };
        let limits = limit("tight", "shadow", 1) + &limit("none", "off", 1) + &limit("real", "enforce", 4);
        let gateway = limited(driver, &limits, "\"tight\", \"none\", \"real\"");
        let found: Vec<u16> = (0..6).map(|_| gateway.get("/").status).collect();
        assert_eq!(found, [200, 200, 200, 200, 429, 429]);
        let metrics = gateway.metrics();
        let decided = |limit: &str, outcome: &str| {
            metrics.sum("ringgate_ratelimit_decisions_total", &[("limit", limit), ("outcome", outcome)])
        };
        assert_eq!((decided("tight", "allowed"), decided("tight", "shadow_limited")), (1.0, 5.0));
        assert_eq!((decided("real", "allowed"), decided("real", "limited")), (4.0, 2.0));
        assert_eq!(metrics.sum("ringgate_ratelimit_decisions_total", &[("limit", "none")]), 0.0);
    }

    fn listed_addresses_and_networks_get_what_the_list_says(driver) {
        let gateway = limited(driver, "[limits.a]\nmax_keys = 4000\nrate = \"1/h\"\nburst = 1\noverrides = [\n\
             { key = \"127.0.0.7\", rate = \"1/m\", burst = 3 },\n\
             { key = \"127.0.0.8/30\", rate = \"1/m\", burst = 2 },\n\
             { key = \"127.0.0.9\", mode = \"off\" },\n\
             { key = \"127.0.0.10\", mode = \"shadow\" },\n]", "\"a\"");
        let ask = |last: u8| -> Vec<u16> { (0..4).map(|_| from(last, &gateway).get("/").status).collect() };
        assert_eq!(ask(1), [200, 429, 429, 429]);
        assert_eq!(ask(7), [200, 200, 200, 429]);
        assert_eq!(ask(8), [200, 200, 429, 429]);
        assert_eq!(ask(11), [200, 200, 429, 429], "each address of a network for itself");
        assert_eq!(ask(9), [200; 4]);
        assert_eq!(ask(10), [200; 4]);
        assert_eq!(from(7, &gateway).get("/").value("ratelimit-policy"), "\"a\";q=3;w=180");
        assert_eq!(from(1, &gateway).get("/").value("ratelimit-policy"), "\"a\";q=1;w=3600");
        let metrics = gateway.metrics();
        let decided = |outcome| metrics.sum("ringgate_ratelimit_decisions_total", &[("outcome", outcome)]);
        assert_eq!((decided("allowed"), decided("limited")), (9.0, 10.0), "nothing of who is off");
        assert_eq!(decided("shadow_limited"), 3.0);
        assert_eq!(metrics.sum("ringgate_ratelimit_keys", &[("limit", "a")]), 5.0);
    }

    fn listed_values_get_what_the_list_says(driver) {
        let gateway = limited(driver, "[limits.a]\nkey = [\"header:x-api-key\", \"route\"]\nrate = \"1/h\"\nburst = 1\n\
             overrides = [{ key = [\"gold\", \"all\"], rate = \"1/m\", burst = 3 }, { key = [\"bronze\", \"all\"], mode = \"off\" }]",
             "\"a\"");
        let ask = |value: &str| {
            let requests = vec![request("/", &format!("x-api-key: {value}\r\n")); 4];
            statuses(&requests, &gateway)
        };
        assert_eq!(ask("gold"), [200, 200, 200, 429]);
        assert_eq!(ask("silver"), [200, 429, 429, 429]);
        assert_eq!(ask("bronze"), [200; 4]);
    }

    fn top_names_the_busiest_and_the_most_limited(driver) {
        let limits = "[limits.a]\nrate = \"1/h\"\nburst = 2\n\
             [limits.b]\nkey = [\"header:x-api-key\", \"route\", \"query:q\"]\nrate = \"1/h\"\nburst = 100";
        let gateway = limited(driver, limits, "\"a\", \"b\"");
        for (last, count) in [(1, 3), (2, 7), (3, 1)] {
            for _ in 0..count {
                from(last, &gateway).get("/");
            }
        }
        let page = top(&gateway);
        let [a, b] = &page["limits"].as_array().unwrap()[..] else { panic!("{page}") };
        assert_eq!((&a["limit"], &a["key"]), (&json!("a"), &json!(["client_ip"])));
        let shown = |list: &Value| -> Vec<(Value, u64, u64)> {
            let keys = list.as_array().unwrap().iter();
            keys.map(|key| {
                assert!(key["rate"].as_f64().unwrap() > 0.0, "{key}");
                assert!(key["since"].as_str().unwrap().ends_with('Z'), "{key}");
                (key["key"].clone(), key["requests"].as_u64().unwrap(), key["refused"].as_u64().unwrap())
            })
            .collect()
        };
        assert_eq!(shown(&a["busiest"]), [
            (json!(["127.0.0.2"]), 7, 5), (json!(["127.0.0.1"]), 3, 1), (json!(["127.0.0.3"]), 1, 0),
        ]);
        assert_eq!(shown(&a["limited"]), [(json!(["127.0.0.2"]), 5, 5), (json!(["127.0.0.1"]), 1, 1)]);
        assert_eq!(shown(&b["busiest"]), [(json!([null, "all", null]), 11, 0)]);
        assert_eq!(b["limited"], json!([]));
    }

    fn top_and_metrics_show_no_secret(driver) {
        let limits = "[limits.a]\nkey = [\"header:authorization\", \"cookie:sid\", \"query:token\"]\nrate = \"1/h\"";
        let gateway = limited(driver, limits, "\"a\"");
        for _ in 0..2 {
            send(gateway.address, &request("/?token=hunter2", "authorization: hunter2\r\ncookie: sid=hunter2\r\n"));
        }
        let page = top(&gateway).to_string();
        assert!(!page.contains("hunter2") && page.matches("\"hash:").count() == 6, "{page}");
        assert!(!get(gateway.admin, "/metrics").text().contains("hunter2"));
    }
}
