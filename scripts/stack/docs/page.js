// Shows the document with Swagger UI, which is served beside this file, and with the demonstration key.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// A row of the errors table keeps its place although the operations above it appear later: Swagger UI
// draws those near the window and guesses how tall the others will be.
let isRead = false;
for (const name of ["wheel", "touchmove", "keydown", "pointerdown"]) {
  addEventListener(name, () => { isRead = true; }, { passive: true });
}
function showRow() {
  const code = /^#\/?(\d{5})$/.exec(location.hash); // Swagger UI puts the slash
  if (code) { document.getElementById(code[1])?.scrollIntoView({ block: "center" }); }
}
addEventListener("hashchange", () => { isRead = false; });
new ResizeObserver(() => { if (!isRead) { showRow(); } }).observe(document.body);

// Swagger UI follows a link to an operation only when the page loads.
function showOperation(link) {
  const [, tag, name] = link.hash.split("/");
  const operation = document.getElementById(`operations-${tag}-${name}`);
  if (!operation) {
    // Far from the window, so not drawn: where a fresh page opens, it is.
    location.hash = link.hash;
    location.reload();
    return true;
  }
  if (!operation.classList.contains("is-open")) {
    operation.querySelector(".opblock-summary-control").click();
  }
  operation.scrollIntoView({ block: "start" });
  return true;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link?.matches("#operations a") && /^#\d{5}$/.test(link.hash)) {
    event.preventDefault(); // Swagger UI would open a second page
    location.hash = link.hash;
    showRow();
  } else if (link?.matches(".start a") && showOperation(link)) {
    event.preventDefault();
  }
});

// The document with what only this page needs; /openapi.json stays as it is.
function prepared(document) {
  // The examples are the same for everybody, but an Idempotency-Key names one operation of one caller.
  const fresh = "try-" + crypto.randomUUID().slice(0, 8);
  for (const path of Object.values(document.paths)) {
    for (const operation of Object.values(path)) {
      // Swagger UI takes an underscore in a link for an old way of writing a space.
      operation.operationId = operation.operationId.replaceAll("_", "-");
      for (const parameter of operation.parameters ?? []) {
        if (parameter.name === "Idempotency-Key") { parameter.example = fresh; }
      }
      for (const [status, answer] of Object.entries(operation.responses)) {
        if (status >= "400") { shorten(answer); }
      }
    }
  }
  return document;
}

// All problems look alike: a line with links to their codes says more than eight equal boxes.
function shorten(problem) {
  problem.description = problem.description.replaceAll(/\b\d{5}\b/g, "[$&](#$&)");
  delete problem.content;
  delete problem.headers;
}

addEventListener("DOMContentLoaded", async () => {
  const spec = prepared(await (await fetch(facts.url)).json());
  const page = SwaggerUIBundle({
    spec,
    dom_id: "#operations",
    deepLinking: true,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    defaultModelsExpandDepth: -1,
    validatorUrl: null,
    onComplete() {
      if (facts.key) { page.preauthorizeApiKey("ApiKey", facts.key); }
      showRow();
    },
  });
});
