//! A gateway on pingora as its users write one: one thread, a pool, a rate per client, routes by first segment, and
//! an access log through a buffered file. Arguments: `--listen ADDRESS --upstream ADDRESS|unix:PATH`, then any of
//! `--limit N` (requests a second), `--keys client|header` (who is limited: the address, or two rates by a field),
//! `--routes N`, `--log FILE`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use pingora_limits::rate::Rate;

/// Bytes of log that wait for a write.
const LOG_BYTES: usize = 64 * 1024;

struct Gateway {
    upstream: String,
    limit: isize,
    by_header: bool,
    by_client: Rate,
    by_field: Rate,
    by_field_and_route: Rate,
    routes: HashMap<String, usize>,
    log: Option<Mutex<BufWriter<File>>>,
}

impl Gateway {
    /// Whether the request may pass; both rates count it.
    fn passes(&self, session: &Session, route: usize) -> bool {
        if self.by_header {
            let client = session.get_header_bytes("x-client");
            let one = self.by_field.observe(&client, 1);
            let other = self.by_field_and_route.observe(&(client, route), 1);
            return one <= self.limit && other <= self.limit;
        }
        match client(session) {
            Some(address) => self.by_client.observe(&address, 1) <= self.limit,
            None => true,
        }
    }

    /// The number of the route, by the path's first segment.
    fn route(&self, session: &Session) -> Option<usize> {
        if self.routes.is_empty() {
            return Some(0);
        }
        let path = session.req_header().uri.path();
        let segment = path.trim_start_matches('/').split('/').next()?;
        self.routes.get(segment).copied()
    }
}

fn client(session: &Session) -> Option<IpAddr> {
    session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map(|address| address.ip())
}

async fn refuse(session: &mut Session, status: u16) -> Result<bool> {
    let mut head = ResponseHeader::build(status, None)?;
    head.insert_header("content-length", "0")?;
    session.write_response_header(Box::new(head), true).await?;
    Ok(true)
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        let Some(route) = self.route(session) else {
            return refuse(session, 404).await;
        };
        if self.passes(session, route) {
            return Ok(false);
        }
        refuse(session, 429).await
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let peer = match self.upstream.strip_prefix("unix:") {
            Some(path) => HttpPeer::new_uds(path, false, String::new())?,
            None => HttpPeer::new(self.upstream.as_str(), false, String::new()),
        };
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        if let Some(address) = client(session) {
            request.insert_header("x-forwarded-for", address.to_string())?;
        }
        Ok(())
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, _: &mut ()) {
        let Some(log) = &self.log else { return };
        let request = session.req_header();
        let status = session.response_written().map_or(0, |head| head.status.as_u16());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let line = format!(
            "{{\"time\":{:.3},\"client\":\"{}\",\"method\":\"{}\",\"path\":\"{}\",\"status\":{status},\"bytes\":{}}}\n",
            now.as_secs_f64(),
            client(session).map_or_else(String::new, |address| address.to_string()),
            request.method,
            request.uri.path().escape_default(),
            session.body_bytes_sent(),
        );
        if let Ok(mut log) = log.lock() {
            // A full disk costs records, never requests.
            let _ = log.write_all(line.as_bytes());
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let listen = value("--listen").expect("--listen ADDRESS");
    let routes: usize = value("--routes").map_or(0, |count| count.parse().expect("--routes N"));
    // Routes that nobody asks for, and the one that everybody does.
    let mut names: HashMap<String, usize> = (1..routes).map(|n| (format!("service-{n}"), n)).collect();
    if routes > 0 {
        names.insert("bytes".to_owned(), routes);
    }
    let log = value("--log").map(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Mutex::new(BufWriter::with_capacity(LOG_BYTES, file.expect("the log's file")))
    });
    let gateway = Gateway {
        upstream: value("--upstream").expect("--upstream ADDRESS"),
        limit: value("--limit").map_or(1_000_000_000, |limit| limit.parse().expect("--limit N")),
        by_header: value("--keys").as_deref() == Some("header"),
        by_client: Rate::new(Duration::from_secs(1)),
        by_field: Rate::new(Duration::from_secs(1)),
        by_field_and_route: Rate::new(Duration::from_secs(1)),
        routes: names,
        log,
    };
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, gateway);
    service.threads = Some(1);
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
