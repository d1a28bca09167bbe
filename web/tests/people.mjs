// People in the dashboard: passwords, sessions, members and their roles, invitations, notifications. Driven by
// crates/server/tests/dashboard.rs.
import assert from "node:assert/strict";
import { api, asked, drop, pictures, secretOf, settled, shown, signIn, story, tidy, toast, visitor } from "./browser.mjs";

const { app, browser, end, login, page, secondLogin, shots, soon, step } = await story();
const other = await visitor(browser);
const PASSWORD = "correct horse battery";
let service = "";
let workspace = "";

await step("an app runs", async () => {
  await signIn(page, login);
  await drop(page, page.getByRole("main"), app);
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  service = page.url().split("/deployments/")[0];
  workspace = (await asked(page, "{ me { workspaces { id } } }")).data.me.workspaces[0].id;
});

await step("a person changes what they are called", async () => {
  await page.goto(`${api}/account`);
  const form = page.getByRole("form", { name: "Profile" });
  await form.getByLabel("Your name").fill("Grace Hopper");
  await form.getByRole("button", { name: "Save" }).click();
  await toast(page, "Saved");
  await page.reload();
  assert.equal(await form.getByLabel("Your name").inputValue(), "Grace Hopper");
});

await step("a password is set, signs in elsewhere, and that browser is signed out from here", async () => {
  await page.goto(`${api}/account`);
  const form = page.getByRole("form", { name: "Password" });
  await form.getByLabel("New password").fill(PASSWORD);
  await form.getByRole("button", { name: "Set a password" }).click();
  await toast(page, "The password is set");
  const elsewhere = await visitor(browser);
  await elsewhere.page.goto(`${api}/`);
  await elsewhere.page.getByLabel("E-mail address").fill("admin@localhost");
  await elsewhere.page.getByLabel("Password").fill(PASSWORD);
  await elsewhere.page.getByRole("button", { name: "Sign in" }).click();
  await elsewhere.page.getByRole("heading", { name: "Projects" }).waitFor();
  await page.reload();
  const sessions = page.getByRole("list", { name: "Sessions" }).getByRole("listitem");
  assert.match(await sessions.filter({ hasText: "This browser" }).textContent(), /Chrome on Linux, /);
  await tidy(page, "the account's security");
  await sessions.getByRole("button", { name: "Sign out" }).click();
  await toast(page, "That browser is signed out");
  // That page leads to where one signs in without being touched.
  await elsewhere.page.waitForURL(/\/login\?next=%2F$/, soon);
  await elsewhere.page.goto(`${api}/account`);
  await elsewhere.page.waitForURL(/\/login\?next=%2Faccount$/);
  await elsewhere.context.close();
});

await step("a command line that is signed in is seen and revoked", async () => {
  const form = (path, fields) => page.request.post(`${api}${path}`, { form: { client_id: "cli", ...fields } }).then((answer) => answer.json());
  const { device_code, user_code } = await form("/oauth/device/auth", {});
  await page.goto(`${api}/oauth/device?user_code=${user_code}`);
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("The client is signed in").waitFor();
  const { access_token } = await form("/oauth/token", { grant_type: "urn:ietf:params:oauth:grant-type:device_code", device_code });
  const email = () =>
    page.request
      .post(`${api}/graphql/v2`, { headers: { authorization: `Bearer ${access_token}` }, data: { query: "{ me { email } }" } })
      .then((answer) => answer.json())
      .then((answer) => answer.data?.me?.email);
  assert.equal(await email(), "admin@localhost");
  await page.goto(`${api}/account`);
  const row = page.getByRole("list", { name: "Sessions" }).getByRole("listitem").filter({ hasText: "Command line" });
  await row.getByText("last used").waitFor();
  await row.getByRole("button", { name: "Revoke" }).click();
  await toast(page, "That command line is signed out");
  await row.waitFor({ state: "detached" });
  assert.equal(await email(), undefined);
});

await step("changing the password needs the present one", async () => {
  const form = page.getByRole("form", { name: "Password" });
  await form.getByLabel("Present password").fill("something else");
  await form.getByLabel("New password").fill(`${PASSWORD} staple`);
  await form.getByRole("button", { name: "Change the password" }).click();
  await page.getByText("the present password is another one").waitFor();
});

