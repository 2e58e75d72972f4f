// The data set: its takes, filtered, and what is extracted with which encoder.

import { getJson, madeJustNow, pause } from "./api.js";
import { announce, count, duration, encoderNames, h, notice } from "./dom.js";
import { picture } from "./pictures.js";
import { TAKES_PER_PAGE } from "./protocol.js";
import { selectionBar } from "./selection.js";
import { failure } from "./trouble.js";

const PAGE = 50;
const FIELDS = ["q", "task", "university", "split", "extracted"];
// Heads of the table, and by what the service sorts for them.
const HEADS = [["Take", "name"], ["Task", "task"], ["University", "university"], ["Streams", "streams"], ["Length", "duration"], ["Extracted with", null]];

// What the filter asks the service for: a word of the form fact=value goes by the take's facts.
function queryOf({ q, split, ...state }) {
  const words = q.match(/\S+=(?:"[^"]*"|\S*)|\S+/g) || [];
  const facts = words.filter((word) => /^\w+=/.test(word)).map((word) => word.replaceAll('"', ""));
  if (split) facts.push(`split=${split}`);
  return { ...state, q: words.filter((word) => !/^\w+=/.test(word)).join(" "), where: facts };
}

/** The list of takes; the filter lives in the address, so that going back comes back to it. */
export async function takesPage(place, { query, signal }) {
  const state = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) || ""]));
  let offset = Math.max(0, Math.floor(Number(query.get("offset")) || 0));
  let sort = query.get("sort") || "";
  const selection = selectionBar(signal);
  const list = h("div", { class: "list", "aria-busy": "true" });
  const summary = h("p", { class: "hint", id: "summary" });
  const inputs = {
    q: h("input", { id: "filter", type: "search", value: state.q, placeholder: "name, uid, task, or fact=value", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/" }),
    task: h("select", { id: "filter-task" }),
    university: h("select", { id: "filter-university" }),
    split: h("select", { id: "filter-split" }),
    extracted: h("select", { id: "filter-extracted" }),
  };
  const labelled = (name, label) => h("div", { class: "field" }, h("label", { for: inputs[name].id }, label), inputs[name]);
  const clear = h("button", { type: "button", onclick: () => change(Object.fromEntries(FIELDS.map((f) => [f, ""]))) }, "Clear");
  place.append(
    h("div", { class: "headline" }, h("h1", {}, "Takes"), summary),
    h("search", { class: "filters" }, labelled("q", "Filter"), labelled("task", "Task"), labelled("university", "University"), labelled("split", "Split"), labelled("extracted", "Extracted with"), clear),
    list,
    selection.element,
  );
  for (const [name, words] of [["task", "all tasks"], ["university", "all universities"], ["split", "all splits"], ["extracted", "any or none"]]) {
    choices(inputs[name], words, state[name] ? [state[name]] : [], state[name]);
    inputs[name].addEventListener("change", () => change({ [name]: inputs[name].value }));
  }
  let timer;
  inputs.q.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => change({ q: inputs.q.value.trim() }), 200);
  });
  signal.addEventListener("abort", () => clearTimeout(timer));

  function change(values, to = 0, by = sort) {
    Object.assign(state, values);
    offset = to;
    sort = by;
    for (const name of FIELDS) if (document.activeElement !== inputs[name]) inputs[name].value = state[name];
    const kept = Object.entries({ ...state, sort, offset: offset || "" }).filter(([, value]) => value !== "");
    history.replaceState(null, "", `#/${kept.length ? `?${new URLSearchParams(kept)}` : ""}`);
    load();
  }

  let asked = 0;
  let offered = false;
  async function load() {
    const mine = ++asked;
    list.setAttribute("aria-busy", "true");
    clear.disabled = FIELDS.every((name) => !state[name]);
    try {
      const found = await getJson("v1/takes", { ...queryOf(state), sort, limit: PAGE, offset: offset || "" }, signal);
      if (mine !== asked || signal.aborted) return;
      // A filter that was narrowed elsewhere, or a link from yesterday.
      if (!found.takes.length && found.total > 0 && offset > 0) return change({}, 0);
      draw(found);
      if (!offered) facets(inputs, state, signal);
      offered = true;
    } catch (error) {
      if (mine === asked && !signal.aborted) list.replaceChildren(failure(error, load));
    } finally {
      if (mine === asked) list.setAttribute("aria-busy", "false");
    }
  }

  function draw({ total, takes }) {
    const range = takes.length ? `${offset + 1}–${offset + takes.length} of ${total.toLocaleString("en")}` : "";
    summary.textContent = total ? count(total, "take") : "";
    announce(total ? `${count(total, "take")}` : "no takes");
    if (!total) {
      const filtered = FIELDS.some((name) => state[name]);
      const words = filtered ? "No take of the data set fits the filter." : "The data set has no takes. Does its takes.json list any?";
      list.replaceChildren(notice("No takes", words));
      return;
    }
    const table = h(
      "table",
      { class: "takes" },
      h("thead", {}, h("tr", {}, HEADS.map(head))),
      h("tbody", {}, takes.map((take) => row(take, selection.box(take)))),
    );
    const pager = h(
      "nav",
      { class: "pager", "aria-label": "Pages" },
      h("button", { type: "button", disabled: offset === 0, onclick: () => change({}, Math.max(0, offset - PAGE)) }, "Previous"),
      h("span", {}, range),
      h("button", { type: "button", disabled: offset + takes.length >= total, onclick: () => change({}, offset + PAGE) }, "Next"),
    );
    const focused = document.activeElement?.closest("th")?.dataset.sort;
    list.replaceChildren(table, total > PAGE ? pager : "");
    if (focused) list.querySelector(`th[data-sort="${focused}"] button`)?.focus();
  }

  // Up, down, and in the data set's own order again.
  function head([words, by]) {
    if (!by) return h("th", { scope: "col" }, words);
    const [now, next] = sort === by ? ["ascending", `-${by}`] : sort === `-${by}` ? ["descending", ""] : ["none", by];
    const sign = { ascending: " ▲", descending: " ▼", none: "" }[now];
    return h("th", { scope: "col", "aria-sort": now, "data-sort": by }, h("button", { type: "button", class: "quiet sort", title: `Sort by ${words.toLowerCase()}`, onclick: () => change({}, 0, next) }, words, h("span", { "aria-hidden": "true" }, sign)));
  }

  document.addEventListener("keydown", (event) => keys(event, inputs.q, list), { signal });
  await load();
  // Of a store that was written a moment ago the service's list may not know yet.
  if (madeJustNow()) pause(11_000, signal).then(load, () => {});
}

