// A database, references to it, containers, triggers and volumes in the dashboard. Driven by crates/server/tests/dashboard.rs.
import assert from "node:assert/strict";
import { api, asked, drop, hold, pictures, reads, signIn, story, tidy, toast } from "./browser.mjs";

const { app, browser, end, login, owner, page, panel, shots, soon, step } = await story();
const tab = (name) => panel.getByRole("navigation", { name: "Service" }).getByRole("link", { name, exact: true }).click();
let address = "";
let service = "";
let canvas = "";

await step("an app runs", async () => {
  await signIn(page, login);
  await drop(page, page.getByRole("main"), app);
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  service = page.url().split("/deployments/")[0];
  canvas = service.split("/s/")[0];
  address = await page.getByRole("link", { name: "Open" }).getAttribute("href");
});

await step("a database is two clicks away", async () => {
  await page.goto(canvas);
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByRole("dialog").getByRole("button", { name: /^Redis/ }).click();
  await page.getByRole("link", { name: /Redis.*Live/ }).waitFor(soon);
  await tidy(page, "the canvas with a database");
});

await step("what a panel covers of the canvas takes nothing away from its buttons", async () => {
  await page.goto(`${service}/deployments`);
  await panel.getByRole("list", { name: "Deployments" }).waitFor();
  const card = page.locator(".placed").getByRole("link", { name: /hello-shop/ });
  const left = await panel.evaluate((element) => element.getBoundingClientRect().left);
  for (const until = Date.now() + 120_000; ; await page.waitForTimeout(100)) {
    const box = await card.boundingBox();
    if (box && box.x > 0 && box.x + box.width < left) break;
    assert.ok(Date.now() < until, "the card of the open service is covered by its own panel");
  }
  await tidy(page, "a service over its canvas", ["target-size"]);
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
  await page.locator(".placed").getByRole("link", { name: /Redis/ }).click();
  await panel.getByRole("heading", { name: "Redis" }).waitFor();
  assert.equal(await panel.locator("h1:focus").count(), 0, "a mouse moves the focus of the keyboard");
  await panel.getByRole("button", { name: "Close the panel" }).click();
  await panel.waitFor({ state: "detached" });
  await page.locator("a[data-service]:focus").filter({ hasText: "Redis" }).waitFor();
});

await step("a variable refers to it, completed while it is typed", async () => {
  await page.goto(`${service}/variables`);
  await panel.getByLabel("Name").fill("CACHE_URL");
  await panel.getByRole("combobox", { name: "Value" }).pressSequentially("${{redis_u");
  await panel.getByRole("option", { name: "Redis.REDIS_URL" }).waitFor();
  await tidy(page, "completion of a reference");
  await page.keyboard.press("Enter");
  assert.equal(await panel.getByRole("combobox", { name: "Value" }).inputValue(), "${{Redis.REDIS_URL}}");
  await panel.getByRole("button", { name: "Add" }).click();
  await panel.getByRole("list", { name: "Variables" }).getByText("CACHE_URL", { exact: true }).waitFor();
  await reads(new URL("/cache", address).href, "redis://");
});

await step("many are changed as text, in one go", async () => {
  await page.goto(`${service}/variables`);
  await panel.getByRole("button", { name: "Raw editor" }).click();
  const text = panel.getByRole("textbox", { name: "Variables as NAME=value lines" });
  const lines = await text.inputValue();
  await text.fill(`${lines}\nEXTRA_ONE=1\nEXTRA_TWO="two words"`);
  await panel.getByRole("button", { name: "Save" }).click();
  const list = panel.getByRole("list", { name: "Variables" });
  await list.getByText("EXTRA_TWO", { exact: true }).waitFor();
  await panel.getByRole("button", { name: "Raw editor" }).click();
  assert.equal(await text.inputValue().then((now) => now.includes('EXTRA_TWO="two words"')), true);
  await text.fill(lines);
  await panel.getByRole("button", { name: "Save" }).click();
  await list.getByText("CACHE_URL", { exact: true }).waitFor();
  await list.getByText("EXTRA_ONE", { exact: true }).waitFor({ state: "detached" });
});

