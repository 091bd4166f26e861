//! Tokens: who gets in, what a token says of its caller, and what an attacker can try. Keys and tokens were made by another
//! implementation, see `tests/keys/make.py`.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::{Driver, Folder, Gateway, Launch, Response, Upstream, eventually, ok, send};

/// The token with this name.
pub(crate) fn token(name: &str) -> &'static str {
    const TOKENS: &str = include_str!("../keys/tokens.txt");
    let found = TOKENS
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(each, _)| *each == name);
    found.unwrap_or_else(|| panic!("no token {name}")).1
}

/// The path of a file of keys.
pub(crate) fn keys(name: &str) -> String {
    format!("{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) const CLAIMS: &str = "issuer = \"https://id.test/\"\naudience = \"https://api.test\"";

fn all_keys() -> String {
    format!("{CLAIMS}\njwks_file = \"{}\"", keys("jwks.json"))
}

/// A gateway before an upstream that answers with the fields that it got.
fn gateway(driver: Driver, jwt: &str, route: &str, more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::answering(|request, _| {
        let fields = request
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"));
        ok(&fields.collect::<String>())
    });
    let gateway = Launch::new(driver)
        .one_worker()
        .rest(&format!(
            "[upstreams.up]\nendpoints = [{{ address = \"{}\" }}]\n[jwt.main]\n{jwt}\n{more}\n\
             [[routes]]\nname = \"all\"\nauth = [\"main\"]\nupstream = \"up\"\n{route}\n",
            upstream.address
        ))
        .start();
    (gateway, upstream)
}

pub(crate) fn bearer(gateway: &Gateway, token: &str) -> Response {
    let lines = format!("Authorization: Bearer {token}\r\n");
    send(
        gateway.address,
        &format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n"),
    )
}

/// Asserts a refusal for this reason, which tells nothing of the token.
#[track_caller]
pub(crate) fn refused(response: &Response, reason: &str) {
    assert_eq!(response.problem(401), reason);
    assert_eq!(
        response.value("www-authenticate"),
        "Bearer realm=\"main\", error=\"invalid_token\""
    );
}

/// A token with another part in the place of the one with this number.
fn with_part(token: &str, number: usize, part: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[number] = part;
    parts.join(".")
}

fn b64(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

const PUBLIC: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];
const SECRET: [&str; 3] = ["HS256", "HS384", "HS512"];

on_both_drivers! {
    fn every_algorithm_is_verified_by_the_key_of_its_kind(driver) {
        let pem = format!("{CLAIMS}\nkey_file = \"{}\"", keys("all.pem"));
        for jwt in [all_keys(), pem] {
            let (gateway, _upstream) = gateway(driver, &jwt, "", "");
            for algorithm in PUBLIC {
                assert_eq!(bearer(&gateway, token(algorithm)).status, 200, "{algorithm}");
            }
            for algorithm in SECRET {
                refused(&bearer(&gateway, token(algorithm)), "token_algorithm");
            }
        }
        let secret = format!("{CLAIMS}\nsecret_file = \"{}\"", keys("secret"));
        let (gateway, _upstream) = gateway(driver, &secret, "", "");
        for algorithm in SECRET {
            assert_eq!(bearer(&gateway, token(algorithm)).status, 200, "{algorithm}");
        }
        for algorithm in PUBLIC {
            refused(&bearer(&gateway, token(algorithm)), "token_algorithm");
        }
    }

    fn only_the_algorithms_that_are_listed_are_taken(driver) {
        let (gateway, _upstream) = gateway(driver, &(all_keys() + "\nalgorithms = [\"PS256\", \"EdDSA\"]"), "", "");
        for algorithm in PUBLIC {
            let expected = if ["PS256", "EdDSA"].contains(&algorithm) { 200 } else { 401 };
            assert_eq!(bearer(&gateway, token(algorithm)).status, expected, "{algorithm}");
        }
    }

    fn the_caller_is_whom_the_token_names(driver) {
        let more = "[consumers.bob]\ngroups = [\"ops\"]\nplan = \"iron\"";
        let (gateway, _upstream) = gateway(driver, &(all_keys() + "\nplan_claim = \"plan\""), "", more);
        let seen = bearer(&gateway, token("ES256")).text().to_owned();
        assert!(seen.contains("X-Consumer: alice\nX-Consumer-Groups: apps, beta\nX-Consumer-Plan: gold\n"), "{seen}");
        assert!(!seen.to_lowercase().contains("authorization"), "{seen}");
        let seen = bearer(&gateway, token("bob")).text().to_owned();
        assert!(seen.contains("X-Consumer: bob\nX-Consumer-Groups: ops\nX-Consumer-Plan: iron\n"), "{seen}");
        assert_eq!(gateway.record_of("/")["ringgate.consumer"], "alice");
    }

    fn claims_are_checked(driver) {
        let (gateway, _upstream) = gateway(driver, &(all_keys() + "\nrequired_claims = [\"tenant\"]"), "", "");
        for good in ["audience_list", "fraction", "named", "number_tenant"] {
            assert_eq!(bearer(&gateway, token(good)).status, 200, "{good}");
        }
        for (bad, reason) in [
            ("expired", "token_expired"),
            ("early", "token_not_yet_valid"),
            ("never_ends", "token_claims"),
            ("text_exp", "token_claims"),
            ("no_tenant", "token_claims"),
            ("other_issuer", "token_issuer"),
            ("no_issuer", "token_issuer"),
            ("other_audience", "token_audience"),
            ("no_audience", "token_audience"),
            ("no_subject", "token_consumer"),
            ("split_subject", "token_consumer"),
            ("two_groups_in_one", "token_consumer"),
        ] {
            refused(&bearer(&gateway, token(bad)), reason);
            // Also from a cache that a refusal could have filled.
            refused(&bearer(&gateway, token(bad)), reason);
        }
        let any = format!("issuer = \"any\"\naudience = \"any\"\njwks_file = \"{}\"", keys("jwks.json"));
        let (gateway, _upstream) = crate::jwt::gateway(driver, &any, "", "");
        for good in ["other_issuer", "no_issuer", "other_audience", "no_audience"] {
            assert_eq!(bearer(&gateway, token(good)).status, 200, "{good}");
        }
    }

    fn forged_signatures_are_refused(driver) {
        let (gateway, _upstream) = gateway(driver, &all_keys(), "", "");
        for (forged, reason) in [
            // RFC 8725, 2.1: no signature at all, and a public key taken for a secret.
            ("none", "token_algorithm"),
            ("None", "token_algorithm"),
            ("none_signed", "token_algorithm"),
            ("confused_pem", "token_algorithm"),
            ("confused_pem_bare", "token_algorithm"),
            ("confused_der", "token_algorithm"),
            ("name_of_a_path", "token_algorithm"),
            // A key that the token brings along, or points at.
            ("own_key", "token_signature"),
            ("key_elsewhere", "token_signature"),
            ("other_key", "token_signature"),
            ("unknown_name", "token_key_unknown"),
            ("name_of_another", "token_key_unknown"),
            ("critical", "token_critical"),
            ("wrong_family", "token_signature"),
            // CVE-2022-21449: r and s of zero.
            ("psychic", "token_signature"),
            ("der_signature", "token_signature"),
            ("empty_signature", "token_signature"),
        ] {
            refused(&bearer(&gateway, token(forged)), reason);
        }
        // A key confused with a secret where a secret is asked for.
        let secret = format!("{CLAIMS}\nsecret_file = \"{}\"", keys("secret"));
        let (gateway, _upstream) = crate::jwt::gateway(driver, &secret, "", "");
        for confused in ["confused_pem", "confused_pem_bare", "confused_der", "name_of_a_path"] {
            refused(&bearer(&gateway, token(confused)), "token_signature");
        }
    }

    fn a_token_that_was_changed_is_refused_also_when_the_real_one_is_known(driver) {
        let (gateway, _upstream) = gateway(driver, &all_keys(), "", "");
        let good = token("RS256");
        assert_eq!(bearer(&gateway, good).status, 200);
        let parts: Vec<&str> = good.split('.').collect();
        let admin = b64("{\"iss\":\"https://id.test/\",\"aud\":\"https://api.test\",\"sub\":\"admin\",\"exp\":4102444800}");
        refused(&bearer(&gateway, &with_part(good, 1, &admin)), "token_signature");
        let other = token("bob").split('.').nth(1).unwrap();
        refused(&bearer(&gateway, &with_part(good, 1, other)), "token_signature");
        refused(&bearer(&gateway, &with_part(good, 0, &b64("{\"alg\":\"RS384\"}"))), "token_signature");
        // Every letter of a signature matters, and so does each of its spellings.
        let first = if parts[2].starts_with('A') { "B" } else { "A" };
        let changed = first.to_owned() + parts[2].get(1..).unwrap();
        refused(&bearer(&gateway, &with_part(good, 2, &changed)), "token_signature");
        for malformed in [
            good.to_owned() + "=", good.to_owned() + ".", format!(".{good}"), format!("{good}.a.b"),
            parts[..2].join("."), with_part(good, 0, &b64("{\"alg\":\"RS256\",\"alg\":\"none\"}")),
            with_part(good, 0, &b64("{}")), with_part(good, 0, "!"), with_part(good, 0, ""), "a.b.c".into(), "..".into(),
            with_part(good, 0, &b64("[\"RS256\"]")), with_part(good, 2, &format!("{}\u{e9}", parts[2])),
        ] {
            refused(&bearer(&gateway, &malformed), "token_malformed");
        }
        let long = with_part(good, 1, &"A".repeat(8 * 1024));
        refused(&bearer(&gateway, &long), "token_too_long");
        assert_eq!(bearer(&gateway, good).status, 200);
    }

    fn a_limit_counts_by_a_claim(driver) {
        let limit = "[limits.tenant]\nkey = \"jwt:tenant\"\nrate = \"1/h\"\nburst = 2";
        let (gateway, _upstream) = gateway(driver, &all_keys(), "limits = [\"tenant\"]", limit);
        let statuses = |name: &str| -> Vec<u16> { (0..3).map(|_| bearer(&gateway, token(name)).status).collect() };
        assert_eq!(statuses("ES256"), [200, 200, 429]);
        assert_eq!(statuses("RS256"), [429; 3], "another token of the same tenant");
        assert_eq!(statuses("tenant_two"), [200, 200, 429]);
        assert_eq!(statuses("number_tenant"), [200, 200, 429]);
        assert_eq!(statuses("no_tenant"), [200, 200, 429]);
    }

    fn a_scope_is_a_group(driver) {
        let (gateway, _upstream) = gateway(driver, &(all_keys() + "\ngroups_claim = \"scope\""), "groups = [\"write\"]", "");
        assert_eq!(bearer(&gateway, token("scope")).status, 200);
        assert_eq!(bearer(&gateway, token("ES256")).problem(403), "group_missing");
    }

    fn a_token_in_a_cookie_or_another_header_is_taken_and_taken_out(driver) {
        for (place, line) in [("cookie = \"session\"", "Cookie: a=b; session="), ("header = \"x-token\"", "X-Token: ")] {
            let (gateway, _upstream) = gateway(driver, &format!("{}\n{place}", all_keys()), "", "");
            let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{line}{}\r\n\r\n", token("ES256"));
            let response = send(gateway.address, &request);
            assert!(response.status == 200 && !response.text().contains(token("ES256")), "{}", response.text());
            let bare = bearer(&gateway, token("ES256"));
            assert_eq!(bare.problem(401), "credentials_missing");
            assert_eq!(bare.value("www-authenticate"), "Bearer realm=\"main\"");
        }
    }

    fn any_of_several_authenticators_lets_in(driver) {
        let folder = Folder::new();
        let file = folder.path().join("keys");
        fs::write(&file, ::gateway::config::entry("robot", b"robot-key-0123456").unwrap()).unwrap();
        let more = format!("[api_keys.robots]\nfile = \"{}\"\nheader = \"authorization\"", file.display());
        let jwt = format!("{}\n{more}\n[[routes]]\nname = \"both\"\npath_prefix = \"/both\"\nauth = [\"main\", \"robots\"]\n\
                           respond = {{ body = \"in\" }}", all_keys());
        let (gateway, _upstream) = gateway(driver, &jwt, "", "");
        let both = |credential: &str| {
            let line = format!("Authorization: Bearer {credential}\r\n");
            send(gateway.address, &format!("GET /both HTTP/1.1\r\nHost: test\r\n{line}\r\n"))
        };
        assert_eq!([token("ES256"), "robot-key-0123456"].map(|credential| both(credential).status), [200; 2]);
        let refused = both("wrong");
        assert_eq!(refused.problem(401), "token_malformed", "the first that looked at it");
        let challenges = ["Bearer realm=\"main\", error=\"invalid_token\"", "Bearer realm=\"robots\""];
        assert_eq!(refused.values("www-authenticate"), challenges);
        assert_eq!(bearer(&gateway, "robot-key-0123456").status, 401, "not on the other route");
    }

    fn a_key_that_is_taken_back_takes_its_verified_tokens_along(driver) {
        let folder = Folder::new();
        let file = folder.path().join("jwks.json");
        fs::copy(keys("jwks.json"), &file).unwrap();
        let jwt = format!("{CLAIMS}\njwks_file = \"{}\"", file.display());
        let (gateway, _upstream) = gateway(driver, &jwt, "", "");
        assert_eq!((bearer(&gateway, token("ES256")).status, bearer(&gateway, token("RS256")).status), (200, 200));
        let mut set: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        set["keys"].as_array_mut().unwrap().retain(|key| key["kty"] != "EC");
        let next = folder.path().join("next");
        fs::write(&next, set.to_string()).unwrap();
        fs::rename(&next, &file).unwrap();
        eventually("the key to be gone", || (bearer(&gateway, token("ES256")).status == 401).then_some(()));
        refused(&bearer(&gateway, token("ES256")), "token_key_unknown");
        assert_eq!(bearer(&gateway, token("RS256")).status, 200);
    }
}
