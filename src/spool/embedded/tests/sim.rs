//! Random lives of a store on a disk whose power can be cut, held against a reference that only
//! remembers what was answered.
//!
//! `SPOOL_SEED=n` repeats one life, `SPOOL_SEEDS=n` lives n of them. A seed fixes the operations, the
//! call at which the power goes and what of the unsynced is lost; how the store's threads meet is
//! the machine's affair. A life that fails is lived again without one operation after another, and
//! what is left is printed.

mod life;
mod model;
mod op;

use self::life::Life;
use self::op::Op;

/// Lives of each of the tests below in an ordinary run.
const SEEDS: u64 = 50;

fn seeds(first: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match (number("SPOOL_SEED"), number("SPOOL_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (first..first + count.unwrap_or(SEEDS)).collect(),
    }
}

async fn live(ops: &[Op], seed: u64) -> Result<(), String> {
    let mut life = Life::begin(seed);
    let mut lived = Ok(());
    for (index, op) in ops.iter().enumerate() {
        lived = life.step(op).await.map_err(|what| format!("operation {index}: {what}"));
        if lived.is_err() {
            break;
        }
    }
    if lived.is_ok() {
        lived = life.end().await;
    }
    lived.map_err(|what| format!("{what}\nlast calls: {:#?}", life.last_calls()))
}

/// Lives through `ops`; a failure is made as short as a few tries can.
async fn survive(ops: Vec<Op>, seed: u64) {
    let Err(mut failure) = live(&ops, seed).await else { return };
    let mut shortest = ops;
    let mut at = shortest.len();
    let mut tries = 60;
    while at > 0 && tries > 0 {
        (at, tries) = (at - 1, tries - 1);
        let mut shorter = shortest.clone();
        shorter.remove(at);
        if let Err(other) = live(&shorter, seed).await {
            (shortest, failure) = (shorter, other);
        }
    }
    let shortest: Vec<String> = shortest.iter().map(|op| format!("{op:?}")).collect();
    panic!("SPOOL_SEED={seed}: {failure}\nthe operations: {shortest:#?}");
}

async fn lives(first: u64, cuts: op::Cuts) {
    for seed in seeds(first) {
        survive(op::random(seed, cuts), seed).await;
    }
}

#[tokio::test]
async fn what_was_answered_survives_power_cuts_at_any_moment() {
    lives(0, op::Cuts::Power).await;
}

#[tokio::test]
async fn what_was_answered_survives_more_power_cuts() {
    lives(10_000, op::Cuts::Power).await;
}

#[tokio::test]
async fn what_was_answered_survives_kills_and_closes() {
    lives(20_000, op::Cuts::Kills).await;
}

#[tokio::test]
async fn what_was_answered_survives_every_kind_of_end() {
    lives(30_000, op::Cuts::All).await;
}

/// Cuts the power while each call of a fixed life runs, from the first to the last.
async fn each_call(part: u64, parts: u64) {
    let ops = op::script();
    let all = {
        let mut life = Life::begin(1);
        let first = life.calls();
        for op in &ops {
            life.step(op).await.unwrap();
        }
        life.calls() - first
    };
    assert!(all > 60, "{all} calls are no life");
    for call in (1..=all).filter(|call| call % parts == part) {
        let mut cut = vec![Op::CutIn(call)];
        cut.extend(ops.iter().cloned());
        let lived = live(&cut, call).await;
        lived.unwrap_or_else(|what| panic!("the power went at call {call} of {all}: {what}"));
    }
}

#[tokio::test]
async fn a_power_cut_in_any_odd_call_loses_nothing() {
    each_call(1, 2).await;
}

#[tokio::test]
async fn a_power_cut_in_any_even_call_loses_nothing() {
    each_call(0, 2).await;
}
