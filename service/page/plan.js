// What a job would do and what that takes, before anybody launches it.

import { postJson } from "./api.js";
import { announce, count, h } from "./dom.js";
import { failure } from "./trouble.js";

const PATIENCE = 400; // milliseconds without another change, before the service is asked
const STATES = [["current", "whole already"], ["partial", "partly there"], ["stale", "there from other videos or settings"], ["missing", "not there"]];

/** The plan of a job; `ask(body)` with the body of the job, or null for none. */
export function planBox(signal) {
  const says = h("div", { class: "says", "aria-busy": "false" });
  const machine = h("select", { id: "plan-instance", onchange: () => ask(wanted) }, h("option", { value: "" }, "no price"));
  const workers = h("input", { id: "plan-workers", type: "number", min: 1, max: 10000, step: 1, placeholder: "as measured", onchange: () => ask(wanted) });
  const field = (input, label) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);
  const prices = h("div", { class: "row", hidden: true }, field(workers, "Workers"), field(machine, "At the price of"));
  const element = h("div", { class: "plan", role: "group", "aria-label": "Plan" }, says, prices);
  let [wanted, timer, leave] = [null, null, null];

  function ask(body) {
    wanted = body;
    clearTimeout(timer);
    leave?.abort();
    element.hidden = !body;
    if (!body) return;
    says.setAttribute("aria-busy", "true");
    if (!says.hasChildNodes()) says.append(h("p", { class: "hint" }, "Counting what there is to do…"));
    leave = new AbortController();
    const mine = AbortSignal.any([leave.signal, signal]);
    timer = setTimeout(() => load({ ...body, instance: machine.value || undefined, workers: Number(workers.value) || undefined }, mine), PATIENCE);
  }

  async function load(body, mine) {
    try {
      draw(await postJson("v1/plan", body, mine));
    } catch (error) {
      if (mine.aborted) return;
      says.replaceChildren(failure(error, () => ask(wanted)));
    }
    says.setAttribute("aria-busy", "false");
  }

  function draw(plan) {
    if (machine.options.length === 1) machine.append(...plan.instances.map((one) => h("option", { value: one.name }, `${one.name}, ${one.price} USD an hour`)));
    prices.hidden = !plan.estimate;
    const stand = STATES.filter(([name]) => plan.states?.[name]).map(([name, words]) => `${plan.states[name].toLocaleString("en")} ${words}`);
    const more = [
      stand.length && `Takes, for each encoder: ${stand.join(", ")}.`,
      plan.absent && `${count(plan.absent, "stream")} without a video.`,
      !plan.exact && "Lengths are those that the data set says: about right, to a clip or two.",
      !plan.estimate && ["Hours and cost are known once ", h("code", {}, "takestream calibrate"), " has measured some units of this encoder into this output."],
    ].filter(Boolean);
    const [amount, ...price] = plan.words;
    // What the price rests on comes last, and is the least of it.
    if (plan.rates) more.push(price.pop());
    says.replaceChildren(...[amount, ...price].map((line) => h("p", {}, line)), ...more.map((line) => h("p", { class: "hint" }, line)));
    announce(amount);
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  return { element, ask };
}
