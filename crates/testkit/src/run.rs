use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, EngineConfig};
use ops::Ops;
use runtime::Driver;

/// How long a dropped engine is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// An engine in a runtime of its own, so that it can be ended in the middle of anything.
pub(crate) struct Running {
    runtime: Option<tokio::runtime::Runtime>,
    engine: Option<Engine>,
}

impl Running {
    pub(crate) fn start(ops: Arc<Ops>, driver: Arc<dyn Driver>, config: EngineConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let engine = {
            let _inside = runtime.enter();
            Engine::start(ops, driver, config)
        };
        Self { runtime: Some(runtime), engine: Some(engine) }
    }

    pub(crate) async fn stop(mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
        }
    }

    /// Returns when no task of it can do anything any more.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take();
        tokio::task::spawn_blocking(move || drop(runtime)).await.expect("the runtime's end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // Whatever goes on would write into a folder that is being removed, and so keep a part of it. On a thread of its own, because one
        // that polls a test may not wait.
        let ended = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE)).join();
        assert!(ended.is_ok() || std::thread::panicking(), "the engine's runtime ended abnormally");
    }
}
