// What people do in the dashboard, in a real browser against a real server. Driven by crates/server/tests/dashboard.rs, which says by
// environment variables where the server is and which apps and login links there are.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { api, asked, drop, pictures, reads, signIn, story, tidy, toast, visitor } from "./browser.mjs";
import { devToolsKey, explorer, flowKeys, galaxyAddresses, galaxyKey } from "./keys.mjs";

const { ORRERY_TEST_APP_BROKEN: broken } = process.env;
const { app, browser, end, login, page, panel, secondLogin, shots, soon, step } = await story();

const tab = (name) => panel.getByRole("navigation", { name: "Service" }).getByRole("link", { name, exact: true }).click();
let address = "";
let service = "";
let rollout = "";
let early = "";

await step("a visitor sees how to sign in, and nothing else", async () => {
  await page.goto(`${api}/`);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.goto(`${api}/account/tokens`);
  await page.waitForURL(/\/login\?next=%2Faccount%2Ftokens$/);
  // A line of a log is what comes after the #.
  await page.goto(`${api}/account#line`);
  await page.waitForURL(/\/login\?next=%2Faccount%23line$/);
});

if (shots) await step("what a visitor sees looks right", () => pictures(browser, page, shots, { welcome: "/", login: "/login" }));

await step("the first login link signs in once", async () => {
  await signIn(page, login);
  await page.getByRole("heading", { name: "Deploy your first app" }).waitFor();
  await tidy(page, "an empty workspace");
});

if (shots) await step("the first page looks right", () => pictures(browser, page, shots, { empty: "/" }));

await step("a dropped folder becomes a project with a live app", async () => {
  await drop(page, page.getByRole("main"), app);
  await page.getByRole("list", { name: "Steps" }).waitFor(soon);
  await page.getByRole("link", { name: "Build log" }).click();
  await page.getByRole("log").getByText("Build time").waitFor(soon);
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  rollout = page.url();
  service = rollout.split("/deployments/")[0];
  await tidy(page, "a deployment");
});

await step("its log is followed while it is written", async () => {
  await page.getByRole("link", { name: "App log" }).click();
  const log = page.getByRole("log");
  await log.getByText("listening").waitFor(soon);
  address = await page.getByRole("link", { name: "Open" }).getAttribute("href");
  await reads(`${address}?seen=by-the-log`, "Hello");
  await log.getByText("seen=by-the-log").waitFor(soon);
  await page.getByRole("searchbox", { name: "Filter lines" }).or(page.getByLabel("Filter lines")).fill("listening");
  await page.waitForURL(/filter=listening/);
  await log.getByText("seen=by-the-log").waitFor({ state: "detached" });
});

await step("lines have the colour of their level, and the filter says what may be asked", async () => {
  const line = (words) => page.locator(".log-line").filter({ has: page.getByText(words, { exact: true }) });
  const colour = (words) => line(words).locator(".text").evaluate((element) => getComputedStyle(element).color);
  await reads(new URL("/levels", address).href, "Hello");
  await page.goto(`${service}/logs`);
  await line("told as error").waitFor(soon);
  assert.notEqual(await colour("told as error"), await colour("told as info"));
  assert.notEqual(await line("told as warn").evaluate((element) => getComputedStyle(element).borderLeftColor), await line("told as info").evaluate((element) => getComputedStyle(element).borderLeftColor));
  const field = page.getByLabel("Filter lines");
  const offered = page.getByRole("listbox", { name: "Suggestions" }).getByRole("option");
  await field.fill("told @lev");
  await offered.getByText("@level:error", { exact: true }).waitFor();
  await tidy(page, "what a filter may say");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await field.inputValue(), "told @level:error");
  await offered.first().waitFor({ state: "hidden" });
  await line("told as info").waitFor({ state: "detached" });
  await line("told as error").waitFor();
  await field.fill("told ");
  await offered.getByText("OR", { exact: true }).waitFor();
  await page.keyboard.press("Enter");
  assert.equal(await field.inputValue(), "told ", "a word is taken that nobody chose");
  await page.keyboard.press("Escape");
  await offered.first().waitFor({ state: "hidden" });
  assert.equal(await field.inputValue(), "told ");
  await line("told as info").waitFor();
  await field.fill("@replica:");
  await offered.getByText(/^last at \d\d:/).first().waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.match(await field.inputValue(), /^@replica:[\da-f-]{36}$/);
  await line("told as info").waitFor();
  await field.fill("@level:");
  await panel.getByRole("alert").waitFor();
  await panel.getByText("Not followed").waitFor();
  await field.fill("");
  await line("told as info").waitFor();
});

