// Follows changes by SSE and replaces the list; the mail that is being read stays where it is.
"use strict";

const list = document.getElementById("list");
let asked = false;
let again = false;

async function refresh() {
  if (asked) { again = true; return; }
  asked = true;
  try {
    const answer = await fetch("/page/board" + location.search);
    if (answer.ok) { place(await answer.text()); }
  } catch {
    // The simulator restarts; the event stream reconnects and asks again.
  } finally {
    asked = false;
    if (again) { again = false; refresh(); }
  }
}

function place(html) {
  if (list.innerHTML === html) { return; }
  const focused = document.activeElement?.getAttribute("href");
  list.innerHTML = html;
  if (focused) { list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus(); }
}

new EventSource("/page/events").addEventListener("changed", refresh);
