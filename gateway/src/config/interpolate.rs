//! `${VAR}`, `${VAR:-default}` and `$$` inside a string value.
//!
//! Works on values after TOML parsing, so that no character of a variable can change the structure of the file.

use std::borrow::Cow;

use super::template::is_of_request;

/// Longest value after replacement, in bytes: a bound for a file that names a large variable many times.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// A string value with its variables replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpolated<'a> {
    /// The value as used.
    pub text: Cow<'a, str>,
    /// Part of it came from the environment, so that no message may show it.
    pub secret: bool,
}

/// Replaces the variables of `text`. A variable that is not set takes its default; so does an empty one, as in shells.
///
/// With `keep`, variables of a request stay as they are, and so does `$$`, since the text is read once more.
///
/// The error says what is wrong; it names variables, never their values.
pub(super) fn interpolate<'a>(
    text: &'a str,
    env: &dyn Fn(&str) -> Option<String>,
    keep: bool,
) -> Result<Interpolated<'a>, String> {
    if !text.contains('$') {
        return Ok(Interpolated {
            text: Cow::Borrowed(text),
            secret: false,
        });
    }
    let (mut out, mut secret, mut rest) = (String::new(), false, text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(literal) = after.strip_prefix('$') {
            out.push_str(if keep { "$$" } else { "$" });
            rest = literal;
            continue;
        }
        let Some(inside) = after.strip_prefix('{') else {
            return Err("a single `$`: write `${NAME}` for a variable or `$$` for a dollar".into());
        };
        let Some((variable, tail)) = inside.split_once('}') else {
            return Err("`${` without its `}`; write `$$` for a literal dollar".into());
        };
        if keep && is_of_request(variable) {
            out.push_str("${");
            out.push_str(variable);
            out.push('}');
            rest = tail;
            continue;
        }
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable, None),
        };
        if !is_variable_name(name) {
            return Err(
                "a variable's name is made of letters, digits and `_`: `${NAME}`; write `$$` for a literal dollar"
                    .into(),
            );
        }
        match (env(name), default) {
            (Some(value), _) if !value.is_empty() => {
                if keep {
                    out.push_str(&value.replace('$', "$$"));
                } else {
                    out.push_str(&value);
                }
                secret = true;
            }
            (_, Some(default)) => out.push_str(default),
            (Some(_), None) => {}
            (None, None) => {
                return Err(format!(
                    "the environment variable `{name}` is not set; set it, or write `${{{name}:-default}}`"
                ));
            }
        }
        if out.len() > VALUE_BYTES_MAX {
            return Err("longer than 1MiB once its variables are replaced".into());
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(Interpolated {
        text: Cow::Owned(out),
        secret,
    })
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::interpolate;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".into()),
            "TRICK" => Some("\"${HOST}\"".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn replaces_variables_defaults_and_dollars() {
        for (text, value, secret) in [
            ("plain", "plain", false),
            ("${HOST}:80", "example.com:80", true),
            ("${NO:-a}-${HOST}", "a-example.com", true),
            ("${NO:-}", "", false),
            ("${EMPTY:-x}", "x", false),
            ("${EMPTY}", "", false),
            ("$$5 and $${HOST}", "$5 and ${HOST}", false),
            // A value is text, whatever it holds.
            ("${TRICK}", "\"${HOST}\"", true),
        ] {
            let read = interpolate(text, &env, false).unwrap();
            assert_eq!((&*read.text, read.secret), (value, secret), "{text}");
        }
    }

    #[test]
    fn variables_of_a_request_stay_where_they_are_wanted() {
        let text = "${HOST}/${host}/${path.id}/$$/${NO:-$}";
        let read = interpolate(text, &env, true).unwrap();
        assert_eq!(read.text, "example.com/${host}/${path.id}/$$/$");
        assert!(interpolate("${host}", &env, false).is_err());
        let dollar = |_: &str| Some("${host}".to_owned());
        assert_eq!(interpolate("${A}", &dollar, true).unwrap().text, "$${host}");
    }

    #[test]
    fn refuses_what_is_not_a_variable() {
        for text in [
            "$", "a$b", "${", "${A", "${}", "${1A}", "${A B}", "${NO}", "${:-x}",
        ] {
            assert!(interpolate(text, &env, false).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_the_replaced_value() {
        let large = |_: &str| Some("x".repeat(100_000));
        assert!(interpolate(&"${A}".repeat(11), &large, false).is_err());
        assert!(interpolate(&"${A}".repeat(10), &large, false).is_ok());
    }
}
