// Jobs: the list, one job, live progress.

import { followJob, getJson, hasEnded, request } from "./api.js";
import { confirmed, count, duration, failure, h, notice, when } from "./dom.js";

const REFRESH = 5000;
// A browser keeps six connections to a server at most, and the page needs some for itself.
const FOLLOWED = 2;
const SYMBOLS = { queued: "◌", running: "▶", stopping: "◼", succeeded: "✓", failed: "✕", stopped: "◼" };

/** A job's status, by symbol and word. */
const statusChip = (job) => h("span", { class: `status ${SYMBOLS[job.status] ? job.status : ""}` }, h("span", { "aria-hidden": "true" }, SYMBOLS[job.status] || "·"), ` ${job.status}`);

/** A bar with words: how far the clips are. */
export function progressBar(job) {
  const p = job.progress;
  const written = p ? p.clips_done + p.clips_skipped + p.clips_failed : 0;
  // Clips inside an unfinished unit are encoded but not written.
  const seen = p?.counts?.clips ? Math.max(written, p.clips_skipped + p.counts.clips) : written;
  const prepared = p && p.takes_prepared >= p.takes;
  const share = !p || !p.clips ? (job.status === "succeeded" ? 1 : 0) : Math.min(1, (seen / p.clips) * (p.takes ? Math.max(p.takes_prepared, 1) / p.takes : 1));
  const words = !p ? { queued: "waiting for its turn", running: "starting" }[job.status] || "" : `${Math.round(seen)} of ${prepared ? "" : "at least "}${count(p.clips, "clip")}, ${p.takes_done} of ${count(p.takes, "take")}${p.clips_failed ? `, ${p.clips_failed} failed` : ""}`;
  return h("div", { class: "progress" }, statusChip(job), h("progress", { max: 1, value: share, "aria-label": "Clips done" }), h("span", { class: "hint" }, words));
}

function chosen(job) {
  const parts = Object.values(job.spec?.select || {}).flatMap((value) => (Array.isArray(value) ? value : []));
  return parts.length ? parts.join(", ") : "all takes";
}

const encoderOf = (job) => job.encoder_id || job.spec?.encoder?.preset || job.spec?.encoder || "–";

