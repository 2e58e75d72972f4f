// The frame of the page: routes, theme, key, shortcuts.

import { key } from "./api.js";
import { announce, h, notice } from "./dom.js";
import { jobPage, jobsPage } from "./jobs.js";
import { overviewPage } from "./overview.js";
import { takePage } from "./take.js";
import { takesPage } from "./takes.js";
import { failure } from "./trouble.js";

const main = document.getElementById("main");
const routes = [
  [/^\/?$/, "takes", "Takes", takesPage],
  [/^\/takes\/([^/]+)$/, "takes", "Take", takePage],
  [/^\/overview$/, "overview", "Overview", overviewPage],
  [/^\/jobs$/, "jobs", "Jobs", jobsPage],
  [/^\/jobs\/([^/]+)$/, "jobs", "Job", jobPage],
];
let leave = new AbortController();
let shown = null;

async function show() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const found = routes.map(([pattern, ...rest]) => [pattern.exec(path), ...rest]).find(([match]) => match);
  const [match, nav, title, view] = found || [null, "", "Nothing here", null];
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (link.dataset.nav === nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · takestream`;
  const place = h("div", { class: "view" });
  main.replaceChildren(place);
  if (shown !== null && shown !== path) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    announce(title);
  }
  shown = path;
  if (!view) {
    place.append(notice("Nothing here", `This page has no ${path}.`, h("a", { href: "#/" }, "All takes")));
    return;
  }
  try {
    const parameter = match[1] === undefined ? undefined : safelyDecoded(match[1]);
    await view(place, { parameter, query: new URLSearchParams(query), signal });
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(failure(error, show));
    if (!error.status && error.status !== 0 && !signal.aborted) console.error(error);
  }
}

function safelyDecoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// The theme: the system's, unless somebody chose.
const themes = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    if (name === "system") localStorage.removeItem("takestream-theme");
    else localStorage.setItem("takestream-theme", name);
  } catch {
    // Not kept, then.
  }
  document.getElementById("theme-name").textContent = `Theme: ${name}`;
  document.dispatchEvent(new Event("themechange"));
}

themeButton.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "system";
  setTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
});
setTheme(document.documentElement.dataset.theme || "system");

const forget = document.getElementById("forget-key");
const showForget = () => (forget.hidden = !key.get());
forget.addEventListener("click", () => {
  key.set(null);
  show();
});
document.addEventListener("keychange", showForget);
showForget();

const help = document.getElementById("help-dialog");
document.getElementById("shortcuts").addEventListener("click", () => help.showModal());
document.getElementById("skip").addEventListener("click", (event) => {
  // The hash is for routes.
  event.preventDefault();
  main.focus();
});
document.addEventListener("keydown", (event) => {
  const busy = event.target.closest?.("input, textarea, select, dialog");
  if (event.key === "?" && !busy) help.showModal();
});

window.addEventListener("hashchange", show);
show();
