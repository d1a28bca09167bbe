//! One request from its headers to the last byte of its answer: what is counted, held and written down about it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{DeploymentId, Timestamp};
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};

use crate::access::Record;
use crate::headers;
use crate::pool::Sender;
use crate::routes::{Lease, LiveRoute};
use crate::worker::Conn;

/// What the log says of a client that left before there was an answer.
const CLIENT_LEFT: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// Dropping it ends the request, however that came about: the replica is free again, its connection goes back to the pool if it can be used
/// again, and the log gets its line.
pub(crate) struct Exchange {
    pub(crate) conn: Rc<Conn>,
    pub(crate) request_id: HeaderValue,
    pub(crate) accept: Option<HeaderValue>,
    pub(crate) route: Option<Arc<LiveRoute>>,
    pub(crate) lease: Option<Lease>,
    pub(crate) sender: Option<Sender>,
    /// The replica's answer was read to its end.
    pub(crate) complete: bool,
    pub(crate) status: Option<StatusCode>,
    pub(crate) sent: u64,
    /// Bytes of the request, where they do not pass through the body (after a switch of protocols).
    pub(crate) received: Option<u64>,
    pub(crate) upstream_errors: Vec<String>,
    pub(crate) details: &'static str,
    pub(crate) upstream_started: Option<Instant>,
    started: Instant,
    timestamp: Timestamp,
    method: Method,
    uri: Uri,
    version: Version,
    host: HeaderValue,
    client_ua: Option<HeaderValue>,
}

impl Exchange {
    pub(crate) fn begin<B>(conn: Rc<Conn>, request: &Request<B>) -> Box<Self> {
        let given = request.headers();
        let request_id = headers::sane_request_id(given).cloned().unwrap_or_else(|| conn.worker.request_id());
        Box::new(Self {
            request_id,
            accept: given.get(ACCEPT).cloned(),
            route: None,
            lease: None,
            sender: None,
            complete: false,
            status: None,
            sent: 0,
            received: None,
            upstream_errors: vec![],
            details: "",
            upstream_started: None,
            started: Instant::now(),
            timestamp: Timestamp::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: given.get(HOST).cloned().unwrap_or_else(|| HeaderValue::from_static("")),
            client_ua: given.get(USER_AGENT).cloned(),
            conn,
        })
    }

    pub(crate) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The deployment that answers or should have answered.
    pub(crate) fn deployment(&self) -> Option<DeploymentId> {
        let leased = self.lease.as_ref().map(|lease| lease.target.deployment_id);
        leased.or_else(|| self.route.as_ref()?.route.deployment_id)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let worker = &self.conn.worker;
        if let (true, Some(sender), Some(lease)) = (self.complete, self.sender.take(), &self.lease) {
            worker.pool.put(lease.target.replica_id, lease.target.address, sender, &worker.table());
        }
        let received = self.received.unwrap_or_else(|| self.conn.watch.received_bytes());
        self.conn.watch.end();
        let Some(route) = self.route.take() else { return };
        worker.log(Record {
            timestamp: self.timestamp,
            request_id: self.request_id.clone(),
            method: self.method.clone(),
            uri: self.uri.clone(),
            host: self.host.clone(),
            version: self.version,
            status: self.status.unwrap_or(CLIENT_LEFT).as_u16(),
            total: self.started.elapsed(),
            upstream: self.upstream_started.map_or(Duration::ZERO, |started| started.elapsed()),
            client_ua: self.client_ua.take(),
            peer: self.conn.peer,
            tx_bytes: self.sent,
            rx_bytes: received,
            upstream_errors: std::mem::take(&mut self.upstream_errors),
            details: if self.status.is_none() && self.details.is_empty() {
                "the client left before there was an answer"
            } else {
                self.details
            },
            route,
            target: self.lease.as_ref().map(|lease| (lease.target.replica_id, lease.target.deployment_id, lease.target.address)),
        });
    }
}
