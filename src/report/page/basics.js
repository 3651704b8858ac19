// Draws a report from the JSON beside it. Whatever comes from a run is put into the page as text
// (textContent), never as HTML. The files of this folder make one script, in the order in which
// embedded.S lists them.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const NATS = Math.LN2;

function byId(id) {
  return document.getElementById(id);
}

// Makes an element. Children are elements or text.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function isNumber(x) {
  return typeof x === "number" && Number.isFinite(x);
}

function count(x) {
  return isNumber(x) ? Math.round(x).toLocaleString("en-US") : "–";
}

function short(x, digits = 4) {
  if (!isNumber(x)) return "–";
  const size = Math.abs(x);
  if (x !== 0 && (size < 1e-3 || size >= 1e7)) return Number(x.toPrecision(digits)).toExponential();
  if (size >= 10 ** (digits - 1)) return count(x);
  return String(Number(x.toPrecision(digits)));
}

// A number and its unit, which stay on one line.
function withUnit(x, unit) {
  return `${x}\u00a0${unit}`;
}

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  const whole = Math.round(seconds);
  const [h, min, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h > 0) return `${withUnit(count(h), "h")} ${withUnit(min, "min")}`;
  return min > 0 ? `${withUnit(min, "min")} ${withUnit(s, "s")}` : withUnit(s, "s");
}

function bytes(x) {
  if (!isNumber(x)) return "–";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; x >= 1024 && at < units.length - 1; at++) x /= 1024;
  return withUnit(short(x, at > 0 ? 3 : 4), units[at]);
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function runColour(i) {
  return style(`--run-${i % 8}`);
}

// A colour #rrggbb with an opacity.
function faint(colour, alpha) {
  return colour + Math.round(255 * alpha).toString(16).padStart(2, "0");
}

function runLabel(i) {
  const swatch = make("span", "swatch");
  swatch.style.borderTopColor = `var(--run-${i % 8})`;
  swatch.style.borderTopStyle = ["solid", "dashed", "dotted"][Math.floor(i / 8) % 3];
  return [swatch, runs[i].name];
}

// Buttons of which one is pressed. `labels` are arrays of children.
function choice(parent, labels, choose) {
  const buttons = labels.map((label, i) => {
    const button = make("button", "", ...label);
    button.type = "button";
    button.addEventListener("click", () => press(i));
    parent.append(button);
    return button;
  });
  function press(i) {
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i)));
    choose(i);
  }
  return press;
}

// A table with a head. A cell is text or an element; columns from `numbers` on are numbers.
function table(head, rows, numbers) {
  const cell = (tag, content, i) => make(tag, i >= numbers ? "number" : "", content);
  const top = make("tr", "", ...head.map((text, i) => cell("th", text, i)));
  const body = rows.map((row) => {
    const line = make("tr", "", ...row.map((x, i) => cell(i === 0 ? "th" : "td", x, i)));
    line.firstChild.scope = "row";
    return line;
  });
  return make("div", "scroll",
    make("table", "", make("thead", "", top), make("tbody", "", ...body)));
}

function quiet(text) {
  return make("p", "quiet", text);
}

// ---- the text beside the pointer --------------------------------------------------------------

const tip = byId("tip");

function showTip(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  const below = box.bottom + 8 + tip.offsetHeight < innerHeight;
  const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - 8 - tip.offsetHeight)}px`;
}

function hideTip() {
  tip.hidden = true;
}

// Shows `describe(element)` for the children of `parent` that a pointer is on.
function describeChildren(parent, describe) {
  const show = (event) => {
    const text = event.target === parent ? "" : describe(event.target);
    if (!text) return hideTip();
    const boxes = event.target.getClientRects();
    const under = [...boxes].find((b) => event.clientY >= b.top && event.clientY <= b.bottom);
    showTip(text, under || boxes[0]);
  };
  parent.addEventListener("pointerover", show);
  parent.addEventListener("pointerleave", hideTip);
}

addEventListener("scroll", hideTip, { passive: true });
