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

function shownNumber(value) {
  return Number.isInteger(value) ? String(value) : Number(value).toFixed(3);
}

// Put a text into an element as text, with its LaTeX set by KaTeX; what KaTeX does not take stays as it is.
export function setMath(target, text) {
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

// A step in one line.
export function describe(model, node) {
  const step = node === model.root ? "The question" : node.step.trim() || "(empty step)";
  const facts = factsOf(model, node).map(([symbol, value]) => `${symbol} ${value}`);
  const below = node.children.length ? `${node.children.length} ${node.children.length === 1 ? "child" : "children"}${model.folded.has(node.node_id) ? ", folded" : ""}` : "";
  const origin = originOf(node);
  const chosen = node.node_id === model.data.chosen ? "chosen" : "";
  const decisive = model.whole && node.decisive ? "decisive: solvable before, lost after" : "";
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
