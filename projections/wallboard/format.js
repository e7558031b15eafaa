// How times, spans and calls read, in the language and the time zone of the browser.
import { language, words } from "/wallboard/words.js";

// The screen's clock can be wrong by minutes; the server's date at the beginning says by how much.
let aheadMs = 0;

export async function compareClocks() {
  try {
    const answer = await fetch("/health", { cache: "no-store" });
    const served = Date.parse(answer.headers.get("date"));
    const off = Date.now() - served;
    if (Number.isFinite(off)) aheadMs = Math.abs(off) > 2000 ? off : 0;
  } catch {
    // Without an answer the last comparison holds.
  }
}

export const now = () => Date.now() - aheadMs;
export const since = (at) => (at ? (now() - Date.parse(at)) / 1000 : null);

const two = (number) => String(number).padStart(2, "0");

export function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  const hours = Math.floor(whole / 3600);
  return (hours ? hours + ":" + two(Math.floor(whole / 60) % 60) : Math.floor(whole / 60)) + ":" + two(whole % 60);
}

export function clock(at) {
  if (!at) return "–";
  const date = new Date(at);
  return two(date.getHours()) + ":" + two(date.getMinutes()) + ":" + two(date.getSeconds());
}

export const whole = (number) => new Intl.NumberFormat(language, { maximumFractionDigits: 0 }).format(number);

export function party(call) {
  const isCallee = call.direction === "outbound" || (call.direction === "internal" && call.caller === call.agent.extension);
  return (isCallee ? call.callee : call.caller) || words.withheld;
}

export const agentName = (call) => call.agent.extension || call.agent.email || "–";

export function outcome(call) {
  if (call.status === "open") return words.statuses.open;
  if (call.status === "end_missed") return "≈ " + (words.reasons[call.end_reason] || call.end_reason || words.statuses.end_missed);
  return words.outcomes[call.outcome] || call.outcome;
}
