use ops::Principal;
use serde_json::Value;
use crate::world::World;
#[tokio::test(flavor="multi_thread")]
async fn timing() {
    let w = World::start().await;
    let vars: String = (0..2000).map(|i| format!("$v{i}: String ")).collect();
    let frs: String = (0..700).map(|i| format!("fragment A{i} on Query {{ me {{ id name }} ...A{} }} ", (i/40)*40 + if i%40==39 {39} else {i%40+1})).collect();
    let opfr: String = (0..400).map(|i| format!("...B{i} ")).collect::<String>();
    let bfr: String = (0..400).map(|i| format!("fragment B{i} on Query {{ me {{ id name email }} }} ")).collect();
    let b40: String = (0..40).map(|i| format!("fragment C{i} on Query {{ me {{ id name email }} {} }} ", (i+1..40.min(i+3)).map(|j| format!("...C{j} ")).collect::<String>())).collect();
    for (n, d) in [("same", format!("{{ me {{ {} }} }}", "id ".repeat(4900))), ("same2", format!("{{ {} }}", "me { id name email } ".repeat(59))), ("vars", format!("query Q({vars}) {{ __typename }}")), ("frs", format!("{{ __typename ...A0 }} {frs}")), ("opfr", format!("{{ {opfr} }} {bfr}")), ("b40", format!("{{ ...C20 }} {b40}")), ("inline", format!("{{ {} __typename {} }}", "... on Query { ".repeat(46), "}".repeat(46))), ("inline2", format!("{{ {} }}", "... on Query { me { id } } ".repeat(1200))), ("args", format!("{{ project({}) {{ id }} }}", "id: \"x\" ".repeat(3000))), ("distinct", format!("{{ me {{ {} }} }}", (0..190).map(|i| format!("a{i}: workspaces {{ id name }} ")).collect::<String>()))] {
      for _ in 0..2 { let t = std::time::Instant::now(); let (s, b) = w.send(&Principal::Anonymous, &d, Value::Null).await; println!("T {n} {s} {:?} {}", t.elapsed(), &b["errors"][0]["message"].to_string().chars().take(100).collect::<String>()); }
    }
}
