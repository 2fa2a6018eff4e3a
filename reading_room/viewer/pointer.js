// Mouse, pen and fingers on the image: one drags with the tool in use, two pinch.

function listenToPointers(viewer) {
  const { stageBox } = viewer;
  stageBox.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (viewer.plate) viewer.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...viewer.placeOf(event));
  }, { passive: false });
  stageBox.addEventListener("contextmenu", (event) => event.preventDefault());
  stageBox.addEventListener("dblclick", () => viewer.fit());
  stageBox.addEventListener("pointerdown", (event) => press(viewer, event));
  stageBox.addEventListener("pointermove", (event) => move(viewer, event));
  for (const kind of ["pointermove", "pointerdown", "pointerleave"]) stageBox.addEventListener(kind, (event) => bareCorners(viewer, event));
  for (const kind of ["pointerup", "pointercancel"]) stageBox.addEventListener(kind, (event) => release(viewer, event));
  stageBox.addEventListener("pointerleave", () => {
    viewer.role("value").textContent = "";
    viewer.panes.pointer = null;
    viewer.redraw();
  });
}

/** A legend under the pointer steps aside: what lies under it, often a marker of the side, can be seen and measured. */
function bareCorners({ root }, { clientX, clientY, type }) {
  for (const legend of root.querySelectorAll(".vw-legend")) {
    const { left, right, top, bottom } = legend.getBoundingClientRect();
    const under = clientX >= left && clientX < right && clientY >= top && clientY < bottom;
    legend.classList.toggle("vw-aside", type !== "pointerleave" && under);
  }
}

function press(viewer, event) {
  if (!viewer.plate) return;
  viewer.stageBox.focus({ preventScroll: true });
  viewer.stageBox.setPointerCapture(event.pointerId);
  const place = viewer.placeOf(event);
  viewer.pointers.set(event.pointerId, place);
  if (viewer.pointers.size === 2) {
    viewer.draft = null;
    return;
  }
  const kind = event.shiftKey || event.button > 0 ? "pan" : viewer.tool;
  const from = viewer.geometry.toImage(...place);
  const hit = kind === "box" || kind === "window" ? viewer.marks.boxAt(...from) : -1;
  if (hit >= 0 && kind === "box") {
    viewer.marks.chosen = hit;
    viewer.draft = { kind: "move", from, to: from };
  } else viewer.draft = { kind, from, to: from };
  viewer.redraw();
}

function move(viewer, event) {
  if (!viewer.plate) return;
  const place = viewer.placeOf(event), before = viewer.pointers.get(event.pointerId);
  if (!before) return tell(viewer, place);
  if (viewer.pointers.size === 2) pinch(viewer, event.pointerId, place);
  else drag(viewer, before, place);
  viewer.pointers.set(event.pointerId, place);
  tell(viewer, place);
}

function drag(viewer, before, place) {
  const { draft } = viewer;
  if (!draft) return;
  const [dX, dY] = [place[0] - before[0], place[1] - before[1]];
  const to = viewer.geometry.toImage(...place);
  if (draft.kind === "pan") viewer.pan(dX, dY);
  else if (draft.kind === "window") viewer.shiftWindow(dY / (600 * viewer.ratio), dX / (400 * viewer.ratio));
  else if (draft.kind === "move") {
    const whole = [Math.trunc(to[0] - draft.to[0]), Math.trunc(to[1] - draft.to[1])];
    viewer.marks.shift(...whole);
    draft.to = [draft.to[0] + whole[0], draft.to[1] + whole[1]];
  } else draft.to = to;
  viewer.redraw();
}

/** Two fingers: the places under them stay under them. */
function pinch(viewer, moved, place) {
  const [other] = [...viewer.pointers].filter(([id]) => id !== moved).map(([, at]) => at);
  const before = viewer.pointers.get(moved);
  const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
  const middle = (a) => [(a[0] + other[0]) / 2, (a[1] + other[1]) / 2];
  const [from, to] = [middle(before), middle(place)];
  viewer.pan(to[0] - from[0], to[1] - from[1]);
  if (apart(before) > 0) viewer.zoom(apart(place) / apart(before), ...to);
}

function release(viewer, event) {
  viewer.pointers.delete(event.pointerId);
  const { draft } = viewer;
  viewer.draft = null;
  if (!draft || !viewer.plate) return;
  if (draft.kind === "box" && viewer.marks.addBox(draft.from, draft.to)) viewer.say(`Box ${viewer.marks.boxes.length} goes with the flag.`);
  if (draft.kind === "ruler" && Math.hypot(draft.to[0] - draft.from[0], draft.to[1] - draft.from[1]) > 1) {
    viewer.marks.rulers.push([draft.from, draft.to]);
    viewer.marks.chosen = -1; // what was drawn last is what Delete takes away
    viewer.say(`Length ${viewer.marks.lengthOf(draft.from, draft.to)}`);
  }
  viewer.redraw();
}

/** The value under the pointer. */
function tell(viewer, place) {
  const [x, y] = viewer.geometry.toImage(...place);
  const value = viewer.plate.at(x, y);
  viewer.role("value").textContent = value === null ? "" : `x ${Math.floor(x)}, y ${Math.floor(y)}: ${viewer.plate.meaning(value)}`;
  if (!viewer.panes.split) return;
  viewer.panes.pointer = { place: [x, y], pane: viewer.panes.current };
  viewer.redraw();
}
