//! For this crate's own tests: a program that enters sandboxes, as the server's does.

fn main() {
    runtime::sandbox::sandbox_exec_main()
}
