// Mouse, touch, keys and buttons of a tree that is looked at.

export class TreeInput {
  constructor(view) {
    this.view = view;
    this.canvas = view.canvas;
    this.pointers = new Map();
  }

  listen() {
    const { canvas, view } = this;
    const { box } = view;
    new ResizeObserver(() => {
      this.view.drawing.resize();
      this.view.keepInView();
      this.view.redraw();
    }).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.view.drawing.readColours(); this.view.outline.state = null; this.view.redraw(); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.view.drawing.zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
      this.view.redraw();
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.onUp(event));
    canvas.addEventListener("pointerleave", () => this.view.detail.hint(null));
    canvas.addEventListener("dblclick", (event) => this.view.toggle(this.view.drawing.hit(this.view.model, event.offsetX, event.offsetY)));
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.target.matches("input, select, textarea")) this.view.close();
    });
    box.querySelectorAll("[data-do]").forEach((control) => {
      const name = control.tagName === "BUTTON" ? "click" : "input";
      control.addEventListener(name, () => this.act(control.dataset.do, control));
    });
    this.view.box.querySelector('[data-do="search"]').addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.view.nextHit();
    });
  }

  onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = 0;
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.view.detail.hint(this.view.drawing.hit(this.view.model, event.offsetX, event.offsetY), event.offsetX, event.offsetY);
      return;
    }
    const spread = () => {
      const [first, second] = [...this.pointers.values()];
      return Math.hypot(first[0] - second[0], first[1] - second[1]);
    };
    const wide = this.pointers.size === 2 ? spread() : 0;
    const move = [event.offsetX - before[0], event.offsetY - before[1]];
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved += Math.abs(move[0]) + Math.abs(move[1]);
    if (wide) this.view.drawing.zoomAt(event.offsetX, event.offsetY, spread() / wide);
    else [this.view.drawing.left, this.view.drawing.top] = [this.view.drawing.left + move[0], this.view.drawing.top + move[1]];
    this.view.detail.hint(null);
    this.view.redraw();
  }

  onUp(event) {
    if (!this.pointers.delete(event.pointerId) || this.moved > 5) return;
    const node = this.view.drawing.hit(this.view.model, event.offsetX, event.offsetY);
    if (node) this.view.open(node);
  }

  onKey(event) {
    const { view } = this;
    const { model, drawing } = view;
    const here = this.view.look.selected || model.root;
    const [width, height] = drawing.size;
    const column = model.columns[here ? here.depth : 0] || [];
    const beside = (offset) => column[column.indexOf(here) + offset];
    const keys = {
      ArrowLeft: () => this.view.select(model.byId.get(here.parent_id)),
      ArrowRight: () => this.view.select(here.below[0]),
      ArrowUp: () => this.view.select(beside(-1)),
      ArrowDown: () => this.view.select(beside(1)),
      Home: () => this.view.select(model.root),
      " ": () => this.view.toggle(here),
      Enter: () => this.view.open(here, true),
      "+": () => drawing.zoomAt(width / 2, height / 2, 1.3),
      "-": () => drawing.zoomAt(width / 2, height / 2, 1 / 1.3),
      f: () => drawing.fit(model),
      "/": () => this.view.box.querySelector('[data-do="search"]').focus(),
    };
    const action = keys[event.key];
    if (!action || !here || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
    this.view.redraw();
  }

  act(name, control) {
    const [width, height] = this.view.drawing.size;
    const actions = {
      fit: () => this.view.drawing.fit(this.view.model),
      in: () => this.view.drawing.zoomAt(width / 2, height / 2, 1.4),
      out: () => this.view.drawing.zoomAt(width / 2, height / 2, 1 / 1.4),
      "fold-all": () => { this.view.model.foldAll(); this.view.drawing.fit(this.view.model); },
      "unfold-all": () => { this.view.model.unfoldAll(); this.view.drawing.fit(this.view.model); },
      chosen: () => this.view.showChosen(),
      colour: () => { this.view.look.colour = control.value; },
      search: () => this.view.search(control.value),
      frame: () => this.view.replay.goTo(Number(control.value)),
      play: () => this.view.replay.play(control),
      "save-svg": () => this.view.save("svg"),
      "save-png": () => this.view.save("png"),
    };
    actions[name]();
    this.view.redraw();
  }
}
