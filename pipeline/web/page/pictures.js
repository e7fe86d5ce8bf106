// The picture tab: pictures in; captions, other wordings, and where the model looked.
import { call, stopped } from "./api.js";
import { captionInto, miniature, paint } from "./drawing.js";
import { button, byId, complain, counted, make, megabytes, percent, save, say, smallPercent, stemOf, titleOf, unsureBelow } from "./dom.js";
import { offer, withdraw } from "./sources.js";

const AT_ONCE = 4;
const MOST_OTHERS = 4;
const WORD_MS = 700;

const entries = [];
let current = null;
let working = false;
let limits = {};
let showWord = () => {};
let hideWord = () => {};
let timer = 0;

/** The maps of the API as bytes: { rows, columns, maps: [Uint8Array …] }, or null where the model does not attend. */
function unpacked(attention) {
  if (!attention?.maps?.length || !attention.rows || !attention.columns) return null;
  const maps = attention.maps.map((map) => Uint8Array.from(atob(map), (character) => character.charCodeAt(0)));
  return { rows: attention.rows, columns: attention.columns, maps };
}

export const knowLimits = (known) => { limits = known; };

// -- what is to be captioned ------------------------------------------------------------------------------------------

/** Take files that were dropped, chosen, pasted or photographed. */
export async function add(files) {
  complain("picture", null);
  const taken = await Promise.all([...files].map(asEntry));
  if (!taken.length) return;
  entries.unshift(...taken);
  show(taken[0]);
  work();
}

async function asEntry(file) {
  const entry = { file, name: file.name || "pasted picture", url: URL.createObjectURL(file), state: "queued" };
  try {
    await file.slice(0, 1).arrayBuffer();  // What a dropped folder fails at.
  } catch {
    return Object.assign(entry, { state: "bad", problem: `${entry.name} cannot be read; drop the pictures themselves, not their folder.` });
  }
  if (file.size > limits.image_bytes) {
    const problem = `${entry.name} has ${megabytes(file.size)}; this server takes pictures of up to ${megabytes(limits.image_bytes)}.`;
    return Object.assign(entry, { state: "bad", problem });
  }
  return entry;
}

function nextGroup() {
  const waiting = entries.filter((entry) => entry.state === "queued");
  if (waiting.includes(current)) waiting.unshift(...waiting.splice(waiting.indexOf(current), 1));
  const group = [];
  let bytes = 0;
  for (const entry of waiting.slice(0, Math.min(AT_ONCE, limits.images ?? 1))) {
    bytes += entry.file.size;
    if (group.length && bytes > limits.image_bytes) break;
    group.push(entry);
  }
  return group;
}

async function work() {
  if (working) return;
  working = true;
  for (let group = nextGroup(); group.length; group = nextGroup()) {
    const left = entries.filter((entry) => entry.state === "queued").length;
    say("picture", `Captioning ${left > 1 ? `${left} pictures` : group[0].name} …`);
    document.body.classList.add("busy");
    for (const entry of group) entry.state = "working";
    await caption(group);
    for (const entry of group) if (entry === current) show(entry);
    drawShelf();
  }
  working = false;
  document.body.classList.remove("busy");
  const done = entries.filter((entry) => entry.state === "done");
  if (current?.state === "done") say("picture", done.length > 1 ? `Done: ${counted(done.length, "picture", "pictures")} captioned.` : `Done: ${current.result.caption}.`);
  else say("picture", "");
}

function question(group) {
  const form = new FormData();
  for (const entry of group) form.append("images", entry.file, entry.name);
  const beam = byId("beam-size").valueAsNumber || 5;
  form.append("beam_size", String(beam));
  form.append("max_length", String(byId("max-length").valueAsNumber || 40));
  form.append("alternatives", String(Math.min(beam - 1, MOST_OTHERS)));
  form.append("attention", "true");
  return form;
}

async function caption(group) {
  const onBusy = (why) => say("picture", why);
  try {
    const answer = await (await call("v1/captions", { method: "POST", body: question(group), onBusy })).json();
    group.forEach((entry, at) => settle(entry, answer, answer.captions[at]));
  } catch (error) {
    // Where every picture is bad the answer is an error, and only one of them is named: ask for each.
    if (group.length > 1 && error.status >= 400 && error.status < 500 && error.status !== 429) {
      for (const entry of group) await caption([entry]);
      return;
    }
    for (const entry of group) Object.assign(entry, { state: "bad", problem: stopped(error) ? "Not captioned." : error.message });
  }
}

