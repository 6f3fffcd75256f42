// A small picture of a large tree, with a frame around what is in view; pressing it goes there.

const FROM_NODES = 200;
const MARGIN = 6;

export class TreeMap {
  constructor(view, canvas) {
    this.view = view;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.dots = document.createElement("canvas");
  }

  listen() {
    this.canvas.hidden = this.view.model.nodes.length < FROM_NODES;
    const go = (event) => { if (event.buttons) this.goTo(event.offsetX, event.offsetY); };
    this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); go(event); });
    this.canvas.addEventListener("pointermove", go);
  }

  get scale() {
    const { model } = this.view;
    return [(this.size[0] - 2 * MARGIN) / model.width, (this.size[1] - 2 * MARGIN) / (model.height || 1)];
  }

  goTo(x, y) {
    const { drawing } = this.view;
    const [across, down] = this.scale;
    drawing.left = drawing.size[0] / 2 - ((x - MARGIN) / across) * drawing.zoom;
    drawing.top = drawing.size[1] / 2 - ((y - MARGIN) / down) * drawing.zoom;
    this.view.redraw();
  }

  draw() {
    if (this.canvas.hidden) return;
    const { model, drawing, look } = this.view;
    const state = `${model.stamp} ${model.column} ${model.row} ${look.colour} ${drawing.colours.card}`;
    if (this.state !== state) this.drawDots(state);
    const [width, height] = this.size;
    const [across, down] = this.scale;
    const { context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.dots, 0, 0);
    context.setTransform(drawing.ratio, 0, 0, drawing.ratio, 0, 0);
    const left = Math.max(MARGIN - (drawing.left / drawing.zoom) * across, 1);
    const top = Math.max(MARGIN - (drawing.top / drawing.zoom) * down, 1);
    const right = Math.min(MARGIN + ((drawing.size[0] - drawing.left) / drawing.zoom) * across, width - 1);
    const bottom = Math.min(MARGIN + ((drawing.size[1] - drawing.top) / drawing.zoom) * down, height - 1);
    context.strokeStyle = drawing.colours.accent;
    context.lineWidth = 2;
    context.strokeRect(left, top, Math.max(right - left, 3), Math.max(bottom - top, 3));
  }

  drawDots(state) {
    const { model, drawing, look } = this.view;
    this.state = state;
    this.size = [this.canvas.clientWidth, this.canvas.clientHeight];
    for (const one of [this.canvas, this.dots]) [one.width, one.height] = this.size.map((length) => Math.round(length * drawing.ratio));
    const [across, down] = this.scale;
    const context = this.dots.getContext("2d");
    context.setTransform(drawing.ratio, 0, 0, drawing.ratio, 0, 0);
    for (const node of model.visible) {
      const value = model.valueOf(node, look.colour);
      const onTrace = model.whole && model.trace.has(node.node_id);
      context.fillStyle = onTrace ? drawing.colours.accent : value === null ? drawing.colours.soft : drawing.colourOf(value);
      const reach = onTrace ? 2 : 1.2;
      context.fillRect(MARGIN + node.x * across - reach, MARGIN + node.y * down - reach, 2 * reach, 2 * reach);
    }
  }
}
