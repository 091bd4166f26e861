//! What loads, with what values; and that nothing written in a file makes the reader panic.

use std::num::NonZeroU64;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::matching::PathPattern;
use crate::config::resolved::{
    Action, HostPattern, KeyPart, LimitMode, LogSink, MaxKeys, OverrideKey, OverrideValue, Rate,
};

const EXAMPLE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/ringgate.toml"
));

fn read(text: &str) -> Result<Config, ConfigErrors> {
    let env = |name: &str| (name == "SET").then(|| "from env".to_owned());
    load(
        ConfigSource::Text {
            name: "x.toml",
            text,
        },
        &env,
    )
}

#[test]
fn the_built_in_configuration_loads() {
    let config = load(ConfigSource::builtin(), &|_| None).unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.admin.unwrap().listen.to_string(), "127.0.0.1:9400");
    assert_eq!(config.limits[0].burst.get(), 10);
}

#[test]
fn the_example_loads_from_its_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/ringgate.toml");
    let config = load(ConfigSource::File(Path::new(path)), &|_| None).unwrap();
    assert_eq!(config.access_log.sink, LogSink::Stdout);
    let names = |names: Vec<&str>| names.join(" ");
    assert_eq!(
        names(config.upstreams.iter().map(|each| &*each.name).collect()),
        "users orders pages"
    );
    assert_eq!(
        names(config.limits.iter().map(|each| &*each.name).collect()),
        "per_client per_key login tight"
    );
    assert_eq!(config.limits[3].mode, LimitMode::Shadow);
    assert_eq!(config.limits[3].burst.get(), 20);
    assert_eq!(
        config.limits[1].key,
        [KeyPart::Header("x-api-key".into()), KeyPart::Route]
    );
    let keys = NonZeroU64::new(100_000).unwrap();
    assert_eq!(config.limits[1].max_keys, MaxKeys::Keys(keys));
    assert_eq!(config.upstreams[0].endpoints[0].weight.get(), 2);
    assert_eq!(config.upstreams[0].idle_timeout, Duration::from_secs(60));
    assert_eq!(config.routes[3].path.captures(), ["id"]);
    let users = &config.routes[0];
    assert_eq!(users.hosts, [HostPattern::Exact("api.example.com".into())]);
    assert_eq!(users.path, PathPattern::Prefix("/v1/users".into()));
    assert_eq!(users.limits, [0, 3]);
    assert!(matches!(users.action, Action::Upstream(0)));
    assert_eq!(
        config.routes[6].hosts[1],
        HostPattern::Suffix(".pages.example.com".into())
    );
    assert_eq!(config.routes[6].path, PathPattern::Prefix("/".into()));
}

#[test]
fn a_file_of_one_listener_takes_every_default() {
    let config = read("[[listeners]]\nname = 'a'\naddress = '[::]:0'\n").unwrap();
    let listener = &config.listeners[0];
    assert_eq!(listener.header_timeout, Duration::from_secs(10));
    assert_eq!(listener.min_body_rate, 256);
    assert_eq!(
        (listener.request_line_max, listener.head_max),
        (8192, 65_536)
    );
    assert_eq!(listener.max_connections.get(), 20_000);
    assert_eq!(config.runtime.workers, None);
    assert_eq!(config.runtime.ring_entries, 512);
    assert_eq!(config.runtime.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.admin.unwrap().listen.port(), 9400);
    assert_eq!(config.client_ip.ipv6_prefix, 64);
    assert!(config.routes.is_empty());
}

#[test]
fn an_override_takes_from_its_limit_what_it_does_not_say() {
    let config = read(
        "[[listeners]]\nname = 'a'\naddress = '[::]:0'\n[limits.a]\nrate = '5/s'\nmode = 'shadow'\noverrides = [\n\
         { key = '10.0.0.7', rate = '9/m' },\n{ key = '10.1.0.0/16', mode = 'off' },\n\
         { key = '2001:db8::1', rate = '1/h', burst = 4, mode = 'enforce' }]\n\
         [limits.b]\nkey = ['host', 'client_ip']\nrate = '5/s'\noverrides = [{ key = ['A.test', '10.0.0.7'], mode = 'off' }]\n",
    )
    .unwrap();
    let network = |text: &str| OverrideKey::Network(text.parse().unwrap());
    let quota = |units: u64, seconds, burst| {
        let rate = Rate {
            units: NonZeroU64::new(units).unwrap(),
            period: Duration::from_secs(seconds),
        };
        Some((rate, NonZeroU64::new(burst).unwrap()))
    };
    let found = config.limits[0].overrides.iter();
    let found: Vec<_> = found
        .map(|each| (each.key.clone(), each.quota, each.mode))
        .collect();
    assert_eq!(
        found,
        [
            (network("10.0.0.7/32"), quota(9, 60, 9), LimitMode::Shadow),
            (network("10.1.0.0/16"), None, LimitMode::Off),
            (
                network("2001:db8::1/128"),
                quota(1, 3600, 4),
                LimitMode::Enforce
            ),
        ]
    );
    let values = vec![
        OverrideValue::Text("a.test".into()),
        OverrideValue::Address([10, 0, 0, 7].into()),
    ];
    assert_eq!(
        config.limits[1].overrides[0].key,
        OverrideKey::Values(values)
    );
}

#[test]
fn off_and_unlimited_are_words_and_never_zero() {
    let config = read(
        "admin.listen = 'off'\nlog.access.path = 'off'\n[[listeners]]\nname = 'a'\naddress = '[::]:0'\n\
         min_body_rate = 'off'\nmax_connections_per_client = 'unlimited'\n\
         [[routes]]\nname = 'r'\nmax_body = '0B'\ntimeout = 'unlimited'\nrespond = {}\n",
    )
    .unwrap();
    assert!(config.admin.is_none());
    assert_eq!(config.access_log.sink, LogSink::Off);
    assert_eq!(config.listeners[0].min_body_rate, 0);
    assert_eq!(config.routes[0].max_body, Some(0));
    assert_eq!(config.routes[0].timeout, None);
}

