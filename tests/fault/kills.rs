//! Rounds of load, a kill at a random moment, files spoiled while nobody looks, and a new start:
//! what was answered 202 must arrive, and how often it arrived twice is told.
//!
//! `BEACON_ROUNDS=1000` before a release, `BEACON_SEED=n` for other moments. How much comes in until
//! then is the machine's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use beacon_relay::sandbox::Filter;
use tokio::time::sleep;

use crate::Load;
use crate::program::Program;
use crate::support::FakeUpstream;

/// Rounds of an ordinary run.
const ROUNDS: usize = 25;

/// What the moments, the weather and what is spoiled are drawn from in an ordinary run.
const SEED: u64 = 1;

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// What happens to the upstream while orders come in.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fine,
    /// It answers 503, and goes on doing so over the kill.
    Outage,
    /// Every fifth answer gets lost on the way back.
    Losses,
    /// It goes away and comes back.
    Restart,
}

/// What is done to the files of a relay that was killed. Nothing of it touches what was synced.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    Nothing,
    /// Bytes behind the end of the newest segment's file.
    Appended,
    /// Bytes behind its last record.
    Tail,
    /// The zeros at its end are cut off.
    Cut,
    /// An acknowledgement file ends early.
    Acks,
    /// The note of what is synced is garbage.
    Note,
}

/// How often each order arrived.
#[derive(Default)]
struct Arrivals(BTreeMap<usize, u32>);

impl Arrivals {
    /// Takes over what arrived, while no relay runs that could send more.
    fn take(&mut self, upstream: &FakeUpstream) {
        for event in upstream.sandbox.events(&Filter::default()) {
            let order = event.order_id.as_deref().and_then(|id| id.parse().ok());
            *self.0.entry(order.expect("ours")).or_default() += 1;
        }
        upstream.sandbox.forget();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_202_survives_a_kill_at_any_moment() {
    let seed = number("BEACON_SEED").unwrap_or(SEED);
    let mut random = fastrand::Rng::with_seed(seed);
    let rounds = number("BEACON_ROUNDS").unwrap_or(ROUNDS);
    println!("BEACON_SEED={seed}, {rounds} rounds");
    let mut upstream = FakeUpstream::start().await;
    let (dir, next) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(1000)));
    let (mut accepted, mut arrivals) = (BTreeSet::new(), Arrivals::default());
    let (mut spoiled, mut named) = (0, 0);
    for round in 0..rounds {
        let program = Program::start_small(dir.path(), upstream.addr()).await;
        let load = Load::on(&program, &next).await;
        let weather = [Weather::Fine, Weather::Outage, Weather::Losses, Weather::Restart];
        upstream = blow(weather[random.usize(0..4)], upstream, &mut random).await;
        program.killed().await;
        accepted.append(&mut load.accepted().await);
        arrivals.take(&upstream);
        let spoil = random.choice(SPOILS).unwrap_or(Spoil::Nothing);
        if spoil_files(dir.path(), spoil, &mut random) {
            spoiled += 1;
            named += usize::from(is_named(dir.path(), spoil, round));
        }
    }
    assert!(accepted.len() > 100, "{} orders are no load", accepted.len());
    assert!(spoiled < 4 || named > 0, "none of {spoiled} was named");
    upstream.misbehave("{}");
    let program = Program::start_small(dir.path(), upstream.addr()).await;
    program.settled().await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    arrivals.take(&upstream);
    let lost: Vec<_> = accepted.iter().filter(|n| !arrivals.0.contains_key(n)).collect();
    let again: u32 = arrivals.0.values().map(|times| times - 1).sum();
    println!(
        "{} answered 202, {} lost, {again} arrived again; files spoiled {spoiled} times, named \
         {named} times",
        accepted.len(),
        lost.len()
    );
    let first = &lost[..lost.len().min(10)];
    assert!(lost.is_empty(), "{} answered 202 were lost, the first {first:?}", lost.len());
}

const SPOILS: [Spoil; 8] = [
    Spoil::Nothing,
    Spoil::Nothing,
    Spoil::Nothing,
    Spoil::Appended,
    Spoil::Tail,
    Spoil::Cut,
    Spoil::Acks,
    Spoil::Note,
];

/// Lets some time pass under load.
async fn blow(
    weather: Weather,
    upstream: FakeUpstream,
    random: &mut fastrand::Rng,
) -> FakeUpstream {
    let mut wait = |most| Duration::from_millis(random.u64(10..most));
    upstream.misbehave(match weather {
        Weather::Fine | Weather::Restart => "{}",
        Weather::Outage => r#"{"status":503}"#,
        Weather::Losses => r#"{"reset":"after","share":0.2}"#,
    });
    match weather {
        Weather::Fine | Weather::Outage | Weather::Losses => {
            sleep(wait(500)).await;
            upstream
        }
        Weather::Restart => {
            sleep(wait(200)).await;
            let gone = upstream.stopped().await;
            sleep(wait(200)).await;
            let upstream = gone.again().await;
            sleep(wait(200)).await;
            upstream
        }
    }
}

/// The newest file of a directory that ends so.
pub(crate) fn newest(dir: &Path, suffix: &str) -> Option<PathBuf> {
    let paths = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let ours = paths.filter(|path| path.to_string_lossy().ends_with(suffix));
    ours.max_by_key(|path| {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        stem.and_then(|stem| stem.parse::<u64>().ok())
    })
}

/// Spoils a file; `false` when there is none to be spoiled so.
fn spoil_files(data: &Path, spoil: Spoil, random: &mut fastrand::Rng) -> bool {
    let garbage: Vec<u8> = (0..random.usize(1..300) | 1).map(|_| random.u8(1..)).collect();
    let (path, is_log) = match spoil {
        Spoil::Nothing => return false,
        Spoil::Appended | Spoil::Tail | Spoil::Cut => (newest(&data.join("log"), ".seg"), true),
        Spoil::Acks => (newest(&data.join("log"), ".ack"), false),
        Spoil::Note => (Some(data.join("noted")), false),
    };
    let Some(path) = path else { return false };
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let size = file.metadata().unwrap().len();
    let bytes = if is_log { fs::read(&path).unwrap() } else { Vec::new() };
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    match spoil {
        Spoil::Nothing => {}
        Spoil::Appended => file.write_all_at(&garbage, size).unwrap(),
        Spoil::Tail if end + 1024 < size => {
            file.write_all_at(&garbage, end.next_multiple_of(8)).unwrap();
        }
        Spoil::Cut if end + 1024 < size => file.set_len(end.next_multiple_of(8) + 100).unwrap(),
        Spoil::Tail | Spoil::Cut => return false,
        Spoil::Acks => file.set_len(random.u64(0..=size)).unwrap(),
        Spoil::Note => file.write_all_at(&garbage, 0).unwrap(),
    }
    true
}

/// Whether `spool verify` names a file that was spoiled. It may keep silent where a file was used
/// before, or where nothing that counts was hit.
fn is_named(data: &Path, spoil: Spoil, round: usize) -> bool {
    let mut verify = Command::new(env!("CARGO_BIN_EXE_beacon-relay"));
    let verify = verify.args(["spool", "verify", "--data-dir"]).arg(data).output().unwrap();
    let told = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(!told.contains("lost"), "round {round}, {spoil:?}: {told}");
    match verify.status.code() {
        Some(0) => false,
        Some(1) => true,
        other => panic!("round {round}, {spoil:?}: {other:?} {told}"),
    }
}
