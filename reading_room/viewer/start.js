// Joins the viewer to its buttons, to the page and to the value that comes from the server.

function fillPresets(select) {
  for (const [name, { title }] of Object.entries(PRESETS)) select.add(new Option(title, name));
  const own = new Option("By hand", "");
  own.hidden = true;
  select.add(own);
}

function joinButtons(viewer, root) {
  root.addEventListener("mousedown", (event) => {
    if (event.target.closest("button")) event.preventDefault(); // the focus, and with it the keys, stay where they are
  });
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.tool) viewer.useTool(button.dataset.tool);
    const acts = {
      fit: "fit", actual: "actual", rotate: "rotate", invert: "invert", help: "help", close: "help",
      overlay: "toggleOverlay", compare: "compare", beside: "toggleBeside",
    };
    if (acts[button.dataset.act]) viewer[acts[button.dataset.act]]();
    if (button.dataset.act === "previous") viewer.stepMap("ArrowLeft");
    if (button.dataset.act === "next") viewer.stepMap("ArrowRight");
  });
  fillPresets(viewer.role("preset"));
  for (const [name, title] of Object.entries(COLOURS)) viewer.role("colours").add(new Option(title, name));
  viewer.role("preset").addEventListener("change", (event) => viewer.usePreset(event.target.value));
  for (const name of ["opacity", "threshold", "colours"]) {
    viewer.role(name).addEventListener("input", (event) => {
      viewer.map[name] = name === "colours" ? event.target.value : Number(event.target.value);
      viewer.recolour();
    });
  }
  for (const select of root.querySelectorAll("select")) { // chosen by mouse: the keys go back to the image
    select.addEventListener("pointerdown", () => { select.byHand = true; });
    select.addEventListener("keydown", () => { select.byHand = false; });
    select.addEventListener("change", () => select.byHand && viewer.stageBox.focus({ preventScroll: true }));
  }
}

/**
 * A file dropped on this page goes the same way as a chosen one. One dropped beside a field that takes files does nothing:
 * the browser would open it in place of the page.
 */
function joinDrop(viewer) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    const taken = event.defaultPrevented;
    event.preventDefault();
    const input = document.querySelector(".sr-head input[type=file]");
    if (taken || !input || !viewer.root.offsetParent || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}

/** A file that is on its way is said to be: a large one takes its time. */
function joinSending(viewer) {
  document.addEventListener("change", (event) => {
    if (event.target.files?.length && event.target.closest?.(".sr-head")) viewer.wait("sending the file …");
  }, true);
}

/** Cards come and go with each answer; a click on one brings its map onto the image. */
function joinCards(viewer) {
  document.addEventListener("click", (event) => {
    const card = event.target.closest?.("#cards .sr-card[data-map]");
    if (!card || event.target.closest("[data-action]")) return;
    viewer.stopBlinking();
    viewer.chooseMap(viewer.map.on && viewer.map.model === card.dataset.model ? null : card.dataset.model);
    const { top, bottom } = viewer.stageBox.getBoundingClientRect();
    if (bottom < 0.5 * (bottom - top)) bring(viewer.stageBox, "start"); // a phone
  });
  document.addEventListener("error", ({ target }) => {
    if (target.matches?.("#cards .sr-layer")) target.replaceWith(noteGone());
  }, true);
  whenThere("#cards", (cards) => {
    new MutationObserver(() => viewer.followCards()).observe(cards, { subtree: true, childList: true, attributes: true });
  });
}

/** What a card says in the place of a heatmap that the server does not keep any more. */
function noteGone() {
  return Object.assign(document.createElement("span"), { className: "sr-layer-note", textContent: "heatmap not at hand any more" });
}

