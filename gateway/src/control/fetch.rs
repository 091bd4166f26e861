//! One GET of a small document, by http or https: bounded in time and size, following nothing. On the control thread only.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::config::KeyUrl;

/// Bound of an answer's head, and of what hyper reads ahead.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What came.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) body: Vec<u8>,
    /// How long it may be kept (RFC 9111, sections 4.2.1 and 4.2.3); `None`: it does not say.
    pub(super) fresh_for: Option<Duration>,
}

/// What TLS connections are made with.
pub(super) type Tls = Arc<ClientConfig>;

/// Trust in `authorities` (DER), or in those of the system, which are read from its files.
///
/// # Errors
///
/// In words: nobody is trusted.
pub(super) fn tls(authorities: Option<&[Vec<u8>]>) -> Result<Tls, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(all) => {
            for der in all {
                let added = roots.add(CertificateDer::from(der.as_slice()));
                added.map_err(|error| error.to_string())?;
            }
        }
        None => {
            // Of what a system trusts some may be too old to be read; the others count.
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(
            "the system trusts no authority: install its certificates, or write `jwks_ca_file`"
                .into(),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Fetches `url` on a connection of its own; `tls` for https. Takes at most the URL's timeout and `bytes_max`.
///
/// # Errors
///
/// In words, without anything of what was sent back.
pub(super) async fn get(
    url: &KeyUrl,
    tls: Option<&Tls>,
    bytes_max: usize,
) -> Result<Fetched, String> {
    let within = tokio::time::timeout(url.timeout, get_unbounded(url, tls, bytes_max)).await;
    within.unwrap_or_else(|_late| Err(format!("no whole answer within {:?}", url.timeout)))
}

async fn get_unbounded(
    url: &KeyUrl,
    tls: Option<&Tls>,
    bytes_max: usize,
) -> Result<Fetched, String> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    let Some(tls) = tls else {
        return exchange(stream, url, bytes_max).await;
    };
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| "the host is no name that a certificate can be for".to_owned())?;
    let secured = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    let secured = secured.await.map_err(|error| format!("TLS: {error}"))?;
    exchange(secured, url, bytes_max).await
}

async fn exchange<S>(stream: S, url: &KeyUrl, bytes_max: usize) -> Result<Fetched, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lost = |error: hyper::Error| format!("the exchange failed: {error}");
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    // Ends with this function, whatever becomes of it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = request(url).map_err(|error| error.to_string())?;
    let (head, body) = sender
        .send_request(request)
        .await
        .map_err(lost)?
        .into_parts();
    match head.status {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            return Err(format!("answered {status}; redirects are not followed"));
        }
        status => return Err(format!("answered {status}")),
    }
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err("the answer is compressed, which was not asked for".into());
    }
    Ok(Fetched {
        body: read(body, bytes_max).await?,
        fresh_for: fresh_for(&head.headers),
    })
}

fn request(url: &KeyUrl) -> http::Result<Request<String>> {
    let host = if url.host.contains(':') {
        format!("[{}]", url.host)
    } else {
        url.host.clone()
    };
    let standard = if url.secure { 443 } else { 80 };
    let host = if url.port == standard {
        host
    } else {
        format!("{host}:{}", url.port)
    };
    Request::get(&url.target)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(
            header::USER_AGENT,
            concat!("ringgate/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(String::new())
}

async fn read(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, String> {
    let too_large = || format!("the answer is larger than {bytes_max} bytes");
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// How long an answer with these fields is fresh; of several numbers the least.
fn fresh_for(fields: &HeaderMap) -> Option<Duration> {
    let values = fields.get_all(header::CACHE_CONTROL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut least: Option<u64> = None;
    for directive in texts.flat_map(|text| text.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => 0,
            // RFC 9111, 1.2.2: too much of a number is a lot.
            "max-age" => match value.trim().trim_matches('"') {
                digits if !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()) => {
                    digits.parse().unwrap_or(u64::MAX)
                }
                _ => continue,
            },
            _ => continue,
        };
        least = Some(least.map_or(seconds, |least| least.min(seconds)));
    }
    let age = fields.get(header::AGE).and_then(|age| age.to_str().ok());
    let age = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    least.map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(lines: &[(&'static str, &'static str)]) -> Option<u64> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, value.parse().unwrap());
        }
        fresh_for(&fields).map(|fresh| fresh.as_secs())
    }

    #[test]
    fn the_time_that_an_answer_is_fresh_is_its_max_age_less_its_age() {
        let control = |value| seconds(&[("cache-control", value)]);
        assert_eq!(control("public, max-age=600, must-revalidate"), Some(600));
        assert_eq!(control("Max-Age=\"600\""), Some(600));
        assert_eq!(control("max-age=600, no-cache"), Some(0));
        assert_eq!(control("max-age=99999999999999999999"), Some(u64::MAX));
        assert_eq!(control("s-maxage=5"), None);
        assert_eq!(control("max-age=soon"), None);
        assert_eq!(control("max-age=-1"), None);
        assert_eq!(seconds(&[]), None);
        let aged = [("cache-control", "max-age=600"), ("age", "200")];
        assert_eq!(seconds(&aged), Some(400));
        let old = [("cache-control", "max-age=600"), ("age", "700")];
        assert_eq!(seconds(&old), Some(0));
        let two = [
            ("cache-control", "max-age=600"),
            ("cache-control", "max-age=60"),
        ];
        assert_eq!(seconds(&two), Some(60));
    }
}
