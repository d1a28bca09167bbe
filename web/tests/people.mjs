// People in the dashboard: passwords, sessions, members and their roles, invitations, notifications. Driven by
// crates/server/tests/dashboard.rs.
import assert from "node:assert/strict";
import { api, asked, drop, launch, pictures, secretOf, signIn, steps, tidy, visitor } from "./browser.mjs";

const { ORRERY_TEST_LOGIN: login, ORRERY_TEST_LOGIN_SECOND: secondLogin, ORRERY_TEST_APP: app, ORRERY_TEST_SHOTS: shots } = process.env;

const browser = await launch();
const owner = await visitor(browser);
const other = await visitor(browser);
const { page } = owner;
const soon = { timeout: 60_000 };
const step = steps(browser, owner, shots);
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

await step("a password is set, signs in elsewhere, and that browser is signed out from here", async () => {
  await page.goto(`${api}/account`);
  const form = page.getByRole("form", { name: "Password" });
  await form.getByLabel("New password").fill(PASSWORD);
  await form.getByRole("button", { name: "Set a password" }).click();
  await page.getByText("The password is set").waitFor();
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
  await page.getByText("That browser is signed out").waitFor();
  await elsewhere.page.goto(`${api}/account`);
  await elsewhere.page.waitForURL(/\/login\?next=/);
  await elsewhere.context.close();
});

await step("changing the password needs the present one", async () => {
  const form = page.getByRole("form", { name: "Password" });
  await form.getByLabel("Present password").fill("something else");
  await form.getByLabel("New password").fill(`${PASSWORD} staple`);
  await form.getByRole("button", { name: "Change the password" }).click();
  await page.getByText("the present password is another one").waitFor();
});

await step("somebody with an account is added as a viewer, and sees what runs", async () => {
  await signIn(other.page, secondLogin);
  await page.goto(`${api}/w/${workspace}/members`);
  await page.getByLabel("E-mail address").fill("second@example.test");
  await page.getByRole("combobox", { name: "As", exact: true }).selectOption("VIEWER");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByText("second@example.test is a member now").waitFor();
  await page.getByRole("list", { name: "Members" }).getByRole("listitem").filter({ hasText: "second@example.test" }).waitFor();
  await tidy(page, "members");
  await other.page.goto(`${service}/deployments`);
  await other.page.locator(".panel-head").getByText("Live").waitFor(soon);
});

await step("a viewer cannot change anything", async () => {
  const { page: viewer } = other;
  const panel = viewer.getByRole("complementary");
  assert.equal(await panel.getByRole("button", { name: /Deploy|Roll back|Add/ }).count(), 0);
  const tab = (name) => panel.getByRole("navigation", { name: "Service" }).getByRole("link", { name, exact: true }).click();
  await tab("Variables");
  await panel.getByText("Values are hidden from you").waitFor();
  await tab("Settings");
  await panel.getByRole("heading", { name: "Replicas" }).waitFor();
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

await step("as a member they may, and once removed they see nothing", async () => {
  const row = page.getByRole("list", { name: "Members" }).getByRole("listitem").filter({ hasText: "second@example.test" });
  await row.getByRole("combobox").selectOption("MEMBER");
  await page.getByText("second@example.test has another role").waitFor();
  await other.page.goto(`${service}/variables`);
  await other.page.getByRole("complementary").getByLabel("Name").waitFor();
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

await step("events are told to a webhook", async () => {
  await page.goto(`${api}/w/${workspace}/notifications`);
  await page.getByLabel("Slack, or any webhook").check();
  await page.getByLabel("Address of the incoming webhook").fill("http://127.0.0.1:9/hook");
  await page.getByLabel("App scaled to the webhook").uncheck();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved").waitFor();
  await page.reload();
  assert.equal(await page.getByLabel("App scaled to the webhook").isChecked(), false);
  assert.equal(await page.getByLabel("Slack, or any webhook").isChecked(), true);
  await tidy(page, "notifications");
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
});

if (shots) {
  await step("pictures", () => pictures(browser, page, shots, { members: `/w/${workspace}/members`, notifications: `/w/${workspace}/notifications`, audit: `/w/${workspace}/audit`, account: "/account", invite: "/invite/none" }));
}

await step("nothing went wrong that nobody saw", async () => assert.deepEqual(owner.faults, []));

await browser.close();
