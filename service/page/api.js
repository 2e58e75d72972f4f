// The service's API: keys, errors in plain words, events.

import { END_EVENT, ENDED_STATUSES, EVENTS_TYPE, JSON_TYPE, REQUEST_ID_HEADER, RETRY_AFTER_HEADER } from "./protocol.js";

const KEY = "takestream-key";
const MADE = "takestream-made";
const ENDED = new Set(ENDED_STATUSES);
const PATIENCE = 30_000; // milliseconds that a request waits in all for a busy service
const SILENCE = 45_000; // without even a heartbeat: then the events' connection is dead
const SETTLING = 15_000; // as long as the service's list of stores may take to know of a new one

/** An answer that is an error; `message` is for the person. */
export class ApiError extends Error {
  constructor(status, title, detail, requestId) {
    super(detail);
    Object.assign(this, { name: "ApiError", status, title, requestId });
  }
}

/** Whether a job will not change any more. */
export const hasEnded = (job) => ENDED.has(job.status);

/** The address of a path of the API, wherever the page is mounted. */
export const address = (path) => new URL(path.replace(/^\//, ""), document.baseURI.split("#")[0]).href;

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
    document.dispatchEvent(new Event("keychange"));
  },
};

let asking = null;

// One dialog for all the requests that are refused at the same time.
function askForKey(words) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key-dialog");
    const input = document.getElementById("key");
    document.getElementById("key-why").textContent = words;
    input.value = "";
    dialog.returnValue = "";
    document.getElementById("key-cancel").onclick = () => dialog.close("cancel");
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        const given = dialog.returnValue === "ok" ? input.value.trim() : "";
        // What was refused is not kept.
        key.set(given || null);
        resolve(Boolean(given));
      },
      { once: true },
    );
    if (!dialog.open) dialog.showModal();
  });
  return asking;
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}${/[.!?…]$/.test(words) ? "" : "."}`;

async function problem(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's page, perhaps: the status has to do.
  }
  const detail = sentence(body.detail || `The service answered ${response.status}`);
  const wait = response.headers.get(RETRY_AFTER_HEADER);
  const words = {
    403: `${detail} Ask for a key that allows it.`,
    429: `${detail}${wait ? ` Try again in ${wait} s.` : ""}`,
    503: `${detail}${wait ? ` Try again in ${wait} s.` : ""}`,
  };
  const id = body.request_id || response.headers.get(REQUEST_ID_HEADER);
  const error = new ApiError(response.status, body.title || "Error", words[response.status] || detail, id);
  const seconds = Number(wait ?? 2);
  error.wait = Number.isFinite(seconds) ? Math.max(500, seconds * 1000) : 2000;
  return error;
}

// Requests that wait for a busy service, and the line at the page's foot that says so.
const waits = new Set();

async function waitOut(error, signal) {
  const line = document.getElementById("busy");
  const tell = () => {
    line.hidden = !waits.size;
    if (waits.size) line.textContent = error.status === 429 ? "Many requests at once: waiting to ask again…" : "The service is busy: asking again in a moment…";
  };
  const mine = {};
  waits.add(mine);
  tell();
  try {
    // Not all at the same moment.
    await pause(error.wait + 300 * Math.random(), signal);
  } finally {
    waits.delete(mine);
    tell();
  }
}

/**
 * A response that is all right. Raises ApiError; asks for a key where one is needed, and asks
 * again for a while where the service says that it is busy, unless it may have begun (`once`).
 */
export async function request(path, { method = "GET", body, signal, accept = JSON_TYPE, once = false } = {}) {
  let waited = 0;
  for (;;) {
    const sent = key.get();
    const headers = { Accept: accept };
    if (sent) headers.Authorization = `Bearer ${sent}`;
    if (body !== undefined) headers["Content-Type"] = JSON_TYPE;
    let response;
    try {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      response = await fetch(address(path), { method, headers, body: payload, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "No answer", "The service cannot be reached. Is it running?");
    }
    if (response.ok) return response;
    const error = await problem(response);
    const busy = error.status === 429 || (error.status === 503 && !once);
    if (busy && waited + error.wait <= PATIENCE) {
      waited += error.wait;
      await waitOut(error, signal);
      continue;
    }
    if (response.status !== 401) throw error;
    // Another request may have got a key meanwhile: then that one is tried first.
    if (key.get() === sent && !(await askForKey(sent ? "That key was not accepted." : "Paste the key that you were given by whoever runs this service."))) {
      throw new ApiError(401, "A key is needed", "This service answers with a key only.", error.requestId);
    }
    if (signal?.aborted) throw new DOMException("left the page", "AbortError");
  }
}

/** The JSON at a path; `query` leaves out what is empty. */
export async function getJson(path, query = {}, signal = undefined) {
  const pairs = Object.entries(query).flatMap(([k, v]) => (Array.isArray(v) ? v.map((one) => [k, one]) : [[k, v]]));
  const kept = pairs.filter(([, v]) => v !== "" && v !== null && v !== undefined);
  const text = kept.length ? `?${new URLSearchParams(kept)}` : "";
  return (await request(path + text, { signal })).json();
}

/** Posts JSON, returns the JSON that comes back. */
export async function postJson(path, body, signal = undefined, { once = false } = {}) {
  return (await request(path, { method: "POST", body, signal, once })).json();
}

/** Calls back as soon as the service answers, while `wanted()`; for when it could not be reached. */
export async function whenBack(wanted, callback) {
  for (;;) {
    await pause(3000);
    if (!wanted()) return;
    if (document.hidden) continue;
    const there = await fetch(address("healthz"), { cache: "no-store" }).catch(() => null);
    if (there?.ok && wanted()) return callback();
  }
}

/** The encoder whose features a job made of this take a moment ago, or null. */
export function madeJustNow(uid) {
  const { at, uids, encoder } = JSON.parse(sessionStorage.getItem(MADE) || "{}");
  return Date.now() - at < SETTLING && (!uid || uids.includes(uid)) ? encoder : null;
}

function noteMade(job) {
  const uids = job.spec?.select?.uids || [];
  if (job.status === "succeeded" && job.encoder_id) sessionStorage.setItem(MADE, JSON.stringify({ at: Date.now(), uids, encoder: job.encoder_id }));
}

/** Some milliseconds; leaving the page ends them with an AbortError. */
export const pause = (ms, signal = undefined) =>
  new Promise((resolve, reject) => {
    const left = () => {
      clearTimeout(timer);
      reject(new DOMException("left the page", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", left);
      resolve();
    }, ms);
    if (signal?.aborted) left();
    signal?.addEventListener("abort", left, { once: true });
  });

// By fetch, since EventSource cannot send a key.
async function* events(path, signal) {
  const response = await request(path, { signal, accept: EVENTS_TYPE });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    // A service that died without a word leaves the connection open.
    const watch = setTimeout(() => reader.cancel(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(watch));
    if (done) return;
    text += value.replaceAll("\r", "");
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const fields = { event: "message", data: [] };
      for (const line of text.slice(0, end).split("\n")) {
        const [, name, rest] = /^([^:]*):? ?(.*)$/.exec(line);
        if (name === "data") fields.data.push(rest);
        else if (name === "event") fields.event = rest;
      }
      text = text.slice(end + 2);
      if (fields.data.length) yield { event: fields.event, data: JSON.parse(fields.data.join("\n")) };
    }
  }
}

/** Calls back with a job each time it changes, until it has ended; connects again when cut off. */
export async function followJob(id, signal, onJob, onState = () => {}) {
  for (let wait = 1; ; ) {
    try {
      for await (const { event, data } of events(`v1/jobs/${encodeURIComponent(id)}/events`, signal)) {
        wait = 1;
        onState("live");
        noteMade(data);
        onJob(data);
        if (event === END_EVENT || hasEnded(data)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) {
        onState("gone", error);
        return;
      }
    }
    onState("lost", wait);
    try {
      await pause(wait * 1000, signal);
    } catch {
      return;
    }
    wait = Math.min(wait * 2, 10);
  }
}
