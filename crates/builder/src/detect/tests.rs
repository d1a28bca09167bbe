//! One row per kind of source: what is run, and how the result starts.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const NOTHING: Option<&str> = None;

struct Row {
    files: &'static [(&'static str, &'static str)],
    tools: &'static [Tool],
    provider: &'static str,
    steps: &'static [&'static str],
    start: &'static str,
}

fn detected(files: &[(&str, &str)], tools: &[Tool], build: Option<&str>, start: Option<&str>) -> Result<Plan, BuildFailure> {
    let tools: BTreeSet<Tool> = tools.iter().copied().collect();
    let ask = Ask { build_command: build, start_command: start, builder: None, dockerfile: None, env: &BTreeMap::new(), tools: &tools };
    detect(&Tree::of(files), &ask)
}

fn steps(plan: &Plan) -> Vec<String> {
    let line = |step: &Step| match step {
        Step::Run { tool, args } => format!("{} {}", crate::tools::name(*tool), args.join(" ")),
        Step::Local { program, args } => format!("{program} {}", args.join(" ")),
        Step::Shell(text) => format!("sh: {text}"),
        Step::Discard(folder) => format!("rm {folder}"),
    };
    plan.steps.iter().map(line).collect()
}

fn start(plan: &Plan) -> String {
    match &plan.start {
        Start::Command(text) => text.clone(),
        Start::Static { root, spa } => format!("static {root:?} {spa}"),
        Start::Site { folders } => format!("site {}", folders.first().unwrap()),
        Start::Compiled { name } => format!("compiled {name:?}"),
    }
}

