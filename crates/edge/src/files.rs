//! A web server for a folder of files, behind the edge: what a static site's replica runs (`orrery static`).
//!
//! Only what lies in the folder is served: no name that begins with a dot (except `.well-known`), no way up, no link that leads out.

mod body;
mod locate;

use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use body::FileBody;
use locate::{Encoding, Found, Place};

/// Longer than the edge keeps an unused connection, so that the edge is the one who closes.
const IDLE: Duration = Duration::from_secs(75);
/// How long answers may take to end after SIGTERM.
const GRACEFUL: Duration = Duration::from_secs(10);

struct Site {
    /// Without links in it.
    root: PathBuf,
    spa: bool,
}

/// Serves `root` until SIGTERM or SIGINT; then finishes the answers in flight. With `spa`, paths of pages that do not exist get `/index.html`, for apps
/// that do their own routing.
///
/// # Errors
/// When `root` is not a folder that can be read.
pub async fn serve(root: PathBuf, spa: bool, listener: TcpListener) -> io::Result<()> {
    let site = Arc::new(Site { root: root.canonicalize()?, spa });
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        match accepted {
            Ok((stream, _)) => drop(tasks.spawn(converse(Arc::clone(&site), stream, stopping.clone()))),
            // Nothing tells when a file descriptor becomes free.
            Err(error) if crate::listen::is_exhausted(&error) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => tracing::debug!(%error, "a connection was lost before it was accepted"),
        }
    }
    drop(listener);
    stopping.cancel();
    tasks.close();
    if tokio::time::timeout(GRACEFUL, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "answers were still in flight at the end");
    }
    Ok(())
}

async fn converse(site: Arc<Site>, stream: TcpStream, stopping: CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let response = respond(&site, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let mut connection =
        pin!(http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(IDLE).serve_connection(TokioIo::new(stream), service));
    // How a connection ends is the client's affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

fn respond<B>(site: &Site, request: &Request<B>) -> Response<FileBody> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: only GET and HEAD are allowed here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let headers = request.headers();
    match locate::locate(&site.root, request.uri().path()) {
        Place::File(path) => file(site, &path, headers, StatusCode::OK).unwrap_or_else(|| missing(site, headers)),
        Place::Folder(path) => redirect(&path, request.uri().query()),
        Place::Missing { page } if site.spa && (page || accepts(headers, "text/html")) => {
            file(site, &site.root.join("index.html"), headers, StatusCode::OK).unwrap_or_else(|| missing(site, headers))
        }
        Place::Missing { .. } | Place::Refused => missing(site, headers),
    }
}

fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|text| text.contains(kind)))
}

fn missing(site: &Site, headers: &HeaderMap) -> Response<FileBody> {
    file(site, &site.root.join("404.html"), headers, StatusCode::NOT_FOUND)
        .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "404: there is no such page\n"))
}

fn text(status: StatusCode, text: &'static str) -> Response<FileBody> {
    let mut response = Response::new(FileBody::from_static(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn redirect(path: &str, query: Option<&str>) -> Response<FileBody> {
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let Ok(target) = HeaderValue::try_from(target) else { return text(StatusCode::NOT_FOUND, "404: there is no such page\n") };
    let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
    response.headers_mut().insert(LOCATION, target);
    response
}

/// The answer with a file, or none if it cannot be read. `status` is for a file that stands in for a missing one: then nothing is conditional.
fn file(site: &Site, path: &std::path::Path, headers: &HeaderMap, status: StatusCode) -> Option<Response<FileBody>> {
    let plain = headers.contains_key(RANGE) || status != StatusCode::OK;
    let found = locate::open(&site.root, path, if plain { None } else { headers.get(ACCEPT_ENCODING) })?;
    let etag = etag(&found);
    let modified = found.modified.map(httpdate::fmt_http_date);
    let mut response = Response::new(FileBody::empty());
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, kind(path));
    out.insert(ETAG, HeaderValue::try_from(&etag).ok()?);
    out.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=0, must-revalidate"));
    out.insert(VARY, HeaderValue::from_static("accept-encoding"));
    out.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.extend(modified.and_then(|date| Some((LAST_MODIFIED, HeaderValue::try_from(date).ok()?))));
    out.extend(found.encoding.name().map(|name| (CONTENT_ENCODING, HeaderValue::from_static(name))));
    if status == StatusCode::OK && unchanged(headers, &etag, found.modified) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    let part = if status == StatusCode::OK { wanted_part(headers, &etag, &found) } else { Part::Whole };
    *response.status_mut() = match part {
        Part::Whole => status,
        Part::Some(_) => StatusCode::PARTIAL_CONTENT,
        Part::Impossible => StatusCode::RANGE_NOT_SATISFIABLE,
    };
    let bytes = match part {
        Part::Whole => 0..found.length,
        Part::Some(bytes) => {
            set_number(response.headers_mut(), CONTENT_RANGE, format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, found.length));
            bytes
        }
        Part::Impossible => {
            set_number(response.headers_mut(), CONTENT_RANGE, format!("bytes */{}", found.length));
            0..0
        }
    };
    set_number(response.headers_mut(), CONTENT_LENGTH, (bytes.end - bytes.start).to_string());
    *response.body_mut() = FileBody::of(found.file, bytes).ok()?;
    Some(response)
}

fn set_number(headers: &mut HeaderMap, name: HeaderName, text: String) {
    headers.insert(name, HeaderValue::try_from(text).expect("digits and words are a header value"));
}

fn kind(path: &std::path::Path) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    let textual = guess.type_() == "text"
        || ["javascript", "json", "xml", "svg+xml", "manifest+json"].iter().any(|subtype| guess.subtype() == *subtype);
    let text = if textual { format!("{guess}; charset=utf-8") } else { guess.to_string() };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

fn etag(found: &Found) -> String {
    let nanos = found.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos());
    format!("\"{nanos:x}-{:x}{}\"", found.length, found.encoding.suffix())
}

fn unchanged(headers: &HeaderMap, etag: &str, modified: Option<SystemTime>) -> bool {
    if headers.contains_key(IF_NONE_MATCH) {
        let tags =
            headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).map(str::trim);
        return tags.into_iter().any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
    }
    headers.get(IF_MODIFIED_SINCE).is_some_and(|value| !is_newer(value, modified))
}

/// Whether the file has changed after the date in a header, which has whole seconds; an unreadable date counts as long ago.
fn is_newer(date: &HeaderValue, modified: Option<SystemTime>) -> bool {
    let date = date.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok());
    let (Some(date), Some(modified)) = (date, modified) else { return true };
    modified >= date + Duration::from_secs(1)
}

enum Part {
    Whole,
    Some(Range<u64>),
    Impossible,
}

/// The one range that is asked for. Several ranges, units other than bytes and what cannot be read get the whole file, as RFC 9110 allows.
fn wanted_part(headers: &HeaderMap, etag: &str, found: &Found) -> Part {
    if found.encoding != Encoding::Identity {
        return Part::Whole;
    }
    if let Some(condition) = headers.get(IF_RANGE)
        && condition.as_bytes() != etag.as_bytes()
        && (condition.as_bytes().contains(&b'"') || is_newer(condition, found.modified))
    {
        return Part::Whole;
    }
    let spec = headers.get(RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.trim().split_once('-'));
    let Some((first, last)) = spec else { return Part::Whole };
    let length = found.length;
    let bytes = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return Part::Whole,
    };
    if bytes.start < bytes.end { Part::Some(bytes) } else { Part::Impossible }
}
