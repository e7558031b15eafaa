// The wallboard: what the event stream tells, shown as it comes.
import { $, attribute, element, fill, icon, linkRecording, put, showIcon } from "/wallboard/dom.js";
import { agentName, amount, clock, compareClocks, moment, now, outcome, party, percent, since, span } from "/wallboard/format.js";
import { ask, begin, choose, chosen, withScreen } from "/wallboard/settings.js";
import { agentKey, board, connect, isStale, newestFirst, watch } from "/wallboard/stream.js";
import { ALL, callsPage, drawTiles, HEADLINES, isMet } from "/wallboard/tiles.js";
import { words } from "/wallboard/words.js";

const COMPARE_CLOCKS_MS = 600000;
const DRAW_MS = 50;
const LAST_ALL = 25;
const DENSITIES = ["few", "some", "many", "crowd"];
const FEEDS_WORST_FIRST = ["silent", "lagging", "quiet", "live"];

let pbx = "";
let several = false;
const seen = (one) => !pbx || one.pbx === pbx;

// One for all: localeCompare makes its own each time, and a thousand agents are sorted each second.
const numeric = new Intl.Collator(undefined, { numeric: true }).compare;
const ofCall = (call) => withScreen("/calls?call=" + encodeURIComponent(call.session_id));

function drawPbxs() {
  const names = board.feeds.map((feed) => feed.pbx);
  const asked = chosen("pbx") ?? "";
  pbx = names.includes(asked) ? asked : "";
  several = !pbx && names.length > 1;
  $("pbx-label").hidden = names.length < 2;
  fill($("pbx"), ["", ...names], (name) => name, () => element("option"), (option, name) => {
    option.value = name;
    put(option, name || words.allPbxs);
  });
  if ($("pbx").value !== pbx) $("pbx").value = pbx;
}

function makeAgent() {
  const card = element("li", "agent");
  icon(element("span", "state", card), "unknown", "");
  for (const part of ["name", "status", "running"]) element("span", part, card);
  const other = element("span", "party", card);
  icon(element("span", "way", other), "inbound", "");
  element("span", "number", other);
  element("a", "today", card);
  return card;
}

function statusWord(agent, status, feed) {
  const reason = agent.reason ?? (status === "unknown" ? feed?.reason : null);
  return (words.states[status] ?? status) + (reason && words.feedReasons[reason] ? " · " + words.feedReasons[reason] : "");
}

function drawAgent(card, agent, feed) {
  const status = feed?.status === "silent" ? "unknown" : agent.status;
  const [state, name, word, running, other, today] = card.children;
  const call = agent.calls.length ? board.calls.get(agent.calls[0]) : null;
  card.dataset.status = status;
  attribute(card, "title", agent.email);
  showIcon(state, status.replace("_", "-"), words.states[status] ?? status);
  put(name, (several ? agent.pbx + " " : "") + agent.extension);
  put(word, statusWord(agent, status, feed));
  put(running, status === "unknown" ? "" : span(since(agent.since)));
  other.hidden = status !== "on_call" || !call;
  if (!other.hidden) {
    showIcon(other.firstElementChild, call.direction, words.directions[call.direction] ?? call.direction);
    put(other.lastElementChild, party(call) + (agent.calls.length > 1 ? " +" + (agent.calls.length - 1) : ""));
  }
  put(today, words.found(amount("calls", agent.today.calls)) + " · " + amount("talk_s", agent.today.talk_s));
  const rows = new URLSearchParams({ pbx: agent.pbx, agent: agent.extension, day: agent.today.day });
  attribute(today, "href", withScreen("/calls?" + rows));
}

// The largest cards with which all agents can be seen at once; nobody scrolls a screen on the wall.
let fitted = "";

function fitAgents(count) {
  const list = $("agents");
  const frame = list.parentElement;
  const shape = [count, list.className, innerWidth, innerHeight, $("figures").offsetHeight, $("banner").offsetHeight].join();
  if (shape === fitted) return;
  fitted = shape;
  for (const density of DENSITIES) {
    list.dataset.density = density;
    if (frame.scrollHeight <= frame.clientHeight) return;
  }
}

function drawAgents() {
  const agents = [...board.agents.values()].filter(seen).sort((a, b) => numeric(agentKey(a), agentKey(b)));
  const feeds = new Map(board.feeds.map((feed) => [feed.pbx, feed]));
  fill($("agents"), agents, agentKey, makeAgent, (card, agent) => drawAgent(card, agent, feeds.get(agent.pbx)));
  fitAgents(agents.length);
  put($("no-agents"), agents.length || !board.heardAt ? "" : words.noAgents);
}

function row(parts) {
  const made = element("tr");
  for (const part of parts) {
    const cell = element("td", part, made);
    if (part === "way") icon(cell, "inbound", "");
    if (part === "party") element("a", "", cell);
  }
  return made;
}

function drawCall(line, call) {
  const at = (part) => line.querySelector("." + part);
  showIcon(at("way"), call.direction, words.directions[call.direction] ?? call.direction);
  put(at("name"), agentName(call));
  put(at("party").firstElementChild, party(call));
  attribute(at("party").firstElementChild, "href", ofCall(call));
}

function drawOpen(calls) {
  fill($("open"), calls, (call) => call.session_id, () => row(["name", "way", "party", "running"]), (line, call) => {
    drawCall(line, call);
    put(line.lastElementChild, span(since(call.started_at)));
  });
  put($("open-count"), calls.length ? amount("open", calls.length) : "");
  put($("no-open"), calls.length || !board.heardAt ? "" : words.noOpen);
}

