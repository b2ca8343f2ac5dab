//! The program: runs the command line and returns its exit code.

/// Gives back what a burst took: the machine's own allocator keeps pages that threads freed apart.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    beacon_relay::cli::run()
}
