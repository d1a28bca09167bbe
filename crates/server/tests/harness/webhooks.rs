//! A receiver of webhooks on this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// The request's line and its headers.
    pub head: String,
    pub body: String,
}

impl Message {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// A receiver that answers its first message with this status, and all others with 200: its address, and what has come.
pub fn receiver(first: u16) -> (String, Arc<Mutex<Vec<Message>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let messages = Arc::<Mutex<Vec<Message>>>::default();
    let kept = messages.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut message = Message { head: String::new(), body: String::new() };
            while reader.read_line(&mut message.head).is_ok_and(|read| read > 2) {}
            let mut body = vec![0; message.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
            if reader.read_exact(&mut body).is_ok() {
                message.body = String::from_utf8_lossy(&body).into_owned();
                let mut kept = kept.lock().unwrap();
                let status = if kept.is_empty() { first } else { 200 };
                kept.push(message);
                let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                // Whoever does not read the answer sends again.
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        }
    });
    (url, messages)
}
