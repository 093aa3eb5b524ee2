use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match hafuse::cli::run(hafuse::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            hafuse::cli::print_error(&e);
            ExitCode::from(hafuse::cli::exit_code(&e))
        }
    }
}
