//! A Redis server of the test's own, without anything on the disk.

#[path = "../../../server/tests/harness/ports.rs"]
#[allow(clippy::duplicate_mod, reason = "a test may have other servers that bring it along")]
mod ports;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let port = ports::free_port();
        Self { child: launch(port), port }
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Ends it without a word to its clients.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it at the same address, with nothing in it.
    pub(crate) fn start_again(&mut self) {
        self.child = launch(self.port);
    }
}

fn launch(port: u16) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("redis-server is installed: apt-get install redis-server");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("eady to accept connections")), "redis-server ended");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
