// A browser may forbid a page its storage, for instance one in another site's frame: gradio's parts would break down, and
// the viewer after them. What is to be kept is then kept as long as the page is open. This script runs first in the head.
(() => {
  const PROBE = "second-read-probe";
  try {
    localStorage.setItem(PROBE, "");
    localStorage.removeItem(PROBE);
  } catch {
    const kept = new Map();
    const storage = {
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => void kept.set(name, String(value)),
      removeItem: (name) => void kept.delete(name),
    };
    for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, { value: storage });
  }
})();
