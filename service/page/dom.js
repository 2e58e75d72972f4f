// Elements and words. Text comes in as text nodes only: names in a data set may hold anything.

/** An element: h("a", {class: "x", href: "#", onclick: f}, "text", child, [children]). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Seconds for a person: 6.2 s, 2:05, 1:02:05. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** A moment: 0:03.20. */
export function clock(seconds) {
  const hundredths = Math.max(0, Math.floor(seconds * 100 + 1e-6));
  const minutes = Math.floor(hundredths / 6000);
  const rest = ((hundredths % 6000) / 100).toFixed(2).padStart(5, "0");
  return `${minutes}:${rest}`;
}

/** The moment of a clip: its middle, where the player goes and a pin stands. */
export const momentOf = (clip) => (clip.start_time + clip.end_time) / 2;

/** 12 takes, 1 take. */
export const count = (n, noun) => `${Number(n).toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

/** What encoder_ids are called: the preset where that says which, else the whole of it. */
export function encoderNames(ids) {
  const preset = (id) => id.replace(/-[0-9a-f]{10}$/, "");
  return ids.map((id) => (ids.filter((one) => preset(one) === preset(id)).length > 1 ? id : preset(id)));
}

/** Stores of a take in words: the encoder, and how it cuts the take into clips. */
export function storeNames(stores) {
  const grid = ({ window, stride, fps }) => (window === 1 && stride === 1 ? "every frame" : window && stride ? `${window} frames every ${stride}` : "segments") + (fps ? ` at ${Number(fps.toFixed(2))} a second` : "");
  const words = stores.map((s) => `${s.encoder}, ${grid(s)}`);
  return words.map((one, n) => (words.filter((other) => other === one).length > 1 ? `${one}, ${stores[n].encoder_id.slice(-10)}` : one));
}

/** A time of day from ISO 8601, in the reader's own zone. */
export function when(iso) {
  if (!iso) return "–";
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return String(iso);
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Says something to a screen reader. */
export function announce(words) {
  document.getElementById("announce").textContent = words;
}

/** What a variable of the style sheet is now, as a colour that a canvas takes. */
export function themeColors(names) {
  const probe = h("span", { class: "unseen" });
  document.body.append(probe);
  const found = {};
  for (const name of names) {
    probe.style.setProperty("color", `var(--${name})`);
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

/** Calls back when the page's colours change; until the signal is aborted. */
export function onTheme(callback, signal) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback, { signal });
  document.addEventListener("themechange", callback, { signal });
}

/** Calls back when the element's size changes; until the signal is aborted. */
export function onResize(element, callback, signal) {
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    callback();
  });
  observer.observe(element);
  signal.addEventListener("abort", () => observer.disconnect());
}

/** Sizes a canvas for the screen's pixels and returns its context, in CSS pixels. */
export function crisp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.setProperty("width", `${width}px`);
  canvas.style.setProperty("height", `${height}px`);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** A box that says what is not there, or what went wrong. */
export function notice(title, words, ...more) {
  return h("div", { class: "notice" }, h("strong", {}, title), words ? h("p", {}, words) : null, more);
}

/** A question before something is done; resolves to yes (true) or no. */
export function confirmed(title, text, yes) {
  const dialog = document.getElementById("confirm-dialog");
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
