// A browser for the tests, and a page that notices what a person would: errors in the console, requests that fail, a policy that is broken.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";
import { get } from "node:http";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const api = process.env.ORRERY_TEST_API ?? "http://localhost:8080";

const settings = {
  executablePath: process.env.ORRERY_TEST_CHROMIUM ?? "/usr/bin/chromium",
  args: [...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-features=Translate"],
};

export const launch = () => chromium.launch(settings);

/** A browser with one visitor, whose windows another program can open too, at a port. */
export const attachable = (folder, port) => chromium.launchPersistentContext(folder, { ...settings, args: [...settings.args, `--remote-debugging-port=${port}`] });

export async function visitor(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light", locale: "en-US", ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // A refused sign-in or a deliberate 4xx is reported by the browser itself as "Failed to load resource".
    // Neither is a socket that a browser without a connection cannot open.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource") && !message.text().includes("ERR_INTERNET_DISCONNECTED")) faults.push(`console: ${message.text()} at ${page.url()}`);
  });
  page.on("response", (response) => response.status() >= 500 && faults.push(`${response.status()} ${response.url()}`));
  return { context, page, faults };
}

export async function signIn(page, link) {
  await page.goto(link.replace(/^https?:\/\/[^/]+/, api));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`${api}/`);
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What is wrong for people who do not see, or use no mouse. Rules can be named that are not asked of every page. */
async function barriers(page, more = []) {
  const rules = JSON.stringify(Object.fromEntries(more.map((rule) => [rule, { enabled: true }])));
  // What fades in has the contrast of its end.
  const settle = () => Promise.all(document.getAnimations().filter((one) => Number.isFinite(one.effect?.getComputedTiming().endTime)).map((one) => one.finished.catch(() => {})));
  await page.evaluate(`(${settle})().then(() => {})`);
  const session = await page.context().newCDPSession(page);
  // The page's own policy lets no foreign script in; the debugger's way past it is not the page's.
  await session.send("Runtime.evaluate", { expression: `typeof window.axe === "undefined" && (() => {\n${axe}\n})()` });
  const { result } = await session.send("Runtime.evaluate", { expression: `axe.run(document, { resultTypes: ['violations'], rules: ${rules} }).then((r) => JSON.stringify(r.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical').map((v) => v.id + ': ' + v.help + ' ' + v.nodes.map((n) => n.html.slice(0, 160) + ' ' + (n.any[0]?.message ?? '')).join(' | '))))`, awaitPromise: true });
  await session.detach();
  return JSON.parse(result.value);
}

const sideways = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

/** Texts that are drawn over each other. What an opaque box hides is not drawn. */
const overlaps = (page) =>
  page.evaluate(() => {
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      const text = node.data.trim();
      if (!text || element.closest("script, style, option, datalist")) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      for (const { left, right, top, bottom } of range.getClientRects()) {
        // Letters fill less than their line.
        const air = (bottom - top) / 4;
        if (right - left > 4 && bottom > 0 && right > 0 && top < innerHeight && left < innerWidth) texts.push({ element, text, left: left + 1, right: right - 1, top: top + air, bottom: bottom - air });
      }
    }
    const isOpaque = (element) => {
      const colour = getComputedStyle(element).backgroundColor;
      const alpha = /(?:rgba\(.*,|\/)\s*([\d.]+)\)$/.exec(colour);
      return colour !== "transparent" && (alpha === null || Number(alpha[1]) > 0.9);
    };
    const found = new Set();
    texts.forEach((one, at) => {
      for (const other of texts.slice(at + 1)) {
        const [left, right, top, bottom] = [Math.max(one.left, other.left), Math.min(one.right, other.right), Math.max(one.top, other.top), Math.min(one.bottom, other.bottom)];
        if (one.element === other.element || right - left < 2 || bottom - top < 1) continue;
        const stack = document.elementsFromPoint((left + right) / 2, (top + bottom) / 2);
        const [over, under] = [stack.indexOf(one.element), stack.indexOf(other.element)].sort((first, second) => first - second);
        // Cut off, or scrolled out of sight.
        if (over < 0) continue;
        if (!stack.slice(over, under).some((element) => !element.contains(stack[under]) && isOpaque(element))) found.add(`"${one.text.slice(0, 40)}" and "${other.text.slice(0, 40)}"`);
      }
    });
    return [...found];
  });

