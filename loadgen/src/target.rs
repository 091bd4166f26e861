//! Where requests go: an address that is resolved before the run, and what stands in the request for it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// A URL given on the command line: `http://host[:port][/path]`, `unix:/socket[:/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The `Host` field.
    pub(crate) authority: String,
    /// Path and query, from the slash on.
    pub(crate) path: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What a worker connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
            if socket.is_empty() || !path.starts_with('/') {
                return Err("write unix:/path/of.sock or unix:/path/of.sock:/request/path".into());
            }
            return Ok(Self {
                authority: "localhost".into(),
                path: checked_path(path)?,
                place: Place::Unix(socket.into()),
            });
        }
        let rest = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err("https is not supported yet; use http".into()),
            Some(_) => return Err("the scheme must be http, or unix: for a socket".into()),
        };
        // The path is taken apart by hand: it may have places such as ${counter}, which no URL has.
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let path = path.split('#').next().unwrap_or_default();
        let authority: http::uri::Authority = authority
            .parse()
            .map_err(|_| format!("`{authority}` is not a host with an optional port"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err("write http://host:port/path, without a user".into());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            path: checked_path(&format!("{slash}{path}"))?,
            place: Place::Tcp {
                host: authority.host().trim_matches(['[', ']']).to_owned(),
                port: authority.port_u16().unwrap_or(80),
            },
            authority: authority.to_string(),
        })
    }
}

/// A path that can stand in a request line as it is.
fn checked_path(path: &str) -> Result<String, String> {
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("the path has a space or a control character; percent-encode it".into());
    }
    Ok(path.to_owned())
}

impl Target {
    /// The same place with another path.
    ///
    /// # Errors
    ///
    /// Not a path that can stand in a request line.
    pub(crate) fn with_path(&self, path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err(format!("the path `{path}` does not start with a slash"));
        }
        Ok(Self {
            path: checked_path(path)?,
            ..self.clone()
        })
    }

    /// Looks the host up, once, on the calling thread, which waits for the system's resolver.
    ///
    /// # Errors
    ///
    /// The name is not known.
    pub(crate) fn resolve(&self) -> io::Result<Endpoint> {
        match &self.place {
            Place::Unix(path) => Ok(Endpoint::Unix(path.clone())),
            Place::Tcp { host, port } => (host.as_str(), *port)
                .to_socket_addrs()
                .map_err(|error| io::Error::new(error.kind(), format!("`{host}`: {error}")))?
                .next()
                .map(Endpoint::Tcp)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(socket) => write!(f, "unix:{}:{}", socket.display(), self.path),
            Place::Tcp { .. } => write!(f, "http://{}{}", self.authority, self.path),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_give_authority_path_and_endpoint() {
        for (text, authority, path, endpoint) in [
            (
                "http://127.0.0.1:8080/a?b=c",
                "127.0.0.1:8080",
                "/a?b=c",
                "127.0.0.1:8080",
            ),
            ("127.0.0.1", "127.0.0.1", "/", "127.0.0.1:80"),
            ("http://h-1.x:81?a#b", "h-1.x:81", "/?a", ""),
            (
                "127.0.0.1/${key}/x",
                "127.0.0.1",
                "/${key}/x",
                "127.0.0.1:80",
            ),
            ("http://[::1]:81", "[::1]:81", "/", "[::1]:81"),
            ("unix:/run/x.sock", "localhost", "/", "unix:/run/x.sock"),
            (
                "unix:/run/x.sock:/p?q",
                "localhost",
                "/p?q",
                "unix:/run/x.sock",
            ),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.authority.as_str(), target.path.as_str()),
                (authority, path)
            );
            if !endpoint.is_empty() {
                assert_eq!(target.resolve().unwrap().to_string(), endpoint);
            }
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for text in [
            "",
            "https://x/",
            "ftp://x/",
            "http://",
            "http://u@h/",
            "unix:",
            "unix:/s:p",
            "http:///p",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
