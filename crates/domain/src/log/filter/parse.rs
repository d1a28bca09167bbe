//! From text to expression: one pass, no look-behind, depth and size bounded.

use uuid::Uuid;

use super::{Expr, MAX_BYTES, MAX_DEPTH, MAX_TERMS, Origin, Severity, Test, lower};

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter cannot be read at character {position}: {problem}")]
pub struct FilterError {
    /// Where, in characters from 1.
    pub position: usize,
    /// What is wrong there and what to write.
    pub problem: FilterProblem,
}

/// What keeps a filter from being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterProblem {
    /// More text than anyone types.
    #[error("it is longer than {MAX_BYTES} bytes; shorten it")]
    TooLong,
    /// Parentheses in parentheses.
    #[error("parentheses nest deeper than {MAX_DEPTH}; write it flatter")]
    TooDeep,
    /// Too many words.
    #[error("it has more than {MAX_TERMS} terms; search for fewer things at once")]
    TooManyTerms,
    /// A phrase has no end.
    #[error("this quote is never closed; end the phrase with \"")]
    OpenQuote,
    /// A group has no end.
    #[error("this parenthesis is never closed; add a ) or put the text in quotes")]
    OpenParenthesis,
    /// A group ends that has not begun.
    #[error("nothing was opened before this ); remove it or put the text in quotes")]
    StrayParenthesis,
    /// `()`.
    #[error("there is nothing between these parentheses; write a word or a condition")]
    EmptyGroup,
    /// `AND` or `OR` without something on both sides.
    #[error("AND and OR stand between two conditions; put the word in quotes to search for it")]
    LooseOperator,
    /// `@` without a key and a value.
    #[error("write @key:value, such as @level:error; put the text in quotes to search for it")]
    BadAttribute,
    /// `@list[x]:…`.
    #[error("write the place in a list as a number, such as @list[0]:value")]
    BadIndex,
    /// A comparison with something that is no number.
    #[error("compare with a number, such as @duration:>=5 or @status:500..599")]
    BadNumber,
    /// A range from high to low.
    #[error("the range is empty; write the smaller number first, such as @status:500..599")]
    EmptyRange,
}

/// Reads a finite number.
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

pub(super) fn parse(text: &str) -> Result<Option<Expr>, FilterError> {
    let mut reader = Reader { text, at: 0, depth: 0, terms: 0 };
    if text.len() > MAX_BYTES {
        let end = text.floor_char_boundary(MAX_BYTES);
        return Err(reader.error(end, FilterProblem::TooLong));
    }
    reader.skip_blanks();
    if reader.rest().is_empty() {
        return Ok(None);
    }
    let root = reader.any_of()?;
    // `any_of` stops at the end of the text or at a parenthesis that belongs to nobody.
    if reader.rest().is_empty() { Ok(Some(root)) } else { Err(reader.error(reader.at, FilterProblem::StrayParenthesis)) }
}

