//! One test for each mistake that a configuration can hold: the exact line, column and words that a user reads.
//!
//! Each test also fails where the reader reports anything more, or nothing. A mistake is written by its lines, below
//! those of a text that is right up to there.

use gateway::config::{ConfigSource, load};

const NOTHING: &str = "";
const LISTENER: &str = r#"[[listeners]]
name = "web"
address = "127.0.0.1:0"
"#;
const LISTENING: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
"#;
const ROUTE: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[upstreams.users]
endpoints = [{ address = "10.0.0.1:80" }]
[limits.per_client]
rate = "5/s"
[[routes]]
name = "r"
"#;

/// Asserts that a text is refused for exactly these problems.
fn rejected(before: &str, lines: &[&str], problems: &[&str]) {
    let text = format!("{before}{}\n", lines.join("\n"));
    let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
    let found = load(
        ConfigSource::Text {
            name: "x.toml",
            text: &text,
        },
        &env,
    );
    let found = found
        .err()
        .map_or_else(String::new, |errors| errors.to_string());
    let found: Vec<_> = found
        .lines()
        .filter_map(|line| line.strip_prefix("x.toml:"))
        .collect();
    assert_eq!(found, problems, "{text}");
}

macro_rules! rejects {
    ($($name:ident($before:expr, $($line:expr),+) => [$($problem:expr),+ $(,)?];)+) => {
        $(#[test]
        fn $name() {
            rejected($before, &[$($line),+], &[$($problem),+]);
        })+
    };
}

#[path = "config_rejects/auth.rs"]
mod auth;
#[path = "config_rejects/filters.rs"]
mod filters;
#[path = "config_rejects/forward_auth.rs"]
mod forward_auth;

/// Sections on lines 2 to 22 that others refer to; the next line is the twenty-third.
const NAMED: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[upstreams.users]
endpoints = [{ address = "10.0.0.1:80" }]
[limits.per_client]
rate = "5/s"
[network_lists.inside]
otherwise = "deny"
[cors.pages]
origins = ["*"]
[filters.readonly]
methods = ["GET"]
[security_headers.browsers]
nosniff = true
[bans.scanners]
[error_bodies.html]
bodies = [{ status = 404, body = "no" }]
[jwt.tokens]
issuer = "any"
audience = "any"
jwks_url = "https://id.test/"
[consumers.ada]
plan = "gold"
"#;

#[test]
fn every_reference_to_nothing_is_told_with_the_nearest_name() {
    let route = "[[routes]]\nname = \"first\"\n";
    let answers = "[[routes]]\nname = \"first\"\nrespond = {}\n";
    for (before, line, what, near) in [
        (route, "upstream = \"usres\"", "upstream", "users"),
        (
            route,
            "split = [{ upstream = \"uesrs\" }]",
            "upstream",
            "users",
        ),
        (answers, "limits = [\"per_cleint\"]", "limit", "per_client"),
        (
            answers,
            "network_lists = [\"insdie\"]",
            "network_list",
            "inside",
        ),
        (answers, "cors = \"pagse\"", "cors policy", "pages"),
        (answers, "filters = [\"readnoly\"]", "filter", "readonly"),
        (
            answers,
            "security_headers = \"browserss\"",
            "set of security headers",
            "browsers",
        ),
        (
            answers,
            "error_bodies = \"htlm\"",
            "set of error bodies",
            "html",
        ),
        (answers, "auth = [\"tokns\"]", "authenticator", "tokens"),
        (
            "[forward_auth.gate]\n",
            "upstream = \"user\"",
            "upstream",
            "users",
        ),
        (
            "[[listeners]]\nname = \"b\"\naddress = \"127.0.0.1:0\"\n",
            "ban = \"scaners\"",
            "ban",
            "scanners",
        ),
        (
            "[[listeners]]\nname = \"b\"\naddress = \"127.0.0.1:0\"\n",
            "error_bodies = \"hmtl\"",
            "set of error bodies",
            "html",
        ),
        (
            "[[routes]]\nname = \"first\"\nrespond = {}\n[limits.by_route]\nkey = \"route\"\nrate = \"1/s\"\n",
            "overrides = [{ key = \"frist\", mode = \"off\" }]",
            "route",
            "first",
        ),
    ] {
        let named = match before.starts_with("[[listeners") {
            true => NAMED.replace("listeners = [{", "#"),
            false => NAMED.to_owned(),
        };
        let text = format!("{named}{before}{line}\n");
        let source = ConfigSource::Text {
            name: "x.toml",
            text: &text,
        };
        let told = load(source, &|_| None).unwrap_err().to_string();
        let place = format!("x.toml:{}:", text.lines().count());
        let message = format!("no {what} is named `");
        let end = format!("`; did you mean `{near}`?");
        let is_told = told.starts_with(&place) && told.contains(&message) && told.ends_with(&end);
        assert!(is_told && told.lines().count() == 1, "{line}: {told}");
    }
}

#[test]
fn what_may_be_anything_and_is_almost_a_word_is_doubted() {
    for (line, place, near) in [
        ("methods = [\"GET\", \"PSOT\"]", "9:19", "POST"),
        ("upgrade = [\"wbsocket\"]", "9:12", "websocket"),
        ("rewrite = { host = \"upsteram\" }", "9:20", "upstream"),
        ("[log.access]\npath = \"stdotu\"", "10:8", "stdout"),
    ] {
        let text = format!("{ROUTE}upstream = \"users\"\n{line}\n");
        let text = text.replace("[limits.per_client]\nrate = \"5/s\"\n", "\n\n");
        let source = ConfigSource::Text {
            name: "x.toml",
            text: &text,
        };
        let told = load(source, &|_| None).unwrap().warnings.to_string();
        let end = format!("` is taken as it is written; did you mean `{near}`?");
        let begin = format!("x.toml:{place}: warning: ");
        let is_told = told.starts_with(&begin) && told.ends_with(&end);
        assert!(is_told && told.lines().count() == 1, "{told}");
    }
}

