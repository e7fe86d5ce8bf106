"use strict";
// Lists a run's sources and what was set aside, some hundred at a time. Names from outside are only ever text.
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const run = read("run-data");
  const sources = read("sources-data").map(([key, status, frames = 0, errors = 0, reason = null, untold = false, undecoded = null, link = null]) => ({ key, status, frames, errors, reason, untold, undecoded, link, folded: fold(key) }));
  const errors = read("errors-data").map(([key, reason]) => ({ key, reason }));
  const STATUSES = ["captioned", "already done", "set aside", "left for later"];
  const CLASSES = ["captioned", "done", "aside", "left"];
  const STEP = 200;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function fold(text) {
    return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  }

  const number = (value) => value.toLocaleString("en");
  const nameOf = (key) => key.slice(key.lastIndexOf("/") + 1);
  // Most reasons begin with the name that stands beside them anyway.
  const plain = ({ key, reason }) => (reason.startsWith(`${nameOf(key)}: `) ? reason.slice(nameOf(key).length + 2) : reason);
  const counted = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

  // -- how the sources divide ---------------------------------------------------------------------------------------------

  run.counts.forEach((count, status) => {
    if (!count) return;
    const part = make("span", CLASSES[status]);
    part.style.flexGrow = String(count);
    byId("share").append(part);
    const entry = make("li", CLASSES[status]);
    entry.append(make("b", "", number(count)), ` ${STATUSES[status]}`);
    byId("legend").append(entry);
  });

  // -- a list that grows when asked ---------------------------------------------------------------------------------------

  function growing(list, button, draw) {
    let items = [];
    let shown = 0;
    function grow() {
      list.append(...items.slice(shown, shown + STEP).map(draw));
      shown = Math.min(shown + STEP, items.length);
      const rest = items.length - shown;
      button.hidden = rest === 0;
      button.textContent = rest > STEP ? `Show ${STEP} more of ${number(rest)}` : `Show ${number(rest)} more`;
    }
    button.addEventListener("click", () => {
      const first = shown;
      grow();
      list.children[first]?.querySelector("a")?.focus();
    });
    return (wanted) => { items = wanted; shown = 0; list.replaceChildren(); grow(); };
  }

  // -- sources ------------------------------------------------------------------------------------------------------------

  const report = (source) => source.link ?? `../../${source.key.split("/").map(encodeURIComponent).join("/")}/report.html`;

  function line(source) {
    const item = make("li");
    const isDone = source.status < 2;
    const name = make(isDone ? "a" : "span", "name", source.key);
    if (isDone) name.href = report(source);
    const facts = make("span", "line-facts");
    if (isDone) facts.append(make("span", "", counted(source.frames, "frame")));
    if (source.errors && isDone) facts.append(make("span", "mark-unsure", `${number(source.errors)} set aside`));
    if (source.undecoded && isDone) facts.append(make("span", "mark-unsure", `${source.undecoded} not decoded`));
    if (source.untold) facts.append(make("span", "mark-unsure", "no story"));
    if (source.status !== 0) facts.append(make("span", `mark ${CLASSES[source.status]}`, STATUSES[source.status]));
    item.append(name, facts);
    if (source.reason) item.append(make("span", "reason", plain(source)));
    return item;
  }

  const [search, status, order] = ["search", "status", "order"].map(byId);
  const showSources = growing(byId("source-list"), byId("more-sources"), line);

  function filter() {
    const terms = fold(search.value).split(/\s+/).filter(Boolean);
    const fits = (source) => status.value === "" || (status.value === "some" ? source.status < 2 && source.errors > 0 : status.value === "untold" ? source.untold : status.value === "damaged" ? source.status < 2 && source.undecoded !== null : source.status === Number(status.value));
    const found = sources.filter((source) => fits(source) && terms.every((term) => source.folded.includes(term)));
    if (order.value === "frames") found.sort((one, other) => other.frames - one.frames);
    showSources(found);
    byId("found").textContent = terms.length || status.value ? `${number(found.length)} of ${number(sources.length)}` : counted(sources.length, "source");
    byId("nothing").hidden = found.length > 0 || sources.length === 0;
  }

  search.addEventListener("input", filter);
  status.addEventListener("change", filter);
  order.addEventListener("change", filter);
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    }
    if (event.key === "Escape" && document.activeElement === search) { search.value = ""; filter(); }
  });
  filter();

  // -- what was set aside -------------------------------------------------------------------------------------------------

  if (!byId("error-list")) return;
  const showErrors = growing(byId("error-list"), byId("more-errors"), (error) => {
    const item = make("li");
    item.append(make("span", "name", error.key.replace(/\/story\.json$/, ", its story")), " ", make("span", "reason", plain(error)));
    return item;
  });
  if (run.reasons.length > 1) {
    const buttons = run.reasons.map(([why, count]) => {
      const button = make("button", "reason-count");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.append(make("b", "", number(count)), ` ${why}`);
      button.addEventListener("click", () => {
        const only = button.getAttribute("aria-pressed") === "false";
        for (const other of buttons) other.setAttribute("aria-pressed", String(only && other === button));
        showErrors(only ? errors.filter((error) => plain(error) === why) : errors);
      });
      return button;
    });
    byId("reasons").append(...buttons);
  }
  showErrors(errors);
})();
