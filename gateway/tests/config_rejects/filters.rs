//! Mistakes about what requests must be like, and about pages of other origins.

use super::{LISTENER, LISTENING, ROUTE, rejected};

rejects! {
    error_bodies_without_bodies(LISTENING, "[error_bodies.a]") =>
        ["2:1: error: error_bodies.a.bodies: missing; write what is said for which status"];
    an_error_body_for_what_is_no_error(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 200, body = "" }]"#) =>
        [r#"3:22: error: error_bodies.a.bodies.status: must be a status from 400 to 599, or "4xx" or "5xx""#];
    an_error_body_for_a_class_that_is_none(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = "6xx", body = "" }]"#) =>
        [r#"3:22: error: error_bodies.a.bodies.status: must be a status from 400 to 599, or "4xx" or "5xx""#];
    an_error_body_in_two_places(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 404, body = "", file = "/dev/null" }]"#) =>
        ["3:45: error: error_bodies.a.bodies.file: write either `body` or `file`, not both"];
    an_error_body_in_no_place(LISTENING, "[error_bodies.a]", "bodies = [{ status = 404 }]") =>
        ["3:11: error: error_bodies.a.bodies.body: missing; write `body` or `file`"];
    two_error_bodies_for_one_status(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 404, body = "a" }, { status = "404", body = "b" }]"#) =>
        ["3:52: error: error_bodies.a.bodies.status: 404 is there twice"];
    a_file_of_an_error_body_that_is_not_there(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 404, file = "/nonexistent/a" }]"#) =>
        ["3:34: error: error_bodies.a.bodies.file: /nonexistent/a cannot be read: No such file or directory (os error 2)"];
    a_file_of_an_error_body_without_end(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 404, file = "/dev/zero" }]"#) =>
        ["3:34: error: error_bodies.a.bodies.file: /dev/zero cannot be read: it is larger than 64KiB"];
    an_error_body_with_a_capture(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 404, body = "${path.id}" }]"#) =>
        ["3:34: error: error_bodies.a.bodies.body: `${path.id}`: a body is of no route in particular, so it has no captures"];
    an_error_body_that_could_not_be_escaped(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 404, body = "${host}", content_type = "text/css" }]"#) =>
        ["3:34: error: error_bodies.a.bodies.body: how variables stand in `text/css` is not known; they can be in HTML, XML, JSON and plain text"];
    an_error_body_of_no_type(LISTENING, "[error_bodies.a]", r#"bodies = [{ status = 404, body = "", content_type = "html" }]"#) =>
        ["3:53: error: error_bodies.a.bodies.content_type: a media type is TYPE/SUBTYPE"];
    a_route_with_error_bodies_that_are_not_there(LISTENING, "[error_bodies.pages]", r#"bodies = [{ status = 404, body = "" }]"#,
        "[[routes]]", r#"name = "r""#, "respond = {}", r#"error_bodies = "page""#) =>
        ["7:16: error: routes.error_bodies: no set of error bodies is named `page`; did you mean `pages`?"];
    a_policy_without_origins(LISTENING, "[cors.a]") =>
        ["2:1: error: cors.a.origins: missing; without an origin nothing is let in"];
    a_policy_with_no_origin(LISTENING, "[cors.a]", "origins = []") =>
        ["3:11: error: cors.a.origins: missing; without an origin nothing is let in"];
    every_origin_with_credentials(LISTENING, "[cors.a]", r#"origins = ["*"]"#, "credentials = true") =>
        ["3:11: error: cors.a.origins: `*` with `credentials` would let every page act as whoever is logged in; name the origins"];
    every_method_or_field_with_credentials(LISTENING, "[cors.a]", r#"origins = ["https://a.test"]"#, "credentials = true", r#"methods = ["*"]"#, r#"headers = ["*"]"#, r#"exposed_headers = ["*"]"#) =>
        [
            "5:11: error: cors.a.methods: `*` means nothing to browsers with `credentials`; name them",
            "6:11: error: cors.a.headers: `*` means nothing to browsers with `credentials`; name them",
            "7:19: error: cors.a.exposed_headers: `*` means nothing to browsers with `credentials`; name them",
        ];
    every_origin_beside_another(LISTENING, "[cors.a]", r#"origins = ["*", "https://a.test"]"#) =>
        ["3:11: error: cors.a.origins: `*` holds every other origin; write it alone"];
    what_is_no_origin(LISTENING, "[cors.a]", r#"origins = ["a.test", "https://", "https://a.test/", "https://a.test/x", "https://a*.test", "https://u@a.test"]"#) =>
        [
            r#"3:12: error: cors.a.origins: `a.test` is not an origin; write scheme, host and port as in "https://app.example.com""#,
            r#"3:22: error: cors.a.origins: `https://` is not an origin; write scheme, host and port as in "https://app.example.com""#,
            r#"3:34: error: cors.a.origins: `https://a.test/`: an origin has no path; write "https://a.test""#,
            r#"3:53: error: cors.a.origins: `https://a.test/x` is not an origin; write scheme, host and port as in "https://app.example.com""#,
            r#"3:73: error: cors.a.origins: `https://a*.test` is not an origin; write scheme, host and port as in "https://app.example.com""#,
            r#"3:92: error: cors.a.origins: `https://u@a.test` is not an origin; write scheme, host and port as in "https://app.example.com""#,
        ];
    an_origin_that_no_browser_writes_so(LISTENING, "[cors.a]", r#"origins = ["https://A.test", "https://a.test:443", "http://a.test:080"]"#) =>
        [
            r#"3:12: error: cors.a.origins: `https://A.test`: browsers write origins in lower case and plain numbers; write "https://a.test""#,
            r#"3:30: error: cors.a.origins: `https://a.test:443`: browsers leave the scheme's own port out; write "https://a.test""#,
            r#"3:52: error: cors.a.origins: `http://a.test:080`: browsers leave the scheme's own port out; write "http://a.test""#,
        ];
    the_origin_of_whoever_has_none(LISTENING, "[cors.a]", r#"origins = ["null"]"#) =>
        ["3:12: error: cors.a.origins: `null` is what every sandboxed page and file calls itself; whoever lets it in lets in all"];
    an_origin_that_is_there_twice(LISTENING, "[cors.a]", r#"origins = ["https://a.test", "https://a.test"]"#) =>
        ["3:30: error: cors.a.origins: `https://a.test` is there twice"];
    a_method_in_lower_case_of_a_policy(LISTENING, "[cors.a]", r#"origins = ["*"]"#, r#"methods = ["put"]"#) =>
        [r#"4:12: error: cors.a.methods: `put`: methods are compared with case; write "PUT""#];
    a_policy_that_is_not_there(ROUTE, r#"upstream = "users""#, r#"cors = "web""#) =>
        ["9:8: error: routes.cors: no cors policy is named `web`; there is no [cors.NAME] at all"];
    a_key_of_nginx(LISTENING, "[cors.a]", r#"origins = ["*"]"#, r#"allow_origin = "*""#) =>
        ["4:1: error: cors.a.allow_origin: unknown key; known keys: origins, methods, headers, exposed_headers, credentials, max_age, mode"];

    a_filter_with_a_pattern_that_is_none(LISTENING, "[filters.a]", r#"required_headers = { x-a = "(" }"#) =>
        ["3:28: error: filters.a.required_headers.x-a: not a regular expression: unclosed group"];
    a_filter_on_what_is_no_field(LISTENING, "[filters.a]", r#"forbidden_headers = { "x a" = ".*" }"#) =>
        ["3:23: error: filters.a.forbidden_headers: `x a`: `x a` is not a name that a header or cookie can have"];
    a_field_that_is_forbidden_twice(LISTENING, "[filters.a]", r#"forbidden_headers = { x-a = ".*", X_A = "1" }"#) =>
        ["3:35: error: filters.a.forbidden_headers: `X_A` is there twice"];
    what_is_no_media_type(LISTENING, "[filters.a]", r#"content_types = ["json", "*/*", "text/html; charset=utf-8"]"#) =>
        [
            r#"3:18: error: filters.a.content_types: `json` is not a media type; write one such as "application/json" or "image/*""#,
            r#"3:26: error: filters.a.content_types: `*/*` is not a media type; write one such as "application/json" or "image/*""#,
            "3:33: error: filters.a.content_types: `text/html; charset=utf-8`: parameters do not count; write it without them",
        ];
    a_filter_that_lets_nothing_in(LISTENING, "[filters.a]", "methods = []") =>
        ["3:11: error: filters.a.methods: an empty array; to let all in leave the key out"];
    a_method_that_is_always_refused(LISTENING, "[filters.a]", r#"methods = ["TRACE"]"#) =>
        ["3:12: error: filters.a.methods: `TRACE` is always refused, with 405"];
    a_filter_with_an_unknown_mode(LISTENING, "[filters.a]", r#"mode = "shado""#) =>
        [r#"3:8: error: filters.a.mode: `shado` is not one of "enforce", "shadow" or "off"; did you mean `shadow`?"#];
    a_filter_that_is_not_there(ROUTE, r#"upstream = "users""#, r#"filters = ["a"]"#) =>
        ["9:12: error: routes.filters: no filter is named `a`; there is no [filters.NAME] at all"];

    a_preload_that_no_list_takes(LISTENING, "[security_headers.a]", "hsts_preload = true") =>
        [r#"3:16: error: security_headers.a.hsts_preload: no browser's list takes it without `hsts_subdomains` and `hsts` of at least "365d""#];
    subdomains_of_nothing(LISTENING, "[security_headers.a]", r#"hsts = "off""#, "hsts_subdomains = true") =>
        [r#"4:19: error: security_headers.a.hsts_subdomains: has no meaning with `hsts = "off"`"#];
    a_policy_with_a_line_feed(LISTENING, "[security_headers.a]", r#"content_security_policy = "a\nb""#) =>
        ["3:27: error: security_headers.a.content_security_policy: a header value holds no control characters and no blanks at its ends"];
    a_referrer_policy_that_tells_all(LISTENING, "[security_headers.a]", r#"referrer_policy = "unsafe-url""#) =>
        [r#"3:19: error: security_headers.a.referrer_policy: `unsafe-url` is not one of "no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin" or "off""#];
    security_headers_that_are_not_there(ROUTE, r#"upstream = "users""#, r#"security_headers = "a""#) =>
        ["9:20: error: routes.security_headers: no set of security headers is named `a`; there is no [security_headers.NAME] at all"];

    a_ban_for_what_is_no_refusal(LISTENING, "[bans.a]", r#"causes = ["ok"]"#) =>
        [r#"3:11: error: bans.a.causes: `ok` is not one of "bad_request", "unauthorized", "forbidden", "filtered", "limited" or "no_route""#];
    a_cause_that_is_there_twice(LISTENING, "[bans.a]", r#"causes = ["limited", "limited"]"#) =>
        ["3:22: error: bans.a.causes: this cause is there twice"];
    a_ban_after_no_refusal(LISTENING, "[bans.a]", "refusals = 0") =>
        ["3:12: error: bans.a.refusals: must be from 1 to 10000; found 0"];
    a_penalty_of_parts_of_a_second(LISTENING, "[bans.a]", r#"penalty = "1500ms""#) =>
        ["3:11: error: bans.a.penalty: only whole seconds are counted here"];
    a_penalty_without_end(LISTENING, "[bans.a]", r#"penalty = "30d""#) =>
        ["3:11: error: bans.a.penalty: must be from 1s to 7d; found 30d"];
    an_answer_that_is_a_number(LISTENING, "[bans.a]", "answer = 429") =>
        [r#"3:10: error: bans.a.answer: expected "429", "403" or "close"; found an integer"#];
    a_ban_that_is_not_there(LISTENER, r#"ban = "a""#) =>
        ["4:7: error: listeners.ban: no ban is named `a`; there is no [bans.NAME] at all"];
    hosts_of_a_listener_that_are_none(LISTENER, r#"hosts = ["a b", "api.test:80"]"#) =>
        [
            r#"4:10: error: listeners.hosts: `a b` is not a host name; write one such as "api.example.com" (other scripts as xn--...)"#,
            r#"4:17: error: listeners.hosts: `api.test:80`: write it without the port, "api.test""#,
        ];
    no_hosts_of_a_listener(LISTENER, "hosts = []") =>
        ["4:9: error: listeners.hosts: an empty array; for every host leave the key out"];
    a_list_of_hosts_that_is_counted_and_not_there(LISTENER, r#"count_only = ["host_unlisted"]"#) =>
        ["4:15: error: listeners.count_only: `host_unlisted` counts nothing without `hosts`"];
}
