// LaTeX in a drawing. KaTeX lays a formula out in the page once, unseen; what it consists of (letters, bars, paths) is
// then drawn at any size, so that a canvas is never tainted and a saved SVG has text.
import { element, mathParts, typeset } from "./tree_words.js";

const EM = 100;
const LEAST_SHRINK = 0.5;
const INK = "rgb(1, 2, 3)";
const ABOVE = 0.86;
const BELOW = 0.36;
const BETWEEN = 0.1;

// Formulas by their source: as boxes in units of the text's size, null where they stay source.
class Formulas {
  constructor() {
    this.boxes = new Map();
    this.hurry(Infinity);
  }

  // Begin a picture that may spend so long on formulas that were not laid out before.
  hurry(milliseconds) {
    this.left = milliseconds;
    this.late = [];
  }

  // Return the box of a formula, null if it stays source, undefined if it comes with a later picture.
  box(source) {
    const known = this.boxes.get(source);
    if (known !== undefined) return known;
    if (this.left <= 0) {
      this.late.push(Promise.resolve());
      return undefined;
    }
    const begin = performance.now();
    const found = laidOut(source);
    this.left -= performance.now() - begin;
    const missing = found ? [...new Set(found.letters.map(({ font }) => font(EM)))].filter((font) => !document.fonts.check(font)) : [];
    if (missing.length) {
      const loaded = Promise.all(missing.map((font) => document.fonts.load(font)));
      this.late.push(loaded.then((faces) => { if (!faces.every((one) => one.length)) throw new Error("no such font"); }).catch(() => this.boxes.set(source, null)));
      return undefined;
    }
    this.boxes.set(source, found);
    return found;
  }

  // Return once everything that the last picture lacked can be drawn.
  async arrive() {
    await Promise.all(this.late);
  }
}

export const formulas = new Formulas();