await step("a code follows the password once that is set up, and a recovery code works in its place", async () => {
  await page.reload();
  const section = page.getByRole("region", { name: "Two-factor authentication" });
  await section.getByLabel("Your password").fill(PASSWORD);
  await section.getByRole("button", { name: "Set it up" }).click();
  const secret = (await page.getByTestId("second-factor").textContent()).trim();
  await tidy(page, "setting two-factor authentication up");
  const since = Date.now() / 1000;
  await section.getByLabel("Code of your app").fill(shown(secret, since, 0));
  await section.getByRole("button", { name: "Turn it on" }).click();
  await toast(page, "Two-factor authentication is on");
  const list = page.getByTestId("recovery-codes").locator("code");
  await list.nth(9).waitFor();
  const codes = await list.allTextContents();
  assert.equal(codes.length, 10);
  await section.getByRole("button", { name: "I have kept them" }).click();

  const enter = async (code) => {
    const elsewhere = await visitor(browser);
    await elsewhere.page.goto(`${api}/`);
    await elsewhere.page.getByLabel("E-mail address").fill("admin@localhost");
    await elsewhere.page.getByLabel("Password").fill(PASSWORD);
    await elsewhere.page.getByRole("button", { name: "Sign in" }).click();
    await elsewhere.page.getByLabel("Code").fill("000");
    await elsewhere.page.getByRole("button", { name: "Sign in" }).click();
    await elsewhere.page.getByRole("alert").getByText("wrong or was used already").waitFor();
    await elsewhere.page.getByLabel("Code").fill(code());
    await elsewhere.page.getByRole("button", { name: "Sign in" }).click();
    await elsewhere.page.getByRole("heading", { name: "Projects" }).waitFor();
    await elsewhere.context.close();
  };
  // The next one: newer than what was used, whenever it is entered.
  await enter(() => shown(secret, Date.now() / 1000, 1));
  await enter(() => codes[0]);

  await section.getByRole("button", { name: "Turn it off…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Your password").fill(PASSWORD);
  await dialog.getByLabel("Code of your app, or a recovery code").fill(codes[1]);
  await dialog.getByRole("button", { name: "Turn it off" }).click();
  await section.getByRole("button", { name: "Set it up" }).waitFor();
});

await step("somebody with an account is added as a viewer, and sees what runs", async () => {
  await signIn(other.page, secondLogin);
  await page.goto(`${api}/w/${workspace}/members`);
  await page.getByLabel("E-mail address").fill("second@example.test");
  await page.getByRole("combobox", { name: "As", exact: true }).selectOption("VIEWER");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await toast(page, "second@example.test is a member now");
  await page.getByRole("list", { name: "Members" }).getByRole("listitem").filter({ hasText: "second@example.test" }).waitFor();
  await tidy(page, "members");
  await other.page.goto(`${service}/deployments`);
  await other.page.locator(".panel-head").getByText("Live").waitFor(soon);
});

/** What a page lets somebody press or type into, but for its frame. */
const offered = (page) =>
  page.evaluate(() => {
    const controls = [...document.querySelectorAll("button, input, select, textarea, [contenteditable]")].filter((one) => !one.matches(":disabled") && one.checkVisibility() && !one.closest("header, .toasts"));
    return controls.map((one) => one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent ?? (one.textContent.trim() || one.title || one.outerHTML.slice(0, 120)));
  });

/** Looking closer, taking along what one sees, and leaving. */
const harmless = /^(Copy|Copied|Filter lines|Go to a moment|Hold still|Fold repeated|[\d,]+ (?:times|lines) more$|Download|Newest|Charts|Older|Close|Try again|Zoom|Fit View|More$|What can be done with this deployment|Leave the workspace)/;

await step("no page offers a viewer a change", async () => {
  const { page: viewer } = other;
  const canvas = service.split("/s/")[0];
  const tabs = ["deployments", "logs", "metrics", "variables", "containers", "triggers", "storage", "domains", "settings"].map((tab) => `${service}/${tab}`);
  const [row] = (await asked(page, `{ deployments(first: 1, input: {serviceId: "${service.split("/").at(-1)}"}) { edges { node { id } } } }`)).data.deployments.edges;
  const own = ["members", "notifications", "webhooks", "audit"].map((name) => `${api}/w/${workspace}/${name}`);
  for (const path of [`${api}/?workspace=${workspace}`, canvas, ...tabs, `${service}/deployments/${row.node.id}`, `${canvas}/logs`, `${canvas}/activity`, `${service.split("/").slice(0, 5).join("/")}/settings`, ...own]) {
    await viewer.goto(path);
    await viewer.getByRole("banner").waitFor();
    await settled(viewer);
    assert.deepEqual((await offered(viewer)).filter((name) => !harmless.test(name)), [], `${path} offers a viewer a change`);
    for (const menu of await viewer.getByRole("button", { name: /^(More|What can be done with)/ }).all()) {
      await menu.click();
      const items = viewer.getByRole("menuitem");
      await items.first().waitFor();
      for (const item of await items.allTextContents()) assert.match(item, /^Copy/, `${path} offers a viewer: ${item}`);
      await items.first().click();
      await items.first().waitFor({ state: "detached" });
    }
  }
});

await step("a viewer's changes are refused by the API too", async () => {
  const [project, environment, , id] = service.split("/").slice(-4);
  const place = `projectId: "${project}", environmentId: "${environment}"`;
  const refusals = {
    projectUpdate: `projectUpdate(id: "${project}", input: {name: "x"}) { id }`,
    projectDelete: `projectDelete(id: "${project}")`,
    projectTokenCreate: `projectTokenCreate(input: {${place}, name: "x"})`,
    environmentCreate: `environmentCreate(input: {projectId: "${project}", name: "x"}) { id }`,
    environmentStageChanges: `environmentStageChanges(environmentId: "${environment}", input: {}) { id }`,
    serviceCreate: `serviceCreate(input: {${place}, name: "x"}) { id }`,
    serviceDelete: `serviceDelete(id: "${id}", environmentId: "${environment}")`,
    serviceInstanceUpdate: `serviceInstanceUpdate(serviceId: "${id}", environmentId: "${environment}", input: {numReplicas: 2})`,
    serviceDomainCreate: `serviceDomainCreate(input: {environmentId: "${environment}", serviceId: "${id}"}) { id }`,
    volumeCreate: `volumeCreate(input: {${place}, serviceId: "${id}", mountPath: "/data"}) { id }`,
    workspaceInviteCodeCreate: `workspaceInviteCodeCreate(workspaceId: "${workspace}", input: {role: "ADMIN"})`,
  };
  for (const [name, mutation] of Object.entries(refusals)) {
    const answer = await asked(other.page, `mutation { ${mutation} }`);
    assert.equal(answer.errors?.[0].extensions.code, "FORBIDDEN", `${name}: ${JSON.stringify(answer)}`);
  }
});

await step("a viewer cannot change anything", async () => {
  const { page: viewer } = other;
  await viewer.goto(`${service}/deployments`);
  const panel = viewer.getByRole("complementary");
  await panel.waitFor();
  assert.equal(await panel.getByRole("button", { name: /Deploy|Roll back|Add/ }).count(), 0);
  const tab = (name) => panel.getByRole("navigation", { name: "Service" }).getByRole("link", { name, exact: true }).click();
  await tab("Variables");
  await panel.getByText("Values are hidden from you").waitFor();
  await tab("Settings");
  await panel.getByRole("heading", { name: "Replicas", exact: true }).waitFor();
  assert.equal(await panel.locator("input:enabled, select:enabled").count(), 0, "a viewer can type into settings");
  for (const [name, verb] of [["Containers", "Kill"], ["Triggers", "New trigger"], ["Domains", "Attach"], ["Storage", "Add a volume"]]) {
    await tab(name);
    await viewer.waitForURL(new RegExp(`/${name.toLowerCase()}`));
    await panel.locator(".panel-body > *").first().waitFor();
    assert.equal(await panel.getByRole("button", { name: verb }).count(), 0, `a viewer is offered: ${verb}`);
    assert.equal(await panel.getByRole("link", { name: "Open shell" }).count(), 0, "a viewer is offered a shell");
  }
  const [project, environment, , id] = service.split("/").slice(-4);
  const refused = await asked(viewer, `mutation { variableUpsert(input: {projectId: "${project}", environmentId: "${environment}", serviceId: "${id}", name: "A", value: "1"}) }`);
  assert.equal(refused.errors[0].extensions.code, "FORBIDDEN");
  await tidy(viewer, "what a viewer sees");
});

await step("as a member they may, and in a protected environment once an admin has approved it", async () => {
  const row = page.getByRole("list", { name: "Members" }).getByRole("listitem").filter({ hasText: "second@example.test" });
  await row.getByRole("combobox").selectOption("MEMBER");
  await toast(page, "second@example.test has another role");
  await other.page.goto(`${service}/variables`);
  await other.page.getByRole("complementary").getByLabel("Name").waitFor();

  const settings = `${service.split("/").slice(0, 5).join("/")}/settings`;
  await page.goto(settings);
  await page.getByRole("button", { name: "Protect", exact: true }).click();
  await page.getByRole("button", { name: "End protection" }).waitFor();
  await tidy(page, "a protected environment");
  const deployments = (who) => who.getByRole("list", { name: "Deployments" }).getByRole("listitem");
  await other.page.goto(`${service}/deployments`);
  await deployments(other.page).first().getByRole("button", { name: "What can be done with this deployment" }).click();
  await other.page.getByRole("menuitem", { name: "Deploy again" }).click();
  const theirs = deployments(other.page).filter({ hasText: "Needs approval" });
  await theirs.getByText("waits for an admin").waitFor(soon);
  await theirs.getByRole("button", { name: "Cancel" }).waitFor();
  assert.equal(await theirs.getByRole("button", { name: "Approve" }).count(), 0, "a member is offered to approve");
  await page.goto(`${api}/`);
  await page.getByRole("link", { name: /hello-shop.*Needs approval/ }).waitFor();
  await page.goto(`${service}/deployments`);
  await tidy(page, "a deployment that needs an approval");
  await deployments(page).filter({ hasText: "Needs approval" }).getByRole("button", { name: "Approve" }).click();
  await deployments(page).first().getByText("Live").waitFor(soon);
  await page.goto(settings);
  await page.getByRole("button", { name: "End protection" }).click();
  await page.getByRole("button", { name: "Protect", exact: true }).waitFor();
});

await step("older deployments are a click away in what a member sees of the activity", async () => {
  const page50 = (body) => body.includes('"operationName":"Deployments"') && body.includes('"first":50');
  const fewer = (route) => {
    const body = route.request().postData() ?? "";
    return page50(body) ? route.continue({ postData: body.replace('"first":50', '"first":1') }) : route.fallback();
  };
  await other.page.route("**/graphql/v2", fewer);
  await other.page.goto(`${service.split("/s/")[0]}/activity`);
  const rows = other.page.getByRole("main").getByRole("listitem");
  await rows.first().waitFor();
  assert.equal(await rows.count(), 1);
  await other.page.getByRole("button", { name: "Older" }).click();
  await rows.nth(1).waitFor();
  await other.page.unroute("**/graphql/v2", fewer);
});

await step("they are asked before they leave, and once removed they see nothing", async () => {
  await other.page.goto(`${api}/w/${workspace}/members`);
  await other.page.getByRole("button", { name: "Leave the workspace" }).click();
  const leaving = other.page.getByRole("dialog", { name: /^Leave / });
  await leaving.getByRole("button", { name: "Leave it" }).waitFor();
  await leaving.getByRole("button", { name: "Stay" }).click();
  await leaving.waitFor({ state: "detached" });
  await page.goto(`${api}/w/${workspace}/members`);
  const row = page.getByRole("list", { name: "Members" }).getByRole("listitem").filter({ hasText: "second@example.test" });
  await row.getByRole("button", { name: "Remove" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await row.waitFor({ state: "detached" });
  await other.page.goto(service);
  await other.page.getByRole("alert").waitFor();
  assert.equal(await other.page.getByText("hello-shop").count(), 0);
});

await step("a workspace of one's own is joined by a link, once", async () => {
  await page.goto(`${api}/account`);
  await page.getByLabel("Name of the workspace").fill("Observatory");
  await page.getByRole("button", { name: "Make the workspace" }).click();
  await page.getByRole("heading", { name: "Members" }).waitFor();
  await page.getByRole("button", { name: "Make a link" }).click();
  const link = await secretOf(page);
  await other.page.goto(link);
  await other.page.getByRole("button", { name: "Join" }).click();
  await other.page.getByRole("button", { name: "Workspace Observatory" }).waitFor();
  await other.page.goto(link);
  await other.page.getByRole("button", { name: "Join" }).click();
  await other.page.getByText(/Invitation not found|a member of this workspace already/).waitFor();
  await page.reload();
  await page.getByRole("list", { name: "Members" }).getByText("second@example.test").waitFor();
});

await step("a key of Flow says whose it is where somebody manages several workspaces", async () => {
  const { workspaces } = (await asked(page, "{ me { workspaces { id name } } }")).data.me;
  const team = workspaces.find((one) => one.name === "Observatory").id;
  for (const place of ["", `, workspaceId: "${team}"`]) {
    const made = await asked(page, `mutation { apiKeyCreate(input: {kind: FLOW, label: "import${place && " of the team"}"${place}}) { apiKey { id } } }`);
    assert.ok(made.data, JSON.stringify(made));
  }
  await page.goto(`${api}/flow/keys`);
  await page.getByRole("columnheader", { name: "Workspace" }).waitFor();
  const rows = page.getByRole("row").filter({ hasText: "import" });
  await rows.filter({ hasText: "import of the team" }).getByRole("cell", { name: "Observatory", exact: true }).waitFor();
  assert.equal(await rows.getByRole("cell", { name: "Observatory", exact: true }).count(), 1);
  await tidy(page, "keys of several workspaces");
});

await step("events are told to a webhook", async () => {
  await page.goto(`${api}/w/${workspace}/notifications`);
  await page.getByLabel("Slack, or any webhook").check();
  await page.getByLabel("Address of the incoming webhook").fill("http://127.0.0.1:9/hook");
  await page.getByLabel("App scaled to the webhook").uncheck();
  await page.getByRole("button", { name: "Save" }).click();
  await toast(page, "Saved");
  await page.reload();
  assert.equal(await page.getByLabel("App scaled to the webhook").isChecked(), false);
  assert.equal(await page.getByLabel("Slack, or any webhook").isChecked(), true);
  await tidy(page, "notifications");
});

await step("a rule sends deployments to a webhook", async () => {
  await page.goto(`${api}/w/${workspace}/webhooks`);
  await page.getByRole("button", { name: "New rule" }).click();
  await page.getByLabel("Address of the webhook").fill("http://127.0.0.1:9/rule");
  await page.getByRole("button", { name: "Make one" }).click();
  assert.match(await page.getByLabel("Secret").inputValue(), /^whsec_/);
  await page.getByLabel("Deployment.building").uncheck();
  await page.getByRole("button", { name: "Save" }).click();
  const rules = page.getByRole("list", { name: "Rules" });
  await rules.getByText("http://127.0.0.1:9/rule").waitFor();
  await rules.getByText("Signed").waitFor();
  assert.equal(await rules.getByText("Deployment.building").count(), 0);
  await rules.getByRole("button", { name: "Messages" }).click();
  await rules.getByText("Nothing was sent").waitFor();
  await tidy(page, "webhooks");
  await rules.getByRole("button", { name: "What can be done" }).click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete the rule" }).click();
  await page.getByText("No rules").waitFor();
});

await step("the audit log says who did what", async () => {
  await page.goto(`${api}/w/${workspace}/audit`);
  const entries = page.getByRole("list", { name: "Activities" });
  await entries.getByText("added second@example.test as viewer").waitFor();
  await entries.getByText("made second@example.test member").waitFor();
  await entries.getByText("removed second@example.test").waitFor();
  await tidy(page, "the audit log");
  await page.goto(`${service.split("/s/")[0]}/activity`);
  await entries.getByText("deployed").first().waitFor();
  // What happens is heard of, and leads to what it happened to.
  const [, id, env] = new URL(service).pathname.match(/\/p\/([^/]+)\/([^/]+)\//);
  const of = service.split("/").at(-1);
  await asked(page, `mutation { variableUpsert(input: { projectId: "${id}", environmentId: "${env}", serviceId: "${of}", name: "HEARD_OF", value: "1", skipDeploys: true }) }`);
  const entry = entries.getByRole("listitem").filter({ hasText: "HEARD_OF" }).first();
  await entry.getByRole("link").click();
  await page.waitForURL(`${service}/variables`);
});

await step("the operator sees the machine and everybody on it, sets a plan, and copies the database", async () => {
  await page.goto(`${api}/operator`);
  const findings = page.getByRole("region", { name: "Health" });
  await findings.getByText(/checks are fine/).waitFor(soon);
  await findings.getByText("What is fine").click();
  await findings.getByText("port of the API").waitFor();
  await page.getByRole("meter", { name: "Disk used" }).waitFor();
  const second = page.getByRole("list", { name: "People" }).getByRole("listitem").filter({ hasText: "second@example.test" });
  await second.getByRole("combobox").first().selectOption("PRO");
  await toast(page, "The plan is set");
  await page.getByRole("button", { name: "Make a copy now" }).click();
  await toast(page, "The database is copied");
  const copies = page.getByRole("list", { name: "Copies" }).getByRole("listitem");
  await copies.first().waitFor();
  assert.equal(await copies.count(), 1);
  await tidy(page, "the operator's page");
  const copy = (await copies.locator("code").first().textContent()).trim();
  await copies.getByRole("button", { name: `Delete ${copy}` }).click();
  await page.getByRole("dialog").getByLabel(`Type ${copy} to confirm`).fill(copy);
  await page.getByRole("dialog").getByRole("button", { name: "Delete the copy" }).click();
  await copies.waitFor({ state: "detached" });
  await other.page.goto(`${api}/operator`);
  await other.page.getByText("This page is for the operator").waitFor();
  assert.equal((await asked(other.page, "{ operator { users { email } } }")).errors[0].extensions.code, "FORBIDDEN");
});

await step("another region is one choice away", async () => {
  await page.goto(`${api}/`);
  await page.getByRole("button", { name: "Region local" }).click();
  await page.getByRole("menuitem", { name: "paris" }).waitFor();
  await page.keyboard.press("Escape");
  await page.goto(`${service}/settings`);
  const link = page.getByRole("complementary").getByRole("link", { name: "paris" });
  assert.equal(new URL(await link.getAttribute("href")).host, "paris.example.com");
});

await step("a workspace's use is added up by project", async () => {
  const table = page.getByRole("group", { name: "Use by project" });
  const empty = page.getByRole("heading", { name: "Nothing has run in the last thirty days" });
  const memory = page.getByRole("figure", { name: /^Memory: / });
  // What an app uses is known some seconds after it began, and what it is charged for may be a moment before what is charted.
  for (const until = Date.now() + 120_000; Date.now() < until; ) {
    await page.goto(`${api}/w/${workspace}/usage`);
    await table.or(empty).first().waitFor();
    if ((await table.isVisible()) && (await memory.isVisible())) break;
  }
  await table.getByRole("row").filter({ hasText: "vCPU h" }).first().waitFor();
  await page.getByRole("meter", { name: "Credits used" }).waitFor();
  await memory.waitFor();
  await tidy(page, "usage");
});

await step("a plan says what it allows and who changes it", async () => {
  await page.goto(`${api}/w/${workspace}/plan`);
  const requests = page.getByRole("region", { name: "Requests" });
  await requests.getByText("50 a second, 10,000 an hour").waitFor();
  await page.getByRole("meter", { name: "Containers used" }).waitFor();
  await page.getByRole("meter", { name: "Credits used" }).waitFor();
  const plan = page.getByRole("combobox", { name: /^Plan of / });
  await plan.selectOption("HOBBY");
  await requests.getByText("10 a second, 1,000 an hour").waitFor();
  await tidy(page, "the plan");
  await plan.selectOption("PRO");
  await requests.getByText("50 a second, 10,000 an hour").waitFor();
  const own = (await asked(other.page, "{ me { workspaces { id } } }")).data.me.workspaces[0].id;
  await other.page.goto(`${api}/w/${own}/plan`);
  await other.page.getByText("Whoever runs this server sets the plans").waitFor();
  assert.equal(await other.page.getByRole("combobox", { name: /^Plan of / }).count(), 0);
  await other.page.goto(`${api}/w/${workspace}/plan`);
  await other.page.getByRole("alert").waitFor();
});

if (shots) {
  await step("pictures", () => pictures(browser, page, shots, { members: `/w/${workspace}/members`, notifications: `/w/${workspace}/notifications`, webhooks: `/w/${workspace}/webhooks`, audit: `/w/${workspace}/audit`, usage: `/w/${workspace}/usage`, plan: `/w/${workspace}/plan`, operator: "/operator", account: "/account", invite: "/invite/none" }));
}

await end();
