//! One request and its answer: as much of HTTP/1.1 as scrapers, health checks and browsers need (RFC 9112), within bounds.

use std::borrow::Cow;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A connection that is asked one thing.
pub(super) struct Exchange<'a> {
    stream: &'a TcpStream,
    began: Instant,
}

/// What is asked.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// Without its query.
    pub(super) path: String,
    /// Names and values of the query, decoded.
    pub(super) query: Vec<(String, String)>,
    /// GET, not HEAD.
    pub(super) wants_body: bool,
    /// It takes an answer in chunks: HTTP/1.0 does not.
    pub(super) takes_chunks: bool,
}

/// Why something is not answered.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// Neither GET nor HEAD.
    Method,
    /// No HTTP, or too large.
    Malformed,
}

/// An answer.
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    policy: Cow<'static, str>,
    body: Cow<'static, str>,
}

/// How the end of an answer is told.
enum End {
    /// By how long it is.
    Length(usize),
    /// By a last chunk, which is empty.
    Chunks,
    /// With the connection.
    Connection,
}

/// The head of a request: some browsers send 2 KiB of it.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// For the head of a request to come.
pub(super) const ASK_TIME_MAX: Duration = Duration::from_secs(5);
/// For all of it, the reading of the answer included.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(20);
/// Of what a client still sends while it is refused.
const LINGER_BYTES_MAX: usize = 64 << 10;

impl Answer {
    /// A line of text.
    pub(super) fn text(status: u16, body: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// What comes before the text of a scrape.
    pub(super) fn scrape() -> Self {
        Self::new(200, "text/plain; version=0.0.4; charset=utf-8", "".into())
    }

    /// JSON.
    pub(super) fn json(text: String) -> Self {
        Self::new(200, "application/json", text.into())
    }

    /// The page, which may do what the policy says.
    pub(super) fn page(text: &'static str, policy: String) -> Self {
        Self { policy: policy.into(), ..Self::new(200, "text/html; charset=utf-8", text.into()) }
    }

    fn new(status: u16, kind: &'static str, body: Cow<'static, str>) -> Self {
        Self { status, kind, policy: "default-src 'none'".into(), body }
    }

    fn head(&self, end: End) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Service Unavailable",
        };
        let end = match end {
            End::Length(bytes) => format!("Content-Length: {bytes}\r\n"),
            End::Chunks => "Transfer-Encoding: chunked\r\n".to_owned(),
            End::Connection => String::new(),
        };
        format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\n{end}Connection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n{}\r\n",
            self.status,
            self.kind,
            self.policy,
            if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" },
        )
    }
}

impl<'a> Exchange<'a> {
    #[expect(clippy::disallowed_methods, reason = "no shard, and no Driver, is on this thread")]
    pub(super) fn begin(stream: &'a TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, began: Instant::now() })
    }

