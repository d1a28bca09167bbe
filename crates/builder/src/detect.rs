//! What kind of app a source is and how it is made: a decision over a listing and some texts, without any IO.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::BuildFailure;

mod compiled;
mod node;
mod procfile;
mod python;
mod simple;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use compiled::PROGRAM;
pub(crate) use tree::Tree;

/// Programs that plans run. Their names are looked up on PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    Npm,
    Pnpm,
    Yarn,
    Python,
    Uv,
    Poetry,
    Cargo,
    Go,
}

/// One thing to run, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A program of the machine with arguments of ours.
    Run { tool: Tool, args: Vec<String> },
    /// A program that an earlier step put into the artifact.
    Local { program: String, args: Vec<String> },
    /// The user's text.
    Shell(String),
    /// Takes a folder of the artifact away again.
    Discard(String),
}

/// How the result starts. Some answers need the finished build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Command(String),
    Static {
        root: String,
        spa: bool,
    },
    /// The first of these folders that holds an `index.html` after the build.
    Site {
        folders: Vec<String>,
    },
    /// The program that the compiler reported, copied to `.orrery/bin/app`.
    Compiled {
        name: Option<String>,
    },
}

/// How an artifact is made from a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// As shown to people.
    pub provider: &'static str,
    pub steps: Vec<Step>,
    pub start: Start,
    /// Folders of the artifact that come first on PATH, while building and while running.
    pub path: Vec<String>,
    /// More variables of the build.
    pub build_env: BTreeMap<String, String>,
    /// More variables of the run.
    pub env: BTreeMap<String, String>,
    /// Whether `.venv` is the active Python environment.
    pub venv: bool,
    /// Sentences for the log.
    pub notes: Vec<String>,
}

/// What is asked for and what there is, beside the source.
pub(crate) struct Ask<'a> {
    pub build_command: Option<&'a str>,
    pub start_command: Option<&'a str>,
    pub builder: Option<&'a str>,
    pub dockerfile: Option<&'a str>,
    pub env: &'a BTreeMap<String, String>,
    /// Which of the tools can be run.
    pub tools: &'a BTreeSet<Tool>,
}

impl Ask<'_> {
    /// The start command of the settings or else the one of the Procfile.
    fn start(&self, tree: &Tree) -> Option<String> {
        self.start_command.map(str::to_owned).or_else(|| procfile::web(tree))
    }
}

impl Step {
    fn run(tool: Tool, args: &[&str]) -> Self {
        Self::Run { tool, args: args.iter().map(|&arg| arg.to_owned()).collect() }
    }

    fn local(program: &str, args: &[&str]) -> Self {
        Self::Local { program: program.to_owned(), args: args.iter().map(|&arg| arg.to_owned()).collect() }
    }
}

impl Plan {
    fn new(provider: &'static str, start: Start) -> Self {
        Self { provider, steps: vec![], start, path: vec![], build_env: BTreeMap::new(), env: BTreeMap::new(), venv: false, notes: vec![] }
    }
}

/// Decides. Node, Python, Rust and Go are asked in this order, then what needs no installation.
///
/// # Errors
/// `Source` when nothing is recognised, `Machine` when only a container could be built.
pub(crate) fn detect(tree: &Tree, ask: &Ask<'_>) -> Result<Plan, BuildFailure> {
    let found = recognise(tree, ask)?;
    let dockerfile = ask.dockerfile.unwrap_or("Dockerfile");
    let demanded = ask.builder.is_some_and(|builder| builder.eq_ignore_ascii_case("DOCKERFILE")) || ask.dockerfile.is_some();
    let has_dockerfile = tree.has(dockerfile);
    match found {
        Some(mut plan) => {
            if has_dockerfile || demanded {
                plan.notes.push(format!("'{dockerfile}' is not used: this server builds without containers, as {} instead", plan.provider));
            }
            Ok(plan)
        }
        None if has_dockerfile || demanded => Err(BuildFailure::Machine(format!(
            "'{dockerfile}' cannot be built: this server builds without containers; add a Procfile, a package.json, a requirements.txt or a \
             start command, so that the app can be built from its source"
        ))),
        None => Err(BuildFailure::Source(
            "no way to build this source was found: looked for package.json, requirements.txt, pyproject.toml, main.py, app.py, Cargo.toml, \
             go.mod, index.html, public/index.html, Staticfile, start.sh and Procfile; add one of them, or set a start command"
                .to_owned(),
        )),
    }
}

fn recognise(tree: &Tree, ask: &Ask<'_>) -> Result<Option<Plan>, BuildFailure> {
    let mut plan = node::plan(tree, ask)?;
    if plan.is_none() {
        plan = python::plan(tree, ask)?;
    }
    let plan = match plan {
        Some(plan) => Some(plan),
        None => compiled::rust(tree, ask)?.or(compiled::go(tree, ask)?),
    };
    Ok(plan.or_else(|| simple::site(tree, ask)).or_else(|| simple::commands(tree, ask)))
}

fn refused(file: &str, why: &str) -> BuildFailure {
    BuildFailure::Source(format!("{file} cannot be read: {why}; correct the file and deploy again"))
}