await step("what repeats and what belongs to an error stands behind one line, until it is opened or linked to", async () => {
  const lines = page.locator(".log-line");
  const same = lines.filter({ has: page.getByText("waiting for the moon", { exact: true }) });
  const deep = lines.filter({ hasText: "at turn (orbit.js:3:1)" });
  const stack = page.getByRole("button", { name: "6 lines more" });
  await reads(new URL("/folds", address).href, "Hello");
  await page.goto(`${service}/logs`);
  await page.getByRole("button", { name: "11 times more" }).waitFor(soon);
  await stack.waitFor(soon);
  assert.deepEqual([await same.count(), await deep.count()], [1, 0]);
  await tidy(page, "folded lines");
  const block = page.getByRole("button", { name: "12 lines more" });
  const within = lines.filter({ hasText: '"moon 7": 7' });
  await block.waitFor(soon);
  assert.equal(await within.count(), 0);
  await block.click();
  await within.waitFor();
  await block.click();
  await within.waitFor({ state: "detached" });
  await stack.click();
  await deep.waitFor();
  const link = await deep.getByRole("link").getAttribute("href");
  await stack.click();
  await deep.waitFor({ state: "detached" });
  await page.goto("about:blank");
  await page.goto(`${service}/logs${link}`);
  await page.locator(".log-line[data-marked=true]").getByText("at turn (orbit.js:3:1)").waitFor();
  const folding = page.getByRole("button", { name: "Fold repeated lines and stacks", exact: true });
  await folding.click();
  await same.nth(11).waitFor();
  await stack.waitFor({ state: "detached" });
  await folding.click();
  await page.getByRole("button", { name: "11 times more" }).waitFor();
});

await step("requests have a log of their own, which is followed and filtered", async () => {
  const log = page.getByRole("log");
  await page.goto(`${service}/logs`);
  await panel.getByRole("link", { name: "Requests", exact: true }).click();
  await page.waitForURL(/log=requests/);
  await log.getByText(/^GET \/folds 200 \d+ ms /).first().waitFor(soon);
  await reads(new URL("/while-one-looks", address).href, "Hello");
  await log.getByText(/^GET \/while-one-looks 200 /).first().waitFor(soon);
  await tidy(page, "the log of requests");
  await page.getByLabel("Filter lines").fill("@path:/folds");
  await page.waitForURL((url) => url.searchParams.get("filter") === "@path:/folds" && url.searchParams.get("log") === "requests");
  await log.getByText(/^GET \/while-one-looks 200 /).first().waitFor({ state: "detached" });
  await log.getByText(/^GET \/folds 200 /).first().waitFor();
  await panel.getByRole("link", { name: "App", exact: true }).click();
  await log.getByText("listening").first().waitFor(soon);
});

await step("older lines come as one goes back, and each has an address", async () => {
  await reads(new URL("/many", address).href, "Hello");
  const lines = page.locator(".log-line");
  const line = (words) => lines.filter({ has: page.getByText(words, { exact: true }) });
  await page.goto(`${service}/logs`);
  await line("1 to go").waitFor(soon);
  await page.reload();
  await panel.getByText(/^1,0\d\d lines$/).waitFor();
  assert.equal(await line("1500 to go").count(), 0);
  const [whole] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download the log" }).click()]);
  const text = readFileSync(await whole.path(), "utf8");
  for (const words of ["1500 to go", "750 to go", "1 to go"]) assert.equal(text.split("\n").filter((one) => one.endsWith(` ${words}`)).length, 1, `${words} in the file`);
  for (const until = Date.now() + 120_000; (await line("1500 to go").count()) === 0; ) {
    assert.ok(Date.now() < until, "older lines do not come");
    await page.getByRole("log").evaluate((element) => (element.scrollTop = 0));
    await page.waitForTimeout(100);
  }
  const link = await line("1500 to go").getByRole("link").getAttribute("href");
  early = link;
  const elsewhere = await page.context().newPage();
  await elsewhere.goto(`${service}/logs${link}`);
  await elsewhere.locator(".log-line[data-marked=true]").getByText("1500 to go", { exact: true }).waitFor();
  const begun = await elsewhere.locator(".log-line[data-marked=true] time").getAttribute("datetime");
  await elsewhere.goto("about:blank");
  await elsewhere.goto(`${service}/logs`);
  await elsewhere.locator(".log-line").first().waitFor();
  await elsewhere.getByRole("button", { name: "Go to a moment" }).click();
  // Without the seconds of a full minute: a browser writes a moment in as few letters as it can.
  const local = new Date(Math.floor(Date.parse(begun) / 1000) * 1000 - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 19).replace(/:00$/, "");
  await elsewhere.getByLabel("Go to a moment").fill(local);
  await elsewhere.keyboard.press("Enter");
  await elsewhere.getByText("1500 to go", { exact: true }).waitFor();
  await elsewhere.close();
  await page.keyboard.press("/");
  await page.keyboard.type("1500");
  await page.waitForURL(/filter=%221500%22/);
  await panel.getByText("1 lines", { exact: true }).waitFor();
  const [kept] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download the log" }).click()]);
  assert.match(readFileSync(await kept.path(), "utf8"), /^\S+Z info +1500 to go$/m);
});

