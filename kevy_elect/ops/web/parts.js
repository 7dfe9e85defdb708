"use strict";
// All that is shown is put in as text. Ages go on growing when nothing comes any more.

const SVG = ["http:", "", "www.w3.org", "2000", "svg"].join("/");
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

const $ = (id) => document.getElementById(id);

function make(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function draw(name, attributes = {}, ...inside) {
  const element = document.createElementNS(SVG, name);
  set(element, attributes);
  element.append(...inside);
  return element;
}

function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, typeof value === "number" ? String(Math.round(value * 100) / 100) : value);
  }
}

function put(element, text) {  // untouched if it is the same, for those who read along
  if (element.textContent !== text) element.textContent = text;
}

function span(seconds) {
  let rest = Math.floor(seconds + 0.5);
  if (rest < 1) return "less than 1 s";
  const parts = [];
  for (const [length, unit] of UNITS) {
    if (rest >= length || parts.length) parts.push(`${Math.floor(rest / length)} ${unit}`);
    rest %= length;
  }
  return parts.slice(0, 2).filter((part) => !part.startsWith("0 ")).join(" ");
}

// A time that runs down, or that is short.
const brief = (seconds) => (seconds < 10 ? `${seconds.toFixed(1)} s` : span(seconds));

function clock(date, precise) {
  const time = date.toLocaleTimeString([], {hour12: false});
  const day = date.toDateString() === new Date().toDateString() ? "" : `${date.toLocaleDateString()} `;
  return day + time + (precise ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : "");
}

const dateOf = (ago) => new Date(Date.now() - ago * 1000);

function timeOf(ago, precise = true) {
  const date = dateOf(ago);
  return make("time", clock(date, precise), {datetime: date.toISOString()});
}

const since = (at) => (performance.now() - at) / 1000;

function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}
