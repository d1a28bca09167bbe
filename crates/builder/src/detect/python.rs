//! Python: a virtual environment in the artifact, filled by pip, uv or Poetry.

use std::collections::BTreeSet;

use super::{Ask, Plan, Start, Step, Tool, Tree, refused};
use crate::failure::BuildFailure;

/// Files that may hold the app, the most usual first.
const MAINS: [&str; 10] =
    ["main.py", "app.py", "server.py", "api.py", "asgi.py", "wsgi.py", "run.py", "app/main.py", "src/main.py", "bot.py"];
/// Only the edge on this machine talks to the app, unless `HOST` says otherwise.
const HOST: &str = "${HOST:-127.0.0.1}";
/// Poetry brings many packages of its own: they live here while it works.
const POETRY: &str = ".orrery/poetry";
/// The Python of the artifact's environment.
const VENV_PYTHON: &str = ".venv/bin/python";

struct Project {
    /// Requirements as written, for pip.
    dependencies: Vec<String>,
    /// Names of what is required, lower case, directly or in a lock file's table.
    names: BTreeSet<String>,
    builds: bool,
    poetry: bool,
}

pub(super) fn plan(tree: &Tree, ask: &Ask<'_>) -> Result<Option<Plan>, BuildFailure> {
    let looks = ["requirements.txt", "pyproject.toml", "uv.lock", "poetry.lock", "manage.py", "main.py", "app.py"];
    if !looks.iter().any(|name| tree.has(name)) {
        return Ok(None);
    }
    let project = match tree.text("pyproject.toml") {
        Some(text) => Some(read(text)?),
        None => None,
    };
    let mut names = project.as_ref().map(|project| project.names.clone()).unwrap_or_default();
    names.extend(tree.text("requirements.txt").unwrap_or_default().lines().flat_map(requirement_names));
    let start = match ask.start(tree).or_else(|| start(tree, &names)) {
        Some(command) => Start::Command(command),
        // The settings of a formatter or the requirements of a document generator do not make a Python app.
        None if ["index.html", "public/index.html", "start.sh"].iter().any(|other| tree.has(other)) => return Ok(None),
        None => {
            return Err(BuildFailure::Source(format!(
                "this is a Python app, but not how it starts: looked for a Procfile, manage.py, {}; add one of them or set a start command",
                MAINS.join(", ")
            )));
        }
    };
    let mut plan = Plan::new("Python", start);
    plan.steps = install(tree, ask, project.as_ref());
    plan.steps.extend(ask.build_command.map(|command| Step::Shell(command.to_owned())));
    plan.path = vec![".venv/bin".into()];
    plan.venv = true;
    plan.env.insert("PYTHONUNBUFFERED".into(), "1".into());
    Ok(Some(plan))
}

fn install(tree: &Tree, ask: &Ask<'_>, project: Option<&Project>) -> Vec<Step> {
    let mut steps = vec![Step::run(Tool::Python, &["-m", "venv", "--clear", ".venv"])];
    let pip = |args: &[&str]| Step::local(VENV_PYTHON, &[&["-m", "pip", "install"], args].concat());
    if tree.has("uv.lock") {
        // Not exact: an exact one takes away the uv that pip has just put there.
        let sync = ["sync", "--frozen", "--no-dev", "--inexact"];
        if ask.tools.contains(&Tool::Uv) {
            steps.push(Step::run(Tool::Uv, &sync));
        } else {
            steps.extend([pip(&["uv"]), Step::local(VENV_PYTHON, &[&["-m", "uv"], &sync[..]].concat())]);
        }
    } else if tree.has("requirements.txt") {
        steps.push(pip(&["-r", "requirements.txt"]));
    } else if tree.has("poetry.lock") || project.is_some_and(|project| project.poetry) {
        let args = ["install", "--only", "main", "--no-root", "--no-interaction"];
        if ask.tools.contains(&Tool::Poetry) {
            steps.push(Step::run(Tool::Poetry, &args));
        } else {
            steps.push(Step::run(Tool::Python, &["-m", "venv", POETRY]));
            steps.push(Step::local(&format!("{POETRY}/bin/python"), &["-m", "pip", "install", "poetry"]));
            steps.push(Step::local(&format!("{POETRY}/bin/poetry"), &args));
            steps.push(Step::Discard(POETRY.into()));
        }
    } else if let Some(project) = project {
        if project.builds {
            steps.push(pip(&["."]));
        } else if !project.dependencies.is_empty() {
            let mut args = vec!["--"];
            args.extend(project.dependencies.iter().map(String::as_str));
            steps.push(pip(&args));
        }
    }
    steps
}

