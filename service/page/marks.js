// How streams and reasons look: never by colour alone.

import { count, crisp, h } from "./dom.js";

/** Names of the style sheet's variables for streams, in their order; shapes go with them. */
export const STREAM_COLORS = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "plus", "ring", "box"];
// As in the picture of `takestream inspect`: a colour and a pattern for each reason.
const PATTERNS = { 1: "dots", 2: "solid", 3: "cross", 4: "rise", 5: "fall", 6: "cross" };

/** The colour's variable of the stream at a position. */
export const streamColor = (index) => STREAM_COLORS[index % STREAM_COLORS.length];

/** Draws the stream's shape around a point. */
export function drawShape(context, index, x, y, r) {
  // Beyond eight, colours come again with other shapes.
  const shape = SHAPES[(index + Math.floor(index / SHAPES.length) * 3) % SHAPES.length];
  context.beginPath();
  if (shape === "circle" || shape === "ring") context.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === "square" || shape === "box") context.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else if (shape === "triangle") path(context, [[x, y - r * 1.15], [x + r * 1.1, y + r * 0.85], [x - r * 1.1, y + r * 0.85]]);
  else if (shape === "diamond") path(context, [[x, y - r * 1.25], [x + r * 1.25, y], [x, y + r * 1.25], [x - r * 1.25, y]]);
  else if (shape === "cross") lines(context, [[x - r, y - r, x + r, y + r], [x - r, y + r, x + r, y - r]]);
  else lines(context, [[x - r * 1.2, y, x + r * 1.2, y], [x, y - r * 1.2, x, y + r * 1.2]]);
  if (["cross", "plus", "ring", "box"].includes(shape)) {
    context.lineWidth = 1.8;
    context.stroke();
  } else context.fill();
}

function path(context, points) {
  for (const [i, [x, y]] of points.entries()) i ? context.lineTo(x, y) : context.moveTo(x, y);
  context.closePath();
}

function lines(context, segments) {
  for (const [x1, y1, x2, y2] of segments) {
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
  }
}

/** What fills clips of a reason: a colour with a pattern over it. */
export function reasonFill(context, reason, colors) {
  const [face, ink] = [colors[`r${reason}`] || colors.r1, colors.rink];
  const ratio = window.devicePixelRatio || 1;
  const size = 8;
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(size * ratio);
  const c = tile.getContext("2d");
  const scale = tile.width / size;
  c.scale(scale, scale);
  c.fillStyle = face;
  c.fillRect(0, 0, size, size);
  c.strokeStyle = c.fillStyle = ink;
  c.lineWidth = 1.1;
  c.beginPath();
  const kind = PATTERNS[reason] || "dots";
  if (kind === "dots") for (const [x, y] of [[2, 2], [6, 6]]) c.fillRect(x - 0.6, y - 0.6, 1.2, 1.2);
  if (kind === "rise" || kind === "cross") lines(c, [[-2, 2, 2, -2], [-1, 9, 9, -1], [6, 10, 10, 6]]);
  if (kind === "fall" || kind === "cross") lines(c, [[-2, 6, 2, 10], [-1, -1, 9, 9], [6, -2, 10, 2]]);
  c.stroke();
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(1 / scale));
  return pattern;
}

/** Fills the list below a timeline: what its line and its patterns mean, in words. */
export function drawLegend(legend, rows, reasons, range, colors) {
  const counts = new Map();
  for (const row of rows) for (const reason of row.reason) counts.set(reason, (counts.get(reason) || 0) + 1);
  const item = (swatch, words) => h("li", {}, swatch, words);
  const line = h("canvas", { "aria-hidden": "true" });
  const c = crisp(line, 22, 14);
  c.strokeStyle = colors.ink;
  c.lineWidth = 1.6;
  c.beginPath();
  c.moveTo(1, 10);
  c.bezierCurveTo(8, 0, 14, 14, 21, 4);
  c.stroke();
  const invalid = [...counts].filter(([reason]) => reason !== 0).sort(([a], [b]) => a - b);
  legend.replaceChildren(
    item(line, `similarity: mean cosine to the same clip in the other cameras, ${range.low.toFixed(1)} to ${range.high.toFixed(1)}`),
    ...invalid.map(([reason, n]) => {
      const swatch = h("canvas", { "aria-hidden": "true" });
      const context = crisp(swatch, 22, 14);
      context.fillStyle = reasonFill(context, reason, colors);
      context.fillRect(0, 0, 22, 14);
      return item(swatch, `${reasons[reason] || `reason ${reason}`}: ${count(n, "clip")}`);
    }),
    invalid.length ? "" : item("", counts.size ? "all clips are valid" : "there are no clips"),
  );
}