#[test]
fn every_kind_of_source_has_its_plan() {
    let rows = [
        Row {
            files: &[
                ("package.json", r#"{"scripts":{"start":"node s.js","build":"tsc"},"dependencies":{"a":"1"}}"#),
                ("package-lock.json", ""),
            ],
            tools: &[Tool::Npm],
            provider: "Node",
            steps: &["npm ci --include=dev", "npm run build"],
            start: "node s.js",
        },
        Row {
            files: &[("package.json", r#"{"main":"./lib/a","dependencies":{"a":"1"}}"#), ("lib/a.js", "")],
            tools: &[Tool::Npm],
            provider: "Node",
            steps: &["npm install --include=dev"],
            start: "node 'lib/a.js'",
        },
        Row { files: &[("package.json", "{}"), ("index.js", "")], tools: &[], provider: "Node", steps: &[], start: "node 'index.js'" },
        Row {
            files: &[
                ("package.json", r#"{"scripts":{"start":"node .","prestart":"x"},"devDependencies":{"a":"1"}}"#),
                ("pnpm-lock.yaml", "lockfileVersion: '6.0'\n"),
            ],
            tools: &[Tool::Npm],
            provider: "Node",
            steps: &[
                "npm install --prefix .orrery/tools --no-save --no-package-lock pnpm@8",
                "pnpm install --frozen-lockfile --prod=false",
            ],
            start: "npm run start",
        },
        Row {
            files: &[("package.json", r#"{"scripts":{"start":"s"},"dependencies":{"a":"1"}}"#), ("yarn.lock", "# yarn lockfile v1")],
            tools: &[Tool::Npm, Tool::Yarn],
            provider: "Node",
            steps: &["yarn install --frozen-lockfile --production=false --non-interactive"],
            start: "s",
        },
        Row {
            files: &[
                ("package.json", r#"{"packageManager":"yarn@4.5.0+sha1.x","scripts":{"start":"s"},"dependencies":{"a":"1"}}"#),
                ("yarn.lock", "__metadata:\n"),
            ],
            tools: &[Tool::Npm],
            provider: "Node",
            steps: &["npm install --prefix .orrery/tools --no-save --no-package-lock @yarnpkg/cli-dist@4.5.0", "yarn install --immutable"],
            start: "s",
        },
        Row {
            files: &[
                ("package.json", r#"{"scripts":{"build":"vite build","start":"vite"},"devDependencies":{"vite":"5"}}"#),
                ("index.html", ""),
            ],
            tools: &[Tool::Npm],
            provider: "Node",
            steps: &["npm install --include=dev", "npm run build"],
            start: "site dist",
        },
        Row {
            files: &[("requirements.txt", "httpbin\ngunicorn==23.0\n"), ("Procfile", "release: x\nworker: y\nweb: gunicorn httpbin:app\n")],
            tools: &[Tool::Python],
            provider: "Python",
            steps: &["python3 -m venv --clear .venv", ".venv/bin/python -m pip install -r requirements.txt"],
            start: "gunicorn httpbin:app",
        },
        Row {
            files: &[
                ("requirements.txt", "fastapi[standard]>=0.1\n"),
                ("app/main.py", "from fastapi import FastAPI\napi = FastAPI(title='x')\n"),
            ],
            tools: &[Tool::Python],
            provider: "Python",
            steps: &["python3 -m venv --clear .venv", ".venv/bin/python -m pip install -r requirements.txt"],
            start: "uvicorn app.main:api --host ${HOST:-127.0.0.1} --port $PORT",
        },
        Row {
            files: &[("requirements.txt", "Flask\nGunicorn"), ("app.py", "app: Flask = Flask(__name__)\n")],
            tools: &[Tool::Python],
            provider: "Python",
            steps: &["python3 -m venv --clear .venv", ".venv/bin/python -m pip install -r requirements.txt"],
            start: "gunicorn --bind ${HOST:-127.0.0.1}:$PORT app:app",
        },
        Row {
            files: &[("requirements.txt", "Django\ngunicorn"), ("manage.py", ""), ("shop/wsgi.py", ""), ("package.json", "{}")],
            tools: &[Tool::Python],
            provider: "Python",
            steps: &["python3 -m venv --clear .venv", ".venv/bin/python -m pip install -r requirements.txt"],
            start: "python manage.py migrate --noinput && exec gunicorn --bind ${HOST:-127.0.0.1}:$PORT shop.wsgi:application",
        },
        Row {
            files: &[("pyproject.toml", "[project]\nname='x'\ndependencies=['a>=1']\n"), ("main.py", "print()"), ("uv.lock", "")],
            tools: &[Tool::Python],
            provider: "Python",
            steps: &[
                "python3 -m venv --clear .venv",
                ".venv/bin/python -m pip install uv",
                ".venv/bin/python -m uv sync --frozen --no-dev --inexact",
            ],
            start: "python main.py",
        },
        Row {
            files: &[("pyproject.toml", "[project]\nname='x'\ndependencies=['a>=1', 'b']\n"), ("main.py", "print()")],
            tools: &[Tool::Python],
            provider: "Python",
            steps: &["python3 -m venv --clear .venv", ".venv/bin/python -m pip install -- a>=1 b"],
            start: "python main.py",
        },
        Row {
            files: &[("pyproject.toml", "[tool.poetry.dependencies]\nflask='*'\n"), ("app.py", "import flask\nweb = flask.Flask('x')")],
            tools: &[Tool::Python],
            provider: "Python",
            steps: &[
                "python3 -m venv --clear .venv",
                "python3 -m venv .orrery/poetry",
                ".orrery/poetry/bin/python -m pip install poetry",
                ".orrery/poetry/bin/poetry install --only main --no-root --no-interaction",
                "rm .orrery/poetry",
            ],
            start: "flask --app app:web run --host ${HOST:-127.0.0.1} --port $PORT",
        },
        Row {
            files: &[("Cargo.toml", "[package]\nname = 'web'\n"), ("Cargo.lock", "")],
            tools: &[],
            provider: "Rust",
            steps: &["cargo build --release --message-format json-render-diagnostics --locked"],
            start: "compiled Some(\"web\")",
        },
        Row {
            files: &[("go.mod", "module x"), ("cmd/web/main.go", ""), ("lib/x.go", "")],
            tools: &[],
            provider: "Go",
            steps: &["go build -o .orrery/bin/app ./cmd/web"],
            start: "./.orrery/bin/app",
        },
        Row { files: &[("index.html", ""), ("a/b.css", "")], tools: &[], provider: "static site", steps: &[], start: "static \"\" false" },
        Row {
            files: &[("Staticfile", "root: www\npushstate: enabled\n"), ("www/index.html", "")],
            tools: &[],
            provider: "static site",
            steps: &[],
            start: "static \"www\" true",
        },
        Row { files: &[("public/index.html", "")], tools: &[], provider: "static site", steps: &[], start: "static \"public\" false" },
        Row { files: &[("start.sh", "#!/bin/bash\n")], tools: &[], provider: "shell", steps: &[], start: "bash start.sh" },
        Row { files: &[("Procfile", "worker: ./run\n"), ("index.html", "")], tools: &[], provider: "shell", steps: &[], start: "./run" },
    ];
    for row in rows {
        let plan = detected(row.files, row.tools, NOTHING, NOTHING).unwrap_or_else(|failure| panic!("{:?}: {failure}", row.files));
        assert_eq!((plan.provider, start(&plan).as_str()), (row.provider, row.start), "{:?}", row.files);
        assert_eq!(steps(&plan), row.steps, "{:?}", row.files);
    }
}

#[test]
fn explicit_commands_win_over_detection() {
    let node = [("package.json", r#"{"scripts":{"start":"x","build":"y"},"dependencies":{"a":"1"}}"#), ("Procfile", "web: z")];
    let plan = detected(&node, &[], Some("make"), Some("./go")).unwrap();
    assert_eq!((steps(&plan), start(&plan)), (vec!["npm install --include=dev".into(), "sh: make".into()], "./go".into()));
    let plan = detected(&[("anything", "")], &[], Some("make"), Some("./go")).unwrap();
    assert_eq!((steps(&plan), start(&plan)), (vec!["sh: make".into()], "./go".into()));
}

#[test]
fn what_cannot_be_built_says_what_to_add() {
    let nothing = detected(&[("README.md", "")], &[], NOTHING, NOTHING).unwrap_err();
    assert!(matches!(&nothing, BuildFailure::Source(text) if text.contains("package.json") && text.contains("start command")), "{nothing}");
    let container = detected(&[("Dockerfile", "FROM scratch")], &[], NOTHING, NOTHING).unwrap_err();
    assert!(matches!(&container, BuildFailure::Machine(text) if text.contains("without containers")), "{container}");
    let beside = detected(&[("Dockerfile", ""), ("index.html", "")], &[], NOTHING, NOTHING).unwrap();
    assert!(beside.notes[0].contains("'Dockerfile' is not used"));
    let table = [
        (&[("package.json", "{\n\"scripts\": 5}")][..], "package.json cannot be read: line 2"),
        (&[("package.json", "{}")], "add a `start` script"),
        (&[("requirements.txt", "x")], "manage.py"),
        (&[("pyproject.toml", "\n[project"), ("main.py", "")], "pyproject.toml cannot be read: line 2"),
        (&[("go.mod", ""), ("cmd/a/x.go", ""), ("cmd/b/x.go", "")], "several programs (a, b)"),
    ];
    for (files, expected) in table {
        let failure = detected(files, &[], NOTHING, NOTHING).unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
}
