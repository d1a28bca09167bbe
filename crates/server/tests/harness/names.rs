//! DNS of a test's own.

/// A record's name, kind and data.
type Record = (String, u16, Vec<u8>);

/// A name server that knows what it is told.
pub struct Names {
    pub address: std::net::SocketAddr,
    records: std::sync::Arc<std::sync::Mutex<Vec<Record>>>,
}

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const TXT: u16 = 16;

/// A name as messages have it.
pub fn labels(name: &str) -> Vec<u8> {
    let parts = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    parts.chain([0]).collect()
}

impl Names {
    pub fn start() -> Self {
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let names = Self { address: socket.local_addr().unwrap(), records: std::sync::Arc::default() };
        let records = names.records.clone();
        std::thread::spawn(move || {
            let mut part = [0; 1500];
            while let Ok((length, asker)) = socket.recv_from(&mut part) {
                let answer = answer(&part[..length], &records.lock().unwrap());
                // An asker that is gone needs no answer.
                let _ = socket.send_to(&answer, asker);
            }
        });
        names
    }

    /// A further record.
    pub fn set(&self, name: &str, kind: u16, data: Vec<u8>) {
        self.records.lock().unwrap().push((name.to_owned(), kind, data));
    }
}

/// A DNS message with the records that a question asks for: header, the question again, answers that point to its name.
fn answer(question: &[u8], records: &[Record]) -> Vec<u8> {
    let (mut at, mut name) = (12, vec![]);
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let (name, end) = (name.join("."), at + 5);
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let found: Vec<_> = records.iter().filter(|(known, of, _)| *known == name && *of == kind).collect();
    let mut answer = [&question[..2], &[0x81, 0x80, 0, 1, 0, found.len() as u8, 0, 0, 0, 0], &question[12..end]].concat();
    for (_, kind, data) in found {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0]);
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    answer
}
