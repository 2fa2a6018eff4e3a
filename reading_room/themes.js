// The theme that the reader chose in this browser, worn before anything is painted: this script runs in the head.
(() => {
  const KEY = "second-read-theme", THEMES = ["light", "dark", "black"], FIRST = "dark";
  const root = document.documentElement;

  function wear(name) {
    root.dataset.theme = THEMES.includes(name) ? name : FIRST;
    follow();
  }

  /** Brings along what is built later: gradio's own class, which it sets by the system's taste, and the buttons. */
  function follow() {
    document.body?.classList.toggle("dark", root.dataset.theme !== "light");
    for (const button of document.querySelectorAll("[data-wear]")) {
      button.setAttribute("aria-pressed", String(button.dataset.wear === root.dataset.theme));
    }
  }

  wear(localStorage.getItem(KEY));
  globalThis.secondReadThemes = { wear, follow };
  addEventListener("storage", (event) => event.key === KEY && wear(event.newValue)); // chosen in another tab
  addEventListener("DOMContentLoaded", () => {
    follow();
    new MutationObserver(follow).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });
  addEventListener("mousedown", (event) => {
    if (event.target.closest?.("[data-wear]")) event.preventDefault(); // the focus, and with it the keys, stay
  });
  addEventListener("click", (event) => {
    const name = event.target.closest?.("[data-wear]")?.dataset.wear;
    if (!name) return;
    localStorage.setItem(KEY, name);
    wear(name);
  });
})();
