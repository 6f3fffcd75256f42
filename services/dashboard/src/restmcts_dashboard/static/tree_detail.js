// A step's whole story: the panel that opens, with its model requests, and the card under the mouse.

import { annotationsOf } from "./tree_annotations.js";
import { copyButton, describe, element, factsOf, originOf, setMath } from "./tree_words.js";

export class TreeDetail {
  constructor(view) {
    this.view = view;
    this.panel = view.box.querySelector(".detail");
    this.tip = view.box.querySelector(".tip");
  }

  // The card under the mouse: the whole step, its values and the responses that it comes from.
  hint(node, x, y) {
    const { tip, view } = this;
    const { model } = view;
    tip.hidden = !node;
    view.canvas.classList.toggle("over", Boolean(node));
    if (!node) return;
    const step = element("strong", null);
    setMath(step, node === model.root ? "the question" : node.step.trim() || "(empty step)");
    const facts = factsOf(model, node).map(([symbol, value]) => `${symbol} ${value}`).join(" · ");
    const unscored = node !== model.root && !model.isScored(node) && "not scored";
    const words = [unscored, model.whole && node.verdict, model.whole && node.decisive && "decisive", originOf(node)].filter(Boolean).join(", ");
    const people = node.annotations.map(({ who, subject, verdict, note }) => element("span", `${who}: ${subject} ${verdict}${note ? `. ${note}` : ""}`, { class: "people" }));
    tip.replaceChildren(step, element("span", facts), element("span", words), ...people, element("span", this.responses(node), { class: "soft" }));
    const [width, height] = view.drawing.size;
    tip.style.left = `${Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 6))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, height - tip.offsetHeight - 6))}px`;
  }

  responses(node) {
    const { made, scored, asked } = this.view.model.responsesOf(node);
    const words = [made.length && `made by response ${made.join(", ")}`, scored && `scored by response ${scored}`, asked && `${asked} ${asked === 1 ? "response" : "responses"} went on from here`];
    return words.filter(Boolean).join("; ");
  }
  open(node, focus = false) {
    this.view.select(node);
    const detail = this.view.box.querySelector(".detail");
    detail.hidden = false;
    const close = element("button", "Close", { type: "button", class: "close" });
    close.addEventListener("click", () => this.close());
    const title = element("h3", node === this.view.model.root ? "The question" : `Step ${node.depth}`, { tabindex: "-1" });
    const solution = element("ol", null, { class: "solution" });
    for (const step of this.view.model.steps(node)) setMath(solution.appendChild(element("li", null)), step.replace(/^\n+/, "").trimEnd() || "(empty step)");
    const table = element("dl", null, { class: "numbers" });
    for (const [symbol, value, meaning] of factsOf(this.view.model, node)) {
      const row = table.appendChild(element("div", null));
      row.append(element("dt", symbol), element("dd", value), element("dd", meaning, { class: "soft" }));
    }
    detail.replaceChildren(close, title, element("p", describe(this.view.model, node), { class: "soft" }), element("h4", "The whole partial solution"), solution, table);
    if (node.children.length) {
      const fold = element("button", this.view.model.folded.has(node.node_id) ? "Unfold" : "Fold", { type: "button" });
      fold.addEventListener("click", () => { this.view.toggle(node); this.open(node); });
      detail.append(fold);
    }
    detail.append(copyButton("Copy the solution", () => this.view.model.steps(node).join("")));
    if (node !== this.view.model.root) detail.append(annotationsOf(this.view, node));
    this.appendRequests(detail, node);
    if (!detail.contains(document.activeElement)) this.cameFrom = document.activeElement;
    if (focus) title.focus();
  }

  close() {
    const detail = this.view.box.querySelector(".detail");
    if (detail.hidden) return;
    detail.hidden = true;
    (this.cameFrom && this.cameFrom.isConnected ? this.cameFrom : this.view.canvas).focus();
  }

  async appendRequests(detail, node) {
    const place = detail.appendChild(element("div", null, { class: "requests" }));
    place.append(element("h4", "Model requests"));
    await this.view.framesTaken;
    const ids = [...new Set([...node.made, node.scored, ...node.asked])].filter((id) => id !== null).slice(0, 20);
    if (!ids.length) {
      place.append(element("p", node.origin === "solution" ? "None: the step is from the given solution." : "None is known.", { class: "soft" }));
      return;
    }
    const answer = await fetch(`/trees/${this.view.id}/requests?${ids.map((id) => `ids=${id}`).join("&")}`).catch(() => null);
    if (!answer || !answer.ok) return place.append(element("p", "They cannot be loaded.", { class: "soft" }));
    for (const request of await answer.json()) {
      const part = node.asked.includes(request.id) ? "went on from here" : request.id === node.scored ? "scored it" : "made it";
      const box = place.appendChild(element("details", null));
      box.append(element("summary", `${request.kind} ${request.number}: ${part}; ${request.checkpoint || "no checkpoint"}, attempt ${request.attempt}`));
      const sent = { question: this.view.model.data.question, ...(request.generation ? { generation: request.generation } : {}), ...request.request };
      box.append(element("h5", "Sent"), element("pre", JSON.stringify(sent, null, 1), { tabindex: "0" }));
      box.append(element("h5", "Answered"), element("pre", JSON.stringify(request.answer, null, 1), { tabindex: "0" }));
    }
  }
}
