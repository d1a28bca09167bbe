// Keeps each compressible file only as .br and .gz, and fails when the shell has grown over its budget.
import { readFileSync, writeFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const BUDGET = 250 * 1024;
const dist = new URL("../dist", import.meta.url).pathname;
const compressible = /\.(html|js|css|svg|json|ttf|map)$/;

const shell = new Set(["index.html"]);
for (const [, name] of readFileSync(join(dist, "index.html"), "utf8").matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)) shell.add(name);

let shellBytes = 0;
let total = 0;
for (const name of readdirSync(dist, { recursive: true })) {
  const path = join(dist, name);
  if (!statSync(path).isFile() || !compressible.test(name)) continue;
  const plain = readFileSync(path);
  const br = brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: plain.length > 1_000_000 ? 9 : 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } });
  const gz = gzipSync(plain, { level: 9 });
  writeFileSync(`${path}.br`, br);
  writeFileSync(`${path}.gz`, gz);
  rmSync(path);
  total += br.length;
  // gzip: a browser on plain HTTP takes no other.
  if (shell.has(name)) shellBytes += gz.length;
}
const kib = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`;
console.log(`shell ${kib(shellBytes)} of ${kib(BUDGET)} compressed; everything ${kib(total)}`);
if (shellBytes > BUDGET) {
  console.error("The shell is over its budget: load something later, or leave it out.");
  process.exit(1);
}
