// The dashboard without a mouse: whatever has the focus can be seen, and everything that an app needs can be reached. Driven by
// crates/server/tests/dashboard.rs.
import assert from "node:assert/strict";
import { api, reads, story } from "./browser.mjs";

const { app, end, login, owner, page, panel, soon, step } = await story();
const { keyboard } = page;
let address = "";

// No test of this file clicks; a click by mistake would be one of a mouse.
await owner.context.addInitScript(() => addEventListener("mousedown", () => console.error("a mouse was used"), true));

/** Goes on to an element by the key for it, and sees that it has the focus. */
async function reach(target) {
  await target.waitFor({ state: "attached" });
  for (let pressed = 0; pressed < 200; pressed++) {
    if (await target.evaluate((element) => element === document.activeElement)) {
      const outlined = await target.evaluate((element) => [element, element.closest("label")].some((one) => one && getComputedStyle(one).outlineStyle !== "none" && Number.parseFloat(getComputedStyle(one).outlineWidth) > 0));
      assert.ok(outlined, `nobody sees that ${target} has the focus`);
      return;
    }
    await keyboard.press("Tab");
  }
  throw new Error(`${target} cannot be reached by the keyboard`);
}

async function press(target, key = "Enter") {
  await reach(target);
  await keyboard.press(key);
}

async function write(target, text) {
  await reach(target);
  await keyboard.press("Control+a");
  await keyboard.type(text);
}

/** Opens a menu and takes the entry of this name. */
async function choose(menu, name) {
  await press(menu);
  const item = page.getByRole("menuitem", { name, exact: true });
  await item.waitFor();
  // The menu gives the focus to its first entry a moment after it is there.
  await page.locator("[role=menuitem]:focus").waitFor();
  // The menu moves the focus in a task of its own after the key.
  const move = async (key) => {
    await keyboard.press(key);
    await page.evaluate(() => new Promise((done) => setTimeout(done)));
  };
  // An entry may have come above the one that has the focus.
  await move("Home");
  for (let pressed = 0; pressed < 20; pressed++) {
    if (await item.evaluate((element) => element === document.activeElement)) return keyboard.press("Enter");
    await move("ArrowDown");
  }
  const there = await page.evaluate(() => document.activeElement?.outerHTML.slice(0, 300));
  throw new Error(`${name} cannot be chosen by the keyboard; the focus is on ${there}`);
}

const go = (tab) => press(panel.getByRole("navigation", { name: "Service" }).getByRole("link", { name: tab, exact: true }));

await step("signing in", async () => {
  await page.goto(login.replace(/^https?:\/\/[^/]+/, api));
  await press(page.getByRole("button", { name: "Sign in" }));
  await page.getByRole("heading", { name: "Deploy your first app" }).waitFor();
});

await step("a folder is chosen and deployed", async () => {
  await reach(page.getByLabel("Choose a folder"));
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), keyboard.press("Enter")]);
  await chooser.setFiles(app);
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  address = await page.getByRole("link", { name: "Open" }).getAttribute("href");
});

await step("its log is opened, filtered and held", async () => {
  await press(page.getByRole("link", { name: "App log" }));
  const log = page.getByRole("log");
  await log.getByText("listening").waitFor(soon);
  await keyboard.press("/");
  await keyboard.type("listen");
  await page.waitForURL(/filter=listen/);
  await press(page.getByRole("button", { name: "Hold still" }));
  await page.getByText("Held").waitFor();
  await press(page.getByRole("button", { name: "Go on" }));
  await reach(log);
});

await step("a variable is set", async () => {
  await go("Variables");
  await write(panel.getByLabel("Name"), "GREETING");
  await write(panel.getByRole("combobox", { name: "Value" }), "keys");
  await press(panel.getByRole("button", { name: "Add" }));
  await panel.getByRole("list", { name: "Variables" }).getByText("GREETING", { exact: true }).waitFor();
  await reads(address, "Hello keys");
});

await step("what was deleted is taken back", async () => {
  const row = panel.getByRole("list", { name: "Variables" }).getByText("GREETING", { exact: true });
  await press(panel.getByRole("button", { name: "Delete GREETING" }));
  await row.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).waitFor();
  await keyboard.press("Control+z");
  await row.waitFor();
  await reads(address, "Hello keys");
});

