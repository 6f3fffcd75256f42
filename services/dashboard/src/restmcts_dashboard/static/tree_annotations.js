// What people say of a step or of its answer: listed, entered with the dashboard's token, and removed.
import { element } from "./tree_words.js";

const VERDICTS = ["right", "wrong", "unsure"];
// The token lives as long as the tab, the name as long as the browser keeps it.
const KEPT = { token: sessionStorage, who: localStorage };

async function change(path, fields) {
  const answer = await fetch(path, { method: "POST", headers: { Accept: "application/json" }, body: new URLSearchParams(fields) }).catch(() => null);
  if (!answer) return { reason: "The dashboard does not answer: is it still running?" };
  const found = await answer.json().catch(() => ({ reason: "The dashboard gave no answer that can be read." }));
  return answer.ok ? { annotations: found } : found;
}

function field(name, label, control) {
  const box = element("label", `${label} `);
  control.setAttribute("name", name);
  if (KEPT[name]) control.value = KEPT[name].getItem(`restmcts-${name}`) || "";
  box.append(control);
  return box;
}

class Annotations {
  constructor(view, node) {
    this.view = view;
    this.node = node;
    this.box = element("div", null, { class: "annotations" });
    this.said = element("p", "", { role: "status", class: "soft" });
    this.list = element("ul", null);
    this.box.append(element("h4", "What people say"), this.list);
    if (view.box.dataset.mayChange) this.box.append(this.form(), this.said);
    else this.box.append(this.howToBegin());
    this.update();
  }

  update() {
    const empty = element("li", "Nobody has annotated this step.", { class: "soft" });
    this.list.replaceChildren(...(this.node.annotations.length ? this.node.annotations.map((one) => this.line(one)) : [empty]));
  }

  line(one) {
    const line = element("li", null);
    const source = one.source === "viewer" ? "" : `, by ${one.source}`;
    line.append(element("span", `${one.subject} ${one.verdict}`, { class: `verdict ${one.verdict}` }), ` ${one.note} `, element("span", `${one.who}, ${one.created_at.slice(0, 16)}${source}`, { class: "soft" }));
    if (!this.fields) return line;
    const remove = element("button", "Remove", { type: "button", "aria-label": `Remove what ${one.who} says of the ${one.subject}` });
    remove.addEventListener("click", () => this.send(`/trees/${this.view.id}/annotations/${one.id}/remove`, {}, "Removed."));
    line.append(" ", remove);
    return line;
  }

  form() {
    const form = element("form", null);
    const subject = element("select", null);
    const subjects = this.node.final || this.node.verdict ? ["answer", "step"] : ["step"];
    subject.append(...subjects.map((name) => element("option", name === "step" ? "this step" : "the answer", { value: name })));
    const text = (type, most, others = {}) => element("input", null, { type, maxlength: most, ...others });
    form.append(field("subject", "Annotate", subject), field("note", "Note", text("text", 4000)), field("who", "Your name", text("text", 100, { required: "", autocomplete: "name" })), field("token", "Token", text("password", 500, { required: "", autocomplete: "current-password" })));
    const buttons = form.appendChild(element("span", null, { class: "group" }));
    for (const verdict of VERDICTS) buttons.append(element("button", verdict[0].toUpperCase() + verdict.slice(1), { type: "submit", value: verdict }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const { subject, note, who } = form.elements;
      const given = { node: this.node.node_id, subject: subject.value, verdict: event.submitter.value, note: note.value, who: who.value };
      this.send(`/trees/${this.view.id}/annotations`, given, `Saved: ${given.subject} ${given.verdict}.`);
    });
    this.fields = form.elements;
    return form;
  }

  async send(path, given, done) {
    const { token, who, note } = this.fields;
    const { annotations, reason } = await change(path, { ...given, token: token.value });
    this.said.textContent = annotations ? done : reason;
    if (!annotations) return;
    sessionStorage.setItem("restmcts-token", token.value);
    localStorage.setItem("restmcts-who", who.value);
    note.value = "";
    this.view.model.annotate(annotations);
    this.update();
    this.view.outline.listEnds();
    this.view.redraw();
  }

  howToBegin() {
    const said = element("p", "This dashboard only reads. To annotate steps, set a token of your choice and start it again: ", { class: "soft" });
    said.append(element("code", "RESTMCTS_DASHBOARD_TOKEN=… restmcts ui"), "; of a stack it is DASHBOARD_TOKEN in .env.");
    return said;
  }
}

export function annotationsOf(view, node) {
  return new Annotations(view, node).box;
}
