// Jobs: the list, one job, live progress.

import { followJob, getJson, hasEnded, postJson, request } from "./api.js";
import { announce, confirmed, count, duration, h, notice, when } from "./dom.js";
import { failure } from "./trouble.js";

const REFRESH = 5000;
// A browser keeps six connections to a server at most, and the page needs some for itself.
const FOLLOWED = 2;
const LEARNED = 40;
const FAILURES = 200;
const SYMBOLS = { queued: "◌", running: "▶", stopping: "◼", succeeded: "✓", failed: "✕", stopped: "◼" };

/** A job's status, by symbol and word. */
const statusChip = (job) => h("span", { class: `status ${SYMBOLS[job.status] ? job.status : ""}` }, h("span", { "aria-hidden": "true" }, SYMBOLS[job.status] || "·"), ` ${job.status}`);

// How fast a job goes lately, and what is left of it.
const pace = (p) => (p.clips_per_s ? `, ${p.clips_per_s.toFixed(1)} clips/s` : "") + (p.seconds_left === undefined ? "" : `, about ${duration(p.seconds_left)} left`);

/** A bar with words: how far the clips are. */
export function progressBar(job) {
  const p = job.progress;
  // As the terminal and the client have it; services before this one sent sums alone.
  const reached = p ? (p.clips_reached ?? p.clips_done + p.clips_skipped) : 0;
  const asked = p ? (p.clips_asked ?? p.clips) : 0;
  const about = p && p.takes_prepared < p.takes ? "about " : "";
  const share = asked ? Math.min(1, reached / asked) : job.status === "succeeded" ? 1 : 0;
  const words = !p ? { queued: "waiting for its turn", running: "starting" }[job.status] || "" : `${reached} of ${about}${count(asked, "clip")}, ${p.takes_done} of ${count(p.takes, "take")}${p.clips_failed ? `, ${p.clips_failed} failed` : ""}${job.status === "running" ? pace(p) : ""}`;
  return h("div", { class: "progress" }, statusChip(job), h("progress", { max: 1, value: share, "aria-label": "Clips done" }), h("span", { class: "hint" }, words));
}

// What takes are called: jobs know them by their uid.
const names = new Map();

async function learnNames(jobs, signal) {
  const uids = new Set(jobs.flatMap((job) => job.spec?.select?.uids || []));
  const unknown = [...uids].filter((uid) => !names.has(uid)).slice(0, LEARNED);
  for (const uid of unknown) {
    // Noted once it is answered: a page that is left before asks for it anew when it comes back.
    const { takes } = await getJson("v1/takes", { q: uid, limit: 1 }, signal);
    names.set(uid, (takes[0]?.take_uid === uid && takes[0].take_name) || uid);
  }
  return unknown.length > 0;
}

function chosen(job) {
  const parts = Object.values(job.spec?.select || {}).flatMap((value) => (Array.isArray(value) ? value : []));
  return parts.length ? parts.map((part) => names.get(part) || part).join(", ") : "all takes";
}

// The same, with a way to each take where they are few.
function chosenLinks(job) {
  const uids = job.spec?.select?.uids || [];
  if (!uids.length || uids.length > 12) return chosen(job);
  const encoder = job.encoder_id ? `?${new URLSearchParams({ encoder: job.encoder_id })}` : "";
  return uids.flatMap((uid, n) => [n ? ", " : "", h("a", { href: `#/takes/${encodeURIComponent(uid)}${encoder}` }, names.get(uid) || uid)]);
}

const encoderOf = (job) => {
  const chosen = [job.spec?.encoders ?? job.spec?.encoder ?? []].flat();
  const names = job.encoder_ids?.length ? job.encoder_ids : chosen.map((one) => one.preset ?? one);
  return names.join(", ") || "–";
};

