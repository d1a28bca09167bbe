// The dashboard with much behind it, measured by the browser itself. Driven by `cargo xtask bench`, which says by environment variables
// where the server is: 200 services on the canvas, a log of 1,000,000 lines, 30 days of measurements.
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import lighthouse, { desktopConfig } from "lighthouse";
import { api, attachable, launch, reads, signIn, visitor } from "../../web/tests/browser.mjs";

const { ORRERY_BENCH_FIGURES: figures, ORRERY_TEST_LOGIN: login, ORRERY_BENCH_CANVAS: canvas, ORRERY_BENCH_SERVICE: id, ORRERY_BENCH_APP: app } = process.env;
const service = `${canvas}/s/${id}`;

const say = (what, figure, budget = "") => console.log(`${what.padEnd(52)} ${figure.padStart(30)}  ${budget}`.trimEnd());
/** A figure that `cargo xtask bench` holds to a bound of its table. */
const judged = (name, figure) => figures && appendFileSync(figures, `${JSON.stringify({ name, figure })}\n`);
const ms = (value) => `${Math.round(value)} ms`;
const kb = (bytes) => `${(bytes / 1024).toFixed(0)} KB`;

/** Begins to watch: the time of each frame, tasks that block for 50 ms and more, and how long what a person did took to be seen. */
const watch = (page) =>
  page.evaluate(() => {
    const seen = { frames: [], tasks: [], interactions: new Map(), on: true, last: 0 };
    const frame = (now) => {
      if (seen.last) seen.frames.push(now - seen.last);
      seen.last = now;
      if (seen.on) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    seen.tell = {
      longtask: (entry) => seen.tasks.push(entry.duration),
      event: (entry) => entry.interactionId && seen.interactions.set(entry.interactionId, Math.max(entry.duration, seen.interactions.get(entry.interactionId) ?? 0)),
    };
    seen.observers = ["longtask", "event"].map((type) => {
      const observer = new PerformanceObserver((list) => list.getEntries().forEach(seen.tell[type]));
      // 16 is the least that a browser tells of.
      observer.observe(type === "event" ? { type, durationThreshold: 16 } : { type });
      return observer;
    });
    window.orreryWatch = seen;
  });

const watched = (page) =>
  page.evaluate(() => {
    const seen = window.orreryWatch;
    seen.on = false;
    for (const observer of seen.observers) {
      for (const entry of observer.takeRecords()) seen.tell[entry.entryType]?.(entry);
      observer.disconnect();
    }
    const time = seen.frames.reduce((sum, one) => sum + one, 0);
    return {
      fps: (seen.frames.length / time) * 1000,
      worst: Math.max(0, ...seen.frames),
      tasks: seen.tasks.length,
      longest: Math.max(0, ...seen.tasks),
      interactions: seen.interactions.size,
      slowest: Math.max(0, ...seen.interactions.values()),
    };
  });

function moved(what, seen, name) {
  say(what, `${seen.fps.toFixed(0)} frames/s, worst ${ms(seen.worst)}`, "60 frames/s");
  judged(`${name}: frames a second`, seen.fps);
  judged(`${name}: milliseconds of the longest frame`, seen.worst);
  say("", seen.tasks === 0 ? "no long task" : `${seen.tasks} long tasks, ${ms(seen.longest)} at most`);
}

function answered(what, seen, name) {
  say(what, seen.interactions === 0 ? "all under 16 ms" : `slowest ${ms(seen.slowest)}`, "under 100 ms");
  judged(`${name}: milliseconds to an answer`, seen.slowest);
}

async function during(page, milliseconds, act) {
  for (const until = Date.now() + milliseconds; Date.now() < until; ) {
    await act();
    await page.waitForTimeout(16);
  }
}

/** Milliseconds from the navigation to the first moment at which the page has what is looked for. */
async function open(page, path, selector) {
  await page.goto(`${api}${path}`);
  const handle = await page.waitForFunction((wanted) => document.querySelector(wanted) !== null && performance.now(), selector);
  return handle.jsonValue();
}

async function firstLoad(browser, storageState) {
  const { context, page } = await visitor(browser, { storageState });
  const client = await context.newCDPSession(page);
  const [paths, sizes] = [new Map(), new Map()];
  client.on("Network.responseReceived", ({ requestId, response }) => paths.set(requestId, new URL(response.url).pathname));
  client.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => sizes.set(requestId, encodedDataLength));
  await client.send("Network.enable");
  const shown = await open(page, "/", "h1");
  await page.waitForLoadState("networkidle");
  const html = await (await context.request.get(`${api}/`)).text();
  // As the build counts: the page, and what it names.
  const shell = new Set(["/", ...[...html.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path)]);
  let [own, all] = [0, 0];
  for (const [request, bytes] of sizes) {
    all += bytes;
    if (shell.has(paths.get(request))) own += bytes;
  }
  say("first load: the shell, compressed", kb(own), "250 KB");
  judged("shell: kilobytes", own / 1024);
  say("first load: with the page, type and data", `${sizes.size} requests, ${kb(all)}`);
  const painted = await page.evaluate(() => new Promise((done) => {
    new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime)).observe({ type: "largest-contentful-paint", buffered: true });
    setTimeout(() => done(NaN), 2000);
  }));
  say("first load: shown, and the largest paint", `${ms(shown)}, ${ms(painted)}`);
  await context.close();
}

