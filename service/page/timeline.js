// The timeline: a row per stream with its validity and its similarity to the other cameras.

import { announce, clock, crisp, h, onResize, onTheme, themeColors } from "./dom.js";
import { drawLegend, drawShape, reasonFill, STREAM_COLORS, streamColor } from "./marks.js";
import { zoomed } from "./zoom.js";

const AXIS = 22;
const COLORS = [...STREAM_COLORS, "ink", "muted", "line", "sunk", "raised", "accent", "mark", "r1", "r2", "r3", "r4", "r5", "r6", "rink"];

/**
 * The spans of time that belong to clips, [left, right) each, and which clip has a moment.
 * Windows overlap: each clip has the time around its middle, up to halfway to the next.
 */
export function clipSpans({ clip, start_time: start, end_time: end }) {
  const order = clip.map((_, i) => i).sort((a, b) => start[a] + end[a] - start[b] - end[b] || a - b);
  const middle = (i) => (start[i] + end[i]) / 2;
  const spans = order.map((i, n) => {
    const before = n ? (middle(order[n - 1]) + middle(i)) / 2 : start[i];
    const after = n + 1 < order.length ? (middle(order[n + 1]) + middle(i)) / 2 : end[i];
    return { index: i, left: Math.max(start[i], before), right: Math.min(end[i], after) };
  });
  const at = (time) => {
    let [low, high] = [0, spans.length - 1];
    while (low < high) {
      const half = (low + high + 1) >> 1;
      if (spans[half].left <= time) low = half;
      else high = half - 1;
    }
    const found = spans[low];
    return found && time >= found.left - 1e-9 && time <= found.right + 1e-9 ? found : null;
  };
  return { spans, at };
}