/** Scrolls the page to one of its parts, at once for whom motion is too much. */
function bring(part, block) {
  part.scrollIntoView({ block, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

/** A finished consensus is said to a screen reader, once. */
function joinConsensus(viewer) {
  let told = null;
  whenThere("#consensus", (place) => {
    new MutationObserver(() => {
      const consensus = place.querySelector("[data-said]");
      if (consensus && consensus !== told) viewer.say(consensus.dataset.said);
      told = consensus;
    }).observe(place, { subtree: true, childList: true });
  });
}

/** The worklist says which of its cases was opened; whether that one is still shown, the viewer knows. */
function joinSteps(viewer) {
  whenThere("#case-place", (place) => {
    new MutationObserver(() => viewer.followSteps()).observe(place, { subtree: true, childList: true });
  });
}

/**
 * What became of a flag comes into sight where its form is. Once it is saved, the keys go back to the image: they would be
 * typed into the name or the comment.
 */
function joinSaved(viewer) {
  let seen = null;
  whenThere("#flag-status", (place) => {
    new MutationObserver(() => {
      const saved = place.querySelector(".sr-saved");
      const field = document.activeElement;
      if (saved && saved !== seen && field?.matches(TYPING) && field.closest(".sr-form")) viewer.stageBox.focus({ preventScroll: true });
      seen = saved;
      const form = place.textContent && viewer.form && document.querySelector(viewer.form.save).closest(".sr-form");
      const { top, bottom } = form ? form.getBoundingClientRect() : {};
      if (bottom > 0 && top < innerHeight) requestAnimationFrame(() => bring(place, "nearest"));
    }).observe(place, { subtree: true, childList: true });
  });
}

/**
 * gradio's lists open whenever they get the focus: they then lie over what comes next, and a screen reader reads them in the
 * place of their names. Here only a pointer opens one at once; on the keyboard it takes a key, and Tab is no such key.
 */
function keepListsShut() {
  const isList = (node) => node.matches?.("input[role=combobox]");
  let pointed = false;
  const listen = (name, act) => window.addEventListener(name, act, true);
  listen("pointerdown", ({ target }) => {
    pointed = true;
    if (isList(target) && target.getAttribute("aria-expanded") === "false") target.blur(); // the focus comes anew, and opens it
  });
  listen("pointercancel", () => { pointed = false; });
  listen("click", () => setTimeout(() => { pointed = false; })); // a label gives its field the focus before that
  listen("focus", (event) => !pointed && isList(event.target) && event.stopPropagation());
  listen("keydown", (event) => event.key === "Tab" && isList(event.target) && event.stopPropagation());
}

/** gradio's choices have a title that is no name: a screen reader says which question they answer. */
function nameChoices() {
  window.addEventListener("focusin", ({ target }) => {
    const group = target.matches?.("[type=radio]") && target.closest("fieldset");
    const title = group && group.querySelector("[data-testid=block-info]");
    if (!title) return;
    group.setAttribute("role", "radiogroup");
    group.setAttribute("aria-label", title.textContent.trim());
  });
}

/** gradio's accordions look open or shut; a screen reader is told, too. */
function tellWhatIsOpen() {
  const tell = (button) => button?.setAttribute("aria-expanded", button.classList.contains("open"));
  const find = (event) => event.target.closest?.("button.label-wrap");
  window.addEventListener("focusin", (event) => tell(find(event)));
  window.addEventListener("click", (event) => setTimeout(() => tell(find(event))));
}

/** gradio takes an emptied number for the lowest one there is: such a field goes back to what it had. */
function keepNumbers() {
  const had = new WeakMap();
  window.addEventListener("focus", ({ target }) => target.matches?.("input[type=number]") && had.set(target, target.value), true);
  window.addEventListener("blur", ({ target }) => {
    if (!had.get(target) || target.value !== "") return;
    target.value = had.get(target);
    target.dispatchEvent(new Event("input", { bubbles: true }));
  }, true);
}

/** Calls back with an element of the page, which may be built after the viewer. */
function whenThere(selector, act, tries = 100) {
  const found = document.querySelector(selector);
  if (found) act(found);
  else if (tries) setTimeout(() => whenThere(selector, act, tries - 1), 100);
}

/** The reader's name stays in this browser, so that a flag takes two keys. */
function rememberReader() {
  whenThere("#flag-reader input, #flag-reader textarea", (field) => {
    const kept = localStorage.getItem(READER_KEY);
    if (kept && !field.value) {
      field.value = kept;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    field.addEventListener("change", () => localStorage.setItem(READER_KEY, field.value));
  });
}

/** A link with ?mode=blinded ticks the box for good; each request says so by itself as well. */
function followLink() {
  if (new URLSearchParams(location.search).get("mode") !== "blinded") return;
  whenThere("#blinded input", (box) => {
    const tick = () => {
      box.disabled = false;
      if (!box.checked) box.click();
      box.disabled = true;
    };
    for (const delay of [0, 300, 1000, 3000]) setTimeout(tick, delay); // gradio sets its own value while it loads
  });
}

const root = element.querySelector(".vw");
const viewer = new Viewer(root, props.tables);
globalThis.secondRead = viewer; // the flag form asks it for `regions`
writeSheet(viewer.role("sheet"));
joinButtons(viewer, root);
joinDrop(viewer);
joinSending(viewer);
joinCards(viewer);
joinConsensus(viewer);
joinSteps(viewer);
joinSaved(viewer);
keepListsShut();
nameChoices();
tellWhatIsOpen();
keepNumbers();
rememberReader();
followLink();
listenToPointers(viewer);
listenToKeys(viewer, (event) => root.offsetParent !== null && (event.key === "?" || !viewer.find(".vw-sheet").open));
new ResizeObserver(() => viewer.resize()).observe(viewer.stageBox);
watch("value", () => viewer.show(props.value));
viewer.resize();
viewer.show(props.value);