function settle(entry, answer, result) {
  if (result?.caption === undefined) {
    Object.assign(entry, { state: "bad", problem: result?.error?.message ?? "The server sent no caption for it." });
    return;
  }
  Object.assign(entry, { state: "done", result, model: answer.model, version: answer.model_version, attention: unpacked(result.attention) });
  offerStories();
}

function offerStories() {
  const done = entries.filter((entry) => entry.state === "done");
  const captions = (some) => some.map((entry) => ({ caption: entry.result.caption }));
  if (done.length > 1) offer("pictures", `All ${done.length} pictures`, () => ({ captions: captions([...done].reverse()), title: "Pictures" }));
  else withdraw("pictures");
  if (current?.state !== "done") return withdraw("picture");
  const { name } = current;
  const from = { captions: captions([current]), title: titleOf(name) };
  offer("picture", `Picture: ${name}`, () => from);
}

// -- the stage: one picture, large ------------------------------------------------------------------------------------

function show(entry) {
  stopPlaying();
  current = entry;
  byId("stage").hidden = !entry;
  byId("stage").classList.toggle("bad", entry?.state === "bad");
  byId("picture-drop").classList.toggle("small", Boolean(entry));
  drawShelf();
  if (!entry) return;
  const [image, result] = [byId("stage-image"), entry.result];
  byId("stage-heat").classList.remove("on");
  byId("stage-no-preview").hidden = true;
  image.hidden = false;
  image.src = entry.url;
  image.alt = result?.caption ?? entry.name;
  byId("stage-name").textContent = entry.name;
  byId("stage-sure").textContent = result ? `confidence ${percent(result.confidence)}` : "";
  byId("stage-unsure").hidden = !(result?.confidence < unsureBelow);
  byId("stage-waiting").hidden = entry.state !== "queued" && entry.state !== "working";
  byId("stage-problem").hidden = entry.state !== "bad";
  byId("stage-problem").textContent = entry.problem ?? "";
  byId("stage-result").hidden = entry.state !== "done";
  byId("stage-strip").replaceChildren();
  if (entry.state === "done") showCaption(entry);
  offerStories();
}

function showCaption(entry) {
  const { result, attention } = entry;
  const [image, layer, strip] = ["stage-image", "stage-heat", "stage-strip"].map(byId);
  const cells = [];
  showWord = (word) => {
    paint(layer, image, attention, word);
    [cells, words].forEach((list) => list.forEach((element, at) => element.classList.toggle("lit", at === word)));
  };
  hideWord = () => {
    layer.classList.remove("on");
    [...cells, ...words].forEach((element) => element.classList.remove("lit"));
  };
  const texts = result.words?.length ? result.words : result.caption.split(" ");
  const byHand = (word) => { stopPlaying(); showWord(word); };
  const words = captionInto(byId("stage-caption"), result.caption, texts, Boolean(attention), byHand, () => { if (!timer) hideWord(); });
  byId("stage-hint").hidden = byId("stage-play").hidden = !attention;
  drawAlternatives(result);
  if (!attention) return;
  image.decode().catch(() => {}).then(() => {
    if (current !== entry || entry.result !== result) return;
    texts.forEach((text, word) => {
      const cell = button("", "cell", () => byHand(word));
      cell.tabIndex = -1;  // The words above are the way by keyboard.
      cell.append(miniature(image, attention, word), text);
      cell.addEventListener("pointerenter", () => byHand(word));
      cell.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !timer) hideWord(); });
      cells.push(cell);
    });
    strip.replaceChildren(...cells);
  });
}

