//! The binary `orrery`: one program, a role per subcommand.

mod admin;
mod cli;
mod config;
mod doctor;
mod railway;
mod serve;
mod static_files;
mod surface;
mod token;

fn main() -> std::process::ExitCode {
    cli::run()
}
