// Synchronisation: how far each stream is from the take's reference, as measured.

import { h } from "./dom.js";

const WITNESSES = { sound: "by sound", sight: "by sight", "sound and sight": "by sound and sight", reference: "the reference" };

/** Per stream its offset as measured by sound and sight, the drift of its PTS, and its problems. */
export function syncPanel(streams, fps) {
  const measured = streams.some((row) => row.sync);
  const words = measured
    ? "Offset: by how much later a stream shows a moment than the reference does, from what the cameras heard and saw. PTS: how far its time stamps leave the take's clock."
    : "No offset was measured: a job with sync, or takestream sync, does it. This is how far the time stamps (PTS) leave the take's clock, as found when the take was extracted.";
  const row = (one) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", title: one.stream }, h("span", { class: "clamp" }, one.stream)),
      ...(measured ? [h("td", { class: "number" }, offset(one.sync)), h("td", {}, verdict(one.sync))] : []),
      h("td", { class: "number" }, drift(one.drift, fps)),
      h("td", {}, one.problems.length ? h("ul", { class: "problems" }, one.problems.map((line) => h("li", {}, line))) : h("span", { class: "hint" }, "none")),
    );
  const heads = ["Stream", ...(measured ? ["Offset", "Verdict"] : []), "PTS", "Problems"];
  return h(
    "section",
    { class: "panel syncs", "aria-labelledby": "sync-title" },
    h("h2", { id: "sync-title" }, "Synchronisation"),
    h("p", { class: "hint" }, words),
    h("table", { class: "dense" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, streams.map(row))),
  );
}

function offset(sync) {
  if (!sync || sync.offset_ms === null) return "not known";
  const off = sync.frames && sync.confidence !== "low" ? "⚠ " : "";
  const sign = sync.offset_ms > 0 ? "+" : sync.offset_ms < 0 ? "−" : "";
  return `${off}${sign}${Math.abs(sync.offset_ms).toFixed(1)}\u00a0ms`;
}

function verdict(sync) {
  if (!sync) return "–";
  const shifted = sync.shift_frames ? `; shifted by ${sync.shift_frames} frames` : "";
  if (sync.offset_ms === null || sync.witness === "reference") return sync.verdict;
  const many = sync.windows ? `, ${sync.agree} of ${sync.windows} windows` : "";
  return `${sync.verdict}${shifted} (${WITNESSES[sync.witness] || sync.witness}, trust ${sync.confidence}${many})`;
}

function drift(frames, fps) {
  if (frames === null || frames === undefined) return "not known";
  const off = Math.abs(frames) > 0.5 ? "⚠ " : "";
  return `${off}${frames.toFixed(2)} frames (${((frames / fps) * 1000).toFixed(0)}\u00a0ms)`;
}
