// The film tab: a film in; a timeline of captions with thumbnails, playback with subtitles, downloads.
import { call, get, Problem, stopped, upload } from "./api.js";
import { button, byId, clock, complain, counted, make, megabytes, pause, percent, save, say, stemOf, titleOf, unsureBelow } from "./dom.js";
import { offer, withdraw } from "./sources.js";
import { Thumbnails } from "./thumbnails.js";

const POLL_MS = 400;
const FILES = [
  ["captions.csv", "CSV"], ["captions.json", "JSON"], ["captions.jsonl", "JSON Lines"], ["captions.vtt", "WebVTT"],
  ["captions.srt", "SRT"], ["story.md", "Story"], ["report.html", "Report"],
];

let limits = {};
let job = null;
let taken = 0;

export function knowLimits(known) {
  limits = known;
  const most = [limits.video_seconds && clock(limits.video_seconds), limits.video_bytes && megabytes(limits.video_bytes)].filter(Boolean);
  if (most.length) byId("film-limits").textContent = `a short one, of up to ${most.join(" and ")}; it is not kept on the server.`;
}

// -- one film at a time -------------------------------------------------------------------------------------------------

/** Take a film that was dropped or chosen, in place of the one before. */
export async function take(file) {
  const turn = ++taken;
  await discard();
  if (turn !== taken) return;  // Another was chosen meanwhile.
  complain("film", null);
  if (file.size > limits.video_bytes) {
    return complain("film", `${file.name} has ${megabytes(file.size)}; this server takes films of up to ${megabytes(limits.video_bytes)}.`);
  }
  const mine = { file, url: URL.createObjectURL(file), captions: [], cards: [], stop: new AbortController(), running: true };
  job = mine;
  prepare(mine);
  byId("film-working").hidden = false;
  byId("film-progress").removeAttribute("value");
  try {
    await checkLength(mine);
    await send(mine);
    await follow(mine);
    await finish(mine);
  } catch (error) {
    if (job === mine) sayWhy(mine, error);
  }
  mine.running = false;
  if (job === mine) byId("film-working").hidden = true;
}

/** Why there is no more to be seen of a film. */
function sayWhy(mine, error) {
  const some = mine.captions.length > 0;
  byId("film-result").hidden = !some;
  byId("film-drop").classList.toggle("small", some);
  if (stopped(error)) return say("film", some ? "Cancelled; the captions so far are below." : "Cancelled.");
  const isOfFilm = [413, 415, 422].includes(error.status) && !error.message.includes(mine.file.name);
  complain("film", isOfFilm ? `${mine.file.name}: ${error.message}` : error.message);
}

/** End the film at hand and have the server forget it. */
async function discard() {
  const old = job;
  job = null;
  withdraw("film");
  if (!old) return;
  old.stop.abort(new DOMException("stopped", "AbortError"));
  old.thumbnails.close();
  old.watcher.disconnect();
  [old.url, old.track].forEach((url) => url && URL.revokeObjectURL(url));
  await forget(old);
}

function forget(old) {
  if (!old.id) return Promise.resolve();
  const path = `v1/videos/${encodeURIComponent(old.id)}`;
  return call(path, { method: "DELETE", keepalive: true }).catch(() => {});
}

function prepare(mine) {
  mine.thumbnails = new Thumbnails(mine.url);
  mine.watcher = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      mine.watcher.unobserve(target);
      mine.thumbnails.draw(target, Number(target.dataset.seconds));
    }
  }, { rootMargin: "1000px" });
  const video = byId("film-video");
  video.replaceChildren();
  video.src = mine.url;
  video.hidden = false;
  byId("film-no-preview").hidden = true;
  byId("film-name").textContent = mine.file.name;
  byId("film-now").textContent = "";
  byId("film-found").textContent = "";
  byId("film-done").hidden = true;
  byId("film-result").hidden = false;
  byId("film-drop").classList.add("small");
  byId("timeline").replaceChildren();
}

async function checkLength(mine) {
  const playable = await mine.thumbnails.ready.then(() => true, () => false);
  const seconds = mine.thumbnails.video.duration;
  if (playable && Number.isFinite(seconds) && seconds > limits.video_seconds) {
    throw new Problem("too_long", `${mine.file.name} lasts ${clock(seconds)}; this server takes films of up to ${clock(limits.video_seconds)}.`);
  }
}

async function send(mine) {
  const form = new FormData();
  form.append("video", mine.file, mine.file.name);
  const frames = byId("film-frames").value;
  if (frames === "scenes") form.append("scenes", "true");
  else form.append("every", frames);
  const most = byId("film-most").valueAsNumber;
  if (most >= 1) form.append("max_frames", String(Math.floor(most)));
  form.append("story", "outline");
  const bar = byId("film-progress");
  say("film", `Sending ${mine.file.name} …`);
  const onProgress = (sent, total) => { if (job === mine && sent < total) bar.value = sent / total; };
  const onBusy = (why) => say("film", why);
  mine.id = (await upload("v1/videos", form, { onProgress, onBusy, signal: mine.stop.signal })).id;
  bar.removeAttribute("value");
}