await step("the log of everything is kept to a range of time, with its filter", async () => {
  const logs = `${service.split("/s/")[0]}/logs`;
  const line = page.locator(".log-line").filter({ has: page.getByText("1500 to go", { exact: true }) });
  const ranges = page.getByRole("navigation", { name: "Time range" });
  await page.goto(`${logs}?filter=%221500%22`);
  await line.waitFor();
  await ranges.getByRole("link", { name: "1h", exact: true }).click();
  await page.waitForURL((url) => url.searchParams.get("range") === "1h" && url.searchParams.get("filter") === '"1500"');
  await line.waitFor();
  // A browser whose clock is two hours ahead looks at an hour in which nothing was written.
  const ahead = await page.context().newPage();
  await ahead.addInitScript(() => {
    const now = Date.now;
    Date.now = () => now() + 7_200_000;
  });
  await ahead.goto(page.url());
  await ahead.getByText("No line matches the filter yet").waitFor();
  await ahead.getByRole("navigation", { name: "Time range" }).getByRole("link", { name: "6h", exact: true }).click();
  await ahead.locator(".log-line").first().waitFor();
  await ahead.close();
  await ranges.getByRole("link", { name: "All" }).click();
  await page.waitForURL((url) => !url.searchParams.has("range"));
  await tidy(page, "the log of everything");
  await page.goto(logs);
  await page.locator(".log-line").nth(60).waitFor({ state: "attached" });
  // Drawn, and scrolled to the newest one.
  await page.waitForFunction(() => {
    const box = document.querySelector(".log-lines");
    const { top, bottom } = box.getBoundingClientRect();
    const places = [...box.querySelectorAll(".log-line")].map((row) => row.getBoundingClientRect());
    return places.filter((row) => row.top >= top - 0.5 && row.bottom <= bottom + 0.5).length >= 40;
  });
  // Services are found by their names.
  await page.getByLabel("Filter lines").fill("info @service:hello");
  await page.getByRole("listbox", { name: "Suggestions" }).getByRole("option").filter({ hasText: "hello-shop" }).click();
  assert.match(await page.getByLabel("Filter lines").inputValue(), /^info @service:[\da-f-]{36}$/);
  // Not while the address is still to change.
  await page.waitForURL((url) => /^info @service:[\da-f-]{36}$/.test(url.searchParams.get("filter") ?? ""));
  await page.goto(`${service}/logs`);
  await panel.getByRole("link", { name: "Open" }).waitFor();
});

await step("the app opens", async () => {
  const [opened] = await Promise.all([page.context().waitForEvent("page"), page.getByRole("link", { name: "Open" }).click()]);
  await opened.getByText("Hello world").waitFor();
  await opened.close();
});

await step("a variable reaches the app, and can be undone", async () => {
  await tab("Variables");
  await panel.getByLabel("Name").fill("GREETING");
  await panel.getByLabel("Value").fill("browser");
  await panel.getByRole("button", { name: "Add" }).click();
  await panel.getByRole("list", { name: "Variables" }).getByText("GREETING", { exact: true }).waitFor();
  await reads(`${address}`, "Hello browser");
  await panel.getByRole("button", { name: "Delete GREETING" }).click();
  await page.getByRole("button", { name: "Undo" }).click();
  await panel.getByRole("button", { name: "Show GREETING" }).click();
  await panel.getByRole("button", { name: "Edit GREETING: browser" }).waitFor();
  await tidy(page, "variables");
});

