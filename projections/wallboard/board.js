// The wallboard: what the event stream tells, shown as it comes.
import { $, attribute, element, fill, linkRecording, put } from "/wallboard/dom.js";
import { agentName, clock, compareClocks, now, outcome, party, since, span, whole } from "/wallboard/format.js";
import { begin, choose, chosen } from "/wallboard/settings.js";
import { agentKey, board, connect, isStale, newestFirst, watch } from "/wallboard/stream.js";
import { words } from "/wallboard/words.js";

const COMPARE_CLOCKS_MS = 600000;
const ICONS = { on_call: "☎", available: "✓", wrap_up: "✎", unknown: "?" };
const FIGURES = ["calls", "answered", "missed", "not_answered", "talk_s", "inferred_ends"];

function drawAgents() {
  const agents = [...board.agents.values()].sort((a, b) => agentKey(a).localeCompare(agentKey(b), undefined, { numeric: true }));
  const severalPbxs = new Set(agents.map((agent) => agent.pbx)).size > 1;
  const silent = new Set(board.feeds.filter((feed) => feed.status === "silent").map((feed) => feed.pbx));
  fill($("agents"), agents, agentKey, () => {
    const card = element("li", "agent");
    for (const part of ["icon", "name", "status", "running", "party", "today"]) element("span", part, card);
    attribute(card.firstElementChild, "aria-hidden", "true");
    return card;
  }, (card, agent) => {
    const status = silent.has(agent.pbx) ? "unknown" : agent.status;
    const [icon, name, word, running, other, today] = card.children;
    card.dataset.status = status;
    put(icon, ICONS[status] ?? "?");
    put(name, (severalPbxs ? agent.pbx + " " : "") + agent.extension);
    card.title = agent.email || "";
    put(word, words.states[status] ?? status);
    const call = agent.calls.length ? board.calls.get(agent.calls[0]) : null;
    put(running, status === "unknown" ? "" : span(since(agent.since)));
    put(other, status === "on_call" && call ? party(call) + (agent.calls.length > 1 ? " +" + (agent.calls.length - 1) : "") : "");
    put(today, agent.today.calls + " · " + span(agent.today.talk_s));
  });
  put($("no-agents"), agents.length ? "" : words.noAgents);
  return agents;
}

function row(count) {
  const made = element("tr");
  for (let i = 0; i < count; i++) element("td", "", made);
  return made;
}

function drawOpen(calls) {
  fill($("open"), calls, (call) => call.session_id, () => row(5), (line, call) => {
    const [agent, other, direction, began, running] = line.children;
    put(agent, agentName(call));
    put(other, party(call));
    put(direction, words.directions[call.direction]);
    put(began, clock(call.started_at));
    put(running, span(since(call.started_at)));
  });
  put($("no-open"), calls.length ? "" : words.noOpen);
}

function drawLast(calls) {
  fill($("last"), calls, (call) => call.session_id, () => row(7), (line, call) => {
    const [began, agent, direction, other, duration, came, recording] = line.children;
    const inferred = call.status === "end_missed";
    line.className = inferred ? "inferred" : call.outcome;
    put(began, clock(call.started_at || call.first_received_at));
    put(agent, agentName(call));
    put(direction, words.directions[call.direction]);
    put(other, party(call));
    put(duration, span(call.duration_s));
    put(came, outcome(call));
    came.title = inferred ? words.inferred : "";
    linkRecording(recording, call.recording_url, words.recording);
  });
  put($("no-last"), calls.length ? "" : words.noLast);
}

// The server's figures of each agent's day, added up.
function drawFigures(agents) {
  fill($("figures"), FIGURES, (name) => name, (name) => {
    const tile = element("div", "tile " + name);
    element("dt", "", tile);
    element("dd", "", tile);
    return tile;
  }, (tile, name) => {
    const sum = agents.reduce((total, agent) => total + agent.today[name], 0);
    put(tile.firstElementChild, words.figures[name]);
    put(tile.lastElementChild, name.endsWith("_s") ? span(sum) : whole(sum));
  });
}

function drawFeed() {
  const stale = isStale();
  const told = new Set(board.feeds.map((feed) => feed.status));
  const worst = stale ? "broken" : ["silent", "lagging", "quiet"].find((status) => told.has(status)) ?? "live";
  const asOf = board.feeds.map((feed) => feed.as_of).filter(Boolean).sort()[0];
  document.body.classList.toggle("stale", stale);
  $("feed").dataset.status = worst;
  put($("feed"), (worst === "live" || worst === "quiet" ? "● " : "⚠ ") + words.feeds[worst]);
  // Not in the live region: a screen reader would read the time out each second.
  put($("as-of"), asOf ? words.asOf + " " + clock(asOf) : "");
  put($("banner"), stale ? (board.heardAt ? words.broken : words.connecting) : worst === "silent" ? words.silentBanner : "");
  put($("clock"), clock(now()));
}

function draw() {
  const agents = drawAgents();
  const calls = [...board.calls.values()].sort(newestFirst);
  drawOpen(calls.filter((call) => call.status === "open"));
  drawLast(calls.filter((call) => call.status !== "open"));
  drawFigures(agents);
  drawFeed();
}

function lay(layout) {
  $("agents").className = layout === "rows" ? "rows" : "cards";
  $("layout").value = $("agents").className;
}

begin(draw);
lay(chosen("layout"));
$("layout").addEventListener("change", () => {
  choose("layout", $("layout").value);
  lay($("layout").value);
});
draw();
connect(draw);
addEventListener("token", () => connect(draw));
setInterval(() => {
  watch(draw);
  draw();
}, 1000);
setInterval(compareClocks, COMPARE_CLOCKS_MS);
