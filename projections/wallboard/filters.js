// The form of the filters and the words of the API: RFC 3339 times in UTC there, the browser's local time here.
const TIMES = ["from", "to", "as_of"];
const two = (number) => String(number).padStart(2, "0");

function toLocal(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return "";
  const day = date.getFullYear() + "-" + two(date.getMonth() + 1) + "-" + two(date.getDate());
  const seconds = date.getSeconds() ? ":" + two(date.getSeconds()) : "";
  return day + "T" + two(date.getHours()) + ":" + two(date.getMinutes()) + seconds;
}

const toUtc = (text) => new Date(text).toISOString().replace(/\.\d+Z$/, "Z");

// A field that still shows the address's time means that one: on the day of 25 hours it shows two the same.
const meant = (field, text) => (text === field.dataset.shown ? field.dataset.meant : toUtc(text));

export function readForm(form) {
  const found = new URLSearchParams();
  for (const field of form.querySelectorAll("[name]")) {
    const text = field.value.trim();
    if (text) found.set(field.name, TIMES.includes(field.name) ? meant(field, text) : text);
  }
  return found;
}

export function writeForm(form, wanted) {
  for (const field of form.querySelectorAll("[name]")) {
    const text = wanted.get(field.name) ?? "";
    const shown = TIMES.includes(field.name) && text ? toLocal(text.replace(" ", "+")) : text;
    if (TIMES.includes(field.name)) Object.assign(field.dataset, { shown, meant: text });
    if (field.value !== shown) field.value = shown;
  }
  const more = form.querySelector("details");
  if ([...more.querySelectorAll("[name]")].some((field) => wanted.has(field.name))) more.open = true;
}
