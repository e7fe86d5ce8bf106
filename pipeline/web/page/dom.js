// Small things every part of the page uses. Text from outside only ever becomes textContent.

import { make } from "./drawing.js";

export { clock, make } from "./drawing.js";

export const byId = (id) => document.getElementById(id);

export function button(text, className, pressed) {
  const element = make("button", className, text);
  element.type = "button";
  element.addEventListener("click", pressed);
  return element;
}

/** What is happening, said to eyes and to screen readers. */
export function say(part, text) {
  byId(`${part}-status`).textContent = text;
}

/** What went wrong, in one line; nothing takes it away. */
export function complain(part, text) {
  const place = byId(`${part}-problem`);
  place.textContent = text ?? "";
  place.hidden = !text;
  if (text) say(part, "");
}

/** Captions of lower confidence are marked; the server knows what is low for its model. */
export let unsureBelow = 0.3;
export function knowUnsure(confidence) {
  unsureBelow = confidence ?? unsureBelow;
}

export function percent(value) {
  const hundredths = value * 100;
  if (hundredths > 0 && hundredths < 0.5) return "< 1 %";
  return `${Math.round(hundredths)} %`;
}

/** A share that may be far below one percent, with two digits that tell something. */
export function smallPercent(value) {
  return value > 0 ? `${new Intl.NumberFormat("en", { maximumSignificantDigits: 2 }).format(value * 100)} %` : "0 %";
}

export function megabytes(bytes) {
  const size = bytes / 1e6;
  return size < 1 ? `${Math.ceil(bytes / 1000)} KB` : `${size < 10 ? size.toFixed(1).replace(/\.0$/, "") : Math.round(size)} MB`;
}

export const counted = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** A file's name without its ending, and as a title. */
export const stemOf = (name) => name.replace(/\.[^.]+$/, "");
export const titleOf = (name) => {
  const text = stemOf(name).replace(/[\s_-]+/g, " ").trim();
  return text.charAt(0).toUpperCase() + text.slice(1) || "Story";
};

/** Hand a blob to the reader as a file. */
export function save(blob, name) {
  const link = make("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const pause = (milliseconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, milliseconds);
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});
