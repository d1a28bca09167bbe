import { Problem, signInFirst } from "./client";

/** A folder of the person's machine on its way to `POST /project/…/up`. */

export interface Picked {
  name: string;
  files: { path: string; file: File }[];
  left: string[];
}

/** What is never source, and often huge. The server's builds make it anew. */
const LEFT_OUT = new Set(["node_modules", ".git", "target", ".venv", "venv", "__pycache__", ".next", ".DS_Store", ".turbo", ".cache"]);

export async function fromDrop(items: DataTransferItemList): Promise<Picked> {
  const roots = [...items].map((item) => item.webkitGetAsEntry()).filter((entry): entry is FileSystemEntry => entry !== null);
  const picked: Picked = { name: "app", files: [], left: [] };
  const only = roots.length === 1 && roots[0].isDirectory ? (roots[0] as FileSystemDirectoryEntry) : null;
  if (only) {
    picked.name = only.name;
    await walk(only, "", picked);
  } else {
    for (const entry of roots) await take(entry, "", picked);
  }
  return picked;
}

export function fromInput(list: FileList): Picked {
  const picked: Picked = { name: "app", files: [], left: [] };
  for (const file of list) {
    const parts = (file.webkitRelativePath || file.name).split("/");
    if (parts.length > 1) picked.name = parts.shift() as string;
    const skipped = parts.find((part) => LEFT_OUT.has(part));
    if (skipped) {
      if (!picked.left.includes(skipped)) picked.left.push(skipped);
    } else picked.files.push({ path: parts.join("/"), file });
  }
  return picked;
}

async function take(entry: FileSystemEntry, prefix: string, into: Picked): Promise<void> {
  if (LEFT_OUT.has(entry.name)) {
    if (!into.left.includes(entry.name)) into.left.push(entry.name);
  } else if (entry.isDirectory) await walk(entry as FileSystemDirectoryEntry, `${prefix}${entry.name}/`, into);
  else {
    const file = await new Promise<File>((done, failed) => (entry as FileSystemFileEntry).file(done, failed));
    into.files.push({ path: prefix + entry.name, file });
  }
}

async function walk(folder: FileSystemDirectoryEntry, prefix: string, into: Picked): Promise<void> {
  const reader = folder.createReader();
  for (;;) {
    // It hands out a hundred at a time.
    const batch = await new Promise<FileSystemEntry[]>((done, failed) => reader.readEntries(done, failed));
    if (batch.length === 0) return;
    for (const entry of batch) await take(entry, prefix, into);
  }
}

const text = new TextEncoder();

function header(name: string, size: number, kind: string, mtime: number): Uint8Array {
  const block = new Uint8Array(512);
  const put = (at: number, value: string) => block.set(text.encode(value), at);
  put(0, name);
  put(100, "0000644\0");
  put(108, "0000000\0");
  put(116, "0000000\0");
  put(124, `${size.toString(8).padStart(11, "0")}\0`);
  put(136, `${Math.floor(mtime / 1000).toString(8).padStart(11, "0")}\0`);
  put(148, "        ");
  put(156, kind);
  put(257, "ustar\u000000");
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return block;
}

function padding(size: number): Uint8Array {
  return new Uint8Array((512 - (size % 512)) % 512);
}

/** A path that the old header has no room for goes into a record in front (POSIX pax). */
function longName(path: string): Uint8Array[] {
  const body = (length: number) => `${length} path=${path}\n`;
  let length = text.encode(body(0)).length;
  while (text.encode(body(length)).length !== length) length = text.encode(body(length)).length;
  const record = text.encode(body(length));
  return [header("PaxHeader", record.length, "x", 0), record, padding(record.length)];
}

/** The files as tar.gz. The server sets executable bits by what a file begins with. */
export async function archive(picked: Picked, onProgress: (part: number) => void, signal: AbortSignal): Promise<Blob> {
  const parts: BlobPart[] = [];
  for (const { path, file } of picked.files) {
    const name = text.encode(path);
    if (name.length > 100) parts.push(...(longName(path) as BlobPart[]));
    parts.push(header(name.length > 100 ? "long" : path, file.size, "0", file.lastModified) as BlobPart, file, padding(file.size) as BlobPart);
  }
  parts.push(new Uint8Array(1024));
  const whole = new Blob(parts);
  let read = 0;
  const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(part, into) {
      onProgress((read += part.byteLength) / whole.size);
      into.enqueue(part);
    },
  });
  const packed = whole.stream().pipeThrough(counted, { signal }).pipeThrough(new CompressionStream("gzip"));
  return new Response(packed).blob();
}

export interface Uploaded {
  deploymentId: string;
  url: string;
  logsUrl: string;
  deploymentDomain: string;
}

export function upload(project: string, environment: string, service: string | null, body: Blob, message: string, onProgress: (part: number) => void, signal: AbortSignal): Promise<Uploaded> {
  const query = new URLSearchParams({ message });
  if (service) query.set("serviceId", service);
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/project/${project}/environment/${environment}/up?${query}`);
    request.setRequestHeader("Content-Type", "application/gzip");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => failed(new Error("The upload was interrupted. Nothing was deployed; try again."));
    request.onload = () => {
      if (request.status === 200) return done(JSON.parse(request.responseText) as Uploaded);
      if (request.status === 401) signInFirst();
      let why: { message?: string; code?: string; requestId?: string } = { message: request.responseText };
      try {
        why = JSON.parse(request.responseText) as typeof why;
      } catch {
        // A 413 is plain text.
      }
      failed(new Problem(why.message || `The server answered ${request.status}`, why.code ?? String(request.status), why.requestId));
    };
    request.onabort = () => failed(signal.reason);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}
