// Synchronisation: what is known of each stream's clock.

import { h } from "./dom.js";

/** Per stream the drift that the probe measured, in frames, and the stream's problems. */
export function syncPanel(streams, fps) {
  const audits = streams.filter((row) => row.audit !== undefined && row.audit !== null);
  const words = audits.length
    ? "Audited by content, and the drift of the time stamps (PTS) as measured when the take was extracted."
    : "No audit of the content has been made. This is the drift of the time stamps (PTS) from the take's clock, as measured when the take was extracted.";
  const row = (one) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", title: one.stream }, h("span", { class: "clamp" }, one.stream)),
      h("td", { class: "number" }, drift(one.drift, fps)),
      audits.length ? h("td", { class: "audit" }, one.audit === undefined || one.audit === null ? "–" : String(one.audit)) : null,
      h("td", {}, one.problems.length ? h("ul", { class: "problems" }, one.problems.map((line) => h("li", {}, line))) : h("span", { class: "hint" }, "none")),
    );
  const heads = ["Stream", "Drift", ...(audits.length ? ["Audit"] : []), "Problems"];
  return h(
    "section",
    { class: "panel syncs", "aria-labelledby": "sync-title" },
    h("h2", { id: "sync-title" }, "Synchronisation"),
    h("p", { class: "hint" }, words),
    h("table", { class: "dense" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, streams.map(row))),
  );
}

function drift(frames, fps) {
  if (frames === null || frames === undefined) return "not known";
  const off = Math.abs(frames) > 0.5 ? "⚠ " : "";
  return `${off}${frames.toFixed(2)} frames (${((frames / fps) * 1000).toFixed(0)}\u00a0ms)`;
}
