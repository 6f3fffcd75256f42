// A tree as a file: the drawing of all that is unfolded, as SVG or PNG.
import { formulas } from "./tree_math.js";

const MARGIN = 30;
const MAX_PIXELS = 8000;

// The part of a canvas's context that drawings use, which writes SVG.
class SvgContext {
  constructor(measuring) {
    this.measuring = measuring;
    this.parts = [];
    this.path = "";
    this.dash = [];
    this.fonts = new Map();
    this.globalAlpha = 1;
  }

  setTransform() {}
  clearRect() {}
  beginPath() { this.path = ""; }
  closePath() { this.path += "Z"; }
  moveTo(x, y) { this.path += `M${short(x)} ${short(y)}`; }
  lineTo(x, y) { this.path += `L${short(x)} ${short(y)}`; }
  bezierCurveTo(...places) { this.path += `C${places.map(short).join(" ")}`; }
  rect(x, y, width, height) { this.path += `M${short(x)} ${short(y)}h${short(width)}v${short(height)}h${short(-width)}Z`; }
  arc(x, y, radius) { this.path += `M${short(x - radius)} ${short(y)}a${short(radius)} ${short(radius)} 0 1 0 ${short(2 * radius)} 0a${short(radius)} ${short(radius)} 0 1 0 ${short(-2 * radius)} 0`; }
  setLineDash(dash) { this.dash = dash; }

  fill() { this.parts.push(`<path d="${this.path}" fill="${this.fillStyle}"/>`); }

  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.parts.push(`<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${short(this.lineWidth)}"${dash}/>`);
  }

  fillRect(x, y, width, height) {
    this.parts.push(`<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}" fill="${this.fillStyle}" fill-opacity="${this.globalAlpha}"/>`);
  }

  fillText(text, x, y) {
    const [, italic, weight, size, family] = /^(italic )?(600 |bold )?([\d.]+)px (.*)/.exec(this.font);
    const blanks = text.length - text.trimStart().length;
    const start = blanks ? x + this.measureText(text.slice(0, blanks)).width : x;
    const isMath = family.startsWith("KaTeX_");
    if (isMath) this.fonts.set(this.font, [family.split(",")[0], Boolean(italic), Boolean(weight)]);
    const look = [weight && `font-weight="${weight.trim()}"`, isMath && `font-family="${escaped(family)}"`, italic && 'font-style="italic"', this.textBaseline === "alphabetic" && 'dominant-baseline="alphabetic"'];
    this.parts.push(`<text x="${short(start)}" y="${short(y)}" fill="${this.fillStyle}" font-size="${short(size)}" ${look.filter(Boolean).join(" ")}>${escaped(text.trim())}</text>`);
  }

  // A path that is moved and scaled, seen through a window alone.
  clippedPath(path, [across, down, x, y], [left, top, width, height]) {
    const place = `translate(${short(x - left)} ${short(y - top)}) scale(${across} ${down})`;
    this.parts.push(`<svg x="${short(left)}" y="${short(top)}" width="${short(width)}" height="${short(height)}"><path d="${escaped(path)}" transform="${place}" fill="${this.fillStyle}"/></svg>`);
  }

  measureText(text) {
    this.measuring.font = this.font;
    return this.measuring.measureText(text);
  }
}

function short(number) {
  return Math.round(number * 10) / 10;
}

function escaped(text) {
  const names = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  // XML has no place for control characters and lone surrogates.
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "").toWellFormed().replace(/[&<>"]/g, (sign) => names[sign]);
}

// The size of the whole tree, with room for the steps above its first row and right of its last column.
function sizeOf(model) {
  return [model.width + 2 * MARGIN + 160, model.height + model.row + 2 * MARGIN];
}

// Draw the whole tree into a context; return the size of the picture.
function drawWhole({ drawing, model, look }, context, scale) {
  const alone = Object.create(drawing);
  const size = sizeOf(model);
  Object.assign(alone, { context, zoom: 1, left: MARGIN, top: MARGIN + model.row, ratio: scale, size });
  alone.draw(model, { ...look, selected: null });
  return size;
}

// Draw as often as it takes until every formula is in the picture; return what was drawn into.
async function drawn(view, scale, make) {
  for (;;) {
    formulas.hurry(Infinity);
    const context = make();
    drawWhole(view, context, scale);
    if (!formulas.late.length) return context;
    await formulas.arrive();
  }
}

async function svgOf(view) {
  const context = await drawn(view, 1, () => new SvgContext(document.createElement("canvas").getContext("2d")));
  const [width, height] = sizeOf(view.model);
  const style = `font-family="system-ui, 'DejaVu Sans', sans-serif" dominant-baseline="middle"`;
  const paper = `<rect width="100%" height="100%" fill="${view.drawing.colours.card}"/>`;
  const fonts = await fontsOf(context);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${short(width)}" height="${short(height)}" ${style}>${fonts}${paper}${context.parts.join("")}</svg>\n`;
}

// The letters of the formulas, as a part of the file: it is looked at where KaTeX is not installed.
async function fontsOf(context) {
  const faces = new Map([...context.fonts.values()].map((face) => [face.join(), face]));
  const rules = [...faces.values()].map(async ([family, italic, bold]) => {
    const kind = `${bold ? "Bold" : ""}${italic ? "Italic" : ""}` || "Regular";
    const answer = await fetch(`/static/katex/fonts/${family}-${kind}.woff2`);
    const data = btoa(Array.from(new Uint8Array(await answer.arrayBuffer()), (byte) => String.fromCharCode(byte)).join(""));
    return `@font-face{font-family:${family};font-style:${italic ? "italic" : "normal"};font-weight:${bold ? "bold" : "normal"};src:url(data:font/woff2;base64,${data}) format("woff2")}`;
  });
  return rules.length ? `<style>${(await Promise.all(rules)).join("")}</style>` : "";
}

async function pngOf(view) {
  const size = sizeOf(view.model);
  const scale = Math.min(2, MAX_PIXELS / Math.max(...size));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = size.map((length) => Math.ceil(length * scale));
  const context = canvas.getContext("2d");
  await drawn(view, scale, () => context);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = view.drawing.colours.card;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

export async function saveAs(kind, view) {
  const blob = kind === "svg" ? new Blob([await svgOf(view)], { type: "image/svg+xml" }) : await pngOf(view);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `tree-${view.id}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  view.say(`Saved as ${link.download}: what is unfolded.`);
}