function drawLast(calls) {
  fill($("last"), calls.slice(0, LAST_ALL), (call) => call.session_id, () => row(["began", "name", "way", "party", "outcome", "talk", "rec"]), (line, call) => {
    const inferred = call.status === "end_missed";
    drawCall(line, call);
    line.className = inferred ? "inferred" : call.outcome;
    const [began, , , , came, talk, recording] = line.children;
    put(began, clock(call.started_at || call.first_received_at).slice(0, 5));
    put(came, outcome(call));
    attribute(came, "title", inferred ? words.inferred : null);
    put(talk, call.duration_s === null ? "" : span(call.duration_s));
    linkRecording(recording, call.recording_url, words.recording);
  });
  put($("no-last"), calls.length || !board.heardAt ? "" : words.noLast);
}

// Where the rows of a PBX's figures are, and its targets: told once for a day.
const told = new Map();

function toldOf(entry) {
  const rows = String(new URLSearchParams({ pbx: entry.pbx, day: entry.day }));
  if (!told.has(rows)) {
    told.set(rows, null);
    ask("/api/v1/figures?" + rows).then((answer) => {
      told.set(rows, answer);
      redraw();
    }, () => told.delete(rows));
  }
  return told.get(rows);
}

// One PBX: tiles. Several: a line for each; nothing is added up here.
function drawFigures() {
  const entries = board.figures.filter(seen);
  const one = entries.length === 1 ? entries[0] : null;
  drawTiles($("figures"), HEADLINES, one, one && toldOf(one));
  $("figures-of-pbxs").hidden = entries.length < 2;
  fill($("figures-head"), entries.length > 1 ? ["pbx", ...ALL] : [], (name) => name, () => Object.assign(element("th"), { scope: "col" }),
    (cell, name) => put(cell, name === "pbx" ? words.pbx : words.figures[name]));
  fill($("figures-body"), entries.length > 1 ? entries : [], (entry) => entry.pbx, () => {
    const line = element("tr");
    Object.assign(element("th", "", line), { scope: "row" });
    for (const name of ALL) element("a", "", element("td", name, line));
    return line;
  }, (line, entry) => {
    const answer = toldOf(entry);
    put(line.firstElementChild, entry.pbx);
    ALL.forEach((name, place) => {
      const link = line.children[place + 1].firstElementChild;
      put(link, amount(name, entry[name]));
      attribute(link, "href", callsPage(answer?.links?.[name]));
    });
  });
}

function drawInferred() {
  const entries = board.figures.filter(seen);
  const entry = entries.length === 1 ? entries[0] : null;
  const answer = entry && toldOf(entry);
  const target = answer?.targets?.inferred_share;
  const share = entry?.inferred_share ?? null;
  $("inferred").dataset.met = String(target ? isMet(target, share) : null);
  put($("inferred"), share === null ? "" : "≈ " + percent(share) + " " + words.ofEndsInferred);
  attribute($("inferred"), "href", callsPage(answer?.links?.inferred_share));
}

function drawQuality() {
  const stale = isStale();
  const feeds = board.feeds.filter(seen);
  const statuses = new Set(feeds.map((feed) => feed.status));
  const worst = stale ? "broken" : FEEDS_WORST_FIRST.find((status) => statuses.has(status)) ?? "silent";
  const asOf = feeds.map((feed) => feed.as_of).filter(Boolean).sort()[0];
  document.body.classList.toggle("stale", stale);
  $("feed").dataset.status = worst;
  put($("feed"), words.feeds[worst]);
  const told = feeds.filter((feed) => feed.status !== "live").map((feed) => feed.pbx + ": " + (words.feeds[feed.status] ?? feed.status));
  attribute($("feed"), "title", told.join(", ") || null);
  // Not in the live region: a screen reader would read the time out each second.
  put($("as-of"), asOf ? words.asOf + " " + moment(asOf) : "");
  const banners = { broken: board.heardAt ? words.broken : words.connecting, silent: words.silentBanner, lagging: words.laggingBanner };
  put($("banner"), banners[worst] ?? "");
  put($("clock"), clock(now()));
  drawInferred();
}

function draw() {
  drawPbxs();
  drawFigures();
  drawQuality();
  drawAgents();
  const calls = [...board.calls.values()].filter(seen).sort(newestFirst);
  drawOpen(calls.filter((call) => call.status === "open"));
  drawLast(calls.filter((call) => call.status !== "open"));
}

// Many changes a second make one drawing of them.
let waiting = null;

function redraw() {
  waiting ??= setTimeout(() => {
    waiting = null;
    draw();
  }, DRAW_MS);
}

const layouts = {
  value: () => (chosen("layout") === "rows" ? "rows" : "cards"),
  lay: (layout) => ($("agents").className = layout),
};

begin(redraw, layouts);
layouts.lay(layouts.value());
$("pbx").addEventListener("change", () => {
  choose("pbx", $("pbx").value);
  draw();
});
draw();
connect(redraw);
addEventListener("resize", redraw);
addEventListener("token", () => {
  told.clear();
  connect(redraw);
});
setInterval(() => {
  watch(redraw);
  draw();
}, 1000);
setInterval(compareClocks, COMPARE_CLOCKS_MS);
