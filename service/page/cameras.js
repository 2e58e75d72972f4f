// The cameras' tiles: a grid that uses the room there is, one camera large on demand.

import { pause, request, whenBack } from "./api.js";
import { h, onResize } from "./dom.js";

const GAP = 6;
const RETRIES = 2;

/** Builds the tiles of a player's cameras; `freshUrl(key)` gives a new address for a video. */
export function cameraWall(player, { videos, freshUrl, signal }) {
  const wall = h("div", { class: "wall", role: "group", "aria-label": "Cameras" });
  const tiles = new Map(player.cameras.map((camera, index) => [camera, tile(camera, index)]));
  let large = null;
  wall.append(...[...tiles.values()].map((one) => one.figure));

  function tile(camera, index) {
    const state = h("span", { class: "tile-state" });
    const why = h("div", { class: "tile-why" });
    const face = h("button", { type: "button", class: "tile-face", "aria-pressed": "false", onclick: () => enlarge(camera) }, h("span", { class: "unseen" }, `Enlarge ${camera.key}`));
    const name = h("span", { class: "tile-name", title: camera.key }, h("span", { class: "tile-number" }, String(index + 1)), " ", camera.key, camera.isEgo ? [" ", h("span", { class: "ego" }, "ego")] : null);
    const figure = h("figure", { class: "tile" }, camera.video, why, face, h("figcaption", {}, name, state));
    camera.video.setAttribute("aria-label", camera.key);
    return { figure, state, why, face };
  }

  function enlarge(camera) {
    large = large === camera ? null : camera;
    for (const [each, { face }] of tiles) face.setAttribute("aria-pressed", String(each === large));
    layout();
  }

  function layout() {
    const width = wall.clientWidth;
    if (!width) return;
    // Seven cameras, transport and timeline on a laptop's screen, without scrolling.
    const height = Math.max(220, Math.min(window.innerHeight * (width < 700 ? 0.5 : 0.47), 640));
    const order = [...tiles.keys()];
    const rest = order.filter((camera) => camera !== large);
    if (large) {
      const strip = rest.length ? Math.min(height * 0.24, fit(rest, width)) : 0;
      const big = Math.min(height - strip - GAP, width / large.aspect);
      row([large], big, 0, width);
      row(rest, strip, big + GAP, width);
      wall.style.setProperty("--h", `${Math.ceil(big + (rest.length ? GAP + strip : 0))}px`);
      return;
    }
    const { each, rows } = evenRows(order, width, height);
    rows.forEach((cameras, n) => row(cameras, each, n * (each + GAP), width));
    wall.style.setProperty("--h", `${Math.ceil(rows.length * (each + GAP) - GAP)}px`);
  }

  // Tiles are moved by style alone: a video that changes its place in the document stops.
  function row(cameras, height, y, width) {
    let x = (width - cameras.reduce((sum, c) => sum + c.aspect * height + GAP, -GAP)) / 2;
    for (const camera of cameras) {
      const { figure } = tiles.get(camera);
      const box = { "--x": x, "--y": y, "--w": camera.aspect * height, "--h": height };
      for (const [name, value] of Object.entries(box)) figure.style.setProperty(name, `${Math.round(value)}px`);
      figure.classList.toggle("small", height < 110 || camera.aspect * height < 150);
      figure.classList.toggle("tiny", height < 64);
      x += camera.aspect * height + GAP;
    }
  }

  function describe(camera) {
    const { state, why, figure } = tiles.get(camera);
    // A file's sound may outlast its pictures by one AAC frame, 21 ms: a silent camera is not shorter for that.
    const over = camera.state === "ready" && player.time >= camera.duration - 1.5 / player.fps && camera.duration < player.duration - 0.8 / player.fps;
    const words = {
      none: videos ? "no video" : "videos are off",
      broken: "cannot be shown",
      loading: "loading",
      slow: "too slow, left behind",
      ready: over ? `ended at ${camera.duration.toFixed(2)} s` : player.waitingFor.includes(camera.key) ? "all wait for it" : "",
    }[camera.state];
    if (state.textContent !== words) state.textContent = words;
    figure.classList.toggle("over", over);
    figure.classList.toggle("dead", camera.state === "none" || camera.state === "broken");
    if (camera.state === "none" && !why.hasChildNodes()) why.append(videos ? "The data set has no video of this stream." : "Videos are switched off at this service.");
    if (camera.state === "ready" || camera.state === "loading") why.replaceChildren();
  }

  async function explain(camera) {
    const { why } = tiles.get(camera);
    const retry = async () => player.retry(camera, await freshUrl(camera.key));
    const again = h("button", { type: "button", onclick: retry }, "Try again");
    why.replaceChildren("The video cannot be shown.");
    let words = "This browser cannot play the video: its codec is unknown here, or the file is damaged.";
    try {
      const answer = await request(camera.url, { accept: "video/mp4", method: "HEAD", signal });
      if (Number(answer.headers.get("Content-Length")) === 0) words = "The video is empty.";
      else if ((camera.retries = (camera.retries || 0) + 1) <= RETRIES) {
        // It is there: what failed was perhaps a moment of the service's, or the address had aged.
        await pause(1000, signal);
        return void (await retry());
      }
    } catch (error) {
      if (signal.aborted) return;
      // A HEAD has no body to explain itself with.
      words = error.status === 404 ? "The storage has no such video." : error.message;
      if (error.status === 0) whenBack(() => again.isConnected && !signal.aborted, retry);
    }
    why.replaceChildren(words, again);
  }

  const describeAll = () => player.cameras.forEach(describe);
  player.addEventListener("camera", ({ detail }) => {
    describe(detail);
    if (detail.state === "broken") explain(detail);
    layout();
  });
  player.addEventListener("tick", describeAll);
  player.addEventListener("state", describeAll);
  onResize(wall, layout, signal);
  window.addEventListener("resize", layout, { signal });
  describeAll();
  return { element: wall, layout, enlarge: (index) => player.cameras[index] && enlarge(player.cameras[index]), all: () => large && enlarge(large) };
}

const fit = (cameras, width) => (width - GAP * (cameras.length - 1)) / cameras.reduce((sum, c) => sum + c.aspect, 0);

// Equally high rows, as high as they can be: cameras keep their order, rows are filled evenly.
function evenRows(cameras, width, height) {
  let best = { each: 0, rows: [] };
  const split = splitter(cameras);
  for (let count = 1; count <= cameras.length; count++) {
    const { rows } = split(0, count);
    const each = Math.min((height - GAP * (count - 1)) / count, ...rows.map((row) => fit(row, width)));
    if (each > best.each) best = { each, rows };
  }
  return best;
}

// split(start, count): the cameras from `start` on in `count` runs whose widest is the narrowest.
// Each part is found once: without that, thirty cameras would take longer than anybody waits.
function splitter(cameras) {
  const found = new Map();
  const split = (start, count) => {
    const name = `${start}/${count}`;
    if (!found.has(name)) found.set(name, search(start, count));
    return found.get(name);
  };
  function search(start, count) {
    let best = { rows: [cameras.slice(start)], widest: count > 1 ? Infinity : wide(start, cameras.length) };
    if (count <= 1) return best;
    for (let end = start + 1; end <= cameras.length - count + 1; end++) {
      const rest = split(end, count - 1);
      const widest = Math.max(wide(start, end), rest.widest);
      if (widest < best.widest) best = { rows: [cameras.slice(start, end), ...rest.rows], widest };
    }
    return best;
  }
  const wide = (start, end) => cameras.slice(start, end).reduce((sum, c) => sum + c.aspect, 0);
  return split;
}
