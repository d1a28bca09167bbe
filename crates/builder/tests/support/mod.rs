//! A place for one build, archives made by hand, and what is left afterwards.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use builder::{BuildFailure, BuildLimits, BuildLine, BuildRequest, Built, UnixUser};
use domain::spec::InstanceSpec;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Whom builds run as when the tests are root.
pub(crate) const USER: UnixUser = UnixUser { uid: 64_021, gid: 64_021 };

/// A data directory with one upload in it.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) request: BuildRequest,
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Builds execute their own program again to enter a sandbox; the program of a test is another.
#[allow(unsafe_code)]
#[expect(clippy::disallowed_methods, reason = "the program to execute is looked up in the environment, and tests run in this process")]
fn with_sandbox() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("ORRERY_EXE").is_some() {
        return;
    }
    // SAFETY: every test does this before anything else, and nothing reads the environment except through the standard library.
    ONCE.call_once(|| unsafe { std::env::set_var("ORRERY_EXE", env!("CARGO_BIN_EXE_builder-testbin")) });
}

impl Place {
    pub(crate) fn new(archive: &[u8]) -> Self {
        with_sandbox();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("upload.tgz"), archive).unwrap();
        let request = BuildRequest {
            archive: path("upload.tgz"),
            artifact: path("artifacts/one"),
            cache: path("cache/service"),
            scratch: path("scratch/one"),
            spec: InstanceSpec::default(),
            environment_name: "production".into(),
            ephemeral: false,
            region: "local".into(),
            env: BTreeMap::new(),
            sealed: vec![],
            user: is_root().then_some(USER),
            mirror_credentials: false,
            limits: BuildLimits::default(),
            previous: None,
        };
        Self { dir, request }
    }

    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self::new(&archive(files))
    }

    pub(crate) async fn build(&self) -> (Result<Built, BuildFailure>, Vec<BuildLine>) {
        self.build_until(CancellationToken::new(), |_| false).await
    }

    /// Cancels when a line asks for it.
    pub(crate) async fn build_until(
        &self,
        cancel: CancellationToken,
        ends: impl Fn(&BuildLine) -> bool + Send + 'static,
    ) -> (Result<Built, BuildFailure>, Vec<BuildLine>) {
        let (sender, mut receiver) = mpsc::channel(16);
        let token = cancel.clone();
        let reader = tokio::spawn(async move {
            let mut lines = vec![];
            while let Some(line) = receiver.recv().await {
                if ends(&line) {
                    token.cancel();
                }
                lines.push(line);
            }
            lines
        });
        let result = builder::build(self.request.clone(), sender, cancel).await;
        (result, reader.await.unwrap())
    }

    /// Everything in the data directory except the caches' content, which is kept on purpose.
    pub(crate) fn listing(&self) -> Vec<PathBuf> {
        let mut all = vec![];
        let mut waiting = vec![self.dir.path().to_owned()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() && !path.ends_with("cache/service") {
                    waiting.push(path.clone());
                }
                // The folders of all artifacts and all scratch folders are not this build's.
                if !["artifacts", "scratch", "cache", "cache/service"].iter().any(|own| path == self.dir.path().join(own)) {
                    all.push(path);
                }
            }
        }
        all.sort();
        all
    }
}

pub(crate) fn text(lines: &[BuildLine]) -> String {
    lines.iter().map(|line| format!("{}\n", line.message)).collect()
}

/// What commands wrote to standard output alone, in its order: a line of the other pipe may come between any two of these.
pub(crate) fn printed(lines: &[BuildLine]) -> String {
    lines.iter().filter(|line| !line.error).map(|line| format!("{}\n", line.message)).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As the Railway CLI makes it: `.` first, relative names.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    let mut root = tar::Header::new_gnu();
    root.set_entry_type(tar::EntryType::Directory);
    root.set_mode(0o755);
    root.set_size(0);
    builder.append_data(&mut root, ".", std::io::empty()).unwrap();
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if path.ends_with(".sh") { 0o755 } else { 0o644 });
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    gzip(&builder.into_inner().unwrap())
}

/// One entry with the name exactly as given, also names that the library would refuse to write.
pub(crate) fn entry(kind: u8, name: &[u8], link: &[u8], size: u64, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    let bytes = header.as_mut_bytes();
    bytes[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    bytes[156] = kind;
    bytes[157..157 + link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// Processes of the build's user that have `word` in their command line.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    let lines = entries.filter_map(|path| String::from_utf8(fs::read(path).ok()?).ok());
    lines.filter(|line| line.contains(word)).collect()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
