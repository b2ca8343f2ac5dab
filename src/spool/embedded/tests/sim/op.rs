//! What can happen in the life of a store.

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Events come in: each with a key or none, and the destinations it is owed to as bits.
    Append { events: Vec<New>, request: Option<u8> },
    /// Up to so many deliveries of a destination are leased and settled.
    Settle { to: u8, max: usize, how: How },
    /// Up to so many dead letters are put back in line.
    Replay(usize),
    /// Up to so many dead letters are dropped.
    Drop(usize),
    /// Time passes.
    Advance { minutes: u64 },
    /// Acknowledgements are synced.
    Flush,
    /// An orderly end and a new start.
    Close,
    /// The process is killed; the machine goes on.
    Kill,
    /// The power goes now.
    Cut,
    /// The power goes while the n-th call from now on runs.
    CutIn(u64),
    /// The next start is cut short too, while its n-th call runs.
    CutStart(u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct New {
    pub(super) key: Option<u8>,
    /// The key is remembered for three hours only.
    pub(super) short: bool,
    pub(super) to: u8,
    pub(super) len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Delivered,
    /// Due soon enough to wait in memory.
    RetrySoon,
    RetryLater,
    Dead,
    PutBack,
}

/// Which ends a life has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cuts {
    Power,
    Kills,
    All,
}

/// A life of some thirty operations.
pub(super) fn random(seed: u64, cuts: Cuts) -> Vec<Op> {
    let mut random = fastrand::Rng::with_seed(seed);
    let random = &mut random;
    (0..random.usize(15..40)).map(|_| one(random, cuts)).collect()
}

fn one(random: &mut fastrand::Rng, cuts: Cuts) -> Op {
    match random.u8(0..100) {
        0..35 => append(random),
        35..65 => Op::Settle { to: random.u8(0..3), max: random.usize(1..12), how: how(random) },
        65..70 => Op::Replay(random.usize(1..5)),
        70..73 => Op::Drop(random.usize(1..3)),
        73..79 => Op::Advance { minutes: random.u64(1..150) },
        79..83 => Op::Flush,
        83..86 => Op::Close,
        _ => match (cuts, random.u8(0..4)) {
            (Cuts::Kills, _) | (Cuts::All, 0) => Op::Kill,
            (Cuts::Power | Cuts::All, 1) => Op::Cut,
            (Cuts::Power | Cuts::All, 2) => Op::CutStart(random.u64(1..12)),
            (Cuts::Power | Cuts::All, _) => Op::CutIn(random.u64(1..40)),
        },
    }
}

fn append(random: &mut fastrand::Rng) -> Op {
    let count = if random.u8(0..5) == 0 { random.usize(8..40) } else { random.usize(1..5) };
    let events = (0..count).map(|_| New {
        key: (random.u8(0..3) > 0).then(|| random.u8(0..24)),
        short: random.u8(0..4) == 0,
        // Mostly one destination, sometimes all three.
        to: [1, 1, 2, 4, 3, 7][random.usize(0..6)],
        len: match random.u8(0..8) {
            0 => random.usize(2_000..9_000),
            1 => 0,
            _ => random.usize(1..300),
        },
    });
    let events = events.collect();
    Op::Append { events, request: (random.u8(0..4) == 0).then(|| random.u8(0..6)) }
}

fn how(random: &mut fastrand::Rng) -> How {
    match random.u8(0..10) {
        0..4 => How::Delivered,
        4 => How::RetrySoon,
        5 | 6 => How::RetryLater,
        7 | 8 => How::Dead,
        _ => How::PutBack,
    }
}

/// A life in which everything happens, short enough to be cut at each of its calls.
pub(super) fn script() -> Vec<Op> {
    let new = |key: u8, to, len| New { key: Some(key), short: false, to, len };
    let settle = |to, max, how| Op::Settle { to, max, how };
    let append = |events: &[New]| Op::Append { events: events.to_vec(), request: None };
    let mut ops = vec![
        append(&[new(1, 1, 10), new(2, 3, 200), new(3, 7, 3_000)]),
        settle(0, 1, How::Delivered),
        settle(0, 1, How::RetryLater),
        settle(1, 2, How::Dead),
        append(&[new(2, 3, 200), new(4, 1, 60_000), new(5, 1, 40_000)]),
        Op::Flush,
        settle(2, 1, How::RetrySoon),
        Op::Replay(1),
        append(&[new(6, 2, 50_000), new(7, 2, 50_000)]),
        settle(1, 9, How::Delivered),
        settle(0, 9, How::Delivered),
        Op::Flush,
        Op::Close,
        Op::Advance { minutes: 70 },
        Op::Drop(1),
    ];
    for key in 8..14 {
        ops.push(append(&[new(key, 1, 40_000)]));
        ops.push(settle(0, 9, How::Delivered));
        ops.push(Op::Flush);
    }
    ops
}
