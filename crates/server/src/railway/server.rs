//! The server that stands in for Railway's.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::http::Uri;
use axum::http::uri::Scheme;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An Orrery server's address.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    tls: bool,
    /// Host and, if it was given, port: the `Host` header.
    authority: String,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// In front of every path; without a slash at the end.
    prefix: String,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a server's URL: write it like http://localhost:8080");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("the server's URL holds a user or password: leave it out, and set ORRERY_TOKEN".to_owned());
        }
        if uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self {
            tls,
            authority: authority.as_str().to_owned(),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.prefix)
    }
}

/// A connection to a server, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl Stream for TcpStream {}
impl Stream for tokio_rustls::client::TlsStream<TcpStream> {}

impl Server {
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the server is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let name = self.host.to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost") || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// A name for a folder, different for each server.
    pub(super) fn folder(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let text = format!("{scheme}-{}-{}{}", self.host, self.port, self.prefix).to_ascii_lowercase();
        text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).take(200).collect()
    }

    /// Says so when the token will cross a network in plain text.
    #[expect(clippy::print_stderr, reason = "a warning of a command line program")]
    pub(super) fn warn_when_exposed(&self) {
        if !self.tls && !self.is_local() {
            eprintln!("orrery: {self} is not encrypted: others on the network can read your token. Use https:// if the server has it.");
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .with_context(|| format!("{self} does not answer: start it with `orrery serve`, or name another with --server"))?;
        // Small frames of a log stream are not held back.
        socket.set_nodelay(true)?;
        if !self.tls {
            return Ok(Box::new(socket));
        }
        let name = ServerName::try_from(self.host.clone()).with_context(|| format!("{} is not a host name", self.host))?;
        let tls = TlsConnector::from(Arc::new(client_config()?)).connect(name, socket).await;
        Ok(Box::new(tls.with_context(|| format!("{self} has no certificate that this machine trusts"))?))
    }
}

fn client_config() -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    // What cannot be read is left out: a missing root shows as a certificate that is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let server: Server = "https://[::1]:8443/orrery/".parse().unwrap();
        assert_eq!((server.authority(), server.prefix(), server.is_local()), ("[::1]:8443", "/orrery", true));
        assert_eq!(server.to_string(), "https://[::1]:8443/orrery");
        let server: Server = "http://orrery.example.com".parse().unwrap();
        assert_eq!((server.port, server.is_local()), (80, false));
        for bad in ["localhost:8080", "ftp://x", "http://", "http://u:p@h", "http://h/?x=1", ""] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }
}
