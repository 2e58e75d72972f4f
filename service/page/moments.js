// Nearest moments: where else in the take, in which camera, or in which other take, it looks like this.

import { postJson } from "./api.js";
import { announce, clock, count, h, momentOf } from "./dom.js";
import { picture, pictureUrl } from "./pictures.js";
import { failure } from "./trouble.js";

const TOP = 3;
const TOP_OF_ALL = 12;

/** The panel that asks and lists; `cameras` by name, `onFound(marks)` for the timeline. */
export function momentsPanel({ take, encoder, joint, streams, cameras, player, onFound, signal }) {
  const picker = h("select", { id: "moment-stream" }, streams.map((stream) => h("option", { value: stream }, stream)));
  const where = h("select", { id: "moment-where" }, h("option", { value: "take" }, "this take"), h("option", { value: "all" }, "all other takes"));
  const results = h("div", { class: "moments", "aria-live": "polite" });
  const go = h("button", { type: "button", class: "primary", onclick: () => find(picker.value, player.time) }, "Find this moment");
  const text = h("input", { id: "moment-text", type: "search", maxLength: 300, placeholder: "a person cuts an onion", autocomplete: "off" });
  const form = joint
    ? h("form", { class: "row", onsubmit: byText }, h("div", { class: "field grow" }, h("label", { for: "moment-text" }, "In words"), text), h("button", {}, "Search"))
    : h("p", { class: "hint gap" }, "This encoder has no text side, so nothing can be looked for in words: encoders of the CLIP and SigLIP families have one.");
  const hint = h("p", { class: "hint" }, "Click a moment in the timeline, or find the one that is shown now: in all cameras of this take, or in all other takes.");
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "moments-title" },
    h("h2", { id: "moments-title" }, "Nearest moments"),
    h("div", { class: "row wrap" }, h("div", { class: "field grow" }, h("label", { for: "moment-stream" }, "As seen by"), picker), h("div", { class: "field grow" }, h("label", { for: "moment-where" }, "In"), where), go),
    form,
    results,
  );
  results.append(hint);
  let asked = 0;

  function byText(event) {
    event.preventDefault();
    if (text.value.trim()) ask({ text: text.value.trim() }, `“${text.value.trim()}”`, null);
  }

  function find(stream, time) {
    picker.value = stream;
    ask({ moment: { stream, time } }, `${stream} at ${clock(time)}`, { stream, time });
  }

  async function ask(query, words, origin) {
    const mine = ++asked;
    results.setAttribute("aria-busy", "true");
    try {
      if (where.value === "all") {
        const moment = query.moment && { take, ...query.moment };
        const found = await postJson("v1/search/takes", { encoder, top: TOP_OF_ALL, ...query, moment }, signal);
        if (mine === asked) drawAll(found, words, origin);
      } else {
        const found = await postJson("v1/search", { take, encoder, top: TOP + 1, ...query }, signal);
        if (mine === asked) draw(found, words, origin);
      }
    } catch (error) {
      if (mine !== asked || signal.aborted) return;
      onFound(origin ? [{ ...origin, isQuery: true }] : []);
      results.replaceChildren(failure(error));
    } finally {
      if (mine === asked) results.removeAttribute("aria-busy");
    }
  }

  function draw(found, words, origin) {
    const own = (stream, moment) => origin?.stream === stream && moment.start_time <= origin.time && origin.time < moment.end_time && moment.score > 0.9995;
    const marks = origin ? [{ ...origin, isQuery: true }] : [];
    // The other cameras first: where one's own looked alike before is the lesser question.
    const order = [...found.streams].sort((a, b) => Number(a.stream === origin?.stream) - Number(b.stream === origin?.stream));
    const groups = order.map(({ stream, moments }) => {
      const others = moments.filter((moment) => !own(stream, moment)).slice(0, TOP);
      others.forEach((moment, n) => marks.push({ stream, time: momentOf(moment), label: String(n + 1) }));
      const list = others.map((moment, n) => h("li", {}, entry(moment, n, stream)));
      return h("div", { class: "moment-group" }, h("h3", { title: stream }, stream, stream === origin?.stream ? " (itself, at other times)" : ""), list.length ? h("ol", {}, list) : h("p", { class: "hint" }, "no other valid clip"));
    });
    const says = h("p", { class: "hint" }, "Score: cosine of a clip's features to what is looked for.");
    results.replaceChildren(h("p", { class: "asked" }, "Most like ", h("b", {}, words)), says, ...groups);
    announce(`${marks.length - (origin ? 1 : 0)} moments found, like ${words}`);
    onFound(marks);
  }

  function drawAll(found, words, origin) {
    onFound(origin ? [{ ...origin, isQuery: true }] : []);
    const items = found.moments.map((moment) => h("li", {}, link(moment)));
    const sure = found.exact ? "No clip of any take is more alike." : "Other takes may hold clips that are as much alike.";
    const lacking = found.lacking ? ` ${count(found.lacking, "take")} with features could not be compared yet.` : "";
    const says = `The means of ${count(found.compared, "take")} were compared, then the clips of the ${found.looked_at} nearest. ${sure}${lacking} Score: cosine of a clip's features to what is looked for.`;
    results.replaceChildren(h("p", { class: "asked" }, "Most like ", h("b", {}, words), " in other takes"), h("p", { class: "hint" }, says), items.length ? h("ol", { class: "everywhere" }, items) : h("p", { class: "hint" }, "No other take has a valid clip."));
    announce(`${count(items.length, "moment")} found in other takes, like ${words}`);
  }

  function link(moment) {
    const [score, time, name] = [moment.score.toFixed(3), clock(momentOf(moment)), moment.take_name || moment.take_uid];
    const query = new URLSearchParams({ encoder, t: momentOf(moment).toFixed(2) });
    const share = `${Math.max(0, Math.min(1, moment.score)) * 100}%`;
    return h(
      "a",
      { class: "moment", href: `#/takes/${encodeURIComponent(moment.take_uid)}?${query}`, title: `${name}, ${moment.stream}, clip ${moment.clip}`, vars: { "--share": share } },
      picture(moment.thumbnail, "small") || h("span"),
      h("span", {}, h("b", {}, name), h("span", { class: "sub" }, `${moment.stream} · ${time}`)),
      h("span", { class: "score" }, score),
    );
  }

  function entry(moment, n, stream) {
    const score = moment.score.toFixed(3);
    const time = clock(momentOf(moment));
    const label = `${stream}, ${time}, clip ${moment.clip} (${clock(moment.start_time)} to ${clock(moment.end_time)}), score ${score}`;
    const share = `${Math.max(0, Math.min(1, moment.score)) * 100}%`;
    return h(
      "button",
      { type: "button", class: "moment", "aria-label": label, title: label, onclick: () => player.seek(momentOf(moment)), vars: { "--share": share } },
      h("span", { class: "pin" }, String(n + 1)),
      picture(pictureUrl(cameras.get(stream), momentOf(moment)), "small") || h("span"),
      h("span", {}, time),
      h("span", { class: "hint" }, `clip ${moment.clip}`),
      h("span", { class: "score" }, score),
    );
  }

  return { element, find };
}
