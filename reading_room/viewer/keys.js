// The keyboard: one table makes both the keys and the sheet that lists them.

// [what the sheet shows, what it does, keys as in KeyboardEvent.key, name of the viewer's action and its arguments]
const KEYS = [
  ["Case", [
    ["O", "Open an image", ["o"], "openFile"],
    ["E", "Draw a synthetic example", ["e"], "openExample"],
    ["1 … 9", "Choose a label", ["1", "2", "3", "4", "5", "6", "7", "8", "9"], "chooseLabel"],
    ["F", "Go to the flag form", ["f"], "focusForm"],
    ["Enter", "Save the flag; when reading blinded, lock your reading", ["Enter"], "saveForm"],
    ["U", "Undo the flag saved last", ["u"], "undoFlag"],
    ["J  K", "Next, previous case of the worklist", ["j", "k"], "stepCase"],
    ["?", "This sheet", ["?"], "help"],
  ]],
  ["Heatmap", [
    ["Space", "On or off", [" "], "toggleOverlay"],
    ["← →", "Previous, next model’s map", ["ArrowLeft", "ArrowRight"], "stepMap"],
    ["↑ ↓", "More, less opaque", ["ArrowUp", "ArrowDown"], "stepOpacity"],
    ["T  Shift T", "Show from a higher, lower strength", ["t", "T"], "stepThreshold"],
    ["M", "Next colours", ["m"], "nextColours"],
    ["C", "Blink between this map and the one before", ["c"], "compare"],
    ["S", "Side by side with the map before", ["s"], "toggleBeside"],
  ]],
  ["Image", [
    ["Z", "Fit", ["z"], "fit"],
    ["X", "One to one", ["x"], "actual"],
    ["+ −", "Zoom", ["+", "=", "-"], "stepZoom"],
    ["R", "Rotate", ["r"], "rotate"],
    ["I", "Invert", ["i"], "invert"],
    ["P", "Next window preset", ["p"], "nextPreset"],
    ["[ ]", "Darker, brighter", ["[", "]"], "stepLevel"],
    ["{ }", "More, less contrast", ["{", "}"], "stepWidth"],
    ["Shift + arrows", "Move the image", ["ShiftArrowLeft", "ShiftArrowRight", "ShiftArrowUp", "ShiftArrowDown"], "stepPan"],
  ]],
  ["Tools", [
    ["W", "Window: drag", ["w"], "useTool", "window"],
    ["H", "Pan: drag (or Shift + drag, right button)", ["h"], "useTool", "pan"],
    ["L", "Ruler: drag", ["l"], "useTool", "ruler"],
    ["B", "Box: drag; a click on a box chooses it", ["b"], "useTool", "box"],
    ["N", "New box in the middle of the view", ["n"], "newBox"],
    ["Alt + arrows", "Move the chosen box; with Shift, change its size", ["AltArrowLeft", "AltArrowRight", "AltArrowUp", "AltArrowDown"], "shiftBox"],
    ["Del", "Delete the chosen box, else the last ruler", ["Delete", "Backspace"], "removeMark"],
    ["Esc", "Let go: end comparing, unchoose a box", ["Escape"], "letGo"],
  ]],
];

const TYPING = "textarea, select, input:not([type=radio]):not([type=checkbox]):not([type=range])";
const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

/** Whether a key belongs to what has the focus: text being typed, a slider's arrows, a button's Enter. */
function belongsElsewhere(event) {
  const { target, key } = event;
  if (!(target instanceof Element)) return false;
  if (target.isContentEditable || target.matches(TYPING)) return true;
  if (target.matches("[type=radio]:checked")) return false; // it has nothing left to do with Space, and no arrows
  if (target.matches("input")) return key === " " ? target.type !== "range" : ARROWS.includes(key) && !event.altKey;
  return target.closest("button, a, summary") !== null && (key === " " || key === "Enter");
}

/** The name of a key as the table has it. */
function nameKey(event) {
  if (!ARROWS.includes(event.key)) return event.key.length === 1 && event.key !== "T" ? event.key.toLowerCase() : event.key;
  return `${event.altKey ? "Alt" : event.shiftKey ? "Shift" : ""}${event.key}`;
}

/** Calls the viewer's actions; returns a function that stops listening. */
function listenToKeys(viewer, isActive) {
  const actions = new Map();
  for (const [, rows] of KEYS) for (const [, , keys, action, argument] of rows) for (const key of keys) actions.set(key, [action, argument]);
  const listen = (event) => {
    if (event.defaultPrevented || event.metaKey || !isActive(event) || belongsElsewhere(event)) return;
    const composed = event.getModifierState("AltGraph"); // how brackets are typed on many keyboards: it is Ctrl and Alt, too
    if (!composed && (event.ctrlKey || (event.altKey && !ARROWS.includes(event.key)))) return;
    const found = actions.get(nameKey(event));
    if (!found || (event.repeat && [" ", "Enter"].includes(event.key))) return;
    if (viewer[found[0]](found[1] ?? event.key, event) !== false) event.preventDefault();
  };
  document.addEventListener("keydown", listen);
  return () => document.removeEventListener("keydown", listen);
}

/** Writes the sheet. */
function writeSheet(box) {
  for (const [title, rows] of KEYS) {
    const table = document.createElement("table");
    table.createCaption().textContent = title;
    for (const [keys, text] of rows) {
      const row = table.insertRow();
      const shown = document.createElement("kbd");
      shown.textContent = keys;
      row.insertCell().append(shown);
      row.insertCell().textContent = text;
    }
    box.append(table);
  }
}

/** The direction of an arrow key on the screen. */
function arrow(key) {
  return { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
}
