// Before the first paint, so that nobody is flashed at; a classic script because modules wait.
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("takestream-theme");
  } catch {
    // Storage is forbidden here: the system's choice it is.
  }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