await step("it is scaled", async () => {
  await go("Settings");
  await press(panel.getByRole("button", { name: "One replica more" }));
  await press(panel.getByRole("button", { name: "Scale" }));
  await panel.getByText("2 of 2 running").waitFor(soon);
});

await step("it is rolled back", async () => {
  await go("Deployments");
  const rows = panel.getByRole("list", { name: "Deployments" }).getByRole("listitem");
  await rows.first().getByText("Live").waitFor(soon);
  const before = await rows.count();
  await choose(rows.last().getByRole("button", { name: "What can be done with this deployment" }), "Roll back to this");
  await reads(address, "Hello world");
  await rows.nth(before).waitFor(soon);
  await rows.first().getByText("Live").waitFor(soon);
  await keyboard.press("Control+k");
  await page.locator("[cmdk-input]:focus").waitFor();
  await keyboard.type("roll back");
  await page.getByRole("option", { name: "Roll back to the one before", selected: true }).waitFor();
  await keyboard.press("Enter");
  await reads(address, "Hello keys");
});

await step("a question is asked, left, and gives the focus back", async () => {
  const rows = panel.getByRole("list", { name: "Deployments" }).getByRole("listitem");
  await rows.first().getByText("Live").waitFor(soon);
  await go("Settings");
  const opener = panel.getByRole("button", { name: "Delete the service…" });
  const dialog = page.getByRole("dialog");
  for (const leave of [() => keyboard.press("Escape"), () => press(dialog.getByRole("button", { name: "Close" }))]) {
    await press(opener);
    await dialog.waitFor();
    await leave();
    await dialog.waitFor({ state: "detached" });
    assert.ok(await opener.evaluate((element) => element === document.activeElement), "the focus is lost with the question");
  }
  await keyboard.press("Control+k");
  await page.locator("[cmdk-input]:focus").waitFor();
  await keyboard.press("Escape");
  await page.locator("[cmdk-input]").waitFor({ state: "detached" });
  assert.ok(await opener.evaluate((element) => element === document.activeElement), "the focus is lost with the palette");
});

await step("the palette and Escape go from page to page", async () => {
  await keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
  await keyboard.press("Control+k");
  await page.locator("[cmdk-input]:focus").waitFor();
  await keyboard.type("hello-shop");
  await page.getByRole("option", { name: "hello-shop", selected: true }).waitFor();
  await keyboard.press("Enter");
  await panel.getByRole("heading", { name: "hello-shop" }).waitFor();
});

await step("a database is added, and the service deleted by its name", async () => {
  await keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
  await page.locator("a[data-service]:focus").filter({ hasText: "hello-shop" }).waitFor();
  await press(page.getByRole("button", { name: "Add", exact: true }));
  await press(page.getByRole("dialog").getByRole("button", { name: /^Redis/ }));
  await page.getByRole("link", { name: /Redis.*Live/ }).waitFor(soon);
  const card = page.locator(".placed").getByRole("link", { name: /hello-shop/ });
  const isInSight = () =>
    card.evaluate((element) => {
      const { top, bottom } = element.getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight && element.closest(".react-flow").scrollTop === 0;
    });
  // The cards stay where they are in a window that becomes low: below it.
  await page.setViewportSize({ width: 1280, height: 300 });
  await page.waitForFunction(() => innerHeight === 300);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  assert.equal(await isInSight(), false);
  await reach(card);
  for (const until = Date.now() + 120_000; !(await isInSight()); await page.waitForTimeout(50)) assert.ok(Date.now() < until, "the card that has the focus is out of sight");
  await page.setViewportSize({ width: 1280, height: 800 });
  await press(card);
  await panel.locator("h1:focus").waitFor();
  await go("Settings");
  await press(panel.getByRole("button", { name: "Delete the service…" }));
  const dialog = page.getByRole("dialog");
  const name = dialog.getByLabel("Type hello-shop to confirm");
  await name.waitFor();
  assert.ok(await name.evaluate((element) => element === document.activeElement), "the question does not begin where one types");
  await write(name, "hello-shop");
  await press(dialog.getByRole("button", { name: "Delete the service", exact: true }));
  await card.waitFor({ state: "detached" });
});

await end();
