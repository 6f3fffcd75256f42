// Draws a tree on a canvas: shapes say verdicts, colours values, sizes visits; text comes with nearness.
import { drawLines, linesOf, mayHaveMath } from "./tree_math.js";
import { decimal } from "./tree_words.js";

const LABEL_ZOOM = 0.5;
const LEAST_ZOOM = 0.02;
// From so far away shapes and curves cannot be seen, and cost the most.
const FAR_ZOOM = 0.22;

function mix(first, second, share) {
  return first.map((channel, place) => Math.round(channel + (second[place] - channel) * share));
}

function channels(colour) {
  return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
}

export class TreeDrawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.zoom = 1;
    this.left = 0;
    this.top = 0;
    this.readColours();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    this.colours = Object.fromEntries(
      ["ink", "soft", "rule", "card", "accent", "right", "wrong", "hit"].map((name) => [name, read(`--${name}`)]),
    );
    this.ramp = ["low", "middle", "high"].map((name) => channels(read(`--${name}`)));
  }

  colourOf(value) {
    if (value === null || value === undefined) return this.colours.card;
    const share = Math.min(Math.max(value, 0), 1) * 2;
    const [low, middle, high] = this.ramp;
    return `rgb(${(share <= 1 ? mix(low, middle, share) : mix(middle, high, share - 1)).join(",")})`;
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.ratio = ratio;
    this.size = [clientWidth, clientHeight];
  }

  // Show the whole tree or, where it would be smaller than the least zoom, its beginning.
  fit(model, least = LEAST_ZOOM) {
    const [width, height] = this.size;
    const margin = 30;
    model.spread(width - 2 * margin, height - 2 * margin);
    const across = Math.max(model.width, model.partner?.width || 0);
    this.zoom = Math.max(Math.min((width - 2 * margin) / across, (height - 2 * margin) / (model.height || 1), 1.2), least);
    this.left = margin + Math.max(0, (width - 2 * margin - across * this.zoom) / 2);
    this.top = model.height * this.zoom <= height ? (height - model.height * this.zoom) / 2 : height / 2 - model.root.y * this.zoom;
  }

  zoomAt(x, y, factor) {
    const zoom = Math.min(Math.max(this.zoom * factor, LEAST_ZOOM), 4);
    this.left = x - ((x - this.left) * zoom) / this.zoom;
    this.top = y - ((y - this.top) * zoom) / this.zoom;
    this.zoom = zoom;
  }

  at(node) {
    return [this.left + node.x * this.zoom, this.top + node.y * this.zoom];
  }

  radius(node, model) {
    const near = Math.min(Math.max(this.zoom, 0.25), 1.6);
    return (4 + 7 * Math.sqrt(node.now.visits / model.maxVisits)) * near;
  }

  // Return the visible node under a point, or null.
  hit(model, x, y) {
    const reach = 6;
    let best = null;
    let nearest = Infinity;
    for (const node of model.visible) {
      const [nodeX, nodeY] = this.at(node);
      const distance = Math.hypot(nodeX - x, nodeY - y);
      if (distance < this.radius(node, model) + reach && distance < nearest) [best, nearest] = [node, distance];
    }
    return best;
  }

  draw(model, look) {
    const { context } = this;
    const [width, height] = this.size;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.drawEdges(model);
    const inView = model.visible.filter((node) => {
      const [x, y] = this.at(node);
      return x > -260 && x < width + 20 && y > -20 && y < height + 20;
    });
    if (this.zoom < FAR_ZOOM) return this.drawDots(inView, model, look);
    for (const node of inView) this.drawNode(node, model, look);
    if (this.zoom >= LABEL_ZOOM) for (const node of inView) this.drawLabel(node, model, look);
  }

  drawEdges(model) {
    const { context } = this;
    for (const chosen of [false, true]) {
      context.beginPath();
      for (const node of model.visible) {
        const [x, y] = this.at(node);
        for (const child of node.below) {
          const onTrace = model.trace.has(child.node_id) && model.whole;
          if (onTrace !== chosen) continue;
          const [childX, childY] = this.at(child);
          if (Math.max(y, childY) < 0 || Math.min(y, childY) > this.size[1]) continue;
          context.moveTo(x, y);
          if (this.zoom < FAR_ZOOM) {
            context.lineTo(childX, childY);
            continue;
          }
          const middle = childX - (childX - x) * 0.32;
          context.bezierCurveTo(middle, y, x + (childX - x) * 0.45, childY, childX, childY);
        }
      }
      context.strokeStyle = chosen ? this.colours.accent : this.colours.rule;
      context.lineWidth = chosen ? Math.max(3.5 * Math.min(this.zoom, 1), 1.5) : Math.max(1.3 * Math.min(this.zoom, 1), 0.4);
      context.stroke();
    }
  }

  // Nodes as squares of their colour; ends in that of their verdict, what is looked for in its own.
  drawDots(nodes, model, look) {
    const { context, colours } = this;
    const verdicts = { right: colours.right, wrong: colours.wrong };
    for (const node of nodes) {
      const [x, y] = this.at(node);
      const marked = look.selected === node ? colours.ink : look.hits.has(node.node_id) ? colours.hit : null;
      const radius = Math.max(this.radius(node, model) * 0.9, marked ? 5 : 0);
      const value = model.valueOf(node, look.colour);
      context.fillStyle = marked || (model.whole && verdicts[node.verdict]) || (value === null ? colours.soft : this.colourOf(value));
      context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
    }
  }

  drawNode(node, model, look) {
    const { context, colours } = this;
    const [x, y] = this.at(node);
    const radius = this.radius(node, model);
    const verdict = model.whole ? node.verdict : null;
    if (look.selected === node || look.hits.has(node.node_id) || model.changed.has(node.node_id) || look.only.has(node.node_id)) {
      this.drawRing(node, model, look, x, y, radius);
    }
    if (model.whole && node.decisive) this.drawDecisive(x, y, radius);
    if (node.annotations.length) this.drawFlag(node, x, y, radius);
    this.outline(verdict, x, y, radius);
    context.fillStyle = this.colourOf(model.valueOf(node, look.colour));
    context.fill();
    context.setLineDash(node.origin === "search" ? [] : [2, 2]);
    context.strokeStyle = verdict === "right" ? colours.right : verdict === "wrong" ? colours.wrong : colours.ink;
    context.lineWidth = verdict ? 2 : 1;
    context.stroke();
    context.setLineDash([]);
    if (radius > 3.5 && verdict && verdict !== "undecided") this.sign(verdict, x, y, radius);
    else if (node.final && !verdict && radius > 2.5) this.dot(x, y, radius);
  }

  // A bar across the way that leads to a decisive step.
  drawDecisive(x, y, radius) {
    const { context, colours } = this;
    const [left, reach] = [x - 1.9 * radius, 1.5 * radius];
    context.beginPath();
    context.moveTo(left, y - reach);
    context.lineTo(left, y + reach);
    context.strokeStyle = colours.wrong;
    context.lineWidth = Math.max(2, radius * 0.45);
    context.stroke();
  }

  // A flag on what people annotated, in the colour of what all who are sure say.
  drawFlag(node, x, y, radius) {
    const { context, colours } = this;
    const said = new Set(node.annotations.map(({ verdict }) => verdict).filter((verdict) => verdict !== "unsure"));
    const [foot, high] = [x + 0.7 * radius, Math.max(2.6 * radius, 9)];
    context.beginPath();
    context.moveTo(foot, y);
    context.lineTo(foot, y - high);
    context.strokeStyle = colours.ink;
    context.lineWidth = 1.5;
    context.stroke();
    context.beginPath();
    this.polygon([[foot, y - high], [foot + 0.75 * high, y - 0.78 * high], [foot, y - 0.56 * high]]);
    context.fillStyle = said.size === 1 ? colours[[...said][0]] : colours.soft;
    context.fill();
  }

  outline(verdict, x, y, radius) {
    const { context } = this;
    context.beginPath();
    if (verdict === "right") context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
    else if (verdict === "wrong") this.polygon([[x, y - 1.35 * radius], [x + 1.35 * radius, y], [x, y + 1.35 * radius], [x - 1.35 * radius, y]]);
    else if (verdict === "undecided") this.polygon([[x, y - 1.2 * radius], [x + 1.2 * radius, y + radius], [x - 1.2 * radius, y + radius]]);
    else context.arc(x, y, radius, 0, 2 * Math.PI);
  }

  polygon(points) {
    points.forEach(([x, y], place) => (place ? this.context.lineTo(x, y) : this.context.moveTo(x, y)));
    this.context.closePath();
  }

  sign(verdict, x, y, radius) {
    const { context } = this;
    const reach = radius * 0.5;
    const points = verdict === "right"
      ? [[[-1, 0.1], [-0.2, 0.9], [1.1, -0.8]]]
      : [[[-0.8, -0.8], [0.8, 0.8]], [[0.8, -0.8], [-0.8, 0.8]]];
    for (const [colour, thickness] of [[this.colours.card, 4], [this.colours.ink, 1.8]]) {
      context.beginPath();
      for (const line of points) line.forEach(([dx, dy], place) => context[place ? "lineTo" : "moveTo"](x + dx * reach, y + dy * reach));
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.stroke();
    }
  }

  dot(x, y, radius) {
    this.context.beginPath();
    this.context.arc(x, y, radius * 0.4, 0, 2 * Math.PI);
    this.context.fillStyle = this.colours.ink;
    this.context.fill();
  }

  drawRing(node, model, look, x, y, radius) {
    const { context, colours } = this;
    const ring = (distance, colour, dash, thickness) => {
      context.beginPath();
      context.arc(x, y, radius * 1.2 + distance, 0, 2 * Math.PI);
      context.setLineDash(dash);
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.stroke();
      context.setLineDash([]);
    };
    if (model.changed.has(node.node_id)) ring(3, colours.accent, [], 2);
    if (look.hits.has(node.node_id)) ring(4, colours.hit, [], 3);
    if (look.only.has(node.node_id)) ring(3, colours.soft, [2, 3], 1.5);
    if (look.selected === node) ring(6, colours.ink, [], 2);
  }

  // A step's text beside its node, wrapped into the room that it has there, and its value.
  drawLabel(node, model, look) {
    const { context, colours } = this;
    const [x, y] = this.at(node);
    const large = Math.min(Math.max(11.5 * this.zoom, 9), 14);
    const start = x + this.radius(node, model) * 1.3 + (look.selected === node ? 12 : 5);
    const bold = (model.whole && model.trace.has(node.node_id)) || look.hits.has(node.node_id);
    context.font = `${bold ? "600 " : ""}${large}px system-ui, "DejaVu Sans", sans-serif`;
    context.textBaseline = "middle";
    const number = model.valueOf(node, look.colour);
    const value = number === null || number === undefined ? "" : ` ${decimal(number, 2)}`;
    const folded = model.folded.has(node.node_id) ? ` +${node.size - 1}` : "";
    const step = node === model.root ? "the question" : node.step.replace(/\s+/g, " ").trim() || "(empty step)";
    const height = large * 1.22;
    const beside = model.column * this.zoom - (start - x) - 8;
    const room = node.below.length ? beside : Math.max(beside, 0.58 * large * 40);
    const tall = model.row * this.zoom * (node.below.length ? 0.85 : 0.95);
    if (mayHaveMath(step) && this.drawFormulas(node, step + folded, value, start, y, large, room, tall)) return;
    const most = Math.max(Math.floor(tall / height), 1);
    const { lines, widths, ending } = this.linesBeside(node, step + folded, room, most, value);
    if (!lines.length) return;
    const width = Math.max(...widths, widths[widths.length - 1] + ending);
    const middle = node.below.length ? y - 0.3 * large - (lines.length * height) / 2 : y;
    const first = middle - ((lines.length - 1) * height) / 2;
    context.globalAlpha = 0.82;
    context.fillStyle = colours.card;
    context.fillRect(start - 2, first - height / 2, width + 4, lines.length * height);
    context.globalAlpha = 1;
    context.fillStyle = colours.ink;
    lines.forEach((line, place) => context.fillText(line, start, first + place * height));
    context.fillStyle = colours.soft;
    context.fillText(value, start + widths[widths.length - 1], first + (lines.length - 1) * height);
  }

  // A label's lines with their widths and that of its value, which are measured once for a zoom.
  linesBeside(node, text, room, most, value) {
    const { context } = this;
    const key = `${context.font} ${room.toFixed(1)} ${most} ${value} ${text}`;
    if (node.wrapped?.key !== key) {
      const widthOf = (part) => context.measureText(part).width;
      const ending = widthOf(value);
      const lines = wrapped(text, widthOf, room, most, ending);
      node.wrapped = { key, lines, widths: lines.map(widthOf), ending };
    }
    return node.wrapped;
  }

  // A label with LaTeX; return whether it is drawn: a text may have none, or its formulas come with a later picture.
  drawFormulas(node, text, value, start, y, large, room, tall) {
    const { context, colours } = this;
    const ending = context.measureText(value).width;
    const key = `${context.font} ${room.toFixed(1)} ${tall.toFixed(1)} ${value} ${text}`;
    if (node.laid?.key !== key) node.laid = { key, lines: linesOf(text, context, large, room, tall, ending) };
    const { lines } = node.laid;
    if (lines === undefined) node.laid = null;
    if (!lines) return false;
    const height = lines.reduce((sum, line) => sum + line.above + line.below, 0);
    const width = Math.max(...lines.map((line) => line.width), lines[lines.length - 1].width + ending);
    const top = node.below.length ? y - 0.3 * large - height : y - height / 2;
    context.globalAlpha = 0.82;
    context.fillStyle = colours.card;
    context.fillRect(start - 2, top, width + 4, height);
    context.globalAlpha = 1;
    context.fillStyle = colours.ink;
    const [end, baseline] = drawLines(context, lines, start, top, large);
    context.fillStyle = colours.soft;
    context.fillText(value, end, baseline);
    return true;
  }
}

// Break a text at blanks into at most so many lines of a width, with room for a value after the last. A word that
// is wider is broken, and what does not fit is cut. No lines where not even a few letters fit.
export function wrapped(text, widthOf, room, most, reserved = 0) {
  if (widthOf("mmm") > room - reserved) return [];
  const lines = [];
  let rest = text;
  while (lines.length < most - 1 && widthOf(rest) > room - reserved) {
    const fits = fitting(rest, widthOf, room);
    const blank = rest.lastIndexOf(" ", fits);
    const end = blank > 0 ? blank : fits;
    lines.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  if (widthOf(rest) <= room - reserved) return [...lines, rest];
  return [...lines, `${rest.slice(0, fitting(rest, widthOf, room - reserved - widthOf("…")))}…`];
}

// How many characters of a text are no wider than the room; at least one.
function fitting(text, widthOf, room) {
  let [least, most] = [1, text.length];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (widthOf(text.slice(0, middle)) <= room) least = middle;
    else most = middle - 1;
  }
  return least;
}
