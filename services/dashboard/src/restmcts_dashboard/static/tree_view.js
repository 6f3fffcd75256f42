// A tree that is looked at: what is selected, found and folded, and the parts that show it.

import { TreeDetail } from "./tree_detail.js";
import { TreeDrawing } from "./tree_drawing.js";
import { saveAs } from "./tree_export.js";
import { TreeInput } from "./tree_input.js";
import { formulas } from "./tree_math.js";
import { TreeMap } from "./tree_map.js";
import { TreeModel } from "./tree_model.js";
import { TreeOutline } from "./tree_outline.js";
import { pair } from "./tree_pair.js";
import { TreeReplay } from "./tree_replay.js";
import { describe, setMath } from "./tree_words.js";

const POLL_MILLISECONDS = 2000;
const FORMULA_MILLISECONDS = 8;
const READABLE = 150;
const READABLE_ZOOM = 0.7;

class TreeView {
  constructor(box) {
    this.box = box;
    this.id = box.dataset.tree;
    this.canvas = box.querySelector("canvas");
    this.drawing = new TreeDrawing(this.canvas);
    this.look = { colour: "value", hits: new Set(), only: new Set(), selected: null };
    this.outline = new TreeOutline(this, box.querySelector(".outline"));
    this.detail = new TreeDetail(this);
    this.replay = new TreeReplay(this);
    this.map = new TreeMap(this, box.querySelector(".map"));
    box.view = this;
  }

  async start() {
    const data = await this.fetched("data");
    if (!data) {
      this.box.querySelector(".loading").textContent = "The tree cannot be loaded: is the dashboard still running?";
      return;
    }
    this.model = new TreeModel(data);
    this.box.querySelector(".loading").remove();
    if (!this.model.hasValues("value") && this.model.hasValues("quality")) this.colourBy("quality");
    new TreeInput(this).listen();
    this.map.listen();
    this.drawing.resize();
    if (this.model.root) this.drawing.fit(this.model, this.model.visible.length <= READABLE ? READABLE_ZOOM : undefined);
    this.replay.update();
    // The search is played again on the server, which takes longer than to draw the tree.
    this.framesTaken = this.fetched("frames").then((frames) => {
      this.model.takeFrames(frames || []);
      this.model.frame = this.model.lastFrame;
      this.replay.update();
    });
    if (this.model.root) this.selectLinked();
    else this.say("The search of this tree has not begun.");
    this.outline.listEnds();
    this.box.dataset.ready = "yes";
    if (data.state === "searching" || data.state === "waiting") this.poll();
  }

  // What the server says of this tree; null if it cannot be had.
  async fetched(what) {
    const answer = await fetch(`/trees/${this.id}/${what}`).catch(() => null);
    return answer && answer.ok ? answer.json() : null;
  }

  poll() {
    setTimeout(async () => {
      await this.framesTaken;
      const [data, frames] = await Promise.all([this.fetched("data"), this.fetched("frames")]);
      if (data) {
        const selected = this.look.selected && this.look.selected.node_id;
        this.model.take(data, frames || []);
        this.look.selected = this.model.byId.get(selected) || null;
        this.replay.update();
        this.outline.listEnds();
        this.redraw();
      }
      if (!data || data.state === "searching" || data.state === "waiting") this.poll();
    }, POLL_MILLISECONDS);
  }

  colourBy(colour) {
    this.look.colour = colour;
    this.box.querySelector('[data-do="colour"]').value = colour;
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
    if (this.pair) this.pair.follow(this, node);
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

  describe(node) {
    return describe(this.model, node);
  }

  open(node, focus = false) {
    this.detail.open(node, focus);
  }

  close() {
    this.detail.close();
  }

  save(kind) {
    saveAs(kind, this);
  }

  say(text) {
    this.box.querySelector(".current").textContent = text;
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const begin = performance.now();
      formulas.hurry(FORMULA_MILLISECONDS);
      this.drawing.draw(this.model, this.look);
      this.drawMilliseconds = performance.now() - begin;
      if (formulas.late.length) formulas.arrive().then(() => this.redraw());
      this.map.draw();
      if (this.pair) this.pair.pan(this);
      this.outline.update();
    });
  }
}

document.querySelectorAll("[data-math]").forEach((one) => setMath(one, one.textContent));
const views = [...document.querySelectorAll(".viewer")].map((box) => new TreeView(box));
Promise.all(views.map((view) => view.start())).then(() => { if (document.querySelector(".pair[data-aligned]")) pair(...views); });
