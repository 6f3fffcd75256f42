// A tree that is looked at: mouse, touch and keys, hints, a step's whole story, replay and search.
"use strict";

const POLL_MILLISECONDS = 2000;
const READABLE = 150;
const READABLE_ZOOM = 0.7;
const FACTS = [
  ["V", "search_value", "the search's value of this partial solution"],
  ["n", "visits", "visits"],
  ["V_θ", "model_value", "as the value model gave it"],
  ["m", "reasoning_distance", "reasoning distance: steps still needed"],
  ["r", "step_is_right", "0: a right end lies below, 1: none does"],
  ["w", "weighted_reward", "weighted reward"],
  ["v", "quality_value", "inferred quality value"],
];

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A button that puts a text into the clipboard and says so.
function copyButton(label, text) {
  const button = element("button", label, { type: "button", "aria-live": "polite" });
  button.addEventListener("click", async () => {
    const done = await navigator.clipboard.writeText(text()).then(() => true, () => false);
    button.textContent = done ? "Copied" : "The browser refused: select the text instead";
  });
  return button;
}

// Where a step comes from, where the search's policy did not write it.
function originOf(node) {
  if (node.origin === "search") return "";
  return node.origin === "observation" ? "an observation: a tool answered it" : `from a ${node.origin.replace("-", " ")}`;
}

function shownNumber(value) {
  return Number.isInteger(value) ? String(value) : Number(value).toFixed(3);
}

