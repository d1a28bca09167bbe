//! The request log: one JSON object a line in `log/NNNNNN.log`, for whoever collects it.
//!
//! Segments are only ever appended to and numbers never come back, so a reader that remembers (file, offset) reads every line once. A new
//! segment begins every 4 MB and at every start; the oldest beyond 16 are deleted. Request threads hand lines over in batches, so lines are only
//! roughly in the order of time, and never wait: when the disk is slower than the requests, lines are dropped and counted.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use domain::metric::MetricSource;
use domain::{DeploymentId, ReplicaId, Timestamp};
use http::{HeaderValue, Method, Uri, Version};

pub use domain::log::AccessLine;

use crate::routes::LiveRoute;

/// A segment ends when it is this large.
const SEGMENT: u64 = 4 * 1024 * 1024;
/// How many segments are kept.
const SEGMENTS: usize = 16;
/// Batches under way to the writer.
const BATCHES: usize = 64;
/// A path, host or user agent is cut here, so that one request cannot fill the log.
const TEXT: usize = 2048;

/// A request as the request threads hand it over: cheap to make, put into words by the writer.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) timestamp: Timestamp,
    pub(crate) request_id: HeaderValue,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) host: HeaderValue,
    pub(crate) version: Version,
    pub(crate) status: u16,
    pub(crate) total: Duration,
    pub(crate) upstream: Duration,
    pub(crate) client_ua: Option<HeaderValue>,
    pub(crate) peer: IpAddr,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) upstream_errors: Vec<String>,
    pub(crate) details: &'static str,
    pub(crate) route: Arc<LiveRoute>,
    pub(crate) target: Option<(ReplicaId, DeploymentId, SocketAddr)>,
}

impl Record {
    /// Whom it counts for.
    pub(crate) fn source(&self) -> MetricSource {
        let route = &self.route.route;
        MetricSource {
            workspace_id: route.workspace_id,
            project_id: route.project_id,
            environment_id: route.environment_id,
            service_id: route.service_id,
            replica: self.target.map(|(replica, deployment, _)| (deployment, replica)),
        }
    }

    fn line(&self) -> AccessLine {
        let text = |value: &HeaderValue| cut(&String::from_utf8_lossy(value.as_bytes())).to_owned();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let route = &self.route.route;
        AccessLine {
            timestamp: self.timestamp,
            request_id: text(&self.request_id),
            method: cut(self.method.as_str()).to_owned(),
            path: cut(self.uri.path()).to_owned(),
            host: crate::host::key(&text(&self.host)).into_owned(),
            status: self.status,
            total_duration: ms(self.total),
            upstream_rq_duration: ms(self.upstream),
            client_ua: self.client_ua.as_ref().map(text).unwrap_or_default(),
            src_ip: self.peer,
            tx_bytes: self.tx_bytes,
            rx_bytes: self.rx_bytes,
            upstream_address: self.target.map(|(_, _, address)| address.to_string()).unwrap_or_default(),
            upstream_proto: self.target.map(|_| "HTTP/1.1".to_owned()).unwrap_or_default(),
            downstream_proto: format!("{:?}", self.version),
            upstream_errors: self.upstream_errors.join("; "),
            response_details: self.details.to_owned(),
            workspace_id: route.workspace_id,
            project_id: route.project_id,
            environment_id: route.environment_id,
            service_id: route.service_id,
            deployment_id: self.target.map(|(_, deployment, _)| deployment).or(route.deployment_id),
            replica_id: self.target.map(|(replica, _, _)| replica),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}

/// Starts the thread that writes the log. It ends when every sender is gone, with everything written.
///
/// # Errors
/// When the folder cannot be made or written to.
pub(crate) fn start(dir: &Path) -> io::Result<(SyncSender<Vec<Record>>, std::thread::JoinHandle<()>)> {
    let mut spool = Spool::open(dir.join("log"))?;
    let (sender, batches) = std::sync::mpsc::sync_channel(BATCHES);
    let thread = std::thread::Builder::new().name("edge-log".into()).spawn(move || write_all(&mut spool, &batches))?;
    Ok((sender, thread))
}

fn write_all(spool: &mut Spool, batches: &Receiver<Vec<Record>>) {
    let mut failing = false;
    while let Ok(batch) = batches.recv() {
        let written = spool.append(&batch);
        if let Err(error) = &written
            && !failing
        {
            tracing::error!(%error, dir = %spool.dir.display(), "the request log cannot be written; requests go on without it");
        }
        failing = written.is_err();
    }
}

struct Spool {
    dir: PathBuf,
    number: u64,
    size: u64,
    file: BufWriter<File>,
}

impl Spool {
    fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let (number, file) = create_next(&dir, 0)?;
        Ok(Self { dir, number, size: 0, file: BufWriter::new(file) })
    }

    fn append(&mut self, batch: &[Record]) -> io::Result<()> {
        for record in batch {
            let mut line = serde_json::to_vec(&record.line())?;
            line.push(b'\n');
            if self.size > 0 && self.size + line.len() as u64 > SEGMENT {
                self.file.flush()?;
                let (number, file) = create_next(&self.dir, self.number)?;
                (self.number, self.size, self.file) = (number, 0, BufWriter::new(file));
            }
            self.size += line.len() as u64;
            self.file.write_all(&line)?;
        }
        self.file.flush()
    }
}

/// Makes the next segment and deletes the oldest. The highest number ever used is also kept in a file of its own, because the collector may have
/// deleted every segment.
fn create_next(dir: &Path, current: u64) -> io::Result<(u64, File)> {
    let remembered = fs::read_to_string(dir.join("last")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mut numbers = segments(dir)?;
    let mut number = numbers.last().copied().unwrap_or(0).max(remembered).max(current) + 1;
    let file = loop {
        match File::options().append(true).create_new(true).open(segment(dir, number)) {
            Ok(file) => break file,
            // During a change of processes two of them write here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    };
    fs::write(dir.join("last"), number.to_string())?;
    numbers.push(number);
    for old in &numbers[..numbers.len().saturating_sub(SEGMENTS)] {
        match fs::remove_file(segment(dir, *old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok((number, file))
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.log"))
}

fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = vec![];
    for entry in fs::read_dir(dir)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_even_when_the_collector_deletes_everything_and_few_segments_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = 0;
        for _ in 0..SEGMENTS + 3 {
            last = create_next(dir.path(), 0).unwrap().0;
        }
        assert_eq!(segments(dir.path()).unwrap(), (4..=19).collect::<Vec<_>>());
        for number in segments(dir.path()).unwrap() {
            fs::remove_file(segment(dir.path(), number)).unwrap();
        }
        assert_eq!(create_next(dir.path(), 0).unwrap().0, last + 1);
        assert!(dir.path().join("000020.log").exists());
    }
}
