// The event stream: a snapshot, then changes. The browser comes back by itself with Last-Event-ID; a hole in the numbers,
// a stream that says nothing any more, or a refusal ends the connection, and a new one begins with a new snapshot.
import { compareClocks } from "/wallboard/format.js";
import { ask, backingOff, token } from "/wallboard/settings.js";

const LAST_CALLS_MAX = 50;
const STALE_MS = 5000;
const DEAD_MS = 15000;

export const board = { agents: new Map(), calls: new Map(), feeds: [], figures: [], heardAt: 0, connected: false };
export const agentKey = (agent) => agent.pbx + "/" + agent.extension;
export const isStale = () => !board.connected || Date.now() - board.heardAt > STALE_MS;

export const newestFirst = (a, b) =>
  a.first_received_at < b.first_received_at ? 1 : a.first_received_at > b.first_received_at ? -1 : a.session_id < b.session_id ? 1 : -1;

let source = null;
let lastId = "";
let beganAt = 0;
const tries = backingOff();

function followsOn(id) {
  const [life, number] = id.split("-");
  const [heldLife, heldNumber] = lastId.split("-");
  return !lastId || life !== heldLife || Number(number) === Number(heldNumber) + 1;
}

const hearers = {
  snapshot(data) {
    board.agents = new Map(data.agents.map((agent) => [agentKey(agent), agent]));
    board.calls = new Map(data.calls.map((call) => [call.session_id, call]));
    board.feeds = data.feeds;
    board.figures = data.figures;
  },
  change(data) {
    for (const agent of data.agents) board.agents.set(agentKey(agent), agent);
    for (const call of data.calls) {
      const held = board.calls.get(call.session_id);
      if (!held || call.revision >= held.revision) board.calls.set(call.session_id, call);
    }
    forgetOld();
    board.figures = merged(board.figures, data.figures);
  },
  feeds(data) {
    board.feeds = data.feeds;
  },
};

// Of each PBX the last calls stay, however busy another one is.
function forgetOld() {
  const counts = new Map();
  for (const call of [...board.calls.values()].filter((call) => call.status !== "open").sort(newestFirst)) {
    const count = (counts.get(call.pbx) ?? 0) + 1;
    counts.set(call.pbx, count);
    if (count > LAST_CALLS_MAX) board.calls.delete(call.session_id);
  }
}

// Figures come per PBX; a change tells those of the PBXs that it touched.
function merged(held, told) {
  const known = new Map(held.map((one) => [one.pbx, one]));
  for (const one of told) known.set(one.pbx, one);
  return [...known.values()];
}

export function connect(redraw) {
  source?.close();
  const held = token();
  const mine = new EventSource("/api/v1/stream" + (held ? "?access_token=" + encodeURIComponent(held) : ""));
  source = mine;
  beganAt = Date.now();
  compareClocks();
  for (const [name, hear] of Object.entries(hearers)) {
    mine.addEventListener(name, (message) => {
      if (mine !== source) return;
      if (name !== "snapshot" && !followsOn(message.lastEventId)) return again(redraw);
      lastId = message.lastEventId;
      hear(JSON.parse(message.data));
      board.heardAt = Date.now();
      board.connected = true;
      tries.reset();
      redraw(name);
    });
  }
  mine.addEventListener("error", () => {
    if (mine !== source) return;
    board.connected = false;
    redraw("error");
    if (mine.readyState === EventSource.CLOSED) refused(redraw, mine);
  });
}

function again(redraw) {
  lastId = "";
  connect(redraw);
}

async function refused(redraw, mine) {
  // An EventSource does not say why: where it is for the token, this asks for one.
  await ask("/api/v1/calls?limit=1").catch(() => null);
  setTimeout(() => mine === source && again(redraw), tries.waitMs());
}

// Called about once a second: a connection that is open and silent is as good as none.
export function watch(redraw) {
  const quietMs = Date.now() - Math.max(board.heardAt, beganAt);
  if (source && source.readyState !== EventSource.CLOSED && quietMs > DEAD_MS) again(redraw);
}
