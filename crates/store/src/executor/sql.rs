//! Statements: one portable text each, rewritten once per database.

use std::sync::OnceLock;

/// A statement. Parameters are written `$name`; a list is written `IN ($name)` and nothing else stands in such parentheses.
pub(crate) struct Sql {
    /// Its name, for errors and for the test that explains every statement.
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    sqlite: OnceLock<Compiled>,
    postgres: OnceLock<Compiled>,
}

/// The text for one database and the names of its numbered parameters, in the order of their numbers.
pub(crate) struct Compiled {
    pub(crate) text: String,
    pub(crate) names: Vec<&'static str>,
}

#[derive(Clone, Copy)]
enum Dialect {
    Sqlite,
    Postgres,
}

impl Sql {
    pub(crate) const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    pub(crate) fn for_sqlite(&self) -> &Compiled {
        self.sqlite.get_or_init(|| compile(self.text, Dialect::Sqlite))
    }

    pub(crate) fn for_postgres(&self) -> &Compiled {
        self.postgres.get_or_init(|| compile(self.text, Dialect::Postgres))
    }
}

/// SQLite would number `$name` by first appearance and PostgreSQL knows only numbers: both get numbers by first appearance. PostgreSQL
/// takes a list as one array, SQLite as a table of its own, so that one text serves lists of every length.
fn compile(source: &'static str, dialect: Dialect) -> Compiled {
    let mut text = String::with_capacity(source.len());
    let mut names: Vec<&'static str> = vec![];
    let mut rest = source;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        let length = after[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len() - 1);
        let (name, tail) = after[1..].split_at(length);
        let number = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        }) + 1;
        match (before.strip_suffix("IN ("), tail.strip_prefix(')'), dialect) {
            (Some(before), Some(tail), Dialect::Sqlite) => {
                text.push_str(&format!("{before}IN rarray(?{number})"));
                rest = tail;
            }
            (Some(before), Some(tail), Dialect::Postgres) => {
                text.push_str(&format!("{before}= ANY (${number})"));
                rest = tail;
            }
            (_, _, dialect) => {
                let mark = if matches!(dialect, Dialect::Sqlite) { '?' } else { '$' };
                text.push_str(&format!("{before}{mark}{number}"));
                rest = tail;
            }
        }
    }
    text.push_str(rest);
    Compiled { text, names }
}

/// Declares statements, and lists them for the test that explains each.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)+) => {
        $($(#[$doc])* static $name: $crate::executor::Sql = $crate::executor::Sql::new(stringify!($name), $text);)+

        #[cfg(test)]
        pub(crate) static ALL: &[&$crate::executor::Sql] = &[$(&$name),+];
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_becomes_two() {
        let text = "SELECT a FROM t WHERE w = $w AND b IN ($ids) AND (c < $w OR d = $x)";
        let sqlite = compile(text, Dialect::Sqlite);
        assert_eq!(sqlite.text, "SELECT a FROM t WHERE w = ?1 AND b IN rarray(?2) AND (c < ?1 OR d = ?3)");
        let postgres = compile(text, Dialect::Postgres);
        assert_eq!(postgres.text, "SELECT a FROM t WHERE w = $1 AND b = ANY ($2) AND (c < $1 OR d = $3)");
        assert_eq!(postgres.names, ["w", "ids", "x"]);
    }
}
