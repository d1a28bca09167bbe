//! Apps in Python.

/// Serves `answer`, which the app itself has.
const SERVES: &str = r#"
import http.server, os
class Visit(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = answer(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("0.0.0.0", int(os.environ["PORT"])), Visit).serve_forever()
"#;

/// An app that answers each visitor with the text that its `answer(path)` returns.
pub fn app(code: &str) -> String {
    format!("{code}{SERVES}")
}
