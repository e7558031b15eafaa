// The call log: filters that are the address, figures and charts of what they find, pages of rows, and the why of a call.
import { drawCharts, loadCharts } from "/wallboard/charts.js";
import { $, attribute, element, fill, icon, linkRecording, put, showIcon } from "/wallboard/dom.js";
import { readForm, writeForm } from "/wallboard/filters.js";
import { agentName, compareClocks, moment, outcome, span, whole } from "/wallboard/format.js";
import { ask, backingOff, begin, mayPass, token } from "/wallboard/settings.js";
import { ALL, drawTiles } from "/wallboard/tiles.js";
import { drawWhy, loadWhy, turnTo } from "/wallboard/why.js";
import { words } from "/wallboard/words.js";

const PAGE = 50;
// What the address may say besides the filters.
const OF_THE_PAGE = ["lang", "theme", "layout", "access_token", "cursor", "call"];

let page = null;
let told = null;
let charts = null;
let failure = "";
let asked = 0;
let active = "";
let again = null;
const tries = backingOff();

const address = () => new URLSearchParams(location.search);

function filters() {
  const found = address();
  for (const name of OF_THE_PAGE) found.delete(name);
  return found;
}

// The address is the state: a new one is shown, and back and forward are the browser's.
function go(change, trail = []) {
  const next = address();
  change(next);
  history.pushState({ trail }, "", location.pathname + (String(next) ? "?" + next : ""));
  load();
}

const trail = () => history.state?.trail ?? [];

function load() {
  writeForm($("filters"), filters());
  turnTo(address().get("call"));
  find();
}

async function find() {
  const mine = ++asked;
  const wanted = filters();
  clearTimeout(again);
  put($("found"), words.loading);
  const rows = new URLSearchParams(wanted);
  rows.set("limit", PAGE);
  const cursor = address().get("cursor");
  if (cursor) rows.set("cursor", cursor);
  try {
    const [calls, figures, drawn] = await Promise.all([ask("/api/v1/calls?" + rows), ask("/api/v1/figures?" + wanted), loadCharts(wanted)]);
    if (mine !== asked) return;
    [page, told, charts, failure] = [calls, figures, drawn, ""];
    tries.reset();
  } catch (error) {
    if (mine !== asked) return;
    [page, told, charts, failure] = [null, null, null, words.failed + " " + error.message];
    if (mayPass(error)) {
      failure += " – " + words.tryingAgain;
      again = setTimeout(find, tries.waitMs());
    }
  }
  draw();
  showWhy();
}

function makeRow() {
  const line = element("tr");
  line.tabIndex = -1;
  for (const part of ["began", "name", "way", "caller", "callee", "talk", "outcome", "rec", "ask"]) element("td", part, line);
  icon(line.querySelector(".way"), "inbound", "");
  Object.assign(element("button", "", line.lastElementChild), { type: "button" });
  return line;
}

function drawRow(line, call) {
  const [began, agent, way, caller, callee, talk, came, recording, why] = line.children;
  const inferred = call.status === "end_missed";
  line.className = inferred ? "inferred" : call.outcome;
  put(began, (call.started_at ? "" : "≈ ") + moment(call.started_at || call.first_received_at));
  put(agent, agentName(call));
  showIcon(way, call.direction, words.directions[call.direction] ?? call.direction);
  put(caller, call.caller || words.withheld);
  put(callee, call.callee || words.withheld);
  put(talk, span(call.duration_s));
  put(came, outcome(call));
  attribute(came, "title", inferred ? words.inferred : null);
  linkRecording(recording, call.recording_url, words.recording);
  put(why.firstElementChild, words.why);
  reach(line);
}

// One row is in the order of the Tab key, with what can be pressed in it; arrows choose which.
function reach(line) {
  const place = line.dataset.key === active ? 0 : -1;
  for (const one of [line, ...line.querySelectorAll("a, button")]) one.tabIndex = place;
}

function drawDownloads() {
  const held = token();
  for (const [id, path, more] of [["csv", "calls.csv", {}], ["csv-raw", "calls.csv", { form: "raw" }], ["ndjson", "calls.ndjson", {}]]) {
    const query = new URLSearchParams({ ...Object.fromEntries(filters()), ...more, ...(held ? { access_token: held } : {}) });
    attribute($(id), "href", "/api/v1/" + path + (String(query) ? "?" + query : ""));
  }
}