async function log(page) {
  const opened = await open(page, `${service}/logs`, ".log-line");
  say("a log of 1,000,000 lines: opened", ms(opened));
  judged("log: milliseconds to open", opened);
  const lines = page.getByRole("log");
  await reads(`${app}/talk`, "ok");
  await page.waitForFunction(() => document.querySelector(".log-lines")?.textContent?.includes("of the present"));
  await watch(page);
  await page.waitForTimeout(6000);
  moved("the log follows 500 lines a second", await watched(page), "log that follows");

  await lines.hover();
  await watch(page);
  await during(page, 6000, () => page.mouse.wheel(0, -500));
  moved("scrolled back through it", await watched(page), "log");
  const held = async () => Number((await page.locator(".log-tools").getByText(/ lines$/).textContent()).replace(/\D/g, ""));
  for (const until = Date.now() + 60_000; (await held()) < 100_000 && Date.now() < until; ) {
    await lines.evaluate((element) => (element.scrollTop = 0));
    await page.waitForTimeout(30);
  }
  await lines.evaluate((element) => (element.scrollTop = element.scrollHeight / 2));
  await lines.hover();
  await watch(page);
  await during(page, 3000, () => page.mouse.wheel(0, -500));
  await during(page, 3000, () => page.mouse.wheel(0, 500));
  moved(`scrolled with ${(await held()).toLocaleString("en")} lines in the page`, await watched(page), "log");

  const filter = page.getByLabel("Filter lines");
  await filter.click();
  await watch(page);
  await page.keyboard.type("orders", { delay: 40 });
  await page.waitForURL(/filter=orders/);
  await page.getByRole("button", { name: "Hold still" }).click();
  await page.getByRole("button", { name: "Go on" }).click();
  answered("filtering and holding it", await watched(page), "log");
}