await step("a sealed variable reaches the app, and nobody reads it", async () => {
  const list = panel.getByRole("list", { name: "Variables" });
  const row = (name) => list.getByRole("listitem").filter({ has: page.getByText(name, { exact: true }) });
  const sealed = (name) => row(name).getByText("Sealed: only the app sees it");
  const names = async () => (await asked(page, `{ environment(id: "${service.split("/")[5]}") { variables { edges { node { name isSealed } } } } }`)).data.environment.variables.edges.filter((edge) => edge.node.isSealed).map((edge) => edge.node.name);
  await panel.getByRole("button", { name: "Seal GREETING" }).click();
  await tidy(page, "sealing a variable");
  await page.getByRole("dialog", { name: "Seal GREETING?" }).getByRole("button", { name: "Seal it" }).click();
  await sealed("GREETING").waitFor();
  await panel.getByLabel("Name").fill("API_SECRET");
  await panel.getByLabel("Value", { exact: true }).fill("hush-hush");
  await panel.getByLabel("Seal it").check();
  await panel.getByRole("button", { name: "Add" }).click();
  await sealed("API_SECRET").waitFor();
  assert.deepEqual((await names()).sort(), ["API_SECRET", "GREETING"]);
  await page.reload();
  await sealed("GREETING").waitFor();
  assert.equal(await panel.getByText("hush-hush").count(), 0);
  await tidy(page, "sealed variables");
  await reads(address, "Hello browser");
  await panel.getByRole("button", { name: "Replace GREETING" }).click();
  await row("GREETING").getByRole("combobox", { name: "New value" }).fill("sealed");
  await row("GREETING").getByRole("button", { name: "Save" }).click();
  await reads(address, "Hello sealed");
  for (const name of ["API_SECRET", "GREETING"]) {
    await panel.getByRole("button", { name: `Delete ${name}` }).click();
    const dialog = page.getByRole("dialog", { name: `Delete ${name}?` });
    const confirm = dialog.getByRole("button", { name: "Delete the variable" });
    assert.ok(await confirm.isDisabled(), "it goes without its name");
    await dialog.getByLabel(`Type ${name} to confirm`).fill(name);
    await confirm.click();
    await row(name).waitFor({ state: "detached" });
  }
  // What comes later knows the app by this word.
  await panel.getByLabel("Name").fill("GREETING");
  await panel.getByLabel("Value", { exact: true }).fill("browser");
  await panel.getByRole("button", { name: "Add" }).click();
  await reads(address, "Hello browser");
});

await step("it scales to three and back", async () => {
  await tab("Settings");
  await panel.getByLabel("Replicas", { exact: true }).fill("3");
  await panel.getByRole("button", { name: "Scale" }).click();
  await panel.getByText("3 of 3 running").waitFor(soon);
  await panel.getByRole("button", { name: "One replica less" }).click();
  await panel.getByRole("button", { name: "One replica less" }).click();
  await panel.getByRole("button", { name: "Scale" }).click();
  await panel.getByText("1 of 1 running").waitFor(soon);
  await tidy(page, "settings");
});

await step("a broken deployment says why and changes nothing; going back works", async () => {
  await page.goto(`${service}/settings`);
  await panel.getByLabel("Start command").fill("node server.js");
  await panel.getByRole("button", { name: "Save" }).click();
  await toast(page, "Saved");
  await page.goto(`${service}/deployments`);
  await panel.locator(".panel-head input[type=file]").setInputFiles(broken);
  await page.getByRole("list", { name: "Steps" }).waitFor(soon);
  await page.locator(".panel-body").getByText("Failed", { exact: true }).first().waitFor(soon);
  await page.getByRole("log").getByText("this build is broken").first().waitFor(soon);
  await page.getByText("Compared with what ran before: another source, one setting changed").click();
  await page.getByRole("list", { name: "What is different" }).getByRole("listitem").filter({ hasText: "deploy.startCommand" }).locator("ins", { hasText: "node server.js" }).waitFor();
  await tidy(page, "a broken deployment");
  await reads(address, "Hello");
  await page.getByRole("link", { name: "All deployments" }).click();
  const rows = panel.getByRole("list", { name: "Deployments" }).getByRole("listitem");
  await rows.last().getByRole("button", { name: "What can be done with this deployment" }).click();
  await page.getByRole("menuitem", { name: "Roll back to this" }).click();
  await rows.first().getByText("Live").waitFor(soon);
  await reads(address, "Hello world");
  await tidy(page, "deployments");
});

await step("a range of time shows what a service wrote before it was deployed again", async () => {
  const line = page.locator(".log-line").filter({ has: page.getByText("1500 to go", { exact: true }) });
  const ranges = panel.getByRole("navigation", { name: "Time range" });
  await page.goto(`${service}/logs?filter=%221500%22`);
  await panel.getByText("No line matches the filter yet").waitFor();
  await ranges.getByRole("link", { name: "24h", exact: true }).click();
  await page.waitForURL((url) => url.searchParams.get("range") === "24h");
  await line.waitFor();
  await tidy(page, "the log of a service in a range of time");
  for (const name of ["Metrics", "Logs"]) {
    await tab(name);
    await page.waitForURL((url) => url.pathname.endsWith(`/${name.toLowerCase()}`) && url.searchParams.get("range") === "24h");
  }
  await ranges.getByRole("link", { name: "Running" }).click();
  await page.waitForURL((url) => !url.searchParams.has("range"));
});

