// A search tree as data: what each node was at each moment of its search, what is folded, and where everything lies.
const COLUMN = [110, 190];
const ROW = [27, 64];
// Of trees whose steps are whole sentences: room to wrap them.
const WIDE_COLUMN = [150, 290];
const HIGH_ROW = [46, 118];
const LONG_STEP = 18;
const MAX_SHOWN_AT_FIRST = 120;
// Origins of the nodes that no search made.
const GIVEN = ["solution", "given-observation"];

export class TreeModel {
  constructor(data) {
    this.folded = new Set();
    this.stamp = 0;
    [this.column, this.row] = [COLUMN[1], ROW[0]];
    this.take(data);
    this.frame = this.lastFrame;
    this.foldAtFirst();
  }

  // Take the tree as it is now stored, and the frames of its search if they are known; folds stay.
  take(data, frames = null) {
    const following = this.frame === undefined || this.frame === this.lastFrame;
    this.data = data;
    this.nodes = data.nodes.map((row) => Object.fromEntries(data.fields.map((name, place) => [name, row[place]])));
    this.byId = new Map(this.nodes.map((node) => [node.node_id, node]));
    for (const node of this.nodes) Object.assign(node, { children: [], born: Infinity, made: [], scored: null, asked: [] });
    for (const node of this.nodes) {
      const parent = this.byId.get(node.parent_id);
      node.depth = parent ? parent.depth + 1 : 0;
      if (parent) parent.children.push(node);
    }
    const decisive = new Set(data.decisive);
    for (const node of this.nodes) node.decisive = decisive.has(node.node_id);
    this.annotate(data.annotations);
    this.root = this.nodes[0];
    this.takeFrames(frames);
    if (following) this.frame = this.lastFrame;
    const lengths = this.nodes.slice(1).map((node) => node.step.trim().length);
    const isLong = lengths.reduce((sum, length) => sum + length, 0) > LONG_STEP * lengths.length;
    [this.columnRange, this.rowRange] = isLong ? [WIDE_COLUMN, HIGH_ROW] : [COLUMN, ROW];
    this.trace = new Set(this.lineage(this.byId.get(data.chosen)).map((node) => node.node_id));
    for (const node of [...this.nodes].reverse()) {
      node.size = 1 + node.children.reduce((sum, child) => sum + child.size, 0);
      node.children.sort((a, b) => b.visits - a.visits || a.node_id - b.node_id);
    }
    this.show(Math.min(this.frame, this.lastFrame));
  }

  // Take what people say of steps and answers.
  annotate(annotations) {
    for (const node of this.nodes) node.annotations = [];
    for (const one of annotations) this.byId.get(one.node_id)?.annotations.push(one);
    this.stamp += 1;
  }

  // Note when each node was born, and which requests made it, scored it and went on from it. Frames: null if not known yet.
  takeFrames(frames) {
    this.framesAreKnown = frames !== null;
    this.frames = frames || [];
    if (this.root) this.root.born = 0;
    this.frames.forEach((frame, place) => {
      for (const [id, , , modelValue] of frame.changes) {
        const node = this.byId.get(id);
        if (!node) continue;
        const parent = this.byId.get(node.parent_id);
        if (node.born === Infinity) {
          node.born = place + 1;
          node.made.push(frame.id);
          if (parent && parent.born <= place) parent.asked.push(frame.id);
        }
        if (node.scored === null && modelValue !== null && frame.kind === "score") node.scored = frame.id;
      }
    });
    this.lastFrame = this.frames.length ? this.frames.length + 1 : 0;
  }

  // Go to the moment after so many responses; the last one is the tree as it is stored, with its labels.
  show(frame) {
    this.frame = frame;
    const whole = frame >= this.lastFrame;
    this.changed = new Set();
    for (const node of this.nodes) {
      node.now = whole ? node : { visits: 0, search_value: null, model_value: null };
      node.shown = whole || node.born <= frame;
    }
    if (!whole) {
      for (const { changes } of this.frames.slice(0, frame)) {
        for (const [id, visits, searchValue, modelValue] of changes) {
          const node = this.byId.get(id);
          if (node) node.now = { visits, search_value: searchValue, model_value: modelValue };
        }
      }
      if (frame > 0) this.changed = new Set(this.frames[frame - 1].changes.map(([id]) => id));
    }
    this.whole = whole;
    this.maxVisits = Math.max(1, ...this.nodes.map((node) => node.now.visits));
    this.place();
  }