#[test]
fn variables_are_replaced_in_values_after_parsing() {
    let config = read(
        "[[listeners]]\nname = '${NO:-web}'\naddress = '[::]:0'\n\
         [[routes]]\nname = 'r'\nrespond = { body = '${SET} $$1' }\n",
    )
    .unwrap();
    assert_eq!(config.listeners[0].name, "web");
    let Action::Respond(response) = &config.routes[0].action else {
        panic!("a fixed answer")
    };
    assert_eq!(response.body, "from env $1");
}

#[test]
fn ten_thousand_routes_load() {
    let mut text = "[[listeners]]\nname = 'a'\naddress = '[::]:0'\n".to_owned();
    for at in 0..10_000 {
        text += &format!("[[routes]]\nname = 'r{at}'\npath = '/r{at}'\nrespond = {{}}\n");
    }
    assert_eq!(read(&text).unwrap().routes.len(), 10_000);
}

#[test]
fn many_problems_are_listed_up_to_a_bound_and_counted_beyond() {
    let mut text = "[[listeners]]\nname = 'a'\naddress = '[::]:0'\n".to_owned();
    for at in 0..1000 {
        text += &format!("[[routes]]\nname = 'r{at}'\npath = '/r{at}'\nupstream = 'none{at}'\n");
    }
    let errors = read(&text).unwrap_err();
    assert_eq!((errors.problems.len(), errors.unlisted), (200, 800));
    assert!(
        errors
            .to_string()
            .ends_with("\nx.toml: error: and 800 more")
    );
}

#[test]
fn nesting_and_numbers_without_end_are_refused() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("[{}]", "a.".repeat(100_000)),
        format!("version = {}", "9".repeat(100_000)),
        format!("[runtime]\nworkers = 0x{}", "f".repeat(100_000)),
        "version = 1e999".into(),
        "version = -1".into(),
        "version = nan".into(),
        "version = 1979-05-27".into(),
    ] {
        assert!(read(&text).is_err());
    }
}

#[test]
fn a_file_that_is_not_text_is_refused_at_its_first_bad_byte() {
    let path = std::env::temp_dir().join(format!("ringgate-{}.toml", std::process::id()));
    std::fs::write(&path, b"version = 1\n# caf\xc3\xa9 \xff").unwrap();
    let errors = load(ConfigSource::File(&path), &|_| None).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        errors.to_string(),
        format!("{}:2:8: error: not UTF-8 text", path.display())
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem_without_a_place() {
    for path in ["/nonexistent/ringgate.toml", "/"] {
        let errors = load(ConfigSource::File(Path::new(path)), &|_| None).unwrap_err();
        assert!(
            errors
                .to_string()
                .starts_with(&format!("{path}: error: cannot be read: ")),
            "{errors}"
        );
        assert_eq!(errors.problems.len(), 1);
    }
}

#[test]
fn everything_wrong_is_reported_at_once_in_the_order_of_the_text() {
    let errors = read(
        "frobs = 1\n[runtime]\nworkers = 0\n[[listeners]]\nname = 'a'\naddress = 'x'\ntls = {}\n\
         [upstreams.b]\nendpoints = 1\n[upstreams.b]\nkeepalive_max = '1'\n\
         [[routes]]\nname = 'r'\nupstream = 'c'\nlimits = ['d']\ntimeout = 5\npath = '${NO}'\n",
    )
    .unwrap_err();
    let places = errors
        .problems
        .iter()
        .map(|problem| problem.position.unwrap());
    let places: Vec<_> = places
        .map(|position| (position.line, position.column))
        .collect();
    let expected = [
        (1, 1),
        (3, 11),
        (6, 11),
        (7, 1),
        (9, 13),
        (10, 12),
        (11, 17),
        (14, 12),
        (15, 11),
        (16, 11),
        (17, 8),
    ];
    assert_eq!(places, expected, "{errors}");
}

/// The example with some bytes replaced, removed or doubled.
fn a_mutated_example() -> impl Strategy<Value = String> {
    let edit = (
        0..EXAMPLE.len(),
        0..40_usize,
        "[\\[\\]{}=\"'.,$#\\n0-9a-z é\\\\-]{0,6}",
    );
    proptest::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.min(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        text.into_iter().collect()
    })
}

fn positions_are_within(text: &str) {
    if let Err(errors) = read(text) {
        assert!(!errors.problems.is_empty());
        let lines = text.split('\n').count();
        for problem in &errors.problems {
            let position = problem.position.unwrap();
            assert!((1..=lines).contains(&position.line), "{problem:?}");
            for text in [&problem.key, &problem.message] {
                assert!(!text.contains('\n'), "{problem:?}");
                assert!(!text.contains("from env"), "{problem:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        positions_are_within(&text);
    }

    #[test]
    fn no_mutation_of_the_example_panics(text in a_mutated_example()) {
        positions_are_within(&text);
    }

    #[test]
    fn no_value_under_a_known_key_panics(
        key in "(version|runtime|admin|log|client_ip|listeners|upstreams|limits|routes)",
        value in "(\\[\\[\\]\\]|\\[\\{\\}\\]|\\{a=\\{\\}\\}|\\{name=\\[\\]\\}|\\[\\{name='\\$\\{SET\\}',address=':1',hosts=[1,{}],limits='a'\\}\\]|1|''|true)",
    ) {
        positions_are_within(&format!("{key} = {value}"));
    }
}