await step("a link to a line leads to it when something else runs, and what is not found is said", async () => {
  const marked = page.locator(".log-line[data-marked=true]").getByText("1500 to go", { exact: true });
  await page.goto("about:blank");
  await page.goto(`${service}/logs${early}`);
  await page.waitForURL((url) => /\/deployments\/[^/]+$/.test(url.pathname) && url.searchParams.get("log") === "app");
  await marked.waitFor();
  await panel.getByRole("link", { name: "Requests", exact: true }).click();
  await page.getByRole("log").getByText(/^GET \/.* 200 \d+ ms /).first().waitFor(soon);
  // Many more may have come since, and only lines in sight are drawn.
  await page.getByLabel("Filter lines").fill("@path:/folds");
  await page.waitForURL((url) => url.searchParams.get("log") === "requests" && url.searchParams.get("filter") === "@path:/folds");
  const request = page.locator(".log-line").filter({ has: page.getByText(/^GET \/folds 200 /) }).first();
  await request.waitFor(soon);
  const asking = page.url().split("?")[0] + (await request.getByRole("link").getAttribute("href"));
  await page.goto("about:blank");
  await page.goto(asking);
  await page.locator(".log-line[data-marked=true]").getByText(/^GET \/folds 200 /).waitFor();
  // As links were once, without the deployment that wrote the line.
  await page.goto(`${service}/logs#${early.split("#")[1]}`);
  await panel.getByText(/^This log begins after /).waitFor();
  await tidy(page, "a line that is not found");
  await panel.getByRole("link", { name: "Look in all that the service has written since then" }).click();
  await marked.waitFor();
});

await step("what is written while the connection is gone is there when it is back", async () => {
  const watch = await page.context().newPage();
  let cut = false;
  const open = [];
  await watch.routeWebSocket(/\/graphql\/v2$/, (socket) => {
    if (cut) return void socket.close({ code: 3000 });
    open.push([socket, socket.connectToServer()]);
  });
  await watch.goto(`${service}/logs`);
  await watch.locator(".log-line").first().waitFor();
  const held = async () => Number((await watch.locator(".log-tools").getByText(/ lines$/).textContent()).replace(/\D/g, ""));
  const before = await held();
  cut = true;
  for (const both of open) for (const side of both) await side.close({ code: 3000 });
  // The page itself says so, too, some seconds later.
  await watch.locator(".log-tools").getByText("Reconnecting").waitFor();
  await reads(new URL("/many", address).href, "Hello");
  const written = async () => {
    const [running] = (await asked(page, `{ serviceInstance(environmentId: "${service.split("/")[5]}", serviceId: "${service.split("/").at(-1)}") { activeDeployments { id } } }`)).data.serviceInstance.activeDeployments;
    return (await asked(page, `{ deploymentLogs(deploymentId: "${running.id}", filter: "\\"1 to go\\"", limit: 1) { message } }`)).data.deploymentLogs[0]?.message === "1 to go";
  };
  for (const until = Date.now() + 120_000; !(await written()); await page.waitForTimeout(100)) assert.ok(Date.now() < until, "1500 lines are not written");
  cut = false;
  await watch.locator(".log-line").getByText("1 to go", { exact: true }).waitFor(soon);
  // The request itself is a line, too.
  assert.ok((await held()) >= before + 1501, `${await held()} lines are there of ${before + 1501}`);
  await watch.close();
});

