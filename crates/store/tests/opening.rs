//! Opening, migrating, closing, and the ways in which a database is not there.

use futures::future::join_all;
use store::{Store, StoreError};

use crate::fixture::*;
use crate::postgres::Postgres;

both! {
    async fn opening_again_finds_everything(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let again = join_all((0..3).map(|_| open(&fixture.url, KEY))).await;
        for store in again {
            let store = store.unwrap();
            assert_eq!(store.projects_by_id(tree.tenant, &[tree.project.id]).await.unwrap(), std::slice::from_ref(&tree.project));
            store.close().await;
        }
    }

    async fn a_copy_made_meanwhile_is_whole_and_private(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let copy = fixture.dir.path().join("copy.db");
        let made = fixture.store.snapshot(&copy).await.unwrap();
        assert_eq!((made, copy.exists()), (fixture.kind == Kind::Sqlite, fixture.kind == Kind::Sqlite));
        if made {
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).unwrap().permissions()) & 0o777, 0o600);
            let restored = open(&format!("sqlite://{}", copy.display()), KEY).await.unwrap();
            assert_eq!(restored.variables(tree.tenant, tree.environment.id).await.unwrap(), std::slice::from_ref(&tree.variable));
            assert!(fixture.store.snapshot(&copy).await.is_err(), "an earlier copy was written over");
        }
    }

    async fn a_closed_store_says_so(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let clone = fixture.store.clone();
        fixture.store.clone().close().await;
        assert!(matches!(clone.user(user.id).await, Err(StoreError::Unavailable { .. })));
        let late = clone.commit(tenant, vec![store::Change::ProjectInsert(project(tenant, "late"))]).await;
        assert!(matches!(late, Err(StoreError::Unavailable { .. })));
        assert!(open(&fixture.url, KEY).await.unwrap().user(user.id).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_database_of_an_earlier_program_is_known_and_copied_before_it_is_migrated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orrery.db");
    let url = format!("sqlite://{}", path.display());
    assert!(!Store::is_behind(&url).unwrap() && !path.exists(), "looking makes none");
    open(&url, KEY).await.unwrap().close().await;
    assert!(!Store::is_behind(&url).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    let last = "DELETE FROM refinery_schema_history WHERE version = (SELECT max(version) FROM refinery_schema_history)";
    assert_eq!(connection.execute(last, []).unwrap(), 1);
    drop(connection);
    assert!(Store::is_behind(&url).unwrap());
    let copy = dir.path().join("copy.db");
    assert!(Store::copy_closed(&url, &copy).await.unwrap());
    assert!(Store::is_behind(&format!("sqlite://{}", copy.display())).unwrap(), "it is as it was");
    assert!(!Store::is_behind("postgres://nobody@127.0.0.1:1/none").unwrap());
}

/// Another process that opens the database cuts down the index of a log that nobody has, and whoever had it mapped dies of that.
#[tokio::test]
async fn others_see_that_the_database_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&format!("sqlite://{}", dir.path().join("orrery.db").display()), KEY).await.unwrap();
    assert!(store.version().is_some());
    let index = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.path().join("orrery.db-shm")).unwrap());
    let locks = || std::fs::read_to_string("/proc/locks").unwrap();
    let held = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.contains(&std::process::id().to_string().as_str()) && words.iter().any(|word| word.ends_with(&format!(":{index}")))
    };
    // The kernel tells them page by page, and what others let go of in between can hide one that is held.
    assert!((0..100).any(|_| locks().lines().any(held)), "inode {index}:\n{}", locks());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_control_planes_may_begin_at_once() {
    let server = Postgres::shared();
    let url = server.database().await;
    for store in join_all((0..4).map(|_| open(&url, KEY))).await {
        assert!(store.unwrap().is_empty().await.unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("orrery.db").display());
    let tasks = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { open(&url, KEY).await })
    });
    for store in join_all(tasks).await {
        assert!(store.unwrap().unwrap().is_empty().await.unwrap());
    }
}

#[tokio::test]
async fn a_bad_address_is_explained_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}", dir.path().join("no/such/orrery.db").display());
    for url in ["", "mysql://root:hunter2@host/db", "postgres://u:hunter2@h/db?sslmode=sometimes", &missing] {
        let error = open(url, KEY).await.unwrap_err();
        assert!(matches!(error, StoreError::BadUrl(_)), "{url}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    // Bound, so that nobody else comes to listen there, and not listening.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = held.local_addr().unwrap().port();
    let error = open(&format!("postgres://u:hunter2@127.0.0.1:{silent}/db"), KEY).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn tls_is_used_and_the_certificate_checked() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
    let server =
        Postgres::start(&[("server.crt", &made.cert.pem()), ("server.key", &made.signing_key.serialize_pem()), ("pg_hba.conf", rules)]);
    let authorities = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = authorities.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right.pem", made.cert.pem()), file("wrong.pem", stranger.cert.pem()));
    let url = |host: &str, options: &str| format!("postgres://postgres@{host}:{}/postgres?{options}", server.port());
    let good = url("localhost", &format!("sslmode=verify-full&sslrootcert={right}"));
    assert!(open(&good, KEY).await.unwrap().is_empty().await.unwrap());
    for (host, options) in [
        ("localhost", "sslmode=disable".to_owned()),
        ("localhost", "sslmode=require".to_owned()),
        ("localhost", format!("sslmode=require&sslrootcert={wrong}")),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={right}")),
    ] {
        assert!(open(&url(host, &options), KEY).await.is_err(), "{host} {options}");
    }
}
