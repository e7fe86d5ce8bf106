// What has been captioned on this page and a story can begin from, newest first.

const sources = [];
let changed = () => {};

/** Say what a story can begin from; the same key again replaces the earlier one. `from` gives the request's part. */
export function offer(key, label, from) {
  withdraw(key);
  sources.unshift({ key, label, from });
  changed();
}

export function withdraw(key) {
  const at = sources.findIndex((source) => source.key === key);
  if (at >= 0) sources.splice(at, 1);
  changed();
}

export const offered = () => sources;
export const whenChanged = (told) => { changed = told; };
