// A domain of one's own and where its certificate stands. Driven by crates/server/tests/dashboard.rs, which has the name server.
import assert from "node:assert/strict";
import { once } from "node:events";
import { drop, pictures, signIn, story, tidy, toast } from "./browser.mjs";

const { ORRERY_TEST_DOMAIN: domain, ORRERY_TEST_CERTIFICATE: certificate, ORRERY_TEST_CERTIFICATE_KEY: key } = process.env;
const { app, browser, end, login, page, panel, shots, soon, step } = await story();
const row = panel.getByRole("listitem").filter({ hasText: domain });
const says = (words) => row.getByText(words, { exact: true }).waitFor(soon);
let service = "";

/** Asks whoever started this for a record, and goes on when it is set. */
async function wants(words) {
  const set = once(process.stdin, "data");
  console.log(`${words} is wanted`);
  await set;
}

await step("an app runs", async () => {
  await signIn(page, login);
  await drop(page, page.getByRole("main"), app);
  await page.locator(".panel-head").getByText("Live").waitFor(soon);
  service = page.url().split("/deployments/")[0];
});

await step("a new domain says what its owner has to set", async () => {
  await page.goto(`${service}/domains`);
  await panel.getByLabel("Domain", { exact: true }).fill(domain);
  await panel.getByRole("button", { name: "Attach" }).click();
  await says("Waiting for DNS");
  await says("Certificate after DNS");
  const proof = row.getByRole("row").filter({ hasText: "TXT" }).locator("code");
  assert.match(await proof.nth(0).textContent(), /^_orrery-verify\./);
  await tidy(page, "a domain that is not proved");
  await wants(`proof ${(await proof.nth(1).textContent()).trim()}`);
});

await step("an authority that refuses is quoted", async () => {
  await says("Verified");
  await says("No certificate");
  await row.getByText(/^the authority says: /).waitFor(soon);
  assert.equal(await row.getByRole("row").count(), 0, "records are asked for that are set");
  await tidy(page, "a domain without a certificate");
  await wants("an address");
});

await step("ordered again, it is there, and visitors are sent to https", async () => {
  // A minute after it failed it is ordered without being asked for, and there is nothing to press any more.
  await Promise.any([row.getByRole("button", { name: "Order again" }).click(), says("HTTPS")]);
  await says("HTTPS");
  await row.getByText(`Certificate for ${domain} until`).waitFor();
  await row.getByLabel("Send visitors to https").and(page.locator(":checked")).waitFor();
  assert.equal(await row.getByText(/^the authority says: /).count(), 0);
  await tidy(page, "a domain with a certificate");
});

await step("an owner's certificate takes its place", async () => {
  await row.getByText("A certificate of your own").click();
  const [pem, secret] = [row.getByLabel(/^Certificate, then/), row.getByLabel(/^Private key/)];
  await pem.fill(certificate);
  await secret.fill("none");
  await row.getByRole("button", { name: "Use it" }).click();
  await page.getByText("The private key cannot be read").waitFor();
  await page.getByRole("button", { name: "Dismiss" }).click();
  await secret.fill(key);
  await row.getByRole("button", { name: "Use it" }).click();
  await toast(page, `${domain} uses your certificate`);
  // The test's own runs out in two thousand years.
  await row.getByText(/until .*409[56]/).waitFor(soon);
  await says("HTTPS");
  assert.equal(await secret.inputValue(), "", "the key stays on the page");
  await row.getByRole("button", { name: "Remove the present one" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove it" }).click();
  await toast(page, "The certificate is gone");
});

if (shots) {
  await step("pictures", () => pictures(browser, page, shots, { certificate: `${service}/domains` }));
}

await end();
process.stdin.destroy();
