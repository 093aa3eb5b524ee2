use clap::Parser;

#[derive(Parser)]
enum Cli {
    Synth(hafuse::cli::synth::SynthArgs),
}

fn main() {
    let Cli::Synth(args) = Cli::parse();
    if let Err(e) = hafuse::cli::synth::run(&args) {
        eprintln!("error: {e}");
        std::process::exit(e.exit_code().into());
    }
}
