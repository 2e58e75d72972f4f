// The map: clips in two dimensions; near points look alike to the encoder.

import { clock, crisp, h, momentOf, notice, onResize, onTheme, themeColors } from "./dom.js";
import { picture, pictureUrl } from "./pictures.js";
import { drawShape, STREAM_COLORS, streamColor } from "./marks.js";

const PAD = 16;
const REST = 200; // milliseconds on a point before its picture is asked for

// The colour of a moment, from blue at the beginning to yellow at the end.
const timeColor = (share) => `hsl(${Math.round(250 - 200 * share)} 75% ${Math.round(45 + 12 * share)}%)`;

/** The map of `data` (GET projection); `streams` in the order of the timeline, `cameras` by name. */
export function clipMap(data, streams, player, { cameras, clipAt, signal }) {
  const points = data.points.filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
  if (!points.length) return h("div", {}, notice("No map", "There is no valid clip to draw."));
  const base = h("canvas", { "aria-hidden": "true" });
  const top = h("canvas", { class: "over", "aria-hidden": "true" });
  const tip = h("div", { class: "tip", hidden: true });
  const words = `Map of ${points.length} clips of ${streams.length} streams; near points look alike to the encoder.`;
  const plot = h("div", { class: "plot", role: "img", "aria-label": words }, base, top, tip);
  const hidden = new Set();
  const by = h("select", { id: "map-color", onchange: () => draw() }, h("option", { value: "camera" }, "by camera"), h("option", { value: "time" }, "by time"));
  const scale = h("p", { class: "hint time-scale", hidden: true }, "first clip", h("span", { class: "ramp", "aria-hidden": "true" }), "last clip");
  const legend = h("ul", { class: "legend" });
  const shares = (data.explained || []).map((share) => `${Math.round(share * 100)} %`);
  const element = h("div", { class: "map" }, h("div", { class: "field inline" }, h("label", { for: "map-color" }, "Coloured"), by), plot, scale, legend, h("p", { class: "hint" }, `${data.method || "PCA"}; the axes hold ${shares.join(" and ")} of the variance. Click a point to go there.`));
  const span = (name) => [Math.min(...points.map((p) => p[name])), Math.max(...points.map((p) => p[name]))];
  const [[x0, x1], [y0, y1]] = [span("x"), span("y")];
  const order = new Map(streams.map((stream, index) => [stream, index]));
  let [width, height, colors, hover] = [0, 0, {}, null];

  // Each axis fills the plot; a single point, or a line of them, lies in the middle.
  const px = (p) => (x1 > x0 ? PAD + ((p.x - x0) / (x1 - x0)) * (width - 2 * PAD) : width / 2);
  const py = (p) => (y1 > y0 ? height - PAD - ((p.y - y0) / (y1 - y0)) * (height - 2 * PAD) : height / 2);
  const seen = () => points.filter((p) => !hidden.has(p.stream));

  function draw() {
    width = plot.clientWidth;
    height = plot.clientHeight;
    if (!width) return;
    colors = themeColors([...STREAM_COLORS, "ink", "raised", "line"]);
    const c = crisp(base, width, height);
    const size = points.length > 1500 ? 2 : points.length > 300 ? 2.8 : 4;
    c.globalAlpha = points.length > 300 ? 0.65 : 0.85;
    const timed = by.value === "time";
    scale.hidden = !timed;
    const [first, last] = [Math.min(...points.map(momentOf)), Math.max(...points.map(momentOf))];
    for (const p of seen()) {
      const index = order.get(p.stream) ?? 0;
      c.fillStyle = c.strokeStyle = timed ? timeColor(last > first ? (momentOf(p) - first) / (last - first) : 0) : colors[streamColor(index)];
      drawShape(c, index, px(p), py(p), size);
    }
    legend.replaceChildren(...streams.map(entry));
    drawTop();
  }

  function entry(stream, index) {
    const swatch = h("canvas", { "aria-hidden": "true" });
    const c = crisp(swatch, 14, 14);
    c.fillStyle = c.strokeStyle = colors[streamColor(index)];
    drawShape(c, index, 7, 7, 4.5);
    const toggle = () => {
      if (!hidden.delete(stream)) hidden.add(stream);
      draw();
      legend.querySelectorAll("button")[index].focus();
    };
    return h("li", {}, h("button", { type: "button", class: "quiet", "aria-pressed": String(!hidden.has(stream)), title: `Show or hide ${stream}`, onclick: toggle }, swatch, stream));
  }

  function drawTop() {
    const c = crisp(top, width, height);
    const now = clipAt(player.time);
    for (const p of now === null ? [] : seen().filter((one) => one.clip === now)) ring(c, p, colors.ink, 7);
    if (hover) ring(c, hover, colors.ink, 9);
  }

  function ring(c, p, color, r) {
    c.lineWidth = 4;
    c.strokeStyle = colors.raised;
    c.beginPath();
    c.arc(px(p), py(p), r, 0, 2 * Math.PI);
    c.stroke();
    c.lineWidth = 1.8;
    c.strokeStyle = color;
    c.stroke();
  }

  function near(event) {
    const box = plot.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = 18 ** 2;
    for (const p of seen()) {
      const distance = (px(p) - x) ** 2 + (py(p) - y) ** 2;
      if (distance < least) [best, least] = [p, distance];
    }
    return best;
  }

  const on = (name, callback) => plot.addEventListener(name, callback, { signal });
  let rest = null;
  on("pointermove", (event) => {
    const before = hover;
    hover = near(event);
    if (hover && hover === before) return;
    clearTimeout(rest);
    if (hover) rest = setTimeout((p) => p === hover && tip.append(picture(pictureUrl(cameras.get(p.stream), momentOf(p))) || ""), REST, hover);
    tip.hidden = !hover;
    plot.classList.toggle("pointing", Boolean(hover));
    if (hover) {
      tip.textContent = `${hover.stream}, clip ${hover.clip}, ${clock(momentOf(hover))}`;
      tip.classList.toggle("left", px(hover) > width / 2);
      tip.style.setProperty("--x", `${px(hover)}px`);
      tip.style.setProperty("--y", `${py(hover)}px`);
    }
    drawTop();
  });
  on("pointerleave", () => {
    clearTimeout(rest);
    hover = null;
    tip.hidden = true;
    drawTop();
  });
  on("click", (event) => {
    const found = near(event);
    if (found) player.seek(momentOf(found));
  });
  let drawn = null;
  player.addEventListener("tick", () => {
    const now = clipAt(player.time);
    if (now === drawn) return;
    drawn = now;
    drawTop();
  });
  onResize(plot, draw, signal);
  onTheme(draw, signal);
  return element;
}
