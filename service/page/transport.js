// Play, pause, step, speed, and where we are.

import { clock, h } from "./dom.js";

const RATES = [0.1, 0.25, 0.5, 1, 1.5, 2, 4];

/** The row of controls of a player; `clipAt(seconds)` is the number of the clip there, or null. */
export function transport(player, { clipAt, keysOf, signal }) {
  const button = (label, text, onclick, keys) => h("button", { type: "button", class: "icon", title: keys ? `${label} (${keys})` : label, "aria-label": label, onclick }, text);
  const play = button("Play", "", () => player.toggle(), "space");
  play.classList.add("primary", "play");
  // Who clicked a button has no thought of its key: space plays, as it does elsewhere on the page.
  let byMouse = false;
  document.addEventListener("pointerdown", () => (byMouse = true), { signal, capture: true });
  document.addEventListener("keydown", ({ key }) => (byMouse &&= key !== "Tab"), { signal, capture: true });
  function choose() {
    player.setRate(Number(rate.value));
    if (byMouse) rate.blur();
  }
  const rate = h("select", { id: "rate", "aria-label": "Speed", onchange: choose }, RATES.map((r) => h("option", { value: r, selected: r === 1 }, `${r}×`)));
  const now = h("output", { class: "now", "aria-label": "Current time" });
  const sync = h("span", { class: "sync" });
  const element = h(
    "div",
    { class: "transport", role: "group", "aria-label": "Playback" },
    button("−5 s: five seconds back", "−5 s", () => player.seek(player.time - 5), "←"),
    button("−1: one frame back", "−1", () => player.step(-1), ","),
    play,
    button("+1: one frame on", "+1", () => player.step(1), "."),
    button("+5 s: five seconds on", "+5 s", () => player.seek(player.time + 5), "→"),
    rate,
    now,
    sync,
  );

  let worst = 0;
  let shownAt = 0;
  function draw() {
    const clip = clipAt(player.time);
    const shown = Math.min(player.frame / player.fps, player.duration);
    const words = `${clock(player.playing ? player.time : shown)} / ${clock(player.duration)}`;
    now.replaceChildren(h("b", {}, words), h("span", {}, `frame ${player.frame}`), h("span", {}, clip === null ? "" : `clip ${clip}`));
    const spread = player.spread;
    if (player.playing && !player.held && spread !== null) worst = Math.max(worst * 0.99, spread);
    // Ten times a second is as much as anybody reads.
    const time = performance.now();
    if (time - shownAt < 100 && player.playing && !player.held) return;
    shownAt = time;
    if (player.waitingFor.length) sync.textContent = `waiting for ${player.waitingFor.join(", ")}`;
    else if (player.playing && !player.held && spread !== null) sync.textContent = `cameras within ${Math.ceil(worst * 1000)} ms`;
    else sync.textContent = "";
  }

  function state() {
    play.textContent = player.playing ? "Pause" : "Play";
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    rate.value = String(player.rate);
    if (!player.playing) worst = 0;
    draw();
  }

  const faster = (by) => player.setRate(RATES[Math.max(0, Math.min(RATES.length - 1, RATES.indexOf(player.rate) + by))]);
  const actions = {
    " ": () => player.toggle(),
    ",": () => player.step(-1),
    ".": () => player.step(1),
    ArrowLeft: () => player.seek(player.time - 5),
    ArrowRight: () => player.seek(player.time + 5),
    Home: () => player.seek(0),
    End: () => player.seek(player.duration),
    "[": () => faster(-1),
    "]": () => faster(1),
    ...keysOf,
  };
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
      if (event.target.closest("input, select, textarea, dialog")) return;
      // A button's own key.
      const button = event.target.closest("button, a, summary");
      if (event.key === " " && button && !byMouse) return;
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      if (event.key === " ") button?.blur();
      action();
    },
    { signal },
  );
  player.addEventListener("tick", draw);
  player.addEventListener("state", state);
  player.addEventListener("camera", draw);
  state();
  return element;
}
