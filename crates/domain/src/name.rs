//! Names that users choose, parsed once at the edge so that nothing downstream needs to escape them.

/// Why a name was refused, as a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

fn display_name(what: &str, text: &str, max: usize) -> Result<String, BadName> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(BadName(format!("{what} is empty: give it at least one character")));
    }
    if trimmed.chars().count() > max {
        return Err(BadName(format!("{what} is longer than {max} characters: shorten it")));
    }
    if trimmed.chars().any(char::is_control) {
        return Err(BadName(format!("{what} holds a control character: remove it")));
    }
    Ok(trimmed.to_owned())
}

/// A project's, environment's, service's or token's display name: 1 to `max` characters, none of control.
///
/// # Errors
/// A sentence that names what is wrong with it.
pub fn display(what: &str, text: &str) -> Result<String, BadName> {
    display_name(what, text, 64)
}

/// A variable's name: letters, digits and underscores, no digit first, at most 255.
///
/// # Errors
/// A sentence that names what is wrong with it.
pub fn variable(text: &str) -> Result<String, BadName> {
    let first_ok = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first_ok || text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')) {
        return Err(BadName(format!(
            "variable name {:?} is not valid: use letters, digits and underscores, starting with a letter or underscore",
            text.chars().take(40).collect::<String>()
        )));
    }
    Ok(text.to_owned())
}

/// A label for host names made from free text: lower case letters, digits and single dashes, at most 40 characters; `fallback` when
/// nothing is left.
#[must_use]
pub fn slug(text: &str, fallback: &str) -> String {
    let out = dashed(text, 40);
    if out.is_empty() { fallback.to_owned() } else { out }
}

/// The longest label that DNS knows, in characters of ASCII.
const MAX_LABEL: usize = 63;

/// Whether a text is a label as slugs are, of any length that DNS takes.
#[must_use]
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text == dashed(text, MAX_LABEL)
}

/// Two slugs as one label, the second one cut where both are too long; it leaves room for a dash and four characters more.
#[must_use]
pub fn label(first: &str, second: &str) -> String {
    dashed(&format!("{first}-{second}"), MAX_LABEL - 5)
}

fn dashed(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    out.truncate(most);
    out.trim_matches('-').to_owned()
}

/// A DNS name of a custom domain: lower-cased, at least two labels, none of them odd.
///
/// # Errors
/// A sentence that names what is wrong with it.
pub fn host(text: &str) -> Result<String, BadName> {
    let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let wild = name.strip_prefix("*.").unwrap_or(&name);
    if name.len() > 253 || wild.split('.').count() < 2 || !wild.split('.').all(label_ok) {
        return Err(BadName(format!(
            "{:?} is not a domain name: write it like www.example.com",
            text.chars().take(80).collect::<String>()
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_labels() {
        assert_eq!(slug("Hello, World!", "app"), "hello-world");
        assert_eq!(slug("--", "app"), "app");
        assert_eq!(slug(&"a".repeat(80), "app").len(), 40);
    }

    #[test]
    fn labels_are_no_longer_than_dns_takes_them() {
        assert_eq!(label("hello", "production"), "hello-production");
        assert_eq!(label(&"a".repeat(40), &"b".repeat(40)), format!("{}-{}", "a".repeat(40), "b".repeat(17)));
        assert_eq!(label(&"a".repeat(40), &format!("{}-b", "c".repeat(16))), format!("{}-{}", "a".repeat(40), "c".repeat(16)));
        assert!(is_label("hello") && is_label(&"a".repeat(63)));
        for bad in ["", "-a", "a-", "a.b", "A", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_are_checked() {
        assert_eq!(host("WWW.Example.com.").unwrap(), "www.example.com");
        for bad in ["", "localhost", "a..b", "-a.com", "a b.com", "http://a.com", "a.com/x"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variable_names_are_checked() {
        assert!(variable("DATABASE_URL").is_ok());
        for bad in ["", "1A", "A B", "A=B", "Ä", "A\0"] {
            assert!(variable(bad).is_err(), "{bad:?}");
        }
    }
}
