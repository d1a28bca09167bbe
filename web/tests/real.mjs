// An app that nobody here wrote, json-server from npm over a little data, through its life in the dashboard. Driven by
// crates/server/tests/dashboard.rs.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { drop, pictures, reads, signIn, story, tidy } from "./browser.mjs";

const { ORRERY_TEST_APP_REAL: app } = process.env;
const { browser, end, login, owner, page, panel, shots, step } = await story();
// Its packages come from the registry.
const soon = { timeout: 180_000 };
const rows = panel.getByRole("list", { name: "Deployments" }).getByRole("listitem");
let service = "";
let address = "";

// Its page asks for letters on the internet, which it does without.
await owner.context.route(/fontawesome/, (route) => route.abort());

const books = () => new URL("/books", address).href;

await step("a dropped folder is built with what it asks for, and goes live", async () => {
  await signIn(page, login);
  await drop(page, page.getByRole("main"), app);
  await page.getByRole("link", { name: "Build log" }).click();
  await page.locator(".log-line").filter({ hasText: /added \d+ packages/ }).first().waitFor(soon);
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  service = page.url().split("/deployments/")[0];
  address = await page.getByRole("link", { name: "Open" }).getAttribute("href");
});

await step("its own page opens, and its own log tells of it while one looks", async () => {
  await page.getByRole("link", { name: "App log" }).click();
  const line = (text) => page.locator(".log-line").filter({ hasText: text });
  await line("Resources").first().waitFor(soon);
  const [opened] = await Promise.all([page.context().waitForEvent("page"), page.getByRole("link", { name: "Open" }).click()]);
  await opened.waitForFunction(() => document.title === "JSON Server");
  await opened.goto(books());
  await opened.getByText("Gears").waitFor();
  await opened.close();
  await line(/GET \/books 200/).first().waitFor(soon);
  await tidy(page, "the log of a real app");
});

await step("Redis is added, and one of its variables reaches the app by reference", async () => {
  await page.goto(service.split("/s/")[0]);
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByRole("dialog").getByRole("button", { name: /^Redis/ }).click();
  await page.getByRole("link", { name: /Redis.*Live/ }).waitFor(soon);
  await page.goto(`${service}/variables`);
  await panel.getByLabel("Name").fill("TITLE_URL");
  await panel.getByRole("combobox", { name: "Value" }).fill("${{Redis.REDIS_URL}}");
  await panel.getByRole("button", { name: "Add" }).click();
  await panel.getByRole("list", { name: "Variables" }).getByText("TITLE_URL", { exact: true }).waitFor();
  await page.goto(`${service}/deployments`);
  await rows.nth(1).waitFor();
  await rows.first().getByText("Live").waitFor(soon);
  await page.goto(`${service}/containers`);
  const containers = panel.getByRole("list", { name: "Containers" }).getByRole("listitem");
  await containers.first().waitFor();
  // The one from before ends.
  await containers.nth(1).waitFor({ state: "detached" });
  const [shell] = await Promise.all([owner.context.waitForEvent("page"), panel.getByRole("link", { name: "Open shell" }).first().click()]);
  await shell.getByRole("status").getByText("Connected").waitFor(soon);
  await shell.keyboard.type("echo scheme-is-${TITLE_URL%%:*}-\n");
  await shell.waitForFunction(() => document.querySelector(".xterm-rows")?.textContent.includes("scheme-is-redis-"), undefined, soon);
  await shell.close();
});

await step("it is scaled to two, which both answer", async () => {
  await page.goto(`${service}/settings`);
  await panel.getByRole("button", { name: "One replica more" }).click();
  await panel.getByRole("button", { name: "Scale" }).click();
  await panel.getByText("2 of 2 running").waitFor(soon);
  await reads(books(), "Gears");
});

await step("another version is deployed, and the one before comes back", async () => {
  writeFileSync(join(app, "db.json"), JSON.stringify({ books: [{ id: 3, title: "Springs" }] }));
  await page.goto(`${service}/deployments`);
  await panel.locator(".panel-head input[type=file]").setInputFiles(app);
  await page.getByRole("list", { name: "Steps" }).waitFor(soon);
  await reads(books(), "Springs");
  await page.goto(`${service}/deployments`);
  await rows.first().getByText("Live").waitFor(soon);
  const before = await rows.count();
  await rows.nth(1).getByRole("button", { name: "What can be done with this deployment" }).click();
  await page.getByRole("menuitem", { name: "Roll back to this" }).click();
  await reads(books(), "Gears");
  await rows.nth(before).waitFor(soon);
  await rows.first().getByText("Live").waitFor(soon);
  assert.ok(!(await reads(books(), "title")).includes("Springs"), "two versions answer");
});

if (shots) await step("pictures", () => pictures(browser, page, shots, { "real-log": `${service}/logs`, "real-canvas": [service.split("/s/")[0], "Redis"] }));

await end();
