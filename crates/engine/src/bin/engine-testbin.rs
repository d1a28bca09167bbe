//! For this crate's own tests: a program that enters sandboxes and performs nodes there, as the server's does.

fn main() {
    if std::env::args().nth(1).as_deref() == Some(engine::NODE_WORKER) {
        engine::node_worker_main();
    } else {
        runtime::sandbox::sandbox_exec_main()
    }
}
