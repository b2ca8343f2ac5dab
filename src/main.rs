//! The program: runs the command line and returns its exit code.

fn main() -> std::process::ExitCode {
    beacon_relay::cli::run()
}
