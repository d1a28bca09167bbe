// Projects in the dashboard: environments that are copied and switched, tokens for one of them or for a workspace, and what is deleted by
// its name. Driven by crates/server/tests/dashboard.rs.
import assert from "node:assert/strict";
import { api, asked, drop, pictures, reads, secretOf, signIn, story, tidy, toast } from "./browser.mjs";

const { ORRERY_TEST_APP_BROKEN: broken } = process.env;
const { app, browser, end, login, page, panel, shots, soon, step } = await story();
const dialog = page.getByRole("dialog");
let project = "";
let production = "";
let staging = "";
let service = "";

/** What a program is answered that has nothing but a token. */
const answer = (headers, query) => fetch(`${api}/graphql/v2`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify({ query }) }).then((response) => response.json());
const section = (title) => page.locator("section").filter({ has: page.getByRole("heading", { name: title, exact: true }) });
const settings = () => page.goto(`${api}/p/${project}/settings`);

/** Fills in a name that is not the one, then the one, and confirms. */
async function confirm(name, verb) {
  const button = dialog.getByRole("button", { name: verb, exact: true });
  const field = dialog.getByLabel(`Type ${name} to confirm`);
  assert.ok(await button.isDisabled(), "nothing was typed");
  await field.fill(`${name}s`);
  assert.ok(await button.isDisabled(), "another name was typed");
  await field.fill(name);
  await button.click();
  await dialog.waitFor({ state: "detached" });
}

await step("an app runs, with a variable", async () => {
  await signIn(page, login);
  await drop(page, page.getByRole("main"), app);
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  [, project, production, , service] = new URL(page.url()).pathname.split("/").slice(1);
  await page.goto(`${api}/p/${project}/${production}/s/${service}/variables`);
  await panel.getByLabel("Name").fill("COLOUR");
  await panel.getByLabel("Value").fill("green");
  await panel.getByRole("button", { name: "Add" }).click();
  await panel.getByRole("list", { name: "Variables" }).getByText("COLOUR", { exact: true }).waitFor();
});

await step("an environment begins as a copy of another", async () => {
  await page.goto(`${api}/p/${project}/${production}`);
  await page.getByRole("button", { name: "Environment production" }).click();
  await page.getByRole("menuitem", { name: "New environment" }).click();
  await dialog.getByLabel("Name").fill("staging");
  await dialog.getByLabel("Start from").selectOption({ label: "A copy of production" });
  await tidy(page, "making an environment");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("button", { name: "Environment staging" }).waitFor();
  staging = new URL(page.url()).pathname.split("/")[3];
  assert.notEqual(staging, production);
  await page.locator("a.node").filter({ hasText: "hello-shop" }).waitFor();
  await page.goto(`${api}/p/${project}/${staging}/s/${service}/variables`);
  await panel.getByRole("button", { name: "Show COLOUR" }).click();
  await panel.getByRole("button", { name: "Edit COLOUR: green" }).waitFor();
});

await step("one goes from one environment to the other", async () => {
  for (const [from, to, id] of [
    ["staging", "production", production],
    ["production", "staging", staging],
  ]) {
    await page.getByRole("button", { name: `Environment ${from}` }).click();
    await page.getByRole("menuitem", { name: to, exact: true }).click();
    await page.waitForURL(`${api}/p/${project}/${id}`);
    await page.getByRole("button", { name: `Environment ${to}` }).waitFor();
  }
  // As `railway open` opens it.
  await page.goto(`${api}/project/${project}?environmentId=${production}`);
  await page.waitForURL(`${api}/p/${project}/${production}`);
  await page.goto(`${api}/project/${project}?environmentId=${staging}`);
  await page.waitForURL(`${api}/p/${project}/${staging}`);
});