await step("its volume is backed up", async () => {
  await page.goto(canvas);
  await page.getByRole("link", { name: /Redis/ }).click();
  await tab("Storage");
  const volume = panel.getByRole("region", { name: /^Volume/ });
  // Nobody is told how far it is before the page has been looked at, and loaded again.
  let goOn = await hold(page, "Workflow");
  const progress = volume.getByRole("region", { name: "Backup under way" });
  await volume.getByRole("button", { name: "Back up now" }).click();
  await progress.getByText(/^for [1-9]\d* s$|^for \d+\.\d s$/).waitFor();
  await progress.getByRole("listitem").filter({ hasText: /Its files are copied, \d+ MB/ }).waitFor();
  assert.ok(await volume.getByRole("button", { name: "Back up now" }).isDisabled(), "another backup can be asked for meanwhile");
  await tidy(page, "a backup under way");
  await page.reload();
  await progress.waitFor();
  await goOn();
  await toast(page, "The backup is made", soon);
  await progress.waitFor({ state: "detached" });
  await volume.getByRole("list", { name: "Backups" }).getByRole("listitem").first().waitFor(soon);
  const kept = () => page.waitForResponse((answer) => answer.request().postData()?.includes("mutation"));
  await Promise.all([kept(), volume.getByLabel("Daily").check()]);
  await page.reload();
  await volume.getByLabel("Daily", { exact: true }).and(page.locator(":checked")).waitFor();
  await tidy(page, "storage");
  // At midnight a backup more would come into the list.
  await Promise.all([kept(), volume.getByLabel("Daily").uncheck()]);
  const name = (await volume.getByRole("heading", { level: 2 }).textContent()).trim();
  const backups = volume.getByRole("list", { name: "Backups" }).getByRole("listitem");
  await backups.first().getByRole("button", { name: "What can be done with this backup" }).click();
  await page.getByRole("menuitem", { name: "Restore" }).click();
  const restore = page.getByRole("dialog", { name: "Restore this backup?" });
  assert.ok(await restore.getByRole("button", { name: "Restore" }).isDisabled(), "files are replaced without the volume's name");
  await restore.getByLabel(`Type ${name} to confirm`).fill(name);
  goOn = await hold(page, "Workflow");
  await restore.getByRole("button", { name: "Restore" }).click();
  await restore.waitFor({ state: "detached" });
  await volume.getByRole("region", { name: "Restore under way" }).waitFor();
  await goOn();
  await toast(page, "The backup is restored", soon);
  await backups.first().getByRole("button", { name: "What can be done with this backup" }).click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  const confirm = page.getByRole("dialog").getByRole("button", { name: "Delete the backup" });
  await page.getByRole("dialog").getByLabel(/^Type .* to confirm$/).fill("something else");
  assert.ok(await confirm.isDisabled(), "a backup goes without its name");
  await page.getByRole("dialog").getByLabel(/^Type .* to confirm$/).fill(name);
  await confirm.click();
  await toast(page, "The backup is deleted", soon);
  await backups.first().waitFor({ state: "detached" });
});

await step("its volume is renamed, detached, found again and attached", async () => {
  const volume = panel.getByRole("region", { name: "Volume cache-files" });
  const idle = panel.getByRole("region", { name: "Volumes without a service" });
  await panel.getByLabel("Name of the volume").fill("cache-files");
  await panel.getByRole("button", { name: "Save" }).click();
  await volume.waitFor();
  await volume.getByRole("button", { name: "Detach…" }).click();
  await page.getByRole("dialog", { name: "Detach cache-files?" }).getByRole("button", { name: "Detach it" }).click();
  await volume.waitFor({ state: "detached" });
  await idle.getByText("cache-files").waitFor();
  await tidy(page, "a volume without a service");
  await page.goto(`${service}/storage`);
  await idle.getByText("cache-files").waitFor();
  await page.goBack();
  await idle.getByRole("button", { name: "Attach here: cache-files" }).click();
  await volume.waitFor();
  await idle.waitFor({ state: "detached" });
});

