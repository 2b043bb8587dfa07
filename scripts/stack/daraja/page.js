// Follows changes by SSE and replaces only what differs, so a half-typed PIN stays where it is.
"use strict";

const board = document.getElementById("board");
let asked = false;
let again = false;

async function refresh() {
  if (asked) { again = true; return; }
  asked = true;
  try {
    const answer = await fetch("/page/board");
    if (answer.ok) { place(await answer.text()); }
  } catch {
    // The simulator restarts; the event stream reconnects and asks again.
  } finally {
    asked = false;
    if (again) { again = false; refresh(); }
  }
}

function place(html) {
  const fresh = document.createElement("main");
  fresh.innerHTML = html;
  for (const id of ["phones-title", "mode", "history", "books"]) {
    const now = document.getElementById(id);
    const next = fresh.querySelector("#" + id);
    if (now.innerHTML !== next.innerHTML) { now.innerHTML = next.innerHTML; }
  }
  placePhones(document.getElementById("row"), fresh.querySelector("#row"));
  tick();
}

function placePhones(row, next) {
  const ids = new Set([...next.children].map((each) => each.id));
  for (const phone of [...row.children]) {
    if (!ids.has(phone.id)) { phone.remove(); }
  }
  for (const phone of [...next.children]) {
    const known = document.getElementById(phone.id);
    if (!known || !row.contains(known)) { row.append(phone); } else { retime(known, phone); }
  }
}

function retime(known, phone) {
  const now = known.querySelector(".left");
  const next = phone.querySelector(".left");
  if (now && next) { Object.assign(now.dataset, next.dataset); delete now.dataset.since; }
}

function tick() {
  for (const left of document.querySelectorAll(".left")) {
    left.dataset.since ??= performance.now();
    const passed = (performance.now() - left.dataset.since) / 1000 * left.dataset.speed;
    const rest = Math.max(0, Math.round(left.dataset.endsIn - passed));
    left.textContent = rest + " s left";
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  event.preventDefault();
  const fields = new URLSearchParams(new FormData(form, event.submitter));
  try {
    // form.action would be the button of that name.
    await fetch(form.getAttribute("action"), { method: "POST", body: fields, redirect: "manual" });
  } catch {
    return;
  }
  refresh();
});

new EventSource("/page/events").addEventListener("changed", refresh);
setInterval(tick, 1000);
tick();