await step("what it uses and answers is charted, for as long as one asks", async () => {
  await tab("Metrics");
  await panel.getByRole("link", { name: "5m", exact: true }).click();
  await page.waitForURL(/range=5m/);
  await panel.getByRole("figure", { name: /^Processor: .* vCPU/ }).waitFor(soon);
  await panel.getByRole("figure", { name: /^Memory: [\d.]+ MB of / }).waitFor(soon);
  await panel.getByRole("figure", { name: /^Requests: [\d,]+ in this time/ }).waitFor(soon);
  await panel.getByRole("list", { name: "Lines of Answer time" }).getByText(/p99 [\d.]+ ms/).waitFor(soon);
  // Between one range and what is known of the next there is nothing to draw.
  const canvas = panel.getByRole("figure", { name: /^Requests/ }).locator("canvas");
  for (const until = Date.now() + 120_000; !(await inked(canvas)); await page.waitForTimeout(100)) assert.ok(Date.now() < until, "the chart of requests is empty");
  await panel.getByRole("figure", { name: /^Network: .* in, .* out/ }).waitFor();
  for (const status of ["2xx", "3xx", "4xx", "5xx"]) await panel.getByRole("list", { name: "Lines of Requests" }).getByText(status).waitFor();
  for (const range of ["30d", "7d", "24h", "6h", "1h"]) {
    await panel.getByRole("link", { name: range, exact: true }).click();
    await page.waitForURL(new RegExp(`range=${range}`));
    await panel.getByRole("figure", { name: /^Requests: \d/ }).waitFor(soon);
  }
  await tidy(page, "metrics");
  // The day before is this one: the server has none before it.
  await page.route("**/graphql/v2", (route) => {
    const sent = route.request().postData() ?? "";
    if (!sent.includes('"operationName":"AnswerTimes"')) return route.continue();
    const body = JSON.parse(sent);
    Object.assign(body.variables, { dayStart: body.variables.startDate, dayEnd: body.variables.endDate });
    return route.continue({ postData: JSON.stringify(body) });
  });
  await page.reload();
  await panel.getByRole("figure", { name: /^Answer time: p50 .* m?s, p99 .* m?s, as a day before$/ }).waitFor(soon);
  await page.unroute("**/graphql/v2");
  const marked = panel.getByRole("navigation", { name: "Time range" }).locator("[data-status=active]");
  await panel.getByRole("link", { name: "7d", exact: true }).click();
  await page.waitForURL(/range=7d/);
  await marked.filter({ hasText: /^7d$/ }).waitFor();
  // The page without a range shows an hour, whatever was picked before. A page that has no range lets go of it.
  await tab("Deployments");
  await panel.getByRole("list", { name: "Deployments" }).waitFor();
  await tab("Metrics");
  await page.waitForURL((url) => !url.searchParams.has("range"));
  await marked.filter({ hasText: /^1h$/ }).waitFor();
  assert.equal(await marked.count(), 1);
});

await step("tokens are shown once, work, and end", async () => {
  await page.goto(`${api}/account/tokens`);
  await page.getByLabel("Name").fill("browser test");
  await page.getByRole("button", { name: "Create token" }).click();
  const token = (await page.getByTestId("secret").locator("code").textContent()).trim();
  assert.match(token, /^orr_/);
  const me = () => fetch(`${api}/graphql/v2`, { method: "POST", headers: { "content-type": "application/json", authorization: `Bearer ${token}` }, body: '{"query":"{ me { id } }"}' }).then((answer) => answer.json());
  assert.ok((await me()).data.me.id);
  await tidy(page, "tokens");
  await page.reload();
  assert.equal(await page.getByText(token).count(), 0);
  await page.getByRole("listitem").filter({ hasText: "browser test" }).getByRole("button", { name: "Revoke" }).click();
  const question = page.getByRole("dialog", { name: "Revoke browser test?" });
  await question.getByRole("button", { name: "Keep it" }).click();
  assert.ok((await me()).data.me.id, "a token ends without a confirmation");
  await page.getByRole("listitem").filter({ hasText: "browser test" }).getByRole("button", { name: "Revoke" }).click();
  await question.getByRole("button", { name: "Revoke the token" }).click();
  await toast(page, "browser test is revoked");
  assert.ok((await me()).errors);
});

await step("a key of Flow is made, shown once, changed, expires and is revoked", () => flowKeys(page));

let galaxy = "";
await step("the account's key of Galaxy is generated, and replaced by the next", async () => {
  galaxy = await galaxyKey(page);
});

await step("Galaxy's own addresses lead to the key and to an app", () => galaxyAddresses(page, galaxy));

await step("the Explorer asks with that key, and says when a key is wrong", () => explorer(page, galaxy));

await step("changes are staged, read, and deployed together", async () => {
  await page.goto(`${service}/variables`);
  await panel.getByLabel("Name").fill("GREETING");
  await panel.getByLabel("Value", { exact: true }).fill("staged");
  await panel.getByRole("button", { name: "Stage" }).click();
  await page.getByRole("region", { name: "Staged changes" }).getByText("1 change waits").waitFor();
  await page.getByRole("button", { name: "Review and deploy" }).click();
  const review = page.getByRole("dialog", { name: "Staged changes" });
  const change = review.getByRole("listitem").filter({ hasText: "variables.GREETING" });
  await change.locator("del", { hasText: "browser" }).waitFor();
  await change.locator("ins", { hasText: "staged" }).waitFor();
  await tidy(page, "staged changes");
  await review.getByRole("button", { name: "Discard" }).click();
  await page.getByRole("region", { name: "Staged changes" }).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByRole("button", { name: "Review and deploy" }).click();
  await review.getByRole("button", { name: "Deploy", exact: true }).click();
  await reads(address, "Hello staged");
  // What there is can be staged to be something else, or to go.
  await panel.getByRole("button", { name: "Edit GREETING" }).click();
  await panel.getByLabel("New value").fill("later");
  const row = panel.getByRole("list", { name: "Variables" }).getByRole("listitem").filter({ hasText: "GREETING" });
  await row.getByRole("button", { name: "Stage", exact: true }).click();
  await page.getByRole("button", { name: "Review and deploy" }).click();
  await change.locator("del", { hasText: "staged" }).waitFor();
  await change.locator("ins", { hasText: "later" }).waitFor();
  await page.keyboard.press("Escape");
  await panel.getByRole("button", { name: "Edit GREETING" }).click();
  await row.getByRole("button", { name: "Stage deletion" }).click();
  await page.getByRole("button", { name: "Review and deploy" }).click();
  await change.locator("del", { hasText: "staged" }).waitFor();
  await change.locator("ins", { hasText: "later" }).waitFor({ state: "detached" });
  await review.getByRole("button", { name: "Discard" }).click();
  await page.getByRole("region", { name: "Staged changes" }).waitFor({ state: "detached" });
});

