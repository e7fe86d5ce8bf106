// Plays the film beside the page: captions as subtitles, scenes as chapters. report.js calls it with its own tools.
function playFilm({ make, clock, decimals, source, frames, goTo, onTime }) { // eslint-disable-line no-unused-vars
  const byId = (id) => document.getElementById(id);
  const section = byId("film");
  if (!section) return null;
  const data = JSON.parse(byId("film-data").textContent);
  const [player, absent, why, chooser, note, list] = ["player", "no-film", "no-film-why", "film-file", "film-note", "chapter-list"].map(byId);
  const lastFrame = frames.length ? frames[frames.length - 1].time : 0;
  let ready = false;
  let whenReady = () => {};

  // -- where the film is: beside the page, where it was captioned or archived, or whatever the reader chooses -----------

  const places = [...data.places];
  let chosen = null;

  function tryNext() {
    const place = places.shift();
    if (place === undefined) {
      show(false);
      why.textContent = "The film does not lie beside this page. Choose it, and it plays here with its captions.";
      return;
    }
    player.src = place;
  }

  function choose(file) {
    if (!file) return;
    if (chosen) URL.revokeObjectURL(chosen.url);
    chosen = { name: file.name, url: URL.createObjectURL(file) };
    note.textContent = "";
    player.src = chosen.url;
  }

  function show(found) {
    ready = found;
    section.hidden = false;
    player.hidden = !found;
    absent.hidden = found;
    section.classList.toggle("plays", found);
    if (found) whenReady();
  }

  player.addEventListener("error", () => {
    if (!chosen) { tryNext(); return; }
    show(false);
    why.textContent = `This browser cannot play ${chosen.name}. A player that can shows its captions from captions.srt or captions.vtt.`;
    chooser.focus();
  });

  player.addEventListener("loadedmetadata", () => {
    show(true);
    const until = data.until === null ? "" : ` Subtitles reach to ${clock(data.until / 1000, 0)}; all of them are in captions.vtt.`;
    // A film that ends before its captions do is another one.
    const short = Number.isFinite(player.duration) && player.duration < lastFrame - 2;
    note.textContent = (short ? "This film ends before its last caption: it may not be the one that was captioned." : "") + until;
    if (chosen) player.focus();
  });

  chooser.addEventListener("change", () => choose(chooser.files[0]));
  section.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    section.classList.add("over");
  });
  section.addEventListener("dragleave", (event) => { if (!section.contains(event.relatedTarget)) section.classList.remove("over"); });
  section.addEventListener("drop", (event) => {
    section.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    choose(event.dataTransfer.files[0]);
  });

  // -- subtitles: from the page itself, so that they need no file and cannot be any markup --------------------------------

  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
  const track = player.addTextTrack("captions", "Captions", "en");
  for (const [start, end, text] of data.cues) {
    track.addCue(new VTTCue(start / 1000, end / 1000, text.replace(/[&<>]/g, (mark) => escapes[mark])));
  }
  track.mode = "showing";

  // Captions count from where the file begins, and so do most players; some go by the times in a film that was cut
  // out of another, which begin later. Where the player stands when it has its first frame, before anybody moves it, tells how much.
  let offset = 0;
  let touched = false;

  function shift(seconds) {
    for (const cue of [...track.cues]) {  // A copy: the list sorts itself while times change.
      cue.startTime += seconds - offset;
      cue.endTime += seconds - offset;
    }
    offset = seconds;
  }

  player.addEventListener("loadstart", () => {
    touched = false;
    shift(0);
  });
  player.addEventListener("loadeddata", () => { if (!touched) shift(player.currentTime); });
  for (const kind of ["pointerdown", "keydown"]) player.addEventListener(kind, () => { touched = true; });

  // -- chapters: a scene each ---------------------------------------------------------------------------------------------

  const nearest = (time) => frames.reduce((best, frame, index) => (Math.abs(frame.time - time) < Math.abs(frames[best].time - time) ? index : best), 0);

  const chapters = data.chapters.map(([start, end, text]) => {
    const button = make("button", "chapter");
    button.type = "button";
    if (frames.length) {
      const picture = make("img");
      picture.alt = "";
      picture.loading = "lazy";
      picture.src = source(frames[nearest(start)]);
      button.append(picture);
    }
    const words = make("span", "chapter-text");
    words.append(make("span", "when", clock(start, decimals)), make("span", "told", text));
    button.append(words);
    button.addEventListener("click", () => {
      if (ready) playFrom(start);
      else if (frames.length) goTo(nearest(start));
    });
    const item = make("li");
    item.append(button);
    list.append(item);
    return { start, end, button };
  });
  byId("chapters").hidden = chapters.length === 0;
  let current = null;

  function playFrom(time) {
    // A frame's time is rounded to the millisecond: a moment later is surely that frame.
    touched = true;
    player.currentTime = time + offset + 0.001;
    section.scrollIntoView({ block: "nearest" });
    player.play().catch(() => {});  // Some browsers play only after a click on the player itself.
    player.focus({ preventScroll: true });
  }

  function follow() {
    const now = player.currentTime - offset;
    const found = chapters.filter((chapter) => chapter.start <= now + 0.002).pop() ?? null;
    if (found !== current) {
      current?.button.removeAttribute("aria-current");
      found?.button.setAttribute("aria-current", "true");
      current = found;
      // Only the list moves, never the page under the reader.
      if (found) list.scrollTop = found.button.offsetTop - list.offsetTop - (list.clientHeight - found.button.offsetHeight) / 2;
    }
    onTime(now);
  }

  player.addEventListener("timeupdate", follow);
  player.addEventListener("seeking", follow);
  player.addEventListener("play", follow);

  tryNext();
  return { playFrom, onReady: (callback) => { whenReady = callback; if (ready) callback(); } };
}
