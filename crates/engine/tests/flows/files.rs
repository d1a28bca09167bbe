//! Files of accounts: how large they may be, and how long they stay.

use std::sync::Arc;

use domain::Code;
use ops::file::{file_add, file_path, system_file_of_address};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn files_have_a_largest_size_and_go_when_their_time_is_over() {
    let mut app = TestApp::new().await;
    let folder = app.dir().join("files");
    let settings = &mut Arc::get_mut(&mut app.ops).expect("nobody else has it yet").settings.flow;
    settings.files.clone_from(&folder);
    (settings.max_file_bytes, settings.max_workspace_bytes) = (10, 25);
    let ctx = app.person("ada@example.com").await;
    let a_month_ago = OpCtx { now: Timestamp::now() - jiff::SignedDuration::from_hours(24 * 31), ..ctx.clone() };
    let old = file_add(&a_month_ago, "old.txt", b"ten bytes!").await.expect("a file").file;
    let new = file_add(&now(&ctx), "new.txt", b"ten bytes!").await.expect("a file").file;
    let large = file_add(&now(&ctx), "large.txt", b"eleven byte").await.expect_err("it is too large");
    assert!(large.code == Code::TooLarge && large.public.contains("at most 10 bytes"), "{large:?}");
    let more = file_add(&now(&ctx), "more.txt", b"ten bytes!").await.expect_err("there is no room");
    assert!(more.code == Code::PlanLimit && more.public.contains("at most 25 bytes"), "{more:?}");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 2, "what was refused is not on disk");

    app.start_engine();
    let gone = async {
        while app.ops.store.flow_file(old.id).await.expect("the store").is_some() {
            // Deleting rings no bell.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("its time is over");
    assert!(!file_path(&app.ops, old.id).exists() && file_path(&app.ops, new.id).exists());
    file_add(&now(&ctx), "more.txt", b"ten bytes!").await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_address_ends_with_its_file_and_names_no_other_time() {
    let mut app = TestApp::new().await;
    let folder = app.dir().join("files");
    Arc::get_mut(&mut app.ops).expect("nobody else has it yet").settings.flow.files = folder;
    let ctx = app.person("ada@example.com").await;
    let made = file_add(&now(&ctx), "a.txt", b"ten bytes!").await.expect("a file");
    let (tenant, end) = (Tenant::system(made.file.workspace_id), made.file.expires_at);
    let read = async |address: &str, at: Timestamp| system_file_of_address(&app.ops, tenant, address, at).await.map(|file| file.id);
    let hour = jiff::SignedDuration::from_hours(1);
    assert_eq!(read(&made.url, end - hour).await, Some(made.file.id));
    assert_eq!(read(&made.url, end + hour).await, None);
    let longer = made.url.replace(&format!("expires={}", end.as_second()), &format!("expires={}", end.as_second() + 7200));
    assert!(longer != made.url);
    assert_eq!(read(&longer, end - hour).await, None);
}
