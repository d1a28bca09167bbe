//! Ports, names, and the database's server.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops::operator::State;

use super::Check;
use crate::config::{Config, DatabaseUrl, Fallback};

/// Whether each address can be listened on, or already is by Orrery.
pub(super) fn ports(config: &Config) -> Vec<Check> {
    let folder = config.data_dir.join("edge");
    let edges = config.edge_listen.iter().map(|address| ("port of apps", *address));
    let tls = config.edge_tls_listen.iter().map(|address| ("port of apps by https", *address));
    let edges = edges.chain(tls).map(|(name, address)| (name, address, Some(folder.as_path())));
    let all = std::iter::once(("port of the API", config.listen, None)).chain(edges);
    all.flat_map(|(name, address, edge)| {
        let others = twin(address).map(move |twin| port(name, twin, edge)).filter(|check| check.state != State::Ok);
        std::iter::once(port(name, address, edge)).chain(others)
    })
    .collect()
}

/// The same port of the other loopback address, which `serve` holds, too. It is spoken of where somebody else has it.
fn twin(address: SocketAddr) -> Option<SocketAddr> {
    let twin = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
    let needed = address.ip() == IpAddr::from(Ipv4Addr::LOCALHOST) && address.port() != 0;
    (needed && TcpListener::bind(twin).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)).then_some(twin)
}

/// Whether the address is free, or Orrery's: where apps are reached, that of the edge which has this folder.
fn port(name: &str, address: SocketAddr, edge: Option<&Path>) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let found = listener(address.port());
            let folder = found.as_ref().and_then(|(pid, _)| edge_folder(*pid));
            let found = match (found, folder) {
                (Some((pid, program)), folder) if program.starts_with("orrery") && folder.as_deref() == edge => {
                    return Check::ok(name, format!("{address} is ours (process {pid})"));
                }
                (Some((pid, _)), Some(other)) => format!("{address} is in use by the edge of {} ({pid})", other.display()),
                (Some((pid, program)), None) => format!("{address} is in use by {program} ({pid})"),
                (None, _) => format!("{address} is in use"),
            };
            Check::fail(name, found, "`orrery serve` cannot listen there", "stop that program, or choose another port")
        }
        Err(error) => Check::fail(
            name,
            format!("{address}: {error}"),
            "`orrery serve` cannot listen there",
            "choose another address or port; ports below 1024 need root",
        ),
    }
}

/// The folder of a process that is an edge.
fn edge_folder(pid: u32) -> Option<PathBuf> {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = command.split(|byte| *byte == 0).skip(1);
    let is_edge = arguments.next()? == b"edge" && arguments.next()? == b"--dir";
    is_edge.then(|| arguments.next().map(|folder| PathBuf::from(std::ffi::OsStr::from_bytes(folder)))).flatten()
}

/// The process that listens on a TCP port of this machine, as far as this user may see it.
fn listener(port: u16) -> Option<(u32, String)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<&str> = tables.iter().flat_map(|table| table.lines()).filter_map(|line| listening_inode(line, port)).collect();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes of other users, and those that have just ended, cannot be looked into.
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let mut links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        if links.any(|link| inodes.iter().any(|inode| link.as_os_str() == format!("socket:[{inode}]").as_str())) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// The inode in a line of /proc/net/tcp, if it listens on `port`.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let here = fields.get(1)?.rsplit(':').next()?;
    (*fields.get(3)? == LISTEN && u16::from_str_radix(here, 16) == Ok(port)).then(|| fields.get(9).copied()).flatten()
}

/// Whether the names of apps lead to this machine.
pub(super) fn names(base_domain: &str) -> Check {
    let name = format!("orrery-doctor.{base_domain}");
    let title = "names of apps";
    let first = (name.as_str(), 80).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    match first {
        Some(address) if base_domain != "localhost" || address.ip().is_loopback() => {
            Check::ok(title, format!("*.{base_domain} is {}", address.ip()))
        }
        _ if base_domain == "localhost" => Check::warn(
            title,
            "*.localhost is not resolved by the system",
            "browsers and curl know these names themselves; other programs do not find the apps",
            "install libnss-myhostname",
        ),
        _ => Check::warn(
            title,
            format!("*.{base_domain} is not resolved"),
            "nobody finds the apps under their names",
            format!("add the DNS record *.{base_domain} with this machine's address"),
        ),
    }
}

