//! Patterns as automata, which read a text once, whatever it is.
//!
//! Most patterns of schemas have neither back-references nor look-around but at their start; for
//! these the answer costs about a nanosecond a byte, where backtracking costs a third of a
//! microsecond at the least and may cost for ever.

mod syntax;

use std::collections::HashMap;

use syntax::{Condition, Tree};

/// ASCII, and three symbols for the rest of Unicode.
const SYMBOLS: usize = 131;
/// A character beyond ASCII that is neither of the next two.
const BEYOND: usize = 128;
/// White space beyond ASCII, line ends excepted.
const BEYOND_SPACE: usize = 129;
/// U+2028 and U+2029.
const BEYOND_LINE_END: usize = 130;

/// States of an automaton and parts of a pattern that are still worth a table: half a MiB of it.
const STATES_MAX: usize = 1_000;
const PARTS_MAX: usize = 2_000;

/// A set of symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set(u128, u8);

impl Set {
    const NONE: Self = Self(0, 0);
    const ALL: Self = Self(u128::MAX, 0b111);
    const DIGITS: Self = Self(0x3ff << 48, 0);
    const WORD: Self = Self(0x3ff << 48 | 0x3ff_ffff << 65 | 0x3ff_ffff << 97 | 1 << 95, 0);
    /// Tab to carriage return, and space.
    const SPACES: Self = Self(0b1_1111 << 9 | 1 << 32, 0b110);
    const NO_LINE_END: Self = Self(!(1 << 10 | 1 << 13), 0b011);

    /// Nothing when one symbol stands for the character and for others.
    fn of(one: char) -> Option<Self> {
        Self::range(one, one)
    }

    fn range(first: char, last: char) -> Option<Self> {
        let (first, last) = (u32::from(first), u32::from(last));
        (first <= last && last < 128).then(|| {
            let up_to_last = u128::MAX >> (127 - last);
            Self(up_to_last >> first << first, 0)
        })
    }

    /// The character of a set of one.
    fn single(self) -> Option<char> {
        let is_single = self.0.count_ones() == 1 && self.1 == 0;
        let at = u8::try_from(self.0.trailing_zeros()).ok().filter(|_| is_single)?;
        Some(char::from(at))
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0, self.1 | other.1)
    }

    const fn without(self) -> Self {
        Self(!self.0, !self.1 & 0b111)
    }

    const fn has(self, symbol: usize) -> bool {
        if symbol < 128 { self.0 >> symbol & 1 == 1 } else { self.1 >> (symbol - 128) & 1 == 1 }
    }
}

fn symbol(c: char) -> usize {
    match c {
        '\0'..='\x7f' => c as usize,
        '\u{2028}' | '\u{2029}' => BEYOND_LINE_END,
        '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{3000}'
        | '\u{feff}' => BEYOND_SPACE,
        _ => BEYOND,
    }
}

/// A pattern, as automata that must or must not take the text.
#[derive(Debug)]
pub(super) struct Automata(Vec<Automaton>);

#[derive(Debug)]
struct Automaton {
    /// For each state and symbol where the next state's stretch starts. The first state leads
    /// nowhere, the second is where a text starts.
    table: Vec<u32>,
    takes: Vec<bool>,
    is_wanted: bool,
    /// The one character that a text must not hold, when nothing else is asked.
    but: Option<u8>,
}

impl Automata {
    /// Automata for a valid pattern; nothing when it is beyond them.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let conditions = syntax::conditions(pattern)?;
        conditions.iter().map(Automaton::of).collect::<Option<_>>().map(Self)
    }

    /// Whether the pattern is found in `text`.
    pub(super) fn find(&self, text: &str) -> bool {
        let is_ascii = text.is_ascii();
        self.0.iter().all(|automaton| {
            let takes = if let Some(one) = automaton.but {
                !text.as_bytes().contains(&one)
            } else if is_ascii {
                automaton.takes(text.bytes().map(usize::from))
            } else {
                automaton.takes(text.chars().map(symbol))
            };
            takes == automaton.is_wanted
        })
    }
}

impl Automaton {
    fn takes(&self, symbols: impl Iterator<Item = usize>) -> bool {
        let mut state = SYMBOLS;
        for symbol in symbols {
            state = self.table[state + symbol] as usize;
            if state == 0 {
                return false;
            }
        }
        self.takes[state / SYMBOLS]
    }

    /// The automaton whose states are the sets of parts that a text may have reached.
    fn of(condition: &Condition) -> Option<Self> {
        let mut parts = Parts(vec![Part::End]);
        let first = parts.add(&condition.tree, 0)?;
        let mut states = States { known: HashMap::new(), order: Vec::new() };
        states.number(Vec::new())?;
        states.number(parts.reached([first]))?;
        let (mut table, mut takes) = (Vec::new(), Vec::new());
        while let Some(state) = states.order.get(takes.len()).cloned() {
            takes.push(state.contains(&0));
            for symbol in 0..SYMBOLS {
                let next = state.iter().filter_map(|at| match parts.0[*at] {
                    Part::One(set, next) if set.has(symbol) => Some(next),
                    Part::One(..) | Part::Fork(..) | Part::End => None,
                });
                table.push(states.number(parts.reached(next))?);
            }
        }
        Some(Self { table, takes, is_wanted: condition.is_wanted, but: condition.tree.all_but() })
    }
}