/** The timeline of `data` (GET timeline); `onPick(stream, time)` when a moment is clicked. */
export function timeline(data, player, { onPick, signal }) {
  const { spans, at } = clipSpans(data);
  const rows = data.streams;
  const high = Math.max(26, Math.min(44, Math.round(250 / Math.max(1, rows.length))));
  const height = rows.length * high + AXIS;
  const base = h("canvas", { "aria-hidden": "true" });
  const top = h("canvas", { "aria-hidden": "true", class: "over" });
  const tip = h("div", { class: "tip", hidden: true });
  const track = h("div", { class: "track", tabIndex: 0, role: "slider", "aria-label": "Timeline", "aria-valuemin": "0", "aria-describedby": "timeline-help" }, base, top, tip);
  const names = h("div", { class: "row-names", "aria-hidden": "true", vars: { "--row": `${high}px` } }, rows.map((row, i) => h("div", { title: row.stream, vars: { "--stream": `var(--${streamColor(i)})` } }, h("span", {}, row.stream))));
  const range = limits(rows);
  const legend = h("ul", { class: "legend" });
  const part = zoomed(player, drawBase, signal);
  const element = h("div", { class: "timeline" }, h("div", { class: "tracks" }, names, track), part.element, legend, h("p", { class: "hint", id: "timeline-help" }, "Click a moment to find it in the other cameras; drag to move. Keys: ↑ ↓ choose a camera, Enter finds its moment, + and - zoom."));
  let colors = {};
  let marks = [];
  let chosen = 0;
  let hover = null;
  let width = 0;

  const x = (time) => part.x(time, width);
  const timeAt = (px) => part.timeAt(px, width);
  const y = (row, value) => row * high + 4 + (1 - (value - range.low) / (range.high - range.low)) * (high - 9);

  function drawBase() {
    width = track.clientWidth;
    if (!width) return;
    colors = themeColors(COLORS);
    const c = crisp(base, width, height);
    const fills = {};
    rows.forEach((row, r) => {
      c.fillStyle = colors.sunk;
      c.fillRect(0, r * high, width, high - 2);
      // Neighbours of one reason in one piece, and never too narrow to be seen.
      for (let n = 0; n < spans.length; n++) {
        const reason = row.reason[spans[n].index];
        if (reason === 0) continue;
        const first = n;
        while (n + 1 < spans.length && row.reason[spans[n + 1].index] === reason) n++;
        const [left, right] = [x(spans[first].left), x(spans[n].right)];
        c.fillStyle = fills[reason] ??= reasonFill(c, reason, colors);
        c.fillRect(left, r * high, Math.max(2, right - left), high - 2);
      }
      drawLine(c, row, r);
      drawScale(c, r);
    });
    drawAxis(c);
    drawLegend(legend, rows, data.reasons || {}, range, colors);
    drawTop();
  }

  function drawLine(c, row, r) {
    c.strokeStyle = c.fillStyle = colors[streamColor(r)];
    c.lineWidth = 1.6;
    c.lineJoin = "round";
    // At most one point a pixel: the mean of what falls on it.
    let [px, sum, n, pen] = [-1, 0, 0, false];
    c.beginPath();
    const put = () => {
      if (!n) return;
      const [cx, cy] = [px + 0.5, y(r, sum / n)];
      if (pen) c.lineTo(cx, cy);
      else {
        c.moveTo(cx, cy);
        c.lineTo(cx + 0.01, cy);
      }
      pen = true;
    };
    for (const { index, left, right } of spans) {
      const value = row.similarity[index];
      const at = Math.floor((x(left) + x(right)) / 2);
      if (at !== px || value === null) {
        put();
        [px, sum, n] = [at, 0, 0];
      }
      if (value === null) pen = false;
      else [sum, n] = [sum + value, n + 1];
    }
    put();
    c.lineCap = "round";
    c.stroke();
    if (spans.length * part.share() * 14 > width) return;
    for (const { index, left, right } of spans) {
      if (row.similarity[index] === null) continue;
      c.beginPath();
      c.arc((x(left) + x(right)) / 2, y(r, row.similarity[index]), 2.2, 0, 2 * Math.PI);
      c.fill();
    }
  }

  // The ends of the similarity's scale, at the right of each row that has room for them.
  function drawScale(c, r) {
    if (high < 26) return;
    c.font = "9px system-ui, sans-serif";
    c.textAlign = "right";
    c.textBaseline = "middle";
    c.fillStyle = colors.muted;
    for (const value of [range.low, range.high]) c.fillText(value.toFixed(1), width - 3, y(r, value) + (value === range.high ? 3 : -2));
  }

  function drawAxis(c) {
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
    const step = steps.find((s) => x(s) - x(0) >= 62) || 7200;
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    c.fillStyle = colors.muted;
    c.strokeStyle = colors.line;
    c.lineWidth = 1;
    for (let n = Math.ceil(part.from() / step); n * step <= part.to(); n++) {
      const px = Math.round(x(n * step)) + 0.5;
      c.beginPath();
      c.moveTo(px, 0);
      c.lineTo(px, rows.length * high + 4);
      c.globalAlpha = 0.5;
      c.stroke();
      c.globalAlpha = 1;
      const words = n * step < 60 && step < 60 ? `${+(n * step).toFixed(1)} s` : clock(n * step).replace(".00", "");
      const atEdge = px < 20;
      c.textAlign = atEdge ? "left" : "center";
      if (px < width - 16) c.fillText(words, atEdge ? 9 : px, height - AXIS / 2 + 2);
    }
  }

  function drawTop() {
    const c = crisp(top, width, height);
    c.strokeStyle = colors.accent;
    if (document.activeElement === track && rows.length) {
      c.lineWidth = 1.5;
      c.strokeRect(1, chosen * high + 1, width - 2, high - 4);
    }
    const now = at(player.time);
    if (now) {
      c.fillStyle = colors.accent;
      c.globalAlpha = 0.13;
      c.fillRect(x(now.left), 0, Math.max(1, x(now.right) - x(now.left)), rows.length * high);
      c.globalAlpha = 1;
    }
    for (const mark of marks) drawMark(c, mark);
    if (hover) {
      c.fillStyle = colors.muted;
      c.fillRect(Math.round(hover.x), 0, 1, rows.length * high);
    }
    if (player.time < part.from() || player.time > part.to()) return;
    const px = Math.round(x(player.time));
    c.fillStyle = colors.ink;
    c.fillRect(px - 1, 0, 2, rows.length * high + 5);
    c.beginPath();
    c.moveTo(px - 6, height - AXIS + 12);
    c.lineTo(px + 6, height - AXIS + 12);
    c.lineTo(px, height - AXIS + 3);
    c.fill();
  }

  function drawMark(c, { row, time, label, isQuery }) {
    if (time < part.from() || time > part.to()) return;
    const [cx, cy] = [Math.max(8, Math.min(width - 8, x(time))), row * high + high / 2];
    c.fillStyle = isQuery ? colors.accent : colors.mark;
    c.beginPath();
    c.arc(cx, cy, 8, 0, 2 * Math.PI);
    c.fill();
    c.fillStyle = colors.raised;
    c.font = "600 10px system-ui, sans-serif";
    c.textAlign = "center";
    c.textBaseline = "middle";
    if (isQuery) drawShape(c, 3, cx, cy, 3);
    else c.fillText(label, cx, cy + 0.5);
  }

  function words(row, time) {
    const span = at(time);
    if (!span) return `${clock(time)}, no clip here`;
    const i = span.index;
    const reason = row.reason[i];
    const state = reason === 0 ? "valid" : `invalid: ${data.reasons?.[reason] || `reason ${reason}`}`;
    const alike = row.similarity[i] === null ? "" : `, similarity ${row.similarity[i].toFixed(3)}`;
    return `${row.stream}, ${clock(time)}, clip ${data.clip[i]} (${clock(data.start_time[i])} to ${clock(data.end_time[i])}), ${state}${alike}`;
  }

  let valued = "";
  function value() {
    track.setAttribute("aria-valuemax", player.duration.toFixed(2));
    track.setAttribute("aria-valuenow", player.time.toFixed(2));
    // A screen reader is not to be talked at while it plays.
    if (player.playing && valued) return;
    valued = rows.length ? words(rows[chosen], player.time) : clock(player.time);
    track.setAttribute("aria-valuetext", valued);
  }

  const rowAt = (py) => Math.max(0, Math.min(rows.length - 1, Math.floor(py / high)));
  const local = (event) => {
    const box = track.getBoundingClientRect();
    return { px: event.clientX - box.left, py: event.clientY - box.top };
  };
  let drag = null;
  const on = (target, name, callback) => target.addEventListener(name, callback, { signal });
  on(track, "pointerdown", (event) => {
    if (event.button) return;
    const { px, py } = local(event);
    track.setPointerCapture(event.pointerId);
    drag = { from: px, moved: false, row: py < rows.length * high ? rowAt(py) : null };
    if (drag.row !== null) chosen = drag.row;
    player.seek(timeAt(px));
  });
  on(track, "pointermove", (event) => {
    const { px, py } = local(event);
    if (drag && (drag.moved ||= Math.abs(px - drag.from) > 4)) player.seek(timeAt(px));
    show(px, py);
  });
  on(track, "pointerup", (event) => {
    if (drag && !drag.moved && drag.row !== null && rows.length) onPick(rows[drag.row].stream, timeAt(local(event).px));
    drag = null;
  });
  on(track, "pointercancel", () => (drag = null));
  on(track, "pointerleave", () => show(null));
  track.addEventListener("wheel", (event) => part.wheel(event, local(event).px, width), { signal, passive: false });
  on(track, "focus", drawTop);
  on(track, "blur", drawTop);
  on(track, "keydown", (event) => {
    if (!rows.length || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowUp") chosen = Math.max(0, chosen - 1);
    else if (event.key === "ArrowDown") chosen = Math.min(rows.length - 1, chosen + 1);
    else if (event.key === "Enter") onPick(rows[chosen].stream, player.time);
    else if (part.key(event)) return event.preventDefault();
    else return;
    event.preventDefault();
    value();
    announce(words(rows[chosen], player.time));
    drawTop();
  });

  function show(px, py) {
    hover = px === null || !rows.length ? null : { x: px };
    tip.hidden = !hover || py > rows.length * high;
    if (!tip.hidden) {
      tip.textContent = words(rows[rowAt(py)], timeAt(px));
      tip.classList.toggle("left", px > width / 2);
      tip.style.setProperty("--x", `${px}px`);
      tip.style.setProperty("--y", `${rowAt(py) * high}px`);
    }
    drawTop();
  }

  player.addEventListener("tick", () => {
    drawTop();
    value();
  });
  player.addEventListener("state", value);
  player.addEventListener("camera", drawBase);
  onResize(track, drawBase, signal);
  onTheme(drawBase, signal);
  value();
  return {
    element,
    clipAt: (time) => {
      const span = at(time);
      return span ? data.clip[span.index] : null;
    },
    chosenStream: () => rows[chosen]?.stream,
    choose: (stream) => {
      chosen = Math.max(0, rows.findIndex((row) => row.stream === stream));
      drawTop();
    },
    setMarks: (found) => {
      marks = found.map((mark) => ({ ...mark, row: rows.findIndex((row) => row.stream === mark.stream) })).filter((mark) => mark.row >= 0);
      drawTop();
    },
  };
}

// One scale for all rows: from the tenth below the least similarity to 1.
function limits(rows) {
  let low = 1;
  for (const row of rows) for (const value of row.similarity) if (value !== null && value < low) low = value;
  return { low: Math.min(0.9, Math.floor(low * 10) / 10), high: 1 };
}
