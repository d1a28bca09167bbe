//! Pages: plain HTML without scripts, under a policy that allows nothing else.

use std::fmt::Display;
use std::sync::LazyLock;

use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use sha2::{Digest, Sha256};

use super::answer::build;

const STYLE: &str = "\
:root{color-scheme:light dark;background:Canvas;color:CanvasText}\
body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:10vh auto;padding:0 1rem;overflow-wrap:anywhere}\
h1{font-size:1.4rem}\
code{font-size:1.1em;padding:.1em .3em;border:1px solid #8886;border-radius:.3em}\
label{display:block;margin:.8rem 0}\
input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4rem}\
button{font:inherit;padding:.4rem 1rem;margin:.4rem .4rem 0 0}\
dt{font-weight:600}dd{margin:0 0 .5rem}\
footer{margin-top:3rem;opacity:.8;font-size:.9rem}";

/// The style's hash is in the policy, so that no other style, planted or ours, is applied.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes())));

/// Markup. Text gets in through [`escape`] only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Html(pub(crate) String);

/// Text as markup.
pub(crate) fn escape(text: impl Display) -> Html {
    let text = text.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Html(out)
}

impl Display for Html {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A page.
pub(crate) struct Page<'a> {
    /// Of the window.
    pub(crate) title: &'a str,
    /// Below the heading.
    pub(crate) body: Html,
    /// Where a form on it leads in the end besides here; browsers hold redirects of forms to the policy too.
    pub(crate) leads_to: Option<&'a str>,
}

impl<'a> Page<'a> {
    /// A page whose forms stay here.
    pub(crate) fn new(title: &'a str, body: Html) -> Self {
        Self { title, body, leads_to: None }
    }

    /// The page as an answer, with every header that a page needs.
    pub(crate) fn answer(self, status: StatusCode) -> Response {
        let title = escape(self.title);
        let text = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title} · Orrery</title><style>{STYLE}</style></head>\
             <body><main><h1>{title}</h1>{}</main><footer><a href=\"/\">Orrery</a></footer></body></html>",
            self.body
        );
        let mut response = build(status, "text/html; charset=utf-8", text);
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; form-action 'self' {}; base-uri 'none'; frame-ancestors 'none'",
            *STYLE_HASH,
            self.leads_to.unwrap_or_default()
        );
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
        );
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        // Not `no-referrer`: with it browsers send `Origin: null` from our own forms.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        response
    }

    /// A page that says why something did not happen.
    pub(crate) fn refuse(error: &ops::Error, request_id: &str) -> Response {
        error.log(request_id);
        let body = Html(format!("<p>{}</p><p>Request id: <code>{}</code></p>", escape(&error.public), escape(request_id)));
        Page::new("That did not work", body).answer(super::answer::status(error.code))
    }
}
