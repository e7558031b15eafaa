// Figures as tiles: what the server worked out, each a link to exactly the calls that it counts.
import { attribute, element, fill, put } from "/wallboard/dom.js";
import { amount } from "/wallboard/format.js";
import { withScreen } from "/wallboard/settings.js";
import { words } from "/wallboard/words.js";

export const HEADLINES = ["calls", "open", "answered", "missed", "not_answered", "average_handling_s", "talk_s"];
export const ALL = [...HEADLINES, "inferred_share"];

// The API lists the rows of a figure; the call-log page understands the same words.
export const callsPage = (link) => (link ? withScreen(link.replace("/api/v1/calls", "/calls")) : null);

export function isMet(target, value) {
  if (value === null || value === undefined) return null;
  return target.at_most !== undefined ? value <= target.at_most : value >= target.at_least;
}

function note(name, figures, target) {
  if (target) return words.target + (target.at_most !== undefined ? " ≤ " : " ≥ ") + amount(name, target.at_most ?? target.at_least);
  if (name === "inferred_share") return amount("inferred_ends", figures.inferred_ends) + " " + words.figures.inferred_ends;
  if (name === "average_handling_s" && figures.inferred_ends) return words.inferredLeftOut;
  return "";
}

function make() {
  const tile = element("li", "tile");
  const link = element("a", "", tile);
  for (const part of ["label", "value", "note", "hidden"]) element("span", part, link);
  return tile;
}

// `told`: links and targets of the server's answer for the same calls; null while it is not there yet.
export function drawTiles(parent, names, figures, told) {
  fill(parent, figures ? names : [], (name) => name, make, (tile, name) => {
    const link = tile.firstElementChild;
    const [label, value, small, judged] = link.children;
    const target = told?.targets?.[name];
    const met = target ? isMet(target, figures[name]) : null;
    tile.dataset.figure = name;
    tile.dataset.met = String(met);
    attribute(link, "href", callsPage(told?.links?.[name]));
    put(label, words.figures[name]);
    put(value, (name === "inferred_share" && figures[name] ? "≈ " : "") + amount(name, figures[name]));
    put(small, note(name, figures, target));
    put(judged, met === null ? "" : met ? words.met : words.notMet);
  });
}
