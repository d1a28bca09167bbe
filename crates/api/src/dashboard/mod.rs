//! The dashboard: a client of the public API without a privilege. Its files are made by npm from `web/` and are part of the program.

use std::borrow::Cow;
use std::io::Read as _;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use rust_embed::RustEmbed;

use crate::http::redirect;

/// What `npm run build` leaves: compressible files only as `.br` and `.gz`. A debug build reads them from the checkout at run time.
#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Files;

/// First parts of the paths that belong to the dashboard's map. Any other path keeps its "there is nothing here".
const PAGES: &[&str] = &["p", "flow", "account", "invite", "w", "operator", "new", "app"];

/// First parts of paths of two parts that are no account's, for programs that read what they are told there.
const NO_ACCOUNTS: &[&str] = &["api", "graphql", "oauth", "docs", "v1"];

/// Scripts, styles, pictures and data come from this server and nowhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// As [`POLICY`]; the editor of the Explorer writes styles of its own and works in a worker.
const EXPLORER_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// As [`POLICY`]; a terminal writes styles of its own.
const TERMINAL_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Whether this process serves the dashboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dashboard {
    /// Only the plain pages that signing in needs.
    #[default]
    Absent,
    /// The files that were built into the program, as far as there are any.
    Embedded,
}

impl Dashboard {
    /// The answer to a path of the map, or to one of the files. `None` when the path is neither or the files were not built.
    pub(crate) fn answer(self, path: &str, headers: &HeaderMap) -> Option<Response> {
        if self == Self::Absent {
            return None;
        }
        if let Some(name) = path.strip_prefix("/assets/") {
            let mut response = file(&format!("assets/{name}"), headers)?;
            // The name changes with the content.
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
            return Some(response);
        }
        match path {
            "/robots.txt" | "/icon.svg" => file(&path[1..], headers),
            "/explorer" | "/graphiql" => page("explorer.html", EXPLORER_POLICY, headers),
            _ if path.strip_prefix("/shell/").is_some_and(|target| !target.is_empty() && !target.contains('/')) => {
                page("terminal.html", TERMINAL_POLICY, headers)
            }
            _ if PAGES.contains(&path[1..].split('/').next().unwrap_or_default()) => self.page(headers),
            _ => account_of(path).map(|username| redirect(&format!("/account?account={username}"))),
        }
    }

    /// The page that all routes of the dashboard begin with.
    pub(crate) fn page(self, headers: &HeaderMap) -> Option<Response> {
        (self == Self::Embedded).then(|| page("index.html", POLICY, headers)).flatten()
    }
}

/// Whose key is at `/{username}/settings`, where Galaxy's documentation sends people for it (`contracts/galaxy.md` 2).
fn account_of(path: &str) -> Option<&str> {
    let username = path.strip_prefix('/')?.strip_suffix("/settings")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!username.is_empty() && username.bytes().all(plain) && !NO_ACCOUNTS.contains(&username)).then_some(username)
}

fn page(name: &str, policy: &'static str, headers: &HeaderMap) -> Option<Response> {
    let mut response = file(name, headers)?;
    let out = response.headers_mut();
    // It names the current files, so a browser asks again each time.
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    out.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    out.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    Some(response)
}

fn file(name: &str, headers: &HeaderMap) -> Option<Response> {
    let (data, encoding) = encoded(name, headers)?;
    let mut response = Response::new(Body::from(data.into_owned()));
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    out.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        out.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Some(response)
}

/// The file in an encoding that the client takes, and its name. What takes none gets the text.
fn encoded(name: &str, headers: &HeaderMap) -> Option<(Cow<'static, [u8]>, Option<&'static str>)> {
    // Without optimisation the files are read from their folder, whose neighbours are none of them.
    if name.split('/').any(|part| part == "..") {
        return None;
    }
    if let Some(plain) = Files::get(name) {
        return Some((plain.data, None));
    }
    for (encoding, ending) in [("br", "br"), ("gzip", "gz")] {
        if takes(headers, encoding)
            && let Some(found) = Files::get(&format!("{name}.{ending}"))
        {
            return Some((found.data, Some(encoding)));
        }
    }
    let packed = Files::get(&format!("{name}.gz"))?;
    let mut plain = vec![];
    flate2::read::GzDecoder::new(&*packed.data).read_to_end(&mut plain).ok()?;
    Some((plain.into(), None))
}

fn takes(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding)) && parts.all(|part| !matches!(part, "q=0" | "q=0.0"))
    })
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_used_only_when_the_client_takes_it() {
        let asks = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            (takes(&headers, "br"), takes(&headers, "gzip"))
        };
        assert_eq!(asks("gzip, deflate, br, zstd"), (true, true));
        assert_eq!(asks("GZIP;q=0.5"), (false, true));
        assert_eq!(asks("br;q=0, gzip"), (false, true));
        assert_eq!(asks("identity"), (false, false));
    }

    #[test]
    fn only_the_paths_of_the_map_are_pages() {
        for path in ["/graphql", "/graphql/v2", "/api/v1/workflows", "/v1/x", "/nothing", "/px", "/assets/../index.html"] {
            assert!(Dashboard::Embedded.answer(path, &HeaderMap::new()).is_none(), "{path}");
        }
        for path in ["/api/settings", "/graphql/settings", "//settings", "/settings", "/a/b/settings", "/a%0d/settings"] {
            assert!(Dashboard::Embedded.answer(path, &HeaderMap::new()).is_none(), "{path}");
        }
        let key = Dashboard::Embedded.answer("/ann-b/settings", &HeaderMap::new()).unwrap();
        assert_eq!((key.status().as_u16(), key.headers()["location"].to_str().unwrap()), (303, "/account?account=ann-b"));
        assert!(Dashboard::Absent.answer("/ann-b/settings", &HeaderMap::new()).is_none());
        assert!(Dashboard::Absent.answer("/robots.txt", &HeaderMap::new()).is_none());
        assert!(Dashboard::Embedded.answer("/robots.txt", &HeaderMap::new()).is_some());
    }
}
