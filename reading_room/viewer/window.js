// The window: which value of the image becomes which grey. This is its one definition in the browser.
//
// DICOM PS3.3, C.11.2.1.2.1, function LINEAR, with output 0 to 255. For a value x, centre c and width w (at least 1):
//   x <= c - 0.5 - (w - 1) / 2   is black
//   x >  c - 0.5 + (w - 1) / 2   is white
//   otherwise  ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
// It is what `presentation._apply_voi` computes in Python for the window of a file. Where a file has a linear window,
// its values arrive as stored, with that window and, for MONOCHROME1, as inverted; all other pictures arrive as they
// are to be shown, low = dark. The reader's own inversion comes on top.

/** Builds the table from value to grey: Uint8Array of `levels` entries. */
function buildWindowTable({ centre, width }, levels, inverted = false) {
  const table = new Uint8Array(levels);
  const span = Math.max(width - 1, 1e-9);
  for (let value = 0; value < levels; value++) {
    const grey = Math.min(Math.max((value - (centre - 0.5)) / span + 0.5, 0), 1) * 255;
    table[value] = Math.round(inverted ? 255 - grey : grey);
  }
  return table;
}

/** The window whose first white value is `high` and whose last black value is `low`. */
function windowBetween(low, high) {
  const width = Math.max(high - low, 0) + 1;
  return { centre: low + width / 2, width };
}

// Presets. "stored" is the image as its file says it is to be shown; the others are shares of the image's own values,
// since most pictures that come here carry no physical unit. A preset is [title, low %, high %] of all values between
// the darkest and the brightest; those two themselves are often a border or a marker and do not count.
const PRESETS = {
  stored: { title: "As stored" },
  full: { title: "Full range" },
  auto: { title: "Auto (1–99 %)", share: [0.01, 0.99] },
  lung: { title: "Dark: lung (0–55 %)", share: [0.001, 0.55] },
  soft: { title: "Middle: soft tissue (25–85 %)", share: [0.25, 0.85] },
  bone: { title: "Bright: bone (50–99.9 %)", share: [0.5, 0.999] },
};

/** A preset's window for a plate. */
function windowOfPreset(name, plate) {
  const { share } = PRESETS[name];
  if (name === "stored") return plate.own ? { centre: plate.own.centre, width: plate.own.width } : windowBetween(0, plate.levels - 1);
  if (!share) return windowBetween(plate.lowest, plate.highest);
  const [low, high] = plate.own?.inverted ? [1 - share[1], 1 - share[0]] : share; // dark on the screen stays dark
  return windowBetween(plate.quantile(low), plate.quantile(high));
}
