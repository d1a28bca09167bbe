// The keys of the account's two other APIs: made, read, changed, used up, taken back.
import assert from "node:assert/strict";
import { api, asked, secretOf, tidy } from "./browser.mjs";

/** What the REST API answers to a program that has the key. */
const status = async (key) => (await fetch(`${api}/api/v1/workflows`, { headers: { authorization: `Bearer ${key}` } })).status;

export async function flowKeys(page) {
  await page.goto(`${api}/flow`);
  await page.getByRole("link", { name: "API Keys" }).click();
  await page.getByRole("heading", { name: "No API keys" }).waitFor();
  await page.getByLabel("Label").fill("nightly import");
  await page.getByLabel("Expires").selectOption({ label: "In 30 days" });
  await page.getByRole("button", { name: "Create key" }).click();
  const secret = await secretOf(page);
  assert.match(secret, /^gx_/);
  const row = page.getByRole("row").filter({ hasText: "nightly import" });
  await row.getByText("60 a minute, 1,000 a day").waitFor();
  await row.getByText("expires").waitFor();
  assert.ok(secret.startsWith((await row.locator("code").textContent()).split(/[^\w]/)[0]), "the prefix is not the key's");
  await tidy(page, "API keys");
  assert.equal(await status(secret), 200);

  // Long enough that it is still to come when the server reads it, and mostly over when it is looked at below.
  const soon = new Date(Date.now() + 20_000).toISOString();
  const made = await asked(page, `mutation { apiKeyCreate(input: {kind: FLOW, label: "short lived", expiresAt: "${soon}"}) { key } }`);
  assert.ok(made.data, JSON.stringify(made));
  await page.reload();
  await row.waitFor();
  assert.equal(await page.getByText(secret).count(), 0, "a key is shown twice");
  await row.getByRole("button", { name: "Edit nightly import" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Label").fill("hourly import");
  await dialog.getByLabel("Requests per minute").fill("30");
  await dialog.getByLabel("Requests per day").fill("500");
  await tidy(page, "editing a key");
  await dialog.getByRole("button", { name: "Save" }).click();
  const changed = page.getByRole("row").filter({ hasText: "hourly import" });
  await changed.getByText("30 a minute, 500 a day", { exact: true }).waitFor();
  // A use is counted within a second.
  const used = dialog.getByRole("figure", { name: /^Requests per day: [1-9]\d* in 30 days/ });
  for (const until = Date.now() + 120_000; ; ) {
    await changed.getByRole("button", { name: "Usage of hourly import" }).click();
    await dialog.getByRole("figure", { name: /^Requests per day/ }).waitFor();
    if ((await used.count()) > 0) break;
    assert.ok(Date.now() < until, "the use of a key is not counted");
    await dialog.getByRole("button", { name: "Close" }).click();
  }
  await tidy(page, "the usage of a key");
  await dialog.getByRole("button", { name: "Close" }).click();

  const expired = page.getByRole("row").filter({ hasText: "short lived" }).getByText("Expired");
  for (const until = Date.now() + 120_000; (await expired.count()) === 0; ) {
    assert.ok(Date.now() < until, "an expired key is not shown as one");
    await page.reload();
    await changed.waitFor();
  }
  assert.equal(await status(made.data.apiKeyCreate.key), 401);

  await changed.getByRole("button", { name: "Revoke hourly import" }).click();
  await page.getByRole("button", { name: "Revoke the key" }).click();
  await changed.waitFor({ state: "detached" });
  assert.equal(await status(secret), 401);
}

export async function galaxyKey(page) {
  await page.goto(`${api}/account`);
  await page.getByRole("button", { name: "Generate Key", exact: true }).click();
  const first = await secretOf(page);
  assert.match(first, /^gal_/);
  await page.getByRole("button", { name: "Generate Key…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Generate Key" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  const second = await secretOf(page);
  assert.notEqual(second, first);
  assert.equal(await page.getByRole("row").filter({ hasText: "gal_" }).count(), 1, "an account has one key");
  await tidy(page, "the account");
  return second;
}

/** A key as a variable of Apollo DevTools, on a page that shows apps: the page is signed in, so that only a wrong key shows whether it arrives. */
export async function devToolsKey(page, key) {
  const told = (galaxyApiKey) =>
    page.evaluate(async (variables) => {
      const client = window[Symbol.for("apollo.devtools")].find((one) => one.devtoolsConfig.name === "Galaxy");
      // A document as a parser makes it: { activityTypes { _id } }
      const name = (value) => ({ kind: "Name", value });
      const field = (value, selections) => ({ kind: "Field", name: name(value), selectionSet: selections && { kind: "SelectionSet", selections } });
      const selectionSet = { kind: "SelectionSet", selections: [field("activityTypes", [field("_id")])] };
      const query = { kind: "Document", definitions: [{ kind: "OperationDefinition", operation: "query", selectionSet }] };
      return client.query({ query, variables, fetchPolicy: "network-only" }).then(({ data }) => data.activityTypes.length > 0, String);
    }, { galaxyApiKey });
  assert.equal(await told(key), true);
  assert.match(await told("gal_wrong"), /Not Authorized/);
}

/** The addresses of Galaxy's own dashboard: where its documentation sends people for their key, and where a deploy says that its app is. */
export async function galaxyAddresses(page, key) {
  const { me } = (await asked(page, "{ me { workspaces { name username } } }")).data;
  const { name, username } = me.workspaces[0];
  await page.goto(`${api}/${username}/settings`);
  await page.waitForURL(/\/account/);
  await page.getByRole("heading", { name: "Galaxy API" }).waitFor();
  const choice = page.getByRole("combobox", { name: "Account", exact: true });
  if ((await choice.count()) > 0) assert.equal(await choice.locator("option:checked").textContent(), name);

  const body = JSON.stringify({ query: `{ user(username: "${username}") { apps { hostname serviceId } } }` });
  const answer = await fetch(`${api}/graphql`, { method: "POST", headers: { "content-type": "application/json", "galaxy-api-key": key }, body });
  const [app] = (await answer.json()).data.user.apps;
  await page.goto(`${api}/app/${app.hostname}`);
  await page.waitForURL((url) => url.pathname.startsWith("/p/") && url.pathname.includes(`/s/${app.serviceId}`));
}

/** The playground of Galaxy's API: the key goes into the box at the bottom right. */
export async function explorer(page, key) {
  const asks = (answer) => answer.url().endsWith("/graphql") && answer.request().postData()?.includes("runningAppCount");
  const run = async (typed, shown) => {
    await page.getByLabel("API key").fill(typed);
    await Promise.all([page.waitForResponse(asks), page.getByRole("button", { name: /Execute query/ }).click()]);
    await page.waitForFunction((words) => document.querySelector(".result-window")?.textContent?.replaceAll("\u00a0", " ").includes(words), shown);
  };
  await page.goto(`${api}/explorer`);
  const box = await page.getByLabel("API key").boundingBox();
  assert.ok(box.x > 640 && box.y > 600, `the box for the key is at ${box.x}, ${box.y}`);
  const editor = page.locator(".graphiql-editor .monaco-editor").first();
  await editor.click();
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText('query { user(username: "admin") { username runningAppCount apps { hostname } } }');
  await run(key, '"username": "admin"');
  await run("gal_wrong", "Not Authorized");
  await run(key, '"runningAppCount"');

  // The schema is asked for when the box is left, not with each letter of the key.
  const asksSchema = (request) => request.url().endsWith("/graphql") && request.postData()?.includes("IntrospectionQuery");
  const keyOf = (request) => request.headers()["galaxy-api-key"];
  const field = page.getByLabel("API key");
  const left = (sent) => Promise.all([page.waitForResponse((answer) => asksSchema(answer.request()) && keyOf(answer.request()) === sent), field.blur()]);
  await field.fill("");
  await left(undefined);
  const sent = [];
  const listen = (request) => asksSchema(request) && sent.push(keyOf(request));
  page.on("request", listen);
  await field.pressSequentially(key);
  await left(key);
  page.off("request", listen);
  assert.deepEqual(sent, [key]);

  // The schema, as the server describes it.
  await page.getByRole("button", { name: "Docs", exact: true }).click();
  const docs = page.getByRole("region", { name: "Documentation Explorer" });
  await docs.getByRole("link", { name: "Query", exact: true }).first().click();
  await docs.getByRole("link", { name: "app", exact: true }).first().click();
  await docs.getByText("An app by one of its hostnames").first().waitFor();
  // It stays open in this browser otherwise, also on a phone.
  await page.getByRole("button", { name: "Docs", exact: true }).click();
  await docs.waitFor({ state: "detached" });
}
