// A shell into a container, in a window of its own: the terminal writes styles into the page, which the dashboard's policy forbids.
import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "@xterm/xterm/css/xterm.css";
import "../styles/tokens.css";
import "../styles/terminal.css";
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";

const target = location.pathname.split("/").at(-1) ?? "";
const of = new URLSearchParams(location.search).get("of");
const route = `/graphql/v2/shell/${target}`;

/** First bytes of binary frames; those of the other direction need no telling apart on a terminal. */
const INPUT = 2;
/** The server takes no larger frame than 128 KiB. */
const PIECE = 64 * 1024;

const title = element("title");
const state = element("state");
const again = element("again");
const place = element("terminal");

const theme = localStorage.getItem("theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
title.textContent = of ? `Shell: ${of}` : "Shell";
document.title = `${title.textContent} · Orrery`;

const terminal = new Terminal({ cursorBlink: true, fontFamily: '"JetBrains Mono Variable", ui-monospace, Menlo, Consolas, monospace', fontSize: 13, scrollback: 10_000, theme: colours() });
const fit = new FitAddon();
terminal.loadAddon(fit);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (terminal.options.theme = colours()));

let socket: WebSocket | null = null;

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return found;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string) => style.getPropertyValue(name).trim();
  return { background: read("--surface"), foreground: read("--ink"), cursor: read("--accent"), cursorAccent: read("--surface"), selectionBackground: read("--accent-soft"), red: read("--failed"), green: read("--healthy"), yellow: read("--waiting"), blue: read("--busy"), cyan: read("--accent") };
}

const size = () => ({ columns: terminal.cols, rows: terminal.rows });

function tell(type: string, data: unknown) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type, data }));
}

function feed(bytes: Uint8Array) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  for (let at = 0; at < bytes.length; at += PIECE) {
    const piece = bytes.subarray(at, at + PIECE);
    const frame = new Uint8Array(piece.length + 1);
    frame[0] = INPUT;
    frame.set(piece, 1);
    socket.send(frame);
  }
}

function connect() {
  again.hidden = true;
  state.textContent = "Connecting";
  const one = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${route}`);
  one.binaryType = "arraybuffer";
  let opened = false;
  let end = "";
  one.onopen = () => {
    opened = true;
    terminal.reset();
    fit.fit();
    // Not before: `init_exec` is the first frame.
    socket = one;
    tell("init_exec", { terminal: size() });
    state.textContent = "Connected";
    terminal.focus();
  };
  one.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
    if (typeof data !== "string") {
      terminal.write(new Uint8Array(data, 1));
      return;
    }
    const frame = JSON.parse(data) as { type: string; data: { exit_code?: number; message?: string } };
    if (frame.type === "exit") end = `Ended with status ${frame.data.exit_code}`;
    if (frame.type === "error") end = frame.data.message ?? "Ended";
  };
  one.onclose = () => {
    if (socket === one) socket = null;
    if (opened) over(end || "The connection was lost");
    else void refusal().then(over);
  };
}

/** Browsers hide why a handshake was refused; the same address says it to whoever asks without one. */
async function refusal(): Promise<string> {
  try {
    const answer = await fetch(route);
    if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    const { message } = (await answer.json()) as { message?: string };
    return answer.status === 426 || !message ? "The connection could not be made" : message;
  } catch {
    return "The server cannot be reached";
  }
}

function over(words: string) {
  state.textContent = words;
  again.hidden = false;
  again.focus();
}

terminal.onData((text) => feed(new TextEncoder().encode(text)));
terminal.onBinary((text) => feed(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
terminal.onResize(({ cols, rows }) => {
  place.dataset.columns = String(cols);
  tell("resize", { columns: cols, rows });
});
// What is selected is copied and not sent; what is pasted comes as the browser's own event.
terminal.attachCustomKeyEventHandler((event) => {
  if (event.type !== "keydown" || !event.ctrlKey || event.altKey) return true;
  const key = event.key.toLowerCase();
  if (key === "v") return false;
  if (key !== "c" || !(event.shiftKey || terminal.hasSelection())) return true;
  event.preventDefault();
  const text = terminal.getSelection();
  if (text) void navigator.clipboard?.writeText(text).catch(() => undefined);
  terminal.clearSelection();
  return false;
});
again.addEventListener("click", connect);
// Ctrl-W deletes a word in a shell and closes a window in a browser.
addEventListener("beforeunload", (event) => {
  if (socket) event.preventDefault();
});

/** Once the font is here, by which the terminal counts its columns. */
function start() {
  terminal.open(place);
  place.dataset.columns = String(terminal.cols);
  new ResizeObserver(() => fit.fit()).observe(place);
  connect();
}

void document.fonts.load('13px "JetBrains Mono Variable"').then(start, start);
