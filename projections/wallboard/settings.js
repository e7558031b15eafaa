// What a person chose: URL parameters for a screen on the wall, else what this browser keeps, else what the system says.
import { chooseLanguage, language, LANGUAGES, words } from "/wallboard/words.js";
import { $, attribute, element, put } from "/wallboard/dom.js";

const given = new URLSearchParams(location.search);
const PREFIX = "callstream.";
const RETRY_MS = 2000;
const RETRY_MS_MAX = 30000;

export function chosen(name) {
  if (given.has(name)) return given.get(name);
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null; // storage can be forbidden; the page works without
  }
}

export function choose(name, value) {
  given.delete(name);
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    given.set(name, value ?? "");
  }
}

let held = null;

export function token() {
  try {
    return held ?? sessionStorage.getItem(PREFIX + "token");
  } catch {
    return null;
  }
}

function useToken(text) {
  held = text;
  try {
    sessionStorage.setItem(PREFIX + "token", text);
  } catch {
    // It is kept for as long as the page is.
  }
}

// A token comes once in the address, is kept for this tab and leaves the address bar.
function takeToken() {
  const inAddress = given.get("access_token");
  if (!inAddress) return;
  useToken(inAddress);
  const address = new URL(location.href);
  address.searchParams.delete("access_token");
  history.replaceState(history.state, "", address);
}

export async function ask(path) {
  const held = token();
  const answer = await fetch(path, { cache: "no-store", headers: held ? { Authorization: "Bearer " + held } : {} });
  if (answer.status === 401) askForToken();
  else if (answer.ok) $("token").hidden = true;
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail || body.title || answer.statusText), { status: answer.status });
  return body;
}

function askForToken() {
  if ($("token").hidden) {
    $("token").hidden = false;
    $("token-text").focus();
  }
}

// Whether the same may be answered later: the server was away, or it comes to take this page's token.
export const mayPass = (error) => error.status === undefined || error.status === 401 || error.status >= 500;

// Tries that fail in a row are each twice as far apart as the ones before.
export function backingOff() {
  let nextMs = RETRY_MS;
  return {
    waitMs() {
      const ms = nextMs;
      nextMs = Math.min(2 * ms, RETRY_MS_MAX);
      return ms;
    },
    reset: () => (nextMs = RETRY_MS),
  };
}

// What only this page understands, and what is carried from page to page.
const OF_THE_SCREEN = ["lang", "theme", "layout"];

export function withScreen(path) {
  const address = new URL(path, location.origin);
  for (const name of OF_THE_SCREEN) if (given.has(name)) address.searchParams.set(name, given.get(name));
  return address.pathname + address.search;
}

const THEMES = ["system", "light", "dark"];

function wear(theme) {
  document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "system";
}

function say() {
  document.documentElement.lang = language;
  const said = (path) => path.split(".").reduce((found, name) => found[name], words);
  for (const node of document.querySelectorAll("[data-word]")) put(node, said(node.dataset.word));
  for (const node of document.querySelectorAll("[data-label]")) attribute(node, "aria-label", said(node.dataset.label));
  for (const node of document.querySelectorAll("[data-hint]")) attribute(node, "placeholder", said(node.dataset.hint));
  document.title = words[document.body.dataset.title];
}

// One switch of the menu: a select whose options have words, or names of their own.
function select(name, options, value, change) {
  const label = element("label", "", $("switches"));
  element("span", "", label).dataset.word = name;
  const made = element("select", "", label);
  made.id = name;
  for (const [code, text, isWord] of options) {
    const option = element("option", "", made, isWord ? undefined : text);
    option.value = code;
    if (isWord) option.dataset.word = text;
    else option.lang = code;
  }
  made.value = value;
  made.addEventListener("change", () => change(made.value));
}

function drawMenu(redraw, layouts) {
  const turn = (value) => {
    say();
    redraw();
    return value;
  };
  if (layouts) select("layout", [["cards", "cards", true], ["rows", "rows", true]], layouts.value(), (value) => {
    choose("layout", value);
    layouts.lay(value);
  });
  select("theme", THEMES.map((theme) => [theme, "theme" + theme[0].toUpperCase() + theme.slice(1), true]), document.documentElement.dataset.theme, (value) => {
    choose("theme", value);
    wear(value);
    turn();
  });
  select("language", LANGUAGES, language, (value) => {
    choose("lang", value);
    chooseLanguage(value);
    turn();
  });
}

// Wires what both pages have; `redraw` shows everything in the new words or colours.
export function begin(redraw, layouts = null) {
  takeToken();
  chooseLanguage(chosen("lang"));
  wear(chosen("theme"));
  drawMenu(redraw, layouts);
  say();
  for (const link of document.querySelectorAll("header nav a")) link.href = withScreen(link.getAttribute("href"));
  const menu = $("menu");
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.firstElementChild.focus();
  });
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  $("token").addEventListener("submit", (event) => {
    event.preventDefault();
    useToken($("token-text").value.trim());
    $("token").hidden = true;
    dispatchEvent(new Event("token"));
  });
}

