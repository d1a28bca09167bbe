//! An authority of a test's own: pebble, a real ACME server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::names::Names;

/// An authority that asks domains on the edge's port, and what its own server shows.
pub struct Pebble {
    child: Child,
    pub management: u16,
    pub trust: CertificateDer<'static>,
}

impl Pebble {
    /// Where its server's certificate lies, which must be there before it starts.
    pub fn certificate(dir: &Path) -> (PathBuf, PathBuf) {
        (dir.join("pebble.pem"), dir.join("pebble.key"))
    }

    pub fn prepare(dir: &Path) -> CertificateDer<'static> {
        let (certificate, key_file) = Self::certificate(dir);
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(certificate, made.pem()).unwrap();
        std::fs::write(key_file, key.serialize_pem()).unwrap();
        made.der().clone()
    }

    /// Certificates hold for so many seconds.
    pub fn start(dir: &Path, trust: CertificateDer<'static>, port: u16, edge: u16, names: &Names, seconds: u32) -> Self {
        let management = super::free_port();
        let (certificate, key) = Self::certificate(dir);
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": edge,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": seconds,
        }});
        let file = dir.join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("pebble");
        command.arg("-config").arg(file).arg("-dnsserver").arg(names.address.to_string());
        // It would otherwise dawdle, refuse one request in twenty, and not ask a domain again that it has asked a while ago.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0").env("PEBBLE_AUTHZREUSE", "0");
        let log = std::fs::File::create(dir.join("pebble.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().expect("pebble, of the Debian package of that name"), management, trust }
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
