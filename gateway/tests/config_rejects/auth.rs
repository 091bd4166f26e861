//! Mistakes about who may do what: consumers, authenticators, and the routes that name them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{LISTENING, rejected};

/// Authenticators on line 2 to 5, a limit by consumer on 6 to 8, and a route that begins on line 9.
const ROUTE: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[api_keys.keys]
file = "/dev/null"
[api_keys.more]
file = "/dev/null"
[limits.each]
key = "consumer"
rate = "5/s"
[[routes]]
name = "r"
respond = {}
"#;

/// A token that is verified with a public key; the next line is the sixth.
const JWT: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[jwt.main]
issuer = "any"
audience = "any"
key_file = "tests/keys/p256.pem"
"#;
/// A token whose keys are to be said.
const FETCHED: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[jwt.main]
issuer = "any"
audience = "any"
"#;
/// A token that is verified with a secret.
const SECRET: &str = r#"listeners = [{ name = "web", address = "127.0.0.1:0" }]
[jwt.main]
issuer = "any"
audience = "any"
secret_file = "tests/keys/secret"
"#;

rejects! {
    an_authenticator_without_file(LISTENING, "[api_keys.keys]") =>
        ["2:1: error: api_keys.keys.file: missing; expected a file's path"];
    an_empty_path_of_a_file(LISTENING, "[api_keys.keys]", r#"file = """#) =>
        ["3:8: error: api_keys.keys.file: an empty path"];
    a_file_of_keys_that_is_not_there(LISTENING, "[api_keys.keys]", r#"file = "/nonexistent/keys""#) =>
        ["3:8: error: api_keys.keys.file: /nonexistent/keys cannot be read: No such file or directory (os error 2)"];
    a_file_of_keys_that_never_ends(LISTENING, "[api_keys.keys]", r#"file = "/dev/zero""#) =>
        ["3:8: error: api_keys.keys.file: /dev/zero cannot be read: it is larger than 64MiB"];
    keys_in_the_configuration_itself(LISTENING, "[api_keys.keys]", r#"file = "/dev/null""#, r#"keys = ["a"]"#) =>
        ["4:1: error: api_keys.keys.keys: not supported in this version"];
    a_key_in_two_places(LISTENING, "[api_keys.keys]", r#"file = "/dev/null""#, r#"header = "x-key""#, r#"query = "key""#) =>
        ["5:9: error: api_keys.keys.query: write either `header` or `query`, not both"];
    a_key_in_a_header_that_cannot_be(LISTENING, "[api_keys.keys]", r#"file = "/dev/null""#, r#"header = "x key""#) =>
        ["4:10: error: api_keys.keys.header: `x key`: `x key` is not a name that a header or cookie can have"];
    a_key_in_no_parameter(LISTENING, "[api_keys.keys]", r#"file = "/dev/null""#, r#"query = """#) =>
        ["4:9: error: api_keys.keys.query: a query parameter's name has 1 to 128 bytes"];
    an_authenticator_with_no_name(LISTENING, r#"[api_keys."a b"]"#, r#"file = "/dev/null""#) =>
        ["2:11: error: api_keys: `a b` is not a name; use 1 to 64 letters, digits, `_`, `-` and `.`"];
    a_consumer_with_no_name(LISTENING, r#"[consumers."a b"]"#) =>
        ["2:12: error: consumers: a consumer's name is 1 to 128 visible ASCII characters without blanks"];
    a_group_that_is_there_twice(LISTENING, "[consumers.a]", r#"groups = ["x", "y", "x"]"#) =>
        ["3:21: error: consumers.a.groups: `x` is there twice"];
    a_group_that_is_two(LISTENING, "[consumers.a]", r#"groups = ["x,y"]"#) =>
        ["3:11: error: consumers.a.groups: `x,y` is not a name; use 1 to 64 letters, digits, `_`, `-` and `.`"];
    a_plan_that_is_none(LISTENING, "[consumers.a]", r#"plan = """#) =>
        ["3:8: error: consumers.a.plan: `` is not a name; use 1 to 64 letters, digits, `_`, `-` and `.`"];

    a_token_of_whom_and_for_whom(LISTENING, "[jwt.main]", r#"key_file = "tests/keys/p256.pem""#) =>
        [
            r#"2:1: error: jwt.main.issuer: missing; expected an issuer such as "https://id.example.com/", or "any""#,
            r#"2:1: error: jwt.main.audience: missing; expected an audience such as "https://api.example.com", or "any""#,
        ];
    a_token_without_keys(LISTENING, "[jwt.main]", r#"issuer = "any""#, r#"audience = "any""#) =>
        ["2:1: error: jwt.main.jwks_file: missing; write where the keys are: `jwks_url`, `jwks_file`, `key_file` or `secret_file`"];
    a_token_with_two_kinds_of_keys(JWT, r#"secret_file = "tests/keys/secret""#) =>
        ["6:15: error: jwt.main.secret_file: write either `key_file` or `secret_file`, not both"];
    an_audience_beside_any(LISTENING, "[jwt.main]", r#"issuer = "any""#, r#"audience = ["a", "any"]"#, r#"key_file = "tests/keys/p256.pem""#) =>
        [r#"4:12: error: jwt.main.audience: "any" stands alone"#];
    an_algorithm_of_secrets_for_public_keys(JWT, r#"algorithms = ["ES256", "HS256"]"#) =>
        ["6:24: error: jwt.main.algorithms: HS256 needs a `secret_file`; with public keys whoever has them could sign"];
    an_algorithm_of_public_keys_for_a_secret(SECRET, r#"algorithms = ["RS256"]"#) =>
        ["6:15: error: jwt.main.algorithms: RS256 needs public keys; `secret_file` serves HS256, HS384 and HS512"];
    an_algorithm_that_signs_nothing(JWT, r#"algorithms = ["none"]"#) =>
        [r#"6:15: error: jwt.main.algorithms: `none` is not one of "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384" or "HS512""#];
    an_empty_list_of_algorithms(JWT, "algorithms = []") =>
        ["6:14: error: jwt.main.algorithms: an empty array; for all that the keys can have leave it out"];
    a_skew_of_hours(JWT, r#"clock_skew = "2h""#) =>
        ["6:14: error: jwt.main.clock_skew: must be from 0s to 10m; found 2h"];
    a_token_in_two_places(JWT, r#"header = "x-token""#, r#"cookie = "token""#) =>
        ["7:10: error: jwt.main.cookie: write either `header` or `cookie`, not both"];
    keys_that_are_fetched_beside_a_file(JWT, r#"jwks_url = "https://id.example.com/jwks.json""#) =>
        ["5:12: error: jwt.main.key_file: write either `jwks_url` or `key_file`, not both"];
    keys_fetched_from_no_url(FETCHED, r#"jwks_url = "id.example.com/jwks""#) =>
        [r#"5:12: error: jwt.main.jwks_url: expected an http:// or https:// URL such as "https://id.example.com/jwks.json""#];
    keys_fetched_with_a_password(FETCHED, r#"jwks_url = "https://me:secret@id.example.com/""#) =>
        ["5:12: error: jwt.main.jwks_url: a user or password in a URL ends in logs; serve the key set without"];
    fetched_keys_for_secrets(FETCHED, r#"jwks_url = "https://id.example.com/""#, r#"algorithms = ["HS256"]"#) =>
        ["6:15: error: jwt.main.algorithms: HS256 needs a `secret_file`; with public keys whoever has them could sign"];
    an_authority_without_tls(FETCHED, r#"jwks_url = "http://id.example.com/""#, r#"jwks_ca_file = "tests/keys/tls/ca.pem""#) =>
        ["6:16: error: jwt.main.jwks_ca_file: an http:// URL shows no certificate"];
    an_authority_that_is_a_key(FETCHED, r#"jwks_url = "https://id.example.com/""#, r#"jwks_ca_file = "tests/keys/p256.pem""#) =>
        ["6:16: error: jwt.main.jwks_ca_file: tests/keys/p256.pem holds no CERTIFICATE in PEM"];
    a_refresh_of_keys_in_a_file(JWT, r#"jwks_refresh = "5m""#) =>
        ["6:16: error: jwt.main.jwks_refresh: belongs to `jwks_url`, which is not written"];
    a_fetch_of_minutes(FETCHED, r#"jwks_url = "https://id.example.com/""#, r#"jwks_timeout = "2m""#) =>
        ["6:16: error: jwt.main.jwks_timeout: must be from 100ms to 30s; found 2m"];
    fetches_without_pause(FETCHED, r#"jwks_url = "https://id.example.com/""#, r#"jwks_cooldown = "0s""#) =>
        ["6:17: error: jwt.main.jwks_cooldown: must be from 1s to 1d; found 0s"];
    one_url_in_two_ways(FETCHED, r#"jwks_url = "https://id.example.com/""#, "[jwt.b]", r#"issuer = "any""#, r#"audience = "any""#,
        r#"jwks_url = "https://id.example.com/""#, r#"jwks_timeout = "2s""#) =>
        ["9:12: error: jwt.b.jwks_url: [jwt.main] has the same URL, which is fetched once for both; write the same `jwks_` keys there"];
    a_short_rsa_key(LISTENING, "[jwt.main]", r#"issuer = "any""#, r#"audience = "any""#, r#"key_file = "tests/keys/small.pem""#) =>
        ["5:12: error: jwt.main.key_file: tests/keys/small.pem: an RSA key of 1024 bits; 2048 to 8192 are taken"];
    a_curve_that_is_not_taken(LISTENING, "[jwt.main]", r#"issuer = "any""#, r#"audience = "any""#, r#"key_file = "tests/keys/p521.pem""#) =>
        ["5:12: error: jwt.main.key_file: tests/keys/p521.pem: a PUBLIC KEY of a kind that is not taken; RSA, P-256, P-384 and Ed25519 are"];
    a_key_set_where_pem_belongs(LISTENING, "[jwt.main]", r#"issuer = "any""#, r#"audience = "any""#, r#"key_file = "tests/keys/jwks.json""#) =>
        ["5:12: error: jwt.main.key_file: tests/keys/jwks.json: it holds no key that verifies signatures"];
    pem_where_a_key_set_belongs(LISTENING, "[jwt.main]", r#"issuer = "any""#, r#"audience = "any""#, r#"jwks_file = "tests/keys/all.pem""#) =>
        ["5:13: error: jwt.main.jwks_file: tests/keys/all.pem: no JSON Web Key Set: invalid number at line 1 column 2"];
    one_name_for_two_authenticators(JWT, "[api_keys.main]", r#"file = "/dev/null""#) =>
        ["2:6: error: jwt: [api_keys.NAME] has a `main` too; routes could not tell which"];

    passwords_without_file(LISTENING, "[basic_auth.a]") =>
        ["2:1: error: basic_auth.a.file: missing; expected a file's path"];
    a_file_of_passwords_that_is_not_there(LISTENING, "[basic_auth.a]", r#"file = "/nonexistent/users""#) =>
        ["3:8: error: basic_auth.a.file: /nonexistent/users cannot be read: No such file or directory (os error 2)"];
    passwords_in_the_configuration_itself(LISTENING, "[basic_auth.a]", r#"file = "/dev/null""#, r#"users = ["a:b"]"#) =>
        ["4:1: error: basic_auth.a.users: not supported in this version"];
    a_realm_with_a_quote(LISTENING, "[basic_auth.a]", r#"file = "/dev/null""#, r#"realm = "a\"b""#) =>
        ["4:9: error: basic_auth.a.realm: a realm is ASCII without quotes and backslashes"];
    one_name_for_keys_and_passwords(LISTENING, "[basic_auth.main]", r#"file = "/dev/null""#, "[api_keys.main]", r#"file = "/dev/null""#) =>
        ["2:13: error: basic_auth: [api_keys.NAME] has a `main` too; routes could not tell which"];

    a_list_that_does_not_say_what_holds_otherwise(LISTENING, "[network_lists.a]", r#"deny = ["10.0.0.0/8"]"#) =>
        [r#"2:1: error: network_lists.a.otherwise: missing; expected "allow" or "deny""#];
    a_list_of_what_is_no_network(LISTENING, "[network_lists.a]", r#"otherwise = "deny""#, r#"allow = ["10.0.0", "10.0.0.1/8"]"#) =>
        [
            r#"4:10: error: network_lists.a.allow: `10.0.0` is not an address or network such as "10.0.0.7" or "10.1.0.0/16""#,
            r#"4:20: error: network_lists.a.allow: `10.0.0.1/8` has bits beyond its prefix; write "10.0.0.0/8" for the network"#,
        ];
    a_list_in_a_file_that_is_not_there(LISTENING, "[network_lists.a]", r#"otherwise = "deny""#, r#"allow_file = "/nonexistent/list""#) =>
        ["4:14: error: network_lists.a.allow_file: /nonexistent/list cannot be read: No such file or directory (os error 2)"];
    a_list_that_is_off(LISTENING, "[network_lists.a]", r#"otherwise = "deny""#, r#"mode = "off""#) =>
        [r#"4:8: error: network_lists.a.mode: `off` is not one of "enforce" or "shadow""#];
    a_list_that_is_not_there(ROUTE, r#"network_lists = ["a"]"#) =>
        ["12:18: error: routes.network_lists: no network_list is named `a`; there is no [network_lists.NAME] at all"];

    an_authenticator_that_is_not_there_with_the_nearest_name(ROUTE, r#"auth = ["kyes"]"#) =>
        ["12:9: error: routes.auth: no authenticator is named `kyes`; did you mean `keys`?"];
    an_authenticator_where_there_is_none(LISTENING, "[[routes]]", r#"name = "r""#, "respond = {}", r#"auth = ["keys"]"#) =>
        ["5:9: error: routes.auth: no authenticator is named `keys`; there is no authenticator such as [api_keys.NAME] at all"];
    an_authenticator_that_is_there_twice(ROUTE, r#"auth = ["keys", "more", "keys"]"#) =>
        ["12:25: error: routes.auth: `keys` is there twice"];
    an_empty_list_that_would_open_a_route(ROUTE, "auth = []") =>
        ["12:8: error: routes.auth: an empty array; to let everybody in leave the key out"];
    an_authenticator_that_is_no_list(ROUTE, r#"auth = "keys""#) =>
        ["12:8: error: routes.auth: expected an array; each element the name of an authenticator; found a string"];
    groups_without_an_authenticator(ROUTE, r#"groups = ["a"]"#) =>
        ["12:10: error: routes.groups: has no meaning without `auth`"];
    an_optional_authenticator_without_one(ROUTE, "auth_optional = true") =>
        ["12:17: error: routes.auth_optional: has no meaning without `auth`"];
    groups_of_nobody(ROUTE, r#"auth = ["keys"]"#, "auth_optional = true", r#"groups = ["a"]"#) =>
        ["13:17: error: routes.auth_optional: nobody's requests are in none of the `groups`"];
    an_empty_list_of_groups(ROUTE, r#"auth = ["keys"]"#, "groups = []") =>
        ["13:10: error: routes.groups: an empty array; to let in every caller leave the key out"];
    a_limit_by_consumer_where_nobody_knows_him(ROUTE, r#"limits = ["each"]"#) =>
        ["12:11: error: routes.limits: `each` counts by who the caller is, which nobody knows without `auth`"];

    a_limit_by_claim_where_no_token_is_read(ROUTE, r#"auth = ["keys"]"#, r#"limits = ["tenant"]"#, "[limits.tenant]", r#"key = "jwt:tenant""#, r#"rate = "5/s""#) =>
        ["13:11: error: routes.limits: `tenant` counts by a claim, and none of this route's `auth` reads tokens ([jwt.NAME])"];

    an_override_by_plan_of_a_limit_that_knows_none(LISTENING, "[limits.a]", r#"rate = "5/s""#, r#"overrides = [{ plan = "gold", mode = "off" }]"#) =>
        [r#"4:23: error: limits.a.overrides.plan: only for a limit whose `key` is "consumer" or holds it"#];
    an_override_by_plan_and_key(LISTENING, "[limits.a]", r#"key = "consumer""#, r#"rate = "5/s""#, r#"overrides = [{ plan = "gold", key = "a", mode = "off" }]"#) =>
        ["5:23: error: limits.a.overrides.plan: write either `key` or `plan`, not both"];
    an_override_by_plan_that_is_there_twice(LISTENING, "[limits.a]", r#"key = "consumer""#, r#"rate = "5/s""#, r#"overrides = [{ plan = "gold", mode = "off" }, { plan = "gold", mode = "shadow" }]"#) =>
        ["5:56: error: limits.a.overrides.plan: another override has this plan too"];
}

#[test]
fn authenticators_and_groups_of_a_route_are_bounded() {
    let sections: String = (0..5)
        .map(|number| format!("[api_keys.k{number}]\nfile = \"/dev/null\"\n"))
        .collect();
    let route = "[[routes]]\nname = \"r\"\nrespond = {}";
    let auth = r#"auth = ["k0", "k1", "k2", "k3", "k4"]"#;
    let found = ["16:8: error: routes.auth: a route has at most 4 authenticators; found 5"];
    rejected(LISTENING, &[&sections, route, auth], &found);

    let groups: Vec<String> = (0..33).map(|number| format!("\"g{number}\"")).collect();
    let groups = format!("groups = [{}]", groups.join(", "));
    let found = ["3:10: error: consumers.a.groups: at most 32 groups; found 33"];
    rejected(LISTENING, &["[consumers.a]", &groups], &found);
}

/// A file of a test's own, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let file = format!("rejects-{}-{name}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        let written = fs::write(&path, text);
        assert!(written.is_ok(), "{written:?}");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[test]
fn a_bad_line_of_a_file_of_keys_is_named_and_what_may_be_a_key_is_not_shown() {
    let scratch = Scratch::new("keys", "# mine\nmobile hunter2\n");
    let path = scratch.0.display();
    let file = format!("file = \"{path}\"");
    let found = format!(
        "3:8: error: api_keys.keys.file: {path}:2: no hash of a key: it is sha256: and 64 hexadecimal digits; \
         `ringgate hash-key` makes it"
    );
    rejected(LISTENING, &["[api_keys.keys]", &file], &[&found]);
}

#[test]
fn a_secret_shorter_than_the_hash_and_a_private_key_are_refused_and_not_shown() {
    let short = Scratch::new("secret", "hunter2-hunter2-hunter2-hunter2-hunter2\n");
    let path = short.0.display();
    let lines = |key: &str| format!("issuer = \"any\"\naudience = \"any\"\n{key} = \"{path}\"");
    let found = "5:15: error: jwt.main.secret_file: HS512 needs a secret of 64 bytes or more; the file holds 39";
    rejected(LISTENING, &["[jwt.main]", &lines("secret_file")], &[found]);

    let private = "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n";
    assert!(fs::write(&short.0, private).is_ok());
    let found = format!(
        "5:12: error: jwt.main.key_file: {path}: a PRIVATE KEY is no PUBLIC KEY; `openssl pkey -pubout` makes one of a \
         private key"
    );
    rejected(LISTENING, &["[jwt.main]", &lines("key_file")], &[&found]);
}

#[test]
fn a_bad_line_of_a_file_of_networks_is_named() {
    let scratch = Scratch::new("networks", "10.0.0.0/8 # ours\n\n10.1.2.3/16\n");
    let path = scratch.0.display();
    let file = format!("deny_file = \"{path}\"");
    let found = format!(
        "4:13: error: network_lists.a.deny_file: {path}:3: `10.1.2.3/16` has bits beyond its prefix; write \"10.1.0.0/16\" \
         for the network"
    );
    rejected(
        LISTENING,
        &["[network_lists.a]", "otherwise = \"allow\"", &file],
        &[&found],
    );
}
