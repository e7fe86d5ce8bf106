// The story tab: begin, continue, steer, redo, drop, export. The story lives here; the server keeps nothing.
import { post, stopped, tell } from "./api.js";
import { button, byId, complain, make, save, say } from "./dom.js";
import { offered, whenChanged } from "./sources.js";

const KEPT = "gpucapt-story";
const PROVIDERS = {
  outline: {
    note: "Outline puts the captions in order and joins them to plain sentences. It invents nothing and needs no network. A line makes it look back at what the line is about.",
    begin: "Tell of the dogs", goOn: "Tell of the dogs",
  },
  openai: {
    note: "Told by the language model that this server is set up with; captions and your lines are sent to it.",
    begin: "Tell it as a bedtime story", goOn: "Suddenly it begins to rain",
  },
};
const KINDS = { start: "Beginning", continue: "Continued", steer: "Steered" };

let story = null;
let before = null;
let telling = null;

// -- beginning ----------------------------------------------------------------------------------------------------------

function drawSources() {
  const list = byId("story-from");
  const chosen = list.value;
  const options = [...offered().map(({ key, label }) => [key, label]), ["text", "A text of your own"]];
  list.replaceChildren(...options.map(([value, label]) => Object.assign(make("option", "", label), { value })));
  list.value = options.some(([value]) => value === chosen) ? chosen : options[0][0];
  asChosen();
}

function asChosen() {
  byId("story-text-label").hidden = byId("story-from").value !== "text";
  const teller = PROVIDERS[byId("story-provider").value];
  byId("provider-note").textContent = teller?.note ?? "";
  byId("story-prompt").placeholder = teller?.begin ?? "";
  byId("continue-prompt").placeholder = PROVIDERS[byId("continue-provider").value]?.goOn ?? "";
}

export function knowProviders(names, most) {
  for (const list of [byId("story-provider"), byId("continue-provider")]) {
    const chosen = list.value;
    list.replaceChildren(...names.map((name) => Object.assign(make("option", "", name), { value: name })));
    if (names.includes(chosen)) list.value = chosen;
  }
  byId("continue-provider-label").hidden = names.length < 2;
  if (most) byId("story-text").maxLength = most;
  asChosen();
}

/** Choose what a story is to begin from, and look there. */
export function beginFrom(key) {
  byId("story-from").value = key;
  byId("story-beginning").open = true;
  asChosen();
  byId("story-beginning").scrollIntoView({ block: "start" });
  byId("story-start").focus({ preventScroll: true });
}

function begin(event) {
  event.preventDefault();
  const key = byId("story-from").value;
  const text = byId("story-text").value.trim();
  if (key === "text" && !text) {
    byId("story-text").focus();
    return complain("story", "Write a few sentences to begin from, or caption a picture or a film first.");
  }
  const from = key === "text" ? { text } : offered().find((source) => source.key === key).from();
  const prompt = byId("story-prompt").value.trim();
  byId("continue-provider").value = byId("story-provider").value;
  asChosen();
  return ask("v1/stories", { from, ...asked("story", prompt) }, { doing: "Beginning the story …", done: "The story has begun.", fresh: true });
}

const asked = (form, prompt) => ({ provider: byId(`${form}-provider`).value, ...(prompt && { prompt }) });

// -- asking the server ----------------------------------------------------------------------------------------------------

function lock(locked) {
  document.body.classList.toggle("busy", locked);
  const controls = byId("story").querySelectorAll("button:not(#story-stop), input, select, textarea");
  controls.forEach((control) => { control.disabled = locked; });
  byId("story-stop").hidden = !locked;
}

/** Have a turn told; what comes in pieces is shown while it comes. A failure leaves the story as it was. */
async function ask(path, body, { doing, done, fresh = false, at = null }) {
  if (telling) return;
  complain("story", null);
  say("story", doing);
  telling = new AbortController();
  if (fresh) byId("story-title").textContent = "…";
  const growing = growingTurn(fresh, at);
  lock(true);
  try {
    const told = await tell(path, body, { signal: telling.signal, onText: (piece) => growing.add(piece) });
    change(told, done);
  } catch (error) {
    draw();
    if (stopped(error)) say("story", "Stopped; the story is as it was.");
    else complain("story", error.message);
  } finally {
    telling = null;
    lock(false);
    drawUndo();
    goBackTo(at);
  }
}

/** Where the keyboard goes on; a touch would only make the phone's own keyboard jump up. */
function goBackTo(at) {
  if (!matchMedia("(pointer: fine)").matches || byId("story-told").hidden) return;
  const place = at === null ? byId("continue-prompt") : byId("turns").children[at].querySelector(".quiet");
  place.focus({ preventScroll: true });
}

function growingTurn(fresh, at) {
  const [box, turns] = [make("div", "text growing"), byId("turns")];
  box.append(make("p", "", "…"));
  byId("story-told").hidden = false;
  if (at !== null) turns.children[at].querySelector(".text").replaceWith(box);
  else if (fresh) turns.replaceChildren(make("li", "turn", null, box));
  else turns.append(make("li", "turn", null, box));
  box.scrollIntoView({ block: "nearest" });
  let text = "";
  return { add: (piece) => { text += piece; box.replaceChildren(...paragraphs(text)); } };
}

function change(next, done) {
  before = story;
  story = next;
  try {
    if (story) sessionStorage.setItem(KEPT, JSON.stringify(story));
    else sessionStorage.removeItem(KEPT);
  } catch { /* full, or not allowed: it is kept until the page is left */ }
  draw();
  byId("story-beginning").open = !story;
  say("story", done);
}

