//! Ports, names, and the database's server.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::Check;
use crate::config::{Config, DatabaseUrl, Fallback};

/// Whether each address can be listened on, or already is by Orrery.
pub(super) fn ports(config: &Config) -> Vec<Check> {
    let edges = config.edge_listen.iter().map(|address| ("port of apps", *address));
    let tls = config.edge_tls_listen.iter().map(|address| ("port of apps by https", *address));
    std::iter::once(("port of the API", config.listen)).chain(edges).chain(tls).map(|(name, address)| port(name, address)).collect()
}

fn port(name: &str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match listener(address.port()) {
            Some((pid, program)) if program.starts_with("orrery") => Check::ok(name, format!("{address} is ours (process {pid})")),
            other => {
                let found = other
                    .map_or_else(|| format!("{address} is in use"), |(pid, program)| format!("{address} is in use by {program} ({pid})"));
                Check::fail(name, found, "`orrery serve` cannot listen there", "stop that program, or choose another port")
            }
        },
        Err(error) => Check::fail(
            name,
            format!("{address}: {error}"),
            "`orrery serve` cannot listen there",
            "choose another address or port; ports below 1024 need root",
        ),
    }
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

/// Whether the Redis that requests are counted in answers.
pub(super) fn limits(config: &Config) -> Option<Check> {
    let address = config.limits.redis()?;
    let meaning = match config.limits_fallback {
        Fallback::Local => "each control plane counts requests by itself, so that a key may ask more often than its limit says",
        Fallback::Refuse => "requests with a key are refused",
    };
    Some(match ops::limit::Shared::probe(address) {
        Ok(()) => Check::ok("rate limits", format!("{} answers", config.limits)),
        Err(error) => Check::warn(
            "rate limits",
            format!("{}: {error}", config.limits),
            meaning,
            "start it, or correct `limits` (Debian: redis-server)",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(socket.local_addr().unwrap().port()).unwrap().0, std::process::id());
    }
}
