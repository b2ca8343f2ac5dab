//! What a crash leaves behind: where it happened, and nothing of a body.
//!
//! Bodies with raw identity are in memory for a moment. A core dump would write them to disk, and
//! a panic's message may quote the text that it stumbled over.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids this process to dump its memory, and makes its panics say no more than they may.
pub fn leave_nothing() {
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let (thread, place) = (thread.name().unwrap_or("unnamed"), panic.location());
        let place = place.map(ToString::to_string).unwrap_or_default();
        let words = words(panic.payload());
        // Names of functions, when RUST_BACKTRACE asks for them.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!(thread, place, words, %trace, "panicked: this is a bug");
        } else {
            tracing::error!(thread, place, words, "panicked: this is a bug");
        }
    }));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be forbidden: one would hold bodies");
    }
}

/// What a panic says, when it was written down in the program: what was put together as it ran may
/// hold anything, as the text that an index is not within.
fn words(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("withheld: they may quote a body")
}

#[cfg(test)]
mod tests {
    use super::words;

    fn said(panics: impl FnOnce() + std::panic::UnwindSafe) -> &'static str {
        words(&*std::panic::catch_unwind(panics).unwrap_err())
    }

    #[test]
    fn a_panic_says_what_was_written_down_and_never_what_it_stumbled_over() {
        assert_eq!(said(|| panic!("a plain fault")), "a plain fault");
        let text = std::hint::black_box("canaryé".to_owned());
        let withheld = "withheld: they may quote a body";
        assert_eq!(said(|| panic!("what came was {text}")), withheld);
        let text = std::hint::black_box("canaryé".to_owned());
        assert_eq!(said(move || drop(text[..7].to_owned())), withheld);
        let failed: Result<(), String> = std::hint::black_box(Err("canary".to_owned()));
        assert_eq!(said(move || failed.expect("it cannot fail")), withheld);
    }
}