    /// Reads the head of the request.
    pub(super) fn request(&self) -> io::Result<Result<Request, Refusal>> {
        let mut head = Vec::with_capacity(1024);
        loop {
            self.stream.set_read_timeout(Some(self.left(ASK_TIME_MAX)?))?;
            let mut piece = [0; 2048];
            match (&*self.stream).read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => head.extend_from_slice(&piece[..count]),
            }
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(Request::parse(&head[..end]));
            }
            if head.len() > HEAD_BYTES_MAX {
                return Ok(Err(Refusal::Malformed));
            }
        }
    }

    /// Writes the answer.
    pub(super) fn answer(&self, answer: Answer, wants_body: bool) -> io::Result<()> {
        self.write(&[answer.head(End::Length(answer.body.len())).as_bytes()])?;
        if wants_body {
            self.write(&[answer.body.as_bytes()])?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Writes an answer that comes in pieces: how long it is nobody knows before its end.
    pub(super) fn answer_in_pieces(
        &self,
        answer: &Answer,
        request: &Request,
        body: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = if request.takes_chunks { End::Chunks } else { End::Connection };
        self.write(&[answer.head(end).as_bytes()])?;
        if request.wants_body {
            body(&mut |piece| match (request.takes_chunks, piece.len()) {
                // An empty chunk would be the last one.
                (_, 0) => Ok(()),
                (true, bytes) => self.write(&[format!("{bytes:x}\r\n").as_bytes(), piece, b"\r\n"]),
                (false, _) => self.write(&[piece]),
            })?;
            if request.takes_chunks {
                self.write(&[b"0\r\n\r\n"])?;
            }
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Writes an answer to what was not read whole. Were the connection closed with something unread, the client might lose the answer.
    pub(super) fn refuse(&self, answer: Answer) -> io::Result<()> {
        self.answer(answer, true)?;
        let mut rest = [0; 2048];
        let mut read = 0;
        while read < LINGER_BYTES_MAX {
            self.stream.set_read_timeout(Some(self.left(ASK_TIME_MAX)?))?;
            match (&*self.stream).read(&mut rest)? {
                0 => break,
                count => read += count,
            }
        }
        Ok(())
    }

    fn write(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        // What is empty is not waited for.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(self.left(EXCHANGE_TIME_MAX)?))?;
            match (&*self.stream).write_vectored(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => IoSlice::advance_slices(&mut rest, count),
            }
        }
        Ok(())
    }

    fn left(&self, of: Duration) -> io::Result<Duration> {
        of.checked_sub(self.began.elapsed())
            .filter(|left| !left.is_zero())
            .ok_or(io::ErrorKind::TimedOut.into())
    }
}

impl Request {
    fn parse(head: &[u8]) -> Result<Self, Refusal> {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| Refusal::Malformed)?;
        let [method, target, version] =
            line.split(' ').collect::<Vec<_>>().try_into().map_err(|_| Refusal::Malformed)?;
        if !version.starts_with("HTTP/1.") || method.is_empty() {
            return Err(Refusal::Malformed);
        }
        let wants_body = match method {
            "GET" => true,
            "HEAD" => false,
            _ => return Err(Refusal::Method),
        };
        // A proxy may be asked for the whole address.
        let target = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !path.starts_with('/') {
            return Err(Refusal::Malformed);
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        let takes_chunks = version != "HTTP/1.0";
        Ok(Self { path: path.to_owned(), query: pairs.collect(), wants_body, takes_chunks })
    }
}

/// A name or a value of a query, as browsers write them (URL Standard, `application/x-www-form-urlencoded`).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                let digit = |hex: &u8| (*hex as char).to_digit(16).unwrap_or(0) as u8;
                digit(high) << 4 | digit(low)
            }
            (b'+', _) => b' ',
            _ => *first,
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path, a query, whether a body is wanted, and whether chunks are taken.
    type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], bool, bool);

    fn check(head: &str, expected: Result<Expected<'_>, Refusal>) {
        let parsed = Request::parse(head.as_bytes());
        let expected = expected.map(|(path, query, wants_body, takes_chunks)| Request {
            path: path.into(),
            query: query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            wants_body,
            takes_chunks,
        });
        assert_eq!(parsed, expected, "{head}");
    }

    #[test]
    fn requests_are_read_and_others_refused() {
        check("GET /metrics HTTP/1.1\r\nHost: x", Ok(("/metrics", &[], true, true)));
        check("HEAD / HTTP/1.0", Ok(("/", &[], false, false)));
        check("GET http://a:1/readyz?x HTTP/1.1", Ok(("/readyz", &[("x", "")], true, true)));
        check("GET http://a:1 HTTP/1.1", Ok(("/", &[], true, true)));
        let query = [("topic", "a&b=<c>"), ("group", "ä %"), ("n", "1")];
        check("GET /s?topic=a%26b%3D%3Cc%3e&group=%C3%A4+%&&n=1 HTTP/1.1", Ok(("/s", &query, true, true)));
        for head in [
            "",
            "GET /",
            "GET  / HTTP/1.1",
            "GET metrics HTTP/1.1",
            "GET / HTTP/2",
            " / HTTP/1.1",
            "\u{16}\u{3}\u{1}",
        ] {
            check(head, Err(Refusal::Malformed));
        }
        for head in ["POST / HTTP/1.1", "get / HTTP/1.1", "PRI * HTTP/1.1"] {
            check(head, Err(Refusal::Method));
        }
    }
}
