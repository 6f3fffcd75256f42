// A tree as an indented list beside its drawing: whole steps, folded with the drawing, walked through with keys.
import { decimal, element, peopleSay, setMath } from "./tree_words.js";

const MATH_ROWS = 300;

export class TreeOutline {
  constructor(view, list) {
    this.view = view;
    this.list = list;
    this.rows = new Map();
    list.addEventListener("keydown", (event) => this.onKey(event));
    list.addEventListener("click", (event) => this.onClick(event));
  }

  // Show what the drawing shows; rows are made anew only when other nodes are visible or values have changed.
  update() {
    const { model, look } = this.view;
    const state = `${model.stamp} ${look.colour}`;
    if (this.state !== state && !this.view.replay.playing) {
      this.state = state;
      this.order = this.inOrder(model);
      this.rows.clear();
      this.list.replaceChildren(...this.order.map((node) => this.row(node, this.order.length <= MATH_ROWS)));
    }
    this.mark(look.selected);
  }

  inOrder(model) {
    const order = [];
    const stack = model.visible.includes(model.root) ? [model.root] : [];
    while (stack.length) {
      const node = stack.pop();
      order.push(node);
      stack.push(...[...node.below].reverse());
    }
    return order;
  }

  row(node, withMath) {
    const { model, look } = this.view;
    const place = node.parent_id === null ? [node] : model.byId.get(node.parent_id).below;
    const row = element("li", null, {
      role: "treeitem", id: this.idOf(node), "data-node": node.node_id, "aria-level": node.depth + 1,
      "aria-setsize": place.length, "aria-posinset": place.indexOf(node) + 1,
    });
    row.style.setProperty("--depth", node.depth);
    const folded = model.folded.has(node.node_id);
    if (node.children.length) row.setAttribute("aria-expanded", String(!folded));
    const value = model.valueOf(node, look.colour);
    const known = value !== null && value !== undefined;
    const chip = element("span", known ? decimal(value, 2) : "–", { class: "chip" });
    if (known) chip.style.setProperty("--value", this.view.drawing.colourOf(value));
    const step = element("span", null, { class: "step" });
    const text = node === model.root ? "The question" : node.step.trim() || "(empty step)";
    if (withMath) setMath(step, text);
    else step.textContent = text;
    row.append(element("span", node.children.length ? (folded ? "▸" : "▾") : "", { class: "fold", "aria-hidden": "true" }), chip, step);
    this.addWords(row, node, folded);
    if (model.whole && model.trace.has(node.node_id)) row.classList.add("chosen");
    this.rows.set(node.node_id, row);
    return row;
  }

  addWords(row, node, folded) {
    const { model } = this.view;
    if (folded) row.append(element("span", `+${node.size - 1}`, { class: "soft" }));
    if (!model.whole) return;
    if (node.decisive) row.append(element("span", "decisive", { class: "verdict wrong" }));
    if (node.annotations.length) row.append(element("span", peopleSay(node), { class: "people" }));
    if (node.verdict) row.append(element("span", { right: "✓ right", wrong: "✗ wrong" }[node.verdict] || node.verdict, { class: `verdict ${node.verdict}` }));
  }

  idOf(node) {
    return `outline-${this.view.id}-${node.node_id}`;
  }

  mark(node) {
    const row = node && this.rows.get(node.node_id);
    if (row === this.marked && row) return;
    if (this.marked) this.marked.removeAttribute("aria-selected");
    this.marked = row || null;
    if (!row) return this.list.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    this.list.setAttribute("aria-activedescendant", row.id);
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight];
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (bottom > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = bottom - this.list.clientHeight;
  }

  onClick(event) {
    const row = event.target.closest("[data-node]");
    if (!row) return;
    const node = this.view.model.byId.get(Number(row.dataset.node));
    if (event.target.classList.contains("fold")) this.view.toggle(node);
    else this.view.open(node);
  }

  onKey(event) {
    const { view } = this;
    const here = view.look.selected || view.model.root;
    const place = this.order.indexOf(here);
    const folded = view.model.folded.has(here.node_id);
    const keys = {
      ArrowUp: () => view.select(this.order[place - 1]),
      ArrowDown: () => view.select(this.order[place + 1]),
      ArrowRight: () => (folded ? view.toggle(here) : view.select(here.below[0])),
      ArrowLeft: () => (here.below.length ? view.toggle(here) : view.select(view.model.byId.get(here.parent_id))),
      Home: () => view.select(this.order[0]),
      End: () => view.select(this.order[this.order.length - 1]),
      " ": () => view.toggle(here),
      Enter: () => view.open(here, true),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  // Name every verified end with its verdict and reason; a click goes there.
  listEnds() {
    const { model, box } = this.view;
    const ends = model.ends();
    const place = box.querySelector(".ends");
    place.hidden = !ends.length;
    const count = (verdict) => ends.filter((node) => node.verdict === verdict).length;
    const counts = ["right", "wrong", "undecided"].filter(count).map((verdict) => `${count(verdict)} ${verdict}`);
    place.querySelector("summary").textContent = `Ends: ${counts.join(", ")}`;
    place.querySelector("ol").replaceChildren(...ends.map((node) => this.end(node)));
  }

  end(node) {
    const line = element("li", null);
    const button = element("button", node.step.trim() || "(empty step)", { type: "button" });
    button.addEventListener("click", () => { this.view.model.reveal(node); this.view.open(node); });
    const chosen = node.node_id === this.view.model.data.chosen ? ", chosen" : "";
    line.append(element("span", node.verdict + chosen, { class: `verdict ${node.verdict}` }), button);
    if (node.reason) line.append(element("span", node.reason, { class: "soft" }));
    if (node.annotations.length) line.append(element("span", peopleSay(node), { class: "people" }));
    return line;
  }
}
