// What is said of a step: its facts in words and numbers, and texts with their LaTeX.

const FACTS = [
  ["V", "search_value", "the search's value of this partial solution"],
  ["n", "visits", "visits"],
  ["V_θ", "model_value", "as the value model gave it"],
  ["m", "reasoning_distance", "reasoning distance: steps still needed"],
  ["r", "step_is_right", "0: a right end lies below, 1: none does"],
  ["w", "weighted_reward", "weighted reward"],
  ["v", "quality_value", "inferred quality value"],
];

export function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A button that puts a text into the clipboard and says so.
export function copyButton(label, text) {
  const button = element("button", label, { type: "button", "aria-live": "polite" });
  button.addEventListener("click", async () => {
    const done = await navigator.clipboard.writeText(text()).then(() => true, () => false);
    button.textContent = done ? "Copied" : "The browser refused: select the text instead";
  });
  return button;
}

// Where a step comes from, where the search's policy did not write it.
export function originOf(node) {
  if (node.origin === "search") return "";
  return node.origin === "observation" ? "an observation: a tool answered it" : `from a ${node.origin.replace("-", " ")}`;
}

// What people say of a step and its answer: "people: step wrong (2), answer right".
export function peopleSay(node) {
  const counts = new Map();
  for (const { subject, verdict } of node.annotations) counts.set(`${subject} ${verdict}`, (counts.get(`${subject} ${verdict}`) || 0) + 1);
  const parts = [...counts].map(([words, count]) => (count > 1 ? `${words} (${count})` : words));
  return parts.length ? `people: ${parts.join(", ")}` : "";
}

// A number with its noun: "1 node", "20 nodes".
export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

// A number with so many decimals as Python rounds it: what is exactly between two goes to the even
// one. 60 decimals tell a number from one that is exactly between.
export function decimal(value, places) {
  const nearest = value.toFixed(places);
  if (!Number.isInteger(value * 2 * 10 ** places)) return nearest;
  const exact = value.toFixed(60);
  const cut = exact.slice(0, exact.length - 60 + places);
  return /^50*$/.test(exact.slice(cut.length)) && /[02468]$/.test(cut) ? cut : nearest;
}

function shownNumber(value) {
  return Number.isInteger(value) ? String(value) : decimal(Number(value), 3);
}

const MATH = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$(?!\s)((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d)/g;

// Split a text into {text} and, where it has LaTeX, {text, source, display}.
export function mathParts(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(MATH)) {
    const source = found.slice(1).find((group) => group !== undefined);
    if (found.index > end) parts.push({ text: text.slice(end, found.index) });
    parts.push({ text: found[0], source, display: found[1] !== undefined || found[2] !== undefined });
    end = found.index + found[0].length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

// Let KaTeX set a formula into an element. It writes styles as attributes, which the page's policy forbids: they are set one
// by one. In what it writes no text has a quotation mark.
export function typeset(source, target, options) {
  const html = katex.renderToString(source, { throwOnError: true, trust: false, maxExpand: 200, maxSize: 20, ...options });
  target.innerHTML = html.replaceAll(' style="', ' data-style="');
  for (const one of target.querySelectorAll("[data-style]")) {
    one.style.cssText = one.getAttribute("data-style");
    one.removeAttribute("data-style");
  }
}

// Put a text into an element as text, with its LaTeX set by KaTeX; what KaTeX does not take stays as it is.
export function setMath(target, text) {
  target.replaceChildren();
  for (const { text: plain, source, display } of mathParts(text)) {
    if (source === undefined) {
      target.append(plain);
      continue;
    }
    const span = document.createElement("span");
    try {
      typeset(source, span, { displayMode: display });
    } catch {
      span.textContent = plain;
    }
    target.append(span);
  }
}

// A step in one line.
export function describe(model, node) {
  const step = node === model.root ? "The question" : node.step.trim() || "(empty step)";
  const facts = factsOf(model, node).map(([symbol, value]) => `${symbol} ${value}`);
  const below = node.children.length ? `${node.children.length} ${node.children.length === 1 ? "child" : "children"}${model.folded.has(node.node_id) ? ", folded" : ""}` : "";
  const origin = originOf(node);
  const chosen = node.node_id === model.data.chosen ? "chosen" : "";
  const decisive = model.whole && node.decisive ? "decisive: after it every end is wrong" : "";
  const unscored = node !== model.root && !model.isScored(node) ? "not scored" : "";
  return [step, ...facts, unscored, model.whole ? node.verdict : "", decisive, chosen, origin, peopleSay(node), below].filter(Boolean).join(" · ");
}

// The numbers of a step as (symbol, value, meaning), those that are known.
export function factsOf(model, node) {
  const known = model.whole ? node : node.now;
  return FACTS.map(([symbol, name, meaning]) => [symbol, name === "step_is_right" && typeof known[name] === "boolean" ? Number(!known[name]) : known[name], meaning])
    .filter(([symbol, value]) => value !== null && value !== undefined && !(symbol === "V" && (node === model.root || !model.isScored(node))))
    .map(([symbol, value, meaning]) => [symbol, shownNumber(value), meaning]);
}
