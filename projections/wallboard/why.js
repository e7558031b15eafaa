// The why of a call: what is known, and each revision with the rule that fired, what it changed, and its raw records.
import { $, element, linkRecording } from "/wallboard/dom.js";
import { moment, span } from "/wallboard/format.js";
import { ask, withScreen } from "/wallboard/settings.js";
import { words } from "/wallboard/words.js";

const TIMES = ["started_at", "ended_at", "first_received_at"];
const SPANS = ["duration_s", "span_s"];
const WORDS_OF = {
  direction: "directions", status: "statuses", outcome: "outcomes", started_at_source: "sources", ended_at_source: "sources", end_reason: "reasons",
};
// Told by the rows around it.
const PLAIN = ["session_id", "revision"];

// The call that is open; null: none.
let shown = null;
// What was answered about it; null: nothing yet.
let held = null;

// Asked for only when somebody wants to see them: Kafka has to look them up.
async function drawRecords(place, id) {
  place.replaceChildren(element("p", "empty", null, words.loading));
  let records;
  try {
    ({ records } = await ask("/api/v1/calls/" + encodeURIComponent(id) + "/records"));
  } catch (error) {
    return place.replaceChildren(element("p", "empty", null, words.failed + " " + error.message));
  }
  const list = element("ul", "records", null);
  for (const record of records) {
    const item = element("li", "", list);
    const told = [record.received_at && moment(record.received_at), record.content_type, words.partition + " " + record.partition, words.offset + " " + record.offset];
    element("p", "", item, told.filter(Boolean).join(" · "));
    if (record.missing) element("p", "empty", item, words.missing[record.missing] ?? record.missing);
    else element("pre", "", item, record.body ?? record.body_base64).tabIndex = 0;
  }
  place.replaceChildren(list);
}

// Another call opens, or none (null): what was told of the one before, or is told late, is not about it.
export function turnTo(id) {
  if (id === shown) return;
  [shown, held] = [id, null];
  drawWhy();
}

export async function loadWhy() {
  const id = shown;
  const path = "/api/v1/calls/" + encodeURIComponent(id);
  let found;
  try {
    const [call, why] = await Promise.all([ask(path), ask(path + "/why")]);
    found = { call, why, failure: "" };
  } catch (error) {
    found = { failure: words.failed + " " + error.message };
  }
  if (id !== shown) return;
  held = found;
  drawWhy();
}

function between(bounds) {
  if (bounds.earliest && bounds.latest) return words.between + " " + moment(bounds.earliest) + " " + words.and + " " + moment(bounds.latest);
  return bounds.earliest ? words.notBefore + " " + moment(bounds.earliest) : words.notKnown;
}

function said(field, value) {
  if (value === null || value === undefined) return "–";
  if (TIMES.includes(field)) return moment(value);
  if (SPANS.includes(field)) return span(value);
  if (field === "agent") return [value.extension, value.email].filter(Boolean).join(" · ") || "–";
  if (field === "ended_between") return between(value);
  return words[WORDS_OF[field]]?.[value] || String(value);
}

function drawFacts(parent, call) {
  const list = element("dl", "facts", parent);
  for (const [field, value] of Object.entries(call)) {
    if (value === null || value === undefined) continue;
    const entry = element("div", value === "inferred" || field === "ended_between" ? "inferred" : "", list);
    element("dt", "", entry, words.fields[field] ?? field);
    const told = element("dd", "", entry);
    if (field === "recording_url") linkRecording(told, value, words.recording);
    if (field === "linked_session_id") leg(told, value);
    if (!told.firstElementChild) told.textContent = said(field, value);
  }
}

function leg(parent, id) {
  const link = element("a", "", parent, id);
  link.href = withScreen("/calls?call=" + encodeURIComponent(id));
  link.dataset.leg = id;
}

function table(parent, heads) {
  const made = element("table", "", parent);
  const line = element("tr", "", element("thead", "", made));
  for (const head of heads) element("th", "", line, head).scope = "col";
  return element("tbody", "", made);
}

// What a revision changed, whatever its type: field by field against the one before.
function changes(before, after) {
  const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((field) => !PLAIN.includes(field));
  return fields.filter((field) => JSON.stringify(before[field] ?? null) !== JSON.stringify(after[field] ?? null));
}

function drawRevision(list, event, before) {
  const item = element("li", "", list);
  item.dataset.type = event.type;
  const what = element("p", "what", item);
  element("strong", "", what, words.events[event.type] ?? event.type);
  element("span", "", what, moment(event.time));
  element("span", "", what, words.revision + " " + event.revision);
  const rule = element("p", "rule", item, words.rules[event.reason] ?? event.reason);
  element("code", "", rule, " " + event.reason);
  const changed = before ? changes(before.session, event.session) : [];
  if (changed.length) {
    element("h4", "", item, words.changed);
    const body = table(item, [words.field, words.before, words.after]);
    for (const field of changed) {
      const line = element("tr", "", body);
      element("td", "", line, words.fields[field] ?? field);
      element("td", "gone", line, said(field, before.session[field]));
      element("td", "", line, said(field, event.session[field]));
    }
  }
  element("h4", "", item, words.rawRecords);
  const causes = element("ul", "causes", item);
  for (const cause of event.causes) {
    element("code", "", element("li", "", causes), words.partition + " " + cause.partition + " · " + words.offset + " " + cause.offset + " · " + cause.ce_id);
  }
}

export function drawWhy() {
  const body = $("why-body");
  body.replaceChildren();
  if (!shown) return;
  if (!held) return element("p", "empty", body, words.loading);
  if (held.failure) return element("p", "empty", body, held.failure);
  element("h3", "", body, words.history);
  const list = element("ol", "history", body);
  held.why.revisions.forEach((event, place) => drawRevision(list, event, held.why.revisions[place - 1]));
  const records = element("div", "", body);
  const button = element("button", "", records, words.showRecords);
  button.type = "button";
  button.id = "why-records";
  button.addEventListener("click", () => drawRecords(records, held.call.session_id));
  if (held.why.legs.length) {
    element("h3", "", body, words.otherLegs);
    const legs = element("ul", "", body);
    for (const id of held.why.legs) leg(element("li", "", legs), id);
  }
  element("h3", "", body, words.facts);
  drawFacts(body, held.call);
}
