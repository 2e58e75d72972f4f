// The same features elsewhere: lines of Python and of the shell, to be copied.

import { address } from "./api.js";
import { announce, h } from "./dom.js";

/** The panel for a store of a take; `where()` gives the camera and moment that are shown. */
export function usesPanel(take, store, where) {
  const python = () => {
    const { stream, time } = where();
    const lines = ["import takestream", `ds = takestream.open(${JSON.stringify(store.uri)})`];
    if (stream) lines.push(`vectors = ds.features.sel(stream=${JSON.stringify(stream)})`, `now = vectors[abs(ds.start_time + ds.end_time - 2 * ${time.toFixed(2)}).argmin("clip")]`);
    return lines.join("\n");
  };
  const curl = () => {
    const { stream, time } = where();
    const query = new URLSearchParams({ encoder: store.encoder_id, ...(stream ? { streams: stream, start: time.toFixed(2), end: (time + 0.01).toFixed(2) } : {}) });
    const url = address(`v1/takes/${encodeURIComponent(take.take_uid)}/features?${query}`);
    return `curl -H "Authorization: Bearer $TAKESTREAM_API_KEY" '${url.replaceAll("'", "%27")}'`;
  };
  const said = h("p", { class: "hint", role: "status" });
  const box = h("pre", { class: "log", hidden: true, tabIndex: 0, role: "group", "aria-label": "To be copied" });
  const button = (name, text) =>
    h("button", { type: "button", onclick: async () => {
      box.textContent = text();
      box.hidden = false;
      try {
        await navigator.clipboard.writeText(box.textContent);
        said.textContent = `Copied as ${name}.`;
      } catch {
        // Without leave, or not over HTTPS: the lines stand there, chosen.
        getSelection().selectAllChildren(box);
        said.textContent = "Chosen: copy it with your keyboard.";
      }
      announce(said.textContent);
    } }, `Copy as ${name}`);
  return h("section", { class: "panel", "aria-labelledby": "uses-title" }, h("h2", { id: "uses-title" }, "Use these features"), h("div", { class: "row" }, button("Python", python), button("curl", curl)), said, box);
}
