// Draws the report: plot, cards, attention, search. Everything that came from outside is put on the page as text.
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const plotData = read("plot-data");
  const frames = read("frames-data");
  const isFilm = plotData.kind === "video";
  const grid = byId("grid");
  if (!grid) return;

  // -- words and numbers ------------------------------------------------------------------------------------------

  const percent = (value) => `${Math.round(value * 100)}%`;
  const isLow = (frame) => frame.confidence < plotData.low;
  const closest = frames.slice(1).reduce((gap, frame, at) => Math.min(gap, frame.x - frames[at].x), Infinity);
  const decimals = isFilm && closest < 0.95 ? (closest < 0.095 ? 2 : 1) : 0;

  const when = (frame) => (isFilm ? clock(frame.time, decimals) : String(frame.frame));
  const source = (frame) => `data:image/jpeg;base64,${frame.picture}`;
  const exactly = (frame) => {
    if (!isFilm) return String(frame.frame);
    const time = frame.time.toFixed(3);
    return frame.end === undefined ? `Frame ${frame.frame}, at ${time}\u00a0s` : `Frame ${frame.frame}, for ${time}\u2013${frame.end.toFixed(3)}\u00a0s`;
  };

  // -- attention ----------------------------------------------------------------------------------------------------

  // Not every model looks at places of a picture.
  byId("words-hint").hidden = frames.every((frame) => !frame.attention);

  // Its maps as drawing.js takes them; unpacked once.
  function attention(frame) {
    if (!frame.maps) {
      const [rows, columns] = frame.grid;
      const bytes = Uint8Array.from(atob(frame.attention), (character) => character.charCodeAt(0));
      frame.maps = { rows, columns, maps: frame.words.map((_, word) => bytes.subarray(word * rows * columns, (word + 1) * rows * columns)) };
    }
    return frame.maps;
  }

  function captionOf(frame, box, show, hide) {
    const texts = frame.words.length ? frame.words : frame.caption.split(" ");
    const light = (lit) => words.forEach((word, at) => word.classList.toggle("lit", at === lit));
    const words = captionInto(box, frame.caption, texts, Boolean(frame.attention), (word) => { light(word); show(word); }, () => { light(); hide(); });
    return words;
  }

  // -- cards ------------------------------------------------------------------------------------------------------------

  const cards = frames.map((frame, index) => {
    const card = make("article", "card");
    card.id = `frame-${frame.position}`;
    const opener = make("button", "picture");
    opener.type = "button";
    opener.setAttribute("aria-label", `${when(frame)}: ${frame.caption}. Open`);
    const picture = make("img");
    picture.loading = "lazy";
    picture.decoding = "async";
    picture.alt = frame.caption;
    picture.src = source(frame);
    const canvas = make("canvas");
    canvas.setAttribute("aria-hidden", "true");
    opener.append(picture, canvas);
    opener.addEventListener("click", () => openViewer(index));

    const head = make("div", "card-head");
    const label = make("span", "when", when(frame));
    label.title = exactly(frame);
    head.append(label);
    if (isLow(frame)) head.append(make("span", "mark-unsure", "unsure"));
    const fromHere = make("button", "from-here", "▶");
    fromHere.type = "button";
    fromHere.hidden = true;
    fromHere.setAttribute("aria-label", `Play the film from ${when(frame)}`);
    fromHere.addEventListener("click", () => player.playFrom(frame.time));
    head.prepend(fromHere);
    const sure = make("span", "sure", percent(frame.confidence));
    sure.title = "Confidence: the mean probability of a word of this caption";
    head.append(sure);
    const caption = make("div", "caption");
    const words = captionOf(frame, caption, (word) => paint(canvas, picture, attention(frame), word), () => canvas.classList.remove("on"));
    const text = make("div", "card-text");
    text.append(head, caption);
    card.append(opener, text);
    return { card, frame, words, index, text: fold(`${frame.caption} ${when(frame)} ${frame.frame}`) };
  });
  grid.append(...cards.map((entry) => entry.card));

  // Frames of a film are all of one shape; a folder of pictures keeps the stylesheet's.
  if (isFilm && cards.length) {
    const first = cards[0].card.querySelector("img");
    first.decode().then(() => document.documentElement.style.setProperty("--aspect", `${first.naturalWidth} / ${first.naturalHeight}`), () => {});
  }

  function goTo(index) {
    const { card } = cards[index];
    if (card.hidden) clearSearch();
    card.scrollIntoView({ block: "center" });
    card.querySelector(".picture").focus({ preventScroll: true });
    card.classList.remove("found-here");
    void card.offsetWidth;  // Starts the animation again when the same card is found twice.
    card.classList.add("found-here");
  }

  // -- the reel under the title: a few frames from beginning to end -------------------------------------------------------

  const REEL = 8;
  const reel = byId("reel");
  if (frames.length >= REEL) {
    for (let place = 0; place < REEL; place++) {
      const index = Math.floor(((place + 0.5) * frames.length) / REEL);
      const button = make("button");
      button.type = "button";
      button.setAttribute("aria-label", `Go to ${when(frames[index])}: ${frames[index].caption}`);
      const picture = make("img");
      picture.alt = "";
      picture.src = source(frames[index]);
      button.append(picture);
      if (isFilm) button.append(make("span", "", when(frames[index])));
      button.addEventListener("click", () => goTo(index));
      reel.append(button);
    }
  }

  // -- search -------------------------------------------------------------------------------------------------------------

  const [search, order, unsure, found] = ["search", "order", "unsure", "found"].map(byId);

  function fold(text) {
    return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  }

  function filter() {
    const terms = fold(search.value).split(/\s+/).filter(Boolean);
    let count = 0;
    for (const entry of cards) {
      const shown = terms.every((term) => entry.text.includes(term)) && (!unsure.checked || isLow(entry.frame));
      entry.card.hidden = !shown;
      count += shown;
      for (const word of entry.words) {
        const text = fold(word.textContent);
        word.classList.toggle("match", terms.some((term) => text.includes(term)));
      }
    }
    const narrowed = terms.length > 0 || unsure.checked;
    found.textContent = narrowed ? `${count} of ${cards.length}` : `${cards.length} shown`;
    byId("nothing").hidden = count > 0 || cards.length === 0;
  }

  function arrange() {
    const sorted = [...cards];
    if (order.value === "unsure") sorted.sort((one, other) => one.frame.confidence - other.frame.confidence || one.index - other.index);
    grid.append(...sorted.map((entry) => entry.card));
  }

  function clearSearch() {
    search.value = "";
    unsure.checked = false;
    filter();
  }

  search.addEventListener("input", filter);
  unsure.addEventListener("change", filter);
  order.addEventListener("change", arrange);
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !byId("viewer").open) {
      event.preventDefault();
      search.focus();
    }
    if (event.key === "Escape" && document.activeElement === search) clearSearch();
  });

  const total = Number(byId("shown").dataset.total);
  if (frames.length < total) {
    byId("shown").prepend(`${frames.length.toLocaleString("en")} of ${total.toLocaleString("en")} frames are shown here, evenly chosen. `);
  }

  // -- a picture, large ---------------------------------------------------------------------------------------------------

  const viewer = byId("viewer");
  const [image, layer, strip, play] = ["viewer-image", "viewer-heat", "viewer-strip", "viewer-play"].map(byId);
  let open = 0;
  let timer = 0;

  function openViewer(index) {
    stop();
    open = index;
    const frame = frames[index];
    byId("viewer-title").textContent = `${isFilm ? exactly(frame) : when(frame)} · confidence ${percent(frame.confidence)}${isLow(frame) ? ", unsure" : ""}`;
    image.src = source(frame);
    image.alt = frame.caption;
    layer.classList.remove("on");
    const cells = [];
    const showWord = (word) => {
      paint(layer, image, attention(frame), word);
      cells.forEach((cell, at) => cell.classList.toggle("lit", at === word));
      words.forEach((other, at) => other.classList.toggle("lit", at === word));
    };
    const hideWord = () => {
      layer.classList.remove("on");
      [...cells, ...words].forEach((element) => element.classList.remove("lit"));
    };
    const words = captionOf(frame, byId("viewer-caption"), showWord, hideWord);
    strip.replaceChildren();
    if (frame.attention) {
      image.decode().catch(() => {}).then(() => {
        if (frames[open] !== frame) return;
        frame.words.forEach((text, word) => {
          const cell = make("button", "cell");
          cell.type = "button";
          cell.tabIndex = -1;
          cell.append(miniature(image, attention(frame), word), text);
          cell.addEventListener("pointerenter", () => showWord(word));
          cell.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hideWord(); });
          cell.addEventListener("click", () => showWord(word));
          cells.push(cell);
        });
        strip.replaceChildren(...cells);
      });
    }
    play.hidden = !frame.attention;
    byId("viewer-film").onclick = () => { viewer.close(); player.playFrom(frame.time); };
    play.onclick = () => (timer ? stop() : start(frame, showWord, hideWord));
    byId("viewer-previous").disabled = !neighbour(-1);
    byId("viewer-next").disabled = !neighbour(1);
    if (!viewer.open) viewer.showModal();
  }

  function start(frame, showWord, hideWord) {
    let word = 0;
    play.textContent = "Stop";
    const step = () => {
      if (word >= frame.words.length) { stop(); hideWord(); return; }
      showWord(word++);
    };
    timer = setInterval(step, 700);
    step();
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play words";
  }

  // The next card as they are arranged and filtered now.
  function neighbour(step) {
    const shown = [...grid.children].filter((card) => !card.hidden);
    const at = shown.indexOf(cards[open].card);
    return shown[at + step] && cards.find((entry) => entry.card === shown[at + step]);
  }

  function turn(step) {
    const next = neighbour(step);
    if (next) openViewer(next.index);
  }

  byId("viewer-close").addEventListener("click", () => viewer.close());
  byId("viewer-previous").addEventListener("click", () => turn(-1));
  byId("viewer-next").addEventListener("click", () => turn(1));
  viewer.addEventListener("close", () => {
    stop();
    if (cards[open]) cards[open].card.querySelector(".picture").focus();
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });

  // -- the plot -----------------------------------------------------------------------------------------------------------

  const plot = byId("plot");
  const series = plotData.series;
  const SVG = "http://www.w3.org/2000/svg";
  const margin = { left: 48, right: 16, top: 16, bottom: 30 };
  let pointed = -1;
  let scale = null;

  function svg(tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function ticks(from, to, wanted) {
    const steps = isFilm ? [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400] : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
    const step = steps.find((size) => (to - from) / size <= wanted) || (to - from) / wanted;
    const marks = [];
    for (let at = Math.ceil(from / step - 1e-9) * step; at <= to + step * 1e-6; at += step) marks.push(at);
    return { marks, digits: step < 1 ? 1 : 0 };
  }

  const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  function drawPlot() {
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    const first = series[0][0];
    const last = Math.max(series[series.length - 1][0], frames.length ? frames[frames.length - 1].x : first);
    const span = last - first || 1;
    const alone = last === first;
    const x = (value) => alone ? (margin.left + width - margin.right) / 2 : margin.left + ((value - first) / span) * (width - margin.left - margin.right);
    const y = (value) => height - margin.bottom - value * (height - margin.top - margin.bottom);
    scale = { x, y, height };
    const drawing = svg("svg", { "aria-hidden": "true" });
    for (const value of [0, 0.5, 1]) {
      drawing.append(svg("line", { class: "rule", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }));
      drawing.append(svg("text", { x: margin.left - 8, y: y(value) + 4, "text-anchor": "end" }, percent(value)));
    }
    const { marks, digits } = ticks(first, last, Math.max(2, Math.floor(width / 90)));
    for (const mark of marks) {
      const label = isFilm ? clock(mark, digits) : mark.toLocaleString("en");
      drawing.append(svg("text", { x: x(mark), y: height - 10, "text-anchor": "middle" }, label));
    }
    const means = series.map(([at, mean]) => [x(at), y(mean)]);
    if (series.some(([, , low, high]) => low !== high)) {
      const upper = series.map(([at, , , high]) => [x(at), y(high)]);
      const lower = series.map(([at, , low]) => [x(at), y(low)]).reverse();
      drawing.append(svg("path", { class: "band", d: path([...upper, ...lower]) + "Z" }));
    } else {
      const ends = [[means[means.length - 1][0], y(0)], [means[0][0], y(0)]];
      drawing.append(svg("path", { class: "area", d: path([...means, ...ends]) + "Z" }));
    }
    drawing.append(svg("line", { class: "low-rule", x1: margin.left, x2: width - margin.right, y1: y(plotData.low), y2: y(plotData.low) }));
    drawing.append(svg("path", { class: "curve", d: path(means) }));
    const roomy = frames.length <= width / 7;
    for (const frame of frames) {
      if (roomy || isLow(frame)) {
        drawing.append(svg("circle", { class: isLow(frame) ? "dot low" : "dot", cx: x(frame.x), cy: y(frame.confidence), r: 3 }));
      }
    }
    plot.querySelector("svg")?.remove();
    plot.prepend(drawing);
    head(played);
    if (pointed >= 0) point(pointed);
  }

  // Where the film is at the moment.
  let played = null;

  function head(time) {
    played = time;
    const drawing = plot.querySelector("svg");
    drawing?.querySelector(".playhead")?.remove();
    if (time === null || !drawing) return;
    const [first, last] = [margin.left, plot.clientWidth - margin.right];
    const at = Math.min(last, Math.max(first, scale.x(time)));
    drawing.append(svg("line", { class: "playhead", x1: at, x2: at, y1: margin.top, y2: scale.height - margin.bottom }));
  }

  const tip = make("div", "tip");
  tip.hidden = true;

  function point(index) {
    pointed = index;
    const frame = frames[index];
    const drawing = plot.querySelector("svg");
    drawing.querySelectorAll(".cursor, .here").forEach((element) => element.remove());
    const [atX, atY] = [scale.x(frame.x), scale.y(frame.confidence)];
    drawing.append(svg("line", { class: "cursor", x1: atX, x2: atX, y1: margin.top, y2: scale.height - margin.bottom }));
    drawing.append(svg("circle", { class: "here", cx: atX, cy: atY, r: 5 }));
    const picture = make("img");
    picture.alt = "";
    picture.src = source(frame);
    const line = make("p");
    line.append(make("b", "", `${when(frame)} · ${percent(frame.confidence)}`));
    tip.replaceChildren(picture, line, make("p", "", frame.caption));
    tip.hidden = false;
    const room = plot.clientWidth - tip.offsetWidth - 8;
    const beside = atX + 16 > room ? atX - tip.offsetWidth - 16 : atX + 16;
    tip.style.left = `${Math.max(8, Math.min(room, beside))}px`;
    plot.setAttribute("aria-valuenow", String(index + 1));
    plot.setAttribute("aria-valuetext", `${when(frame)}, ${percent(frame.confidence)}, ${frame.caption}`);
  }

  function unpoint() {
    pointed = -1;
    tip.hidden = true;
    plot.querySelectorAll(".cursor, .here").forEach((element) => element.remove());
  }

  function nearest(event) {
    const at = event.clientX - plot.getBoundingClientRect().left;
    let best = 0;
    frames.forEach((frame, index) => {
      if (Math.abs(scale.x(frame.x) - at) < Math.abs(scale.x(frames[best].x) - at)) best = index;
    });
    return best;
  }

  if (series.length) {
    plot.append(tip);
    new ResizeObserver(drawPlot).observe(plot);
    drawPlot();
  }
  if (series.length && frames.length) {
    plot.tabIndex = 0;
    plot.setAttribute("role", "slider");
    plot.setAttribute("aria-label", "Confidence; arrow keys go from frame to frame, Enter opens the frame below");
    plot.setAttribute("aria-valuemin", "1");
    plot.setAttribute("aria-valuemax", String(frames.length));
    plot.setAttribute("aria-valuenow", "1");
    plot.addEventListener("pointermove", (event) => point(nearest(event)));
    plot.addEventListener("pointerleave", unpoint);
    plot.addEventListener("blur", unpoint);
    plot.addEventListener("click", (event) => { const index = nearest(event); unpoint(); goTo(index); });
    plot.addEventListener("keydown", (event) => {
      const now = Math.max(pointed, 0);
      const to = { ArrowRight: now + (pointed >= 0), ArrowLeft: now - 1, Home: 0, End: frames.length - 1, PageUp: now - 10, PageDown: now + 10 }[event.key];
      if (to !== undefined) {
        event.preventDefault();
        point(Math.min(frames.length - 1, Math.max(0, to)));
      }
      if (event.key === "Enter" && pointed >= 0) {
        event.preventDefault();  // Else the same key press would go on to open the picture that has the focus now.
        goTo(pointed);
      }
      if (event.key === "Escape") unpoint();
    });
  }

  // Of a stream there are frames in time, but no film.
  const player = byId("film") ? playFilm({ make, clock, decimals, source, frames, goTo, onTime: head }) : null;
  player?.onReady(() => {
    for (const button of document.querySelectorAll(".from-here, #viewer-film")) button.hidden = false;
  });

  filter();
})();