/** The list of jobs. */
export async function jobsPage(place, { signal }) {
  const list = h("div", { class: "list", "aria-busy": "true" });
  const trouble = h("div", { class: "trouble" });
  place.append(h("div", { class: "headline" }, h("h1", {}, "Jobs")), trouble, list);
  const rows = new Map();
  const followed = new Set();

  async function load() {
    try {
      const { jobs } = await getJson("v1/jobs", { limit: 100 }, signal);
      trouble.replaceChildren();
      draw(jobs);
      learnNames(jobs, signal).then((learned) => learned && jobs.forEach(nameTakes), () => {});
    } catch (error) {
      if (signal.aborted) return;
      // What was known stays to be read.
      trouble.replaceChildren(failure(error, load));
    }
    list.setAttribute("aria-busy", "false");
  }

  function draw(jobs) {
    if (!jobs.length) {
      const more = h("p", {}, "Open a take and extract it, or run ", h("code", {}, "takestream submit"), ".");
      list.replaceChildren(notice("No jobs yet", "Nothing has been extracted through this service.", more));
      return;
    }
    // Rows that stay are kept, so that focus and selection do too.
    const known = jobs.every((job) => rows.has(job.job_id)) && list.querySelector("table");
    const focused = document.activeElement?.closest(".jobs a")?.getAttribute("href");
    if (!known) {
      rows.clear();
      for (const job of jobs) rows.set(job.job_id, h("tr"));
      const heads = ["Job", "Takes", "Encoder", "Progress", "Submitted"];
      list.replaceChildren(h("table", { class: "jobs" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, ...rows.values())));
    }
    for (const job of jobs) fill(job);
    if (!known && focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    for (const job of jobs.filter((one) => !hasEnded(one))) {
      if (followed.size >= FOLLOWED || followed.has(job.job_id)) continue;
      followed.add(job.job_id);
      followJob(job.job_id, signal, fill).then(() => followed.delete(job.job_id));
    }
  }

  function fill(job) {
    const row = rows.get(job.job_id);
    const text = JSON.stringify(job);
    if (!row || row.known === text) return;
    row.known = text;
    // The link stays the same element: somebody may be about to click it, or have it in focus.
    if (!row.firstChild) row.append(h("th", { scope: "row" }, h("a", { href: `#/jobs/${encodeURIComponent(job.job_id)}`, class: "open mono" }, job.job_id)));
    const cell = (label, ...children) => h("td", { "data-label": label }, children);
    row.takes = h("span", { class: "clamp" });
    while (row.children.length > 1) row.lastChild.remove();
    row.append(
      cell("Takes", row.takes),
      cell("Encoder", h("span", { class: "clamp", title: encoderOf(job) }, encoderOf(job))),
      cell("Progress", progressBar(job)),
      cell("Submitted", when(job.submitted_at), job.submitted_by ? h("span", { class: "sub" }, `by ${job.submitted_by}`) : null),
    );
    nameTakes(job);
  }

  function nameTakes(job) {
    const { takes } = rows.get(job.job_id) || {};
    if (takes) takes.textContent = takes.title = chosen(job);
  }

  await load();
  const timer = setInterval(() => !document.hidden && !trouble.hasChildNodes() && load(), REFRESH);
  signal.addEventListener("abort", () => clearInterval(timer));
}

/** One job. */
export async function jobPage(place, { parameter, signal }) {
  const path = `v1/jobs/${encodeURIComponent(parameter)}`;
  const [facts, failures, live] = [h("dl", { class: "facts-list" }), h("div"), h("span", { class: "hint", role: "status" })];
  const [progress, problem, refused] = [h("div"), h("div"), h("div")];
  const log = h("pre", { class: "log", tabIndex: 0, role: "group", "aria-label": "Log" });
  const stop = h("button", { type: "button", class: "danger", hidden: true, onclick: ask }, "Stop this job");
  const again = h("button", { type: "button", hidden: true, title: "What is there already is not computed again", onclick: repeat }, "Run again");
  const first = await getJson(path, {}, signal);
  document.title = `Job ${first.job_id} · takestream`;
  place.append(
    h("div", { class: "headline" }, h("div", { class: "grow" }, h("h1", {}, h("a", { class: "crumb", href: "#/jobs" }, "Jobs"), " ", h("span", { class: "mono" }, first.job_id)), live), again, stop),
    h("section", { class: "panel", "aria-label": "Progress" }, progress, refused, problem, facts),
    failures,
    h("section", { class: "panel spaced", "aria-labelledby": "log-title" }, h("h2", { id: "log-title" }, "Log"), log),
  );

  async function ask() {
    const words = "It stops at its next batch. What it has written stays, and the same job again goes on from there.";
    if (!(await confirmed("Stop this job?", words, "Stop it"))) return;
    stop.disabled = true;
    try {
      draw(await (await request(path, { method: "DELETE", signal })).json());
      document.getElementById("main").focus({ preventScroll: true });
    } catch (error) {
      if (signal.aborted) return;
      // It ended while the question was asked: that is all that there is to say.
      if (error.status === 409) await getJson(path, {}, signal).then(draw, () => {});
      else refused.replaceChildren(failure(error));
    } finally {
      stop.disabled = false;
    }
  }

  async function repeat() {
    again.disabled = true;
    try {
      const job = await postJson("v1/jobs", sameJob(first), signal, { once: true });
      location.hash = `#/jobs/${encodeURIComponent(job.job_id)}`;
    } catch (error) {
      if (!signal.aborted) refused.replaceChildren(failure(error));
      again.disabled = false;
    }
  }

  // Only what is new is put into the page: focus and selection stay.
  const known = new Map();
  function update(element, value, make = () => value) {
    const text = JSON.stringify(value);
    if (known.get(element) === text) return;
    known.set(element, text);
    element.replaceChildren(...[make()].flat());
  }
  const fields = new Map();
  function fact(name, value, make) {
    if (!fields.has(name)) {
      const dd = h("dd");
      fields.set(name, dd);
      facts.append(h("div", {}, h("dt", {}, name), dd));
    }
    const dd = fields.get(name);
    dd.parentElement.hidden = value === null || value === undefined || value === "";
    if (!dd.parentElement.hidden) update(dd, value, make);
  }

  let said = null;
  function draw(job) {
    const p = job.progress;
    stop.hidden = hasEnded(job) || job.status === "stopping";
    again.hidden = !hasEnded(job) || !sameJob(job);
    if (hasEnded(job)) live.textContent = "";
    if (job.status !== said && said) announce(`The job ${job.status === "running" ? "is running" : `is now ${job.status}`}`);
    said = job.status;
    if (hasEnded(job)) refused.replaceChildren();
    progress.replaceChildren(progressBar(job));
    update(problem, job.error || null, () => (job.error ? failure({ title: "The job failed", message: job.error }) : []));
    fact("Takes", chosen(job), () => chosenLinks(job));
    fact("Encoder", encoderOf(job));
    fact("Submitted", `${when(job.submitted_at)}${job.submitted_by ? ` by ${job.submitted_by}` : ""}`);
    fact("Started", job.started_at && when(job.started_at));
    fact("Finished", job.finished_at && when(job.finished_at));
    fact("Running time", p && duration(p.seconds));
    fact("Clips", p && `${p.clips_done} computed, ${p.clips_skipped} there before, ${p.clips_invalid} invalid, ${p.clips_failed} failed`);
    fact("Units", p && `${p.units_done} of ${p.units} done, ${p.units_failed} failed`);
    fact("Output", job.spec?.output);
    fact("Report", job.report, () => h("button", { type: "button", class: "quiet", onclick: saveReport }, "Save the report of the run"));
    update(failures, job.failures || [], () => failureTable(job.failures || []));
  }

  // Asked for with the key of the page, which a link would not carry.
  async function saveReport() {
    try {
      const page = await (await request(`${path}/report`, { accept: "text/html", signal })).blob();
      const there = URL.createObjectURL(page);
      h("a", { href: there, download: `report-${parameter}.html` }).click();
      setTimeout(() => URL.revokeObjectURL(there), REFRESH);
    } catch (error) {
      if (!signal.aborted) refused.replaceChildren(failure(error));
    }
  }

  async function readLog() {
    try {
      const text = await (await request(`${path}/logs`, { accept: "text/plain", signal })).text();
      const below = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
      log.textContent = text || "Nothing yet.";
      if (below) log.scrollTop = log.scrollHeight;
    } catch (error) {
      if (!signal.aborted) log.textContent = error.message;
    }
  }

  draw(first);
  readLog();
  learnNames([first], signal).then(() => fact("Takes", chosen(first), () => chosenLinks(first)), () => {});
  if (hasEnded(first)) return;
  const timer = setInterval(() => !document.hidden && readLog(), REFRESH);
  signal.addEventListener("abort", () => clearInterval(timer));
  const states = { live: () => "live", lost: (wait) => `the connection was lost; again in ${wait} s`, gone: (error) => error.message };
  followJob(parameter, signal, draw, (state, more) => (live.textContent = states[state](more))).then(() => {
    clearInterval(timer);
    if (!signal.aborted) readLog();
  });
}

// All that a new job must be asked for to be the same one; null for a record that does not say it.
function sameJob({ spec }) {
  if (!spec?.encoders?.length) return null;
  const { encoders, select, grid, segments, timeline, sync, rotate, store, strict } = spec;
  const body = { encoders, select, grid, segments, timeline, sync, rotate, store, strict };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null && value !== undefined));
}

function failureTable(rows) {
  if (!rows.length) return [];
  const row = (one) => h("tr", {}, h("th", { scope: "row" }, one.take), h("td", {}, one.stream || "all"), h("td", {}, one.reason));
  const head = h("thead", {}, h("tr", {}, ["Take", "Stream", "Why"].map((name) => h("th", { scope: "col" }, name))));
  const more = rows.length > FAILURES ? h("p", { class: "hint" }, `and ${(rows.length - FAILURES).toLocaleString("en")} more`) : null;
  const table = h("table", { class: "dense" }, head, h("tbody", {}, rows.slice(0, FAILURES).map(row)));
  return h("section", { class: "panel spaced", "aria-labelledby": "failures-title" }, h("h2", { id: "failures-title" }, count(rows.length, "failure")), h("div", { class: "rows", tabIndex: 0, role: "group", "aria-label": "All failures" }, table), more);
}
