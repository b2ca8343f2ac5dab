//! Rust source as tokens: enough to find names and string literals, without taking a word in a
//! comment or a string for code.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or a keyword.
    Word,
    /// A string literal; the text is what stands between its quotes.
    Text,
    /// `::`.
    PathSeparator,
    /// Any other character.
    Mark,
}

/// One token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Whether it stands in a `#[cfg(test)]` module.
    pub(crate) in_tests: bool,
}

impl Token<'_> {
    /// Whether this is the word or mark `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.kind != Kind::Text && self.text == text
    }
}

/// Reads `source` into tokens. Numbers, characters and lifetimes are left out.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut reader = Reader { source, at: 0, line: 1, tokens: Vec::new() };
    while let Some(next) = reader.rest().chars().next() {
        reader.token(next);
    }
    mark_tests(&mut reader.tokens);
    reader.tokens
}

struct Reader<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token<'a>>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Steps over `length` bytes and hands them back.
    fn take(&mut self, length: usize) -> &'a str {
        let taken = &self.source[self.at..self.at + length];
        self.line += taken.matches('\n').count();
        self.at += length;
        taken
    }

    fn push(&mut self, kind: Kind, text: &'a str, line: usize) {
        self.tokens.push(Token { kind, text, line, in_tests: false });
    }

    fn token(&mut self, next: char) {
        let (rest, line) = (self.rest(), self.line);
        if rest.starts_with("//") {
            self.take(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.take(block_comment(rest));
        } else if let Some((opening, hashes)) = raw_string(rest) {
            self.take(opening);
            let closing = format!("\"{}", "#".repeat(hashes));
            let length = self.rest().find(&closing).unwrap_or(self.rest().len());
            let text = self.take(length);
            self.push(Kind::Text, text, line);
            self.take(closing.len().min(self.rest().len()));
        } else if next == '"' || ["b\"", "c\""].iter().any(|start| rest.starts_with(start)) {
            self.take(rest.find('"').map_or(1, |quote| quote + 1));
            let text = self.take(until_quote(self.rest()));
            self.push(Kind::Text, text, line);
            self.take(1.min(self.rest().len()));
        } else if next == '\'' {
            self.take(quoted_character(rest));
        } else if next.is_alphabetic() || next == '_' {
            let word = self.take(word_length(rest));
            // r#type is the name `type`.
            if word != "r" || !self.rest().starts_with('#') {
                self.push(Kind::Word, word, line);
            }
        } else if next.is_ascii_digit() {
            self.take(word_length(rest));
        } else if rest.starts_with("::") {
            let text = self.take(2);
            self.push(Kind::PathSeparator, text, line);
        } else {
            let text = self.take(next.len_utf8());
            if !next.is_whitespace() {
                self.push(Kind::Mark, text, line);
            }
        }
    }
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// The length of the block comment, of which there may be others inside, that `rest` begins with.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of `r#"` or `br"` and its number of `#`, if a raw string begins here.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|after| after.starts_with(['#', '"']))
    })?;
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some((prefix.len() + hashes + 1, hashes))
}

/// How far it is to the `"` that no backslash stands before.
fn until_quote(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal; of the quote alone where it begins a lifetime.
fn quoted_character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            let after = escaped + 1;
            rest[after..].find('\'').map_or(rest.len(), |quote| after + quote + 1)
        }
        (Some(_), Some((quote, '\''))) => quote + 1,
        _ => 1,
    }
}

/// Sets [`Token::in_tests`] on all that stands between the braces of a `#[cfg(test)] mod`.
fn mark_tests(tokens: &mut [Token<'_>]) {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut from = 0;
    while let Some(found) = tokens[from..]
        .windows(ATTRIBUTE.len() + 3)
        .position(|window| {
            let (attribute, item) = window.split_at(ATTRIBUTE.len());
            attribute.iter().zip(ATTRIBUTE).all(|(token, text)| token.is(text))
                && item[0].is("mod")
                && item[2].is("{")
        })
        .map(|at| from + at + ATTRIBUTE.len() + 2)
    {
        let end = found + braces(&tokens[found..]);
        tokens[found..end].iter_mut().for_each(|token| token.in_tests = true);
        from = end;
    }
}

/// How many tokens there are from the `{` that `tokens` begins with to its `}`.
fn braces(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token.is("{") {
            depth += 1;
        } else if token.is("}") {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        tokens(source).into_iter().filter(|t| t.kind == Kind::Word).map(|t| t.text).collect()
    }

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).into_iter().filter(|t| t.kind == Kind::Text).map(|t| t.text).collect()
    }

    #[test]
    fn comments_and_literals_hold_no_words() {
        let source =
            "a // b\n/* c /* d */ e */ f \"g \\\" h\" r#\"i \" j\"# b\"k\" 'l' '\\'' 1_u8 m";
        assert_eq!(words(source), ["a", "f", "m"]);
        assert_eq!(texts(source), ["g \\\" h", "i \" j", "k"]);
    }

    #[test]
    fn lifetimes_and_raw_names_do_not_open_a_literal() {
        assert_eq!(words("fn f<'a>(r#type: &'a str) {}"), ["fn", "f", "a", "type", "a", "str"]);
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let source = "\"one\ntwo\"\n/*\n*/ here";
        assert_eq!(tokens(source).last().map(|t| (t.text, t.line)), Some(("here", 4)));
    }

    #[test]
    fn only_what_is_in_the_braces_of_a_test_module_is_a_test() {
        let source = "before #[cfg(test)] mod tests { inside { deep } } after";
        let inside: Vec<&str> = tokens(source)
            .into_iter()
            .filter(|t| t.in_tests && t.kind == Kind::Word)
            .map(|t| t.text)
            .collect();
        assert_eq!(inside, ["inside", "deep"]);
    }
}