struct Reader<'a> {
    text: &'a str,
    /// In bytes, always at the start of a character.
    at: usize,
    depth: usize,
    terms: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, at: usize, problem: FilterProblem) -> FilterError {
        FilterError { position: self.text[..at].chars().count() + 1, problem }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes a bare operator word. `ANDROID` is none.
    fn operator(&mut self, word: &str) -> bool {
        let found = self.rest().strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(ends_word));
        if found {
            self.at += word.len();
            self.skip_blanks();
        }
        found
    }

    fn any_of(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.all_of()?];
        while self.operator("OR") {
            parts.push(self.all_of()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Any(parts) })
    }

    fn all_of(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.term()?];
        loop {
            let start = self.at;
            if self.operator("AND") {
                parts.push(self.term()?);
            } else if self.rest().is_empty() || self.rest().starts_with(')') {
                break;
            } else if self.operator("OR") {
                self.at = start;
                break;
            } else {
                parts.push(self.term()?);
            }
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::All(parts) })
    }

    fn term(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        if self.rest().is_empty() || self.operator("AND") || self.operator("OR") {
            return Err(self.error(start, FilterProblem::LooseOperator));
        }
        if self.rest().starts_with(')') {
            let problem = match () {
                () if self.depth == 0 => FilterProblem::StrayParenthesis,
                () if self.text[..start].trim_end().ends_with('(') => FilterProblem::EmptyGroup,
                () => FilterProblem::LooseOperator,
            };
            return Err(self.error(start, problem));
        }
        // `--verbose` and `-` alone are words.
        let negated = self.rest().strip_prefix('-').is_some_and(|rest| {
            rest.starts_with('(') || rest.starts_with('"') || !(rest.is_empty() || rest.starts_with('-') || rest.starts_with(ends_word))
        });
        self.at += usize::from(negated);
        let inner = if self.rest().starts_with('(') { self.group()? } else { self.condition()? };
        self.skip_blanks();
        Ok(if negated { Expr::Not(Box::new(inner)) } else { inner })
    }

    fn group(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        if self.depth == MAX_DEPTH {
            return Err(self.error(start, FilterProblem::TooDeep));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_blanks();
        if self.rest().is_empty() {
            return Err(self.error(start, FilterProblem::OpenParenthesis));
        }
        let inner = self.any_of()?;
        if !self.rest().starts_with(')') {
            return Err(self.error(start, FilterProblem::OpenParenthesis));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(inner)
    }

    fn condition(&mut self) -> Result<Expr, FilterError> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.error(self.at, FilterProblem::TooManyTerms));
        }
        if self.rest().starts_with('"') {
            return Ok(Expr::Text(lower(&self.phrase()?)));
        }
        if self.rest().starts_with('@') {
            return self.attribute();
        }
        let word = self.word();
        let replica = word.strip_prefix("replica:").and_then(|id| Uuid::parse_str(id).ok());
        Ok(replica.map_or_else(|| Expr::Text(lower(word)), |id| Expr::Origin(Origin::Replica, id)))
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(ends_word).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn phrase(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let mut phrase = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += at + 1;
                    return Ok(phrase);
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => phrase.push(escaped),
                    Some((_, other)) => phrase.extend(['\\', other]),
                    None => break,
                },
                other => phrase.push(other),
            }
        }
        Err(self.error(start, FilterProblem::OpenQuote))
    }

    fn attribute(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        self.at += 1;
        let rest = self.rest();
        let key = &rest[..rest.find(|c| c == ':' || ends_word(c)).unwrap_or(rest.len())];
        self.at += key.len();
        if key.is_empty() || !self.rest().starts_with(':') {
            return Err(self.error(start, FilterProblem::BadAttribute));
        }
        check_indexes(key).map_err(|problem| self.error(start, problem))?;
        self.at += 1;
        if self.rest().starts_with('"') {
            let text = self.phrase()?;
            return Ok(equals(key, &text));
        }
        let value_at = self.at;
        let value = self.word();
        if value.is_empty() {
            return Err(self.error(start, FilterProblem::BadAttribute));
        }
        comparison(value)
            .map(|test| test.map_or_else(|| equals(key, value), |test| Expr::Attribute(key.to_owned(), test)))
            .map_err(|problem| self.error(value_at, problem))
    }
}

fn ends_word(character: char) -> bool {
    character.is_whitespace() || matches!(character, '(' | ')' | '"')
}

fn check_indexes(key: &str) -> Result<(), FilterProblem> {
    let mut parts = key.split('[');
    let first = parts.next().unwrap_or_default();
    let good = |part: &str| {
        part.split_once(']').is_some_and(|(index, rest)| index.parse::<usize>().is_ok() && (rest.is_empty() || rest.starts_with('.')))
    };
    if first.contains(']') || !parts.all(good) { Err(FilterProblem::BadIndex) } else { Ok(()) }
}

/// A condition that names a value: a level or an origin when key and value say so, otherwise an attribute of that value.
fn equals(key: &str, value: &str) -> Expr {
    let origin = match key {
        "replica" => Some(Origin::Replica),
        "deployment" => Some(Origin::Deployment),
        "service" => Some(Origin::Service),
        "snapshot" => Some(Origin::Snapshot),
        _ => None,
    };
    match (origin, Uuid::parse_str(value), Severity::parse(value)) {
        (Some(origin), Ok(id), _) => Expr::Origin(origin, id),
        (_, _, Some(severity)) if key == "level" => Expr::Level(severity),
        _ => Expr::Attribute(key.to_owned(), Test::Equals(lower(value), number(value))),
    }
}

fn comparison(value: &str) -> Result<Option<Test>, FilterProblem> {
    type Make = fn(f64) -> Test;
    let operators: [(&str, Make); 4] = [(">=", Test::AtLeast), ("<=", Test::AtMost), (">", Test::Above), ("<", Test::Below)];
    for (operator, make) in operators {
        if let Some(bound) = value.strip_prefix(operator) {
            return number(bound).map(|bound| Some(make(bound))).ok_or(FilterProblem::BadNumber);
        }
    }
    // Other values may hold two dots as well: paths, version ranges.
    let Some((low, high)) = value.split_once("..") else { return Ok(None) };
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok(Some(Test::Between(low, high))),
        (Some(_), Some(_)) => Err(FilterProblem::EmptyRange),
        _ => Ok(None),
    }
}
