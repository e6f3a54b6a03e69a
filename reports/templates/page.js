"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const details = JSON.parse($("#details").textContent);

  function element(name, attributes = {}, ...children) {
    const created = Object.assign(document.createElement(name), attributes);
    created.append(...children);
    return created;
  }

  function link(url, text) {
    return /^https?:\/\//.test(url) ? element("a", { href: url, rel: "noreferrer" }, text) : document.createTextNode(text);
  }

  // Format text between backticks as code.
  function withCode(text) {
    return text.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));
  }

  // A page opened from a file may have no storage.
  const storage = { get: () => null, set: () => {} };
  try {
    storage.get = localStorage.getItem.bind(localStorage, "theme");
    storage.set = localStorage.setItem.bind(localStorage, "theme");
    storage.get();
  } catch { /* the theme lasts as long as the page */ }

  const themes = ["auto", "light", "dark"];
  function theme(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    $("#theme").textContent = `Theme: ${name}`;
    $("#theme").value = name;
  }
  theme(themes.includes(storage.get()) ? storage.get() : "auto");
  $("#theme").addEventListener("click", () => {
    const next = themes[(themes.indexOf($("#theme").value) + 1) % themes.length];
    theme(next);
    try { storage.set(next); } catch { /* see above */ }
  });

  // The matrix: areas open and close; a filter opens the areas with matches.
  const laws = $$("#laws tr.law");
  for (const row of laws) {
    row.words = `${row.dataset.contract} ${details.contracts[row.dataset.contract].law}`.toLowerCase();
    row.outcomes = row.dataset.outcomes.split(" ");
    row.severities = row.dataset.severities.split(",");
    row.heading = $("button[aria-expanded]", row.parentNode);
  }
  function filtered() {
    return $("#area").value || $("#outcome").value || $("#severity").value || $("#text").value.trim();
  }
  function show() {
    const [area, outcome, severity] = [$("#area").value, $("#outcome").value, $("#severity").value];
    const text = $("#text").value.trim().toLowerCase();
    const any = filtered();
    let count = 0;
    for (const row of laws) {
      const inArea = !area || row.parentNode.dataset.area === area;
      const fails = (!outcome || row.outcomes.includes(outcome)) && (!severity || row.severities.includes(severity));
      const fits = inArea && fails && row.words.includes(text);
      row.fits = fits;
      row.hidden = !fits || (!any && row.heading.getAttribute("aria-expanded") !== "true");
      count += fits;
    }
    for (const body of $$("#laws tbody")) {
      body.hidden = Boolean(any) && !$$("tr.law", body).some((row) => row.fits);
      if (any) $("button", body).setAttribute("aria-expanded", "true");
    }
    $("#shown").textContent = `${count} of ${laws.length} contracts`;
  }
  function open(all) {
    for (const button of $$("#laws button[aria-expanded]")) button.setAttribute("aria-expanded", String(all));
    $("#all").setAttribute("aria-pressed", String(all));
    $("#all").textContent = all ? "Close all" : "Open all";
    show();
  }
  for (const control of ["#area", "#outcome", "#severity", "#text"]) {
    $(control).addEventListener("input", () => (filtered() ? show() : open(false)));
  }
  $("#all").addEventListener("click", () => open($("#all").getAttribute("aria-pressed") !== "true"));

  // One cell, its contract and its cases. Texts come from other programs: show them as text, never as markup.
  function shownCase([name, outcome, severity, message, kind, reason, url]) {
    const text = (place) => details.texts[place];
    const item = element("li", {}, element("span", { className: `o ${outcome}` }, outcome), severity ? ` ${severity}:` : "", ` ${text(name)}`);
    if (reason) item.append(element("p", {}, ...withCode(text(reason)), " ", link(text(url), text(url)), ` (${text(kind)})`));
    if (message) item.append(element("pre", {}, text(message)));
    return item;
  }
  function showCell(contract, column) {
    const { law, source, faults } = details.contracts[contract];
    const subject = $$("#laws thead th")[Number(column) + 1].innerText.replace(/\s+/g, " ");
    const body = $("#case-body");
    $("#case-title").textContent = `${contract}, ${subject}`;
    const sources = source.split(/(https?:\/\/[^\s;,]+)/).map((part) => link(part, part));
    body.replaceChildren(element("p", { className: "law" }, ...withCode(law)), element("p", {}, element("small", {}, "Source: ", ...sources)));
    body.append(element("ul", { className: "cases" }, ...details.cells[contract][column].map(shownCase)));
    const bugs = faults.map((fault) => element("a", { href: `#bug/${fault}` }, element("code", {}, fault)));
    if (bugs.length) body.append(element("p", {}, element("small", {}, "Catches "), ...bugs.flatMap((bug) => [bug, " "])));
    $("#case").showModal();
  }
  $("#laws").addEventListener("click", ({ target }) => {
    const heading = target.closest("button[aria-expanded]");
    if (heading) {
      heading.setAttribute("aria-expanded", String(heading.getAttribute("aria-expanded") !== "true"));
      const opened = heading.getAttribute("aria-expanded") === "true";
      for (const row of $$("tr.law", heading.closest("tbody"))) row.hidden = !opened || (filtered() && !row.fits);
    }
    const cell = target.closest("button[data-column]");
    if (cell) showCell(cell.closest("tr").dataset.contract, cell.dataset.column);
  });
  $("#case").addEventListener("click", ({ target }) => {
    if (target === $("#case") || target.closest("a[href^='#']")) $("#case").close();
  });

  // Lists with a text filter.
  function narrowed(items, input, output, noun, also = () => true) {
    const words = items.map((item) => item.textContent.toLowerCase());
    const update = () => {
      const text = $(input).value.trim().toLowerCase();
      let count = 0;
      items.forEach((item, place) => {
        item.hidden = !words[place].includes(text) || !also(item);
        count += !item.hidden;
      });
      $(output).textContent = `${count} of ${items.length} ${noun}`;
    };
    $(input).addEventListener("input", update);
    update();
    return update;
  }
  if ($("#bugs")) {
    const ofKind = (item) => !$("#kind").value || item.dataset.kind === $("#kind").value;
    $("#kind").addEventListener("input", narrowed($$("#bugs li"), "#bug-text", "#bugs-shown", "bugs", ofKind));
  }
  narrowed($$("#cells tbody tr"), "#cell-text", "#cells-shown", "cells");

  // A link to a contract or a bug shows it, even if it is filtered out.
  function follow() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.matches("tr.law")) {
      for (const control of ["#area", "#outcome", "#severity", "#text"]) $(control).value = "";
      target.heading.setAttribute("aria-expanded", "true");
      show();
    }
    target.hidden = false;
    target.scrollIntoView({ block: "center" });
    $$(".highlighted").forEach((other) => other.classList.remove("highlighted"));
    if (target.matches("tr.law, li")) target.classList.add("highlighted");
  }
  addEventListener("hashchange", follow);
  show();
  follow();

  // The tooltip of a chart's mark.
  const tip = element("div", { id: "tip", hidden: true });
  document.body.append(tip);
  addEventListener("mousemove", ({ target, clientX, clientY }) => {
    const mark = target.closest?.("figure svg [aria-label][aria-roledescription]:not(g)");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("aria-label").replaceAll("; ", ", ");
    tip.style.left = `${Math.min(clientX + 14, innerWidth - 350)}px`;
    tip.style.top = `${clientY + 14}px`;
  });
})();
