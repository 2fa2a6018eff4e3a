// The browser's Back and Forward go from page to page of the app, a reload stays on its page, and a link with #review
// opens that one. The first page has no name in the address.
(() => {
  const FIRST = "read";
  const tabs = () => [...document.querySelectorAll("#pages [role=tab][data-tab-id]")];
  const named = () => location.hash.slice(1) || FIRST;
  const shown = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true")?.dataset.tabId;

  /** Shows the page that the address names, if there is one. */
  function follow() {
    if (shown() !== named()) tabs().find((tab) => tab.dataset.tabId === named())?.click();
  }

  /** Names the page that is shown in the address, which makes a step to go back by. */
  function note() {
    const page = shown();
    if (page && page !== named()) history.pushState(null, "", `${location.pathname}${location.search}${page === FIRST ? "" : `#${page}`}`);
  }

  addEventListener("popstate", follow);
  const waiting = new MutationObserver(() => {
    if (!shown()) return;
    waiting.disconnect();
    follow();
    new MutationObserver(note).observe(document.querySelector("#pages"), { subtree: true, attributeFilter: ["aria-selected"] });
  });
  waiting.observe(document, { subtree: true, childList: true });
})();
