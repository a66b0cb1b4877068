// What pages do beyond forms and links: follow a run, take a dropped file, say that something goes on, search a list.
// Without it every page still works; a running one is then reloaded by hand.
"use strict";

const said = document.getElementById("said");
function say(text) { if (text && said.textContent !== text) said.textContent = text; }

// The bar above the page, for all: that the app is gone, or is another one now.
const alarm = document.getElementById("alarm");
function warn(text) {
  if (alarm.textContent === text) return;
  alarm.hidden = !text;
  alarm.textContent = text;
}
const ANEW = "The app was started anew: open the address that basewise ui printed.";
const AWAY = "The app does not answer. What it started goes on; start basewise ui again and open the address that it prints.";

// <div data-live="/part" data-every="1000">: its content is fetched again and again; x-over loads the page anew.
function follow(box) {
  let last = "", failures = 0, spoken = "";
  const every = Number(box.dataset.every) || 2000;
  async function look() {
    if (document.hidden) { setTimeout(look, every); return; }
    try {
      const answer = await fetch(box.dataset.live, { credentials: "same-origin", redirect: "error" });
      if (answer.status === 403) warn(ANEW);
      if (!answer.ok) throw new Error(String(answer.status));
      const text = await answer.text();
      if (answer.headers.get("x-over")) { location.reload(); return; }
      failures = 0;
      warn("");
      if (text !== last) { replace(box, text); last = text; }
      const doing = box.querySelector("[data-say]");
      const words = doing ? doing.textContent.split(":")[0] : "";
      if (words && words !== spoken) { spoken = words; say(words); }
    } catch (error) {
      failures += 1;
      const status = Number(error.message) || 0;  // 0: nobody answered
      if (failures >= 3 && status !== 403) warn(status ? `This page cannot be kept up to date (${status}): load it again.` : AWAY);
    }
    setTimeout(look, every * Math.min(10, 1 + failures));
  }
  setTimeout(look, every);
}
document.querySelectorAll("[data-live]").forEach(follow);

// New content in the old place: whoever had the focus, what was opened, and how far a wide table was moved, stay as they were.
function replace(box, text) {
  const inside = () => [...box.querySelectorAll("a, button, summary, [tabindex]")];
  const focused = inside().indexOf(document.activeElement);
  const opened = [...box.querySelectorAll("details")].map((e) => e.open);
  const moved = [...box.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
  box.innerHTML = text;
  box.dispatchEvent(new Event("replaced"));
  box.querySelectorAll("details").forEach((e, i) => { e.open = opened[i] ?? e.open; });
  box.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = moved[i] || 0; });
  if (focused >= 0 && inside()[focused]) inside()[focused].focus({ preventScroll: true });
}

// A form says what goes on while its answer is awaited, and is not sent twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) { event.preventDefault(); return; }
  if (!form.dataset.busy) return;
  form.dataset.sent = "1";
  const button = event.submitter || form.querySelector("button");
  if (button) { button.dataset.words = button.textContent; button.textContent = form.dataset.busy; button.setAttribute("aria-busy", "true"); }
  say(form.dataset.busy);
});
window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => {
  delete form.dataset.sent;
  form.querySelectorAll("[data-words]").forEach((b) => { b.textContent = b.dataset.words; b.removeAttribute("aria-busy"); });
}));

// A file dropped on the form goes into its field.
document.querySelectorAll(".drop").forEach((form) => {
  const field = form.querySelector("input[type=file]");
  form.addEventListener("dragover", (e) => { e.preventDefault(); form.classList.add("over"); });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (e) => {
    e.preventDefault();
    form.classList.remove("over");
    if (e.dataTransfer.files.length) { field.files = e.dataTransfer.files; form.requestSubmit(); }
  });
});

// <input data-search="id">: rows of the table in that element that do not hold the words are hidden.
document.querySelectorAll("input[data-search]").forEach((field) => {
  const list = document.getElementById(field.dataset.search);
  const filter = () => {
    const rows = [...list.querySelectorAll("tbody tr")];
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    });
    return `${shown} of ${rows.length} shown`;
  };
  field.addEventListener("input", () => say(filter()));
  list.addEventListener("replaced", filter);  // a list that moves stays searched
});

// <button data-take-all>: every list of the form takes the value that its data-suggested names.
document.querySelectorAll("[data-take-all]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", () => {
    const lists = button.form.querySelectorAll("select[data-suggested]");
    lists.forEach((list) => { list.value = list.dataset.suggested; });
    say(`${lists.length} suggestions taken; nothing is sent yet`);
  });
});

// <input type=range data-shows="id">: its value in words beside it.
document.querySelectorAll("input[data-shows]").forEach((slider) => {
  const out = document.getElementById(slider.dataset.shows);
  const show = () => { out.textContent = (slider.dataset.steps || "").split(",")[slider.value] || slider.value; slider.setAttribute("aria-valuetext", out.textContent); };
  slider.addEventListener("input", show);
  show();
});
