// The service's API: keys, errors in plain words, events.

const KEY = "takestream-key";
const ENDED = new Set(["succeeded", "failed", "stopped"]);

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
        if (given) key.set(given);
        resolve(Boolean(given));
      },
      { once: true },
    );
    if (!dialog.open) dialog.showModal();
  });
  return asking;
}

async function problem(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's page, perhaps: the status has to do.
  }
  const detail = [body.detail || `The service answered ${response.status}.`, ...(body.errors || [])].join(" ");
  const wait = response.headers.get("Retry-After");
  const words = {
    403: `${detail} Your key does not allow this; ask for one with the scope that it needs.`,
    429: `${detail}${wait ? ` Try again in ${wait} s.` : ""}`,
    503: `${detail}${wait ? ` Try again in ${wait} s.` : ""}`,
  };
  const id = body.request_id || response.headers.get("X-Request-ID");
  return new ApiError(response.status, body.title || "Error", words[response.status] || detail, id);
}

/** A response that is all right. Raises ApiError; asks for a key where one is needed. */
export async function request(path, { method = "GET", body, signal, accept = "application/json" } = {}) {
  for (;;) {
    const sent = key.get();
    const headers = { Accept: accept };
    if (sent) headers.Authorization = `Bearer ${sent}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
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
    if (response.status !== 401) throw error;
    // Another request may have got a key meanwhile: then that one is tried first.
    if (key.get() === sent && !(await askForKey(sent ? "The key was not accepted." : error.message))) throw error;
    if (signal?.aborted) throw new DOMException("left the page", "AbortError");
  }
}

/** The JSON at a path; `query` leaves out what is empty. */
export async function getJson(path, query = {}, signal = undefined) {
  const kept = Object.entries(query).filter(([, v]) => v !== "" && v !== null && v !== undefined);
  const text = kept.length ? `?${new URLSearchParams(kept)}` : "";
  return (await request(path + text, { signal })).json();
}

/** Posts JSON, returns the JSON that comes back. */
export async function postJson(path, body, signal = undefined) {
  return (await request(path, { method: "POST", body, signal })).json();
}

const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("left the page", "AbortError"));
    });
  });

// By fetch, since EventSource cannot send a key.
async function* events(path, signal) {
  const response = await request(path, { signal, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
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
        onJob(data);
        if (event === "end" || hasEnded(data)) return;
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
    wait = Math.min(wait * 2, 30);
  }
}
