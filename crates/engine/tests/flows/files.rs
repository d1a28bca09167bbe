//! Files of accounts: how large they may be, and how long they stay.

use std::sync::Arc;

use domain::Code;
use ops::file::{file_add, file_path};

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