/** The list of jobs. */
export async function jobsPage(place, { signal }) {
  const list = h("div", { class: "list", "aria-busy": "true" });
  place.append(h("div", { class: "headline" }, h("h1", {}, "Jobs")), list);
  const rows = new Map();
  const followed = new Set();

  async function load() {
    try {
      const { jobs } = await getJson("v1/jobs", { limit: 100 }, signal);
      draw(jobs);
    } catch (error) {
      if (signal.aborted) return;
      rows.clear();
      list.replaceChildren(failure(error, load));
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
    if (!known) {
      rows.clear();
      for (const job of jobs) rows.set(job.job_id, h("tr"));
      const heads = ["Job", "Takes", "Encoder", "Progress", "Submitted"];
      list.replaceChildren(h("table", { class: "jobs" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, ...rows.values())));
    }
    for (const job of jobs) fill(job);
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
    const focused = row.contains(document.activeElement);
    const link = h("a", { href: `#/jobs/${encodeURIComponent(job.job_id)}`, class: "open mono" }, job.job_id);
    const cell = (label, ...children) => h("td", { "data-label": label }, children);
    row.replaceChildren(
      h("th", { scope: "row" }, link),
      cell("Takes", h("span", { class: "clamp", title: chosen(job) }, chosen(job))),
      cell("Encoder", h("span", { class: "clamp", title: encoderOf(job) }, encoderOf(job))),
      cell("Progress", progressBar(job)),
      cell("Submitted", when(job.submitted_at), job.submitted_by ? h("span", { class: "sub" }, `by ${job.submitted_by}`) : null),
    );
    if (focused) link.focus();
  }

  await load();
  const timer = setInterval(() => !document.hidden && list.querySelector("table, .notice:not(.bad)") && load(), REFRESH);
  signal.addEventListener("abort", () => clearInterval(timer));
}

/** One job. */
export async function jobPage(place, { parameter, signal }) {
  const path = `v1/jobs/${encodeURIComponent(parameter)}`;
  const [facts, failures, live] = [h("dl", { class: "facts-list" }), h("div"), h("span", { class: "hint", role: "status" })];
  const [progress, problem] = [h("div"), h("div")];
  const log = h("pre", { class: "log", tabIndex: 0, "aria-label": "Log" });
  const stop = h("button", { type: "button", class: "danger", hidden: true, onclick: ask }, "Stop this job");
  const first = await getJson(path, {}, signal);
  document.title = `Job ${first.job_id} · takestream`;
  place.append(
    h("div", { class: "headline" }, h("div", { class: "grow" }, h("h1", {}, h("a", { class: "crumb", href: "#/jobs" }, "Jobs"), " ", h("span", { class: "mono" }, first.job_id)), live), stop),
    h("section", { class: "panel", "aria-label": "Progress" }, progress, problem, facts),
    failures,
    h("section", { class: "panel spaced", "aria-labelledby": "log-title" }, h("h2", { id: "log-title" }, "Log"), log),
  );

  async function ask() {
    const words = "It stops at its next batch. What it has written stays, and the same job again goes on from there.";
    if (!(await confirmed("Stop this job?", words, "Stop it"))) return;
    try {
      draw(await (await request(path, { method: "DELETE", signal })).json());
    } catch (error) {
      if (!signal.aborted) problem.replaceChildren(failure(error));
    }
  }

  function draw(job) {
    const p = job.progress;
    stop.hidden = hasEnded(job) || job.status === "stopping";
    if (hasEnded(job)) live.textContent = "";
    progress.replaceChildren(progressBar(job));
    problem.replaceChildren(job.error ? failure({ title: "The job failed", message: job.error }) : "");
    const fact = (name, value) => (value === null || value === undefined || value === "" ? [] : [h("div", {}, h("dt", {}, name), h("dd", {}, value))]);
    facts.replaceChildren(
      ...[
        fact("Takes", chosen(job)),
        fact("Encoder", encoderOf(job)),
        fact("Submitted", `${when(job.submitted_at)}${job.submitted_by ? ` by ${job.submitted_by}` : ""}`),
        fact("Started", job.started_at && when(job.started_at)),
        fact("Finished", job.finished_at && when(job.finished_at)),
        p ? fact("Running for", duration(p.seconds)) : [],
        p ? fact("Clips", `${p.clips_done} computed, ${p.clips_skipped} there before, ${p.clips_invalid} invalid, ${p.clips_failed} failed`) : [],
        p ? fact("Units", `${p.units_done} of ${p.units} done, ${p.units_failed} failed`) : [],
        fact("Output", job.spec?.output),
      ].flat(),
    );
    const rows = job.failures || [];
    const row = (one) => h("tr", {}, h("th", { scope: "row" }, one.take), h("td", {}, one.stream || "all"), h("td", {}, one.reason));
    const table = () => h("table", { class: "dense" }, h("thead", {}, h("tr", {}, ["Take", "Stream", "Why"].map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows.map(row)));
    failures.replaceChildren(rows.length ? h("section", { class: "panel spaced", "aria-labelledby": "failures-title" }, h("h2", { id: "failures-title" }, count(rows.length, "failure")), table()) : "");
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
  if (hasEnded(first)) return;
  const timer = setInterval(() => !document.hidden && readLog(), REFRESH);
  signal.addEventListener("abort", () => clearInterval(timer));
  const states = { live: () => "live", lost: (wait) => `the connection was lost; again in ${wait} s`, gone: (error) => error.message };
  followJob(parameter, signal, draw, (state, more) => (live.textContent = states[state](more))).then(() => {
    clearInterval(timer);
    if (!signal.aborted) readLog();
  });
}
