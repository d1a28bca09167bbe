//! Values that are made up once, when a variable is written (`contracts/railway.md` 3.5).

use super::{MAX_RENDERED, Part, parts};

/// A function in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generator {
    /// `secret(length, "alphabet")`
    Secret {
        /// How many characters.
        length: usize,
        /// Which; each is as likely as any other. Never empty.
        alphabet: Vec<char>,
    },
    /// `randomInt(from, to)`, both included.
    Integer {
        /// The smallest.
        from: i64,
        /// The largest.
        to: i64,
    },
}

const LETTERS_AND_DIGITS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

impl Generator {
    /// Reads a call as it stands between the braces, or as the `generator` of an environment's document has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.trim().split_once('(')?;
        let arguments = arguments(rest.trim_end().strip_suffix(')')?);
        let number = |at: usize, default: i64| match arguments.get(at) {
            None => Some(default),
            Some(text) => text.parse().ok(),
        };
        match name.trim() {
            "secret" if arguments.len() <= 2 => {
                let length = usize::try_from(number(0, 32)?).ok().filter(|length| (1..=MAX_RENDERED).contains(length))?;
                let alphabet: Vec<char> = arguments.get(1).map_or(LETTERS_AND_DIGITS, |text| unquoted(text)).chars().collect();
                (!alphabet.is_empty()).then_some(Self::Secret { length, alphabet })
            }
            "randomInt" if arguments.len() <= 2 => {
                let (from, to) = (number(0, 0)?, number(1, 100)?);
                (from <= to).then_some(Self::Integer { from, to })
            }
            _ => None,
        }
    }

    /// A value, made of `random`.
    pub fn value(&self, random: &mut impl rand::Rng) -> String {
        use rand::RngExt as _;
        match self {
            Self::Secret { length, alphabet } => (0..*length).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect(),
            Self::Integer { from, to } => random.random_range(*from..=*to).to_string(),
        }
    }
}

/// Splits at the commas outside of quotes.
fn arguments(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut quote) = (vec![], 0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None, ',') => {
                out.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        out.push(text[start..].trim());
    }
    out
}

fn unquoted(text: &str) -> &str {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

/// The value with every generator in it replaced by what it makes up; anything else stays byte for byte. `None` when what is made up grows
/// beyond [`MAX_RENDERED`]: a short value can ask for any amount.
pub fn generate(value: &str, random: &mut impl rand::Rng) -> Option<String> {
    if !parts(value).iter().any(|part| matches!(part, Part::Generator(_))) {
        return Some(value.to_owned());
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = rest.find("${{") {
        let Some(length) = rest[start + 3..].find("}}") else { break };
        let end = start + 3 + length + 2;
        out.push_str(&rest[..start]);
        match Generator::parse(&rest[start + 3..start + 3 + length]) {
            Some(generator) => out.push_str(&generator.value(random)),
            None => out.push_str(&rest[start..end]),
        }
        if out.len() > MAX_RENDERED {
            return None;
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    (out.len() <= MAX_RENDERED).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::*;

    const PIECES: [&str; 9] = ["${{secret(3)}}", "${{randomInt(1, 9)}}", "${{A}}", "${{", "}}", "$", "{", "x ", "é"];

    fn random() -> rand::rngs::StdRng {
        rand::rngs::StdRng::seed_from_u64(7)
    }

    #[test]
    fn calls_are_read_with_their_defaults() {
        assert_eq!(Generator::parse("secret(2, \"a,)\")"), Some(Generator::Secret { length: 2, alphabet: vec!['a', ',', ')'] }));
        assert_eq!(Generator::parse(" randomInt( -3 , 5 ) "), Some(Generator::Integer { from: -3, to: 5 }));
        assert!(matches!(Generator::parse("secret()"), Some(Generator::Secret { length: 32, .. })));
        for bad in ["secret", "secret(0)", "secret(9999999)", "secret(3, \"\")", "secret(1,2,3)", "randomInt(2, 1)", "random(1)", "HOST"] {
            assert_eq!(Generator::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_generators_are_replaced() {
        let made = generate("a ${{secret(4, \"x\")}} ${{ DB.URL }} ${{randomInt(5,5)}} ${{open", &mut random());
        assert_eq!(made.unwrap(), "a xxxx ${{ DB.URL }} 5 ${{open");
    }

    #[test]
    fn many_generators_make_no_more_than_one_value_may_hold() {
        assert_eq!(generate("${{secret(65536)}}", &mut random()).unwrap().len(), MAX_RENDERED);
        assert_eq!(generate(&"${{secret(65536)}}".repeat(3_600), &mut random()), None);
        assert_eq!(generate("x${{secret(65536)}}", &mut random()), None);
    }

    proptest! {
        #[test]
        fn what_has_no_generator_stays_byte_for_byte(value in "[^(]*") {
            prop_assert_eq!(generate(&value, &mut random()).unwrap(), value);
        }

        #[test]
        fn what_was_generated_once_is_not_generated_again(
            pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..12),
        ) {
            let once = generate(&pieces.concat(), &mut random()).unwrap();
            let again = generate(&once, &mut rand::rngs::StdRng::seed_from_u64(8)).unwrap();
            prop_assert_eq!(again, once);
        }

        #[test]
        fn secrets_have_their_length_and_letters(length in 1usize..200) {
            let made = generate(&format!("${{{{secret({length}, \"01\")}}}}"), &mut random()).unwrap();
            prop_assert_eq!(made.len(), length);
            prop_assert!(made.chars().all(|c| c == '0' || c == '1'));
        }
    }
}
