//! A limit as the gateway's configuration says it: rate, burst, and what it counts by.
//!
//! Only `[limits.*]` is read. Whether the whole file is right says `ringgate check`.

use serde::Deserialize;
use toml::Table;

use crate::accuracy::Limit;

/// A limit of the gateway's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConfiguredLimit {
    /// Its name.
    pub(crate) name: String,
    /// Rate and burst.
    pub(crate) limit: Limit,
    /// What it counts by: `client_ip`, `header:NAME`, ...
    pub(crate) key: Vec<String>,
    /// Status of a refusal.
    pub(crate) status: u16,
}

/// The keys of a limit that matter here; others do not change what a key is granted.
#[derive(Debug, Deserialize)]
struct RawLimit {
    rate: String,
    burst: Option<u64>,
    key: Option<OneOrMore>,
    mode: Option<String>,
    status: Option<u16>,
    overrides: Option<Vec<Table>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// What these give up; the gateway has the same defaults.
const KEY: &str = "client_ip";
const STATUS: u16 = 429;

/// Finds the limit called `name` in `text`, or the only one.
///
/// # Errors
///
/// Not TOML, no such limit, or one that cannot be held to a bucket; the text says why.
pub(crate) fn find(text: &str, name: Option<&str>) -> Result<ConfiguredLimit, String> {
    let config: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let limits = config.get("limits").and_then(toml::Value::as_table);
    let limits = limits.ok_or("it has no [limits.NAME]")?;
    let names = || {
        let names: Vec<&str> = limits.keys().map(String::as_str).collect();
        names.join(", ")
    };
    let (name, value) = match name {
        Some(name) => limits
            .get_key_value(name)
            .ok_or_else(|| format!("no limit `{name}`; there are: {}", names()))?,
        None if limits.len() == 1 => limits.iter().next().ok_or("it has no [limits.NAME]")?,
        None => {
            return Err(format!(
                "which limit? Write FILE:LIMIT; there are: {}",
                names()
            ));
        }
    };
    let raw: RawLimit = value
        .clone()
        .try_into()
        .map_err(|error| format!("limits.{name}: {}", error.to_string().trim_end()))?;
    resolve(name, raw).map_err(|why| format!("limits.{name}: {why}"))
}

fn resolve(name: &str, raw: RawLimit) -> Result<ConfiguredLimit, String> {
    match raw.mode.as_deref() {
        None | Some("enforce") => {}
        Some(mode) => return Err(format!("mode is `{mode}`: it refuses nothing")),
    }
    if raw.overrides.is_some_and(|list| !list.is_empty()) {
        return Err(
            "it has overrides, which are not told apart; name the limit with --limit".into(),
        );
    }
    let rate: limiter::Rate = raw.rate.parse()?;
    Ok(ConfiguredLimit {
        name: name.to_owned(),
        limit: Limit::new(rate, raw.burst)?,
        key: match raw.key {
            None => vec![KEY.into()],
            Some(OneOrMore::One(part)) => vec![part],
            Some(OneOrMore::More(parts)) => parts,
        },
        status: raw.status.unwrap_or(STATUS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
        version = 1
        [limits.client]
        rate = \"30/m\"
        burst = 5
        max_keys = 1000
        [limits.api]
        key = [\"header:x-api-key\", \"route\"]
        rate = \"100r/s\"
        status = 503
        [limits.later]
        rate = \"1/d\"
        mode = \"shadow\"
        [limits.listed]
        rate = \"1/d\"
        overrides = [{ key = \"10.0.0.7\", rate = \"2/d\" }]
        [limits.wrong]
        rate = \"100\"";

    #[test]
    fn a_limit_is_read_as_the_gateway_reads_it() {
        let client = find(CONFIG, Some("client")).unwrap();
        assert_eq!(client.limit, "30/m:5".parse().unwrap());
        assert_eq!(
            (client.key.as_slice(), client.status),
            (&["client_ip".into()][..], 429)
        );
        let api = find(CONFIG, Some("api")).unwrap();
        assert_eq!(api.limit, "100/s:100".parse().unwrap());
        assert_eq!((api.key[0].as_str(), api.status), ("header:x-api-key", 503));
        let only = find("[limits.x]\nrate = '1/d'", None).unwrap();
        assert_eq!(
            (only.name.as_str(), only.limit),
            ("x", "1/d:1".parse().unwrap())
        );
    }

    #[test]
    fn what_cannot_be_judged_is_told() {
        for (text, name, told) in [
            (CONFIG, None, "which limit? Write FILE:LIMIT; there are: "),
            (CONFIG, Some("nobody"), "no limit `nobody`"),
            (CONFIG, Some("later"), "limits.later: mode is `shadow`"),
            (CONFIG, Some("listed"), "limits.listed: it has overrides"),
            (CONFIG, Some("wrong"), "limits.wrong: add a period"),
            ("version = 1", None, "no [limits.NAME]"),
            (
                "[limits.x]\nburst = 1",
                None,
                "limits.x: missing field `rate`",
            ),
            ("[limits", None, "TOML"),
        ] {
            let error = find(text, name).unwrap_err();
            assert!(error.contains(told), "{told}: {error}");
        }
    }
}