function row(take, box) {
  const streams = take.streams || [];
  const open = h("a", { href: `#/takes/${encodeURIComponent(take.take_uid)}`, class: "open", title: take.take_name }, take.take_name || take.take_uid);
  const cell = (label, ...children) => h("td", { "data-label": label }, children);
  return h(
    "tr",
    { onclick: (event) => !event.target.closest("a, input, label") && !String(getSelection()) && open.click() },
    h("th", { scope: "row" }, h("div", { class: "with-thumb" }, box, picture(take.thumbnail), h("div", {}, open, h("span", { class: "sub mono" }, take.take_uid)))),
    cell("Task", h("span", { class: "clamp", title: take.task_name }, take.task_name || "–")),
    cell("University", take.university_name || "–"),
    cell("Streams", h("span", {}, streams.length ? String(streams.length) : "none"), h("span", { class: "sub clamp", title: streams.join(", ") }, streams.join(", "))),
    h("td", { "data-label": "Length", class: "number" }, duration(take.duration_sec)),
    cell("Extracted with", take.encoders.length ? encoderNames(take.encoders).map((name, n) => h("span", { class: "chip", title: take.encoders[n] }, name)) : h("span", { class: "hint" }, "not yet")),
  );
}

function choices(select, none, values, chosen) {
  const all = [...new Set([...values, chosen].filter(Boolean))].sort((a, b) => a.localeCompare(b));
  select.replaceChildren(h("option", { value: "" }, none), ...all.map((value) => h("option", { value }, value)));
  select.value = chosen;
}

// What the filters offer, from all takes; read once in a while. Failures are the list's to tell.
let offer = { at: -Infinity };

async function facets(inputs, state, signal) {
  const show = () => {
    choices(inputs.task, "all tasks", offer.tasks, state.task);
    choices(inputs.university, "all universities", offer.universities, state.university);
    choices(inputs.split, "all splits", offer.splits, state.split);
    choices(inputs.extracted, "any or none", offer.encoders, state.extracted);
  };
  if (performance.now() - offer.at < 60_000) show();
  try {
    const { encoders } = await getJson("v1/encoders", {}, signal);
    const all = [];
    for (let total = 1; all.length < total; ) {
      const some = await getJson("v1/takes", { limit: TAKES_PER_PAGE, offset: all.length || "" }, signal);
      if (!some.takes.length) break;
      all.push(...some.takes);
      total = some.total;
    }
    const ids = all.flatMap((take) => take.encoders);
    offer = { at: performance.now(), tasks: all.map((take) => take.task_name), universities: all.map((take) => take.university_name), splits: all.map((take) => take.split), encoders: [...encoders.map((e) => e.name), ...ids] };
    for (const name of ["tasks", "universities", "splits", "encoders"]) offer[name] = [...new Set(offer[name])];
    show();
  } catch {
    // The filter by text is still there.
  }
}

function keys(event, filter, list) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("dialog, select")) return;
  const links = [...list.querySelectorAll("a.open")];
  const at = links.indexOf(document.activeElement);
  const typing = event.target.closest("input");
  if (event.key === "/" && !typing) filter.focus();
  else if (event.key === "Escape" && typing) links[0]?.focus();
  else if (event.key === "ArrowDown") links[Math.min(at + 1, links.length - 1)]?.focus();
  else if (event.key === "ArrowUp" && !typing) at <= 0 ? filter.focus() : links[at - 1].focus();
  else return;
  event.preventDefault();
}