await step("Galaxy's API lists the account's apps, and Apollo DevTools see who asks it", async () => {
  await page.goto(`${api}/`);
  const apps = page.getByRole("list", { name: "Apps" });
  await apps.getByText("Running").waitFor(soon);
  const link = await apps.getByRole("link", { name: /^hello-shop/ }).getAttribute("href");
  assert.equal(new URL(link).host, new URL(address).host);
  const clients = await page.evaluate(() => (window[Symbol.for("apollo.devtools")] ?? []).map((client) => client.devtoolsConfig?.name));
  assert.deepEqual(clients.sort(), ["Galaxy", "Orrery"]);
  await devToolsKey(page, galaxy);
  await tidy(page, "the account's apps");
});

await step("the palette goes to a project by name", async () => {
  await page.goto(`${api}/`);
  await page.getByRole("heading", { name: "Projects" }).waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("hello");
  await page.waitForFunction(() => document.title.startsWith("Projects · "));
  await page.getByRole("option", { name: "hello-shop", exact: true }).click();
  await page.getByRole("link", { name: /hello-shop.*Live/ }).waitFor();
  await page.waitForFunction(() => document.title === "hello-shop · Orrery");
  await tidy(page, "the canvas");
});

await step("the palette reaches what is around, and ? tells of keys", async () => {
  await page.goto(`${service}/deployments`);
  await panel.getByRole("list", { name: "Deployments" }).waitFor();
  await page.keyboard.press("Control+k");
  for (const name of ["Metrics", "Deploy the same source again", "Restart", "Roll back to the one before", "Scale…", "Stop…", "Take out of service…", "Open the app", "Copy the service id", "Canvas", "All logs", "Add a service…", "Add Redis", "New environment…", "Project settings", "New project", "Tokens", "Flow API keys", "Members", "Notifications", "Audit log", "This server", "API reference"]) {
    await page.getByRole("option", { name, exact: true }).waitFor();
  }
  for (const name of ["Copy the workspace id", "Appearance: Dark", "Sign out"]) await page.getByRole("option", { name, exact: true }).waitFor();
  await tidy(page, "the palette");
  await page.getByRole("option", { name: "Shortcuts" }).click();
  const shortcuts = page.getByRole("dialog", { name: "Shortcuts" });
  await shortcuts.getByText("Filter the log").waitFor();
  await tidy(page, "the shortcuts");
  await page.keyboard.press("Escape");
  await shortcuts.waitFor({ state: "detached" });
  await page.keyboard.press("?");
  await shortcuts.waitFor();
  await page.keyboard.press("Escape");
  await page.goto(rollout);
  await page.getByRole("list", { name: "Steps" }).waitFor();
  await page.keyboard.press("Control+k");
  await page.getByRole("option", { name: "Copy the deployment id" }).click();
  await toast(page, "Copied the deployment id");
  await page.goto(`${service}/deployments`);
  await panel.getByRole("list", { name: "Deployments" }).waitFor();
});

await step("the palette finds a service from where no project is open, and a project's settings lead back to its canvas", async () => {
  await page.goto(`${api}/flow`);
  await page.getByRole("heading", { name: "Flow", exact: true }).waitFor();
  await page.keyboard.press("Control+k");
  await page.locator("[cmdk-input]:focus").waitFor();
  await page.keyboard.type("service hello");
  await page.getByRole("option", { name: / in / }).first().click();
  await panel.getByRole("list", { name: "Deployments" }).waitFor();
  await page.goto(`${service.split("/").slice(0, 5).join("/")}/settings`);
  await page.getByRole("heading", { name: "Environments", exact: true }).waitFor();
  await page.keyboard.press("Control+k");
  await page.getByRole("option", { name: "Copy the project id" }).waitFor();
  await page.getByRole("option", { name: "Canvas", exact: true }).click();
  await page.waitForURL(service.split("/s/")[0]);
  await page.goto(`${service}/deployments`);
  await panel.getByRole("list", { name: "Deployments" }).waitFor();
});

