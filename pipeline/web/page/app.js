// Puts the page together: tabs, the server's state, and the ways by which files come in.
import { get, stopped } from "./api.js";
import { useCamera } from "./camera.js";
import { button, byId, complain, knowUnsure, make, pause } from "./dom.js";
import * as films from "./films.js";
import * as pictures from "./pictures.js";
import * as stories from "./stories.js";

const TABS = ["picture", "film", "story"];
const FILM = /\.(mp4|m4v|mov|webm|mkv|avi|mpe?g|ogv|wmv|flv|ts)$/i;

// -- tabs -----------------------------------------------------------------------------------------------------------------

function open(name, { focus = false } = {}) {
  for (const tab of TABS) {
    const head = byId(`tab-${tab}`);
    head.setAttribute("aria-selected", String(tab === name));
    head.tabIndex = tab === name ? 0 : -1;
    byId(tab).hidden = tab !== name;
  }
  if (focus) byId(`tab-${name}`).focus();
  if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
}

function useTabs() {
  TABS.forEach((name, index) => {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => open(name));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index + TABS.length - 1, Home: 0, End: TABS.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      open(TABS[to % TABS.length], { focus: true });
    });
  });
  const fromAddress = () => { if (TABS.includes(location.hash.slice(1))) open(location.hash.slice(1)); };
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

// -- files, wherever they come from -----------------------------------------------------------------------------------------

function take(files) {
  const all = [...files];
  const film = all.find((file) => file.type.startsWith("video/") || FILM.test(file.name));
  const stills = all.filter((file) => file !== film && !file.type.startsWith("video/"));
  if (stills.length) {
    open("picture");
    pictures.add(stills);
  }
  if (film) {
    open("film");
    films.take(film);
  }
}

function useDropping() {
  const veil = byId("veil");
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;  // dragenter and dragleave come for every element on the way.
  const lift = () => { depth = 0; veil.hidden = true; };
  addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth++; veil.hidden = false; } });
  addEventListener("dragleave", () => { if (--depth <= 0) lift(); });
  addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    lift();
    take(event.dataTransfer.files);
  });
}

function useChoosing() {
  for (const [opener, input] of [["picture-choose", "picture-input"], ["film-choose", "film-input"]]) {
    byId(opener).addEventListener("click", () => byId(input).click());
  }
  for (const id of ["picture-input", "picture-capture", "film-input"]) {
    byId(id).addEventListener("change", (event) => {
      take(event.target.files);
      event.target.value = "";  // So that the same file can be chosen again.
    });
  }
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      take(event.clipboardData.files);
    }
  });
}

// -- examples -----------------------------------------------------------------------------------------------------------------

async function useExamples() {
  const examples = await (await fetch(new URL("page/examples/examples.json", document.baseURI))).json();
  for (const { file, label, poster, kind } of examples) {
    const part = kind === "film" ? "film" : "picture";
    const picture = make("img");
    picture.src = `page/examples/${poster ?? file}`;
    picture.alt = "";
    const opener = button("", "example", async () => {
      complain(part, null);
      try {
        const response = await fetch(new URL(`page/examples/${file}`, document.baseURI));
        if (!response.ok) throw new Error(response.statusText);
        const blob = await response.blob();
        take([new File([blob], file, { type: kind === "film" ? "video/webm" : "image/jpeg" })]);
      } catch {
        complain(part, "The example could not be loaded. Is the server still running?");
      }
    });
    opener.append(picture, make("span", "", label));
    byId(`${part}-examples`).querySelector(".example-row").append(opener);
    byId(`${part}-examples`).hidden = false;
  }
}

// -- the server -----------------------------------------------------------------------------------------------------------------

function tellServer(state, text) {
  byId("server").dataset.state = state;
  byId("server-text").textContent = text;
}

async function meetServer() {
  for (;;) {
    try {
      const known = await get("v1/models");
      pictures.knowLimits(known.limits ?? {});
      films.knowLimits(known.limits ?? {});
      knowUnsure(known.models?.[0]?.unsure_below);
      stories.knowProviders(known.providers ?? ["outline"], known.limits?.text_length);
      break;
    } catch (error) {
      if (error.code === "no_token") return tellServer("away", "No token given");
      if (!stopped(error) && error.status === 0) tellServer("away", "The server does not answer");
      await pause(3000);
    }
  }
  for (;;) {
    const response = await fetch(new URL("ready", document.baseURI)).catch(() => null);
    if (response?.ok) {
      const { model, model_version: version } = await response.json();
      byId("server").title = `Version ${version}`;
      return tellServer("ready", `Model: ${model}`);
    }
    tellServer(response ? "loading" : "away", response ? "The model is being loaded …" : "The server does not answer");
    await pause(1000);
  }
}

const onStory = (key) => { open("story"); stories.beginFrom(key); };
pictures.setUp({ onStory });
films.setUp({ onStory });
stories.setUp();
stories.knowProviders(["outline"]);
useCamera((picture) => take([picture]));
useTabs();
useDropping();
useChoosing();
useExamples().catch(() => {});
meetServer();
