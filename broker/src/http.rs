//! The page at `/`, `/metrics`, `/healthz` and `/readyz`, on threads of their own: nothing here touches the data path.
//!
//! Who connects may be anybody, so all of it is bounded: connections, the bytes of a request, the time for it and for its answer, and how
//! many scrapes are in memory at once. Each connection is asked one thing. Where there are too many, the oldest goes.

mod exchange;

use crate::metrics::{Ask, Overview, SAMPLE_EVERY, Scrapes};
use exchange::{Answer, Exchange, Refusal, Request};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The HTTP server. Ends with the value.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<std::thread::JoinHandle<()>>,
}

struct Shared {
    scrapes: Arc<Scrapes>,
    overview: Overview,
    /// What the page may do.
    policy: String,
    open: Open,
    stopping: AtomicBool,
}

/// Connections at once: some scrapers, health checks, and pages that are looked at.
const CONNECTIONS_MAX: usize = 32;
/// Of these with a scrape's figures, which are some MiB where there are ten thousand partitions.
const SCRAPES_MAX: usize = 4;
/// A thread that answers needs little: texts and lists are not on its stack.
const STACK_BYTES: usize = 512 << 10;
/// After a connection could not be taken in, since there are no files left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

impl Server {
    /// Listens and starts to serve.
    pub fn start(address: &str, scrapes: Arc<Scrapes>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            overview: Overview::new(scrapes.clone()),
            scrapes,
            policy: policy(PAGE),
            open: Open::default(),
            stopping: AtomicBool::new(false),
        });
        let sampling = shared.clone();
        let sampler = std::thread::Builder::new().name("http-sampler".into()).spawn(move || {
            while !sampling.stopping.load(Ordering::Acquire) {
                sampling.overview.sample();
                std::thread::park_timeout(SAMPLE_EVERY);
            }
        })?;
        let serving = shared.clone();
        let acceptor = std::thread::Builder::new().name("http".into()).spawn(move || {
            while !serving.stopping.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => serving.clone().serve(stream),
                    Err(_) => std::thread::park_timeout(ACCEPT_AGAIN),
                }
            }
        })?;
        Ok(Self { shared, address, threads: vec![sampler, acceptor] })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Whom it waits for is us. Where it listens on every address, this machine's own is one of them.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let woken = TcpStream::connect_timeout(&address, exchange::ASK_TIME_MAX);
        self.shared.open.close_all();
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            if woken.is_ok() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn serve(self: Arc<Self>, stream: TcpStream) {
        let place = Open::admit(&self, stream);
        // Without a thread there is no answer, and the connection ends with its place.
        let _ = std::thread::Builder::new().name("http".into()).stack_size(STACK_BYTES).spawn(move || {
            // A client that has gone does not read its answer.
            let _ = self.exchange(&place);
        });
    }

    fn exchange(&self, place: &Place) -> io::Result<()> {
        let exchange = Exchange::begin(&place.stream)?;
        match exchange.request()? {
            Ok(request) if request.path == "/metrics" => self.scrape(&exchange, &request, place.number),
            Ok(request) => exchange.answer(self.answer(&request), request.wants_body),
            Err(Refusal::Method) => exchange.refuse(Answer::text(405, "GET and HEAD are served\n")),
            Err(Refusal::Malformed) => exchange.refuse(Answer::text(400, "this is no request of HTTP/1.1\n")),
        }
    }

    fn scrape(&self, exchange: &Exchange<'_>, request: &Request, number: u64) -> io::Result<()> {
        self.open.scraping(number);
        match self.scrapes.collect() {
            Some(figures) => {
                exchange.answer_in_pieces(&Answer::scrape(), request, |hand_on| figures.write(hand_on))
            }
            None => exchange.answer(Answer::text(503, SILENT), request.wants_body),
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        match &*request.path {
            "/" => Answer::page(PAGE, self.policy.clone()),
            "/overview.json" => {
                let query = request.query.iter().map(|(name, value)| (&**name, &**value));
                self.overview.json(&Ask::new(query)).map_or(Answer::text(503, SILENT), Answer::json)
            }
            "/healthz" if self.scrapes.are_alive() => Answer::text(200, "ok\n"),
            "/healthz" => Answer::text(503, SILENT),
            "/readyz" if self.scrapes.is_ready() => Answer::text(200, "ready\n"),
            "/readyz" => Answer::text(503, "starting or stopping\n"),
            _ => Answer::text(404, "there are /, /metrics, /healthz and /readyz\n"),
        }
    }
}

const SILENT: &str = "a shard does not answer\n";

/// The page: all of it is in this file, and it asks for `/overview.json` only.
const PAGE: &str = include_str!("http/page.html");

/// What a page may do: run the script and apply the style that it came with, and ask whom it came from.
fn policy(page: &str) -> String {
    let hash = |tag: &str| {
        let inside =
            page.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        base64(&Sha256::digest(inside.map_or("", |(inside, _)| inside)))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for at in 0..4 {
            text.push(if at > three.len() { '=' } else { DIGITS[bits >> (18 - 6 * at) & 63] as char });
        }
    }
    text
}

/// The connections there are, the oldest first.
#[derive(Default)]
struct Open(Mutex<Connections>);

#[derive(Default)]
struct Connections {
    next: u64,
    open: BTreeMap<u64, Arc<TcpStream>>,
    /// Those with a scrape's figures.
    scraping: BTreeMap<u64, Arc<TcpStream>>,
}

/// A connection's place among them, given back when dropped.
struct Place {
    shared: Arc<Shared>,
    stream: Arc<TcpStream>,
    number: u64,
}

impl Open {
    fn admit(shared: &Arc<Shared>, stream: TcpStream) -> Place {
        let stream = Arc::new(stream);
        let number = {
            let mut connections = shared.open.lock();
            let number = connections.next;
            connections.next += 1;
            connections.open.insert(number, stream.clone());
            make_room(&mut connections.open, CONNECTIONS_MAX);
            number
        };
        Place { shared: shared.clone(), stream, number }
    }

    fn scraping(&self, number: u64) {
        let mut connections = self.lock();
        if let Some(stream) = connections.open.get(&number).cloned() {
            connections.scraping.insert(number, stream);
            make_room(&mut connections.scraping, SCRAPES_MAX);
        }
    }

    fn close_all(&self) {
        make_room(&mut self.lock().open, 0);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.0.lock().expect("nothing panics while it holds the connections")
    }
}

/// Ends the oldest: whoever serves them meets the end at once.
fn make_room(open: &mut BTreeMap<u64, Arc<TcpStream>>, max: usize) {
    while open.len() > max
        && let Some((_, stream)) = open.pop_first()
    {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.shared.open.lock();
        connections.open.remove(&self.number);
        connections.scraping.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
