// What went wrong, in words, and how to go on from there.

import { whenBack } from "./api.js";
import { h, notice } from "./dom.js";

/** The notice for an error. `retry` is behind its button, and is called when the service is back. */
export function failure(error, retry) {
  if (error.name === "AbortError") return h("div");
  const id = error.requestId ? h("p", { class: "hint" }, `Request ${error.requestId}`) : null;
  // Asking again does not find what is not there.
  const again = retry && error.status !== 404;
  const way = again ? h("button", { type: "button", onclick: retry }, error.status === 401 ? "Give a key" : "Try again") : null;
  const back = retry && error.status === 404 ? h("p", {}, h("a", { href: "#/" }, "All takes"), " · ", h("a", { href: "#/jobs" }, "All jobs")) : null;
  const gone = error.status === 0 && retry;
  const patient = gone ? h("p", { class: "hint" }, "The page goes on by itself as soon as it is back.") : null;
  const box = notice(error.title || "That did not work", error.message, patient, id, way, back);
  box.classList.add("bad");
  box.setAttribute("role", "alert");
  if (gone) whenBack(() => box.isConnected, retry);
  return box;
}
