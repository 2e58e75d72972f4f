// What the output holds: by encoder how far it is, and what is wrong, by kind.

import { getJson } from "./api.js";
import { count, h, notice } from "./dom.js";

const STATES = [["complete", "complete"], ["partial", "partial"], ["damaged", "damaged"], ["none", "not there"]];

/** The overview of the output. */
export async function overviewPage(place, { signal }) {
  place.append(h("div", { class: "headline" }, h("h1", {}, "Overview")), h("p", { class: "hint" }, "Looking over the output…"));
  const { takes, encoders } = await getJson("v1/overview", {}, signal);
  if (signal.aborted) return;
  place.lastChild.remove();
  if (!encoders.length) place.append(notice("Nothing extracted yet", `The data set has ${count(takes, "take")}, and the output no features of them.`));
  place.append(...encoders.map((one) => section(one, takes)));
}

function section(one, takes) {
  const id = `overview-${one.encoder_id}`;
  const grid = [one.fps && `${Number(one.fps.toFixed(2))} frames/s`, one.window && `windows of ${one.window} every ${one.stride}`, one.dim && `${one.dim} numbers a clip`].filter(Boolean);
  const said = STATES.filter(([name]) => one[name]).map(([name, words]) => h("li", {}, h("span", { class: `swatch ${name}`, "aria-hidden": "true" }), `${one[name].toLocaleString("en")} ${words}`));
  const bar = h("div", { class: "stack", role: "img", "aria-label": `${one.complete} of ${count(takes, "take")} complete` }, STATES.map(([name]) => (one[name] ? h("span", { class: name, vars: { "--part": String(one[name]) } }) : null)));
  const sync = Object.entries(one.sync).map(([sure, n]) => `${n} ${sure}`).join(", ");
  const facts = [
    ["Clips", one.clips ? `${one.clips.toLocaleString("en")}, ${one.valid.toLocaleString("en")} of them valid (${((100 * one.valid) / one.clips).toFixed(one.valid === one.clips ? 0 : 2)} %)` : "none in complete stores"],
    ["Synchronisation", sync ? `measured offsets of streams: ${sync}` : "not measured"],
    ["Other takes", one.elsewhere ? `${count(one.elsewhere, "store")} of takes that the data set does not list` : null],
  ].filter(([, words]) => words);
  return h(
    "section",
    { class: "panel spaced", "aria-labelledby": id },
    h("h2", { id, class: "mono" }, one.encoder_id),
    h("p", { class: "hint" }, grid.join(" · ")),
    bar,
    h("ul", { class: "legend" }, said),
    h("dl", { class: "said" }, facts.map(([name, words]) => [h("dt", {}, name), h("dd", {}, words)])),
    h("p", {}, h("a", { href: `#/?${new URLSearchParams({ extracted: one.encoder_id })}` }, "Its takes")),
    problems(one),
  );
}

function problems(one) {
  if (!one.problems.length) return h("p", { class: "hint" }, "No stream has a problem.");
  const row = (kind) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, kind.words),
      h("td", { class: "number" }, count(kind.streams, "stream")),
      h("td", { class: "number" }, count(kind.takes, "take")),
      h("td", {}, kind.examples.flatMap((uid, n) => [n ? ", " : "", h("a", { class: "mono", href: `#/takes/${encodeURIComponent(uid)}?${new URLSearchParams({ encoder: one.encoder_id })}` }, uid.slice(0, 8))])),
    );
  const heads = ["Problem, in the words of one stream", "Streams", "Takes", "For example"];
  const more = one.more_problems ? h("p", { class: "hint" }, `and ${count(one.more_problems, "more kind")}`) : null;
  return h("div", { class: "rows", tabIndex: 0, role: "group", "aria-label": `Problems of ${one.encoder_id}` }, h("table", { class: "dense" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, one.problems.map(row))), more);
}
