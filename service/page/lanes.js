// What people wrote about a take: keysteps and descriptions as lanes in time, and a search in them.

import { clock, count, h } from "./dom.js";

const LISTED = 50;

/** The panel of `said` (GET annotations). */
export function lanesPanel(said, player, { signal }) {
  const input = h("input", { id: "lanes-search", type: "search", placeholder: "pours the oil", autocomplete: "off", spellcheck: "false", oninput: draw });
  const lanes = said.lanes.map((lane) => ({ ...lane, row: h("div", { class: "lane" }) }));
  const all = lanes.flatMap((lane) => lane.annotations);
  const now = h("p", { class: "hint", role: "status" });
  const found = h("ol", { class: "annotations" });
  const more = h("p", { class: "hint" });
  const element = h(
    "section",
    { class: "panel lanes", "aria-labelledby": "lanes-title" },
    h("h2", { id: "lanes-title" }, "Annotations"),
    h("div", { class: "tracks" }, lanes.flatMap((lane) => [h("div", { class: "lane-name" }, `${lane.kind} (${lane.annotations.length.toLocaleString("en")})`), lane.row])),
    now,
    h("div", { class: "field" }, h("label", { for: "lanes-search" }, "Search in them"), input),
    h("div", { class: "rows", tabIndex: 0, role: "group", "aria-label": "Annotations found" }, found),
    more,
    said.notes.map((words) => h("p", { class: "hint" }, words)),
  );

  const part = (seconds) => `${(100 * Math.max(0, Math.min(1, seconds / (player.duration || 1)))).toFixed(3)}%`;
  const words = (one) => `${clock(one.start)}${one.end === null ? "" : ` to ${clock(one.end)}`}`;
  const at = (one, time) => (one.end === null ? Math.abs(time - one.start) < 1.5 : one.start <= time && time < one.end);

  function draw() {
    const wanted = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const hits = all.filter((one) => wanted.every((word) => one.text.toLowerCase().includes(word)));
    const chosen = new Set(hits);
    for (const lane of lanes) {
      // For the eye: the list below says the same.
      lane.row.replaceChildren(...lane.annotations.map((one) => h("span", { class: `${one.end === null ? "point" : "stretch"} ${chosen.has(one) ? "" : "pale"}`, "aria-hidden": "true", title: `${words(one)}: ${one.text}`, vars: { "--from": part(one.start), "--to": part(one.end ?? one.start) } }, one.end === null ? "" : one.text)), mark(lane));
    }
    found.replaceChildren(...hits.slice(0, LISTED).map((one) => h("li", {}, h("button", { type: "button", class: "quiet annotation", onclick: () => player.seek(one.start) }, h("b", {}, words(one)), h("span", {}, one.text)))));
    more.textContent = hits.length > LISTED ? `and ${(hits.length - LISTED).toLocaleString("en")} more` : wanted.length ? `${count(hits.length, "annotation")} found` : "";
    follow();
  }

  function mark(lane) {
    lane.mark ??= h("span", { class: "now-mark", "aria-hidden": "true" });
    return lane.mark;
  }

  let told = null;
  function follow() {
    for (const lane of lanes) mark(lane).style.setProperty("--from", part(player.time));
    const text = all.filter((one) => at(one, player.time)).map((one) => one.text).join(" · ");
    if (text !== told) now.textContent = told = text;
  }

  for (const lane of lanes) {
    lane.row.addEventListener("click", (event) => {
      const box = lane.row.getBoundingClientRect();
      player.seek(((event.clientX - box.left) / box.width) * player.duration);
    }, { signal });
  }
  player.addEventListener("tick", follow);
  player.addEventListener("camera", draw);
  draw();
  return element;
}