  // Fold a large tree down to its most visited part and its chosen trace.
  foldAtFirst() {
    if (this.nodes.length <= MAX_SHOWN_AT_FIRST) return;
    const open = new Set(this.trace);
    const ranked = this.nodes.filter((node) => node.children.length).sort((a, b) => b.visits - a.visits || a.depth - b.depth);
    let shown = 0;
    for (const node of ranked) {
      const reached = node === this.root || open.has(node.parent_id);
      if (!reached || shown + node.children.length > MAX_SHOWN_AT_FIRST) continue;
      open.add(node.node_id);
      shown += node.children.length;
    }
    this.folded = new Set(ranked.filter((node) => !open.has(node.node_id)).map((node) => node.node_id));
    this.place();
  }

  fold(node, folded = !this.folded.has(node.node_id)) {
    if (!node.children.length) return;
    if (folded) this.folded.add(node.node_id);
    else this.folded.delete(node.node_id);
    this.place();
  }

  foldAll() {
    this.folded = new Set(this.root.children.filter((node) => node.children.length).map((node) => node.node_id));
    this.place();
  }

  unfoldAll() {
    this.folded.clear();
    this.place();
  }

  reveal(node) {
    for (const above of this.lineage(node).slice(0, -1)) this.folded.delete(above.node_id);
    this.place();
  }

  // Give each visible node its place: columns are depths, leaves get a row each, parents stand between their children.
  place() {
    this.stamp += 1;
    this.visible = [];
    let row = 0;
    const open = (node) => (this.folded.has(node.node_id) ? [] : node.children.filter((child) => child.shown));
    const stack = this.root && this.root.shown ? [[this.root, false]] : [];
    while (stack.length) {
      const [node, placed] = stack.pop();
      const below = open(node);
      if (placed || !below.length) {
        node.x = node.depth * this.column;
        node.y = below.length ? (below[0].y + below[below.length - 1].y) / 2 : row++ * this.row;
        node.below = below;
        this.visible.push(node);
        continue;
      }
      stack.push([node, true]);
      for (const child of [...below].reverse()) stack.push([child, false]);
    }
    this.numRows = this.align ? this.align() : row;
    this.height = Math.max(this.numRows - 1, 0) * this.row;
    this.width = Math.max(0, ...this.visible.map((node) => node.x)) + Math.max(0.8 * this.column, 140);
    this.columns = [];
    for (const node of this.visible) (this.columns[node.depth] ||= []).push(node);
  }

  // Space columns and rows so that the tree fills a room of that size as far as it stays readable.
  spread(width, height) {
    const within = (value, [least, most]) => Math.min(Math.max(value, least), most);
    const models = this.partner ? [this, this.partner] : [this];
    const depth = Math.max(...models.map((model) => model.columns.length));
    const row = within(height / Math.max(this.numRows - 1, 1), this.rowRange);
    for (const model of models) [model.column, model.row] = [within((width - 140) / Math.max(depth - 1, 1), this.columnRange), row];
    for (const model of models) model.place();
  }

  lineage(node) {
    const path = [];
    for (let one = node; one; one = this.byId.get(one.parent_id)) path.unshift(one);
    return path;
  }

  steps(node) {
    return this.lineage(node).slice(1).map((one) => one.step);
  }

  // The ends that were verified, right ones first, then by how often the search came there.
  ends() {
    const rank = (node) => ["right", "undecided", "wrong"].indexOf(node.verdict);
    return this.nodes.filter((node) => node.verdict).sort((a, b) => rank(a) - rank(b) || b.visits - a.visits || a.node_id - b.node_id);
  }

  // By which responses a step was made and scored, and how many went on from it.
  responsesOf(node) {
    const place = (id) => this.frames.findIndex((frame) => frame.id === id) + 1;
    return { made: node.made.map(place), scored: node.scored === null ? 0 : place(node.scored), asked: node.asked.length };
  }

  // The partial solutions of this tree as texts, for finding those that another tree has too.
  paths() {
    const texts = new Map();
    for (const node of this.nodes) {
      const parent = this.byId.get(node.parent_id);
      texts.set(node.node_id, parent ? texts.get(parent.node_id) + "\u0000" + node.step.trim() : "");
    }
    return texts;
  }

  find(text) {
    const wanted = text.trim().toLowerCase();
    return wanted ? this.nodes.filter((node) => node.shown && node.step.toLowerCase().includes(wanted)) : [];
  }

  // The number by which a node is coloured: V or, once labelled, v; null where there is none.
  valueOf(node, colour) {
    if (colour === "quality") return this.whole ? node.quality_value : null;
    return this.isScored(node) ? node.now.search_value : null;
  }

  // Whether any step has a number of that kind.
  hasValues(colour) {
    return this.nodes.some((node) => node !== this.root && this.valueOf(node, colour) !== null);
  }

  // Whether anything is known of a node: a value of its own or one that was backed up.
  isScored(node) {
    return node.now.search_value !== null;
  }

  // How many nodes are shown, counted as everywhere: neither the question nor the steps of a given solution.
  countShown() {
    return this.nodes.filter((node) => node.shown && node !== this.root && !GIVEN.includes(node.origin)).length;
  }
}
