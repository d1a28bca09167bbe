use std::sync::Arc;

use engine::{Engine, EngineConfig};
use ops::Ops;
use runtime::Driver;

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
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
