// Talks to the server that this page came from. Whatever goes wrong becomes a Problem: one line for people.
import { byId, pause } from "./dom.js";

export class Problem extends Error {
  constructor(code, message, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

const KEPT = "gpucapt-token";
const BUSY_TRIES = 5;
const unreachable = () => new Problem("unreachable", "The server does not answer. Is it still running?");

const address = (path) => new URL(path, document.baseURI);
const token = () => sessionStorage.getItem(KEPT) ?? "";
export const stopped = (error) => error?.name === "AbortError" || error?.code === "no_token";

// -- the token, asked for once it is needed -----------------------------------------------------------------------

let asking = null;

function askForToken(used) {
  if (token() !== used) return Promise.resolve();  // Another request has asked meanwhile.
  asking ??= new Promise((resolve, reject) => {
    const [dialog, value] = [byId("token"), byId("token-value")];
    byId("token-note").textContent = used
      ? "The one given was not accepted. Try again."
      : "Whoever started the server chose it (gpucapt serve --token). It is kept until this tab is closed.";
    value.value = "";
    byId("token-close").onclick = () => dialog.close();
    byId("token-form").onsubmit = () => sessionStorage.setItem(KEPT, value.value.trim());
    dialog.onclose = () => {
      asking = null;
      if (token() !== used) resolve();
      else reject(new Problem("no_token", "The server wants a token."));
    };
    dialog.showModal();
  });
  return asking;
}

// -- requests -------------------------------------------------------------------------------------------------------

function problemOf(status, text, retryAfter) {
  let error = {};
  try { error = JSON.parse(text).error ?? {}; } catch { /* not ours: a proxy's page, say */ }
  const problem = new Problem(error.code ?? "failed", error.message ?? `The server answered with status ${status}.`, status);
  problem.wait = Math.min(30, Math.max(1, Number(retryAfter) || 2));
  return problem;
}

/** True when the request is worth sending again, after the wait or the question that it takes. */
async function canTryAgain(problem, used, tries, { onBusy, signal }) {
  if (problem.status === 401) {
    await askForToken(used);
    return true;
  }
  const isLoading = problem.code === "loading";
  if (!isLoading && (problem.status !== 429 || tries >= BUSY_TRIES)) return false;
  onBusy?.(isLoading ? "The model is still being loaded …" : `The server is busy; trying again in ${problem.wait} s …`);
  await pause(problem.wait * 1000, signal);
  return true;
}

/** A request; its response when the server was content with it. */
export async function call(path, { onBusy, ...options } = {}) {
  for (let tries = 0; ; tries++) {
    const used = token();
    const headers = { ...options.headers, ...(used && { Authorization: `Bearer ${used}` }) };
    let response;
    try {
      response = await fetch(address(path), { ...options, headers });
    } catch (error) {
      throw stopped(error) ? error : unreachable();
    }
    if (response.ok) return response;
    const problem = problemOf(response.status, await response.text(), response.headers.get("Retry-After"));
    if (!(await canTryAgain(problem, used, tries, { onBusy, signal: options.signal }))) throw problem;
  }
}

export const get = async (path, options) => (await call(path, options)).json();

export function post(path, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return call(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

/** Send a form, saying how much of it is on its way: fetch cannot tell. */
export async function upload(path, form, { onProgress, onBusy, signal } = {}) {
  for (let tries = 0; ; tries++) {
    const used = token();
    const request = await new Promise((resolve, reject) => {
      const sending = new XMLHttpRequest();
      sending.open("POST", address(path));
      if (used) sending.setRequestHeader("Authorization", `Bearer ${used}`);
      sending.upload.onprogress = (event) => onProgress?.(event.loaded, event.total);
      sending.onload = () => resolve(sending);
      sending.onerror = () => reject(unreachable());
      sending.onabort = () => reject(new DOMException("stopped", "AbortError"));
      signal?.addEventListener("abort", () => sending.abort(), { once: true });
      sending.send(form);
    });
    if (request.status < 300 && request.status >= 200) return JSON.parse(request.responseText);
    const problem = problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After"));
    if (!(await canTryAgain(problem, used, tries, { onBusy, signal }))) throw problem;
  }
}

// -- a story, piece by piece ------------------------------------------------------------------------------------------

/** Server-sent events of a response, as { event, data } with data parsed. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const field = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
      if (field("data").length) yield { event: field("event")[0] ?? "message", data: JSON.parse(field("data").join("\n")) };
    }
  }
}

/** Ask for a story; `onText` gets pieces of the new turn as they come. The story in the end. */
export async function tell(path, body, { onText, signal }) {
  const response = await post(path, body, { headers: { Accept: "text/event-stream" }, signal });
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) return response.json();
  try {
    for await (const { event, data } of events(response.body)) {
      if (event === "text") onText(data);
      if (event === "story") return data;
      if (event === "error") {
        const error = data.error ?? data;
        throw new Problem(error.code ?? "failed", error.message ?? "The story could not be told.");
      }
    }
  } catch (error) {
    if (error instanceof Problem || stopped(error)) throw error;
  }
  throw new Problem("cut_short", "The answer broke off before its end; try again.");
}
