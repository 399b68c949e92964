//! `/metrics`, `/healthz` and `/readyz`, on a thread of their own: nothing here touches the data path.

use crate::metrics::Scrapes;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tiny_http::{Header, Method, Request, Response};

/// The HTTP thread. Ends with the value.
pub struct Server {
    server: Arc<tiny_http::Server>,
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Listens and starts to serve.
    pub fn start(address: &str, scrapes: Arc<Scrapes>) -> io::Result<Self> {
        let server = Arc::new(tiny_http::Server::http(address).map_err(io::Error::other)?);
        let address = server.server_addr().to_ip().expect("it listens on an IP address");
        let serving = server.clone();
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
            for request in serving.incoming_requests() {
                // A client that has gone does not read its answer.
                let _ = answer(request, &scrapes);
            }
        })?;
        Ok(Self { server, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(request: Request, scrapes: &Scrapes) -> io::Result<()> {
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, body) = match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => match scrapes.collect() {
            Some(text) => (200, text),
            None => (503, "a shard does not answer\n".to_owned()),
        },
        (Method::Get | Method::Head, "/healthz") if scrapes.are_alive() => (200, "ok\n".to_owned()),
        (Method::Get | Method::Head, "/healthz") => (503, "a shard does not answer\n".to_owned()),
        (Method::Get | Method::Head, "/readyz") if scrapes.is_ready() => (200, "ready\n".to_owned()),
        (Method::Get | Method::Head, "/readyz") => (503, "starting or stopping\n".to_owned()),
        (Method::Get | Method::Head, _) => (404, "there are /metrics, /healthz and /readyz\n".to_owned()),
        _ => (405, "GET and HEAD are served\n".to_owned()),
    };
    let kind: Header =
        "Content-Type: text/plain; version=0.0.4; charset=utf-8".parse().expect("a valid header");
    request.respond(Response::from_string(body).with_status_code(status).with_header(kind))
}
