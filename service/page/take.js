// A take: its cameras in step, its timeline, nearest moments, map and synchronisation.

import { followJob, getJson, hasEnded, madeJustNow, pause, postJson } from "./api.js";
import { lanesPanel } from "./lanes.js";
import { cameraWall } from "./cameras.js";
import { announce, count, duration, h, notice, storeNames } from "./dom.js";
import { progressBar } from "./jobs.js";
import { clipMap } from "./map.js";
import { momentsPanel } from "./moments.js";
import { pairsPanel } from "./pairs.js";
import { Player } from "./player.js";
import { syncPanel } from "./syncs.js";
import { timeline } from "./timeline.js";
import { transport } from "./transport.js";
import { failure } from "./trouble.js";
import { usesPanel } from "./uses.js";

/** The page of one take; `?encoder=` chooses a store, `?t=` a moment. */
export async function takePage(place, { parameter, query, signal }) {
  const path = `v1/takes/${encodeURIComponent(parameter)}`;
  place.append(h("p", { class: "hint" }, "Loading the take…"));
  const [take, offered] = await Promise.all([readTake(path, signal), getJson("v1/encoders", {}, signal)]);
  if (signal.aborted) return;
  document.title = `${take.take_name} · takestream`;
  const streams = [...take.streams].sort((a, b) => Number(b.is_ego) - Number(a.is_ego));
  const wanted = query.get("encoder");
  const store = take.stores.find((s) => s.encoder_id === wanted) || take.stores.find((s) => s.status === "complete") || take.stores[0];
  place.replaceChildren(headline(take, store));
  if (wanted && store && store.encoder_id !== wanted) place.append(h("p", { class: "hint gap" }, `There are no features of ${wanted}; these are others.`));

  const player = new Player(streams, { duration: take.duration_sec, fps: 30, signal });
  const left = h("div", { class: "stage" });
  const right = h("div", { class: "aside" });
  place.append(h("div", { class: "take" }, left, right));
  // For tests and for the curious: how far apart the cameras are.
  place.player = player;

  let [lines, moments, wall] = [null, null, null];
  const clipAt = (time) => (lines ? lines.clipAt(time) : null);
  if (streams.length) {
    const freshUrl = async (key) => (await getJson(path, {}, signal)).streams.find((s) => s.key === key)?.video;
    wall = cameraWall(player, { videos: take.videos !== false, freshUrl, signal });
    const keysOf = { 0: () => wall.all(), f: () => moments && moments.find(lines.chosenStream(), player.time) };
    for (let n = 1; n <= 9; n++) keysOf[n] = () => wall.enlarge(n - 1);
    left.append(wall.element, transport(player, { clipAt, keysOf, signal }));
  } else {
    left.append(notice("No cameras", "The data set lists no stream for this take."));
  }
  const moment = Number(query.get("t"));
  if (moment > 0) player.addEventListener("camera", () => player.seek(moment), { once: true });
  keepMoment(player, signal);

  // The cameras are there while the features are read.
  const features = store ? await readTimeline(path, store, left, signal) : null;
  if (signal.aborted) return;
  if (features?.streams) {
    const names = features.streams.map((row) => row.stream);
    const cameras = new Map(take.streams.map((stream) => [stream.key, stream]));
    player.fps = features.fps || player.fps;
    lines = timeline(features, player, { onPick: (stream, time) => moments.find(stream, time), signal });
    const joint = offered.encoders.find((e) => e.name === store.encoder)?.joint;
    moments = momentsPanel({ take: take.take_uid, encoder: store.encoder_id, joint, streams: names, cameras, player, onFound: lines.setMarks, signal });
    left.append(panel("Timeline", lines.element), syncPanel(features.streams, player.fps));
    if (names.length > 1) left.append(pairsPanel(path, store, player, signal));
    const map = h("div", { class: "hint" }, "Drawing the map…");
    right.append(moments.element, panel("Map of clips", map));
    getJson(`${path}/projection`, { encoder: store.encoder_id }, signal).then(
      (found) => map.replaceWith(clipMap(found, names, player, { cameras, clipAt, signal })),
      (error) => signal.aborted || map.replaceWith(failure(error)),
    );
    getJson(`${path}/annotations`, {}, signal).then(
      (said) => said.lanes.length && !signal.aborted && lines.element.closest("section").after(lanesPanel(said, player, { signal })),
      () => {},
    );
    player.dispatchEvent(new Event("state"));
  } else {
    if (streams.length) wall.element.after(seekBar(player));
    if (features) left.append(features);
  }
  if (store) right.append(usesPanel(take, store, () => ({ stream: lines?.chosenStream(), time: player.time })));
  right.append(factsPanel(take), licencePanel(take, store), extractPanel(take, offered.encoders, Boolean(store), signal));
  wall?.layout();
}