/// Sets of parts, and where their stretches of the table start, as they are met.
struct States {
    known: HashMap<Vec<usize>, u32>,
    order: Vec<Vec<usize>>,
}

impl States {
    fn number(&mut self, state: Vec<usize>) -> Option<u32> {
        if let Some(number) = self.known.get(&state) {
            return Some(*number);
        }
        let start = self.order.len() * SYMBOLS;
        let number = u32::try_from(start).ok().filter(|_| self.order.len() < STATES_MAX)?;
        self.order.push(state.clone());
        self.known.insert(state, number);
        Some(number)
    }
}

/// A step that a text takes through a pattern. Part 0 is its end.
#[derive(Clone, Copy, Debug)]
enum Part {
    End,
    One(Set, usize),
    Fork(usize, usize),
}

struct Parts(Vec<Part>);

impl Parts {
    fn push(&mut self, part: Part) -> Option<usize> {
        self.0.push(part);
        (self.0.len() <= PARTS_MAX).then(|| self.0.len() - 1)
    }

    /// Writes `tree` out in front of the part `next`; the first part of it.
    fn add(&mut self, tree: &Tree, next: usize) -> Option<usize> {
        match tree {
            Tree::One(set) => self.push(Part::One(*set, next)),
            Tree::Row(row) => row.iter().rev().try_fold(next, |next, one| self.add(one, next)),
            Tree::Either(branches) => {
                let (first, others) = branches.split_first()?;
                let first = self.add(first, next)?;
                others.iter().try_fold(first, |above, branch| {
                    let branch = self.add(branch, next)?;
                    self.push(Part::Fork(above, branch))
                })
            }
            Tree::Times(one, least, most) => {
                let mut next = next;
                match most {
                    None => {
                        let fork = self.push(Part::Fork(next, next))?;
                        let body = self.add(one, fork)?;
                        self.0[fork] = Part::Fork(body, next);
                        next = fork;
                    }
                    Some(most) => {
                        let behind = next;
                        for _ in *least..*most {
                            let body = self.add(one, next)?;
                            next = self.push(Part::Fork(body, behind))?;
                        }
                    }
                }
                (0..*least).try_fold(next, |next, _| self.add(one, next))
            }
        }
    }

    /// The parts that wait for a symbol, or are the end, from here on; ordered.
    fn reached(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut open: Vec<usize> = from.into_iter().collect();
        let mut seen = vec![false; self.0.len()];
        let mut reached = Vec::new();
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            match self.0[at] {
                Part::Fork(left, right) => open.extend([left, right]),
                Part::One(..) | Part::End => reached.push(at),
            }
        }
        reached.sort_unstable();
        reached
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// What the backtracking engine finds.
    fn found(pattern: &str, text: &str) -> bool {
        let flags = regress::Flags { unicode: true, ..regress::Flags::default() };
        regress::Regex::with_flags(pattern, flags).unwrap().find(text).is_some()
    }

    const PATTERNS: [&str; 22] = [
        "",
        "^$",
        "a|b",
        "^a",
        "a$",
        "^(?:a|bc)+$",
        "^[^a-c]*$",
        "^.$",
        r"\s",
        r"^\S+$",
        r"^\W\w\D\d$",
        "^a{2}b{1,}c{0,2}$",
        "^(?!.*b).*$",
        "^(?=a)(?!ab$)a.*$",
        "(?:a?){3}b",
        "^(?:a*)*$",
        "^(?:a*?b+?|)+$",
        r"^[\s()./+-]+$",
        r"^[+\-.\]]+$",
        r"^(?!(?:[\s()./+-]*\d){2,4}[\s()./+-]*$)[^@]*$",
        r"^(?!\s*\+[\s()./-]*\d[\d\s()./-]*$)[^@]*$",
        "[a-]{2}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(1),
            ..ProptestConfig::default()
        })]

        #[test]
        fn an_automaton_finds_what_backtracking_finds(
            text in "[abc+.@ 09\\-\\]\n\u{a0}\u{2028}\u{e9}]{0,9}",
        ) {
            for pattern in PATTERNS {
                let automata = Automata::of(pattern).expect(pattern);
                prop_assert_eq!(automata.find(&text), found(pattern, &text), "{} {:?}", pattern, text);
            }
        }
    }

    #[test]
    fn what_is_beyond_an_automaton_is_left_alone() {
        for pattern in [
            r"(a)\1",
            r"\bx",
            "a(?!b)",
            "(?<=a)b",
            "^a|b",
            "a|b$",
            r"\p{L}",
            "é",
            "[é]",
            r"\u0041",
            "(?<n>a)",
            "^a{1000}$",
            "(^a)",
            "^(?:a|b){250}(?:a|b){250}(?:a|b){250}(?:a|b){250}$",
            "a$b",
            "(?:.*a.{12})$",
        ] {
            assert!(Automata::of(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn a_text_that_backtracking_never_ends_on_is_read_once() {
        let automata = Automata::of("^(?:a+)+$").unwrap();
        assert!(!automata.find(&format!("{}b", "a".repeat(100_000))));
        assert!(automata.find(&"a".repeat(100_000)));
    }
}
