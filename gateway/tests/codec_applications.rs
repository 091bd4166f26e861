//! Requests of the kinds that real applications send pass in the default policy, to the last octet of their target.

mod codec_support;

use codec_support::{
    FORWARD, OWN_FIELDS, RULES, accept, accept_under, forward, forward_as, refusal,
};

/// Method, target, and fields besides Host, in canonical form.
const REQUESTS: &[(&str, &str, &str)] = &[
    // Project and file ids with an escaped slash.
    (
        "GET",
        "/api/v4/projects/group%2Fsub%2Fproject/merge_requests?state=opened",
        "PRIVATE-TOKEN: t\r\n",
    ),
    (
        "GET",
        "/api/v4/projects/42/repository/files/src%2Fmain.rs/raw?ref=feature%2Fx",
        "",
    ),
    (
        "POST",
        "/group/project.git/git-upload-pack",
        "Git-Protocol: version=2\r\n",
    ),
    // The default virtual host is `/`, escaped.
    (
        "GET",
        "/api/queues/%2F/orders?page=1&page_size=100&name=&use_regex=false",
        "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n",
    ),
    ("PUT", "/api/bindings/%2F/e/amq.topic/q/orders%23all", ""),
    // File shares: names with every kind of sign.
    (
        "PROPFIND",
        "/remote.php/dav/files/anna/Fotos%20%26%20Videos/100%25%20fertig%20(2).jpg",
        "Depth: 1\r\n",
    ),
    ("MKCOL", "/remote.php/dav/files/anna/%C3%9Cbung/", ""),
    (
        "GET",
        "/index.php/apps/files/?dir=/Ordner/Unterordner&fileid=7",
        "OCS-APIRequest: true\r\n",
    ),
    ("REPORT", "/remote.php/dav/files/anna", "Depth: 0\r\n"),
    // Object stores: empty segments, plus, signed queries.
    (
        "GET",
        "/bucket//double//slash/key+with+plus",
        "x-amz-date: 20300101T000000Z\r\n",
    ),
    (
        "PUT",
        "/bucket/a=1/b=2/part-0000.parquet?partNumber=1&uploadId=VXBsb2Fk",
        "",
    ),
    (
        "GET",
        "/bucket/weird/!-_.*'();:@&=+$,[]~?X-Amz-Signature=ab%2Fcd%3D&X-Amz-Expires=60",
        "",
    ),
    ("GET", "/bucket/trailing/", ""),
    ("DELETE", "/bucket?delete=", ""),
    // Clouds: tokens that only look like the gateway's own identity fields.
    (
        "GET",
        "/v3/projects",
        "X-Auth-Token: gAAAAABk\r\nX-Subject-Token: gAAAAABl\r\n",
    ),
    (
        "GET",
        "/v2.1/servers/detail?all_tenants=1&limit=100",
        "X-OpenStack-Nova-API-Version: 2.79\r\n",
    ),
    // Queries nobody escapes.
    ("GET", "/search?q=100%", ""),
    ("GET", "/search?q=50%+off&x={\"a\":[1,2]}|y^z`", ""),
    ("GET", "/redirect?to=https://b.test/c//d?e=f", ""),
    ("GET", "/?", ""),
    ("GET", "/find?filter[name]=a&sort=-b", ""),
    // Matrix parameters, at-signs, colons and dots in segments.
    ("GET", "/maps;zoom=3/tiles/4/5;v=2.png", ""),
    ("GET", "/@scope/package/-/package-1.0.0.tgz", ""),
    ("GET", "/@scope%2Fpackage", ""),
    ("GET", "/v1/projects/p/topics/t:publish", ""),
    ("GET", "/.well-known/acme-challenge/x", ""),
    ("GET", "/a/..b/c../.d/...", ""),
    ("GET", "/wiki/C%2B%2B_(language)", ""),
    ("GET", "/users/o'brien/~home", ""),
    // Streams and polls.
    (
        "GET",
        "/events?since=0",
        "Accept: text/event-stream\r\nCache-Control: no-cache\r\nLast-Event-ID: 7\r\n",
    ),
    (
        "GET",
        "/sync?timeout=30000&since=s72_1",
        "Authorization: Bearer x\r\n",
    ),
    // Field values: obsolete text, JSON, long tokens, empty ones, duplicates.
    (
        "GET",
        "/",
        "Cookie: a=b; c=\"d e\"; f=\r\nCookie: g={\"h\":1}\r\nX-Empty:\r\n",
    ),
    (
        "GET",
        "/",
        "Accept: */*\r\nAccept: text/html;q=0.5\r\nIf-None-Match: W/\"a,b\"\r\nRange: bytes=0-10\r\n",
    ),
    (
        "OPTIONS",
        "/api",
        "Origin: https://b.test\r\nAccess-Control-Request-Headers: x-a,x-b\r\n",
    ),
    (
        "GET",
        "/",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n",
    ),
];

#[test]
fn they_pass_untouched() {
    for (method, target, fields) in REQUESTS {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
        assert_eq!(forward(&request).as_deref(), Ok(request.as_str()));
    }
}

#[test]
fn bodies_are_announced_as_they_were() {
    for framing in [
        "Content-Length: 0",
        "Content-Length: 1073741824",
        "Transfer-Encoding: chunked",
    ] {
        let request = format!("PUT /bucket/key HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n");
        assert_eq!(forward(&request).as_deref(), Ok(request.as_str()));
    }
}

#[test]
fn browsers_and_old_tools_are_understood() {
    let browser = "GET /?q=%C3%A9 HTTP/1.1\r\nHost: a.test:8080\r\nConnection: keep-alive\r\n\
        Upgrade-Insecure-Requests: 1\r\nsec-ch-ua: \"Chromium\";v=\"1\"\r\nAccept-Language: en,de;q=0.8\r\n\r\n";
    let accepted = accept(browser).ok();
    assert!(accepted.is_some_and(|accepted| accepted.request.keep_alive));
    assert_eq!(refusal("GET / HTTP/1.0\r\n\r\n"), "accepted");
    assert_eq!(
        refusal("GET http://a.test/ HTTP/1.0\r\nProxy-Connection: Keep-Alive\r\n\r\n"),
        "accepted"
    );
    let obsolete = [
        &b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Name: caf"[..],
        b"\xe9\r\n\r\n",
    ]
    .concat();
    assert!(accept_under(obsolete, &RULES).is_ok());
}

#[test]
fn the_gateway_adds_only_its_own_fields() {
    let request = "GET /a HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n";
    let sent = accept(request).and_then(|accepted| forward_as(&accepted, &FORWARD));
    let fields = request.strip_suffix("\r\n").unwrap_or_default();
    assert_eq!(sent, Ok(format!("{fields}{OWN_FIELDS}\r\n")));
}
