// Two trees of one problem, aligned: steps that both have are at the same place in both drawings.

class TreePair {
  constructor(views) {
    this.views = views;
    this.paths = views.map((view) => view.model.paths());
    this.nodes = views.map((view, side) => new Map(view.model.nodes.map((node) => [this.paths[side].get(node.node_id), node])));
    views.forEach((view, side) => {
      const other = this.nodes[1 - side];
      for (const [id, path] of this.paths[side]) if (!other.has(path)) view.look.only.add(id);
      view.pair = this;
    });
  }

  // The node of the other tree that has the same partial solution, if there is one.
  counterpart(view, node) {
    const side = this.views.indexOf(view);
    return this.nodes[1 - side].get(this.paths[side].get(node.node_id)) || null;
  }

  // Select in the other tree what is selected in one, and look at the same place.
  follow(view, node) {
    const other = this.views[1 - this.views.indexOf(view)];
    const same = this.counterpart(view, node);
    other.look.selected = same;
    if (same) other.say(other.describe(same));
    else other.say("This step is in the other tree alone.");
    other.redraw();
  }

  // Move the other drawing as this one was moved since both were last at the same place.
  pan(view) {
    const { zoom, left, top } = view.drawing;
    const place = `${zoom} ${left} ${top}`;
    if (this.place === place) return;
    this.place = place;
    const other = this.views[1 - this.views.indexOf(view)];
    Object.assign(other.drawing, { zoom, left, top });
    other.redraw();
  }

  // Give the steps that are unfolded in either tree a row each, those of both first; return how many.
  align() {
    const shown = this.views.map((view, side) => new Map(view.model.visible.map((node) => [this.paths[side].get(node.node_id), node])));
    const children = (path) => {
      const [first, second] = shown.map((nodes, side) => (nodes.get(path)?.below || []).map((node) => this.paths[side].get(node.node_id)));
      const both = first.filter((one) => second.includes(one));
      return [...both, ...first.filter((one) => !both.includes(one)), ...second.filter((one) => !both.includes(one))];
    };
    const rows = new Map();
    let row = 0;
    const stack = [["", null]];
    while (stack.length) {
      const [path, placed] = stack.pop();
      const below = placed || children(path);
      if (placed || !below.length) {
        rows.set(path, below.length ? (rows.get(below[0]) + rows.get(below[below.length - 1])) / 2 : row++);
        continue;
      }
      stack.push([path, below], ...below.map((one) => [one, null]).reverse());
    }
    this.views.forEach(({ model }, side) => {
      for (const [path, node] of shown[side]) node.y = rows.get(path) * model.row;
      model.numRows = row;
      model.height = Math.max(row - 1, 0) * model.row;
    });
    this.views.forEach((view) => view.redraw());
    return row;
  }
}

export function pair(...views) {
  if (views.some((view) => !view.model?.root)) return;
  const [first, second] = views.map((view) => view.model);
  const both = new TreePair(views);
  [first.partner, second.partner] = [second, first];
  [second.columnRange, second.rowRange] = [first.columnRange, first.rowRange];
  for (const model of [first, second]) model.align = () => both.align();
  views[0].drawing.fit(first);
  both.pan(views[0]);
  for (const view of views) {
    const shared = view.model.nodes.length - 1 - view.look.only.size;
    view.box.dataset.compared = "yes";
    view.say(`${view.look.only.size} of ${view.model.nodes.length - 1} steps are in this tree alone; ${shared} are at the same place in both.`);
    view.redraw();
  }
}
