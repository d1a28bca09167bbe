//! What an upload may be, and what it may not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use builder::{BuildFailure, BuildLimits};
use domain::spec::RunPlan;

mod support;
use support::{Place, archive, entry, gzip};

const END: [u8; 1024] = [0; 1024];

fn file(name: &str, body: &str) -> Vec<u8> {
    entry(b'0', name.as_bytes(), b"", body.len() as u64, body.as_bytes())
}

#[tokio::test]
async fn an_ordinary_upload_is_unpacked_with_plain_rights() {
    let long = format!("{}/{}.txt", "d".repeat(150), "f".repeat(150));
    let whole = {
        let mut tar = vec![entry(b'5', b"./", b"", 0, b""), file("./index.html", "<h1>hi</h1>")];
        let mut setuid = tar::Header::new_gnu();
        setuid.set_mode(0o6777);
        setuid.set_size(3);
        let mut builder = tar::Builder::new(vec![]);
        builder.append_data(&mut setuid, &long, &b"abc"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "css/link", "../index.html").unwrap();
        tar.push(builder.into_inner().unwrap());
        tar.concat()
    };
    // Several gzip members, cut anywhere.
    let place = Place::new(&[gzip(&whole[..700]), gzip(&whole[700..])].concat());
    let (built, lines) = place.build().await;
    let built = built.unwrap();
    assert_eq!(built.run, RunPlan::Static { root: String::new(), spa: false });
    assert_eq!(built.manifest.files.keys().collect::<Vec<_>>(), ["css/link", long.as_str(), "index.html"]);
    let artifact = &place.request.artifact;
    assert_eq!(fs::read_to_string(artifact.join("css/link")).unwrap(), "<h1>hi</h1>");
    let meta = fs::metadata(artifact.join(&long)).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o755);
    if let Some(user) = place.request.user {
        assert_eq!((meta.uid(), fs::metadata(artifact).unwrap().uid()), (user.uid, user.uid));
    }
    let saved = fs::read(artifact.with_file_name("one.manifest.json")).unwrap();
    assert_eq!(serde_json::from_slice::<builder::SourceManifest>(&saved).unwrap(), built.manifest);
    assert!(lines.last().unwrap().message.starts_with("Build time: "), "{lines:?}");
}

#[tokio::test]
async fn hostile_uploads_are_refused_and_leave_nothing() {
    let pax = |key: &str, value: &str| {
        let record = (1..).map(|n| format!("{n} {key}={value}\n")).find(|r| r.split(' ').next().unwrap() == r.len().to_string()).unwrap();
        entry(b'x', b"pax", b"", record.len() as u64, record.as_bytes())
    };
    let deep = format!("{}x", "d/".repeat(101));
    let good = archive(&[("index.html", "hi")]);
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("absolute", gzip(&file("/etc/cron.d/x", "x")), "is absolute"),
        ("parent", gzip(&file("a/../../x", "x")), "`..`"),
        ("link out", gzip(&entry(b'2', b"l", b"/etc/passwd", 0, b"")), "points out"),
        ("link up", gzip(&entry(b'2', b"a/l", b"../../x", 0, b"")), "points out"),
        (
            "link through a link",
            gzip(&[entry(b'2', b"a/b/l", b"../..", 0, b""), entry(b'2', b"a/b/m", b"l/..", 0, b"")].concat()),
            "points out",
        ),
        ("file through a link", gzip(&[entry(b'2', b"l", b"d", 0, b""), file("l/x", "x")].concat()), "something else"),
        ("file over a folder", gzip(&[file("d/x", "x"), file("d", "x")].concat()), "something else"),
        ("hard link", gzip(&entry(b'1', b"h", b"/etc/shadow", 0, b"")), "hard link"),
        ("device", gzip(&entry(b'3', b"dev", b"", 0, b"")), "device"),
        ("block device", gzip(&entry(b'4', b"dev", b"", 0, b"")), "device"),
        ("pipe", gzip(&entry(b'6', b"fifo", b"", 0, b"")), "pipe"),
        ("sparse", gzip(&entry(b'S', b"s", b"", 0, b"")), "neither"),
        ("not UTF-8", gzip(&file_bytes(b"a\xff\xfe")), "UTF-8"),
        ("NUL", gzip(&[pax("path", "a\0b"), file("x", "x")].concat()), "NUL"),
        ("parent in a long name", gzip(&[pax("path", "../x"), file("x", "x")].concat()), "`..`"),
        ("two sizes", gzip(&[pax("size", "1"), file("x", "xyz")].concat()), "two sizes"),
        ("too deep", gzip(&[pax("path", &deep), file("x", "x")].concat()), "100 folders"),
        ("long name of a gigabyte", gzip(&entry(b'L', b"././@LongLink", b"", 1 << 30, &[b'a'; 4096])), "too long"),
        ("size that lies", gzip(&entry(b'0', b"x", b"", 100_000, b"short")), "cannot be read"),
        ("wrong checksum", gzip(&[b'x'; 1024]), "cannot be read"),
        ("no gzip", b"PK\x03\x04 this is a zip".to_vec(), "cannot be read"),
        ("nothing", vec![], "cannot be read"),
        ("cut", good[..good.len() - 12].to_vec(), "cannot be read"),
        ("rubbish behind", [good.clone(), b"rubbish".to_vec()].concat(), "cannot be read"),
        ("only folders", gzip(&[entry(b'5', b"a/", b"", 0, b""), END.to_vec()].concat()), "no files"),
    ];
    for (name, bytes, expected) in table {
        let place = Place::new(&bytes);
        let before = place.listing();
        let (result, lines) = place.build().await;
        let failure = result.expect_err(name);
        assert!(matches!(failure, BuildFailure::Source(_)) && failure.to_string().contains(expected), "{name}: {failure}");
        assert_eq!((lines.last().unwrap().error, &lines.last().unwrap().message), (true, &failure.to_string()), "{name}");
        assert_eq!(place.listing(), before, "{name}");
    }
}

