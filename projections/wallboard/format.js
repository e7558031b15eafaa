// How times, spans and calls read, in the language and the time zone of the browser.
import { language, words } from "/wallboard/words.js";

// The screen's clock can be wrong by minutes; the server's says by how much.
let aheadMs = 0;

export async function compareClocks() {
  try {
    const answer = await fetch("/health", { cache: "no-store" });
    const off = Date.now() - Date.parse((await answer.json()).now);
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

export function moment(at) {
  if (!at) return "–";
  const date = new Date(at);
  const isToday = date.toDateString() === new Date(now()).toDateString();
  return (isToday ? "" : new Intl.DateTimeFormat(language, { day: "2-digit", month: "2-digit", year: "2-digit" }).format(date) + " ") + clock(at);
}

export const whole = (number) => new Intl.NumberFormat(language, { maximumFractionDigits: 0 }).format(number);
export const percent = (share) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(share);

// Hours are told as such: nobody reads the seconds of a day's talk time from across a room.
export function amount(figure, value) {
  if (value === null || value === undefined) return "–";
  if (figure.endsWith("_share")) return percent(value);
  if (!figure.endsWith("_s")) return whole(value);
  if (value < 3600) return span(value);
  return Math.floor(value / 3600) + ":" + two(Math.floor(value / 60) % 60) + " h";
}

export function party(call) {
  const isCallee = call.direction === "outbound" || (call.direction === "internal" && call.caller === call.agent.extension);
  return (isCallee ? call.callee : call.caller) || words.withheld;
}

export const agentName = (call) => call.agent.extension || call.agent.email || words.noAgent;

export function outcome(call) {
  if (call.status === "open") return words.statuses.open;
  if (call.status === "end_missed") return "≈ " + (words.reasons[call.end_reason] || call.end_reason || words.statuses.end_missed);
  return words.outcomes[call.outcome] || call.outcome;
}