export function mayHaveMath(text) {
  return /\$|\\[([]/.test(text);
}

// Return a formula as letters, bars and paths around its origin, null if KaTeX or this drawing does not take it.
function laidOut(source) {
  const place = element("div", null, { "aria-hidden": "true" });
  Object.assign(place.style, { position: "fixed", left: "0", top: "0", visibility: "hidden", whiteSpace: "nowrap", fontSize: `${EM}px`, lineHeight: "1.2", color: INK });
  const foot = element("span", null);
  Object.assign(foot.style, { display: "inline-block", width: "0", height: "0" });
  const box = element("span", null);
  place.append(box, foot);
  document.body.append(place);
  try {
    typeset(source, box, { output: "html" });
    return measured(box, foot.getBoundingClientRect().bottom);
  } catch {
    return null;
  } finally {
    place.remove();
  }
}

function measured(box, baseline) {
  if (box.querySelector("line, image, img")) return null;
  const { left, width } = box.getBoundingClientRect();
  const at = (rect) => [(rect.left - left) / EM, (rect.top - baseline) / EM, rect.width / EM, rect.height / EM];
  const found = { width: width / EM, above: ABOVE, below: BELOW, letters: [], bars: [], paths: [] };
  for (const strut of box.querySelectorAll(".katex-strut")) {
    const rect = strut.getBoundingClientRect();
    found.above = Math.max(found.above, (baseline - rect.top) / EM);
    found.below = Math.max(found.below, (rect.bottom - baseline) / EM);
  }
  const nodes = document.createTreeWalker(box, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    const node = nodes.currentNode;
    if (node.nodeType === Node.TEXT_NODE) found.letters.push(...lettersOf(node, at));
    else if (node.localName === "path") found.paths.push(pathOf(node, at, left, baseline));
    else if (node instanceof HTMLElement) found.bars.push(...barsOf(node, at));
  }
  return found;
}

const measuring = document.createElement("canvas").getContext("2d");

function lettersOf(node, at) {
  const text = node.data.replace(/\u200b/g, "");
  const range = document.createRange();
  range.selectNodeContents(node);
  const rect = range.getBoundingClientRect();
  if (!text.trim() || !rect.width) return [];
  const style = getComputedStyle(node.parentElement);
  const family = style.fontFamily.split(",")[0].trim();
  const before = `${style.fontStyle === "italic" ? "italic " : ""}${Number(style.fontWeight) >= 600 ? "bold " : ""}`;
  const size = parseFloat(style.fontSize) / EM;
  const font = (em) => `${before}${size * em}px ${family}, serif`;
  measuring.font = font(EM);
  const { fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } = measuring.measureText(text);
  const [x, y, , height] = at(rect);
  return [{ text, x, y: y + (height * ascent) / (ascent + descent), font, colour: ownColour(style.color) }];
}

// Borders are how KaTeX draws the lines of fractions, roots, boxes and tables.
function barsOf(node, at) {
  const style = getComputedStyle(node);
  const [top, right, bottom, left] = ["Top", "Right", "Bottom", "Left"].map((side) => (style[`border${side}Style`] === "none" ? 0 : parseFloat(style[`border${side}Width`]) / EM));
  const [x, y, width, height] = at(node.getBoundingClientRect());
  const bars = [[x, y, width, top], [x + width - right, y, right, height], [x, y + height - bottom, width, bottom], [x, y, left, height]];
  return bars.filter((bar) => bar[2] > 0 && bar[3] > 0).map((bar) => ({ bar, colour: ownColour(style.borderBottomColor) }));
}

// Roots and arrows are paths, longer than what is seen of them.
function pathOf(node, at, left, baseline) {
  const { a, d, e, f } = node.getScreenCTM();
  const svg = node.ownerSVGElement;
  let seen = svg.parentElement;
  while (seen && getComputedStyle(seen).overflow === "visible") seen = seen.parentElement.closest(".katex-html *");
  const style = getComputedStyle(node);
  return { path: node.getAttribute("d"), scale: [a / EM, d / EM], shift: [(e - left) / EM, (f - baseline) / EM], clip: at((seen || svg).getBoundingClientRect()), colour: ownColour(style.fill) };
}

function ownColour(colour) {
  return colour === INK ? null : colour;
}

// Draw a formula with its origin at a point; `size` is that of the text around it.
function drawFormula(context, box, x, y, size) {
  const ink = context.fillStyle;
  for (const { text, x: right, y: down, font, colour } of box.letters) {
    context.font = font(size);
    context.fillStyle = colour || ink;
    context.fillText(text, x + right * size, y + down * size);
  }
  for (const { bar: [right, down, width, height], colour } of box.bars) {
    context.fillStyle = colour || ink;
    context.fillRect(x + right * size, y + down * size, width * size, Math.max(height * size, 0.7));
  }
  for (const { path, scale, shift, clip, colour } of box.paths) {
    context.fillStyle = colour || ink;
    const [right, down, width, height] = clip.map((length) => length * size);
    const places = [scale[0] * size, scale[1] * size, x + shift[0] * size, y + shift[1] * size];
    if (context.clippedPath) context.clippedPath(path, places, [x + right, y + down, width, height]);
    else clippedPath(context, path, places, [x + right, y + down, width, height]);
  }
  context.fillStyle = ink;
}

function clippedPath(context, path, [across, down, x, y], clip) {
  context.save();
  context.beginPath();
  context.rect(...clip);
  context.clip();
  context.transform(across, 0, 0, down, x, y);
  context.fill(new Path2D(path));
  context.restore();
}

// Split a text into what is not broken: words, and formulas with what adheres to them.
function chunksOf(text) {
  const chunks = [];
  let adheres = false;
  for (const { text: plain, source } of mathParts(text)) {
    const atoms = source === undefined ? plain.split(/\s+/).map((word) => ({ text: word })) : [{ source, text: plain }];
    if (source === undefined && /^\s/.test(plain)) adheres = false;
    for (const [place, atom] of atoms.entries()) {
      if (place) adheres = false;
      if (!atom.text) continue;
      if (adheres) chunks[chunks.length - 1].push(atom);
      else chunks.push([atom]);
      adheres = true;
    }
    if (source === undefined && /\s$/.test(plain)) adheres = false;
  }
  return chunks;
}

// Return a text with formulas as lines of pieces within a room, both in pixels; the last line leaves room for a value, and
// ends in … where more would follow. Null: it has no formula; undefined: not all formulas are there yet.
export function linesOf(text, context, size, room, height, reserved) {
  const chunks = chunksOf(text);
  if (!chunks.some((chunk) => chunk.some((atom) => atom.source !== undefined))) return null;
  const dots = context.measureText("…").width;
  const measuredChunks = chunks.map((chunk) => chunk.map((atom) => pieceOf(atom, context, size, room - reserved - dots, height)));
  if (measuredChunks.some((chunk) => chunk.includes(undefined))) return undefined;
  const blank = context.measureText(" ").width;
  const lines = [];
  let line = emptyLine(size);
  for (const [place, chunk] of measuredChunks.entries()) {
    const width = chunk.reduce((sum, piece) => sum + piece.width, 0);
    const more = place < measuredChunks.length - 1;
    if (line.pieces.length && line.width + blank + width > room - (more ? 0 : reserved)) {
      const next = Math.max(...chunk.map((piece) => piece.above + piece.below));
      const used = [...lines, line].reduce((sum, one) => sum + one.above + one.below, 0);
      if (used + next > height) return [...lines, ended(line, context, size, room - reserved)];
      lines.push(line);
      line = emptyLine(size);
    }
    append(line, chunk, line.pieces.length ? blank : 0);
  }
  return [...lines, line];
}

function pieceOf(atom, context, size, room, height) {
  const box = atom.source === undefined ? null : formulas.box(atom.source);
  if (box === undefined) return undefined;
  if (box === null) return { text: atom.text, width: context.measureText(atom.text).width, above: ABOVE * size, below: BELOW * size };
  const shrunk = Math.min(1, room / (box.width * size), height / ((box.above + box.below) * size));
  if (shrunk < LEAST_SHRINK) return { text: "…", width: context.measureText("…").width, above: ABOVE * size, below: BELOW * size };
  const scale = shrunk * size;
  return { box, scale, width: box.width * scale, above: Math.max(box.above * scale + BETWEEN * size, ABOVE * size), below: Math.max(box.below * scale, BELOW * size) };
}

function emptyLine(size) {
  return { pieces: [], width: 0, above: ABOVE * size, below: BELOW * size };
}

function append(line, pieces, blank) {
  line.width += blank;
  for (const piece of pieces) {
    line.pieces.push({ ...piece, x: line.width });
    line.width += piece.width;
    line.above = Math.max(line.above, piece.above);
    line.below = Math.max(line.below, piece.below);
  }
}

function ended(line, context, size, room) {
  const width = context.measureText("…").width;
  while (line.pieces.length > 1 && line.width + width > room) line.width = line.pieces.pop().x;
  append(line, [{ text: "…", width, above: 0, below: 0 }], 0);
  return line;
}

// Draw lines one below the other; return where the last one ends, and its baseline.
export function drawLines(context, lines, x, top, size) {
  const { font } = context;
  context.textBaseline = "alphabetic";
  let [y, end] = [top, [x, top]];
  for (const line of lines) {
    const baseline = y + line.above;
    for (const piece of line.pieces) {
      context.font = font;
      if (piece.box) drawFormula(context, piece.box, x + piece.x, baseline, piece.scale);
      else context.fillText(piece.text, x + piece.x, baseline);
    }
    y = baseline + line.below;
    end = [x + line.width, baseline];
  }
  context.font = font;
  return end;
}