await step("a volume that no service has stands on the canvas, and is attached from there", async () => {
  const storage = page.url();
  const alone = page.getByRole("button", { name: /cache-files.*No service has it/ });
  const dialog = page.getByRole("dialog", { name: "cache-files" });
  const volume = panel.getByRole("region", { name: "Volume cache-files" });
  await volume.getByRole("button", { name: "Detach…" }).click();
  await page.getByRole("dialog", { name: "Detach cache-files?" }).getByRole("button", { name: "Detach it" }).click();
  await volume.waitFor({ state: "detached" });
  await page.goto(canvas);
  await alone.waitFor();
  if (shots) await pictures(browser, page, shots, { "canvas-volume": [canvas, "No service has it"] });
  await alone.click();
  await tidy(page, "a volume on the canvas");
  const question = page.getByRole("dialog", { name: "Delete cache-files?" });
  await dialog.getByRole("button", { name: "Delete the volume…" }).click();
  await question.waitFor();
  await page.keyboard.press("Escape");
  await question.waitFor({ state: "detached" });
  await dialog.getByLabel("Attach it to").selectOption({ label: "Redis" });
  await dialog.getByRole("button", { name: "Attach", exact: true }).click();
  await dialog.waitFor({ state: "detached" });
  await alone.waitFor({ state: "detached" });
  await page.goto(storage);
  await volume.waitFor();
});