function draw() {
  const calls = page?.calls ?? [];
  if (!calls.some((call) => call.session_id === active)) active = calls[0]?.session_id ?? "";
  put($("banner"), failure);
  put($("found"), page ? words.found(whole(told.figures.calls)) : "");
  put($("as-of"), page?.as_of ? words.asOf + " " + moment(page.as_of) : "");
  // Targets are for a day of a PBX, not for whatever was looked for.
  drawTiles($("figures"), ALL, told?.figures, told && { links: told.links });
  drawCharts(charts, goToSpan);
  fill($("calls"), calls, (call) => call.session_id, makeRow, drawRow);
  put($("no-calls"), page && !calls.length ? words.nothingFound : "");
  drawDownloads();
  $("newest").disabled = !address().has("cursor");
  $("newer").disabled = !trail().length;
  $("older").disabled = !page?.next_cursor;
  drawWhy();
}

function goToSpan(from, to) {
  go((next) => {
    next.delete("cursor");
    next.set("from", from);
    next.set("to", to);
  });
}

// The panel shows the call that the address names.
function showWhy() {
  if (!address().get("call")) return $("why").close();
  if (!$("why").open) $("why").showModal();
  loadWhy();
}

const openWhy = (id) => go((next) => next.set("call", id), trail());

function closeWhy() {
  const id = address().get("call");
  if (!id) return;
  const next = address();
  next.delete("call");
  history.pushState({ trail: trail() }, "", location.pathname + (String(next) ? "?" + next : ""));
  turnTo(null);
  $("why").close();
  $("calls").querySelector('[data-key="' + CSS.escape(id) + '"]')?.focus();
}

const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

function move(event) {
  const line = event.target.closest("tr");
  if (!line) return;
  if (event.key === "Enter" && event.target === line) {
    event.preventDefault();
    return openWhy(line.dataset.key);
  }
  if (!(event.key in STEPS)) return;
  event.preventDefault();
  const lines = [...$("calls").children];
  const next = lines[Math.min(lines.length - 1, Math.max(0, lines.indexOf(line) + STEPS[event.key]))];
  active = next.dataset.key;
  lines.forEach(reach);
  next.focus();
}

function apply() {
  const wanted = readForm($("filters"));
  if (String(wanted) === String(filters())) return;
  go((next) => {
    for (const name of [...filters().keys(), "cursor", "call"]) next.delete(name);
    for (const [name, value] of wanted) next.set(name, value);
  });
}

function listen() {
  $("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  $("filters").addEventListener("change", apply);
  $("clear").addEventListener("click", () => {
    $("filters").reset();
    go((next) => [...filters().keys(), "cursor"].forEach((name) => next.delete(name)));
  });
  $("refresh").addEventListener("click", load);
  $("newest").addEventListener("click", () => go((next) => next.delete("cursor")));
  $("newer").addEventListener("click", () => {
    const before = trail();
    const cursor = before.at(-1);
    go((next) => (cursor ? next.set("cursor", cursor) : next.delete("cursor")), before.slice(0, -1));
  });
  $("older").addEventListener("click", () => {
    const held = address().get("cursor") ?? "";
    go((next) => next.set("cursor", page.next_cursor), [...trail(), held]);
  });
  $("calls").addEventListener("keydown", move);
  $("calls").addEventListener("click", (event) => {
    if (!event.target.closest("a")) openWhy(event.target.closest("tr").dataset.key);
  });
  $("why-close").addEventListener("click", closeWhy);
  $("why").addEventListener("cancel", (event) => {
    event.preventDefault();
    closeWhy();
  });
  $("why").addEventListener("click", (event) => {
    if (event.target === $("why")) closeWhy();
  });
  $("why-body").addEventListener("click", (event) => {
    const leg = event.target.closest("a[data-leg]");
    if (!leg) return;
    event.preventDefault();
    openWhy(leg.dataset.leg);
  });
  addEventListener("popstate", load);
  addEventListener("token", load);
}

begin(draw);
listen();
compareClocks();
load();
