// The wallboard: a snapshot and then changes from the event stream, shown as they come.
// Text from callers is hostile: it only ever becomes textContent, and links only http and https.
import { words } from "/wallboard/words.js";

const LAST_CALLS_MAX = 50;
const STALE_MS = 5000;

const state = { agents: new Map(), calls: new Map(), feeds: [], heardAt: 0, connected: false };
const $ = (id) => document.getElementById(id);
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

function connect() {
  const token = new URLSearchParams(location.search).get("access_token");
  const source = new EventSource("/api/v1/stream" + (token ? "?access_token=" + encodeURIComponent(token) : ""));
  const hear = (name, apply) =>
    source.addEventListener(name, (message) => {
      apply(JSON.parse(message.data));
      state.heardAt = Date.now();
      state.connected = true;
      draw();
    });
  hear("snapshot", (data) => {
    state.agents = new Map(data.agents.map((agent) => [agentKey(agent), agent]));
    state.calls = new Map(data.calls.map((call) => [call.session_id, call]));
    state.feeds = data.feeds;
  });
  hear("change", (data) => {
    for (const agent of data.agents) state.agents.set(agentKey(agent), agent);
    for (const call of data.calls) {
      const held = state.calls.get(call.session_id);
      if (!held || call.revision >= held.revision) state.calls.set(call.session_id, call);
    }
    forgetOldCalls();
  });
  hear("feeds", (data) => {
    state.feeds = data.feeds;
    const asOf = new Map(data.feeds.map((feed) => [feed.pbx, feed.as_of]));
    for (const agent of state.agents.values()) agent.as_of = asOf.get(agent.pbx) ?? agent.as_of;
  });
  source.addEventListener("error", () => {
    state.connected = false;
    draw();
    // The browser tries again by itself, unless the server refused for good.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

const agentKey = (agent) => agent.pbx + "/" + agent.extension;
const newestFirst = (a, b) =>
  a.first_received_at < b.first_received_at ? 1 : a.first_received_at > b.first_received_at ? -1 : a.session_id < b.session_id ? 1 : -1;

function forgetOldCalls() {
  const closed = [...state.calls.values()].filter((call) => call.status !== "open").sort(newestFirst);
  for (const call of closed.slice(LAST_CALLS_MAX)) state.calls.delete(call.session_id);
}

function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return (hours ? hours + ":" + two(Math.floor(whole / 60) % 60) : Math.floor(whole / 60)) + ":" + two(whole % 60);
}

const since = (at) => (at ? (Date.now() - Date.parse(at)) / 1000 : null);
const clock = (at) => (at ? time.format(new Date(at)) : "–");

function party(call) {
  const isCallee = call.direction === "outbound" || (call.direction === "internal" && call.caller === call.agent.extension);
  return (isCallee ? call.callee : call.caller) || words.withheld;
}

// Keyed children: what is there is changed, so nothing flickers and the focus stays.
function fill(parent, items, key, make, update) {
  const held = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = held.get(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    held.delete(name);
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of held.values()) child.remove();
}

function element(name, className, parent) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (parent) parent.append(made);
  return made;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const ICONS = { on_call: "☎", available: "✓", unknown: "?" };

function drawAgents() {
  const agents = [...state.agents.values()].sort((a, b) => agentKey(a).localeCompare(agentKey(b), undefined, { numeric: true }));
  const severalPbxs = new Set(agents.map((agent) => agent.pbx)).size > 1;
  const silent = new Set(state.feeds.filter((feed) => feed.status === "silent").map((feed) => feed.pbx));
  fill($("agents"), agents, agentKey, () => {
    const card = element("li", "agent");
    for (const part of ["icon", "name", "status", "running", "party", "today"]) element("span", part, card);
    card.querySelector(".icon").setAttribute("aria-hidden", "true");
    return card;
  }, (card, agent) => {
    const status = silent.has(agent.pbx) ? "unknown" : agent.status;
    const [icon, name, word, running, other, today] = card.children;
    card.dataset.status = status;
    put(icon, ICONS[status]);
    put(name, (severalPbxs ? agent.pbx + " " : "") + agent.extension);
    card.title = agent.email || "";
    put(word, words[status]);
    const call = agent.calls.length ? state.calls.get(agent.calls[0]) : null;
    put(running, status === "unknown" ? "" : span(since(agent.since)));
    put(other, status === "on_call" && call ? party(call) + (agent.calls.length > 1 ? " +" + (agent.calls.length - 1) : "") : "");
    put(today, agent.today.calls + " · " + span(agent.today.talk_s));
  });
  put($("no-agents"), agents.length ? "" : words.noAgents);
  return { agents, silent };
}

function row(count) {
  const made = element("tr");
  for (let i = 0; i < count; i++) element("td", "", made);
  return made;
}

function drawOpen(calls) {
  fill($("open"), calls, (call) => call.session_id, () => row(5), (line, call) => {
    const [agent, other, direction, began, running] = line.children;
    put(agent, call.agent.extension || call.agent.email || "–");
    put(other, party(call));
    put(direction, words[call.direction]);
    put(began, clock(call.started_at));
    put(running, span(since(call.started_at)));
  });
  put($("no-open"), calls.length ? "" : words.noOpen);
}

function drawLast(calls) {
  fill($("last"), calls, (call) => call.session_id, () => row(7), (line, call) => {
    const [began, agent, direction, other, duration, outcome, recording] = line.children;
    const inferred = call.status === "end_missed";
    line.className = inferred ? "inferred" : call.outcome;
    put(began, clock(call.started_at || call.first_received_at));
    put(agent, call.agent.extension || call.agent.email || "–");
    put(direction, words[call.direction]);
    put(other, party(call));
    put(duration, span(call.duration_s));
    put(outcome, inferred ? "≈ " + (words.reasons[call.end_reason] || call.end_reason) : words[call.outcome]);
    outcome.title = inferred ? words.inferred : "";
    drawRecording(recording, call.recording_url);
  });
  put($("no-last"), calls.length ? "" : words.noLast);
}

function drawRecording(cell, url) {
  if ((cell.dataset.url || "") === (url || "")) return;
  cell.dataset.url = url || "";
  cell.replaceChildren();
  if (!url || !/^https?:\/\//i.test(url)) return;
  const link = element("a", "", cell);
  link.href = url;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  link.textContent = words.recording;
}

function drawFigures(agents, silent, open) {
  const known = agents.filter((agent) => !silent.has(agent.pbx) && agent.status !== "unknown");
  const sum = (name) => agents.reduce((total, agent) => total + agent.today[name], 0);
  const figures = {
    onCall: known.filter((agent) => agent.status === "on_call").length,
    available: known.filter((agent) => agent.status === "available").length,
    open: open.length,
    calls: sum("calls"),
    answered: sum("answered"),
    missed: sum("missed"),
    inferred: sum("inferred_ends"),
  };
  fill($("figures"), Object.entries(figures), ([name]) => name, ([name]) => {
    const tile = element("div", "tile " + name);
    element("dt", "", tile).textContent = words.figures[name];
    element("dd", "", tile);
    return tile;
  }, (tile, [, value]) => put(tile.lastElementChild, String(value)));
}

function drawFeed() {
  const broken = !state.connected || Date.now() - state.heardAt > STALE_MS;
  const silent = state.feeds.some((feed) => feed.status === "silent");
  const asOf = state.feeds.map((feed) => feed.as_of).filter(Boolean).sort()[0];
  document.body.classList.toggle("stale", broken);
  $("feed").dataset.status = broken ? "broken" : silent ? "silent" : "live";
  put($("feed"), (silent ? "⚠ " + words.silent : "● " + words.live) + (asOf ? " · " + words.asOf + " " + clock(asOf) : ""));
  put($("banner"), broken ? (state.heardAt ? words.broken : words.connecting) : "");
  put($("clock"), time.format(new Date()));
}

function draw() {
  const { agents, silent } = drawAgents();
  const calls = [...state.calls.values()].sort(newestFirst);
  const open = calls.filter((call) => call.status === "open");
  drawOpen(open);
  drawLast(calls.filter((call) => call.status !== "open").slice(0, LAST_CALLS_MAX));
  drawFigures(agents, silent, open);
  drawFeed();
}

function heads() {
  const head = (id, names) => names.forEach((name) => {
    const cell = element("th", "", $(id));
    cell.scope = "col";
    cell.textContent = words[name];
  });
  head("open-head", ["agent", "party", "direction", "began", "running"]);
  head("last-head", ["began", "agent", "direction", "party", "duration", "outcome", "rec"]);
}

heads();
draw();
connect();
setInterval(draw, 1000);