function goOn(event) {
  event.preventDefault();
  const prompt = byId("continue-prompt").value.trim();
  ask("v1/stories/continue", { story, ...asked("continue", prompt) }, { doing: "Going on …", done: "The story has gone on." })
    .then(() => { if (byId("story-problem").hidden) byId("continue-prompt").value = ""; });
}

function redo(index, prompt) {
  // Without a line the server would take the one of before; a reader who has emptied it wants none.
  const unsteered = structuredClone(story);
  unsteered.turns[index].prompt = null;
  return ask("v1/stories/redo", { story: unsteered, index, ...asked("continue", prompt) }, { doing: "Telling it anew …", done: "Told anew. Undo brings the earlier one back.", at: index });
}

async function drop(index) {
  complain("story", null);
  try {
    change(await (await post("v1/stories/drop", { story, index })).json(), "Dropped. Undo brings it back.");
    drawUndo();
    byId("story-undo").focus();
  } catch (error) {
    if (!stopped(error)) complain("story", error.message);
  }
}

function undo() {
  change(before, "As it was before.");
  byId("story-undo").textContent = "Undo";
}

function drawUndo() {
  byId("story-undo").hidden = !before;
}

// -- showing it -------------------------------------------------------------------------------------------------------------

const paragraphs = (text) => text.split(/\n\s*\n/).map((part) => part.trim()).filter(Boolean).map((part) => make("p", "", part));

/** Ask by which line a turn is to be told anew, in the place of its buttons. */
function askHow(item, turn, index) {
  const line = Object.assign(make("input"), { type: "text", value: turn.prompt ?? "", maxLength: 500, placeholder: "A line to steer by, or nothing" });
  line.setAttribute("aria-label", "A line to steer by (optional)");
  const go = make("button", "main", "Tell it anew");
  const form = make("form", "redo-form", null, line, go, button("Leave it", "", draw));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    redo(index, line.value.trim());
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    draw();
    byId("turns").children[index].querySelector(".quiet").focus();
  });
  item.querySelector(".turn-foot").replaceWith(form);
  line.focus();
}

function turnOf(turn, index) {
  const text = make("div", "text", null, ...paragraphs(turn.text));
  const how = [KINDS[turn.kind] ?? turn.kind, turn.model ? `${turn.provider}, ${turn.model}` : turn.provider].join(" · ");
  const item = make("li", "turn");
  const foot = make("div", "turn-foot", null, make("span", "how", how));
  const again = button("Redo", "quiet", () => askHow(item, turn, index));
  again.setAttribute("aria-label", `Redo part ${index + 1}`);
  foot.append(again);
  if (index) {
    const away = button("Drop", "quiet", () => drop(index));
    away.setAttribute("aria-label", `Drop part ${index + 1}`);
    foot.append(away);
  }
  if (turn.prompt) item.append(make("p", "steered", turn.prompt));
  item.append(text, foot);
  return item;
}

function draw() {
  byId("story-told").hidden = !story;
  byId("story-form-title").textContent = story ? "Begin another story" : "Begin a story";
  if (!story) return;
  byId("story-title").textContent = story.title;
  byId("turns").replaceChildren(...story.turns.map(turnOf));
}

// -- in and out -------------------------------------------------------------------------------------------------------------

const fileName = (ending) => `${story.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "story"}.${ending}`;

async function exportMarkdown() {
  complain("story", null);
  try {
    save(await (await post("v1/stories/markdown", { story })).blob(), fileName("md"));
    say("story", "Exported as Markdown.");
  } catch (error) {
    if (!stopped(error)) complain("story", error.message);
  }
}

function saveJson() {
  save(new Blob([JSON.stringify(story, null, 2), "\n"], { type: "application/json" }), fileName("story.json"));
}

async function open(file) {
  complain("story", null);
  try {
    const read = JSON.parse(await file.text());
    const whole = typeof read.title === "string" && Array.isArray(read.turns) && read.turns.every((turn) => typeof turn.text === "string");
    if (!whole || !read.turns.length) throw new TypeError("no story");
    change(read, "Opened.");
    drawUndo();
  } catch {
    complain("story", `${file.name} is no story.json of gpucapt; choose one that it wrote.`);
  }
}

function restore() {
  try {
    story = JSON.parse(sessionStorage.getItem(KEPT));
    draw();
    byId("story-beginning").open = !story;
  } catch {
    story = null;
    sessionStorage.removeItem(KEPT);
  }
}

export function setUp() {
  whenChanged(drawSources);
  drawSources();
  byId("story-from").addEventListener("change", asChosen);
  byId("story-provider").addEventListener("change", asChosen);
  byId("continue-provider").addEventListener("change", asChosen);
  byId("story-form").addEventListener("submit", begin);
  byId("continue-form").addEventListener("submit", goOn);
  byId("story-stop").addEventListener("click", () => telling?.abort());
  byId("story-undo").addEventListener("click", undo);
  byId("story-markdown").addEventListener("click", exportMarkdown);
  byId("story-save").addEventListener("click", saveJson);
  byId("story-open").addEventListener("click", () => byId("story-input").click());
  byId("story-input").addEventListener("change", (event) => {
    if (event.target.files[0]) open(event.target.files[0]);
    event.target.value = "";
  });
  restore();
}