fn file_bytes(name: &[u8]) -> Vec<u8> {
    entry(b'0', name, b"", 0, b"")
}

/// The most memory that this process has ever used, in kB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn bombs_end_at_the_limit_in_little_memory() {
    // 8 GB of zeros: one member of 8 MB, a thousand times.
    let zeros = gzip(&vec![0; 8 << 20]).repeat(1000);
    let many: Vec<u8> = (0..300).flat_map(|n| file(&format!("f{n}"), "")).collect();
    let bombs = [
        ("one large file", [gzip(&entry(b'0', b"x", b"", 8 << 30, b"")), zeros.clone()].concat()),
        ("zeros behind the end", [gzip(&file("x", "x")), zeros.clone()].concat()),
        ("a header that hides the size", [gzip(&entry(b'g', b"x", b"", 60_000, b"")), gzip(&vec![b' '; 60_000]).repeat(3000)].concat()),
        ("many files", gzip(&many)),
    ];
    let before = peak();
    for (name, bytes) in bombs {
        let mut place = Place::new(&bytes);
        drop(bytes);
        place.request.limits = BuildLimits { unpacked_bytes: 20 << 20, entries: 250, ..BuildLimits::default() };
        let listing = place.listing();
        let (result, _) = place.build().await;
        let failure = result.expect_err(name);
        let refused =
            matches!(&failure, BuildFailure::Limit(_)) || name.starts_with("a header") && matches!(failure, BuildFailure::Source(_));
        assert!(refused, "{name}: {failure}");
        assert_eq!(place.listing(), listing, "{name}");
    }
    assert!(peak() - before < 64 * 1024, "grew by {} kB", peak() - before);
}

#[tokio::test]
async fn the_root_directory_is_a_path_inside() {
    let files = [("apps/web/index.html", "web"), ("index.html", "root"), ("railway.json", r#"{"deploy":{"drainingSeconds":9}}"#)];
    let mut place = Place::of(&files);
    place.request.spec.build.root_directory = Some("/apps/web".into());
    let (built, lines) = place.build().await;
    let built = built.unwrap();
    assert_eq!(fs::read_to_string(place.request.artifact.join("index.html")).unwrap(), "web");
    assert!(!place.request.artifact.join("apps").exists());
    // The file stands at the root of the upload, not in the root directory.
    assert_eq!(built.spec.deploy.draining_seconds, 9);
    assert!(support::text(&lines).contains("root directory set as 'apps/web'"));
    for (bad, expected) in [("../x", "`..`"), ("apps/none", "not in the upload"), ("a\0b", "NUL")] {
        place.request.spec.build.root_directory = Some(bad.into());
        let (result, _) = place.build().await;
        assert!(result.unwrap_err().to_string().contains(expected));
    }
}
