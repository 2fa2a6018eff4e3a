// The image in front of the reader, and what was said of it, outlive a reload of the tab: also the one by which gradio
// comes back after a break in the connection. Another tab, and this one once it is closed, know nothing of it.
(() => {
  const NAME = "second-read-draft";
  globalThis.secondReadDraft = () => sessionStorage.getItem(NAME) ?? "";
  addEventListener("pagehide", () => {
    const shown = globalThis.secondRead?.case;
    if (!shown) return; // a page that never came so far has nothing to say
    if (shown.state !== "case") return sessionStorage.removeItem(NAME);
    const draft = {
      task: shown.task,
      sha256: shown.sha256,
      label: [...document.querySelectorAll("#flag-label input")].findIndex((input) => input.checked),
      comment: document.querySelector("#flag-comment textarea")?.value ?? "",
      boxes: globalThis.secondRead.marks.regions,
    };
    sessionStorage.setItem(NAME, JSON.stringify(draft));
  });
})();