await step("an upload that is cancelled leaves nothing behind, and one that failed goes on when it is tried again", async () => {
  const services = async () => (await asked(page, `{ project(id: "${project}") { services { edges { node { id name } } } } }`)).data.project.services.edges.map((edge) => edge.node);
  const card = page.locator("a.node").filter({ hasText: "broken" });
  const under = page.getByRole("dialog", { name: "Deploying the folder" });
  let goOn = () => {};
  const held = new Promise((done) => (goOn = done));
  const sent = /\/up\?/;
  await page.goto(`${api}/p/${project}/${staging}`);
  await page.locator("a.node").filter({ hasText: "hello-shop" }).waitFor();
  await page.route(sent, async (route) => {
    await held;
    await route.abort().catch(() => {});
  });
  await drop(page, page.locator(".stage"), broken);
  await under.getByText(/^(Uploading |The server reads it)/).waitFor();
  await tidy(page, "a folder on its way");
  await page.keyboard.press("Escape");
  await under.waitFor({ state: "detached" });
  await toast(page, "The upload is cancelled");
  await card.waitFor({ state: "detached" });
  assert.ok(!(await services()).some((one) => one.name === "broken"), "what is cancelled leaves a service behind");
  assert.equal(new URL(page.url()).pathname, `/p/${project}/${staging}`);
  goOn();
  await page.unroute(sent);

  await page.route(sent, (route) => route.fulfill({ status: 400, contentType: "application/json", body: JSON.stringify({ message: "Not now", code: "CONFLICT", requestId: "of-the-upload" }) }));
  await drop(page, page.locator(".stage"), broken);
  await toast(page, "Request of-the-upload");
  await page.unroute(sent);
  await drop(page, page.locator(".stage"), broken);
  await page.waitForURL(/\/deployments\//, soon);
  const [made, ...more] = (await services()).filter((one) => one.name === "broken");
  assert.equal(more.length, 0);
  await page.goto(`${api}/`);
  await page.getByRole("heading", { name: "Projects" }).waitFor();
  await asked(page, `mutation { serviceDelete(id: "${made.id}") }`);
});

await step("the palette scales, stops and starts a service, makes an environment and adds a database", async () => {
  const choose = async (typed, name) => {
    await page.keyboard.press("Control+k");
    await page.locator("[cmdk-input]:focus").waitFor();
    await page.keyboard.type(typed);
    await page.getByRole("option", { name, exact: true, selected: true }).waitFor();
    await page.keyboard.press("Enter");
  };
  await page.goto(`${api}/p/${project}/${production}/s/${service}/settings`);
  await panel.getByText("1 of 1 running").waitFor(soon);
  await choose("scale", "Scale…");
  await dialog.getByLabel("Replicas").fill("2");
  await tidy(page, "scaling from the palette");
  await dialog.getByRole("button", { name: "Scale", exact: true }).click();
  // The page tells of the second one as soon as it runs, whether or not the dialog is through.
  await dialog.waitFor({ state: "detached" });
  await panel.getByText("2 of 2 running").waitFor(soon);
  await choose("stop", "Stop…");
  await page.getByRole("dialog", { name: "Stop this deployment?" }).getByRole("button", { name: "Stop it" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.locator(".panel-head").getByText("Stopped").waitFor(soon);
  const home = await page.context().newPage();
  await home.goto(`${api}/`);
  await home.getByRole("link", { name: /hello-shop.*Stopped/ }).waitFor();
  await home.close();
  await choose("restart", "Restart");
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  await choose("new environment", "New environment…");
  await dialog.getByLabel("Name").fill("by-palette");
  await dialog.getByLabel("Start from").selectOption({ label: "Nothing" });
  await dialog.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("button", { name: "Environment by-palette" }).waitFor();
  await page.getByText("This environment is empty").waitFor();
  await choose("add redis", "Add Redis");
  await page.getByRole("link", { name: /Redis.*Live/ }).waitFor(soon);
});

await step("what happens elsewhere is heard of, without asking again and again", async () => {
  const heard = [];
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => String(payload).includes("workspaceChanges") && heard.push(payload)));
  await page.goto(`${api}/p/${project}/${staging}`);
  const card = page.locator("a.node").filter({ hasText: "heard-of" });
  await page.locator("a.node").filter({ hasText: "hello-shop" }).waitFor();
  const told = async (times) => {
    for (const until = Date.now() + 120_000; heard.length < times; await page.waitForTimeout(50)) assert.ok(Date.now() < until, `the page was told ${heard.length} times, not ${times}`);
  };
  await told(1);
  // The page knows nothing of these two but what it is told. What it still asks for at its beginning may show the first of them before.
  const { data } = await asked(page, `mutation { serviceCreate(input: { projectId: "${project}", environmentId: "${staging}", name: "heard-of" }) { id } }`);
  await told(2);
  await card.waitFor();
  await asked(page, `mutation { serviceDelete(id: "${data.serviceCreate.id}") }`);
  await card.waitFor({ state: "detached" });
});

await step("the project's settings say who reaches it, and lead to where that is changed", async () => {
  await settings();
  const people = section("Members");
  await people.getByRole("listitem").getByText("Owner", { exact: true }).waitFor();
  await people.getByRole("link", { name: "Invite and change" }).click();
  await page.waitForURL(/\/w\/[^/]+\/members$/);
});

await step("a token of the project opens one environment, and ends when it is revoked", async () => {
  await settings();
  const tokens = section("Project tokens");
  await tokens.getByText(`orrery railway --server ${api} -- up --ci`).waitFor();
  await tokens.getByLabel("Name").fill("CI");
  await tokens.getByLabel("Environment").selectOption({ label: "staging" });
  await tokens.getByRole("button", { name: "Create token" }).click();
  const token = await secretOf(page);
  const mine = () => answer({ "project-access-token": token }, "{ projectToken { projectId environmentId } }");
  assert.deepEqual((await mine()).data.projectToken, { projectId: project, environmentId: staging });
  const row = tokens.getByRole("list", { name: "Project tokens" }).getByRole("listitem").filter({ hasText: "CI" });
  await row.getByText("staging").waitFor();
  await tidy(page, "project tokens");
  await row.getByRole("button", { name: "Revoke CI" }).click();
  await dialog.getByRole("button", { name: "Revoke the token" }).click();
  await tokens.getByText("No project tokens").waitFor();
  assert.ok((await mine()).errors, "a revoked token goes on");
});

await step("a token reaches one workspace, or everything", async () => {
  const [own] = (await asked(page, "{ me { workspaces { id } } }")).data.me.workspaces;
  const lab = (await asked(page, 'mutation { workspaceCreate(input: { name: "Laboratory" }) { id } }')).data.workspaceCreate;
  const list = page.getByRole("list", { name: "Tokens" }).getByRole("listitem");
  const make = async (name, workspace) => {
    await page.goto(`${api}/account/tokens`);
    await page.getByLabel("Name").fill(name);
    await page.getByRole("combobox", { name: "Workspace" }).selectOption({ label: workspace });
    await page.getByRole("button", { name: "Create token" }).click();
    await list.filter({ hasText: name }).waitFor();
    const token = await secretOf(page);
    return async ({ id }) => Boolean((await answer({ authorization: `Bearer ${token}` }, `{ workspace(workspaceId: "${id}") { id } }`)).data?.workspace);
  };
  const bound = await make("of the lab", "Laboratory");
  await list.filter({ hasText: "of the lab" }).getByText("Laboratory", { exact: true }).waitFor();
  assert.deepEqual([await bound(lab), await bound(own)], [true, false]);
  const personal = await make("of a person", "No workspace");
  await list.filter({ hasText: "of a person" }).getByText("Personal", { exact: true }).waitFor();
  assert.deepEqual([await personal(lab), await personal(own)], [true, true]);
});

await step("a project begins with a template", async () => {
  await page.goto(`${api}/new`);
  await page.getByLabel("Name").fill("brochure");
  await page.getByRole("button", { name: /^Static site/ }).click();
  await page.getByRole("link", { name: /site.*Live/ }).click({ timeout: soon.timeout });
  const address = await panel.getByRole("link", { name: "Open" }).getAttribute("href");
  await reads(address, "It works");
});

await step("more projects than a page has are a button away, and the palette knows them all", async () => {
  // A page of one has the others behind it.
  await page.route("**/graphql/v2", (route) => {
    const sent = route.request().postData() ?? "";
    return sent.includes("query Projects(") ? route.continue({ postData: sent.replace("first: 100", "first: 1") }) : route.continue();
  });
  await page.goto(`${api}/`);
  const list = page.getByRole("list", { name: "Projects" });
  await list.getByRole("link").first().waitFor();
  assert.equal(await list.getByRole("link").count(), 1);
  await page.keyboard.press("Control+k");
  for (const name of ["hello-shop", "brochure"]) await page.getByRole("option", { name, exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await list.getByRole("button", { name: "More projects" }).click();
  for (const name of [/hello-shop/, /brochure/]) await list.getByRole("link", { name }).waitFor();
  await tidy(page, "the next page of projects");
  await page.unroute("**/graphql/v2");
  // The palette knows what has come since it was open, too.
  const [own] = (await asked(page, "{ me { workspaces { id } } }")).data.me.workspaces;
  const { data } = await asked(page, `mutation { projectCreate(input: { workspaceId: "${own.id}", name: "newcomer" }) { id } }`);
  await page.keyboard.press("Control+k");
  await page.getByRole("option", { name: "newcomer", exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await asked(page, `mutation { projectDelete(id: "${data.projectCreate.id}") }`);
});

if (shots) await step("pictures", () => pictures(browser, page, shots, { "project-settings": `/p/${project}/settings`, tokens: "/account/tokens" }));

await step("an environment and a service are deleted by their names", async () => {
  await settings();
  const row = section("Environments").getByRole("listitem").filter({ hasText: "staging" });
  await row.getByRole("button", { name: "Delete…" }).click();
  await tidy(page, "confirming by name");
  await confirm("staging", "Delete");
  await row.waitFor({ state: "detached" });
  await page.goto(`${api}/p/${project}/${production}/s/${service}/settings`);
  await panel.getByRole("button", { name: "Delete the service…" }).click();
  await confirm("hello-shop", "Delete the service");
  await page.getByText("This environment is empty").waitFor();
});

await step("a deleted project is taken back for two days, and deleted at once by its name", async () => {
  const row = page.getByRole("list", { name: "Projects" }).getByRole("listitem").filter({ hasText: "hello-shop" });
  const gone = row.getByText(/^Deleted .*, gone for good on .*\d:\d\d/);
  const names = async (all) => (await asked(page, `{ projects(includeDeleted: ${all}) { edges { node { name } } } }`)).data.projects.edges.map((edge) => edge.node.name);
  const remove = async () => {
    await settings();
    await page.getByRole("button", { name: "Delete the project…" }).click();
    await confirm("hello-shop", "Delete the project");
    await page.waitForURL((url) => url.pathname === "/");
  };
  await remove();
  await page.getByRole("button", { name: "Undo" }).click();
  await row.getByRole("link", { name: /hello-shop/ }).waitFor();
  await remove();
  await gone.waitFor();
  assert.equal(await row.getByRole("link").count(), 0, "a deleted project is opened like any other");
  assert.ok(!(await names(false)).includes("hello-shop"), "a deleted project is still there");
  await tidy(page, "a project that is being deleted");
  await settings();
  await page.getByText("This project is being deleted").waitFor();
  await tidy(page, "the settings of a project that is being deleted");
  await page.goto(`${api}/`);
  await row.getByRole("button", { name: "Take back: hello-shop" }).click();
  await row.getByRole("link", { name: /hello-shop/ }).waitFor();
  assert.ok((await names(false)).includes("hello-shop"), "a project that was taken back is not there");
  await remove();
  await row.getByRole("button", { name: "Delete now: hello-shop" }).click();
  await confirm("hello-shop", "Delete it for good");
  await row.waitFor({ state: "detached" });
  assert.ok(!(await names(true)).includes("hello-shop"), "a project that was deleted at once is kept");
});

await end();
