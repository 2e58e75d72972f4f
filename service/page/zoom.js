// Which part of a take a timeline shows: closer, wider, moved along; it follows the player.

import { announce, clock, h } from "./dom.js";

const STEP = 2;
const LEAST = 1; // seconds

/** The part that is shown, and its controls; `onChange()` when it is another one. */
export function zoomed(player, onChange, signal) {
  let [from, span] = [0, Infinity];
  const range = h("input", { type: "range", class: "seek", min: 0, step: "any", "aria-label": "Part of the take that the timeline shows", oninput: () => move(Number(range.value)) });
  const button = (words, label, callback) => h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: callback }, words);
  const [wider, closer, whole] = [button("−", "Zoom out (-)", () => zoom(1 / STEP)), button("+", "Zoom in (+)", () => zoom(STEP)), button("Whole take", "Show the whole take", () => zoom(0))];
  const words = h("span", { class: "hint" });
  const element = h("div", { class: "row zoom" }, wider, closer, whole, range, words);

  const length = () => Math.max(player.duration, 0);
  const shown = () => Math.min(span, length()) || 1;

  function move(to) {
    from = Math.max(0, Math.min(to, length() - shown()));
    draw();
    onChange();
  }

  // By a factor; the moment `at` stays where it is, that of the player without one.
  function zoom(by, at = player.time) {
    const before = shown();
    const part = at >= from && at <= from + before ? (at - from) / before : 0.5;
    span = by ? Math.max(Math.min(LEAST, length()), before / by) : Infinity;
    if (span >= length()) span = Infinity;
    move(at - part * shown());
    announce(span === Infinity ? "The whole take is shown" : `${clock(from)} to ${clock(from + shown())} is shown`);
  }

  function draw() {
    const all = span === Infinity;
    wider.disabled = whole.disabled = all;
    closer.disabled = shown() <= LEAST;
    range.hidden = words.hidden = all;
    range.max = Math.max(0, length() - shown());
    range.value = from;
    range.setAttribute("aria-valuetext", (words.textContent = `${clock(from)} to ${clock(from + shown())}`));
  }

  // What plays, or is gone to, is in sight; what somebody looks at meanwhile stays.
  let last = player.time;
  function follow() {
    const was = last >= from && last <= from + shown();
    last = player.time;
    if (span === Infinity || !was || (last >= from && last <= from + shown())) return;
    move(player.playing ? last : last - shown() / 2);
  }

  player.addEventListener("tick", follow, { signal });
  player.addEventListener("camera", draw, { signal });
  draw();
  return {
    element,
    x: (time, width) => (length() ? ((time - from) / shown()) * width : 0),
    timeAt: (px, width) => Math.max(0, Math.min(length(), from + (px / Math.max(1, width)) * shown())),
    from: () => from,
    to: () => from + shown(),
    share: () => shown() / (length() || 1),
    /** Whether a key was one of these. */
    key(event) {
      if (event.key === "+" || event.key === "=") zoom(STEP);
      else if (event.key === "-") zoom(1 / STEP);
      else return false;
      return true;
    },
    /** The wheel with Ctrl, and two fingers apart, zoom; sideways it moves along. */
    wheel(event, px, width) {
      if (event.ctrlKey) zoom(Math.exp(-event.deltaY / 200), from + (px / width) * shown());
      else if (span !== Infinity && Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(from + (event.deltaX / width) * shown());
      else return;
      event.preventDefault();
    },
  };
}
