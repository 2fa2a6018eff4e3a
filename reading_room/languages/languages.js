// The page in the reader's language. The server speaks English; here each text and title is shown in the language that
// the reader chose, and its English is kept beside it. This script runs in the head, before anything is painted.
//
// `tables`, the tables of phrases by language, stands before this script.

const KEY = "second-read-language", FIRST = "en";
const LANGUAGES = [FIRST, ...Object.keys(tables)];
const ATTRIBUTES = ["title", "aria-label", "placeholder", "alt", "data-head"];
const LEFT = "[translate=no], script, style, code, pre, .api-docs, #models-card, #review-reader li + li"; // as it is
const SEEN = [Node.ELEMENT_NODE, Node.TEXT_NODE];
const WATCHED = { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES };

const root = document.documentElement;
const kept = new WeakMap(); // node -> {attribute, or "" for its text: {english, shown}}
const observer = new MutationObserver(follow);
let language = FIRST;
let phrases = null; // of the language in use; null while that is English

// --- which language ---

/** The link's language, else the one chosen here before, else the first of the browser's own that is known. */
function chooseFirst(preferred) {
  const chosen = [new URLSearchParams(location.search).get("lang"), localStorage.getItem(KEY)];
  const asked = [...chosen, ...preferred.map((locale) => locale.split("-")[0])];
  return asked.find((name) => LANGUAGES.includes(name)) ?? FIRST;
}

function speak(name) {
  language = LANGUAGES.includes(name) ? name : FIRST;
  phrases = tables[language] ? new Phrases(tables[language]) : null;
  markPage();
  observer.disconnect();
  visit(root);
  if (phrases) observer.observe(root, WATCHED);
  markButtons();
}

/** Gradio, which believes that it speaks English, says so on the page as well. */
function markPage() {
  if (root.lang !== language) root.lang = language;
}

function markButtons() {
  for (const button of document.querySelectorAll("[data-speak]")) {
    button.setAttribute("aria-pressed", String(button.dataset.speak === language));
  }
}

// --- what is shown ---

/** Only what changed is looked at; what is changed here meanwhile is not told again. */
function follow(records) {
  for (const { type, target, attributeName, addedNodes } of records) {
    if (type === "childList") addedNodes.forEach(visit);
    else if (!isLeft(target)) show(target, attributeName ?? "");
  }
  observer.takeRecords();
}

/** Whether a node is no text of the page's: a name, what a reader wrote, a command, a document. */
function isLeft(node) {
  const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
  return !element || element.closest(LEFT) !== null;
}

/** Shows a node and all in it in the language in use. */
function visit(node) {
  if (!SEEN.includes(node.nodeType) || isLeft(node)) return;
  const accept = (one) => (one.nodeType === Node.ELEMENT_NODE && one.matches(LEFT) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, accept);
  for (let one = node; one; one = walker.nextNode()) {
    if (one.nodeType === Node.TEXT_NODE) show(one, "");
    else {
      for (const name of ATTRIBUTES) show(one, name);
      if (one.matches("input[role=combobox]")) showChosen(one);
    }
  }
}

/** Shows one text, or one attribute, in the language in use. */
function show(node, name) {
  const now = name ? node.getAttribute(name) : node.nodeValue;
  if (!now) return;
  const last = kept.get(node)?.[name];
  const english = last?.shown === now ? last.english : now;
  const shown = phrases ? phrases.translate(english, name ? node : node.parentElement) : english;
  if (shown !== english || last) kept.set(node, { ...kept.get(node), [name]: { english, shown } });
  if (shown === now) return;
  if (name) node.setAttribute(name, shown);
  else node.nodeValue = shown;
}

/**
 * Shows what is chosen in one of gradio's lists, which is the value of an input. Gradio goes on reading and writing
 * English; what a reader types there to find a choice stays as it is typed.
 */
function showChosen(input) {
  const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
  if (Object.hasOwn(input, "value")) {
    input.value = input.value;
    return;
  }
  let english = get.call(input), shown = english;
  Object.defineProperty(input, "value", {
    configurable: true,
    get: () => (get.call(input) === shown ? english : get.call(input)),
    set: (text) => {
      english = String(text ?? "");
      shown = phrases ? phrases.translate(english, input) : english;
      set.call(input, shown);
    },
  });
  input.value = english;
}

// --- from now on ---

speak(chooseFirst(navigator.languages ?? []));
new MutationObserver(markPage).observe(root, { attributes: true, attributeFilter: ["lang"] });
Object.defineProperty(navigator, "language", { configurable: true, get: () => FIRST }); // so that gradio speaks English, too
globalThis.secondReadLanguages = { speak, markButtons };
addEventListener("storage", (event) => event.key === KEY && speak(event.newValue)); // chosen in another tab
addEventListener("mousedown", (event) => {
  if (event.target.closest?.("[data-speak]")) event.preventDefault(); // the focus, and with it the keys, stay
});
addEventListener("click", (event) => {
  const name = event.target.closest?.("[data-speak]")?.dataset.speak;
  if (!name) return;
  localStorage.setItem(KEY, name);
  speak(name);
  const here = new URL(location.href);
  here.searchParams.delete("lang"); // the reader's choice counts more than the link's, also after a reload
  if (here.href !== location.href) history.replaceState(history.state, "", here);
});
