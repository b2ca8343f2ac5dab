//! The patterns that an automaton can stand for, read into a tree.
//!
//! The reader is given patterns that are known to be valid; whatever it does not know it gives
//! back as nothing, and the pattern is left to the backtracking engine.

use super::Set;

/// The longest count of a quantifier that is worth writing out.
const COUNT_MAX: u32 = 256;

#[derive(Clone, Debug)]
pub(super) enum Tree {
    One(Set),
    /// One after another; nothing at all when empty.
    Row(Vec<Tree>),
    Either(Vec<Tree>),
    /// At least, and at most when that is told.
    Times(Box<Tree>, u32, Option<u32>),
}

impl Tree {
    /// The one ASCII character that must not be there, when all others may in any number.
    pub(super) fn all_but(&self) -> Option<u8> {
        match self {
            Self::Row(row) => match &row[..] {
                [one] => one.all_but(),
                _ => None,
            },
            Self::Times(one, 0, None) => match **one {
                Self::One(set) => set.without().single().and_then(|one| u8::try_from(one).ok()),
                Self::Row(_) | Self::Either(_) | Self::Times(..) => None,
            },
            Self::One(_) | Self::Either(_) | Self::Times(..) => None,
        }
    }
}

/// A condition on the whole text.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) tree: Tree,
    /// Whether the text must fulfil it, or must not.
    pub(super) is_wanted: bool,
}

/// Reads `^`, conditions as `(?!…)` and `(?=…)`, a tree and `$`, of which the tree alone must be.
pub(super) fn conditions(pattern: &str) -> Option<Vec<Condition>> {
    let mut reader = Reader { rest: pattern };
    let mut conditions = Vec::new();
    let is_from_start = reader.takes("^");
    let ahead: &[(&str, bool)] = if is_from_start { &[("(?!", false), ("(?=", true)] } else { &[] };
    while let Some((_, is_wanted)) = ahead.iter().find(|(token, _)| reader.takes(token)) {
        let tree = reader.anchored(true)?;
        conditions.push(Condition { tree, is_wanted: *is_wanted });
        if !reader.takes(")") {
            return None;
        }
    }
    let tree = reader.anchored(is_from_start)?;
    conditions.push(Condition { tree, is_wanted: true });
    reader.rest.is_empty().then_some(conditions)
}

struct Reader<'p> {
    rest: &'p str,
}

fn anything() -> Tree {
    Tree::Times(Box::new(Tree::One(Set::ALL)), 0, None)
}

impl Reader<'_> {
    fn takes(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let first = self.rest.chars().next()?;
        self.rest = &self.rest[first.len_utf8()..];
        Some(first)
    }

    /// A tree with what may stand before and behind it in the text.
    fn anchored(&mut self, is_from_start: bool) -> Option<Tree> {
        let tree = self.either()?;
        let is_to_end = self.takes("$");
        // An anchor binds one alternative alone.
        if matches!(tree, Tree::Either(_)) && (is_from_start || is_to_end) {
            return None;
        }
        let mut row = Vec::new();
        if !is_from_start {
            row.push(anything());
        }
        row.push(tree);
        if !is_to_end {
            row.push(anything());
        }
        Some(Tree::Row(row))
    }

    fn either(&mut self) -> Option<Tree> {
        let mut branches = vec![self.row()?];
        while self.takes("|") {
            branches.push(self.row()?);
        }
        if branches.len() == 1 { branches.pop() } else { Some(Tree::Either(branches)) }
    }

    fn row(&mut self) -> Option<Tree> {
        let mut row = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')', '$']) {
            let one = self.one()?;
            row.push(self.quantified(one)?);
        }
        Some(Tree::Row(row))
    }

    fn one(&mut self) -> Option<Tree> {
        if self.takes("(") {
            if self.rest.starts_with('?') && !self.takes("?:") {
                return None;
            }
            let tree = self.either()?;
            return self.takes(")").then_some(tree);
        }
        match self.next()? {
            '.' => Some(Tree::One(Set::NO_LINE_END)),
            '[' => self.class(),
            '\\' => self.escape(false).map(Tree::One),
            '^' | '*' | '+' | '?' | '{' | '}' | ']' => None,
            plain => Set::of(plain).map(Tree::One),
        }
    }

    fn quantified(&mut self, tree: Tree) -> Option<Tree> {
        let (least, most) = if self.takes("*") {
            (0, None)
        } else if self.takes("+") {
            (1, None)
        } else if self.takes("?") {
            (0, Some(1))
        } else if self.takes("{") {
            let (inside, rest) = self.rest.split_once('}')?;
            self.rest = rest;
            match inside.split_once(',') {
                None => (inside.parse().ok()?, Some(inside.parse().ok()?)),
                Some((least, "")) => (least.parse().ok()?, None),
                Some((least, most)) => (least.parse().ok()?, Some(most.parse().ok()?)),
            }
        } else {
            return Some(tree);
        };
        // Lazy or not, the same texts match.
        self.takes("?");
        let is_short = most.unwrap_or(least) <= COUNT_MAX && least <= COUNT_MAX;
        is_short.then(|| Tree::Times(Box::new(tree), least, most))
    }

    fn class(&mut self) -> Option<Tree> {
        let is_negated = self.takes("^");
        let mut set = Set::NONE;
        while !self.takes("]") {
            let (part, first) = self.member()?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            if !is_range {
                set = set.with(part);
                continue;
            }
            self.takes("-");
            let (_, last) = self.member()?;
            set = set.with(Set::range(first?, last?)?);
        }
        Some(Tree::One(if is_negated { set.without() } else { set }))
    }

    /// A member of a class, and the character that it is when it is one.
    fn member(&mut self) -> Option<(Set, Option<char>)> {
        match self.next()? {
            '\\' => {
                let named = self.rest.chars().next()?;
                let set = self.escape(true)?;
                let one = !matches!(named, 'd' | 'D' | 's' | 'S' | 'w' | 'W');
                Some((set, if one { set.single() } else { None }))
            }
            plain => Some((Set::of(plain)?, Some(plain))),
        }
    }

    fn escape(&mut self, is_in_class: bool) -> Option<Set> {
        let named = self.next()?;
        match named {
            'd' => Some(Set::DIGITS),
            'D' => Some(Set::DIGITS.without()),
            's' => Some(Set::SPACES),
            'S' => Some(Set::SPACES.without()),
            'w' => Some(Set::WORD),
            'W' => Some(Set::WORD.without()),
            'n' => Set::of('\n'),
            'r' => Set::of('\r'),
            't' => Set::of('\t'),
            'v' => Set::of('\u{b}'),
            'f' => Set::of('\u{c}'),
            '-' if is_in_class => Set::of('-'),
            '^' | '$' | '\\' | '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|'
            | '/' => Set::of(named),
            _ => None,
        }
    }
}