fn read(text: &str) -> Result<Project, BuildFailure> {
    let file: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        refused("pyproject.toml", &format!("line {line}: {}", error.message().replace('\n', "; ")))
    })?;
    let project = file.get("project");
    let listed = project.and_then(|project| project.get("dependencies")).and_then(toml::Value::as_array);
    let dependencies: Vec<String> = listed.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned).collect();
    let poetry = file.get("tool").and_then(|tool| tool.get("poetry"));
    let poetry_names = poetry.and_then(|poetry| poetry.get("dependencies")).and_then(toml::Value::as_table);
    let mut names: BTreeSet<String> = dependencies.iter().flat_map(|text| requirement_names(text)).collect();
    names.extend(
        poetry_names.into_iter().flat_map(|table| table.keys()).map(|name| name.to_ascii_lowercase()).filter(|name| name != "python"),
    );
    Ok(Project { dependencies, names, builds: file.contains_key("build-system"), poetry: poetry.is_some() && project.is_none() })
}

/// The name at the beginning of a requirement such as `FastAPI[standard]>=0.1`, and uvicorn where such an extra brings it along.
fn requirement_names(line: &str) -> impl Iterator<Item = String> + use<> {
    let line = line.trim();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')).unwrap_or(line.len());
    let name = line[..end].to_ascii_lowercase().replace('_', "-");
    let served = name == "fastapi" && line[end..].trim_start().starts_with('[');
    let name = Some(name).filter(|name| !name.is_empty() && !name.starts_with('-'));
    name.into_iter().chain(served.then(|| "uvicorn".to_owned()))
}

fn start(tree: &Tree, names: &BTreeSet<String>) -> Option<String> {
    let has = |name: &str| names.contains(name);
    if tree.has("manage.py") && has("django") {
        return Some(django(tree, has("gunicorn")));
    }
    for path in MAINS.iter().filter(|path| tree.has(path)) {
        if let Some(command) = tree.text(path).and_then(|text| served(path, text, &has)) {
            return Some(command);
        }
    }
    let plain = MAINS.iter().find(|path| tree.has(path) && !matches!(**path, "asgi.py" | "wsgi.py"))?;
    Some(format!("python {plain}"))
}

/// Migrations first: without them a new app answers every page with an error.
fn django(tree: &Tree, gunicorn: bool) -> String {
    let module = tree.paths().filter_map(|path| path.strip_suffix("/wsgi.py")).find(|folder| is_module(folder));
    match module {
        Some(folder) if gunicorn => {
            format!("python manage.py migrate --noinput && exec gunicorn --bind {HOST}:$PORT {}.wsgi:application", folder.replace('/', "."))
        }
        _ => "python manage.py migrate --noinput && exec python manage.py runserver --noreload 0.0.0.0:$PORT".replace("0.0.0.0", HOST),
    }
}

fn is_module(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

/// A server for the application object of a framework that the file makes.
fn served(path: &str, text: &str, has: &dyn Fn(&str) -> bool) -> Option<String> {
    let module = path.strip_suffix(".py")?.replace('/', ".");
    let object = |maker: &str| {
        text.lines().find_map(|line| {
            let (name, rest) = line.split_once('=')?;
            let name = name.split(':').next().unwrap_or_default().trim_end();
            (!line.starts_with(char::is_whitespace) && rest.trim_start().starts_with(maker) && is_module(name)).then(|| name.to_owned())
        })
    };
    let asgi = ["FastAPI(", "fastapi.FastAPI(", "Starlette(", "Quart(", "Litestar("].iter().find_map(|maker| object(maker));
    let wsgi = || ["Flask(", "flask.Flask(", "create_app(", "falcon.App("].iter().find_map(|maker| object(maker));
    if let Some(name) = asgi {
        return has("uvicorn").then(|| format!("uvicorn {module}:{name} --host {HOST} --port $PORT"));
    }
    let name = wsgi()?;
    if has("gunicorn") {
        return Some(format!("gunicorn --bind {HOST}:$PORT {module}:{name}"));
    }
    has("flask").then(|| format!("flask --app {module}:{name} run --host {HOST} --port $PORT"))
}