rejects! {
    // Exceptions to rules.
    an_unknown_fault(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "tolerate = [\"two-lengths\"]") =>
        ["4:13: error: upstreams.u.tolerate: `two-lengths` is not one of \"duplicate-content-length\", \"length-and-encoding\", \"transfer-encoding-in-http-1-0\" or \"blank-before-colon\""];
    a_rule_that_cannot_be_only_counted(LISTENER, "count_only = [\"host_missing\"]") =>
        ["4:15: error: listeners.count_only: `host_missing` is not one of \"path_encoded_slash\", \"path_double_encoding\", \"path_encoded_control\", \"path_empty_segment\", \"path_ambiguous\", \"query_octet\", \"field_underscore\" or \"host_unlisted\""];
    a_rule_that_is_not_in_force(LISTENER, "count_only = [\"path_ambiguous\", \"field_underscore\"]") =>
        [
            "4:15: error: listeners.count_only: `path_ambiguous` counts nothing without `path_policy = \"strict\"`",
            "4:33: error: listeners.count_only: `field_underscore` counts nothing without `underscore_headers = \"reject\"`",
        ];
    a_name_with_a_blank(LISTENER, "via = \"a b\"") =>
        ["4:7: error: listeners.via: `a b` is not a name; use 1 to 64 letters, digits, `_`, `-` and `.`"];
    an_unknown_word_for_a_mismatch(LISTENER, "host_mismatch = \"ignore\"") =>
        ["4:17: error: listeners.host_mismatch: `ignore` is not one of \"reject\" or \"rewrite\""];
    trailers_that_are_no_flag(ROUTE, "upstream = \"users\"", "trailers = \"yes\"") => ["9:12: error: routes.trailers: expected `true` or `false`; found a string"];

    // Whole file.
    toml_that_does_not_parse(NOTHING, "version = 1", "[runtime", "workers = 2") =>
        ["2:9: error: not TOML: unclosed table, expected `]`"];
    every_line_that_does_not_parse(NOTHING, "a = ", "b = 1", "c = [1") =>
        [
            "1:5: error: not TOML: string values must be quoted, expected literal string",
            "3:7: error: not TOML: unclosed array, expected `]`",
        ];
    a_table_that_is_there_twice(LISTENING, "[upstreams.users]", r#"endpoints = [{ address = "10.0.0.1:80" }]"#, "[upstreams.users]") =>
        ["4:12: error: upstreams.users: this name is there twice; it was first at x.toml:2:12"];
    a_key_that_is_there_twice(NOTHING, "version = 1", "version = 1", r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]"#) =>
        ["2:1: error: version: this name is there twice; it was first at x.toml:1:1"];
    a_future_version_and_nothing_else(NOTHING, "version = 2", "future = true") =>
        ["1:11: error: version: this version of ringgate reads format 1; found 2"];
    a_version_that_is_no_integer(NOTHING, r#"version = "1""#, r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]"#) =>
        ["1:11: error: version: expected an integer from 0 to 4294967295; found a string"];
    no_listener(NOTHING, "version = 1") =>
        ["1:1: error: listeners: missing; a gateway needs at least one [[listeners]]"];
    an_empty_list_of_listeners(NOTHING, "listeners = []") =>
        ["1:13: error: listeners: missing; a gateway needs at least one [[listeners]]"];
    an_unknown_section_with_the_nearest_name(LISTENING, "[runtme]") =>
        ["2:2: error: runtme: unknown key; did you mean `runtime`?"];
    an_unknown_key_with_nothing_near(LISTENING, "zzz = 1") =>
        ["2:1: error: zzz: unknown key; known keys: version, runtime, admin, log, client_ip, listeners, upstreams, limits, network_lists, cors, filters, security_headers, bans, error_bodies, consumers, api_keys, jwt, basic_auth, forward_auth, routes"];
    an_unknown_key_with_the_nearest_name(LISTENER, "max_conections = 5") =>
        ["4:1: error: listeners.max_conections: unknown key; did you mean `max_connections`?"];
    a_key_of_a_later_version(LISTENER, r#"tls = {}"#) =>
        ["4:1: error: listeners.tls: not supported in this version"];
    a_proxy_protocol_that_nobody_may_speak(LISTENER, r#"proxy_protocol = "v2""#) =>
        ["3:11: error: listeners.proxy_protocol: needs `client_ip.trusted_proxies`: from others no connection is taken"];
    a_proxy_protocol_of_another_version(LISTENER, r#"proxy_protocol = "v3""#) =>
        [r#"4:18: error: listeners.proxy_protocol: `v3` is not one of "off", "v1", "v2" or "any"; did you mean `v1`?"#];
    a_proxy_that_is_no_network(LISTENING, "[client_ip]", r#"trusted_proxies = ["10.0.0.0/33"]"#) =>
        [r#"3:20: error: client_ip.trusted_proxies: `10.0.0.0/33` is not an address or network such as "10.0.0.7" or "10.1.0.0/16""#];
    a_proxy_that_is_there_twice(LISTENING, "[client_ip]", r#"trusted_proxies = ["10.0.0.1", "10.0.0.1"]"#) =>
        ["3:32: error: client_ip.trusted_proxies: `10.0.0.1/32` is there twice"];
    a_header_that_names_no_client(LISTENING, "[client_ip]", r#"header = "x-real-ip""#) =>
        [r#"3:10: error: client_ip.header: `x-real-ip` is not one of "x-forwarded-for", "forwarded" or "off""#];
    columns_in_characters_not_bytes(LISTENING, r#"admin = { listen = "127.0.0.1:0" } # é"#, r#"client_ip = { "é" = 1, ipv6_prefix = 0 }"#) =>
        [
            "3:15: error: client_ip.é: unknown key; known keys: trusted_proxies, header, ipv6_prefix",
            "3:38: error: client_ip.ipv6_prefix: must be from 1 to 128; found 0",
        ];
    a_section_that_is_no_table(LISTENING, "runtime = 3") =>
        ["2:11: error: runtime: expected a table; found an integer"];
    an_array_where_a_table_belongs(LISTENER, "[[runtime]]", "workers = 1") =>
        ["4:1: error: runtime: expected a table; found an array"];
    a_table_where_an_array_belongs(NOTHING, "[listeners]", r#"name = "web""#) =>
        ["1:1: error: listeners: expected an array of tables: [[listeners]]; found a table"];

    // Values.
    a_string_for_an_integer(LISTENER, r#"max_connections = "many""#) =>
        ["4:19: error: listeners.max_connections: expected an integer from 1 to 10000000; found a string"];
    an_integer_for_a_boolean(LISTENING, "[runtime]", "pin_cores = 1") =>
        ["3:13: error: runtime.pin_cores: expected `true` or `false`; found an integer"];
    a_float_for_an_integer(LISTENING, "[runtime]", "workers = 1.5") =>
        [r#"3:11: error: runtime.workers: expected an integer from 1 to 1024; found a float (or write "auto")"#];
    a_number_below_its_bound(LISTENING, "[runtime]", "workers = 0") =>
        [r#"3:11: error: runtime.workers: must be from 1 to 1024; found 0 (or write "auto")"#];
    a_number_above_its_bound(LISTENING, "[client_ip]", "ipv6_prefix = 129") =>
        ["3:15: error: client_ip.ipv6_prefix: must be from 1 to 128; found 129"];
    a_number_beyond_64_bits(LISTENER, "max_connections = 99999999999999999999") =>
        ["4:19: error: listeners.max_connections: must be an integer from 1 to 10000000"];
    a_negative_number(LISTENER, "fields_max = -1") =>
        ["4:14: error: listeners.fields_max: must be an integer from 1 to 1024"];
    a_ring_size_that_is_no_power_of_two(LISTENING, "[runtime]", "ring_entries = 500") =>
        ["3:16: error: runtime.ring_entries: must be a power of two from 256 to 32768; found 500"];
    a_bare_number_for_a_duration(LISTENER, "header_timeout = 10") =>
        [r#"4:18: error: listeners.header_timeout: add a unit to the duration: "10s" for seconds or "10ms" for milliseconds"#];
    a_duration_without_unit(LISTENER, r#"header_timeout = "10""#) =>
        [r#"4:18: error: listeners.header_timeout: add a unit to the duration: "10s" for seconds or "10ms" for milliseconds"#];
    a_duration_with_a_strange_unit(LISTENER, r#"header_timeout = "10sec""#) =>
        ["4:18: error: listeners.header_timeout: `sec` is not a unit of time; use ms, s, m, h or d"];
    a_duration_in_fractions(LISTENER, r#"header_timeout = "1.5s""#) =>
        [r#"4:18: error: listeners.header_timeout: `1.5s` is not a duration; write whole numbers with units, such as "1m30s" or "1500ms""#];
    a_duration_of_nothing(LISTENER, r#"idle_timeout = "0s""#) =>
        ["4:16: error: listeners.idle_timeout: must be from 1ms to 1d; found 0s"];
    a_duration_beyond_its_bound(LISTENING, "[runtime]", r#"drain_delay = "2h""#) =>
        ["3:15: error: runtime.drain_delay: must be from 0s to 1h; found 2h"];
    a_bare_number_for_a_size(LISTENER, "head_max = 65536") =>
        [r#"4:12: error: listeners.head_max: add a unit to the size: "65536B" for bytes, or KiB, MiB, GiB"#];
    a_size_with_a_strange_unit(LISTENER, r#"head_max = "64 kilobytes""#) =>
        ["4:12: error: listeners.head_max: `kilobytes` is not a unit of size; use B, KiB, MiB, GiB (or k, m, g for the same), kB, MB, GB"];
    a_size_beyond_its_bound(LISTENER, r#"head_max = "2MiB""#) =>
        ["4:12: error: listeners.head_max: must be from 128B to 1MiB; found 2MiB"];
    a_request_line_longer_than_the_head(LISTENER, r#"head_max = "4KiB""#) =>
        ["4:12: error: listeners.head_max: `head_max` must be at least `request_line_max`, which it includes"];
    a_speed_without_period(LISTENER, r#"min_body_rate = "256B""#) =>
        [r#"4:17: error: listeners.min_body_rate: `256B` is not a speed; write one such as "256B/s" (or write "off")"#];
    a_speed_of_zero(LISTENER, r#"min_body_rate = "0B/s""#) =>
        [r#"4:17: error: listeners.min_body_rate: must be from 1B/s to 1GiB/s; found 0B/s (or write "off")"#];
    a_word_with_the_nearest_one(LISTENING, "[runtime]", r#"driver = "iouring""#) =>
        [r#"3:10: error: runtime.driver: `iouring` is not one of "auto", "io_uring" or "epoll"; did you mean `io_uring`?"#];
    a_word_with_nothing_near(LISTENER, r#"steer = "random""#) =>
        [r#"4:9: error: listeners.steer: `random` is not one of "hash", "source_ip" or "cpu""#];

    // Listeners, admin, log.
    a_listener_without_name_and_address(NOTHING, "[[listeners]]") =>
        [
            "1:1: error: listeners.name: missing; expected a name",
            r#"1:1: error: listeners.address: missing; expected an IP address and port such as "0.0.0.0:8080""#,
        ];
    a_listener_name_that_is_there_twice(LISTENER, "[[listeners]]", r#"name = "web""#, r#"address = "127.0.0.1:0""#) =>
        ["5:8: error: listeners.name: another listener is named `web` too"];
    a_listener_address_that_is_there_twice(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = "0.0.0.0:80""#, "[[listeners]]", r#"name = "b""#, r#"address = "0.0.0.0:80""#) =>
        ["6:11: error: listeners.address: `0.0.0.0:80` is the address of another listener too"];
    the_admin_address_on_a_listener(NOTHING, "[admin]", r#"listen = "127.0.0.1:80""#, "[[listeners]]", r#"name = "a""#, r#"address = "127.0.0.1:80""#) =>
        ["5:11: error: listeners.address: a listener has the address of `admin.listen`; the two need one each"];
    a_listener_on_a_port_that_a_wildcard_of_ipv6_takes(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = "0.0.0.0:80""#, "[[listeners]]", r#"name = "b""#, r#"address = "[::]:80""#) =>
        ["6:11: error: listeners.address: `[::]:80` and `0.0.0.0:80` of another listener cannot both be had: `[::]` takes IPv4, too"];
    the_admin_address_on_a_port_that_a_wildcard_takes(NOTHING, "[admin]", r#"listen = "127.0.0.1:80""#, "[[listeners]]", r#"name = "a""#, r#"address = "0.0.0.0:80""#) =>
        ["5:11: error: listeners.address: it and `127.0.0.1:80` of `admin.listen` cannot both be had: the wildcard is every address of its port"];
    an_address_without_host(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = ":8080""#) =>
        [r#"3:11: error: listeners.address: `:8080` has no IP address; write "0.0.0.0:8080" or "127.0.0.1:8080""#];
    a_host_name_to_listen_on(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = "localhost:8080""#) =>
        [r#"3:11: error: listeners.address: `localhost:8080` is not an IP address and port such as "0.0.0.0:8080" or "[::]:8080""#];
    a_unix_socket_to_listen_on(LISTENING, "[admin]", r#"listen = "unix:/run/a.sock""#) =>
        [r#"3:10: error: admin.listen: `unix:/run/a.sock`: only ip:port is supported in this version (or write "off")"#];
    a_name_with_a_space(NOTHING, "[[listeners]]", r#"name = "a b""#, r#"address = "127.0.0.1:0""#) =>
        ["2:8: error: listeners.name: `a b` is not a name; use 1 to 64 letters, digits, `_`, `-` and `.`"];
    an_empty_log_path(LISTENING, "[log.access]", r#"path = """#) =>
        [r#"3:8: error: log.access.path: an empty path; write "stdout", "off" or a file's path"#];
    an_unknown_log_format(LISTENING, "[log.access]", r#"format = "jsn""#) =>
        [r#"3:10: error: log.access.format: `jsn` is not one of "json", "combined" or "common"; did you mean `json`?"#];

    // Upstreams.
    an_upstream_without_endpoints(LISTENING, "[upstreams.users]", "keepalive_max = 3") =>
        [r#"2:1: error: upstreams.users.endpoints: missing; expected an array of tables such as [{ address = "10.0.0.1:8000" }]"#];
    an_upstream_with_no_endpoint_in_its_list(LISTENING, "[upstreams.users]", "endpoints = []") =>
        ["3:13: error: upstreams.users.endpoints: an upstream needs at least one endpoint"];
    endpoints_that_are_bare_strings(LISTENING, "[upstreams.users]", r#"endpoints = ["10.0.0.1:80"]"#) =>
        [r#"3:14: error: upstreams.users.endpoints: expected an array of tables such as [{ address = "10.0.0.1:8000" }]; found a string"#];
    an_unknown_balance(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "balance = \"least_requests\"") =>
        ["4:11: error: upstreams.u.balance: `least_requests` is not one of \"round_robin\", \"least_request\", \"p2c\", \"random\" or \"hash\"; did you mean `least_request`?"];
    a_hash_without_its_key(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "balance = \"hash\"") =>
        ["2:1: error: upstreams.u.hash_key: `balance = \"hash\"` needs it; expected \"client_ip\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"path\" or \"path:N\""];
    a_hash_key_that_is_none(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "balance = \"hash\"", "hash_key = \"jwt:sub\"") =>
        ["5:12: error: upstreams.u.hash_key: `jwt:sub` is not one of \"client_ip\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"path\" or \"path:N\""];
    a_hash_key_for_another_balance(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "hash_key = \"path\"") =>
        ["4:12: error: upstreams.u.hash_key: has no meaning without `balance = \"hash\"`"];
    a_check_without_a_slash(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "health = { path = \"healthz\" }") =>
        ["4:19: error: upstreams.u.health.path: `healthz` is not a path: it begins with `/` and has no blanks; write one such as \"/healthz\""];
    a_check_that_expects_no_status(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "health = { path = \"/\", expect = [\"200\", \"2xx\"] }") =>
        ["4:41: error: upstreams.u.health.expect: `2xx` is not a status or range such as \"200\" or \"200-399\""];
    a_check_of_connections_that_expects_a_status(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "health = { expect = \"200\" }") =>
        ["4:21: error: upstreams.u.health.expect: has no meaning without `path`"];
    a_retry_for_no_cause(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "retry = { on = [\"conect\", \"200\"] }") =>
        ["4:17: error: upstreams.u.retry.on: `conect` is not one of \"connect\", \"reset_before_response\", \"timeout\" or a status from \"400\" to \"599\"; did you mean `connect`?",
         "4:27: error: upstreams.u.retry.on: `200` is not one of \"connect\", \"reset_before_response\", \"timeout\" or a status from \"400\" to \"599\""];
    too_many_attempts(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "retry = { attempts = 6 }") =>
        ["4:22: error: upstreams.u.retry.attempts: must be from 0 to 5; found 6"];
    a_share_without_its_unit(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "panic_threshold = 50") =>
        ["4:19: error: upstreams.u.panic_threshold: add the unit to the share: \"50%\""];
    a_share_beyond_the_whole(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "panic_threshold = \"101%\"") =>
        ["4:19: error: upstreams.u.panic_threshold: must be from 0% to 100%; found 101%"];
    a_slow_start_for_nobody(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "slow_start = \"10s\"") =>
        ["4:14: error: upstreams.u.slow_start: has no meaning without `health` or `outlier`"];
    an_ejection_longer_than_its_longest(LISTENING, "[upstreams.u]", "endpoints = [{ address = \"10.0.0.1:80\" }]", "outlier = { eject_time = \"10m\" }") =>
        ["4:11: error: upstreams.u.outlier.max_eject_time: is shorter than `eject_time`"];
    an_endpoint_without_address(LISTENING, "[upstreams.users]", "endpoints = [{ weight = 2 }]") =>
        ["3:14: error: upstreams.users.endpoints.address: missing; expected ip:port, host:port, unix:/path or builtin:demo"];
    an_endpoint_without_port(LISTENING, "[upstreams.users]", r#"endpoints = [{ address = "users.internal" }]"#) =>
        [r#"3:26: error: upstreams.users.endpoints.address: `users.internal` has no port; write "users.internal:80""#];
    an_endpoint_that_is_a_url(LISTENING, "[upstreams.users]", r#"endpoints = [{ address = "http://users.internal:80" }]"#) =>
        ["3:26: error: upstreams.users.endpoints.address: `http://users.internal:80` is a URL; write only host:port"];
    an_endpoint_that_is_there_twice(LISTENING, "[upstreams.users]", r#"endpoints = [{ address = "a:80" }, { address = "A:80" }]"#) =>
        ["3:48: error: upstreams.users.endpoints.address: `a:80` is there twice; use `weight` for a larger share"];
    an_unknown_builtin(LISTENING, "[upstreams.users]", r#"endpoints = [{ address = "builtin:echo" }]"#) =>
        [r#"3:26: error: upstreams.users.endpoints.address: `builtin:echo` does not exist; the only one is "builtin:demo""#];
    an_upstream_name_with_a_space(LISTENING, r#"[upstreams."a b"]"#, r#"endpoints = [{ address = "a:80" }]"#) =>
        ["2:12: error: upstreams: `a b` is not a name; use 1 to 64 letters, digits, `_`, `-` and `.`"];
    an_upstream_that_is_no_table(LISTENING, "[upstreams]", r#"users = "10.0.0.1:80""#) =>
        ["3:9: error: upstreams.users: expected a table; found a string"];

    // Limits.
    a_limit_without_rate(LISTENING, "[limits.a]", "burst = 1") =>
        [r#"2:1: error: limits.a.rate: missing; expected a rate such as "100/s", "30/m", "5/h", "1/d"; at most 1000000000 units"#];
    a_bare_number_for_a_rate(LISTENING, "[limits.a]", "rate = 100") =>
        [r#"3:8: error: limits.a.rate: add a period to the rate: "100/s" (or /m, /h, /d)"#];
    a_rate_of_zero(LISTENING, "[limits.a]", r#"rate = "0/s""#) =>
        ["3:8: error: limits.a.rate: a rate of 0 would refuse everything; write a `respond` route for that"];
    a_rate_with_a_strange_period(LISTENING, "[limits.a]", r#"rate = "5/y""#) =>
        [r#"3:8: error: limits.a.rate: `y` is not a period; use s, m, h or d, as in "100/s""#];
    a_burst_of_zero(LISTENING, "[limits.a]", r#"rate = "5/s""#, "burst = 0") =>
        ["4:9: error: limits.a.burst: must be from 1 to 1000000000; found 0"];
    a_burst_that_takes_years_to_refill(LISTENING, "[limits.a]", r#"rate = "1/d""#, "burst = 1000") =>
        ["4:9: error: limits.a.burst: takes more than 2.2 years to refill at this rate"];
    a_limit_key_of_a_later_version(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = "method""#) =>
        [r#"4:7: error: limits.a.key: `method` is not supported in this version; write "client_ip", "header:NAME", "cookie:NAME", "query:NAME", "path:N", "host", "route", "consumer", "plan" or "jwt:CLAIM""#];
    a_limit_key_without_its_claim(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = "jwt""#) =>
        [r#"4:7: error: limits.a.key: `jwt` lacks what to look at; write one such as "jwt:NAME""#];
    a_limit_key_with_the_nearest_one(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = "clientip""#) =>
        [r#"4:7: error: limits.a.key: `clientip` is not one of "client_ip", "header:NAME", "cookie:NAME", "query:NAME", "path:N", "host", "route", "consumer", "plan" or "jwt:CLAIM"; did you mean `client_ip`?"#];
    a_limit_key_without_its_name(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = ["header", "path:", "cookie:a b", "path:0"]"#) =>
        [
            r#"4:8: error: limits.a.key: `header` lacks what to look at; write one such as "header:NAME""#,
            r#"4:18: error: limits.a.key: `path:`: a path's segments are numbered from 1 to 255; write "path:1" for the first"#,
            "4:27: error: limits.a.key: `cookie:a b`: `a b` is not a name that a header or cookie can have",
            r#"4:41: error: limits.a.key: `path:0`: a path's segments are numbered from 1 to 255; write "path:1" for the first"#,
        ];
    a_limit_key_of_too_many_parts(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = ["path:1", "path:2", "path:3", "path:4", "path:5"]"#) =>
        ["4:7: error: limits.a.key: an array here holds 1 to 4 values; found 5"];
    a_limit_key_of_no_part(LISTENING, "[limits.a]", r#"rate = "5/s""#, "key = []") =>
        ["4:7: error: limits.a.key: an array here holds 1 to 4 values; found 0"];
    a_limit_key_with_a_part_twice(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = ["header:A", "header:a"]"#) =>
        ["4:7: error: limits.a.key: a part is there twice"];
    an_override_without_key(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ mode = "off" }]"#) =>
        ["4:14: error: limits.a.overrides.key: missing; expected a value of the limit's key"];
    an_override_that_changes_nothing(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "::1" }]"#) =>
        ["4:14: error: limits.a.overrides.rate: changes nothing; write `rate` or `mode`"];
    an_override_with_a_burst_alone(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "::1", burst = 3 }]"#) =>
        ["4:37: error: limits.a.overrides.burst: a burst needs a `rate` beside it"];
    an_override_with_a_rate_and_off(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "::1", rate = "1/s", mode = "off" }]"#) =>
        [r#"4:36: error: limits.a.overrides.rate: has no meaning with `mode = "off"`"#];
    an_override_that_takes_years_to_refill(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "::1", rate = "1/d", burst = 1000 }]"#) =>
        ["4:51: error: limits.a.overrides.burst: takes more than 2.2 years to refill at this rate"];
    an_override_for_no_address(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "10.0.0", mode = "off" }]"#) =>
        [r#"4:22: error: limits.a.overrides.key: `10.0.0` is not an address or network such as "10.0.0.7" or "10.1.0.0/16""#];
    an_override_for_a_network_with_more_bits(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "10.1.2.3/16", mode = "off" }]"#) =>
        [r#"4:22: error: limits.a.overrides.key: `10.1.2.3/16` has bits beyond its prefix; write "10.1.0.0/16" for the network"#];
    an_override_that_is_there_twice(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "10.0.0.1", mode = "off" }, { key = "::ffff:10.0.0.1", mode = "off" }]"#) =>
        ["4:58: error: limits.a.overrides.key: another override has this key too"];
    an_override_without_a_value_for_each_part(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = ["client_ip", "route"]"#, r#"overrides = [{ key = "10.0.0.1", mode = "off" }]"#) =>
        ["5:22: error: limits.a.overrides.key: the limit's key has 2 parts; write a value for each, as an array; found 1"];
    an_override_for_a_network_among_parts(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = ["client_ip", "route"]"#, r#"overrides = [{ key = ["10.0.0.0/8", "r"], mode = "off" }]"#) =>
        [r#"5:22: error: limits.a.overrides.key: `10.0.0.0/8` is not an address; networks are for keys of "client_ip" alone"#];
    an_override_for_a_route_that_is_not_there(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = "route""#, r#"overrides = [{ key = "user", mode = "off" }, { key = "users", mode = "off" }]"#, "[[routes]]", r#"name = "users""#, "respond = {}") =>
        ["5:22: error: limits.a.overrides.key: no route is named `user`; did you mean `users`?"];
    an_override_that_would_never_match(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"key = "header:a""#, r#"overrides = [{ key = " x", mode = "off" }]"#) =>
        ["5:22: error: limits.a.overrides.key: ` x` would never match: headers are counted without blanks at their ends"];
    an_override_key_from_the_environment_without_showing_it(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "${SECRET}", mode = "off" }]"#) =>
        ["4:22: error: limits.a.overrides.key: the value from the environment is no such key"];
    an_override_with_a_key_of_its_limit(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ key = "::1", mode = "off", max_keys = 5 }]"#) =>
        ["4:43: error: limits.a.overrides.max_keys: not supported in this version"];
    a_table_of_no_keys(LISTENING, "[limits.a]", r#"rate = "5/s""#, "max_keys = 0") =>
        ["4:12: error: limits.a.max_keys: must be from 1 to 2000000000; found 0"];
    a_limit_status_that_is_no_refusal(LISTENING, "[limits.a]", r#"rate = "5/s""#, "status = 200") =>
        ["4:10: error: limits.a.status: must be from 400 to 599; found 200"];
    a_table_of_no_size(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"max_keys = "0B""#) =>
        ["4:12: error: limits.a.max_keys: must be from 64KiB to 64GiB; found 0B"];

    // Routes.
    a_route_without_name_and_action(LISTENING, "[[routes]]", r#"path = "/""#) =>
        [
            "2:1: error: routes.name: missing; expected a name",
            "2:1: error: routes.upstream: missing; write `upstream` with a name, or `split`, `respond` or `redirect`",
        ];
    a_route_to_nowhere_with_the_nearest_name(ROUTE, r#"upstream = "user""#) =>
        ["8:12: error: routes.upstream: no upstream is named `user`; did you mean `users`?"];
    a_route_to_an_upstream_where_there_is_none(LISTENING, "[[routes]]", r#"name = "r""#, r#"upstream = "users""#) =>
        ["4:12: error: routes.upstream: no upstream is named `users`; there is no [upstreams.NAME] at all"];
    a_limit_that_is_not_there_with_the_nearest_name(ROUTE, r#"upstream = "users""#, r#"limits = ["per_cleint"]"#) =>
        ["9:11: error: routes.limits: no limit is named `per_cleint`; did you mean `per_client`?"];
    a_limit_that_is_there_twice(ROUTE, r#"upstream = "users""#, r#"limits = ["per_client", "per_client"]"#) =>
        ["9:25: error: routes.limits: `per_client` is there twice"];
    two_actions(ROUTE, r#"upstream = "users""#, "respond = {}") =>
        ["9:11: error: routes.respond: write either `upstream` or `respond`, not both"];
    two_kinds_of_path(ROUTE, r#"upstream = "users""#, r#"path = "/a""#, r#"path_prefix = "/b""#) =>
        ["10:15: error: routes.path_prefix: write either `path` or `path_prefix`, not both"];
    two_kinds_of_host(ROUTE, r#"upstream = "users""#, r#"host = "a.com""#, r#"hosts = ["b.com"]"#) =>
        ["10:9: error: routes.hosts: write either `host` or `hosts`, not both"];
    an_empty_list_of_hosts(ROUTE, r#"upstream = "users""#, "hosts = []") =>
        ["9:9: error: routes.hosts: an empty array; for every host leave the key out"];
    a_host_that_is_there_twice(ROUTE, r#"upstream = "users""#, r#"hosts = ["a.com", "A.com"]"#) =>
        ["9:19: error: routes.hosts: `a.com` is there twice"];
    a_host_with_a_port(ROUTE, r#"upstream = "users""#, r#"host = "a.com:8080""#) =>
        [r#"9:8: error: routes.host: `a.com:8080`: write it without the port, "a.com""#];
    a_wildcard_in_the_middle(ROUTE, r#"upstream = "users""#, r#"host = "a.*.com""#) =>
        [r#"9:8: error: routes.host: `a.*.com`: a `*` stands only for the first labels, as in "*.example.com"; for every host leave the key out"#];
    a_path_without_slash(ROUTE, r#"upstream = "users""#, r#"path = "v1""#) =>
        ["9:8: error: routes.path: `v1` must begin with `/`"];
    a_capture_that_is_part_of_a_segment(ROUTE, r#"upstream = "users""#, r#"path = "/users/{id}.json""#) =>
        [r#"9:8: error: routes.path: `/users/{id}.json`: a capture is a whole segment, as in "/users/{id}"; for a part of one write path_regex"#];
    a_capture_that_is_there_twice(ROUTE, r#"upstream = "users""#, r#"path = "/{id}/{id}""#) =>
        ["9:8: error: routes.path: `/{id}/{id}`: `id` is captured twice"];
    a_capture_without_a_name(ROUTE, r#"upstream = "users""#, r#"path = "/users/{}""#) =>
        ["9:8: error: routes.path: `/users/{}`: `` is not the name of a capture; use letters, digits and `_`"];
    more_captures_than_a_path_has(ROUTE, r#"upstream = "users""#, r#"path = "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}""#) =>
        ["9:8: error: routes.path: `/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}`: a path has at most 8 captures"];
    a_prefix_with_captures(ROUTE, r#"upstream = "users""#, r#"path_prefix = "/users/{id}""#) =>
        ["9:15: error: routes.path_prefix: `/users/{id}`: captures are for `path`; for all below a captured segment write path_regex"];
    a_path_twice_in_two_ways(ROUTE, r#"upstream = "users""#, r#"path = "/a""#, r#"path_regex = "/b""#) =>
        ["10:14: error: routes.path_regex: write either `path` or `path_regex`, not both"];
    a_regular_expression_that_is_none(ROUTE, r#"upstream = "users""#, r#"path_regex = "/a(b""#) =>
        ["9:14: error: routes.path_regex: not a regular expression: unclosed group"];
    a_regular_expression_that_grows_too_large(ROUTE, r#"upstream = "users""#, r#"path_regex = "/(?:[a-z]{100}){1000}""#) =>
        ["9:14: error: routes.path_regex: not a regular expression: Compiled regex exceeds size limit of 1048576 bytes."];
    two_templates_that_differ_by_names_alone(ROUTE, r#"upstream = "users""#, r#"path = "/{a}/x""#, "[[routes]]", r#"name = "s""#, r#"upstream = "users""#, r#"path = "/{b}/x""#) =>
        ["13:8: error: routes: `r` serves this host and path already, under the same conditions; only one route can"];
    the_same_conditions_in_another_order(ROUTE, r#"upstream = "users""#, r#"methods = ["GET", "PUT"]"#, "[[routes]]", r#"name = "s""#, r#"upstream = "users""#, r#"methods = ["PUT", "GET"]"#) =>
        ["10:1: error: routes: `r` serves this host and path already, under the same conditions; only one route can"];
    a_redirect_without_a_target(ROUTE, "redirect = { status = 308 }") =>
        [r#"8:12: error: routes.redirect.to: missing; expected a URL or path such as "https://${host}${path}""#];
    a_redirect_that_is_none(ROUTE, r#"redirect = { to = "/", status = 304 }"#) =>
        ["8:33: error: routes.redirect.status: 304 is no redirect; write 308"];
    a_redirect_to_a_host_that_the_client_chooses(ROUTE, r#"path = "/{id}""#, r#"redirect = { to = "https://${path.id}/" }"#) =>
        ["9:19: error: routes.redirect.to: `https://${path.id}/`: in the host only `${host}` may stand; a client could choose it otherwise"];
    a_redirect_whose_host_the_query_could_end(ROUTE, r#"redirect = { to = "https://a.test${query}" }"#) =>
        ["8:19: error: routes.redirect.to: `https://a.test${query}`: in the host only `${host}` may stand; a client could choose it otherwise"];
    a_redirect_with_a_user_in_its_host(ROUTE, r#"redirect = { to = "https://a@b.test/" }"#) =>
        ["8:19: error: routes.redirect.to: `https://a@b.test/`: `a@b.test` cannot be part of a host"];
    a_redirect_without_a_host(ROUTE, r#"redirect = { to = "https:///a" }"#) =>
        ["8:19: error: routes.redirect.to: `https:///a`: there is no host in it"];
    a_redirect_to_another_scheme(ROUTE, r#"redirect = { to = "javascript:x" }"#) =>
        ["8:19: error: routes.redirect.to: `javascript:x`: it begins with `http://`, `https://`, `${scheme}://`, `/` or `${path}`"];
    a_redirect_to_two_slashes(ROUTE, r#"redirect = { to = "//a.test/" }"#) =>
        ["8:19: error: routes.redirect.to: `//a.test/`: `//` begins a host; write a scheme before it, or one slash"];
    a_redirect_with_a_line_break(ROUTE, r#"redirect = { to = "/a\r\nx" }"#) =>
        ["8:19: error: routes.redirect.to: `/a\\r\\nx`: a URL holds visible ASCII, other characters percent-encoded"];
    a_variable_that_no_request_has(ROUTE, r#"redirect = { to = "/${request.name}" }"#) =>
        ["8:19: error: routes.redirect.to: `${request.name}` is no variable of a request; there are scheme, method, host, path, query, client.address, request.id, route, consumer.name, consumer.plan and path.NAME; did you mean `request.id`?"];
    a_capture_that_the_path_does_not_have(ROUTE, r#"path = "/{id}""#, r#"redirect = { to = "/${path.name}" }"#) =>
        ["9:19: error: routes.redirect.to: `${path.name}`: the route's path has no such capture; it captures id"];
    a_redirect_beside_an_upstream(ROUTE, r#"upstream = "users""#, r#"redirect = { to = "/" }"#) =>
        ["9:12: error: routes.redirect: write either `upstream` or `redirect`, not both"];
    a_split_with_an_unknown_upstream(ROUTE, r#"split = [{ upstream = "user" }]"#) =>
        ["8:23: error: routes.split.upstream: no upstream is named `user`; did you mean `users`?"];
    a_split_without_weight(ROUTE, r#"split = [{ upstream = "users", weight = 0 }]"#) =>
        ["8:9: error: routes.split: one part at least needs a weight above 0"];
    a_split_with_an_upstream_twice(ROUTE, r#"split = [{ upstream = "users" }, { upstream = "users" }]"#) =>
        ["8:47: error: routes.split.upstream: `users` is there twice"];
    a_prefix_to_strip_that_requests_do_not_have(ROUTE, r#"upstream = "users""#, r#"path_prefix = "/v1""#, r#"rewrite = { strip_prefix = "/v10" }"#) =>
        ["10:28: error: routes.rewrite.strip_prefix: `/v10` is not where the route's own path begins, so that it could not be taken off"];
    a_path_rewritten_twice(ROUTE, r#"upstream = "users""#, r#"rewrite = { add_prefix = "/a", path = "/b" }"#) =>
        ["9:39: error: routes.rewrite.path: write either `path` or prefixes, not both"];
    a_path_made_of_the_query(ROUTE, r#"upstream = "users""#, r#"rewrite = { path = "/${query}" }"#) =>
        ["9:20: error: routes.rewrite.path: `/${query}`: the query cannot be part of a path; it is passed on as it came"];
    a_path_that_is_not_normal(ROUTE, r#"upstream = "users""#, r#"rewrite = { path = "/a/../b" }"#) =>
        ["9:20: error: routes.rewrite.path: `/a/../b`: `/a/../b`: requests are compared without `.` and `..` segments"];
    a_host_that_is_none(ROUTE, r#"upstream = "users""#, r#"rewrite = { host = "a b" }"#) =>
        [r#"9:20: error: routes.rewrite.host: `a b` is not a host; write one such as "users.internal:8000", or "upstream""#];
    a_rewrite_where_nothing_goes_upstream(ROUTE, "respond = {}", r#"rewrite = { add_prefix = "/a" }"#) =>
        ["9:11: error: routes.rewrite: nothing goes upstream from this route"];
    a_framing_field_that_is_set(ROUTE, r#"upstream = "users""#, r#"request_headers = { set = { Transfer-Encoding = "chunked" } }"#) =>
        ["9:29: error: routes.request_headers.set: `Transfer-Encoding` is written by the gateway itself"];
    a_consumer_that_is_set(ROUTE, r#"upstream = "users""#, r#"request_headers = { add = { X_Consumer_Groups = "root" } }"#) =>
        ["9:29: error: routes.request_headers.add: `X_Consumer_Groups` is written by the gateway itself"];
    a_host_that_is_set(ROUTE, r#"upstream = "users""#, r#"request_headers = { set = { host = "a" } }"#) =>
        ["9:29: error: routes.request_headers.set: `host` is written by the gateway itself"];
    a_framing_field_that_is_removed(ROUTE, r#"upstream = "users""#, r#"response_headers = { remove = ["content_length"] }"#) =>
        ["9:32: error: routes.response_headers.remove: `content_length` is written by the gateway itself"];
    a_field_that_is_set_and_removed(ROUTE, r#"upstream = "users""#, r#"request_headers = { set = { x-a = "1" }, remove = ["X-A"] }"#) =>
        ["9:52: error: routes.request_headers.remove: `X-A` is there twice"];
    a_field_with_a_line_break(ROUTE, r#"upstream = "users""#, r#"request_headers = { set = { x-a = "1\r\nx: 2" } }"#) =>
        ["9:35: error: routes.request_headers.set.x-a: `1\\r\\nx: 2`: a header value holds visible ASCII, and no blanks at its ends"];
    a_method_in_lower_case(ROUTE, r#"upstream = "users""#, r#"methods = ["get"]"#) =>
        [r#"9:12: error: routes.methods: `get`: methods are compared with case; write "GET""#];
    a_method_that_is_never_taken(ROUTE, r#"upstream = "users""#, r#"methods = ["CONNECT"]"#) =>
        ["9:12: error: routes.methods: `CONNECT` is always refused, with 405"];
    a_method_that_is_no_token(ROUTE, r#"upstream = "users""#, r#"methods = ["GET "]"#) =>
        [r#"9:12: error: routes.methods: `GET ` is not a method; write one such as "GET""#];
    a_method_that_is_there_twice(ROUTE, r#"upstream = "users""#, r#"methods = ["GET", "GET"]"#) =>
        ["9:19: error: routes.methods: `GET` is there twice"];
    a_condition_on_what_is_no_header(ROUTE, r#"upstream = "users""#, r#"headers = { "x a" = "1" }"#) =>
        ["9:13: error: routes.headers: `x a`: `x a` is not a name that a header or cookie can have"];
    two_conditions_on_one_header(ROUTE, r#"upstream = "users""#, r#"headers = { x-a = "1" }"#, r#"headers_regex = { X-A = "1" }"#) =>
        ["10:19: error: routes.headers_regex: `X-A` is there twice"];
    a_condition_on_the_query_that_is_no_text(ROUTE, r#"upstream = "users""#, "query = { a = 1 }") =>
        ["9:15: error: routes.query.a: expected a string of at most 1024 bytes; found an integer"];
    a_client_network_with_bits_beyond_its_prefix(ROUTE, r#"upstream = "users""#, r#"client_networks = ["10.0.0.1/8"]"#) =>
        [r#"9:20: error: routes.client_networks: `10.0.0.1/8` has bits beyond its prefix; write "10.0.0.0/8" for the network"#];
    a_path_with_a_star(ROUTE, r#"upstream = "users""#, r#"path = "/users/*""#) =>
        [r#"9:8: error: routes.path: `/users/*`: for a path and all below it write path_prefix = "/users/""#];
    a_path_that_would_never_match(ROUTE, r#"upstream = "users""#, r#"path = "/%7euser""#) =>
        [r#"9:8: error: routes.path: `/%7euser` would never match; requests are compared as "/~user""#];
    a_path_with_a_query(ROUTE, r#"upstream = "users""#, r#"path = "/a?b=c""#) =>
        ["9:8: error: routes.path: `/a?b=c`: a route matches the path alone; leave out `?` and `#`"];
    a_route_name_that_is_there_twice(ROUTE, r#"upstream = "users""#, "[[routes]]", r#"name = "r""#, r#"path = "/b""#, r#"upstream = "users""#) =>
        ["10:8: error: routes.name: another route is named `r` too"];
    a_path_that_is_there_twice(ROUTE, r#"upstream = "users""#, r#"path_prefix = "/v1""#, "[[routes]]", r#"name = "s""#, r#"path_prefix = "/v1/""#, r#"upstream = "users""#) =>
        ["12:15: error: routes: `r` serves this host and path already, under the same conditions; only one route can"];
    a_path_that_is_there_twice_without_case(ROUTE, r#"upstream = "users""#, "ignore_case = true", r#"path = "/a""#, "[[routes]]", r#"name = "s""#, "ignore_case = true", r#"path = "/A""#, r#"upstream = "users""#) =>
        ["14:8: error: routes: `r` serves this host and path already, under the same conditions; only one route can"];
    two_routes_for_everything(ROUTE, r#"upstream = "users""#, "[[routes]]", r#"name = "s""#, r#"upstream = "users""#) =>
        ["9:1: error: routes: `r` serves this host and path already, under the same conditions; only one route can"];
    a_route_key_of_a_later_version(ROUTE, r#"upstream = "users""#, r#"mirror = "users""#) =>
        ["9:1: error: routes.mirror: not supported in this version"];
    a_timeout_of_zero_which_is_not_unlimited(ROUTE, r#"upstream = "users""#, r#"timeout = "0s""#) =>
        [r#"9:11: error: routes.timeout: must be from 1ms to 7d; found 0s (or write "unlimited")"#];
    a_bare_zero_for_a_body_size(ROUTE, r#"upstream = "users""#, "max_body = 0") =>
        [r#"9:12: error: routes.max_body: add a unit to the size: "0B" for bytes, or KiB, MiB, GiB (or write "unlimited")"#];
    an_upgrade_that_hides_requests(ROUTE, r#"upstream = "users""#, r#"upgrade = ["h2c"]"#) =>
        ["9:12: error: routes.upgrade: `h2c` cannot be passed through; requests could hide in it"];
    an_answer_with_an_impossible_status(ROUTE, "respond = { status = 99 }") =>
        ["8:22: error: routes.respond.status: must be from 200 to 599; found 99"];
    an_answer_with_a_framing_field(ROUTE, r#"respond = { headers = { Content-Length = "3" } }"#) =>
        ["8:25: error: routes.respond.headers: `Content-Length` is written by the gateway itself"];
    an_answer_with_a_broken_field_name(ROUTE, r#"respond = { headers = { "a b" = "3" } }"#) =>
        ["8:25: error: routes.respond.headers: `a b` is not a header name"];
    an_answer_with_a_line_break_in_a_field(ROUTE, r#"respond = { headers = { a = "b\r\nc" } }"#) =>
        ["8:29: error: routes.respond.headers.a: a header value holds no control characters and no blanks at its ends"];
    a_body_where_the_status_has_none(ROUTE, r#"respond = { status = 204, body = "x" }"#) =>
        ["8:34: error: routes.respond.body: an answer with status 204 has no body"];

    // Variables.
    a_variable_that_is_not_set(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = "${NOT_SET}""#) =>
        ["3:11: error: listeners.address: the environment variable `NOT_SET` is not set; set it, or write `${NOT_SET:-default}`"];
    a_dollar_alone(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = "$PORT""#) =>
        ["3:11: error: listeners.address: a single `$`: write `${NAME}` for a variable or `$$` for a dollar"];
    a_variable_that_does_not_end(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = "${PORT""#) =>
        ["3:11: error: listeners.address: `${` without its `}`; write `$$` for a literal dollar"];
    a_value_from_the_environment_without_showing_it(NOTHING, "[[listeners]]", r#"name = "a""#, r#"address = "${SECRET}""#) =>
        [r#"3:11: error: listeners.address: expected an IP address and port such as "0.0.0.0:8080"; the value from the environment is not"#];
    a_name_from_the_environment_without_showing_it(ROUTE, r#"upstream = "${SECRET}""#) =>
        ["8:12: error: routes.upstream: no upstream is named the value from the environment"];
}

#[test]
fn overrides_and_limits_of_a_route_are_bounded() {
    let overrides: Vec<String> = (0..1025_u32)
        .map(|number| {
            format!(
                "{{ key = \"10.0.{}.{}\", mode = \"off\" }}",
                number >> 8,
                number & 255
            )
        })
        .collect();
    let limit = ["[limits.a]", "rate = \"5/s\""];
    let all = format!("overrides = [{}]", overrides.join(", "));
    let found = ["4:13: error: limits.a.overrides: a limit has at most 1024 overrides; found 1025"];
    rejected(LISTENING, &[limit[0], limit[1], &all], &found);

    let limits: String = (0..9)
        .map(|number| format!("[limits.l{number}]\nrate = \"5/s\"\n"))
        .collect();
    let route = "[[routes]]\nname = \"r\"\nrespond = {}";
    let all = "limits = [\"l0\", \"l1\", \"l2\", \"l3\", \"l4\", \"l5\", \"l6\", \"l7\", \"l8\"]";
    let found = ["24:10: error: routes.limits: a route has at most 8 limits; found 9"];
    rejected(LISTENING, &[&limits, route, all], &found);
}
