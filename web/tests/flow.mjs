// A workflow in the dashboard, from nothing to a run. Driven by crates/server/tests/dashboard.rs.
import assert from "node:assert/strict";
import { api, pictures, secretOf, signIn, story, tidy, visitor } from "./browser.mjs";

const { browser, end, login, page, secondLogin, shots, soon, step } = await story();
const node = (title) => page.getByRole("group", { name: `Step ${title}` });
const edges = page.locator(".react-flow__edge");
const inspector = page.getByRole("complementary");
let editor = "";
let run = "";

/** Draws an edge by hand. */
async function draw(from, output, to, input) {
  const centre = async (title, handle) => {
    const box = await node(title).locator(`[data-handleid="${handle}"]`).boundingBox();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  await page.mouse.move(...(await centre(from, output)));
  await page.mouse.down();
  await page.mouse.move(...(await centre(to, input)), { steps: 12 });
  await page.mouse.up();
}

/** What was typed into a step, or where it was put, is in the database. */
const kept = () => page.waitForResponse((answer) => answer.request().method() === "PATCH");

/** The workflow is read again. */
const read = () => page.waitForResponse((answer) => answer.request().method() === "GET" && new URL(answer.url()).pathname.startsWith("/api/v1/workflows/"));

async function move(title, x, y) {
  const box = await node(title).boundingBox();
  await page.mouse.move(box.x + 40, box.y + 18);
  await page.mouse.down();
  await page.mouse.move(box.x + 40 + x, box.y + 18 + y, { steps: 8 });
  // Drawn again from what is kept.
  await Promise.all([kept(), read(), page.mouse.up()]);
}

await step("a workflow is made with what a caller gives", async () => {
  await signIn(page, login);
  await page.goto(`${api}/flow`);
  await page.getByRole("heading", { name: "No workflows yet" }).waitFor();
  await tidy(page, "no workflows");
  await page.getByRole("button", { name: "New workflow" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("Greet a visitor");
  await dialog.getByLabel("Name of field 1").fill("visitor");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await node("Request").waitFor();
  await node("Response").waitFor();
  editor = page.url();
});

await step("a step is added and told what to do", async () => {
  await page.getByRole("region", { name: "Steps to add" }).getByRole("button", { name: "Text template" }).click();
  await node("Text template").waitFor();
  await inspector.getByLabel(/^template/).fill("Hello {{ visitor }}!");
  await Promise.all([kept(), inspector.getByLabel("Name of the step").focus()]);
  await page.reload();
  await node("Text template").click();
  await page.waitForFunction(() => [...document.querySelectorAll("textarea")].some((one) => one.value === "Hello {{ visitor }}!"));
  await tidy(page, "the editor");
});

await step("edges are drawn where types match, and nowhere else", async () => {
  await move("Text template", 0, 160);
  await draw("Request", "field_visitor", "Text template", "in:+");
  await edges.first().waitFor();
  await draw("Text template", "out:result", "Response", "result");
  await edges.nth(1).waitFor();
  await page.getByRole("region", { name: "Steps to add" }).getByRole("button", { name: "Delay" }).click();
  await node("Delay").waitFor();
  await inspector.getByLabel("Input", { exact: true }).selectOption({ index: 0 });
  const milliseconds = await node("Delay").locator(".react-flow__handle-left").first().getAttribute("data-handleid");
  await move("Delay", 0, -180);
  await draw("Text template", "out:result", "Delay", milliseconds);
  await page.reload();
  await node("Delay").waitFor();
  // Edges are drawn after the steps.
  await edges.nth(1).waitFor();
  assert.equal(await edges.count(), 2, "a text was connected to a number");
});

await step("what was done is undone", async () => {
  await node("Delay").click();
  await inspector.getByRole("button", { name: "Delete the step" }).click();
  await node("Delay").waitFor({ state: "detached" });
  await node("Text template").click();
  await inspector.getByRole("button", { name: "Delete the step" }).click();
  await node("Text template").waitFor({ state: "detached" });
  await edges.first().waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await edges.nth(1).waitFor();
  await node("Text template").waitFor();
});

await step("what an undo brings back is shown, and leaving it saves nothing", async () => {
  const undo = () => page.getByRole("button", { name: "Undo" }).click();
  const leave = () => inspector.getByLabel("Name of the step").focus();
  const template = inspector.getByLabel(/^template/);
  const shows = (text) => page.waitForFunction((wanted) => [...document.querySelectorAll("textarea")].some((one) => one.value === wanted), text);
  const stored = () => page.evaluate(async (id) => (await (await fetch(`/api/v1/workflows/${id}`)).json()).nodes.find((one) => one.type === "text_template").data, editor.split("/").at(-1));
  await node("Text template").click();
  await shows("Hello {{ visitor }}!");
  await template.fill("Bye {{ visitor }}!");
  await Promise.all([kept(), read(), leave()]);
  await Promise.all([kept(), read(), undo()]);
  await shows("Hello {{ visitor }}!");
  const sent = [];
  const note = (request) => request.method() === "PATCH" && sent.push(request.postData());
  page.on("request", note);
  await template.focus();
  await leave();
  assert.equal((await stored()).inputs.template, "Hello {{ visitor }}!");
  assert.deepEqual(sent, [], "leaving a field saves what was undone");
  page.off("request", note);

  await inspector.getByText("When it fails").click();
  await inspector.getByLabel("Try again, times").fill("3");
  await Promise.all([kept(), read(), leave()]);
  await inspector.getByRole("button", { name: "Delete the step" }).click();
  await node("Text template").waitFor({ state: "detached" });
  await undo();
  await edges.nth(1).waitFor();
  assert.equal((await stored()).policy.retries, 3, "a step comes back without what happens when it fails");
  await Promise.all([kept(), read(), undo()]);
  assert.equal((await stored()).policy, undefined);
});

await step("a choice is taken back", async () => {
  await page.getByRole("region", { name: "Steps to add" }).getByRole("button", { name: "Condition" }).click();
  await node("Condition").waitFor();
  const operator = inspector.getByLabel(/^operator/);
  await Promise.all([kept(), read(), operator.selectOption("equals")]);
  const [answer] = await Promise.all([kept(), read(), operator.selectOption("")]);
  assert.equal(answer.status(), 200, "no choice is refused");
  await inspector.getByRole("button", { name: "Delete the step" }).click();
  await node("Condition").waitFor({ state: "detached" });
});

await step("what a caller gives is changed after the workflow was made", async () => {
  await node("Request").click();
  await inspector.getByLabel("Name of the new field").fill("mood");
  await inspector.getByLabel("Type of the new field").selectOption("any");
  await Promise.all([kept(), read(), inspector.getByRole("button", { name: "Add", exact: true }).click()]);
  await inspector.getByLabel("Name of mood").fill("temper");
  await Promise.all([kept(), read(), inspector.getByLabel("Name of the step").focus()]);
  await inspector.getByLabel("Name of temper").waitFor();
  await tidy(page, "the fields of a workflow");
  // Its edge goes with a field, and comes back with it.
  await inspector.getByRole("button", { name: "Remove visitor" }).click();
  await edges.nth(1).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await edges.nth(1).waitFor();
  await inspector.getByRole("button", { name: "Remove temper" }).click();
  await inspector.getByLabel("Name of temper").waitFor({ state: "detached" });
  await inspector.getByLabel("Name of visitor").waitFor();
});

await step("a run goes through the graph, step by step, to its output", async () => {
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("visitor").fill("Ada");
  await dialog.getByRole("button", { name: "Start the run" }).click();
  await page.waitForURL(/\/runs\//);
  const runs = inspector.getByRole("list", { name: "Steps of the run" });
  await node("Response").getByText("Completed").waitFor(soon);
  await runs.getByRole("button", { name: /^Text template/ }).click();
  await runs.getByRole("region", { name: "Output" }).getByText("Hello Ada!").waitFor();
  run = page.url();
  await tidy(page, "a run");
});

await step("a run is stopped from its own page, from the editor and from the list", async () => {
  const [slow] = await page.evaluate(async () => {
    const send = (path, body) => fetch(`/api/v1${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).then((answer) => answer.json());
    const { id } = await send("/workflows", { name: "Wait for long" });
    return [id, await send(`/workflows/${id}/nodes`, { nodeType: "delay", position: { x: 300, y: 220 }, inputs: { seconds: 86400 } })];
  });
  const stop = page.getByRole("button", { name: "Stop the run" });
  const start = page.getByRole("button", { name: "Run", exact: true });
  const sure = page.getByRole("dialog", { name: "Stop this run?" });
  await page.goto(`${api}/flow/${slow}`);
  await start.click();
  await page.waitForURL(/\/runs\//);
  await node("Delay").getByText("Running").waitFor(soon);
  await stop.click();
  await sure.getByRole("button", { name: "Let it run" }).click();
  await sure.waitFor({ state: "detached" });
  await stop.click();
  await sure.getByRole("button", { name: "Stop it" }).click();
  await node("Delay").getByText("Stopped").waitFor(soon);
  await stop.waitFor({ state: "detached" });

  for (const [from, path] of [
    ["the editor", ""],
    ["the list", "/runs"],
  ]) {
    await page.goto(`${api}/flow/${slow}`);
    await start.click();
    await page.waitForURL(/\/runs\//);
    const id = page.url().split("/").at(-1);
    await page.goto(`${api}/flow/${slow}${path}`);
    await stop.waitFor(soon);
    await tidy(page, `${from} while a run is under way`);
    await stop.click();
    await sure.getByRole("button", { name: "Stop it" }).click();
    await stop.waitFor({ state: "detached", ...soon });
    const { status } = await page.evaluate((one) => fetch(`/api/v1/runs/${one}`).then((answer) => answer.json()), id);
    assert.equal(status, "CANCELED", `a run is not stopped from ${from}`);
  }
});

await step("a run that begins elsewhere is heard of, without asking again and again", async () => {
  const send = (method, path, body) => page.evaluate(([how, where, what]) => fetch(`/api/v1${where}`, { method: how, headers: { "content-type": "application/json" }, body: what && JSON.stringify(what) }).then((answer) => answer.json()), [method, path, body]);
  const { id } = await send("POST", "/workflows", { name: "Told of" });
  const heard = [];
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => String(payload).includes('"FLOW"') && heard.push(payload)));
  await page.goto(`${api}/flow/${id}/runs`);
  await page.getByRole("heading", { name: "It has not run yet" }).waitFor();
  for (const until = Date.now() + 120_000; heard.length < 1; await page.waitForTimeout(50)) assert.ok(Date.now() < until, "nothing tells of runs");
  await send("POST", "/runs", { workflowId: id, values: {} });
  await page.getByRole("list", { name: "Runs" }).getByRole("listitem").first().waitFor(soon);
  for (const until = Date.now() + 120_000; heard.length < 2; await page.waitForTimeout(50)) assert.ok(Date.now() < until, "the run is not told of");
  await send("DELETE", `/workflows/${id}`);
});

await step("a step that deploys is told by names what", async () => {
  const [path, environment, service] = await page.evaluate(async () => {
    const send = (path, body) => fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).then((answer) => answer.json());
    const ask = async (query, variables) => (await send("/graphql/v2", { query, variables })).data;
    const { me } = await ask("{ me { workspaces { id } } }");
    const { projectCreate: project } = await ask("mutation ($id: String!) { projectCreate(input: { workspaceId: $id, name: \"observatory\" }) { id environments(first: 1) { edges { node { id } } } } }", { id: me.workspaces[0].id });
    const environment = project.environments.edges[0].node.id;
    const { serviceCreate } = await ask("mutation ($project: String!, $environment: String!) { serviceCreate(input: { projectId: $project, environmentId: $environment, name: \"dome\" }) { id } }", { project: project.id, environment });
    const { id } = await send("/api/v1/workflows", { name: "Deploy the dome" });
    await send(`/api/v1/workflows/${id}/nodes`, { nodeType: "deploy", position: { x: 300, y: 220 } });
    return [`/flow/${id}`, environment, serviceCreate.id];
  });
  await page.goto(`${api}${path}`);
  await node("Deploy").click();
  for (const [label, name] of [
    [/^environment_id/, "observatory / production"],
    [/^service_id/, "observatory / dome"],
  ]) {
    await Promise.all([kept(), read(), inspector.getByLabel(label).selectOption({ label: name })]);
  }
  await tidy(page, "a step that deploys");
  const { nodes } = await page.evaluate((one) => fetch(`/api/v1/workflows/${one}`).then((answer) => answer.json()), path.split("/").at(-1));
  const { inputs } = nodes.find((one) => one.type === "deploy").data;
  assert.deepEqual([inputs.environment_id, inputs.service_id], [environment, service]);
});

await step("it starts by the clock, when its address is called, and when something happens", async () => {
  await page.goto(editor);
  await page.getByRole("navigation", { name: "Workflow" }).getByRole("link", { name: "Starts" }).click();
  await page.getByRole("heading", { name: "Nothing yet" }).waitFor();
  await tidy(page, "no starts");
  const form = page.getByRole("region", { name: "New start" });
  const starts = page.getByRole("list", { name: "Starts" }).getByRole("listitem");
  const add = form.getByRole("button", { name: "Add" });
  const choose = async (start, verb) => {
    await page.getByRole("button", { name: `What can be done with ${start}` }).click();
    await page.getByRole("menuitem", { name: verb }).click();
  };

  await form.getByLabel("Cron").fill("every night");
  await add.click();
  await page.locator(".toast[data-tone=failed]").waitFor();
  await page.getByRole("button", { name: "Dismiss" }).click();
  await form.getByLabel("Cron").fill("0 3 * * *");
  await form.getByLabel("Time zone").fill("Europe/Berlin");
  await form.getByLabel("Values").fill('{"visitor": "Night"}');
  await add.click();
  const nightly = starts.filter({ hasText: "0 3 * * * Europe/Berlin" });
  await nightly.getByText(/next .*\d:\d\d.*has not started anything yet/).waitFor();

  await form.getByRole("combobox", { name: "What", exact: true }).selectOption("hook");
  await add.click();
  const address = new URL(await secretOf(page));
  const call = (body) => fetch(`${api}${address.pathname}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const { runId } = await (await call({ visitor: "Grace" })).json();
  const outcome = () => page.evaluate((id) => fetch(`/api/v1/runs/${id}?inDetails=true`).then((answer) => answer.text()), runId);
  for (const until = Date.now() + 120_000; !(await outcome()).includes("Hello Grace!"); ) {
    assert.ok(Date.now() < until, `a called webhook starts nothing: ${await outcome()}`);
    await page.waitForTimeout(200);
  }

  await form.getByRole("combobox", { name: "What", exact: true }).selectOption("event");
  await form.getByRole("combobox", { name: "When", exact: true }).selectOption("deployment.failed");
  await add.click();
  const failing = starts.filter({ hasText: "deployment.failed" });
  await failing.getByText("Active").waitFor();
  await choose("deployment.failed", "Pause");
  await failing.getByText("Paused").waitFor();
  await tidy(page, "starts");

  await choose("0 3 * * * Europe/Berlin", "Remove");
  await nightly.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await nightly.waitFor();
  await choose("when its address is called", "Remove");
  await page.getByRole("dialog").getByRole("button", { name: "Remove the webhook" }).click();
  await starts.filter({ hasText: "when its address is called" }).waitFor({ state: "detached" });
  assert.equal((await call({ visitor: "Nobody" })).ok, false, "a removed webhook starts a run");

  await page.getByRole("navigation", { name: "Workflow" }).getByRole("link", { name: "Runs" }).click();
  await page.getByRole("list", { name: "Runs" }).getByRole("listitem").filter({ hasText: "by hook" }).getByText("Completed").waitFor();
});

await step("a run is given what its fields take", async () => {
  const id = await page.evaluate(async () => {
    const requestFields = [
      { name: "options", type: "any", value: { a: 1 } },
      { name: "count", type: "number", value: 2 },
      { name: "photo", type: "file" },
    ];
    const made = await fetch("/api/v1/workflows", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ name: "Fields of all kinds", requestFields }) });
    return (await made.json()).id;
  });
  await page.goto(`${api}/flow/${id}`);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const dialog = page.getByRole("dialog");
  const options = dialog.getByLabel("options");
  assert.deepEqual(JSON.parse(await options.inputValue()), { a: 1 });
  await options.fill('{"b": [2]}');
  await dialog.getByLabel("count").fill("");
  await dialog.getByLabel("Choose a file for photo").setInputFiles({ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("hello") });
  await page.waitForFunction(() => [...document.querySelectorAll("input")].some((one) => one.value.includes("/v1/media/")));
  await tidy(page, "what a run is asked for");
  const started = page.waitForRequest((request) => request.method() === "POST" && new URL(request.url()).pathname === "/api/v1/runs");
  await dialog.getByRole("button", { name: "Start the run" }).click();
  const [given] = Object.values((await started).postDataJSON().values);
  assert.deepEqual(given.field_options, { b: [2] });
  assert.equal("field_count" in given, false, "an emptied number is sent");
  assert.match(given.field_photo, /\/v1\/media\//);
  await page.waitForURL(/\/runs\//);
});

await step("runs are listed, and one that fails says why", async () => {
  await page.goto(editor);
  await node("Text template").click();
  await inspector.getByLabel(/^template/).fill("{{ visitor");
  // Asked for before it can come.
  await Promise.all([kept(), read(), inspector.getByLabel("Name of the step").focus()]);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start the run" }).click();
  await node("Text template").getByText("Failed").waitFor(soon);
  await inspector.getByRole("alert").waitFor();
  await page.getByRole("link", { name: "Runs" }).click();
  const runs = page.getByRole("list", { name: "Runs" }).getByRole("listitem");
  await runs.filter({ hasText: "Failed" }).waitFor();
  await runs.filter({ hasText: "Completed" }).first().waitFor();
  await tidy(page, "the runs of a workflow");
});

await step("the palette finds a workflow by its name, however many are newer", async () => {
  const made = await page.evaluate(() => fetch("/api/v1/workflows", { method: "POST", headers: { "content-type": "application/json" }, body: '{"name": "Newer than all"}' }).then((answer) => answer.ok));
  assert.ok(made);
  // The newest one alone, so that there are others.
  const newest = (url) => url.pathname === "/api/v1/workflows" && !url.searchParams.has("search");
  await page.route(newest, (route) => route.continue({ url: route.request().url().replace("limit=50", "limit=1") }));
  await page.goto(`${api}/account`);
  await page.getByRole("heading").first().waitFor();
  await page.keyboard.press("Control+k");
  await page.locator("[cmdk-input]:focus").waitFor();
  await page.getByRole("option", { name: "Newer than all" }).waitFor();
  assert.equal(await page.getByRole("option", { name: "Greet a visitor" }).count(), 0);
  await page.keyboard.type("greet");
  await page.getByRole("option", { name: "Greet a visitor", selected: true }).waitFor();
  await page.keyboard.press("Enter");
  await page.waitForURL(editor);
  await page.goto(`${api}/flow`);
  const list = page.getByRole("list", { name: "Workflows" }).getByRole("link");
  await list.filter({ hasText: "Newer than all" }).waitFor();
  assert.equal(await list.count(), 1);
  await page.getByLabel("Find a workflow").fill("greet");
  await list.filter({ hasText: "Greet a visitor" }).waitFor();
  await list.filter({ hasText: "Newer than all" }).waitFor({ state: "detached" });
  await tidy(page, "searched workflows");
  await page.unroute(newest);
  await page.goto(run);
  await inspector.waitFor();
  await page.keyboard.press("Control+k");
  await page.getByRole("option", { name: "Copy the run id" }).waitFor();
  await page.keyboard.press("Escape");
});

await step("older runs are a click away", async () => {
  const first = (url) => url.pathname === "/api/v1/runs" && url.searchParams.get("limit") === "20";
  await page.route(first, (route) => route.continue({ url: route.request().url().replace("limit=20", "limit=1") }));
  await page.goto(`${editor}/runs`);
  const runs = page.getByRole("list", { name: "Runs" }).getByRole("listitem");
  await runs.first().waitFor();
  assert.equal(await runs.count(), 1);
  await page.getByRole("button", { name: "Older runs" }).click();
  await runs.nth(1).waitFor();
  await page.getByRole("button", { name: "Older runs" }).waitFor({ state: "detached" });
  await page.unroute(first);
});

await step("no end of the list of runs hides those before it", async () => {
  const list = (url) => url.pathname === "/api/v1/runs";
  const { items } = await page.evaluate((id) => fetch(`/api/v1/runs?limit=1&workflowId=${id}`).then((answer) => answer.json()), editor.split("/").at(-1));
  const all = Array.from({ length: 230 }, (_, at) => ({ ...items[0], id: `run-${at}` }));
  await page.route(list, (route) => {
    const { searchParams } = new URL(route.request().url());
    const from = Number(searchParams.get("cursor") ?? 0);
    const to = from + Number(searchParams.get("limit"));
    return route.fulfill({ json: { items: all.slice(from, to), nextCursor: to < all.length ? String(to) : null } });
  });
  await page.goto(`${editor}/runs`);
  const runs = page.getByRole("list", { name: "Runs" }).getByRole("listitem");
  for (const many of [20, 100, 200]) {
    await runs.nth(many - 1).waitFor();
    assert.equal(await runs.count(), many);
    await page.getByRole("button", { name: "Older runs" }).click();
  }
  await runs.nth(229).waitFor();
  await page.getByRole("button", { name: "Older runs" }).waitFor({ state: "detached" });
  await page.unroute(list);
});

await step("somebody of another workspace sees no workflow of it", async () => {
  const other = await visitor(browser);
  await signIn(other.page, secondLogin);
  await other.page.goto(`${api}/flow`);
  await other.page.getByRole("heading", { name: "No workflows yet" }).waitFor();
  for (const path of [editor, `${editor}/starts`, run]) {
    await other.page.goto(path);
    await other.page.getByRole("alert").waitFor();
    assert.equal(await other.page.getByText("Greet a visitor").count(), 0, `${path} tells a stranger of the workflow`);
  }
  const asked = await other.page.evaluate((paths) => Promise.all(paths.map((path) => fetch(path).then((answer) => answer.status))), [`/api/v1/workflows/${editor.split("/").at(-1)}`, `/api/v1/runs/${run.split("/").at(-1)}`]);
  assert.deepEqual(asked, [404, 404]);
  await other.context.close();
});

if (shots) await step("pictures", () => pictures(browser, page, shots, { flow: "/flow", workflow: editor, "workflow-runs": `${editor}/runs`, "workflow-run": run, "workflow-starts": `${editor}/starts`, keys: "/flow/keys" }));

await end();