/// Whether the name server answers that is asked whose a custom domain is.
pub(super) fn name_server(config: &Config) -> Check {
    let title = "custom domains";
    let address = match config.dns_resolver.0 {
        engine::DnsConfig::Off if config.base_domain == "localhost" => {
            return Check::ok(title, "count as proved at once: dns_resolver is off");
        }
        engine::DnsConfig::Off => {
            let meaning = "whoever writes a name down gets its requests, whoever owns it";
            return Check::warn(title, "count as proved at once: dns_resolver is off", meaning, "set dns_resolver to system or an address");
        }
        engine::DnsConfig::System => {
            let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let first = text.lines().find_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
            // Without a line, the resolver of the C library asks this machine.
            SocketAddr::from((first.unwrap_or(IpAddr::from(Ipv4Addr::LOCALHOST)), 53))
        }
        engine::DnsConfig::Server(address) => address,
    };
    match answers(address, &config.base_domain) {
        Ok(()) => Check::ok(title, format!("{address} answers")),
        Err(error) => Check::warn(
            title,
            format!("{address}: {error}"),
            "nobody can prove that a domain is theirs, and new custom domains are not routed",
            "correct dns_resolver, or let the machine reach its name server",
        ),
    }
}

/// Asks for an address of the name; any answer will do.
fn answers(server: SocketAddr, name: &str) -> std::io::Result<()> {
    const RECURSION_DESIRED: u16 = 0x0100;
    let here = if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((here, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut question: Vec<u8> = [0x4f52, RECURSION_DESIRED, 1, 0, 0, 0].iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        question.push(u8::try_from(label.len()).unwrap_or(63));
        question.extend(label.bytes().take(63));
    }
    // The root, an address, of the internet.
    question.extend([0, 0, 1, 0, 1]);
    socket.send(&question)?;
    socket.recv(&mut [0; 512]).map(|_| ())
}

/// Whether a configured PostgreSQL server accepts connections.
pub(super) fn database(url: &DatabaseUrl) -> Option<Check> {
    let name = "database";
    let remedy = "start it, or correct `database`; without one, SQLite needs no server (Debian: postgresql)";
    if !url.is_postgres() {
        return None;
    }
    if let Some(socket) = url.socket() {
        return Some(match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => Check::ok(name, format!("{url} answers")),
            Err(error) => Check::fail(name, format!("{url}: {error}"), "`orrery serve` cannot start", remedy),
        });
    }
    let place = url.place();
    let mut addresses = place.to_socket_addrs().into_iter().flatten();
    if addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok()) {
        return Some(Check::ok(name, format!("{url} answers")));
    }
    Some(Check::fail(name, format!("{url} does not answer"), "`orrery serve` cannot start", remedy))
}

/// Where requests are counted, and whether a Redis that is to do so answers.
pub(super) fn limits(config: &Config) -> Check {
    let Some(address) = config.limits.redis() else {
        return Check::ok("rate limits", "requests are counted by this control plane alone");
    };
    let meaning = match config.limits_fallback {
        Fallback::Local => "each control plane counts requests by itself, so that a key may ask more often than its limit says",
        Fallback::Refuse => "requests with a key are refused",
    };
    match ops::limit::Shared::probe(address) {
        Ok(()) => Check::ok("rate limits", format!("{} answers", config.limits)),
        Err(error) => Check::warn(
            "rate limits",
            format!("{}: {error}", config.limits),
            meaning,
            "start it, or correct `limits` (Debian: redis-server)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        // The kernel tells its sockets page by page, and one that others close in between can hide ours.
        let found = (0..100).find_map(|_| listener(socket.local_addr().unwrap().port()));
        assert_eq!(found.unwrap().0, std::process::id());
    }
}
