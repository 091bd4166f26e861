//! Response fields that tell browsers to be careful: where they are written, and where what is there stands.

use crate::support::{Driver, Gateway, Launch, Upstream, to_upstream};

const NAMES: [&str; 5] = [
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "content-security-policy",
];

fn gateway(driver: Driver, upstream: &Upstream, set: &str, route: &str) -> Gateway {
    let all = to_upstream(&[upstream.address], "");
    Launch::new(driver)
        .rest(&format!(
            "[security_headers.web]\n{set}\n{all}security_headers = \"web\"\n{route}\n\
             [[routes]]\nname = \"own\"\npath_prefix = \"/own\"\nsecurity_headers = \"web\"\nmax_body = \"0B\"\n\
             respond = {{ headers = {{ x-frame-options = \"ALLOWALL\" }} }}\n\
             [[routes]]\nname = \"without\"\npath_prefix = \"/without\"\nupstream = \"up\"\n"
        ))
        .start()
}

/// An upstream with opinions of its own on two of them.
fn opinionated() -> Upstream {
    Upstream::answering(|_, _| {
        "HTTP/1.1 200 OK\r\nx-frame-options: DENY\r\nReferrer-Policy: no-referrer\r\nContent-Length: 2\r\n\r\nok"
            .to_owned()
    })
}

/// The values of all five in an answer, each once or not at all.
fn values(gateway: &Gateway, target: &str) -> [String; 5] {
    let answer = gateway.get(target);
    NAMES.map(|name| {
        let values = answer.values(name);
        assert!(values.len() < 2, "{name} {values:?}");
        values.concat()
    })
}

on_both_drivers! {
    fn they_are_written_where_the_response_has_none(driver) {
        let upstream = opinionated();
        let gateway = gateway(driver, &upstream, "hsts_subdomains = true\ncontent_security_policy = \"default-src 'self'\"", "");
        let hsts = "max-age=31536000; includeSubDomains";
        assert_eq!(values(&gateway, "/"), [hsts, "nosniff", "DENY", "no-referrer", "default-src 'self'"]);
        let policy = "strict-origin-when-cross-origin";
        assert_eq!(values(&gateway, "/own"), [hsts, "nosniff", "ALLOWALL", policy, "default-src 'self'"]);
        assert_eq!(values(&gateway, "/without"), ["", "", "DENY", "no-referrer", ""]);
        // A refusal is an answer too.
        let refused = crate::support::send(gateway.address, "POST /own HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(refused.problem(413), "body_too_large");
        assert_eq!((refused.value("x-frame-options"), refused.value("x-content-type-options")), ("SAMEORIGIN", "nosniff"));
    }

    fn they_replace_the_upstreams_where_that_is_asked_for(driver) {
        let upstream = opinionated();
        let gateway = gateway(driver, &upstream, "replace = true\nhsts = \"off\"\nframe_options = \"sameorigin\"\nreferrer_policy = \"off\"", "");
        assert_eq!(values(&gateway, "/"), ["", "nosniff", "SAMEORIGIN", "no-referrer", ""]);
        assert_eq!(values(&gateway, "/own"), ["", "nosniff", "SAMEORIGIN", "", ""]);
    }

    fn what_the_route_itself_writes_or_leaves_out_goes_first(driver) {
        let upstream = opinionated();
        let edits = "response_headers = { set = { X-Content-Type-Options = \"mine\", Referrer-Policy = \"origin\" }, remove = [\"x-frame-options\"] }";
        for replace in [false, true] {
            let gateway = gateway(driver, &upstream, &format!("replace = {replace}\nhsts = \"1h\""), edits);
            assert_eq!(values(&gateway, "/"), ["max-age=3600", "mine", "SAMEORIGIN", "origin", ""], "{replace}");
        }
    }
}
