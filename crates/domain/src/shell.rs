//! A program that a person starts beside a replica's app, and what goes to and fro.

use serde::{Deserialize, Serialize};

/// The longest line for a shell, in bytes: it travels in one variable of an environment, and the kernel takes 128 KiB of it.
const LONGEST: usize = 16 * 1024;
/// The longest path of a program, in bytes.
const LONGEST_PATH: usize = 4096;
/// More columns or rows than any screen has, and few enough for programs that keep a buffer of them.
const LARGEST: u16 = 2000;

/// What shall run. Published: the first message of a socket (`docs/ARCHITECTURE.md`, "A shell into a container").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ShellSpec {
    /// A line for the program, behind `-c`; without one it reads its input.
    #[serde(default)]
    pub command: Option<String>,
    /// The program; a shell of the machine when it is left out.
    #[serde(default)]
    pub program: Option<String>,
    /// The size of its terminal. Without one it gets pipes, and its two outputs stay apart.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
}

impl ShellSpec {
    /// Refuses what no program could be started with.
    ///
    /// # Errors
    /// What is wrong, and what to send instead.
    pub fn check(&self) -> Result<(), String> {
        for (name, text, longest) in [("command", &self.command, LONGEST), ("program", &self.program, LONGEST_PATH)] {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > longest || text.contains('\0') {
                return Err(format!("{name} must be text of 1 to {longest} bytes: leave it out for a shell that reads what is typed"));
            }
        }
        self.terminal.map_or(Ok(()), TerminalSize::check)
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl TerminalSize {
    /// Refuses sizes that no screen has.
    ///
    /// # Errors
    /// What is wrong, and what to send instead.
    pub fn check(self) -> Result<(), String> {
        let sound = 1..=LARGEST;
        if sound.contains(&self.columns) && sound.contains(&self.rows) {
            return Ok(());
        }
        Err(format!("a terminal of {} columns and {} rows cannot be: each is 1 to {LARGEST}", self.columns, self.rows))
    }
}

/// A signal that a person may send, by its name without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ShellSignal {
    /// The terminal is gone.
    Hup,
    /// Ctrl-C.
    Int,
    /// Everything at once.
    Kill,
    /// Ctrl-\.
    Quit,
    /// Please end.
    Term,
}

/// What a person sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellInput {
    /// For the program to read.
    Bytes(Vec<u8>),
    /// There is no more to read. A terminal has no such end: there it is typed.
    End,
    /// The terminal has another size.
    Resize(TerminalSize),
    /// A signal for the program.
    Signal(ShellSignal),
}

/// Where a piece of output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShellStream {
    /// Standard output, and everything on a terminal.
    Output,
    /// Standard error.
    Error,
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShellEnd {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl ShellEnd {
    /// The status as a shell tells it.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Status(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_over_the_wire_is_read_and_checked() {
        let read = |text: &str| serde_json::from_str::<ShellSpec>(text).unwrap();
        assert_eq!(read("{}"), ShellSpec::default());
        let full = read(r#"{"command":"ls","program":"/bin/busybox","terminal":{"columns":80,"rows":24},"durable_session_name":"x"}"#);
        assert_eq!(full.check(), Ok(()));
        assert_eq!(read(&serde_json::to_string(&full).unwrap()), full);
        for bad in [r#"{"command":""}"#, r#"{"program":"a\u0000b"}"#, r#"{"terminal":{"columns":0,"rows":24}}"#] {
            assert!(read(bad).check().is_err(), "{bad}");
        }
        assert!(ShellSpec { command: Some("x".repeat(LONGEST + 1)), ..ShellSpec::default() }.check().is_err());
        assert_eq!(serde_json::from_str::<ShellSignal>("\"INT\"").unwrap(), ShellSignal::Int);
        assert_eq!((ShellEnd::Status(3).code(), ShellEnd::Signal(9).code()), (3, 137));
    }
}