// The moment that the cameras stand at is in the address, so that a copy of it leads there.
function keepMoment(player, signal) {
  const keep = () => {
    if (signal.aborted || player.playing || !player.time) return;
    const [path, text = ""] = location.hash.split("?");
    const query = new URLSearchParams(text);
    query.set("t", player.time.toFixed(2));
    history.replaceState(null, "", `${path}?${query}`);
  };
  let timer = null;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(keep, 300);
  };
  for (const name of ["tick", "state"]) player.addEventListener(name, later);
  signal.addEventListener("abort", () => clearTimeout(timer));
}

// The service's list of stores may be some seconds old: what a job has just made is waited for.
async function readTake(path, signal) {
  for (;;) {
    const take = await getJson(path, {}, signal);
    const made = madeJustNow(take.take_uid);
    if (!made || take.stores.some((store) => store.encoder_id === made)) return take;
    await pause(1000, signal);
  }
}

// The timeline of a take that has no clips yet.
function seekBar(player) {
  const bar = h("input", { type: "range", class: "seek", min: 0, step: 0.001, "aria-label": "Time", oninput: () => player.seek(Number(bar.value)) });
  const draw = () => {
    bar.max = player.duration;
    bar.value = player.time;
    bar.setAttribute("aria-valuetext", `${duration(player.time)} of ${duration(player.duration)}`);
  };
  for (const name of ["tick", "camera"]) player.addEventListener(name, draw);
  draw();
  return bar;
}

function headline(take, store) {
  const facts = [take.task_name, take.university_name, duration(take.duration_sec), count(take.streams.length, "stream")];
  const words = storeNames(take.stores);
  const describe = (s, n) => `${words[n]} (${s.status}, ${count(s.clips, "clip")})`;
  const select = h(
    "select",
    { id: "encoder", title: store?.encoder_id, onchange: () => (location.hash = `#/takes/${encodeURIComponent(take.take_uid)}?${new URLSearchParams({ encoder: select.value })}`) },
    take.stores.map((s, n) => h("option", { value: s.encoder_id, title: s.encoder_id, selected: s === store }, describe(s, n))),
  );
  const done = store ? store.clips * store.streams.length : 0;
  const partial = store?.status === "partial" ? h("span", { class: "hint" }, `${store.clips_done} of ${done} clips written so far`) : null;
  return h(
    "div",
    { class: "headline" },
    h(
      "div",
      { class: "grow" },
      h("h1", { class: "clamp", title: take.take_name }, h("a", { class: "crumb", href: "#/" }, "Takes"), " ", take.take_name),
      h("div", { class: "facts" }, h("p", { class: "clamp", title: take.task_name }, facts.filter(Boolean).join(" · ")), h("p", { class: "uid mono" }, take.take_uid)),
    ),
    store ? h("div", { class: "field inline" }, h("label", { for: "encoder" }, "Features of"), select, partial) : null,
  );
}

const panel = (title, ...children) => h("section", { class: "panel", "aria-label": title }, h("h2", {}, title), children);

// Of the videos as they are shown, and of the encoder whose features are.
function licencePanel(take, store) {
  const named = (one) => (one?.url ? h("a", { href: one.url, target: "_blank", rel: "noopener noreferrer" }, one.name) : one?.name || "not said");
  const encoder = store ? [h("dt", {}, "Encoder"), h("dd", {}, named(store.encoder_licence))] : [];
  return panel("Licences", h("dl", { class: "said" }, h("dt", {}, "Videos"), h("dd", {}, named(take.dataset_licence)), encoder));
}

// What the data set says of the take: what is not said is left out.
function factsPanel(take) {
  const task = take.task_start_sec == null || take.task_end_sec == null ? null : `${duration(take.task_start_sec)} to ${duration(take.task_end_sec)}`;
  const worn = Object.entries(take.cameras || {}).map(([name, camera]) => `${name}${camera.device_type ? ` (${camera.device_type})` : ""}`);
  const said = [
    ["Scenario", take.parent_task_name], ["Task done", task], ["Split", take.split], ["Benchmarks", (take.benchmarks || []).join(", ")],
    ["Participant", take.participant_uid], ["Place", take.physical_setting_uid], ["Capture", take.capture_name], ["Best exo camera", take.best_exo], ["Cameras", worn.join(", ")],
  ].filter(([, words]) => words);
  const notes = (take.notes || []).map((words) => h("p", { class: "hint" }, words));
  return panel("What the data set says", ...notes, h("dl", { class: "said" }, said.flatMap(([name, words]) => [h("dt", {}, name), h("dd", {}, words)])));
}

