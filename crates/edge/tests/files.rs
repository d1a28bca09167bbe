//! The static file server.

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use http::Request;
use support::{Reply, full, read_all, send};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

fn site(dir: &Path) {
    let put = |path: &str, text: &str| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("root/index.html", "<h1>home</h1>");
    put("root/404.html", "<h1>lost</h1>");
    put("root/docs/index.html", "docs");
    put("root/a file+\u{e9}.txt", "odd name");
    put("root/app.js", "let plain");
    put("root/app.js.br", "brotli");
    put("root/app.js.gz", "gzip");
    put("root/digits.bin", "0123456789");
    put("root/.env", "SECRET=1");
    put("root/.git/config", "secret");
    put("root/.well-known/acme", "token");
    put("outside/secret.txt", "secret");
    std::fs::create_dir(dir.join("root/empty")).unwrap();
    symlink("../outside/secret.txt", dir.join("root/out.txt")).unwrap();
    symlink("../outside", dir.join("root/out")).unwrap();
    symlink(".env", dir.join("root/env.txt")).unwrap();
    symlink("digits.bin", dir.join("root/inside.bin")).unwrap();
    std::fs::write(dir.join("root/large.bin"), vec![b'x'; 3_000_000]).unwrap();
}

async fn start(spa: bool) -> (tempfile::TempDir, SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>) {
    let dir = tempfile::tempdir().unwrap();
    site(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(edge::files::serve(dir.path().join("root"), spa, listener));
    (dir, address, serving)
}

async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Reply {
    let request = headers.iter().fold(Request::get(path).header("host", "a"), |request, (name, value)| request.header(*name, *value));
    send(address, request.body(full("")).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_folders_and_missing_pages() {
    let (_dir, address, _) = start(false).await;
    for (path, status, kind, text) in [
        ("/", 200, "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/?x=1", 200, "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/docs/", 200, "text/html; charset=utf-8", "docs"),
        ("//docs//index.html", 200, "text/html; charset=utf-8", "docs"),
        ("/app.js", 200, "text/javascript; charset=utf-8", "let plain"),
        ("/a%20file+%C3%A9.txt", 200, "text/plain; charset=utf-8", "odd name"),
        ("/.well-known/acme", 200, "application/octet-stream", "token"),
        ("/inside.bin", 200, "application/octet-stream", "0123456789"),
        ("/nothing", 404, "text/html; charset=utf-8", "<h1>lost</h1>"),
        ("/empty/", 404, "text/html; charset=utf-8", "<h1>lost</h1>"),
        ("/app.js/", 404, "text/html; charset=utf-8", "<h1>lost</h1>"),
    ] {
        let reply = get(address, path, &[]).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type"), reply.text()), (status, kind, text), "{path}");
    }
    let moved = get(address, "/docs?a=b", &[]).await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (301, "/docs/?a=b"));
    let moved = get(address, "//docs", &[]).await;
    assert_eq!(moved.header("location"), "/docs/", "a redirect never leads to another host");

    let large = get(address, "/large.bin", &[]).await;
    assert_eq!((large.body.len(), large.header("content-length")), (3_000_000, "3000000"));
    let head = send(address, Request::head("/large.bin").header("host", "a").body(full("")).unwrap()).await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, "3000000", 0));
    let post = send(address, Request::post("/").header("host", "a").body(full("x")).unwrap()).await;
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_or_hidden_is_served() {
    for spa in [false, true] {
        let (_dir, address, _) = start(spa).await;
        for path in [
            "/../outside/secret.txt",
            "/..%2foutside/secret.txt",
            "/%2e%2e/outside/secret.txt",
            "/docs/..%2f..%2foutside%2fsecret.txt",
            "/docs/%2e%2e/%2e%2e/outside/secret.txt",
            "/..%5coutside/secret.txt",
            "/out.txt",
            "/out/secret.txt",
            "/out",
            "/.env",
            "/env.txt",
            "/.git/config",
            "/%2egit/config",
            "/docs/../.env",
            "/%00",
            "/%ff",
            "/app.js%00.html",
            "/etc/passwd",
            "//etc/passwd",
            "/%2fetc%2fpasswd",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
            let answer = read_all(&mut stream).await;
            assert!(!answer.to_lowercase().contains("secret") && !answer.contains("root:"), "{path}: {answer}");
            let fallback = spa && path.ends_with("etc/passwd");
            assert!(answer.starts_with(if fallback { "HTTP/1.1 200" } else { "HTTP/1.1 404" }), "{path}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_with_its_own_routes_gets_its_page_but_not_for_missing_assets() {
    let (_dir, address, _) = start(true).await;
    let page = get(address, "/orders/17", &[]).await;
    assert_eq!((page.status.as_u16(), page.text()), (200, "<h1>home</h1>"));
    assert_eq!(get(address, "/user/jane.doe", &[("accept", "text/html")]).await.text(), "<h1>home</h1>");
    assert_eq!(get(address, "/assets/gone.js", &[("accept", "*/*")]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_files_are_not_sent_again() {
    let (dir, address, _) = start(false).await;
    let first = get(address, "/app.js", &[]).await;
    let (tag, date) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    for same in [
        ("if-none-match", tag.clone()),
        ("if-none-match", format!("\"x\", W/{tag}")),
        ("if-none-match", "*".into()),
        ("if-modified-since", date),
    ] {
        let reply = get(address, "/app.js", &[(same.0, &same.1)]).await;
        assert_eq!((reply.status.as_u16(), reply.body.len(), reply.header("etag")), (304, 0, tag.as_str()), "{same:?}");
    }
    assert_eq!(
        get(address, "/app.js", &[("if-none-match", "\"x\""), ("if-modified-since", first.header("last-modified"))]).await.status,
        200
    );
    assert_eq!(get(address, "/app.js", &[("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT")]).await.status, 200);
    std::fs::write(dir.path().join("root/app.js"), "let changed").unwrap();
    assert_eq!(get(address, "/app.js", &[("if-none-match", &tag)]).await.text(), "let changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_files() {
    let (_dir, address, _) = start(false).await;
    let etag = get(address, "/digits.bin", &[]).await.header("etag").to_owned();
    for (range, status, shown, text) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-3", 206, "bytes 7-9/10", "789"),
        ("bytes=-30", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=8-100", 206, "bytes 8-9/10", "89"),
        ("bytes=10-", 416, "bytes */10", ""),
        ("bytes=-0", 416, "bytes */10", ""),
        ("bytes=4-2", 200, "", "0123456789"),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
        ("lines=1-2", 200, "", "0123456789"),
        ("bytes=0-18446744073709551615", 206, "bytes 0-9/10", "0123456789"),
    ] {
        let reply = get(address, "/digits.bin", &[("range", range)]).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-range"), reply.text()), (status, shown, text), "{range}");
    }
    assert_eq!(get(address, "/digits.bin", &[("range", "bytes=0-1"), ("if-range", &etag)]).await.status, 206);
    assert_eq!(get(address, "/digits.bin", &[("range", "bytes=0-1"), ("if-range", "\"old\"")]).await.status, 200);
    assert_eq!(get(address, "/large.bin", &[("range", "bytes=1000000-2499999")]).await.body.len(), 1_500_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_neighbours_are_preferred() {
    let (_dir, address, _) = start(false).await;
    for (accepted, encoding, text) in [
        ("gzip, deflate, br", "br", "brotli"),
        ("gzip", "gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip", "gzip"),
        ("identity", "", "let plain"),
        ("", "", "let plain"),
    ] {
        let reply = get(address, "/app.js", &[("accept-encoding", accepted)]).await;
        assert_eq!((reply.header("content-encoding"), reply.text()), (encoding, text), "{accepted}");
        assert_eq!((reply.header("content-type"), reply.header("vary")), ("text/javascript; charset=utf-8", "accept-encoding"));
    }
    let part = get(address, "/app.js", &[("accept-encoding", "br"), ("range", "bytes=0-2")]).await;
    assert_eq!((part.header("content-encoding"), part.text()), ("", "let"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_after_the_answers_in_flight() {
    let (_dir, address, serving) = start(false).await;
    // Large enough that it cannot all wait in socket buffers.
    let file = _dir.path().join("root/huge.bin");
    std::fs::File::create(file).unwrap().set_len(40_000_000).unwrap();
    let mut sender = support::connect(address).await;
    let response = sender.send_request(Request::get("/huge.bin").header("host", "a").body(full("")).unwrap()).await.unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(support::receive(response).await.body.len(), 40_000_000);
    serving.await.unwrap().unwrap();
}