// Put a text into an element as text, with its LaTeX set by KaTeX; what KaTeX does not take stays as it is.
function setMath(target, text) {
  const pattern = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$(?!\s)((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d)/g;
  target.replaceChildren();
  let end = 0;
  for (const found of text.matchAll(pattern)) {
    const source = found.slice(1).find((group) => group !== undefined);
    const span = document.createElement("span");
    try {
      katex.render(source, span, { displayMode: found[1] !== undefined || found[2] !== undefined, throwOnError: true, trust: false, maxExpand: 200, maxSize: 20 });
    } catch {
      span.textContent = found[0];
    }
    target.append(text.slice(end, found.index), span);
    end = found.index + found[0].length;
  }
  target.append(text.slice(end));
}

class TreeView {
  constructor(box) {
    this.box = box;
    this.id = box.dataset.tree;
    this.canvas = box.querySelector("canvas");
    this.drawing = new TreeDrawing(this.canvas);
    this.look = { colour: "value", hits: new Set(), only: new Set(), selected: null };
    this.pointers = new Map();
    this.outline = new TreeOutline(this, box.querySelector(".outline"));
    box.view = this;
  }

  async start() {
    const data = await this.fetchData();
    if (!data) return;
    this.model = new TreeModel(data);
    this.box.querySelector(".loading").remove();
    this.listen();
    this.drawing.resize();
    if (this.model.root) this.drawing.fit(this.model, this.model.visible.length <= READABLE ? READABLE_ZOOM : undefined);
    this.updateReplay();
    if (this.model.root) this.selectLinked();
    else this.say("The search of this tree has not begun.");
    this.outline.listEnds();
    this.box.dataset.ready = "yes";
    if (data.state === "searching" || data.state === "waiting") this.poll();
    if (this.box.dataset.other) this.markOnly();
  }

  async fetchData() {
    const answer = await fetch(`/trees/${this.id}/data`).catch(() => null);
    if (answer && answer.ok) return answer.json();
    this.box.querySelector(".loading").textContent = "The tree cannot be loaded: is the dashboard still running?";
    return null;
  }

  poll() {
    setTimeout(async () => {
      const answer = await fetch(`/trees/${this.id}/data`).catch(() => null);
      const data = answer && answer.ok ? await answer.json() : null;
      if (data) {
        const selected = this.look.selected && this.look.selected.node_id;
        this.model.take(data);
        this.look.selected = this.model.byId.get(selected) || null;
        this.updateReplay();
        this.outline.listEnds();
        this.redraw();
      }
      if (!data || data.state === "searching" || data.state === "waiting") this.poll();
    }, POLL_MILLISECONDS);
  }

  async markOnly() {
    const answer = await fetch(`/trees/${this.box.dataset.other}/data`).catch(() => null);
    if (!answer || !answer.ok) return;
    const other = new Set(new TreeModel(await answer.json()).paths().values());
    for (const [id, path] of this.model.paths()) if (!other.has(path)) this.look.only.add(id);
    this.box.dataset.compared = "yes";
    this.say(`${this.look.only.size} of ${this.model.nodes.length - 1} steps are in this tree alone.`);
    this.redraw();
  }

  listen() {
    const { canvas } = this;
    new ResizeObserver(() => {
      this.drawing.resize();
      this.keepInView();
      this.redraw();
    }).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.drawing.readColours(); this.outline.state = null; this.redraw(); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.drawing.zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
      this.redraw();
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.onUp(event));
    canvas.addEventListener("pointerleave", () => this.hint(null));
    canvas.addEventListener("dblclick", (event) => this.toggle(this.drawing.hit(this.model, event.offsetX, event.offsetY)));
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.box.querySelectorAll("[data-do]").forEach((control) => {
      const name = control.tagName === "BUTTON" ? "click" : "input";
      control.addEventListener(name, () => this.act(control.dataset.do, control));
    });
    this.box.querySelector('[data-do="search"]').addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.nextHit();
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
      this.hint(this.drawing.hit(this.model, event.offsetX, event.offsetY), event.offsetX, event.offsetY);
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
    if (wide) this.drawing.zoomAt(event.offsetX, event.offsetY, spread() / wide);
    else [this.drawing.left, this.drawing.top] = [this.drawing.left + move[0], this.drawing.top + move[1]];
    this.hint(null);
    this.redraw();
  }

  onUp(event) {
    if (!this.pointers.delete(event.pointerId) || this.moved > 5) return;
    const node = this.drawing.hit(this.model, event.offsetX, event.offsetY);
    if (node) this.open(node);
  }

  onKey(event) {
    const { model, drawing } = this;
    const here = this.look.selected || model.root;
    const [width, height] = drawing.size;
    const column = model.columns[here ? here.depth : 0] || [];
    const beside = (offset) => column[column.indexOf(here) + offset];
    const keys = {
      ArrowLeft: () => this.select(model.byId.get(here.parent_id)),
      ArrowRight: () => this.select(here.below[0]),
      ArrowUp: () => this.select(beside(-1)),
      ArrowDown: () => this.select(beside(1)),
      Home: () => this.select(model.root),
      " ": () => this.toggle(here),
      Enter: () => this.open(here, true),
      Escape: () => this.close(),
      "+": () => drawing.zoomAt(width / 2, height / 2, 1.3),
      "-": () => drawing.zoomAt(width / 2, height / 2, 1 / 1.3),
      f: () => drawing.fit(model),
      "/": () => this.box.querySelector('[data-do="search"]').focus(),
    };
    const action = keys[event.key];
    if (!action || !here || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
    this.redraw();
  }

  act(name, control) {
    const [width, height] = this.drawing.size;
    const actions = {
      fit: () => this.drawing.fit(this.model),
      in: () => this.drawing.zoomAt(width / 2, height / 2, 1.4),
      out: () => this.drawing.zoomAt(width / 2, height / 2, 1 / 1.4),
      "fold-all": () => { this.model.foldAll(); this.drawing.fit(this.model); },
      "unfold-all": () => { this.model.unfoldAll(); this.drawing.fit(this.model); },
      chosen: () => this.showChosen(),
      colour: () => { this.look.colour = control.value; },
      search: () => this.search(control.value),
      frame: () => this.goTo(Number(control.value)),
      play: () => this.play(control),
    };
    actions[name]();
    this.redraw();
  }

  showChosen() {
    const chosen = this.model.byId.get(this.model.data.chosen);
    if (!chosen) return this.say("No end was chosen in this tree.");
    this.model.reveal(chosen);
    this.open(chosen);
  }

  search(text) {
    const hits = this.model.find(text);
    this.look.hits = new Set(hits.map((node) => node.node_id));
    this.hits = hits;
    this.hitPlace = -1;
    const found = this.box.querySelector(".found");
    found.textContent = text.trim() ? `${hits.length} found${hits.length ? ", Enter goes on" : ""}` : "";
  }

  nextHit() {
    if (!this.hits || !this.hits.length) return;
    this.hitPlace = (this.hitPlace + 1) % this.hits.length;
    this.model.reveal(this.hits[this.hitPlace]);
    this.select(this.hits[this.hitPlace]);
    this.redraw();
  }

  updateReplay() {
    const slider = this.box.querySelector('[data-do="frame"]');
    slider.max = this.model.lastFrame;
    slider.value = this.model.frame;
    slider.disabled = this.box.querySelector('[data-do="play"]').disabled = !this.model.lastFrame;
    this.tellFrame();
  }

  goTo(frame) {
    this.model.show(frame);
    this.box.querySelector('[data-do="frame"]').value = frame;
    this.tellFrame();
    this.redraw();
  }

  tellFrame() {
    const { model } = this;
    const count = model.visible.length && model.nodes.filter((node) => node.shown).length;
    const told = !model.lastFrame ? "no response to play again"
      : model.whole ? `the whole tree: ${model.nodes.length} nodes, ${model.frames.length} responses`
      : model.frame === 0 ? "before the first response"
      : `response ${model.frame} of ${model.frames.length} (${model.frames[model.frame - 1].kind}): ${count} nodes`;
    this.box.querySelector("output").textContent = told;
    this.box.querySelector('[data-do="frame"]').setAttribute("aria-valuetext", told);
  }

  play(button) {
    const playing = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(playing));
    button.textContent = playing ? "Pause" : "Replay";
    clearInterval(this.timer);
    this.playing = playing;
    if (!playing) return this.redraw();
    if (this.model.whole) {
      this.model.unfoldAll();
      this.drawing.fit(this.model);
      this.goTo(0);
    }
    const pause = Math.min(Math.max(12000 / this.model.lastFrame, 40), 700);
    this.timer = setInterval(() => {
      if (this.model.frame >= this.model.lastFrame) this.play(button);
      else this.goTo(this.model.frame + 1);
    }, pause);
  }

  // Begin at the step that the address names, else at the question.
  selectLinked() {
    const linked = this.model.byId.get(Number(location.hash.replace("#node-", "")));
    if (!linked || !location.hash || this.box.dataset.other) return this.select(this.model.root);
    this.model.reveal(linked);
    this.open(linked);
  }

  toggle(node) {
    if (!node) return;
    this.model.fold(node);
    this.select(node);
  }

  select(node) {
    if (!node) return;
    this.look.selected = node;
    this.keepInView();
    this.link(node);
    this.say(this.describe(node));
    this.redraw();
  }

  // Put the step into the address once it is stayed at: browsers refuse a change for each press of a key.
  link(node) {
    if (this.box.dataset.other) return;
    clearTimeout(this.linkTimer);
    const address = node === this.model.root ? location.pathname : `#node-${node.node_id}`;
    this.linkTimer = setTimeout(() => history.replaceState(null, "", address), 300);
  }

  keepInView() {
    if (!this.look.selected) return;
    const [x, y] = this.drawing.at(this.look.selected);
    const [width, height] = this.drawing.size;
    if (x < 20 || x > width - 60) this.drawing.left += width / 2 - x;
    if (y < 20 || y > height - 20) this.drawing.top += height / 2 - y;
  }

  say(text) {
    this.box.querySelector(".current").textContent = text;
  }

  describe(node) {
    const step = node === this.model.root ? "The question" : node.step.trim() || "(empty step)";
    const facts = this.factsOf(node).map(([symbol, value]) => `${symbol} ${value}`);
    const below = node.children.length ? `${node.children.length} ${node.children.length === 1 ? "child" : "children"}${this.model.folded.has(node.node_id) ? ", folded" : ""}` : "";
    const origin = originOf(node);
    const chosen = node.node_id === this.model.data.chosen ? "chosen" : "";
    const decisive = this.model.whole && node.decisive ? "decisive: solvable before, lost after" : "";
    const unscored = node !== this.model.root && !this.model.isScored(node) ? "not scored" : "";
    return [step, ...facts, unscored, this.model.whole ? node.verdict : "", decisive, chosen, origin, below].filter(Boolean).join(" · ");
  }

  factsOf(node) {
    const known = this.model.whole ? node : node.now;
    return FACTS.map(([symbol, name, meaning]) => [symbol, name === "step_is_right" && typeof known[name] === "boolean" ? Number(!known[name]) : known[name], meaning])
      .filter(([symbol, value]) => value !== null && value !== undefined && !(symbol === "V" && (node === this.model.root || !this.model.isScored(node))))
      .map(([symbol, value, meaning]) => [symbol, shownNumber(value), meaning]);
  }

  hint(node, x, y) {
    const tip = this.box.querySelector(".tip");
    tip.hidden = !node;
    this.canvas.classList.toggle("over", Boolean(node));
    if (!node) return;
    tip.replaceChildren(element("strong", node === this.model.root ? "the question" : node.step.trim() || "(empty step)"));
    const facts = this.factsOf(node).map(([symbol, value]) => `${symbol} ${value}`).join("  ");
    tip.append(element("span", facts), element("span", [node !== this.model.root && !this.model.isScored(node) && "not scored", this.model.whole && node.verdict, this.model.whole && node.decisive && "decisive", originOf(node)].filter(Boolean).join(", ")));
    const [width, height] = this.drawing.size;
    tip.style.left = `${Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 6))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, height - tip.offsetHeight - 6))}px`;
  }

  open(node, focus = false) {
    this.select(node);
    const detail = this.box.querySelector(".detail");
    detail.hidden = false;
    const close = element("button", "Close", { type: "button", class: "close" });
    close.addEventListener("click", () => this.close());
    const title = element("h3", node === this.model.root ? "The question" : `Step ${node.depth}`, { tabindex: "-1" });
    const solution = element("ol", null, { class: "solution" });
    for (const step of this.model.steps(node)) setMath(solution.appendChild(element("li", null)), step.replace(/^\n+/, "").trimEnd() || "(empty step)");
    const table = element("dl", null, { class: "numbers" });
    for (const [symbol, value, meaning] of this.factsOf(node)) {
      const row = table.appendChild(element("div", null));
      row.append(element("dt", symbol), element("dd", value), element("dd", meaning, { class: "soft" }));
    }
    detail.replaceChildren(close, title, element("p", this.describe(node), { class: "soft" }), element("h4", "The whole partial solution"), solution, table);
    if (node.children.length) {
      const fold = element("button", this.model.folded.has(node.node_id) ? "Unfold" : "Fold", { type: "button" });
      fold.addEventListener("click", () => { this.toggle(node); this.open(node); });
      detail.append(fold);
    }
    detail.append(copyButton("Copy the solution", () => this.model.steps(node).join("")));
    this.appendRequests(detail, node);
    if (!detail.contains(document.activeElement)) this.cameFrom = document.activeElement;
    if (focus) title.focus();
  }

  close() {
    const detail = this.box.querySelector(".detail");
    detail.hidden = true;
    (this.cameFrom && this.cameFrom.isConnected ? this.cameFrom : this.canvas).focus();
  }

  async appendRequests(detail, node) {
    const ids = [...new Set([...node.made, node.scored, ...node.asked])].filter((id) => id !== null).slice(0, 20);
    const place = detail.appendChild(element("div", null, { class: "requests" }));
    place.append(element("h4", "Model requests"));
    if (!ids.length) {
      place.append(element("p", node.origin === "solution" ? "None: the step is from the given solution." : "None is known.", { class: "soft" }));
      return;
    }
    const answer = await fetch(`/trees/${this.id}/requests?${ids.map((id) => `ids=${id}`).join("&")}`).catch(() => null);
    if (!answer || !answer.ok) return place.append(element("p", "They cannot be loaded.", { class: "soft" }));
    for (const request of await answer.json()) {
      const part = node.asked.includes(request.id) ? "went on from here" : request.id === node.scored ? "scored it" : "made it";
      const box = place.appendChild(element("details", null));
      box.append(element("summary", `${request.kind} ${request.number}: ${part}; ${request.checkpoint || "no checkpoint"}, attempt ${request.attempt}`));
      const sent = { question: this.model.data.question, ...(request.generation ? { generation: request.generation } : {}), ...request.request };
      box.append(element("h5", "Sent"), element("pre", JSON.stringify(sent, null, 1), { tabindex: "0" }));
      box.append(element("h5", "Answered"), element("pre", JSON.stringify(request.answer, null, 1), { tabindex: "0" }));
    }
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const begin = performance.now();
      this.drawing.draw(this.model, this.look);
      this.drawMilliseconds = performance.now() - begin;
      this.outline.update();
    });
  }
}

document.querySelectorAll("[data-math]").forEach((one) => setMath(one, one.textContent));
document.querySelectorAll(".viewer").forEach((box) => new TreeView(box).start());
