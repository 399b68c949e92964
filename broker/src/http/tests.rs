//! The server under clients that are not kind.

use super::*;
use std::io::{Read, Write};

fn server() -> Server {
    // No shards: all of them answer.
    Server::start("127.0.0.1:0", Scrapes::new(0)).unwrap()
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address()).unwrap()
}

fn ask(server: &Server, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_is_served_is_said_and_nothing_else() {
    let server = server();
    for (request, status, body) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", "200 OK", "ok\n"),
        ("HEAD /healthz HTTP/1.1\r\n\r\n", "200 OK", ""),
        ("GET /readyz HTTP/1.1\r\n\r\n", "503 Service Unavailable", "starting or stopping\n"),
        (
            "GET /../etc/passwd HTTP/1.1\r\n\r\n",
            "404 Not Found",
            "there are /, /metrics, /healthz and /readyz\n",
        ),
        (
            "POST /metrics HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody",
            "405 Method Not Allowed",
            "GET and HEAD are served\n",
        ),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400 Bad Request", "this is no request of HTTP/1.1\n"),
    ] {
        let answer = ask(&server, request);
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {head}");
        assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'\r\n"), "{head}");
        assert_eq!(found, body, "{request}");
    }
}

#[test]
fn a_scrape_comes_in_chunks_where_these_are_known() {
    let server = server();
    let answer = ask(&server, "GET /metrics HTTP/1.1\r\n\r\n");
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Content-Length"),
        "{head}"
    );
    let mut text = String::new();
    loop {
        let (bytes, chunk) = rest.split_once("\r\n").unwrap();
        let bytes = usize::from_str_radix(bytes, 16).unwrap();
        text.push_str(&chunk[..bytes]);
        rest = chunk[bytes..].strip_prefix("\r\n").unwrap();
        if bytes == 0 {
            break;
        }
    }
    assert_eq!(rest, "");
    let answer = ask(&server, "GET /metrics HTTP/1.0\r\n\r\n");
    let (head, old) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("Transfer-Encoding") && !head.contains("Content-Length"), "{head}");
    // Its figures may differ, its lines do not.
    let names =
        |text: &str| text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(old), names(&text));
    assert!(text.starts_with("# HELP ringlog_build_info ") && text.ends_with('\n'), "{text}");
    let answer = ask(&server, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_head_without_end_is_refused() {
    let server = server();
    let answer = ask(&server, &format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(2000)));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn who_connects_and_says_nothing_keeps_nobody_out() {
    let server = server();
    let mut silent: Vec<TcpStream> = (0..3 * CONNECTIONS_MAX).map(|_| connect(&server)).collect();
    assert!(ask(&server, "GET /healthz HTTP/1.1\r\n\r\n").ends_with("ok\n"));
    assert!(server.shared.open.lock().open.len() <= CONNECTIONS_MAX);
    // The oldest has been closed, without an answer.
    assert_eq!(silent[0].read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn scrapes_that_are_not_read_give_way_to_new_ones() {
    let server = server();
    let mut places: Vec<Place> = Vec::new();
    let mut clients = Vec::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..SCRAPES_MAX + 1 {
        clients.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let place = Open::admit(&server.shared, listener.accept().unwrap().0);
        server.shared.open.scraping(place.number);
        places.push(place);
    }
    assert_eq!(clients[0].read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(server.shared.open.lock().scraping.len(), SCRAPES_MAX);
    drop(places);
    assert!(server.shared.open.lock().open.is_empty() && server.shared.open.lock().scraping.is_empty());
}

#[test]
fn the_page_may_do_what_it_came_with_and_no_more() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    // Of nothing, as everybody knows it.
    let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let policy = policy("<style>a</style><script></script>");
    assert!(policy.contains(&format!("script-src 'sha256-{empty}'")), "{policy}");
    assert!(!policy.contains(&format!("style-src 'sha256-{empty}'")), "{policy}");
    let answer = ask(&server(), "GET / HTTP/1.1\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/html; charset=utf-8\r\n"), "{head}");
    assert_eq!(body, PAGE);
    // Nothing of it is anywhere else, and nothing is written as markup.
    for word in
        ["http://", "https://", "src=", "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("]
    {
        assert!(!PAGE.replace("http://www.w3.org/2000/svg", "").contains(word), "{word}");
    }
}