/** No serious fault of accessibility, and nothing wider than the window. */
export async function tidy(page, what, more) {
  assert.deepEqual(await barriers(page, more), [], `accessibility of ${what}`);
  const wide = await sideways(page);
  assert.ok(wide <= 0, `${what} scrolls sideways by ${wide} px`);
}

/** Visits an app until it answers with the words. Names below localhost are this machine, which Node leaves to the system to know. */
export async function reads(address, words) {
  const url = new URL(address);
  const visit = () =>
    new Promise((done) => {
      get({ host: "127.0.0.1", port: url.port, path: url.pathname + url.search, headers: { host: url.host } }, (answer) => {
        let text = "";
        answer.on("data", (part) => (text += part));
        answer.on("end", () => done(text));
      }).on("error", (error) => done(String(error)));
    });
  const until = Date.now() + 120_000;
  let last = "";
  while (Date.now() < until) {
    last = await visit();
    if (last.includes(words)) return last;
    await new Promise((next) => setTimeout(next, 100));
  }
  throw new Error(`${address} did not answer with ${words}; last seen: ${last}`);
}

/** Runs one part of a story after the other, and tells which one went wrong, with a picture. */
export function steps(browser, visitor, shots) {
  return async (name, work) => {
    const begun = performance.now();
    try {
      await work();
      console.log(`ok    ${name} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
    } catch (error) {
      console.log(`FAIL  ${name}: at ${visitor.page.url()}\n${error.stack}`);
      if (shots) {
        mkdirSync(shots, { recursive: true });
        await visitor.page.screenshot({ path: join(shots, "failed.png") });
      }
      console.log(visitor.faults.join("\n"));
      await browser.close();
      process.exit(1);
    }
  };
}

/**
 * A browser and its first visitor, with what whoever started this has said by environment variables. `end` sees that nothing went wrong that
 * nobody saw.
 */
export async function story() {
  const { ORRERY_TEST_LOGIN: login, ORRERY_TEST_LOGIN_SECOND: secondLogin, ORRERY_TEST_APP: app, ORRERY_TEST_SHOTS: shots } = process.env;
  const browser = await launch();
  const owner = await visitor(browser);
  await owner.context.addInitScript(hear);
  const step = steps(browser, owner, shots);
  const end = async () => {
    await step("nothing went wrong that nobody saw", async () => assert.deepEqual(owner.faults, []));
    await browser.close();
  };
  return { login, secondLogin, app, shots, browser, owner, page: owner.page, panel: owner.page.getByRole("complementary"), soon: { timeout: 120_000 }, step, end };
}

/** Notes in the page what its toasts say: they are gone after seconds, however late a test looks. */
function hear() {
  window.heard = [];
  const note = (node) => node instanceof Element && node.matches(".toast") && window.heard.push(node.textContent);
  new MutationObserver((changes) => changes.forEach((one) => one.addedNodes.forEach(note))).observe(document, { childList: true, subtree: true });
}

/** Waits until a toast of the owner's page has said this since it was loaded. What was said once is found once. */
export const toast = (page, words, options) =>
  page.waitForFunction(
    (text) => {
      const at = window.heard.findIndex((one) => one.includes(text));
      return at >= 0 && window.heard.splice(at, 1);
    },
    words,
    options,
  );

/** Drops a folder from outside onto the middle of an element, as a hand would. */
export async function drop(page, target, folder) {
  const box = await target.boundingBox();
  const at = { x: box.x + box.width / 2, y: box.y + Math.min(box.height / 2, 300) };
  const client = await page.context().newCDPSession(page);
  const data = { items: [], files: [folder], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) await client.send("Input.dispatchDragEvent", { type, ...at, data });
  await client.detach();
}

/** Holds back what the page asks under this name, until what it returns is called: what is shown meanwhile can be looked at, however fast the server is. */
export async function hold(page, operation) {
  let goOn = () => {};
  const looked = new Promise((done) => (goOn = done));
  const wait = async (route) => {
    if (!route.request().postData()?.includes(`"operationName":"${operation}"`)) return route.fallback();
    await looked;
    await route.continue().catch(() => {});
  };
  await page.route("**/graphql/v2", wait);
  return async () => {
    goOn();
    await page.unroute("**/graphql/v2", wait);
  };
}

/** Asks the public API with the page's own session. */
export const asked = (page, query) =>
  page.evaluate((text) => fetch("/graphql/v2", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ query: text }) }).then((answer) => answer.json()), query);

/** The secret that a page shows this once. */
export const secretOf = async (page) => (await page.getByTestId("secret").locator("code").textContent()).trim();

/** What an authenticator app shows: RFC 6238, so many steps of thirty seconds after a moment in seconds. */
export function shown(secret, since, steps) {
  const bits = [...secret].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(since / 30) + steps));
  const digest = createHmac("sha1", key).update(counter).digest();
  const at = digest.at(-1) & 15;
  return String((digest.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

/** Pages go on asking for news: a pause between two questions is enough. One without a pause, on a slow machine, is taken as it is. */
export const settled = (page) =>
  page.waitForLoadState("networkidle", { timeout: 40_000 }).catch((error) => {
    if (error.name !== "TimeoutError") throw error;
  });

/**
 * Every page in the light, in the dark and on a phone: looked at by people, and none may scroll sideways. Each is an address, or an address
 * and words that it shows when it is drawn: on a slow machine nothing may be asked for a while before all of it is there.
 */
export async function pictures(browser, page, shots, pages) {
  const state = await page.context().storageState();
  mkdirSync(shots, { recursive: true });
  const { context, page: shown } = await visitor(browser, { storageState: state, reducedMotion: "reduce" });
  const wrong = [];
  const drawn = () => shown.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const size = async ({ width, height }) => {
    await shown.setViewportSize({ width, height });
    await drawn();
  };
  for (const [title, place] of Object.entries(pages)) {
    const [path, words] = [place].flat();
    await size(looks.light);
    await shown.emulateMedia({ colorScheme: "light" });
    await shown.goto(path.startsWith("http") ? path : `${api}${path}`);
    await (foreign.has(title) ? shown.waitForLoadState("load") : settled(shown));
    if (words) await shown.getByText(words).first().waitFor();
    for (const [name, look] of Object.entries(looks)) {
      await shown.emulateMedia({ colorScheme: look.colorScheme ?? "light" });
      await size(look);
      await shown.screenshot({ path: join(shots, `${title}-${name}.png`), animations: "disabled" });
      const wide = await sideways(shown);
      if (wide > 0) wrong.push(`${title} (${name}) scrolls sideways by ${wide} px`);
      if (foreign.has(title)) continue;
      if (look.axe) wrong.push(...(await barriers(shown)).map((one) => `${title} (${name}): ${one}`));
      if (look.long) await size({ width: look.width, height: look.long });
      wrong.push(...(await overlaps(shown)).map((one) => `${title} (${name}): overlapping ${one}`));
    }
  }
  await context.close();
  assert.deepEqual(wrong, []);
}

/** What is looked at of every page. Narrow windows are checked again as if they were long: what is below counts too. */
const looks = {
  light: { width: 1280, height: 800, axe: true },
  dark: { width: 1280, height: 800, axe: true, colorScheme: "dark" },
  phone: { width: 360, height: 740, axe: true, long: 2400 },
  wide: { width: 2560, height: 1440 },
};

/** Pages of others, of which only the width is ours; so is a terminal, where each letter has a place of its own. */
const foreign = new Set(["explorer", "graphiql", "shell"]);