// The bars show the mean probability of a word: a whole caption's is less the longer it is, whatever it is worth.
function drawAlternatives(result) {
  const all = [result, ...(result.alternatives ?? [])];
  byId("stage-others").hidden = all.length < 2;
  byId("stage-alternatives").replaceChildren(...all.map((one, at) => {
    const aWord = Math.exp(one.log_prob / (one.caption.split(" ").length + 1));
    const bar = make("span", "bar");
    bar.style.setProperty("--part", String(aWord));
    bar.setAttribute("aria-hidden", "true");
    const whole = make("span", "whole", `as a whole ${smallPercent(Math.exp(one.log_prob))}`);
    whole.title = `Log-probability ${one.log_prob.toFixed(4)}`;
    return make("li", at ? "" : "chosen", null, make("span", "wording", one.caption), make("span", "chance", percent(aWord)), bar, whole);
  }));
}

// -- word after word ----------------------------------------------------------------------------------------------------

function play() {
  if (timer) return stopPlaying();
  let word = 0;
  const step = () => (word < current.attention.maps.length ? showWord(word++) : stopPlaying());
  byId("stage-play").textContent = "■ Stop";
  timer = setInterval(step, WORD_MS);
  step();
}

function stopPlaying() {
  if (!timer) return;
  clearInterval(timer);
  timer = 0;
  byId("stage-play").textContent = "▶ Play word by word";
  hideWord();
}

// -- the shelf: all pictures so far -------------------------------------------------------------------------------------

function drawShelf() {
  const focused = [...byId("shelf").children].findIndex((item) => item.contains(document.activeElement));
  const kind = document.activeElement?.className.split(" ")[0];
  byId("shelf-box").hidden = entries.length < 2;
  byId("shelf").replaceChildren(...entries.map((entry) => {
    const text = entry.result?.caption ?? entry.problem ?? "…";
    const opener = button("", "shelved", () => { show(entry); byId("stage").scrollIntoView({ block: "nearest" }); });
    if (entry === current) opener.setAttribute("aria-current", "true");
    opener.classList.toggle("bad", entry.state === "bad");
    opener.classList.toggle("unsettled", entry.state === "queued" || entry.state === "working");
    const picture = make("img");
    picture.alt = "";
    picture.src = entry.url;
    picture.addEventListener("error", () => picture.classList.add("broken"));
    opener.append(picture, make("span", "shelved-text", text));
    const remove = button("✕", "remove", () => forget(entry));
    remove.setAttribute("aria-label", `Remove ${entry.name}`);
    return make("li", "", null, opener, remove);
  }));
  // Who goes along the shelf by keyboard stays where they were, though all of it is drawn anew.
  if (focused >= 0) (byId("shelf").children[Math.min(focused, entries.length - 1)]?.querySelector(`.${kind}`) ?? byId("picture-choose")).focus();
}

function forget(entry) {
  const at = entries.indexOf(entry);
  if (at < 0) return;
  entries.splice(at, 1);
  URL.revokeObjectURL(entry.url);
  if (entry === current) show(entries[Math.min(at, entries.length - 1)] ?? null);
  drawShelf();
  offerStories();
}

// -- what can be done with a caption --------------------------------------------------------------------------------------

async function copy() {
  try {
    await navigator.clipboard.writeText(current.result.caption);
    say("picture", "Copied.");
  } catch {
    getSelection().selectAllChildren(byId("stage-caption"));  // Plain HTTP has no clipboard: one key press remains.
    say("picture", "Selected; press Ctrl+C to copy it.");
  }
}

function saveJson() {
  const { name, result, model, version } = current;
  const { attention, image, ...rest } = result;
  const text = JSON.stringify({ image: name, model, model_version: version, ...rest }, null, 2);
  save(new Blob([text, "\n"], { type: "application/json" }), `${stemOf(name)}.caption.json`);
}

function again() {
  if (!current || current.state === "working" || !byId("beam-size").reportValidity() || !byId("max-length").reportValidity()) return;
  current.state = "queued";
  work();
}

export function setUp({ onStory }) {
  byId("stage-play").addEventListener("click", play);
  byId("stage-copy").addEventListener("click", copy);
  byId("stage-save").addEventListener("click", saveJson);
  byId("stage-story").addEventListener("click", () => onStory("picture"));
  byId("shelf-clear").addEventListener("click", () => [...entries].forEach(forget));
  byId("beam-size").addEventListener("change", again);
  byId("max-length").addEventListener("change", again);
  byId("stage-image").addEventListener("error", () => {
    byId("stage-image").hidden = true;
    byId("stage-no-preview").hidden = false;
  });
}
