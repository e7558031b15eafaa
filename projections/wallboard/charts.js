// Calls per span of time and how long they lasted: drawn by uPlot, and told by a table beside each.
import { $, attribute, element, fill, put } from "/wallboard/dom.js";
import { clock, moment, span, whole } from "/wallboard/format.js";
import { ask, withScreen } from "/wallboard/settings.js";
import { words } from "/wallboard/words.js";

const HEIGHT = 190;
const DAY_MS = 86400000;
const STEPS_S = [900, 3600, 14400, 86400, 604800];
const BARS_MAX = 200;

const plots = new Map();

// The span that is drawn: what the filters say; of a day about that day, by which only the steps are chosen; else the last 24 hours.
function spanOf(wanted) {
  const day = wanted.get("day");
  const midnight = day ? new Date(day + "T00:00:00").getTime() : NaN;
  const to = wanted.get("to") ? Date.parse(wanted.get("to").replace(" ", "+")) : Number.isNaN(midnight) ? Date.now() : midnight + DAY_MS;
  const from = wanted.get("from") ? Date.parse(wanted.get("from").replace(" ", "+")) : Number.isNaN(midnight) ? to - DAY_MS : midnight;
  return { from, to, isLastDay: !wanted.get("from") && !wanted.get("to") && !day };
}

export async function loadCharts(wanted) {
  const { from, to, isLastDay } = spanOf(wanted);
  const step_s = STEPS_S.find((step) => (to - from) / 1000 / step <= BARS_MAX) ?? STEPS_S.at(-1);
  const edge = (at, round) => new Date(round(at / step_s / 1000) * step_s * 1000).toISOString().replace(/\.\d+Z$/, "Z");
  const query = new URLSearchParams(wanted);
  query.set("bucket_s", step_s);
  // When a day begins and ends the server knows: it is the phone system's day, not this screen's.
  if (!wanted.get("day")) {
    query.set("from", wanted.get("from") ? wanted.get("from") : edge(from, Math.floor));
    query.set("to", wanted.get("to") ? wanted.get("to") : edge(to, Math.ceil));
  }
  const [series, durations] = await Promise.all([ask("/api/v1/figures/series?" + query), ask("/api/v1/figures/durations?" + wanted)]);
  return { step_s, isLastDay, buckets: series.buckets, bounds_s: durations.bounds_s, counts: durations.counts };
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function spanName(step_s) {
  if (step_s === 900) return words.quarterHour;
  if (step_s === 3600) return words.hour;
  return step_s === 86400 ? words.dayUnit : Math.round(step_s / 3600) + " h";
}

const rangeName = (place, bounds_s) => {
  if (place === 0) return "< " + span(bounds_s[0]);
  return place === bounds_s.length ? "≥ " + span(bounds_s.at(-1)) : span(bounds_s[place - 1]) + "–" + span(bounds_s[place]);
};

function axes(labels) {
  const common = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  return [{ ...common, size: 28, grid: { show: false }, ...labels }, { ...common, size: 42, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000] }];
}

const bars = (align) => uPlot.paths.bars({ size: [0.82, 46], align, radius: 0.15 });

function series(label, tone, align) {
  return { label, stroke: colour(tone), fill: colour(tone), width: 0, paths: bars(align), points: { show: false }, value: (_, value) => (value === null ? "–" : whole(value)) };
}

// A plot is made anew when anything of it changes: data, words, colours or width.
function plot(figure, data, options) {
  const frame = figure.querySelector(".plot");
  const shape = JSON.stringify([data, frame.clientWidth, colour("--card"), options.series.map((one) => one.label)]);
  const held = plots.get(figure);
  if (held?.shape === shape || !frame.clientWidth) return;
  held?.drawn.destroy();
  const drawn = new uPlot({ width: frame.clientWidth, height: HEIGHT, cursor: { y: false, drag: { x: false, y: false }, points: { show: false } }, ...options }, data, frame);
  plots.set(figure, { shape, drawn });
}

