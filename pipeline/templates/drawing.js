// What the web page and the report have in common: captions whose words call up where the model looked.
// The page imports it, the report has it written into its script.

/** An element with a class, text and children; text from outside only ever becomes textContent. */
export function make(tag, className = "", text, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

/** Seconds as people read them on a player, 1:02:03, with so many digits of a second. */
export function clock(seconds, digits = 0) {
  const scale = 10 ** digits;
  const units = Math.round(seconds * scale);
  const whole = Math.floor(units / scale);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  let second = String(whole % 60).padStart(2, "0");
  if (digits) second += "." + String(units % scale).padStart(digits, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${second}` : `${minutes}:${second}`;
}

const STOPS = [[0, 18, 12, 46, 150], [0.3, 84, 22, 108, 140], [0.6, 214, 72, 58, 125], [0.82, 250, 158, 40, 125], [1, 255, 236, 140, 130]];
const COLOURS = new Uint8ClampedArray(256 * 4);
for (let value = 0; value < 256; value++) {
  const at = value / 255;
  const upper = Math.max(1, STOPS.findIndex((stop) => stop[0] >= at));
  const [low, high] = [STOPS[upper - 1], STOPS[upper]];
  const part = (at - low[0]) / (high[0] - low[0]);
  for (let channel = 0; channel < 4; channel++) {
    COLOURS[value * 4 + channel] = low[channel + 1] + part * (high[channel + 1] - low[channel + 1]);
  }
}

// Cubic B-spline weights: a grid of 8 × 8 becomes soft hills, without the diamonds of linear interpolation.
function spline(length, size) {
  return Array.from({ length }, (_, index) => {
    const at = ((index + 0.5) * size) / length - 0.5;
    const base = Math.floor(at);
    const t = at - base;
    const weights = [(1 - t) ** 3, 3 * t ** 3 - 6 * t ** 2 + 4, -3 * t ** 3 + 3 * t ** 2 + 3 * t + 1, t ** 3];
    return weights.map((weight, tap) => [Math.min(size - 1, Math.max(0, base - 1 + tap)), weight / 6]);
  });
}

const SIDE = 96;

function hills({ rows, columns }, map) {
  const [across, down] = [spline(SIDE, columns), spline(SIDE, rows)];
  const wide = new Float32Array(rows * SIDE);
  for (let row = 0; row < rows; row++) {
    across.forEach((taps, x) => { for (const [column, weight] of taps) wide[row * SIDE + x] += weight * map[row * columns + column]; });
  }
  const values = new Float32Array(SIDE * SIDE);
  down.forEach((taps, y) => {
    for (const [row, weight] of taps) for (let x = 0; x < SIDE; x++) values[y * SIDE + x] += weight * wide[row * SIDE + x];
  });
  return values;
}

/** A word's map as a small square canvas; attention: { rows, columns, maps: [Uint8Array …] }. */
export function heat(attention, word) {
  const map = attention.maps[word];
  const values = hills(attention, map);
  // From the weakest cell to the strongest; a map that is almost even stays cool instead of showing its noise.
  const [floor, peak] = [Math.min(...values), Math.max(...values)];
  const [weakest, strongest] = [Math.min(...map), Math.max(...map)];
  const contrast = Math.min(1, (strongest - weakest) / (0.25 * strongest || 1));
  const scale = (255 * contrast) / Math.max(1, peak - floor);
  const canvas = make("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  values.forEach((value, index) => {
    const colour = Math.round((value - floor) * scale) * 4;
    image.data.set(COLOURS.subarray(colour, colour + 4), index * 4);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Lay a word's map over a picture; the canvas gets the picture's size, so that object-fit places both alike. */
export function paint(canvas, picture, attention, word) {
  canvas.width = picture.naturalWidth || 320;
  canvas.height = picture.naturalHeight || 240;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(heat(attention, word), 0, 0, canvas.width, canvas.height);
  canvas.classList.add("on");
}

/** A small picture with a word's map over it. */
export function miniature(picture, attention, word) {
  const canvas = make("canvas");
  canvas.width = 120;
  canvas.height = Math.round((120 * picture.naturalHeight) / picture.naturalWidth) || 90;
  const context = canvas.getContext("2d");
  if (picture.naturalWidth) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.drawImage(heat(attention, word), 0, 0, canvas.width, canvas.height);
  return canvas;
}

// One stop for the Tab key a caption; the arrow keys go from word to word.
function asWordKeys(words, word, index, dark) {
  word.addEventListener("keydown", (event) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: words.length - 1 }[event.key];
    if (event.key === "Escape") dark();
    if (to === undefined || !words[to]) return;
    event.preventDefault();
    event.stopPropagation();
    word.tabIndex = -1;
    words[to].tabIndex = 0;
    words[to].focus();
  });
}

/** Fill `box` with a caption; with `attends`, its words are buttons that call show(index) and hide(). */
export function captionInto(box, caption, texts, attends, show, hide) {
  box.replaceChildren();
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Caption: ${caption}`);
  const words = [];
  let end = 0;  // of the words so far, in the caption
  texts.forEach((text, index) => {
    const word = make(attends ? "button" : "span", "word", text);
    words.push(word);
    const begin = caption.indexOf(text, end);
    if (index && begin !== end) box.append(" ");  // not in scripts that put no blanks between words
    if (begin >= 0) end = begin + text.length;
    box.append(word);
    if (!attends) return;
    word.type = "button";
    word.tabIndex = index ? -1 : 0;
    const light = () => show(index);
    word.addEventListener("pointerenter", light);
    word.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    word.addEventListener("focus", light);
    word.addEventListener("blur", hide);
    word.addEventListener("click", light);
    asWordKeys(words, word, index, hide);
  });
  return words;
}