async function services(page) {
  const card = page.locator(".placed").getByRole("link", { name: /talker/ });
  const opened = await open(page, canvas, ".placed");
  say("200 services on the canvas: opened", ms(opened));
  judged("canvas: milliseconds to open", opened);
  await card.waitFor();
  const pane = await page.locator(".react-flow").boundingBox();
  await page.mouse.move(pane.x + pane.width / 2, pane.y + pane.height / 2);
  await watch(page);
  await during(page, 3000, () => page.mouse.wheel(12, 9));
  await during(page, 3000, () => page.mouse.wheel(-12, -9));
  moved("moved about", await watched(page), "canvas");
  await watch(page);
  await page.keyboard.down("Control");
  await during(page, 2000, () => page.mouse.wheel(0, -20));
  await during(page, 2000, () => page.mouse.wheel(0, 20));
  await page.keyboard.up("Control");
  moved("made larger and smaller", await watched(page), "canvas");
  // Elsewhere and back: the canvas shows everything again.
  await page.goto("about:blank");
  await open(page, canvas, ".placed");
  await card.waitFor();
  await watch(page);
  for (let round = 0; round < 3; round++) {
    await card.click();
    await page.getByRole("complementary").getByRole("navigation", { name: "Service" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("complementary").waitFor({ state: "detached" });
  }
  answered("opening a service, and closing it", await watched(page), "canvas");
  await watch(page);
  await page.keyboard.press("Control+k");
  await page.keyboard.type("service-17", { delay: 40 });
  await page.getByRole("option", { name: "service-17", exact: true }).waitFor();
  await page.keyboard.press("Escape");
  answered("the palette over all", await watched(page), "canvas");
}

async function metrics(page) {
  const drawn = await open(page, `${service}/metrics?range=30d`, ".chart canvas");
  say("30 days of metrics: drawn", ms(drawn));
  judged("metrics: milliseconds to open", drawn);
  const chart = await page.getByRole("figure", { name: /^Processor/ }).locator("canvas").first().boundingBox();
  await watch(page);
  let at = 0;
  await during(page, 4000, () => page.mouse.move(chart.x + ((at += 7) % chart.width), chart.y + chart.height / 2));
  moved("the cursor goes over them", await watched(page), "metrics");
  await watch(page);
  for (const range of ["7d", "24h", "30d"]) {
    await page.getByRole("link", { name: range, exact: true }).click();
    await page.waitForURL(new RegExp(`range=${range}`));
    await page.waitForLoadState("networkidle");
  }
  answered("from one range to another", await watched(page), "metrics");
}

const freePort = () =>
  new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

/** Lighthouse as on a desktop; it opens windows of its own in a browser that is signed in. */
async function scores(cookies) {
  const folder = mkdtempSync(join(tmpdir(), "orrery-lighthouse-"));
  const port = await freePort();
  const context = await attachable(folder, port);
  const score = async (what, path) => {
    const result = await lighthouse(`${api}${path}`, { port, logLevel: "error", output: "json", onlyCategories: ["performance", "accessibility"] }, desktopConfig);
    const { categories, runtimeError, finalDisplayedUrl } = result.lhr;
    if (runtimeError) throw new Error(`${what}: ${runtimeError.message}`);
    if (new URL(finalDisplayedUrl).pathname !== path.split("?")[0]) throw new Error(`${what}: Lighthouse was sent to ${finalDisplayedUrl}`);
    const [speed, access] = [categories.performance, categories.accessibility].map((one) => Math.round(one.score * 100));
    judged("Lighthouse: performance", speed);
    judged("Lighthouse: accessibility", access);
    say(`Lighthouse: ${what}`, `speed ${speed}, accessibility ${access}`, "95 each");
    if (speed < 95) for (const { id } of categories.performance.auditRefs.filter((one) => one.weight > 0)) say("", `${id} ${result.lhr.audits[id].displayValue}`);
    for (const audit of Object.values(result.lhr.audits)) if (access < 100 && audit.score === 0 && categories.accessibility.auditRefs.some((one) => one.id === audit.id && one.weight > 0)) say("", audit.id);
  };
  try {
    await score("signing in", "/login");
    await context.addCookies(cookies);
    await score("projects", "/");
    await score("a service", `${service}/deployments`);
  } finally {
    await context.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const browser = await launch();
const { context, page, faults } = await visitor(browser);
context.setDefaultTimeout(60_000);
await signIn(page, login);
await page.getByRole("heading", { name: "Projects" }).waitFor();
const storageState = await context.storageState();
say("the dashboard", "figure", "wanted");
await firstLoad(browser, storageState);
await log(page);
await services(page);
await metrics(page);
if (faults.length > 0) throw new Error(faults.join("\n"));
await browser.close();
await scores(storageState.cookies);