function drawSeries({ buckets, step_s, isLastDay }, goToSpan) {
  const figure = $("series");
  const title = words.callsPerSpan + " " + spanName(step_s) + (isLastDay ? " · " + words.lastDay : "");
  const total = buckets.reduce((sum, bucket) => sum + bucket.calls, 0);
  put(figure.querySelector("figcaption"), title);
  attribute(figure.querySelector(".plot"), "aria-label", title + ": " + (total ? words.found(whole(total)) : words.none));
  const times = buckets.map((bucket) => Date.parse(bucket.from) / 1000);
  const data = [times, buckets.map((bucket) => bucket.calls), buckets.map((bucket) => bucket.missed)];
  const clocks = (_, ticks) => ticks.map((at) => (step_s < 86400 ? clock(at * 1000).slice(0, 5) : moment(at * 1000).slice(0, -9)));
  plot(figure, data, {
    scales: { x: { range: () => [times[0], times.at(-1) + step_s] }, y: { range: (_, low, high) => [0, Math.max(4, high * 1.1)] } },
    axes: axes({ values: clocks, space: 60 }),
    series: [{ label: words.span, value: (_, at) => (at === null ? "–" : moment(at * 1000)) }, series(words.count, "--busy", 1), series(words.ofThemMissed, "--warn", 1)],
    hooks: { ready: [(drawn) => drawn.over.addEventListener("click", () => {
      const bucket = buckets[drawn.cursor.idx];
      if (bucket?.calls) goToSpan(bucket.from, bucket.to);
    })] },
  });
  const filters = new URLSearchParams(location.search);
  fill(figure.querySelector(".scroll tbody"), buckets.filter((bucket) => bucket.calls), (bucket) => bucket.from, () => {
    const line = element("tr");
    element("a", "", element("td", "", line));
    element("td", "", line);
    element("td", "", line);
    return line;
  }, (line, bucket) => {
    const [from, calls, missed] = line.children;
    filters.set("from", bucket.from);
    filters.set("to", bucket.to);
    put(from.firstElementChild, moment(bucket.from));
    attribute(from.firstElementChild, "href", withScreen("/calls?" + filters));
    put(calls, whole(bucket.calls));
    put(missed, whole(bucket.missed));
  });
}

function drawDurations({ counts, bounds_s }) {
  const figure = $("durations");
  const total = counts.reduce((sum, count) => sum + count, 0);
  attribute(figure.querySelector(".plot"), "aria-label", words.durations + ": " + (total ? words.found(whole(total)) : words.none));
  const places = counts.map((_, place) => place);
  plot(figure, [places, counts], {
    scales: { x: { time: false, range: () => [-0.6, counts.length - 0.4] }, y: { range: (_, low, high) => [0, Math.max(4, high * 1.1)] } },
    axes: axes({ splits: () => places, values: () => places.map((place) => (place === 0 ? "0" : span(bounds_s[place - 1]))), space: 10 }),
    series: [{ label: words.talk, value: (_, place) => (place === null ? "–" : rangeName(place, bounds_s)) }, series(words.count, "--free", 0)],
  });
  fill(figure.querySelector(".scroll tbody"), places.map(String), (place) => place, () => {
    const line = element("tr");
    element("td", "", line);
    element("td", "", line);
    return line;
  }, (line, place) => {
    put(line.firstElementChild, rangeName(Number(place), bounds_s));
    put(line.lastElementChild, whole(counts[place]));
  });
}

let again = null;

// `told`: what `loadCharts` found; null: nothing is shown.
export function drawCharts(told, goToSpan) {
  again = () => drawCharts(told, goToSpan);
  $("charts").hidden = !told;
  if (!told || !$("charts").open) return;
  for (const figure of [$("series"), $("durations")]) attribute(figure.querySelector(".scroll"), "aria-label", words.asTable);
  drawSeries(told, goToSpan);
  drawDurations(told);
}

addEventListener("resize", () => again?.());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => again?.());
$("charts").addEventListener("toggle", () => again?.());
