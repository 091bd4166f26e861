//! Mistakes about authenticators that are asked by a subrequest, and what else writes the fields that they write.

use super::{LISTENING, rejected};

/// An upstream on lines 2 and 3 and its authenticator from line 4 on; the next line is the sixth.
const GATE: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[upstreams.sso]
endpoints = [{ address = "10.0.0.1:80" }]
[forward_auth.gate]
upstream = "sso"
"#;
/// A route on lines 6 to 9 that names it; the next line is the tenth.
const ROUTE: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[upstreams.sso]
endpoints = [{ address = "10.0.0.1:80" }]
[forward_auth.gate]
upstream = "sso"
[[routes]]
name = "r"
upstream = "sso"
auth = ["gate"]
"#;
/// A policy on lines 2 and 3 and a route on lines 4 to 7; the next line is the eighth.
const CORS: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[cors.web]
origins = ["https://a.test"]
[[routes]]
name = "r"
respond = {}
cors = "web"
"#;

rejects! {
    an_authenticator_without_upstream(LISTENING, "[forward_auth.gate]") =>
        ["2:1: error: forward_auth.gate.upstream: missing; expected the name of an upstream"];
    an_upstream_that_is_not_there(LISTENING, "[upstreams.sso]", r#"endpoints = [{ address = "10.0.0.1:80" }]"#, "[forward_auth.gate]", r#"upstream = "soo""#) =>
        ["5:12: error: forward_auth.gate.upstream: no upstream is named `soo`; did you mean `sso`?"];
    an_address_in_place_of_an_upstream(GATE, r#"address = "http://10.0.0.1/""#) =>
        ["6:1: error: forward_auth.gate.address: not supported in this version"];
    an_upstream_whose_connections_have_an_owner(LISTENING, "[forward_auth.gate]", r#"upstream = "sso""#, "[upstreams.sso]", r#"endpoints = [{ address = "10.0.0.1:80" }]"#, r#"proxy_protocol = "v2""#) =>
        ["3:12: error: forward_auth.gate.upstream: connections to `sso` say whose they are (`proxy_protocol`), which one that asks for many clients cannot; give the authenticator an upstream of its own"];
    two_targets(GATE, r#"path = "/a""#, r#"path_prefix = "/b""#) =>
        ["7:15: error: forward_auth.gate.path_prefix: write either `path` or `path_prefix`, not both"];
    a_target_that_splits_the_request(GATE, r#"path = "/a HTTP/1.1\r\nX: y""#) =>
        [r#"6:8: error: forward_auth.gate.path: `/a HTTP/1.1\r\nX: y` is not a path; write one such as \"/verify\", of visible ASCII"#];
    a_challenge_that_is_none(GATE, r#"challenge = "Bearer\r\nX: y""#) =>
        [r#"6:13: error: forward_auth.gate.challenge: `Bearer\r\nX: y` is not a challenge; write a scheme and its parameters, such as \'Bearer realm=\"sso\"\', in at most 256 characters of visible ASCII"#];
    a_challenge_without_a_scheme(GATE, r#"challenge = " realm=x""#) =>
        [r#"6:13: error: forward_auth.gate.challenge: ` realm=x` is not a challenge; write a scheme and its parameters, such as 'Bearer realm="sso"', in at most 256 characters of visible ASCII"#];
    a_method_that_carries_a_body(GATE, r#"method = "PUT""#) =>
        [r#"6:10: error: forward_auth.gate.method: `PUT` is not one of "GET", "HEAD" or "POST""#];
    fields_of_the_hop_that_are_sent_along(GATE, r#"send_headers = ["Host", "transfer-encoding", "x-forwarded-uri", "a b"]"#) =>
        [
            "6:17: error: forward_auth.gate.send_headers: `host` is not for others to choose",
            "6:25: error: forward_auth.gate.send_headers: `transfer-encoding` is not for others to choose",
            "6:46: error: forward_auth.gate.send_headers: `x-forwarded-uri` is not for others to choose",
            "6:65: error: forward_auth.gate.send_headers: `a b`: `a b` is not a name that a header or cookie can have",
        ];
    framing_that_is_passed_on(GATE, r#"pass_response_headers = ["content-length", "connection"]"#) =>
        [
            "6:26: error: forward_auth.gate.pass_response_headers: `content-length` is not for others to choose",
            "6:44: error: forward_auth.gate.pass_response_headers: `connection` is not for others to choose",
        ];
    fields_that_only_the_gateway_writes(GATE, r#"copy_response_headers = ["x-consumer", "cookie", "x-a", "X-A"]"#) =>
        [
            "6:26: error: forward_auth.gate.copy_response_headers: `x-consumer` is not for others to choose",
            "6:40: error: forward_auth.gate.copy_response_headers: `cookie` is not for others to choose",
            "6:57: error: forward_auth.gate.copy_response_headers: `x-a` is there twice",
        ];
    groups_of_callers_without_a_name(GATE, r#"groups_header = "x-groups""#, r#"plan_header = "x-plan""#) =>
        [
            "6:17: error: forward_auth.gate.groups_header: has no meaning without `consumer_header`",
            "7:15: error: forward_auth.gate.plan_header: has no meaning without `consumer_header`",
        ];
    a_failure_that_opens_by_another_name(GATE, r#"on_error = "open""#) =>
        [r#"6:12: error: forward_auth.gate.on_error: `open` is not one of "deny" or "allow""#];
    a_question_without_end(GATE, r#"timeout = "1h""#) =>
        ["6:11: error: forward_auth.gate.timeout: must be from 1ms to 5m; found 1h"];
    one_name_for_two_kinds(GATE, "[api_keys.gate]", r#"file = "/dev/null""#) =>
        ["4:15: error: forward_auth: [api_keys.NAME] has a `gate` too; routes could not tell which"];

    an_authenticator_that_is_optional(ROUTE, "auth_optional = true") =>
        ["10:17: error: routes.auth_optional: `gate` is asked about requests without credentials too, and decides"];
    groups_that_nobody_is_in(ROUTE, r#"groups = ["staff"]"#) =>
        ["10:10: error: routes.groups: callers that `gate` lets in have no groups; write `consumer_header` there"];
    a_limit_by_who_nobody_says(ROUTE, r#"limits = ["each"]"#, "[limits.each]", r#"key = "consumer""#, r#"rate = "1/s""#) =>
        ["10:11: error: routes.limits: `each` counts by who the caller is, which `gate` does not say without `consumer_header`"];
    groups_of_whom_nobody_judged(GATE, r#"consumer_header = "x-user""#, r#"on_error = "allow""#, "[[routes]]", r#"name = "r""#, r#"upstream = "sso""#, r#"auth = ["gate"]"#, r#"groups = ["staff"]"#) =>
        ["12:10: error: routes.groups: callers that `gate` lets in unjudged (`on_error`) are in none of the `groups`"];
    two_that_are_asked(ROUTE, "[forward_auth.other]", r#"upstream = "sso""#, "[[routes]]", r#"name = "s""#, r#"path = "/s""#, r#"upstream = "sso""#, r#"auth = ["gate", "other"]"#) =>
        ["16:8: error: routes.auth: a route asks one [forward_auth.NAME] at most"];
    a_field_that_is_copied_and_set(GATE, r#"copy_response_headers = ["x-tenant"]"#, "[[routes]]", r#"name = "r""#, r#"upstream = "sso""#, r#"auth = ["gate"]"#, r#"request_headers = { set = { "X-Tenant" = "a" }, remove = ["x_tenant"] }"#) =>
        [
            "11:29: error: routes.request_headers.set: `X-Tenant` is what an authenticator of the route copies from its answer (`copy_response_headers`)",
            "11:59: error: routes.request_headers.remove: `x_tenant` is what an authenticator of the route copies from its answer (`copy_response_headers`)",
        ];

    a_backup_that_is_a_priority(LISTENING, "[upstreams.u]", r#"endpoints = [{ address = "10.0.0.1:80", backup = true }]"#) =>
        ["3:41: error: upstreams.u.endpoints.backup: unknown key; known keys: address, weight, priority"];
    more_retries_than_any_upstream_makes(CORS, "retries = 6") =>
        ["8:11: error: routes.retries: must be from 0 to 5; found 6"];

    a_field_that_the_policy_writes_too(CORS, r#"response_headers = { set = { access-control-allow-origin = "*" }, add = { Access-Control-Max-Age = "1" } }"#) =>
        [
            "8:30: error: routes.response_headers.set: `access-control-allow-origin` is written by the policy in `cors`; say it there, or leave `cors` out",
            "8:75: error: routes.response_headers.add: `Access-Control-Max-Age` is written by the policy in `cors`; say it there, or leave `cors` out",
        ];
}

/// Left out they are in any case, and a policy that is not in force writes none.
#[test]
fn fields_of_a_policy_may_be_removed_and_be_set_beside_one_that_is_not_in_force() {
    let load = |text: &str| {
        let source = gateway::config::ConfigSource::Text { name: "t", text };
        gateway::config::load(source, &|_| None).map_err(|errors| errors.to_string())
    };
    let remove =
        format!("{CORS}response_headers = {{ remove = [\"access-control-allow-origin\"] }}");
    assert!(load(&remove).is_ok(), "{:?}", load(&remove).err());
    let set = "response_headers = { set = { access-control-allow-origin = \"*\" } }";
    for mode in ["shadow", "off"] {
        let text = CORS.replace("[[routes]]", &format!("mode = \"{mode}\"\n[[routes]]"));
        let text = format!("{text}{set}");
        assert!(load(&text).is_ok(), "{:?}", load(&text).err());
    }
}
