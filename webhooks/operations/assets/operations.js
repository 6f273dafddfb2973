// The page works without this. It keeps the numbers fresh while somebody looks, asks before what is grave
// without leaving the page, and ticks all rows at once.
"use strict";

const EVERY = 3000; // milliseconds
let asking = false;

const page = () => location.origin + location.pathname + location.search; // a login in the address is left out

function isHeld(part) {
  const chosen = getSelection();
  return part.contains(document.activeElement) && document.activeElement.matches("input, select, button")
    || (!chosen.isCollapsed && part.contains(chosen.anchorNode));
}

function take(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (other && other.innerHTML !== part.innerHTML && !isHeld(part)) part.innerHTML = other.innerHTML;
  }
}

async function refresh() {
  if (asking || document.hidden || document.querySelector("dialog[open]")) return;
  asking = true;
  const stale = document.getElementById("stale");
  try {
    const answer = await fetch(page(), { headers: { "X-Refresh": "1" }, cache: "no-store" });
    if (answer.ok) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    stale.hidden = answer.ok;
  } catch {
    stale.hidden = false;
  } finally {
    asking = false;
  }
}

async function ask(form, button) {
  const fields = new FormData(form, button);
  const to = button?.getAttribute("formaction") || form.getAttribute("action");
  const answer = await fetch(location.origin + to, { method: "POST", body: new URLSearchParams(fields), redirect: "manual" });
  const dialog = document.getElementById("asked");
  const told = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("question");
  if (!told) return location.reload(); // it was done, or refused: the page tells
  dialog.replaceChildren(document.adoptNode(told));
  dialog.querySelector("a").addEventListener("click", (event) => { event.preventDefault(); dialog.close(); });
  dialog.showModal();
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-asks]")) return;
  event.preventDefault();
  ask(form, event.submitter).catch(() => {
    if (event.submitter) form.action = event.submitter.formAction;
    HTMLFormElement.prototype.submit.call(form);
  });
});

document.addEventListener("change", (event) => {
  const name = event.target.dataset.all;
  if (name) for (const box of event.target.form.querySelectorAll(`[name="${name}"]`)) box.checked = event.target.checked;
});

document.addEventListener("visibilitychange", refresh);
if (document.querySelector("[data-live]")) setInterval(refresh, EVERY);
if (document.querySelector("[data-retry]")) setTimeout(() => location.reload(), EVERY);