async function follow(mine) {
  const path = `v1/videos/${encodeURIComponent(mine.id)}`;
  for (;;) {
    const state = await get(`${path}?after=${mine.captions.length}`, { signal: mine.stop.signal });
    showCaptions(mine, state.captions ?? []);
    if (state.status === "failed") throw new Problem(state.error?.code, state.error?.message ?? "The film could not be captioned.");
    if (state.status === "done") {
      mine.files = Object.keys(state.files ?? {});
      return;
    }
    const { frames = 0, fraction = null } = state.progress ?? {};
    if (fraction === null) byId("film-progress").removeAttribute("value");
    else byId("film-progress").value = fraction;
    const waiting = state.status === "queued" ? "Waiting for its turn …" : "Looking at the first frames …";
    say("film", frames ? `Captioning: ${counted(frames, "frame", "frames")}${fraction === null ? "" : `, ${percent(fraction)}`} …` : waiting);
    await pause(POLL_MS, mine.stop.signal);
  }
}

async function finish(mine) {
  const frames = counted(mine.captions.length, "frame", "frames");
  say("film", `Done: ${frames} captioned.`);
  byId("film-found").textContent = frames;
  byId("film-done").hidden = false;
  byId("film-files").replaceChildren(...FILES.filter(([name]) => mine.files.includes(name)).map(([name, label]) => button(label, "file", () => download(mine, name))));
  const title = titleOf(mine.file.name);
  const captions = mine.captions.map(({ caption, timestamp_s, end_s }) => ({ caption, timestamp_s, end_s }));
  if (captions.length) offer("film", `Film: ${mine.file.name}`, () => ({ captions, title }));
  if (mine.files.includes("captions.vtt")) await addSubtitles(mine);
}

// -- playback -------------------------------------------------------------------------------------------------------------

const fileOf = async (mine, name) => (await call(`v1/videos/${encodeURIComponent(mine.id)}/files/${name}`)).blob();

async function addSubtitles(mine) {
  const text = await (await fileOf(mine, "captions.vtt")).text();
  if (job !== mine) return;
  mine.track = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
  const track = make("track");
  Object.assign(track, { kind: "subtitles", label: "Captions", srclang: "en", default: true, src: mine.track });
  byId("film-video").append(track);
  track.track.mode = "showing";
}

async function download(mine, name) {
  complain("film", null);
  try {
    const stem = stemOf(mine.file.name);
    save(await fileOf(mine, name), name.startsWith("captions.") ? stem + name.slice("captions".length) : `${stem}.${name}`);
  } catch (error) {
    if (!stopped(error)) complain("film", error.status === 404 ? "The server has removed the files of this film; caption it once more." : error.message);
  }
}

/** Mark the caption that is being played. */
function follows() {
  const { currentTime } = byId("film-video");
  if (!job?.captions.length) return;
  let at = job.captions.findLastIndex((caption) => caption.timestamp_s <= currentTime + 0.05);
  at = Math.max(0, at);
  byId("film-now").textContent = job.captions[at].caption;
  if (job.played === job.cards[at]) return;
  job.played?.element.removeAttribute("aria-current");
  job.played = job.cards[at];
  job.played.element.setAttribute("aria-current", "true");
}

// -- the timeline -----------------------------------------------------------------------------------------------------------

function showCaptions(mine, more) {
  if (!more.length) return;
  if (more.length > 1 && more[1].timestamp_s - more[0].timestamp_s < 0.95) mine.digits = 1;
  for (const caption of more) {
    const last = mine.cards.at(-1);
    const stays = last?.text === caption.caption;
    if (stays) last.extend(caption);
    const card = stays ? last : cardOf(mine, caption);
    if (!stays) byId("timeline").append(make("li", "", null, card.element));
    mine.captions.push(caption);
    mine.cards.push(card);
  }
  byId("film-found").textContent = `${counted(mine.captions.length, "frame", "frames")} so far`;
  follows();
}

/** A card for as long as a caption stays the same, with the picture it begins with. */
function cardOf(mine, first) {
  const canvas = make("canvas");
  canvas.dataset.seconds = String(first.timestamp_s);
  canvas.setAttribute("aria-hidden", "true");
  mine.watcher.observe(canvas);
  const [when, unsure, sure] = [make("span", "when"), make("span", "mark-unsure", "unsure"), make("span", "sure")];
  const element = button("", "moment", () => goTo(first.timestamp_s));
  element.append(canvas, make("span", "card-head", null, when, unsure, sure), make("span", "moment-text", first.caption));
  let [frames, sum] = [0, 0];
  const extend = (frame) => {
    frames += 1;
    sum += frame.confidence;
    const mean = sum / frames;
    const [from, to] = [first.timestamp_s, frame.end_s ?? frame.timestamp_s].map((seconds) => clock(seconds, mine.digits));
    when.textContent = from === to ? from : `${from} – ${to}`;
    unsure.hidden = mean >= unsureBelow;
    sure.textContent = percent(mean);
  };
  extend(first);
  return { element, text: first.caption, extend };
}

function goTo(seconds) {
  const video = byId("film-video");
  if (video.hidden) return;
  video.currentTime = seconds + 0.01;
  video.scrollIntoView({ block: "nearest" });
}

export function setUp({ onStory }) {
  const video = byId("film-video");
  byId("film-cancel").addEventListener("click", () => {
    job?.stop.abort(new DOMException("stopped", "AbortError"));
    if (job) forget(job);
  });
  byId("film-story").addEventListener("click", () => onStory("film"));
  video.addEventListener("timeupdate", follows);
  video.addEventListener("seeked", follows);
  video.addEventListener("error", () => {
    if (!job) return;
    video.hidden = true;
    byId("film-no-preview").hidden = false;
    byId("film-result").classList.add("without-pictures");
  });
  video.addEventListener("loadeddata", () => byId("film-result").classList.remove("without-pictures"));
  // A film that is still worked on when its page is left is nobody's any more.
  addEventListener("pagehide", () => { if (job?.running) forget(job); });
}
