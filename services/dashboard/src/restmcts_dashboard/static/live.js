// Replaces the parts of a page that changed, as the server tells them; what has the focus keeps it.
"use strict";

function replacePart(id, html) {
  const part = document.getElementById(id);
  if (!part) return;
  const active = part.contains(document.activeElement) ? document.activeElement : null;
  const key = active && (active.getAttribute("href") || active.getAttribute("aria-label"));
  const places = [...part.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  const ticked = [...part.querySelectorAll("input:checked")].map((one) => one.value);
  part.innerHTML = html;
  part.querySelectorAll("input[type=checkbox]").forEach((one) => { one.checked = ticked.includes(one.value); });
  part.querySelectorAll(".scroll").forEach((one, index) => { one.scrollLeft = places[index] || 0; });
  if (key) {
    const again = [...part.querySelectorAll("[href], [aria-label]")]
      .find((one) => one.getAttribute("href") === key || one.getAttribute("aria-label") === key);
    if (again) again.focus({ preventScroll: true });
  }
}

function watch(address) {
  const source = new EventSource(address);
  const where = document.querySelector(".where");
  source.addEventListener("parts", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) replacePart(id, html);
    document.documentElement.dataset.live = "yes";
    where.classList.remove("lost");
  });
  source.addEventListener("trouble", () => where.classList.add("lost"));
  source.onerror = () => where.classList.add("lost");
}

async function load(element) {
  const answer = await fetch(element.dataset.load);
  if (answer.ok) element.innerHTML = await answer.text();
}

const main = document.querySelector("main[data-live]");
if (main) watch(main.dataset.live);
document.querySelectorAll("[data-load]").forEach(load);
