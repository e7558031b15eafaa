// Webhooks against polling, of each PBX: the verdict, who saw how many calls and why, how far apart, and what is missing.
import { $, attribute, element, put } from "/wallboard/dom.js";
import { moment, percent, whole } from "/wallboard/format.js";
import { ask, begin } from "/wallboard/settings.js";
import { language, words } from "/wallboard/words.js";

const EVERY_MS = 60000;
const SPREADS = ["start_difference_s", "webhook_delay_s", "end_difference_s"];
const STEPS = ["min", "p50", "p95", "p99", "max"];

let told = null;
let failure = "";

async function load() {
  try {
    [told, failure] = [await ask("/api/v1/parity"), ""];
  } catch (error) {
    [told, failure] = [null, words.failed + " " + error.message];
  }
  draw();
}

const seconds = (value) => new Intl.NumberFormat(language, { maximumFractionDigits: 2, minimumFractionDigits: 2 }).format(value);

function table(parent, title, heads, rows) {
  const scroll = element("div", "scroll", parent);
  attribute(scroll, "tabindex", "0");
  attribute(scroll, "role", "group");
  attribute(scroll, "aria-label", title);
  const made = element("table", "", scroll);
  element("caption", "", made, title);
  const line = element("tr", "", element("thead", "", made));
  for (const head of heads) attribute(element("th", "", line, head), "scope", "col");
  const body = element("tbody", "", made);
  for (const [name, ...cells] of rows) {
    const row = element("tr", "", body);
    attribute(element("th", "", row, name), "scope", "row");
    for (const cell of cells) element("td", "talk", row, cell);
  }
}

function seen(one) {
  const by = (who, reasons) => Object.entries(reasons).map(([reason, count]) => [words[who] + ": " + (words.parityReasons[reason] ?? reason), whole(count)]);
  return [[words.seenByBoth, whole(one.both)], ...by("seenByPolling", one.polling_only), ...by("seenByWebhooks", one.webhook_only)];
}

function verdict(one) {
  if (one.completeness === null) return words.nothingPolled;
  const came = words.cameByWebhook(whole(one.both), whole(one.both + one.missing)) + " (" + percent(one.completeness) + ").";
  return came + " " + (one.holds ? words.safeToSwitchOff : words.notSafeToSwitchOff);
}

function drawPbx(parent, one) {
  const section = element("section", "parity", parent);
  const title = element("h2", "", section, words.pbx + " " + one.pbx);
  title.id = "pbx-" + one.pbx;
  attribute(section, "aria-labelledby", title.id);
  const said = element("p", "verdict", section, verdict(one));
  said.dataset.holds = one.holds;
  element("p", "", section, words.comparedSpan(moment(one.from), moment(one.to), seconds(one.interval_s)));
  table(section, words.whoSaw, [words.parity, words.count], seen(one));
  const spreads = SPREADS.filter((name) => one[name]).map((name) => [words.spreads[name], ...STEPS.map((step) => seconds(one[name][step]))]);
  if (spreads.length) table(section, words.spreadsTitle, [words.parity, ...STEPS], spreads);
  const missing = one.missing_calls.map((call) => [moment(call.first_seen_at), moment(call.last_seen_at), call.extensions.join(" "), call.id]);
  if (missing.length) table(section, words.missingCalls, [words.firstSeen, words.lastSeen, words.extensions, words.fields.call_id], missing);
}

function draw() {
  put($("banner"), failure);
  put($("as-of"), told?.compared_at ? words.asOf + " " + moment(told.compared_at) : "");
  put($("nothing"), told && !told.pbxs.length ? words.noPolling : "");
  $("pbxs").replaceChildren();
  for (const one of told?.pbxs ?? []) drawPbx($("pbxs"), one);
}

begin(draw);
$("refresh").addEventListener("click", load);
addEventListener("token", load);
setInterval(() => document.hidden || load(), EVERY_MS);
load();
