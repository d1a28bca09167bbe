//! Programs that people start in their containers: the way from `ops::shell` to the driver.

use std::sync::Arc;

use domain::Code;
use ops::Error;
use ops::shell::ShellRequest;
use runtime::DriverError;

use crate::Shared;

/// Starts what is asked for until the engine stops, which ends what runs: a shell without its person is of no use.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut requests = shared.ops.shells.requests();
    loop {
        let request = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            request = requests.recv() => request,
        };
        let Some(request) = request else { return };
        shared.tracker.spawn(serve(shared.clone(), request));
    }
}

async fn serve(shared: Arc<Shared>, request: ShellRequest) {
    let ShellRequest { replica, spec, input, output, ended } = request;
    let end = match shared.driver.shell(replica, spec).await {
        Ok(shell) => tokio::select! {
            () = shared.shutdown.cancelled() => Err(Error::new(Code::Unavailable, "The server is being restarted: open the shell again")),
            end = shell.relay(input, output) => end.map_err(|error| Error::internal("the end of a shell", error)),
        },
        Err(DriverError::NotRunning(_)) => Err(Error::conflict("The app does not run just now: try again when it does")),
        Err(error) => Err(Error::internal("a shell could not be started", error)),
    };
    // Whoever asked may have gone already.
    let _ = ended.send(end);
}