await step("a browser without a connection says so, and goes on when it is back", async () => {
  await page.context().setOffline(true);
  await page.getByText("This browser is offline").waitFor();
  await page.context().setOffline(false);
  await page.getByText("This browser is offline").waitFor({ state: "detached" });
});

await step("a page says that the server is away, on whatever page one is, and goes on when it is back", async () => {
  const shown = await page.context().newPage();
  const sockets = new Set();
  let isAway = false;
  await shown.routeWebSocket(/\/graphql\/v2$/, (socket) => {
    if (isAway) return void socket.close({ code: 4499 });
    socket.connectToServer();
    sockets.add(socket);
  });
  const told = shown.getByText("Reconnecting to the server");
  await shown.goto(`${api}/account/tokens`);
  await shown.getByRole("heading", { name: "Tokens", exact: true }).waitFor();
  for (const until = Date.now() + 120_000; sockets.size === 0; await shown.waitForTimeout(50)) assert.ok(Date.now() < until, "the page does not listen");
  isAway = true;
  for (const socket of sockets) await socket.close({ code: 4499 });
  await told.waitFor(soon);
  await tidy(shown, "a page whose server is away");
  isAway = false;
  await told.waitFor({ state: "detached", ...soon });
  await shown.close();
});

await step("the API's playground runs with the session", async () => {
  // What a page before was answered is gone with it.
  const told = (answer) => answer.text().catch(() => "");
  const answered = (words) => page.waitForResponse(async (answer) => answer.url().endsWith("/graphql/v2") && (await told(answer)).includes(words));
  await Promise.all([answered("__schema"), page.goto(`${api}/graphiql`)]);
  await Promise.all([answered("hello-shop"), page.getByRole("button", { name: /Execute query/ }).click()]);
  await page.waitForFunction(() => document.querySelector(".result-window")?.textContent?.includes("workspaces"));
});

await step("somebody of another workspace sees nothing of it", async () => {
  const other = await visitor(browser);
  await signIn(other.page, secondLogin);
  await other.page.getByRole("heading", { name: "Deploy your first app" }).waitFor();
  const canvas = service.split("/s/")[0];
  const { workspaces } = (await asked(page, "{ me { workspaces { id } } }")).data.me;
  const own = [`${api}/w/${workspaces[0].id}/members`, `${api}/w/${workspaces[0].id}/notifications`, `${api}/w/${workspaces[0].id}/audit`];
  for (const path of [service, rollout, `${service}/logs`, `${service}/variables`, canvas, `${canvas}/logs`, `${canvas}/activity`, `${service.split("/").slice(0, 5).join("/")}/settings`, ...own]) {
    await other.page.goto(path);
    await other.page.getByRole("alert").waitFor();
    assert.equal(await other.page.getByText("hello-shop").count(), 0, `${path} tells a stranger of the project`);
  }
  for (const field of [`service(id: "${service.split("/").at(-1)}") { id }`, `deployment(id: "${rollout.split("/deployments/")[1].split("?")[0]}") { id }`, `workspace(workspaceId: "${workspaces[0].id}") { id }`]) {
    const answer = await asked(other.page, `{ ${field} }`);
    assert.ok(answer.errors && !answer.data?.[field.split("(")[0]], `a stranger is answered to ${field}`);
  }
  await other.context.close();
});

if (shots) {
  await step("every page looks right in the light, in the dark and on a phone", async () => {
    const pages = { home: "/", new: "/new", deployment: rollout, deployments: `${service}/deployments`, "service-logs": `${service}/logs`, variables: `${service}/variables`, settings: `${service}/settings`, domains: `${service}/domains`, metrics: `${service}/metrics`, logs: `${service.split("/s/")[0]}/logs`, canvas: service.split("/s/")[0], activity: `${service.split("/s/")[0]}/activity`, project: `${service.split("/").slice(0, 5).join("/")}/settings`, account: "/account", tokens: "/account/tokens", flow: "/flow", keys: "/flow/keys", operator: "/operator", "not-found": "/account/nothing", explorer: "/explorer", graphiql: "/graphiql", reference: "/docs/api" };
    await pictures(browser, page, shots, pages);
  });
}

await end();

/** Whether anything but axes is drawn: points in the colour of a line. */
function inked(canvas) {
  return canvas.evaluate((element) => {
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
    const wanted = [1, 3, 5].map((at) => parseInt(accent.slice(at, at + 2), 16));
    const { data } = element.getContext("2d").getImageData(0, 0, element.width, element.height);
    for (let at = 0; at < data.length; at += 4) if (wanted.every((value, channel) => data[at + channel] === value)) return true;
    return false;
  });
}
