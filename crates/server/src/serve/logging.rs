//! The server's own log, on standard error, without secrets.

use std::io::{self, Write};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// The steps by which an empty database gets its tables would be the first screenful that a newcomer reads.
const QUIET: &str = "refinery_core=warn";

/// Starts the log of this process.
pub(super) fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let wrong = || format!("log_filter is {filter:?}: write a level (error, warn, info, debug or trace), or parts like info,engine=debug");
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}")).with_context(wrong)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Redacted).with_target(false);
    let result = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    result.map_err(|error| anyhow::anyhow!(error))
}

/// Writes whole events to standard error after taking every key out of them.
#[derive(Clone, Copy)]
struct Redacted;

impl<'a> MakeWriter<'a> for Redacted {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        *self
    }
}

impl Write for Redacted {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        io::stderr().lock().write_all(domain::key::redact(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