await step("a port from outside is opened, and closed after a question", async () => {
  await page.goto(`${service}/storage`);
  const ports = panel.getByRole("region", { name: "TCP" });
  await ports.getByLabel("Port of the app").fill("7000");
  await ports.getByRole("button", { name: "Open", exact: true }).click();
  const close = ports.locator(".row").filter({ hasText: "to port 7000 of the app" }).getByRole("button", { name: /^Close port/ });
  await close.click();
  await page.getByRole("dialog").getByRole("button", { name: "Leave it open" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await close.click();
  await page.getByRole("dialog").getByRole("button", { name: "Close the port" }).click();
  await close.waitFor({ state: "detached" });
});

await step("a deployment is stopped after a question, and starts again", async () => {
  await page.goto(`${service}/deployments`);
  const row = panel.getByRole("list", { name: "Deployments" }).getByRole("listitem").first();
  const choose = async (name) => {
    await row.getByRole("button", { name: "What can be done with this deployment" }).click();
    await page.getByRole("menuitem", { name }).click();
  };
  await row.getByText("Live").waitFor(soon);
  await choose("Stop");
  const dialog = page.getByRole("dialog", { name: "Stop this deployment?" });
  await tidy(page, "a question");
  await dialog.getByRole("button", { name: "Let it run" }).click();
  await dialog.waitFor({ state: "detached" });
  await reads(address, "Hello");
  await choose("Stop");
  await dialog.getByRole("button", { name: "Stop it" }).click();
  await row.getByText("Stopped").waitFor(soon);
  await choose("Restart");
  await row.getByText("Live").waitFor(soon);
  await reads(address, "Hello");
});

await step("older deployments stay in the list while it is asked for again", async () => {
  const told = () => page.waitForResponse((answer) => answer.request().postData()?.includes('"operationName":"Deployments"'));
  // The first page has one row, so that there are older ones.
  await page.route("**/graphql/v2", (route) => {
    const sent = route.request().postData() ?? "";
    return sent.includes('"operationName":"Deployments"') ? route.continue({ postData: sent.replace('"first":20', '"first":1') }) : route.continue();
  });
  await page.goto(`${service}/deployments`);
  const rows = panel.getByRole("list", { name: "Deployments" }).getByRole("listitem");
  await rows.first().waitFor();
  assert.equal(await rows.count(), 1);
  await panel.getByRole("button", { name: "Older deployments" }).click();
  await rows.nth(1).waitFor();
  const seen = await rows.count();
  await told();
  // The answer before this one has been drawn by now.
  await told();
  assert.ok((await rows.count()) >= seen, "what was asked for is gone again");
  await page.unroute("**/graphql/v2");
});

await step("each container is listed and charted, and one that is killed is replaced", async () => {
  await page.goto(`${service}/settings`);
  await panel.getByLabel("Replicas", { exact: true }).fill("2");
  await panel.getByRole("button", { name: "Scale" }).click();
  await tab("Containers");
  const rows = panel.getByRole("list", { name: "Containers" }).getByRole("listitem");
  const running = rows.filter({ hasText: "Running" });
  await running.nth(1).waitFor(soon);
  await running.first().getByText(/vCPU, /).waitFor(soon);
  await running.first().getByRole("button", { name: "Charts" }).click();
  await panel.getByRole("figure", { name: /^Memory of container \d: [\d.]+ MB/ }).waitFor();
  await tidy(page, "containers");
  const ids = async () => (await asked(page, `{ containers(environmentId: "${environment()}", serviceId: "${id()}") { id status } }`)).data.containers.map((one) => one.id);
  const before = await ids();
  await running.first().getByRole("button", { name: "Kill" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Kill the container" }).click();
  for (const until = Date.now() + 120_000; ; ) {
    const now = await ids();
    if (now.length === 2 && now.some((one) => !before.includes(one))) break;
    assert.ok(Date.now() < until, "a killed container is not replaced");
    await page.waitForTimeout(200);
  }
  await running.nth(1).waitFor(soon);
  await running.first().getByRole("link", { name: "Log" }).click();
  await page.waitForURL(/filter=%40replica/);
  await panel.getByRole("log").getByText("listening").first().waitFor(soon);
});

await step("a shell opens in a container, follows the size of its window and says how it ended", async () => {
  await tab("Containers");
  const link = panel.getByRole("list", { name: "Containers" }).getByRole("link", { name: "Open shell" }).first();
  const [shell] = await Promise.all([owner.context.waitForEvent("page"), link.click()]);
  const faults = [];
  shell.on("pageerror", (error) => faults.push(error.message));
  shell.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  const shows = (words) => shell.waitForFunction((text) => document.querySelector(".xterm-rows")?.textContent.includes(text), words, soon);
  const columns = () => shell.locator("#terminal").getAttribute("data-columns");
  await shell.getByRole("status").getByText("Connected").waitFor(soon);
  await shell.keyboard.type("echo from-$((20+3))-port-${PORT:+set}\n");
  await shows("from-23-port-set");
  await shell.keyboard.type("echo wide-$(stty size | cut -d' ' -f2)-\n");
  const before = await columns();
  await shows(`wide-${before}-`);
  await tidy(shell, "a shell");
  await shell.setViewportSize({ width: 700, height: 500 });
  await shell.waitForFunction((old) => document.getElementById("terminal").dataset.columns !== old, before);
  await shell.keyboard.type("echo narrow-$(stty size | cut -d' ' -f2)-\n");
  await shows(`narrow-${await columns()}-`);
  await shell.keyboard.type("exit 3\n");
  await shell.getByRole("status").getByText("Ended with status 3").waitFor(soon);
  await shell.getByRole("button", { name: "Open again" }).click();
  await shell.getByRole("status").getByText("Connected").waitFor(soon);
  assert.deepEqual(faults, []);
  await shell.close();
});

await step("a trigger is made, runs, and says why it did nothing", async () => {
  await tab("Triggers");
  await panel.getByRole("button", { name: "New trigger" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("grow under load");
  await dialog.getByLabel("Value of rule 1").fill("90");
  await dialog.getByLabel("At most").fill("4");
  await tidy(page, "editing a trigger");
  await dialog.getByRole("button", { name: "Save" }).click();
  const row = panel.getByRole("list", { name: "Triggers" }).getByRole("listitem").filter({ hasText: "grow under load" });
  await row.getByText("Add containers by 1, 1 to 4, when CPU above 90%").waitFor();
  await row.getByRole("button", { name: "Log" }).click();
  await row.getByRole("list", { name: "Runs" }).getByText("not executed").first().waitFor(soon);
  await tidy(page, "triggers");
  await row.getByRole("button", { name: "What can be done with grow under load" }).click();
  await page.getByRole("menuitem", { name: "Pause" }).click();
  await row.getByText("Paused").waitFor();
  await row.getByRole("button", { name: "What can be done with grow under load" }).click();
  await page.getByRole("menuitem", { name: "Remove" }).click();
  await row.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await row.getByText("Paused").waitFor();
});

await step("limits are set for each replica", async () => {
  await tab("Settings");
  await panel.getByLabel("Memory, GB").fill("0.3");
  await panel.getByRole("button", { name: "Save" }).click();
  await toast(page, "Saved");
  await page.reload();
  await page.waitForFunction(() => [...document.querySelectorAll("input")].some((input) => input.value === "0.3"));
});

await step("what was set by a number is taken back by clearing it", async () => {
  const saved = async () => {
    await panel.getByRole("button", { name: "Save" }).click();
    await panel.getByRole("button", { name: "Save" }).waitFor({ state: "detached" });
  };
  const now = async () => {
    const place = `environmentId: "${environment()}", serviceId: "${id()}"`;
    const { serviceInstance, serviceInstanceLimitOverride: own } = (await asked(page, `{ serviceInstance(${place}) { drainingSeconds healthcheckTimeout } serviceInstanceLimitOverride(${place}) }`)).data;
    return [serviceInstance.drainingSeconds, serviceInstance.healthcheckTimeout, own?.containers?.memoryBytes ?? null];
  };
  const [grace] = await now();
  const draining = panel.getByLabel("To finish before it is ended, seconds");
  await draining.fill("7");
  await panel.getByLabel("Wait at most, seconds").fill("99");
  // What is typed next stays, also when it is typed before the page has heard all about what was saved.
  const goOn = await hold(page, "Canvas");
  await saved();
  await draining.fill("8");
  await goOn();
  await toast(page, "Saved");
  assert.equal(await draining.inputValue(), "8", "what was typed meanwhile is gone");
  assert.deepEqual(await now(), [7, 99, 300_000_000]);
  await draining.fill("");
  await panel.getByLabel("Wait at most, seconds").fill("");
  await saved();
  assert.deepEqual(await now(), [grace, null, 300_000_000]);
  await panel.getByLabel("Memory, GB").fill("");
  await saved();
  assert.deepEqual(await now(), [grace, null, null]);
  await panel.getByLabel("At most, times").fill("some");
  await panel.getByLabel("At most, times").blur();
  await page.locator(".toast").filter({ hasText: "At most, times: some is not a whole number" }).getByRole("button", { name: "Dismiss" }).click();
});

await step("a service may sleep", async () => {
  const may = panel.getByLabel("Let it sleep until the next request");
  await page.goto(`${service}/settings`);
  await may.click();
  await toast(page, "Saved");
  await page.reload();
  await may.and(page.locator(":checked")).waitFor();
  await may.click();
  await may.and(page.locator(":not(:checked)")).waitFor();
});

await step("visitors are kept on a replica, and replicas that hang are left alone, without a deployment", async () => {
  const asks = `{ serviceInstance(environmentId: "${environment()}", serviceId: "${id()}") { stickySessions unhealthyContainerReplacement latestDeployment { id } } }`;
  const before = (await asked(page, asks)).data.serviceInstance;
  assert.deepEqual([before.stickySessions, before.unhealthyContainerReplacement], [false, true]);
  const [keep, replace] = [panel.getByLabel("Keep each visitor on one replica"), panel.getByLabel("Replace replicas that stop answering")];
  await keep.click();
  await keep.and(page.locator(":checked")).and(page.locator(":enabled")).waitFor();
  await replace.click();
  await replace.and(page.locator(":not(:checked)")).and(page.locator(":enabled")).waitFor();
  const after = (await asked(page, asks)).data.serviceInstance;
  assert.deepEqual(after, { ...before, stickySessions: true, unhealthyContainerReplacement: false });
  await keep.click();
  await keep.and(page.locator(":not(:checked)")).and(page.locator(":enabled")).waitFor();
  await replace.click();
  await replace.and(page.locator(":checked")).and(page.locator(":enabled")).waitFor();
});

await step("a service that was made for a region elsewhere is set to this one", async () => {
  const region = async () => (await asked(page, `{ serviceInstance(environmentId: "${environment()}", serviceId: "${id()}") { region numReplicas } }`)).data.serviceInstance;
  const { numReplicas } = await region();
  await asked(page, `mutation { serviceInstanceUpdate(environmentId: "${environment()}", serviceId: "${id()}", input: { region: "us-west2", numReplicas: ${numReplicas} }) }`);
  await page.goto(`${service}/settings`);
  await panel.getByText("us-west2 is none of this server's").waitFor();
  await panel.getByLabel("Region").selectOption("local");
  await toast(page, "Saved");
  await panel.getByText("us-west2 is none of this server's").waitFor({ state: "detached" });
  assert.deepEqual(await region(), { region: "local", numReplicas });
});

await step("a new project begins with a database", async () => {
  await page.goto(`${api}/new`);
  await page.getByLabel("Name").fill("archive");
  // The first time a template is asked for that there is none of.
  await page.route("**/graphql/v2", (route) => {
    const sent = route.request().postData() ?? "";
    return sent.includes('"operationName":"TemplateDeploy"') ? route.continue({ postData: sent.replace(/"templateId":"[^"]*"/, '"templateId":"nothing"') }) : route.continue();
  });
  await page.getByRole("button", { name: /^Redis/ }).click();
  await page.locator(".toast[data-tone=failed]").waitFor();
  await page.unroute("**/graphql/v2");
  await page.getByRole("button", { name: /^Redis/ }).click();
  await page.getByRole("link", { name: /Redis.*Live/ }).waitFor(soon);
  await page.getByRole("link", { name: "archive", exact: true }).waitFor();
  const names = (await asked(page, "{ projects { edges { node { name } } } }")).data.projects.edges.map((edge) => edge.node.name);
  assert.equal(names.filter((name) => name.startsWith("archive")).length, 1, "a template that was refused has left a project of its own");
});

if (shots) {
  await page.goto(`${service}/containers`);
  const shell = await panel.getByRole("link", { name: "Open shell" }).first().getAttribute("href");
  await step("pictures", () => pictures(browser, page, shots, { shell, "canvas-database": [canvas, "Redis"], containers: `${service}/containers`, triggers: `${service}/triggers`, storage: `${service}/storage`, activity: `${canvas}/activity` }));
}

await step("a service with a schedule runs when it is asked to, and its run is told", async () => {
  const place = `serviceId: "${id()}", environmentId: "${environment()}"`;
  await page.goto(`${service}/settings`);
  await panel.getByLabel("Run on a schedule, UTC").fill("0 4 1 1 *");
  await panel.getByRole("button", { name: "Save" }).click();
  await panel.getByRole("button", { name: "Save" }).waitFor({ state: "detached" });
  // Another value of a variable is another deployment, with the settings of today.
  const job = await asked(page, `mutation { variableUpsert(input: {projectId: "${canvas.split("/").at(-2)}", ${place}, name: "JOB", value: "1"}) }`);
  assert.equal(job.data.variableUpsert, true);
  await page.goto(`${service}/deployments`);
  const runs = panel.getByRole("region", { name: "Runs" });
  await runs.getByText("Next at").waitFor(soon);
  await runs.getByRole("button", { name: "Run now" }).click();
  await runs.getByText("Succeeded").waitFor(soon);
  await runs.getByText("exit status 0").waitFor();
  await tidy(page, "runs of a schedule");
  await runs.getByRole("link", { name: "Log" }).click();
  await panel.getByRole("log").getByText("counted").first().waitFor(soon);
  // What ran before another deployment was made is told as before.
  const active = async () => (await asked(page, `{ serviceInstance(environmentId: "${environment()}", serviceId: "${id()}") { activeDeployments { id } } }`)).data.serviceInstance.activeDeployments[0]?.id;
  const first = await active();
  await asked(page, `mutation { variableUpsert(input: {projectId: "${canvas.split("/").at(-2)}", ${place}, name: "JOB", value: "2"}) }`);
  for (const until = Date.now() + 120_000; [first, undefined].includes(await active()); await page.waitForTimeout(100)) assert.ok(Date.now() < until, "it is not deployed again");
  await page.goto(`${service}/deployments`);
  await runs.getByRole("link", { name: "Log" }).last().click();
  await panel.getByRole("log").getByText("counted").first().waitFor(soon);
});

await step("how it is built, checked and started again is set", async () => {
  await page.goto(`${service}/settings`);
  for (const [label, value] of [
    ["Build command", "node --check server.js"],
    ["Before each deployment", "node --version"],
    ["Path", "/"],
  ]) {
    await panel.getByLabel(label, { exact: true }).fill(value);
    await panel.getByRole("button", { name: "Save" }).click();
    await panel.getByRole("button", { name: "Save" }).waitFor({ state: "detached" });
  }
  const policy = panel.getByLabel("Start it again");
  const held = await policy.inputValue();
  const goOn = await hold(page, "ServiceInstanceUpdate");
  await policy.selectOption({ label: "Never" });
  await policy.and(page.locator(":disabled")).waitFor();
  assert.deepEqual([await policy.inputValue(), held === "NEVER"], [held, false], "a choice is shown as if it was kept before it is");
  await goOn();
  await policy.and(page.locator(":enabled")).waitFor();
  const now = async () => (await asked(page, `{ serviceInstance(environmentId: "${environment()}", serviceId: "${id()}") { buildCommand preDeployCommand healthcheckPath cronSchedule restartPolicyType restartPolicyMaxRetries } }`)).data.serviceInstance;
  for (const until = Date.now() + 120_000; (await now()).restartPolicyType !== "NEVER"; await page.waitForTimeout(50)) assert.ok(Date.now() < until, "the policy is not kept");
  const times = panel.getByLabel("At most, times");
  const before = (await now()).restartPolicyMaxRetries;
  await times.fill("often");
  await times.press("Tab");
  await page.getByText("often is not a whole number. Nothing was changed.").waitFor();
  assert.equal((await now()).restartPolicyMaxRetries, before);
  await times.fill("4");
  await times.press("Tab");
  for (const until = Date.now() + 120_000; (await now()).restartPolicyMaxRetries !== 4; await page.waitForTimeout(50)) assert.ok(Date.now() < until, "the number is not kept");
  const { preDeployCommand, ...kept } = await now();
  assert.deepEqual([preDeployCommand].flat(), ["node --version"]);
  assert.deepEqual(kept, { buildCommand: "node --check server.js", healthcheckPath: "/", cronSchedule: "0 4 1 1 *", restartPolicyType: "NEVER", restartPolicyMaxRetries: 4 });
});

await end();

function environment() {
  return canvas.split("/").at(-1);
}

function id() {
  return service.split("/").at(-1);
}