// The timeline's data, or the notice that says why there is none.
async function readTimeline(path, store, place, signal) {
  const wait = h("p", { class: "hint" }, "Reading the features…");
  place.append(wait);
  try {
    return await getJson(`${path}/timeline`, { encoder: store.encoder_id }, signal);
  } catch (error) {
    return failure(error);
  } finally {
    wait.remove();
  }
}

// Extraction of this take as a job, with its progress in place.
function extractPanel(take, encoders, hasStore, signal) {
  const select = h("select", { id: "extract-encoder" }, encoders.map((e) => h("option", { value: e.name, selected: e.default }, e.name)));
  const [bar, link, then, state] = [h("div", { class: "grow" }), h("a"), h("div", { class: "then" }), h("div", { class: "job-state" })];
  const button = h("button", { type: "button", class: hasStore ? "" : "primary", disabled: !take.streams.length || !encoders.length, onclick: start }, "Extract this take");
  const [title, hint] = [h("h2", { id: "extract-title" }, hasStore ? "Extract more" : "Not extracted yet"), h("p", { class: "hint" })];
  let said = "";

  async function start() {
    button.disabled = true;
    state.replaceChildren("Asking for the job…");
    try {
      follow(await postJson("v1/jobs", { encoder: select.value, select: { uids: [take.take_uid] } }, signal, { once: true }));
    } catch (error) {
      if (!signal.aborted) state.replaceChildren(failure(error));
      button.disabled = false;
    }
  }

  function follow(job) {
    button.disabled = true;
    link.setAttribute("href", `#/jobs/${encodeURIComponent(job.job_id)}`);
    link.textContent = `Job ${job.job_id}`;
    said = "";
    then.replaceChildren();
    state.replaceChildren(bar, link, then);
    show(job);
    if (!hasEnded(job)) followJob(job.job_id, signal, show, lost);
  }

  function lost(now, more) {
    if (now !== "live") then.replaceChildren(h("p", { class: "hint" }, now === "gone" ? more.message : "The connection was lost; trying again…"));
    else if (said === "running" || said === "queued") then.replaceChildren();
    if (now === "gone") button.disabled = false;
  }

  function show(job) {
    bar.replaceChildren(progressBar(job));
    if (said !== job.status) announce(`Job ${job.status}`);
    if (said === job.status || !hasEnded(job)) return void (said = job.status);
    said = job.status;
    button.disabled = false;
    const why = job.error || job.failures?.[0]?.reason;
    then.replaceChildren(job.status === "failed" && why ? h("p", { class: "why" }, why) : "");
    if (job.status === "succeeded") {
      title.textContent = "Extracted";
      hint.textContent = `The features of ${job.encoder_id || "this encoder"} are stored.`;
    }
    const p = job.progress;
    if (job.status !== "succeeded" && !(p && p.clips_done + p.clips_skipped > 0)) return;
    const query = job.encoder_id ? `?${new URLSearchParams({ encoder: job.encoder_id })}` : "";
    const target = `#/takes/${encodeURIComponent(take.take_uid)}${query}`;
    const open = () => (location.hash === target ? window.dispatchEvent(new Event("hashchange")) : (location.hash = target));
    then.append(h("button", { type: "button", class: "primary", onclick: open }, "Show the features"));
  }

  // A job of this take that is under way already, whoever began it.
  getJson("v1/jobs", { limit: 100 }, signal).then(({ jobs }) => {
    const mine = jobs.find((job) => !hasEnded(job) && job.spec?.select?.uids?.includes(take.take_uid));
    if (mine && !said && !button.disabled) follow(mine);
  }, () => {});

  const words = !take.streams.length ? "The data set lists no stream for this take, so there is nothing to extract." : hasStore ? "With another encoder, or what is missing: clips that are there already are not computed again." : "No features of this take are stored yet. Extracting makes a timeline, a map and the search for moments.";
  hint.textContent = words;
  return h(
    "section",
    { class: "panel extract", "aria-labelledby": "extract-title" },
    title,
    hint,
    h("div", { class: "row" }, h("div", { class: "field grow" }, h("label", { for: "extract-encoder" }, "Encoder"), select), button),
    state,
  );
}
