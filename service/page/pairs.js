// How alike the cameras are to each other: over the take, or now.

import { getJson } from "./api.js";
import { h } from "./dom.js";
import { failure } from "./trouble.js";

const REST = 250; // milliseconds that the player stands before the matrix follows it

/** The matrix of cameras of a take's store. */
export function pairsPanel(path, store, player, signal) {
  const when = h("select", { id: "pairs-when", onchange: () => load() }, h("option", { value: "take" }, "over the take"), h("option", { value: "now" }, "at this moment"));
  const place = h("div", { class: "rows", tabIndex: 0, role: "group", "aria-label": "Matrix of cameras" });
  const element = h(
    "section",
    { class: "panel pairs", "aria-labelledby": "pairs-title" },
    h("h2", { id: "pairs-title" }, "Cameras beside each other"),
    h("div", { class: "field inline" }, h("label", { for: "pairs-when" }, "Similarity"), when),
    place,
    h("p", { class: "hint" }, "Mean cosine of the features of two cameras' clips of the same time: 1 where they look the same to the encoder."),
  );
  let asked = 0;

  async function load() {
    const mine = ++asked;
    const span = when.value === "now" ? { start: player.time.toFixed(3), end: (player.time + 0.001).toFixed(3) } : {};
    try {
      const found = await getJson(`${path}/similarity`, { encoder: store.encoder_id, ...span }, signal);
      if (mine === asked) draw(found);
    } catch (error) {
      if (mine === asked && !signal.aborted) place.replaceChildren(failure(error));
    }
  }

  function draw({ streams, similarity }) {
    const values = similarity.flat().filter((value) => value !== null && value < 0.9999);
    const low = Math.min(0.9, ...values);
    const cell = (value, row, column) => {
      if (row === column) return h("td", { class: "self" }, "–");
      if (value === null) return h("td", { title: `${streams[row]} and ${streams[column]}: no clip is valid in both` }, "none");
      return h("td", { class: "pair", title: `${streams[row]} and ${streams[column]}: ${value.toFixed(3)}`, vars: { "--share": `${Math.round((80 * (value - low)) / (1 - low))}%` } }, value.toFixed(2));
    };
    const head = h("tr", {}, h("td"), streams.map((name) => h("th", { scope: "col", title: name }, h("span", {}, name))));
    const rows = similarity.map((line, row) => h("tr", {}, h("th", { scope: "row", title: streams[row] }, streams[row]), line.map((value, column) => cell(value, row, column))));
    place.replaceChildren(h("table", { class: "matrix" }, h("thead", {}, head), h("tbody", {}, rows)));
  }

  let timer = null;
  player.addEventListener("tick", () => {
    if (when.value !== "now") return;
    clearTimeout(timer);
    timer = setTimeout(load, REST);
  });
  signal.addEventListener("abort", () => clearTimeout(timer));
  load();
  return element;
}
