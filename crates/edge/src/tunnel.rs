//! After a switch of protocols (websockets): bytes both ways until either side has had enough. Counts as one request in flight.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::exchange::Exchange;

pub(crate) fn start(client: OnUpgrade, replica: OnUpgrade, mut exchange: Box<Exchange>) {
    exchange.conn.watch.detach();
    exchange.received = Some(0);
    let worker = std::rc::Rc::clone(&exchange.conn.worker);
    worker.tasks.spawn_local(async move {
        let (client, replica) = match futures::future::try_join(client, replica).await {
            Ok((client, replica)) => (client, replica),
            Err(error) => {
                exchange.upstream_errors.push(format!("the switch of protocols failed: {error}"));
                exchange.details = "the switch of protocols failed";
                return;
            }
        };
        match tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(replica)).await {
            Ok((received, sent)) => (exchange.received, exchange.sent) = (Some(received), sent),
            // Either side may go without a word; that is how most of these end.
            Err(error) => exchange.upstream_errors.push(format!("the tunnel broke off: {error}")),
        }
    });
}
