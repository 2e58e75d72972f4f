// Takes chosen from the list, over its pages, and a job for all of them.

import { getJson, postJson } from "./api.js";
import { announce, count, h } from "./dom.js";
import { planBox } from "./plan.js";
import { failure } from "./trouble.js";

/** The bar below the filter; `box(take)` is a take's checkbox. */
export function selectionBar(signal) {
  const chosen = new Map();
  const words = h("b");
  const select = h("select", { id: "selection-encoder", onchange: draw });
  const plan = planBox(signal);
  const trouble = h("div", { class: "trouble" });
  const go = h("button", { type: "button", class: "primary", onclick: extract }, "Extract them");
  const none = h("button", { type: "button", onclick: () => {
    chosen.clear();
    for (const box of document.querySelectorAll("input.choose")) box.checked = false;
    draw();
  } }, "Choose none");
  const element = h("section", { class: "panel selection", hidden: true, "aria-label": "Chosen takes" }, h("div", { class: "row" }, words, h("div", { class: "field inline grow" }, h("label", { for: "selection-encoder" }, "Encoder"), select), none, go), plan.element, trouble);
  let offered = null;

  function draw() {
    element.hidden = !chosen.size;
    const seconds = [...chosen.values()].reduce((sum, take) => sum + (take.duration_sec || 0) * (take.streams || []).length, 0);
    words.textContent = `${count(chosen.size, "take")}, ${(seconds / 3600).toFixed(seconds < 36000 ? 2 : 0)} hours of video`;
    plan.ask(chosen.size && select.value ? body() : null);
    if (element.hidden || offered) return;
    offered = getJson("v1/encoders", {}, signal).then(({ encoders }) => {
      select.replaceChildren(...encoders.map((e) => h("option", { value: e.name, selected: e.default }, e.name)));
      draw();
    }, (error) => {
      offered = null;
      if (!signal.aborted) trouble.replaceChildren(failure(error));
    });
  }

  const body = () => ({ encoder: select.value, select: { uids: [...chosen.keys()] } });

  async function extract() {
    go.disabled = true;
    try {
      const job = await postJson("v1/jobs", body(), signal, { once: true });
      location.hash = `#/jobs/${encodeURIComponent(job.job_id)}`;
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(failure(error));
      go.disabled = false;
    }
  }

  const box = (take) => {
    const input = h("input", { type: "checkbox", class: "choose", checked: chosen.has(take.take_uid), "aria-label": `Choose ${take.take_name || take.take_uid}`, onchange: () => {
      if (input.checked) chosen.set(take.take_uid, take);
      else chosen.delete(take.take_uid);
      announce(`${count(chosen.size, "take")} chosen`);
      draw();
    } });
    return input;
  };
  return { element, box };
}
